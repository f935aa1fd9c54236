// The parts of the panel that are unfolded when wanted: branches, what was put aside, restore points, the log.
import { useSignal, type Signal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import type { ComponentChildren } from 'preact'
import type { Commit, Ref, RestorePoint, Stash } from '../../../client/git'
import { inWords } from '../../bench/notices'
import type { Workbench } from '../../bench/workbench'
import { confirmed } from '../../ui/file_dialogs'
import { Failure, Icon } from '../../ui/parts'
import { diffKey } from './diff_key'

const when = new Intl.DateTimeFormat('en', { dateStyle: 'medium', timeStyle: 'short' })

/** A list that is asked for while it is unfolded, again after each change of git's. */
function Fold<T>({ bench, title, ask, children }: {
  bench: Workbench, title: string, ask: () => Promise<T>, children: (value: T) => ComponentChildren
}) {
  const isOpen = useSignal(false)
  const value: Signal<T | null> = useSignal<T | null>(null)
  const problem = useSignal<string | null>(null)
  const version = bench.git.version.value
  useEffect(() => {
    if (!isOpen.value) return
    let isGone = false
    ask().then((now) => {
      if (isGone) return
      value.value = now
      problem.value = null
    }, (error: unknown) => { if (!isGone) problem.value = inWords(error) })
    return () => { isGone = true }
  }, [isOpen.value, version])
  return (
    <details class="git-fold" onToggle={({ currentTarget }) => { isOpen.value = currentTarget.open }}>
      <summary>{title}</summary>
      {problem.value !== null && <Failure>{problem.value}</Failure>}
      {isOpen.value && value.value === null && problem.value === null && <p class="item-note">Loading…</p>}
      {isOpen.value && value.value !== null && children(value.value)}
    </details>
  )
}

function BranchLine({ bench, branch, mayWrite }: { bench: Workbench, branch: Ref, mayWrite: boolean }) {
  const { git: repository } = bench
  const local = branch.is_remote ? branch.name.slice(branch.name.indexOf('/') + 1) : branch.name
  const switchTo = (): void => void repository.step('Switching', async () => {
    await repository.git.switchTo(local)
    return `On ${local} now.`
  })
  const merge = (): void => void repository.step('Merging', async () =>
    repository.outcome(await repository.git.merge(branch.name), `Merged ${branch.name}.`))
  const rebase = (): void => void repository.step('Rebasing', async () =>
    repository.outcome(await repository.git.rebase(branch.name), `Rebased onto ${branch.name}.`))
  return (
    <li data-ref={branch.name}>
      <span class="git-path" title={branch.subject}>
        {branch.is_current && <span class="unseen">Checked out: </span>}
        <span class={branch.is_current ? 'git-now' : ''}>{branch.name}</span>
        {(branch.ahead ?? 0) > 0 && ` ↑${branch.ahead}`}{(branch.behind ?? 0) > 0 && ` ↓${branch.behind}`}
      </span>
      {mayWrite && !branch.is_current && (
        <span class="git-acts">
          <button onClick={switchTo} aria-label={`Switch to ${branch.name}`}>Switch</button>
          <button onClick={merge} aria-label={`Merge ${branch.name} into the one that is checked out`}>Merge</button>
          <button onClick={rebase} aria-label={`Rebase onto ${branch.name}`}>Rebase</button>
        </span>
      )}
    </li>
  )
}

function NewBranch({ bench }: { bench: Workbench }) {
  const name = useSignal('')
  const { git: repository } = bench
  return (
    <form class="git-line" onSubmit={(event) => {
      event.preventDefault()
      const wanted = name.value.trim()
      void repository.step('Making a branch', async () => {
        await repository.git.switchToNew(wanted)
        name.value = ''
        return `On ${wanted} now.`
      })
    }}>
      <input aria-label="Name of a new git branch" placeholder="New branch from here" required spellcheck={false} autocomplete="off"
        value={name.value} onInput={({ currentTarget }) => { name.value = currentTarget.value }} />
      <button>Create</button>
    </form>
  )
}

export function Branches({ bench }: { bench: Workbench }) {
  const mayWrite = bench.mayWrite.value
  return (
    <Fold bench={bench} title="Branches" ask={() => bench.session.git.branches()}>
      {({ branches }) => (
        <>
          {mayWrite && <NewBranch bench={bench} />}
          <ul class="git-list" aria-label="Git branches">
            {branches.filter(({ name }) => !name.endsWith('/HEAD')).map((branch) => (
              <BranchLine key={branch.name} bench={bench} branch={branch} mayWrite={mayWrite} />
            ))}
          </ul>
        </>
      )}
    </Fold>
  )
}

export function Stashes({ bench }: { bench: Workbench }) {
  const { git: repository } = bench
  const message = useSignal('')
  const mayWrite = bench.mayWrite.value
  const pop = (stash: Stash): void => void repository.step('Bringing back', async () =>
    repository.outcome(await repository.git.popStash(stash), 'Brought back.'))
  const drop = async (stash: Stash): Promise<void> => {
    const isSure = await confirmed(bench, 'Throw this away?', `“${stash.message}” is gone for good then.`, 'Throw away')
    if (isSure) await repository.step('Throwing away', () => repository.git.dropStash(stash))
  }
  return (
    <Fold bench={bench} title="Put aside (stash)" ask={() => bench.session.git.stashes()}>
      {(stashes) => (
        <>
          {mayWrite && (
            <form class="git-line" onSubmit={(event) => {
              event.preventDefault()
              void repository.step('Putting aside', async () => {
                await repository.git.stash(message.value.trim(), true)
                message.value = ''
                return 'Put aside.'
              })
            }}>
              <input aria-label="Why it is put aside" placeholder="Why (may be empty)" value={message.value}
                onInput={({ currentTarget }) => { message.value = currentTarget.value }} />
              <button>Stash all</button>
            </form>
          )}
          {stashes.length === 0 && <p class="item-note">Nothing is put aside.</p>}
          <ul class="git-list" aria-label="Put aside">
            {stashes.map((stash) => (
              <li key={stash.commit}>
                <span class="git-path" title={`${stash.by}, ${when.format(stash.at_ms)}`}>{stash.message}</span>
                {mayWrite && (
                  <span class="git-acts">
                    <button onClick={() => pop(stash)} aria-label={`Bring back ${stash.message}`}>Bring back</button>
                    <button onClick={() => void drop(stash)} aria-label={`Throw away ${stash.message}`}>Drop</button>
                  </span>
                )}
              </li>
            ))}
          </ul>
        </>
      )}
    </Fold>
  )
}

export function RestorePoints({ bench }: { bench: Workbench }) {
  const { git: repository } = bench
  const label = useSignal('')
  const mayWrite = bench.mayWrite.value
  const restore = (point: RestorePoint): void => void repository.step('Going back', async () => {
    await repository.git.restore(point.id)
    return `The files are as they were: ${point.label}. What was before is a restore point too.`
  })
  return (
    <Fold bench={bench} title="Restore points" ask={() => bench.session.git.restorePoints()}>
      {(points) => (
        <>
          {mayWrite && (
            <form class="git-line" onSubmit={(event) => {
              event.preventDefault()
              void repository.step('Keeping', async () => {
                await repository.git.takeRestorePoint(label.value.trim())
                label.value = ''
                return 'Kept.'
              })
            }}>
              <input aria-label="What the restore point is for" placeholder="Before I try something" required maxLength={200} value={label.value}
                onInput={({ currentTarget }) => { label.value = currentTarget.value }} />
              <button>Keep</button>
            </form>
          )}
          {points.length === 0 && <p class="item-note">None yet. One is taken before each step that changes files.</p>}
          <ul class="git-list" aria-label="Restore points">
            {points.map((point) => (
              <li key={point.id}>
                <span class="git-path">{point.label} <span class="git-when">{when.format(point.at_ms)}</span></span>
                {mayWrite && <span class="git-acts"><button onClick={() => restore(point)} aria-label={`Go back to ${point.label}`}>Go back</button></span>}
              </li>
            ))}
          </ul>
        </>
      )}
    </Fold>
  )
}

function CommitLine({ bench, commit }: { bench: Workbench, commit: Commit }) {
  const files = useSignal<readonly string[] | null>(null)
  const problem = useSignal<string | null>(null)
  const toggle = async (): Promise<void> => {
    if (files.value !== null) {
      files.value = null
      return
    }
    try {
      files.value = (await bench.session.git.show(commit.hash)).files.map(({ path }) => path)
    } catch (error) {
      problem.value = inWords(error)
    }
  }
  const others = commit.co_authors.map(({ name }) => name)
  return (
    <li class="git-commit" data-commit={commit.hash}>
      <button class="git-row" aria-expanded={files.value !== null} onClick={() => void toggle()}>
        <span class="git-path">{commit.subject}</span>
        <span class="git-when">{[commit.author.name, ...others].join(', ')} · {when.format(commit.author.at_ms)} · {commit.hash.slice(0, 7)}</span>
      </button>
      {problem.value !== null && <Failure>{problem.value}</Failure>}
      {files.value !== null && (
        <ul class="git-list" aria-label={`Files of ${commit.subject}`}>
          {files.value.map((path) => (
            <li key={path}><button class="git-row" onClick={() => bench.show(diffKey(`commit-${commit.hash}`, path))}><span class="git-path">{path}</span></button></li>
          ))}
        </ul>
      )}
    </li>
  )
}

export function Log({ bench }: { bench: Workbench }) {
  const more = useSignal<{ commits: Commit[], next?: string }[]>([])
  return (
    <Fold bench={bench} title="Log" ask={async () => {
      more.value = []
      return bench.session.git.log({ limit: 30 })
    }}>
      {(first) => {
        const pages = [first, ...more.value]
        const next = pages.at(-1)?.next
        return (
          <>
            <ul class="git-list" aria-label="Commits">
              {pages.flatMap(({ commits }) => commits).map((commit) => <CommitLine key={commit.hash} bench={bench} commit={commit} />)}
            </ul>
            {next !== undefined && (
              <p><button onClick={() => void bench.session.git.log({ limit: 30, after: next }).then((page) => { more.value = [...more.value, page] }, bench.notices.failed)}>
                <Icon name="more" />Older
              </button></p>
            )}
          </>
        )
      }}
    </Fold>
  )
}
