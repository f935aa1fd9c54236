// Branches: described, forked, made from archives and private repositories, bounded, deleted.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import crypto from 'node:crypto'
import fs from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { api, branch, crash, data, eventually, hClient, owner, perch, session, start, temp, url, yClient } from '../harness.mjs'
import { httpBackend } from '../git_server.mjs'
import { holders, withToken } from './tokens.mjs'

const look = async (id) => (await api('GET', `/v1/branches/${id}`)).json()
const folder = (id) => path.join(data, 'branches', id)
const list = async (query) => (await (await api('GET', `/v1/branches?${query}`)).json()).branches.map((one) => one.name)
const settled = (id) => eventually('made or failed', async () => {
  const one = await look(id)
  return one.state !== 'creating' && one
})

/** Names, descriptions, tags, filters, sizes. */
export async function branches() {
  await start()
  const made = []
  for (const name of ['one', 'two', 'three']) made.push(await branch({ name }))
  const [one] = made
  const patch = (body, id = one.id) => api('PATCH', `/v1/branches/${id}`, body)
  const changed = await (await patch({ name: 'uno', description: 'first\nof all', tags: ['a', 'b c'] })).json()
  assert.deepEqual([changed.name, changed.description, changed.tags, changed.state], ['uno', 'first\nof all', ['a', 'b c'], 'ready'])
  assert.equal((await (await patch({ tags: ['b c'] })).json()).name, 'uno')
  for (const bad of [{ name: '' }, { name: 'a\nb' }, { tags: [''] }, { tags: Array(33).fill('x') }, { description: 'x'.repeat(5_000) }, { state: 'failed' }]) {
    assert.equal((await patch(bad)).status, 400, JSON.stringify(bad).slice(0, 80))
  }
  assert.equal((await patch({ name: 'x' }, 'br_00000000000000000000000000000000')).status, 404)
  assert.equal((await api('PATCH', `/v1/branches/${one.id}`, { name: 'x' }, withToken((await session(one, 'ann')).token))).status, 403)
  assert.deepEqual(await list('tag=b%20c'), ['uno'])
  assert.deepEqual(await list('tag=b'), [])
  assert.deepEqual(await list('state=ready&name=t'), ['three', 'two'])
  assert.deepEqual(await list('state=failed'), [])
  await api('PUT', `/v1/branches/${one.id}/files/a.bin`, new Uint8Array(12_345))
  assert.equal((await look(made[1].id)).size_bytes, 0)
  await eventually('measured', async () => (await look(one.id)).size_bytes === 12_345)
  // A restart with many branches is quick: none is opened, each would hold descriptors.
  for (let n = 0; n < 12; n++) {
    await Promise.all(Array.from({ length: 25 }, () => api('POST', '/v1/branches', { name: 'many' })))
  }
  await eventually('all made', async () => (await list('state=creating&limit=200')).length === 0)
  await crash()
  await start()
  const held = fs.readdirSync(`/proc/${perch.pid}/fd`).length
  assert.ok(held < 150, `${held} descriptors with 303 branches`)
}

/** Deleting asks for the id, cuts, removes; a crash on the way is made good. */
export async function deleted() {
  await start()
  const b = await branch()
  const kept = await branch({ name: 'kept' })
  const ann = await session(b, 'ann')
  const [y, h] = [yClient(ann, 'a.txt'), hClient(ann, 'a.txt')]
  await eventually('synced', () => y.synced() && h.synced())
  y.text.insert(0, 'gone\n')
  await eventually('on disk', () => fs.existsSync(path.join(b.files, 'a.txt')))
  fs.mkdirSync(path.join(b.files, 'locked'), { mode: 0 })
  fs.symlinkSync(kept.files, path.join(b.files, 'away'))
  fs.writeFileSync(path.join(kept.files, 'stays'), 'x')
  const remove = (id, confirm) => api('DELETE', `/v1/branches/${id}${confirm ? `?confirm=${confirm}` : ''}`)
  for (const confirm of [null, 'yes', kept.id]) {
    const answer = await remove(b.id, confirm)
    assert.deepEqual([answer.status, (await answer.json()).code], [400, 'confirm_required'])
  }
  assert.equal((await api('DELETE', `/v1/branches/${b.id}?confirm=${b.id}`, undefined, withToken(ann.token))).status, 403)
  assert.equal((await remove(b.id, b.id)).status, 204)
  assert.ok(!fs.existsSync(folder(b.id)) && fs.existsSync(path.join(kept.files, 'stays')))
  await eventually('a final code', () => y.closed?.code >= 4400 && y.closed.code < 4500)
  for (const route of ['', '/files/a.txt', '/sessions', '/links', '/tree']) {
    assert.equal((await api('GET', `/v1/branches/${b.id}${route}`)).status, 404, route)
  }
  assert.equal((await api('GET', `/v1/branches/${b.id}`, undefined, withToken(ann.token))).status, 401)
  assert.equal((await api('POST', `/v1/branches/${b.id}/sessions`, { permission: 'read' })).status, 404)
  assert.equal((await remove(b.id, b.id)).status, 404)
  await crash()
  for (const fault of ['branch-deleting', 'branch-removed']) {
    await start({ PERCH_FAULT: fault })
    const half = await branch()
    fs.writeFileSync(path.join(half.files, 'a.txt'), 'x')
    await assert.rejects(remove(half.id, half.id))
    assert.equal((await perch.ended).signal, 'SIGABRT')
    await start()
    await eventually(`${fault}: gone`, async () => (await api('GET', `/v1/branches/${half.id}`)).status === 404)
    assert.ok(!fs.existsSync(folder(half.id)))
    await crash()
  }
  await start()
  assert.equal(await (await api('GET', `/v1/branches/${kept.id}/files/stays`)).text(), 'x')
}

