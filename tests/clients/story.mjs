// Real, unmodified clients against the real binary. Usage: node story.mjs PERCH_BINARY SCENARIO
// Each scenario types unique tokens and, at rest, counts each exactly once in every editor and in the file.
import { HocuspocusProvider, HocuspocusProviderWebsocket } from '@hocuspocus/provider'
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import WebSocket from 'ws'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'

const [binary, scenario] = process.argv.slice(2)
const owner = 'owner-token-of-the-tests'
const temp = fs.mkdtempSync(path.join(os.tmpdir(), 'perch-story-'))
const data = path.join(temp, 'data')
const clients = []
let perch = null

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
async function eventually(what, check, within = Number(process.env.PERCH_PATIENCE ?? 30_000)) {
  const end = Date.now() + within
  let last
  for (;;) {
    try {
      const value = await check()
      if (value) return value
    } catch (error) {
      last = error
    }
    if (Date.now() > end) throw new Error(`never: ${what}${last ? `: ${last.message}` : ''}`)
    await sleep(25)
  }
}
const freePort = () => new Promise((resolve) => {
  const server = net.createServer().listen(0, '127.0.0.1', () => {
    const { port } = server.address()
    server.close(() => resolve(port))
  })
})
const port = await freePort()
const url = `http://127.0.0.1:${port}`

async function start(extra = {}) {
  const env = { ...process.env, PERCH_OWNER_TOKEN: owner, PERCH_DATA: data, PERCH_LISTEN: `127.0.0.1:${port}`, ...extra }
  perch = spawn(binary, ['serve', '--allow-local-git', temp], { env, stdio: ['ignore', 'inherit', 'inherit'] })
  perch.ended = new Promise((resolve) => perch.on('exit', (code, signal) => resolve({ code, signal })))
  await eventually('ready', async () => (await fetch(`${url}/readyz`)).status === 200, 15_000)
}
async function crash() {
  perch.kill('SIGKILL')
  await perch.ended
}
async function api(method, route, body, headers = {}) {
  const raw = body === undefined || typeof body === 'string' || body instanceof Uint8Array
  const type = raw ? {} : { 'content-type': 'application/json' }
  return fetch(url + route, {
    method,
    headers: { authorization: `Bearer ${owner}`, ...type, ...headers },
    body: raw ? body : JSON.stringify(body)
  })
}
async function branch(request = { name: 'story' }) {
  const answer = await api('POST', '/v1/branches', request)
  assert.equal(answer.status, 201)
  const { id } = await answer.json()
  await eventually('branch ready', async () => {
    const { state, error } = await (await api('GET', `/v1/branches/${id}`)).json()
    assert.notEqual(state, 'failed', error)
    return state === 'ready'
  })
  return { id, files: path.join(data, 'branches', id, 'workspace') }
}
async function session(b, id, permission = 'write') {
  const answer = await api('POST', `/v1/branches/${b.id}/sessions`, { id, permission, name: id.toUpperCase() })
  assert.equal(answer.status, 200, await answer.clone().text())
  return answer.json()
}
function yClient(s, file) {
  const doc = new Y.Doc()
  const provider = new WebsocketProvider(s.docs_url, file, doc, {
    params: { token: s.token }, WebSocketPolyfill: WebSocket, disableBc: true
  })
  const client = { doc, provider, text: doc.getText('content'), synced: () => provider.synced, stop: () => provider.destroy() }
  provider.on('closed', (event) => { client.closed = event })
  clients.push(client)
  return client
}
function hClient(s, file, socket) {
  const websocketProvider = socket ?? new HocuspocusProviderWebsocket({
    url: s.collab_url, WebSocketPolyfill: WebSocket, delay: 100, minDelay: 50, maxDelay: 500
  })
  const doc = new Y.Doc()
  const provider = new HocuspocusProvider({ websocketProvider, name: file, document: doc, token: s.token })
  provider.attach()
  const client = {
    doc, provider, socket: websocketProvider, text: doc.getText('content'),
    synced: () => provider.synced && provider.unsyncedChanges === 0,
    stop: () => { provider.destroy(); websocketProvider.destroy() }
  }
  provider.on('authenticationFailed', ({ reason }) => { client.refused = reason })
  clients.push(client)
  return client
}
const count = (text, token) => text.split(token).length - 1
async function atRest(file, editors, tokens) {
  let texts
  await eventually('all hold the same text', () => {
    texts = [fs.readFileSync(file, 'utf8').replaceAll('\r\n', '\n'), ...editors.map((editor) => editor.text.toString())]
    return texts.every((text) => text === texts[0]) && tokens.every((token) => count(texts[0], token) > 0)
  }).catch((error) => { throw new Error(`${error.message}\n${texts.map((t) => JSON.stringify(t.slice(0, 2000))).join('\n')}`) })
  for (const token of tokens) assert.equal(count(texts[0], token), 1, `${token} is there once`)
  return texts[0]
}
let made = 0
const token = (who) => `<${who}${++made}>`
function type(editor, text) {
  editor.text.insert(Math.floor(Math.random() * (editor.text.length + 1)), text)
}
/** Types a token as a line of its own, so that no other token is torn. */
function line(editor, who, tokens) {
  const one = token(who)
  const lines = editor.text.toString().split('\n')
  const at = lines.slice(0, Math.floor(Math.random() * lines.length)).join('\n').length
  editor.text.insert(at === 0 ? 0 : at + 1, `${one}\n`)
  tokens.push(one)
}

