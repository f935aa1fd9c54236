// Small parts that several screens use.
import { signal } from '@preact/signals'
import type { ComponentChildren, FunctionComponent, RefObject } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import icon from '../../favicon.svg'
import { inWords } from '../bench/notices'

export function Mark() {
  return <img class="mark" src={icon} alt="" />
}

const ICONS = {
  back: 'M10 3 5 8l5 5',
  close: 'M4 4l8 8M12 4l-8 8',
  file: 'M4 1.8h5l3.2 3.2v9.2H4zM9 1.8V5h3.2',
  fold: 'M6 4l4 4-4 4',
  folder: 'M1.8 4.2c0-.8.5-1.2 1.2-1.2h3l1.5 1.7H13c.8 0 1.2.5 1.2 1.2v6.3c0 .8-.5 1.2-1.2 1.2H3c-.8 0-1.2-.5-1.2-1.2z',
  link: 'M6.5 9.5l3-3M7 4.5l1.3-1.3a3 3 0 0 1 4.3 4.3L11.300 8.800M9 11.500l-1.300 1.300a3 3 0 0 1-4.300-4.300L4.700 7.200',
  download: 'M8 2v8M4.500 7L8 10.500 11.500 7M2.500 13.500h11',
  files: 'M5.500 1.800h4.200L13 5v6.500H5.500zM9.500 1.800V5H13M5.500 4.500H3v9.700h7.500v-2.700',
  git: 'M4.500 5.800v4.400M4.500 5.800a1.700 1.700 0 1 0 0-3.400 1.700 1.700 0 0 0 0 3.400zM4.500 13.600a1.700 1.700 0 1 0 0-3.400 1.700 1.700 0 0 0 0 3.400zM11.500 7.300a1.700 1.700 0 1 0 0-3.400 1.700 1.700 0 0 0 0 3.400zM11.500 7.300c0 2.500-3 2.700-5.500 3.200',
  keys: 'M1.800 4h12.400v8H1.800zM4 6.500h.100M6.600 6.500h.100M9.300 6.500h.100M12 6.500h.100M5 9.500h6',
  more: 'M3.500 8h.100M8 8h.100M12.500 8h.100',
  people: 'M6 8a2.600 2.600 0 1 0 0-5.200A2.600 2.600 0 0 0 6 8zM1.500 13.500c0-2.300 2-4 4.500-4s4.500 1.700 4.500 4M10.500 3a2.600 2.600 0 0 1 0 4.800M12 9.800c1.600.600 2.600 2 2.600 3.700',
  plus: 'M8 3v10M3 8h10',
  refresh: 'M13 8a5 5 0 1 1-1.600-3.700M13 2v3h-3',
  search: 'M7 11.500a4.500 4.500 0 1 0 0-9 4.500 4.500 0 0 0 0 9zM10.500 10.500L14 14',
  split: 'M2 2.500h12v11H2zM8 2.500v11',
  terminal: 'M2 3h12v10H2zM4.500 6l2 2-2 2M8 10.500h3',
  upload: 'M8 10.500v-8M4.500 6L8 2.500 11.500 6M2.500 13.500h11'
} as const

export type IconName = keyof typeof ICONS

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class={`icon icon-${name}`} viewBox="0 0 16 16" aria-hidden="true" fill="none" stroke="currentColor"
      stroke-width="1.4" stroke-linecap="round" stroke-linejoin="round">
      <path d={ICONS[name]} />
    </svg>
  )
}

/** Opens a dialog over the page; what had the keyboard before has it again after. */
export function useModal(dialog: RefObject<HTMLDialogElement | null>): void {
  useEffect(() => {
    const before = document.activeElement
    dialog.current?.showModal()
    return () => {
      // The dialog is out of the page by now, so the browser has given it to nobody.
      const isNobodys = document.activeElement === null || document.activeElement === document.body
      if (isNobodys && before instanceof HTMLElement && before.isConnected) before.focus()
    }
  }, [])
}

/**
 * Keeps the keyboard in a part of the page whose buttons come and go: where the one that had it went or is disabled, the part itself
 * has it, or what `instead` selects in it. Whoever goes elsewhere is let go.
 */
export function useKeptKeys(part: RefObject<HTMLElement | null>, instead?: string): void {
  useEffect(() => {
    const element = part.current
    if (element === null) return
    let last: HTMLElement | null = null
    const isThere = (): boolean => last !== null && last.isConnected && !last.matches(':disabled')
    const came = ({ target }: FocusEvent): void => { last = target as HTMLElement }
    // What is taken out of the page may be left before it is out.
    const left = (): void => queueMicrotask(() => { if (isThere() && document.activeElement !== last) last = null })
    const changes = new MutationObserver(() => {
      const isNobodys = document.activeElement === null || document.activeElement === document.body || document.activeElement === last
      if (last === null || !isNobodys || isThere()) return
      const next = instead === undefined ? element : element.querySelector<HTMLElement>(instead)
      next?.focus()
    })
    element.addEventListener('focusin', came)
    element.addEventListener('focusout', left)
    changes.observe(element, { childList: true, subtree: true, attributes: true, attributeFilter: ['disabled'] })
    return () => {
      changes.disconnect()
      element.removeEventListener('focusin', came)
      element.removeEventListener('focusout', left)
    }
  }, [])
}

/** A dialog that holds the focus; Escape closes it where that is allowed. */
export function Dialog({ title, onClose, isWide = false, children }: {
  title: string
  isWide?: boolean
  onClose: (() => void) | null
  children: ComponentChildren
}) {
  const dialog = useRef<HTMLDialogElement>(null)
  useModal(dialog)
  return (
    <dialog ref={dialog} class={isWide ? 'wide' : undefined} aria-label={title} onCancel={(event) => {
      event.preventDefault()
      onClose?.()
    }}>
      <h2>{title}</h2>
      {children}
    </dialog>
  )
}

export function Failure({ children }: { children: ComponentChildren }) {
  return <p class="failure" role="alert">{children}</p>
}

/** A waiting sign that appears only if the wait is felt. */
export function Waiting({ children }: { children: ComponentChildren }) {
  return <p class="waiting" role="status"><span class="spinner" aria-hidden="true" />{children}</p>
}

/** A component that is fetched when it is first shown. */
export function later<P extends object>(load: () => Promise<FunctionComponent<P>>): FunctionComponent<P> {
  const loaded = signal<{ Body: FunctionComponent<P> } | { why: string } | null>(null)
  const start = (): void => {
    loaded.value = null
    load().then((Body) => { loaded.value = { Body } }, (problem: unknown) => { loaded.value = { why: inWords(problem) } })
  }
  let isAsked = false
  return function Later(props: P) {
    if (!isAsked) {
      isAsked = true
      start()
    }
    const now = loaded.value
    if (now === null) return <Waiting>Loading…</Waiting>
    if ('Body' in now) return <now.Body {...props} />
    return (
      <div class="later-failed">
        <Failure>This part of the page could not be loaded: {now.why}</Failure>
        <button onClick={start}>Try again</button>
      </div>
    )
  }
}

/** Makes a list of tabs of those with these ids, which stand beside it: what closes a tab is no part of the list. */
export function TabList({ label, ids }: { label: string, ids: readonly string[] }) {
  return <div class="tab-list" role="tablist" aria-label={label} aria-owns={ids.join(' ')} />
}
