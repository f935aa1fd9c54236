// Every kind of frame, from a session that may only read: nothing changes but its own presence.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import * as encoding from 'lib0/encoding'
import * as Y from 'yjs'
import { api, ask, branch, eventually, session, sleep, start, yClient } from '../harness.mjs'
import { presence, present, rawH, raws, rawY, tokenMessage } from '../raw.mjs'

const bytes = (...parts) => {
  const encoder = encoding.createEncoder()
  for (const part of parts) {
    if (typeof part === 'number') encoding.writeVarUint(encoder, part)
    else if (typeof part === 'string') encoding.writeVarString(encoder, part)
    else encoding.writeUint8Array(encoder, part)
  }
  return encoding.toUint8Array(encoder)
}
/** Bytes that are no frame end the socket; what is wrong inside a document ends, on Hocuspocus, that document. */
const malformed = (raw) => eventually('closed as malformed', () => raw.closed?.code === 4400 || raw.all('close').length === 1)
const refused = (raw) => (raw.name === undefined
  ? eventually('told that it may not', () => raw.all('denied').length === 1)
  : eventually('told that it was not taken', () => raw.statuses().at(-1) === false))
const taken = (raw) => raw.name === undefined ? sleep(200) : eventually('told that it is durable', () => raw.statuses().at(-1) === true)
const quiet = async (raw) => {
  await sleep(150)
  assert.equal(raw.closed, undefined)
  assert.equal(raw.all('denied').length, 0)
}
const answered = (kind) => (raw, before) => eventually(kind, () => raw.all(kind).length > (before[kind] ?? 0))

/**
 * Each kind: what is sent, what a reader hears, and, where a write session can change something by it, what it hears.
 * `only`: the protocol that has it.
 */
