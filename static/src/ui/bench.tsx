// The frame of a branch at work: what is at the top and bottom, the side bar, the groups of tabs, the terminals.
import type { Workbench } from '../bench/workbench'
import { isEmbedded } from '../embedded'
import { inOrder } from '../registry'
import { Groups } from './groups'
import { Icon, Mark } from './parts'
import { keptSize, Separator } from './separator'
import { ShellPanel } from './shells'
import { Activity, Side } from './side'

const sideSize = keptSize('side')

/** What concerns the whole branch and should be read. */
function Notices({ bench }: { bench: Workbench }) {
  const ended = bench.documents.ended.value
  return (
    <div class="notices" aria-live="polite">
      {ended !== null && (
        <p class="notice notice-bad">
          perch ended your session here{ended !== '' && `: ${ended}`}. What you type is kept in this page only.
          <button onClick={() => void bench.rejoin()}>Join again</button>
        </p>
      )}
      {inOrder(bench.noticePieces.all.value).map(({ id, Body }) => <Body key={id} bench={bench} />)}
      {bench.notices.all.value.map(({ id, words, isBad, action }) => (
        <p key={id} class={isBad ? 'notice notice-bad' : 'notice'}>
          {words}
          {action !== undefined && (
            <button onClick={() => {
              bench.notices.drop(id)
              void Promise.resolve(action.run()).catch(bench.notices.failed)
            }}>{action.title}</button>
          )}
          <button class="quiet square" aria-label="Put this notice away" onClick={() => bench.notices.drop(id)}><Icon name="close" /></button>
        </p>
      ))}
    </div>
  )
}

export function Bench({ bench, onRename }: { bench: Workbench, onRename: (() => void) | null }) {
  bench.onRename = onRename
  const view = bench.layout.view.value
  const isOnline = bench.isOnline.value
  return (
    <div class="bench" data-online={isOnline}>
      <header class="top">
        {isEmbedded
          ? <Mark />
          : <a class="brand" href="#/" aria-label="All branches" title="All branches"><Mark /></a>}
        <span class="crumb" aria-hidden="true">/</span>
        <h1>{bench.branch.name}</h1>
        <span class="grow" />
        {view?.Top !== undefined && <view.Top bench={bench} view={view} />}
        {inOrder(bench.topPieces.all.value).map(({ id, Body }) => <Body key={id} bench={bench} />)}
      </header>
      <Notices bench={bench} />
      <div class="split" data-side={bench.panel.value !== null} style={sideSize.now.value === null ? undefined : { '--side': `${sideSize.now.value}px` }}>
        <Activity bench={bench} />
        <Side bench={bench} />
        {bench.panel.value !== null && (
          <Separator label="Width of the side bar" isUpright size={sideSize} min={160} max={() => innerWidth / 2}
            measure={(separator, pointer) => (pointer?.x ?? separator.getBoundingClientRect().left) - separator.parentElement!.querySelector('.side')!.getBoundingClientRect().left} />
        )}
        <main class="work">
          <Groups bench={bench} />
          <ShellPanel bench={bench} />
        </main>
      </div>
      <footer class="foot">
        <span class={isOnline ? 'line line-on' : 'line'} role="status">{isOnline ? 'Connected' : 'Not connected'}</span>
        {inOrder(bench.footPieces.all.value).map(({ id, Body }) => <Body key={id} bench={bench} />)}
        <span class="grow" />
        {view?.Foot !== undefined && <view.Foot bench={bench} view={view} />}
      </footer>
      {bench.dialog.value}
    </div>
  )
}
