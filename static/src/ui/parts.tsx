// Small parts that several screens use.
import type { ComponentChildren } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import icon from '../../favicon.svg'

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
  plus: 'M8 3v10M3 8h10',
  refresh: 'M13 8a5 5 0 1 1-1.600-3.700M13 2v3h-3'
} as const

export function Icon({ name }: { name: keyof typeof ICONS }) {
  return (
    <svg class={`icon icon-${name}`} viewBox="0 0 16 16" aria-hidden="true" fill="none" stroke="currentColor"
      stroke-width="1.4" stroke-linecap="round" stroke-linejoin="round">
      <path d={ICONS[name]} />
    </svg>
  )
}

/** A dialog that holds the focus; Escape closes it where that is allowed. */
export function Dialog({ title, onClose, children }: {
  title: string
  onClose: (() => void) | null
  children: ComponentChildren
}) {
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => {
    dialog.current?.showModal()
  }, [])
  return (
    <dialog ref={dialog} aria-label={title} onCancel={(event) => {
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

export const message = (problem: unknown): string => problem instanceof Error ? problem.message : String(problem)
