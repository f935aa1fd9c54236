// Who may come in, and as what.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import {
  binary, count, editor, enter, eventually, openFile, picture, shown, Stage, standing, typeLine, visitor
} from '../harness.mjs'

/** A share link: the visitor reads along without a token, and is told when the link works no more. */
export async function visitors() {
  const stage = new Stage(binary)
  await stage.start()
  const { id } = await stage.api('POST', '', { name: 'shared' })
  await eventually('ready', async () => (await stage.api('GET', `/${id}`)).state === 'ready')
  fs.writeFileSync(path.join(stage.workspace(id), 'a.txt'), 'for visitors\n')
  const link = await stage.api('POST', `/${id}/links`, { permission: 'read' })
  const eve = await visitor(stage, link.secret)
  await openFile(eve, 'a.txt')
  await editor(eve).getByText('for visitors').waitFor()
  await editor(eve).press('Control+End')
  await editor(eve).pressSequentially('EVIL')
  fs.appendFileSync(path.join(stage.workspace(id), 'a.txt'), 'more\n')
  await editor(eve).getByText('more').waitFor()
  assert.equal(count(fs.readFileSync(path.join(stage.workspace(id), 'a.txt'), 'utf8'), 'EVIL'), 0)
  await stage.api('DELETE', `/${id}/links/${link.id}`)
  stage.allowed = /410/
  const late = await stage.person()
  await late.goto(`${stage.url}/#link=${link.secret}`)
  await late.getByText('The link opens nothing').waitFor()
  await stage.end()
}

/** A seat without any API token, as a share link gives it: read only, raised and ended by others. */
export async function reading() {
  const stage = new Stage(binary)
  // A look at git that is under way while the session's right changes is refused, and done again.
  stage.allowed = /status of 409/
  await stage.start()
  const { id } = await stage.api('POST', '', { name: 'reading' })
  const session = await stage.api('POST', `/${id}/sessions`, { id: 'guest', permission: 'write', name: 'Guest' })
  fs.writeFileSync(path.join(stage.workspace(id), 'a.txt'), 'read me\n')
  const guest = await stage.person()
  const seat = JSON.stringify({ ...session, branch: id, name: 'Guest' })
  await guest.addInitScript(([key, value]) => sessionStorage.setItem(key, value), [`perch.seat.${id}`, seat])
  await guest.goto(`${stage.url}/#/b/${id}/a.txt`)
  await editor(guest).getByText('read me').waitFor()
  await standing(guest, 'saved')
  await stage.api('PATCH', `/${id}/sessions/guest`, { permission: 'read' })
  await standing(guest, 'reading')
  await editor(guest).click()
  await editor(guest).press('x')
  assert.equal(await shown(guest), 'read me\n', 'a reader types nothing')
  await stage.api('PATCH', `/${id}/sessions/guest`, { permission: 'write' })
  await standing(guest, 'saved')
  await typeLine(guest, 'now I write')
  await eventually('on disk', () => fs.readFileSync(path.join(stage.workspace(id), 'a.txt'), 'utf8') === 'read me\nnow I write\n')
  await stage.api('PATCH', `/${id}/sessions/guest`, { permission: 'read' })
  await standing(guest, 'reading')
  await editor(guest).press('Control+z')
  assert.equal(await shown(guest), 'read me\nnow I write\n', 'a reader undoes nothing')
  // A look at the folders may be under way when a session ends.
  stage.allowed = /status of (401|409)/
  await stage.api('DELETE', `/${id}/sessions/guest`)
  await guest.getByText('perch ended your session here').waitFor()
  await guest.getByRole('button', { name: 'Join again' }).click()
  await guest.getByText('Ask for a new link').waitFor()
  assert.equal(await shown(guest), 'read me\nnow I write\n')

  // With an API token joining again is one click, and what was typed meanwhile is kept.
  const ann = await stage.person()
  await enter(ann, stage.link, 'reading', 'Ann')
  await openFile(ann, 'a.txt')
  await standing(ann, 'saved')
  const { sessions } = await stage.api('GET', `/${id}/sessions`)
  await stage.api('DELETE', `/${id}/sessions/${sessions.find(({ name }) => name === 'Ann').id}`)
  await ann.getByText('perch ended your session here').waitFor()
  await typeLine(ann, 'typed outside')
  await standing(ann, 'offline')
  await picture(ann, 'session-ended')
  await ann.getByRole('button', { name: 'Join again' }).click()
  await standing(ann, 'saved')
  await eventually('on disk', () =>
    fs.readFileSync(path.join(stage.workspace(id), 'a.txt'), 'utf8') === 'read me\nnow I write\ntyped outside\n')
}

