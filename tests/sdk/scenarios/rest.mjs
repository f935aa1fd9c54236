// The SDK's REST routes, by the packages' own methods, and by hand where they can't say it.
import assert from 'node:assert/strict'
import WebSocket from 'ws'
import { lines } from '../../clients/exec.mjs'
import { ask as look1, opened, socket } from '../../clients/preview.mjs'
import { api, ask, branch, crash, eventually, isRunning, owner, port, rest, sdk0, sdk2, session, start, url, v2, versions } from '../harness.mjs'

const titles = ({ sandboxes }) => sandboxes.map(({ title }) => title)

/** Made, listed page by page, by tags, in both orders; looked at one by one. */
export async function sdk_lists() {
  await start()
  const natives = await branch({ name: 'made by /v1' })
  for (const sdk of versions()) {
    const tag = `tag "of" %${sdk.name}`
    const made = []
    for (let n = 0; n < 5; n += 1) {
      made.push(await sdk.create({
        title: `${sdk.name} ${n}`, description: n === 1 ? 'for people' : undefined,
        privacy: ['public', 'unlisted', 'private'][n % 3], tags: n % 2 ? [tag, 'odd'] : [tag]
      }))
    }
    const all = await sdk.list({ tags: [tag] })
    assert.deepEqual(titles(all), [4, 3, 2, 1, 0].map((n) => `${sdk.name} ${n}`), 'newest first')
    assert.equal(all.totalCount, 5)
    assert.equal(all.hasMore, false)
    assert.deepEqual(all.sandboxes[3].id, made[1])
    assert.equal(all.sandboxes[3].description, 'for people')
    assert.deepEqual(all.sandboxes[3].tags.toSorted(), [tag, 'odd', 'sdk'].toSorted())
    assert.equal(all.sandboxes[2].privacy, 'private')
    assert.ok(Math.abs(all.sandboxes[0].createdAt.getTime() - Date.now()) < 3_600_000)
    assert.deepEqual(titles(await sdk.list({ tags: [tag, 'odd'] })), [3, 1].map((n) => `${sdk.name} ${n}`))
    assert.equal((await sdk.list({ tags: ['tag'] })).totalCount, 0, 'a part of a tag is none')
    assert.deepEqual(titles(await sdk.list({ tags: [tag], direction: 'asc' })), [0, 1, 2, 3, 4].map((n) => `${sdk.name} ${n}`))
    await api('PATCH', `/v1/branches/${made[2]}`, { description: 'changed' })
    assert.equal(titles(await sdk.list({ tags: [tag], orderBy: 'updated_at', direction: 'desc' }))[0], `${sdk.name} 2`)
    // By hand and by limit.
    const page = await sdk.list({ tags: [tag], limit: 2, pagination: { page: 2, pageSize: 2 } })
    assert.deepEqual(titles(page), [2, 1].map((n) => `${sdk.name} ${n}`))
    assert.deepEqual(page.pagination, { currentPage: 2, nextPage: 3, pageSize: 2 })
    assert.equal((await sdk.list({ tags: [tag], pagination: { page: 3, pageSize: 2 } })).pagination.nextPage, null)
    assert.equal((await sdk.list({ tags: [tag], limit: 3 })).sandboxes.length, 3)
    // Those that run.
    await sdk.start(made[0])
    await sdk.shutdown(made[1])
    const running = await sdk.list({ tags: [tag], status: 'running' })
    assert.ok(running.sandboxes.some(({ id }) => id === made[0]) && !running.sandboxes.some(({ id }) => id === made[1]))
  }
  // Branches that were made otherwise are sandboxes too; templates are not listed.
  const { sandboxes } = await sdk2().sandboxes.list({ limit: 200 })
  assert.ok(sandboxes.some(({ id, privacy }) => id === natives.id && privacy === 'private'))
  assert.ok(!sandboxes.some(({ title }) => title === 'default template'))
  const got = await sdk2().sandboxes.get(natives.id)
  assert.equal(got.title, 'made by /v1')
  assert.deepEqual(got.tags, [])
}

