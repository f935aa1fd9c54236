// The branch's event stream: what changed, as it happens. It comes back by itself and goes on where it was.
//
// Read with `fetch` and not with `EventSource`, whose token would have to be in the address, and so in logs.
import { signal, type ReadonlySignal } from '@preact/signals-core'
import { EventSourceParserStream } from 'eventsource-parser/stream'
import type { Http } from './http.js'

/** perch says something at least every 15 s; after this long the connection is dead, whatever the network says. */
const DEAD_AFTER_MS = 45_000
const COME_BACK_MS = [250, 500, 1_000, 2_000, 5_000]
/** Browsers allow six connections to a host: a page that nobody looks at lets its stream go. */
const LET_GO_AFTER_MS = 60_000

/** See `EventJson` in the API's description; kinds that are not known here pass. */
export type BranchEvent =
  | { type: 'file.created', path: string, kind: string, by: string[] }
  | { type: 'file.changed' | 'file.deleted', path: string, by: string[] }
  | { type: 'file.renamed', from: string, path: string, by: string[] }
  | { type: 'document.opened' | 'document.closed', path: string }
  | { type: 'session.joined' | 'session.left' | 'session.changed' | 'session.ended', session: string }
  | { type: 'session.moved', session: string, path: string | null }
  | { type: 'port.opened' | 'port.closed', port: number }
  | { type: 'terminal.opened' | 'terminal.changed' | 'terminal.closed', terminal: string }
  | { type: 'git.changed' }
  /** What happened in between is not known: list anew. Also said here for each new stream that can't go on. */
  | { type: 'reset' }

export class Events {
  private readonly isOnNow = signal(false)
  private readonly listeners = new Set<(event: BranchEvent) => void>()
  private lastId: string | null = null
  private tries = 0
  private stop: AbortController | null = null
  private timer: ReturnType<typeof setTimeout> | undefined
  private hiddenTimer: ReturnType<typeof setTimeout> | undefined
  private isGone = false

  constructor(private readonly http: Http, private readonly route: string) {
    document.addEventListener('visibilitychange', this.onVisibility)
  }

  /** Whether events arrive. */
  get isOn(): ReadonlySignal<boolean> { return this.isOnNow }

  /** Calls `listener` for each event; what is returned ends that. The first listener opens the stream. */
  on(listener: (event: BranchEvent) => void): () => void {
    this.listeners.add(listener)
    this.wake()
    return () => this.listeners.delete(listener)
  }

  private readonly onVisibility = (): void => {
    clearTimeout(this.hiddenTimer)
    if (document.visibilityState === 'hidden') {
      this.hiddenTimer = setTimeout(() => this.stop?.abort(), LET_GO_AFTER_MS)
    } else {
      this.wake()
    }
  }

  /** Tries again now, where it is waiting to. */
  wake(): void {
    if (this.stop === null && this.listeners.size > 0) void this.run()
  }

  private tell(event: BranchEvent): void {
    for (const listener of [...this.listeners]) listener(event)
  }

  private async run(): Promise<void> {
    clearTimeout(this.timer)
    if (this.isGone || this.stop !== null) return
    const stop = new AbortController()
    this.stop = stop
    try {
      const headers: Record<string, string> = this.lastId === null ? {} : { 'last-event-id': this.lastId }
      const answer = await this.http.ask('GET', this.route, { headers, signal: stop.signal })
      if (answer.body !== null) await this.read(answer.body, stop)
    } catch {
      // Away, let go, or the session has ended: said by `isOn`.
    }
    this.stop = null
    this.isOnNow.value = false
    if (this.isGone || (document.visibilityState === 'hidden' && stop.signal.aborted)) return
    this.timer = setTimeout(() => void this.run(), COME_BACK_MS[Math.min(this.tries++, COME_BACK_MS.length - 1)])
  }

  private async read(body: ReadableStream<Uint8Array<ArrayBuffer>>, stop: AbortController): Promise<void> {
    let alive: ReturnType<typeof setTimeout> | undefined
    const isAlive = (): void => {
      clearTimeout(alive)
      alive = setTimeout(() => stop.abort(), DEAD_AFTER_MS)
    }
    const pulse = new TransformStream<string, string>({
      transform(chunk, to) {
        isAlive()
        to.enqueue(chunk)
      }
    })
    isAlive()
    this.tries = 0
    const isFirst = this.lastId === null
    this.isOnNow.value = true
    // Nothing is known of what happened before the first stream; later ones go on, or perch says `reset`.
    if (isFirst) this.tell({ type: 'reset' })
    // The first id comes without an event.
    const onId = (id: string): void => { this.lastId ??= id }
    const events = body.pipeThrough(new TextDecoderStream()).pipeThrough(pulse)
      .pipeThrough(new EventSourceParserStream({ onId })).getReader()
    try {
      for (;;) {
        const { done, value } = await events.read()
        if (done) return
        if (value.id !== undefined) this.lastId = value.id
        if (value.data !== '') this.tell(JSON.parse(value.data) as BranchEvent)
      }
    } finally {
      clearTimeout(alive)
    }
  }

  destroy(): void {
    this.isGone = true
    clearTimeout(this.timer)
    clearTimeout(this.hiddenTimer)
    document.removeEventListener('visibilitychange', this.onVisibility)
    this.stop?.abort()
    this.listeners.clear()
  }
}
