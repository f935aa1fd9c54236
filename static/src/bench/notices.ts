// What the page has to say that belongs to no place of its own.
import { signal } from '@preact/signals'

export interface Notice {
  readonly id: number
  readonly words: string
  readonly isBad: boolean
  /** A button that does something about it. */
  readonly action?: { title: string, run: () => unknown }
}

/** More would hide the page; the oldest goes. */
const MOST = 4

export const inWords = (problem: unknown): string => problem instanceof Error ? problem.message : String(problem)

export class Notices {
  readonly all = signal<readonly Notice[]>([])
  private last = 0

  /** Shows words until they are put away; the same words twice are one notice. */
  say(words: string, { isBad = false, action }: { isBad?: boolean, action?: Notice['action'] } = {}): void {
    const others = this.all.value.filter((notice) => notice.words !== words)
    const notice = { id: ++this.last, words, isBad, ...action === undefined ? {} : { action } }
    this.all.value = [...others, notice].slice(-MOST)
  }

  /** The same for what went wrong. */
  readonly failed = (problem: unknown): void => this.say(inWords(problem), { isBad: true })

  drop(id: number): void {
    this.all.value = this.all.value.filter((notice) => notice.id !== id)
  }
}
