// The socket itself: who is let in, signs of life, frames that are none, what is refused, clients that come back.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import WebSocket from 'ws'
import { decode, encode, join } from '../frames.mjs'
import { api, crash, eventually, sdk0, sdk2, start, versions } from '../harness.mjs'
import { line } from '../line.mjs'

const status = async (address) => {
  const socket = new WebSocket(address)
  socket.on('error', () => {})
  const answer = await Promise.race([once(socket, 'unexpected-response'), once(socket, 'open')])
  socket.terminate()
  return answer[1]?.statusCode ?? 101
}

/** Refused before the upgrade; with and without the slash; empty text is answered whenever it comes. */
export async function sdk_socket() {
  await start()
  const [v] = versions()
  const id = await v.create({})
  const ann = await v.session(id, 'ann', 'write')
  const other = await v.session(await v.create({}), 'ann', 'write')
  const query = `token=${ann.token}`
  assert.equal(await status(`${ann.url}/?${query}`), 101)
  assert.equal(await status(`${ann.url}?${query}&reconnectToken=x`), 101)
  for (const bad of ['', '?token=', '?token=wrong', `/?token=${other.token}`]) assert.equal(await status(`${ann.url}${bad}`), 401, bad)
  assert.equal(await status(`${ann.url.replace(/br_.*/, 'nothing')}/?${query}`), 404)

  const socket = new WebSocket(`${ann.url}/?${query}`)
  const heard = []
  socket.on('message', (bytes, isBinary) => heard.push(isBinary ? decode(bytes) : bytes.toString()))
  await once(socket, 'open')
  const ask = async (frame) => {
    const before = heard.length
    socket.send(frame)
    await eventually('an answer', () => heard.length > before)
    return heard.at(-1)
  }
  assert.equal(await ask(''), '', 'before the join')
  const early = await ask(encode({ method: 'fs/readFile', params: { path: 'a' }, id: 0 }))
  assert.deepEqual([early.id, early.method, early.status, early.error.code], [0, 'fs/readFile', 1, 0])
  // Frames that are none leave it usable; whoever can be answered is.
  const request = (more) => encode({ method: 'client/list', params: {}, id: 7, ...more })
  const deep = Buffer.concat([Buffer.from([0x82, 0xa2]), Buffer.from('id'), Buffer.from([5, 0xa6]), Buffer.from('params'), Buffer.alloc(100, 0x91), Buffer.from([0xc0])])
  const many = Buffer.concat([Buffer.from([0x82, 0xa2]), Buffer.from('id'), Buffer.from([6, 0xa6]), Buffer.from('params'), Buffer.from([0xdd, 0, 3, 0, 0]), Buffer.alloc(0x30000, 0xc0)])
  for (const [frame, id] of [
    [Buffer.alloc(0), null], [Buffer.from([0xc1]), null], [Buffer.from('text as bytes'), null], [request().subarray(0, 20), null], [encode([1]), null],
    [Buffer.concat([request(), Buffer.from([0])]), 7], [encode({ id: 8 }), 8], [encode({ method: 1, id: 9 }), 9], [encode({ method: 'x' }), null],
    [deep, 5], [many, 6], [Buffer.from([0xdf, 0xff, 0xff, 0xff, 0xff]), null], [Buffer.concat([Buffer.from([0x81, 0xa6]), Buffer.from('params'), Buffer.from([0xd4, 1, 1])]), null]
  ]) {
    const said = await ask(frame)
    assert.deepEqual([said.id, said.status, said.error?.code], [id, 1, 0], `${frame.toString('hex').slice(0, 60)}: ${JSON.stringify(said)}`)
    assert.ok(!('result' in said))
  }
  const joined = await ask(encode({ method: 'client/join', params: { clientInfo: { protocolVersion: '1', appId: 'sdk' }, asyncProgress: true, subscriptions: null }, id: 1 }))
  assert.deepEqual([joined.status, joined.result.client.username, joined.result.client.appId, joined.result.workspacePath], [0, 'ann', 'sdk', '/project/workspace'])
  assert.equal(joined.result.permissions.git.status, true)
  assert.match(joined.result.reconnectToken, /^[\w-]+$/)
  const again = await ask(encode({ method: 'client/join', params: {}, id: 1 }))
  assert.equal(again.result.client.clientId, joined.result.client.clientId, 'a second time does no harm')
  const refusals = { 'no/such': 1, 'fs/operation': 1, 'ai/embeddings': 1, ['x'.repeat(1000)]: 1, 'command/execute': 704, 'file/open': 0 }
  for (const [method, code] of Object.entries(refusals)) {
    const said = await ask(encode({ method, params: {}, id: 3 }))
    assert.equal(said.error.code, code, `${method.slice(0, 50)}: ${said.error.message}`)
    assert.ok(!said.error.message.includes('x'.repeat(100)))
  }
  // Params of another shape: the file calls' errors carry a number, or the SDK fails with a TypeError.
  for (const params of [null, {}, { path: 1 }, { path: null }, [], 'a', 5]) {
    const said = await ask(encode({ method: 'fs/readFile', params, id: 4 }))
    assert.deepEqual([said.error.code, said.error.data], [102, { errno: -22 }], JSON.stringify(params))
  }
  // Nothing given and nothing at all are one; numbers may be written as floats.
  for (const more of [{ params: null }, { params: undefined }, { id: 12.0 }]) {
    const said = await ask(request(more))
    assert.equal(said.status, 0, JSON.stringify(said))
    assert.ok(!('error' in said))
  }
  assert.equal(await ask(''), '')
  // 64 MiB and what belongs to it are one frame.
  const whole = Buffer.alloc(64 * 1024 * 1024, 'x')
  const put = await ask(encode({ method: 'fs/writeFile', params: { path: 'whole.txt', content: whole, create: true, overwrite: true }, id: 20 }))
  assert.deepEqual(put.result, {}, JSON.stringify(put).slice(0, 200))
  const got = await ask(encode({ method: 'fs/readFile', params: { path: 'whole.txt' }, id: 21 }))
  assert.ok(whole.equals(got.result.content))
  // The same request twice, as after a reconnect.
  for (const _ of [1, 2]) assert.deepEqual((await ask(encode({ method: 'fs/writeFile', params: { path: 'twice.txt', content: Buffer.from('once') }, id: 30 }))).result, {})
  const twice = await ask(encode({ method: 'fs/readFile', params: { path: 'twice.txt' }, id: 31 }))
  assert.equal(twice.result.content.toString(), 'once')
  // The session is ended: so is the socket, and the token.
  const closed = once(socket, 'close')
  assert.equal((await api('DELETE', `/v1/branches/${id}/sessions/ann`)).status, 204)
  await closed
  assert.equal(await status(`${ann.url}/?${query}`), 401)
}

