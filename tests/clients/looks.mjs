// Looks at the previews of two branches that both listen on port 3000. Usage: node looks.mjs URL OWNER_TOKEN BRANCH OTHER
import assert from 'node:assert/strict'
import http from 'node:http'
import { ask, enter, opened, socket } from './preview.mjs'

const [url, owner, one, other] = process.argv.slice(2)
const api = async (method, route, body, token = owner) => {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  const answer = await fetch(url + route, { method, headers, body: body && JSON.stringify(body) })
  assert.ok(answer.ok, `${route} ${answer.status}`)
  return answer.status === 204 ? null : answer.json()
}
const next = (emitter, event) => new Promise((resolve, reject) => {
  emitter.once(event, (...values) => resolve(values))
  emitter.once('error', reject)
})
async function look(branch, id) {
  const { token } = await api('POST', `/v1/branches/${branch}/sessions`, { id, permission: 'read' })
  const preview = await api('POST', `/v1/branches/${branch}/ports/3000/preview`, undefined, token)
  const { cookie } = await enter(preview.url)
  return { token, cookie, root: `${new URL(preview.url).origin}/` }
}

const ann = await look(one, 'ann')
const bob = await look(other, 'bob')
for (const [who, name] of [[ann, 'one'], [bob, 'other']]) {
  assert.equal(JSON.parse((await ask(who.root, { headers: { cookie: who.cookie } })).body).name, name)
}
const { ports } = await api('GET', `/v1/branches/${one}/ports`, undefined, ann.token)
assert.deepEqual(ports, [{ port: 3000, address: 'loopback', process: 'node', session: 'ann', url: ann.root }])

// What the server sees: the request as the browser sent it, without anything of perch's.
const answer = await ask(`${ann.root}a//b?x=%20&y`, {
  method: 'PUT', body: 'ä'.repeat(100_000),
  headers: {
    cookie: `one=1; ${ann.cookie}; __Host-perch-preview=${ann.token}; two=2`, authorization: `Bearer ${ann.token}`, te: 'trailers',
    'x-forwarded-for': '6.6.6.6', 'x-forwarded-host': 'evil.example', forwarded: 'for=6.6.6.6', 'keep-alive': 'x', 'x-own': 'kept'
  }
})
assert.equal(answer.status, 200)
assert.deepEqual(answer.headers['set-cookie'], ['a=1', 'b=2'])
assert.deepEqual([answer.headers['x-hop'], answer.headers['cache-control']], [undefined, 'private, max-age=60'])
const seen = JSON.parse(answer.body)
const header = (name, of = seen) => of.headers.filter(([key]) => key === name).map(([, value]) => value).join('|')
assert.deepEqual([seen.method, seen.url, seen.body.length], ['PUT', '/a//b?x=%20&y', 100_000])
assert.equal(header('cookie'), 'one=1; two=2')
assert.equal(header('authorization'), '')
const { host } = new URL(ann.root)
assert.deepEqual([header('host'), header('x-forwarded-host'), header('x-forwarded-proto')], [host, host, 'http'])
assert.ok(!header('x-forwarded-for').includes('6.6.6.6'))
assert.deepEqual([header('forwarded'), header('te'), header('keep-alive'), header('x-own')], ['', '', '', 'kept'])
assert.ok(!answer.body.includes(ann.token) && !answer.body.includes(ann.cookie))
const app = { cookie: ann.cookie, authorization: 'Bearer of-the-app' }
assert.equal(header('authorization', JSON.parse((await ask(ann.root, { headers: app })).body)), 'Bearer of-the-app')
for (const mine of [owner, 'perch_something']) {
  const shown = await ask(ann.root, { headers: { cookie: ann.cookie, authorization: `Bearer ${mine}` } })
  assert.equal(header('authorization', JSON.parse(shown.body)), '')
}
// Requests without a body stay without one.
for (const method of ['GET', 'DELETE', 'OPTIONS']) {
  const plain = JSON.parse((await ask(`${ann.root}v1/branches`, { method, headers: { cookie: ann.cookie } })).body)
  assert.deepEqual([plain.method, plain.url, header('transfer-encoding', plain)], [method, '/v1/branches', ''])
}
const head = await ask(ann.root, { method: 'HEAD', headers: { cookie: ann.cookie } })
assert.deepEqual([head.status, head.body], [200, ''])
assert.equal((await ask(`${ann.root}teapot`, { headers: { cookie: ann.cookie } })).status, 418)

// A stream passes on as it comes.
const { port } = new URL(url)
const request = http.get({ host: '127.0.0.1', port, path: '/stream', headers: { host, cookie: ann.cookie } })
const [stream] = await next(request, 'response')
const events = stream[Symbol.asyncIterator]()
assert.equal((await events.next()).value.toString(), 'data: first\n\n')
await ask(`${ann.root}go`, { headers: { cookie: ann.cookie } })
assert.equal((await events.next()).value.toString(), 'data: second\n\n')
assert.ok((await events.next()).done)

// WebSockets.
const ws = socket(`${ann.root}hmr`, { cookie: `${ann.cookie}; x=y`, authorization: `Bearer ${ann.token}`, origin: ann.root.slice(0, -1) })
const greeting = next(ws, 'message')
assert.equal(await opened(ws), 'open')
assert.equal(ws.protocol, 'perch-test')
const greeted = JSON.parse((await greeting)[0].toString())
assert.deepEqual([greeted.cookie, greeted.authorization, greeted.host], ['x=y', undefined, host])
for (const message of ['text', Buffer.alloc(1_000_000, 7)]) {
  ws.send(message)
  assert.deepEqual(Buffer.from((await next(ws, 'message'))[0]), Buffer.from(message))
}
const others = socket(bob.root, { cookie: bob.cookie })
await opened(others)
// A session that is revoked is cut there too, another one is not.
const cut = next(ws, 'close')
await api('POST', `/v1/branches/${one}/sessions/ann/revoke`)
await cut
assert.equal((await ask(ann.root, { headers: { cookie: ann.cookie } })).status, 401)
assert.equal(await opened(socket(ann.root, { cookie: ann.cookie })), 401)
assert.equal(others.readyState, others.OPEN)
// Whoever asks, where the branch says so; what it answers may be kept by anybody.
await api('PATCH', `/v1/branches/${other}`, { previews: 'public' })
const open = await ask(bob.root)
assert.deepEqual([JSON.parse(open.body).name, open.headers['cache-control']], ['other', 'public, max-age=60'])
assert.equal(await opened(socket(bob.root, { origin: 'http://elsewhere.example' })), 'open')
const gone = next(others, 'close')
console.log('looked')
// The test ends the server now.
await gone
process.exit(0)
