// Others' carets and selections.
//
// Own code instead of y-codemirror.next's `yRemoteSelections`: that one takes two carets of one colour for the same
// caret and so shows one person's name at another's; perch has eight colours. Otherwise the same: awareness `cursor`
// holds `{anchor, head}` as relative positions, which is what other editors on Yjs write and read.
import { Annotation, RangeSet, type Extension, type Range } from '@codemirror/state'
import { Decoration, EditorView, ViewPlugin, WidgetType, type DecorationSet, type ViewUpdate } from '@codemirror/view'
import type { Awareness } from 'y-protocols/awareness'
import * as Y from 'yjs'
import { effect, type ReadonlySignal } from '@preact/signals'
import { NO_COLOR } from '../../client/document'

interface Cursor { anchor: unknown, head: unknown }
interface Presence { user?: { name?: unknown, color?: unknown, session?: unknown }, cursor?: Cursor | null }

const othersMoved = Annotation.define<boolean>()
const COLOR = /^#[0-9a-f]{6}$/i

class Caret extends WidgetType {
  constructor(readonly color: string, readonly name: string, readonly client: number) {
    super()
  }

  override eq(other: Caret): boolean {
    return other.client === this.client && other.color === this.color && other.name === this.name
  }

  override toDOM(): HTMLElement {
    const caret = document.createElement('span')
    caret.className = 'cm-other-caret'
    caret.style.setProperty('--who', this.color)
    const label = document.createElement('span')
    label.className = 'cm-other-name'
    // No text in the page: when everything is selected and typed over, a browser may leave it behind in the line, and it
    // would be read as typed.
    label.dataset.name = this.name
    label.setAttribute('aria-hidden', 'true')
    caret.append(label)
    return caret
  }

  override get estimatedHeight(): number { return -1 }
  override ignoreEvent(): boolean { return true }
}

function position(json: unknown, text: Y.Text): number | null {
  // What others say is not to be trusted to parse.
  try {
    const relative = Y.createRelativePositionFromJSON(json)
    const absolute = Y.createAbsolutePositionFromRelativePosition(relative, text.doc!)
    return absolute !== null && absolute.type === text ? absolute.index : null
  } catch {
    return null
  }
}

const samePlace = (a: Cursor | null | undefined, b: Cursor): boolean => a !== null && a !== undefined &&
  Y.compareRelativePositions(Y.createRelativePositionFromJSON(a.anchor), b.anchor as Y.RelativePosition) &&
  Y.compareRelativePositions(Y.createRelativePositionFromJSON(a.head), b.head as Y.RelativePosition)

class Cursors {
  decorations: DecorationSet = RangeSet.empty
  private readonly listen: (change: { added: number[], updated: number[], removed: number[] }) => void

  constructor(private readonly view: EditorView, private readonly text: Y.Text, private readonly awareness: Awareness) {
    this.listen = ({ added, updated, removed }) => {
      if ([...added, ...updated, ...removed].some((client) => client !== awareness.doc.clientID)) {
        view.dispatch({ annotations: othersMoved.of(true) })
      }
    }
    awareness.on('change', this.listen)
    this.decorations = this.draw()
  }

  destroy(): void {
    this.awareness.off('change', this.listen)
  }

  update(update: ViewUpdate): void {
    if (update.selectionSet || update.docChanged || update.focusChanged) this.tell()
    const moved = update.transactions.some((transaction) => transaction.annotation(othersMoved) === true)
    if (moved || update.docChanged) this.decorations = this.draw()
  }

  /** Says where the own caret is; the last place stays while the page is in the background. */
  private tell(): void {
    const state = this.awareness.getLocalState() as Presence | null
    if (state === null || !this.view.hasFocus) return
    const { anchor, head } = this.view.state.selection.main
    const cursor = {
      anchor: Y.createRelativePositionFromTypeIndex(this.text, anchor),
      head: Y.createRelativePositionFromTypeIndex(this.text, head)
    }
    if (!samePlace(state.cursor, cursor)) this.awareness.setLocalStateField('cursor', cursor)
  }

  private draw(): DecorationSet {
    const ranges: Array<Range<Decoration>> = []
    const length = this.view.state.doc.length
    for (const [client, state] of this.awareness.getStates()) {
      const { user, cursor } = state as Presence
      if (client === this.awareness.doc.clientID || cursor === null || typeof cursor !== 'object') continue
      const anchor = position(cursor.anchor, this.text)
      const head = position(cursor.head, this.text)
      // Beyond the end: the text that it points into is on its way to the view.
      if (anchor === null || head === null || Math.max(anchor, head) > length) continue
      const color = typeof user?.color === 'string' && COLOR.test(user.color) ? user.color : NO_COLOR
      const name = typeof user?.name === 'string' ? user.name : 'someone'
      if (anchor !== head) {
        const mark = Decoration.mark({ class: 'cm-other-selection', attributes: { style: `--who: ${color}` } })
        ranges.push(mark.range(Math.min(anchor, head), Math.max(anchor, head)))
      }
      const side = head > anchor ? -1 : 1
      ranges.push(Decoration.widget({ side, widget: new Caret(color, name, client) }).range(head))
    }
    return Decoration.set(ranges, true)
  }
}

export function othersCursors(text: Y.Text, awareness: Awareness): Extension {
  return ViewPlugin.define((view) => new Cursors(view, text, awareness), {
    decorations: (cursors) => cursors.decorations
  })
}

/** Keeps the caret of the session that is followed in sight, as it moves. */
export function followCaret(text: Y.Text, awareness: Awareness | null, following: ReadonlySignal<string | null>): Extension {
  if (awareness === null) return []
  return ViewPlugin.define((view) => {
    let last: number | null = null
    let isWanted = false
    const look = (): void => {
      isWanted = false
      const session = following.peek()
      if (session === null) return
      for (const [client, state] of awareness.getStates()) {
        const { user, cursor } = state as Presence
        if (client === awareness.doc.clientID || user?.session !== session || cursor === null || typeof cursor !== 'object') continue
        const head = position(cursor.head, text)
        if (head === null || head === last || head > view.state.doc.length) continue
        last = head
        view.dispatch({ effects: EditorView.scrollIntoView(head, { y: 'center' }) })
        return
      }
    }
    // Not amid an update of the view.
    const soon = (): void => {
      if (isWanted) return
      isWanted = true
      setTimeout(look)
    }
    awareness.on('change', soon)
    const stop = effect(() => {
      last = null
      if (following.value !== null) soon()
    })
    return {
      update: ({ docChanged }) => { if (docChanged) soon() },
      destroy: () => {
        awareness.off('change', soon)
        stop()
      }
    }
  })
}
