// The page in a real browser. Usage: node page.mjs PERCH_BINARY SCENARIO; PERCH_SHOTS=folder keeps pictures.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { editor, enter, eventually, newFile, openFile, shown, Stage, standing } from './harness.mjs'

const [binary, scenario] = process.argv.slice(2)

async function picture(page, name) {
  if (process.env.PERCH_SHOTS) await page.screenshot({ path: path.join(process.env.PERCH_SHOTS, `${name}.png`) })
}

const count = (text, token) => text.split(token).length - 1

/** Types a token as a line of its own at the end. */
async function typeLine(page, text) {
  await editor(page).press('Control+End')
  await editor(page).pressSequentially(`${text}\n`)
}

const scenarios = {
  /** From the printed link to two people in one file. */
  async together() {
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
    const caretOf = (page) => page.locator('section.file:not([hidden]) .cm-other-name').allTextContents()
    await eventually('each sees the other’s caret', async () =>
      (await caretOf(ann)).join() === 'Bob' && (await caretOf(bob)).join() === 'Ann Lee')
    await editor(bob).press('Shift+Control+Home')
    await ann.locator('.cm-other-selection').first().waitFor()
    await picture(ann, 'together-light')
    await picture(bob, 'together-dark')

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

    await bob.context().close()
    await eventually('Bob is gone', async () => (await names(ann)).join() === 'Ann Lee')
    return stage
  }
}

const run = scenarios[scenario]
assert.ok(run, `scenarios: ${Object.keys(scenarios).join(', ')}`)
const stages = []
const made = Stage.prototype.start
Stage.prototype.start = function start() {
  if (!stages.includes(this)) stages.push(this)
  return made.call(this)
}
try {
  await run()
  for (const { errors } of stages) assert.deepEqual(errors, [], 'the pages had errors')
  console.log(`${scenario}: ok`)
} finally {
  for (const stage of stages) {
    if (stage.errors.length > 0) console.error(stage.errors.join('\n'))
    await stage.end()
  }
}
