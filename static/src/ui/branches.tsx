import { useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import { Problem } from '../../client/http'
import type { Branch } from '../../client/types'
import { apiToken, perch, signOut } from '../access'
import { inWords } from '../bench/notices'
import { address } from '../route'
import { Dialog, Failure, Icon, Mark, Waiting } from './parts'

const LOOK_AGAIN_MS = 1_000

const ago = new Intl.RelativeTimeFormat('en', { numeric: 'auto' })
function when(ms: number): string {
  const seconds = Math.round((ms - Date.now()) / 1_000)
  const steps = [['day', 86_400], ['hour', 3_600], ['minute', 60]] as const
  for (const [unit, size] of steps) {
    if (Math.abs(seconds) >= size) return ago.format(Math.trunc(seconds / size), unit)
  }
  return 'just now'
}

const STATES = { creating: 'Being made', ready: 'Ready', failed: 'Failed' } as const

function Row({ branch }: { branch: Branch }) {
  const about = branch.git === null
    ? 'Started empty'
    : `${branch.git.url}${branch.git.ref === null ? '' : ` at ${branch.git.ref}`}`
  const words = (
    <>
      <span class="row-name">{branch.name}</span>
      <span class="row-about">{about}</span>
      {branch.state === 'failed' && <span class="row-error">{branch.error ?? 'perch gave no reason.'}</span>}
      {branch.state === 'creating' && branch.progress && (
        <span class="row-about">
          {branch.progress.phase}{branch.progress.percent === null ? '' : `, ${branch.progress.percent} %`}
        </span>
      )}
    </>
  )
  return (
    <li data-branch={branch.id} data-state={branch.state}>
      {branch.state === 'ready'
        ? <a class="row-words" href={address({ branch: branch.id, path: null })}>{words}</a>
        : <div class="row-words">{words}</div>}
      <span class={`badge badge-${branch.state}`}>
        {branch.state === 'creating' && <span class="spinner" aria-hidden="true" />}{STATES[branch.state]}
      </span>
      <time dateTime={new Date(branch.created_at_ms).toISOString()}>{when(branch.created_at_ms)}</time>
    </li>
  )
}

function MakeBranch({ onMade, onClose }: { onMade: (branch: Branch) => void, onClose: () => void }) {
  const name = useSignal('')
  const url = useSignal('')
  const reference = useSignal('')
  const isBusy = useSignal(false)
  const problem = useSignal<string | null>(null)
  const make = async (): Promise<void> => {
    isBusy.value = true
    problem.value = null
    try {
      const from = url.value.trim()
      const at = reference.value.trim()
      const git = from === '' ? null : at === '' ? { url: from } : { url: from, ref: at }
      onMade(await perch.make(name.value.trim(), git))
    } catch (error) {
      problem.value = inWords(error)
      isBusy.value = false
    }
  }
  return (
    <Dialog title="New branch" onClose={onClose}>
      <form onSubmit={(event) => {
        event.preventDefault()
        void make()
      }}>
        <label>
          <span>Name</span>
          <input name="name" value={name.value} required maxLength={200} autofocus autocomplete="off"
            onInput={({ currentTarget }) => { name.value = currentTarget.value }} />
        </label>
        <label>
          <span>Git repository <i>optional</i></span>
          <input name="url" value={url.value} autocomplete="off" spellcheck={false} placeholder="https://…"
            onInput={({ currentTarget }) => { url.value = currentTarget.value }} />
        </label>
        <label>
          <span>Branch or tag <i>optional</i></span>
          <input name="ref" value={reference.value} autocomplete="off" spellcheck={false} disabled={url.value.trim() === ''}
            placeholder="the repository’s default"
            onInput={({ currentTarget }) => { reference.value = currentTarget.value }} />
        </label>
        {problem.value !== null && <Failure>{problem.value}</Failure>}
        <p class="buttons">
          <button type="button" onClick={onClose}>Cancel</button>
          <button class="primary" disabled={isBusy.value}>{isBusy.value ? 'Making…' : 'Make branch'}</button>
        </p>
      </form>
    </Dialog>
  )
}

export function BranchList() {
  const branches = useSignal<Branch[] | null>(null)
  const next = useSignal<string | null>(null)
  const problem = useSignal<string | null>(null)
  const isMaking = useSignal(false)
  const isGone = useRef(false)

  const load = async (after: string | null): Promise<void> => {
    if (apiToken.value === null) return
    try {
      const page = await perch.branches(after)
      if (isGone.current) return
      const before = after === null ? [] : branches.value ?? []
      branches.value = [...before, ...page.branches]
      next.value = page.next
      problem.value = null
    } catch (error) {
      if (isGone.current) return
      if (error instanceof Problem && error.status === 401) signOut(true)
      problem.value = inWords(error)
    }
  }
  useEffect(() => {
    document.title = 'perch'
    const look = (): void => void load(null)
    look()
    addEventListener('focus', look)
    return () => {
      isGone.current = true
      removeEventListener('focus', look)
    }
  }, [])
  const isWaiting = problem.value !== null || (branches.value?.some(({ state }) => state === 'creating') ?? false)
  const looks = useSignal(0)
  useEffect(() => {
    if (!isWaiting) return
    const timer = setTimeout(() => void load(null).finally(() => { looks.value += 1 }), LOOK_AGAIN_MS)
    return () => clearTimeout(timer)
  }, [isWaiting, looks.value])

  const list = branches.value
  return (
    <>
      <header class="top">
        <span class="brand"><Mark />perch</span>
        <span class="grow" />
        <button class="quiet" onClick={() => signOut()}>Sign out</button>
      </header>
      <main class="sheet">
        <div class="title">
          <h1>Branches</h1>
          <button class="primary" onClick={() => { isMaking.value = true }}><Icon name="plus" />New branch</button>
        </div>
        {problem.value !== null && <Failure>{problem.value}</Failure>}
        {list === null && problem.value === null && <Waiting>Looking for branches…</Waiting>}
        {list?.length === 0 && (
          <div class="empty">
            <h2>No branches yet</h2>
            <p>A branch is a folder of files that people and programs edit together. Start an empty one, or one from a
              git repository.</p>
          </div>
        )}
        {list !== null && list.length > 0 && (
          <ul class="rows">{list.map((branch) => <Row key={branch.id} branch={branch} />)}</ul>
        )}
        {next.value !== null && <p><button onClick={() => void load(next.value)}>Show more</button></p>}
      </main>
      {isMaking.value && (
        <MakeBranch onClose={() => { isMaking.value = false }} onMade={(made) => {
          isMaking.value = false
          branches.value = [made, ...branches.value ?? []]
        }} />
      )}
    </>
  )
}
