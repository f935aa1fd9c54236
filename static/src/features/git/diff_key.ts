// The key of a diff's tab: `diff:work:path`, `diff:staged:path`, `diff:commit-<hash>:path`.
import type { View } from '../../plugs'
import { later } from '../../ui/parts'

export type Side = 'work' | 'staged' | `commit-${string}`

const Body = later(async () => (await import('./diff')).DiffBody)

export const diffKey = (side: Side, path: string): string => `diff:${side}:${path}`

export function sideOf(rest: string): { side: Side, path: string } | null {
  const [, side, path] = /^(work|staged|commit-[0-9a-f]{40,64}):(.+)$/s.exec(rest) ?? []
  return side === undefined || path === undefined ? null : { side: side as Side, path }
}

export function diffView(rest: string): View | null {
  const at = sideOf(rest)
  if (at === null) return null
  const words = at.side === 'work' ? 'changes' : at.side === 'staged' ? 'staged' : at.side.slice(7, 14)
  const name = at.path.slice(at.path.lastIndexOf('/') + 1)
  return { key: `diff:${rest}`, title: `${name} (${words})`, about: `${words} of ${at.path}`, icon: 'git', path: at.path, Body }
}
