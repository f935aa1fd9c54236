// Previews as far as they need no process in a branch; `tests/it/previews.rs` has one.
import assert from 'node:assert/strict'
import { api, branch, crash, owner, port, session, start, url } from '../harness.mjs'
import { ask, enter, opened, socket } from '../preview.mjs'
import { withToken } from './tokens.mjs'

/** Who may look at a preview: by ticket and cookie, until the session ends; whoever asks, where the branch says so. */
export async function previews() {
  const log = { text: '' }
  await start({ PERCH_LOG: 'trace' }, [], log)
  const b = await branch()
  const ann = await session(b, 'ann')
  const bob = await session(b, 'bob', 'read')
  const route = `/v1/branches/${b.id}/ports`
  assert.deepEqual(await (await api('GET', route, undefined, withToken(bob.token))).json(), { ports: [] })
  const preview = async (s, number = 3000, of = route) => {
    const answer = await api('POST', `${of}/${number}/preview`, undefined, withToken(s.token))
    return { status: answer.status, ...await answer.json() }
  }
  const root = `http://3000-${b.id.replace('_', '-')}.localhost:${port}/`
  const first = await preview(ann)
  assert.ok(first.url.startsWith(`${root}?perch-ticket=pt_`), first.url)
  for (const number of [0, -1, 65_536, 'x']) assert.equal((await preview(ann, number)).status, 400)
  assert.equal((await preview({ token: owner })).code, 'session_required')
  const other = await branch({ name: 'other' })
  assert.equal((await preview(ann, 3000, `/v1/branches/${other.id}/ports`)).status, 404)

  // Nothing of perch's answers on the host, with any token.
  const token = { authorization: `Bearer ${owner}` }
  for (const path of ['', 'v1/branches', 'healthz', 'docs', 'v1/openapi.json', `v1/branches/${b.id}`]) {
    const answer = await ask(root + path, { headers: token })
    assert.equal(answer.status, 401, path)
    assert.match(answer.body, /not public/)
    assert.equal(answer.headers['cache-control'], 'no-store')
  }
  assert.equal((await ask(`${root}v1/branches`, { method: 'POST', body: '{}', headers: token })).status, 401)
  for (const name of ['3000-br-0', '0-x', `3000-br-${'0'.repeat(31)}g`]) {
    assert.equal((await ask(`http://${name}.localhost:${port}/healthz`)).status, 404, name)
  }
  assert.equal((await ask(`http://localhost:${port}/healthz`)).status, 200)
  const absent = `http://3000-br-${'0'.repeat(32)}.localhost:${port}/`
  assert.equal((await ask(absent)).status, 401, 'a branch that is not there looks like one that is closed')

  // A ticket is good once, for its own preview; it leads to the same place without itself.
  const { cookie, answer } = await enter(first.url.replace('/?', '/a%20b?x=1&') + '&y=2')
  assert.equal(answer.headers.location, '/a%20b?x=1&y=2')
  assert.match(answer.headers['set-cookie'][0], /^perch-preview=[^;]+; Path=\/; HttpOnly; Max-Age=43200; SameSite=Lax$/)
  assert.equal(answer.headers['referrer-policy'], 'no-referrer')
  assert.equal((await ask(first.url)).status, 401, 'used')
  assert.equal((await ask(first.url, { headers: { cookie } })).status, 401)
  const second = await preview(ann)
  assert.equal((await ask(second.url.replace('/3000-', '/3001-'))).status, 401, 'of another port')
  assert.equal((await ask(second.url)).status, 401, 'and used by that')
  assert.equal((await ask((await preview(ann)).url, { method: 'POST' })).status, 401)
  const hosts = await enter((await preview(ann)).url.replace('/?', '//evil.example/?'))
  assert.equal(hosts.answer.headers.location, '/evil.example/')

  // The cookie is of one port of one branch, and no token.
  const look = async (target, headers) => (await ask(target, { headers })).status
  const nothing = await ask(root, { headers: { cookie } })
  assert.equal(nothing.status, 502)
  assert.match(nothing.body, /Nothing listens on port 3000/)
  assert.equal(await look(root.replace('/3000-', '/3001-'), { cookie }), 401)
  assert.equal(await look(root.replace(/br-\w+/, other.id.replace('_', '-')), { cookie }), 401)
  assert.equal(await look(root, { cookie: cookie.slice(0, -2) }), 401)
  assert.equal(await look(root, { cookie: `perch-preview=${ann.token}` }), 401, 'a token is no pass')
  const pass = cookie.split('=')[1]
  assert.equal((await api('GET', `/v1/branches/${b.id}`, undefined, withToken(pass))).status, 401, 'a pass is no token')
  assert.equal(await look(root, { cookie: `a=b; ${cookie}; c=d` }), 502)

  // What other pages make a browser send carries the cookie too.
  const from = (origin) => look(root, { cookie, origin })
  assert.equal(await from('http://evil.example'), 401)
  assert.equal(await from('null'), 401)
  assert.equal(await from(url), 401, "the editor's own page")
  assert.equal(await from(absent.slice(0, -1)), 401, "another branch's preview")
  assert.equal(await from(root.slice(0, -1)), 502)
  assert.equal(await from(root.slice(0, -1).replace('/3000-', '/8080-')), 502, 'another port of the branch')
  const fetched = (site, mode, more = {}) => look(root, { cookie, 'sec-fetch-site': site, 'sec-fetch-mode': mode, ...more })
  assert.equal(await fetched('cross-site', 'navigate'), 502, 'a link')
  assert.equal(await fetched('none', 'navigate'), 502)
  assert.equal(await fetched('same-origin', 'no-cors'), 502)
  assert.equal(await fetched('cross-site', 'no-cors'), 401)
  assert.equal(await fetched('same-site', 'no-cors', { referer: absent }), 401)
  assert.equal(await fetched('cross-site', 'no-cors', { referer: root.replace('/3000-', '/8080-') }), 502)
  assert.equal(await opened(socket(root, { cookie, origin: 'http://evil.example' })), 401)
  assert.equal(await opened(socket(root)), 401)
  assert.equal(await opened(socket(root, { cookie })), 502)

  // Revoked or ended sessions lose it at the next request; it outlives a restart until then.
  await crash()
  await start({ PERCH_LOG: 'trace' }, [], log)
  assert.equal(await look(root, { cookie }), 502)
  const late = (await preview(ann)).url
  assert.equal((await api('POST', `/v1/branches/${b.id}/sessions/ann/revoke`)).status, 204)
  assert.equal(await look(root, { cookie }), 401)
  assert.equal((await ask(late)).status, 401, 'a ticket from before is void')
  const again = await enter((await preview(bob)).url)
  assert.equal(await look(root, { cookie: again.cookie }), 502, 'who may read may look')
  assert.equal((await api('DELETE', `/v1/branches/${b.id}/sessions/bob`)).status, 204)
  assert.equal(await look(root, { cookie: again.cookie }), 401)

  // Public, and back.
  const say = (previews, headers) => api('PATCH', `/v1/branches/${b.id}`, { previews }, headers)
  assert.equal((await say('public', withToken((await session(b, 'carl')).token))).status, 403)
  assert.equal((await say('all')).status, 400)
  assert.equal((await (await say('public')).json()).previews, 'public')
  assert.equal((await ask(root)).status, 502)
  assert.equal(await opened(socket(root, { origin: 'http://evil.example' })), 502)
  const open = await preview({ token: owner })
  assert.equal(open.url, root)
  const fork = await (await api('POST', `/v1/branches/${b.id}/fork`, {})).json()
  assert.equal(fork.previews, 'members', 'a fork starts closed')
  assert.equal((await (await say('members')).json()).previews, 'members')
  assert.equal((await ask(root)).status, 401)
  assert.equal((await api('DELETE', `/v1/branches/${other.id}?confirm=${other.id}`)).status, 204)

  assert.ok(log.text.length > 1_000 && log.text.includes('preview'), 'there is a log')
  for (const secret of [first.url.split('=')[1], pass, again.cookie.split('=')[1]]) {
    assert.ok(!log.text.includes(secret), 'no ticket or cookie is logged')
  }
}

