// Links, rights, ends, copies and previews: who may do what, and what is not there for the others.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import {
  accessible, binary, branchWith, count, editor, enter, eventually, openFile, panel, picture, row, shown, Stage, standing, typeLine, visitor
} from '../harness.mjs'

const button = (page, name) => page.getByRole('button', { name, exact: true })

/** Makes a link in the panel and gives its secret. */
async function makeLink(page, { right = 'read', fork = false } = {}) {
  await panel(page, 'sharing')
  await page.getByLabel('What the link allows').selectOption(right)
  if (right === 'read') await page.getByLabel('Visitors may take a copy').setChecked(fork)
  const known = await page.getByLabel('The new link').isVisible() ? await page.getByLabel('The new link').inputValue() : ''
  await button(page, 'Make link').click()
  const url = await eventually('the link', async () => {
    const value = await page.getByLabel('The new link').inputValue()
    return value !== known && value
  })
  return new URLSearchParams(new URL(url).hash.slice(1)).get('link')
}

/** All that can be pressed, chosen or typed into, by its name. */
const controls = (page) => page.evaluate(() => [...document.querySelectorAll('button, input, select, textarea, summary, a[href], [contenteditable=true]')]
  .filter((one) => one.getClientRects().length > 0)
  .map((one) => (one.getAttribute('aria-label') ?? (one.textContent.trim() || one.getAttribute('placeholder') || one.className)).replace(/\s+/g, ' ')))

/** A folder, and all files, are downloaded whole, by a visitor who may only read. */
export async function folder_download() {
  const stage = new Stage(binary)
  await stage.start()
  const id = await branchWith(stage, 'whole', { 'src/deep/a.txt': 'text of a\n', 'top.txt': 'top\n' })
  const { secret } = await stage.api('POST', `/${id}/links`, { permission: 'read' })
  const eve = await visitor(stage, secret)
  const names = async (act) => {
    const [download] = await Promise.all([eve.waitForEvent('download'), act()])
    const list = 'import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; print("\\n".join(sorted(z.namelist())))'
    return [download.suggestedFilename(), execFileSync('python3', ['-c', list, await download.path()], { encoding: 'utf8' })]
  }
  await row(eve, 'src').focus()
  await eve.keyboard.press('Shift+F10')
  const menu = eve.getByRole('menu', { name: 'src' })
  await menu.waitFor()
  await picture(eve, 'folder-menu')
  assert.deepEqual(await names(() => menu.getByRole('menuitem', { name: 'Download as a zip archive' }).press('Enter')), ['src.zip', 'deep/\ndeep/a.txt\n'])
  await eve.keyboard.press('F1')
  await eve.locator('dialog input:focus, [role=combobox]:focus').waitFor()
  await eve.keyboard.type('download all files')
  assert.deepEqual(await names(() => eve.keyboard.press('Enter')), ['files.zip', 'src/\nsrc/deep/\nsrc/deep/a.txt\ntop.txt\n'])
  await stage.end()
}

