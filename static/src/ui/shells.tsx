// The panel below the editor: the branch's terminals in tabs, and its ports.
import { useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import type { Present, Terminal } from '../../client/types'
import { inWords } from '../bench/notices'
import type { Workbench } from '../bench/workbench'
import type { Screen as Emulator, Told } from '../editor/screen'
import { Dialog, Failure, Icon, TabList, useKeptKeys } from './parts'
import { keptSize, Separator } from './separator'

const MANY = 99

const height = keptSize('terminals')

function words(told: Told | null, owner: string | null): string {
  if (told === null) return 'Connecting…'
  if (told.ended !== null) return told.ended
  if (!told.isConnected) return 'Not connected. Trying again…'
  if (told.refused !== null) return told.refused
  if (told.typing) return owner === null ? '' : `${owner} lets you type here.`
  return owner === null ? 'This session can only watch.' : `${owner}’s terminal: you watch.`
}

/** Who may type besides the opener: given and taken back here. */
function HandOver({ bench, terminal, onClose }: { bench: Workbench, terminal: Terminal, onClose: () => void }) {
  const problem = useSignal<string | null>(null)
  const now = bench.shells.terminals.value.find(({ id }) => id === terminal.id) ?? terminal
  const others = bench.people.here.value.filter(({ session, permission }) => session !== terminal.session && permission === 'write')
  // Those who may type and have left stay listed, so that it can be taken back.
  const away = now.typists.filter((session) => !others.some((one) => one.session === session))
  const set = async (session: string, may: boolean): Promise<void> => {
    const typists = may ? [...now.typists, session] : now.typists.filter((other) => other !== session)
    problem.value = null
    try {
      await bench.session.terminals.change(terminal.id, { typists })
    } catch (error) {
      problem.value = inWords(error)
    }
  }
  const row = (session: string, name: string) => (
    <li key={session}>
      <label class="check">
        <input type="checkbox" checked={now.typists.includes(session)} onChange={({ currentTarget }) => void set(session, currentTarget.checked)} />
        {name}
      </label>
    </li>
  )
  return (
    <Dialog title={`Who may type in “${now.title}”`} onClose={onClose}>
      <p class="hint">What they type runs as you, with your tokens. All others watch.</p>
      <ul class="checks">
        {others.map(({ session, name }: Present) => row(session, name))}
        {away.map((session) => row(session, `${session} (not here)`))}
      </ul>
      {others.length + away.length === 0 && <p class="hint">Nobody else who may change this branch is here now.</p>}
      {problem.value !== null && <Failure>{problem.value}</Failure>}
      <p class="buttons"><button class="primary" onClick={onClose}>Done</button></p>
    </Dialog>
  )
}

function Rename({ bench, terminal, onClose }: { bench: Workbench, terminal: Terminal, onClose: () => void }) {
  const title = useSignal(terminal.title)
  const problem = useSignal<string | null>(null)
  const go = async (): Promise<void> => {
    try {
      await bench.session.terminals.change(terminal.id, { title: title.value.trim() })
      onClose()
    } catch (error) {
      problem.value = inWords(error)
    }
  }
  return (
    <Dialog title="Name of the terminal" onClose={onClose}>
      <form onSubmit={(event) => {
        event.preventDefault()
        void go()
      }}>
        <label>
          <span>Name</span>
          <input value={title.value} autofocus required autocomplete="off" onInput={({ currentTarget }) => { title.value = currentTarget.value }} />
        </label>
        {problem.value !== null && <Failure>{problem.value}</Failure>}
        <p class="buttons">
          <button type="button" onClick={onClose}>Cancel</button>
          <button class="primary">Rename</button>
        </p>
      </form>
    </Dialog>
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
          <button class="primary grave">End terminal</button>
        </p>
      </form>
    </Dialog>
  )
}

function Find({ screen, onClose }: { screen: Emulator, onClose: () => void }) {
  const text = useSignal('')
  const isThere = useSignal(true)
  const look = (isForward: boolean): void => { isThere.value = text.value === '' || screen.find(text.value, isForward) }
  const close = (): void => {
    screen.endFind()
    onClose()
  }
  return (
    <form class="shell-find" role="search" onSubmit={(event) => {
      event.preventDefault()
      look(false)
    }} onKeyDown={(event) => {
      if (event.key !== 'Escape') return
      event.preventDefault()
      close()
    }}>
      <input aria-label="Find in the terminal" placeholder="Find in the terminal" autofocus autocomplete="off" spellcheck={false} value={text.value}
        ref={(input) => { if (input !== null && document.activeElement !== input && text.peek() === '') input.focus() }}
        onInput={({ currentTarget }) => {
          text.value = currentTarget.value
          look(false)
        }} />
      {!isThere.value && <span class="shell-nothing" role="status">Not found</span>}
      <button class="quiet" title="Further up">Up</button>
      <button type="button" class="quiet" title="Further down" onClick={() => look(true)}>Down</button>
      <button type="button" class="quiet square" aria-label="End finding" onClick={close}><Icon name="close" /></button>
    </form>
  )
}

/** For who watches: asks the opener for the keyboard, and says what came of it. */
function Asking({ bench, terminal, owner }: { bench: Workbench, terminal: Terminal, owner: string }) {
  const { shells } = bench
  const self = bench.seat.id
  const isAsking = terminal.asking.includes(self)
  const isWaiting = useRef(false)
  useEffect(() => {
    if (isWaiting.current && !isAsking && !terminal.typists.includes(self)) bench.notices.say(`${owner} keeps the keyboard of “${terminal.title}”.`)
    isWaiting.current = isAsking
  }, [isAsking])
  if (!isAsking) return <button class="quiet" onClick={() => void shells.ask(terminal.id)}>Ask to type</button>
  return (
    <>
      <span role="status">You asked {owner} to let you type.</span>
      <button class="quiet" onClick={() => {
        isWaiting.current = false
        void shells.turnDown(terminal.id, self)
      }}>Take it back</button>
    </>
  )
}

/** Who asks for the keyboard of one's own terminals: among the notices, where it is seen with the terminals folded away too. */
export function Askers({ bench }: { bench: Workbench }) {
  const { shells } = bench
  const mine = shells.terminals.value.filter((terminal) => terminal.session === bench.seat.id && !shells.hasEnded(terminal))
  return (
    <>
      {mine.flatMap((terminal) => terminal.asking.map((session) => {
        const person = bench.people.find(session)
        // Who left, or may only read by now, could do nothing with it.
        if (person?.permission !== 'write') return null
        return (
          <p class="notice" key={`${terminal.id} ${session}`} data-asking={person.name}>
            <span>{person.name} asks to type in your terminal “{terminal.title}”. What is typed there runs as you, with your tokens.</span>
            <button onClick={() => void shells.letIn(terminal, session)}>Let {person.name} type</button>
            <button onClick={() => void shells.turnDown(terminal.id, session)}>No</button>
          </p>
        )
      }))}
    </>
  )
}

function Screen({ bench, terminal }: { bench: Workbench, terminal: Terminal }) {
  const place = useRef<HTMLDivElement>(null)
  const told = useSignal<Told | null>(null)
  const failure = useSignal<string | null>(null)
  const screen = useSignal<Emulator | null>(null)
  const isFinding = useSignal(false)
  const isMine = terminal.session === bench.seat.id
  useEffect(() => {
    let isGone = false
    import('../editor/screen').then(({ showTerminal }) => {
      if (isGone || place.current === null) return
      screen.value = showTerminal(place.current, (from) => bench.session.terminals.socket(terminal.id, from), (now) => {
        told.value = now
        if (now.ended !== null) bench.shells.sawEnd(terminal.id)
      })
      if (bench.shells.wantsKeys) screen.value.focus()
      bench.shells.wantsKeys = false
    }).catch((problem: unknown) => { failure.value = inWords(problem) })
    return () => {
      isGone = true
      screen.peek()?.destroy()
      screen.value = null
    }
  }, [terminal.id])
  const owner = isMine ? null : bench.people.nameOf(terminal.session)
  const note = words(told.value, owner)
  const attempt = (work: Promise<void> | undefined): void => void work?.catch(bench.notices.failed)
  const typists = (told.value?.typists ?? terminal.typists).map((session) => bench.people.nameOf(session))
  return (
    <div class="shell" role="tabpanel" aria-label={`Terminal ${terminal.title}`} data-typing={told.value?.typing ?? false}>
      {failure.value !== null && <Failure>{failure.value}</Failure>}
      {isFinding.value && screen.value !== null && <Find screen={screen.value} onClose={() => { isFinding.value = false }} />}
      <div class="shell-screen" ref={place} onKeyDown={(event) => {
        if (!(event.ctrlKey && event.shiftKey && event.key.toLowerCase() === 'f')) return
        event.preventDefault()
        isFinding.value = true
      }} />
      <div class="shell-foot">
        <span role="status">{note}{isMine && typists.length > 0 && told.value?.ended === null && `${typists.join(', ')} may type here too.`}</span>
        <span class="grow" />
        {owner !== null && bench.mayWrite.value && told.value !== null && !told.value.typing && told.value.ended === null && (
          <Asking bench={bench} terminal={terminal} owner={owner} />
        )}
        <button class="quiet" aria-pressed={isFinding.value} onClick={() => { isFinding.value = !isFinding.value }}>Find</button>
        <button class="quiet" title="What is selected, or all" onClick={() => attempt(screen.value?.copy())}>Copy</button>
        {told.value?.typing === true && <button class="quiet" onClick={() => attempt(screen.value?.paste())}>Paste</button>}
        {isMine && bench.mayWrite.value && told.value?.ended === null && (
          <>
            <button class="quiet" onClick={() => bench.showDialog((close) => <HandOver bench={bench} terminal={terminal} onClose={close} />)}>Who may type…</button>
            <button class="quiet" onClick={() => bench.showDialog((close) => <Rename bench={bench} terminal={terminal} onClose={close} />)}>Rename…</button>
          </>
        )}
      </div>
    </div>
  )
}

function Ports({ bench }: { bench: Workbench }) {
  const ports = bench.shells.ports.value
  if (ports.length === 0) return null
  return (
    <ul class="ports" aria-label="Ports">
      {ports.slice(0, MANY).map(({ port, process, url }) => (
        <li key={port}>
          <button disabled={url === null} data-port={port} onClick={() => bench.show(`preview:${port}`, 1)}
            title={url === null ? 'perch needs a --preview-domain to show it' : 'Show it beside the editor'}>
            <Icon name="split" />{port}{process !== null && ` ${process}`}
          </button>
          {url !== null && (
            <button class="quiet square" data-port-tab={port} aria-label={`Open port ${port} in a tab`} title="Open in a new tab"
              onClick={() => void bench.shells.visit(port)}><Icon name="link" /></button>
          )}
        </li>
      ))}
    </ul>
  )
}

export function ShellPanel({ bench }: { bench: Workbench }) {
  const { shells } = bench
  const panel = useRef<HTMLElement>(null)
  useKeptKeys(panel, '.shells-toggle')
  const terminals = shells.terminals.value
  const active = terminals.find(({ id }) => id === shells.active.value) ?? null
  const mayOpen = bench.mayWrite.value
  const isOpen = shells.isOpen.value
  const close = (terminal: Terminal): void => {
    if (shells.hasEnded(terminal)) void shells.end(terminal.id)
    else bench.showDialog((done) => <EndTerminal bench={bench} terminal={terminal} onClose={done} />)
  }
  const onKeyDown = (event: KeyboardEvent, at: number): void => {
    const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0
    const next = terminals[at + step]
    if (step === 0 || next === undefined) return
    event.preventDefault()
    shells.active.value = next.id
    const list = (event.currentTarget as HTMLElement).closest('.tabs')
    list?.querySelectorAll<HTMLElement>('[role=tab]')[at + step]?.focus()
  }
  return (
    <section ref={panel} class={isOpen ? 'shells shells-open' : 'shells'} aria-label="Terminals and ports"
      style={isOpen && height.now.value !== null ? { height: `${height.now.value}px` } : undefined}>
      {isOpen && (
        <Separator label="Height of the terminals" isUpright={false} size={height} min={120} max={() => innerHeight * 0.8}
          measure={(separator, pointer) => {
            const { top, bottom } = separator.parentElement!.getBoundingClientRect()
            return bottom - (pointer?.y ?? top)
          }} />
      )}
      <div class="shells-top">
        <button class="quiet shells-toggle" aria-expanded={isOpen} onClick={() => shells.toggle()}>
          Terminals{terminals.length > 0 && ` (${terminals.length})`}
        </button>
        {isOpen && terminals.length > 0 && (
          <div class="tabs">
            <TabList label="Terminals" ids={terminals.map(({ id }) => `tab-${id}`)} />
            {terminals.map((terminal, at) => {
              const isActive = terminal === active
              const isOurs = terminal.session === bench.seat.id
              const owner = bench.people.nameOf(terminal.session)
              return (
                <div class={isActive ? 'tab tab-active' : 'tab'} role="presentation" key={terminal.id}>
                  <button role="tab" id={`tab-${terminal.id}`} aria-selected={isActive} tabIndex={isActive ? 0 : -1} onKeyDown={(event) => onKeyDown(event, at)}
                    title={isOurs ? terminal.title : `${terminal.title}, opened by ${owner}`}
                    onClick={() => {
                      shells.wantsKeys = true
                      shells.active.value = terminal.id
                    }}>{terminal.title}{!isOurs && <span class="shell-owner"> {owner}</span>}</button>
                  {isOurs && mayOpen && (
                    <button class="tab-close" tabIndex={isActive ? 0 : -1} aria-label={`End terminal ${terminal.title}`} onClick={() => close(terminal)}>
                      <Icon name="close" />
                    </button>
                  )}
                </div>
              )
            })}
          </div>
        )}
        <span class="grow" />
        <Ports bench={bench} />
        {mayOpen && <button class="quiet" onClick={() => void shells.open()}><Icon name="plus" />New terminal</button>}
      </div>
      {shells.problem.value !== null && <Failure>{shells.problem.value}</Failure>}
      {isOpen && active !== null && <Screen key={active.id} bench={bench} terminal={active} />}
      {isOpen && active === null && (
        <p class="shells-note">No terminal yet.{mayOpen ? ' Open one: everyone on this branch can watch it.' : ''}</p>
      )}
    </section>
  )
}
