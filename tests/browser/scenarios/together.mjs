// People in one file, near and far.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import {
  binary, count, editor, enter, eventually, newFile, openFile, picture, shown, Stage, standing, typeLine
} from '../harness.mjs'

/** From the printed link to two people in one file. */
export async function together() {
  const stage = new Stage(binary)
  await stage.start()
  const ann = await stage.person()
  await ann.goto(stage.link)
  await ann.getByRole('heading', { name: 'No branches yet' }).waitFor()
  assert.ok(!ann.url().includes('perch_'), 'the token is out of the address')
  assert.ok(!(await ann.evaluate(() => JSON.stringify(localStorage))).includes('perch_'), 'and not in localStorage')
  await ann.getByRole('button', { name: 'New branch' }).click()
  await ann.getByLabel('Name', { exact: true }).fill('hello')
  await ann.getByRole('button', { name: 'Make branch' }).click()
  const id = await enter(ann, stage.link, 'hello', 'Ann Lee')
  await newFile(ann, 'src/main.rs')
  await editor(ann).pressSequentially('fn main() {\nprintln!("hello");')
  await standing(ann, 'saved')
  await ann.locator('[role=treeitem][data-path="src/main.rs"]').waitFor()

  const bob = await stage.person({ colorScheme: 'dark' })
  assert.equal(await enter(bob, stage.link, 'hello', 'Bob'), id)
  await bob.locator('[role=treeitem][data-path="src"]').click()
  await openFile(bob, 'src/main.rs')
  await editor(bob).getByText('println').waitFor()
  const names = (page) => page.locator('.people li').evaluateAll((items) => items.map((item) => item.dataset.person))
  await eventually('each sees both', async () =>
    (await names(ann)).join() === 'Ann Lee,Bob' && (await names(bob)).join() === 'Bob,Ann Lee')

  // Both type at once, in lines of their own.
  await editor(ann).press('Control+Home')
  await editor(bob).press('Control+End')
  await Promise.all([
    editor(ann).pressSequentially('// ann was here 😀\n', { delay: 5 }),
    editor(bob).pressSequentially('\n// bob was here é\n', { delay: 5 })
  ])
  await standing(ann, 'saved')
  await standing(bob, 'saved')
  const file = path.join(stage.workspace(id), 'src/main.rs')
  await eventually('both and the file hold the same', async () => {
    const texts = [await shown(ann), await shown(bob), fs.readFileSync(file, 'utf8')]
    return texts.every((text) => text === texts[0] &&
      count(text, '// ann was here 😀') === 1 && count(text, '// bob was here é') === 1)
  })
  const caretOf = (page) => page.locator('section.file:not([hidden]) .cm-other-name').evaluateAll((names) => names.map(({ dataset }) => dataset.name))
  await eventually('each sees the other’s caret', async () =>
    (await caretOf(ann)).join() === 'Bob' && (await caretOf(bob)).join() === 'Ann Lee')
  await editor(bob).press('Shift+Control+Home')
  await ann.locator('.cm-other-selection').first().waitFor()
  await picture(ann, 'together-light')
  await picture(bob, 'together-dark')
  await ann.setViewportSize({ width: 1024, height: 700 })
  await picture(ann, 'together-1024')
  assert.ok(await ann.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing is cut off at 1024 px')

  // Undo takes back own edits only.
  await editor(ann).press('Control+z')
  await eventually('only Ann’s last edit is gone', async () => {
    const text = await shown(bob)
    return !text.includes('ann was here') && text.includes('bob was here') && text === await shown(ann)
  })

  // A change on disk arrives like anyone else's.
  await standing(ann, 'saved')
  await eventually('the file has caught up', async () => fs.readFileSync(file, 'utf8') === await shown(ann))
  fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace('hello', 'good day'))
  await editor(bob).getByText('good day').waitFor()
  await editor(ann).getByText('good day').waitFor()

  // Another name is felt by the others at once.
  await ann.getByRole('button', { name: 'change your name' }).click()
  await ann.getByLabel('Name', { exact: true }).fill('Ann B.')
  await ann.getByRole('button', { name: 'Go on' }).click()
  await eventually('Bob sees the new name', async () => (await names(bob)).join() === 'Bob,Ann B.')

  await bob.context().close()
  await eventually('Bob is gone', async () => (await names(ann)).join() === 'Ann B.')
}