/** A visitor who may only read: sees all of it live, and finds no control that would change something. */
export async function read_only() {
  const stage = new Stage(binary)
  stage.allowed = /status of (404|409|422)/
  await stage.start()
  const id = await branchWith(stage, 'shared')
  fs.writeFileSync(path.join(stage.workspace(id), 'a.txt'), 'for visitors\n')
  const ann = await stage.person()
  await enter(ann, stage.link, 'shared', 'Ann')
  await openFile(ann, 'a.txt')
  await panel(ann, 'git')
  await button(ann, 'Make a repository').click()
  await ann.locator('[data-entry="a.txt"]').waitFor()
  const secret = await makeLink(ann)
  await ann.getByRole('list', { name: 'Links that work' }).getByText('To read').waitFor()
  const eve = await visitor(stage, secret)
  await openFile(eve, 'a.txt')
  await standing(eve, 'reading')
  await picture(ann, 'sharing')
  await accessible(ann, 'sharing', '#side')
  await panel(ann, 'people')
  const eves = ann.locator('.persons [data-person=Eve]')
  await eves.getByText('reads only, since').waitFor()
  await picture(ann, 'people')
  await accessible(ann, 'people', '#side')

  // Files, terminals, git and previews, live.
  await typeLine(ann, 'typed live')
  await editor(eve).getByText('typed live').waitFor()
  await button(ann, 'New terminal').click()
  await ann.locator('.shell[data-typing=true]').waitFor()
  await ann.locator('.xterm-helper-textarea').focus()
  await ann.keyboard.type('mkdir /tmp/www && cd /tmp/www && echo "<h1>served live</h1>" > index.html && python3 -m http.server 8123\n')
  await ann.locator('[data-port="8123"]').waitFor()
  await eve.getByRole('button', { name: /^Terminals/ }).click()
  await eve.locator('.xterm-rows').getByText('http.server').first().waitFor()
  await eve.locator('[data-port="8123"]').click()
  await eve.frameLocator('.preview iframe').getByText('served live').waitFor()
  await picture(eve, 'read-only')
  await accessible(eve, 'what a reader sees', '#side', '.preview', '.notices')

  // What the owner has and the visitor has not, in each panel.
  const seen = { ann: new Set(), eve: new Set() }
  for (const [name, page] of [['ann', ann], ['eve', eve]]) {
    for (const one of await page.locator('[data-panel]').evaluateAll((all) => all.map(({ dataset }) => dataset.panel))) {
      await panel(page, one)
      if (one === 'git') {
        await page.locator('[data-entry="a.txt"]').waitFor()
        for (const title of ['Branches', 'Put aside', 'Restore points', 'Log']) await page.locator('.git-fold summary', { hasText: title }).click()
        await eventually('all of it is here', async () => await page.locator('.git-fold .item-note', { hasText: 'Loading…' }).count() === 0)
      }
      if (one === 'people') await page.locator('.persons').getByText('Eve').waitFor()
      for (const control of await controls(page)) seen[name].add(control)
    }
  }
  for (const changes of ['Stage a.txt', 'Discard a.txt', 'Stage all', 'Make link', 'Pull', 'Push', 'Fetch', 'New terminal', 'Keep', 'Stash all', 'Create', 'New file']) {
    assert.ok([...seen.ann].some((one) => one === changes), `the owner has ${changes}: ${[...seen.ann].join(' | ')}`)
  }
  const looks = [
    /^(All branches|You, Eve|Look again|Load again|Open in a tab|Put this notice away|Who typed this|Address within port 8123)$/,
    /^(Files|Git(\d+, \d+ changed files)?|People|Search)$/, /^(Search in files|Case matters|Regular expression|Where to search|Find|Copy)$/, /follow$/i, /^Close /, /^Preview of /, /^(a\.txt|Port 8123)$/, /^Terminals/, /^shell Ann$/, /^8123/, /^Open port 8123 in a tab$/,
    /^(Branches|Put aside \(stash\)|Restore points|Log)$/, /^U ?a\.txt/, /^Text of a\.txt$/, /^Terminal input$/
  ]
  const others = [...seen.eve].filter((one) => !looks.some((look) => look.test(one)))
  assert.deepEqual(others, [], 'a reader finds nothing but to look')
  assert.equal(await eve.locator('button:disabled').count(), 0, 'nothing is there and disabled')
  await editor(eve).press('Control+End')
  await editor(eve).pressSequentially('EVIL')
  assert.equal(count(await shown(ann), 'EVIL'), 0)

  // Raised, lowered, ended while they type.
  await panel(ann, 'people')
  await button(ann, 'Let write: Eve').click()
  await standing(eve, 'saved')
  await typeLine(eve, 'eve writes')
  await editor(ann).getByText('eve writes').waitFor()
  await button(ann, 'Let only read: Eve').click()
  await standing(eve, 'reading')
  await button(ann, 'Let write: Eve').click()
  await standing(eve, 'saved')
  stage.allowed = /status of (401|404|409|422)/
  const keys = '0123456789'.repeat(8)
  const typed = async (page) => (await shown(page)).match(/0123\d*/)?.[0] ?? ''
  const typing = editor(eve).pressSequentially(keys, { delay: 20 })
  await editor(ann).getByText('0123').waitFor()
  await button(ann, 'End session: Eve').click()
  await ann.getByRole('dialog', { name: 'End this session?' }).getByRole('button', { name: 'End session' }).click()
  await eve.getByText('perch ended your session here').waitFor()
  const had = await typed(eve)
  await typing
  // Whether the page takes more or not by then, what it had stays, and nothing is missing within.
  const has = await typed(eve)
  assert.ok(keys.startsWith(has) && has.startsWith(had) && had.startsWith(await typed(ann)), `${had} then, ${has} now`)
  await eves.waitFor({ state: 'detached' })
  await panel(ann, 'sharing')
  await picture(eve, 'ended-while-typing')

  // A link that is revoked opens nothing.
  await ann.getByRole('button', { name: /^Revoke the link: To read/ }).click()
  await ann.getByRole('list', { name: 'Links that work' }).locator('li').waitFor({ state: 'detached' })
  stage.allowed = /status of (401|410)/
  const late = await stage.person()
  await late.goto(`${stage.url}/#link=${secret}`)
  await late.getByText('The link opens nothing').waitFor()
}

