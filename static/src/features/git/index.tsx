// Git with one's own name: the panel, side-by-side diffs, marks in the tree, and who typed this.
import { computed } from '@preact/signals'
import type { Feature } from '../../plugs'
import { later } from '../../ui/parts'
import { blame } from './blame'
import { conflicts } from './conflicts'
import { diffView } from './diff_key'
import { fetchAll, pull, push } from './remote'
import { Repository } from './repository'

const Body = later(async () => (await import('./panel')).GitPanel)

export const git: Feature = (bench) => {
  const repository = new Repository(bench)
  bench.git = repository
  const badge = computed(() => ({ count: repository.entries.value.length, words: `${repository.entries.value.length} changed files` }))
  bench.panels.add({ id: 'git', title: 'Git', icon: 'git', order: 30, Body, badge })
  bench.kinds.add({ id: 'diff', make: diffView })
  bench.markers.add({ id: 'git', of: ({ path }) => repository.markFor(path) })
  const mayPull = (): boolean => bench.mayWrite.value && repository.isThere.value === true
  const show = (): void => bench.togglePanel('git', true)
  bench.commands.add(
    { id: 'git.show', title: 'Show git', group: 'Git', keys: 'Ctrl-Shift-g', run: show },
    { id: 'git.pull', title: 'Pull', group: 'Git', isThere: mayPull, run: () => { show(); return pull(repository, 'ff_only') } },
    { id: 'git.push', title: 'Push', group: 'Git', isThere: mayPull, run: () => { show(); return push(repository) } },
    { id: 'git.fetch', title: 'Fetch', group: 'Git', isThere: mayPull, run: () => { show(); return fetchAll(repository) } }
  )
  conflicts(bench, repository)
  const unblame = blame(bench, repository)
  repository.lookSoon()
  return () => {
    unblame()
    repository.destroy()
  }
}
