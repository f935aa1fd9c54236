// Signed downloads: one file or folder, for a short time, without a token.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { said } from '../exec.mjs'
import { api, branch, data, eventually, line, owner, session, sleep, start, temp, url, yClient } from '../harness.mjs'
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
  const { id: tokenId, token } = await (await api('POST', '/v1/tokens', { name: 'spare' })).json()
  const ofToken = await make({ path: 'secret.txt' }, token)
  assert.equal((await get(ofToken.url)).status, 200)
  assert.equal((await api('DELETE', `/v1/tokens/${tokenId}`)).status, 204)
  await refused(ofToken.url, 'its API token revoked')
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

/** Python's unzip, which looks at each check sum: where it unpacked to, and what the archive says of itself. */
function unpacked(bytes) {
  const folder = fs.mkdtempSync(path.join(temp, 'unpacked-'))
  fs.writeFileSync(`${folder}.zip`, bytes)
  const program = 'import json, sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; z.extractall(sys.argv[2]); ' +
    'print(json.dumps({"comment": z.comment.decode(), "modes": {i.filename: i.external_attr >> 16 & 0o7777 for i in z.infolist()}}))'
  const told = JSON.parse(execFileSync('python3', ['-c', program, `${folder}.zip`, folder], { encoding: 'utf8' }))
  return { folder, names: fs.readdirSync(folder, { recursive: true }).toSorted(), ...told }
}

/** A folder as an archive: for readers too, with what is typed, without `.git`, links and what can't be read. */
export async function downloads_folders() {
  await start()
  const b = await branch()
  const [ann, eve] = [await session(b, 'ann'), await session(b, 'eve', 'read')]
  const workspace = path.join(data, 'branches', b.id, 'workspace')
  await said(b, ann, 'git init -q . && mkdir -p "src/a b/none" && printf 1 > "src/a b/ä.txt" && printf "#!/bin/sh\n" > src/run.sh && chmod 750 src/run.sh && ' +
    'ln -s run.sh src/link && ln -s /etc src/etc && ln -s src way && git -C src init -q && truncate -s 65M src/huge && mkfifo src/pipe && ' +
    'echo private > ~/.private/mine && printf top > top.txt')
  const make = async (s, body) => {
    const answer = await api('POST', `/v1/branches/${b.id}/downloads`, body, withToken(s.token))
    return { status: answer.status, ...await answer.json() }
  }
  const take = async (made) => {
    assert.equal(made.status, 201)
    const answer = await fetch(made.url)
    assert.equal(answer.status, 200)
    return { answer, ...unpacked(Buffer.from(await answer.arrayBuffer())) }
  }
  const editor = yClient(ann, 'src/typed.txt')
  await eventually('synced', () => editor.synced())
  editor.text.insert(0, 'typed just now')
  await eventually('acknowledged', async () => (await api('GET', `/v1/branches/${b.id}/files/src/typed.txt`)).status === 200)
  const src = await take(await make(eve, { path: 'src', folder: true }))
  assert.deepEqual(src.names, ['a b', 'a b/none', 'a b/ä.txt', 'run.sh', 'typed.txt'])
  assert.equal(fs.readFileSync(path.join(src.folder, 'a b/ä.txt'), 'utf8'), '1')
  assert.equal(fs.readFileSync(path.join(src.folder, 'typed.txt'), 'utf8'), 'typed just now')
  assert.equal(src.modes['run.sh'], 0o750)
  assert.match(src.comment, /could not read.*:\nhuge\n$/s)
  const headers = { 'content-type': 'application/zip', 'content-disposition': "attachment; filename*=UTF-8''src.zip", 'cache-control': 'no-store', 'referrer-policy': 'no-referrer', 'x-content-type-options': 'nosniff' }
  for (const [name, value] of Object.entries(headers)) assert.equal(src.answer.headers.get(name), value, name)
  // By a link to it, and all of the branch.
  assert.deepEqual((await take(await make(eve, { path: 'way', folder: true }))).names, src.names)
  const all = await take(await make(eve, { path: '', folder: true }))
  assert.deepEqual(all.names, ['src', ...src.names.map((name) => `src/${name}`), 'top.txt'])
  assert.equal(fs.readFileSync(path.join(all.folder, 'top.txt'), 'utf8'), 'top')
  assert.ok(fs.existsSync(path.join(workspace, '.git/config')), 'there was something to leave out')

  const code = async (s, body) => (({ status, code }) => [status, code])(await make(s, body))
  assert.deepEqual(await code(eve, { path: 'top.txt', folder: true }), [409, 'not_a_folder'])
  assert.deepEqual(await code(eve, { path: 'none', folder: true }), [404, 'not_found'])
  assert.deepEqual(await code(eve, { path: 'src/etc', folder: true }), [409, 'not_a_folder'], 'it leads out')
  for (const bad of ['.git', 'src/.git', '../x', '/']) assert.equal((await code(eve, { path: bad, folder: true }))[0], 400, bad)
  const file = await make(eve, { path: 'top.txt' })
  for (const change of [{ is_folder: true }, { is_folder: true, path: '' }]) {
    assert.equal((await fetch(tampered(file.url, change))).status, 403, 'a link to a file is none to a folder')
  }

  // Four at once, of clients that take their time; a fifth may come back. What is sent ends with its session.
  fs.mkdirSync(path.join(workspace, 'big'))
  for (let n = 0; n < 64; n += 1) fs.writeFileSync(path.join(workspace, `big/${n}`), randomBytes(1024 * 1024))
  const big = await make(eve, { path: 'big', folder: true })
  const held = await Promise.all(Array.from({ length: 4 }, () => fetch(big.url)))
  assert.deepEqual(held.map(({ status }) => status), [200, 200, 200, 200])
  const fifth = await fetch(big.url)
  assert.deepEqual([fifth.status, (await fifth.json()).code], [503, 'busy'])
  await held[0].body.cancel()
  const another = () => eventually('a turn is given back', async () => {
    const answer = await fetch(big.url)
    if (answer.status === 200) return answer
    await answer.body.cancel()
  })
  assert.equal(unpacked(Buffer.from(await (await another()).arrayBuffer())).names.length, 64)
  held.push(await another())
  assert.equal((await api('DELETE', `/v1/branches/${b.id}/sessions/eve`)).status, 204)
  // Who took nothing for long was given up before: that is no whole answer either.
  for (const one of held.slice(1)) await assert.rejects(one.arrayBuffer(), 'what is left of it is not sent')
  assert.equal((await fetch(big.url)).status, 403)
}
