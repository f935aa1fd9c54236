// The page in a frame of another one (`/embed`), which hands it a session by `postMessage`: so no token is in an address, a
// log or a history. It then remembers nothing. `client/embed.ts` is the other side.
import { signal } from '@preact/signals'
import type { Seat } from '../client/types'

export const isEmbedded = /\/embed$/.test(location.pathname)

/** A page around that does not answer in this time has no session to give. */
const ANSWER_WITHIN_MS = 30_000

export interface Handed { seat: Seat, path: string | null, name: string }

/** What the page around has handed over last. */
export const handed = signal<Handed | null>(null)
/** Why it has none. */
export const refusal = signal<string | null>(window.parent === window ? 'This page is made to be shown in a frame of another page, which hands it a session.' : null)

let waiting: Array<{ resolve: (seat: Seat) => void, reject: (why: Error) => void }> = []

function settle(act: (one: typeof waiting[number]) => void): void {
  const all = waiting
  waiting = []
  all.forEach(act)
}

function hear({ source, data }: MessageEvent): void {
  // Who may frame this page, perch's policy says; nobody else is listened to.
  if (source !== window.parent || typeof data !== 'object' || data === null) return
  const word = data as { type?: unknown, seat?: Seat, path?: unknown, why?: unknown }
  if (word.type === 'perch.session' && typeof word.seat?.token === 'string' && typeof word.seat.branch === 'string') {
    const name = typeof word.seat.name === 'string' ? word.seat.name : 'someone'
    handed.value = { seat: word.seat, path: typeof word.path === 'string' ? word.path : null, name }
    refusal.value = null
    settle(({ resolve }) => resolve(word.seat!))
  } else if (word.type === 'perch.refused') {
    const why = typeof word.why === 'string' ? word.why : 'The page around this one has no session for it.'
    if (handed.value === null) refusal.value = why
    settle(({ reject }) => reject(new Error(why)))
  }
}

export function watchParent(): void {
  if (!isEmbedded || window.parent === window) return
  addEventListener('message', hear)
  // Nothing in it is a secret, and only pages that may frame this one hear it.
  window.parent.postMessage({ type: 'perch.ready' }, '*')
}

/** Asks for a session anew: the token of the last one is refused. */
export function nextSeat(): Promise<Seat> {
  return new Promise((resolve, reject) => {
    waiting.push({ resolve, reject })
    setTimeout(() => reject(new Error('The page around this one did not answer.')), ANSWER_WITHIN_MS)
    window.parent.postMessage({ type: 'perch.renew' }, '*')
  })
}
