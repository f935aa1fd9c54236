// A line between two parts that can be moved by pointer and keys. What is on one side of it has a size, kept by the browser.
import { signal, useSignal, type Signal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import { store, stored } from '../stored'

export interface Size {
  readonly now: Signal<number | null>
  readonly set: (to: number) => void
}

/** A size that this browser remembers; null: as the page has it. */
export function keptSize(name: string): Size {
  const key = `perch.size.${name}`
  const known = stored<unknown>('localStorage', key)
  const now = signal(typeof known === 'number' ? known : null)
  return {
    now, set: (to) => {
      now.value = Math.round(to)
      store('localStorage', key, JSON.stringify(now.value))
    }
  }
}

const STEP = 24

export function Separator({ label, isUpright, size, min, max, measure }: {
  label: string
  /** It stands between left and right. */
  isUpright: boolean
  size: Size
  min: number
  max: () => number
  /** Gives the size for a pointer at (x, y), and as it is now without one. */
  measure: (separator: HTMLElement, pointer?: { x: number, y: number }) => number
}) {
  const line = useRef<HTMLDivElement>(null)
  /** As large as the page has it, until it is moved. */
  const first = useSignal(min)
  useEffect(() => { if (line.current !== null) first.value = Math.round(measure(line.current)) }, [size.now.value])
  const within = (wanted: number): number => Math.max(min, Math.min(max(), wanted))
  return (
    <div class={isUpright ? 'separator separator-upright' : 'separator'} role="separator" tabIndex={0} aria-label={label}
      aria-orientation={isUpright ? 'vertical' : 'horizontal'} aria-valuenow={size.now.value ?? first.value} aria-valuemin={min}
      aria-valuemax={Math.round(max())} ref={line}
      onPointerDown={(event) => {
        event.preventDefault()
        event.currentTarget.setPointerCapture(event.pointerId)
      }}
      onPointerMove={(event) => {
        const element = event.currentTarget
        if (element.hasPointerCapture(event.pointerId)) size.set(within(measure(element, { x: event.clientX, y: event.clientY })))
      }}
      onKeyDown={(event) => {
        const steps: Record<string, number> = isUpright ? { ArrowLeft: -STEP, ArrowRight: STEP } : { ArrowUp: STEP, ArrowDown: -STEP }
        const step = steps[event.key]
        if (step === undefined) return
        event.preventDefault()
        size.set(within(measure(event.currentTarget) + step))
      }}
      onDblClick={(event) => {
        event.preventDefault()
        size.now.value = null
      }} />
  )
}
