// A list to choose from by typing: the command palette, quick open.
import { useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import { inWords } from '../bench/notices'
import { Failure, useModal } from './parts'

export interface Choice {
  readonly id: string
  readonly title: string
  /** More of it, in smaller letters. */
  readonly about?: string
  /** At the right: keys. */
  readonly keys?: string
  readonly run: () => void
}

const ASK_AFTER_MS = 120

export function Pick({ label, placeholder, look, isRemote = false, nothing, onClose }: {
  label: string
  placeholder: string
  /** The choices for what was typed, the best first. */
  look: (query: string) => Choice[] | Promise<Choice[]>
  /** `look` asks perch: not at each key. */
  isRemote?: boolean
  /** What to say when there are no choices. */
  nothing: string
  onClose: () => void
}) {
  const dialog = useRef<HTMLDialogElement>(null)
  const list = useRef<HTMLUListElement>(null)
  const query = useSignal('')
  const choices = useSignal<Choice[] | null>(null)
  const at = useSignal(0)
  const problem = useSignal<string | null>(null)
  /** What the choices are for. */
  const answered = useRef<string | null>(null)
  /** Enter came before the choices for what was typed: the first of those is meant. */
  const isTaken = useRef(false)

  useModal(dialog)
  useEffect(() => {
    let isStale = false
    const ask = async (): Promise<void> => {
      try {
        const found = await look(query.value)
        if (isStale) return
        choices.value = found
        at.value = 0
        problem.value = null
        answered.current = query.value
        if (isTaken.current) take(found[0])
        isTaken.current = false
      } catch (error) {
        if (!isStale) problem.value = inWords(error)
      }
    }
    const timer = setTimeout(() => void ask(), isRemote && choices.value !== null ? ASK_AFTER_MS : 0)
    return () => {
      isStale = true
      clearTimeout(timer)
    }
  }, [query.value])
  useEffect(() => list.current?.querySelector('[aria-selected=true]')?.scrollIntoView({ block: 'nearest' }), [at.value])

  function take(choice: Choice | undefined): void {
    if (choice === undefined) return
    onClose()
    choice.run()
  }
  const found = choices.value ?? []
  const onKeyDown = (event: KeyboardEvent): void => {
    const steps: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }
    const step = steps[event.key]
    if (step !== undefined && found.length > 0) {
      const next = at.value + step
      at.value = Math.abs(step) === 1 ? (next + found.length) % found.length : Math.max(0, Math.min(found.length - 1, next))
      event.preventDefault()
    } else if (event.key === 'Enter') {
      event.preventDefault()
      if (answered.current === query.value) take(found[at.value])
      else isTaken.current = true
    }
  }
  return (
    <dialog ref={dialog} class="pick" aria-label={label}
      onCancel={(event) => {
        event.preventDefault()
        onClose()
      }}
      onClick={(event) => { if (event.target === dialog.current) onClose() }}>
      <div class="pick-in">
        <input role="combobox" aria-label={label} aria-expanded="true" aria-controls="pick-list" aria-autocomplete="list"
          aria-activedescendant={found.length > 0 ? `pick-${at.value}` : undefined}
          autofocus autocomplete="off" spellcheck={false} placeholder={placeholder} value={query.value}
          onInput={({ currentTarget }) => { query.value = currentTarget.value }} onKeyDown={onKeyDown} />
        {problem.value !== null && <Failure>{problem.value}</Failure>}
        <ul id="pick-list" role="listbox" aria-label={label} ref={list}>
          {found.map((choice, n) => (
            <li key={choice.id} id={`pick-${n}`} role="option" aria-selected={n === at.value} data-choice={choice.id}
              onPointerMove={() => { at.value = n }} onClick={() => take(choice)}>
              <span class="pick-title">{choice.title}</span>
              {choice.about !== undefined && <span class="pick-about">{choice.about}</span>}
              {choice.keys !== undefined && <kbd>{choice.keys}</kbd>}
            </li>
          ))}
        </ul>
        {choices.value !== null && found.length === 0 && problem.value === null && <p class="pick-nothing" role="status">{nothing}</p>}
      </div>
    </dialog>
  )
}
