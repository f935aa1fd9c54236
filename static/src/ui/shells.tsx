// The panel below the editor: the branch's terminals in tabs, and its ports.
import { useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import type { Terminal } from '../api'
import type { Told } from '../editor/screen'
import type { Workbench } from '../workbench'
import { Dialog, Failure, Icon, message } from './parts'

const MANY = 99

function words(told: Told | null, isMine: boolean): string {
  if (told === null) return 'Connecting…'
  if (told.ended !== null) return told.ended
  if (!told.isConnected) return 'Not connected. Trying again…'
  if (told.typing) return ''
  return isMine ? 'This session can only watch.' : 'Somebody else’s terminal: you watch.'
}

function Screen({ bench, terminal }: { bench: Workbench, terminal: Terminal }) {
  const place = useRef<HTMLDivElement>(null)
  const told = useSignal<Told | null>(null)
  const failure = useSignal<string | null>(null)
  useEffect(() => {
    let isGone = false
    let stop = (): void => {}
    const url = new URL(`v1/branches/${encodeURIComponent(bench.branch.id)}/terminals/${encodeURIComponent(terminal.id)}/socket`, location.href)
    url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:'
    url.hash = ''
    import('../editor/screen').then(({ showTerminal }) => {
      if (isGone || place.current === null) return
      stop = showTerminal(place.current, url.href, () => bench.seat.token, (now) => { told.value = now })
    }).catch((problem: unknown) => { failure.value = message(problem) })
    return () => {
      isGone = true
      stop()
    }
  }, [terminal.id])
  const note = words(told.value, terminal.session === bench.seat.id)
  return (
    <div class="shell" role="tabpanel" aria-label={`Terminal ${terminal.title}`} data-typing={told.value?.typing ?? false}>
      {failure.value !== null && <Failure>{failure.value}</Failure>}
      <div class="shell-screen" ref={place} />
      {note !== '' && <p class="shell-foot" role="status">{note}</p>}
    </div>
  )
}

/** Asks before a program that runs is ended. */
function EndTerminal({ bench, terminal, onClose }: { bench: Workbench, terminal: Terminal, onClose: () => void }) {
  return (
    <Dialog title="End this terminal?" onClose={onClose}>
      <form onSubmit={(event) => {
        event.preventDefault()
        void bench.shells.end(terminal.id)
        onClose()
      }}>
        <p>What runs in “{terminal.title}” is ended, for everybody who watches.</p>
        <p class="buttons">
          <button type="button" onClick={onClose}>Cancel</button>
          <button class="primary">End terminal</button>
        </p>
      </form>
    </Dialog>
  )
}

function Ports({ bench }: { bench: Workbench }) {
  const ports = bench.shells.ports.value
  if (ports.length === 0) return null
  return (
    <ul class="ports" aria-label="Ports">
      {ports.slice(0, MANY).map(({ port, process, url }) => (
        <li key={port}>
          <button disabled={url === null} data-port={port} onClick={() => void bench.shells.visit(port)}
            title={url === null ? 'perch needs a --preview-domain to show it' : 'Open in a new tab'}>
            <Icon name="link" />{port}{process !== null && ` ${process}`}
          </button>
        </li>
      ))}
    </ul>
  )
}

export function ShellPanel({ bench }: { bench: Workbench }) {
  const { shells } = bench
  const ending = useSignal<Terminal | null>(null)
  const terminals = shells.terminals.value
  const active = terminals.find(({ id }) => id === shells.active.value) ?? null
  const mayOpen = bench.seat.permission === 'write'
  const isOpen = shells.isOpen.value
  const close = (terminal: Terminal): void => {
    if (terminal.exit === undefined || terminal.exit === null) ending.value = terminal
    else void shells.end(terminal.id)
  }
  return (
    <section class={isOpen ? 'shells shells-open' : 'shells'} aria-label="Terminals and ports">
      <div class="shells-top">
        <button class="quiet" aria-expanded={isOpen} onClick={() => shells.toggle()}>
          Terminals{terminals.length > 0 && ` (${terminals.length})`}
        </button>
        <div class="tabs" role="tablist" aria-label="Terminals">
          {isOpen && terminals.map((terminal) => {
            const isActive = terminal === active
            const isOurs = terminal.session === bench.seat.id
            return (
              <div class={isActive ? 'tab tab-active' : 'tab'} role="presentation" key={terminal.id}>
                <button role="tab" aria-selected={isActive} title={isOurs ? terminal.title : `${terminal.title}, opened by ${terminal.session}`}
                  onClick={() => { shells.active.value = terminal.id }}>{terminal.title}</button>
                {isOurs && mayOpen && (
                  <button class="tab-close" aria-label={`End terminal ${terminal.title}`} onClick={() => close(terminal)}>
                    <Icon name="close" />
                  </button>
                )}
              </div>
            )
          })}
        </div>
        <Ports bench={bench} />
        {mayOpen && <button class="quiet" onClick={() => void shells.open()}><Icon name="plus" />New terminal</button>}
      </div>
      {shells.problem.value !== null && <Failure>{shells.problem.value}</Failure>}
      {isOpen && active !== null && <Screen key={active.id} bench={bench} terminal={active} />}
      {isOpen && active === null && (
        <p class="shells-note">No terminal yet.{mayOpen ? ' Open one: everyone on this branch can watch it.' : ''}</p>
      )}
      {ending.value !== null && <EndTerminal bench={bench} terminal={ending.value} onClose={() => { ending.value = null }} />}
    </section>
  )
}
