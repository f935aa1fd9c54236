// What git says of the branch, kept true by the event stream, and the steps that change it.
import { computed, signal } from '@preact/signals'
import { Problem } from '../../../client/http'
import type { Credential, Operation, Outcome, Progress, Remote, Status, StatusEntry, Typist } from '../../../client/git'
import type { Workbench } from '../../bench/workbench'
import { inWords } from '../../bench/notices'
import type { Mark } from '../../plugs'

/** Events that come together are one look. */
const GATHER_MS = 150

/** Steps that wait for the one under way; what is asked for past that is not begun. */
const STEPS = 32

/** What must be given before a step can be tried again. */
export type Wanted =
  | { what: 'email', why: string }
  | { what: 'token', why: string, remote: Remote, isRefused: boolean }
  | { what: 'ssh', why: string, remote: Remote, file: 'id' | 'known_hosts' }

type Work = (busy: { onProgress: (progress: Progress) => void, onRemote: (text: string) => void, signal: AbortSignal }) => Promise<string | null | void>

export interface Busy {
  words: string
  progress: Progress | null
  /** What the server said last. */
  said: string | null
  /** `null`: it can't be stopped half way. */
  cancel: (() => void) | null
}

const LETTERS: Record<string, [string, Mark['tone']]> = {
  added: ['A', 'new'], modified: ['M', 'changed'], deleted: ['D', 'gone'], renamed: ['R', 'changed'], copied: ['C', 'new'],
  type_changed: ['T', 'changed']
}

export function markOf({ conflict, untracked, staged, unstaged }: StatusEntry): Mark {
  if (conflict !== null) return { letter: '!', words: 'in conflict', tone: 'bad' }
  if (untracked) return { letter: 'U', words: 'new, not in git yet', tone: 'new' }
  const change = unstaged ?? staged ?? 'modified'
  const [letter, tone] = LETTERS[change] ?? ['M', 'changed']
  return { letter, words: `${change.replace('_', ' ')}${unstaged === null ? ', staged' : ''}`, tone }
}

export class Repository {
  readonly status = signal<Status | null>(null)
  readonly operation = signal<Operation | null>(null)
  /** `false`: the branch's files are no repository. */
  readonly isThere = signal<boolean | null>(null)
  /** Why the last look gave nothing. */
  readonly blind = signal<string | null>(null)
  /** Grows with each look: what is shown of git elsewhere is to be asked anew. */
  readonly version = signal(0)
  readonly busy = signal<Busy | null>(null)
  /** Steps that were asked for and have not ended, and how the last of them ends. */
  private steps = 0
  private last = Promise.resolve(true)
  /** What went wrong, where it was asked for. */
  readonly problem = signal<string | null>(null)
  readonly done = signal<string | null>(null)
  readonly wanted = signal<Wanted | null>(null)
  readonly message = signal('')
  readonly typists = signal<readonly Typist[]>([])
  /** Sessions that the next commit is not to name. */
  readonly without = signal<ReadonlySet<string>>(new Set())
  /** Whether somebody looks at it: readers ask for nothing before. */
  readonly isShown = signal(false)

  readonly entries = computed(() => this.status.value?.entries ?? [])
  readonly conflicts = computed(() => this.entries.value.filter(({ conflict }) => conflict !== null))
  readonly staged = computed(() => this.entries.value.filter(({ staged, conflict }) => staged !== null && conflict === null))
  readonly unstaged = computed(() =>
    this.entries.value.filter(({ unstaged, untracked, conflict }) => (unstaged !== null || untracked) && conflict === null))
  private readonly marks = computed(() => {
    const marks = new Map<string, Mark>()
    for (const entry of this.entries.value) {
      marks.set(entry.path, markOf(entry))
      for (let at = entry.path.lastIndexOf('/'); at > 0; at = entry.path.lastIndexOf('/', at - 1)) {
        const folder = entry.path.slice(0, at)
        if (marks.get(folder)?.tone !== 'bad') {
          const isBad = entry.conflict !== null
          marks.set(folder, { letter: isBad ? '!' : '•', words: isBad ? 'holds a conflict' : 'holds changes', tone: isBad ? 'bad' : 'quiet' })
        }
      }
    }
    return marks
  })

  /** When each file changed last, counted; those that are not here changed when git did. */
  private readonly stamps = new Map<string, number>()
  private firstStamp = 0
  private stamp = 0
  private again: (() => Promise<void>) | null = null
  private timer: ReturnType<typeof setTimeout> | undefined
  private isLooking = false
  private isStale = false
  private readonly unlisten: () => void

  constructor(private readonly bench: Workbench) {
    this.unlisten = bench.events.on((event) => {
      if (event.type === 'reset' || event.type === 'git.changed') {
        this.stamps.clear()
        this.firstStamp = ++this.stamp
        this.lookSoon()
      } else if (event.type.startsWith('file.') && 'path' in event && event.path !== null) {
        this.stamps.set(event.path, ++this.stamp)
        this.lookSoon()
      }
    })
  }

  get git() { return this.bench.session.git }

  markFor(path: string): Mark | null { return this.marks.value.get(path) ?? null }

  lookSoon(): void {
    this.isStale = true
    this.timer ??= setTimeout(() => {
      this.timer = undefined
      void this.look()
    }, GATHER_MS)
  }

  /** The same as long as a file's blame is. */
  stampOf(path: string): number {
    void this.version.value
    return this.stamps.get(path) ?? this.firstStamp
  }

