// A share link that opened the page: `#link=<secret>` becomes a seat of the visitor's own on the link's branch.
import { signal } from '@preact/signals'
import { openLink } from '../client/perch'
import { base } from './access'
import { isEmbedded } from './embedded'
import { address } from './route'
import { keepSeat } from './seat'

/** Whether a link is being opened. */
export const isOpening = signal(false)
/** Why the last link opened nothing. */
export const linkFault = signal<string | null>(null)

/** Takes the secret out of the address at once, as the token is; each opening counts as a use of the link. */
async function takeLink(): Promise<void> {
  const secret = new URLSearchParams(location.hash.slice(1)).get('link')
  if (secret === null) return
  history.replaceState(null, '', `${location.pathname}${location.search}#/`)
  isOpening.value = true
  linkFault.value = null
  try {
    const seat = await openLink(base, secret.trim())
    keepSeat({ ...seat, name: '' })
    location.hash = address({ branch: seat.branch, path: null })
  } catch (problem) {
    linkFault.value = problem instanceof Error ? problem.message : String(problem)
  } finally {
    isOpening.value = false
  }
}

/** Reads what opened the page; later links pasted into the same tab count too. */
export function watchLink(): void {
  if (isEmbedded) return
  void takeLink()
  addEventListener('hashchange', () => { void takeLink() })
}