/** A fork holds what editors see at that moment, and is its own from then on. */
export async function forked() {
  await start()
  const b = await branch({ name: 'source' })
  const ann = hClient(await session(b, 'ann'), 'a.txt')
  await eventually('synced', () => ann.synced())
  fs.writeFileSync(path.join(folder(b.id), 'home', 'rc'), 'mine')
  // Each session's is a file system of its own; what is beneath the mount belongs to nobody.
  fs.writeFileSync(path.join(folder(b.id), 'home', '.private', 'key'), 'secret')
  for (let n = 0; n < 500; n++) fs.writeFileSync(path.join(b.files, `f${n}`), `${n}`)
  let typed = ''
  for (let round = 0; round < 5; round++) {
    typed = `round ${round}\n${typed}`
    ann.text.insert(0, `round ${round}\n`)
    await eventually('acknowledged', () => ann.synced())
    const answer = await api('POST', `/v1/branches/${b.id}/fork`, round ? { name: `fork ${round}` } : undefined)
    assert.equal(answer.status, 201, await answer.clone().text())
    const fork = await answer.json()
    assert.deepEqual([fork.name, fork.forked_from], [round ? `fork ${round}` : 'source', b.id])
    assert.equal(await (await api('GET', `/v1/branches/${fork.id}/files/a.txt`)).text(), typed)
    assert.equal(fs.readdirSync(path.join(folder(fork.id), 'workspace')).length, 501)
    assert.equal(fs.readFileSync(path.join(folder(fork.id), 'home/rc'), 'utf8'), 'mine')
    assert.ok(!fs.existsSync(path.join(folder(fork.id), 'home/.private/key')), 'what is private stays behind')
    assert.deepEqual((await (await api('GET', `/v1/branches/${fork.id}/sessions`)).json()).sessions, [])
    if (round === 4) {
      const bob = yClient(await session(fork, 'bob'), 'a.txt')
      await eventually('the fork opens', () => bob.text.toString() === typed)
      bob.text.insert(0, 'only here\n')
      await eventually('written', () => fs.readFileSync(path.join(folder(fork.id), 'workspace/a.txt'), 'utf8').startsWith('only here'))
    }
  }
  assert.equal(ann.text.toString(), typed)
  assert.equal(fs.readFileSync(path.join(b.files, 'a.txt'), 'utf8'), typed)
  assert.equal((await api('POST', '/v1/branches/br_00000000000000000000000000000000/fork')).status, 404)
}

