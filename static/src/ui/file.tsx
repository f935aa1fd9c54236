// One open file: the editor, or the reason why there is none.
import { useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import type { OpenDocument } from '../document'
import { Editor } from '../editor/view'
import type { Workbench } from '../workbench'
import { message, Waiting } from './parts'

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
      hand(await bench.bytes(file.path), name)
    } catch (error) {
      problem.value = message(error)
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

/** Ids hold no blanks, paths may. */
export const panelId = (path: string): string => `file-${encodeURIComponent(path)}`

export function File({ bench, file, isActive }: { bench: Workbench, file: OpenDocument, isActive: boolean }) {
  const place = useRef<HTMLDivElement>(null)
  const editor = useSignal<Editor | null>(null)
  const isHere = file.isHere.value
  useEffect(() => {
    if (!isHere || place.current === null) return
    const made = new Editor(file)
    place.current.append(made.view.dom)
    editor.value = made
    return () => {
      editor.value = null
      made.destroy()
    }
  }, [file, isHere])
  useEffect(() => {
    if (!isActive || editor.value === null) return
    editor.value.view.requestMeasure()
    editor.value.view.focus()
  }, [isActive, editor.value])
  // Shows a new file in the tree once it is durable.
  const isSaved = file.standing.value === 'saved'
  useEffect(() => {
    if (isSaved && file.text.length > 0 && !bench.knows(file.path)) void bench.reveal(file.path)
  }, [isSaved])
  const at = editor.value?.place.value
  return (
    <section class="file" role="tabpanel" id={panelId(file.path)} aria-label={file.path} hidden={!isActive} data-file={file.path}>
      {file.standing.value === 'ended' && file.reason.value !== '' && <Ended bench={bench} file={file} />}
      {!isHere && file.standing.value !== 'ended' && <Waiting>Opening {file.path}…</Waiting>}
      <div class="editor" ref={place} hidden={!isHere} />
      {isHere && (
        <footer class="foot">
          <span class="foot-path">{file.path}</span>
          <span class="grow" />
          {at !== undefined && (
            <span>Line {at.line}, column {at.column}{at.selected > 0 && ` (${at.selected} selected)`}</span>
          )}
          <span>{editor.value?.language}</span>
          <span title="In the editor Tab indents; press Escape first and Tab moves on">UTF-8</span>
        </footer>
      )}
    </section>
  )
}
