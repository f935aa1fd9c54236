// What documents remember.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import WebSocket from 'ws'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'
import { api, atRest, branch, clients, count, crash, eventually, hClient, session, start, yClient } from '../harness.mjs'

const as = (s) => ({ authorization: `Bearer ${s.token}` })
async function json(method, route, body, headers) {
  const answer = await api(method, route, body, headers)
  assert.ok(answer.ok, `${method} ${route}: ${answer.status} ${await answer.clone().text()}`)
  return answer.json()
}
const authorsOf = (entry) => entry.authors.map((of) => of.author).join('+')

/** Who changed what when: after typing by two, an outside change, restarts and compactions; text at positions. */
export async function history() {
  await start()
  const b = await branch()
  const at = (kind, rest = '') => `/v1/branches/${b.id}/${kind}/src/a.txt${rest}`
  const file = path.join(b.files, 'src/a.txt')
  await api('PUT', at('files'), 'one\r\ntwo\r\nthree\r\n')
  assert.equal((await api('GET', at('history'))).status, 404, 'no document yet')
  const ann = yClient(await session(b, 'ann'), 'src/a.txt')
  const bob = hClient(await session(b, 'bob'), 'src/a.txt')
  const eve = await session(b, 'eve', 'read')
  await eventually('synced', () => ann.synced() && bob.synced())
  ann.text.insert(0, 'by ann\n')
  await eventually('bob has it', () => bob.text.toString().startsWith('by ann'))
  bob.text.delete(7, 4)
  bob.text.insert(bob.text.toString().indexOf('three'), 'TH ')
  await atRest(file, [ann, bob], ['by ann', 'TH three'])
  let page = await json('GET', at('history'), undefined, as(eve))
  assert.equal(page.oldest_position, 0)
  const all = page.entries.flatMap((entry) => entry.authors)
  const sum = (author, what) => all.filter((of) => of.author === author).reduce((n, of) => n + of[what], 0)
  assert.deepEqual([sum('ann', 'inserted'), sum('ann', 'deleted')], [7, 0])
  assert.deepEqual([sum('bob', 'inserted'), sum('bob', 'deleted')], [3, 4])
  assert.ok(all.some((of) => of.author === 'bob' && of.name === 'BOB'))
  const typed = page.position
  // The file is changed outside: an entry of its own.
  fs.appendFileSync(file, 'from a shell\r\n')
  await eventually('merged', () => ann.text.toString().endsWith('from a shell\n'))
  await eventually('told', async () => {
    page = await json('GET', at('history'))
    return authorsOf(page.entries[0]) === '(disk)'
  })
  const [disk] = page.entries
  assert.equal(disk.first_position, typed + 1)
  assert.equal(disk.authors[0].inserted, 'from a shell\n'.length)
  const text = async (position, who) => {
    const answer = await api('GET', at('text', `?position=${position}`), undefined, who)
    assert.equal(answer.status, 200, await answer.clone().text())
    assert.equal(answer.headers.get('perch-position'), String(position))
    return answer.text()
  }
  assert.equal(await text(0), 'one\ntwo\nthree\n')
  assert.equal(await text(typed, as(eve)), 'by ann\ntwo\nTH three\n')
  assert.equal(await text(disk.position), 'by ann\ntwo\nTH three\nfrom a shell\n')
  const ahead = await api('GET', at('text', `?position=${disk.position + 1}`))
  assert.deepEqual([ahead.status, (await ahead.json()).code], [404, 'position_unknown'])
  const diff = await json('GET', at('diff', `?from=${typed}`))
  assert.deepEqual(diff.hunks, [{ old_line: 4, old: [], new_line: 4, new: ['from a shell'] }])
  assert.equal(diff.to, disk.position)
  // Who typed which line: seed, two people, one line of both, the shell.
  const lines = async () => (await json('GET', at('authors'), undefined, as(eve))).lines
    .map((of) => `${of.line}x${of.count} ${of.authors.map((one) => one.author).join('+')}`)
  assert.deepEqual(await lines(), ['1x1 ann', '2x1 (file)', '3x1 (file)+bob', '4x1 (disk)'])
  const part = await json('GET', at('authors', '?line=2&limit=2'))
  assert.deepEqual([part.lines.map((of) => [of.line, of.count]), part.next], [[[2, 1], [3, 1]], 4])
  // It outlives a kill.
  const before = (await json('GET', at('history'))).entries
  await crash()
  await start()
  assert.deepEqual((await json('GET', at('history'))).entries, before)
  assert.equal(await text(typed), 'by ann\ntwo\nTH three\n')
  // Three compactions later every position can still be read, and blame knows everyone.
  await eventually('synced again', () => ann.synced() && bob.synced())
  for (let round = 0; round < 3; round++) {
    for (let n = 0; n < 280; n++) {
      bob.text.insert(0, '.')
      await eventually('acknowledged', () => bob.provider.unsyncedChanges === 0)
    }
    await eventually('on disk', () => count(fs.readFileSync(file, 'utf8'), '.') === 280 * (round + 1))
  }
  page = await json('GET', at('history', '?limit=1'))
  assert.equal(page.oldest_position, 0)
  assert.ok(page.position >= disk.position + 3 * 280)
  assert.equal(page.entries.length, 1)
  assert.equal(page.next, page.entries[0].first_position)
  assert.equal(await text(0), 'one\ntwo\nthree\n')
  for (const dots of [1, 255, 257, 500]) {
    assert.equal(await text(disk.position + dots), `${'.'.repeat(dots)}by ann\ntwo\nTH three\nfrom a shell\n`)
  }
  assert.deepEqual(await lines(), ['1x1 bob+ann', '2x1 (file)', '3x1 (file)+bob', '4x1 (disk)'])
  let seen = 0
  for (let next; ;) {
    const one = await json('GET', at('history', `?limit=1${next ? `&before=${next}` : ''}`))
    if (one.entries.length === 0) break
    assert.equal(one.entries[0].position, next ? next - 1 : page.position, 'pages join')
    next = one.entries[0].first_position
    seen++
  }
  assert.ok(seen >= 3)
  // Back to a position, merged with what is typed meanwhile; line ends stay; a reader may not.
  const restore = (position, who) => api('POST', at('history', '/restore'), { position }, who)
  assert.equal((await restore(typed, as(eve))).status, 403)
  assert.equal((await restore(typed, as(await session(b, 'ann')))).status, 204)
  await eventually('restored', () => [ann, bob].every((one) => one.text.toString() === 'by ann\ntwo\nTH three\n'))
  assert.equal(fs.readFileSync(file, 'utf8'), 'by ann\r\ntwo\r\nTH three\r\n')
  page = await json('GET', at('history', '?limit=1'))
  assert.ok(authorsOf(page.entries[0]).includes('ann'))
  assert.equal((await restore(10 ** 9)).status, 404)
}

