// Who is here: faces at the top, a panel with everybody's place, and following a person.
import { EditorView } from '@codemirror/view'
import type { Present } from '../../client/types'
import { nameOf } from '../bench/files'
import type { Workbench } from '../bench/workbench'
import { followCaret } from '../editor/cursors'
import type { Feature } from '../plugs'
import { inOrder } from '../registry'
import { Face, Faces, type Known } from '../ui/people'
import { Failure } from '../ui/parts'
import { PanelTop } from '../ui/side'

/** Everybody on the branch, this page's own person first; those in the same file are told apart. */
function known(bench: Workbench): Known[] {
  const { id, name } = bench.seat
  const inFile = new Set(bench.file.value?.people.value.map(({ session }) => session) ?? [])
  const view = ({ session, name, color, path }: Present): Known =>
    ({ session, name, color, path, isSelf: session === id, isInFile: inFile.has(session) || session === id })
  const all = bench.people.here.value.map(view)
  // Before perch has said so.
  if (!all.some(({ isSelf }) => isSelf)) all.push({ session: id, name, color: null, path: null, isSelf: true, isInFile: true })
  return all.sort((a, b) => Number(b.isSelf) - Number(a.isSelf) || Number(b.isInFile) - Number(a.isInFile) || a.name.localeCompare(b.name))
}

function TopFaces({ bench }: { bench: Workbench }) {
  return (
    <Faces people={known(bench)} onRename={bench.onRename}
      onPerson={(session) => bench.people.follow(bench.people.following.value === session ? null : session)}
      following={bench.people.following.value} />
  )
}

const since = new Intl.DateTimeFormat('en', { hour: '2-digit', minute: '2-digit' })

function PeoplePanel({ bench }: { bench: Workbench }) {
  const { people } = bench
  const all = known(bench)
  return (
    <>
      <PanelTop title="People" />
      <div class="side-scroll">
        {people.problem.value !== null && <Failure>{people.problem.value}</Failure>}
        <ul class="persons" aria-label="On this branch now">
          {all.map((person) => {
            const { session, name, path, isSelf } = person
            const here = people.find(session)
            const isFollowed = people.following.value === session
            const actions = here === null ? [] : inOrder(bench.personActions.all.value).filter(({ isThere }) => isThere?.(here) ?? true)
            return (
              <li key={session} data-person={name} data-path={path ?? ''}>
                <Face person={person} />
                <div class="person-words">
                  <span class="person-name">{name}{isSelf && ' (you)'}</span>
                  <span class="person-about">
                    {path === null ? 'No file open' : <button class="as-link" title={path} onClick={() => bench.open(path)}>{nameOf(path)}</button>}
                    {here !== null && `, ${here.permission === 'read' ? 'reads only, ' : ''}since ${since.format(here.since_ms)}`}
                  </span>
                  <span class="person-acts">
                    {!isSelf && (
                      <button aria-pressed={isFollowed} onClick={() => people.follow(isFollowed ? null : session)}>{isFollowed ? 'Following' : 'Follow'}</button>
                    )}
                    {here !== null && actions.map(({ id, title, run }) => (
                      <button key={id} aria-label={`${title}: ${name}`} onClick={() => void Promise.resolve().then(() => run(here)).catch(bench.notices.failed)}>{title}</button>
                    ))}
                  </span>
                </div>
              </li>
            )
          })}
        </ul>
        {all.length === 1 && <p class="side-note">Nobody else is on this branch now.</p>}
      </div>
    </>
  )
}

function Following({ bench }: { bench: Workbench }) {
  const followed = bench.people.followed.value
  if (followed === null) return null
  return (
    <p class="notice notice-follow" style={{ '--who': followed.color }}>
      {followed.path === null ? `Following ${followed.name}, who has no file open` : `Following ${followed.name}`}. What you type or click ends it.
      <button onClick={() => bench.people.follow(null)}>Stop</button>
    </p>
  )
}

export const people: Feature = (bench) => {
  bench.topPieces.add({ id: 'people', order: 90, Body: TopFaces })
  bench.panels.add({ id: 'people', title: 'People', icon: 'people', order: 40, Body: PeoplePanel })
  bench.noticePieces.add({ id: 'people.following', order: 20, Body: Following })
  const stop = (): void => {
    if (bench.people.following.peek() !== null) bench.people.follow(null)
  }
  bench.editorParts.add({
    id: 'people.follow',
    extension: (file) => [
      followCaret(file.text, file.provider.awareness, bench.people.following),
      // One's own hand on the editor ends it; what others type does not.
      EditorView.domEventObservers({ pointerdown: stop, wheel: stop, keydown: stop })
    ]
  })
  bench.commands.add(
    { id: 'people.show', title: 'Show who is here', group: 'People', run: () => bench.togglePanel('people', true) },
    {
      id: 'people.follow', title: 'Follow the next person', group: 'People', keys: 'Alt-f',
      isThere: () => bench.people.here.value.length > 1,
      run: () => {
        const others = bench.people.here.peek().filter(({ session }) => session !== bench.seat.id)
        const at = others.findIndex(({ session }) => session === bench.people.following.peek())
        bench.people.follow(others[at + 1]?.session ?? null)
      }
    },
    { id: 'people.unfollow', title: 'Stop following', group: 'People', isThere: () => bench.people.following.value !== null, run: stop }
  )
}
