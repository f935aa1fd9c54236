// Buttons above each conflict that git has left in a text: take one side or both. What is taken is an edit like any other:
// only the other lines go, so that whoever types in those that stay goes on typing.
// They are there while git has the file in conflict, and absent for readers.
import { EditorState, Facet, StateEffect, StateField, type Extension, type Text, type Transaction } from '@codemirror/state'
import { Decoration, EditorView, ViewPlugin, WidgetType, type DecorationSet } from '@codemirror/view'
import { effect } from '@preact/signals'
import type { UndoManager } from 'yjs'
import type { OpenDocument } from '../../../client/document'
import type { Workbench } from '../../bench/workbench'
import type { FileTab } from '../../ui/file'
import type { Repository } from './repository'

/** The part above `=======`, the one below it, or one after the other. */
type Side = 'first' | 'second' | 'both'

/**
 * Which part is one's own. In a rebase git calls the other branch its own, and one's own commits come second. `null`: git
 * has no conflict in the file.
 */
type Mine = 'first' | 'second' | null

/** Offsets in the text; each part ends after its last line's end. */
interface Conflict {
  from: number
  to: number
  first: { from: number, to: number, name: string }
  second: { from: number, to: number, name: string }
}

const MARKER = /^(?:<{7}|\|{7}|={7}|>{7})(?: |$)/
const isMarker = (line: string): boolean => MARKER.test(line)

/** The conflict that begins with the line at `from`, if one does. */
function conflictAt(doc: Text, from: number): Conflict | null {
  const start = doc.lineAt(from)
  if (start.from !== from || !start.text.startsWith('<<<<<<<') || !isMarker(start.text)) return null
  const after = (line: { to: number }): number => Math.min(line.to + 1, doc.length)
  let firstTo: number | null = null
  let secondFrom: number | null = null
  for (let n = start.number + 1; n <= doc.lines; n += 1) {
    const line = doc.line(n)
    if (!isMarker(line.text)) continue
    const sign = line.text[0]
    if (sign === '|' && firstTo === null) firstTo = line.from
    else if (sign === '=' && secondFrom === null) {
      firstTo ??= line.from
      secondFrom = after(line)
    } else if (sign === '>' && firstTo !== null && secondFrom !== null) {
      const name = (text: string): string => text.slice(8).trim()
      return {
        from, to: after(line),
        first: { from: after(start), to: firstTo, name: name(start.text) },
        second: { from: secondFrom, to: line.from, name: name(line.text) }
      }
    } else return null
  }
  return null
}

/** All conflicts, from the top. */
function conflictsOf(doc: Text): Conflict[] {
  const all: Conflict[] = []
  let from = 0
  for (const line of doc.iterLines()) {
    if (line.startsWith('<<<<<<<') && from >= (all.at(-1)?.to ?? 0)) {
      const found = conflictAt(doc, from)
      if (found !== null) all.push(found)
    }
    from += line.length + 1
  }
  return all
}

/** Of the file: what this page did, to be undone. */
const undoing = Facet.define<UndoManager, UndoManager | null>({ combine: ([only]) => only ?? null })

function take(view: EditorView, conflict: Conflict, side: Side): void {
  const { from, to, first, second } = conflict
  const kept = side === 'first' ? [first] : side === 'second' ? [second] : [first, second]
  const changes: Array<{ from: number, to: number }> = []
  let at = from
  for (const part of kept) {
    changes.push({ from: at, to: part.from })
    at = part.to
  }
  changes.push({ from: at, to })
  // Undone by itself, not with what was done just before.
  const undo = view.state.facet(undoing)
  undo?.stopCapturing()
  view.dispatch({ changes, selection: { anchor: from }, scrollIntoView: true, userEvent: 'input.conflict' })
  undo?.stopCapturing()
  view.focus()
}

class Bar extends WidgetType {
  constructor(private readonly conflict: Conflict, private readonly mine: 'first' | 'second', private readonly place: string) {
    super()
  }

  override get estimatedHeight(): number { return 32 }

  private get named(): string { return JSON.stringify([this.place, this.mine, this.conflict.first.name, this.conflict.second.name]) }

  override eq(other: Bar): boolean { return other.named === this.named }

  override toDOM(view: EditorView): HTMLElement {
    const { first, second } = this.conflict
    const bar = document.createElement('div')
    bar.className = 'conflict-bar'
    bar.setAttribute('role', 'group')
    bar.setAttribute('aria-label', this.place)
    const button = (words: string, side: Side, about: string): void => {
      const made = document.createElement('button')
      made.type = 'button'
      made.textContent = words
      made.title = about
      made.setAttribute('aria-label', `${words}: ${about}`)
      made.onclick = () => {
        // As it is by now: others type in it.
        const now = conflictAt(view.state.doc, view.posAtDOM(bar))
        if (now !== null) take(view, now, side)
      }
      bar.append(made)
    }
    const names = { first: first.name || 'the upper part', second: second.name || 'the lower part' }
    const theirs = this.mine === 'first' ? 'second' : 'first'
    button('Take mine', this.mine, names[this.mine])
    button('Take theirs', theirs, names[theirs])
    button('Take both', 'both', `${names.first}, then ${names.second}`)
    return bar
  }
}

