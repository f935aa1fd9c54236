// What a session may not do.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { api, atRest, branch, count, eventually, hClient, line, session, sleep, start, token, url, yClient } from '../harness.mjs'

/** A read session changes nothing, on either protocol or the file API; a write session does (the control). */
export async function readers() {
  await start()
  const b = await branch()
  const file = path.join(b.files, 'a.txt')
  await api('PUT', `/v1/branches/${b.id}/files/a.txt`, 'start\n')
  const reader = await session(b, 'eve', 'read')
  const writer = await session(b, 'ann')
  const [ry, rh] = [yClient(reader, 'a.txt'), hClient(reader, 'a.txt')]
  const ann = hClient(writer, 'a.txt', undefined)
  await eventually('synced', () => ry.provider.synced && rh.provider.synced && ann.synced())
  assert.equal(rh.provider.authorizedScope, 'readonly')
  assert.equal(ann.provider.authorizedScope, 'read-write')
  ry.text.insert(0, 'EVIL-Y')
  rh.text.insert(0, 'EVIL-H')
  const put = (s, body) => api('PUT', `/v1/branches/${b.id}/files/a.txt`, body, { authorization: `Bearer ${s.token}` })
  assert.equal((await put(reader, 'EVIL-PUT')).status, 403)
  const tokens = ['start']
  line(ann, 'ann', tokens)
  await atRest(file, [ann], tokens)
  await eventually('readers see it', () => [ry, rh].every((r) => count(r.text.toString(), tokens[1]) === 1))
  assert.ok(rh.provider.unsyncedChanges > 0, 'the reader is told that it was not taken')
  assert.equal(count(ann.text.toString() + fs.readFileSync(file, 'utf8'), 'EVIL'), 0)
  const absent = yClient(reader, 'absent.txt')
  await eventually('absent is not found', () => absent.closed?.code === 4404)
  assert.equal((await put(writer, `${fs.readFileSync(file, 'utf8')}put\n`)).status, 200)
  await atRest(file, [ann], [...tokens, 'put'])
  // Raised to write, what was typed while reading is asked for; ended, the socket is cut and the token refused.
  assert.equal((await api('PATCH', `/v1/branches/${b.id}/sessions/ann`, { permission: 'read' })).status, 200)
  await eventually('told', () => ann.provider.authorizedScope === 'readonly')
  ann.text.insert(0, 'LATER')
  await sleep(300)
  assert.equal(count(fs.readFileSync(file, 'utf8'), 'LATER'), 0)
  assert.equal((await api('PATCH', `/v1/branches/${b.id}/sessions/ann`, { permission: 'write' })).status, 200)
  await atRest(file, [ann], [...tokens, 'put', 'LATER'])
  assert.equal((await api('DELETE', `/v1/branches/${b.id}/sessions/eve`)).status, 204)
  await eventually('cut', () => ry.closed?.code === 4403)
  assert.equal((await put(reader, 'x')).status, 401)
  const none = await fetch(`${url}/v1/branches`)
  assert.equal(none.status, 401)
  assert.equal((await none.json()).code, 'unauthorized')
}
