// Git on a branch, as the session's own person; docs/git.md says what each step does to open editors.
import { jsonLines, Problem, type Http } from './http.js'

export type Change = 'added' | 'modified' | 'deleted' | 'renamed' | 'copied' | 'type_changed'

export interface Status {
  head: { commit: string | null, branch: string | null, upstream: string | null, ahead: number | null, behind: number | null }
  entries: StatusEntry[]
  is_truncated: boolean
}

export interface StatusEntry {
  path: string
  from: string | null
  staged: Change | null
  unstaged: Change | null
  untracked: boolean
  /** Git's two letters, as `UU`. */
  conflict: string | null
  submodule: boolean
}

export interface Hunk {
  id: string
  old_start: number
  old_len: number
  new_start: number
  new_len: number
  header: string
  lines: Array<{ kind: 'context' | 'added' | 'deleted', text: string, no_newline?: boolean }>
}

export interface FileDiff {
  path: string
  from: string | null
  change: Change
  conflict: boolean
  untracked: boolean
  is_binary: boolean
  left_out: string | null
  added: number | null
  deleted: number | null
  hunks: Hunk[]
}

export interface Signature { name: string, email: string, at_ms: number }

export interface Commit {
  hash: string
  parents: string[]
  author: Signature
  subject: string
  body: string
  co_authors: Array<{ name: string, email: string }>
  refs: string[]
}

/** Somebody whose typing is in what is staged; `named`: a commit by the caller would name them. */
export interface Typist { session: string, name: string | null, email: string | null, bytes: number, named: boolean }

export interface Ref {
  name: string
  is_remote: boolean
  is_current: boolean
  upstream: string | null
  ahead: number | null
  behind: number | null
  commit: string
  subject: string
}

export interface Conflict { path: string, has_base: boolean, has_ours: boolean, has_theirs: boolean }

export interface Operation {
  /** `null`: nothing is under way; files may be in conflict all the same, after a stash was brought back. */
  doing: 'merge' | 'rebase' | 'cherry_pick' | 'revert' | 'patches' | null
  branch: string | null
  step: number | null
  steps: number | null
  is_of_a_shell: boolean
  conflicts: Conflict[]
}

/** What came of a merge, rebase, pull and the like; a conflict is no error. */
export interface Outcome {
  outcome: 'done' | 'fast_forward' | 'up_to_date' | 'conflict'
  conflicts: Conflict[]
  restore_point?: string
}

export interface Stash { number: number, commit: string, message: string, by: string, at_ms: number }
export interface RestorePoint { id: string, at_ms: number, label: string, by: string | null, branch: string | null }
export interface Remote { name: string, url: string, is_usable: boolean }

export interface Blame {
  first: number
  count: number
  commit?: { hash: string, author: Signature, subject: string }
  /** Of lines that are not committed: who typed them, who typed most first. */
  typed?: Array<{ author: string, name: string | null, at_ms: number }>
}

export interface Progress { phase: string, percent?: number, done?: number, total?: number }

/** For whom a token is. */
export interface Credential { protocol: 'https' | 'http', host: string, path?: string, username: string, token: string }

/** Which changes are meant: all, files, or some hunks of one file. */
export type Picked = { all: true } | { paths: string[] } | { path: string, hunks: string[] }

export interface Told {
  onProgress?: (progress: Progress) => void
  /** A line that the server said. */
  onRemote?: (text: string) => void
  /** Hangs up, which ends git. */
  signal?: AbortSignal
}

export class Git {
  constructor(private readonly http: Http, private readonly branchRoute: string, private readonly session: () => string) {}

  private get<T>(what: string, query: Record<string, string | number | boolean | null | undefined> = {}): Promise<T> {
    return this.http.json('GET', `${this.branchRoute}/git/${what}`, { query })
  }

  private post<T>(what: string, json: unknown = {}): Promise<T> {
    return this.http.json('POST', `${this.branchRoute}/git/${what}`, { json })
  }

  private async send(method: string, what: string, json?: unknown, query = {}): Promise<void> {
    await this.http.ask(method, `${this.branchRoute}/git/${what}`, json === undefined ? { query } : { json, query })
  }

  init(): Promise<void> { return this.send('POST', 'init') }
  /** `null`: the branch's files are no repository. */
  async status(): Promise<Status | null> {
    const answer = await this.http.ask('GET', `${this.branchRoute}/git/status`, { query: { if_any: true } })
    return answer.status === 204 ? null : await answer.json() as Status
  }


  /** One page of what differs; `staged`: what is staged against the last commit. */
  diff(wanted: { staged?: boolean, untracked?: boolean, path?: string, from?: string, to?: string, context?: number, after?: string } = {}):
  Promise<{ files: FileDiff[], next?: string }> { return this.get('diff', wanted) }

  /** What a commit changed in one file. */
  diffOf(revision: string, path: string): Promise<{ files: FileDiff[] }> { return this.get('show', { revision, path }) }

  show(revision: string): Promise<{ commit: Commit, files: FileDiff[], next?: string }> { return this.get('show', { revision }) }
  log(wanted: { revision?: string, path?: string, limit?: number, after?: string } = {}): Promise<{ commits: Commit[], next?: string }> {
    return this.get('log', wanted)
  }

