// The git panel: what differs and who changed it, the next commit, and the way to and from the remote.
import { useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import type { StatusEntry } from '../../../client/git'
import { Problem } from '../../../client/http'
import type { Workbench } from '../../bench/workbench'
import { confirmed } from '../../ui/file_dialogs'
import { Failure, Icon, useKeptKeys } from '../../ui/parts'
import { PanelTop } from '../../ui/side'
import { diffKey, type Side } from './diff_key'
import { EmailForm, SshForm, TokenForm } from './forms'
import { Branches, Log, RestorePoints, Stashes } from './lists'
import { fetchAll, pull, push } from './remote'
import { markOf } from './repository'
import { whoChanged } from './who'

/** Files of a list; more are counted. */
const MOST = 300

function Head({ bench }: { bench: Workbench }) {
  const { git: repository } = bench
  const head = repository.status.value?.head
  if (head === undefined) return null
  const isBusy = repository.busy.value !== null
  const hasDiverged = (head.ahead ?? 0) > 0 && (head.behind ?? 0) > 0
  return (
    <div class="git-head">
      <p>
        On <strong data-head>{head.branch ?? (head.commit ?? 'no commit').slice(0, 7)}</strong>
        {head.upstream !== null && (
          <span class="git-when"> {head.upstream}{(head.ahead ?? 0) > 0 && `, ${head.ahead} to push`}{(head.behind ?? 0) > 0 && `, ${head.behind} to pull`}</span>
        )}
      </p>
      {bench.mayWrite.value && (
        <p class="git-remote">
          <button disabled={isBusy} onClick={() => void fetchAll(repository)}>Fetch</button>
          <button disabled={isBusy} onClick={() => void pull(repository, 'ff_only')}>Pull</button>
          <button disabled={isBusy} onClick={() => void push(repository)}>Push</button>
        </p>
      )}
      {bench.mayWrite.value && hasDiverged && (
        <p class="git-remote" role="group" aria-label="Both sides have commits of their own">
          <span class="git-when">Both sides have new commits:</span>
          <button disabled={isBusy} onClick={() => void pull(repository, 'merge')}>Pull and merge</button>
          <button disabled={isBusy} onClick={() => void pull(repository, 'rebase')}>Pull and rebase</button>
        </p>
      )}
    </div>
  )
}

function Busy({ bench }: { bench: Workbench }) {
  const busy = bench.git.busy.value
  if (busy === null) return null
  const { progress } = busy
  const words = progress === null ? '' : `: ${progress.phase.replace('_', ' ')}${progress.percent === undefined ? '' : ` ${progress.percent} %`}`
  return (
    <div class="git-busy" role="status">
      <span class="spinner" aria-hidden="true" />
      <span class="grow">{busy.words}{words}</span>
      {busy.cancel !== null && <button onClick={busy.cancel}>Cancel</button>}
      {progress?.percent !== undefined && <progress max={100} value={progress.percent} aria-label={busy.words} />}
      {busy.said !== null && <span class="git-said">{busy.said}</span>}
    </div>
  )
}

const DOING: Record<string, string> = {
  merge: 'A merge', rebase: 'A rebase', cherry_pick: 'A cherry-pick', revert: 'A revert', patches: 'Patches'
}

/** A merge or the like that has stopped, and files in conflict. */
function Operation({ bench }: { bench: Workbench }) {
  const { git: repository } = bench
  const operation = repository.operation.value
  if (operation === null || (operation.doing === null && operation.conflicts.length === 0)) return null
  const name = operation.doing === null ? 'What was put aside' : DOING[operation.doing] ?? 'A step'
  const solve = (path: string, anyway = false): void => void repository.step('Marking as solved', async () => {
    try {
      await repository.git.resolved([path], anyway)
    } catch (problem) {
      const hasMarkers = problem instanceof Problem && problem.code === 'git_conflict_markers'
      const isSure = hasMarkers && await confirmed(bench, 'Still in conflict', `${path} still holds conflict markers. Mark it as solved all the same?`, 'Mark as solved')
      if (!isSure) throw problem
      await repository.git.resolved([path], true)
    }
    return `${path} is solved.`
  })
  const goOn = (): void => void repository.step('Going on', async () => repository.outcome(await repository.git.goOn(), 'Done.'))
  const abort = (): void => void repository.step('Aborting', async () => {
    await repository.git.abort()
    return 'Aborted. What was there is a restore point.'
  })
  return (
    <section class="git-operation" aria-label="Under way">
      <p>
        <strong>{name} is under way</strong>
        {operation.step !== null && ` (${operation.step} of ${operation.steps})`}
        {operation.conflicts.length > 0 ? '. These files hold both sides: solve them in the editor, together.' : '. All conflicts are solved.'}
      </p>
      <ul class="git-list" aria-label="Files in conflict">
        {operation.conflicts.map(({ path }) => (
          <li key={path} data-conflict={path}>
            <button class="git-row" onClick={() => bench.open(path)}><span class="git-path">{path}</span></button>
            {bench.mayWrite.value && <span class="git-acts"><button onClick={() => solve(path)} aria-label={`Mark ${path} as solved`}>Solved</button></span>}
          </li>
        ))}
      </ul>
      {bench.mayWrite.value && operation.doing !== null && (
        <p class="git-remote">
          {!operation.is_of_a_shell && <button class="primary" disabled={operation.conflicts.length > 0} onClick={goOn}>Continue</button>}
          <button onClick={abort}>Abort</button>
          {operation.is_of_a_shell && <span class="git-when">It was begun in a shell; go on with it there.</span>}
        </p>
      )}
    </section>
  )
}

function CommitBox({ bench }: { bench: Workbench }) {
  const { git: repository } = bench
  const isAll = repository.staged.value.length === 0
  const isBusy = repository.busy.value !== null
  const own = bench.seat.id
  const others = repository.typists.value.filter(({ session }) => session !== own)
  const without = repository.without.value
  const commit = (): void => void repository.step('Committing', async () => {
    const made = await repository.git.commit(repository.message.value, { all: isAll, without: [...without] })
    repository.message.value = ''
    repository.without.value = new Set()
    const names = made.co_authors.map(({ name, session }) => name ?? session)
    return `Committed ${made.commit.slice(0, 7)}${names.length > 0 ? ` with ${names.join(', ')}` : ''}.`
  })
  return (
    <form class="git-commit-box" onSubmit={(event) => {
      event.preventDefault()
      commit()
    }}>
      <label>
        <span class="unseen">Commit message</span>
        <textarea rows={3} placeholder="What changed, and why" required value={repository.message.value}
          onInput={({ currentTarget }) => { repository.message.value = currentTarget.value }} />
      </label>
      {others.length > 0 && (
        <fieldset>
          <legend>Typed by others too</legend>
          {others.map(({ session, name, email, named }) => (
            <label key={session} class="git-check" data-typist={session}>
              <input type="checkbox" disabled={!named} checked={named && !without.has(session)}
                onChange={({ currentTarget }) => {
                  const next = new Set(without)
                  if (currentTarget.checked) next.delete(session)
                  else next.add(session)
                  repository.without.value = next
                }} />
              <span>{name ?? session} <span class="git-when">{email ?? 'no email address, so the commit can’t name them'}{email !== null && !named && ', does not want to be named'}</span></span>
            </label>
          ))}
        </fieldset>
      )}
      <button class="primary" disabled={isBusy}>{isAll ? 'Stage all and commit' : 'Commit what is staged'}</button>
    </form>
  )
}

function Entry({ bench, entry, side }: { bench: Workbench, entry: StatusEntry, side: Side }) {
  const { git: repository } = bench
  const mark = markOf(side === 'staged' ? { ...entry, unstaged: null } : entry)
  const { path } = entry
  const act = (words: string, work: () => Promise<void>): void => void repository.step(words, work)
  const discard = async (): Promise<void> => {
    const [title, words] = entry.untracked
      ? ['Delete this file?', `${path} is new, and is deleted for everybody on this branch.`]
      : ['Discard these changes?', `The changes go out of ${path}, for everybody on this branch.`]
    const isSure = await confirmed(bench, title, `${words} A restore point keeps what is there.`, entry.untracked ? 'Delete' : 'Discard')
    if (isSure) act('Discarding', () => repository.git.discard({ paths: [path] }, entry.untracked))
  }
  return (
    <li data-entry={path} data-side={side}>
      <button class="git-row" onClick={() => bench.show(diffKey(side, path))} title={`${path}: ${mark.words}`}>
        <span class={`git-letter mark-${mark.tone}`} aria-hidden="true">{mark.letter}</span>
        <span class="git-path">{path}<span class="unseen">, {mark.words}</span></span>
        {side === 'work' && <Changers bench={bench} entry={entry} />}
      </button>
      {bench.mayWrite.value && (
        <span class="git-acts">
          {side === 'staged'
            ? <button onClick={() => act('Unstaging', () => repository.git.unstage({ paths: [path] }))} aria-label={`Unstage ${path}`}>Unstage</button>
            : (
              <>
                <button onClick={() => act('Staging', () => repository.git.stage({ paths: [path] }))} aria-label={`Stage ${path}`}>Stage</button>
                <button onClick={() => void discard()} aria-label={`Discard ${path}`}>Discard</button>
              </>
              )}
        </span>
      )}
    </li>
  )
}

/** Who changed a file since the last commit, looked up one file after the other. */
function Changers({ bench, entry: { path, untracked } }: { bench: Workbench, entry: StatusEntry }) {
  const names = useSignal<readonly string[]>([])
  const stamp = bench.git.stampOf(path)
  useEffect(() => {
    let isGone = false
    void whoChanged(bench, path, untracked, stamp).then((now) => { if (!isGone) names.value = now })
    return () => { isGone = true }
  }, [path, untracked, stamp])
  return names.value.length === 0 ? null : <span class="git-when" data-changed-by={names.value.join()}>by {names.value.join(', ')}</span>
}

function Entries({ bench, title, entries, side }: { bench: Workbench, title: string, entries: readonly StatusEntry[], side: Side }) {
  const { git: repository } = bench
  if (entries.length === 0) return null
  return (
    <section aria-label={title}>
      <div class="git-title">
        <h3>{title} <span class="git-when">{entries.length}</span></h3>
        {bench.mayWrite.value && (
          <button class="quiet" onClick={() => void repository.step(side === 'staged' ? 'Unstaging' : 'Staging', () =>
            side === 'staged' ? repository.git.unstage({ all: true }) : repository.git.stage({ all: true }))}>
            {side === 'staged' ? 'Unstage all' : 'Stage all'}
          </button>
        )}
      </div>
      <ul class="git-list" aria-label={title}>
        {entries.slice(0, MOST).map((entry) => <Entry key={entry.path} bench={bench} entry={entry} side={side} />)}
      </ul>
      {entries.length > MOST && <p class="item-note">{entries.length - MOST} more are not shown.</p>}
    </section>
  )
}

function SetRemote({ bench }: { bench: Workbench }) {
  const url = useSignal('')
  const { git: repository } = bench
  const remotes = useSignal<number | null>(null)
  useEffect(() => {
    bench.session.git.remotes().then((all) => { remotes.value = all.length }, () => {})
  }, [repository.version.value])
  if (remotes.value !== 0) return null
  return (
    <form class="git-line" onSubmit={(event) => {
      event.preventDefault()
      void repository.step('Setting the remote', async () => {
        await repository.git.setRemote('origin', url.value.trim())
        return 'origin is set.'
      })
    }}>
      <input aria-label="URL of the remote" placeholder="https://… to push to" required spellcheck={false} autocomplete="off" value={url.value}
        onInput={({ currentTarget }) => { url.value = currentTarget.value }} />
      <button>Set remote</button>
    </form>
  )
}

export function GitPanel({ bench }: { bench: Workbench }) {
  const { git: repository } = bench
  const panel = useRef<HTMLDivElement>(null)
  useKeptKeys(panel)
  useEffect(() => {
    repository.show()
    return () => { repository.isShown.value = false }
  }, [])
  const wanted = repository.wanted.value
  const problem = repository.problem.value ?? repository.blind.value
  const isThere = repository.isThere.value
  const isClean = repository.status.value !== null && repository.entries.value.length === 0
  const mayWrite = bench.mayWrite.value
  return (
    <>
      <PanelTop title="Git">
        <button class="quiet square" aria-label="Look again" title="Look again" onClick={() => repository.lookSoon()}><Icon name="refresh" /></button>
      </PanelTop>
      <div class="git" ref={panel} tabIndex={0} role="region" aria-label="Git">
        {isThere === null && problem === null && <p class="item-note">Loading…</p>}
        {isThere === false && (
          <div class="git-none">
            <p>These files are no git repository yet.</p>
            {mayWrite && <p><button onClick={() => void repository.step('Making a repository', () => repository.git.init())}>Make a repository</button></p>}
          </div>
        )}
        {isThere === true && <Head bench={bench} />}
        <Busy bench={bench} />
        {problem !== null && <Failure>{problem}</Failure>}
        {repository.done.value !== null && <p class="git-done" role="status">{repository.done.value}</p>}
        {wanted?.what === 'email' && <EmailForm bench={bench} why={wanted.why} />}
        {wanted?.what === 'token' && <TokenForm bench={bench} wanted={wanted} />}
        {wanted?.what === 'ssh' && <SshForm key={wanted.file} bench={bench} wanted={wanted} />}
        <Operation bench={bench} />
        {isThere === true && (
          <>
            {mayWrite && !isClean && repository.operation.value?.doing === null && <CommitBox bench={bench} />}
            {isClean && <p class="item-note">Nothing differs from the last commit.</p>}
            <Entries bench={bench} title="Staged" entries={repository.staged.value} side="staged" />
            <Entries bench={bench} title="Changes" entries={repository.unstaged.value} side="work" />
            {repository.status.value?.is_truncated === true && <p class="item-note">More than 10,000 files differ; the rest is not shown.</p>}
            <Branches bench={bench} />
            <Stashes bench={bench} />
            <RestorePoints bench={bench} />
            <Log bench={bench} />
            {mayWrite && <SetRemote bench={bench} />}
          </>
        )}
      </div>
    </>
  )
}