/** Signing in, branches in all states, and what is said when something is wrong. */
export async function branches() {
  const stage = new Stage(binary)
  await stage.start()
  const ann = await stage.person()
  let sockets = 0
  ann.on('websocket', () => { sockets += 1 })
  await ann.goto(stage.url)
  await ann.getByText('perch prints a link when it starts').waitFor()
  await picture(ann, 'sign-in')
  stage.allowed = /status of (401|400)/
  await ann.getByLabel('Link or token').fill('perch_not_a_token')
  await ann.getByRole('button', { name: 'Sign in' }).click()
  await ann.getByText('perch refused this page’s token').waitFor()
  await ann.getByLabel('Link or token').fill(stage.link)
  await ann.getByRole('button', { name: 'Sign in' }).click()
  await ann.getByRole('heading', { name: 'No branches yet' }).waitFor()
  await picture(ann, 'no-branches')
  const make = async (name, url) => {
    await ann.getByRole('button', { name: 'New branch' }).click()
    await ann.getByLabel('Name', { exact: true }).fill(name)
    if (url !== undefined) await ann.getByLabel('Git repository').fill(url)
    await ann.getByRole('button', { name: 'Make branch' }).click()
  }
  await make('secret', 'file:///etc')
  await ann.getByRole('alert').getByText('the git URL is refused').waitFor()
  await picture(ann, 'make-branch')
  await ann.keyboard.press('Escape')
  await make('unreachable', 'http://127.0.0.1:9/nothing.git')
  const row = (name) => ann.locator('.rows li', { hasText: name })
  await ann.locator('.rows li[data-state="failed"]').waitFor()
  assert.ok((await row('unreachable').locator('.row-error').textContent()).length > 10, 'the reason is shown')
  await make('plain <b>words</b>')
  await row('plain <b>words</b>').getByText('Ready').waitFor()
  await picture(ann, 'branches')
  // Keys alone are enough to get to a branch.
  await ann.keyboard.press('Tab')
  await row('plain').getByRole('link').focus()
  await ann.keyboard.press('Enter')
  await ann.getByRole('dialog', { name: 'Your name' }).waitFor()
  await ann.getByLabel('Name', { exact: true }).fill('a<b')
  await ann.keyboard.press('Enter')
  await ann.getByRole('alert').getByText('can’t hold').waitFor()
  await ann.getByLabel('Name', { exact: true }).fill('Ann')
  await ann.keyboard.press('Enter')
  await ann.getByRole('heading', { name: 'Open a file' }).waitFor()
  await picture(ann, 'empty-branch')
  assert.equal(sockets, 0, 'without an open file there is no socket, which perch would close')

  // Signing out leaves nothing behind in the tab.
  await ann.getByRole('link', { name: 'All branches' }).click()
  await ann.getByRole('button', { name: 'Sign out' }).click()
  await ann.getByRole('heading', { name: 'Open perch by its link' }).waitFor()
  assert.equal(await ann.evaluate(() => sessionStorage.length), 0)

  // What the server says with the page.
  const index = await fetch(stage.url)
  assert.equal(index.status, 200)
  const policy = index.headers.get('content-security-policy')
  for (const part of ["default-src 'self'", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"]) {
    assert.ok(policy.includes(part), `${part} in ${policy}`)
  }
  assert.equal(index.headers.get('cache-control'), 'no-cache')
  assert.equal(index.headers.get('referrer-policy'), 'no-referrer')
  assert.ok(!/script-src[^;]*unsafe/.test(policy) && !/default-src[^;]*unsafe/.test(policy), 'no script but the page’s own')
  // What a browser loads before the page works, as it travels.
  const text = await index.text()
  const first = [...text.matchAll(/(?:src|href)="(assets\/[^"]+\.js)"/g)].map(([, name]) => name)
  const sizes = await Promise.all(first.map(async (name) => {
    const packed = await fetch(`${stage.url}/${name}`, { headers: { 'accept-encoding': 'gzip' } })
    return Number(packed.headers.get('content-length'))
  }))
  const load = sizes.reduce((a, b) => a + b, 0)
  assert.ok(first.length > 0 && sizes.every((size) => size > 0), 'the sizes are known')
  assert.ok(load <= 250 * 1024, `the first load is ${load} bytes of script`)
  assert.ok(!first.some((name) => /screen|xterm|lang|compare/.test(name)), 'terminal and languages come later')
  const script = `/${/src="(assets\/[^"]+)"/.exec(text)[1]}`
  const asset = await fetch(stage.url + script, { headers: { 'accept-encoding': 'gzip' } })
  assert.equal(asset.headers.get('content-encoding'), 'gzip')
  assert.ok(asset.headers.get('cache-control').includes('immutable'))
  assert.equal(asset.headers.get('x-content-type-options'), 'nosniff')
  assert.equal((await fetch(`${stage.url}/assets/none.js`)).status, 404)
  assert.equal((await fetch(`${stage.url}/assets/..%2findex.html`)).status, 404)
}
