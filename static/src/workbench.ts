// One branch at work: its socket, open files and folders.
import { HocuspocusProviderWebsocket } from '@hocuspocus/provider'
import { computed, effect, signal, untracked } from '@preact/signals'
import { folder, fileBytes, Problem, type Branch, type Entry } from './api'
import { OpenDocument } from './document'
import { Ledger } from './ledger'
import { makeSeat, type Seat } from './seat'
import { Shells } from './shells'
import { store, stored } from './stored'

/** Files open at once; each is a document and an editor. */
export const MAX_TABS = 50
const SESSION_ENDED = 4403
/** How often the folders on screen are looked at again. */
const LOOK_EVERY_MS = 10_000

export type Folder = { state: 'loading' } | { state: 'here', entries: Entry[] } | { state: 'failed', why: string }

export class Workbench {
  readonly isOnline = signal(false)
  /** Why the socket is closed for good, if it is. */
  readonly ended = signal<string | null>(null)
  readonly folders = signal<ReadonlyMap<string, Folder>>(new Map())
  readonly expanded = signal<ReadonlySet<string>>(new Set(['']))
  readonly tabs = signal<readonly OpenDocument[]>([])
  readonly active = signal<string | null>(null)
  readonly notice = signal<string | null>(null)
  readonly document = computed(() => this.tabs.value.find(({ path }) => path === this.active.value) ?? null)

  private readonly ledger = new Ledger((name) => this.tabs.peek().find(({ path }) => path === name)?.weigh())
  private readonly socket: HocuspocusProviderWebsocket
  /** The branch's terminals and ports. */
  readonly shells: Shells
  private readonly endings: Array<() => void> = []
  private renewal: Promise<boolean> | null = null

  constructor(readonly branch: Branch, private seatNow: Seat) {
    // The page's own origin, not the answer's: behind a proxy both are the same, and the page's policy allows no other.
    const url = new URL(new URL(seatNow.collab_url).pathname, location.href)
    url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:'
    this.socket = new HocuspocusProviderWebsocket({
      url: url.href, WebSocketPolyfill: this.ledger.socket(), autoConnect: false,
      delay: 500, minDelay: 250, factor: 1.5, maxDelay: 5_000
    })
    this.socket.on('status', ({ status }: { status: string }) => {
      this.isOnline.value = status === 'connected'
      // perch closes a socket that names no document within 10 s: without one there is none.
      if (status === 'disconnected' && this.tabs.value.length === 0) this.socket.disconnect()
    })
    this.socket.on('close', ({ event }: { event: CloseEvent }) => {
      if (event.code !== SESSION_ENDED || this.tabs.value.length === 0) return
      this.ended.value = event.reason
      this.socket.disconnect()
    })
    this.shells = new Shells(branch.id, (question) => this.ask(question))
    this.endings.push(() => this.shells.destroy())
    const comeBack = (): void => this.connect()
    const warn = (event: BeforeUnloadEvent): void => {
      if (this.isUnsaved) event.preventDefault()
    }
    const look = (): void => void this.refresh()
    addEventListener('online', comeBack)
    addEventListener('beforeunload', warn)
    addEventListener('focus', look)
    // Files that others make; to be told of them instead is for the event stream.
    const timer = setInterval(() => { if (document.visibilityState === 'visible') look() }, LOOK_EVERY_MS)
    this.endings.push(
      () => clearInterval(timer),
      () => removeEventListener('online', comeBack),
      () => removeEventListener('beforeunload', warn),
      () => removeEventListener('focus', look),
      effect(() => {
        void this.isOnline.value
        const tabs = this.tabs.value
        untracked(() => tabs.forEach((tab) => tab.weigh()))
      }),
      this.rememberTabs()
    )
    void this.load('')
  }

  /** Benches that were left while edits had not reached perch; they go on trying. */
  private static readonly left = new Map<string, Workbench>()

  /** Finds a bench again that was left with unsaved edits. */
  static back(branch: string): Workbench | null {
    const bench = Workbench.left.get(branch) ?? null
    Workbench.left.delete(branch)
    return bench
  }

  private get isUnsaved(): boolean { return this.tabs.value.some((tab) => tab.isUnsaved) }

  /** Ends the bench, as soon as nothing would be lost by it. */
  leave(): void {
    const isUnderWay = this.tabs.value.some((tab) => tab.isUnsaved && tab.standing.value !== 'ended')
    if (!isUnderWay || this.ended.value !== null) return this.destroy()
    Workbench.left.set(this.branch.id, this)
    const stop = effect(() => {
      const isSettled = this.tabs.value.every((tab) => tab.standing.value !== 'saving' && tab.standing.value !== 'offline')
      if (Workbench.left.get(this.branch.id) !== this || !isSettled) return
      Workbench.left.delete(this.branch.id)
      queueMicrotask(() => {
        stop()
        this.destroy()
      })
    })
  }

  /** Gives the session another name; perch tells the others. */
  async rename(name: string): Promise<void> {
    this.seatNow = await makeSeat(this.branch.id, name)
    for (const tab of this.tabs.value) tab.introduce()
  }

  get seat(): Seat { return this.seatNow }

