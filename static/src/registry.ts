// Where the parts of the page meet: features put things here by id, the frame shows what is here.
import { signal, type ReadonlySignal } from '@preact/signals'

export class Registry<T extends { readonly id: string }> {
  private readonly now = signal<readonly T[]>([])

  /** In the order in which they came. */
  get all(): ReadonlySignal<readonly T[]> { return this.now }

  /** Adds things; what is returned takes them away again. An id that is there already is a fault of the page. */
  add(...things: T[]): () => void {
    for (const { id } of things) {
      if (this.now.peek().some((other) => other.id === id)) throw new Error(`there are two of ${id}`)
    }
    this.now.value = [...this.now.peek(), ...things]
    return () => { this.now.value = this.now.peek().filter((thing) => !things.includes(thing)) }
  }

  find(id: string): T | null {
    return this.now.peek().find((thing) => thing.id === id) ?? null
  }
}

/** For things that are shown in an order of their own. */
export const inOrder = <T extends { readonly order: number }>(things: readonly T[]): T[] =>
  [...things].sort((a, b) => a.order - b.order)
