// A copy of the branch for a visitor who may only read this one.
import { signal } from '@preact/signals'
import type { Workbench } from '../../bench/workbench'
import { isEmbedded } from '../../embedded'
import { address } from '../../route'
import { keepSeat } from '../../seat'

const isForking = signal(false)

async function fork(bench: Workbench): Promise<void> {
  isForking.value = true
  try {
    const { branch, seat } = await bench.session.fork()
    keepSeat({ ...seat, name: bench.seat.name })
    location.hash = address({ branch: branch.id, path: bench.file.peek()?.path ?? null })
  } catch (problem) {
    bench.notices.failed(problem)
  } finally {
    isForking.value = false
  }
}

export function ForkOffer({ bench }: { bench: Workbench }) {
  // A page around this one knows one session only.
  if (!bench.seat.may_fork || bench.mayWrite.value || isEmbedded) return null
  return (
    <p class="notice">
      You can read here. To write, take a copy of your own.
      <button disabled={isForking.value} onClick={() => void fork(bench)}>{isForking.value ? 'Copying…' : 'Fork to edit'}</button>
    </p>
  )
}
