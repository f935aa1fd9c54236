// The branch's files as the tree shows them: folders that were looked into, and which of them are unfolded.
import { signal } from '@preact/signals'
import type { BranchEvent } from '../../client/events'
import type { Files as Perch } from '../../client/files'
import { Problem } from '../../client/http'
import type { Entry } from '../../client/types'
import { inWords } from './notices'

export type Folder = { state: 'loading' } | { state: 'here', entries: Entry[] } | { state: 'failed', why: string }

/** Events that come together are one look. */
const GATHER_MS = 50

export const parentOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf('/')))
export const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1)
export const isWithin = (path: string, folder: string): boolean =>
  folder === '' || path === folder || path.startsWith(`${folder}/`)

export class Files {
  readonly folders = signal<ReadonlyMap<string, Folder>>(new Map())
  readonly expanded = signal<ReadonlySet<string>>(new Set(['']))
  /** The path on which the tree's keys act. */
  readonly current = signal<string | null>(null)

  private stale = new Set<string>()
  private timer: ReturnType<typeof setTimeout> | undefined

  constructor(private readonly perch: Perch) {
    void this.load('')
  }

  private set(path: string, to: Folder): void {
    this.folders.value = new Map(this.folders.value).set(path, to)
  }

  private list(path: string): Promise<Entry[]> {
    return this.perch.list(path)
  }

  /** A file's bytes as they are on disk. */
  bytes(path: string): Promise<Blob> {
    return this.perch.read(path)
  }

  async load(path: string): Promise<void> {
    if (this.folders.value.get(path)?.state !== 'here') this.set(path, { state: 'loading' })
    try {
      const entries = await this.list(path)
      const rank = ({ kind }: Entry): number => kind === 'folder' ? 0 : 1
      entries.sort((a, b) => rank(a) - rank(b) || a.path.localeCompare(b.path, undefined, { numeric: true }))
      const known = this.folders.value.get(path)
      const isNews = known?.state !== 'here' || JSON.stringify(known.entries) !== JSON.stringify(entries)
      if (isNews) this.set(path, { state: 'here', entries })
    } catch (problem) {
      // What was seen last is better than nothing while perch is away or the session has ended.
      const isAway = problem instanceof Problem && (problem.status === 0 || problem.status === 401)
      if (isAway && this.folders.value.get(path)?.state === 'here') return
      if (problem instanceof Problem && problem.status === 404 && path !== '') return this.forget(path)
      this.set(path, { state: 'failed', why: inWords(problem) })
    }
  }

  private forget(path: string): void {
    this.folders.value = new Map([...this.folders.value].filter(([other]) => !isWithin(other, path)))
    this.expanded.value = new Set([...this.expanded.value].filter((other) => !isWithin(other, path)))
  }

  /** What an event says about folders on screen. */
  readonly onEvent = (event: BranchEvent): void => {
    if (event.type === 'reset') return void this.refresh()
    if (event.type === 'file.created' || event.type === 'file.deleted') this.lookSoon(parentOf(event.path))
    if (event.type === 'file.renamed') {
      this.lookSoon(parentOf(event.from))
      this.lookSoon(parentOf(event.path))
      const moved = [...this.expanded.value].filter((path) => isWithin(path, event.from))
      for (const path of moved) this.toggle(event.path + path.slice(event.from.length), true)
      if (moved.length > 0) this.forget(event.from)
    }
  }

  private lookSoon(path: string): void {
    // A folder that was made is new to all above it, too.
    for (let at = path; ; at = parentOf(at)) {
      if (this.folders.value.has(at)) this.stale.add(at)
      if (at === '') break
    }
    this.timer ??= setTimeout(() => {
      this.timer = undefined
      const stale = this.stale
      this.stale = new Set()
      for (const one of stale) {
        if (this.expanded.value.has(one)) void this.load(one)
        else this.forget(one)
      }
    }, GATHER_MS)
  }

  /** Loads all folders that are shown again. */
  async refresh(): Promise<void> {
    await Promise.all([...this.expanded.value].map((path) => this.load(path)))
  }

  toggle(path: string, open = !this.expanded.value.has(path)): void {
    const expanded = new Set(this.expanded.value)
    if (open) expanded.add(path)
    else expanded.delete(path)
    this.expanded.value = expanded
    if (open) void this.load(path)
  }

  /** Folds all but the top. */
  foldAll(): void {
    this.expanded.value = new Set([''])
  }

  /** Whether a link leads to a folder that can be shown; then it is unfolded. */
  async unfoldLink(path: string): Promise<boolean> {
    try {
      await this.list(path)
      this.toggle(path, true)
      return true
    } catch {
      return false
    }
  }

  /** Unfolds what is above a path and makes it the current one. */
  async reveal(path: string): Promise<void> {
    const parts = path.split('/').slice(0, -1)
    const parents = ['', ...parts.map((_, n) => parts.slice(0, n + 1).join('/'))]
    const missing = parents.filter((parent) => !this.expanded.value.has(parent))
    this.expanded.value = new Set([...this.expanded.value, ...parents])
    await Promise.all(missing.map((parent) => this.load(parent)))
    this.current.value = path
  }

  /** The entry of a path in a folder that was looked into. */
  find(path: string): Entry | null {
    const folder = this.folders.value.get(parentOf(path))
    return folder?.state === 'here' ? folder.entries.find((entry) => entry.path === path) ?? null : null
  }

  destroy(): void {
    clearTimeout(this.timer)
  }
}