/** A link to write: a visitor without any API token types, and commits under an address of their own. */
export async function write_link() {
  const stage = new Stage(binary)
  stage.allowed = /status of (404|409|422)/
  await stage.start()
  const id = await branchWith(stage, 'open')
  fs.writeFileSync(path.join(stage.workspace(id), 'a.txt'), 'one\n')
  const ann = await stage.person()
  await enter(ann, stage.link, 'open', 'Ann')
  const eve = await visitor(stage, await makeLink(ann, { right: 'write' }))
  await openFile(eve, 'a.txt')
  await standing(eve, 'saved')
  await typeLine(eve, 'by a visitor')
  await standing(eve, 'saved')
  await panel(eve, 'git')
  await button(eve, 'Make a repository').click()
  await eve.getByLabel('Commit message').fill('mine')
  await button(eve, 'Stage all and commit').click()
  await eve.getByLabel('Email address', { exact: true }).fill('eve@example.org')
  await button(eve, 'Go on').click()
  await eve.locator('.git-done', { hasText: 'Committed' }).waitFor()
  const { commits } = await stage.api('GET', `/${id}/git/log?session=${await eve.evaluate((b) => JSON.parse(sessionStorage.getItem(`perch.seat.${b}`)).id, id)}`)
  assert.deepEqual(commits.map(({ author }) => [author.name, author.email]), [['Eve', 'eve@example.org']])
  // Others' links and rights are not a visitor's to change.
  await panel(eve, 'people')
  await eve.locator('.persons').getByText('Ann').waitFor()
  assert.equal(await eve.locator('[data-panel=sharing]').count(), 0)
  assert.equal(await eve.getByRole('button', { name: /^(Let|End session)/ }).count(), 0)
}

/** Visitors are there by the names they gave: at the top, in the list, at their carets, at what they typed; for who comes later too. */
export async function guest_names() {
  const stage = new Stage(binary)
  // Who typed a line is asked of git first, and there is no repository.
  stage.allowed = /status of 409/
  await stage.start()
  const id = await branchWith(stage, 'guests', { 'a.txt': 'one\ntwo\nthree\n' })
  const secret = async (permission) => (await stage.api('POST', `/${id}/links`, { permission })).secret
  const ann = await stage.person()
  await enter(ann, stage.link, 'guests', 'Ann')
  const eve = await visitor(stage, await secret('write'), 'Eve Guest')
  const rita = await visitor(stage, await secret('read'), 'Rita Reads')
  for (const page of [ann, eve, rita]) await openFile(page, 'a.txt')
  await standing(eve, 'saved')
  await standing(rita, 'reading')
  await editor(eve).press('Control+End')
  await editor(eve).pressSequentially('by a guest')
  await editor(rita).getByText('two').click()
  const bob = await stage.person()
  await enter(bob, stage.link, 'guests', 'Bob')
  await openFile(bob, 'a.txt')
  for (const page of [ann, bob]) {
    await panel(page, 'people')
    for (const name of ['Eve Guest', 'Rita Reads']) {
      await page.locator(`.people li[data-person="${name}"][data-in-file=true]`).waitFor()
      await page.locator(`.persons [data-person="${name}"]`).waitFor()
    }
    await page.locator('.persons [data-person="Rita Reads"]').getByText('reads only').waitFor()
    await editor(page).locator('.cm-other-name[data-name="Eve Guest"]').waitFor({ state: 'attached' })
    await editor(page).locator('.cm-other-name[data-name="Rita Reads"]').waitFor({ state: 'attached' })
  }
  await ann.keyboard.press('Control+Alt+b')
  await ann.locator('[data-who="Eve Guest"]').waitFor()
  await picture(ann, 'guests')
  // Loaded anew they are who they were.
  await eve.reload()
  await editor(eve).getByText('by a guest').waitFor()
  await bob.locator('.persons [data-person="Eve Guest"]').waitFor()
  assert.equal(await bob.locator('.persons [data-person^="guest-"]').count(), 0)
}

