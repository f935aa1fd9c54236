// API tokens, session tokens, and what nobody without one gets.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import WebSocket from 'ws'
import { api, binary, branch, crash, data, eventually, hClient, owner, session, start, url, yClient } from '../harness.mjs'

export const withToken = (token) => ({ authorization: `Bearer ${token}` })
const cli = (...args) => execFileSync(binary, args, { env: { ...process.env, PERCH_DATA: data }, encoding: 'utf8' })

/** Files beneath the data folder that hold a text. */
export function holders(text, folder = data) {
  const found = []
  for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
    const file = path.join(folder, entry.name)
    if (entry.isDirectory()) found.push(...holders(text, file))
    else if (entry.isFile() && fs.readFileSync(file).includes(text)) found.push(file)
  }
  return found
}

/** The outcome of an upgrade: the protocol that was chosen, or the status of a refusal. */
function upgrade(address, protocols, headers = {}) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(address, protocols, { headers })
    socket.on('open', () => { resolve({ open: true, protocol: socket.protocol }); socket.close() })
    socket.on('unexpected-response', (_, answer) => resolve({ status: answer.statusCode }))
    socket.on('error', reject)
  })
}

/** The first start's owner token, tokens by command line and API, rotation of keys. */
export async function tokens() {
  const first = { text: '' }
  await start({ PERCH_OWNER_TOKEN: undefined }, [], first)
  const printed = async (log) => (await eventually('a link', () => /#token=(\S+)/.exec(log.text)))[1]
  const link = await printed(first)
  const shown = /shown this once: (perch_\S+)/.exec(first.text)[1]
  const status = async (token, route = '/v1/branches') => (await api('GET', route, undefined, withToken(token))).status
  assert.deepEqual([await status(shown), await status(shown, '/v1/tokens')], [200, 200])
  assert.deepEqual([await status(link), await status(link, '/v1/tokens')], [200, 403])
  assert.deepEqual(holders(shown).concat(holders(link)), [])
  await crash()
  const second = { text: '' }
  await start({ PERCH_OWNER_TOKEN: undefined }, [], second)
  const fresh = await printed(second)
  assert.ok(!second.text.includes('shown this once'))
  assert.deepEqual([await status(shown), await status(fresh), await status(link)], [200, 200, 401])

  // The command line, while perch runs: felt by the next request.
  const [id, made] = cli('token', 'create', '--name', 'robot').trim().split(' ')
  assert.deepEqual([await status(made), await status(made, '/v1/tokens')], [200, 403])
  assert.match(cli('token', 'list'), new RegExp(`${id} api \\S+ valid robot`))
  cli('token', 'revoke', id)
  assert.equal(await status(made), 401)
  assert.match(cli('token', 'list'), new RegExp(`${id} api \\S+ revoked robot`))
  assert.throws(() => cli('token', 'revoke', id), /no valid token/)
  const [, boss] = cli('token', '--data', data, 'create', '--owner').trim().split(' ')
  assert.equal(await status(boss, '/v1/tokens'), 200)
  // The API, for owners.
  const answer = await api('POST', '/v1/tokens', { name: 'bot' }, withToken(boss))
  assert.equal(answer.status, 201)
  const bot = await answer.json()
  assert.equal(bot.owner, false)
  assert.deepEqual([await status(bot.token), await status(bot.token, '/v1/tokens')], [200, 403])
  const { tokens: all } = await (await api('GET', '/v1/tokens', undefined, withToken(boss))).json()
  assert.ok(all.some((token) => token.id === bot.id) && !JSON.stringify(all).includes(bot.token))
  assert.equal((await api('POST', '/v1/tokens', { name: 'x', owner: true }, withToken(bot.token))).status, 403)
  assert.equal((await api('POST', '/v1/tokens', { name: '' }, withToken(boss))).status, 400)
  assert.equal((await api('DELETE', `/v1/tokens/${bot.id}`, undefined, withToken(boss))).status, 204)
  assert.equal((await api('DELETE', `/v1/tokens/${bot.id}`, undefined, withToken(boss))).status, 404)
  assert.equal(await status(bot.token), 401)
  await crash()

  // Tokens on sockets: an API token never goes in a query; a session token may travel in three ways.
  await start()
  const b = await branch()
  const ann = await session(b, 'ann')
  const socket = `${ann.docs_url}/a.txt`
  assert.equal((await upgrade(`${socket}?token=${encodeURIComponent(boss)}`)).status, 401)
  assert.equal((await upgrade(`${socket}?token=${owner}`)).status, 401)
  assert.equal((await upgrade(socket)).status, 401)
  assert.ok((await upgrade(`${socket}?token=${ann.token}`)).open)
  assert.ok((await upgrade(socket, [], withToken(ann.token))).open)
  assert.deepEqual(await upgrade(socket, ['perch', `perch.token.${ann.token}`]), { open: true, protocol: 'perch' })
  assert.equal((await upgrade(socket, ['perch', 'perch.token.wrong'])).status, 401)
  assert.equal((await api('GET', '/v1/tokens', undefined, withToken(ann.token))).status, 403)
  // Keys: a rotation keeps tokens, unless it drops them.
  const read = (s) => status(s.token, `/v1/branches/${b.id}`)
  cli('keys', 'rotate')
  const kid = (s) => JSON.parse(Buffer.from(s.token.split('.')[0], 'base64url')).kid
  await eventually('signed anew', async () => kid(await session(b, 'ann')) !== kid(ann))
  assert.equal(await read(ann), 200)
  cli('keys', 'rotate', '--drop-old')
  await eventually('dropped', async () => await read(ann) === 401)
  assert.equal(await read(await session(b, 'ann')), 200)
}

/** No route of the API, but those that say so, answers without a token; each does with one. */
export async function guarded() {
  await start()
  const document = await (await fetch(`${url}/v1/openapi.json`)).json()
  let [closed, open] = [0, []]
  for (const [route, item] of Object.entries(document.paths)) {
    for (const [method, operation] of Object.entries(item)) {
      if (!['get', 'put', 'post', 'delete', 'patch'].includes(method)) continue
      const target = route
        .replace('{branch}', 'br_00000000000000000000000000000000').replace('{*path}', 'a.txt').replaceAll(/\{\*?\w+\}/g, 'x')
      const ask = async (headers) => {
        const answer = await fetch(url + target, { method: method.toUpperCase(), headers, signal: AbortSignal.timeout(20_000) })
        const body = answer.headers.get('content-type')?.includes('json') ? await answer.json() : await answer.body?.cancel()
        return { status: answer.status, body, type: answer.headers.get('content-type'), asks: answer.headers.get('www-authenticate') }
      }
      const isOpen = operation.security?.some((one) => Object.keys(one).length === 0)
      if (isOpen) {
        open.push(`${method} ${route}`)
        assert.notEqual((await ask({})).status, 401, target)
        continue
      }
      closed++
      for (const headers of [{}, withToken('wrong'), { authorization: 'Basic eDp5' }, withToken('a.b.c')]) {
        const { status, body, type, asks } = await ask(headers)
        assert.equal(status, 401, `${method} ${route}`)
        assert.equal(type, 'application/problem+json')
        assert.equal(body.code, 'unauthorized')
        assert.ok(body.title && body.detail && asks)
      }
      // Document sockets take session tokens only.
      const takesOwner = !('101' in operation.responses)
      assert.equal((await ask(withToken(owner))).status !== 401, takesOwner, `${method} ${route} with the owner token`)
    }
  }
  console.log(`${closed} routes need a token, open: ${open.join(', ')}`)
  assert.ok(closed > 20 && open.length >= 1)
  const socket = '/v1/branches/br_00000000000000000000000000000000/docs/a.txt'
  assert.equal((await fetch(url + socket)).status, 401, 'a socket route without a token, asked for as a page')
  for (const route of ['/healthz', '/readyz', '/', '/v1/openapi.json']) assert.equal((await fetch(url + route)).status, 200, route)
}

/** Sessions: found again, changed, listed with who is there, tokens refreshed, revoked, expired. */
export async function sessions() {
  const log = { text: '' }
  await start({ PERCH_LOG: 'trace' }, [], log)
  const b = await branch()
  const route = `/v1/branches/${b.id}/sessions`
  const make = async (body) => (await api('POST', route, body)).json()
  for (const bad of [{ color: 'red' }, { color: '#12345g' }, { name: 'a<b' }, { email: '' }, { ttl: 0 }, { id: '../x' }]) {
    assert.equal((await api('POST', route, { permission: 'read', ...bad })).status, 400, JSON.stringify(bad))
  }
  const ann = await make({ id: 'ann', permission: 'write', name: 'Ann', email: 'ann@example.org', color: '#00aa11' })
  const listed = async (id) => (await (await api('GET', route)).json()).sessions.find((one) => one.id === id)
  assert.deepEqual(
    (({ permission, name, email, color, connections }) => ({ permission, name, email, color, connections }))(await listed('ann')),
    { permission: 'write', name: 'Ann', email: 'ann@example.org', color: '#00aa11', connections: 0 }
  )
  await api('PUT', `/v1/branches/${b.id}/files/a.txt`, 'text\n')
  const clients = [yClient(ann, 'a.txt'), hClient(ann, 'a.txt')]
  await eventually('synced', () => clients.every((client) => client.synced()))
  await eventually('two sockets', async () => (await listed('ann')).connections === 2)
  assert.ok(Math.abs(Date.now() - (await listed('ann')).connected_since_ms) < 60_000)
  clients[1].stop()
  await eventually('one socket', async () => (await listed('ann')).connections === 1)

  // Asking again with `read` gives a read token and lowers nobody.
  const reading = await make({ id: 'ann', permission: 'read' })
  assert.equal(reading.permission, 'read')
  const put = async (s) => (await api('PUT', `/v1/branches/${b.id}/files/b.txt`, 'x', withToken(s.token))).status
  assert.deepEqual([await put(reading), await put(ann) < 300], [403, true])
  clients[0].text.insert(0, 'still writing ')
  await eventually('written', () => fs.readFileSync(path.join(b.files, 'a.txt'), 'utf8').startsWith('still writing'))

  // A token makes a fresh one of its own session, with no more right than it has.
  const renew = (id, token, body) => api('POST', `${route}/${id}/token`, body, withToken(token))
  const renewed = await (await renew('ann', ann.token)).json()
  assert.equal(renewed.permission, 'write')
  assert.ok(await put(renewed) < 300)
  assert.equal((await (await renew('ann', reading.token, { permission: 'write' })).json()).permission, 'read')
  assert.equal((await (await renew('ann', owner, { permission: 'read', ttl: 60 })).json()).permission, 'read')
  assert.equal((await renew('bob', ann.token)).status, 403)
  assert.equal((await renew('bob', owner)).status, 404)
  assert.equal((await renew('ann', owner, { ttl: -1 })).status, 400)
  assert.equal((await api('GET', `${route}/ann`, undefined, withToken(ann.token))).status, 200)
  assert.equal((await api('GET', route, undefined, withToken(ann.token))).status, 403)

  const changed = await (await api('PATCH', `${route}/ann`, { name: null, color: '#123456', email: 'a@example.org' })).json()
  assert.deepEqual([changed.name, changed.color, changed.email, changed.permission], [null, '#123456', 'a@example.org', 'write'])
  assert.equal((await api('PATCH', `${route}/ann`, { permision: 'read' })).status, 400)
  assert.equal((await api('PATCH', `${route}/nobody`, { name: 'x' })).status, 404)
  assert.equal((await api('PATCH', `${route}/ann`, { permission: 'read' })).status, 200)
  assert.deepEqual([await put(ann), await put(renewed)], [403, 403])
  assert.equal((await api('PATCH', `${route}/ann`, { permission: 'write' })).status, 200)
  assert.ok(await put(ann) < 300)

  // Revocation cuts at once and leaves the session.
  assert.equal((await api('POST', `${route}/ann/revoke`)).status, 204)
  await eventually('cut', () => clients[0].closed?.code === 4403)
  assert.deepEqual([await put(ann), await put(renewed), (await renew('ann', ann.token)).status], [401, 401, 401])
  const again = await make({ id: 'ann', permission: 'write' })
  assert.ok(await put(again) < 300)
  assert.equal((await listed('ann')).color, '#123456')
  // While she is there by the new token, which spares the next socket the database, the old one still opens none.
  const there = [yClient(again, 'a.txt'), yClient(again, 'a.txt')]
  await eventually('synced by the new token', () => there.every((client) => client.synced()))
  const late = [yClient(ann, 'a.txt'), hClient(renewed, 'a.txt')]
  await eventually('refused', () => late[1].refused)
  assert.ok(!late[0].synced())
  for (const client of [...there, ...late]) client.stop()
  // An ended session is a new one when it is asked for again; its old tokens stay refused, also after a restart.
  assert.equal((await api('DELETE', `${route}/ann`)).status, 204)
  assert.equal(await put(again), 401)
  const anew = await make({ id: 'ann', permission: 'read' })
  await crash()
  assert.ok(log.text.length > 1_000, 'there is a log')
  for (const s of [ann, reading, renewed, again, anew]) assert.ok(!log.text.includes(s.token), 'no token is logged')
  assert.ok(!log.text.includes(owner))
  await start()
  assert.deepEqual([await put(again), await put(anew)], [401, 403])

  // Expiry refuses new sockets and cuts no open one.
  const short = await make({ id: 'cyn', permission: 'write', ttl: 2 })
  const open = yClient(short, 'a.txt')
  await eventually('synced', () => open.synced())
  await eventually('expired', async () => await put(short) === 401)
  open.text.insert(0, 'after its time ')
  await eventually('written', () => fs.readFileSync(path.join(b.files, 'a.txt'), 'utf8').startsWith('after its time'))
  assert.equal((await upgrade(`${short.docs_url}/a.txt?token=${short.token}`)).status, 401)
  for (let n = 0; n < 5; n++) await make({ id: `page${n}`, permission: 'read' })
  const [seen, pages] = [[], []]
  for (let after = ''; ;) {
    const page = await (await api('GET', `${route}?limit=3${after}`)).json()
    pages.push(page.sessions.length)
    seen.push(...page.sessions.map((one) => one.id))
    if (!page.next) break
    after = `&after=${page.next}`
  }
  assert.deepEqual(seen, ['ann', 'cyn', 'page0', 'page1', 'page2', 'page3', 'page4'].sort((x, y) => seen.indexOf(x) - seen.indexOf(y)))
  assert.equal(new Set(seen).size, 7)
}