/** Behind a proxy that speaks https, with a domain of its own. */
export async function preview_domain() {
  await start({}, ['--public-url', 'https://code.example.org', '--preview-domain', 'preview.example.net', '--trusted-proxy', '127.0.0.1'])
  const b = await branch()
  const ann = await session(b, 'ann')
  const made = await api('POST', `/v1/branches/${b.id}/ports/3000/preview`, undefined, withToken(ann.token))
  const opens = new URL((await made.json()).url)
  const name = `3000-${b.id.replace('_', '-')}.preview.example.net`
  assert.equal(opens.origin, `https://${name}`)
  // As the proxy passes it on.
  const proxied = { 'x-forwarded-proto': 'https', 'x-forwarded-host': name, host: '127.0.0.1' }
  const at = `http://127.0.0.1:${port}`
  const answer = await ask(`${at}/${opens.search}`, { headers: proxied })
  assert.equal(answer.status, 303)
  assert.match(answer.headers['set-cookie'][0],
    /^__Host-perch-preview=[^;]+; Path=\/; HttpOnly; Max-Age=43200; SameSite=None; Secure; Partitioned$/)
  const cookie = answer.headers['set-cookie'][0].split(';')[0]
  assert.equal((await ask(`${at}/`, { headers: { ...proxied, cookie } })).status, 502)
  assert.equal((await ask(`${at}/`, { headers: proxied })).status, 401)
  for (const host of ['preview.example.net', 'www.preview.example.net']) {
    const expected = host.startsWith('www') ? 404 : 200
    assert.equal((await ask(`${at}/healthz`, { headers: { ...proxied, 'x-forwarded-host': host } })).status, expected, host)
  }
  await crash()
  await start({}, ['--public-url', 'https://code.example.org'])
  const ports = await api('POST', `/v1/branches/${b.id}/ports/3000/preview`, undefined, withToken(ann.token))
  assert.equal((await ports.json()).code, 'no_preview_domain', 'localhost is not reached from elsewhere')
}
