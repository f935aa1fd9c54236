// The editor of one open file. One view per open file, gone with it: a state without a view would miss edits.
import { closeBrackets, closeBracketsKeymap, autocompletion, completionKeymap } from '@codemirror/autocomplete'
import { defaultKeymap, indentWithTab } from '@codemirror/commands'
import { bracketMatching, foldGutter, foldKeymap, indentOnInput } from '@codemirror/language'
import { highlightSelectionMatches, searchKeymap } from '@codemirror/search'
import { Compartment, EditorState, type Extension } from '@codemirror/state'
import {
  drawSelection, dropCursor, EditorView, highlightActiveLine, highlightActiveLineGutter, highlightSpecialChars, keymap,
  lineNumbers, rectangularSelection
} from '@codemirror/view'
import { effect, signal } from '@preact/signals'
import { yCollab, yUndoManagerKeymap } from 'y-codemirror.next'
import type { Spot } from '../plugs'
import type { Workbench } from '../bench/workbench'
import type { OpenDocument } from '../../client/document'
import { othersCursors } from './cursors'
import { isProse, languageOf } from './languages'
import { theme } from './theme'

/** What the editor's own search says, as the page says things. */
const WORDS = {
  next: 'Next', previous: 'Previous', all: 'All', 'match case': 'Match case', regexp: 'Regular expression', 'by word': 'Whole words',
  replace: 'Replace', 'replace all': 'Replace all', close: 'Close'
}

export interface Place { line: number, column: number, selected: number }

export class Editor {
  readonly view: EditorView
  readonly place = signal<Place>({ line: 1, column: 1, selected: 0 })
  readonly language: string
  private readonly comparison = new Compartment()
  private readonly stop: () => void

  constructor(file: OpenDocument, bench: Workbench) {
    const parts = new Compartment()
    const partsNow = (): Extension => bench.editorParts.all.value.map(({ extension }) => extension(file))
    const right = new Compartment()
    const speech = new Compartment()
    const language = languageOf(file.path)
    this.language = language?.name ?? 'Plain text'
    const rightNow = (): Extension => file.canWrite.value
      ? keymap.of(yUndoManagerKeymap)
      : EditorState.readOnly.of(true)
    const awareness = file.provider.awareness
    this.view = new EditorView({
      state: EditorState.create({
        doc: file.text.toString(),
        extensions: [
          // perch keeps documents in LF; anything else would shift places between the editor and the document.
          EditorState.lineSeparator.of('\n'),
          EditorState.phrases.of(WORDS),
          EditorView.clipboardInputFilter.of((text) => text.replace(/\r\n?/g, '\n')),
          right.of(rightNow()),
          // Remote selections are our own: see cursors.ts.
          yCollab(file.text, null, { undoManager: file.undo }),
          awareness === null ? [] : othersCursors(file.text, awareness),
          lineNumbers(), foldGutter(), highlightSpecialChars(), drawSelection(), dropCursor(), indentOnInput(),
          bracketMatching(), closeBrackets(), autocompletion(), rectangularSelection(), highlightActiveLine(),
          highlightActiveLineGutter(), highlightSelectionMatches(),
          keymap.of([
            // There is nothing to do: every edit is saved as it is made.
            { key: 'Mod-s', run: () => true, preventDefault: true },
            ...closeBracketsKeymap, ...defaultKeymap, ...searchKeymap, ...foldKeymap, ...completionKeymap, indentWithTab
          ]),
          // What can be edited takes the keyboard without the second; programs that read the page aloud look for it.
          EditorView.contentAttributes.of({ 'aria-label': `Text of ${file.path}`, tabindex: '0' }),
          isProse(file.path) ? EditorView.lineWrapping : [],
          speech.of([]),
          parts.of(partsNow()),
          this.comparison.of([]),
          theme,
          EditorView.updateListener.of((update) => {
            if (update.selectionSet || update.docChanged) this.look()
          })
        ]
      })
    })
    const followRight = effect(() => this.view.dispatch({ effects: right.reconfigure(rightNow()) }))
    let isFirst = true
    const followParts = effect(() => {
      const now = partsNow()
      if (!isFirst) this.view.dispatch({ effects: parts.reconfigure(now) })
      isFirst = false
    })
    this.stop = () => {
      followRight()
      followParts()
    }
    void language?.load().then(
      (support) => this.view.dispatch({ effects: speech.reconfigure(support) }),
      (error: unknown) => console.warn(`perch: no highlighting for ${file.path}:`, error)
    )
  }

  private look(): void {
    const { head, from, to } = this.view.state.selection.main
    const line = this.view.state.doc.lineAt(head)
    this.place.value = { line: line.number, column: head - line.from + 1, selected: to - from }
  }

  /** Adds the comparison with a text, or takes it away. */
  compare(extension: Extension): void {
    this.view.dispatch({ effects: this.comparison.reconfigure(extension) })
  }

  /** Selects a place and brings it into sight. */
  go({ line, column, length }: Spot): void {
    const { doc } = this.view.state
    const at = doc.line(Math.max(1, Math.min(line, doc.lines)))
    const anchor = Math.min(at.from + column - 1, at.to)
    const head = Math.min(anchor + length, doc.length)
    this.view.dispatch({ selection: { anchor, head }, effects: EditorView.scrollIntoView(anchor, { y: 'center' }) })
    this.view.focus()
  }

  destroy(): void {
    this.stop()
    this.view.destroy()
  }
}