const kinds = {
  'sync step 1': { send: (raw) => raw.send('step1', new Uint8Array([0])), reader: answered('step2') },
  'sync step 2 with text': { send: (raw) => raw.send('step2', raw.typed(0, 'EVIL ')), reader: refused, writer: taken },
  'sync step 2 with nothing new': { send: (raw) => raw.send('step2', Y.encodeStateAsUpdate(raw.doc)), reader: (raw) => (raw.name === undefined ? quiet(raw) : taken(raw)) },
  'an update that inserts': { send: (raw) => raw.send('update', raw.typed(0, 'EVIL ')), reader: refused, writer: taken },
  'an update that deletes': { send: (raw) => raw.send('update', raw.edited(() => raw.text.delete(0, 1))), reader: refused, writer: taken },
  'an update that formats': { send: (raw) => raw.send('update', raw.edited(() => raw.text.format(0, 2, { bold: true }))), reader: malformed },
  'an update of another type': { send: (raw) => raw.send('update', raw.edited(() => raw.doc.getMap('other').set('a', 1))), reader: refused, writer: taken, isInvisible: true },
  'an update with a gap': { send: (raw) => { raw.typed(0, 'EVIL'); raw.send('update', raw.typed(0, 'EVIL ')) }, reader: refused },
  'an update that is not one': { send: (raw) => raw.send('update', new Uint8Array([1, 2, 3, 255, 255])), reader: malformed },
  'sync step 2 that is not one': { send: (raw) => raw.send('step2', new Uint8Array([255, 255, 255, 255, 15])), reader: malformed },
  'a state vector that is not one': { send: (raw) => raw.send('step1', new Uint8Array([200, 1])), reader: malformed },
  'an empty update': { send: (raw) => raw.send('update', new Uint8Array([0, 0])), reader: (raw) => (raw.name === undefined ? quiet(raw) : taken(raw)) },
  'no bytes as update': { send: (raw) => raw.send('update', new Uint8Array()), reader: malformed },
  'sync of an unknown kind': { send: (raw) => raw.send('bytes', bytes(0, 3, 1, new Uint8Array([0]))), reader: malformed },
  'a sync message cut short': { send: (raw) => raw.send('bytes', bytes(0, 2, 100, new Uint8Array([1]))), reader: malformed },
  'a sync message of a giant length': { send: (raw) => raw.send('bytes', new Uint8Array([0, 2, 255, 255, 255, 255, 255, 255, 255, 255, 127])), reader: malformed },
  'its own presence': { send: (raw) => raw.send('awareness', presence(raw.doc.clientID, { user: { name: 'ANN', session: 'ann', color: '#123456' } })), reader: answered('awareness') },
  'the presence of somebody else': { send: (raw, { ann }) => raw.send('awareness', presence(ann.doc.clientID, { user: { name: 'EVIL' }, cursor: 'EVIL' })), reader: quiet },
  'the removal of somebody else': { send: (raw, { ann }) => { const payload = presence(ann.doc.clientID, null); raw.send('awareness', payload) }, reader: quiet },
  'ten thousand presences': { send: (raw) => raw.send('awareness', bytes(10_000, ...Array.from({ length: 10_000 }, (_, n) => bytes(n + 1, 1, '{"user":{}}')))), reader: (raw) => sleep(300).then(() => raw) },
  'presence that is not one': { send: (raw) => raw.send('awareness', bytes(1, 7, 1, '{not json')), reader: malformed },
  'presence cut short': { send: (raw) => raw.send('bytes', bytes(1, 50, new Uint8Array([1]))), reader: malformed },
  'a question for presence': { send: (raw) => raw.send('queryAwareness'), reader: answered('awareness') },
  'a denial, which only a server says': { only: rawY, send: (raw) => raw.send('bytes', bytes(2, 0, 'no')), reader: malformed },
  'an authentication that is not one': { only: rawH, send: (raw) => raw.send('bytes', bytes(2, 2, 'read-write')), reader: malformed },
  'an authentication cut short': { only: rawH, send: (raw) => raw.send('bytes', bytes(2, 0, 40)), reader: malformed },
  'a wrong token': { only: rawH, send: (raw) => raw.send('bytes', tokenMessage('x.y.z')), reader: answered('denied') },
  'the token of another session': { only: rawH, send: (raw, { other }) => raw.send('bytes', tokenMessage(other.token)), reader: answered('denied') },
  'a stateless message': { only: rawH, send: (raw) => raw.send('bytes', bytes(5, '{"evil":true}')), reader: quiet },
  'a broadcast, which only a server says': { only: rawH, send: (raw) => raw.send('bytes', bytes(6, '{"evil":true}')), reader: malformed },
  'a sync status, which only a server says': { only: rawH, send: (raw) => raw.send('bytes', bytes(8, 1)), reader: malformed },
  'a close message': { only: rawH, send: (raw) => raw.send('bytes', bytes(7)), reader: quiet },
  'a close message cut short': { only: rawH, send: (raw) => raw.ws.send(bytes(5, new Uint8Array([97]))), reader: malformed },
  'an update of a document it did not open': { only: rawH, send: (raw) => { const name = raw.name; raw.name = 'b.txt'; raw.send('update', raw.typed(0, 'EVIL ')); raw.name = name }, reader: quiet },
  'a ping': { only: rawH, send: (raw) => raw.ws.send(new Uint8Array([9])), reader: answered('pong') },
  'a pong': { only: rawH, send: (raw) => raw.ws.send(new Uint8Array([10])), reader: quiet },
  'an empty frame': { send: (raw) => raw.ws.send(new Uint8Array()), reader: (raw) => (raw.name === undefined ? quiet(raw) : malformed(raw)) },
  'a text frame': { send: (raw) => raw.ws.send('hello'), reader: (raw) => eventually('closed', () => raw.closed) },
  'a ping of the socket': {
    send: (raw) => { raw.pong = new Promise((resolve) => raw.ws.on('pong', resolve)); raw.ws.ping() },
    reader: (raw) => raw.pong
  },
  'a close of the socket': { send: (raw) => raw.ws.close(1000), reader: (raw) => eventually('closed', () => raw.closed) }
}
for (const type of [4, 9, 11, 100, 2 ** 31]) {
  kinds[`type ${type}`] = { send: (raw) => raw.send('bytes', bytes(type, new Uint8Array([0]))), reader: malformed }
}