/** Started, put to sleep, woken, stopped, forked, deleted, each more than once; how it booted says what happened. */
export async function sdk_life() {
  await start()
  for (const sdk of versions()) {
    const id = await sdk.create({ title: 'first' })
    const files = `/v1/branches/${id}/files/a.txt`
    assert.equal((await api('PUT', files, 'kept')).status, 201)
    assert.equal(await sdk.start(id), 'RUNNING', 'create has started it')
    for (const [end, boots] of [['hibernate', 'RESUME'], ['shutdown', 'CLEAN']]) {
      await Promise.all([sdk[end](id), sdk[end](id)])
      await sdk[end](id)
      assert.equal(await isRunning(id), false)
      assert.equal(await sdk.start(id), boots, end)
      assert.equal(await sdk.start(id), 'RUNNING')
      assert.equal(await isRunning(id), true)
    }
    // Asleep and then stopped is stopped; stopped and then put to sleep too.
    await sdk.hibernate(id)
    await sdk.shutdown(id)
    assert.equal(await sdk.start(id), 'CLEAN')
    await sdk.shutdown(id)
    await sdk.hibernate(id)
    assert.equal(await sdk.start(id), 'CLEAN')
    // A fork has the files and not the tags; it is a first start.
    const answer = await rest('POST', `/sandbox/${id}/fork`, {})
    assert.equal(answer.status, 201)
    assert.equal(answer.data.title, 'first (forked)')
    assert.equal(answer.data.start_response, null)
    assert.equal(await sdk.start(answer.data.id), 'FORK')
    assert.equal(await (await api('GET', files.replace(id, answer.data.id))).text(), 'kept')
    assert.deepEqual((await sdk2().sandboxes.get(answer.data.id)).tags, [])
    const named = await sdk.fork(id, { title: 'named', tags: ['x'] })
    assert.deepEqual((await sdk2().sandboxes.get(named)).tags.toSorted(), ['sdk', 'x'])
    // What ran when perch is killed has stopped.
    await crash()
    await start()
    assert.equal(await isRunning(id), false)
    assert.equal(await sdk.start(id), 'CLEAN')
    await sdk.hibernate(id)
    await crash()
    await start()
    assert.equal(await sdk.start(id), 'RESUME', 'sleep outlives a restart')
    await sdk2().sandboxes.delete(id)
    await assert.rejects(sdk2().sandboxes.delete(id), /Sandbox not found/)
    await assert.rejects(sdk.start(id), /Sandbox not found/)
    await assert.rejects(sdk.hibernate(id), /Sandbox not found/)
    assert.equal((await api('GET', `/v1/branches/${id}`)).status, 404)
  }
  // All of it is in the audit log, under the sandbox that it was done to.
  const last = await sdk2().sandboxes.create()
  const { data: copy } = await rest('POST', `/sandbox/${last.id}/fork`, {})
  await rest('POST', `/vm/${last.id}/sessions`, { session_id: 'ann', permission: 'read' })
  for (const what of ['hibernate', 'shutdown']) await rest('POST', `/vm/${last.id}/${what}`)
  const { data: { token: { token_id: token } } } = await rest('POST', `/sandbox/${last.id}/tokens`, {})
  await rest('PATCH', `/sandbox/${last.id}/tokens/${token}`, {})
  await rest('DELETE', `/sandbox/${last.id}/tokens`)
  await sdk2().sandboxes.delete(last.id)
  const noted = await eventually('noted', async () => {
    const { entries } = await (await api('GET', '/v1/audit?limit=1000')).json()
    const of = entries.filter(({ branch }) => branch === last.id).map(({ action, subject, by_kind, detail }) => [action, subject, by_kind, detail.permission])
    return of.some(([action]) => action === 'branch.deleted') && of
  })
  for (const entry of [
    ['branch.started', last.id], ['branch.forked', copy.id], ['session.made', 'ann', 'read'], ['branch.hibernated', last.id], ['branch.shut_down', last.id],
    ['preview_token.made', last.id], ['preview_token.changed', token], ['preview_token.revoked', last.id], ['branch.deleted', last.id]
  ]) assert.ok(noted.some(([action, subject, by, right]) => entry[0] === action && entry[1] === subject && by === 'environment' && right === entry[2]), `${entry}: ${JSON.stringify(noted)}`)
  // A restart by the SDK itself.
  const again = await sdk2().sandboxes.create()
  assert.equal((await sdk2().sandboxes.restart(again.id)).bootupType, 'CLEAN')
  // A branch of /v1 is started as any other.
  const native = await branch()
  assert.equal((await sdk2().sandboxes.resume(native.id)).bootupType, 'CLEAN')
}

