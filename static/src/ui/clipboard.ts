// Copying by a button. Browsers offer their clipboard to pages of https and of this machine only.

/** Puts text on the clipboard, where the browser lets a page do that. */
export async function copyText(text: string): Promise<void> {
  if (navigator.clipboard !== undefined) return navigator.clipboard.writeText(text)
  const area = document.createElement('textarea')
  area.value = text
  document.body.append(area)
  area.select()
  const isDone = document.execCommand('copy')
  area.remove()
  if (!isDone) throw new Error('This browser does not let the page copy. Select the text and copy it by hand.')
}
