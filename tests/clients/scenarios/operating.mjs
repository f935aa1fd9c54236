// What an operator meets: logs, errors, metrics, proxies, TLS, the end.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import fs from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import net from 'node:net'
import path from 'node:path'
import WebSocket from 'ws'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'
import { api, atRest, binary, branch, clients, crash, data, eventually, freePort, hClient, line, owner, perch, port, runIn, session, start, temp, token, url, yClient } from '../harness.mjs'

/** Starts perch so that it must fail; gives what it said. */
export const refused = async (env, args = [], within = 60_000) => {
  const base = { ...process.env, PERCH_OWNER_TOKEN: owner, PERCH_DATA: data, PERCH_LISTEN: '127.0.0.1:0' }
  const child = spawn(binary, ['serve', ...args], { env: { ...base, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  for (const from of [child.stdout, child.stderr]) from.on('data', (data) => { said += data })
  const timer = setTimeout(() => child.kill('SIGKILL'), within)
  const code = await new Promise((resolve) => child.on('close', resolve))
  clearTimeout(timer)
  assert.ok(code > 0, `it ends by itself with an error, not ${code}: ${said}`)
  return said
}

async function problem(answer, status, code) {
  assert.equal(answer.status, status)
  assert.equal(answer.headers.get('content-type'), 'application/problem+json')
  const body = await answer.json()
  assert.equal(body.code, code)
  assert.equal(body.status, status)
  assert.ok(body.title && body.detail && body.type)
  assert.ok(answer.headers.get('x-request-id'))
  return body
}

/** Where the system allows no more watches, open documents see what is written to their files all the same. */
export async function unwatched() {
  // Of a user namespace, whose root may set its own bounds.
  runIn(['unshare', '--user', '--map-root-user', 'sh', '-c', 'echo 3 > /proc/sys/user/max_inotify_watches && exec "$@"', 'sh'])
  const log = { text: '' }
  await start({}, ['--isolation', 'none'], log)
  const [small, b] = [await branch({ name: 'small' }), await branch({ name: 'large' })]
  for (const name of ['a', 'b', 'c', 'd']) fs.mkdirSync(path.join(b.files, name))
  for (const [at, tokens] of [[small, ['one']], [b, ['one']]]) {
    const file = path.join(at.files, 'a.txt')
    fs.writeFileSync(file, 'one\n')
    const ann = yClient(await session(at, 'ann'), 'a.txt')
    await eventually('synced', () => ann.synced())
    for (let turn = 0; turn < 2; turn++) {
      line(ann, 'ann', tokens)
      await eventually('written', () => fs.readFileSync(file, 'utf8').includes(tokens.at(-1)))
      const written = token('disk')
      tokens.push(written)
      fs.appendFileSync(file, `${written}\n`)
      await eventually('seen', () => ann.text.toString().includes(written))
    }
    await atRest(file, [ann], tokens)
    const warned = log.text.split('\n').filter((line) => line.includes("can't be watched"))
    assert.deepEqual(warned.map((line) => line.includes(at.id)), at === small ? [] : [true], warned.join('\n'))
  }
  assert.match(log.text, /fs\.inotify\.max_user_watches/)
}

/** Every error is a problem, whoever finds it. */
export async function problems() {
  await start({}, ['--max-document-bytes', '1000000'])
  const b = await branch()
  const s = await session(b, 'ann', 'read')
  for (const headers of [{}, { authorization: 'Bearer nonsense' }, { authorization: 'Basic Og==' }]) {
    const answer = await fetch(`${url}/v1/branches`, { headers })
    assert.equal(answer.headers.get('www-authenticate'), 'Bearer')
    await problem(answer, 401, 'unauthorized')
  }
  await problem(await fetch(`${url}/metrics`), 401, 'unauthorized')
  await problem(await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${s.token}` } }), 403, 'forbidden')
  await problem(await api('GET', '/nowhere'), 404, 'not_found')
  await problem(await api('GET', '/v1/branches/br_nothing'), 404, 'not_found')
  const wrong = await api('DELETE', '/v1/branches')
  assert.ok(wrong.headers.get('allow').includes('POST'))
  await problem(wrong, 405, 'method_not_allowed')
  await problem(await api('GET', '/v1/branches?limit=many'), 400, 'bad_request')
  const json = { 'content-type': 'application/json' }
  await problem(await api('POST', '/v1/branches', '{', json), 400, 'bad_request')
  await problem(await api('POST', '/v1/branches', '{"nome": 1}', json), 400, 'bad_request')
  const large = `{"name": "${'x'.repeat(3 << 20)}"}`
  await problem(await api('POST', '/v1/branches', large, json), 413, 'too_large')
  await problem(await api('POST', '/v1/branches', '{"name": "x"}', { 'content-type': 'text/plain' }), 415, 'unsupported_media_type')
  await problem(await api('GET', `/v1/branches/${b.id}/collab`), 400, 'bad_request')
  // Upgrades: what is wrong is said before the switch.
  const upgrade = (route, headers = {}) => new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}${route}`, { headers })
    socket.on('open', () => reject(new Error('was accepted')))
    socket.on('unexpected-response', (_, answer) => {
      let said = ''
      answer.on('data', (data) => { said += data }).on('end', () => resolve({ status: answer.statusCode, ...JSON.parse(said) }))
    })
  })
  assert.equal((await upgrade(`/v1/branches/${b.id}/docs/a.txt`)).code, 'unauthorized')
  assert.equal((await upgrade(`/v1/branches/${b.id}/docs/a.txt?token=${owner}`)).code, 'unauthorized')
  const foreign = { origin: 'https://evil.example' }
  assert.equal((await upgrade(`/v1/branches/${b.id}/docs/a.txt?token=${s.token}`, foreign)).code, 'forbidden')
  assert.equal((await upgrade(`/v1/branches/${b.id}/collab`, foreign)).code, 'forbidden')
}

/** The OpenAPI document is whole, and what it lists is there and closed to strangers. */
export async function openapi() {
  await start()
  const b = await branch()
  const answer = await fetch(`${url}/v1/openapi.json`)
  const document = await answer.json()
  assert.match(document.openapi, /^3\.1\./)
  assert.ok(document.info.version)
  const resolve = (reference) => reference.slice(2).split('/').reduce((at, key) => at?.[key], document)
  const walk = (value) => {
    if (value === null || typeof value !== 'object') return
    if (typeof value.$ref === 'string') assert.ok(resolve(value.$ref), `${value.$ref} is there`)
    Object.values(value).forEach(walk)
  }
  walk(document)
  const tags = new Set(document.tags.map((tag) => tag.name))
  const names = new Set()
  let closed = 0
  for (const [template, item] of Object.entries(document.paths)) {
    assert.ok(!template.includes('*'), template)
    const inPath = [...template.matchAll(/\{(\w+)\}/g)].map(([, name]) => name)
    for (const [method, operation] of Object.entries(item)) {
      const what = `${method} ${template}`
      assert.ok(operation.summary, `${what} says what it does`)
      assert.ok(operation.tags.every((tag) => tags.has(tag)), `the tags of ${what} are described: ${operation.tags}`)
      assert.ok(!names.has(operation.operationId), `${operation.operationId} is unique`)
      names.add(operation.operationId)
      const documented = (operation.parameters ?? []).filter((one) => one.in === 'path').map((one) => one.name)
      assert.deepEqual(documented.toSorted(), inPath.toSorted(), `path parameters of ${what}`)
      assert.equal(operation.responses.default.content['application/problem+json'].schema.$ref, '#/components/schemas/Problem')
      const isOpen = operation.security?.some((way) => Object.keys(way).length === 0)
      if (isOpen) continue
      closed++
      const route = template.replaceAll(/\{(\w+)\}/g, (_, name) => (name === 'branch' ? b.id : 'x'))
      const isSocket = '101' in operation.responses
      const headers = isSocket
        ? { connection: 'upgrade', upgrade: 'websocket', 'sec-websocket-version': '13', 'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==' }
        : {}
      const { status, body } = await new Promise((resolve, reject) => {
        http.request(url + route, { method: method.toUpperCase(), headers }, (answer) => {
          let said = ''
          answer.on('data', (data) => { said += data }).on('end', () => resolve({ status: answer.statusCode, body: said }))
        }).on('error', reject).end()
      })
      assert.equal(status, 401, `${what} without a token: ${body}`)
      assert.equal(JSON.parse(body).code, 'unauthorized', what)
    }
  }
  assert.ok(closed > 8, 'the document lists routes')
  // The reader needs nothing from outside.
  const page = await fetch(`${url}/docs`)
  assert.match(page.headers.get('content-security-policy'), /default-src 'self'/)
  const markup = await page.text()
  assert.ok(!/https?:/.test(markup), 'no address of elsewhere')
  for (const [, asset] of markup.matchAll(/(?:src|href)="(\/[^"]+)"/g)) {
    const got = await fetch(url + asset)
    assert.equal(got.status, 200, asset)
    assert.ok(!/https?:\/\//.test(asset.endsWith('.json') ? '' : await got.text()), asset)
  }
}

/** Metrics, request ids, reverse proxies, other origins; and no token in any log, at the highest level. */
export async function observed() {
  const b = await (async () => {
    await start({ PERCH_LOG: 'trace', PERCH_LOG_FORMAT: 'json' }, ['--trusted-proxy', '127.0.0.2', '--allowed-origin', 'https://app.example'])
    return branch()
  })()
  const s = await session(b, 'ann')
  const [ann, bob] = [yClient(s, 'a.txt'), hClient(await session(b, 'bob'), 'a.txt')]
  await eventually('synced', () => ann.synced() && bob.synced())
  const tokens = []
  line(ann, 'ann', tokens)
  line(bob, 'bob', tokens)
  await atRest(path.join(b.files, 'a.txt'), [ann, bob], tokens)
  fs.appendFileSync(path.join(b.files, 'a.txt'), 'outside\n')
  await atRest(path.join(b.files, 'a.txt'), [ann, bob], [...tokens, 'outside'])
  const malformed = new WebSocket(`${s.docs_url}/a.txt?token=${s.token}`)
  malformed.on('open', () => malformed.send(Buffer.from([9, 9, 9])))
  assert.equal(await new Promise((resolve) => malformed.on('close', resolve)), 4400)
  await fetch(`${url}/v1/branches?token=${s.token}&api=${owner}`)
  await fetch(`${url}/v1/branches/${b.id}/docs/a.txt?token=${s.token}`)
  await api('GET', `/v1/branches?limit=${s.token}`)
  await fetch(`${url}/v1/branches`, { headers: { authorization: `Bearer ${s.token}x` } })
  bob.stop()
  const metrics = await eventually('bob is gone', async () => {
    const text = await (await api('GET', '/metrics')).text()
    return text.includes('perch_sockets{protocol="hocuspocus"} 0') && text
  })
  for (const expected of [
    'perch_sockets{protocol="y-websocket"} 1', 'perch_documents 1', 'perch_frames_refused_total{protocol="y-websocket"} 1',
    'perch_outside_merges_total 1', 'perch_database_stuck 0', /perch_write_backs_total [1-9]/, /perch_log_group_size_count [1-9]/,
    /perch_log_commit_seconds_count [1-9]/, /perch_connections [1-9]/,
    'perch_http_requests_total{method="POST",route="/v1/branches/{branch}/sessions",status="200"} 2',
    /perch_http_request_seconds_bucket\{method="GET",route="\/readyz",le="0.5"\} [1-9]/
  ]) {
    assert.ok(expected instanceof RegExp ? expected.test(metrics) : metrics.includes(expected), `${expected} in\n${metrics}`)
  }
  // Proxies: 127.0.0.2 is believed, 127.0.0.1 is not.
  const forwarded = { 'x-forwarded-for': '9.9.9.9, 1.2.3.4', 'x-forwarded-proto': 'https', 'x-forwarded-host': 'code.example', 'x-request-id': 'from-the-proxy' }
  const ask = (localAddress) => new Promise((resolve, reject) => {
    const headers = { ...forwarded, authorization: `Bearer ${owner}`, 'content-type': 'application/json' }
    const request = http.request(`${url}/v1/branches/${b.id}/sessions`, { method: 'POST', localAddress, headers }, (answer) => {
      let said = ''
      answer.on('data', (data) => { said += data }).on('end', () => resolve({ id: answer.headers['x-request-id'], ...JSON.parse(said), request: answer.headers['x-request-id'] }))
    }).on('error', reject)
    request.end('{"permission": "read"}')
  })
  const proxied = await ask('127.0.0.2')
  assert.equal(proxied.docs_url, `wss://code.example/v1/branches/${b.id}/docs`)
  assert.equal(proxied.request, 'from-the-proxy')
  const direct = await ask('127.0.0.1')
  assert.equal(direct.docs_url, `ws://127.0.0.1:${port}/v1/branches/${b.id}/docs`)
  assert.notEqual(direct.request, 'from-the-proxy')
  // Pages of an allowed origin may use the API, others may not.
  const preflight = (origin, route) => fetch(url + route, {
    method: 'OPTIONS',
    headers: { origin, 'access-control-request-method': 'PUT', 'access-control-request-headers': 'authorization,if-match' }
  })
  const allowed = await preflight('https://app.example', `/v1/branches/${b.id}/files/a.txt`)
  assert.equal(allowed.headers.get('access-control-allow-origin'), 'https://app.example')
  assert.match(allowed.headers.get('access-control-allow-methods'), /PUT/)
  assert.match(allowed.headers.get('access-control-allow-headers'), /authorization/)
  assert.equal(allowed.headers.get('access-control-allow-credentials'), null)
  assert.equal((await preflight('https://evil.example', '/v1/branches')).headers.get('access-control-allow-origin'), null)
  assert.equal((await preflight('https://app.example', '/metrics')).headers.get('access-control-allow-origin'), null)
  const read = await api('GET', `/v1/branches/${b.id}/files/a.txt`, undefined, { origin: 'https://app.example' })
  assert.equal(read.headers.get('access-control-allow-origin'), 'https://app.example')
  assert.match(read.headers.get('access-control-expose-headers'), /etag/)
  // One line per request, all lines of a request with its id, sockets with their end.
  const id = read.headers.get('x-request-id')
  const lines = await eventually('the line of the request', () => {
    const all = perch.said.split('\n').filter((text) => text.startsWith('{')).map((text) => JSON.parse(text))
    return all.some((one) => one.span?.id === id) && all
  })
  const [answered] = lines.filter((one) => one.span?.id === id && one.fields.message === 'answered')
  assert.equal(answered.span.path, `/v1/branches/${b.id}/files/a.txt`)
  assert.equal(answered.fields.status, 200)
  assert.equal(answered.span.remote, '127.0.0.1')
  assert.equal(lines.find((one) => one.span?.id === 'from-the-proxy').span.remote, '1.2.3.4')
  assert.ok(lines.some((one) => one.fields.message === 'socket closed' && one.fields.code === 4400 && one.span.id))
  assert.ok(lines.some((one) => one.fields.message === 'socket closed by the other end' && one.span.path.endsWith('/collab')))
  perch.kill('SIGTERM')
  await perch.ended
  for (const secret of [owner, s.token, proxied.token, s.token.split('.')[2]]) assert.ok(!perch.said.includes(secret), 'no secret is logged')
  assert.ok(!perch.said.includes('token='), 'no query is logged')
}

/** SIGTERM: sockets come back later, documents are on disk, idle connections do not keep it. */
export async function stops() {
  await start()
  const b = await branch()
  const ann = yClient(await session(b, 'ann'), 'a.txt')
  const bob = hClient(await session(b, 'bob'), 'b.txt')
  await eventually('synced', () => ann.synced() && bob.synced())
  const codes = []
  ann.provider.on('connection-close', (event) => codes.push(event?.code))
  bob.socket.on('close', ({ event }) => codes.push(event?.code))
  const idle = net.connect(port, '127.0.0.1')
  const agent = new http.Agent({ keepAlive: true })
  await new Promise((resolve) => http.get(`${url}/healthz`, { agent }, (answer) => answer.resume().on('end', resolve)))
  ann.text.insert(0, 'typed last\n')
  bob.text.insert(0, 'typed last\n')
  await eventually('acknowledged', () => bob.synced() && fs.existsSync(data))
  perch.kill('SIGTERM')
  assert.deepEqual(await perch.ended, { code: 0, signal: null })
  for (const name of ['a.txt', 'b.txt']) assert.equal(fs.readFileSync(path.join(b.files, name), 'utf8'), 'typed last\n')
  await eventually('told to come back', () => codes.filter((code) => code === 1013).length >= 2)
  idle.destroy()
  agent.destroy()
  await start()
  await eventually('they are back', () => ann.synced() && bob.synced())
  // A second signal does not wait: here for a request whose body never ends.
  const slow = http.request(`${url}/v1/branches/${b.id}/files/c.txt`, { method: 'PUT', headers: { authorization: `Bearer ${owner}`, 'content-length': 10, expect: '100-continue' } })
  slow.on('error', () => {})
  // Said once somebody waits for the body.
  const isUnderWay = new Promise((resolve) => slow.on('continue', resolve))
  slow.flushHeaders()
  await isUnderWay
  slow.write('x')
  perch.kill('SIGTERM')
  await eventually('it stops', () => perch.said.includes('stopping'))
  perch.kill('SIGINT')
  const { code } = await perch.ended
  assert.notEqual(code, 0, 'it did not stop in order')
}

/** A connection that does not speak is closed, and no more are served than are allowed. */
export async function crowded() {
  await start({}, ['--idle-timeout', '1', '--max-connections', '4'])
  const slow = net.connect(port, '127.0.0.1')
  slow.write('GET /healthz HTTP/1.1\r\nhost: x\r\n')
  await new Promise((resolve) => slow.on('close', resolve).on('error', () => {}).resume())
  const held = await Promise.all(Array.from({ length: 4 }, () => new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1', () => resolve(socket))
  })))
  await new Promise((resolve) => setTimeout(resolve, 200))
  let answered = false
  const waiting = fetch(`${url}/healthz`).then((answer) => { answered = answer.status === 200 })
  await new Promise((resolve) => setTimeout(resolve, 300))
  assert.ok(!answered, 'the fifth waits')
  for (const socket of held) socket.destroy()
  await waiting
  assert.ok(answered, 'and is served when there is room')
}

