// One open file: its Yjs document on the branch's socket, and what is known of it here.
import { HocuspocusProvider, type HocuspocusProviderWebsocket } from '@hocuspocus/provider'
import { signal, type ReadonlySignal } from '@preact/signals-core'
import * as Y from 'yjs'
import { Problem } from './http.js'
import { KEPT, Keeper, type Shelf } from './keeper.js'
import type { Ledger } from './ledger.js'
import type { Seat } from './types.js'

/**
 * `opening`: nothing of it is here yet. `offline`: goes on typing, sent later. `saving`: not all acknowledged.
 * `saved`: all durable. `reading`: this session can only read. `ended`: perch has left it, `reason` says why.
 */
export type Standing = 'opening' | 'offline' | 'saving' | 'saved' | 'reading' | 'ended'

export interface Person {
  session: string
  name: string
  color: string
  isSelf: boolean
}

/** Awareness of somebody in the document. */
export interface Presence {
  user?: { session?: unknown, name?: unknown, color?: unknown }
}

/** Until perch has given one. */
export const NO_COLOR = '#64748b'

/** What perch says when a token is good no more; then a fresh one is asked for. */
const TOKEN_REFUSED = 'the token is not valid'

/**
 * Whether the file on disk has all that this page shows: shells, compilers and git see it then. `failed`: perch could
 * not write it, `diskProblem` says why; it goes on trying.
 */
export type OnDisk = 'no' | 'yes' | 'failed'

/** How long nothing must change before perch is asked whether it is on disk; about when it has written by itself. */
const DISK_AFTER_MS = 400
const DISK_AGAIN_MS = 3_000

export class OpenDocument {
  readonly doc: Y.Doc
  readonly text: Y.Text
  readonly undo: Y.UndoManager
  readonly provider: HocuspocusProvider

  private readonly standingNow = signal<Standing>('opening')
  private readonly reasonNow = signal('')
  private readonly peopleNow = signal<Person[]>([])
  /** Whether the text is here, from the first sync on. */
  readonly isHere = signal(false)
  readonly canWrite = signal(false)
  /** Whether the last edits were refused because the session can only read. */
  readonly wasRefused = signal(false)
  readonly onDisk = signal<OnDisk>('no')
  readonly diskProblem = signal('')
  /** What a former page had typed in another history of the file and not sent; and what forgets that. */
  readonly leftover = signal<{ text: string, forget: () => void } | null>(null)
  /** Whether what a former page had not sent came back here. */
  readonly wasBroughtBack = signal(false)
  private readonly keeper: Keeper
  /** Edits of this page that are not known to be durable. */
  private isDirty = false
  private renewals = 0
  /** Counts what changed, so that an answer about less is not taken for one about all. */
  private changes = 0
  private diskTimer: ReturnType<typeof setTimeout> | undefined
  /** Another has taken the text over. */
  private isHanded = false

  constructor(
    readonly path: string,
    websocketProvider: HocuspocusProviderWebsocket,
    private readonly ledger: Ledger,
    private readonly isOnline: ReadonlySignal<boolean>,
    private readonly seat: () => Seat,
    private readonly renew: () => Promise<boolean>,
    /** Answers once all that perch had acknowledged is on disk. */
    private readonly flush: (path: string) => Promise<void>,
    /** Where edits that are not acknowledged outlive the page. */
    shelf: Shelf | null,
    /** Whether the session is good. */
    isGood: () => boolean,
    /** The same file under the path that it had before: its text, with what is unsent, and its undo go on here. */
    before: OpenDocument | null = null
  ) {
    this.doc = before?.doc ?? new Y.Doc()
    this.text = this.doc.getText('content')
    this.undo = before?.undo ?? new Y.UndoManager(this.text, { trackedOrigins: new Set() })
    this.keeper = before?.keeper ?? new Keeper(shelf, this.doc, path, isGood)
    this.keeper.path = path
    if (before !== null) {
      this.isDirty = before.isDirty
      this.isHere.value = before.isHere.value
      this.canWrite.value = before.canWrite.value
      before.isHanded = true
      before.destroy()
    }
    this.provider = new HocuspocusProvider({
      websocketProvider, name: path, document: this.doc, token: () => this.seat().token
    })
    this.introduce()
    this.provider.on('synced', () => {
      this.isHere.value = true
      this.weigh()
    })
    this.provider.on('authenticated', ({ scope }: { scope: string }) => {
      this.renewals = 0
      this.canWrite.value = scope !== 'readonly'
      if (!this.canWrite.value) this.undo.clear()
      this.weigh()
    })
    this.provider.on('authenticationFailed', ({ reason }: { reason: string }) => void this.onRefused(reason))
    // Presence is heard of anew by others after a dropped socket only if it is said anew.
    this.provider.on('connect', () => this.introduce())
    this.provider.on('awarenessChange', () => this.look())
    this.doc.on('update', this.onUpdate)
    this.provider.attach()
  }

  private readonly onUpdate = (update: Uint8Array, origin: unknown, _doc: Y.Doc, transaction: Y.Transaction): void => {
    if (transaction.local || origin === KEPT) {
      this.isDirty = true
      this.keeper.note(update, this.isOnline.peek())
    }
    if (origin === KEPT) this.wasBroughtBack.value = true
    this.changes += 1
    this.onDisk.value = 'no'
    clearTimeout(this.diskTimer)
    this.weigh()
  }

