// What listeners hear.
import assert from 'node:assert/strict'
import { EventSource } from 'eventsource'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { run } from '../exec.mjs'
import { api, branch, clients, crash, eventually, hClient, owner, perch, port, session, sleep, start, url, yClient } from '../harness.mjs'

/** A stock EventSource; `after`: an id to go on from. */
function listen(b, s, after) {
  const listener = { heard: [], status: undefined }
  const source = new EventSource(`${url}/v1/branches/${b.id}/events?token=${s.token}`, {
    fetch: (address, init) => fetch(address, {
      ...init, headers: { ...init.headers, ...(after && !listener.heard.length ? { 'Last-Event-ID': after } : {}) }
    })
  })
  source.onmessage = (event) => {
    const told = JSON.parse(event.data)
    assert.equal(told.id, event.lastEventId)
    assert.ok(Math.abs(told.at_ms - Date.now()) < 60_000)
    listener.heard.push(told)
  }
  source.onerror = (event) => { listener.status = event.code ?? 'closed' }
  listener.opened = new Promise((resolve) => { source.onopen = resolve })
  listener.stop = () => source.close()
  clients.push(listener)
  return listener
}
const brief = ({ type, path, from, by, session, reason }) =>
  [type, from, path, session, reason, by?.join('+')].filter((part) => part !== undefined).join(' ')
const hears = (listener, what) => eventually(`hears ${what}`, () => listener.heard.some((told) => brief(told) === what))
  .catch((error) => { throw new Error(`${error.message}\n${listener.heard.map(brief).join('\n')}`) })