/** Sizes and timeouts are kept; without activity a sandbox goes to sleep, with it not. */
export async function sdk_idle() {
  await start()
  for (const sdk of versions()) {
    const id = await sdk.create({ hibernationTimeoutSeconds: 86_400 })
    await sdk.tier(id, sdk.tiers.fromName('Small'))
    assert.deepEqual(ask(`select tier, hibernation_timeout_s from sdk_sandbox where branch_id = '${id}'`), [['Small', '86400']])
    for (const seconds of [0, 86_401, -1]) {
      await assert.rejects(sdk.timeout(id, seconds), /hibernation_timeout_seconds/)
    }
    assert.equal((await rest('PUT', `/vm/${id}/specs`, { tier: 'Huge' })).status, 422)
    assert.equal((await rest('POST', `/vm/${id}/update_specs`, { tier: 'Pico' })).data.tier, 'Pico')
    // A member who is connected by the native API keeps it awake …
    const ann = await session({ id }, 'ann')
    const events = await fetch(`${url}/v1/branches/${id}/events`, { headers: { authorization: `Bearer ${ann.token}` } })
    assert.equal(events.status, 200)
    await sdk.timeout(id, 1)
    const other = await sdk.create({ hibernationTimeoutSeconds: 1 })
    // … while one of which nothing is asked falls asleep.
    await eventually('the other sandbox sleeps', async () => !(await isRunning(other)))
    assert.equal(await isRunning(id), true)
    await events.body.cancel()
    await eventually('it sleeps once nobody is connected', async () => !(await isRunning(id)))
    assert.equal(await sdk.start(other), 'RESUME')
  }
}

/** Tokens for sockets: one session for one id, of its right; good until the sandbox is deleted. */
export async function sdk_seats() {
  await start()
  const upgrade = (seat) => new Promise((resolve, reject) => {
    const socket = new WebSocket(`${seat.url}/?token=${seat.token}`)
    socket.on('open', () => { socket.terminate(); resolve(101) })
    socket.on('unexpected-response', (_, answer) => resolve(answer.statusCode))
    socket.on('error', reject)
  })
  for (const sdk of versions()) {
    const id = await sdk.create()
    const first = await sdk.session(id, 'my-session-id', 'write')
    assert.equal(first.url, `${url.replace('http', 'ws')}/agent/${id}`)
    assert.equal(first.workspace, '/project/workspace')
    assert.match(first.token, /^[\w-]+$/)
    const second = await sdk.session(id, 'my-session-id', 'read')
    assert.notEqual(first.token, second.token)
    const { sessions } = await (await api('GET', `/v1/branches/${id}/sessions`)).json()
    assert.deepEqual(sessions.map(({ id: name, permission }) => [name, permission]).toSorted(), [['my-session-id', 'write'], ['pitcher-host', 'write']])
    // Only hashes are kept.
    const kept = ask('select * from sdk_token').flat().join(' ')
    assert.ok(!kept.includes(first.token) && !kept.includes(second.token))
    const odd = await rest('POST', `/vm/${id}/sessions`, { session_id: '_-odd', permission: 'write' })
    assert.equal(odd.data.username, '_-odd')
    for (const session_id of ['', 'a b', 'a.b', '../x', 'x'.repeat(65), 'ä']) {
      assert.equal((await rest('POST', `/vm/${id}/sessions`, { session_id, permission: 'write' })).status, 422, session_id)
    }
    assert.equal((await rest('POST', `/vm/${id}/sessions`, { session_id: 'x', permission: 'admin' })).status, 422)
    // Good over sleep, shutdown and a restart of perch; a socket wakes what sleeps.
    assert.equal(await upgrade(first), 101)
    for (const end of ['hibernate', 'shutdown']) {
      await sdk[end](id)
      assert.equal(await upgrade(second), 101)
      assert.equal(await isRunning(id), true, 'the socket has started it')
    }
    await crash()
    await start()
    assert.equal(await upgrade(first), 101)
    // Another sandbox's, or made up.
    const other = await sdk.create()
    assert.equal(await upgrade({ ...first, url: first.url.replace(id, other) }), 401)
    assert.equal(await upgrade({ ...first, token: 'not-a-token' }), 401)
    assert.equal(await upgrade({ ...first, token: owner }), 401)
    // Revoked by the native API, all that were made before are void.
    assert.equal((await api('POST', `/v1/branches/${id}/sessions/my-session-id/revoke`)).status, 204)
    assert.equal(await upgrade(first), 401)
    assert.equal(await upgrade(await sdk.session(id, 'my-session-id', 'write')), 101)
    const global = (await rest('POST', `/vm/${id}/start`)).data
    await sdk2().sandboxes.delete(id)
    const gone = await upgrade({ url: global.pitcher_url, token: global.pitcher_token })
    assert.ok([401, 404].includes(gone), `${gone}`)
  }
  // The SDK's tokens are no keys of the API.
  const { id } = await sdk2().sandboxes.create()
  const { data } = await rest('POST', `/vm/${id}/start`)
  await assert.rejects(sdk2(data.pitcher_token).sandboxes.list(), /Authorization/)
  assert.equal((await api('GET', `/v1/branches/${id}`, undefined, { authorization: `Bearer ${data.pitcher_token}` })).status, 401)
}

