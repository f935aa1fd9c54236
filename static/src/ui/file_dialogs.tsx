// What is asked before files are made, moved, removed or replaced.
import { useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import { Problem } from '../../client/http'
import type { Entry } from '../../client/types'
import { isWithin, nameOf, parentOf } from '../bench/files'
import { inWords } from '../bench/notices'
import { chosen } from '../bench/uploads'
import type { Workbench } from '../bench/workbench'
import { Menu } from './menu'
import { Dialog, Failure } from './parts'

const isFine = (path: string): boolean => path !== '' && path.split('/').every((part) => part !== '' && part !== '.' && part !== '..')

/** Asks for a path and does something with it; what goes wrong is said in the dialog. */
function AskPath({ title, known, hint, button, work, onClose }: {
  title: string
  known: string
  hint: string
  button: string
  work: (path: string) => Promise<void>
  onClose: () => void
}) {
  const path = useSignal(known)
  const fault = useSignal<string | null>(null)
  const isBusy = useSignal(false)
  const input = useRef<HTMLInputElement>(null)
  useEffect(() => {
    // The name is what mostly changes; what is after its last dot stays.
    const name = known.lastIndexOf('/') + 1
    const dot = known.lastIndexOf('.')
    input.current?.setSelectionRange(name, dot > name ? dot : known.length)
  }, [])
  const go = async (): Promise<void> => {
    const wanted = path.value.trim().replace(/\/$/, '')
    if (!isFine(wanted)) {
      fault.value = 'Give a path like notes.txt or src/main.rs.'
      return
    }
    isBusy.value = true
    try {
      await work(wanted)
      onClose()
    } catch (problem) {
      fault.value = inWords(problem)
      isBusy.value = false
    }
  }
  return (
    <Dialog title={title} onClose={onClose}>
      <form onSubmit={(event) => {
        event.preventDefault()
        void go()
      }}>
        <label>
          <span>Path</span>
          <input ref={input} name="path" value={path.value} autofocus required autocomplete="off" spellcheck={false} placeholder="src/notes.md"
            onInput={({ currentTarget }) => { path.value = currentTarget.value }} />
        </label>
        <p class="hint">{hint}</p>
        {fault.value !== null && <Failure>{fault.value}</Failure>}
        <p class="buttons">
          <button type="button" onClick={onClose}>Cancel</button>
          <button class="primary" disabled={isBusy.value}>{button}</button>
        </p>
      </form>
    </Dialog>
  )
}

/** A question with two answers, of which one takes something away. */
function Ask({ title, words, button, onAnswer }: { title: string, words: string, button: string, onAnswer: (isYes: boolean) => void }) {
  return (
    <Dialog title={title} onClose={() => onAnswer(false)}>
      <form onSubmit={(event) => {
        event.preventDefault()
        onAnswer(true)
      }}>
        <p class="dialog-words">{words}</p>
        <p class="buttons">
          <button type="button" onClick={() => onAnswer(false)}>Cancel</button>
          <button class="primary grave" autofocus>{button}</button>
        </p>
      </form>
    </Dialog>
  )
}

/** Asks first. Unlike the browser's own question it lets the page go on: what others type comes in, and nothing is cut off. */
export const confirmed = (bench: Workbench, title: string, words: string, button: string): Promise<boolean> =>
  new Promise((resolve) => bench.showDialog((close) => (
    <Ask title={title} words={words} button={button} onAnswer={(isYes) => {
      close()
      resolve(isYes)
    }} />
  )))

/** Closes a tab, or asks first where that would lose something. */
export async function closeTab(bench: Workbench, key: string, group: number): Promise<void> {
  const { layout } = bench
  const fault = (): string | null => layout.isLast(key) ? layout.find(key)?.mayNotClose?.() ?? null : null
  const words = fault()
  if (words === null || await confirmed(bench, 'Close this tab?', words, 'Close')) layout.close(key, group)
}

/** A path in a folder, ready to be completed. */
const inFolder = (folder: string): string => folder === '' ? '' : `${folder}/`

export function newFile(bench: Workbench, folder: string): void {
  const work = async (path: string): Promise<void> => {
    try {
      await bench.session.files.write(path, new Blob([]), true)
    } catch (problem) {
      // It is there: then it is opened.
      if (!(problem instanceof Problem && (problem.status === 412 || problem.status === 409))) throw problem
    }
    bench.open(path)
    await bench.files.reveal(path)
  }
  bench.showDialog((close) => (
    <AskPath title="New file" known={inFolder(folder)} button="Open" onClose={close} work={work}
      hint="Folders on the way are made. A file that is there already is opened." />
  ))
}

export function newFolder(bench: Workbench, folder: string): void {
  const work = async (path: string): Promise<void> => {
    await bench.session.files.makeFolder(path)
    await bench.files.reveal(path)
  }
  bench.showDialog((close) => (
    <AskPath title="New folder" known={inFolder(folder)} button="Make" onClose={close} work={work} hint="Folders on the way are made too." />
  ))
}

const isFolder = ({ kind }: Entry): boolean => kind === 'folder'

export const isMovable = ({ kind }: Entry): boolean => kind !== 'other'

async function move(bench: Workbench, from: string, to: string): Promise<void> {
  if (from === to) return
  await bench.session.files.rename(from, to)
  await bench.files.reveal(to)
}

export function renamePath(bench: Workbench, { path }: Entry): void {
  bench.showDialog((close) => (
    <AskPath title="Rename or move" known={path} button="Rename" onClose={close} work={(to) => move(bench, path, to)}
      hint="Another folder in the path moves it there. Editors that have it open go along." />
  ))
}

/** Moves a path into a folder, as it was dropped there. */
export async function moveInto(bench: Workbench, path: string, folder: string): Promise<void> {
  if (parentOf(path) === folder || isWithin(folder, path)) return
  const to = inFolder(folder) + nameOf(path)
  try {
    await move(bench, path, to)
  } catch (problem) {
    bench.notices.say(`${path} was not moved to ${to}: ${inWords(problem)}`, { isBad: true })
  }
}

export async function remove(bench: Workbench, entry: Entry): Promise<void> {
  const what = isFolder(entry) ? `The folder ${entry.path} and all in it are deleted` : `${entry.path} is deleted`
  if (!await confirmed(bench, isFolder(entry) ? 'Delete this folder?' : 'Delete this file?', `${what}, for everybody on this branch.`, 'Delete')) return
  await bench.session.files.delete(entry.path, isFolder(entry))
}

/** How many names a question lists. */
const NAMES = 8

/** Asks whether files that are there are to be replaced. */
export const askReplace = (bench: Workbench) => (there: string[]): Promise<boolean> => {
  const names = there.slice(0, NAMES).join(', ')
  const more = there.length > NAMES ? ` and ${there.length - NAMES} more` : ''
  return confirmed(bench, 'Replace what is there?', `${there.length === 1 ? 'This file is' : 'These files are'} there already: ${names}${more}.`, 'Replace')
}

/** Opens the browser's own dialog for files, or for a folder. */
function choose(bench: Workbench, folder: string, isWhole: boolean): void {
  const input = document.createElement('input')
  input.type = 'file'
  input.multiple = true
  input.webkitdirectory = isWhole
  input.onchange = () => {
    if (input.files !== null) void bench.uploads.send(chosen(input.files), folder, askReplace(bench))
  }
  input.click()
}

export function uploadTo(bench: Workbench, folder: string, at: { x: number, y: number }): void {
  const where = folder === '' ? '' : ` to ${folder}`
  bench.showDialog((close) => (
    <Menu label="Upload" at={at} onClose={close} entries={[
      { id: 'files', title: `Upload files${where}…`, run: () => choose(bench, folder, false) },
      { id: 'folder', title: `Upload a folder${where}…`, run: () => choose(bench, folder, true) }
    ]} />
  ))
}
