// Where edits that had not reached perch outlive the page: this browser's IndexedDB. It keeps the last 50 files, each with
// at most 16 MiB, for 30 days, or until the session is ended. What it can't keep costs the memory, never the work.
import { transact, openDB, createStores, get, getAll, put, del, getAllKeysValues, createIDBKeyRangeBound } from 'lib0/indexeddb'
import type { Kept, Shelf } from '../client/keeper'

const MAX_FILES = 50
const MAX_BYTES = 16 * 1024 * 1024
const MAX_MS = 30 * 24 * 60 * 60 * 1_000
/** Pieces of a file before they are put together again. */
const MAX_PARTS = 500

/** What lies under `[branch, session, id]`; its updates under the same and a number. */
interface File { path: string, generation: string, parts: number, bytes: number, atMs: number }

type Key = readonly string[]

/** All keys that begin with `key`; nothing sorts after an array. */
const under = (key: Key): IDBKeyRange => createIDBKeyRangeBound([...key], [...key, []], false, false)

const opened = (): Promise<IDBDatabase> => openDB('perch.unsent', (db) => createStores(db, [['files'], ['parts']]))

export class BrowserShelf implements Shelf {
  private readonly db: Promise<IDBDatabase>

  constructor(private readonly branch: string, private readonly session: string) {
    this.db = opened()
    void this.work(undefined, async (files, parts) => {
      for (const { k, v } of await all(files)) if (v.atMs < Date.now() - MAX_MS) await remove(files, parts, k)
    })
  }

  /** Does something in one transaction, which holds as a whole or not at all. */
  private async work<T>(otherwise: T, work: (files: IDBObjectStore, parts: IDBObjectStore) => Promise<T>): Promise<T> {
    try {
      const [files, parts] = transact(await this.db, ['files', 'parts'])
      const { transaction } = files!
      const isDone = new Promise<void>((resolve, reject) => {
        transaction.oncomplete = () => resolve()
        transaction.onabort = () => reject(transaction.error ?? new Error('the browser gave it up'))
      })
      // Said once, below.
      isDone.catch(() => {})
      const answer = await work(files!, parts!)
      await isDone
      return answer
    } catch (error) {
      console.warn('perch: the browser does not keep what is not sent:', error)
      return otherwise
    }
  }

  private key(id: string): Key { return [this.branch, this.session, id] }

  add(id: string, path: string, generation: string, update: Uint8Array, whole: () => Uint8Array): Promise<boolean> {
    const key = this.key(id)
    return this.work(false, async (files, parts) => {
      const there = await get(files, [...key]) as unknown as File | undefined
      const isPiece = there !== undefined && there.generation === generation && there.parts < MAX_PARTS && there.bytes + update.length <= MAX_BYTES
      const bytes = isPiece ? update : whole()
      if (!isPiece) await remove(files, parts, key)
      if (bytes.length > MAX_BYTES) return false
      if (there === undefined) {
        const others = (await all(files)).sort((a, b) => b.v.atMs - a.v.atMs)
        for (const { k } of others.slice(MAX_FILES - 1)) await remove(files, parts, k)
      }
      const at = isPiece ? there.parts : 0
      await put(parts, bytes as never, [...key, at])
      const now: File = { path, generation, parts: at + 1, bytes: (isPiece ? there.bytes : 0) + bytes.length, atMs: Date.now() }
      await put(files, now as never, [...key])
      return true
    })
  }

  find(path: string, generation: string): Promise<Kept[]> {
    return this.work<Kept[]>([], async (files, parts) => {
      const found: Kept[] = []
      for (const { k, v } of (await this.mine(files)).sort((a, b) => b.v.atMs - a.v.atMs)) {
        if (v.path !== path && v.generation !== generation) continue
        found.push({ id: k[2]!, path: v.path, generation: v.generation, updates: await getAll(parts, under(k)) as Uint8Array[] })
      }
      return found
    })
  }

  drop(id: string, updates?: number): Promise<void> {
    const key = this.key(id)
    return this.work(undefined, async (files, parts) => {
      const there = await get(files, [...key]) as unknown as File | undefined
      if (there !== undefined && (updates === undefined || there.parts === updates)) await remove(files, parts, key)
    })
  }

  /** Which files have something there. */
  paths(): Promise<string[]> {
    return this.work<string[]>([], async (files) => [...new Set((await this.mine(files)).map(({ v }) => v.path))])
  }

  /** Takes all of the session's away. */
  clear(): Promise<void> {
    return this.work(undefined, (files, parts) => remove(files, parts, [this.branch, this.session]))
  }

  private mine(files: IDBObjectStore): Promise<Row[]> { return all(files, under([this.branch, this.session])) }
}

interface Row { k: Key, v: File }

const all = (files: IDBObjectStore, range?: IDBKeyRange): Promise<Row[]> => getAllKeysValues(files, range) as Promise<Row[]>

/** Takes away what lies at a key, or below it. */
async function remove(files: IDBObjectStore, parts: IDBObjectStore, key: Key): Promise<void> {
  for (const store of [files, parts]) await del(store, under(key))
}
