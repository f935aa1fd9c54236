// Small things the browser remembers. A full or forbidden storage costs the memory, never the work. In a frame of another
// page nothing is remembered.
import { isEmbedded } from './embedded'

/** By name: where a browser allows no storage, naming the thing itself fails. */
type Where = 'localStorage' | 'sessionStorage'

export function store(where: Where, key: string, value: string | null): void {
  if (isEmbedded) return
  try {
    if (value === null) window[where].removeItem(key)
    else window[where].setItem(key, value)
  } catch (error) {
    console.warn(`perch: the browser does not remember ${key}:`, error)
  }
}

/** A JSON value that was stored, or null where there is none that parses. */
export function stored<T>(where: Where, key: string): T | null {
  if (isEmbedded) return null
  try {
    return JSON.parse(window[where].getItem(key) ?? 'null') as T | null
  } catch {
    return null
  }
}