/** Whether markers may have come or gone: a keystroke elsewhere costs no walk through the text. */
function touchesMarkers({ changes, startState, newDoc }: Transaction): boolean {
  const has = (doc: Text, from: number, to: number): boolean => {
    for (let line = doc.lineAt(from); ; line = doc.line(line.number + 1)) {
      if (isMarker(line.text)) return true
      if (line.to >= to || line.number === doc.lines) return false
    }
  }
  let isTouched = false
  changes.iterChangedRanges((fromA, toA, fromB, toB) => {
    isTouched ||= has(startState.doc, fromA, toA) || has(newDoc, fromB, toB)
  })
  return isTouched
}

interface Shown { mine: Mine, bars: DecorationSet }

function shown(mine: Mine, doc: Text): Shown {
  if (mine === null) return { mine, bars: Decoration.none }
  const all = conflictsOf(doc)
  const bars = all.map((conflict, n) => {
    const widget = new Bar(conflict, mine, `Conflict ${n + 1} of ${all.length}`)
    return Decoration.widget({ widget, block: true, side: -1 }).range(conflict.from)
  })
  return { mine, bars: Decoration.set(bars) }
}

const told = StateEffect.define<Mine>()

const field = StateField.define<Shown>({
  create: ({ doc }) => shown(null, doc),
  update(now, transaction) {
    for (const one of transaction.effects) if (one.is(told)) return shown(one.value, transaction.newDoc)
    if (!transaction.docChanged || now.mine === null) return now
    if (touchesMarkers(transaction)) return shown(now.mine, transaction.newDoc)
    return { mine: now.mine, bars: now.bars.map(transaction.changes) }
  },
  provide: (here) => EditorView.decorations.compute([here, EditorState.readOnly], (state) =>
    state.readOnly ? Decoration.none : state.field(here).bars)
})

const part = (repository: Repository) => (file: OpenDocument): Extension => [
  field,
  undoing.of(file.undo),
  ViewPlugin.define((view) => {
    let isGone = false
    const stop = effect(() => {
      const isIn = repository.conflicts.value.some(({ path }) => path === file.path)
      const mine = !isIn ? null : repository.operation.value?.doing === 'rebase' ? 'second' : 'first'
      // Not from within the update that has made this editor.
      queueMicrotask(() => {
        if (!isGone && view.state.field(field).mine !== mine) view.dispatch({ effects: told.of(mine) })
      })
    })
    return {
      destroy: () => {
        isGone = true
        stop()
      }
    }
  })
]

/** The one that a place is in, or the next below it, or the first of all. */
function near(doc: Text, at: number): Conflict | null {
  const all = conflictsOf(doc)
  return all.find(({ to }) => to > at) ?? all[0] ?? null
}

/** The buttons, and the same as commands: for who has no pointer, or wants keys. */
export function conflicts(bench: Workbench, repository: Repository): void {
  const editor = (): { view: EditorView, mine: 'first' | 'second' } | null => {
    const { editors } = (bench.layout.view.peek() ?? {}) as Partial<FileTab>
    const view = editors?.peek().get(bench.layout.focused.peek())?.view
    const mine = view?.state.field(field, false)?.mine ?? null
    return view === undefined || mine === null || view.state.readOnly ? null : { view, mine }
  }
  const isThere = (): boolean => editor() !== null
  const none = (): void => { bench.notices.say('No conflict is left in this file. Mark it as solved in the panel of git.') }
  const choose = (side: 'mine' | 'theirs' | 'both'): void => {
    const here = editor()
    if (here === null) return
    const { view, mine } = here
    const conflict = near(view.state.doc, view.state.selection.main.head)
    if (conflict === null) return none()
    take(view, conflict, side === 'both' ? side : side === 'mine' ? mine : mine === 'first' ? 'second' : 'first')
  }
  const next = (): void => {
    const view = editor()?.view
    if (view === undefined) return
    const { doc, selection: { main: { head } } } = view.state
    const here = near(doc, head)
    const conflict = here !== null && here.from <= head ? near(doc, here.to) : here
    if (conflict === null) return none()
    view.dispatch({ selection: { anchor: conflict.from }, effects: EditorView.scrollIntoView(conflict.from, { y: 'center' }) })
    view.focus()
  }
  bench.editorParts.add({ id: 'git.conflicts', extension: part(repository) })
  const group = 'Git'
  bench.commands.add(
    { id: 'git.nextConflict', title: 'Go to the next conflict', group, keys: 'Alt-F8', isThere, run: next },
    { id: 'git.takeMine', title: 'Take mine in this conflict', group, isThere, run: () => choose('mine') },
    { id: 'git.takeTheirs', title: 'Take theirs in this conflict', group, isThere, run: () => choose('theirs') },
    { id: 'git.takeBoth', title: 'Take both in this conflict', group, isThere, run: () => choose('both') }
  )
}