/** Past the bound of rows the oldest positions go, and their answer names what is left. */
export async function forgotten() {
  await start()
  const b = await branch()
  const at = (kind, rest = '') => `/v1/branches/${b.id}/${kind}/big.txt${rest}`
  const ann = hClient(await session(b, 'ann'), 'big.txt')
  await eventually('synced', () => ann.synced())
  // 10 MiB of log a round: after seven the bytes' bound has cut the first.
  const big = `${'x'.repeat(5 * 1024 * 1024)}\n`
  let first
  for (let round = 0; round < 16; round++) {
    ann.text.delete(0, ann.text.length)
    ann.text.insert(0, `${round}${big}`)
    await eventually('acknowledged', () => ann.provider.unsyncedChanges === 0)
    await eventually('on disk', () => fs.readFileSync(path.join(b.files, 'big.txt'), 'utf8').startsWith(`${round}x`))
    first ??= (await json('GET', at('history'))).position
  }
  let page
  // The answers are of one moment only once the last snapshot is there.
  await eventually('cut, and named', async () => {
    const gone = await api('GET', at('text', `?position=${first}`))
    const problem = await gone.json()
    page = await json('GET', at('history'))
    const oldest = await api('GET', at('text', `?position=${page.oldest_position}`))
    await oldest.body.cancel()
    return gone.status === 410 && problem.code === 'position_gone' && oldest.status === 200 &&
      problem.detail.endsWith(`the oldest that can be read is ${page.oldest_position}`) && page.oldest_position > first
  })
  assert.ok(page.entries.at(-1).first_position <= first, 'who and when is still told')
}

