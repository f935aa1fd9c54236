// One scenario for each hole of the design: an order of events that breaks the obvious implementation.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import * as Y from 'yjs'
import { api, ask, atRest, branch, count, crash, eventually, hClient, holdDatabase, line, perch, session, shown, sleep, start, token, yClient } from '../harness.mjs'
import { rawH, raws, rawY } from '../raw.mjs'
import { faults, files } from './disk.mjs'

const read = (file) => (fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '')
const drafts = () => ask('select reason, session_id from draft order by created_at_ms')

/**
 * H1, resent before committed. An update that adds nothing to memory may still be uncommitted: acknowledged at once,
 * it is lost by a crash although its sender was told that it is durable. Deletions too, which change no state vector.
 */
export async function h1() {
  await start()
  const b = await branch()
  fs.writeFileSync(path.join(b.files, 'a.txt'), 'one two\n')
  const ann = await rawH(await session(b, 'ann'), 'a.txt').sync()
  const typed = ann.typed(0, 'typed ')
  const deleted = ann.edited(() => ann.text.delete(6, 4))
  let release = await holdDatabase()
  for (const update of [typed, deleted, typed, deleted]) ann.send('update', update)
  await sleep(1_500)
  assert.deepEqual(ann.statuses(), [], 'nothing is acknowledged that is not committed')
  await crash()
  await release()
  await start()
  const bob = await rawH(await session(b, 'bob'), 'a.txt').sync()
  assert.equal(bob.text.toString(), 'one two\n', 'and indeed it was not durable')
  // The same, but the database comes back: each is answered, after the commit.
  const again = bob.typed(0, 'again ')
  release = await holdDatabase()
  for (const update of [again, again, again]) bob.send('update', update)
  await sleep(1_000)
  assert.deepEqual(bob.statuses(), [])
  await release()
  await eventually('acknowledged', () => bob.statuses().length === 3)
  // With a gap before it an update is not acknowledged; its sender is asked, and then both are.
  const first = bob.typed(0, 'a')
  const second = bob.typed(1, 'b')
  const asked = bob.all('step1').length
  bob.send('update', second)
  await eventually('asked for what is missing', () => bob.all('step1').length === asked + 1)
  assert.equal(bob.statuses().length, 3)
  bob.send('update', first)
  await eventually('both', () => bob.statuses().length === 5)
  await crash()
  await start()
  const cyn = await rawY(await session(b, 'cyn', 'read'), 'a.txt').sync()
  assert.equal(cyn.text.toString(), 'abagain one two\n')
}

/**
 * H2, refused and gone on. What a reader typed was not taken; once it may write, its next update has a clock hole
 * before it and everything after stays pending for ever, unless its state is asked for. One that grows the file over the
 * limit is closed, and what it typed is kept as a draft.
 */
export async function h2() {
  await start()
  const b = await branch()
  const file = path.join(b.files, 'a.txt')
  fs.writeFileSync(file, 'base\n')
  const clients = [hClient(await session(b, 'ann'), 'a.txt'), yClient(await session(b, 'bob'), 'a.txt')]
  await eventually('synced', () => clients.every((client) => client.synced()))
  const tokens = ['base']
  const right = async (permission) => {
    for (const id of ['ann', 'bob']) {
      assert.equal((await api('PATCH', `/v1/branches/${b.id}/sessions/${id}`, { permission })).status, 200)
    }
  }
  await right('read')
  const refused = []
  for (const client of clients) line(client, 'refused', refused)
  await sleep(500)
  for (const one of refused) assert.equal(count(read(file), one), 0)
  await right('write')
  // Without another keystroke of theirs.
  tokens.push(...refused)
  await atRest(file, clients, tokens)
  for (const client of clients) line(client, 'after', tokens)
  await atRest(file, clients, tokens)
  await eventually('all acknowledged', () => clients[0].provider.unsyncedChanges === 0)
  for (const [protocol, raw] of raws) {
    const big = await raw(await session(b, protocol), 'big.txt').sync()
    big.send('update', big.typed(0, 'x'.repeat(8 * 1024 * 1024 + 1)))
    if (raw === rawY) await eventually(`${protocol} is closed`, () => big.closed?.code === 4413)
    else await eventually(`${protocol} is told`, () => big.all('denied').length === 1)
    await eventually('the draft is kept', () => drafts().some(([reason, by]) => by === protocol && /grow past/.test(reason)))
  }
}

/**
 * H3, undurable text on disk. Text that is written to the file before it is committed comes back after a crash as a
 * foreign edit, and then again from its author: doubled.
 */
