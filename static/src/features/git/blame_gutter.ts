// The gutter itself: of each line who typed it or committed it, asked of perch and carried along by edits until it is asked again.
import { RangeSet, RangeSetBuilder, StateEffect, StateField, type Extension } from '@codemirror/state'
import { gutter, GutterMarker, ViewPlugin, type EditorView } from '@codemirror/view'
import { effect, untracked } from '@preact/signals'
import type { OpenDocument } from '../../../client/document'
import type { Blame } from '../../../client/git'
import { Problem } from '../../../client/http'
import type { Workbench } from '../../bench/workbench'
import type { Repository } from './repository'

/** Asked again this long after the last edit was acknowledged. */
const SETTLED_MS = 400
const NAMES: Record<string, string> = { '(disk)': 'a program', '(file)': 'from before', '(api)': 'the API', '(perch)': 'perch' }
/** More is cut by the style. */
const WIDEST = 'Somebody with a name'

const when = new Intl.DateTimeFormat('en', { dateStyle: 'medium', timeStyle: 'short' })

class Who extends GutterMarker {
  constructor(readonly name: string, readonly about: string, readonly isTyped: boolean, readonly isFirst: boolean) {
    super()
  }

  override eq(other: Who): boolean {
    return other.name === this.name && other.about === this.about && other.isFirst === this.isFirst
  }

  override toDOM(): HTMLElement {
    const element = document.createElement('span')
    element.className = this.isTyped ? 'cm-who cm-who-typed' : 'cm-who'
    element.title = this.about
    element.dataset['who'] = this.name
    element.textContent = this.isFirst ? this.name : ''
    return element
  }
}

function markers(range: Blame): { name: string, about: string, isTyped: boolean } {
  const { commit, typed } = range
  if (commit !== undefined) {
    const about = `${commit.author.name}, ${when.format(commit.author.at_ms)}: ${commit.subject} (${commit.hash.slice(0, 7)})`
    return { name: commit.author.name, about, isTyped: false }
  }
  const people = (typed ?? []).map(({ author, name }) => name ?? NAMES[author] ?? author)
  const newest = typed?.[0]
  const about = people.length === 0 ? 'Not committed' : `${people.join(', ')}, ${when.format(newest!.at_ms)}, not committed`
  return { name: people[0] ?? '', about, isTyped: true }
}

const told = StateEffect.define<Blame[]>()

const field = StateField.define<RangeSet<Who>>({
  create: () => RangeSet.empty,
  update(set, transaction) {
    let now = set.map(transaction.changes)
    for (const one of transaction.effects) {
      if (!one.is(told)) continue
      const builder = new RangeSetBuilder<Who>()
      const { doc } = transaction.state
      for (const range of one.value) {
        const { name, about, isTyped } = markers(range)
        for (let line = range.first; line < range.first + range.count && line <= doc.lines; line++) {
          const at = doc.line(line).from
          builder.add(at, at, new Who(name, about, isTyped, line === range.first))
        }
      }
      now = builder.finish()
    }
    return now
  }
})

/** Of a file that git does not know, the lines' authors are in the document's own log. */
async function ask(bench: Workbench, path: string): Promise<Blame[]> {
  try {
    return await bench.session.git.blame(path)
  } catch (problem) {
    const isUntracked = problem instanceof Problem && (problem.code === 'git_unknown_path' || problem.code === 'git_no_repository')
    if (isUntracked) return bench.session.files.authors(path)
    throw problem
  }
}

export function blameGutter(bench: Workbench, repository: Repository, file: OpenDocument): Extension {
  return [
    field,
    gutter({
      class: 'cm-blame', markers: (view) => view.state.field(field),
      initialSpacer: () => new Who(WIDEST, '', false, true)
    }),
    ViewPlugin.define((view: EditorView) => {
      let isGone = false
      let timer: ReturnType<typeof setTimeout> | undefined
      let asked = 0
      const look = async (): Promise<void> => {
        const mine = ++asked
        const text = view.state.doc
        try {
          const blames = await ask(bench, file.path)
          // Of another text by now: the next look is on its way.
          if (!isGone && mine === asked && view.state.doc.eq(text)) view.dispatch({ effects: told.of(blames) })
          else if (!isGone && mine === asked) later()
        } catch (problem) {
          if (!isGone) bench.notices.failed(problem)
        }
      }
      const later = (): void => {
        clearTimeout(timer)
        timer = setTimeout(() => void look(), SETTLED_MS)
      }
      const stop = effect(() => {
        void repository.version.value
        const isSettled = file.standing.value !== 'saving'
        if (isSettled) untracked(later)
      })
      return {
        update: ({ docChanged }) => { if (docChanged) later() },
        destroy: () => {
          isGone = true
          clearTimeout(timer)
          stop()
        }
      }
    })
  ]
}