/** Whatever is sent is answered in the SDK's envelope, and both versions make an error of it that says what is wrong. */
export async function sdk_refusals() {
  await start()
  const { id } = await sdk2().sandboxes.create()
  const unknown = `br_${'0'.repeat(32)}`
  for (const sdk of versions()) {
    for (const absent of [unknown, 'abc123', '../x', 'a@b']) {
      await assert.rejects(sdk.start(absent), /Sandbox not found/, absent)
      await assert.rejects(sdk.fork(absent), /Sandbox not found/, absent)
    }
    await assert.rejects(sdk.create({ title: 'x'.repeat(201) }), /`title` has at most 200 bytes/)
    await assert.rejects(sdk.create({ tags: [''] }), /`tags`/)
  }
  await assert.rejects(sdk0('csb_v1_wrong').list(), /Authorization: Bearer/)
  await assert.rejects(sdk2('csb_v1_wrong').sandboxes.list(), /Authorization: Bearer/)
  const ann = await session({ id }, 'ann')
  await assert.rejects(sdk2(ann.token).sandboxes.list(), /Unauthorized/, 'a session token is no key')
  // An API token that is no owner's is one.
  const made = await (await api('POST', '/v1/tokens', { name: 'sdk' })).json()
  assert.ok((await sdk2(made.token).sandboxes.list()).totalCount > 0)

  const refused = async (status, method, route, body, headers) => {
    const answer = await rest(method, route, body, headers)
    assert.equal(answer.status, status, `${method} ${route} ${String(body).slice(0, 60)}: ${JSON.stringify(answer)}`)
    assert.equal(answer.success, false)
    assert.equal(answer.errors.length, 1)
    assert.equal(typeof answer.errors[0], 'string')
    assert.ok(!('data' in answer))
  }
  const fork = `/sandbox/${id}/fork`
  for (const bad of ['{', 'nonsense', '\u0000', '{"title": "\\ud800"}', `{"x":${'['.repeat(50_000)}`]) await refused(400, 'POST', fork, bad)
  for (const bad of ['7', '[]', '['.repeat(50_000), 'null', '{"title": 7}', '{"privacy": 3}', '{"privacy": "public"}', '{"tags": "x"}', '{"privacy": 1e99}',
    '{"start_options": {"tier": "Mega"}}', '{"start_options": {"hibernation_timeout_seconds": 0}}', '{"title": "a\\u0000b"}',
    `{"description": "${'x'.repeat(4_001)}"}`]) await refused(422, 'POST', fork, bad)
  await refused(413, 'POST', fork, JSON.stringify({ title: 'x'.repeat(2 ** 21) }))
  await refused(405, 'PATCH', fork)
  await refused(405, 'GET', `/vm/${id}/start`)
  for (const query of ['page=0', 'page=x', 'page=99999999999999999999', 'page_size=0', 'order_by=title', 'direction=up', 'status=asleep',
    `tags=${'a,'.repeat(40)}`]) await refused(422, 'GET', `/sandbox?${query}`)
  assert.equal((await rest('GET', '/sandbox?page_size=1000000&tags=,,&unknown=1')).status, 200)
  for (const [method, route] of [['POST', '/vm/x/sessions'], ['PUT', '/vm/x/specs'], ['PUT', '/vm/x/hibernation_timeout'],
    ['POST', '/templates'], ['POST', '/vm/tag'], ['PUT', '/vm/alias/a/b']]) await refused(422, method, route)
  for (const [method, route] of [['GET', `/sandbox/${unknown}`], ['DELETE', `/vm/${unknown}`], ['POST', `/vm/${unknown}/shutdown`],
    ['GET', `/sandbox/${unknown}/tokens`], ['POST', `/sandbox/${unknown}/tokens`], ['DELETE', `/sandbox/${unknown}/tokens`],
    ['PATCH', `/sandbox/${id}/tokens/nonsense`], ['PATCH', `/sandbox/${id}/tokens/pt_${'0'.repeat(32)}`]]) await refused(404, method, route)
  for (const method of ['GET', 'POST']) await refused(401, method, '/sandbox', undefined, { authorization: 'Bearer wrong' })

  // Bodies with a type, with another, and without any; nulls, and members that are not known.
  for (const headers of [{}, { 'content-type': 'application/json' }, { 'content-type': 'text/plain' }]) {
    for (const body of [undefined, '', ' ', '{}', '{"unknown": {"a": 1}, "tier": null}']) {
      if (body === undefined && headers['content-type']) continue
      assert.equal((await rest('POST', `/vm/${id}/start`, body, headers)).status, 200, `${body} ${JSON.stringify(headers)}`)
    }
  }
  const bare = await fetch(`${url}/vm/${id}/hibernate`, { method: 'POST', headers: { authorization: `Bearer ${owner}` } })
  assert.deepEqual(await bare.json(), { success: true, data: {} })
  const nulls = { title: null, description: null, privacy: null, private_preview: null, tags: null, start_options: null }
  assert.equal((await rest('POST', fork, nulls)).status, 201)
}