  /** Opens the files that were open before the page was loaded anew, and keeps note from then on. */
  private rememberTabs(): () => void {
    const key = `perch.tabs.${this.branch.id}`
    const paths = stored<unknown>(sessionStorage, key)
    for (const path of Array.isArray(paths) ? paths : []) {
      if (typeof path === 'string') this.open(path)
    }
    return effect(() => store(sessionStorage, key, JSON.stringify(this.tabs.value.map(({ path }) => path))))
  }

  private connect(): void {
    const isWanted = this.tabs.value.length > 0 && this.ended.value === null
    if (isWanted && this.socket.status === 'disconnected') void this.socket.connect()
  }

  /** Goes on after the session was ended, with all that was typed meanwhile. */
  async rejoin(): Promise<void> {
    try {
      this.seatNow = await makeSeat(this.branch.id, this.seatNow.name)
      this.ended.value = null
      this.connect()
    } catch (problem) {
      this.notice.value = problem instanceof Error ? problem.message : String(problem)
    }
  }

  open(path: string): void {
    if (!this.tabs.value.some((tab) => tab.path === path)) {
      if (this.tabs.value.length >= MAX_TABS) {
        this.notice.value = `At most ${MAX_TABS} files can be open at once. Close one first.`
        return
      }
      this.tabs.value = [...this.tabs.value, this.opened(path)]
      this.connect()
    }
    this.active.value = path
  }

  /** Opens a file that has ended once more, from what perch has now. */
  reopen(path: string): void {
    const old = this.tabs.value.find((tab) => tab.path === path)
    if (old === undefined) return
    this.tabs.value = this.tabs.value.map((tab) => tab === old ? this.opened(path) : tab)
    old.destroy()
  }

  private opened(path: string): OpenDocument {
    return new OpenDocument(path, this.socket, this.ledger, this.isOnline, () => this.seatNow, () => this.renew())
  }

  close(path: string): void {
    const at = this.tabs.value.findIndex((tab) => tab.path === path)
    const tab = this.tabs.value[at]
    if (tab === undefined) return
    const rest = this.tabs.value.filter((other) => other !== tab)
    if (this.active.value === path) this.active.value = (rest[at] ?? rest[at - 1])?.path ?? null
    this.tabs.value = rest
    tab.destroy()
  }

  /** Takes a new seat when the token has run out; for all files at once. */
  private renew(): Promise<boolean> {
    this.renewal ??= (async () => {
      try {
        this.seatNow = await makeSeat(this.branch.id, this.seatNow.name)
        return true
      } catch {
        return false
      } finally {
        this.renewal = null
      }
    })()
    return this.renewal
  }

  /** Asks perch with the seat's token, once more with a new seat if that has run out. */
  private async ask<T>(question: (token: string) => Promise<T>): Promise<T> {
    try {
      return await question(this.seatNow.token)
    } catch (problem) {
      const hasRunOut = problem instanceof Problem && problem.status === 401 && this.ended.value === null
      if (hasRunOut && await this.renew()) return question(this.seatNow.token)
      throw problem
    }
  }

  private list(path: string): Promise<Entry[]> {
    return this.ask((token) => folder(token, this.branch.id, path))
  }

  /** A file's bytes as they are on disk. */
  bytes(path: string): Promise<Blob> {
    return this.ask((token) => fileBytes(token, this.branch.id, path))
  }

  private set(path: string, to: Folder): void {
    this.folders.value = new Map(this.folders.value).set(path, to)
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
      this.set(path, { state: 'failed', why: problem instanceof Error ? problem.message : String(problem) })
    }
  }

  private forget(path: string): void {
    const folders = new Map(this.folders.value)
    folders.delete(path)
    this.folders.value = folders
    this.expanded.value = new Set([...this.expanded.value].filter((other) => other !== path))
  }

  /** Loads all folders that are shown again. */
  async refresh(): Promise<void> {
    if (this.ended.value !== null) return
    await Promise.all([...this.expanded.value].map((path) => this.load(path)))
  }

  toggle(path: string, open = !this.expanded.value.has(path)): void {
    const expanded = new Set(this.expanded.value)
    if (open) expanded.add(path)
    else expanded.delete(path)
    this.expanded.value = expanded
    if (open) void this.load(path)
  }

  /** Follows a link: a folder is shown, all else is opened as a file. */
  async follow(path: string): Promise<void> {
    try {
      await this.list(path)
      this.toggle(path)
    } catch {
      this.open(path)
    }
  }

  /** Shows a new file in the tree as soon as it is on disk. */
  async reveal(path: string): Promise<void> {
    try {
      await this.bytes(path)
      const parts = path.split('/').slice(0, -1)
      const parents = parts.map((_, n) => parts.slice(0, n + 1).join('/'))
      this.expanded.value = new Set([...this.expanded.value, ...parents])
      await this.refresh()
    } catch {
      // It is in its tab; the tree shows it at the next look.
    }
  }

  knows(path: string): boolean {
    return [...this.folders.value.values()].some((one) =>
      one.state === 'here' && one.entries.some((entry) => entry.path === path))
  }

  destroy(): void {
    for (const end of this.endings) end()
    for (const tab of this.tabs.value) tab.destroy()
    this.socket.destroy()
  }
}