/** Archives become branches, or say why not. */
export async function archives() {
  await start()
  const source = path.join(temp, 'project')
  fs.mkdirSync(path.join(source, 'src'), { recursive: true })
  fs.writeFileSync(path.join(source, 'src/main.txt'), 'hello\n')
  fs.writeFileSync(path.join(source, 'run'), '#!/bin/sh\n', { mode: 0o755 })
  fs.symlinkSync('src/main.txt', path.join(source, 'link'))
  const pack = (...args) => execFileSync(args[0], args.slice(1), { cwd: source, maxBuffer: 1 << 26 })
  pack('python3', '-m', 'zipfile', '-c', '../project.zip', 'src', 'run')
  const kinds = [
    ['application/x-tar', pack('tar', '-c', '.')],
    ['application/gzip', pack('tar', '-cz', '.')],
    ['application/zip', fs.readFileSync(path.join(temp, 'project.zip'))]
  ]
  const upload = (type, bytes, query = '?name=packed') => api('POST', `/v1/branches${query}`, bytes, { 'content-type': type })
  for (const [type, bytes] of kinds) {
    const answer = await upload(type, bytes)
    assert.equal(answer.status, 201, await answer.clone().text())
    const made = await settled((await answer.json()).id)
    assert.deepEqual([made.state, made.error, made.name], ['ready', null, 'packed'])
    assert.equal(await (await api('GET', `/v1/branches/${made.id}/files/src/main.txt`)).text(), 'hello\n')
    assert.equal(fs.statSync(path.join(folder(made.id), 'workspace/run')).mode & 0o100, 0o100)
    assert.deepEqual(fs.readdirSync(folder(made.id)).sort(), ['home', 'scratch', 'tmp', 'workspace'], 'the archive is gone')
    const ann = yClient(await session(made, 'ann'), 'src/main.txt')
    await eventually('editable', () => ann.text.toString() === 'hello\n')
  }
  assert.equal((await upload('application/zip', kinds[2][1], '')).status, 400)
  assert.equal((await upload('text/plain', 'x')).status, 415)
  fs.symlinkSync('/etc/passwd', path.join(source, 'evil'))
  const evil = await settled((await (await upload('application/x-tar', pack('tar', '-c', 'evil'))).json()).id)
  assert.equal(evil.state, 'failed')
  assert.match(evil.error, /`evil` links to `\/etc\/passwd`/)
  assert.ok(!fs.existsSync(folder(evil.id)))
  assert.equal((await api('GET', `/v1/branches/${evil.id}/files/a`)).status, 409)
  assert.deepEqual(await list('state=failed'), ['packed'])
  const garbage = await settled((await (await upload('application/zip', 'no zip')).json()).id)
  assert.equal(garbage.state, 'failed')
  // An upload that breaks off leaves nothing.
  const count = (await list('limit=200')).length
  await new Promise((resolve) => {
    const request = http.request(`${url}/v1/branches?name=broken`, {
      method: 'POST', headers: { authorization: `Bearer ${owner}`, 'content-type': 'application/x-tar', 'content-length': 1_000_000 }
    })
    request.on('error', resolve)
    request.write(Buffer.alloc(1_000), () => setTimeout(() => request.destroy(new Error('broken off')), 200))
  })
  await eventually('nothing is left', async () => (await list('limit=200')).length === count && (await list('name=broken')).length === 0)
  assert.ok(fs.readdirSync(path.join(data, 'branches')).length <= count)
}

/** A branch grows to its bound and no further. */
export async function bounded() {
  await start({ PERCH_MAX_BRANCH_BYTES: '1000000' })
  const b = await branch()
  const put = (name, length) => api('PUT', `/v1/branches/${b.id}/files/${name}`, new Uint8Array(length))
  assert.equal((await put('a', 600_000)).status, 201)
  const full = await put('b', 500_000)
  assert.deepEqual([full.status, (await full.json()).code], [507, 'branch_full'])
  assert.ok(!fs.existsSync(path.join(b.files, 'b')))
  assert.equal((await put('b', 300_000)).status, 201)
  assert.equal((await api('DELETE', `/v1/branches/${b.id}/files/a`)).status, 204)
  await eventually('there is room again', async () => (await put('c', 600_000)).status === 201)
  const upload = await api('POST', '/v1/branches?name=large', new Uint8Array(1_100_000), { 'content-type': 'application/x-tar' })
  assert.deepEqual([upload.status, (await upload.json()).code], [413, 'archive_too_large'])
  const repository = path.join(temp, 'large')
  fs.mkdirSync(repository)
  const git = (...args) => execFileSync('git', ['-C', repository, '-c', 'user.name=t', '-c', 'user.email=t@example.org', ...args])
  git('init', '-q')
  fs.writeFileSync(path.join(repository, 'large'), crypto.randomBytes(700_000))
  git('add', '.')
  git('commit', '-qm', 'large')
  const answer = await api('POST', '/v1/branches', { name: 'clone', git: { url: repository } })
  const clone = await settled((await answer.json()).id)
  assert.match(clone.error, /max-branch-bytes/)
  fs.writeFileSync(path.join(b.files, 'outside'), new Uint8Array(500_000))
  const fork = await settled((await (await api('POST', `/v1/branches/${b.id}/fork`)).json()).id)
  assert.match(fork.error, /max-branch-bytes/)
  for (const { id } of [clone, fork]) assert.ok(!fs.existsSync(folder(id)))
}

