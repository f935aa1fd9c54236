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
