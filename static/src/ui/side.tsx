// The side bar: the icons of its panels, and the panel that is shown.
import type { Workbench } from '../bench/workbench'
import type { Panel } from '../plugs'
import { inOrder } from '../registry'
import { Icon } from './parts'

export const panelsOf = (bench: Workbench): Panel[] =>
  inOrder(bench.panels.all.value).filter(({ isThere }) => isThere?.() ?? true)

function Badge({ panel }: { panel: Panel }) {
  const badge = panel.badge?.value ?? null
  if (badge === null || badge.count === 0) return null
  return <span class="badge-count" title={badge.words}><span aria-hidden="true">{badge.count > 99 ? '99+' : badge.count}</span><span class="unseen">, {badge.words}</span></span>
}

export function Activity({ bench }: { bench: Workbench }) {
  return (
    <nav class="activity" aria-label="Panels">
      {panelsOf(bench).map((panel) => {
        const isShown = bench.panel.value === panel.id
        return (
          <button key={panel.id} class={isShown ? 'activity-on' : ''} aria-expanded={isShown} aria-controls="side"
            title={panel.title} data-panel={panel.id} onClick={() => bench.togglePanel(panel.id)}>
            <Icon name={panel.icon} /><span class="unseen">{panel.title}</span><Badge panel={panel} />
          </button>
        )
      })}
    </nav>
  )
}

export function Side({ bench }: { bench: Workbench }) {
  const panel = panelsOf(bench).find(({ id }) => id === bench.panel.value)
  return (
    <aside class="side" id="side" aria-label={panel?.title ?? 'Panel'} hidden={panel === undefined}>
      {panel !== undefined && <panel.Body key={panel.id} bench={bench} />}
    </aside>
  )
}

/** The line at the top of a panel: its name, and its buttons. */
export function PanelTop({ title, children }: { title: string, children?: preact.ComponentChildren }) {
  return <div class="side-top"><h2>{title}</h2>{children}</div>
}