/** A visitor who may read takes a copy with one click, and writes there; once. */
export async function fork_to_write() {
  const stage = new Stage(binary)
  stage.allowed = /status of (404|409|422)/
  await stage.start()
  const id = await branchWith(stage, 'origin')
  fs.writeFileSync(path.join(stage.workspace(id), 'a.txt'), 'shared\n')
  const ann = await stage.person()
  await enter(ann, stage.link, 'origin', 'Ann')
  const eve = await visitor(stage, await makeLink(ann, { fork: true }))
  await openFile(eve, 'a.txt')
  await standing(eve, 'reading')
  await picture(eve, 'fork-offer')
  await accessible(eve, 'the offer of a copy', '.notices')
  await button(eve, 'Fork to edit').click()
  await eventually('another branch', () => !eve.url().includes(id) && eve.url().includes('/b/br_'))
  await editor(eve).getByText('shared').waitFor()
  await standing(eve, 'saved')
  await typeLine(eve, 'only in the copy')
  await standing(eve, 'saved')
  const copy = new URL(eve.url()).hash.split('/')[2]
  await eventually('on disk there', () => fs.readFileSync(path.join(stage.workspace(copy), 'a.txt'), 'utf8').includes('only in the copy'))
  assert.equal(fs.readFileSync(path.join(stage.workspace(id), 'a.txt'), 'utf8'), 'shared\n')
  // Back at the origin the right is used up; a plain read link has none.
  await eve.goto(`${stage.url}/#/b/${id}`)
  await eve.getByRole('tree').waitFor()
  assert.equal(await button(eve, 'Fork to edit').count(), 0)
  const other = await visitor(stage, await makeLink(ann))
  await other.getByRole('tree').waitFor()
  assert.equal(await button(other, 'Fork to edit').count(), 0)
  const seat = await other.evaluate((b) => JSON.parse(sessionStorage.getItem(`perch.seat.${b}`)), id)
  const forked = await fetch(`${stage.url}/v1/branches/${id}/fork`, { method: 'POST', headers: { authorization: `Bearer ${seat.token}` } })
  assert.equal(forked.status, 403)
}

/** What listens on a port, beside the editor: of another site, loaded anew, at another address, in a tab. */
export async function preview_beside() {
  const stage = new Stage(binary)
  stage.allowed = /status of (404|409|422)/
  await stage.start()
  const id = await branchWith(stage, 'previews')
  fs.mkdirSync(path.join(stage.workspace(id), 'site'))
  fs.writeFileSync(path.join(stage.workspace(id), 'site/index.html'), '<p id="where">first</p><script>document.title = "run"; try { parent.document.title = "EVIL" } catch { document.body.append("kept out") }</script>')
  fs.writeFileSync(path.join(stage.workspace(id), 'site/other.html'), 'the other page')
  const ann = await stage.person()
  await enter(ann, stage.link, 'previews', 'Ann')
  await ann.locator('[role=treeitem][data-path="site"]').click()
  await openFile(ann, 'site/index.html')
  await button(ann, 'New terminal').click()
  await ann.locator('.shell[data-typing=true]').waitFor()
  await ann.locator('.xterm-helper-textarea').focus()
  await ann.keyboard.type('cd site && python3 -m http.server 8124\n')
  // The page's own script tries to reach out of its frame; the browser says so.
  stage.allowed = /Blocked a frame|SecurityError/
  await ann.locator('[data-port="8124"]').click()
  const frame = ann.frameLocator('.preview iframe')
  await frame.getByText('first').waitFor()
  await frame.getByText('kept out').waitFor()
  assert.notEqual(await ann.title(), 'EVIL')
  assert.ok(await editor(ann).isVisible(), 'the editor is beside it')
  const source = await ann.locator('.preview iframe').getAttribute('src')
  assert.notEqual(new URL(source).hostname, new URL(stage.url).hostname)
  assert.ok(!(await ann.locator('.preview iframe').getAttribute('sandbox')).includes('top-navigation'))
  await picture(ann, 'preview-beside')
  await accessible(ann, 'a preview', '.preview')
  await editor(ann).press('Control+Home')
  await editor(ann).pressSequentially('<p>second</p>')
  await standing(ann, 'saved')
  await eventually('on disk', () => fs.readFileSync(path.join(stage.workspace(id), 'site/index.html'), 'utf8').includes('second'))
  await button(ann, 'Load again').click()
  await frame.getByText('second').waitFor()
  await ann.getByLabel('Address within port 8124').fill('/other.html')
  await ann.getByLabel('Address within port 8124').press('Enter')
  await frame.getByText('the other page').waitFor()
  const [tab] = await Promise.all([ann.context().waitForEvent('page'), button(ann, 'Open in a tab').click()])
  await tab.getByText('the other page').waitFor()
  assert.equal(await tab.evaluate(() => window.opener), null)
  await tab.close()
  // Nothing there: that is said, and when it is back it is shown.
  await ann.locator('.xterm-helper-textarea').focus()
  await ann.keyboard.press('Control+c')
  await ann.getByText('Nothing listens on port 8124 now').waitFor()
}
