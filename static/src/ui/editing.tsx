// The workbench on screen: files at the left, open files in tabs, who is here and whether all is saved at the top.
import { useSignal } from '@preact/signals'
import { NO_COLOR, type OpenDocument, type Person, type Standing } from '../document'
import type { Workbench } from '../workbench'
import { File, panelId } from './file'
import { Dialog, Failure, Icon, Mark } from './parts'
import { ShellPanel } from './shells'
import { Tree } from './tree'

const WORDS: Record<Standing, string> = {
  opening: 'Opening…',
  offline: 'Offline',
  saving: 'Saving…',
  saved: 'Saved',
  reading: 'Read only',
  ended: 'Not shared'
}

const MEANINGS: Record<Standing, string> = {
  opening: 'The text is on its way',
  offline: 'What you type is kept in this page and sent when perch answers again',
  saving: 'Not all of your typing is acknowledged yet',
  saved: 'perch has stored everything you typed',
  reading: 'This session can only read',
  ended: 'perch has left this file'
}

function SavedMark({ file }: { file: OpenDocument }) {
  const standing = file.standing.value
  return (
    <span class={`saved saved-${standing}`} data-standing={standing} title={MEANINGS[standing]}>
      <span class="saved-dot" aria-hidden="true" />{WORDS[standing]}
    </span>
  )
}

const initials = (name: string): string => {
  const words = name.trim().split(/\s+/)
  const letters = words.length > 1 ? [words[0], words.at(-1)] : [words[0]]
  return letters.map((word) => Array.from(word ?? '')[0] ?? '').join('').toUpperCase()
}

/** At most this many faces; the rest is a number. */
const FACES = 6

function People({ people, onRename }: { people: readonly Person[], onRename: (() => void) | null }) {
  const more = people.length - FACES
  return (
    <ul class="people" aria-label="Here now">
      {people.slice(0, FACES).map(({ session, name, color, isSelf }) => (
        <li key={session} data-person={name}>
          {isSelf && onRename !== null
            ? (
              <button class="face face-self" style={{ '--who': color }} onClick={onRename}
                aria-label={`You, ${name}: change your name`} title={`${name} (you): change your name`}>{initials(name)}</button>
            )
            : (
              <span class={isSelf ? 'face face-self' : 'face'} style={{ '--who': color }} title={isSelf ? `${name} (you)` : name}>
                <span aria-hidden="true">{initials(name)}</span><span class="unseen">{isSelf ? `You, ${name}` : name}</span>
              </span>
            )}
        </li>
      ))}
      {more > 0 && <li><span class="face face-more" title={people.slice(FACES).map(({ name }) => name).join(', ')}>+{more}</span></li>}
    </ul>
  )
}

function close(bench: Workbench, file: OpenDocument): void {
  const isAsked = file.isUnsaved && file.standing.value === 'offline'
  if (isAsked && !confirm(`What you typed in ${file.path} has not reached perch. Close it and lose that?`)) return
  bench.close(file.path)
}

function Tabs({ bench }: { bench: Workbench }) {
  const tabs = bench.tabs.value
  const onKeyDown = (event: KeyboardEvent, at: number): void => {
    const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0
    const next = tabs[at + step]
    const file = tabs[at]
    if (event.key === 'Delete' && file !== undefined) close(bench, file)
    if (step === 0 || next === undefined) return
    bench.active.value = next.path
    const list = (event.currentTarget as HTMLElement).closest('[role=tablist]')
    list?.querySelectorAll<HTMLElement>('[role=tab]')[at + step]?.focus()
    event.preventDefault()
  }
  return (
    <div class="tabs" role="tablist" aria-label="Open files">
      {tabs.map((file, at) => {
        const isActive = bench.active.value === file.path
        const standing = file.standing.value
        return (
          <div class={isActive ? 'tab tab-active' : 'tab'} role="presentation" key={file.path}>
            <button role="tab" aria-selected={isActive} aria-controls={panelId(file.path)} tabIndex={isActive ? 0 : -1}
              title={file.path} onClick={() => { bench.active.value = file.path }} onKeyDown={(event) => onKeyDown(event, at)}>
              <span class={`tab-dot saved-${standing}`} aria-hidden="true" />
              {file.path.slice(file.path.lastIndexOf('/') + 1)}
            </button>
            <button class="tab-close" tabIndex={isActive ? 0 : -1} aria-label={`Close ${file.path}`} onClick={() => close(bench, file)}>
              <Icon name="close" />
            </button>
          </div>
        )
      })}
    </div>
  )
}

