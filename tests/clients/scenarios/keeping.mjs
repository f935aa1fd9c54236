// What an operator looks after perch with: the audit log, the doctor, limits of how often one may ask.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import fs from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import path from 'node:path'
import { api, ask, binary, branch, crash, data, eventually, hClient, line, owner, perch, port, session, start, temp, url, yClient } from '../harness.mjs'
import { command } from './backups.mjs'

const log = async (query = '', token = owner, where = '/v1/audit') => {
  const answer = await fetch(`${url}${where}?${query}`, { headers: { authorization: `Bearer ${token}` } })
  return { status: answer.status, body: await answer.json() }
}

/** Who did what is told to owners, whoever did it; never a secret or a text; pages follow each other; it outlives what it tells of. */
export async function audit() {
  await start()
  const b = await branch({ name: 'a name that is a text' })
  const api2 = await (await api('POST', '/v1/tokens', { name: 'a second text' })).json()
  const as = { authorization: `Bearer ${api2.token}` }
  const ann = await session(b, 'ann', 'write', { email: 'ann@example.org' })
  await api('PATCH', `/v1/branches/${b.id}/sessions/ann`, { permission: 'read' }, as)
  await api('PATCH', `/v1/branches/${b.id}/sessions/ann`, { permission: 'write' }, as)
  const link = await (await api('POST', `/v1/branches/${b.id}/links`, { permission: 'read' }, as)).json()
  const guest = await (await fetch(`${url}/v1/links/${link.secret}/session`, { method: 'POST' })).json()
  const editor = hClient(ann, 'a.txt')
  await eventually('synced', () => editor.synced())
  line(editor, 'typed text', [])
  await eventually('acknowledged', () => editor.synced())
  const own = { authorization: `Bearer ${ann.token}` }
  const call = async (method, route, body, headers = own) => {
    const answer = await api(method, `/v1/branches/${b.id}/${route}`, body, headers)
    assert.ok(answer.ok, `${route}: ${answer.status} ${await answer.clone().text()}`)
    return answer
  }
  await call('POST', 'git/init', {})
  const { commit } = await (await call('POST', 'git/commit', { message: 'a message that is a text', all: true })).json()
  const bare = path.join(temp, 'bare.git')
  execFileSync('git', ['init', '-q', '--bare', bare])
  const fork = await (await api('POST', `/v1/branches/${b.id}/fork`)).json()
  await eventually('forked', async () => (await (await api('GET', `/v1/branches/${fork.id}`)).json()).state === 'ready')
  const history = await (await api('GET', `/v1/branches/${b.id}/history/a.txt`, undefined, own)).json()
  await call('POST', 'history/a.txt/restore', { position: history.position })
  await api('DELETE', `/v1/branches/${b.id}/links/${link.id}`)
  await api('POST', `/v1/branches/${b.id}/sessions/${guest.id}/revoke`)
  await api('DELETE', `/v1/branches/${b.id}/sessions/${guest.id}`)
  await api('DELETE', `/v1/tokens/${api2.id}`)
  editor.stop()
  // What is refused is not done.
  assert.equal((await api('POST', `/v1/branches/${b.id}/links`, { permission: 'read' }, as)).status, 401)
  assert.equal((await api('DELETE', `/v1/branches/${fork.id}?confirm=${fork.id}`)).status, 204)
  const expected = [
    ['branch.made', 'environment', null, b.id], ['token.made', 'environment', null, api2.id],
    ['session.made', 'environment', null, 'ann'],
    ['session.changed', 'token', api2.id, 'ann', { permission: 'read' }], ['session.changed', 'token', api2.id, 'ann', { permission: 'write' }],
    ['link.made', 'token', api2.id, link.id], ['link.opened', 'link', null, guest.id], ['session.joined', 'session', 'ann', null],
    ['git.committed', 'session', 'ann', commit], ['branch.forked', 'environment', null, fork.id],
    ['file.restored', 'session', 'ann', 'a.txt/restore'],
    ['link.revoked', 'environment', null, link.id], ['session.revoked', 'environment', null, guest.id],
    ['session.ended', 'environment', null, guest.id], ['token.revoked', 'environment', null, api2.id], ['branch.deleted', 'environment', null, fork.id]
  ]
  const { entries } = await eventually('all is in it', async () => {
    const { body } = await log('limit=1000')
    return body.entries.length >= expected.length && body
  })
  const seen = entries.toReversed()
  for (const [action, kind, by, subject, detail] of expected) {
    const one = seen.find((entry) => entry.action === action && entry.by_kind === kind && entry.by === by && entry.subject === subject &&
      Object.entries(detail ?? {}).every(([name, value]) => entry.detail[name] === value))
    assert.ok(one, `${action} by ${kind} ${by} of ${subject}, in ${JSON.stringify(seen)}`)
    if (kind !== 'session' || action !== 'session.joined') assert.equal(one.address, '127.0.0.1')
    assert.ok(Math.abs(one.at_ms - Date.now()) < 3_600_000)
  }
  assert.equal(seen.length, expected.length, 'and nothing else')
  const whole = JSON.stringify(seen) + ask('select * from audit').join()
  for (const secret of [owner, api2.token, ann.token, link.secret, guest.token, 'text', 'ann@']) assert.ok(!whole.includes(secret), secret)
  // In pages, and by what is asked for.
  const paged = []
  for (let before = ''; before !== null;) {
    const { body } = await log(`limit=3${before && `&before=${before}`}`)
    paged.push(...body.entries)
    before = body.next
  }
  assert.deepEqual(paged, entries)
  assert.deepEqual((await log('action=session.')).body.entries, entries.filter(({ action }) => action.startsWith('session.')))
  assert.deepEqual((await log(`by=${api2.id}`)).body.entries.map(({ action }) => action), ['link.made', 'session.changed', 'session.changed'])
  const of = (await log('', owner, `/v1/branches/${b.id}/audit`)).body.entries
  assert.deepEqual(of, entries.filter((entry) => entry.branch === b.id))
  assert.deepEqual((await log('', owner, `/v1/branches/${fork.id}/audit`)).body.entries.map(({ action }) => action), ['branch.deleted'], 'it outlives its branch')
  // Who may read it.
  const plain = await (await api('POST', '/v1/tokens', { name: 'plain' })).json()
  assert.equal((await log('', plain.token)).status, 403)
  assert.equal((await log('', plain.token, `/v1/branches/${b.id}/audit`)).status, 200)
  assert.equal((await log('', ann.token, `/v1/branches/${b.id}/audit`)).status, 403)
  assert.equal((await log('', 'nobody')).status, 401)
  assert.equal((await log('before=au_nothing')).status, 400)
  // A command's doing is in it too, and all of it after a crash; bounds hold from the next start on.
  const { said } = await command(['token', 'create', '--name', 'made beside'])
  await eventually('made beside', async () => (await log('action=token.made')).body.entries.some((entry) => entry.by_kind === 'command' && said.includes(entry.subject)))
  const before = (await log('limit=1000')).body.entries
  await crash()
  await start({}, ['--audit-entries', '5'])
  await eventually('cut', async () => {
    const { body } = await log('limit=1000')
    return body.entries.length === 5 && JSON.stringify(body.entries) === JSON.stringify(before.slice(0, 5))
  })
}

