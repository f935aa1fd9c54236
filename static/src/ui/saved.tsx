// What of a file is stored, in one word.
import type { OpenDocument, Standing } from '../../client/document'

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
  offline: 'What you type is kept here and sent when perch answers again',
  saving: 'Not all of your typing is acknowledged yet',
  saved: 'perch has stored everything you typed',
  reading: 'This session can only read',
  ended: 'perch has left this file'
}

export function SavedMark({ file }: { file: OpenDocument }) {
  const standing = file.standing.value
  const disk = file.onDisk.value
  const isStored = standing === 'saved' || standing === 'reading'
  const more = !isStored ? '' : disk === 'yes' ? ', on disk' : disk === 'failed' ? ', not on disk' : ''
  const meaning = !isStored || disk === 'no' ? MEANINGS[standing]
    : disk === 'yes' ? `${MEANINGS[standing]}, and the file has it: shells and git see it`
      : `${MEANINGS[standing]}, but can’t write the file: ${file.diskProblem.value}`
  return (
    <span class={`saved saved-${standing} disk-${disk}`} data-standing={standing} data-disk={disk} data-kept={file.isKept.value} title={meaning}>
      <span class="saved-dot" aria-hidden="true" />{WORDS[standing]}{more}
    </span>
  )
}