/** A deleted document comes back whole, at its path or another; a refused edit can be read as a draft. */
export async function restored() {
  await start()
  const b = await branch()
  const file = path.join(b.files, 'docs/a.txt')
  const route = `/v1/branches/${b.id}/files/docs/a.txt`
  await api('PUT', route, '\ufeffone\r\ntwo\r\n')
  const s = await session(b, 'ann')
  const ann = yClient(s, 'docs/a.txt')
  await eventually('synced', () => ann.synced())
  ann.text.insert(4, 'typed\n')
  await atRest(file, [], ['typed'])
  const bytes = fs.readFileSync(file)
  assert.equal((await api('DELETE', route)).status, 204)
  await eventually('closed', () => ann.closed?.code === 4404)
  const eve = await session(b, 'eve', 'read')
  const { documents } = await json('GET', `/v1/branches/${b.id}/deleted`, undefined, as(eve))
  assert.equal(documents.length, 1)
  const [gone] = documents
  assert.deepEqual([gone.path, gone.reason, gone.len_bytes], ['docs/a.txt', 'deleted', 'one\ntyped\ntwo\n'.length])
  const back = (body, who) => api('POST', `/v1/branches/${b.id}/deleted/${gone.id}/restore`, body, who)
  assert.equal((await back(undefined, as(eve))).status, 403)
  const created = await back(undefined, as(s))
  assert.equal(created.status, 201)
  assert.deepEqual(await created.json(), { path: 'docs/a.txt' })
  assert.deepEqual(fs.readFileSync(file), bytes, 'byte for byte')
  const taken = await back()
  assert.deepEqual([taken.status, (await taken.json()).code], [409, 'exists'])
  assert.equal((await back({ path: 'docs/b.txt' })).status, 201)
  assert.deepEqual(fs.readFileSync(path.join(b.files, 'docs/b.txt')), bytes)
  assert.equal((await back({ path: '.git/x' })).status, 400)
  assert.equal((await api('POST', `/v1/branches/${b.id}/deleted/do_${'0'.repeat(32)}/restore`)).status, 404)
  // Where an editor has the absent path open, all see it come back.
  fs.unlinkSync(file)
  const anew = yClient(s, 'docs/a.txt')
  await eventually('an empty document', () => anew.synced())
  assert.equal((await back(undefined, as(s))).status, 201)
  await eventually('seen', () => anew.text.toString() === 'one\ntyped\ntwo\n')
  // The old history is refused and kept.
  const stale = new WebsocketProvider(s.docs_url, 'docs/a.txt', ann.doc, {
    params: { token: s.token }, WebSocketPolyfill: WebSocket, disableBc: true
  })
  clients.push({ stop: () => stale.destroy() })
  let reset
  stale.on('closed', (event) => { reset = event })
  await eventually('reset', () => reset?.code === 4409)
  // A provider that is told so before it sends anything has no draft; raw bytes do.
  const sent = new Y.Doc()
  Y.applyUpdate(sent, Y.encodeStateAsUpdate(ann.doc))
  sent.getText('content').insert(0, 'offline work\n')
  const socket = new WebSocket(`${s.docs_url}/docs/a.txt?token=${s.token}`)
  await new Promise((resolve) => socket.on('open', resolve))
  const frame = (kind, bytes) => {
    const len = []
    for (let n = bytes.length; ; n >>>= 7) {
      len.push(n > 127 ? (n & 127) | 128 : n)
      if (n <= 127) break
    }
    return Uint8Array.from([0, kind, ...len, ...bytes])
  }
  socket.send(frame(0, Y.encodeStateVector(new Y.Doc())))
  socket.send(frame(2, Y.encodeStateAsUpdate(sent)))
  const code = await new Promise((resolve) => socket.on('close', resolve))
  assert.equal(code, 4409)
  const { drafts } = await json('GET', `/v1/branches/${b.id}/drafts`, undefined, as(s))
  const draft = drafts.find((one) => one.path === 'docs/a.txt')
  assert.equal(draft.author, 'ann')
  assert.ok(draft.reason.startsWith('reset'))
  const one = `/v1/branches/${b.id}/drafts/${draft.id}`
  const read = await json('GET', one, undefined, as(s))
  assert.equal(read.text, 'offline work\none\ntyped\ntwo\n')
  assert.equal(read.data, null)
  // Others' drafts are nobody's business but the token holder's.
  assert.equal((await api('GET', one, undefined, as(await session(b, 'bob')))).status, 404)
  assert.deepEqual((await json('GET', `/v1/branches/${b.id}/drafts`, undefined, as(eve))).drafts, [])
  assert.equal((await api('DELETE', one, undefined, as(await session(b, 'bob')))).status, 404)
  assert.equal((await api('DELETE', one, undefined, as(eve))).status, 403)
  assert.equal((await api('GET', one)).status, 200)
  assert.equal((await api('DELETE', one, undefined, as(s))).status, 204)
  assert.equal((await api('GET', one)).status, 404)
}
