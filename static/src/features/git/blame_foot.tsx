import type { Workbench } from '../../bench/workbench'
import { isBlameOn } from './blame'

/** The switch, where a shared file has the focus. */
export function BlameFoot({ bench }: { bench: Workbench }) {
  if (bench.file.value === null) return null
  return (
    <button class="foot-button" aria-pressed={isBlameOn.value} onClick={() => { isBlameOn.value = !isBlameOn.value }}
      title="Show at each line who typed it, or which commit it is of">Who typed this</button>
  )
}