const scenarios = {
  /** The issue's closing test: a repository, two protocols, an outside writer, a hard kill. */
  async everyone() {
    const repository = path.join(temp, 'repository')
    fs.mkdirSync(repository)
    for (let n = 0; n < 2_000; n++) {
      const folder = path.join(repository, `d${n % 40}`)
      fs.mkdirSync(folder, { recursive: true })
      fs.writeFileSync(path.join(folder, `f${n}.txt`), `file ${n}\n`)
    }
    const git = (...args) => execFileSync('git', ['-C', repository, '-c', 'user.name=t', '-c', 'user.email=t@example.org', ...args])
    git('init', '-q')
    git('add', '.')
    git('commit', '-qm', 'first')
    await start()
    const b = await branch({ name: 'repository', git: { url: repository } })
    const file = path.join(b.files, 'd7/f7.txt')
    const ann = yClient(await session(b, 'ann'), 'd7/f7.txt')
    const bob = hClient(await session(b, 'bob'), 'd7/f7.txt')
    await eventually('both synced', () => ann.synced() && bob.synced())
    const tokens = ['file 7']
    const outside = () => {
      const one = token('disk')
      tokens.push(one)
      const now = fs.readFileSync(file, 'utf8')
      // A shell's append, or an editor's atomic save; only what it read may it write back.
      if (made % 2) fs.appendFileSync(file, `${one}\n`)
      else {
        fs.writeFileSync(`${file}.new`, `${one}\n${now}`)
        fs.renameSync(`${file}.new`, file)
      }
    }
    for (let round = 0; round < 30; round++) {
      line(ann, 'ann', tokens)
      line(bob, 'bob', tokens)
      if (round % 10 === 5) outside()
      await sleep(30)
    }
    await eventually('all acknowledged', () => bob.synced())
    await crash()
    line(ann, 'offline', tokens)
    line(bob, 'offline', tokens)
    await start()
    await eventually('both synced again', () => ann.synced() && bob.synced())
    line(bob, 'after', tokens)
    await atRest(file, [ann, bob], tokens)
    const late = yClient(await session(b, 'cyn', 'read'), 'd7/f7.txt')
    await eventually('late joiner', () => late.synced())
    await atRest(file, [ann, bob, late], tokens)
    perch.kill('SIGTERM')
    assert.deepEqual(await perch.ended, { code: 0, signal: null })
  },

  /** H7, H11: the process dies at each durable step of a write-back. */
  async faults() {
    for (const fault of ['staged', 'intent', 'exchanged', 'recorded']) {
      await start({ PERCH_FAULT: fault })
      const b = await branch()
      const file = path.join(b.files, 'a.txt')
      fs.writeFileSync(file, 'one\ntwo\n')
      const ann = hClient(await session(b, 'ann'), 'a.txt')
      await eventually('synced', () => ann.synced())
      const tokens = ['one', 'two']
      line(ann, 'ann', tokens)
      const { signal } = await perch.ended
      assert.equal(signal, 'SIGABRT', `dies at ${fault}`)
      if (fault === 'exchanged') {
        // Somebody changes the file before perch is back.
        const one = token('disk')
        tokens.push(one)
        fs.appendFileSync(file, `${one}\n`)
      }
      await start()
      await eventually('synced again', () => ann.synced())
      line(ann, 'again', tokens)
      await atRest(file, [ann], tokens)
      const temps = path.join(data, 'branches', b.id, 'tmp')
      await eventually(`${fault}: nothing is left over`, () => fs.readdirSync(temps).length === 0)
      ann.stop()
      await crash()
    }
  },

  /** Acknowledged means durable: whatever was acknowledged before a kill is there after it, without the client. */
  async durable() {
    await start()
    const b = await branch()
    for (let round = 0; round < 5; round++) {
      const ann = hClient(await session(b, 'ann'), 'a.txt')
      await eventually('synced', () => ann.synced())
      const tokens = []
      for (let n = 0; n < 40; n++) line(ann, `r${round}n`, tokens)
      await eventually('acknowledged', () => ann.synced())
      ann.stop()
      await crash()
      await start()
      const answer = await api('GET', `/v1/branches/${b.id}/files/a.txt`)
      assert.equal(answer.status, 200)
      const text = await answer.text()
      for (const one of tokens) assert.equal(count(text, one), 1, one)
      assert.equal(fs.readFileSync(path.join(b.files, 'a.txt'), 'utf8'), text)
    }
  },

  /** A read session changes nothing, on either protocol or the file API; a write session does (the control). */
  async readers() {
    await start()
    const b = await branch()
    const file = path.join(b.files, 'a.txt')
    await api('PUT', `/v1/branches/${b.id}/files/a.txt`, 'start\n')
    const reader = await session(b, 'eve', 'read')
    const writer = await session(b, 'ann')
    const [ry, rh] = [yClient(reader, 'a.txt'), hClient(reader, 'a.txt')]
    const ann = hClient(writer, 'a.txt', undefined)
    await eventually('synced', () => ry.provider.synced && rh.provider.synced && ann.synced())
    assert.equal(rh.provider.authorizedScope, 'readonly')
    assert.equal(ann.provider.authorizedScope, 'read-write')
    ry.text.insert(0, 'EVIL-Y')
    rh.text.insert(0, 'EVIL-H')
    const put = (s, body) => api('PUT', `/v1/branches/${b.id}/files/a.txt`, body, { authorization: `Bearer ${s.token}` })
    assert.equal((await put(reader, 'EVIL-PUT')).status, 403)
    const tokens = ['start']
    line(ann, 'ann', tokens)
    await atRest(file, [ann], tokens)
    await eventually('readers see it', () => [ry, rh].every((r) => count(r.text.toString(), tokens[1]) === 1))
    assert.ok(rh.provider.unsyncedChanges > 0, 'the reader is told that it was not taken')
    assert.equal(count(ann.text.toString() + fs.readFileSync(file, 'utf8'), 'EVIL'), 0)
    const absent = yClient(reader, 'absent.txt')
    await eventually('absent is not found', () => absent.closed?.code === 4404)
    assert.equal((await put(writer, `${fs.readFileSync(file, 'utf8')}put\n`)).status, 200)
    await atRest(file, [ann], [...tokens, 'put'])
    // Raised to write, what was typed while reading is asked for; ended, the socket is cut and the token refused.
    assert.equal((await api('PATCH', `/v1/branches/${b.id}/sessions/ann`, { permission: 'read' })).status, 200)
    await eventually('told', () => ann.provider.authorizedScope === 'readonly')
    ann.text.insert(0, 'LATER')
    await sleep(300)
    assert.equal(count(fs.readFileSync(file, 'utf8'), 'LATER'), 0)
    assert.equal((await api('PATCH', `/v1/branches/${b.id}/sessions/ann`, { permission: 'write' })).status, 200)
    await atRest(file, [ann], [...tokens, 'put', 'LATER'])
    assert.equal((await api('DELETE', `/v1/branches/${b.id}/sessions/eve`)).status, 204)
    await eventually('cut', () => ry.closed?.code === 4403)
    assert.equal((await put(reader, 'x')).status, 401)
    const none = await fetch(`${url}/v1/branches`)
    assert.equal(none.status, 401)
    assert.equal((await none.json()).code, 'unauthorized')
  },

  /** The file API merges (H10), keeps line ends, and a deleted file's document ends. */
  async files() {
    await start()
    const b = await branch()
    const file = path.join(b.files, 'src/a.txt')
    const route = `/v1/branches/${b.id}/files/src/a.txt`
    assert.equal((await api('PUT', route, 'one\r\ntwo\r\nthree\r\n')).status, 201)
    const read = await api('GET', route)
    const etag = read.headers.get('etag')
    const before = await read.text()
    const ann = yClient(await session(b, 'ann'), 'src/a.txt')
    await eventually('synced', () => ann.synced())
    assert.equal(ann.text.toString(), 'one\ntwo\nthree\n')
    ann.text.insert(0, 'typed meanwhile\n')
    await eventually('on disk', () => count(fs.readFileSync(file, 'utf8'), 'typed meanwhile') === 1)
    const agent = await api('PUT', route, before.replace('two', 'TWO'), { 'if-match': etag })
    assert.equal(agent.status, 200)
    await eventually('merged', () => ann.text.toString() === 'typed meanwhile\none\nTWO\nthree\n')
    assert.equal(fs.readFileSync(file, 'utf8'), 'typed meanwhile\r\none\r\nTWO\r\nthree\r\n')
    const unknown = await api('PUT', route, 'x', { 'if-match': `"${'0'.repeat(64)}"` })
    assert.equal(unknown.status, 412)
    assert.equal(unknown.headers.get('etag'), agent.headers.get('etag'))
    ann.text.insert(0, 'with\rreturn ')
    await eventually('normalised', () => ann.text.toString().startsWith('with\nreturn typed'))
    await atRest(file, [ann], ['return typed'])
    // Unlink and create, as editors save, is a change; a deletion that stays ends the document.
    fs.unlinkSync(file)
    fs.writeFileSync(file, 'born again\n')
    await eventually('replaced', () => ann.text.toString() === 'born again\n')
    fs.unlinkSync(file)
    await eventually('closed', () => ann.closed?.code === 4404)
    assert.equal((await api('GET', route)).status, 404)
    const anew = yClient(await session(b, 'ann'), 'src/a.txt')
    await eventually('a new generation', () => anew.synced())
    assert.equal(anew.text.toString(), '')
    assert.ok(!fs.existsSync(file), 'an unedited document leaves no file')
    anew.text.insert(0, 'new\n')
    await eventually('file', () => fs.existsSync(file) && fs.readFileSync(file, 'utf8') === 'new\n')
    // Another history of the same file is refused, not merged.
    const old = yClient(await session(b, 'ann'), 'src/a.txt')
    old.stop()
    Y.applyUpdate(old.doc, Y.encodeStateAsUpdate(ann.doc))
    const stale = new WebsocketProvider((await session(b, 'ann')).docs_url, 'src/a.txt', ann.doc, {
      params: { token: (await session(b, 'ann')).token }, WebSocketPolyfill: WebSocket, disableBc: true
    })
    clients.push({ stop: () => stale.destroy() })
    let reset
    stale.on('closed', (event) => { reset = event })
    await eventually('reset', () => reset?.code === 4409)
    assert.equal(anew.text.toString(), 'new\n')
    await api('PUT', `/v1/branches/${b.id}/files/bin`, new Uint8Array([0xff, 0xfe, 0]))
    const binary = yClient(await session(b, 'ann'), 'bin')
    await eventually('no text', () => binary.closed?.code === 4415)
    for (const bad of ['.git/config', 'a/../../x', '.GIT/hooks/x']) {
      const answer = await api('PUT', `/v1/branches/${b.id}/files/${encodeURIComponent(bad)}`, 'x')
      assert.equal(answer.status, 400, bad)
    }
  },

  /** Random plans: clients of both protocols, offline edits, outside writers, hard restarts. */
  async random() {
    const seed = Number(process.env.PERCH_SEED ?? Date.now() % 1_000_000)
    let state = seed >>> 0 || 1
    Math.random = () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      return state / 2 ** 32
    }
    const plans = Number(process.env.PERCH_PLANS ?? 3)
    console.log(`random plans: ${plans}, PERCH_SEED=${seed}`)
    await start()
    for (let plan = 0; plan < plans; plan++) {
      const b = await branch()
      const file = path.join(b.files, 'a.txt')
      fs.writeFileSync(file, plan % 2 ? 'base\r\n' : 'base\n')
      const end = plan % 2 ? '\r\n' : '\n'
      const tokens = ['base']
      const editors = []
      for (let n = 0; n < 4; n++) {
        const s = await session(b, `user${n}`)
        editors.push(n % 2 ? hClient(s, 'a.txt') : yClient(s, 'a.txt'))
      }
      await eventually('synced', () => editors.every((editor) => editor.synced()))
      for (let step = 0; step < 60; step++) {
        const editor = editors[Math.floor(Math.random() * editors.length)]
        const dice = Math.random()
        if (dice < 0.75) line(editor, 'e', tokens)
        else if (dice < 0.85) {
          const provider = editor.socket ?? editor.provider
          provider.disconnect()
          if (editor.socket) await eventually('disconnected', () => editor.socket.status === 'disconnected')
          line(editor, 'off', tokens)
          provider.connect()
        } else if (dice < 0.95) {
          const one = token('disk')
          tokens.push(one)
          fs.appendFileSync(file, `${one}${end}`)
        } else if (dice < 0.97) {
          await crash()
          await start()
        }
        await sleep(Math.random() * 20)
      }
      await eventually('synced at the end', () => editors.every((editor) => editor.synced())).catch((error) => {
        throw new Error(`${error.message}: ${editors.map((e) => `${e.socket ? 'h' : 'y'} ${e.synced()} ${e.provider.unsyncedChanges} ${e.closed?.code} ${e.refused} ${e.socket?.status}`)}`)
      })
      await atRest(file, editors, tokens)
      for (const editor of editors) editor.stop()
    }
  }
}

try {
  await scenarios[scenario]()
  console.log(`${scenario}: ok`)
} catch (error) {
  console.error(error)
  process.exitCode = 1
} finally {
  for (const client of clients) {
    try { client.stop() } catch { /* already stopped */ }
  }
  if (perch && perch.exitCode === null) {
    perch.kill('SIGKILL')
    await perch.ended
  }
  fs.rmSync(temp, { recursive: true, force: true })
  process.exit()
}
