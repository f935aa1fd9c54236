// Measures perch and its peers in one run, one server at a time, and prints tables (markdown) with ratios to perch.
//
//   node benches/load/peers.mjs PERCH LOAD [--only NAME,…] [--scenarios NAME,…] [--quick] [--json FILE]
//
// PERCH: perch's binary. LOAD: what `cargo bench --bench load --no-run` names. The server is pinned to the first core, the
// load to the second. Peers are installed from their registries into the folder PEERS (default: `perch-peers` in the
// temporary folder), once; one that can't be installed is left out, and said so. Within `tests/postgres.sh` perch is measured
// on Postgres too (a cluster without fsync, whose own work is not counted).
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import { createRequire } from 'node:module'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import zlib from 'node:zlib'

const { values: flags, positionals: [perch, load] } = parseArgs({
  allowPositionals: true,
  options: { only: { type: 'string' }, scenarios: { type: 'string' }, quick: { type: 'boolean' }, json: { type: 'string' } }
})
if (!load) throw new Error('usage: node peers.mjs PERCH LOAD [--only NAME,…] [--scenarios NAME,…] [--quick] [--json FILE]')
const peers = process.env.PEERS ?? path.join(os.tmpdir(), 'perch-peers')
const temp = fs.mkdtempSync(path.join(os.tmpdir(), 'perch-load-'))
const owner = 'owner-token-of-the-bench'
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
const say = (text) => process.stderr.write(`${text}\n`)

// ---- Peers from their registries.

