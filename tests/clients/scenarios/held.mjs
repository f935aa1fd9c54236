// What messages of sockets may hold together before they are whole, and after.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import * as encoding from 'lib0/encoding'
import { api, branch, eventually, holdDatabase, perch, port, session, sleep, start, yClient } from '../harness.mjs'
import { rawH, rawY } from '../raw.mjs'

const MIB = 1024 * 1024
const memory = () => Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${perch.pid}/status`, 'utf8'))[1]) / 1024
const held = async () => Number(/^perch_socket_held_bytes (\S+)/m.exec(await (await api('GET', '/metrics')).text())[1]) / MIB

/** A socket by hand. Its messages are malformed, which perch tells once it has all of one. */
class Sender {
  constructor(target) {
    this.socket = net.connect(port, '127.0.0.1')
    this.said = Buffer.alloc(0)
    this.socket.on('error', () => {}).on('data', (bytes) => { this.said = Buffer.concat([this.said, bytes]) })
    this.socket.write(`GET ${target} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${'A'.repeat(22)}==\r\n\r\n`)
    this.open = eventually('a socket', () => this.said.includes('\r\n\r\n'))
  }
  /** All of a message but its last byte. `left`: bytes that wait here, since perch does not take them. */
  async begin(length) {
    await this.open
    const header = Buffer.alloc(14)
    header.set([0x82, 0xff])
    header.writeBigUInt64BE(BigInt(length), 2)
    this.socket.write(header)
    for (let rest = length - 1; rest > 0; rest -= MIB) this.socket.write(mebibyte.subarray(0, Math.min(rest, MIB)))
  }
  get left() { return this.socket.writableLength / MIB }
  finish() { this.socket.write(mebibyte.subarray(0, 1)) }
  /** Whether perch has closed it with 4400 `malformed frame`. */
  get isRefused() { return this.said.includes(Buffer.from([0x88, 17, 0x11, 0x30])) }
}
const mebibyte = Buffer.alloc(MIB, 0xff)

export async function half_sent() {
  await start({}, ['--max-socket-bytes', String(64 * MIB), '--max-branch-socket-bytes', String(8 * MIB)])
  const b = await branch()
  const elsewhere = await branch({ name: 'elsewhere' })
  for (const one of [b, elsewhere]) fs.writeFileSync(path.join(one.files, 'a.txt'), 'text\n')
  const [ann, bob, eve] = [await session(b, 'ann'), await session(b, 'bob'), await session(elsewhere, 'eve')]

  // Two people type all along, and each hears the other at once.
  const [left, right] = [yClient(ann, 'a.txt'), yClient(bob, 'a.txt')]
  await eventually('both are there', () => left.synced() && right.synced())
  let isOver = false
  let typed = 0
  const typing = (async () => {
    while (!isOver) {
      const line = `line ${++typed}`
      left.text.insert(0, `${line}\n`)
      await eventually(`${line} is heard`, () => right.text.toString().startsWith(line), 5_000)
      await sleep(20)
    }
  })()

  // All but the last byte, of twelve messages of 30 MiB: one of them goes on without room, the others stay with their senders.
  const before = memory()
  const target = (of, s) => `/v1/branches/${of.id}/docs/a.txt?token=${s.token}`
  const senders = Array.from({ length: 12 }, () => new Sender(target(b, ann)))
  let most = before
  const watched = setInterval(() => { most = Math.max(most, memory()) }, 20)
  senders.forEach((sender) => sender.begin(30 * MIB))
  await eventually('the room is held, and one goes on without', async () => await held() > 30 && senders.some((sender) => sender.left === 0))
  assert.ok(most - before < 150, `${most - before} MiB more`)
  const waiting = senders.filter((sender) => sender.left > 0)
  assert.equal(waiting.length, 11)
  // Another branch has room of its own.
  const large = await rawY(eve, 'a.txt').sync()
  large.send('update', large.typed(0, 'x'.repeat(2 * MIB)))
  await eventually('a large message of another branch', async () => (await (await api('GET', `/v1/branches/${elsewhere.id}/files/a.txt`)).text()).length > 2 * MIB)

  // They finish, whichever is taken when: each message is heard.
  senders.forEach((sender) => sender.finish())
  await eventually('all are heard', () => senders.every((sender) => sender.isRefused), 60_000)
  await eventually('nothing is held', async () => await held() === 0)
  assert.ok(most - before < 150, `${most - before} MiB more at the end`)

  // Those who stop for good are ended while others wait, and what comes behind them is taken.
  const stopped = Array.from({ length: 2 }, () => new Sender(target(b, ann)))
  await Promise.all(stopped.map((sender) => sender.begin(20 * MIB)))
  await eventually('the room is held again', async () => await held() > 20)
  const behind = await rawY(bob, 'b.txt').sync()
  behind.send('update', behind.typed(0, 'y'.repeat(3 * MIB)))
  await eventually('what came behind', () => fs.existsSync(path.join(b.files, 'b.txt')) && fs.statSync(path.join(b.files, 'b.txt')).size === 3 * MIB, 90_000)
  stopped.forEach((sender) => sender.socket.destroy())
  await eventually('nothing is held', async () => await held() === 0)

  // Messages that are whole leave nothing behind with the sockets that brought them.
  const at = memory()
  const idle = []
  for (let n = 0; n < 12; n++) {
    const socket = await rawH(ann, 'a.txt').sync()
    socket.send('bytes', encoding.encode((encoder) => {
      encoding.writeVarUint(encoder, 5)
      encoding.writeVarString(encoder, 'z'.repeat(25 * MIB))
    }))
    await socket.sync()
    idle.push(socket)
  }
  assert.ok(idle.every((socket) => !socket.closed))
  let stayed
  await eventually('their memory is free', () => (stayed = memory() - at) < 100).catch(() => assert.fail(`${stayed} MiB stay`))
  clearInterval(watched)
  isOver = true
  await typing
  console.log(`half_sent: ${(most - before).toFixed(0)} MiB at most, ${stayed.toFixed(0)} MiB stayed, ${typed} lines typed`)
}

/** Large messages that perch can't work on, since its database is away, stay with their senders but for a few; none is lost. */
export async function large_ones_wait() {
  await start({}, ['--max-document-bytes', String(64 * MIB)])
  const b = await branch()
  const file = path.join(b.files, 'a.txt')
  fs.writeFileSync(file, 'text\n')
  const ann = await rawY(await session(b, 'ann'), 'a.txt').sync()
  const release = await holdDatabase()
  const before = memory()
  // The first is on its way to the log, the next two wait for it: as much as may wait.
  let update
  for (let n = 0; n < 4; n++) ann.send('update', update = ann.typed(0, `${n}`.repeat(4 * MIB)))
  // All the same, so that they say nothing new.
  for (let n = 0; n < 60; n++) ann.send('update', update)
  await sleep(3_000)
  const [grown, left] = [memory() - before, ann.ws.bufferedAmount / MIB]
  assert.ok(left > 150, `${left} MiB of 256 wait with their sender`)
  assert.ok(grown < 120, `${grown} MiB more`)
  await release()
  await eventually('all are taken', () => ann.ws.bufferedAmount === 0, 60_000)
  await eventually('on disk', () => fs.statSync(file).size === 16 * MIB + 5, 60_000)
}
