// What connections and documents cost in memory. Usage: node measure.mjs PERCH_BINARY [CONNECTIONS]
// Prints bytes of resident memory per idle connection and per open 2 KB document with two connections, how long perch
// takes from start to ready with 1,000 branches relative to one, and how long the first sync of a long history takes
// after a restart (`PERCH_TRACES`, else `../shared/data`, else a made-up one).
import fs from 'node:fs'
import zlib from 'node:zlib'
import WebSocket from 'ws'
import * as Y from 'yjs'
import * as encoding from 'lib0/encoding'
import { api, branch, toTheEnd, crash, eventually, perch, session, sleep, start, yClient } from './harness.mjs'

const count = Number(process.argv[3] ?? 1_000)
const resident = () => Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${perch.pid}/status`, 'utf8'))[1]) * 1024

/** A y-websocket connection that has synced, without a document of its own here. */
function connect(s, file) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`${s.docs_url}/${encodeURIComponent(file)}?token=${s.token}`)
    socket.binaryType = 'arraybuffer'
    socket.on('error', reject)
    socket.on('open', () => {
      const step1 = encoding.createEncoder()
      encoding.writeVarUint(step1, 0)
      encoding.writeVarUint(step1, 0)
      encoding.writeVarUint8Array(step1, Y.encodeStateVector(new Y.Doc()))
      socket.send(encoding.toUint8Array(step1))
    })
    // The answer to that: sync, step 2.
    const hear = (message) => {
      const bytes = new Uint8Array(message)
      if (bytes[0] !== 0 || bytes[1] !== 1) return
      socket.off('message', hear)
      resolve(socket)
    }
    socket.on('message', hear)
  })
}
/** A document of some 260,000 edits by one author, and which it is. */
function longHistory() {
  const doc = new Y.Doc()
  const text = doc.getText('content')
  const file = `${process.env.PERCH_TRACES ?? new URL('../../../shared/data', import.meta.url).pathname}/automerge-paper.json.gz`
  if (fs.existsSync(file)) {
    for (const { patches } of JSON.parse(zlib.gunzipSync(fs.readFileSync(file))).txns) {
      for (const [at, gone, put] of patches) {
        if (gone) text.delete(at, gone)
        if (put) text.insert(at, put)
      }
    }
    return [file, doc]
  }
  for (let n = 0; n < 260_000; n++) text.insert(n % 50 === 0 ? Math.floor(Math.random() * (text.length + 1)) : text.length, n % 40 ? 'x' : '\n')
  return ['made up', doc]
}
async function settled() {
  let last = 0
  await eventually('memory settles', async () => {
    const now = resident()
    const is_same = Math.abs(now - last) < 64 * 1024
    last = now
    await sleep(300)
    return is_same
  })
  return last
}
async function all(inputs, work) {
  const results = []
  for (let at = 0; at < inputs.length; at += 50) results.push(...await Promise.all(inputs.slice(at, at + 50).map(work)))
  return results
}

await toTheEnd(async () => {
  await start({ PERCH_LOG: 'warn' })
  const b = await branch()
  const s = await session(b, 'ann')
  const names = Array.from({ length: count }, (_, n) => `f${n}.txt`)
  await api('PUT', `/v1/branches/${b.id}/files/one.txt`, 'x'.repeat(2_000))
  await all(names, (name) => api('PUT', `/v1/branches/${b.id}/files/${name}`, 'x'.repeat(2_000)))
  // Warm: buffers and caches that stay whatever the count.
  for (const socket of await all(names.slice(0, 100), () => connect(s, 'one.txt'))) socket.terminate()
  const empty = await settled()
  const idle = await all(names, () => connect(s, 'one.txt'))
  const connected = await settled()
  const perConnection = (connected - empty) / count
  const first = await all(names, (name) => connect(s, name))
  const second = await all(names, (name) => connect(s, name))
  const perDocument = (await settled() - connected) / count
  console.log(`idle connection: ${Math.round(perConnection)} bytes`)
  console.log(`open document of 2 KB with two connections: ${Math.round(perDocument)} bytes`)
  for (const socket of [...idle, ...first, ...second]) socket.terminate()
  await crash()
  const time = async () => {
    const from = performance.now()
    await start({ PERCH_LOG: 'warn' })
    return performance.now() - from
  }
  const few = await time()
  await all(names, (name) => api('POST', '/v1/branches', { name }))
  await eventually('made', async () => (await (await api('GET', '/v1/branches?limit=1')).json()).branches[0].state === 'ready')
  await sleep(2_000)
  await crash()
  const many = await time()
  // From asking for the socket to the whole state, of a document that nobody has opened since the start.
  const firstSync = async (file) => {
    const from = performance.now()
    const socket = await connect(s, file)
    const took = performance.now() - from
    socket.terminate()
    return took
  }
  const [which, long] = longHistory()
  const state = Y.encodeStateAsUpdate(long)
  const provider = yClient(s, 'long.txt')
  await eventually('synced', () => provider.synced())
  Y.applyUpdate(provider.doc, state)
  const content = long.getText('content').toString()
  await eventually('written', async () => (await (await api('GET', `/v1/branches/${b.id}/files/long.txt`)).text()) === content, 60_000)
  provider.stop()
  const [longSyncs, shortSyncs] = [[], []]
  for (let n = 0; n < 7; n++) {
    await crash()
    await start({ PERCH_LOG: 'warn' })
    await firstSync('one.txt')
    shortSyncs.push(await firstSync(names[n]))
    longSyncs.push(await firstSync('long.txt'))
  }
  console.log(`first sync after a restart, best of 7: ${Math.min(...longSyncs).toFixed(1)} ms for the long history (${which}, ${state.length} bytes), ${Math.min(...shortSyncs).toFixed(1)} ms for 2 KB`)
  console.log(`start to ready: ${Math.round(few)} ms with 1 branch, ${Math.round(many)} ms with ${count + 1}`)
})
