// A plain text field bound to a live document: what is typed becomes the smallest edit, what others type comes in around the caret.
import type * as Y from 'yjs'
import type { OpenDocument } from './document.js'

/** Half of a character that takes two UTF-16 units; Yjs keeps no halves. */
const isFirstHalf = (unit: number): boolean => unit >= 0xd800 && unit < 0xdc00

/** How much two texts have in common at their starts and, beside that, at their ends; no character is cut in two. */
export function common(before: string, after: string): { start: number, end: number } {
  const most = Math.min(before.length, after.length)
  let start = 0
  while (start < most && before.charCodeAt(start) === after.charCodeAt(start)) start += 1
  if (start > 0 && isFirstHalf(before.charCodeAt(start - 1))) start -= 1
  let end = 0
  while (end < most - start && before.charCodeAt(before.length - 1 - end) === after.charCodeAt(after.length - 1 - end)) end += 1
  const isCut = [before, after].some((text) => text.length - end > 0 && isFirstHalf(text.charCodeAt(text.length - 1 - end)))
  return { start, end: isCut && end > 0 ? end - 1 : end }
}

/**
 * Keeps a field and a document the same until what is returned is called. The field can be typed in while the document can be written.
 * What is typed is an edit of the field's own, which `document.undo` takes back.
 */
export function bindField(document: OpenDocument, field: HTMLTextAreaElement | HTMLInputElement): () => void {
  const { doc, text, undo } = document
  /** What both held last. */
  let known = text.toString()
  const typed = (): void => {
    const now = field.value
    const { start, end } = common(known, now)
    const [gone, put] = [known.length - start - end, now.slice(start, now.length - end)]
    known = now
    doc.transact(() => {
      text.delete(start, gone)
      text.insert(start, put)
    }, field)
  }
  const heard = ({ delta, transaction }: Y.YTextEvent): void => {
    if (transaction.origin === field) return
    known = text.toString()
    // What is selected stays selected: each end moves with the text before it.
    const ends = [field.selectionStart ?? 0, field.selectionEnd ?? 0]
    let at = 0
    for (const { retain = 0, insert = '', delete: gone = 0 } of delta) {
      const put = typeof insert === 'string' ? insert.length : 1
      at += retain
      for (const [which, end] of ends.entries()) {
        if (at < end) ends[which] = Math.max(at, end - gone) + put
      }
      at += put
    }
    field.value = known
    field.setSelectionRange(ends[0]!, ends[1]!)
  }
  field.value = known
  undo.addTrackedOrigin(field)
  text.observe(heard)
  field.addEventListener('input', typed)
  const unright = document.canWrite.subscribe((canWrite) => { field.readOnly = !canWrite })
  return () => {
    unright()
    field.removeEventListener('input', typed)
    text.unobserve(heard)
    undo.removeTrackedOrigin(field)
  }
}
