// All open documents of a session, on one Hocuspocus socket.
import { HocuspocusProviderWebsocket } from '@hocuspocus/provider'
import { effect, signal, untracked } from '@preact/signals-core'
import { OpenDocument } from './document.js'
import type { Shelf } from './keeper.js'
import { Ledger } from './ledger.js'
import type { Seat } from './types.js'

const SESSION_ENDED = 4403

export class Documents {
  readonly isOnline = signal(false)
  /** Why perch has ended the session, if it has. */
  readonly ended = signal<string | null>(null)
  readonly open = signal<readonly OpenDocument[]>([])

  private readonly ledger = new Ledger((name) => this.find(name)?.weigh())
  private readonly socket: HocuspocusProviderWebsocket
  private readonly endings: Array<() => void> = []

  constructor(
    url: URL,
    private readonly seat: () => Seat,
    private readonly renew: () => Promise<boolean>,
    private readonly flush: (path: string) => Promise<void>,
    private readonly shelf: Shelf | null = null
  ) {
    this.socket = new HocuspocusProviderWebsocket({
      url: url.href, WebSocketPolyfill: this.ledger.socket(), autoConnect: false,
      delay: 500, minDelay: 250, factor: 1.5, maxDelay: 5_000
    })
    this.socket.on('status', ({ status }: { status: string }) => {
      this.isOnline.value = status === 'connected'
      // perch closes a socket that names no document within 10 s: without one there is none.
      if (status === 'disconnected' && this.open.value.length === 0) this.socket.disconnect()
    })
    this.socket.on('close', ({ event }: { event: CloseEvent }) => {
      if (event.code !== SESSION_ENDED || this.open.value.length === 0) return
      this.ended.value = event.reason
      this.socket.disconnect()
    })
    const comeBack = (): void => this.connect()
    // The last moment in which a page is sure to be asked.
    const keep = (): void => this.open.peek().forEach((one) => one.keep())
    addEventListener('online', comeBack)
    addEventListener('pagehide', keep)
    this.endings.push(
      () => removeEventListener('pagehide', keep),
      () => removeEventListener('online', comeBack),
      effect(() => {
        void this.isOnline.value
        const open = this.open.value
        untracked(() => open.forEach((one) => one.weigh()))
      })
    )
  }

  find(path: string): OpenDocument | null {
    return this.open.peek().find((one) => one.path === path) ?? null
  }

  /** Whether something was typed that is not known to be durable. */
  get isUnsaved(): boolean { return this.open.value.some((one) => one.isUnsaved) }

  /**
   * The document of a file, opened anew: it is shared live from then on. A file that is not there appears when something is
   * typed. Whoever takes it gives it back. `before`: it goes on with what that one has, which ends.
   */
  take(path: string, before: OpenDocument | null = null): OpenDocument {
    const made = new OpenDocument(path, this.socket, this.ledger, this.isOnline, this.seat, this.renew, this.flush, this.shelf,
      () => this.ended.peek() === null, before)
    this.open.value = [...this.open.value.filter((one) => one !== before), made]
    this.connect()
    return made
  }

  give(old: OpenDocument): void {
    this.open.value = this.open.value.filter((one) => one !== old)
    old.destroy()
  }

  connect(): void {
    const isWanted = this.open.value.length > 0 && this.ended.value === null
    if (isWanted && this.socket.status === 'disconnected') void this.socket.connect()
  }

  /** Says the session's name anew, after it was given another. */
  introduce(): void {
    for (const one of this.open.value) one.introduce()
  }

  destroy(): void {
    for (const end of this.endings) end()
    for (const one of this.open.value) one.destroy()
    this.socket.destroy()
  }
}
