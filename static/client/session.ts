// One session's seat on a branch, and all that can be done from it.
import { signal, type ReadonlySignal } from '@preact/signals-core'
import { Documents } from './documents.js'
import { Events } from './events.js'
import { Files } from './files.js'
import { Git } from './git.js'
import { Http, Problem } from './http.js'
import type { Shelf } from './keeper.js'
import { Terminals } from './terminals.js'
import type { Branch, Member, Present, Seat } from './types.js'

export interface SessionOptions {
  /** Where perch is. */
  url: string | URL
  /** Gives a new seat when the token is refused; without it the session goes on until its token ends for good. */
  renew?: () => Promise<Seat>
  /** Where edits that perch has not acknowledged outlive the page; without it they end with it. */
  shelf?: Shelf
}

/** Longest wait that browsers count right. */
const LONGEST_MS = 2 ** 31 - 1

export class Session {
  readonly http: Http
  readonly documents: Documents
  readonly files: Files
  readonly terminals: Terminals
  readonly git: Git
  readonly events: Events
  private readonly seatNow: ReturnType<typeof signal<Seat>>
  private readonly route: string
  private renewal: Promise<boolean> | null = null
  private timer: ReturnType<typeof setTimeout> | undefined

  constructor(seat: Seat, private readonly options: SessionOptions) {
    this.seatNow = signal(seat)
    this.route = `branches/${encodeURIComponent(seat.branch)}`
    const token = (): string => this.seatNow.peek()!.token
    const renew = (): Promise<boolean> => this.renew()
    this.http = new Http(new URL(options.url), { token, renew })
    const socket = this.http.url(`${this.route}/collab`)
    socket.protocol = socket.protocol === 'https:' ? 'wss:' : 'ws:'
    this.files = new Files(this.http, this.route)
    this.documents = new Documents(socket, () => this.seatNow.peek()!, renew, (path) => this.files.flush(path), options.shelf)
    this.terminals = new Terminals(this.http, this.route, token)
    this.git = new Git(this.http, this.route, () => this.seatNow.peek()!.id)
    this.events = new Events(this.http, `${this.route}/events`)
    this.keepFresh()
  }

  /** The seat with its present token; changes when a fresh one is taken. */
  get seat(): ReadonlySignal<Seat> { return this.seatNow as ReadonlySignal<Seat> }

  /** Goes on with another seat of the same branch. */
  take(seat: Seat): void {
    this.seatNow.value = seat
    this.documents.ended.value = null
    this.documents.connect()
    this.events.wake()
    this.keepFresh()
  }

  /** Takes a new seat when the token was refused; one question for all who ask meanwhile. */
  renew(): Promise<boolean> {
    const { renew } = this.options
    if (renew === undefined || this.documents.ended.value !== null) return Promise.resolve(false)
    this.renewal ??= (async () => {
      try {
        this.take(await renew())
        return true
      } catch {
        return false
      } finally {
        this.renewal = null
      }
    })()
    return this.renewal
  }

  /** Asks for a fresh token with the present one, well before that ends. */
  private keepFresh(): void {
    clearTimeout(this.timer)
    const left = Date.parse(this.seatNow.peek()!.expires_at) - Date.now()
    this.timer = setTimeout(() => void this.refresh(), Math.min(Math.max(left * 0.75, 1_000), LONGEST_MS))
  }

  private async refresh(): Promise<void> {
    const { id, name } = this.seatNow.peek()!
    try {
      const fresh = await this.http.json<Seat>('POST', `${this.route}/sessions/${encodeURIComponent(id)}/token`)
      this.seatNow.value = name === undefined ? fresh : { ...fresh, name }
      this.keepFresh()
    } catch (problem) {
      // Away: once more soon. Refused: it ends by itself.
      if (problem instanceof Problem && problem.status === 0) this.keepFresh()
    }
  }

  branch(): Promise<Branch> { return this.http.json('GET', this.route) }

  /** Who is connected now, with which right, since when; who came first comes first. */
  async people(): Promise<Present[]> {
    return (await this.http.json<{ people: Present[] }>('GET', `${this.route}/people`)).people
  }

  /** Says which file this session looks at; others hear `session.moved`. */
  async lookAt(path: string | null): Promise<void> {
    await this.http.ask('PUT', `${this.route}/people/looking`, { json: { path } })
  }

  /** The session itself, as perch has it; `seat` then has its right. */
  async self(): Promise<Member> {
    const self: Member = await this.http.json('GET', this.selfRoute)
    const seat = this.seatNow.peek()!
    const { permission, may_fork } = self
    if (seat.permission !== permission || seat.may_fork !== may_fork) this.seatNow.value = { ...seat, permission, may_fork }
    return self
  }

  /** Gives a name or email address to a session that has none; what is there already, an API token changes. */
  introduce(self: { name?: string, email?: string }): Promise<Member> {
    return this.http.json('PATCH', this.selfRoute, { json: self })
  }

  private get selfRoute(): string { return `${this.route}/sessions/${encodeURIComponent(this.seatNow.peek()!.id)}` }

  /** Makes a copy of the branch, with a seat on it that may write; once, and only where `may_fork` of the seat says so. */
  async fork(): Promise<{ branch: Branch, seat: Seat }> {
    const { seat, ...branch } = await this.http.json<Branch & { seat: Seat }>('POST', `${this.route}/fork`)
    this.seatNow.value = { ...this.seatNow.peek()!, may_fork: false }
    return { branch, seat }
  }

  destroy(): void {
    clearTimeout(this.timer)
    this.events.destroy()
    this.documents.destroy()
  }
}