/** What only the low-level API has: sandboxes made of files, templates and their names, perch itself. */
export async function sdk_low_level() {
  await start()
  const low = new v2.API({ apiKey: owner, config: { baseUrl: url } })
  const made = await low.createSandbox({
    title: 'of files', tags: ['made'], privacy: 0,
    files: { '/src/a.txt': { code: 'text ä' }, 'b.bin': { binary_content: Buffer.from([0, 255, 7]).toString('base64'), is_binary: true }, empty: {} }
  })
  const file = async (id, path) => Buffer.from(await (await api('GET', `/v1/branches/${id}/files/${path}`)).arrayBuffer())
  assert.equal((await file(made.id, 'src/a.txt')).toString(), 'text ä')
  assert.deepEqual([...await file(made.id, 'b.bin')], [0, 255, 7])
  assert.equal((await file(made.id, 'empty')).length, 0)
  assert.equal((await low.getSandbox(made.id)).privacy, 0)
  for (const path of ['../up', 'a/../../up', '', '/']) {
    const answer = await rest('POST', '/sandbox', { files: { [path]: { code: 'x' } } })
    assert.ok([422, 409].includes(answer.status), `${path}: ${JSON.stringify(answer)}`)
  }
  assert.equal((await rest('POST', '/sandbox', { files: { a: { binary_content: '*' } } })).status, 422)

  // A template is a copy with a name of its own; what it was made of may go.
  const template = await low.createTemplate({ forkOf: made.id, title: 'template', tags: ['t'] })
  await low.deleteVm(made.id)
  const [{ id }] = template.sandboxes
  const alias = await low.assignVmTagAlias('team', 'web', { tag_id: template.tag })
  assert.equal(alias.tag_id, template.tag)
  const forked = await sdk2().sandboxes.create({ id: 'team@web' })
  assert.equal((await file(forked.id, 'src/a.txt')).toString(), 'text ä')
  const { sandboxes } = await low.listSandboxes()
  assert.ok(sandboxes.some((one) => one.id === forked.id) && !sandboxes.some((one) => one.id === id), 'templates are not listed')
  const other = await sdk2().sandboxes.create()
  const { tag_id } = await low.createVmTag({ vm_ids: [other.id] })
  assert.equal((await low.assignVmTagAlias('team', 'web', { tag_id })).tag_alias_id, alias.tag_alias_id)
  assert.equal((await file((await sdk2().sandboxes.create({ id: 'team@web' })).id, 'src/a.txt')).toString().includes('text'), false)
  await assert.rejects(low.assignVmTagAlias('team', 'web', { tag_id: 'none' }))
  assert.equal((await rest('PUT', '/vm/alias/a%2Fb/c', { tag_id })).status, 422)

  const info = await low.getMetaInfo()
  assert.equal(info.data.api.name, 'perch')
  assert.ok(info.data.auth.scopes.includes('vm_manage'))
  assert.equal((await (await fetch(`${url}/meta/info`)).json()).auth, undefined)
  assert.equal((await low.listVmClusters()).clusters.length, 1)
  assert.deepEqual((await low.listPreviewHosts()).preview_hosts, [])
  await assert.rejects(low.createPreviewHost({ hosts: ['a.example'] }), /preview/)
  await assert.rejects(low.createWorkspace({ name: 'another' }), /one workspace/)
  const token = await low.createToken('perch', { description: 'for a program' })
  assert.ok((await sdk2(token.token).sandboxes.list()).totalCount > 0)
  await assert.rejects(low.createToken('perch', { scopes: ['sandbox_read'] }), /may do everything/)
  await assert.rejects(low.createToken('another', {}))
  await assert.rejects(low.updateToken('perch', token.token_id, { description: 'x' }), /does not change/)

  // The default template answers to the ids that the SDK has built in, and to those that were chosen.
  for (const builtin of ['pcz35m', '7ngcrf']) {
    assert.equal((await low.getSandbox(builtin)).title, 'default template')
    await assert.rejects(low.deleteVm(builtin))
    assert.equal((await rest('POST', `/vm/${builtin}/start`)).status, 404, 'it is there to be forked')
  }
  const { id: built } = await low.getSandbox('pcz35m')
  assert.equal((await rest('DELETE', `/vm/${built}`)).status, 409)
  await crash()
  await start({ PERCH_SDK_TEMPLATE: forked.id, PERCH_SDK_TEMPLATE_ID: 'pcz35m,mine' })
  assert.equal((await low.getSandbox('mine')).id, forked.id)
  assert.equal((await file((await sdk2().sandboxes.create()).id, 'src/a.txt')).toString(), 'text ä')
  assert.equal((await rest('GET', '/sandbox/7ngcrf')).status, 404)
  await crash()
  await start()
  assert.equal((await low.getSandbox('pcz35m')).id, built, 'the one that perch made is still there, once')
}

