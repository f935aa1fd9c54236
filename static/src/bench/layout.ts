// What the editor shows: one or two groups of tabs, and which of them has the focus.
import { computed, signal } from '@preact/signals'
import type { View } from '../plugs'

/** Views open at once; each file is a document and an editor. */
export const MAX_VIEWS = 50
export const MAX_GROUPS = 2

export interface Group {
  readonly keys: readonly string[]
  readonly active: string | null
}

const NOTHING: Group = { keys: [], active: null }

export class Layout {
  private readonly groupsNow = signal<readonly Group[]>([NOTHING])
  private readonly focusedNow = signal(0)
  private readonly views = signal<ReadonlyMap<string, View>>(new Map())

  readonly groups = computed(() => this.groupsNow.value)
  /** The group that has the focus, or had it last. */
  readonly focused = computed(() => Math.min(this.focusedNow.value, this.groupsNow.value.length - 1))
  /** The view that all commands and the top bar are about. */
  readonly view = computed(() => this.find(this.groupsNow.value[this.focused.value]?.active ?? null))

  /** The tab whose content is to take the keyboard; whoever does so sets it back to null. */
  readonly wantsKeys = signal<{ key: string, group: number } | null>(null)

  /** `make` gives the view of a key, or null where there is none. */
  constructor(private readonly make: (key: string) => View | null) {}

  find(key: string | null): View | null {
    return key === null ? null : this.views.value.get(key) ?? null
  }

  get open(): readonly View[] { return [...this.views.value.values()] }

  focus(group: number): void {
    if (group < this.groupsNow.peek().length) this.focusedNow.value = group
  }

  /** Shows a view in a group, without one in that which has the focus. Gives it, or null where it can't be made. */
  show(key: string, group = this.focused.peek()): View | null {
    const known = this.views.peek().get(key)
    const view = known ?? (this.views.peek().size < MAX_VIEWS ? this.make(key) : null)
    if (view === null) return null
    if (known === undefined) this.views.value = new Map(this.views.peek()).set(key, view)
    while (group >= this.groupsNow.peek().length) this.groupsNow.value = [...this.groupsNow.peek(), NOTHING]
    this.set(group, ({ keys, active }) => {
      const at = active === null ? keys.length : keys.indexOf(active) + 1
      return { keys: keys.includes(key) ? keys : keys.toSpliced(at, 0, key), active: key }
    })
    this.focusedNow.value = group
    this.wantsKeys.value = { key, group }
    return view
  }

  /** Chooses among the tabs of a group, and leaves the keyboard where it is. */
  activate(key: string, group: number): void {
    this.set(group, (one) => one.keys.includes(key) ? { ...one, active: key } : one)
    this.focusedNow.value = group
  }

  get isFull(): boolean { return this.views.peek().size >= MAX_VIEWS }

  private set(group: number, change: (group: Group) => Group): void {
    this.groupsNow.value = this.groupsNow.peek().map((one, at) => at === group ? change(one) : one)
  }

  /** Closes a tab; the view goes with its last one, a second group with its last tab. */
  close(key: string, group: number): void {
    this.set(group, ({ keys, active }) => {
      const at = keys.indexOf(key)
      const rest = keys.filter((other) => other !== key)
      return { keys: rest, active: active === key ? rest[at] ?? rest[at - 1] ?? null : active }
    })
    this.tidy()
  }

  /** Whether this is the only tab of the view. */
  isLast(key: string): boolean {
    return this.groupsNow.peek().filter(({ keys }) => keys.includes(key)).length <= 1
  }

  private tidy(): void {
    const groups = this.groupsNow.peek().filter(({ keys }) => keys.length > 0)
    if (groups.length < this.groupsNow.peek().length) {
      this.focusedNow.value = 0
      this.groupsNow.value = groups.length > 0 ? groups : [NOTHING]
    }
    const views = new Map(this.views.peek())
    for (const [key, view] of views) {
      if (groups.some(({ keys }) => keys.includes(key))) continue
      views.delete(key)
      view.destroy?.()
    }
    if (views.size !== this.views.peek().size) this.views.value = views
  }

  /** Moves a tab to a place in a group. */
  move(key: string, from: number, to: number, at: number): void {
    if (this.views.peek().get(key) === undefined) return
    while (to >= this.groupsNow.peek().length) this.groupsNow.value = [...this.groupsNow.peek(), NOTHING]
    if (from !== to) {
      this.set(from, ({ keys, active }) => {
        const rest = keys.filter((other) => other !== key)
        return { keys: rest, active: active === key ? rest[0] ?? null : active }
      })
    }
    this.set(to, ({ keys }) => ({ keys: keys.filter((other) => other !== key).toSpliced(at, 0, key), active: key }))
    this.focusedNow.value = to
    this.tidy()
  }

  /** Puts a view in the place of another: a file that has another path, one that is opened anew. */
  replace(key: string, view: View): void {
    const old = this.views.peek().get(key)
    if (old === undefined) return
    const views = new Map(this.views.peek())
    views.delete(key)
    const replaced = views.get(view.key)
    views.set(view.key, view)
    this.views.value = views
    this.groupsNow.value = this.groupsNow.peek().map(({ keys, active }) => ({
      keys: [...new Set(keys.map((other) => other === key ? view.key : other))], active: active === key ? view.key : active
    }))
    old.destroy?.()
    if (replaced !== undefined && replaced !== view) replaced.destroy?.()
  }

  /** What to remember, and how to get it back. */
  remembered(): { groups: readonly Group[], focused: number } {
    return { groups: this.groupsNow.value, focused: this.focused.value }
  }

  restore(remembered: unknown): void {
    const { groups, focused } = (remembered ?? {}) as { groups?: unknown, focused?: unknown }
    if (!Array.isArray(groups)) return
    groups.slice(0, MAX_GROUPS).forEach((group: Partial<Group> | null, at) => {
      const keys = Array.isArray(group?.keys) ? group.keys : []
      const made = keys.filter((key) => typeof key === 'string' && this.show(key, at) !== null)
      if (typeof group?.active === 'string' && made.includes(group.active)) this.show(group.active, at)
    })
    if (typeof focused === 'number') this.focus(focused)
  }

  destroy(): void {
    for (const view of this.views.peek().values()) view.destroy?.()
  }
}
