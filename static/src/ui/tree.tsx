// The files of a branch, folder by folder. Keys as in every tree: arrows move and open, Enter opens.
import type { Entry } from '../api'
import type { Workbench } from '../workbench'
import { Icon } from './parts'

/** Names shown of one folder; the rest is reached by path. */
const MOST = 2_000

const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1)

function move(event: KeyboardEvent, step: number): void {
  const current = event.currentTarget as HTMLElement
  const items = [...current.closest('[role=tree]')?.querySelectorAll<HTMLElement>('[role=treeitem]') ?? []]
  items[items.indexOf(current) + step]?.focus()
  event.preventDefault()
}

function Item({ bench, entry, depth }: { bench: Workbench, entry: Entry, depth: number }) {
  const { path, kind } = entry
  const isFolder = kind === 'folder' || (kind === 'symlink' && bench.expanded.value.has(path))
  const isOpen = isFolder && bench.expanded.value.has(path)
  const isActive = bench.active.value === path
  const act = (): void => {
    if (isFolder) bench.toggle(path)
    else if (kind === 'symlink') void bench.follow(path)
    else bench.open(path)
  }
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key === 'ArrowDown') move(event, 1)
    else if (event.key === 'ArrowUp') move(event, -1)
    else if (event.key === 'ArrowRight' && isFolder && !isOpen) bench.toggle(path, true)
    else if (event.key === 'ArrowLeft' && isOpen) bench.toggle(path, false)
  }
  return (
    <>
      <button class="item" role="treeitem" aria-level={depth} aria-expanded={isFolder ? isOpen : undefined}
        aria-selected={isActive} data-path={path} title={path} disabled={kind === 'other'}
        style={{ paddingLeft: `${depth * 14 - 4}px` }} onClick={act} onKeyDown={onKeyDown}>
        <span class={`twist ${isOpen ? 'twist-open' : ''}`}>{isFolder && <Icon name="fold" />}</span>
        <Icon name={isFolder ? 'folder' : kind === 'symlink' ? 'link' : 'file'} />
        <span class="item-name">{nameOf(path)}</span>
      </button>
      {isOpen && <Level bench={bench} path={path} depth={depth + 1} />}
    </>
  )
}

function Level({ bench, path, depth }: { bench: Workbench, path: string, depth: number }) {
  const folder = bench.folders.value.get(path)
  const indent = { paddingLeft: `${depth * 14 + 14}px` }
  if (folder === undefined || folder.state === 'loading') return <p class="item-note" style={indent}>Loading…</p>
  if (folder.state === 'failed') return <p class="item-note item-bad" style={indent} role="alert">{folder.why}</p>
  if (folder.entries.length === 0) {
    return <p class="item-note" style={indent}>{path === '' ? 'No files yet. Make the first one.' : 'Empty'}</p>
  }
  const more = folder.entries.length - MOST
  return (
    <>
      {folder.entries.slice(0, MOST).map((entry) => <Item key={entry.path} bench={bench} entry={entry} depth={depth} />)}
      {more > 0 && <p class="item-note" style={indent}>{more} more; open them by their path.</p>}
    </>
  )
}

export function Tree({ bench, onNew }: { bench: Workbench, onNew: () => void }) {
  return (
    <nav class="files" aria-label="Files">
      <div class="files-top">
        <h2>Files</h2>
        <button class="quiet square" aria-label="New file" title="New file" onClick={onNew}><Icon name="plus" /></button>
        <button class="quiet square" aria-label="Look again" title="Look again" onClick={() => void bench.refresh()}>
          <Icon name="refresh" />
        </button>
      </div>
      <div class="tree" role="tree" aria-label="Files of the branch">
        <Level bench={bench} path="" depth={1} />
      </div>
    </nav>
  )
}
