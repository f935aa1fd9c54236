// perch in the page of somebody else, on another origin: the example of docs/embedding.md, as it stands there.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import fs from 'node:fs'
import http from 'node:http'
import { accessible, binary, branchWith, eventually, picture, Stage } from '../harness.mjs'

const guide = new URL('../../../docs/embedding.md', import.meta.url)

/** Somebody's app: the page of the guide, and a server that makes seats with its API token. */
async function app(page, seat) {
  const server = http.createServer(async (request, response) => {
    if (request.url === '/seat') return void response.end(JSON.stringify(await seat()))
    response.setHeader('content-type', 'text/html')
    response.end(page())
  }).listen(0, '127.0.0.3')
  await once(server, 'listening')
  return { origin: `http://127.0.0.3:${server.address().port}`, stop: () => { server.close(); server.closeAllConnections() } }
}

export async function embedding() {
  const example = /```html\n([\s\S]*?)```/.exec(fs.readFileSync(guide, 'utf8'))[1]
  let stage
  let right = 'write'
  let id
  const seats = []
  const seat = async () => {
    const given = await stage.api('POST', `/${id}/sessions`, { id: `user-${right}`, permission: right, name: 'Ann', email: 'ann@example.org' })
    seats.push(given.token)
    return { ...given, name: 'Ann' }
  }
  const ours = await app(() => example.replace('https://perch.example.org/', `${stage.url}/`), seat)
  const theirs = await app(() => `<iframe src="${stage.url}/embed"></iframe><iframe src="${stage.url}/"></iframe>`, seat)
  try {
    stage = new Stage(binary, '--allowed-origin', ours.origin)
    await stage.start()
    id = await branchWith(stage, 'embedded')
    const ann = await stage.person()
    const asked = []
    ann.on('request', (request) => asked.push(request.url()))
    ann.on('websocket', (socket) => asked.push(socket.url()))
    await ann.goto(ours.origin)
    const notes = ann.getByLabel('Notes')
    const frame = ann.frameLocator('#editor')
    const inFrame = frame.locator('section.file:not([hidden]) .cm-content')
    await inFrame.waitFor()
    const saved = () => eventually('saved', async () => await ann.locator('#standing').textContent() === 'saved')
    await saved()
    await notes.pressSequentially('from the field\n')
    await inFrame.getByText('from the field').waitFor()
    await inFrame.press('Control+End')
    await inFrame.pressSequentially('from the frame')
    await eventually('in the field', async () => await notes.inputValue() === 'from the field\nfrom the frame')
    await notes.press('Control+Home')
    await notes.pressSequentially('first: ')
    await inFrame.getByText('first: from the field').waitFor()
    await saved()
    await eventually('who is here', async () => (await ann.locator('#people').textContent()) === 'Ann')
    await ann.getByRole('list', { name: 'Files' }).getByText('notes.md').waitFor()
    await ann.getByRole('button', { name: 'Commit' }).click()
    await eventually('committed', async () => /^[0-9a-f]{40}$/.test(await ann.locator('#git').textContent()))
    await picture(ann, 'embedding')
    await accessible(ann, 'the example')

    // The caret stays where it is while another types before it; a character of two units becomes another one as a whole.
    await notes.fill('ab😀cd')
    await eventually('in the frame', async () => await inFrame.textContent() === 'ab😀cd')
    await notes.evaluate((field) => field.setSelectionRange(4, 5))
    await inFrame.press('Control+Home')
    await inFrame.pressSequentially('0123')
    await eventually('in the field', async () => await notes.inputValue() === '0123ab😀cd')
    assert.deepEqual(await notes.evaluate(({ selectionStart, selectionEnd }) => [selectionStart, selectionEnd]), [8, 9])
    await notes.fill('0123ab😁cd')
    await eventually('in the frame', async () => await inFrame.textContent() === '0123ab😁cd')
    await notes.fill('0123ab𝄞cd')
    await eventually('in the frame', async () => await inFrame.textContent() === '0123ab𝄞cd')
    await notes.press('Control+End')
    await notes.pressSequentially('!')
    await eventually('in the frame', async () => await inFrame.textContent() === '0123ab𝄞cd!')
    assert.equal(await notes.inputValue(), '0123ab𝄞cd!')

    // No list of branches, no sharing, no way out.
    assert.equal(await frame.getByRole('link', { name: 'All branches' }).count(), 0)
    await frame.locator('[data-panel=people]').click()
    await frame.locator('.persons').getByText('Ann').waitFor()
    assert.equal(await frame.locator('[data-panel=sharing]').count(), 0)
    // The token is in no address, in no history, in no storage, in no log.
    const inside = ann.frames().find((one) => one.url().startsWith(stage.url))
    const kept = await inside.evaluate(() => {
      // Where the browser gives a frame of another site no storage, there is nothing in it.
      const all = (where) => { try { return { ...window[where] } } catch { return {} } }
      return JSON.stringify([all('localStorage'), all('sessionStorage'), document.cookie, history.state, location.href])
    })
    assert.ok(kept.startsWith('[{},{},"",null'), kept)
    assert.ok(seats.length > 0)
    for (const token of [...seats, stage.token]) {
      assert.ok(asked.every((url) => !url.includes(token)), 'no address holds a token')
      assert.ok(!kept.includes(token))
    }
    for (const token of seats) assert.ok(!stage.log.includes(token), 'no log holds a token')
    // A session that is ended is asked for anew only by who still may: the page around says so.
    const policy = (await fetch(`${stage.url}/embed`)).headers.get('content-security-policy')
    assert.ok(policy.includes(`frame-ancestors ${ours.origin}`), policy)
    assert.ok(!/script-src[^;]*unsafe-inline/.test(policy) && policy.includes("default-src 'self'"), policy)
    assert.ok((await fetch(`${stage.url}/`)).headers.get('content-security-policy').includes("frame-ancestors 'none'"))
    const module = await fetch(`${stage.url}/client/index.js`, { headers: { origin: ours.origin } })
    assert.equal(module.headers.get('access-control-allow-origin'), '*')
    assert.equal((await fetch(`${stage.url}/client/index.d.ts`)).status, 200)
    assert.equal((await fetch(`${stage.url}/client/none.js`)).status, 404)

    // A reader in the frame has nothing to change anything with.
    right = 'read'
    const eve = await stage.person()
    await eve.goto(ours.origin)
    const reading = eve.frameLocator('#editor')
    await reading.locator('.saved[data-standing="reading"]').waitFor()
    assert.equal(await reading.getByRole('button', { name: /New file|New terminal|Fork|Upload/ }).count(), 0)

    // Another origin may frame neither.
    stage.allowed = /frame-ancestors|Framing|chrome-error/
    const mallory = await stage.person()
    await mallory.goto(theirs.origin)
    await eventually('both are refused', () => mallory.frames().filter((one) => one.url().startsWith('chrome-error:')).length === 2)
  } finally {
    ours.stop()
    theirs.stop()
  }
}