/** Keys that come faster than they are taken are taken together: fewer appends than keys, and each key is answered. */
export async function keys_together() {
  await start()
  const b = await branch()
  const appends = async () => Number(/^perch_log_group_size_sum (\d+)$/m.exec(await (await api('GET', '/metrics')).text())?.[1] ?? 0)
  fs.writeFileSync(path.join(b.files, 'a.txt'), '()\n')
  const bob = yClient(await session(b, 'bob'), 'a.txt')
  await eventually('synced', () => bob.synced())
  for (const [protocol, raw] of raws) {
    const ann = await raw(await session(b, 'ann'), 'a.txt').sync()
    const before = await appends()
    const keys = Array.from({ length: 2_000 }, (_, n) => ann.typed(1 + n, 'abcdefghi\n'[n % 10]))
    ann.ws._socket.cork()
    for (const key of keys) ann.send('update', key)
    ann.ws._socket.uncork()
    await eventually('each is there', () => bob.text.toString() === ann.text.toString())
    if (ann.name !== undefined) await eventually('each is answered', () => ann.statuses().length === keys.length)
    assert.ok(ann.statuses().every((durable) => durable))
    await eventually('it is in the file', () => fs.readFileSync(path.join(b.files, 'a.txt'), 'utf8') === ann.text.toString())
    const took = await appends() - before
    assert.ok(took > 0 && took < keys.length, `${protocol}: ${took} appends for ${keys.length} keys`)
    ann.stop()
  }
}

export async function frames() {
  await start()
  const b = await branch()
  const [file, other] = ['a.txt', 'b.txt'].map((name) => path.join(b.files, name))
  fs.writeFileSync(file, 'the text\n')
  fs.writeFileSync(other, 'another\n')
  const ann = yClient(await session(b, 'ann'), 'a.txt')
  ann.provider.awareness.setLocalStateField('cursor', 7)
  await eventually('synced', () => ann.synced())
  const people = { ann, other: await session(b, 'bob') }
  /** All that could change: the log, the files, the text, and ann's presence as a newcomer sees it. */
  const state = async () => {
    for (const name of ['a.txt', 'b.txt']) assert.equal((await api('GET', `/v1/branches/${b.id}/files/${name}`)).status, 200)
    const late = await rawY(await session(b, 'late', 'read'), 'a.txt').sync()
    await eventually('presence', () => late.all('awareness').some(({ payload }) => present(payload).has(ann.doc.clientID)))
    const shown = late.all('awareness').map(({ payload }) => present(payload).get(ann.doc.clientID)).filter(Boolean).at(-1)
    late.stop()
    return JSON.stringify({
      rows: ask(`select 'log', document_id, position from document_log
        union all select 'snapshot', document_id, position from document_snapshot
        union all select 'author', cast(client_id as text), clock_end from document_author order by 1, 2, 3`),
      files: [file, other].map((one) => fs.readFileSync(one, 'utf8')),
      names: fs.readdirSync(b.files),
      texts: [late.text.toString(), ann.text.toString()],
      ann: shown
    })
  }
  let tried = 0
  let now = await state()
  for (const [protocol, raw] of raws) {
    for (const [kind, { only, send, reader, writer, isInvisible }] of Object.entries(kinds)) {
      if (only && only !== raw) continue
      if (raw === rawH && kind === 'type 9') continue
      tried++
      const what = `${protocol}, ${kind}`
      const talk = async (id, permission, hears) => {
        const before = now
        const socket = await raw(await session(b, id, permission), 'a.txt').sync()
        const counts = Object.fromEntries(['step2', 'awareness', 'denied', 'pong'].map((one) => [one, socket.all(one).length]))
        await send(socket, people)
        try {
          await hears(socket, counts)
        } catch (error) {
          throw new Error(`${what}, ${id}: ${error.message}; closed: ${JSON.stringify(socket.closed)}; heard ${JSON.stringify(socket.got.map((message) => message.kind))}`)
        }
        now = await state()
        socket.stop()
        return [before, now]
      }
      const [before, after] = await talk('eve', 'read', reader)
      assert.equal(after, before, what)
      if (writer) {
        const [before, after] = await talk('wes', 'write', writer)
        assert.notEqual(after, before, `${what}: the control changes something`)
        if (!isInvisible) assert.notEqual(JSON.parse(after).files[0], JSON.parse(before).files[0], `${what}: in the file too`)
      }
    }
    // A reader's own presence is shown under its own name, whatever it claims.
    const eve = await raw(await session(b, 'eve', 'read'), 'a.txt').sync()
    eve.send('awareness', presence(eve.doc.clientID, { user: { name: 'ANN', session: 'ann', color: '#000000' } }))
    const shown = await eventually('shown', () => ann.provider.awareness.getStates().get(eve.doc.clientID))
    assert.deepEqual([shown.user.name, shown.user.session], ['EVE', 'eve'])
    eve.stop()
  }
  assert.ok(!ann.closed && ann.provider.wsconnected, 'the others never noticed')
  console.log(`frames: ${tried} kinds`)
}
