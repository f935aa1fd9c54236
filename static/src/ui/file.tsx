// One open file: the editor, or the reason why there is none.
import { useSignal, type Signal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import { nameOf } from '../bench/files'
import { inWords } from '../bench/notices'
import type { FileView, Workbench } from '../bench/workbench'
import type { OpenDocument } from '../../client/document'
import { Editor } from '../editor/view'
import type { View } from '../plugs'
import { Waiting } from './parts'
import { SavedMark } from './saved'

/** The tab of a file, and its editor in each group that shows it. */
export interface FileTab extends FileView { readonly editors: Signal<ReadonlyMap<number, Editor>> }

function hand(blob: Blob, name: string): void {
  const link = document.createElement('a')
  link.href = URL.createObjectURL(blob)
  link.download = name
  link.click()
  // The browser has taken it once the click is through.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000)
}

/** Why perch has left the file, and what can be done; the text stays below it. */
function Ended({ bench, file }: { bench: Workbench, file: OpenDocument }) {
  const problem = useSignal<string | null>(null)
  const name = file.path.slice(file.path.lastIndexOf('/') + 1)
  // perch's words are for programs too; the page has a button for what they advise. A name keeps its case.
  const words = file.reason.value.replace('; use the file API for it', '').replaceAll('`', '')
  const reason = words.startsWith(file.path) ? words : words.charAt(0).toUpperCase() + words.slice(1)
  const load = async (): Promise<void> => {
    problem.value = null
    try {
      hand(await bench.files.bytes(file.path), name)
    } catch (error) {
      problem.value = inWords(error)
    }
  }
  return (
    <div class={file.isHere.value ? 'ended' : 'ended ended-whole'} role="alert">
      <div>
        <strong>{file.isHere.value ? 'This file is not shared any more' : 'This file can’t be edited here'}</strong>
        <p>{reason}.</p>
        {file.isHere.value && <p>The text below is what you had. It is kept in this tab and can’t be changed.</p>}
        {problem.value !== null && <p>{problem.value}</p>}
      </div>
      <p class="buttons">
        {file.isHere.value && (
          <button onClick={() => hand(new Blob([file.text.toString()], { type: 'text/plain' }), name)}>Save my text</button>
        )}
        {file.isHere.value
          ? <button class="primary" onClick={() => bench.reopen(file.path)}>Open it again</button>
          : (
            <>
              <button onClick={() => bench.reopen(file.path)}>Try again</button>
              <button class="primary" onClick={() => void load()}>Download the file</button>
            </>
            )}
      </p>
    </div>
  )
}

/** Above a file that was opened anew, while what the page had before is shown in it too. */
function Compared({ text, path, onDone }: { text: string, path: string, onDone: () => void }) {
  return (
    <div class="ended compared" role="status">
      <div>
        <strong>Both texts</strong>
        <p>In red is what you had before, the rest is what is there now. Take yours where you want it back: the others see it at once.</p>
      </div>
      <p class="buttons">
        <button onClick={() => hand(new Blob([text], { type: 'text/plain' }), nameOf(path))}>Save my text</button>
        <button class="primary" onClick={onDone}>Done</button>
      </p>
    </div>
  )
}

export function FileBody({ bench, view, group, isActive }: { bench: Workbench, view: View, group: number, isActive: boolean }) {
  const { file, editors } = view as FileTab
  const place = useRef<HTMLDivElement>(null)
  const editor = useSignal<Editor | null>(null)
  const isHere = file.isHere.value
  useEffect(() => {
    if (!isHere || place.current === null) return
    const made = new Editor(file, bench)
    place.current.append(made.view.dom)
    editor.value = made
    editors.value = new Map(editors.peek()).set(group, made)
    return () => {
      editor.value = null
      editors.value = new Map([...editors.peek()].filter(([, other]) => other !== made))
      made.destroy()
    }
  }, [file, isHere])
  useEffect(() => { if (isActive) editor.value?.view.requestMeasure() }, [isActive, editor.value])
  // Shows a new file in the tree once it is durable; asking for its bytes brings it to disk.
  const isSaved = file.standing.value === 'saved'
  useEffect(() => {
    if (!isSaved || file.text.length === 0 || bench.files.find(file.path) !== null) return
    // It is in its tab all the same; the tree shows it when an event tells of it.
    bench.files.bytes(file.path).then(() => bench.files.reveal(file.path)).catch(() => {})
  }, [isSaved])
  const wanted = bench.layout.wantsKeys.value
  const isWanted = isActive && wanted?.key === view.key && wanted.group === group && editor.value !== null
  useEffect(() => {
    if (!isWanted) return
    bench.layout.wantsKeys.value = null
    editor.value?.view.focus()
  }, [isWanted])
  const spot = (view as FileTab).spot.value
  const isToGo = spot !== null && isActive && editor.value !== null && group === bench.layout.focused.value
  useEffect(() => {
    if (!isToGo || spot === null) return
    ;(view as FileTab).spot.value = null
    editor.value?.go(spot)
  }, [isToGo, spot])
  const { kept } = view as FileTab
  const left = file.leftover.value
  useEffect(() => { if (left !== null) kept.value ??= left.text }, [left])
  const forget = (): void => {
    kept.value = null
    file.leftover.peek()?.forget()
    file.leftover.value = null
  }
  const old = kept.value
  const compareWith = old !== null && isHere && old !== '' ? old : null
  useEffect(() => {
    const made = editor.value
    if (made === null || compareWith === null) return
    if (compareWith === file.text.toString()) return forget()
    let isGone = false
    import('../editor/compare').then(
      ({ comparison }) => { if (!isGone) made.compare(comparison(compareWith)) },
      bench.notices.failed
    )
    return () => {
      isGone = true
      made.compare([])
    }
  }, [editor.value, compareWith])
  return (
    <>
      {compareWith !== null && <Compared text={compareWith} path={file.path} onDone={forget} />}
      {file.standing.value === 'ended' && file.reason.value !== '' && <Ended bench={bench} file={file} />}
      {!isHere && file.standing.value !== 'ended' && <Waiting>Opening {file.path}…</Waiting>}
      <div class="editor" ref={place} hidden={!isHere} />
    </>
  )
}

export function FileFoot({ bench, view }: { bench: Workbench, view: View }) {
  const { file, editors } = view as FileTab
  const editor = editors.value.get(bench.layout.focused.value)
  if (editor === undefined) return null
  const at = editor.place.value
  return (
    <>
      <span class="foot-path">{file.path}</span>
      <span class="foot-place">Line {at.line}, column {at.column}{at.selected > 0 && ` (${at.selected} selected)`}</span>
      <span class="foot-language">{editor.language}</span>
      <span class="foot-encoding" title="In the editor Tab indents; press Escape first and Tab moves on">UTF-8</span>
    </>
  )
}

export function FileTop({ view }: { view: View }) {
  return <SavedMark file={(view as FileTab).file} />
}

export function FileSign({ view }: { view: View }) {
  return <span class={`tab-dot saved-${(view as FileTab).file.standing.value}`} aria-hidden="true" />
}