/** What listens in a sandbox: it answers with what it was asked, and takes sockets. */
const SERVER = `require('http').createServer((q, s) => s.end(JSON.stringify({ url: q.url, headers: q.headers })))
  .on('upgrade', (q, s) => s.write('HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\nSec-WebSocket-Accept: ' +
    require('crypto').createHash('sha1').update(q.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64') +
    '\\r\\nSec-WebSocket-Protocol: perch-test\\r\\n\\r\\n'))
  .listen(3000)`

/** Preview tokens open a private port by query, header and cookie, until they end; what listens there never sees one. */
export async function sdk_preview_tokens() {
  await start()
  for (const sdk of versions()) {
    const id = await sdk.create({ privacy: 'private' })
    const b = { id }
    const ann = await session(b, 'ann')
    const server = lines(b, ann, { argv: ['node', '-e', SERVER] })
    const ended = server.next()
    ended.catch(() => {})
    const root = `http://3000-${id.replace('_', '-')}.localhost:${port}/`
    const made = await sdk.tokens.create(id, new Date(Date.now() + 3_600_000))
    const look = async (path = '', headers = {}) => {
      const answer = await look1(root + path, { headers })
      return { ...answer, told: answer.status === 200 ? JSON.parse(answer.body) : null }
    }
    const byHeader = { 'csb-preview-token': made.token }
    await eventually('something listens', async () => (await look('', byHeader)).status === 200)
    assert.equal((await look()).status, 401)
    const seen = [
      await look('a?x=1', { ...byHeader, cookie: 'own=1' }),
      await look(`a?x=1&preview_token=${made.token}`, { cookie: 'own=1' }),
      await look('a?x=1', { cookie: `own=1; csb_preview_token=${made.token}` })
    ]
    for (const { status, told, headers, body } of seen) {
      assert.equal(status, 200)
      assert.equal(told.url, '/a?x=1')
      assert.equal(told.headers.cookie, 'own=1')
      assert.ok(!body.includes(made.token))
      assert.match(headers['cache-control'], /private/)
    }
    assert.equal((await look('a?preview_token=of-the-app', byHeader)).told.url, '/a?preview_token=of-the-app')
    // A browser that opens a page holds it as a cookie, which other pages can't use.
    const page = await look(`a?preview_token=${made.token}&y=2`, { 'sec-fetch-mode': 'navigate' })
    assert.equal(page.status, 303)
    assert.equal(page.headers.location, '/a?y=2')
    assert.equal(page.headers['referrer-policy'], 'no-referrer')
    const cookie = page.headers['set-cookie'][0].split(';')[0]
    assert.match(page.headers['set-cookie'][0], /HttpOnly/)
    assert.equal((await look('', { cookie })).status, 200)
    assert.equal((await look('', { cookie, origin: 'http://evil.example' })).status, 401)
    // Known by its first characters; only a hash is kept.
    const listed = await sdk.tokens.list(id)
    assert.deepEqual(listed.map((one) => one.tokenId), [made.tokenId])
    assert.ok(made.token.startsWith(listed[0].tokenPrefix) && listed[0].tokenPrefix.length < 12)
    assert.ok(listed[0].lastUsedAt instanceof Date && listed[0].expiresAt > new Date())
    assert.ok(!ask('select * from preview_token').flat().join(' ').includes(made.token))
    // Of another sandbox, damaged, or of another kind.
    const other = await sdk.create({ privacy: 'private' })
    const foreign = await sdk.tokens.create(other, new Date(Date.now() + 3_600_000))
    for (const token of [foreign.token, `${made.token}x`, owner, ann.token, 'pvt_']) {
      assert.equal((await look('', { 'csb-preview-token': token })).status, 401)
    }
    // It can last for ever, and ends at once when it is revoked, on an open socket too.
    const never = await sdk.tokens.update(id, made.tokenId, null)
    assert.equal(never.expiresAt, null)
    const ws = socket(root, byHeader)
    assert.equal(await opened(ws), 'open')
    const closed = new Promise((resolve) => ws.on('close', resolve))
    await sdk.tokens.revoke(id, made.tokenId)
    assert.equal((await look('', byHeader)).status, 401)
    await closed
    await sdk.tokens.revoke(id, made.tokenId)
    await assert.rejects(sdk.tokens.update(id, made.tokenId, null), /has ended/)
    assert.deepEqual(await sdk.tokens.list(id), [])
    const short = await sdk.tokens.create(id, new Date(Date.now() + 1_500))
    await eventually('it ends by itself', async () => (await look('', { 'csb-preview-token': short.token })).status === 401)
    const more = [await sdk.tokens.create(id, new Date(Date.now() + 3_600_000)), await sdk.tokens.create(id, new Date(Date.now() + 3_600_000))]
    for (const { token } of more) assert.equal((await look('', { 'csb-preview-token': token })).status, 200)
    await sdk.tokens.revokeAll(id)
    for (const { token } of more) assert.equal((await look('', { 'csb-preview-token': token })).status, 401)
    assert.equal((await rest('POST', `/sandbox/${id}/tokens`, { expires_at: 'tomorrow' })).status, 422)
    await sdk2().sandboxes.delete(id)
    await ended
  }
  // Unlisted, or private with hosts that are public, whoever knows the address may look.
  for (const privacy of ['unlisted', 'public-hosts']) {
    const { id } = await sdk2().sandboxes.create({ privacy })
    assert.equal((await look1(`http://3000-${id.replace('_', '-')}.localhost:${port}/`)).status, 502, 'let in, and nothing listens')
  }
}
