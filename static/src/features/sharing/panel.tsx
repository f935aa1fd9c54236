// Links for others, for the holder of an API token.
import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import type { Link, Right } from '../../../client/types'
import { base, perch } from '../../access'
import { inWords } from '../../bench/notices'
import type { Workbench } from '../../bench/workbench'
import { Failure } from '../../ui/parts'
import { PanelTop } from '../../ui/side'

const day = new Intl.DateTimeFormat('en', { dateStyle: 'medium', timeStyle: 'short' })

const urlOf = (secret: string): string => `${base.origin}${base.pathname}#link=${secret}`

function NewLink({ bench, onMade }: { bench: Workbench, onMade: () => void }) {
  const right = useSignal<Right>('read')
  const mayFork = useSignal(false)
  const days = useSignal('7')
  const made = useSignal<string | null>(null)
  const isCopied = useSignal(false)
  const problem = useSignal<string | null>(null)
  const make = async (): Promise<void> => {
    problem.value = null
    isCopied.value = false
    try {
      const link = { permission: right.value, may_fork: right.value === 'read' && mayFork.value }
      const expires = days.value === '' ? {} : { expires_in: Number(days.value) * 86_400 }
      made.value = urlOf((await perch.makeLink(bench.branch.id, { ...link, ...expires })).secret)
      onMade()
    } catch (error) {
      problem.value = inWords(error)
    }
  }
  return (
    <form class="share-new" aria-label="New link" onSubmit={(event) => {
      event.preventDefault()
      void make()
    }}>
      <div class="git-line">
        <select aria-label="What the link allows" value={right.value} onChange={({ currentTarget }) => { right.value = currentTarget.value as Right }}>
          <option value="read">To read</option>
          <option value="write">To write and run programs</option>
        </select>
        <select aria-label="How long the link works" value={days.value} onChange={({ currentTarget }) => { days.value = currentTarget.value }}>
          <option value="1">For a day</option>
          <option value="7">For a week</option>
          <option value="30">For 30 days</option>
          <option value="">Until it is revoked</option>
        </select>
        <button class="primary">Make link</button>
      </div>
      {right.value === 'read' && (
        <label class="git-check">
          <input type="checkbox" checked={mayFork.value} onChange={({ currentTarget }) => { mayFork.value = currentTarget.checked }} />
          <span>Visitors may take a copy, and write and run programs there</span>
        </label>
      )}
      {problem.value !== null && <Failure>{problem.value}</Failure>}
      {made.value !== null && (
        <div class="git-line">
          <input aria-label="The new link" readOnly value={made.value} onFocus={({ currentTarget }) => currentTarget.select()} />
          <button type="button" onClick={() => void navigator.clipboard.writeText(made.value!).then(() => { isCopied.value = true }, bench.notices.failed)}>
            {isCopied.value ? 'Copied' : 'Copy'}
          </button>
        </div>
      )}
      {made.value !== null && <p class="hint">Whoever has it can use it. It is shown this once.</p>}
    </form>
  )
}

function about(link: Link): string {
  const words = [link.permission === 'read' ? 'To read' : 'To write']
  if (link.may_fork) words.push('with a copy')
  words.push(`opened ${link.uses} ${link.uses === 1 ? 'time' : 'times'}`)
  if (link.expires_at_ms !== null) words.push(`until ${day.format(link.expires_at_ms)}`)
  return words.join(', ')
}

const works = ({ revoked_at_ms, expires_at_ms, max_uses, uses }: Link): boolean =>
  revoked_at_ms === null && (expires_at_ms === null || expires_at_ms > Date.now()) && (max_uses === null || uses < max_uses)

function Links({ bench }: { bench: Workbench }) {
  const links = useSignal<readonly Link[]>([])
  const problem = useSignal<string | null>(null)
  const load = async (): Promise<void> => {
    try {
      links.value = (await perch.links(bench.branch.id)).filter(works).reverse()
      problem.value = null
    } catch (error) {
      problem.value = inWords(error)
    }
  }
  // Somebody who comes has opened one.
  useEffect(() => { void load() }, [bench.people.here.value])
  return (
    <section aria-label="Links">
      <div class="git-title"><h3>Links for others</h3></div>
      <NewLink bench={bench} onMade={() => void load()} />
      {problem.value !== null && <Failure>{problem.value}</Failure>}
      <ul class="git-list" aria-label="Links that work">
        {links.value.map((link) => (
          <li key={link.id} data-link={link.id}>
            <span class="share-link">{about(link)}</span>
            <span class="git-acts">
              <button aria-label={`Revoke the link: ${about(link)}`}
                onClick={() => void perch.revokeLink(bench.branch.id, link.id).then(load, (error: unknown) => { problem.value = inWords(error) })}>Revoke</button>
            </span>
          </li>
        ))}
      </ul>
      <p class="hint">Revoking keeps new visitors out. Who is in already stays until their session is ended.</p>
    </section>
  )
}

export function SharingPanel({ bench }: { bench: Workbench }) {
  return (
    <>
      <PanelTop title="Sharing" />
      <div class="git" tabIndex={0} role="region" aria-label="Sharing">
        <p class="hint share-hint">Who is here, and what each may do, is in the panel of people.</p>
        <Links bench={bench} />
      </div>
    </>
  )
}