function certificate(name) {
  const [key, cert] = [path.join(temp, `${name}.key`), path.join(temp, `${name}.pem`)]
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
    '-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', cert], { stdio: 'pipe' })
  return { key, cert }
}

/** TLS by perch itself: https, wss, HTTP/2, and a new certificate without a restart. */
export async function tls() {
  const [one, two] = [certificate('one'), certificate('two')]
  const [cert, key] = [path.join(temp, 'cert.pem'), path.join(temp, 'key.pem')]
  const use = (pair) => { fs.copyFileSync(pair.cert, cert); fs.copyFileSync(pair.key, key) }
  use(one)
  assert.match(await refused({}, ['--tls-cert', cert]), /--tls-key/)
  assert.match(await refused({}, ['--tls-cert', cert, '--tls-key', two.key]), /do not fit together/)
  assert.match(await refused({}, ['--tls-cert', path.join(temp, 'absent.pem'), '--tls-key', key]), /--tls-cert.*absent\.pem/)
  const secure = `https://127.0.0.1:${port}`
  const env = { ...process.env, PERCH_OWNER_TOKEN: owner, PERCH_DATA: data, PERCH_LISTEN: `127.0.0.1:${port}` }
  const child = spawn(binary, ['serve', '--tls-cert', cert, '--tls-key', key], { env, stdio: ['ignore', 'inherit', 'inherit'] })
  const ended = new Promise((resolve) => child.on('exit', resolve))
  try {
    const ca = [fs.readFileSync(one.cert), fs.readFileSync(two.cert)]
    const ask = (method, route, body) => new Promise((resolve, reject) => {
      const headers = { authorization: `Bearer ${owner}`, 'content-type': 'application/json' }
      const request = https.request(secure + route, { method, ca, headers, agent: false }, (answer) => {
        const subject = answer.socket.getPeerCertificate().subject.CN
        let said = ''
        answer.on('data', (data) => { said += data }).on('end', () => resolve({ status: answer.statusCode, said, subject }))
      }).on('error', reject)
      request.end(body && JSON.stringify(body))
    })
    await eventually('ready', async () => (await ask('GET', '/readyz')).status === 200)
    const { id } = JSON.parse((await ask('POST', '/v1/branches', { name: 'tls' })).said)
    const s = JSON.parse((await ask('POST', `/v1/branches/${id}/sessions`, { permission: 'write' })).said)
    assert.equal(s.docs_url, `wss://127.0.0.1:${port}/v1/branches/${id}/docs`)
    const doc = new Y.Doc()
    const Trusting = class extends WebSocket { constructor(address, protocols) { super(address, protocols, { ca }) } }
    const provider = new WebsocketProvider(s.docs_url, 'a.txt', doc, { params: { token: s.token }, WebSocketPolyfill: Trusting, disableBc: true })
    clients.push({ stop: () => provider.destroy() })
    await eventually('synced', () => provider.synced)
    doc.getText('content').insert(0, 'over TLS\n')
    await eventually('on disk', () => fs.readFileSync(path.join(data, 'branches', id, 'workspace/a.txt'), 'utf8') === 'over TLS\n')
    const h2 = execFileSync('curl', ['-sS', '--http2', '--cacert', one.cert, '-o', '/dev/null', '-w', '%{http_version} %{http_code}', `${secure}/readyz`])
    assert.equal(h2.toString(), '2 200')
    assert.equal((await ask('GET', '/readyz')).subject, 'one')
    fs.writeFileSync(cert, 'broken')
    child.kill('SIGHUP')
    assert.equal((await ask('GET', '/readyz')).subject, 'one', 'what is broken is not taken')
    use(two)
    child.kill('SIGHUP')
    await eventually('the new certificate', async () => (await ask('GET', '/readyz')).subject === 'two')
    assert.ok(provider.synced, 'open sockets stay')
    child.kill('SIGTERM')
    assert.equal(await ended, 0)
  } finally {
    child.kill('SIGKILL')
  }
}

