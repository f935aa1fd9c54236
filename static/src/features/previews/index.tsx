// What listens on a port of the branch, beside the editor.
import type { Feature, View } from '../../plugs'
import { PreviewBody } from './preview'

function preview(rest: string): View | null {
  const port = /^[1-9]\d{0,4}$/.test(rest) ? Number(rest) : 0
  if (port < 1 || port > 65_535) return null
  return { key: `preview:${port}`, title: `Port ${port}`, about: `Preview of port ${port}`, icon: 'link', Body: PreviewBody }
}

export const previews: Feature = (bench) => {
  bench.kinds.add({ id: 'preview', make: preview })
}
