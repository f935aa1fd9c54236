// A recorded history of two people typing at the same time, replayed through two real clients of both protocols.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import zlib from 'node:zlib'
import * as Y from 'yjs'
import { atRest, branch, crash, eventually, hClient, session, start, yClient } from '../harness.mjs'

const NAME = 'friendsforever.json.gz'
/** How much of it is replayed by default: `make test` shares its machine with everything else. */
const TRANSACTIONS = 6_000

/** `PERCH_TRACES`, else `../shared/data` beside the repository, else a history of the same kind made here. */
function source() {
  const here = new URL('../../../../shared/data/', import.meta.url).pathname
  for (const folder of [process.env.PERCH_TRACES, here]) {
    if (folder && fs.existsSync(path.join(folder, NAME))) {
      return [path.join(folder, NAME), JSON.parse(zlib.gunzipSync(fs.readFileSync(path.join(folder, NAME))))]
    }
  }
  return ['a generated history', generated(4_000)]
}

/** Two authors who type, delete and merge in turn; no two insert at one place, so that its end is known without a CRDT. */
function generated(length) {
  const txns = []
  let state = 1
  const whole = (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * n)
  }
  // Each writes in a part of its own, parted by a bar; the sizes are what each sees of the other's part.
  const own = [[], []]
  const seen = [[], []]
  let last = [0, 0]
  txns.push({ parents: [], agent: 0, patches: [[0, 0, '|']] })
  for (let n = 1; n < length; n++) {
    const agent = whole(8) === 0 ? 1 - txns[n - 1].agent : txns[n - 1].agent
    const other = 1 - agent
    const parents = [last[agent]]
    if (whole(5) === 0) {
      if (last[other] !== last[agent]) parents.push(last[other])
      seen[agent] = [...own[other]]
    }
    const start = agent === 0 ? 0 : seen[1].length + 1
    const at = whole(own[agent].length + 1)
    if (whole(4) === 0 && at < own[agent].length) {
      own[agent].splice(at, 1)
      txns.push({ parents, agent, patches: [[start + at, 1, '']] })
    } else {
      const one = ['a', 'b ', '\n', '😀', 'é'][whole(5)]
      own[agent].splice(at, 0, ...one)
      txns.push({ parents, agent, patches: [[start + at, 0, one]] })
    }
    last = agent === 0 ? [n, last[1]] : [last[0], n]
  }
  return { txns, endContent: `${own[0].join('')}|${own[1].join('')}` }
}

/** For each transaction how many of each author's it was made upon. */
function versions(txns) {
  const seen = []
  const made = [0, 0]
  return txns.map(({ parents, agent }, index) => {
    const version = [0, 0]
    for (const parent of parents) {
      for (const one of [0, 1]) version[one] = Math.max(version[one], seen[parent][one])
    }
    assert.equal(version[agent], made[agent], `transaction ${index} follows its author's last one`)
    made[agent]++
    const after = [...version]
    after[agent]++
    seen[index] = after
    return version
  })
}

/** Units of `count` code points from unit `from` on. */
function units(text, from, count) {
  let at = from
  for (; count > 0; count--) at += text.codePointAt(at) > 0xffff ? 2 : 1
  return at - from
}

/**
 * Recorded concurrency: when its transaction is made, an author has applied exactly the edits that it had in the
 * recording. So each types in a desk of its own, a replica beside its client; what it types goes to the client, and by
 * perch to the other's. A desk takes an edit of the other only when a transaction names it as a parent, and only after
 * its own client has it from perch.
 */
export async function trace() {
  const [name, history] = source()
  const cut = process.env.PERCH_TRACE_ALL ? history.txns.length : Math.min(TRANSACTIONS, history.txns.length)
  const txns = history.txns.slice(0, cut)
  console.log(`trace: ${name}, ${cut} of ${history.txns.length} transactions`)
  await start()
  const b = await branch()
  const file = path.join(b.files, 'a.txt')
  fs.writeFileSync(file, '')
  const clients = [yClient(await session(b, 'ann'), 'a.txt'), hClient(await session(b, 'bob'), 'a.txt')]
  await eventually('synced', () => clients.every((client) => client.synced()))
  const plain = new Y.Doc()
  const authors = clients.map((client, agent) => {
    const desk = new Y.Doc()
    desk.clientID = 1_000 + agent
    Y.applyUpdate(desk, Y.encodeStateAsUpdate(client.doc))
    Y.applyUpdate(plain, Y.encodeStateAsUpdate(client.doc))
    const author = { desk, client, text: desk.getText('content'), edits: [], taken: 0 }
    desk.on('update', (update, origin) => {
      if (origin === 'other') return
      author.edits.push({ update, clock: Y.getState(desk.store, desk.clientID) })
      Y.applyUpdate(client.doc, update, 'desk')
      Y.applyUpdate(plain, update)
    })
    return author
  })
  const clock = (doc, client) => Y.getState(doc.store, client)
  const began = Date.now()
  const upon = versions(txns)
  let waits = 0
  for (const [index, { agent, patches }] of txns.entries()) {
    const author = authors[agent]
    const other = authors[1 - agent]
    const wanted = upon[index][1 - agent]
    if (author.taken < wanted) {
      const { clock: needed } = other.edits[wanted - 1]
      if (clock(author.client.doc, other.desk.clientID) < needed) waits++
      const end = Date.now() + 30_000
      while (clock(author.client.doc, other.desk.clientID) < needed) {
        assert.ok(Date.now() < end, `transaction ${index} never got its parents`)
        await new Promise((resolve) => setImmediate(resolve))
      }
      const news = other.edits.slice(author.taken, wanted).map(({ update }) => update)
      Y.applyUpdate(author.desk, Y.mergeUpdates(news), 'other')
      author.taken = wanted
    }
    author.desk.transact(() => {
      for (const [position, deleted, inserted] of patches) {
        const text = author.text.toString()
        const at = units(text, 0, position)
        if (deleted > 0) author.text.delete(at, units(text, at, deleted))
        if (inserted) author.text.insert(at, inserted)
      }
    })
  }
  const expected = plain.getText('content').toString()
  if (cut === history.txns.length) assert.equal(expected, history.endContent, 'the end of the recording')
  await eventually('acknowledged', () => clients[1].provider.unsyncedChanges === 0)
  const text = await atRest(file, clients, [], 60_000)
  assert.equal(text, expected)
  console.log(`trace: ${Date.now() - began} ms, ${waits} waits for the other`)
  await crash()
  await start()
  const late = yClient(await session(b, 'cyn', 'read'), 'a.txt')
  await eventually('the log, replayed', () => late.synced())
  assert.equal(late.text.toString(), expected)
  assert.equal(await atRest(file, [...clients, late], []), expected)
}
