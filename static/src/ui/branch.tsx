import { effect, useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { Http, Problem } from '../../client/http'
import type { Branch } from '../../client/types'
import { apiToken, base, signOut } from '../access'
import { inWords } from '../bench/notices'
import { Workbench } from '../bench/workbench'
import { handed, isEmbedded } from '../embedded'
import { replaceRoute, route } from '../route'
import { displayName, dropSeat, keepDisplayName, keptSeat, nameFault, takeSeat } from '../seat'
import { Bench } from './bench'
import { Dialog, Failure, Mark, Waiting } from './parts'

const LOOK_AGAIN_MS = 1_000

function AskName({ known, onName, onClose }: {
  known: string
  onName: (name: string) => void
  onClose: (() => void) | null
}) {
  const name = useSignal(known)
  const fault = useSignal<string | null>(null)
  return (
    <Dialog title="Your name" onClose={onClose}>
      <form onSubmit={(event) => {
        event.preventDefault()
        const given = name.value.trim()
        fault.value = nameFault(given)
        if (fault.value === null) onName(given)
      }}>
        <p>Others see it at your cursor. This browser remembers it.</p>
        <label>
          <span>Name</span>
          <input name="display-name" value={name.value} autofocus autocomplete="name" required
            onInput={({ currentTarget }) => { name.value = currentTarget.value }} />
        </label>
        {fault.value !== null && <Failure>{fault.value}</Failure>}
        <p class="buttons">
          {onClose !== null && <button type="button" onClick={onClose}>Cancel</button>}
          <button class="primary">Go on</button>
        </p>
      </form>
    </Dialog>
  )
}

/** Opens a branch: waits until it is made, asks for a name once, takes a seat, shows the workbench. */
export function BranchPage({ branch: id }: { branch: string }) {
  const name = useSignal(displayName() ?? (keptSeat(id)?.name || null))
  const isNaming = useSignal(false)
  const branch = useSignal<Branch | null>(null)
  const bench = useSignal<Workbench | null>(null)
  const problem = useSignal<string | null>(null)
  const given = name.value

  useEffect(() => {
    if (given === null) return
    let isGone = false
    let timer: ReturnType<typeof setTimeout> | undefined
    let made: Workbench | null = null
    let stop = (): void => {}

    const enter = (current: Workbench): void => {
      made = current
      const wanted = isEmbedded ? handed.peek()?.path ?? null : route.value.path
      if (wanted !== null) current.open(wanted)
      const unfollow = effect(() => { replaceRoute({ branch: id, path: current.layout.view.value?.path ?? null }) })
      // A link to another file of this branch, pasted into the address.
      const onLink = (): void => {
        const { branch: there, path } = route.value
        if (there === id && path !== null) current.open(path)
      }
      addEventListener('hashchange', onLink)
      stop = () => {
        unfollow()
        removeEventListener('hashchange', onLink)
      }
      bench.value = current
    }

    const open = async (): Promise<void> => {
      try {
        const seat = keptSeat(id)
        const oneBranch = (token: string): Promise<Branch> =>
          new Http(base, { token: () => token }).json('GET', `branches/${encodeURIComponent(id)}`)
        const found = await oneBranch(apiToken.value ?? seat?.token ?? '').catch(async (error: unknown) => {
          // The API token may be gone while the session goes on.
          const isRefused = error instanceof Problem && error.status === 401
          if (isRefused && seat !== null && apiToken.value !== null) return oneBranch(seat.token)
          throw error
        })
        if (isGone) return
        branch.value = found
        problem.value = null
        document.title = `${found.name} · perch`
        if (found.state === 'creating') {
          timer = setTimeout(() => void open(), LOOK_AGAIN_MS)
        } else if (found.state === 'ready') {
          const taken = await takeSeat(id, given)
          if (!isGone) enter(new Workbench(found, taken))
        }
      } catch (error) {
        if (isGone) return
        problem.value = inWords(error)
        if (error instanceof Problem && error.status === 401) {
          dropSeat(id)
          signOut(true)
        } else if (error instanceof Problem && error.status === 0) {
          timer = setTimeout(() => void open(), LOOK_AGAIN_MS)
        }
      }
    }
    const left = Workbench.back(id)
    if (left === null) void open()
    else enter(left)
    return () => {
      isGone = true
      clearTimeout(timer)
      stop()
      bench.value = null
      made?.leave()
    }
  }, [given])

  const rename = (to: string): void => {
    keepDisplayName(to)
    isNaming.value = false
    const current = bench.value
    if (current === null) name.value = to
    else void current.rename(to).catch((error: unknown) => { current.notices.failed(error) })
  }
  const isAsking = given === null || isNaming.value
  return (
    <>
      {bench.value !== null
        ? (
          <Bench bench={bench.value} onRename={apiToken.value === null ? null : () => { isNaming.value = true }} />
          )
        : (
          <>
            <header class="top"><a class="brand" href="#/"><Mark />perch</a></header>
            <main class="sheet">
              {problem.value !== null && <Failure>{problem.value}</Failure>}
              {branch.value?.state === 'failed' && (
                <Failure>The branch “{branch.value.name}” could not be made: {branch.value.error ?? 'no reason given'}</Failure>
              )}
              {branch.value?.state === 'creating' && <Waiting>“{branch.value.name}” is being made…</Waiting>}
              {branch.value === null && problem.value === null && given !== null && <Waiting>Opening…</Waiting>}
              <p><a href="#/">All branches</a></p>
            </main>
          </>
          )}
      {isAsking && (
        <AskName known={displayName() ?? given ?? ''} onName={rename} onClose={given === null ? null : () => { isNaming.value = false }} />
      )}
    </>
  )
}