function npm(name, packages, built = []) {
  const folder = path.join(peers, name)
  if (!fs.existsSync(path.join(folder, 'ready'))) {
    say(`installing ${packages.join(' ')}`)
    fs.mkdirSync(folder, { recursive: true })
    fs.writeFileSync(path.join(folder, 'package.json'), '{"private":true,"type":"module"}')
    execFileSync('npm', ['install', '--no-audit', '--no-fund', ...packages], { cwd: folder, stdio: ['ignore', 2, 2] })
    for (const one of built) {
      // npm runs no install scripts unasked; where the machine has node's headers they need not be fetched.
      const env = fs.existsSync('/usr/include/node/node.h') ? { npm_config_nodedir: '/usr' } : {}
      execFileSync('npm', ['rebuild', one, '--foreground-scripts'], { cwd: folder, env: { ...process.env, ...env }, stdio: ['ignore', 2, 2] })
    }
    fs.writeFileSync(path.join(folder, 'ready'), '')
  }
  return folder
}
function cargo(name, version) {
  const binary = path.join(peers, 'cargo', 'bin', name)
  if (!fs.existsSync(binary)) {
    say(`building ${name} ${version}: minutes`)
    execFileSync('cargo', ['install', name, '--version', version, '--locked', '--root', path.join(peers, 'cargo')], { stdio: ['ignore', 2, 2] })
  }
  return binary
}
/** A program of ours around a crate. */
function cargoProgram(name, manifest, main) {
  const folder = path.join(peers, name)
  const binary = path.join(folder, 'target', 'release', name)
  if (!fs.existsSync(binary)) {
    say(`building ${name}: minutes`)
    fs.mkdirSync(path.join(folder, 'src'), { recursive: true })
    const head = `[package]\nname = "${name}"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\n`
    fs.writeFileSync(path.join(folder, 'Cargo.toml'), head + manifest)
    fs.writeFileSync(path.join(folder, 'src', 'main.rs'), main)
    execFileSync('cargo', ['build', '--release'], { cwd: folder, stdio: ['ignore', 2, 2] })
  }
  return binary
}
const hocuspocus = `
import { Server } from '@hocuspocus/server'
import { SQLite } from '@hocuspocus/extension-sqlite'
const [port, file] = process.argv.slice(2)
const extensions = file ? [new SQLite({ database: file })] : []
await new Server({ port: Number(port), address: '127.0.0.1', quiet: true, extensions }).listen()
`
const yWebsocket = `
import http from 'node:http'
import { WebSocketServer } from 'ws'
import { setupWSConnection } from '@y/websocket-server/utils'
const server = http.createServer((_, response) => response.end())
const sockets = new WebSocketServer({ noServer: true })
sockets.on('connection', setupWSConnection)
server.on('upgrade', (request, socket, head) => sockets.handleUpgrade(request, socket, head, (ws) => sockets.emit('connection', ws, request)))
server.listen(Number(process.argv[2]), '127.0.0.1')
`
/** As its documentation has it, with a document for each path. */
const yrsWarp = `
use futures_util::StreamExt;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Mutex;
use warp::ws::{WebSocket, Ws};
use warp::Filter;
use yrs::sync::Awareness;
use yrs::Doc;
use yrs_warp::broadcast::BroadcastGroup;
use yrs_warp::ws::{WarpSink, WarpStream};

type Rooms = Arc<Mutex<HashMap<String, Arc<BroadcastGroup>>>>;

#[tokio::main]
async fn main() {
    let port: u16 = std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("a port");
    let rooms = Rooms::default();
    let socket = warp::path::param::<String>().and(warp::ws()).map(move |doc: String, upgrade: Ws| {
        let rooms = Arc::clone(&rooms);
        upgrade.on_upgrade(move |socket| talk(rooms, doc, socket))
    });
    warp::serve(socket).run(([127, 0, 0, 1], port)).await;
}

async fn talk(rooms: Rooms, doc: String, socket: WebSocket) {
    let room = {
        let mut rooms = rooms.lock().await;
        if !rooms.contains_key(&doc) {
            let awareness = Arc::new(Awareness::new(Doc::new()));
            rooms.insert(doc.clone(), Arc::new(BroadcastGroup::new(awareness, 4096).await));
        }
        Arc::clone(&rooms[&doc])
    };
    let (sink, stream) = socket.split();
    let subscription = room.subscribe(Arc::new(Mutex::new(WarpSink::from(sink))), WarpStream::from(stream));
    let _ = subscription.completed().await;
}
`
/** A file of ours in a peer's folder, so that it finds the peer. */
function file(folder, name, text) {
  fs.writeFileSync(path.join(folder, name), text)
  return path.join(folder, name)
}
const inHocuspocus = () => npm('hocuspocus', ['@hocuspocus/server@4.7.0', '@hocuspocus/extension-sqlite@4.7.0', 'yjs@13'], ['better-sqlite3'])
const inYrsWarp = () => cargoProgram('peer-yrs-warp', `futures-util = "0.3"
tokio = { version = "1", features = ["full"] }
warp = { version = "0.3", features = ["websocket"] }
yrs = { version = "0.24", features = ["sync"] }
yrs-warp = "=0.9.0"
`, yrsWarp)
const inYWebsocket = () => npm('y-websocket', ['@y/websocket-server@0.1.1', 'y-leveldb@0.2.0', 'ws@8', 'yjs@13'])

// ---- Servers: `start` gives the command and how it is spoken to.

