// Where the page is, in the part of the address that no server sees: `#/`, `#/b/{branch}`, `#/b/{branch}/{path}`.
import { signal } from '@preact/signals'
import { pathInUrl } from '../client/http'

export interface Route { branch: string | null, path: string | null }

function read(): Route {
  const found = /^#\/b\/([^/]+)(?:\/(.+))?$/.exec(location.hash)
  if (found === null) return { branch: null, path: null }
  try {
    return { branch: decodeURIComponent(found[1] ?? ''), path: found[2] === undefined ? null : decodeURIComponent(found[2]) }
  } catch {
    return { branch: null, path: null }
  }
}

export const route = signal<Route>(read())

export const address = ({ branch, path }: Route): string =>
  branch === null ? '#/' : `#/b/${encodeURIComponent(branch)}${path === null ? '' : `/${pathInUrl(path)}`}`

/** Names the open file in the address without a step in the history. */
export function replaceRoute(to: Route): void {
  history.replaceState(null, '', address(to))
  route.value = to
}

export function watchRoute(): void {
  route.value = read()
  addEventListener('hashchange', () => { route.value = read() })
}
