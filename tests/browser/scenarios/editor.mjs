// The editor's own ways: finding, the tree, uploads, groups, narrow windows, large files.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  binary, branchWith, editor, enter, eventually, inGroup, onDisk, openFile, picture, row, shown, Stage, standing, typeLine
} from '../harness.mjs'

const option = (page, name) => page.getByRole('option').filter({ hasText: name })

/** Quick open, search in files, the palette and the list of keys, all by keys. */
export async function finding() {
  const stage = new Stage(binary)
  await stage.start()
  await branchWith(stage, 'finding', {
    'src/main.rs': 'fn main() {\n    println!("needle");\n}\n', 'src/lib/other.rs': 'one\ntwo\nthree needle\n', 'notes.md': '# Notes\n'
  })
  const ann = await stage.person()
  await enter(ann, stage.link, 'finding', 'Ann')
  await row(ann, 'src').waitFor()
  await ann.keyboard.press('Control+p')
  await ann.getByRole('combobox', { name: 'Go to a file' }).fill('othr:3')
  await option(ann, 'other.rs').waitFor()
  await picture(ann, 'quick-open')
  await ann.keyboard.press('Enter')
  await editor(ann).getByText('three needle').waitFor()
  await ann.locator('.foot').getByText('Line 3, column 1').waitFor()
  await ann.keyboard.press('Control+p')
  await ann.getByRole('combobox', { name: 'Go to a file' }).fill('no such thing')
  await ann.getByText('No file is called that.').waitFor()
  await ann.keyboard.press('Escape')
  await eventually('the keys are the editor’s again', () => editor(ann).evaluate((content) => content === document.activeElement))

  // What was just typed is found, too.
  await typeLine(ann, 'a needle typed now')
  await ann.keyboard.press('Control+Shift+f')
  await ann.getByRole('textbox', { name: 'Search in files' }).fill('needle')
  await ann.getByText('3 lines in 2 files').waitFor()
  await picture(ann, 'search')
  await ann.locator('.found section[aria-label="src/main.rs"] [data-line="2"]').click()
  await editor(ann).getByText('println').waitFor()
  await ann.locator('.foot').getByText('(6 selected)').waitFor()
  await ann.getByRole('button', { name: 'Case matters' }).click()
  await ann.getByRole('textbox', { name: 'Search in files' }).fill('NEEDLE')
  await ann.getByText('Nothing found').waitFor()
  stage.allowed = /status of 400/
  await ann.getByRole('button', { name: 'Regular expression' }).click()
  await ann.getByRole('textbox', { name: 'Search in files' }).fill('need[')
  await ann.locator('.side [role=alert]').waitFor()
  await picture(ann, 'search-failed')
  await ann.getByRole('textbox', { name: 'Search in files' }).fill('need.e')
  await ann.getByText('3 lines in 2 files').waitFor()

  // Any command by its name.
  await ann.keyboard.press('Control+Shift+p')
  await ann.getByRole('combobox', { name: 'Commands' }).fill('show all keys')
  await picture(ann, 'palette')
  await ann.keyboard.press('Enter')
  await ann.getByRole('dialog', { name: 'Keys' }).getByText('Go to a file').waitFor()
  await picture(ann, 'keys')
  await ann.keyboard.press('Escape')
  await ann.getByRole('dialog').waitFor({ state: 'detached' })
  await ann.keyboard.press('Control+b')
  await ann.locator('.side').waitFor({ state: 'hidden' })
  await ann.keyboard.press('Control+b')
  await ann.locator('.side').waitFor()
  await stage.end()
}