const y = (port, route = '{doc}') => ({ protocol: 'y', url: `http://127.0.0.1:${port}/${route}` })
const h = (port) => ({ protocol: 'hocuspocus', url: `http://127.0.0.1:${port}/` })
const sweet = (durable) => ({
  durable,
  start: (port, data) => ({
    command: [cargo('y-sweet', '0.9.1'), 'serve', ...(durable ? [data] : []), '--port', String(port), '--host', '127.0.0.1'],
    ...y(port, 'd/{doc}/ws/{doc}'), doc: 'load', ready: '/ready',
    make: (doc) => fetch(`http://127.0.0.1:${port}/doc/new`, {
      method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ docId: doc })
    })
  })
})
/** A database of its own, on the throw-away cluster. */
const admin = process.env.PERCH_TEST_POSTGRES
function database(name) {
  execFileSync('psql', [admin, '-qc', `create database ${name}`], { stdio: ['ignore', 2, 2] })
  return `${admin.slice(0, admin.lastIndexOf('/'))}/${name}`
}
const ours = (protocol, postgres = false) => ({
  durable: true,
  settled: 2_000,
  postgres,
  start: (port, data, database) => ({
    command: [perch, 'serve'],
    env: { PERCH_OWNER_TOKEN: owner, PERCH_DATA: data, PERCH_LISTEN: `127.0.0.1:${port}`, PERCH_LOG: 'warn', DATABASE_URL: database },
    ready: '/readyz',
    target: async () => {
      const ask = async (method, route, body) => {
        const answer = await fetch(`http://127.0.0.1:${port}${route}`, {
          method, headers: { authorization: `Bearer ${owner}`, 'content-type': 'application/json' }, body: body && JSON.stringify(body)
        })
        if (!answer.ok) throw new Error(await answer.text())
        return answer.json()
      }
      const { id } = await ask('POST', '/v1/branches', { name: 'load' })
      while ((await ask('GET', `/v1/branches/${id}`)).state !== 'ready') await sleep(20)
      const { docs_url, collab_url, token } = await ask('POST', `/v1/branches/${id}/sessions`, { id: 'load', permission: 'write', name: 'Load' })
      return protocol === 'y'
        ? { protocol, url: `${docs_url.replace('ws', 'http')}/{doc}?token=${token}` }
        : { protocol, url: collab_url.replace('ws', 'http'), token }
    }
  })
})
const ceiling = (flags) => ({
  hasDocuments: false,
  start: (port) => ({ command: [load, 'ceiling', '--port', String(port), ...flags], protocol: 'raw', url: `http://127.0.0.1:${port}/{doc}` })
})
const servers = {
  'perch (y-websocket)': ours('y'),
  'perch (Hocuspocus)': ours('hocuspocus'),
  ...(admin ? { 'perch, Postgres': ours('y', true) } : {}),
  'axum broadcast': ceiling([]),
  'batched raw': ceiling(['--batched']),
  Hocuspocus: { start: (port) => ({ command: ['node', file(inHocuspocus(), 'server.mjs', hocuspocus), String(port)], ...h(port) }) },
  'Hocuspocus+SQLite': {
    durable: true,
    start: (port, data) => ({ command: ['node', file(inHocuspocus(), 'server.mjs', hocuspocus), String(port), path.join(data, 'db.sqlite')], ...h(port) })
  },
  'y-websocket-server': { start: (port) => ({ command: ['node', file(inYWebsocket(), 'server.mjs', yWebsocket), String(port)], ...y(port) }) },
  'y-websocket-server+leveldb': {
    durable: true,
    settled: 2_000,
    start: (port, data) => ({ command: ['node', file(inYWebsocket(), 'server.mjs', yWebsocket), String(port)], env: { YPERSISTENCE: path.join(data, 'level') }, ...y(port) })
  },
  'yrs-warp': { start: (port) => ({ command: [inYrsWarp(), String(port)], ...y(port) }) },
  'y-sweet': sweet(false),
  'y-sweet-fs': sweet(true)
}

