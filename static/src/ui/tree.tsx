// The files of a branch, folder by folder. Keys as in every tree: arrows move and unfold, Enter opens, letters look.
import { useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import type { Entry } from '../../client/types'
import { isWithin, nameOf, parentOf } from '../bench/files'
import { dropped } from '../bench/uploads'
import type { Workbench } from '../bench/workbench'
import { inOrder } from '../registry'
import { askReplace, isMovable, moveInto, uploadTo } from './file_dialogs'
import { Menu } from './menu'
import { Icon } from './parts'
import { PanelTop } from './side'

/** Names shown of one folder; the rest is reached by path. */
const MOST = 2_000
/** What is dragged inside the page: a path. */
export const PATH_TYPE = 'application/x-perch-path'

type Row =
  | { kind: 'entry', entry: Entry, depth: number, isFolder: boolean, isOpen: boolean }
  | { kind: 'note', id: string, words: string, depth: number, isBad: boolean }

/** All rows on screen, from the top. */
function rowsOf(bench: Workbench, path = '', depth = 1): Row[] {
  const folder = bench.files.folders.value.get(path)
  const note = (words: string, isBad = false): Row[] => [{ kind: 'note', id: `${path}/`, words, depth, isBad }]
  if (folder === undefined || folder.state === 'loading') return note('Loading…')
  if (folder.state === 'failed') return note(folder.why, true)
  if (folder.entries.length === 0) {
    return note(path !== '' ? 'Empty' : bench.mayWrite.value ? 'No files yet. Make the first one, or drop some here.' : 'No files yet.')
  }
  const rows = folder.entries.slice(0, MOST).flatMap((entry): Row[] => {
    const isUnfolded = bench.files.expanded.value.has(entry.path)
    const isFolder = entry.kind === 'folder' || (entry.kind === 'symlink' && (isUnfolded || entry.target === 'folder'))
    const isOpen = isFolder && isUnfolded
    const row: Row = { kind: 'entry', entry, depth, isFolder, isOpen }
    return isOpen ? [row, ...rowsOf(bench, entry.path, depth + 1)] : [row]
  })
  const more = folder.entries.length - MOST
  return more > 0 ? [...rows, ...note(`${more} more; open them by their path.`)] : rows
}

function Marks({ bench, entry }: { bench: Workbench, entry: Entry }) {
  const marks = bench.markers.all.value.map(({ id, of }) => ({ id, mark: of(entry) }))
  return (
    <>
      {marks.map(({ id, mark }) => mark !== null && (
        <span key={id} class={`item-mark mark-${mark.tone}`} title={mark.words}>
          <span aria-hidden="true">{mark.letter}</span><span class="unseen">, {mark.words}</span>
        </span>
      ))}
    </>
  )
}

/** The menu of a path, at a place in the window. */
function showMenu(bench: Workbench, entry: Entry, at: { x: number, y: number }): void {
  const actions = inOrder(bench.pathActions.all.peek()).filter(({ isThere }) => isThere?.(entry) ?? true)
  const entries = actions.map(({ id, title, run }) => ({
    id, title, run: () => void Promise.resolve().then(() => run(entry)).catch(bench.notices.failed)
  }))
  bench.showDialog((close) => <Menu label={entry.path} at={at} entries={entries} onClose={close} />)
}

export function FilesPanel({ bench }: { bench: Workbench }) {
  const { files } = bench
  const tree = useRef<HTMLDivElement>(null)
  /** The folder that a drop would go into. */
  const target = useSignal<string | null>(null)
  const rows = rowsOf(bench)
  const paths = rows.flatMap((row) => row.kind === 'entry' ? [row.entry.path] : [])
  const shownPath = bench.layout.view.value?.path
  const current = files.current.value !== null && paths.includes(files.current.value)
    ? files.current.value
    : shownPath !== undefined && paths.includes(shownPath) ? shownPath : paths[0]
  const mayWrite = bench.mayWrite.value

  const focus = (path: string | undefined): void => {
    if (path === undefined) return
    files.current.value = path
    tree.current?.querySelector<HTMLElement>(`[data-path="${CSS.escape(path)}"]`)?.focus()
  }
  // The file that is shown is in sight.
  useEffect(() => {
    if (shownPath === undefined) return
    tree.current?.querySelector(`[data-path="${CSS.escape(shownPath)}"]`)?.scrollIntoView({ block: 'nearest' })
  }, [shownPath])

  const act = async ({ entry, isFolder }: Row & { kind: 'entry' }, mustFocus: boolean): Promise<void> => {
    files.current.value = entry.path
    if (isFolder) return files.toggle(entry.path)
    if (entry.kind === 'symlink' && entry.target !== 'file' && await files.unfoldLink(entry.path)) return
    bench.open(entry.path)
    if (!mustFocus) bench.layout.wantsKeys.value = null
  }
  const onKeyDown = (event: KeyboardEvent, row: Row & { kind: 'entry' }): void => {
    const { entry, isFolder, isOpen } = row
    const at = paths.indexOf(entry.path)
    const isPlain = !event.ctrlKey && !event.metaKey && !event.altKey
    const run = (id: string): void => {
      const action = bench.pathActions.find(id)
      if (action !== null && (action.isThere?.(entry) ?? true)) void Promise.resolve(action.run(entry)).catch(bench.notices.failed)
    }
    if (event.key === 'ArrowDown') focus(paths[at + 1])
    else if (event.key === 'ArrowUp') focus(paths[at - 1])
    else if (event.key === 'Home') focus(paths[0])
    else if (event.key === 'End') focus(paths.at(-1))
    else if (event.key === 'ArrowRight' && isFolder) isOpen ? focus(paths[at + 1]) : files.toggle(entry.path, true)
    else if (event.key === 'ArrowLeft') isOpen ? files.toggle(entry.path, false) : focus(parentOf(entry.path) || undefined)
    else if (event.key === 'Enter' || event.key === ' ') void act(row, event.key === 'Enter')
    else if (event.key === 'F2') run('files.move')
    else if (event.key === 'Delete') run('files.remove')
    else if (event.key === 'ContextMenu' || (event.key === 'F10' && event.shiftKey)) {
      const { left, bottom } = (event.currentTarget as HTMLElement).getBoundingClientRect()
      showMenu(bench, entry, { x: left + 24, y: bottom })
    } else if (isPlain && event.key.length === 1) {
      const after = [...paths.slice(at + 1), ...paths.slice(0, at + 1)]
      focus(after.find((path) => nameOf(path).toLowerCase().startsWith(event.key.toLowerCase())))
    } else return
    event.preventDefault()
    event.stopPropagation()
  }

  /** Which folder a drop at an element goes into. */
  const folderAt = (event: DragEvent): string => {
    const item = (event.target as Element).closest<HTMLElement>('[data-path]')
    if (item === null) return ''
    const path = item.dataset['path'] ?? ''
    return item.dataset['folder'] === 'true' ? path : parentOf(path)
  }
  const drag = {
    onDragOver: (event: DragEvent): void => {
      const types = event.dataTransfer?.types ?? []
      if (!mayWrite || !(types.includes('Files') || types.includes(PATH_TYPE))) return
      event.preventDefault()
      target.value = folderAt(event)
    },
    onDragLeave: (event: DragEvent): void => {
      if (!tree.current?.contains(event.relatedTarget as Node | null)) target.value = null
    },
    onDrop: (event: DragEvent): void => {
      target.value = null
      const data = event.dataTransfer
      if (!mayWrite || data === null) return
      const folder = folderAt(event)
      const moved = data.getData(PATH_TYPE)
      event.preventDefault()
      if (moved !== '') void moveInto(bench, moved, folder)
      else if (data.types.includes('Files')) void bench.uploads.send(dropped(data.items), folder, askReplace(bench))
    }
  }
  const progress = bench.uploads.progress.value
  return (
    <>
      <PanelTop title="Files">
        {mayWrite && (
          <>
            <button class="quiet square" aria-label="New file" title="New file" onClick={() => bench.commands.run('files.new')}><Icon name="plus" /></button>
            <button class="quiet square" aria-label="New folder" title="New folder" onClick={() => bench.commands.run('files.newFolder')}><Icon name="folder" /></button>
            <button class="quiet square" aria-label="Upload" title="Upload files or a folder" aria-haspopup="menu" onClick={({ currentTarget }) => {
              const { left, bottom } = currentTarget.getBoundingClientRect()
              uploadTo(bench, currentFolder(bench), { x: left, y: bottom })
            }}><Icon name="upload" /></button>
          </>
        )}
        <button class="quiet square" aria-label="Look again" title="Look again" onClick={() => void files.refresh()}>
          <Icon name="refresh" />
        </button>
      </PanelTop>
      <div class={target.value === '' ? 'tree tree-target' : 'tree'} role="tree" aria-label="Files of the branch" ref={tree} {...drag}>
        {rows.map((row) => {
          if (row.kind === 'note') {
            return (
              <div key={row.id} class={row.isBad ? 'item-note item-bad' : 'item-note'} style={{ paddingLeft: `${row.depth * 14 + 14}px` }}
                role="treeitem" aria-level={row.depth} aria-disabled="true" aria-live={row.isBad ? 'assertive' : undefined}>{row.words}</div>
            )
          }
          const { entry, depth, isFolder, isOpen } = row
          const { path, kind } = entry
          const isTarget = target.value !== null && target.value !== '' && isWithin(path, target.value)
          return (
            <div key={path} class={`item ${entry.ignored ? 'item-ignored' : ''} ${isTarget ? 'item-target' : ''}`} role="treeitem"
              aria-level={depth} aria-expanded={isFolder ? isOpen : undefined} aria-selected={shownPath === path}
              aria-disabled={kind === 'other' ? true : undefined} tabIndex={path === current ? 0 : -1} data-path={path} data-folder={isFolder}
              title={path} style={{ paddingLeft: `${depth * 14 - 4}px` }} draggable={mayWrite && isMovable(entry)}
              onFocus={() => { files.current.value = path }} onKeyDown={(event) => onKeyDown(event, row)}
              onClick={() => { if (kind !== 'other') void act(row, true) }}
              onContextMenu={(event) => {
                event.preventDefault()
                files.current.value = path
                showMenu(bench, entry, { x: event.clientX, y: event.clientY })
              }}
              onDragStart={(event) => {
                event.dataTransfer?.setData(PATH_TYPE, path)
                event.dataTransfer?.setData('text/plain', path)
              }}>
              <span class={`twist ${isOpen ? 'twist-open' : ''}`}>{isFolder && <Icon name="fold" />}</span>
              <Icon name={isFolder ? 'folder' : kind === 'symlink' ? 'link' : 'file'} />
              <span class="item-name">{nameOf(path)}</span>
              <Marks bench={bench} entry={entry} />
            </div>
          )
        })}
      </div>
      {progress !== null && (
        <div class="upload" role="status">
          <span>Uploading {progress.done} of {progress.total}…</span>
          <button onClick={() => bench.uploads.cancel()}>Cancel</button>
          <progress aria-label="Upload" value={progress.done} max={Math.max(1, progress.total)} />
        </div>
      )}
    </>
  )
}

/** The folder in which new things are made: the current one, or that of the current file. */
export function currentFolder(bench: Workbench): string {
  const path = bench.files.current.peek()
  if (path === null) return ''
  return bench.files.find(path)?.kind === 'folder' ? path : parentOf(path)
}
