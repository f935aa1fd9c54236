// One preview: a frame of another site, so that nothing it runs reaches this page, and its address line.
import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { inWords } from '../../bench/notices'
import type { Workbench } from '../../bench/workbench'
import type { View } from '../../plugs'
import { Failure, Icon, Waiting } from '../../ui/parts'

/** All that a page of its own may do, but leave the frame for the window around it. */
const SANDBOX = 'allow-scripts allow-same-origin allow-forms allow-modals allow-popups allow-popups-to-escape-sandbox allow-downloads'

/** The same ticket for another page of the preview. */
function at(ticket: string, path: string): string {
  const url = new URL(ticket)
  const wanted = new URL(path.startsWith('/') ? path : `/${path}`, url)
  const key = url.searchParams.get('perch-ticket')
  // A path of two slashes would be another host.
  const inside = new URL(wanted.pathname.replace(/^\/+/, '/') + wanted.search + wanted.hash, url.origin)
  if (key !== null) inside.searchParams.set('perch-ticket', key)
  return inside.href
}

export function PreviewBody({ bench, view }: { bench: Workbench, view: View }) {
  const port = Number(view.key.slice('preview:'.length))
  const path = useSignal('/')
  const url = useSignal<string | null>(null)
  const problem = useSignal<string | null>(null)
  const isListening = bench.shells.ports.value.some((one) => one.port === port)
  const load = async (): Promise<void> => {
    try {
      problem.value = null
      url.value = at(await bench.session.terminals.preview(port), path.value)
    } catch (error) {
      problem.value = inWords(error)
    }
  }
  // A server that was started again is shown again.
  useEffect(() => { if (isListening || url.value === null) void load() }, [isListening])
  return (
    <div class="preview">
      <form class="preview-top" onSubmit={(event) => {
        event.preventDefault()
        void load()
      }}>
        <button type="button" class="quiet square" aria-label="Load again" title="Load again" onClick={() => void load()}><Icon name="refresh" /></button>
        <input aria-label={`Address within port ${port}`} value={path.value} spellcheck={false} autocomplete="off"
          onInput={({ currentTarget }) => { path.value = currentTarget.value }} />
        <button type="button" class="quiet" onClick={() => void bench.shells.visit(port, (ticket) => at(ticket, path.value))}><Icon name="link" />Open in a tab</button>
      </form>
      {problem.value !== null && <Failure>{problem.value}</Failure>}
      {!isListening && <p class="diff-note" role="status">Nothing listens on port {port} now.</p>}
      {url.value === null && problem.value === null && <Waiting>Asking for the preview…</Waiting>}
      {url.value !== null && <iframe key={url.value} src={url.value} title={view.about} sandbox={SANDBOX} referrerpolicy="no-referrer" />}
    </div>
  )
}
