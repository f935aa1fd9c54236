// Attacks by their number in the design's list, where no other scenario has them: A1, A7, A8, A9, B6. (A2, B1 to B4, C1: `frames`;
// C2: `h6`, `h1`; B5: `readers`, `h2`; C5: `slow`.)
import assert from 'node:assert/strict'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import WebSocket from 'ws'
import { api, branch, eventually, perch, session, sleep, start, url } from '../harness.mjs'
import { rawH, raws, rawY, tokenMessage } from '../raw.mjs'

const fails = (raw) => raw.open.then(() => { throw new Error('it was opened') }, (error) => error.message)

const memory = () => Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${perch.pid}/status`, 'utf8'))[1]) / 1024
/** A socket that announces one frame of `length` bytes and sends as many MiB of it as it can get rid of. */
function announce(to, length, mebibytes) {
  const { hostname, port, pathname } = new URL(to)
  const socket = net.connect(port, hostname)
  socket.on('error', () => {})
  socket.write(`GET ${pathname} HTTP/1.1\r\nHost: ${hostname}:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${'A'.repeat(22)}==\r\n\r\n`)
  socket.once('data', () => {
    const header = Buffer.alloc(14)
    header.set([0x82, 0xff])
    header.writeBigUInt64BE(BigInt(length), 2)
    socket.write(header)
    for (let n = 0; n < mebibytes; n++) socket.write(mebibyte)
  })
  return socket
}
const mebibyte = Buffer.alloc(1024 * 1024)

export async function attacks() {
  await start()
  const b = await branch()
  const file = path.join(b.files, 'a.txt')
  fs.writeFileSync(file, 'base\n')
  const ann = await session(b, 'ann')

  // A1, cross-site sockets; the control: no origin, and the same one.
  for (const [protocol, raw] of raws) {
    for (const origin of ['https://evil.example', 'null', `${url}.evil.example`, `${url}0`, `https://${new URL(url).host}.evil`, 'http://127.0.0.1']) {
      assert.match(await fails(raw(ann, 'a.txt', { origin })), /403/, `A1 ${protocol} ${origin}`)
    }
    for (const options of [{}, { origin: url }]) {
      const socket = await raw(ann, 'a.txt', options).sync()
      assert.equal(socket.text.toString(), 'base\n')
      socket.stop()
    }
  }

  // A7, ended while connected, by a token of its own and by one seated beside another session: cut, and not let in again.
  for (const [protocol, raw] of raws) {
    const gone = await session(b, 'gone')
    const socket = await raw(gone, 'a.txt').sync()
    if (raw === rawH) {
      // A second session on this socket would outlive its own end.
      const seat = await rawH(ann, 'a.txt').sync()
      seat.name = 'b.txt'
      seat.send('bytes', tokenMessage(gone.token))
      await eventually('A7 the second session is refused', () => seat.all('denied').length === 1)
      assert.equal(seat.all('authenticated').length, 1)
    }
    assert.equal((await api('DELETE', `/v1/branches/${b.id}/sessions/gone`)).status, 204)
    await eventually(`A7 ${protocol} is cut`, () => socket.closed?.code === 4403)
    const again = raw(gone, 'a.txt')
    if (raw === rawY) assert.match(await fails(again), /401/)
    else await eventually('A7 not let in again', () => again.all('denied').length === 1)
  }

  // A8 and A9, before the token: nothing runs, little is kept, and the socket ends. The control is A1's.
  const early = rawH(ann, 'a.txt', { token: null })
  await early.open
  early.send('step1', new Uint8Array([0]))
  early.send('update', early.typed(0, 'EVIL'))
  early.send('queryAwareness')
  await sleep(500)
  assert.deepEqual(early.got, [], 'A9 nothing is answered before the token')
  early.send('bytes', tokenMessage('not.a.token'))
  early.send('update', early.typed(0, 'EVIL'))
  await eventually('A9 refused', () => early.all('denied').length === 1)
  early.send('bytes', tokenMessage(ann.token))
  await eventually('A9 in', () => early.all('authenticated').length === 1)
  await sleep(300)
  assert.equal(fs.readFileSync(file, 'utf8'), 'base\n', 'A9 what was sent before does not run after')
  const large = rawH(ann, 'a.txt', { token: null })
  await large.open
  large.send('update', new Uint8Array(65 * 1024))
  await eventually('A8 a large frame ends it', () => large.closed?.code === 4400)
  // One that announces 32 MiB and sends 8 MiB of them, many times over; not even for the 10 s is it held.
  const before = memory()
  const greedy = Array.from({ length: 20 }, () => announce(ann.collab_url, 32 * 1024 * 1024, 8))
  let most = before
  const watched = setInterval(() => { most = Math.max(most, memory()) }, 20)
  await eventually('A8 all are cut', () => greedy.every((socket) => socket.destroyed))
  clearInterval(watched)
  assert.ok(most - before < 32, `A8 ${most - before} MiB more for 20 sockets`)
  // The control: behind a token all comes at once, before it was answered.
  const quick = rawH(ann, 'quick.txt')
  quick.open.then(() => {
    quick.send('step1', new Uint8Array([0]))
    quick.send('update', quick.typed(0, 'x'.repeat(1024 * 1024)))
  })
  await eventually('A8 a quick one', () => quick.statuses().length === 1)
  const silent = rawH(ann, 'a.txt', { token: null })
  await silent.open
  await eventually('A8 no token in time', () => silent.closed?.code === 4403, 15_000)

  // B6, paths that lead elsewhere, as room and as document name; the control: one in a folder.
  const outside = fs.readdirSync(path.dirname(b.files))
  for (const name of ['../outside.txt', 'x/../../outside.txt', '.git/config', '.GIT/config', '..', '.git']) {
    const h = rawH(ann, name)
    await eventually(`B6 ${name}`, () => h.all('denied').length === 1)
    assert.equal(h.all('authenticated').length, 0)
    h.stop()
  }
  for (const room of ['..%2foutside.txt', '%2e%2e%2foutside.txt', 'x/..%2f..%2foutside.txt', '.git%2fconfig', '.git/config', 'a%00b']) {
    const ws = new WebSocket(`${ann.docs_url}/${room}?token=${ann.token}`)
    const ended = await new Promise((resolve) => { ws.on('close', resolve); ws.on('error', (error) => resolve(error.message)) })
    assert.ok(ended === 4400 || /4\d\d/.test(String(ended)), `B6 ${room}: ${ended}`)
  }
  assert.deepEqual(fs.readdirSync(path.dirname(b.files)), outside)
  const fine = await rawH(ann, 'folder/b.txt').sync()
  fine.send('update', fine.typed(0, 'fine\n'))
  await eventually('the control', () => fs.existsSync(path.join(b.files, 'folder/b.txt')))
}
