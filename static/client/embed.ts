// perch's own editor in a frame of another page. The session goes by `postMessage` to perch's origin and nowhere else.
import type { Seat } from './types.js'

export interface EmbedOptions {
  /** Where perch is. It must know the origin of the page around: `--allowed-origin`. */
  url: string | URL
  /** Gives a session for the frame: at first, and again when perch refuses its token. */
  seat: () => Promise<Seat>
  /** The file to open. */
  path?: string
}

/** Shows the editor in `frame`; what is returned ends it. */
export function embed(frame: HTMLIFrameElement, { url, seat, path }: EmbedOptions): () => void {
  const at = new URL('embed', url)
  const hear = async ({ source, origin, data }: MessageEvent): Promise<void> => {
    if (source === null || source !== frame.contentWindow || origin !== at.origin) return
    const { type } = (data ?? {}) as { type?: unknown }
    if (type !== 'perch.ready' && type !== 'perch.renew') return
    let answer: object
    try {
      answer = { type: 'perch.session', seat: await seat(), path }
    } catch (problem) {
      answer = { type: 'perch.refused', why: problem instanceof Error ? problem.message : String(problem) }
    }
    frame.contentWindow?.postMessage(answer, at.origin)
  }
  const listener = (event: MessageEvent): void => void hear(event)
  addEventListener('message', listener)
  // The frame may not use what its page was not given itself; copying is for the terminal and links.
  frame.allow = 'clipboard-write'
  frame.src = at.href
  return () => {
    removeEventListener('message', listener)
    frame.src = 'about:blank'
  }
}