  get standing(): ReadonlySignal<Standing> { return this.standingNow }
  get reason(): ReadonlySignal<string> { return this.reasonNow }
  get people(): ReadonlySignal<Person[]> { return this.peopleNow }

  /** Whether closing the page now would lose something. */
  get isUnsaved(): boolean { return this.isDirty && this.standingNow.value !== 'reading' }

  /** Whether what is not acknowledged can outlive the page. */
  get isKeeping(): ReadonlySignal<boolean> { return this.keeper.isAble }
  /** Whether there is such, and all of it does. */
  get isKept(): ReadonlySignal<boolean> { return this.keeper.isKept }

  /** Puts what is not acknowledged where it outlives the page, at once. */
  keep(): void { if (this.isUnsaved) this.keeper.keep() }

  /** Goes on with what former pages had not sent. */
  private bringBack(): void {
    this.keeper.bringBack().then((other) => {
      if (other !== null) this.leftover.value = other
      this.weigh()
    }, (error: unknown) => console.warn(`perch: what was kept of ${this.path} can't be read:`, error))
  }

  /** Says who is here. perch puts its own name and colour of the session there before others see it. */
  introduce(): void {
    const { name = 'someone', id } = this.seat()
    if (this.standingNow.value !== 'ended') {
      this.provider.setAwarenessField('user', { name, color: NO_COLOR, session: id })
    }
  }

  /** Works out the standing from the socket, the provider and the ledger. */
  weigh(): void {
    if (this.standingNow.value === 'ended') return
    const isSettled = this.isOnline.value && this.ledger.isSettled(this.path)
    if (isSettled) {
      this.isDirty = false
      this.keeper.settled()
    }
    this.wasRefused.value = this.ledger.hasRefused(this.path)
    this.standingNow.value =
      !this.isHere.value ? 'opening'
        : !this.isOnline.value ? 'offline'
          : this.provider.isAuthenticated && !this.canWrite.value ? 'reading'
            : this.isDirty ? 'saving'
              : 'saved'
    if (this.isHere.peek() && this.isOnline.peek() && this.canWrite.peek() && !this.keeper.hasLooked) this.bringBack()
    const isAcknowledged = this.standingNow.value === 'saved' || this.standingNow.value === 'reading'
    clearTimeout(this.diskTimer)
    // An empty file that nobody has typed in may not be there at all.
    if (isAcknowledged && this.onDisk.value !== 'yes' && this.text.length > 0) this.askDisk(DISK_AFTER_MS)
  }

  /** Asks perch whether the file has what is shown, once nothing has changed for a while. */
  private askDisk(after: number): void {
    clearTimeout(this.diskTimer)
    this.diskTimer = setTimeout(async () => {
      const asked = this.changes
      try {
        await this.flush(this.path)
        if (asked === this.changes && this.standingNow.value !== 'ended') this.onDisk.value = 'yes'
      } catch (problem) {
        if (asked !== this.changes || this.standingNow.value === 'ended') return
        // No answer: the socket will say so, and it is asked again when it is back.
        const isAway = problem instanceof Problem && (problem.status === 0 || problem.status === 401)
        if (!isAway) {
          this.onDisk.value = 'failed'
          this.diskProblem.value = problem instanceof Error ? problem.message : String(problem)
        }
        this.askDisk(DISK_AGAIN_MS)
      }
    }, after)
  }

  private async onRefused(reason: string): Promise<void> {
    // Once per refusal: a fresh token that is refused as well is no matter of time.
    if (reason === TOKEN_REFUSED && this.renewals < 1) {
      this.renewals += 1
      if (await this.renew()) {
        if (this.standingNow.value !== 'ended') void this.provider.onOpen(new Event('open'))
        return
      }
    }
    this.end(reason)
  }

  /** Leaves the document for good; the text stays as it was. */
  end(reason: string): void {
    if (this.standingNow.value === 'ended') return
    // What a page leaves while it is connected is on its way, and mostly there.
    if (reason !== '' || !this.isOnline.peek()) this.keep()
    this.standingNow.value = 'ended'
    this.reasonNow.value = reason
    this.canWrite.value = false
    this.peopleNow.value = []
    this.onDisk.value = 'no'
    clearTimeout(this.diskTimer)
    this.provider.destroy()
  }

  destroy(): void {
    this.end('')
    this.doc.off('update', this.onUpdate)
    if (this.isHanded) return
    this.keeper.destroy()
    this.undo.destroy()
    this.doc.destroy()
  }

  private look(): void {
    const people = new Map<string, Person>()
    const own = this.seat().id
    for (const [client, state] of this.provider.awareness?.getStates() ?? []) {
      const { user } = state as Presence
      const isSelf = client === this.doc.clientID || user?.session === own
      const session = typeof user?.session === 'string' ? user.session : String(client)
      const name = typeof user?.name === 'string' ? user.name : 'someone'
      const color = typeof user?.color === 'string' ? user.color : NO_COLOR
      // Two tabs of one person are one person.
      if (!people.has(session)) people.set(session, { session, name, color, isSelf })
    }
    this.peopleNow.value = [...people.values()].sort((a, b) => Number(b.isSelf) - Number(a.isSelf) || a.name.localeCompare(b.name))
  }
}
