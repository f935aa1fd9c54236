// Faces of people, in the top bar and elsewhere.
import { NO_COLOR } from '../../client/document'

export interface Known {
  readonly session: string
  readonly name: string
  readonly color: string | null
  readonly path: string | null
  readonly isSelf: boolean
  /** Whether they are in the file that is shown. */
  readonly isInFile: boolean
}

const initials = (name: string): string => {
  const words = name.trim().split(/\s+/)
  const letters = words.length > 1 ? [words[0], words.at(-1)] : [words[0]]
  return letters.map((word) => Array.from(word ?? '')[0] ?? '').join('').toUpperCase()
}

/** Drawn by the style: to those who hear the page it is no word. */
const Letters = ({ name }: { name: string }) => <span class="letters" data-letters={initials(name)} aria-hidden="true" />

/** At most this many faces; the rest is a number. */
const FACES = 6

export function Face({ person: { name, color, isSelf } }: { person: Known }) {
  return (
    <span class={isSelf ? 'face face-self' : 'face'} style={{ '--who': color ?? NO_COLOR }} aria-hidden="true"><Letters name={name} /></span>
  )
}

export function Faces({ people, onRename, onPerson, following }: {
  people: readonly Known[]
  onRename: (() => void) | null
  onPerson: (session: string) => void
  following: string | null
}) {
  const more = people.length - FACES
  return (
    <ul class="people" aria-label="Here now">
      {people.slice(0, FACES).map(({ session, name, color, path, isSelf, isInFile }) => {
        const place = isSelf ? 'you' : isInFile ? 'in this file' : path === null ? 'on this branch' : `at ${path}`
        const about = `${name} (${place})`
        const face = `face ${isSelf ? 'face-self' : ''} ${isInFile ? '' : 'face-away'}`
        const onClick = isSelf ? onRename : () => onPerson(session)
        const act = isSelf ? 'change your name' : following === session ? 'stop following' : 'follow'
        return (
          <li key={session} data-person={name} data-in-file={isInFile}>
            {onClick === null
              ? <span class={face} style={{ '--who': color ?? NO_COLOR }} title={about}><Letters name={name} /><span class="unseen">{about}</span></span>
              : (
                <button class={face} style={{ '--who': color ?? NO_COLOR }} onClick={onClick} aria-pressed={isSelf ? undefined : following === session}
                  aria-label={`${isSelf ? `You, ${name}` : about}: ${act}`} title={`${about}: ${act}`}><Letters name={name} /></button>
              )}
          </li>
        )
      })}
      {more > 0 && <li><span class="face face-more" title={people.slice(FACES).map(({ name }) => name).join(', ')}>+{more}</span></li>}
    </ul>
  )
}
