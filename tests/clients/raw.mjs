// Sockets without a Yjs client behind them: to send what no stock client sends, and to see what perch answers.
import * as decoding from 'lib0/decoding'
import * as encoding from 'lib0/encoding'
import { Awareness, encodeAwarenessUpdate } from 'y-protocols/awareness'
import WebSocket from 'ws'
import * as Y from 'yjs'
import { clients, eventually } from './harness.mjs'

const sync = (kind) => (encoder, payload) => {
  encoding.writeVarUint(encoder, 0)
  encoding.writeVarUint(encoder, kind)
  encoding.writeVarUint8Array(encoder, payload)
}
const bodies = {
  step1: sync(0),
  step2: sync(1),
  update: sync(2),
  awareness: (encoder, payload) => {
    encoding.writeVarUint(encoder, 1)
    encoding.writeVarUint8Array(encoder, payload)
  },
  queryAwareness: (encoder) => encoding.writeVarUint(encoder, 3),
  /** Bytes as they are, behind the name in Hocuspocus. */
  bytes: (encoder, payload) => encoding.writeUint8Array(encoder, payload)
}
const kinds = { 1: 'awareness', 3: 'queryAwareness', 5: 'stateless', 7: 'close', 8: 'status' }

class Raw {
  constructor(ws, name) {
    this.ws = ws
    this.name = name
    this.got = []
    this.doc = new Y.Doc()
    this.text = this.doc.getText('content')
    ws.binaryType = 'nodebuffer'
    this.open = new Promise((resolve, reject) => { ws.on('open', resolve); ws.on('error', reject) })
    this.open.catch(() => {})
    ws.on('close', (code, reason) => { this.closed = { code, reason: reason.toString() } })
    ws.on('message', (frame) => this.#take(new Uint8Array(frame)))
    clients.push(this)
  }
  #take(frame) {
    if (this.name !== undefined && frame.length === 1) return this.got.push({ kind: frame[0] === 9 ? 'ping' : 'pong' })
    const decoder = decoding.createDecoder(frame)
    const name = this.name === undefined ? undefined : decoding.readVarString(decoder)
    const type = decoding.readVarUint(decoder)
    const message = { kind: kinds[type] ?? `type ${type}`, name }
    if (type === 0) {
      message.kind = ['step1', 'step2', 'update'][decoding.readVarUint(decoder)]
      message.payload = decoding.readVarUint8Array(decoder)
      if (message.kind !== 'step1') Y.applyUpdate(this.doc, message.payload, 'server')
    } else if (type === 1) message.payload = decoding.readVarUint8Array(decoder)
    else if (type === 2) {
      const what = decoding.readVarUint(decoder)
      message.kind = this.name === undefined ? 'denied' : ['token', 'denied', 'authenticated'][what]
      message.text = decoding.readVarString(decoder)
    } else if (type === 8) message.durable = decoding.readVarUint(decoder) === 1
    this.got.push(message)
  }
  /** Sends one message; see `bodies`. */
  send(kind, payload) {
    const encoder = encoding.createEncoder()
    if (this.name !== undefined) encoding.writeVarString(encoder, this.name)
    bodies[kind](encoder, payload)
    this.ws.send(encoding.toUint8Array(encoder))
  }
  all(kind) { return this.got.filter((message) => message.kind === kind) }
  statuses() { return this.all('status').map(({ durable }) => durable) }
  /** Exchanges state; the replica holds what the server has. */
  async sync() {
    await this.open
    const before = this.all('step2').length
    this.send('step1', Y.encodeStateVector(this.doc))
    await eventually('step 2', () => this.closed || this.all('step2').length > before)
    return this
  }
  /** The update that `edit` makes on the replica; not sent. */
  edited(edit) {
    let made
    const take = (update) => { made = update }
    this.doc.on('update', take)
    this.doc.transact(edit)
    this.doc.off('update', take)
    return made
  }
  typed(index, text) { return this.edited(() => this.text.insert(index, text)) }
  stop() { this.ws.terminate() }
}

const room = (s, file) => `${s.docs_url}/${file.split('/').map(encodeURIComponent).join('/')}?token=${s.token}`
export function rawY(s, file, options = {}) {
  return new Raw(new WebSocket(room(s, file), options))
}
/** A Hocuspocus socket that has sent its token (unless `token` is `null`). */
export function rawH(s, file, { token = s.token, ...options } = {}) {
  const raw = new Raw(new WebSocket(s.collab_url, options), file)
  raw.open.then(() => token !== null && raw.send('bytes', tokenMessage(token)), () => {})
  return raw
}
export const raws = [['y-websocket', rawY], ['hocuspocus', rawH]]
export function tokenMessage(token) {
  const encoder = encoding.createEncoder()
  encoding.writeVarUint(encoder, 2)
  encoding.writeVarUint(encoder, 0)
  encoding.writeVarString(encoder, token)
  return encoding.toUint8Array(encoder)
}
/** An awareness payload of client `id`. */
export function presence(id, state) {
  const doc = new Y.Doc()
  doc.clientID = id
  const awareness = new Awareness(doc)
  awareness.setLocalState(state)
  const payload = encodeAwarenessUpdate(awareness, [id])
  awareness.destroy()
  return payload
}
/** Client ids whose presence a payload holds, with their states. */
export function present(payload) {
  const decoder = decoding.createDecoder(payload)
  const states = new Map()
  for (let n = decoding.readVarUint(decoder); n > 0; n--) {
    const id = decoding.readVarUint(decoder)
    decoding.readVarUint(decoder)
    states.set(id, JSON.parse(decoding.readVarString(decoder)))
  }
  return states
}
