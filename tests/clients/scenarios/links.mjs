// Share links: the anonymous preview.
import assert from 'node:assert/strict'
import { api, branch, eventually, session, start, url, yClient } from '../harness.mjs'
import { holders, withToken } from './tokens.mjs'

/** A link opens as often and as long as it may, with its right and no more. */
export async function links() {
  const log = { text: '' }
  await start({ PERCH_LOG: 'trace' }, [], log)
  const b = await branch()
  await api('PUT', `/v1/branches/${b.id}/files/a.txt`, 'shared text\n')
  const route = `/v1/branches/${b.id}/links`
  const make = async (body) => {
    const answer = await api('POST', route, body)
    assert.equal(answer.status, 201)
    return answer.json()
  }
  // Without any token.
  const open = async ({ secret }) => {
    const answer = await fetch(`${url}/v1/links/${secret}/session`, { method: 'POST' })
    return { status: answer.status, ...await answer.json() }
  }
  const link = await make({ permission: 'read' })
  assert.deepEqual(holders(link.secret), [], 'only its hash is stored')
  const guest = await open(link)
  assert.equal(guest.status, 200)
  assert.match(guest.id, /^guest-/)
  assert.deepEqual([guest.branch, guest.permission], [b.id, 'read'])
  const visitor = yClient(guest, 'a.txt')
  await eventually('preview', () => visitor.text.toString() === 'shared text\n')
  const put = async (s) => (await api('PUT', `/v1/branches/${b.id}/files/b.txt`, 'x', withToken(s.token))).status
  assert.equal(await put(guest), 403)
  for (const other of [`/v1/branches`, `/v1/branches/${b.id}/sessions`, route]) {
    assert.equal((await api('GET', other, undefined, withToken(guest.token))).status, 403, other)
  }
  assert.notEqual((await open(link)).id, guest.id)
  const writing = await open(await make({ permission: 'write', expires_in: 3_600 }))
  assert.ok(await put(writing) < 300)

  const once = await make({ permission: 'read', max_uses: 3 })
  const outcomes = await Promise.all(Array.from({ length: 12 }, () => open(once)))
  assert.deepEqual(outcomes.filter((one) => one.status === 200).length, 3, 'the last use is given once')
  assert.ok(outcomes.every((one) => one.status === 200 || (one.status === 410 && one.code === 'link_used_up')))
  const short = await make({ permission: 'read', expires_in: 1 })
  await eventually('expired', async () => (await open(short)).code === 'link_expired')
  const { links: all } = await (await api('GET', route)).json()
  assert.equal(all.length, 4)
  assert.ok(!JSON.stringify(all).includes(link.secret))
  assert.deepEqual([all[0].uses, all[2].uses, all[2].max_uses], [2, 3, 3])
  assert.equal((await api('DELETE', `${route}/${link.id}`)).status, 204)
  assert.equal((await api('DELETE', `${route}/${link.id}`)).status, 404)
  const revoked = await open(link)
  assert.deepEqual([revoked.status, revoked.code], [410, 'link_revoked'])
  assert.equal((await open({ secret: 'pl_unknown' })).status, 404)
  assert.equal((await open({ secret: link.id })).status, 404)
  for (const bad of [{}, { permission: 'own' }, { permission: 'read', expires_in: 0 }, { permission: 'read', max_uses: -1 }]) {
    assert.equal((await api('POST', route, bad)).status, 400, JSON.stringify(bad))
  }
  assert.equal((await api('POST', route, { permission: 'write' }, withToken((await session(b, 'ann')).token))).status, 403)
  // Who was let in is cut by ending the session.
  assert.equal((await api('DELETE', `/v1/branches/${b.id}/sessions/${guest.id}`)).status, 204)
  await eventually('cut', () => visitor.closed?.code === 4403)
  assert.ok(log.text.length > 1_000, 'there is a log')
  for (const secret of [link.secret, once.secret, guest.token, writing.token]) assert.ok(!log.text.includes(secret), 'no secret is logged')
}

