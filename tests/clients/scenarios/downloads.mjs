// Signed downloads: one file, for a short time, without a token.
import assert from 'node:assert/strict'
import { api, branch, eventually, line, owner, session, sleep, start, url, yClient } from '../harness.mjs'
import { withToken } from './tokens.mjs'

/** Changes what a signed token says, and leaves its signature. */
function tampered(link, change) {
  const [head, body, signature] = link.split('/').pop().split('.')
  const said = JSON.parse(Buffer.from(body, 'base64url'))
  const changed = Buffer.from(JSON.stringify({ ...said, ...change })).toString('base64url')
  return `${url}/v1/downloads/${head}.${changed}.${signature}`
}

/** A link gives its file as it is now, nothing else, to anybody, until its time or its session is over. */
export async function downloads() {
  const log = { text: '' }
  await start({ PERCH_LOG: 'trace' }, [], log)
  const [b, other] = [await branch(), await branch()]
  const put = (on, path, text) => api('PUT', `/v1/branches/${on.id}/files/${path}`, text)
  await put(b, 'a%20b/%C3%A4.html', '<p>0123456789</p>')
  await put(b, 'secret.txt', 'secret')
  await put(other, 'secret.txt', 'secret too')
  const route = `/v1/branches/${b.id}/downloads`
  const make = async (body, token = owner) => {
    const answer = await api('POST', route, body, withToken(token))
    return { status: answer.status, ...await answer.json() }
  }
  const get = (link, headers = {}, method = 'GET') => fetch(link, { headers, method })
  const refused = async (link, what) => {
    const answer = await get(link)
    assert.equal(answer.status, 403, what)
    assert.equal((await answer.json()).code, 'download_refused', what)
    assert.equal(answer.headers.get('referrer-policy'), 'no-referrer')
  }
  const path = 'a b/ä.html'
  const ann = await session(b, 'ann', 'read')
  const made = await make({ path, ttl: 60 }, ann.token)
  assert.equal(made.status, 201)
  assert.ok(made.url.startsWith(`${url}/v1/downloads/`), made.url)
  const left = Date.parse(made.expires_at) - Date.now()
  assert.ok(left > 50_000 && left <= 61_000, made.expires_at)

  // As the files route gives it.
  const whole = await get(made.url)
  const file = await api('GET', `/v1/branches/${b.id}/files/a%20b/%C3%A4.html`)
  assert.equal(whole.status, 200)
  assert.equal(await whole.text(), '<p>0123456789</p>')
  for (const name of ['etag', 'content-type', 'accept-ranges', 'content-disposition', 'x-content-type-options', 'content-security-policy', 'cache-control']) {
    assert.equal(whole.headers.get(name), file.headers.get(name), name)
  }
  assert.equal(whole.headers.get('x-content-type-options'), 'nosniff')
  assert.equal(whole.headers.get('referrer-policy'), 'no-referrer')
  assert.equal(whole.headers.get('content-disposition'), "attachment; filename*=UTF-8''%C3%A4.html")
  const part = await get(made.url, { range: 'bytes=3-5' })
  assert.deepEqual([part.status, await part.text(), part.headers.get('content-range')], [206, '012', 'bytes 3-5/17'])
  assert.equal((await get(made.url, { range: 'bytes=99-' })).status, 416)
  assert.equal((await get(made.url, { 'if-none-match': whole.headers.get('etag') })).status, 304)
  const head = await get(made.url, {}, 'HEAD')
  assert.deepEqual([head.status, head.headers.get('content-length')], [200, '17'])
  for (const method of ['PUT', 'POST', 'DELETE']) assert.equal((await get(made.url, {}, method)).status, 405, method)
  // With what is typed at this moment.
  const editor = yClient(await session(b, 'bob'), path)
  await eventually('synced', () => editor.synced())
  const tokens = []
  line(editor, 'typed', tokens)
  await eventually('typed', async () => (await (await get(made.url)).text()).includes(tokens[0]))

  // Nothing else.
  const secret = await make({ path: 'secret.txt' }, ann.token)
  assert.equal(await (await get(secret.url)).text(), 'secret')
  await refused(tampered(made.url, { path: 'secret.txt' }), 'another path')
  await refused(tampered(secret.url, { branch: other.id }), 'another branch')
  await refused(tampered(made.url, { exp: 9_999_999_999 }), 'a longer time')
  await refused(tampered(made.url, { maker: null }), 'without a session')
  await refused(tampered(made.url, { aud: 'session' }), 'another audience')
  await refused(made.url.slice(0, -2), 'cut')
  await refused(`${url}/v1/downloads/x`, 'no link')
  const signed = made.url.split('/').pop()
  await refused(`${url}/v1/downloads/${ann.token}`, 'a session token is no link')
  await refused(`${url}/v1/downloads/${owner}`, 'an API token is no link')
  const as = async (token) => (await api('GET', `/v1/branches/${b.id}`, undefined, withToken(token))).status
  assert.deepEqual([await as(ann.token), await as(signed)], [200, 401], 'a link is no session token')
  const socket = async (token) => (await get(`${ann.docs_url.replace('ws', 'http')}/secret.txt?token=${token}`)).status
  assert.deepEqual([await socket(ann.token), await socket(signed)], [400, 401], 'neither on a socket')
  assert.equal((await get(`${url}/v1/branches/${b.id}/events?token=${signed}`)).status, 401)

  // Who may make one, and of what.
  assert.equal((await fetch(url + route, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ path }) })).status, 401)
  const stranger = await session(other, 'eve')
  assert.equal((await make({ path }, stranger.token)).status, 404)
  assert.equal((await make({ path: 'absent.txt' })).status, 404)
  assert.deepEqual((({ status, code }) => [status, code])(await make({ path: 'a b' })), [409, 'not_a_file'])
  for (const bad of [{}, { path: '../x' }, { path: '.git/config' }, { path, ttl: 0 }, { path, ttl: 3_601 }, { path, more: 1 }]) {
    assert.equal((await make(bad)).status, 400, JSON.stringify(bad))
  }

  // Its time, the session, the file, the branch.
  const short = await make({ path, ttl: 1 })
  await eventually('expired', async () => (await get(short.url)).status === 403)
  await refused(short.url, 'expired')
  const ofApi = await make({ path: 'secret.txt' })
  const revoke = await api('POST', `/v1/branches/${b.id}/sessions/ann/revoke`)
  assert.equal(revoke.status, 204)
  await refused(made.url, 'revoked')
  const again = await session(b, 'ann', 'read')
  await refused(made.url, 'a new token of the session does not bring its links back')
  const fresh = await make({ path: 'secret.txt' }, again.token)
  assert.equal((await get(fresh.url)).status, 200)
  assert.equal((await api('DELETE', `/v1/branches/${b.id}/sessions/ann`)).status, 204)
  await refused(fresh.url, 'ended')
  await session(b, 'ann', 'read')
  await refused(fresh.url, 'ended, then opened anew')
  assert.equal((await get(ofApi.url)).status, 200, 'one that no session made goes on')
  assert.equal((await api('DELETE', `/v1/branches/${b.id}/files/secret.txt`)).status, 204)
  assert.equal((await get(ofApi.url)).status, 404)
  assert.equal((await api('DELETE', `/v1/branches/${b.id}?confirm=${b.id}`)).status < 300, true)
  await eventually('branch gone', async () => (await get(ofApi.url)).status === 404)
  await sleep(50)
  assert.ok(log.text.includes('/v1/downloads/{token}'), 'they are logged')
  for (const link of [made, secret, short, ofApi, fresh]) {
    for (const piece of [link.url.split('/').pop(), link.url.split('.').pop()]) assert.ok(!log.text.includes(piece), 'no link is logged')
  }
}