const freePort = () => new Promise((resolve) => {
  const server = net.createServer().listen(0, '127.0.0.1', () => {
    const { port } = server.address()
    server.close(() => resolve(port))
  })
})
/** A server of its own, with nothing in it. */
class Running {
  constructor(how, data, port) {
    Object.assign(this, { how, data, port })
  }
  static async start(how) {
    const data = fs.mkdtempSync(path.join(temp, 'data-'))
    const running = new Running(how, data, await freePort())
    if (how.postgres) running.database = database(`perch_load_${process.pid}_${running.port}`)
    await running.begin()
    return running
  }
  /** Starts it, or starts it again on what it left. */
  async begin() {
    const { command, env = {}, ready = '/', target, ...plain } = this.how.start(this.port, this.data, this.database)
    const all = { ...process.env, NODE_ENV: 'production', DATABASE_URL: undefined, ...env }
    for (const name of Object.keys(all)) if (all[name] === undefined) delete all[name]
    this.child = spawn('taskset', ['-c', '0', ...command], { env: all, stdio: ['ignore', 2, 2] })
    this.ended = new Promise((resolve) => this.child.on('exit', resolve))
    let over = false
    this.ended.then(() => { over = true })
    for (let tries = 0; ; tries++) {
      if (over || tries > 500) throw new Error(`${command[0]} does not start`)
      try {
        const answer = await fetch(`http://127.0.0.1:${this.port}${ready}`)
        await answer.arrayBuffer()
        if (ready === '/' || answer.ok) break
      } catch {}
      await sleep(20)
    }
    this.target ??= target ? await target() : plain
  }
  async load(scenario, args = [], docs = [this.target.doc ?? 'load.txt']) {
    // One that is to be there already is not made: that would load it before it is asked for.
    const isNew = scenario !== 'sync'
    if (this.target.make && isNew) for (const doc of docs) await (await this.target.make(doc)).arrayBuffer()
    const { url, protocol, token, doc } = this.target
    const line = [scenario, '--url', url, '--protocol', protocol, '--pid', String(this.child.pid), ...args]
    if (token) line.push('--token', token)
    if (doc) line.push('--doc', doc)
    const child = spawn('taskset', ['-c', '1', load, ...line], { stdio: ['ignore', 'pipe', 'pipe'] })
    let [said, complained] = ['', '']
    child.stdout.on('data', (text) => { said += text })
    child.stderr.on('data', (text) => { complained += text })
    const timer = setTimeout(() => child.kill('SIGKILL'), LIMIT)
    const code = await new Promise((resolve) => child.on('close', resolve))
    clearTimeout(timer)
    if (code !== 0) throw new Error(code === null ? `not done in ${LIMIT / 1000} s` : complained.split('\n').slice(0, 4).join(' '))
    return JSON.parse(said)
  }
  async stop(signal = 'SIGTERM') {
    this.child.kill(signal)
    const timer = setTimeout(() => this.child.kill('SIGKILL'), 5_000)
    await this.ended
    clearTimeout(timer)
  }
}

// ---- The long history, made by Yjs, one update a keystroke.

function history() {
  const target = path.join(temp, 'history')
  const Y = createRequire(path.join(inYWebsocket(), 'package.json'))('yjs')
  const doc = new Y.Doc()
  doc.clientID = 77
  const text = doc.getText('content')
  const parts = []
  doc.on('update', (update) => {
    const len = Buffer.alloc(4)
    len.writeUInt32LE(update.length)
    parts.push(len, update)
  })
  const trace = `${process.env.PERCH_TRACES ?? new URL('../../../shared/data', import.meta.url).pathname}/automerge-paper.json.gz`
  if (fs.existsSync(trace)) {
    for (const { patches } of JSON.parse(zlib.gunzipSync(fs.readFileSync(trace))).txns) {
      for (const [at, gone, put] of patches) {
        doc.transact(() => {
          if (gone) text.delete(at, gone)
          if (put) text.insert(at, put)
        })
      }
    }
  } else {
    for (let n = 0; n < 260_000; n++) text.insert(n % 50 === 0 ? (n * 7919) % (text.length + 1) : text.length, n % 40 ? 'x' : '\n')
  }
  fs.writeFileSync(target, Buffer.concat(parts))
  const [whole, state] = [path.join(temp, 'whole'), Y.encodeStateAsUpdate(doc)]
  const len = Buffer.alloc(4)
  len.writeUInt32LE(state.length)
  fs.writeFileSync(whole, Buffer.concat([len, state]))
  return { target, whole, source: fs.existsSync(trace) ? path.basename(trace) : 'made up', clocks: Y.encodeStateVector(doc).length && doc.store.clients.get(77).reduce((_, item) => item.id.clock + item.length, 0) }
}

// ---- Scenarios.