/** Requests of one client that were not waited for are done as if one after the other; a long one holds nobody up. */
export async function sdk_order() {
  await start()
  const [v] = versions()
  const id = await v.create({})
  const client = await join(await v.session(id, 'ann', 'write'))
  const write = (text) => client.send('fs/writeFile', { path: 'a.txt', content: Buffer.from(text), create: true, overwrite: true })
  const read = async () => (await client.send('fs/readFile', { path: 'a.txt' })).content.toString()
  const asked = []
  for (let n = 0; n < 300; n += 1) asked.push(write(`text ${n}`), read().then((text) => assert.equal(text, `text ${n}`)))
  await Promise.all(asked)
  const [, shell] = await Promise.all([write('for the shell\n'), client.send('shell/create', { command: 'cat a.txt', size: { cols: 80, rows: 24 }, type: 'TERMINAL' })])
  await eventually('its output', () => client.printed(shell.shellId) === 'for the shell\r\n')
}

/** The line breaks, perch is killed: clients come back by themselves, with the tokens they have; put to sleep they do not. */
export async function sdk_reconnect() {
  const wire = await line()
  await start(wire.env)
  const old = await sdk0().create()
  const ann = await old.sessions.create('ann')
  const two = await sdk2().sandboxes.create()
  const bob = await two.connect({ id: 'bob' })
  const states = []
  bob.onStateChange((state) => states.push(state))
  await Promise.all([ann.fs.writeTextFile('a.txt', 'of ann'), bob.fs.writeTextFile('b.txt', 'of bob')])
  wire.cut()
  await eventually('2.4.2 is back', () => states.includes('DISCONNECTED') && states.at(-1) === 'CONNECTED')
  assert.equal(await bob.fs.readTextFile('b.txt'), 'of bob')
  await eventually('0.11.2 reads again', async () => (await ann.fs.readTextFile('a.txt')) === 'of ann')
  await crash()
  await start(wire.env)
  // With the token it had; 2.4.2 gives up after 4 s, which a slow machine takes to start.
  await eventually('0.11.2 reads again', async () => (await ann.fs.readTextFile('a.txt')) === 'of ann')
  await ann.fs.writeTextFile('a.txt', 'again')
  assert.equal(await ann.fs.readTextFile('a.txt'), 'again')
  // Put to sleep: each is told first, so that nobody wakes it.
  const cyn = await (await sdk2().sandboxes.resume(two.id)).connect({ id: 'cyn' })
  await sdk2().sandboxes.hibernate(two.id)
  await eventually('it is told', () => cyn.state === 'HIBERNATED')
  const { vms } = await sdk2().sandboxes.listRunning()
  assert.ok(!vms.some(({ id }) => id === two.id))
  await cyn.reconnect()
  assert.equal(await cyn.fs.readTextFile('b.txt'), 'of bob')
  const seat = await (await sdk2().sandboxes.resume(old.id)).createSession({ id: 'raw', permission: 'write' })
  const raw = await join({ url: seat.pitcherURL, token: seat.pitcherToken })
  const closed = once(raw.socket, 'close')
  await sdk0().shutdown(old.id)
  await closed
  assert.equal(raw.heard.at(-1).method, 'system/hibernate', 'the last thing that is said')
  wire.end()
}