/** Making, renaming, moving and deleting by keys and by dragging; open editors go along, others see it. */
export async function tree() {
  const stage = new Stage(binary)
  await stage.start()
  const id = await branchWith(stage, 'tree', { 'a.txt': 'text of a\n', 'docs/b.md': '# b\n', 'docs/deep/c.md': 'c\n' })
  const there = (file) => fs.existsSync(path.join(stage.workspace(id), file))
  const ann = await stage.person()
  const bob = await stage.person()
  await enter(ann, stage.link, 'tree', 'Ann')
  await enter(bob, stage.link, 'tree', 'Bob')
  await openFile(bob, 'a.txt')
  await editor(bob).getByText('text of a').waitFor()

  // A file that is asked for just when it gets another path.
  stage.allowed = /status of 404/
  // Only keys: down, into a folder, out of it, by a letter.
  const focused = () => ann.evaluate(() => document.activeElement.dataset.path)
  await row(ann, 'docs').focus()
  await ann.keyboard.press('ArrowRight')
  await row(ann, 'docs/deep').waitFor()
  await ann.keyboard.press('ArrowRight')
  assert.equal(await focused(), 'docs/deep')
  await ann.keyboard.press('ArrowLeft')
  assert.equal(await focused(), 'docs')
  await ann.keyboard.press('End')
  assert.equal(await focused(), 'a.txt')
  await ann.keyboard.press('d')
  assert.equal(await focused(), 'docs')
  await ann.keyboard.press('a')
  assert.equal(await focused(), 'a.txt')

  // Renamed and moved at once; whoever has it open stays in it, with undo and what is unsent.
  await typeLine(bob, 'by bob')
  await ann.keyboard.press('F2')
  await ann.getByLabel('Path').fill('docs/renamed.txt')
  await ann.keyboard.press('Enter')
  await row(ann, 'docs/renamed.txt').waitFor()
  await bob.locator('.tab[data-key="file:docs/renamed.txt"]').waitFor()
  await standing(bob, 'saved')
  await typeLine(bob, 'and after')
  await onDisk(bob)
  assert.equal(fs.readFileSync(path.join(stage.workspace(id), 'docs/renamed.txt'), 'utf8'), 'text of a\nby bob\nand after\n')
  assert.ok(!there('a.txt'), 'nothing is left at the old path')
  await editor(bob).press('Control+z')
  await editor(bob).press('Control+z')
  await eventually('undo goes on over the rename', async () => await shown(bob) === 'text of a\n')

  // A path that is taken: the reason is said where it was asked, nothing is lost.
  stage.allowed = /status of (404|409)/
  await row(ann, 'docs/renamed.txt').focus()
  await ann.keyboard.press('F2')
  await ann.getByLabel('Path').fill('docs/b.md')
  await ann.keyboard.press('Enter')
  await ann.getByRole('dialog').getByRole('alert').waitFor()
  await picture(ann, 'rename-failed')
  await ann.keyboard.press('Escape')
  assert.ok(there('docs/renamed.txt') && there('docs/b.md'))

  // New ones, from the menu that Shift+F10 shows.
  await row(ann, 'docs').focus()
  await ann.keyboard.press('Shift+F10')
  await ann.getByRole('menu', { name: 'docs' }).waitFor()
  await picture(ann, 'menu')
  await ann.getByRole('menuitem', { name: 'New folder here' }).press('Enter')
  await ann.getByLabel('Path').fill('docs/made')
  await ann.keyboard.press('Enter')
  await row(ann, 'docs/made').waitFor()
  await ann.keyboard.press('Alt+n')
  await ann.getByLabel('Path').fill('docs/made/new.txt')
  await ann.keyboard.press('Enter')
  await row(ann, 'docs/made/new.txt').waitFor()
  await eventually('it is there though it is empty', () => there('docs/made/new.txt'))

  // Dragged into another folder, and to the top.
  await row(ann, 'docs/b.md').dragTo(row(ann, 'docs/made'))
  await row(ann, 'docs/made/b.md').waitFor()
  await row(ann, 'docs/b.md').waitFor({ state: 'detached' })
  const box = await ann.getByRole('tree').boundingBox()
  await row(ann, 'docs/made').dragTo(ann.getByRole('tree'), { targetPosition: { x: 40, y: box.height - 12 } })
  await row(ann, 'made').waitFor()
  await eventually('all of it has moved', () => there('made/b.md') && there('made/new.txt') && !there('docs/made'))
  await row(bob, 'made').waitFor()

  // Deleted, after a question.
  await row(ann, 'made').focus()
  await ann.keyboard.press('Delete')
  await ann.getByRole('dialog', { name: 'Delete this folder?' }).waitFor()
  await picture(ann, 'delete')
  await ann.keyboard.press('Escape')
  assert.ok(there('made/b.md'), 'who says no keeps it')
  await row(ann, 'made').focus()
  await ann.keyboard.press('Delete')
  await ann.getByRole('button', { name: 'Delete', exact: true }).click()
  await row(ann, 'made').waitFor({ state: 'detached' })
  await row(bob, 'made').waitFor({ state: 'detached' })
  assert.ok(!there('made'))
  await stage.end()
}