/** The doctor finds nothing wrong here, and finds each thing that is made wrong, with a way to mend it. */
export async function doctor() {
  const examine = async (args = [], env = {}, within = []) => {
    const lined = [...within, binary, 'doctor', '--json', ...args]
    const all = { ...process.env, PERCH_DATA: data, PERCH_LISTEN: `127.0.0.1:${port}`, ...env }
    const child = spawn(lined[0], lined.slice(1), { env: all, stdio: ['ignore', 'pipe', 'pipe'] })
    let [out, said] = ['', '']
    child.stdout.on('data', (text) => { out += text })
    child.stderr.on('data', (text) => { said += text })
    const code = await new Promise((resolve) => child.on('close', resolve))
    assert.ok(out, `it says something: ${said}`)
    const answer = JSON.parse(out)
    assert.equal(code, answer.ok ? 0 : 1)
    for (const check of answer.checks) assert.equal(check.state === 'ok', check.mend === undefined, JSON.stringify(check))
    return Object.fromEntries(answer.checks.map((check) => [check.name, check]))
  }
  const bad = async (name, pattern, ...how) => {
    const check = (await examine(...how))[name]
    assert.notEqual(check?.state, 'ok', `${name}: ${JSON.stringify(check)}`)
    assert.match(`${check.found}; ${check.mend}`, pattern)
    return check
  }
  const fresh = await examine()
  for (const name of ['isolation', 'seccomp', 'git', 'data folder', 'disk', 'database', 'clock', 'address']) {
    assert.notEqual(fresh[name]?.state, 'failed', JSON.stringify(fresh[name]))
  }
  assert.ok(!fs.existsSync(data), 'it makes nothing')
  await start()
  const b = await branch()
  const running = await examine()
  assert.match(running.address.found, /in use, and a perch runs/)
  assert.match(running.database.found, process.env.DATABASE_URL ? /Postgres \d/ : /SQLite \d.*whole/)
  assert.match(running.tables.found, /at step \d/)
  assert.equal((await api('GET', `/v1/branches/${b.id}`)).status, 200, 'perch is not disturbed')
  const { code, said } = await command(['doctor'], { PERCH_LISTEN: `127.0.0.1:${port}` })
  assert.equal(code, 0, said)
  assert.match(said, /^ok {6}git: git version/m)
  perch.kill('SIGTERM')
  await perch.ended
  // One thing after the other is made wrong.
  const taken = net.createServer().listen(port, '127.0.0.1')
  await new Promise((resolve) => taken.on('listening', resolve))
  await bad('address', /in use.*--listen/)
  taken.close()
  fs.chmodSync(data, 0o755)
  await bad('data folder', /open to others.*chmod 700/)
  fs.chmodSync(data, 0o700)
  await bad('data folder', /--data/, ['--data', '/proc/nowhere'])
  await bad('open files', /--max-connections=1000000/, ['--max-connections', '1000000'], {}, ['prlimit', '--nofile=4096:4096'])
  await bad('database', /DATABASE_URL/, [], { DATABASE_URL: 'postgres://nobody:secret-word@127.0.0.1:9/none' })
  const git = path.join(temp, 'old')
  fs.mkdirSync(git)
  fs.writeFileSync(path.join(git, 'git'), '#!/bin/sh\necho git version 2.20.1\n', { mode: 0o755 })
  await bad('git', /too old.*install git 2\.38/, [], { PATH: `${git}:${process.env.PATH}` })
  await bad('git', /can't be started/, [], { PATH: '/nowhere' })
  await bad('isolation', /not kept apart/, ['--isolation', 'none'])
  const fenced = ['unshare', '--user', '--map-root-user', 'sh', '-c', 'echo 0 > /proc/sys/user/max_user_namespaces; echo 3 > /proc/sys/user/max_inotify_watches; exec "$@"', 'sh']
  await bad('isolation', /no sandbox can be made/, [], {}, fenced)
  await bad('inotify', /3 watches.*fs\.inotify\.max_user_watches/, [], {}, fenced)
  if (!process.env.DATABASE_URL) {
    execFileSync('python3', ['-c', `import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("insert into _sqlx_migrations select 9999, description, installed_on, success, checksum, execution_time from _sqlx_migrations limit 1")`, path.join(data, 'perch.sqlite')])
    await bad('tables', /made by a later perch/)
    fs.writeFileSync(path.join(data, 'perch.sqlite'), 'no database at all, but long enough to be looked at as one'.repeat(100))
    await bad('database', /restore a backup/)
  }
}

/** One who asks too often is told when to come back; nobody else notices. */
export async function paced() {
  // Each client names its own address, as behind a proxy: this machine's own are not counted.
  await start({}, ['--trusted-proxy', '127.0.0.1', '--rate-per-address', '1', '--rate-per-token', '2'])
  const from = (address, headers = {}) => ({ 'x-forwarded-for': address, ...headers })
  const asks = (headers, route = '/v1/openapi.json') => fetch(url + route, { headers })
  const until = async (what, ask) => {
    for (let n = 0; n < 20_000; n++) {
      const answer = await ask()
      if (answer.status === 429) return { answer, n }
      await answer.arrayBuffer()
    }
    throw new Error(`${what}: never refused`)
  }
  const { answer, n } = await until('an address', () => asks(from('192.0.2.1')))
  assert.ok(n >= 20, 'so many are let through at once')
  assert.equal(answer.headers.get('content-type'), 'application/problem+json')
  assert.ok(Number(answer.headers.get('retry-after')) >= 1)
  assert.equal((await answer.json()).code, 'too_many_requests')
  for (const route of ['/', '/nowhere', '/v1/branches', '/docs']) {
    await until(route, () => asks(from('192.0.2.1'), route))
  }
  assert.equal((await asks(from('192.0.2.1'), '/readyz')).status, 200, 'who looks whether perch is well is never refused')
  assert.equal((await asks(from('192.0.2.2'))).status, 200, 'others are let through')
  assert.equal((await asks({})).status, 200, "this machine's own too")
  // A host has a whole network of IPv6.
  let last = 0
  await until('a network', () => asks(from(`2001:db8::${(++last % 60_000).toString(16)}`)))
  // A token, wherever it comes from; another is let through.
  const tokens = await Promise.all(['a', 'b'].map(async (name) => (await (await api('POST', '/v1/tokens', { name })).json()).token))
  const of = (token) => asks({ authorization: `Bearer ${token}` }, '/v1/branches')
  await until('a token', () => of(tokens[0]))
  assert.equal((await of(tokens[1])).status, 200)
  // Tokens that are tried count for many.
  const tried = await until('guesses', () => asks(from('192.0.2.3', { authorization: `Bearer guess${Math.random()}` }), '/v1/branches'))
  assert.ok(tried.n < 20, `${tried.n} guesses`)
  const metrics = await eventually('measured', async () => {
    const answer = await api('GET', '/metrics')
    return answer.status === 200 && answer.text()
  })
  for (const reason of ['address', 'token']) assert.match(metrics, new RegExp(`perch_requests_refused_total\\{reason="${reason}"\\} \\d`))
  // So many requests on one branch at once, and others are not held up.
  await crash()
  await start({}, ['--max-branch-requests', '3'])
  const [b, other] = [await branch(), await branch()]
  const slow = await Promise.all([0, 1, 2].map(async (n) => {
    const socket = net.connect(port, '127.0.0.1')
    let said = ''
    socket.on('data', (data) => { said += data })
    const heard = (what) => eventually(what, () => said.includes(what))
    socket.write(`PUT /v1/branches/${b.id}/files/${n}.bin HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${owner}\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n`)
    // It is being answered: perch asks for its body.
    await heard('HTTP/1.1 100')
    return { socket, heard }
  }))
  const busy = await api('GET', `/v1/branches/${b.id}`)
  assert.equal(busy.status, 503)
  assert.equal(busy.headers.get('retry-after'), '1')
  assert.equal((await busy.json()).code, 'busy')
  assert.equal((await api('GET', `/v1/branches/${other.id}`)).status, 200)
  for (const { socket, heard } of slow) {
    socket.write('body')
    await heard('HTTP/1.1 201')
    socket.destroy()
  }
  await eventually('free again', async () => (await api('GET', `/v1/branches/${b.id}`)).status === 200)
  assert.match(await (await api('GET', '/metrics')).text(), /perch_requests_refused_total\{reason="branch"\} \d/)
}

/** A collector gets the spans of requests and sockets where it is asked for, nothing of what is secret, and holds nothing up. */
export async function traced() {
  const got = []
  const sockets = new Set()
  const collector = http.createServer((request, answer) => {
    const parts = []
    request.on('data', (part) => parts.push(part))
    request.on('end', () => {
      got.push({ url: request.url, type: request.headers['content-type'], body: Buffer.concat(parts) })
      answer.end()
    })
  })
  collector.on('connection', (socket) => { sockets.add(socket) })
  await new Promise((resolve) => collector.listen(0, '127.0.0.1', resolve))
  const endpoint = `http://127.0.0.1:${collector.address().port}`
  const all = () => Buffer.concat(got.map(({ body }) => body)).toString('latin1')
  // Off by default.
  await start()
  await (await api('GET', '/v1/branches')).text()
  perch.kill('SIGTERM')
  assert.deepEqual(await perch.ended, { code: 0, signal: null })
  assert.equal(sockets.size, 0)
  // A short delay, so that something comes while perch runs.
  const log = { text: '' }
  await start({ OTEL_BSP_SCHEDULE_DELAY: '200' }, ['--otlp-endpoint', endpoint], log)
  const b = await branch()
  const s = await session(b, 'ann', 'write', { env: { WORD: 'a-secret-of-the-environment' }, git_credentials: [{ protocol: 'https', host: 'git.example.org', username: 'ann', token: 'a-token-of-git' }] })
  const editor = yClient(s, 'a.txt')
  await eventually('synced', () => editor.synced())
  editor.text.insert(0, 'a-text-that-was-typed')
  const link = await (await api('POST', `/v1/branches/${b.id}/links`, { permission: 'read' })).json()
  const guest = await (await fetch(`${url}/v1/links/${link.secret}/session`, { method: 'POST' })).json()
  const download = await (await api('POST', `/v1/branches/${b.id}/downloads`, { path: 'a.txt' })).json()
  assert.equal((await fetch(download.url)).status, 200)
  await (await api('POST', `/v1/branches/${b.id}/exec`, { shell: 'echo a-secret-command', session: 'ann' })).text()
  await fetch(`${url}/v1/links/${link.secret}/sesion?a-secret-query=1`, { method: 'POST' })
  await api('POST', '/v1/branches', { name: 'clone', git: { url: 'https://127.0.0.1:1/none.git', token: 'a-token-of-a-clone' } })
  editor.stop()
  await eventually('spans come while it runs', () => all().includes('/v1/links/{secret}/session'))
  perch.kill('SIGTERM')
  assert.deepEqual(await perch.ended, { code: 0, signal: null })
  for (const { url, type } of got) {
    assert.equal(url, '/v1/traces')
    assert.equal(type, 'application/x-protobuf')
  }
  const sent = all()
  for (const word of ['service.name', 'perch', 'request', 'GET', `/v1/branches/${b.id}`, '/v1/downloads/{token}', 'socket closed']) {
    assert.ok(sent.includes(word), `${word} is in what was sent`)
  }
  const secrets = [owner, s.token, guest.token, link.secret, download.url.split('/').at(-1), 'a-secret', 'a-token', 'a-text', 'Bearer']
  for (const secret of secrets) assert.ok(!sent.includes(secret), `${secret} was sent`)
  // A collector that takes nothing, and one that is away, hold nothing up.
  const deaf = net.createServer(() => {})
  await new Promise((resolve) => deaf.listen(0, '127.0.0.1', resolve))
  for (const port of [deaf.address().port, 1]) {
    await start({ OTEL_BSP_SCHEDULE_DELAY: '100' }, ['--otlp-endpoint', `http://127.0.0.1:${port}`], log)
    for (let n = 0; n < 50; n++) assert.equal((await api('GET', '/v1/branches')).status, 200)
    perch.kill('SIGTERM')
    assert.deepEqual(await perch.ended, { code: 0, signal: null })
  }
  for (const socket of sockets) socket.destroy()
  collector.close()
  deaf.close()
}
