// Files: the tree, a view per shared file, and what can be done with them.
import { signal } from '@preact/signals'
import type { Entry } from '../../client/types'
import { isWithin, nameOf } from '../bench/files'
import { fileKey, type Workbench } from '../bench/workbench'
import type { Feature } from '../plugs'
import { FileBody, FileFoot, FileSign, FileTop, type FileTab } from '../ui/file'
import { copyText } from '../ui/clipboard'
import { isMovable, newFile, newFolder, remove, renamePath, uploadTo } from '../ui/file_dialogs'
import { currentFolder, FilesPanel } from '../ui/tree'

function tab(bench: Workbench, path: string, file = bench.documents.take(path)): FileTab {
  file.wasBroughtBack.subscribe((isBack) => {
    if (isBack) bench.notices.say(`What you typed in ${path} and had not reached perch when the page was closed is back, and sent.`)
  })
  return {
    key: fileKey(path), title: nameOf(path), about: path, path, file, editors: signal(new Map()), spot: signal(null), kept: signal(null),
    Body: FileBody, Top: FileTop, Foot: FileFoot, Sign: FileSign,
    mayNotClose: () => file.isUnsaved && file.standing.value === 'offline'
      ? file.isKept.value
        ? `What you typed in ${path} has not reached perch. Close it, and send that when you open it again in this browser?`
        : `What you typed in ${path} has not reached perch. Close it and lose that?`
      : null,
    destroy: () => bench.documents.give(file)
  }
}

/** Downloads a file, or a folder as an archive, by a link of its own: nothing of it is held in this page. */
async function download(bench: Workbench, path: string, isFolder = false): Promise<void> {
  const link = document.createElement('a')
  link.href = await bench.session.files.download(path, isFolder)
  // perch gives the name.
  link.download = ''
  link.click()
}

/** Files that are open go along with a new path, and with what was typed in them. */
function follow(bench: Workbench, { from, path }: { from: string, path: string }): void {
  for (const file of bench.documents.open.peek()) {
    if (!isWithin(file.path, from) || file.standing.peek() === 'ended') continue
    const to = path + file.path.slice(from.length)
    const there = bench.layout.find(fileKey(to)) as FileTab | null
    if (there !== null && there.file.standing.peek() !== 'ended') continue
    const old = bench.layout.find(fileKey(file.path)) as FileTab | null
    const moved = tab(bench, to, bench.documents.take(to, file))
    const place = old?.editors.peek().get(bench.layout.focused.peek())?.place.peek()
    if (place !== undefined) moved.spot.value = { ...place, length: 0 }
    bench.layout.replace(fileKey(file.path), moved)
  }
}

export const files: Feature = (bench) => {
  const unlisten = bench.events.on((event) => { if (event.type === 'file.renamed') follow(bench, event) })
  bench.kinds.add({ id: 'file', make: (path) => path === '' ? null : tab(bench, path) })
  bench.panels.add({ id: 'files', title: 'Files', icon: 'files', order: 10, Body: FilesPanel })
  bench.noticePieces.add({
    id: 'files.standing', order: 10, Body: () => {
      const file = bench.file.value
      return (
        <>
          {bench.documents.ended.value === null && file?.standing.value === 'offline' && (
            <p class="notice">Offline. You can go on typing: it is kept in this {file.isKeeping.value ? 'browser' : 'page'} and sent when perch answers again.</p>
          )}
          {file?.wasRefused.value === true && (
            <p class="notice notice-bad">Your last edits were not taken: this session can only read.</p>
          )}
        </>
      )
    }
  })
  const mayWrite = (): boolean => bench.mayWrite.value
  const isFile = ({ kind, target }: Entry): boolean => kind === 'file' || target === 'file'
  const isFolder = ({ kind, target }: Entry): boolean => kind === 'folder' || target === 'folder'
  bench.commands.add(
    { id: 'files.new', title: 'New file', group: 'Files', keys: 'Alt-n', isThere: mayWrite, run: () => newFile(bench, currentFolder(bench)) },
    { id: 'files.newFolder', title: 'New folder', group: 'Files', isThere: mayWrite, run: () => newFolder(bench, currentFolder(bench)) },
    {
      id: 'files.upload', title: 'Upload files or a folder', group: 'Files', isThere: mayWrite,
      run: () => uploadTo(bench, currentFolder(bench), { x: innerWidth / 2 - 100, y: 90 })
    },
    { id: 'files.show', title: 'Show the files', group: 'Files', keys: 'Mod-Shift-e', run: () => showInTree(bench, bench.files.current.peek()) },
    {
      id: 'files.reveal', title: 'Show this file among the files', group: 'Files', isThere: () => bench.file.value !== null,
      run: () => showInTree(bench, bench.file.peek()?.path ?? null)
    },
    { id: 'files.foldAll', title: 'Fold all folders', group: 'Files', run: () => bench.files.foldAll() },
    {
      id: 'files.download', title: 'Download this file', group: 'Files', isThere: () => bench.file.value !== null,
      run: () => download(bench, bench.file.peek()!.path)
    },
    { id: 'files.downloadAll', title: 'Download all files', group: 'Files', run: () => download(bench, '', true) }
  )
  bench.pathActions.add(
    { id: 'files.open', title: 'Open', order: 10, isThere: isFile, run: ({ path }) => bench.open(path) },
    { id: 'files.openBeside', title: 'Open beside', order: 11, isThere: isFile, run: ({ path }) => bench.open(path, 1) },
    { id: 'files.newIn', title: 'New file here', order: 20, isThere: (entry) => mayWrite() && entry.kind === 'folder', run: ({ path }) => newFile(bench, path) },
    { id: 'files.newFolderIn', title: 'New folder here', order: 21, isThere: (entry) => mayWrite() && entry.kind === 'folder', run: ({ path }) => newFolder(bench, path) },
    { id: 'files.move', title: 'Rename or move…', order: 30, isThere: (entry) => mayWrite() && isMovable(entry), run: (entry) => renamePath(bench, entry) },
    { id: 'files.remove', title: 'Delete…', order: 31, isThere: mayWrite, run: (entry) => remove(bench, entry) },
    { id: 'files.downloadIt', title: 'Download', order: 40, isThere: isFile, run: ({ path }) => download(bench, path) },
    { id: 'files.downloadFolder', title: 'Download as a zip archive', order: 40, isThere: isFolder, run: ({ path }) => download(bench, path, true) },
    { id: 'files.copyPath', title: 'Copy the path', order: 41, run: ({ path }) => copyText(path) }
  )
  return unlisten
}

async function showInTree(bench: Workbench, path: string | null): Promise<void> {
  bench.togglePanel('files', true)
  if (path !== null) await bench.files.reveal(path)
  requestAnimationFrame(() => document.querySelector<HTMLElement>('[role=treeitem][tabindex="0"]')?.focus())
}
