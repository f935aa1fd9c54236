// The way to and from the remote.
import type { Repository } from './repository'

export const pull = (repository: Repository, how: 'ff_only' | 'merge' | 'rebase'): Promise<void> =>
  repository.step('Pulling', async (told) => repository.outcome(await repository.git.pull(how, told), 'Pulled.'), true)

export const push = (repository: Repository): Promise<void> =>
  repository.step('Pushing', async (told) => {
    const hasUpstream = repository.status.peek()?.head.upstream !== null
    await repository.git.push(!hasUpstream, told)
    return 'Pushed.'
  }, true)

export const fetchAll = (repository: Repository): Promise<void> =>
  repository.step('Fetching', async (told) => {
    await repository.git.fetch(told)
    return 'Fetched.'
  }, true)