  /** A file as it was committed; `null`: the commit has none there. */
  async file(path: string, revision = 'HEAD'): Promise<string | null> {
    try {
      const answer = await this.http.ask('GET', `${this.branchRoute}/git/file`, { query: { path, revision } })
      return await answer.text()
    } catch (problem) {
      if (problem instanceof Problem && problem.status === 404) return null
      throw problem
    }
  }

  async blame(path: string): Promise<Blame[]> {
    return (await this.get<{ ranges: Blame[] }>('blame', { path, uncommitted: 1 })).ranges
  }

  stage(picked: Picked): Promise<void> { return this.send('POST', 'stage', picked) }
  unstage(picked: Picked): Promise<void> { return this.send('POST', 'unstage', picked) }
  /** New files are deleted with `untracked` only. */
  discard(picked: Picked, untracked = false): Promise<void> {
    return this.send('POST', 'discard', untracked ? { ...picked, untracked } : picked)
  }

  async typists(): Promise<Typist[]> { return (await this.get<{ typists: Typist[] }>('typists')).typists }
  /** `without`: sessions that are not to be named as co-authors. */
  commit(message: string, options: { all?: boolean, without?: string[] } = {}): Promise<{ commit: string, co_authors: Typist[] }> {
    return this.post('commit', { message, ...options })
  }

  branches(): Promise<{ current: string | null, commit: string | null, branches: Ref[] }> { return this.get('branches') }
  switchTo(branch: string): Promise<void> { return this.send('POST', 'switch', { branch }) }
  /** A new branch, checked out; it begins at `from`. */
  switchToNew(branch: string, from = 'HEAD'): Promise<void> { return this.send('POST', 'switch', { branch, create: from }) }
  merge(revision: string): Promise<Outcome> { return this.post('merge', { revision }) }
  rebase(onto: string): Promise<Outcome> { return this.post('rebase', { onto }) }
  operation(): Promise<Operation> { return this.get('operation') }
  resolved(paths: string[], anyway = false): Promise<Operation> { return this.post('resolved', { paths, anyway }) }
  goOn(): Promise<Outcome> { return this.post('operation/continue') }
  abort(): Promise<Outcome> { return this.post('operation/abort') }

  async stashes(): Promise<Stash[]> { return (await this.get<{ stashes: Stash[] }>('stash')).stashes }
  stash(message: string, untracked = false): Promise<void> {
    return this.send('POST', 'stash', message === '' ? { untracked } : { message, untracked })
  }

  popStash({ number, commit }: Stash): Promise<Outcome> {
    return this.http.json('POST', `${this.branchRoute}/git/stash/${number}/pop`, { query: { commit } })
  }

  dropStash({ number, commit }: Stash): Promise<void> { return this.send('DELETE', `stash/${number}`, undefined, { commit }) }

  async restorePoints(): Promise<RestorePoint[]> {
    return (await this.get<{ restore_points: RestorePoint[] }>('restore-points')).restore_points
  }

  takeRestorePoint(label: string): Promise<RestorePoint> { return this.post('restore-points', { label }) }
  restore(id: string, head = false): Promise<{ restore_point: string }> { return this.post(`restore-points/${encodeURIComponent(id)}/restore`, { head }) }

  async remotes(): Promise<Remote[]> { return (await this.get<{ remotes: Remote[] }>('remotes')).remotes }
  setRemote(name: string, url: string): Promise<void> { return this.send('PUT', `remotes/${encodeURIComponent(name)}`, { url }) }

  fetch(told: Told = {}): Promise<unknown> { return this.long('fetch', {}, told) }
  pull(how: 'ff_only' | 'merge' | 'rebase', told: Told = {}): Promise<Outcome> { return this.long('pull', { how }, told) }
  push(setUpstream: boolean, told: Told = {}): Promise<unknown> { return this.long('push', { set_upstream: setUpstream }, told) }

  /** A command that talks to a remote: its lines as they come, its end as the answer. */
  private async long<T>(what: string, json: unknown, { onProgress, onRemote, signal }: Told): Promise<T> {
    const request = signal === undefined ? { json } : { json, signal }
    const answer = await this.http.ask('POST', `${this.branchRoute}/git/${what}`, request)
    type Line = { progress?: Progress, remote?: string, done?: T, error?: { status?: number } }
    for await (const line of jsonLines<Line>(answer)) {
      if (line.progress !== undefined) onProgress?.(line.progress)
      else if (line.remote !== undefined) onRemote?.(line.remote)
      else if (line.error !== undefined) throw Problem.of(line.error.status ?? 500, line.error)
      else return line.done as T
    }
    throw new Problem(0, 'no_answer', 'The connection broke before git was through. Look at the log for what it has done.')
  }

  /** Keeps a token for git's remotes: in the session's own `~/.private`, which is memory, and gone with the session. */
  async giveToken(credential: Credential): Promise<void> {
    await this.http.ask('PUT', `${this.branchRoute}/sessions/${encodeURIComponent(this.session())}/git-credentials`, { json: credential })
  }

  /** Keeps, in the same place, what ssh reads: the key without a passphrase, or the lines of the servers that are known. */
  async giveSsh(file: 'id' | 'known_hosts', text: string): Promise<void> {
    const route = `${this.branchRoute}/sessions/${encodeURIComponent(this.session())}/private/ssh/${file}`
    await this.http.ask('PUT', route, { body: `${text.trim()}\n` })
  }
}