/** Files, documents, sessions; two listeners hear the same; who comes back goes on without gap or double. */
export async function events() {
  await start()
  const b = await branch()
  const files = `/v1/branches/${b.id}/files`
  const s = await session(b, 'eve', 'read')
  const one = listen(b, s)
  await one.opened
  await hears(one, 'session.joined eve')
  const two = listen(b, s)
  await two.opened
  const skip = one.heard.length - two.heard.length
  // The file API, whose echo by the watcher is not told again; folders that it makes are its own too.
  const ann = await session(b, 'ann')
  await hears(one, 'session.changed ann')
  const by = (who) => ({ authorization: `Bearer ${who.token}` })
  await api('PUT', `${files}/src/a.txt`, 'one\n', by(ann))
  await hears(one, 'file.created src/a.txt ann')
  await hears(one, 'file.created src ann')
  await api('PUT', `${files}/src/a.txt`, 'two\n', by(ann))
  await hears(one, 'file.changed src/a.txt ann')
  await api('PUT', `${files}/gone.txt`, 'x')
  await api('DELETE', `${files}/gone.txt`)
  await hears(one, 'file.deleted gone.txt (api)')
  // The other routes of the file API: folders, copies, creation. All by their session, none by the disk.
  const own = one.heard.length
  await api('POST', `/v1/branches/${b.id}/folders/made`, undefined, by(ann))
  await hears(one, 'file.created made ann')
  await api('POST', `/v1/branches/${b.id}/copy`, { from: 'src', to: 'copied' }, by(ann))
  await hears(one, 'file.created copied ann')
  await api('PUT', `${files}/made/b.txt`, 'x', { ...by(ann), 'if-none-match': '*' })
  await hears(one, 'file.created made/b.txt ann')
  await api('DELETE', `/v1/branches/${b.id}/folders/made?recursive=true`, undefined, by(ann))
  await hears(one, 'file.deleted made ann')
  await api('DELETE', `/v1/branches/${b.id}/folders/copied?recursive=true`, undefined, by(ann))
  await hears(one, 'file.deleted copied ann')
  await sleep(1_500)
  assert.ok(one.heard.slice(own).every((told) => !told.by?.includes('(disk)')), one.heard.slice(own).map(brief).join('\n'))
  // Deleted through perch, made and removed again from outside: the second removal is no echo.
  fs.writeFileSync(path.join(b.files, 'gone.txt'), 'x')
  await hears(one, 'file.created gone.txt (disk)')
  fs.unlinkSync(path.join(b.files, 'gone.txt'))
  await hears(one, 'file.deleted gone.txt (disk)')
  await api('PATCH', `/v1/branches/${b.id}`, { name: 'other' })
  await hears(one, 'branch.changed')
  // Outside, no document open.
  const at = (name) => path.join(b.files, name)
  fs.writeFileSync(at('new.txt'), 'x')
  await hears(one, 'file.created new.txt (disk)')
  fs.appendFileSync(at('new.txt'), 'y')
  await hears(one, 'file.changed new.txt (disk)')
  fs.renameSync(at('new.txt'), at('moved.txt'))
  await hears(one, 'file.renamed new.txt moved.txt (disk)')
  fs.unlinkSync(at('moved.txt'))
  await hears(one, 'file.deleted moved.txt (disk)')
  fs.mkdirSync(at('.git'))
  fs.writeFileSync(at('.git/index'), 'x')
  // A document: typing is told once it is in the file, by name; outside changes as such.
  const editor = yClient(ann, 'src/a.txt')
  await eventually('synced', () => editor.synced())
  await hears(one, 'session.joined ann')
  await hears(one, 'document.opened src/a.txt')
  editor.text.insert(0, 'typed\n')
  const changed = () => one.heard.filter((told) => brief(told) === 'file.changed src/a.txt ann').length
  await eventually('typed, told', () => changed() === 2)
  fs.appendFileSync(at('src/a.txt'), 'shell\n')
  await hears(one, 'file.changed src/a.txt (disk)')
  await sleep(1_500)
  assert.equal(changed(), 2, 'no echo')
  const told = one.heard.map(brief)
  for (const once of ['file.created src/a.txt ann', 'file.changed src/a.txt (disk)', 'file.deleted gone.txt (api)', 'file.created gone.txt (api)']) {
    assert.equal(told.filter((what) => what === once).length, 1, `${once}\n${told.join('\n')}`)
  }
  assert.ok(!told.some((what) => what.includes('.git')), told.join('\n'))
  // A rename through perch is told once, by whom; one from outside as such; the document goes on either way.
  await api('POST', `/v1/branches/${b.id}/rename`, { from: 'src/a.txt', to: 'lib/b.txt' }, by(ann))
  await hears(one, 'file.renamed src/a.txt lib/b.txt ann')
  await sleep(1_500)
  fs.renameSync(at('lib/b.txt'), at('src/a.txt'))
  await hears(one, 'file.renamed lib/b.txt src/a.txt (disk)')
  await sleep(1_500)
  const since = one.heard.map(brief).slice(told.length)
  assert.deepEqual(since.filter((what) => /a\.txt|b\.txt|closed/.test(what)),
    ['file.renamed src/a.txt lib/b.txt ann', 'file.renamed lib/b.txt src/a.txt (disk)'])
  fs.unlinkSync(at('src/a.txt'))
  await hears(one, 'document.closed src/a.txt deleted')
  await hears(one, 'file.deleted src/a.txt (disk)')
  editor.stop()
  await hears(one, 'session.left ann')
  // Both heard the same, each id above the one before.
  await eventually('both are through', () => two.heard.at(-1).id === one.heard.at(-1).id)
  assert.deepEqual(two.heard, one.heard.slice(skip))
  const number = ({ id }) => Number(id.split('-')[1])
  one.heard.forEach((told, n) => n && assert.equal(number(told), number(one.heard[n - 1]) + 1))
  // Resumed in the middle, and at the end.
  const middle = one.heard[Math.floor(one.heard.length / 2)]
  const again = listen(b, s, middle.id)
  await eventually('caught up', () => again.heard.at(-1)?.id === one.heard.at(-1).id)
  assert.deepEqual(again.heard, one.heard.slice(one.heard.indexOf(middle) + 1))
  again.stop()
  const last = one.heard.at(-1).id
  two.stop()
  const late = listen(b, s, last)
  await late.opened
  await api('PUT', `${files}/late.txt`, 'x')
  await hears(late, 'file.created late.txt (api)')
  assert.equal(number(late.heard[0]), Number(last.split('-')[1]) + 1)
  for (const bad of ['0-1', 'junk', `${last}0000`]) {
    const lost = listen(b, s, bad)
    await eventually(`reset for ${bad}`, () => lost.heard[0]?.type === 'reset')
    lost.stop()
  }
  // After a restart ids of the old run are answered by reset, by the client's own reconnect.
  await crash()
  await start()
  await eventually('reset', () => one.heard.some((told) => told.type === 'reset'))
  assert.ok(one.heard.at(-1).id.split('-')[0] > last.split('-')[0])
  const stranger = await fetch(`${url}/v1/branches/${b.id}/events`)
  assert.equal(stranger.status, 401)
  const secret = await fetch(`${url}/v1/branches/${b.id}/events?token=${owner}`)
  assert.equal(secret.status, 401, 'an API token has no business in a query')
  const foreign = await fetch(`${url}/v1/branches/${b.id}/events?token=${s.token}`, { headers: { origin: 'https://evil.example' } })
  assert.equal(foreign.status, 403)
  const other = await branch()
  assert.equal((await fetch(`${url}/v1/branches/${other.id}/events?token=${s.token}`)).status, 401)
  const holder = await api('GET', `/v1/branches/${b.id}/events`)
  assert.equal(holder.headers.get('content-type'), 'text/event-stream')
  await holder.body.cancel()
  // An ended session hears no more, at once; others do.
  const bob = listen(b, await session(b, 'bob'))
  await bob.opened
  const ended = await fetch(`${url}/v1/branches/${b.id}/events?token=${s.token}`)
  assert.equal(ended.status, 200)
  const rest = ended.text()
  assert.equal((await api('DELETE', `/v1/branches/${b.id}/sessions/eve`)).status, 204)
  await Promise.race([rest, sleep(2_000).then(() => { throw new Error('still open') })])
  await hears(bob, 'session.ended eve')
  await hears(bob, 'session.left eve')
  await eventually('refused', () => one.status === 401)
  // A lowered one listens on; stopping perch ends the streams in order.
  assert.equal((await api('PATCH', `/v1/branches/${b.id}/sessions/bob`, { permission: 'read' })).status, 200)
  await hears(bob, 'session.changed bob')
  perch.kill('SIGTERM')
  assert.deepEqual(await perch.ended, { code: 0, signal: null })
}