export async function h3() {
  await start()
  const b = await branch()
  const file = path.join(b.files, 'a.txt')
  fs.writeFileSync(file, 'base\n')
  const clients = [hClient(await session(b, 'ann'), 'a.txt'), yClient(await session(b, 'bob'), 'a.txt')]
  await eventually('synced', () => clients.every((client) => client.synced()))
  const release = await holdDatabase()
  const tokens = ['base']
  for (const client of clients) line(client, 'undurable', tokens)
  await sleep(3_500)
  assert.equal(read(file), 'base\n', 'only durable text goes to disk')
  await crash()
  await release()
  await start()
  await atRest(file, clients, tokens)
}

/**
 * H4, a server-made edit is seen before it is durable. Crash, the change of the file is taken in anew, and an editor
 * brings the first copy back: doubled. So nobody sees one before its commit; and one that was committed but not yet seen
 * (`committed`) is not made again.
 */
export async function h4() {
  await start()
  let b = await branch()
  let file = path.join(b.files, 'a.txt')
  fs.writeFileSync(file, 'base\n')
  let clients = [hClient(await session(b, 'ann'), 'a.txt'), yClient(await session(b, 'bob'), 'a.txt')]
  await eventually('synced', () => clients.every((client) => client.synced()))
  const release = await holdDatabase()
  fs.appendFileSync(file, 'outside\n')
  await sleep(1_500)
  for (const client of clients) assert.equal(client.text.toString(), 'base\n', 'nobody sees what is not durable')
  await crash()
  await release()
  await start()
  await atRest(file, clients, ['base', 'outside'])
  for (const client of clients) client.stop()
  await crash()
  for (const how of ['disk', 'api']) {
    await start({ PERCH_FAULT: 'committed' })
    b = await branch()
    file = path.join(b.files, 'a.txt')
    fs.writeFileSync(file, 'base\n')
    clients = [hClient(await session(b, 'ann'), 'a.txt'), yClient(await session(b, 'bob'), 'a.txt')]
    await eventually('synced', () => clients.every((client) => client.synced()))
    if (how === 'disk') fs.appendFileSync(file, 'outside\n')
    else await api('PUT', `/v1/branches/${b.id}/files/a.txt`, 'base\noutside\n').catch(() => {})
    assert.equal((await perch.ended).signal, 'SIGABRT')
    await start()
    await eventually('synced again', () => clients.every((client) => client.synced()))
    const tokens = ['base', 'outside']
    for (const client of clients) line(client, 'after', tokens)
    await atRest(file, clients, tokens)
    for (const client of clients) client.stop()
    await crash()
  }
}

/**
 * H5, two tabs of one browser relay each other's blocks: the state vector of a connection says nothing about what its
 * next update holds. An update of another generation is refused with the reset code and kept as a draft; merged, every
 * line would be there twice.
 */
export async function h5() {
  await start()
  const b = await branch()
  const file = path.join(b.files, 'a.txt')
  fs.writeFileSync(file, 'base\n')
  const old = await rawY(await session(b, 'old'), 'a.txt').sync()
  old.typed(0, 'typed in the old generation ')
  assert.equal((await api('DELETE', `/v1/branches/${b.id}/files/a.txt`)).status, 204)
  await eventually('the generation has ended', () => old.closed?.code === 4404)
  fs.writeFileSync(file, 'base\n')
  for (const [protocol, raw] of raws) {
    const tab = await raw(await session(b, protocol), 'a.txt').sync()
    // The control: its own update is taken.
    tab.send('update', tab.typed(0, `${protocol} `))
    await eventually('taken', () => count(read(file), protocol) === 1)
    tab.send('update', Y.encodeStateAsUpdate(old.doc))
    if (raw === rawY) await eventually('reset', () => tab.closed?.code === 4409)
    else await eventually('reset', () => tab.all('close').length === 1 && tab.all('denied').length === 1)
    await eventually('kept as a draft', () => drafts().some(([reason, by]) => by === protocol && /reset/.test(reason)))
    const vector = raw(await session(b, protocol), 'a.txt')
    await vector.open
    if (raw === rawH) await eventually('in', () => vector.all('authenticated').length === 1)
    vector.send('step1', Y.encodeStateVector(old.doc))
    if (raw === rawY) await eventually('reset', () => vector.closed?.code === 4409)
    else await eventually('reset', () => vector.all('close').length === 1)
    // Nothing is accepted before sync step 1.
    const early = raw(await session(b, protocol), 'a.txt')
    await early.open
    if (raw === rawH) await eventually('in', () => early.all('authenticated').length === 1)
    early.send('update', early.typed(0, 'EARLY'))
    if (raw === rawY) await eventually('refused', () => early.closed?.code === 4400)
    else await eventually('refused', () => early.all('denied').length === 1)
  }
  const text = (await rawY(await session(b, 'late'), 'a.txt').sync()).text.toString()
  assert.equal(text, 'hocuspocus y-websocket base\n')
  await atRest(file, [], ['base', 'hocuspocus', 'y-websocket'])
  assert.equal(read(file), text)
}