/** Files and folders by button and by drop; what is there is replaced only if that is said; a download. */
export async function uploads() {
  const stage = new Stage(binary)
  await stage.start()
  const id = await branchWith(stage, 'uploads', { 'there.txt': 'old\n', 'into/x.txt': 'x\n' })
  const text = (file) => fs.readFileSync(path.join(stage.workspace(id), file), 'utf8')
  const local = path.join(stage.temp, 'local')
  fs.mkdirSync(path.join(local, 'whole/deep/empty'), { recursive: true })
  fs.writeFileSync(path.join(local, 'there.txt'), 'new\n')
  fs.writeFileSync(path.join(local, 'bytes.bin'), Buffer.from([0, 255, 1, 254]))
  fs.writeFileSync(path.join(local, 'whole/one.txt'), '1\n')
  fs.writeFileSync(path.join(local, 'whole/deep/two #?.txt'), '2\n')
  const ann = await stage.person({ acceptDownloads: true })
  await enter(ann, stage.link, 'uploads', 'Ann')
  stage.allowed = /status of 412/
  const choose = async (entry, files) => {
    await ann.getByRole('button', { name: 'Upload', exact: true }).click()
    const [chooser] = await Promise.all([ann.waitForEvent('filechooser'), ann.getByRole('menuitem', { name: entry }).click()])
    await chooser.setFiles(files)
  }
  const files = [path.join(local, 'there.txt'), path.join(local, 'bytes.bin')]
  await row(ann, 'there.txt').waitFor()
  await choose('Upload files', files)
  await ann.getByRole('dialog', { name: 'Replace what is there?' }).getByText('there.txt').waitFor()
  await picture(ann, 'replace')
  await ann.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click()
  await ann.getByText('1 file uploaded. 1 file stays as it was.').waitFor()
  assert.equal(text('there.txt'), 'old\n')
  assert.deepEqual(fs.readFileSync(path.join(stage.workspace(id), 'bytes.bin')), Buffer.from([0, 255, 1, 254]))
  await choose('Upload files', files)
  await ann.getByRole('button', { name: 'Replace' }).click()
  await ann.getByText('2 files uploaded.').waitFor()
  assert.equal(text('there.txt'), 'new\n')
  await choose('Upload a folder', path.join(local, 'whole'))
  await row(ann, 'whole').waitFor()
  await eventually('the folder is there', () => text('whole/one.txt') === '1\n' && text('whole/deep/two #?.txt') === '2\n')

  // Dropped onto a folder: a file, and a folder with one that is empty. The browser's own drop, as a hand does it.
  const { x, y, width, height } = await row(ann, 'into').boundingBox()
  const devtools = await ann.context().newCDPSession(ann)
  const data = {
    items: [], dragOperationsMask: 1,
    files: [path.join(local, 'bytes.bin'), path.join(local, 'whole')]
  }
  for (const type of ['dragEnter', 'dragOver', 'drop']) {
    await devtools.send('Input.dispatchDragEvent', { type, x: x + width / 2, y: y + height / 2, data })
  }
  await ann.getByText('3 files uploaded.').waitFor()
  for (const file of ['into/bytes.bin', 'into/whole/one.txt', 'into/whole/deep/two #?.txt', 'into/whole/deep/empty']) {
    assert.ok(fs.existsSync(path.join(stage.workspace(id), file)), file)
  }
  await row(ann, 'into').click()
  await row(ann, 'into/bytes.bin').click({ button: 'right' })
  const [download] = await Promise.all([ann.waitForEvent('download'), ann.getByRole('menuitem', { name: 'Download' }).click()])
  assert.equal(download.suggestedFilename(), 'bytes.bin')
  assert.deepEqual(fs.readFileSync(await download.path()), Buffer.from([0, 255, 1, 254]))
  await stage.end()
}