/** The real git server behind Basic auth; slow, so that progress and secrecy can be looked at on the way. */
async function gitServer(root, user, password, seen) {
  const server = await httpBackend(root, '127.0.0.1', { [user]: password })
  return Object.assign(server, { sent: seen, pause: 30 })
}

/** Of all processes: who holds a text on its command line or in its environment. */
function tellers(text) {
  const found = []
  for (const pid of fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    for (const file of ['cmdline', 'environ']) {
      try {
        if (fs.readFileSync(`/proc/${pid}/${file}`).includes(text)) found.push(`${pid} ${file}`)
      } catch { /* ended, or not ours */ }
    }
  }
  return found
}

/** Private repositories are cloned with progress, and their token is nowhere afterwards, nor meanwhile. */
export async function cloned() {
  const token = `t0ken-${crypto.randomBytes(12).toString('hex')}`
  const repository = path.join(temp, 'served/private.git')
  fs.mkdirSync(repository, { recursive: true })
  const git = (...args) => execFileSync('git', ['-C', repository, '-c', 'user.name=t', '-c', 'user.email=t@example.org', ...args])
  git('init', '-q', '-b', 'main')
  fs.writeFileSync(path.join(repository, 'large'), crypto.randomBytes(4_000_000))
  for (let n = 0; n < 300; n++) fs.writeFileSync(path.join(repository, `f${n}`), `${n}`)
  git('add', '.')
  git('commit', '-qm', 'first')
  git('tag', 'v1')
  fs.writeFileSync(path.join(repository, 'later'), 'x')
  git('add', '.')
  git('commit', '-qm', 'second')
  const seen = []
  const server = await gitServer(path.join(temp, 'served'), 'ann', token, seen)
  const remote = `http://127.0.0.1:${server.address().port}/private.git`
  const log = { text: '' }
  await start({ PERCH_LOG: 'trace' }, [], log)
  const create = async (source) => {
    const answer = await api('POST', '/v1/branches', { name: 'clone', git: source })
    return { status: answer.status, ...await answer.json() }
  }
  const made = await create({ url: remote, username: 'ann', token })
  assert.equal(made.state, 'creating')
  assert.ok(!JSON.stringify(made).includes(token))
  const phases = new Set()
  const told = []
  const done = await eventually('cloned', async () => {
    told.push(...tellers(token), ...holders(token))
    const now = await look(made.id)
    if (now.progress) phases.add(`${now.progress.phase} ${now.progress.percent}`)
    return now.state !== 'creating' && now
  })
  assert.deepEqual([done.state, done.error], ['ready', null])
  assert.deepEqual(told, [], 'told on the way')
  assert.ok(phases.size > 3 && [...phases].some((phase) => /^receiving [1-9]/.test(phase)), [...phases].join())
  assert.equal(done.progress, null)
  const files = path.join(folder(made.id), 'workspace')
  assert.ok(fs.existsSync(path.join(files, 'later')) && fs.existsSync(path.join(files, 'f299')))
  assert.ok(fs.readFileSync(path.join(files, '.git/config'), 'utf8').includes(remote))
  assert.deepEqual(fs.readdirSync(path.join(folder(made.id), 'tmp')), [])
  assert.ok(seen.filter((one) => one !== 'none').length >= 2, 'the server was asked with credentials')

  const tagged = await settled((await create({ url: remote, ref: 'v1', username: 'ann', token })).id)
  assert.equal(tagged.state, 'ready')
  assert.ok(!fs.existsSync(path.join(folder(tagged.id), 'workspace/later')))

  // Wrong or no credentials end soon, and the error repeats none.
  const wrong = `wrong-${token}`
  for (const [source, tries] of [[{ url: remote, username: 'ann', token: wrong }, 1], [{ url: remote }, 0]]) {
    seen.length = 0
    const failed = await settled((await create(source)).id)
    assert.equal(failed.state, 'failed')
    assert.match(failed.error, /git clone failed/)
    assert.ok(!failed.error.includes(wrong) && !failed.error.includes(Buffer.from(`ann:${wrong}`).toString('base64')), failed.error)
    assert.equal(seen.filter((one) => one !== 'none').length, tries)
    assert.ok(!fs.existsSync(folder(failed.id)))
  }
  // A redirect to another host gets no credentials.
  const thief = []
  const other = http.createServer((request, response) => {
    thief.push(request.headers.authorization ?? 'none')
    response.writeHead(401, { 'www-authenticate': 'Basic realm="git"' }).end()
  })
  await new Promise((resolve) => other.listen(0, '127.0.0.1', resolve))
  const lure = http.createServer((request, response) => {
    response.writeHead(302, { location: `http://127.0.0.1:${other.address().port}${request.url}` }).end()
  })
  await new Promise((resolve) => lure.listen(0, '127.0.0.1', resolve))
  const lured = await settled((await create({ url: `http://127.0.0.1:${lure.address().port}/x.git`, username: 'ann', token })).id)
  assert.equal(lured.state, 'failed')
  assert.ok(thief.length > 0 && thief.every((one) => one === 'none'), thief.join())
  for (const [source, code] of [
    [{ url: `http://ann:${token}@127.0.0.1/x.git` }, 'git_url_refused'],
    [{ url: 'http://example.org/x.git', token }, 'git_url_refused'],
    [{ url: '/etc' }, 'git_url_refused'],
    [{ url: remote, ref: '--upload-pack=x' }, 'git_url_refused']
  ]) {
    const refused = await create(source)
    assert.deepEqual([refused.status, refused.code], [400, code])
  }
  // Deleting a branch stops its clone.
  const stopped = await create({ url: remote, username: 'ann', token })
  await eventually('on its way', async () => (await look(stopped.id)).progress?.phase === 'receiving')
  assert.equal((await api('DELETE', `/v1/branches/${stopped.id}?confirm=${stopped.id}`)).status, 204)
  assert.ok(!fs.existsSync(folder(stopped.id)))
  // A hard stop in the middle: it is told at the next start.
  const cut = await create({ url: remote, username: 'ann', token })
  await eventually('on its way', async () => (await look(cut.id)).progress?.phase === 'receiving')
  await crash()
  assert.deepEqual(holders(token), [])
  await start({ PERCH_LOG: 'trace' }, [], log)
  const half = await look(cut.id)
  assert.deepEqual([half.state, half.error], ['failed', 'perch stopped while it was made'])
  await eventually('its files are gone', () => !fs.existsSync(folder(cut.id)))
  assert.ok(log.text.length > 10_000, 'the log was looked at')
  assert.ok(!log.text.includes(token))
  assert.ok(!log.text.includes(Buffer.from(`ann:${token}`).toString('base64')))
  server.close()
  other.close()
  lure.close()
}