/**
 * H6, a forged client id makes its owner's real edits look known: they would be dropped without a word. New clocks of an
 * id that a connected session types under are left out; once it is gone, they are a relay and credited to it.
 */
export async function h6() {
  for (const [protocol, raw] of raws) {
    await start()
    const b = await branch()
    const file = path.join(b.files, 'a.txt')
    fs.writeFileSync(file, 'base\n')
    const ann = await raw(await session(b, 'ann'), 'a.txt').sync()
    ann.send('update', ann.typed(0, 'first '))
    await eventually('taken', () => read(file) === 'first base\n')
    const eve = await raw(await session(b, 'eve'), 'a.txt').sync()
    const forged = new Y.Doc()
    Y.applyUpdate(forged, Y.encodeStateAsUpdate(ann.doc))
    forged.clientID = ann.doc.clientID
    let update
    forged.on('update', (made) => { update = made })
    forged.getText('content').insert(0, 'FORGED')
    eve.send('update', update)
    ann.send('update', ann.typed(0, 'second '))
    await eventually('the owner goes on', () => read(file) === 'second first base\n')
    // A relay of what its owner typed offline, once the owner is gone, is taken, and is the owner's.
    const offline = ann.typed(0, 'offline ')
    ann.stop()
    await eventually('relayed', async () => {
      const bob = await raw(await session(b, 'bob'), 'a.txt').sync()
      bob.send('update', offline)
      await sleep(200)
      return bob.closed === undefined
    })
    await eventually('in the file', () => read(file) === 'offline second first base\n')
    const authors = ask(`select distinct session_id from document_author where client_id = ${ann.doc.clientID}`)
    assert.deepEqual(authors, [['ann']], 'credited to the owner')
    assert.equal((await raw(await session(b, 'cyn'), 'a.txt').sync()).text.toString(), read(file), protocol)
    await crash()
  }
}

/**
 * H7, the outside update and what perch knows of the file are one transaction. In two, a crash between them takes the
 * same change of the file in twice. Here with edits under way that are not on disk yet, so that the disk peer is no prefix
 * of the log.
 */
export async function h7() {
  for (const fault of ['logged', 'committed']) {
    await start({ PERCH_FAULT: fault })
    const b = await branch()
    const file = path.join(b.files, 'a.txt')
    fs.writeFileSync(file, 'one\ntwo\nthree\n')
    const ann = hClient(await session(b, 'ann'), 'a.txt')
    await eventually('synced', () => ann.synced())
    const tokens = ['one', 'two', 'three']
    line(ann, 'ann', tokens)
    const outside = token('disk')
    tokens.push(outside)
    fs.writeFileSync(file, `one\ntwo\n${outside}\nthree\n`)
    for (let n = 0; n < 100 && perch.signalCode === null; n++) {
      line(ann, 'ann', tokens)
      await sleep(20)
    }
    assert.equal((await perch.ended).signal, 'SIGABRT', fault)
    await start()
    await eventually('synced again', () => ann.synced())
    line(ann, 'after', tokens)
    await atRest(file, [ann], tokens)
    ann.stop()
    await crash()
  }
}

/**
 * H8, partial writes. `gen > f` is empty for a moment and then grows: taken in too early, everybody's text vanishes and
 * comes back as somebody else's; written back meanwhile, the generator's file is replaced under its hands.
 */
