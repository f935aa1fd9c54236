// Who changed a file since the last commit: of git's blame the lines that are not committed, else the document's own log.
import type { Blame } from '../../../client/git'
import type { Workbench } from '../../bench/workbench'

/** Files that are known of, or asked about, at once; each is a `git blame`. */
const MOST = 200

let queue: Promise<unknown> = Promise.resolve()
const known = new Map<string, { stamp: number, names: Promise<readonly string[]> }>()

const NAMES: Record<string, string> = { '(disk)': 'a program', '(api)': 'the API' }

/** Names, who typed most first; empty where it is not known. Asked once for each `stamp` of a file, one file after the other. */
export function whoChanged(bench: Workbench, path: string, isUntracked: boolean, stamp: number): Promise<readonly string[]> {
  const key = `${bench.branch.id}:${path}`
  const before = known.get(key)
  if (before?.stamp === stamp) return before.names
  if (before === undefined && known.size >= MOST) return Promise.resolve([])
  // Changed again while it waited: the newer question is further back in the queue.
  const isWanted = (): boolean => bench.git.stampOf(path) === stamp
  const names = queue.then(async () => isWanted() ? namesOf(await blames(bench, path, isUntracked)) : []).catch(() => [])
  queue = names
  known.set(key, { stamp, names })
  return names
}

const blames = (bench: Workbench, path: string, isUntracked: boolean): Promise<Blame[]> =>
  isUntracked ? bench.session.files.authors(path) : bench.session.git.blame(path)

function namesOf(ranges: readonly Blame[]): string[] {
  const lines = new Map<string, number>()
  for (const { commit, typed, count } of ranges) {
    if (commit !== undefined) continue
    for (const { author, name } of typed ?? []) {
      if (author === '(file)' || author === '(perch)') continue
      const who = name ?? NAMES[author] ?? author
      lines.set(who, (lines.get(who) ?? 0) + count)
    }
  }
  return [...lines].sort(([, a], [, b]) => b - a).map(([who]) => who)
}