/** Who does not read hears reset once it does, and holds nobody up. */
export async function lagging() {
  await start()
  const b = await branch()
  const s = await session(b, 'ann')
  const fast = listen(b, s)
  await fast.opened
  // Long paths, so that what the kernel holds for the slow one is soon full.
  const folder = path.join(b.files, ...Array.from({ length: 13 }, (_, n) => `${n}`.padEnd(240, 'x')))
  fs.mkdirSync(folder, { recursive: true })
  await eventually('folders', () => fast.heard.some((told) => told.type === 'file.created'))
  await sleep(500)
  const socket = net.connect(port, '127.0.0.1')
  clients.push({ stop: () => socket.destroy() })
  socket.write(`GET /v1/branches/${b.id}/events HTTP/1.1\r\nhost: perch\r\nauthorization: Bearer ${s.token}\r\n\r\n`)
  socket.pause()
  await sleep(200)
  const files = 3_300
  for (let n = 0; n < files; n++) {
    fs.writeFileSync(path.join(folder, `f${n}`), '')
    if (n % 550 === 549) await eventually('heard', () => fast.heard.filter((told) => told.path?.endsWith(`/f${n}`)).length > 0)
  }
  const numbers = fast.heard.filter((told) => told.type === 'file.created').map((told) => told.path.match(/\/f(\d+)$/)?.[1])
  assert.equal(new Set(numbers.filter((n) => n !== undefined)).size, files, 'the fast one heard all')
  assert.ok(!fast.heard.some((told) => told.type === 'reset'))
  let text = ''
  socket.on('data', (bytes) => { text += bytes })
  socket.resume()
  await eventually('reset', () => text.includes('"type":"reset"'))
  const heard = text.split('file.created').length - 1
  assert.ok(heard < files, 'something was missed')
  const done = hClient(s, 'done.txt')
  await eventually('synced', () => done.synced())
  await eventually('goes on', () => text.includes('done.txt'))
}

/** What git ignores is not watched, until a file in it is open. */
export async function ignored() {
  await start()
  const b = await branch()
  const at = (name) => path.join(b.files, name)
  for (const folder of ['node_modules/dep', 'src']) fs.mkdirSync(at(folder), { recursive: true })
  fs.writeFileSync(at('.gitignore'), 'node_modules\n')
  fs.writeFileSync(at('node_modules/dep/index.js'), 'one\n')
  const ann = await session(b, 'ann')
  const one = listen(b, ann)
  await one.opened
  fs.writeFileSync(at('node_modules/dep/other.js'), 'x')
  fs.writeFileSync(at('src/a.js'), 'x')
  await hears(one, 'file.created src/a.js (disk)')
  assert.ok(!one.heard.some((told) => brief(told).includes('other.js')))
  const editor = yClient(ann, 'node_modules/dep/index.js')
  await eventually('synced', () => editor.synced())
  fs.appendFileSync(at('node_modules/dep/index.js'), 'two\n')
  await eventually('seen', () => editor.text.toString() === 'one\ntwo\n')
  await hears(one, 'file.changed node_modules/dep/index.js (disk)')
  fs.writeFileSync(at('node_modules/dep/other.js'), 'y')
  await hears(one, 'file.changed node_modules/dep/other.js (disk)')
  editor.stop()
  one.stop()
}