  /** Shown in a panel now. */
  show(): void {
    this.isShown.value = true
    if (this.status.value === null || this.isStale) this.lookSoon()
  }

  private async look(): Promise<void> {
    // A reader's first look starts processes of its own on the server: only for who asks.
    if (this.isLooking || (!this.isShown.peek() && !this.bench.mayWrite.peek())) return
    this.isLooking = true
    this.isStale = false
    try {
      const status = await this.git.status()
      const operation = status === null ? null : await this.git.operation()
      const hasStaged = status?.entries.some(({ staged }) => staged !== null) === true
      this.typists.value = hasStaged && this.isShown.peek() ? await this.git.typists() : []
      this.status.value = status
      this.operation.value = operation
      this.isThere.value = status !== null
      this.blind.value = null
    } catch (problem) {
      // Away or ended is said elsewhere, and what was seen last stays.
      const isAway = problem instanceof Problem && (problem.status === 0 || problem.status === 401)
      // The session's right changed in that moment, and its processes with it.
      const isChanged = problem instanceof Problem && problem.code === 'session_changed'
      if (isChanged) this.isStale = true
      else if (!isAway) this.blind.value = inWords(problem)
    } finally {
      this.isLooking = false
      this.version.value += 1
      if (this.isStale) this.lookSoon()
    }
  }

  /**
   * Does one step, after those that were asked for before it; what goes wrong is said in the panel, what is missing is asked for
   * there, and then it is done again. What waits behind a step that failed is not begun, and that is said too.
   */
  async step(words: string, work: Work, isLong = false): Promise<void> {
    if (this.steps > STEPS) return this.leftOut(words)
    const before = this.steps > 0 ? this.last : null
    this.steps += 1
    this.last = before === null
      ? this.run(words, work, isLong)
      : before.then((went) => {
        if (went) return this.run(words, work, isLong)
        this.leftOut(words)
        return false
      })
    try {
      await this.last
    } finally {
      this.steps -= 1
    }
  }

  private leftOut(words: string): void {
    this.problem.value = `${this.problem.peek() ?? ''} ${words} was not begun; ask for it again.`.trim()
  }

  /** Whether it went well. */
  private async run(words: string, work: Work, isLong: boolean): Promise<boolean> {
    const stop = new AbortController()
    const change = (what: Partial<Busy>): void => {
      if (this.busy.peek() !== null) this.busy.value = { ...this.busy.peek()!, ...what }
    }
    this.busy.value = { words, progress: null, said: null, cancel: isLong ? () => stop.abort() : null }
    this.problem.value = null
    this.done.value = null
    this.wanted.value = null
    this.again = () => this.step(words, work, isLong)
    try {
      this.done.value = await work({
        onProgress: (progress) => change({ progress }), onRemote: (said) => change({ said }), signal: stop.signal
      }) ?? null
      this.again = null
      return true
    } catch (problem) {
      if (stop.signal.aborted) this.problem.value = `${words} was stopped.`
      else await this.failed(problem)
      return false
    } finally {
      this.busy.value = null
      this.lookSoon()
    }
  }

  private async failed(problem: unknown): Promise<void> {
    const code = problem instanceof Problem ? problem.code : ''
    const files = problem instanceof Problem && problem.files.length > 0 ? ` (${problem.files.slice(0, 5).join(', ')})` : ''
    if (code === 'git_identity_missing') {
      this.wanted.value = { what: 'email', why: 'Commits bear an email address, and this session has none yet.' }
    } else if (code === 'git_credentials_missing' || code === 'git_credentials_refused' || code === 'git_host_key_refused') {
      const remote = await this.remote().catch(() => undefined)
      const why = inWords(problem)
      if (remote === undefined) this.problem.value = why
      else if (/^https?:/.test(remote.url)) this.wanted.value = { what: 'token', why, remote, isRefused: code === 'git_credentials_refused' }
      else this.wanted.value = { what: 'ssh', why, remote, file: code === 'git_host_key_refused' ? 'known_hosts' : 'id' }
    } else {
      this.problem.value = inWords(problem) + files
    }
  }

  /** The remote that the steps talk to when none is named. */
  private async remote(): Promise<Remote | undefined> {
    const all = await this.git.remotes()
    const upstream = this.status.peek()?.head.upstream ?? ''
    return all.find(({ name }) => upstream.startsWith(`${name}/`)) ?? all.find(({ name }) => name === 'origin')
  }

  /** Takes what was asked for, and does the step again that needed it. */
  async give(giving: () => Promise<void>): Promise<void> {
    const again = this.again
    await giving()
    this.wanted.value = null
    await again?.()
  }

  giveToken(credential: Credential): Promise<void> { return this.give(() => this.git.giveToken(credential)) }

  giveSsh(file: 'id' | 'known_hosts', text: string): Promise<void> { return this.give(() => this.git.giveSsh(file, text)) }

  forget(): void {
    this.wanted.value = null
    this.problem.value = null
    this.done.value = null
    this.again = null
  }

  /** What came of a merge and the like, in words. */
  outcome({ outcome, conflicts }: Outcome, done: string): string {
    if (outcome === 'conflict') {
      return `Stopped: ${conflicts.length === 1 ? 'a file is' : `${conflicts.length} files are`} in conflict. Solve it in the editor, together.`
    }
    return outcome === 'up_to_date' ? 'There was nothing to do.' : done
  }

  destroy(): void {
    clearTimeout(this.timer)
    this.unlisten()
  }
}
