// What scenarios share: the real binary, its API, unmodified clients of each protocol, and the check at rest.
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

export const binary = process.argv[2]
export const owner = 'owner-token-of-the-tests'
export const temp = fs.mkdtempSync(path.join(os.tmpdir(), 'perch-story-'))
export const data = path.join(temp, 'data')
export const clients = []
/** The running server's process, with `ended`: a promise of its exit. */
export let perch = null

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
export async function eventually(what, check, within = Number(process.env.PERCH_PATIENCE ?? 30_000)) {
  const end = Date.now() + within
  let last
  // Most things take a moment; what takes longer is looked at less often.
  for (let pause = 2; ; pause = Math.min(2 * pause, 25)) {
    try {
      const value = await check()
      if (value) return value
    } catch (error) {
      last = error
    }
    if (Date.now() > end) throw new Error(`never: ${what}${last ? `: ${last.message}` : ''}`)
    await sleep(pause)
  }
}
export const freePort = () => new Promise((resolve) => {
  const server = net.createServer().listen(0, '127.0.0.1', () => {
    const { port } = server.address()
    server.close(() => resolve(port))
  })
})
export const port = await freePort()
export const url = `http://127.0.0.1:${port}`

let within = []
let program = binary
/** From now on perch is started by this command, and from this file. */
export function runIn(command, file = binary) {
  within = command
  program = file
}
/**
 * Starts perch; all it says is kept in `perch.said`. `extra`: of the environment, `undefined` takes a variable away.
 * `log`: gets what it says too, that of several runs.
 */
