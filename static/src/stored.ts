// Small things the browser remembers. A full or forbidden storage costs the memory, never the work.

export function store(where: Storage, key: string, value: string | null): void {
  try {
    if (value === null) where.removeItem(key)
    else where.setItem(key, value)
  } catch (error) {
    console.warn(`perch: the browser does not remember ${key}:`, error)
  }
}

/** A JSON value that was stored, or null where there is none that parses. */
export function stored<T>(where: Storage, key: string): T | null {
  try {
    return JSON.parse(where.getItem(key) ?? 'null') as T | null
  } catch {
    return null
  }
}
