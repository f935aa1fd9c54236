// The same round of a day's work, over and over: what perch holds comes back to where it was.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import WebSocket from 'ws'
import { api, ask, branch, clients, data, eventually, hClient, line, owner, perch, port, session, sleep, start, url, yClient } from '../harness.mjs'
import { as, said } from '../exec.mjs'

/** Rounds at least, so that what each leaves behind shows; and how long it goes on. */
const [ROUNDS, SECONDS] = [24, Number(process.env.PERCH_SOAK_SECONDS ?? 60)]
/** What is measured, and what one round may leave of it on average: less than one of what can be counted. */
const BOUNDS = { descriptors: 0.5, tasks: 0.5, threads: 0.5, processes: 0.25, entries: 0.25, rows: 0.25, kib: 1024, pages: 2 }

const metric = (text, name) => Number(text.match(new RegExp(`^${name} (\\S+)$`, 'm'))[1])
/** Processes that descend from perch. */
function children() {
  const parents = new Map()
  for (const pid of fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8')
      parents.set(Number(pid), Number(stat.slice(stat.lastIndexOf(')') + 4).split(' ')[0]))
    } catch { /* it has ended */ }
  }
  const descends = (pid) => { for (let at = parents.get(pid); at; at = parents.get(at)) if (at === perch.pid) return true; return false }
  return [...parents.keys()].filter(descends).length
}
/** What the process holds. */
async function held() {
  const answer = await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${owner}` } })
  const text = await answer.text()
  return {
    descriptors: metric(text, 'perch_open_files'), tasks: metric(text, 'perch_tasks'), threads: metric(text, 'perch_threads'),
    kib: metric(text, 'perch_resident_bytes') / 1024
  }
}
/** The least of a few looks: what is on its way out is no leak. */
async function least() {
  let least = await held()
  for (let look = 0; look < 3; look++) {
    await sleep(25)
    const now = await held()
    least = Object.fromEntries(Object.entries(now).map(([name, value]) => [name, Math.min(value, least[name])]))
  }
  return least
}
/** All that is measured, once no branch and no process of a session is left. */
async function rested() {
  const entries = () => fs.readdirSync(path.join(data, 'branches')).length
  await eventually('at rest', () => entries() === 0 && children() === 0, 60_000)
  const tables = ['api_token', 'branch', 'session', 'link', 'document', 'document_snapshot', 'document_log', 'document_author', 'document_change', 'document_aside', 'draft']
  // Postgres gives pages back when it likes; rows tell there.
  const pages = process.env.DATABASE_URL ? '0' : '(select page_count from pragma_page_count()) - (select freelist_count from pragma_freelist_count())'
  const [[rows, used]] = ask(`select ${tables.map((table) => `(select count(*) from ${table})`).join(' + ')}, ${pages}`)
  return { ...await least(), processes: children(), entries: entries(), rows: Number(rows), pages: Number(used) }
}
/** Whether what is measured grows with each round: the middle of the last third against that of the one before. */
function judged(samples) {
  const third = Math.floor(samples.length / 3)
  const middle = (part, name) => part.map((sample) => sample[name]).toSorted((a, b) => a - b)[Math.floor(part.length / 2)]
  const [before, last] = [samples.slice(-2 * third, -third), samples.slice(-third)]
  const grown = Object.entries(BOUNDS).filter(([name]) => name in samples[0]).map(([name, bound]) => [name, (middle(last, name) - middle(before, name)) / third, bound])
  const leaks = grown.filter(([, each, bound]) => each > bound)
  assert.deepEqual(leaks, [], `what a round leaves, on average, and may leave at most; ${JSON.stringify(samples)}`)
}

async function round(n) {
  const b = await branch({ name: `round ${n}` })
  const [ann, bob] = [await session(b, 'ann', 'write', { email: 'ann@example.org' }), await session(b, 'bob')]
  const tokens = []
  for (const name of ['a.txt', 'b.txt']) {
    const [one, other] = [hClient(ann, name), yClient(bob, name)]
    await eventually('synced', () => one.synced() && other.synced())
    line(one, 'one', tokens)
    line(other, 'other', tokens)
    await eventually('both have both', () => tokens.slice(-2).every((each) => [one, other].every((editor) => editor.text.toString().includes(each))))
    // One goes, comes back and goes again; the other is cut off.
    one.stop()
    const back = hClient(ann, name)
    await eventually('synced again', () => back.synced() && tokens.slice(-2).every((each) => back.text.toString().includes(each)))
    back.stop()
    other.provider.ws?.terminate()
    other.stop()
    clients.splice(0)
  }
  const events = new AbortController()
  const stream = await fetch(`${url}/v1/branches/${b.id}/events`, { headers: as(ann), signal: events.signal })
  await stream.body.getReader().read()
  events.abort()
  assert.match(await said(b, ann, 'cat a.txt; echo from the shell >> a.txt'), /one/)
  const opened = await api('POST', `/v1/branches/${b.id}/terminals`, {}, as(ann))
  const { id } = await opened.json()
  const terminal = new WebSocket(`${url.replace('http', 'ws')}/v1/branches/${b.id}/terminals/${id}/socket?token=${ann.token}`)
  await new Promise((resolve, reject) => { terminal.on('message', resolve); terminal.on('error', reject) })
  terminal.terminate()
  for (const [route, body] of [['git/init', {}], ['git/commit', { message: 'a commit', all: true }]]) {
    const answer = await api('POST', `/v1/branches/${b.id}/${route}`, body, as(ann))
    assert.ok(answer.ok, await answer.clone().text())
    await answer.arrayBuffer()
  }
  const link = await (await api('POST', `/v1/branches/${b.id}/links`, { permission: 'read' })).json()
  await (await api('POST', `/v1/links/${link.secret}/session`)).arrayBuffer()
  // Half a request, and a socket that says nothing.
  const half = net.connect(port, '127.0.0.1')
  await new Promise((resolve) => half.write('GET /v1/branches HTTP/1.1\r\nhost:', resolve))
  half.destroy()
  assert.equal((await api('DELETE', `/v1/branches/${b.id}?confirm=${b.id}`)).status, 204)
}

/** A minute (`PERCH_SOAK_SECONDS` for more) of rounds leaves nothing behind; one descriptor left by each would be found. */
export async function soak() {
  const log = { text: '' }
  await start({}, ['--audit-entries', '50', '--idle-timeout', '3600'], log)
  const end = Date.now() + SECONDS * 1_000
  // The first rounds fill caches, and many at once perch's pools of connections and threads.
  for (let n = 0; n < 5; n++) await Promise.all(Array.from({ length: 64 }, async () => (await api('GET', '/v1/branches')).text()))
  for (let n = 0; n < 3; n++) await round(n)
  const samples = []
  for (let n = 0; n < ROUNDS || Date.now() < end; n++) {
    await round(n)
    samples.push(await rested())
  }
  judged(samples)
  assert.ok(!/ERROR|panicked/.test(log.text), log.text.split('\n').filter((line) => /ERROR|panicked/.test(line)).join('\n'))
  console.log(`${samples.length} rounds; first ${JSON.stringify(samples[0])}, last ${JSON.stringify(samples.at(-1))}`)
  // The proof that it would be seen: a connection stays open in each round.
  const [sockets, leaking] = [[], []]
  while (leaking.length < ROUNDS) {
    const socket = net.connect(port, '127.0.0.1')
    sockets.push(socket)
    socket.write('GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n')
    await new Promise((resolve) => socket.once('data', resolve))
    leaking.push(await least())
  }
  assert.throws(() => judged(leaking), /descriptors/)
  for (const socket of sockets) socket.destroy()
}