export async function start(extra = {}, args = [], log = null) {
  const env = { ...process.env, PERCH_OWNER_TOKEN: owner, PERCH_DATA: data, PERCH_LISTEN: `127.0.0.1:${port}`, ...extra }
  for (const name of Object.keys(env)) if (env[name] === undefined) delete env[name]
  const line = [...within, program, 'serve', '--allow-local-git', temp, ...args]
  perch = spawn(line[0], line.slice(1), { env, stdio: ['ignore', 'pipe', 'pipe'] })
  const child = perch
  child.said = ''
  for (const [from, to] of [[child.stdout, process.stdout], [child.stderr, process.stderr]]) {
    from.on('data', (said) => {
      child.said += said
      if (log) log.text += said
      else to.write(said)
    })
  }
  perch.ended = new Promise((resolve) => perch.on('exit', (code, signal) => resolve({ code, signal })))
  await eventually('ready', async () => (await fetch(`${url}/readyz`)).status === 200, 15_000)
}
/** Takes the database away: nothing commits until the returned function is called. */
export async function holdDatabase() {
  const url = process.env.DATABASE_URL
  const lite = `import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute('begin immediate')
print('held', flush=True)
sys.stdin.read()`
  const holder = url
    ? spawn('psql', [url, '-qAt'], { stdio: ['pipe', 'pipe', 'inherit'] })
    : spawn('python3', ['-c', lite, path.join(data, 'perch.sqlite')], { stdio: ['pipe', 'pipe', 'inherit'] })
  if (url) holder.stdin.write("begin; lock table document_log in exclusive mode; select 'held';\n")
  const ended = new Promise((resolve) => holder.on('exit', resolve))
  await new Promise((resolve, reject) => { holder.stdout.on('data', resolve); holder.on('exit', reject) })
  return async () => {
    holder.stdin.end()
    await ended
  }
}
/** Asks the test's own database; gives rows as arrays of text. */
export function ask(sql) {
  const url = process.env.DATABASE_URL
  const lite = 'import sqlite3, sys\nfor row in sqlite3.connect(sys.argv[1], isolation_level=None).execute(sys.argv[2]): print(*row, sep="|")'
  const said = url
    ? execFileSync('psql', [url, '-qAtc', sql])
    : execFileSync('python3', ['-c', lite, path.join(data, 'perch.sqlite'), sql])
  return said.toString().split('\n').filter(Boolean).map((row) => row.split('|'))
}
export async function crash() {
  perch.kill('SIGKILL')
  await perch.ended
}
/** Stops perch and returns once it stands: the signal alone lets each thread end the system call that it is in. */
export function holdStill() {
  perch.kill('SIGSTOP')
  const tasks = `/proc/${perch.pid}/task`
  const stands = (task) => {
    let stat
    try {
      stat = fs.readFileSync(`${tasks}/${task}/stat`, 'utf8')
    } catch {
      // It has ended.
      return true
    }
    return stat[stat.lastIndexOf(')') + 2] === 'T'
  }
  while (!fs.readdirSync(tasks).every(stands));
}
export async function api(method, route, body, headers = {}) {
  const raw = body === undefined || typeof body === 'string' || body instanceof Uint8Array
  const type = raw ? {} : { 'content-type': 'application/json' }
  return fetch(url + route, {
    method,
    headers: { authorization: `Bearer ${owner}`, ...type, ...headers },
    body: raw ? body : JSON.stringify(body)
  })
}
export async function branch(request = { name: 'story' }) {
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
export async function session(b, id, permission = 'write', more = {}) {
  const answer = await api('POST', `/v1/branches/${b.id}/sessions`, { id, permission, name: id.toUpperCase(), ...more })
  assert.equal(answer.status, 200, await answer.clone().text())
  return answer.json()
}
/** As in a browser, a socket that is closed while it connects fails in silence. */
class Socket extends WebSocket {
  constructor(...from) {
    super(...from)
    this.on('error', () => {})
  }
}
export const yClient = (s, file) => yAgain({ doc: new Y.Doc() }, s, file)
/** The document of a client that left, on a new connection. */
export function yAgain({ doc }, s, file) {
  const provider = new WebsocketProvider(s.docs_url, file, doc, {
    params: { token: s.token }, WebSocketPolyfill: Socket, disableBc: true
  })
  const client = { doc, provider, text: doc.getText('content'), synced: () => provider.synced, stop: () => provider.destroy() }
  provider.on('closed', (event) => { client.closed = event })
  clients.push(client)
  return client
}
export function hClient(s, file, socket) {
  const websocketProvider = socket ?? new HocuspocusProviderWebsocket({
    url: s.collab_url, WebSocketPolyfill: Socket, delay: 100, minDelay: 50, maxDelay: 500
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
export const count = (text, token) => text.split(token).length - 1
/** A text for a message: runs of one letter cut, and the whole too. */
export const shown = (text) => JSON.stringify(text.replaceAll(/(.)\1{20,}/g, '$1…').slice(0, 2000))
export async function atRest(file, editors, tokens, within) {
  let texts
  await eventually('all hold the same text', () => {
    texts = [fs.readFileSync(file, 'utf8').replaceAll('\r\n', '\n'), ...editors.map((editor) => editor.text.toString())]
    return texts.every((text) => text === texts[0]) && tokens.every((token) => count(texts[0], token) > 0)
  }, within).catch((error) => {
    const missing = tokens.filter((token) => texts.some((text) => count(text, token) !== 1))
    throw new Error(`${error.message}; not once everywhere: ${missing}\n${[...new Set(texts)].map((t) => `${texts.flatMap((text, n) => (text === t ? [n] : []))}: ${shown(t)}`).join('\n')}`)
  })
  for (const token of tokens) assert.equal(count(texts[0], token), 1, `${token} is there once`)
  return texts[0]
}
/** Where `line` draws from; a random plan puts its own generator here. */
export const chance = { next: Math.random }
/** A generator of its own for each plan, so that one plan of a seed can be run alone. */
export function generator(seed) {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}
let made = 0
export const token = (who) => `<${who}${++made}>`
/** Types a token as a line of its own, so that no other token is torn. */
export function line(editor, who, tokens) {
  const one = token(who)
  const lines = editor.text.toString().split('\n')
  const at = lines.slice(0, Math.floor(chance.next() * lines.length)).join('\n').length
  editor.text.insert(at === 0 ? 0 : at + 1, `${one}\n`)
  tokens.push(one)
}

/** Does the work that a process is there for, and ends it, with what it started. */
export async function toTheEnd(work) {
  try {
    await work()
  } catch (error) {
    console.error(error)
    process.exitCode = 1
  } finally {
    await cleanUp()
    process.exit()
  }
}
/** Runs a scenario, an exported function of a file in a folder, and ends the process. */
export const runScenario = (name, folder) => toTheEnd(async () => {
  let scenario
  for (const file of fs.readdirSync(folder)) scenario ??= (await import(new URL(file, folder)))[name]
  if (!scenario) throw new Error(`there is no scenario ${name}`)
  await scenario()
  console.log(`${name}: ok`)
})
/** Ends clients and server and removes what was written. */
async function cleanUp() {
  for (const client of clients) {
    try { client.stop() } catch { /* already stopped */ }
  }
  if (perch && perch.exitCode === null && perch.signalCode === null) {
    perch.kill('SIGKILL')
    await perch.ended
  }
  fs.rmSync(temp, { recursive: true, force: true })
}