/** What git has checked out, staged or under way is told of, whoever's git it was. */
export async function git_events() {
  await start()
  const b = await branch()
  const ann = await session(b, 'ann', 'write', { email: 'ann@example.org' })
  const one = listen(b, ann)
  await one.opened
  const told = () => one.heard.filter((event) => brief(event) === 'git.changed').length
  const shell = async (line) => {
    const { out, err, exit } = await run(b, ann, line)
    assert.deepEqual(exit, { code: 0 }, out + err)
  }
  const steps = ['git init -q -b main', 'echo one > a.txt; git add a.txt', 'git commit -qm one', 'git commit -q --allow-empty -m two',
    'git reset -q --soft HEAD~', 'git switch -q -c side', 'git tag v1; git pack-refs --all',
    'git branch made', 'git branch -d made', 'git branch feature/one', 'git tag v2', 'git update-ref refs/remotes/origin/main HEAD', 'git update-ref refs/remotes/origin/more HEAD', 'rm -rf .git']
  for (const step of steps) {
    const before = told()
    await shell(step)
    await eventually(`${step} is told`, () => told() > before)
    await sleep(300)
  }
  // By the API too; looking changes nothing.
  const git = async (method, what, body) => {
    const answer = await api(method, `/v1/branches/${b.id}/git/${what}`, body, { authorization: `Bearer ${ann.token}` })
    assert.ok(answer.ok, `${what}: ${answer.status} ${await answer.text()}`)
  }
  for (const [what, body] of [['init'], ['stage', { all: true }], ['commit', { message: 'one' }], ['branches', { name: 'made' }], ['tags', { name: 'v1' }]]) {
    const before = told()
    await git('POST', what, body)
    await eventually(`${what} is told`, () => told() > before)
    await sleep(300)
  }
  const before = told()
  for (const what of ['status', 'diff', 'log', 'branches', 'operation']) await git('GET', what)
  await sleep(1_000)
  assert.equal(told(), before)
  one.stop()
}

/** Who is here and at which file, for all of the branch; a session speaks for itself alone, and not too often. */
export async function people() {
  await start()
  const b = await branch()
  const by = (who) => ({ authorization: `Bearer ${who.token}` })
  const [ann, eve] = [await session(b, 'ann'), await session(b, 'eve', 'read')]
  const list = async (who) => (await (await api('GET', `/v1/branches/${b.id}/people`, undefined, by(who))).json()).people
  const brief = (people) => people.map(({ session, permission, path }) => `${session} ${permission} ${path}`)
  const look = async (who, path) => {
    let answer
    await eventually('not too often', async () => {
      answer = await fetch(`${url}/v1/branches/${b.id}/people/looking`, {
        method: 'PUT', headers: { ...by(who), 'content-type': 'application/json' }, body: JSON.stringify({ path })
      })
      return answer.status !== 429
    })
    return answer.status
  }
  assert.deepEqual(await list(eve), [])
  assert.equal(await look(ann, 'a.txt'), 409, 'who is not here looks at nothing')
  const [hers, his] = [listen(b, ann), listen(b, eve)]
  await Promise.all([hers.opened, his.opened])
  assert.equal(await look(ann, 'src/a.txt'), 204)
  await hears(his, 'session.moved src/a.txt ann')
  assert.equal(await look(eve, 'b.txt'), 204, 'who may only read is seen too')
  await hears(hers, 'session.moved b.txt eve')
  await eventually('both are listed', async () =>
    brief(await list(eve)).sort().join() === 'ann write src/a.txt,eve read b.txt')
  assert.equal(await look(ann, '../up'), 400)
  assert.equal(await look(ann, null), 204)
  await eventually('at no file', async () => brief(await list(eve)).includes('ann write null'))
  assert.equal(await look({ token: owner }, 'a.txt'), 403, 'an API token is nobody')
  hers.stop()
  await hears(his, 'session.left ann')
  await eventually('gone', async () => brief(await list(eve)).join() === 'eve read b.txt')
}