/** Two groups of tabs: one file in both, tabs moved by keys and by dragging, all of it there after a reload. */
export async function split() {
  const stage = new Stage(binary)
  await stage.start()
  await branchWith(stage, 'split', { 'a.txt': 'aa\n', 'b.txt': 'bb\n', 'c.txt': 'cc\n' })
  const ann = await stage.person()
  await enter(ann, stage.link, 'split', 'Ann')
  const keys = () => ann.locator('.group').evaluateAll((groups) =>
    groups.map((group) => [...group.querySelectorAll('.tab')].map((tab) => tab.dataset.key.slice(5, 6)).join('')).join('|'))
  const are = (want) => eventually(`tabs ${want}`, async () => await keys() === want)
  for (const file of ['a.txt', 'b.txt', 'c.txt']) {
    await row(ann, file).click()
    await standing(ann, 'saved')
  }
  await are('abc')
  await ann.keyboard.press('Control+\\')
  await are('abc|c')
  await inGroup(ann, 1).press('Control+End')
  await inGroup(ann, 1).pressSequentially('typed at the right')
  await inGroup(ann, 0).getByText('typed at the right').waitFor()
  await picture(ann, 'split')
  await ann.setViewportSize({ width: 1024, height: 700 })
  assert.ok(await ann.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing is cut off at 1024 px')
  await picture(ann, 'split-1024')
  await ann.setViewportSize({ width: 1280, height: 800 })
  // Undo at the left takes back what was typed at the right: it is one person's.
  await inGroup(ann, 0).press('Control+z')
  await inGroup(ann, 1).getByText('typed at the right').waitFor({ state: 'detached' })

  // Keys: order within a group, over to the other, the other group's own tab.
  await ann.locator('.group[data-group="0"] [role=tab][aria-selected=true]').focus()
  await ann.keyboard.press('Shift+ArrowLeft')
  await are('acb|c')
  await ann.keyboard.press('Home')
  await ann.locator('.group[data-group="0"] .tab-active[data-key="file:a.txt"]').waitFor()
  await ann.keyboard.press('Alt+Shift+o')
  await are('cb|ca')
  await ann.keyboard.press('Alt+o')
  await ann.locator('.group[data-group="0"][data-focused=true]').waitFor()

  // Dragged: within the tabs, and from the tree into a group.
  const tab = (group, file) => ann.locator(`.group[data-group="${group}"] .tab[data-key="file:${file}"]`)
  await tab(0, 'b.txt').dragTo(tab(0, 'c.txt'), { targetPosition: { x: 5, y: 10 } })
  await are('bc|ca')
  await row(ann, 'b.txt').dragTo(ann.locator('.group[data-group="1"] .group-body'))
  await are('bc|cab')
  await tab(1, 'a.txt').dragTo(tab(0, 'b.txt'), { targetPosition: { x: 5, y: 10 } })
  await are('abc|cb')
  await ann.reload()
  await are('abc|cb')
  await inGroup(ann, 0).getByText('aa').waitFor()
  await inGroup(ann, 1).waitFor()

  // Closed by keys: the second group goes with its last tab.
  await tab(1, 'b.txt').getByRole('tab').click()
  await ann.keyboard.press('Alt+w')
  await are('abc|c')
  await inGroup(ann, 1).waitFor()
  await ann.keyboard.press('Alt+w')
  await are('abc')
  await tab(0, 'c.txt').getByRole('tab').focus()
  await ann.keyboard.press('Delete')
  await are('ab')
  // A tab dropped at the right edge of the text opens the second group.
  await tab(0, 'b.txt').getByRole('tab').click()
  const { width, height } = await ann.locator('.group-body').boundingBox()
  await tab(0, 'b.txt').dragTo(ann.locator('.group-body'), { targetPosition: { x: width - 40, y: height / 2 } })
  await are('a|b')
  await stage.end()
}

/** A phone: files, text and people are a touch away, nothing is wider than the window. */
export async function phone() {
  const stage = new Stage(binary)
  await stage.start()
  const id = await branchWith(stage, 'phone', { 'docs/read me.md': `# Read me\n\n${'Many words that have to be wrapped on a phone. '.repeat(40)}\n` })
  const link = await stage.api('POST', `/${id}/links`, { permission: 'read' })
  const eve = await stage.person({ viewport: { width: 375, height: 667 }, hasTouch: true, isMobile: true })
  const fits = async (what) => {
    assert.ok(await eve.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${what} is no wider than the window`)
    await picture(eve, `phone-${what}`)
  }
  await eve.goto(`${stage.url}/#link=${link.secret}`)
  const name = eve.getByLabel('Name', { exact: true })
  await name.or(eve.getByRole('tree')).first().waitFor()
  if (await name.isVisible()) {
    await fits('name')
    await name.fill('Eve Reads On A Phone')
    await eve.getByRole('button', { name: 'Go on' }).tap()
  }
  await row(eve, 'docs').tap()
  await fits('files')
  await row(eve, 'docs/read me.md').tap()
  await editor(eve).getByText('Read me').waitFor()
  await eve.locator('.side').waitFor({ state: 'hidden' })
  await fits('text')
  assert.equal(await eve.getByRole('button', { name: 'New file' }).count(), 0, 'what a reader can’t do is not there')
  await eve.locator('[data-panel=people]').tap()
  await eve.getByText('Nobody else is on this branch now.').waitFor()
  await fits('people')
  await eve.locator('[data-panel=search]').tap()
  await eve.getByRole('textbox', { name: 'Search in files' }).fill('wrapped')
  await eve.locator('.found-line').first().tap()
  await eve.locator('.side').waitFor({ state: 'hidden' })
  await eve.getByRole('button', { name: /^Terminals/ }).tap()
  await eve.getByText('No terminal yet.').waitFor()
  await fits('terminals')
  await stage.end()
}

/** A keystroke costs the same in a file of 1 MB as in one of 10 KB; only what is in sight is drawn. */
export async function large() {
  const stage = new Stage(binary)
  await stage.start()
  const line = (n) => `const value_${n} = compute(${n}) // some words that make a line of usual length\n`
  const text = (lines) => Array.from({ length: lines }, (_, n) => line(n)).join('')
  const big = text(14_000)
  assert.ok(big.length > 1024 * 1024)
  const id = await branchWith(stage, 'large', { 'small.js': text(140), 'large.js': big })
  const ann = await stage.person()
  const devtools = await ann.context().newCDPSession(ann)
  // Before the page is there: what is compiled without counters of blocks never has them.
  await devtools.send('Profiler.enable')
  await devtools.send('Profiler.startPreciseCoverage', { callCount: true, detailed: true })
  await enter(ann, stage.link, 'large', 'Ann')
  const bob = await stage.person()
  await enter(bob, stage.link, 'large', 'Bob')
  /** How often the page's blocks of code ran since this was asked last: work, not time. */
  const ran = async () => {
    const { result } = await devtools.send('Profiler.takePreciseCoverage')
    return result.flatMap(({ functions }) => functions.flatMap(({ ranges }) => ranges.map(({ count }) => count))).reduce((a, b) => a + b, 0)
  }
  /** The same while keys were typed. */
  const work = async (file) => {
    await row(ann, file).click()
    await editor(ann).getByText('value_0 ').waitFor()
    await row(bob, file).click()
    await editor(bob).getByText('value_0 ').waitFor()
    // Another's caret, since each keystroke draws it anew.
    await editor(bob).press('ArrowDown')
    await ann.locator('section.file:not([hidden]) .cm-other-caret').waitFor()
    await editor(ann).press('Control+Home')
    await editor(ann).pressSequentially('x')
    await onDisk(ann)
    // What is around the place in sight is parsed when there is time for it, once.
    await eventually('the page is at rest', async () => {
      await ran()
      await sleep(500)
      const idle = await ran()
      return idle < 100_000
    })
    await editor(ann).pressSequentially('twenty keys and more')
    await onDisk(ann)
    return ran()
  }
  const [small, large] = [await work('small.js'), await work('large.js')]
  console.log(`blocks run for 20 keys: ${small} in 10 KB, ${large} in 1 MB`)
  assert.ok(large < small * 3, `a keystroke in a large file does ${large} steps, in a small one ${small}`)

  // Scrolled through by the wheel to its end: there are never more elements than fit, and none stay behind.
  const elements = () => ann.evaluate(() => document.querySelectorAll('section.file:not([hidden]) .cm-editor *').length)
  await row(ann, 'small.js').click()
  await editor(ann).getByText('value_20 ').waitFor()
  const few = await elements()
  await row(ann, 'large.js').click()
  await editor(ann).press('Control+Home')
  await editor(ann).getByText('value_0 ').waitFor()
  const scroller = ann.locator('section.file:not([hidden]) .cm-scroller')
  const place = () => scroller.evaluate(({ scrollTop, scrollHeight, clientHeight }) => scrollTop / (scrollHeight - clientHeight))
  const { x, y, width, height } = await scroller.boundingBox()
  await ann.mouse.move(x + width / 2, y + height / 2)
  let most = 0
  await eventually('the wheel comes to the end', async () => {
    await ann.mouse.wheel(0, 12_000)
    most = Math.max(most, await elements())
    return await place() > 0.999
  })
  await editor(ann).getByText('value_13999 ').waitFor()
  most = Math.max(most, await elements())
  console.log(`elements of the editor: ${few} in 10 KB, at most ${most} while 1 MB is scrolled through`)
  assert.ok(most < few * 3, `${most} elements are drawn of a large file, ${few} of a small one`)

  // Typed at the end, by hand where it has been scrolled to; it arrives at the other, who has it open at its start, and in the file.
  await editor(ann).getByText('value_13999 ').click()
  await editor(ann).press('Control+End')
  await editor(ann).pressSequentially('the last line\n')
  await onDisk(ann)
  await editor(bob).press('Control+End')
  await editor(bob).getByText('the last line').waitFor()
  const disk = fs.readFileSync(path.join(stage.workspace(id), 'large.js'), 'utf8')
  assert.ok(disk.endsWith('the last line\n') && disk.startsWith('xtwenty keys and moreconst'))
  await stage.end()
}
