// Search in all files of the branch.
import { signal, useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import type { Found, FoundLine } from '../../client/files'
import { nameOf, parentOf } from '../bench/files'
import { inWords } from '../bench/notices'
import type { Workbench } from '../bench/workbench'
import type { Feature } from '../plugs'
import { Failure, Waiting } from '../ui/parts'
import { PanelTop } from '../ui/side'

const ASK_AFTER_MS = 250
/** perch gives at most 2,000. */
const LIMIT = 500

/** Kept while the panel is not shown. */
class Search {
  readonly query = signal('')
  readonly isRegex = signal(false)
  readonly isCase = signal(false)
  readonly within = signal('')
  readonly found = signal<Found | null>(null)
  readonly problem = signal<string | null>(null)
  readonly isBusy = signal(false)
  /** Asks for the keyboard. */
  readonly wantsKeys = signal(false)
  private timer: ReturnType<typeof setTimeout> | undefined
  private last = 0

  constructor(private readonly bench: Workbench) {}

  soon(after = ASK_AFTER_MS): void {
    clearTimeout(this.timer)
    this.timer = setTimeout(() => void this.ask(), after)
  }

  private async ask(): Promise<void> {
    const number = ++this.last
    this.problem.value = null
    if (this.query.value === '') {
      this.found.value = null
      this.isBusy.value = false
      return
    }
    this.isBusy.value = true
    const wanted = {
      query: this.query.value, regex: this.isRegex.value, case: this.isCase.value, path: this.within.value.trim(), limit: LIMIT
    }
    try {
      const found = await this.bench.session.files.search(wanted)
      if (number === this.last) this.found.value = found
    } catch (problem) {
      if (number !== this.last) return
      this.found.value = null
      this.problem.value = inWords(problem)
    }
    if (number === this.last) this.isBusy.value = false
  }

  destroy(): void {
    clearTimeout(this.timer)
  }
}

function Line({ bench, line }: { bench: Workbench, line: FoundLine }) {
  const start = line.column - line.text_column
  const before = line.text.slice(0, start).trimStart()
  const match = line.text.slice(start, start + line.length)
  return (
    <button class="found-line" data-line={line.line}
      onClick={() => bench.openAt(line.path, { line: line.line, column: line.column, length: line.length })}>
      <span class="found-number">{line.line}</span>
      <span class="found-text">{before}<mark>{match}</mark>{line.text.slice(start + line.length)}</span>
    </button>
  )
}

function Results({ bench, search, found }: { bench: Workbench, search: Search, found: Found }) {
  const byPath = Map.groupBy(found.matches, ({ path }) => path)
  const count = found.matches.length
  const onKeyDown = (event: KeyboardEvent): void => {
    const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0
    if (step === 0) return
    const all = [...(event.currentTarget as HTMLElement).querySelectorAll<HTMLElement>('.found-line')]
    all[all.indexOf(event.target as HTMLElement) + step]?.focus()
    event.preventDefault()
  }
  return (
    <>
      <p class="side-note" role="status">
        {count === 0
          ? `Nothing found for “${search.query.value}”. What git ignores is left out.`
          : `${found.cut ? 'At least ' : ''}${count} ${count === 1 ? 'line' : 'lines'} in ${byPath.size} ${byPath.size === 1 ? 'file' : 'files'}`}
        {found.cut && ' (there may be more: say more of what you look for)'}
        {found.too_large > 0 && `. ${found.too_large} large ${found.too_large === 1 ? 'file was' : 'files were'} not searched`}
        {found.behind.length > 0 && `. Without the last edits of ${found.behind.join(', ')}`}
      </p>
      <div class="found" onKeyDown={onKeyDown}>
        {[...byPath].map(([path, lines]) => (
          <section key={path} aria-label={path}>
            <h3 title={path}>{nameOf(path)} <span>{parentOf(path)}</span></h3>
            {lines.map((line) => <Line key={line.line} bench={bench} line={line} />)}
          </section>
        ))}
      </div>
    </>
  )
}

function SearchPanel({ bench, search }: { bench: Workbench, search: Search }) {
  const input = useRef<HTMLInputElement>(null)
  const isMore = useSignal(search.within.value !== '')
  useEffect(() => {
    if (!search.wantsKeys.value) return
    search.wantsKeys.value = false
    input.current?.select()
  }, [search.wantsKeys.value])
  const toggle = (what: typeof search.isCase): void => {
    what.value = !what.value
    search.soon(0)
  }
  return (
    <>
      <PanelTop title="Search" />
      <form class="search" role="search" onSubmit={(event) => {
        event.preventDefault()
        search.soon(0)
      }}>
        <div class="search-line">
          <input ref={input} aria-label="Search in files" placeholder="Search in files" autocomplete="off" spellcheck={false} maxLength={1_000}
            value={search.query.value} onInput={({ currentTarget }) => {
              search.query.value = currentTarget.value
              search.soon()
            }} />
          <button type="button" class="quiet square" aria-pressed={search.isCase.value} aria-label="Case matters" title="Case matters" onClick={() => toggle(search.isCase)}>Aa</button>
          <button type="button" class="quiet square" aria-pressed={search.isRegex.value} aria-label="Regular expression" title="Regular expression" onClick={() => toggle(search.isRegex)}>.*</button>
          <button type="button" class="quiet square" aria-expanded={isMore.value} aria-label="Where to search" title="Where to search" onClick={() => { isMore.value = !isMore.value }}>…</button>
        </div>
        {isMore.value && (
          <input aria-label="Folder or file to search" placeholder="In this folder or file" autocomplete="off" spellcheck={false} value={search.within.value}
            onInput={({ currentTarget }) => {
              search.within.value = currentTarget.value
              search.soon()
            }} />
        )}
      </form>
      <div class="side-scroll" aria-busy={search.isBusy.value}>
        {search.problem.value !== null && <Failure>{search.problem.value}</Failure>}
        {search.isBusy.value && search.found.value === null && <Waiting>Searching…</Waiting>}
        {search.found.value !== null && <Results bench={bench} search={search} found={search.found.value} />}
        {search.query.value === '' && <p class="side-note">Type a word to find it in all files, with what is being typed just now.</p>}
      </div>
    </>
  )
}

export const search: Feature = (bench) => {
  const search = new Search(bench)
  bench.panels.add({ id: 'search', title: 'Search', icon: 'search', order: 20, Body: () => <SearchPanel bench={bench} search={search} /> })
  bench.commands.add({
    id: 'search', title: 'Search in files', group: 'Anywhere', keys: 'Mod-Shift-f',
    run: () => {
      bench.togglePanel('search', true)
      search.wantsKeys.value = true
    }
  })
  bench.pathActions.add({
    id: 'search.within', title: 'Search in this folder', order: 60, isThere: ({ kind }) => kind === 'folder',
    run: ({ path }) => {
      search.within.value = path
      bench.commands.run('search')
    }
  })
  return () => search.destroy()
}
