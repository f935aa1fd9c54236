// What was typed in one file and is not known to be durable, put where it outlives the page, and taken from there again.
import { signal } from '@preact/signals-core'
import * as Y from 'yjs'

/** What a page has put away of one file. */
export interface Kept {
  /** Of the page and the file. */
  readonly id: string
  readonly path: string
  /** The history of the file that it belongs to. */
  readonly generation: string
  readonly updates: Uint8Array[]
}

/** Where edits outlive the page. It is of one session on one branch: nothing of another's is ever given. It never rejects. */
export interface Shelf {
  /**
   * Puts one more update of a file there. `whole` gives all that the page has of the file; it is put there where nothing of it
   * is yet, or too much in pieces. `false`: nothing of the file is there now, for want of room or of a storage.
   */
  add: (id: string, path: string, generation: string, update: Uint8Array, whole: () => Uint8Array) => Promise<boolean>
  /** What is there of a path, or of a history under whichever path. */
  find: (path: string, generation: string) => Promise<Kept[]>
  /** Takes it away; with `updates` only if no more have come. */
  drop: (id: string, updates?: number) => Promise<void>
}

/** The origin of edits that come from the shelf. */
export const KEPT = Symbol('kept')

/** An edit that perch acknowledges sooner needs no keeping. */
const SOON_MS = 300

/** Of one history of the file: perch has put it into the document. */
const generationOf = (doc: Y.Doc): string => String(doc.getMap('perch').get('generation') ?? '')

export class Keeper {
  private readonly id: string
  /** Edits that are neither durable nor on the shelf. */
  private unkept: Uint8Array[] = []
  private isOnShelf = false
  /** Of former pages; gone once it is durable. */
  private taken: Kept[] = []
  /** Whether what former pages had is asked for, or there is nothing to ask. */
  hasLooked: boolean
  private timer: ReturnType<typeof setTimeout> | undefined
  /** Edits on their way to the shelf. */
  private underWay = 0
  /** One step after the other. */
  private last: Promise<unknown> = Promise.resolve()
  /** Whether there is a place that takes it. */
  readonly isAble = signal(false)
  /** Whether all that is not durable is there now. */
  readonly isKept = signal(false)

  /** `mayKeep`: the session is good. */
  constructor(
    private readonly shelf: Shelf | null,
    private readonly doc: Y.Doc,
    public path: string,
    private readonly mayKeep: () => boolean
  ) {
    this.id = `${Date.now().toString(36)}-${doc.clientID}`
    this.hasLooked = shelf === null
    this.isAble.value = shelf !== null
  }

  private then(work: (shelf: Shelf) => Promise<unknown>): void {
    const { shelf } = this
    if (shelf !== null) this.last = this.last.then(() => work(shelf))
  }

  /** Notes an edit; it is kept unless perch acknowledges it very soon. */
  note(update: Uint8Array, isOnline: boolean): void {
    if (this.shelf === null) return
    this.unkept.push(update)
    this.isKept.value = false
    if (!isOnline) this.keep()
    else this.timer ??= setTimeout(() => this.keep(), SOON_MS)
  }

  /** Keeps at once what is not durable. */
  keep(): void {
    clearTimeout(this.timer)
    this.timer = undefined
    if (this.unkept.length === 0) return
    const update = Y.mergeUpdates(this.unkept)
    this.unkept = []
    if (!this.mayKeep()) {
      // What is kept later is kept whole.
      this.isOnShelf = false
      return
    }
    this.isOnShelf = true
    this.underWay += 1
    this.then(async (shelf) => {
      this.isAble.value = await shelf.add(this.id, this.path, generationOf(this.doc), update, () => Y.encodeStateAsUpdate(this.doc))
      this.underWay -= 1
      this.isKept.value = this.isAble.value && this.isOnShelf && this.unkept.length === 0 && this.underWay === 0
    })
  }

  /** All of it is durable. */
  settled(): void {
    clearTimeout(this.timer)
    this.timer = undefined
    this.unkept = []
    this.isKept.value = false
    const taken = this.taken
    this.taken = []
    for (const { id, updates } of taken) this.then((shelf) => shelf.drop(id, updates.length))
    if (!this.isOnShelf) return
    this.isOnShelf = false
    this.then((shelf) => shelf.drop(this.id))
  }

  /**
   * Brings back what former pages had not sent, once: as edits of this page where they belong to this history of the file.
   * Gives the text that belongs to another one, and what forgets it.
   */
  async bringBack(): Promise<{ text: string, forget: () => void } | null> {
    const { shelf, doc } = this
    const generation = this.hasLooked ? '' : generationOf(doc)
    if (shelf === null || generation === '') return null
    this.hasLooked = true
    let other: { text: string, forget: () => void } | null = null
    for (const kept of await shelf.find(this.path, generation)) {
      if (kept.id === this.id || doc.isDestroyed) continue
      const update = Y.mergeUpdates(kept.updates)
      if (kept.generation === generation) {
        this.taken.push(kept)
        Y.applyUpdate(doc, update, KEPT)
      } else {
        const before = new Y.Doc()
        Y.applyUpdate(before, update)
        const text = before.getText('content').toString()
        before.destroy()
        other ??= { text, forget: () => this.then(() => shelf.drop(kept.id, kept.updates.length)) }
      }
    }
    return other
  }

  /** Keeps nothing more. */
  destroy(): void {
    clearTimeout(this.timer)
  }
}
