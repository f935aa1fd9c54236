// A menu at a place: arrows choose, Enter acts, Escape and leaving it close it.
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks'

export interface MenuEntry {
  readonly id: string
  readonly title: string
  readonly run: () => void
}

export function Menu({ label, at, entries, onClose }: {
  label: string
  /** Where its upper left corner is wanted, in the window. */
  at: { x: number, y: number }
  entries: readonly MenuEntry[]
  onClose: () => void
}) {
  const menu = useRef<HTMLDivElement>(null)
  const before = useRef(document.activeElement)
  useLayoutEffect(() => {
    const element = menu.current
    if (element === null) return
    const { width, height } = element.getBoundingClientRect()
    element.style.left = `${Math.max(4, Math.min(at.x, innerWidth - width - 4))}px`
    element.style.top = `${Math.max(4, Math.min(at.y, innerHeight - height - 4))}px`
  }, [])
  useEffect(() => {
    menu.current?.querySelector<HTMLElement>('[role=menuitem]')?.focus()
    const away = (event: PointerEvent): void => {
      if (!menu.current?.contains(event.target as Node)) onClose()
    }
    addEventListener('pointerdown', away, true)
    // What it belongs to is elsewhere then.
    for (const type of ['blur', 'resize']) addEventListener(type, onClose)
    return () => {
      removeEventListener('pointerdown', away, true)
      for (const type of ['blur', 'resize']) removeEventListener(type, onClose)
    }
  }, [])
  const back = (): void => {
    onClose()
    if (before.current instanceof HTMLElement) before.current.focus()
  }
  const onKeyDown = (event: KeyboardEvent): void => {
    const all = [...menu.current?.querySelectorAll<HTMLElement>('[role=menuitem]') ?? []]
    const at = all.indexOf(document.activeElement as HTMLElement)
    const next: Record<string, number> = { ArrowDown: (at + 1) % all.length, ArrowUp: (at - 1 + all.length) % all.length, Home: 0, End: all.length - 1 }
    const to = next[event.key]
    if (to !== undefined) all[to]?.focus()
    else if (event.key === 'Escape' || event.key === 'Tab') back()
    else return
    event.preventDefault()
    event.stopPropagation()
  }
  return (
    <div class="menu" role="menu" aria-label={label} ref={menu} onKeyDown={onKeyDown}>
      {entries.map(({ id, title, run }) => (
        <button key={id} role="menuitem" tabIndex={-1} data-entry={id} onClick={() => {
          back()
          run()
        }}>{title}</button>
      ))}
    </div>
  )
}