/** A branch whose files are gone is told of and not served half; a folder without a branch is told of too. */
export async function missing() {
  await start()
  const [b, running] = [await branch(), await branch({ name: 'running' })]
  await api('PUT', `/v1/branches/${b.id}/files/a.txt`, 'kept')
  await crash()
  const aside = path.join(temp, 'aside')
  fs.renameSync(folder(b.id), aside)
  fs.mkdirSync(folder('br_0123456789abcdef0123456789abcdef'))
  const log = { text: '' }
  await start({}, [], log)
  const gone = await eventually('told', async () => {
    const now = await look(b.id)
    return now.state === 'failed' && now
  })
  assert.equal(gone.error, 'its files are missing')
  assert.deepEqual(await list('state=failed'), ['story'])
  for (const route of ['/files/a.txt', '/tree', '/sessions']) {
    const answer = await api('GET', `/v1/branches/${b.id}${route}`)
    assert.deepEqual([answer.status, (await answer.json()).code], [409, 'branch_failed'], route)
  }
  assert.ok(!fs.existsSync(folder(b.id)), 'nothing is made in its place')
  await eventually('the folder is told of', () => log.text.includes('br_0123456789abcdef0123456789abcdef belongs to no branch'))
  // Gone while perch runs, found out when it is used.
  fs.renameSync(running.files, `${running.files}.aside`)
  assert.equal((await api('GET', `/v1/branches/${running.id}/tree`)).status, 409)
  assert.equal((await look(running.id)).state, 'failed')
  // Back again.
  fs.renameSync(aside, folder(b.id))
  assert.equal(await (await api('GET', `/v1/branches/${b.id}/files/a.txt`)).text(), 'kept')
  assert.equal((await look(b.id)).state, 'ready')
  fs.renameSync(`${running.files}.aside`, running.files)
  await crash()
  await start()
  await eventually('found at start', async () => (await look(running.id)).state === 'ready')
}