/** A visitor gives itself a name and an address once, sees who else is there, and takes a copy once where its link allows it. */
export async function link_guests() {
  await start()
  const b = await branch()
  await api('PUT', `/v1/branches/${b.id}/files/a.txt`, 'shared text\n')
  const make = async (body) => (await api('POST', `/v1/branches/${b.id}/links`, body)).json()
  const open = async ({ secret }) => (await fetch(`${url}/v1/links/${secret}/session`, { method: 'POST' })).json()
  const plain = await open(await make({ permission: 'read' }))
  const guest = await open(await make({ permission: 'read', may_fork: true }))
  assert.deepEqual([plain.may_fork, guest.may_fork], [false, true])
  const as = withToken(guest.token)
  const own = `/v1/branches/${b.id}/sessions/${guest.id}`
  const patch = async (route, body, headers) => {
    const answer = await api('PATCH', route, body, headers)
    return { status: answer.status, ...await answer.json() }
  }
  for (const more of [{ permission: 'write' }, { color: '#000000' }, { credited: false }, { name: null }, { name: 'Eve', permission: 'write' }]) {
    assert.equal((await patch(own, more, as)).status, 403, JSON.stringify(more))
  }
  assert.equal((await patch(own, { name: 'Eve' }, withToken(plain.token))).status, 403, 'another session')
  assert.equal((await patch(own, { name: 'a<b' }, as)).status, 400)
  const named = await patch(own, { name: 'Eve' }, as)
  assert.deepEqual([named.status, named.name, named.permission], [200, 'Eve', 'read'])
  assert.equal((await patch(own, { email: 'eve@example.org' }, as)).email, 'eve@example.org')
  assert.equal((await patch(own, { name: 'Eve' }, as)).status, 200, 'the same again')
  for (const other of [{ name: 'Ann' }, { email: 'ann@example.org' }]) assert.equal((await patch(own, other, as)).status, 403, 'what is there stays')
  const given = await session(b, 'ann', 'write', { name: 'Ann', email: 'ann@example.org' })
  assert.equal((await patch(`/v1/branches/${b.id}/sessions/ann`, { email: 'eve@example.org' }, withToken(given.token))).status, 403)
  assert.equal((await patch(own, { email: 'else@example.org' })).email, 'else@example.org', 'an API token may')

  const people = async (s) => (await (await api('GET', `/v1/branches/${b.id}/people`, undefined, withToken(s.token))).json()).people
  assert.deepEqual(await people(guest), [])
  const visitor = yClient(guest, 'a.txt')
  await eventually('connected', async () => (await people(plain)).length === 1)
  const [seen] = await people(plain)
  assert.deepEqual([seen.session, seen.name, seen.permission, Object.keys(seen).includes('email')], [guest.id, 'Eve', 'read', false])
  assert.ok(seen.since_ms > 0)
  await eventually('text', () => visitor.text.toString() === 'shared text\n')

  // What the session may do counts, at once, and no more than that.
  const put = async () => (await api('PUT', `/v1/branches/${b.id}/files/b.txt`, 'x', as)).status
  assert.equal(await put(), 403)
  assert.equal((await api('PATCH', own, { permission: 'write' })).status, 200)
  assert.ok(await put() < 300, 'raised')
  assert.equal((await api('PATCH', own, { permission: 'read' })).status, 200)
  assert.equal(await put(), 403, 'lowered')
  const fresh = await (await api('POST', `${own}/token`, { permission: 'write' }, as)).json()
  assert.deepEqual([fresh.permission, (await api('PUT', `/v1/branches/${b.id}/files/b.txt`, 'x', withToken(fresh.token))).status], ['read', 403])

  const fork = (s) => api('POST', `/v1/branches/${b.id}/fork`, {}, withToken(s.token))
  assert.equal((await fork(plain)).status, 403)
  const [one, two] = await Promise.all([fork(guest), fork(guest)])
  assert.deepEqual([one.status, two.status].sort(), [201, 403], 'once')
  const made = await (one.status === 201 ? one : two).json()
  assert.deepEqual([made.forked_from, made.seat.branch, made.seat.permission, made.seat.may_fork], [b.id, made.id, 'write', false])
  const there = withToken(made.seat.token)
  await eventually('ready', async () => (await (await api('GET', `/v1/branches/${made.id}`, undefined, there)).json()).state === 'ready')
  assert.ok((await api('PUT', `/v1/branches/${made.id}/files/a.txt`, 'mine\n', there)).ok)
  assert.equal(await (await api('GET', `/v1/branches/${b.id}/files/a.txt`)).text(), 'shared text\n')
  assert.equal((await api('POST', `/v1/branches/${made.id}/fork`, {}, there)).status, 403)
}
