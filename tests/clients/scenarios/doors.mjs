// Attacks on the doors, by their number in docs/security.md: A2, A5, A8, B7, F7, T4, T5.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { api, branch, eventually, owner, perch, port, session, start, url } from '../harness.mjs'
import { ask } from '../preview.mjs'
import { rawH } from '../raw.mjs'
import { withToken } from './tokens.mjs'

/** The first line that answers what is written to a new connection, byte by byte as given. */
function answered(head) {
  return new Promise((resolve) => {
    let said = ''
    const socket = net.connect(port, '127.0.0.1', () => socket.write(head))
    socket.on('data', (bytes) => { said += bytes; if (said.includes('\r\n\r\n')) { socket.destroy(); resolve(said) } })
    socket.on('error', () => {}).on('close', () => resolve(said))
  })
}
const upgrade = (target, more = '') => `GET ${target} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
  `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${'A'.repeat(22)}==\r\n${more}\r\n`
const status = (said) => Number(/^HTTP\/1\.1 (\d+)/.exec(said)?.[1])
/** One frame of a client: `first` is its first byte; masked with zeros. */
function frame(first, payload) {
  const header = payload.length < 126 ? Buffer.from([first, 0x80 | payload.length]) : Buffer.from([first, 0xfe, payload.length >> 8, payload.length & 255])
  return Buffer.concat([header, Buffer.alloc(4), payload])
}
const memory = () => Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${perch.pid}/status`, 'utf8'))[1]) / 1024

