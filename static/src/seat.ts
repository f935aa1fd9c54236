// A place on one branch: a session and its token, with which the page reads files and opens documents.
//
// Today the page makes its session itself, with the API token. Whoever opens a branch another way (a share link, a
// host application) calls `keepSeat` with what it was given and goes to `#/b/{branch}`: nothing else asks for an API
// token there.
import { Http, Problem } from '../client/http'
import type { Seat as Given } from '../client/types'
import { apiToken, base, perch } from './access'
import { handed, isEmbedded, nextSeat } from './embedded'
import { store, stored } from './stored'

/** The page's seats have the display name that they were made with. */
export type Seat = Given & { name: string }

const NAME = 'perch.name'
const BROWSER = 'perch.browser'
/** A seat that ends sooner is renewed where that is possible. */
const FRESH_FOR_MS = 60 * 60 * 1_000

const key = (branch: string): string => `perch.seat.${branch}`

/** The name that others see, as last given in this browser. */
export const displayName = (): string | null => isEmbedded ? handed.value?.name ?? null : localStorage.getItem(NAME)
export const keepDisplayName = (name: string): void => store('localStorage', NAME, name)

/** What perch takes as a name; the sentence says what is wrong, null: nothing. */
export function nameFault(name: string): string | null {
  if (name === '') return 'Give a name that the others will see.'
  if (new TextEncoder().encode(name).length > 200) return 'That is too long: at most 200 bytes.'
  return /[<>\p{Cc}]/u.test(name) ? 'A name can’t hold <, > or control characters.' : null
}

/** The same session for all tabs of this browser, so that one person is shown once. */
function sessionId(): string {
  const known = localStorage.getItem(BROWSER)
  if (known !== null) return known
  const id = `web-${Array.from(crypto.getRandomValues(new Uint8Array(10)), (byte) => byte.toString(36)).join('')}`
  store('localStorage', BROWSER, id)
  return id
}

export function keepSeat(seat: Seat): void {
  store('sessionStorage', key(seat.branch), JSON.stringify(seat))
}

export function dropSeat(branch: string): void {
  store('sessionStorage', key(branch), null)
}

export function keptSeat(branch: string): Seat | null {
  if (isEmbedded) {
    const given = handed.peek()
    return given?.seat.branch === branch ? { ...given.seat, name: given.name } : null
  }
  const seat = stored<Seat>('sessionStorage', key(branch))
  return seat !== null && Date.parse(seat.expires_at) > Date.now() ? seat : null
}

/** Takes the seat that was kept, if it is still good for a while; makes one with the API token otherwise. */
export async function takeSeat(branch: string, name: string): Promise<Seat> {
  const kept = keptSeat(branch)
  const token = apiToken.value
  if (kept !== null && token === null && kept.name !== name && !isEmbedded) return named(kept, name)
  const isFresh = kept !== null && Date.parse(kept.expires_at) > Date.now() + FRESH_FOR_MS
  if (kept !== null && (token === null || (isFresh && kept.name === name))) return kept
  try {
    return await makeSeat(branch, name)
  } catch (problem) {
    // A token that is good no more does not end the work that a session token still allows.
    if (kept !== null) return kept
    throw problem
  }
}

/** A visitor's session, with the name that they have given. One that has a name already keeps it. */
async function named(seat: Seat, name: string): Promise<Seat> {
  const http = new Http(base, { token: () => seat.token })
  const route = `branches/${encodeURIComponent(seat.branch)}/sessions/${encodeURIComponent(seat.id)}`
  await http.ask('PATCH', route, { json: { name } }).catch((problem: unknown) => {
    if (!(problem instanceof Problem && problem.status === 403)) throw problem
  })
  const kept = { ...seat, name }
  keepSeat(kept)
  return kept
}

/** Makes the session, or finds it again, with the API token; in a frame, the page around does. */
export async function makeSeat(branch: string, name: string): Promise<Seat> {
  if (isEmbedded) return { ...await nextSeat(), name }
  if (apiToken.value === null) {
    throw new Problem(401, 'unauthorized', 'This page has no token to join the branch with. Ask for a new link.')
  }
  const seat = { ...await perch.session(branch, { id: sessionId(), name, permission: 'write' }), name }
  keepSeat(seat)
  return seat
}
