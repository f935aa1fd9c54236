// The page without a mouse.
import assert from 'node:assert/strict'
import { inside, perch, repositoryOn } from '../git_steps.mjs'
import { editor, eventually, picture, row, standing } from '../harness.mjs'

/** More stops than the page has: a search that goes around without finding is a fault. */
const STOPS = 90

/** What has the keyboard, by its name, and how that is seen. */
const focus = (page) => page.evaluate(() => {
  const one = document.activeElement
  const box = one.getBoundingClientRect()
  const { outlineStyle, outlineWidth, outlineColor, caretColor } = getComputedStyle(one)
  const isSeen = (color) => !/rgba\(.*, 0\)|transparent/.test(color)
  const editor = one.closest('.cm-editor.cm-focused')
  // A ring, or in texts a caret; the terminal draws its own, and what can be moved is a line.
  const how = outlineStyle !== 'none' && parseFloat(outlineWidth) >= 1 && isSeen(outlineColor) ? 'ring'
    : one.matches('.separator') && isSeen(getComputedStyle(one, '::after').backgroundColor) ? 'line'
    : one.matches('input, textarea:not(.xterm-helper-textarea)') && isSeen(caretColor) ? 'caret'
      : editor?.querySelector('.cm-cursor') ? 'caret'
        : one.closest('.xterm.focus')?.querySelector('.xterm-cursor') ? 'caret' : 'unseen'
  const at = one.matches('.xterm-helper-textarea') ? one.closest('.xterm').getBoundingClientRect() : box
  const isInWindow = at.right > 0 && at.bottom > 0 && at.left < innerWidth && at.top < innerHeight
  const name = one.getAttribute('aria-label') ?? one.labels?.[0]?.textContent ?? one.textContent
  return { name: name.replace(/\s+/g, ' ').trim(), tag: one.tagName, how, isInWindow }
})
/** Whatever has the keyboard now is to be seen; carets are drawn a moment later. */
const stop = (page) => eventually('what has the keyboard is seen', async () => {
  const now = await focus(page)
  assert.notEqual(now.tag, 'BODY', 'nothing has the keyboard')
  assert.ok(now.how !== 'unseen' && now.isInWindow, JSON.stringify(now))
  return now.name
})
/** Presses a key until what has this name has the keyboard; it is seen at each stop on the way. */
async function go(page, name, key = 'Tab') {
  const seen = []
  for (let n = 0; n < STOPS; n += 1) {
    await page.keyboard.press(key)
    const now = await stop(page)
    if (typeof name === 'string' ? now === name : name.test(now)) return
    seen.push(now)
  }
  assert.fail(`${key} never comes to ${name}: ${seen.join(' | ')}`)
}
const arrives = (page, what, name) => eventually(what, async () => name.test(await stop(page)))

/** A whole round by keys alone: a branch, a file, an edit, panels, a commit, a terminal. Nothing is clicked or focused by the test. */
export async function keyboard() {
  const stage = perch()
  await stage.start()
  const id = await repositoryOn(stage, 'keys', { 'src/main.rs': 'fn main() {\n}\n', 'notes.md': '# Notes\n' })
  const page = await stage.person({ reducedMotion: 'reduce' })
  await page.goto(stage.link)
  await page.getByRole('link', { name: 'keys' }).waitFor()
  await go(page, /^keys/)
  await page.keyboard.press('Enter')
  await arrives(page, 'the dialog asks for a name', /^Name/)
  await page.keyboard.type('Ann')
  await page.keyboard.press('Enter')
  await row(page, 'src').waitFor()

  // A file by its name, and typed into.
  await page.keyboard.press('Control+p')
  await arrives(page, 'quick open', /^Go to a file$/)
  await page.keyboard.type('main.rs:2')
  await page.keyboard.press('Enter')
  await editor(page).getByText('fn main').waitFor()
  await arrives(page, 'the editor', /^Text of src\/main.rs$/)
  await page.keyboard.type('    work();')
  await page.keyboard.press('Enter')
  await editor(page).getByText('work();').waitFor()
  await standing(page, 'saved')

  // The tree and back: parts of the page by F6, files by arrows.
  await go(page, /^main\.rs/, 'Shift+F6')
  await page.keyboard.press('ArrowLeft')
  await arrives(page, 'its folder', /^src/)
  await page.keyboard.press('ArrowLeft')
  await row(page, 'src/main.rs').waitFor({ state: 'detached' })
  await page.keyboard.press('End')
  await arrives(page, 'the last file', /^notes\.md/)
  await page.keyboard.press('Enter')
  await arrives(page, 'its text', /^Text of notes\.md$/)
  await page.keyboard.press('Alt+PageUp')
  await arrives(page, 'the tab before', /^Text of src\/main.rs$/)

  // Git: stage, look at the change, commit with an address that is asked for.
  await page.keyboard.press('Control+Shift+g')
  await page.locator('[data-entry="src/main.rs"]').waitFor()
  await go(page, 'Look again', 'Shift+F6')
  await go(page, 'Stage src/main.rs')
  await page.keyboard.press('Enter')
  await page.locator('[data-entry="src/main.rs"][data-side="staged"]').waitFor()
  await eventually('the keyboard stays in the panel', async () => await stop(page) === 'Git')
  await go(page, 'Commit message')
  await page.keyboard.type('by keys alone')
  await go(page, 'Commit what is staged')
  await page.keyboard.press('Enter')
  await arrives(page, 'the panel asks for an address', /^Email address/)
  await picture(page, 'keyboard-email')
  await page.keyboard.type('ann@example.org')
  await page.keyboard.press('Enter')
  await page.locator('.git-done', { hasText: 'Committed' }).waitFor()
  await eventually('the keyboard stays in the panel', async () => await stop(page) === 'Git')
  assert.equal(inside(stage.workspace(id), 'log', '-1', '--format=%an: %s').trim(), 'Ann: by keys alone')
  assert.ok(inside(stage.workspace(id), 'show', 'HEAD:src/main.rs').includes('work();'))

  // A terminal: opened, typed into, left, ended.
  await page.keyboard.press('Control+Shift+`')
  await arrives(page, 'the terminal', /^Terminal input$/)
  await page.locator('.shell[data-typing=true]').waitFor()
  await page.keyboard.type('echo typed-$((40+2))\n')
  await page.locator('.xterm-rows').getByText('typed-42').waitFor()
  await stop(page)
  await go(page, /^Connected|^Who typed this$/, 'F6')
  await go(page, 'Terminal input', 'Shift+F6')
  // In a terminal Tab is the program's, in the editor it indents until Escape was pressed.
  await go(page, 'Text of src/main.rs', 'Shift+F6')
  await page.keyboard.press('Escape')
  await go(page, /^End terminal/)
  await page.keyboard.press('Enter')
  await page.getByRole('dialog', { name: 'End this terminal?' }).waitFor()
  await stop(page)
  await go(page, 'End terminal')
  await page.keyboard.press('Enter')
  await page.locator('.shell-foot').getByText('Ended').waitFor()
  await arrives(page, 'the tab that it was', /^End terminal/)
  await page.keyboard.press('Enter')
  await page.getByText('No terminal yet.').waitFor()
  await eventually('the keyboard stays below', async () => /^Terminals|^New terminal$/.test(await stop(page)))
  // Back to the text with everything as it was.
  await go(page, 'Text of src/main.rs', 'Shift+F6')
  await page.keyboard.press('Control+z')
  await eventually('undone', async () => !(await editor(page).textContent()).includes('work();'))
}
