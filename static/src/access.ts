// Who the page acts for: the holder of an API token, taken from the link that opened it.
//
// The token is an owner's key, so it lives in sessionStorage and not in localStorage: it ends with the tab, is not
// written to the browser's profile for good, and no other tab of this origin finds it.
import { signal } from '@preact/signals'
import { Perch } from '../client/perch'
import { isEmbedded } from './embedded'
import { store } from './stored'

const KEY = 'perch.token'

/** The API token, if this page has one. */
export const apiToken = signal<string | null>(null)
/** Where perch is. Behind a proxy it may have a folder of its own. */
export const base = new URL('.', location.href.split('#')[0])
/** perch, for the API token's holder. */
export const perch = new Perch(base, () => apiToken.value ?? '')
/** Whether perch has refused the last token that the page had. */
export const tokenWasRefused = signal(false)

export function signIn(token: string): void {
  store('sessionStorage', KEY, token)
  apiToken.value = token
  tokenWasRefused.value = false
}

/** Forgets the token; where that is a person's wish and not perch's, the sessions of this tab as well. */
export function signOut(refused = false): void {
  if (refused) store('sessionStorage', KEY, null)
  else sessionStorage.clear()
  apiToken.value = null
  tokenWasRefused.value = refused
}

/** Takes `#token=…` out of the address at once, so that it is in no history, bookmark or screenshot. */
function takeFragment(): void {
  const token = new URLSearchParams(location.hash.slice(1)).get('token')
  if (token === null) return
  history.replaceState(null, '', `${location.pathname}${location.search}#/`)
  if (token !== '') signIn(token.trim())
}

/** Reads what opened the page; later links pasted into the same tab count too. */
export function watchFragment(): void {
  if (isEmbedded) return
  apiToken.value = sessionStorage.getItem(KEY)
  takeFragment()
  addEventListener('hashchange', takeFragment)
}

/** The token in a pasted link, or the text itself. */
export function tokenIn(text: string): string {
  const fragment = text.split('#')[1]
  return (fragment !== undefined ? new URLSearchParams(fragment).get('token') : null) ?? text.trim()
}
