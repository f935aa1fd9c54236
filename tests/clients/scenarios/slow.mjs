// Sockets that are slow, many, or fast: bounded memory, nobody else waits, nothing is dropped.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { atRest, branch, count, eventually, hClient, line, perch, session, sleep, start, yClient } from '../harness.mjs'
import { raws, rawH } from '../raw.mjs'

const wire = (client) => client.socket?.webSocket ?? client.provider.ws
/** Resident memory of the server in MiB. */
const memory = () => Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${perch.pid}/status`, 'utf8'))[1]) / 1024

/** Replaces what stands behind the last line end by `size` bytes again and again, until `rounds` are through and acknowledged; gives ms. */
async function churn(editor, rounds, size) {
  const began = Date.now()
  for (let round = 0; round < rounds; round++) {
    editor.doc.transact(() => {
      const start = editor.text.toString().lastIndexOf('\n') + 1
      editor.text.delete(start, editor.text.length - start)
      editor.text.insert(start, `${round}`.padEnd(size, 'x'))
    })
    if (round % 16 === 15) await eventually('acknowledged', () => editor.provider.unsyncedChanges === 0)
    await sleep(0)
  }
  await eventually('all acknowledged', () => editor.provider.unsyncedChanges === 0)
  return Date.now() - began
}

/** Unmodified clients of both protocols whose sockets are not read while others type megabytes. */
export async function slow() {
  await start()
  const b = await branch()
  const file = path.join(b.files, 'a.txt')
  fs.writeFileSync(file, 'first\n')
  const ann = hClient(await session(b, 'ann'), 'a.txt')
  const fast = yClient(await session(b, 'bob'), 'a.txt')
  await eventually('synced', () => ann.synced() && fast.synced())
  const tokens = ['first']
  await churn(ann, 300, 64 * 1024)
  const alone = await churn(ann, 300, 64 * 1024)
  const readers = []
  for (let n = 0; n < 10; n++) {
    const s = await session(b, `slow${n}`, n < 6 ? 'write' : 'read')
    readers.push(n % 2 ? hClient(s, 'a.txt') : yClient(s, 'a.txt'))
  }
  await eventually('slow ones synced', () => readers.every((reader) => reader.synced()))
  for (const reader of readers) wire(reader)?.pause()
  const before = memory()
  const crowded = await churn(ann, 600, 64 * 1024)
  const grown = memory() - before
  console.log(`slow: 300 updates of 64 KiB in ${alone} ms, 600 beside ten stopped readers in ${crowded} ms, ${grown.toFixed(1)} MiB more`)
  line(ann, 'ann', tokens)
  await eventually('the fast one is not behind', () => count(fast.text.toString(), tokens.at(-1)) === 1, 5_000)
  // What ten readers did not take is 37 MiB each; the kernel holds some of it, perch at most a megabyte each.
  assert.ok(grown < 20, `${grown} MiB`)
  assert.ok(crowded < 2 * alone * 4 + 3_000, `${crowded} ms beside stopped readers, ${alone} ms for half of it without`)
  // A stopped reader still writes.
  for (const reader of readers.slice(0, 6)) line(reader, 'slow', tokens)
  await eventually('taken', () => tokens.every((one) => count(fast.text.toString(), one) === 1))
  // They read again in the middle of a storm, when updates wait in the document's queue: an overflow ends in one diff
  // of all that was dropped, whatever is typed between the two.
  const storm = await rawH(await session(b, 'storm'), 'a.txt').sync()
  for (let burst = 0; burst < 2; burst++) {
    for (const reader of readers) wire(reader)?.pause()
    const updates = Array.from({ length: 2_000 }, (_, n) => storm.edited(() => {
      const start = storm.text.toString().lastIndexOf('\n') + 1
      storm.text.delete(start, storm.text.length - start)
      storm.text.insert(start, `${n}`.padEnd(4_096, 'y'))
    }))
    for (const [n, update] of updates.entries()) {
      storm.send('update', update)
      if (n % 100 === 99) await sleep(0)
      if (n % 500 === 499) for (const reader of readers) wire(reader)?.isPaused ? wire(reader).resume() : n > 1_500 || wire(reader)?.pause()
    }
    for (const reader of readers) wire(reader)?.resume()
    await eventually('the storm is acknowledged', () => storm.statuses().length === 2_000 * (burst + 1))
  }
  assert.ok(readers.every((reader) => !reader.closed && !reader.refused), 'nobody was sent away for being slow')
  await atRest(file, [ann, fast, ...readers], tokens)
}

/** 200 sockets of one session on one document, and one that sends 10,000 updates without looking up. */
export async function crowd() {
  await start()
  const b = await branch()
  const s = await session(b, 'ann')
  const sockets = []
  for (let n = 0; n < 200; n++) sockets.push(n % 2 ? hClient(s, 'a.txt') : yClient(s, 'a.txt'))
  await eventually('all synced', () => sockets.every((socket) => socket.synced()))
  const tokens = []
  for (const socket of sockets) line(socket, 'crowd', tokens)
  await atRest(path.join(b.files, 'a.txt'), sockets, tokens)
  for (const socket of sockets) socket.stop()
  for (const [protocol, raw] of raws) {
    const file = `${protocol}.txt`
    const burst = await raw(s, file).sync()
    for (let n = 0; n < 10_000; n++) burst.send('update', burst.typed(burst.text.length, `${n}\n`))
    const all = Array.from({ length: 10_000 }, (_, n) => `${n}\n`).join('')
    await eventually(`${protocol}: all is in the file`, () => fs.readFileSync(path.join(b.files, file), 'utf8') === all)
    const reader = await raw(s, file).sync()
    assert.equal(reader.text.toString(), all)
    assert.equal(burst.closed, undefined)
    if (raw === rawH) {
      // One status for each: 10,000 and none for the step 1.
      await eventually('each is acknowledged', () => burst.statuses().length === 10_000)
      assert.ok(burst.statuses().every(Boolean))
    }
  }
  // A socket that sends and never takes its answers is not read for ever: its answers are bounded.
  const deaf = await rawH(s, 'deaf.txt').sync()
  const one = deaf.typed(0, 'x')
  deaf.ws.pause()
  const before = memory()
  let sent = 0
  // Until it goes no further: what the kernel holds on the way is some megabytes, too.
  let waiting
  do {
    while (sent < 3_000_000 && deaf.ws.bufferedAmount < 4 * 1024 * 1024) {
      for (let n = 0; n < 1_000; n++, sent++) deaf.send('update', one)
      await sleep(0)
    }
    waiting = deaf.ws.bufferedAmount
    await sleep(1_000)
  } while (sent < 3_000_000 && deaf.ws.bufferedAmount < waiting)
  console.log(`crowd: a deaf socket sent ${sent} updates, ${(memory() - before).toFixed(1)} MiB more`)
  assert.ok(deaf.ws.bufferedAmount > 0, 'it is slowed by not being read')
  assert.ok(memory() - before < 48, 'answers that nobody takes are bounded')
  deaf.ws.resume()
  await eventually('and goes on once it reads', () => deaf.statuses().length === sent, 120_000)
  assert.equal((await rawH(s, 'deaf.txt').sync()).text.toString(), 'x')
}
