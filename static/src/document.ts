// One open file: its Yjs document on the branch's socket, and what the page knows of it.
import { HocuspocusProvider, type HocuspocusProviderWebsocket } from '@hocuspocus/provider'
import { signal, type ReadonlySignal } from '@preact/signals'
import * as Y from 'yjs'
import type { Ledger } from './ledger'
import type { Seat } from './seat'

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

interface Presence {
  user?: { session?: unknown, name?: unknown, color?: unknown }
}

/** Until perch has given one. */
export const NO_COLOR = '#64748b'

/** What perch says when a token is good no more; the page then takes a new seat. */
const TOKEN_REFUSED = 'the token is not valid'

export class OpenDocument {
  readonly doc = new Y.Doc()
  readonly text = this.doc.getText('content')
  readonly undo = new Y.UndoManager(this.text, { trackedOrigins: new Set() })
  readonly provider: HocuspocusProvider

  private readonly standingNow = signal<Standing>('opening')
  private readonly reasonNow = signal('')
  private readonly peopleNow = signal<Person[]>([])
  /** Whether the text is here, from the first sync on. */
  readonly isHere = signal(false)
  readonly canWrite = signal(false)
  /** Whether the last edits were refused because the session can only read. */
  readonly wasRefused = signal(false)
  /** Edits of this page that are not known to be durable. */
  private isDirty = false
  private renewals = 0

  constructor(
    readonly path: string,
    websocketProvider: HocuspocusProviderWebsocket,
    private readonly ledger: Ledger,
    private readonly isOnline: ReadonlySignal<boolean>,
    private readonly seat: () => Seat,
    private readonly renew: () => Promise<boolean>
  ) {
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
    this.doc.on('update', (_update: Uint8Array, _origin: unknown, _doc: Y.Doc, transaction: Y.Transaction) => {
      if (transaction.local) this.isDirty = true
      this.weigh()
    })
    this.provider.attach()
  }

  get standing(): ReadonlySignal<Standing> { return this.standingNow }
  get reason(): ReadonlySignal<string> { return this.reasonNow }
  get people(): ReadonlySignal<Person[]> { return this.peopleNow }

  /** Whether closing the page now would lose something. */
  get isUnsaved(): boolean { return this.isDirty && this.standingNow.value !== 'reading' }

  /** Says who is here. perch puts its own name and colour of the session there before others see it. */
  introduce(): void {
    const { name, id } = this.seat()
    if (this.standingNow.value !== 'ended') {
      this.provider.setAwarenessField('user', { name, color: NO_COLOR, session: id })
    }
  }

  /** Works out the standing from the socket, the provider and the ledger. */
  weigh(): void {
    if (this.standingNow.value === 'ended') return
    const isSettled = this.isOnline.value && this.ledger.isSettled(this.path)
    if (isSettled) this.isDirty = false
    this.wasRefused.value = this.ledger.hasRefused(this.path)
    this.standingNow.value =
      !this.isHere.value ? 'opening'
        : !this.isOnline.value ? 'offline'
          : this.provider.isAuthenticated && !this.canWrite.value ? 'reading'
            : this.isDirty ? 'saving'
              : 'saved'
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
    this.standingNow.value = 'ended'
    this.reasonNow.value = reason
    this.canWrite.value = false
    this.peopleNow.value = []
    this.provider.destroy()
  }

  destroy(): void {
    this.end('')
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