const quick = flags.quick
const LIMIT = 90_000
let made
const scenarios = {
  typing: (running) => running.load('typing', ['--seconds', quick ? '2' : '6']),
  window: (running) => running.load('window', ['--updates', quick ? '4000' : '20000']),
  saturate: (running) => running.load('saturate', ['--seconds', quick ? '1' : '5']),
  documents: (running) => {
    const count = quick ? 50 : 500
    const doc = running.target.doc ?? 'load.txt'
    return running.load('documents', ['--documents', String(count)], Array.from({ length: count + 1 }, (_, n) => `${n}-${doc}`))
  },
  storm: (running) => running.load('storm', ['--clients', quick ? '50' : '500']),
  history: async (running) => {
    made ??= history()
    return running.load('history', ['--updates', made.target])
  },
  cold: async (running) => {
    if (!running.how.durable) return null
    made ??= history()
    await running.load('history', ['--updates', made.whole])
    // At the latest after this long a peer has written.
    await sleep(running.how.settled ?? 11_000)
    const syncs = []
    for (let n = 0; n < (quick ? 1 : 3); n++) {
      await running.stop()
      await running.begin()
      const { ms, clocks } = await running.load('sync')
      if (clocks['77'] !== made.clocks) throw new Error(`after a restart ${clocks['77']} of ${made.clocks} clocks are there`)
      syncs.push(ms)
    }
    return { first_sync_ms: Math.min(...syncs) }
  },
  kill: async (running) => {
    if (!running.how.durable) return null
    const figures = { seen_by_another: 0, of_them_lost: 0, acknowledged: 0, of_those_lost: 0 }
    const writers = await running.load('kill', ['--seconds', quick ? '3' : '13'])
    await running.ended
    await running.begin()
    const { clocks } = await running.load('sync')
    for (const { client, seen, acknowledged } of writers) {
      const there = clocks[client] ?? 0
      figures.seen_by_another += seen
      figures.of_them_lost += Math.max(0, seen - there)
      figures.acknowledged += acknowledged
      figures.of_those_lost += Math.max(0, acknowledged - there)
    }
    return figures
  }
}

// ---- The run.

const wanted = (list, name) => !list || list.split(',').some((part) => name.startsWith(part))
const results = {}
const began = Date.now()
for (const [name, how] of Object.entries(servers)) {
  if (!wanted(flags.only, name)) continue
  for (const scenario of Object.keys(scenarios)) {
    if (!wanted(flags.scenarios, scenario)) continue
    // Documents are what these two do not have.
    if (how.hasDocuments === false && !['typing', 'window', 'saturate'].includes(scenario)) continue
    let running
    let figures
    try {
      running = await Running.start(how)
      figures = await scenarios[scenario](running)
    } catch (error) {
      figures = { failed: error.message.split('\n')[0] }
    }
    await running?.stop('SIGKILL')
    if (running) fs.rmSync(running.data, { recursive: true, force: true })
    if (!figures) continue
    say(`${name}, ${scenario}: ${JSON.stringify(figures)}`)
    ;(results[scenario] ??= {})[name] = figures
  }
}
const figure = (value) => (typeof value !== 'number' ? value ?? '' : value >= 100 ? Math.round(value).toLocaleString('en') : value.toPrecision(3))
for (const [scenario, of] of Object.entries(results)) {
  const ours = Object.entries(of).find(([name]) => name.startsWith('perch'))?.[1]
  const columns = [...new Set(Object.values(of).flatMap(Object.keys))].filter((key) => key !== 'failed')
  console.log(`\n## ${scenario}\n\n| server | ${columns.map((key) => key.replaceAll('_', ' ')).join(' | ')} |\n|---|${'---|'.repeat(columns.length)}`)
  for (const [name, figures] of Object.entries(of)) {
    if (figures.failed) {
      console.log(`| ${name} | failed: ${figures.failed} |`)
      continue
    }
    const cell = (key) => {
      const ratio = ours?.[key] && figures !== ours && typeof figures[key] === 'number' ? ` (${(figures[key] / ours[key]).toPrecision(2)})` : ''
      return figure(figures[key]) + ratio
    }
    console.log(`| ${name} | ${columns.map(cell).join(' | ')} |`)
  }
}
const { stdout: model } = spawnSync('sh', ['-c', 'grep -m1 "model name" /proc/cpuinfo | cut -d: -f2'])
console.log(`\n${new Date().toISOString().slice(0, 10)}, ${os.cpus().length} cores,${String(model).trimEnd()}, node ${process.version}; ${Math.round((Date.now() - began) / 1000)} s${made ? `; history: ${made.source}` : ''}. In brackets: relative to the first line.`)
if (flags.json) fs.writeFileSync(flags.json, JSON.stringify(results, null, 1))
fs.rmSync(temp, { recursive: true, force: true })