/** What is in the way of a start is said in one clear line. */
export async function refusals() {
  const lastLine = (said) => said.trim().split('\n').at(-1)
  const file = path.join(temp, 'a-file')
  fs.writeFileSync(file, '')
  assert.match(lastLine(await refused({ PERCH_DATA: file })), /--data: can't make the data folder .*a-file/)
  assert.match(await refused({}, ['--listen', 'nowhere']), /invalid value 'nowhere' for '--listen/)
  assert.match(await refused({ PERCH_PUBLIC_URL: 'ftp://x' }), /invalid value 'ftp:\/\/x' for '--public-url/)
  const site = { PERCH_PUBLIC_URL: 'https://code.example.org', PERCH_PREVIEW_DOMAIN: 'preview.example.org' }
  assert.match(lastLine(await refused(site)), /--preview-domain: previews beneath `preview.example.org` would be of the same site as `code.example.org`/)
  assert.match(await refused({ PERCH_SESSION_NETWORK_ALLOW: 'git.lan' }), /invalid value 'git.lan' for '--session-network-allow/)
  assert.match(await refused({ PERCH_OWNER_TOKEN: 'short' }), /PERCH_OWNER_TOKEN must have 16 or more/)
  assert.match(await refused({ PERCH_LOG: 'perch=loud' }), /PERCH_LOG: `perch=loud` is no log filter/)
  // It waits for its database for half a minute: meanwhile the others are seen.
  const nobody = `postgres://perch:secret@127.0.0.1:${await freePort()}/perch`
  const without = process.env.DATABASE_URL ? null : refused({ PERCH_DATA: path.join(temp, 'elsewhere'), DATABASE_URL: nobody })
  const secret = 'postgres:/oops:secret'
  const malformed = await refused({ DATABASE_URL: secret })
  assert.match(malformed, /--database-url \(DATABASE_URL\)/)
  assert.ok(!malformed.includes('secret'), malformed)
  await start()
  assert.match(lastLine(await refused({})), /another perch uses the data folder .*; stop it or give --data/)
  if (process.env.DATABASE_URL) {
    const elsewhere = { PERCH_DATA: path.join(temp, 'elsewhere') }
    assert.match(lastLine(await refused(elsewhere)), /another perch uses this database; stop it/)
    const absent = process.env.DATABASE_URL.replace(/\/[^/]+$/, '/perch_absent')
    assert.match(lastLine(await refused({ ...elsewhere, DATABASE_URL: absent })), /database "perch_absent" does not exist/)
  } else {
    const said = await without
    assert.match(said, /trying again for 30 s/)
    assert.match(lastLine(said), /can't open the database.*Connection refused/)
    assert.ok(!said.includes('secret'), said)
  }
  const taken = { PERCH_DATA: path.join(temp, 'third'), PERCH_LISTEN: `127.0.0.1:${port}` }
  if (!process.env.DATABASE_URL) assert.match(lastLine(await refused(taken)), /can't listen on 127\.0\.0\.1:\d+.*in use/)
  // Nothing of it is in the way after a kill.
  await crash()
  await start()
}

/** Behind nginx with TLS, as `deploy/nginx.conf` has it: sockets, large bodies, generated URLs. */
export async function proxied() {
  const pair = certificate('nginx')
  const front = await freePort()
  const folder = path.join(temp, 'nginx')
  fs.mkdirSync(folder)
  const swap = (text, ...pairs) => pairs.reduce((all, [from, to]) => {
    assert.ok(all.includes(from), `${from} in nginx.conf`)
    return all.replaceAll(from, to)
  }, text)
  const site = swap(fs.readFileSync(new URL('../../../deploy/nginx.conf', import.meta.url), 'utf8'),
    ['127.0.0.1:7744', `127.0.0.1:${port}`], ['listen 443 ssl', `listen 127.0.0.1:${front} ssl`],
    ['/etc/ssl/code.example.org.pem', pair.cert], ['/etc/ssl/code.example.org.key', pair.key],
    ['/var/log/nginx/perch.log', `${folder}/perch.log`])
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${folder}/${kind};`).join(' ')
  fs.writeFileSync(`${folder}/nginx.conf`, `daemon off; pid ${folder}/pid; error_log ${folder}/error.log; events {} http { ${paths} ${site} }`)
  await start({}, ['--trusted-proxy', '127.0.0.1'])
  // Workers as root: the folder is root's own.
  const user = process.getuid() === 0 ? ['-g', 'user root;'] : []
  const nginx = spawn('/usr/sbin/nginx', ['-p', folder, '-c', `${folder}/nginx.conf`, ...user], { stdio: 'inherit' })
  const ended = new Promise((resolve) => nginx.on('exit', resolve))
  try {
    const ca = fs.readFileSync(pair.cert)
    const ask = (method, route, body) => new Promise((resolve, reject) => {
      const headers = { authorization: `Bearer ${owner}`, host: `127.0.0.1:${front}`, 'content-type': 'application/json' }
      const request = https.request(`https://127.0.0.1:${front}${route}`, { method, ca, headers }, (answer) => {
        let said = ''
        answer.on('data', (data) => { said += data }).on('end', () => resolve({ status: answer.statusCode, said }))
      }).on('error', reject)
      request.end(body)
    })
    await eventually('nginx answers', async () => (await ask('GET', '/readyz')).status === 200)
    const b = await branch()
    const s = JSON.parse((await ask('POST', `/v1/branches/${b.id}/sessions`, '{"permission": "write"}')).said)
    assert.equal(s.docs_url, `wss://127.0.0.1:${front}/v1/branches/${b.id}/docs`)
    const doc = new Y.Doc()
    const Trusting = class extends WebSocket { constructor(address, protocols) { super(address, protocols, { ca }) } }
    const provider = new WebsocketProvider(s.docs_url, 'a.txt', doc, { params: { token: s.token }, WebSocketPolyfill: Trusting, disableBc: true })
    clients.push({ stop: () => provider.destroy() })
    await eventually('synced', () => provider.synced)
    doc.getText('content').insert(0, 'through nginx\n')
    await eventually('on disk', () => fs.readFileSync(path.join(b.files, 'a.txt'), 'utf8') === 'through nginx\n')
    assert.equal((await ask('PUT', `/v1/branches/${b.id}/files/large.bin`, Buffer.alloc(20 << 20, 255))).status, 201)
    provider.disconnect()
    // nginx writes a socket's line when it ends.
    await eventually('the line of the socket', () => fs.readFileSync(`${folder}/perch.log`, 'utf8').includes('/docs/a.txt" 101'))
    assert.ok(!fs.readFileSync(`${folder}/perch.log`, 'utf8').includes('token'), 'no query in the log')
  } finally {
    nginx.kill('SIGTERM')
    await ended
  }
}