/** Two people of one colour: each caret has its own person's name, also after both have moved. */
export async function carets() {
  const stage = new Stage(binary)
  await stage.start()
  const { id } = await stage.api('POST', '', { name: 'carets' })
  const seat = async (session, name) => {
    const grant = await stage.api('POST', `/${id}/sessions`, { id: session, permission: 'write', name, color: '#0f766e' })
    const page = await stage.person()
    const kept = JSON.stringify({ ...grant, branch: id, name })
    await page.addInitScript(([key, value]) => sessionStorage.setItem(key, value), [`perch.seat.${id}`, kept])
    await page.goto(`${stage.url}/#/b/${id}/a.txt`)
    await editor(page).waitFor()
    return page
  }
  // One colour is not enough to tell them apart.
  const ann = await seat('a', 'Ann')
  const ida = await seat('i', 'Ida')
  const watcher = await seat('w', 'Watcher')
  await editor(ann).pressSequentially('one\ntwo\nthree')
  const whoIsWhere = () => editor(watcher).evaluate((content) => [...content.querySelectorAll('.cm-line')].map((line) =>
    [...line.querySelectorAll('.cm-other-name')].map(({ dataset }) => dataset.name).join()).join('|'))
  const colours = () => watcher.locator('.cm-other-caret').evaluateAll((carets) =>
    carets.map((caret) => caret.style.getPropertyValue('--who')))
  await editor(ann).press('Control+Home')
  await editor(ida).press('Control+End')
  await eventually('each at an end', async () => await whoIsWhere() === 'Ann||Ida')
  const [first, second] = await colours()
  assert.equal(first, second, 'the two have one colour, or this shows nothing')
  await editor(ann).press('Control+End')
  await editor(ida).press('Control+Home')
  await eventually('each at the other end', async () => await whoIsWhere() === 'Ida||Ann')
}

/** perch dies and comes back: typing goes on, the saved mark tells the truth throughout. */
export async function offline() {
  const stage = new Stage(binary)
  await stage.start()
  const ann = await stage.person()
  const bob = await stage.person()
  const { id } = await stage.api('POST', '', { name: 'offline' })
  await enter(ann, stage.link, 'offline', 'Ann')
  await enter(bob, stage.link, 'offline', 'Bob')
  // The second finds it there.
  stage.allowed = /status of 412/
  for (const page of [ann, bob]) await newFile(page, 'notes.txt')
  await typeLine(ann, 'before')
  await editor(bob).getByText('before').waitFor()
  await standing(ann, 'saved')
  await standing(bob, 'saved')

  // A perch that can't answer acknowledges nothing.
  stage.signal('SIGSTOP')
  await typeLine(ann, 'held')
  assert.equal(await ann.locator('.saved').getAttribute('data-standing'), 'saving')
  const warning = new Promise((resolve) => ann.once('dialog', (dialog) => {
    void dialog.dismiss()
    resolve(dialog.type())
  }))
  await ann.evaluate(() => { setTimeout(() => location.reload()) })
  assert.equal(await warning, 'beforeunload', 'leaving would lose the edit, and the page says so')
  assert.equal(await ann.locator('.saved').getAttribute('data-standing'), 'saving')
  stage.signal('SIGCONT')
  await standing(ann, 'saved')
  await editor(bob).getByText('held').waitFor()

  stage.allowed = /status of 412|ERR_INCOMPLETE_CHUNKED_ENCODING|WebSocket connection to|ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|ERR_SOCKET_NOT_CONNECTED/
  await stage.crash()
  await standing(ann, 'offline')
  await standing(bob, 'offline')
  await typeLine(ann, 'ann offline 1')
  await typeLine(ann, 'ann offline 2')
  await typeLine(bob, 'bob offline')
  assert.equal(await ann.locator('.saved').getAttribute('data-standing'), 'offline')
  // The list and back: what was typed is still there.
  await ann.getByRole('link', { name: 'All branches' }).click()
  await ann.getByRole('heading', { name: 'Branches' }).waitFor()
  await ann.goBack()
  await editor(ann).getByText('ann offline 2').waitFor()
  await typeLine(ann, 'ann offline 3')
  await picture(ann, 'offline')
  await stage.start()
  await standing(ann, 'saved')
  await standing(bob, 'saved')
  const file = path.join(stage.workspace(id), 'notes.txt')
  await eventually('all lines are there once, everywhere', async () => {
    const texts = [await shown(ann), await shown(bob), fs.readFileSync(file, 'utf8')]
    const lines = ['before', 'held', 'ann offline 1', 'ann offline 2', 'ann offline 3', 'bob offline']
    return texts.every((text) => text === texts[0] && lines.every((line) => count(text, `${line}\n`) === 1))
  })
  const people = () => bob.locator('.people li').count()
  await eventually('both are here again', async () => await people() === 2)
  await ann.locator('.notice').waitFor({ state: 'detached' })

  // The new perch has another link, but the session goes on, also after the page is loaded anew.
  stage.allowed = /status of (401|412)|ERR_INCOMPLETE_CHUNKED_ENCODING/
  await ann.reload()
  await editor(ann).getByText('ann offline 3').waitFor()
  await typeLine(ann, 'after')
  await editor(bob).getByText('after').waitFor()
  await standing(ann, 'saved')
}