export async function doors() {
  await start()
  const b = await branch()
  const base = `/v1/branches/${b.id}`
  fs.writeFileSync(path.join(b.files, 'a.txt'), 'text\n')
  const ann = await session(b, 'ann')
  const { paths } = await (await api('GET', '/v1/openapi.json')).json()

  // A2, every route that becomes a socket, asked to become one: it wants a token before. Hocuspocus brings its token inside.
  const sockets = Object.entries(paths).filter(([, item]) => '101' in (item.get?.responses ?? {})).map(([route]) => route)
  assert.ok(sockets.length >= 3, sockets.join())
  const { id: terminal } = await (await api('POST', `${base}/terminals`, { session: 'ann' })).json()
  for (const route of sockets) {
    const target = route.replace('{branch}', b.id).replace('{*path}', 'a.txt').replace('{path}', 'a.txt').replace('{terminal}', terminal)
    const isInside = route.endsWith('/collab')
    for (const wrong of ['', '?token=wrong', '?token=a.b.c']) {
      const expected = isInside ? 101 : 401
      assert.equal(status(await answered(upgrade(target + wrong))), expected, `A2 ${route}${wrong}`)
    }
    assert.equal(status(await answered(upgrade(`${target}?token=${ann.token}`))), 101, `A2, the control: ${route}`)
  }
  // A8, what nobody asked to be compressed is not: there is no bomb to unpack.
  const offers = await answered(upgrade(`${base}/docs/a.txt?token=${ann.token}`, 'Sec-WebSocket-Extensions: permessage-deflate\r\n'))
  assert.equal(status(offers), 101)
  assert.ok(!/sec-websocket-extensions/i.test(offers), 'A8 nothing is compressed')
  const packed = await api('POST', '/v1/branches', JSON.stringify({ name: 'x' }), { 'content-type': 'application/json', 'content-encoding': 'gzip' })
  assert.ok([400, 415].includes(packed.status) || (await packed.json()).name === 'x', 'A8 a body is taken as it is')
  // A8, heads without end.
  const long = await answered(`GET /healthz HTTP/1.1\r\nHost: x\r\n${`X-Long: ${'x'.repeat(8_000)}\r\n`.repeat(200)}\r\n`)
  assert.ok(long === '' || [400, 431].includes(status(long)), `A8 a long head: ${long.slice(0, 80)}`)
  const many = await answered(`GET /healthz HTTP/1.1\r\nHost: x\r\n${'a: b\r\n'.repeat(5_000)}\r\n`)
  assert.ok(many === '' || [400, 431].includes(status(many)), `A8 many heads: ${many.slice(0, 80)}`)
  assert.equal(status(await answered('GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')), 200, 'A8, the control')
  // A8, before the token: one message in fragments without end, and pings without end. Both are cut, or held to little.
  const before = memory()
  const flood = (bytes) => new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1', () => socket.write(upgrade(`${base}/collab`)))
    let sent = 0
    const go = () => {
      while (!socket.destroyed && sent++ < 20_000) if (!socket.write(bytes)) return socket.once('drain', go)
      resolve(socket)
    }
    socket.once('data', () => { socket.write(frame(0x02, Buffer.from('x'))); go() })
    socket.on('error', () => {}).on('close', () => resolve(socket))
  })
  const fragments = await Promise.all(Array.from({ length: 8 }, () => flood(frame(0x00, Buffer.alloc(4_000)))))
  await eventually('A8 endless fragments are cut', () => fragments.every((socket) => socket.destroyed))
  const pings = await Promise.all(Array.from({ length: 8 }, () => flood(frame(0x89, Buffer.alloc(100)))))
  assert.ok(memory() - before < 48, `A8 ${memory() - before} MiB more`)
  pings.forEach((socket) => socket.destroy())
  const fine = await rawH(ann, 'a.txt').sync()
  assert.equal(fine.text.toString(), 'text\n', 'A8 the others go on')
  fine.stop()

  // A5, a ticket that two bring at the same time is good for one of them; after that for nobody.
  for (let n = 0; n < 5; n++) {
    const { url: ticket } = await (await api('POST', `${base}/ports/3000/preview`, undefined, withToken(ann.token))).json()
    const both = await Promise.all([ask(ticket), ask(ticket), ask(ticket)])
    assert.deepEqual(both.map((one) => one.status).toSorted(), [303, 401, 401], 'A5 raced')
    assert.equal((await ask(ticket)).status, 401, 'A5 replayed')
  }

  // B7, what is somebody else's looks as what is not there, by every route of a branch.
  const hidden = await branch({ name: 'hidden' })
  const absent = `br_${'0'.repeat(32)}`
  let alike = 0
  for (const [route, item] of Object.entries(paths)) {
    if (!route.startsWith('/v1/branches/{branch}')) continue
    for (const method of Object.keys(item)) {
      if (!['get', 'put', 'post', 'delete', 'patch'].includes(method) || '101' in item[method].responses) continue
      const at = async (id, token) => {
        const target = route.replace('{branch}', id).replaceAll(/\{\*?path\}/g, 'a.txt').replaceAll(/\{\*?\w+\}/g, '1')
        const body = ['put', 'post', 'patch'].includes(method) ? '{}' : undefined
        const answer = await api(method.toUpperCase(), target, body, { 'content-type': 'application/json', ...withToken(token) })
        const { status, code, detail } = { status: answer.status, ...await answer.json().catch(() => ({})) }
        return { status, code, detail: detail?.replaceAll(id, 'ID') }
      }
      const [theirs, none] = [await at(hidden.id, ann.token), await at(absent, ann.token)]
      assert.deepEqual(theirs, none, `B7 ${method} ${route}`)
      assert.ok([400, 403, 404, 415, 422].includes(theirs.status), `B7 ${method} ${route}: ${theirs.status}`)
      if (theirs.status === 404) alike++
    }
  }
  assert.ok(alike > 40, `B7 ${alike} routes`)
  assert.equal((await api('GET', `/v1/branches/${hidden.id}`)).status, 200, 'B7, the control: it is there')

  // F7, the page's files come from the binary alone.
  for (const name of ['..%2f..%2fCargo.toml', '%2e%2e/%2e%2e/etc/passwd', '..', '%2fetc%2fpasswd', 'x%00.js']) {
    assert.ok([400, 404].includes(status(await answered(`GET /assets/${name} HTTP/1.1\r\nHost: x\r\n\r\n`))), `F7 ${name}`)
  }
  const page = await fetch(`${url}/`)
  const [, asset] = /src="\/?(assets\/[^"]+)"/.exec(await page.text())
  assert.equal((await fetch(`${url}/${asset}`)).status, 200, 'F7, the control')

  // T4, the page is in nobody's frame, and what is private is in nobody's cache.
  assert.match(page.headers.get('content-security-policy'), /frame-ancestors 'none'/, 'T4')
  assert.equal(page.headers.get('referrer-policy'), 'no-referrer', 'T4')
  for (const route of [`${base}/files/a.txt`, `${base}/sessions`, base]) {
    const kept = (await api('GET', route)).headers.get('cache-control') ?? ''
    assert.ok(/no-store|private|no-cache/.test(kept), `T4 ${route}: ${kept}`)
  }

  // T5, nothing is made by looking: all that can be asked for by GET, with a token that may do everything.
  const state = async () => JSON.stringify([
    fs.readdirSync(b.files, { recursive: true }).sort(),
    ...await Promise.all(['/v1/branches', `${base}/sessions`, `${base}/links`, '/v1/tokens', `${base}/terminals`].map(async (route) => {
      const text = await (await api('GET', route)).text()
      return text.replaceAll(/"[a-z_]*(_at|_ms|_bytes)[a-z_]*":[^,}]+/g, '')
    }))
  ])
  const was = await state()
  for (const [route, item] of Object.entries(paths)) {
    if (!item.get || '101' in item.get.responses || route.endsWith('/events')) continue
    const target = route.replace('{branch}', b.id).replaceAll(/\{\*?path\}/g, 'new.txt').replaceAll(/\{\*?\w+\}/g, '1')
    const answer = await fetch(url + target, { headers: { authorization: `Bearer ${owner}` }, signal: AbortSignal.timeout(20_000) })
    await answer.body?.cancel()
  }
  assert.equal(await state(), was, 'T5 looking changed something')
  await api('PUT', `${base}/files/new.txt`, 'made')
  assert.notEqual(await state(), was, 'T5, the control')
}