export async function h8() {
  await start()
  const b = await branch()
  const file = path.join(b.files, 'a.txt')
  const kept = Array.from({ length: 20_000 }, (_, n) => `line ${n} of a generated file`)
  fs.writeFileSync(file, `${kept.join('\n')}\n`)
  const ann = hClient(await session(b, 'ann'), 'a.txt')
  const bob = yClient(await session(b, 'bob'), 'a.txt')
  await eventually('synced', () => ann.synced() && bob.synced())
  let least = Infinity
  bob.text.observe(() => { least = Math.min(least, bob.text.length) })
  const tokens = []
  for (let round = 0; round < 3; round++) {
    line(ann, 'typed', tokens)
    await atRest(file, [ann, bob], tokens)
    least = Infinity
    const one = token('gen')
    tokens.push(one)
    const now = read(file).split('\n')
    now.splice(10_000, 0, one)
    const content = now.join('\n')
    // Twenty writes, 60 ms apart: 1.2 s in all, without a close between them.
    const slowly = spawn('sh', ['-c', `for n in $(seq 20); do head -c ${Math.ceil(Buffer.byteLength(content) / 20)}; sleep 0.06; done > '${file}'`], { stdio: ['pipe', 'inherit', 'inherit'] })
    slowly.stdin.on('error', () => {})
    slowly.stdin.end(content)
    await sleep(200)
    line(bob, 'meanwhile', tokens)
    await new Promise((resolve) => slowly.on('exit', resolve))
    const text = await atRest(file, [ann, bob], tokens)
    assert.ok(least >= Buffer.byteLength(content), `the text was cut to ${least} meanwhile`)
    const lines = new Set(text.split('\n'))
    assert.ok(kept.every((one) => lines.has(one)), 'every line is still there')
  }
}

/**
 * H9, delete judged too early. vim and git replace a file by unlink and create, or through a backup name: that is new
 * content of the same document. Only a path that stays absent is a deletion.
 */
export async function h9() {
  await start()
  const b = await branch()
  const file = path.join(b.files, 'a.txt')
  fs.writeFileSync(file, 'base\n')
  const clients = [hClient(await session(b, 'ann'), 'a.txt'), yClient(await session(b, 'bob'), 'a.txt')]
  await eventually('synced', () => clients.every((client) => client.synced()))
  const tokens = ['base']
  const ways = {
    'unlink and create': async (content) => { fs.unlinkSync(file); await sleep(150); fs.writeFileSync(file, content) },
    'backup name': async (content) => {
      fs.renameSync(file, `${file}~`)
      await sleep(150)
      fs.writeFileSync(file, content)
      fs.unlinkSync(`${file}~`)
    },
    'rename over': async (content) => { fs.writeFileSync(`${file}.tmp`, content); fs.renameSync(`${file}.tmp`, file) },
    'lock file': async (content) => {
      fs.writeFileSync(`${file}.lock`, content)
      fs.unlinkSync(file)
      fs.linkSync(`${file}.lock`, file)
      fs.unlinkSync(`${file}.lock`)
    }
  }
  const generations = () => ask('select count(*) from document')[0][0]
  const before = generations()
  for (const [way, replace] of Object.entries(ways)) {
    for (const client of clients) line(client, 'typed', tokens)
    await atRest(file, clients, tokens)
    const one = token('disk')
    tokens.push(one)
    await replace(`${read(file)}${one}\n`)
    line(clients[0], 'meanwhile', tokens)
    await atRest(file, clients, tokens)
    assert.ok(clients.every((client) => !client.closed && !client.refused), way)
  }
  assert.equal(generations(), before, 'still the same generation')
  // The control: a path that stays absent.
  fs.unlinkSync(file)
  await eventually('closed', () => clients[1].closed?.code === 4404 && clients[0].refused)
  await sleep(1_000)
  assert.ok(!fs.existsSync(file), 'no late write-back brings it back')
}

/** H10, a file API write is made from the text that its caller read, not from the present one. In `files`. */
export const h10 = files

/** H11, whether the exchange happened before the crash is told by the inode of the temporary file. In `faults`. */
export const h11 = faults

/**
 * H12, after a crash nobody may open the document before `git commit` reads the file. So the branch brings its files up
 * to what was acknowledged before its first call is answered, whatever that call is about.
 */
export async function h12() {
  await start()
  const b = await branch()
  const file = path.join(b.files, 'a.txt')
  fs.writeFileSync(file, 'base\n')
  fs.writeFileSync(path.join(b.files, 'other.txt'), 'other\n')
  for (let round = 0; round < 3; round++) {
    const ann = hClient(await session(b, 'ann'), 'a.txt')
    await eventually('synced', () => ann.synced())
    const tokens = []
    line(ann, 'ann', tokens)
    await eventually('acknowledged', () => ann.synced())
    ann.stop()
    await crash()
    const early = count(read(file), tokens[0])
    await start()
    assert.equal((await api('GET', `/v1/branches/${b.id}/files/other.txt`)).status, 200)
    assert.equal(count(read(file), tokens[0]), 1, shown(read(file)))
    if (round === 0) assert.equal(early, 0, 'it was not on disk before')
  }
}