function NewFile({ bench, onClose }: { bench: Workbench, onClose: () => void }) {
  const path = useSignal('')
  const fault = useSignal<string | null>(null)
  return (
    <Dialog title="New file" onClose={onClose}>
      <form onSubmit={(event) => {
        event.preventDefault()
        const wanted = path.value.trim()
        const isFine = wanted !== '' && wanted.split('/').every((part) => part !== '' && part !== '.' && part !== '..')
        fault.value = isFine ? null : 'Give a path like notes.txt or src/main.rs.'
        if (!isFine) return
        bench.open(wanted)
        onClose()
      }}>
        <label>
          <span>Path</span>
          <input name="path" value={path.value} autofocus required autocomplete="off" spellcheck={false} placeholder="src/notes.md"
            onInput={({ currentTarget }) => { path.value = currentTarget.value }} />
        </label>
        <p class="hint">The file and its folders appear with the first thing typed. A file that is there already is opened.</p>
        {fault.value !== null && <Failure>{fault.value}</Failure>}
        <p class="buttons">
          <button type="button" onClick={onClose}>Cancel</button>
          <button class="primary">Open</button>
        </p>
      </form>
    </Dialog>
  )
}

/** What concerns the whole branch and should be read. */
function Notices({ bench }: { bench: Workbench }) {
  const ended = bench.ended.value
  const file = bench.document.value
  return (
    <div class="notices" aria-live="polite">
      {ended !== null && (
        <p class="notice notice-bad">
          perch ended your session here{ended !== '' && `: ${ended}`}. What you type is kept in this page only.
          <button onClick={() => void bench.rejoin()}>Join again</button>
        </p>
      )}
      {ended === null && file?.standing.value === 'offline' && (
        <p class="notice">Offline. You can go on typing: it is kept in this page and sent when perch answers again.</p>
      )}
      {file?.wasRefused.value === true && (
        <p class="notice notice-bad">Your last edits were not taken: this session can only read.</p>
      )}
      {bench.notice.value !== null && (
        <p class="notice">
          {bench.notice.value}
          <button onClick={() => { bench.notice.value = null }}>Fine</button>
        </p>
      )}
    </div>
  )
}

export function Editing({ bench, onRename }: { bench: Workbench, onRename: (() => void) | null }) {
  const isNew = useSignal(false)
  const file = bench.document.value
  const here = file?.people.value ?? []
  const { id, name } = bench.seat
  const people = here.length > 0 ? here : [{ session: id, name, color: NO_COLOR, isSelf: true }]
  return (
    <div class="bench" data-online={bench.isOnline.value}>
      <header class="top">
        <a class="brand" href="#/" aria-label="All branches" title="All branches"><Mark /></a>
        <span class="crumb" aria-hidden="true">/</span>
        <h1>{bench.branch.name}</h1>
        <span class="grow" />
        {file !== null && <SavedMark file={file} />}
        <People people={people} onRename={onRename} />
      </header>
      <Notices bench={bench} />
      <div class="split">
        <Tree bench={bench} onNew={() => { isNew.value = true }} />
        <main class="work">
          {bench.tabs.value.length > 0 && <Tabs bench={bench} />}
          {bench.tabs.value.map((one) => <File key={one} bench={bench} file={one} isActive={one === file} />)}
          {file === null && (
            <div class="empty">
              <h2>Open a file</h2>
              <p>Choose one at the left, or make a new one. Everyone on this branch sees what you type as you type it.</p>
              <p><button onClick={() => { isNew.value = true }}><Icon name="plus" />New file</button></p>
            </div>
          )}
          <ShellPanel bench={bench} />
        </main>
      </div>
      {isNew.value && <NewFile bench={bench} onClose={() => { isNew.value = false }} />}
    </div>
  )
}
