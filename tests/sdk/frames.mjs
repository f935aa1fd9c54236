// A client of the SDK's socket without the SDK: what it sends and reads, frame by frame, and when it answers pings.
import { once } from 'node:events'
import WebSocket from 'ws'

/** MessagePack, as much of it as the protocol has. */
export function encode(value) {
  if (value === null || value === undefined) return Buffer.from([0xc0])
  if (typeof value === 'boolean') return Buffer.from([value ? 0xc3 : 0xc2])
  if (typeof value === 'number') {
    const bytes = Buffer.alloc(9)
    if (Number.isInteger(value) && value >= 0 && value < 128) return Buffer.from([value])
    if (Number.isInteger(value) && value >= 0 && value < 2 ** 32) {
      bytes[0] = 0xce
      bytes.writeUInt32BE(value, 1)
      return bytes.subarray(0, 5)
    }
    bytes[0] = 0xcb
    bytes.writeDoubleBE(value, 1)
    return bytes
  }
  const long = (mark, length) => {
    const bytes = Buffer.alloc(5)
    bytes[0] = mark
    bytes.writeUInt32BE(length, 1)
    return bytes
  }
  if (typeof value === 'string') return Buffer.concat([long(0xdb, Buffer.byteLength(value)), Buffer.from(value)])
  if (value instanceof Uint8Array) return Buffer.concat([long(0xc6, value.length), value])
  if (Array.isArray(value)) return Buffer.concat([long(0xdd, value.length), ...value.map(encode)])
  const entries = Object.entries(value)
  return Buffer.concat([long(0xdf, entries.length), ...entries.flat().map(encode)])
}

/** What a frame says. */
export function decode(bytes) {
  let at = 0
  const take = (length) => bytes.subarray(at, (at += length))
  const number = (length) => take(length).readUIntBE(0, length)
  const list = (length) => Array.from({ length }, value)
  const map = (length) => Object.fromEntries(Array.from({ length }, () => [value(), value()]))
  const text = (length) => take(length).toString()
  function value() {
    const mark = number(1)
    if (mark < 0x80) return mark
    if (mark < 0x90) return map(mark & 15)
    if (mark < 0xa0) return list(mark & 15)
    if (mark < 0xc0) return text(mark & 31)
    if (mark >= 0xe0) return mark - 256
    switch (mark) {
      case 0xc0: return null
      case 0xc2: return false
      case 0xc3: return true
      case 0xc4: case 0xc5: case 0xc6: return take(number(2 ** (mark - 0xc4)))
      case 0xca: return take(4).readFloatBE()
      case 0xcb: return take(8).readDoubleBE()
      case 0xcc: case 0xcd: case 0xce: return number(2 ** (mark - 0xcc))
      case 0xcf: return Number(take(8).readBigUInt64BE())
      case 0xd0: case 0xd1: case 0xd2: { const length = 2 ** (mark - 0xd0); return take(length).readIntBE(0, length) }
      case 0xd3: return Number(take(8).readBigInt64BE())
      case 0xd9: case 0xda: case 0xdb: return text(number(2 ** (mark - 0xd9)))
      case 0xdc: case 0xdd: return list(number(2 ** (mark - 0xdb)))
      case 0xde: case 0xdf: return map(number(2 ** (mark - 0xdd)))
      default: throw new Error(`0x${mark.toString(16)} is not of the protocol`)
    }
  }
  const whole = value()
  if (at !== bytes.length) throw new Error(`${bytes.length - at} bytes are left over`)
  return whole
}

/**
 * A client that has joined. `heard`: all that came, in order: answers, notifications, `{ ping }`. `holds`: pings wait for
 * `answerPings()`.
 */
export async function join(session, { holds = false } = {}) {
  const socket = new WebSocket(`${session.url}/?token=${session.token}`, { autoPong: false })
  const client = { socket, heard: [], holds: false, waiting: [] }
  const asked = new Map()
  let last = 0
  socket.on('ping', (payload) => {
    client.heard.push({ ping: payload, at: performance.now() })
    if (client.holds && payload.length) client.waiting.push(payload)
    else socket.pong(payload)
  })
  socket.on('message', (bytes) => {
    const said = decode(bytes)
    client.heard.push({ ...said, frame: bytes })
    if (!('id' in said)) return
    const { resolve, reject } = asked.get(said.id)
    if ('error' in said) reject(Object.assign(new Error(said.error.message), said.error))
    else resolve(said.result)
  })
  client.send = (method, params) => {
    const id = last++
    socket.send(encode({ method, params, id }))
    return new Promise((resolve, reject) => asked.set(id, { resolve, reject }))
  }
  client.answerPings = () => {
    client.holds = false
    for (const payload of client.waiting.splice(0)) socket.pong(payload)
  }
  /** The text that a shell has printed. */
  client.printed = (shell) => client.heard.filter(({ method, params }) => method === 'shell/out' && params?.shellId === shell).map(({ params }) => params.out).join('')
  await once(socket, 'open')
  client.joined = await client.send('client/join', { clientInfo: { protocolVersion: '0.367.10', appId: 'raw' }, asyncProgress: false, subscriptions: {} })
  client.holds = holds
  return client
}
