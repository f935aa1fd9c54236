// The file as a peer, and the file API.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import WebSocket from 'ws'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'
import { api, ask, atRest, branch, clients, count, crash, data, eventually, hClient, line, perch, session, start, token, url, yAgain, yClient } from '../harness.mjs'
import { rawY } from '../raw.mjs'

/** H7, H11: the process dies at each durable step of a write-back; whether the exchange happened is told by the inode. */
export async function h11() {
  for (const fault of ['staged', 'intent', 'exchanged', 'recorded']) {
    await start({ PERCH_FAULT: fault })
    const b = await branch()
    const file = path.join(b.files, 'a.txt')
    fs.writeFileSync(file, 'one\ntwo\n')
    const ann = hClient(await session(b, 'ann'), 'a.txt')
    await eventually('synced', () => ann.synced())
    const tokens = ['one', 'two']
    line(ann, 'ann', tokens)
    const { signal } = await perch.ended
    assert.equal(signal, 'SIGABRT', `dies at ${fault}`)
    if (fault === 'exchanged') {
      // Somebody changes the file before perch is back.
      const one = token('disk')
      tokens.push(one)
      fs.appendFileSync(file, `${one}\n`)
    }
    await start()
    await eventually('synced again', () => ann.synced())
    line(ann, 'again', tokens)
    await atRest(file, [ann], tokens)
    const temps = path.join(data, 'branches', b.id, 'tmp')
    await eventually(`${fault}: nothing is left over`, () => fs.readdirSync(temps).length === 0)
    ann.stop()
    await crash()
  }
}

/** A file of one line that somebody has open. */
async function shared(extra) {
  await start(extra)
  const b = await branch()
  const file = path.join(b.files, 'a.txt')
  fs.writeFileSync(file, 'one\n')
  const ann = yClient(await session(b, 'ann'), 'a.txt')
  await eventually('synced', () => ann.synced())
  return { file, ann }
}

/** A look at the file that finds nothing new does not hide what was written while it was on its way, nor ends a document. */
export async function while_looked() {
  const { file, ann } = await shared({ PERCH_PAUSE: 'looked' })
  const tokens = ['one']
  for (let turn = 0; turn < 3; turn++) {
    line(ann, 'ann', tokens)
    const typed = tokens.at(-1)
    while (!fs.readFileSync(file, 'utf8').includes(typed)) await sleep(2)
    // perch hears of its own write-back and looks; the pause lies between what it reads and what it makes of that.
    await sleep(100)
    const written = token('written')
    tokens.push(written)
    fs.writeFileSync(file, `${fs.readFileSync(file, 'utf8')}${written}\n`)
    await eventually('editors see it', () => ann.text.toString().includes(written))
  }
  // Away for so long that it counts as deleted, and back while the last look is on its way.
  const present = fs.readFileSync(file, 'utf8')
  for (const away of [900, 1100, 1300, 1500]) {
    fs.unlinkSync(file)
    await sleep(away)
    fs.writeFileSync(file, present)
    await sleep(2500)
  }
  await atRest(file, [ann], tokens)
}

/** A file that is missing just when its document is opened again, as one that git replaces, has not gone: editors go on. */
export async function missing_at_opening() {
  const { file, ann } = await shared()
  const tokens = ['one']
  line(ann, 'before', tokens)
  const present = await atRest(file, [ann], tokens)
  await crash()
  line(ann, 'meanwhile', tokens)
  fs.unlinkSync(file)
  await start()
  await eventually('she is back', () => ann.provider.wsconnected)
  await sleep(300)
  assert.ok(!ann.closed)
  fs.writeFileSync(file, present)
  await eventually('synced again', () => ann.synced())
  await atRest(file, [ann], tokens)
  assert.ok(!ann.closed)
  // The control: gone for good.
  await crash()
  fs.unlinkSync(file)
  await start()
  await eventually('it has ended', () => ann.closed?.code === 4409)
}

/** A large file while it is loaded: who has nothing is answered before; what is typed, written and asked for meanwhile is done after. */
export async function while_loaded() {
  await start({ PERCH_PAUSE: 'loading' })
  const b = await branch()
  const text = Array.from({ length: 5_000 }, (_, n) => `line ${n} of a text that takes a while to load\n`).join('')
  for (const name of ['a.txt', 'b.txt', 'c.txt']) fs.writeFileSync(path.join(b.files, name), text)
  const [ann, bob] = await Promise.all(['ann', 'bob'].map((name) => session(b, name)))
  const file = path.join(b.files, 'a.txt')
  const tokens = []
  const editors = [yClient(ann, 'a.txt'), hClient(bob, 'a.txt')]
  // Both typed before perch has loaded it, and so does a program.
  for (const editor of editors) {
    await eventually('all of it is here', () => editor.text.length >= text.length)
    line(editor, 'early', tokens)
  }
  tokens.push(token('written'))
  fs.appendFileSync(file, `${tokens.at(-1)}\n`)
  editors.push(hClient(bob, 'a.txt'))
  await atRest(file, editors, tokens)

  // The file API opens it, and an editor comes before that is loaded.
  const edited = fetch(`${url}/v1/branches/${b.id}/files/b.txt`, {
    method: 'PUT', headers: { authorization: `Bearer ${ann.token}` }, body: `${text}put\n`
  })
  const late = yClient(ann, 'b.txt')
  line(late, 'before any of it', [])
  assert.equal((await edited).status, 200)
  await eventually('both are there', () => late.text.toString().includes('\nput\n') && late.text.toString().includes('before any of it'))
  await eventually('and on disk', () => fs.readFileSync(path.join(b.files, 'b.txt'), 'utf8') === late.text.toString())

  // A copy from another history is told so, whatever is loaded.
  const other = yAgain(editors[0], ann, 'c.txt')
  await eventually('another history', () => other.closed?.code === 4409)

  // A snapshot that is damaged is sent to nobody: whoever comes is told to come back.
  await crash()
  ask("update document_snapshot set data = substr(data, 3) where document_id in (select id from document where path = 'c.txt')")
  for (const client of [...editors, late, other]) client.stop()
  await start()
  const broken = rawY(ann, 'c.txt')
  await broken.open
  broken.send('step1', Uint8Array.of(0))
  await eventually('told to come back', () => broken.closed?.code === 4500)
  assert.ok(broken.got.every(({ kind }) => kind !== 'step2'))
}

/** Programs that write to a file over and over keep nobody's typing from the file, nor their lines from editors. */
export async function busy_file() {
  await start()
  const b = await branch()
  const program = "import sys,time\nfor i in range(600):\n with open(sys.argv[1], 'a') as f: f.write(f'appended-{i}.\\n')\n time.sleep(0.015)"
  const file = path.join(b.files, 'a.log')
  fs.writeFileSync(file, 'one\n')
  const ann = yClient(await session(b, 'ann'), 'a.log')
  await eventually('synced', () => ann.synced())
  const writer = spawn('python3', ['-c', program, file])
  const ended = new Promise((resolve) => writer.once('exit', resolve))
  const tokens = ['one']
  const lines = () => count(ann.text.toString(), 'appended-')
  await eventually('its lines arrive', () => lines() > 5)
  for (let turn = 0; turn < 2; turn++) {
    line(ann, 'ann', tokens)
    await eventually('what is typed is on disk', () => count(fs.readFileSync(file, 'utf8'), tokens.at(-1)) === 1)
    const before = lines()
    await eventually('its lines go on', () => lines() > before + 5 || writer.exitCode !== null)
  }
  assert.equal(writer.exitCode, null, 'all that while it writes')
  await ended
  for (let i = 0; i < 600; i++) tokens.push(`appended-${i}.`)
  await atRest(file, [ann], tokens)
}

/** H10, a file API write is made from the text its caller read; it keeps line ends, and a deleted file's document ends. */
export async function h10() {
  await start()
  const b = await branch()
  const file = path.join(b.files, 'src/a.txt')
  const route = `/v1/branches/${b.id}/files/src/a.txt`
  assert.equal((await api('PUT', route, 'one\r\ntwo\r\nthree\r\n')).status, 201)
  const read = await api('GET', route)
  const etag = read.headers.get('etag')
  const before = await read.text()
  const ann = yClient(await session(b, 'ann'), 'src/a.txt')
  await eventually('synced', () => ann.synced())
  assert.equal(ann.text.toString(), 'one\ntwo\nthree\n')
  ann.text.insert(0, 'typed meanwhile\n')
  await eventually('on disk', () => count(fs.readFileSync(file, 'utf8'), 'typed meanwhile') === 1)
  const agent = await api('PUT', route, before.replace('two', 'TWO'), { 'if-match': etag })
  assert.equal(agent.status, 200)
  await eventually('merged', () => ann.text.toString() === 'typed meanwhile\none\nTWO\nthree\n')
  assert.equal(fs.readFileSync(file, 'utf8'), 'typed meanwhile\r\none\r\nTWO\r\nthree\r\n')
  const unknown = await api('PUT', route, 'x', { 'if-match': `"${'0'.repeat(64)}"` })
  assert.equal(unknown.status, 412)
  assert.equal(unknown.headers.get('etag'), agent.headers.get('etag'))
  ann.text.insert(0, 'with\rreturn ')
  await eventually('normalised', () => ann.text.toString().startsWith('with\nreturn typed'))
  await atRest(file, [ann], ['return typed'])
  // Unlink and create, as editors save, is a change; a deletion that stays ends the document.
  fs.unlinkSync(file)
  fs.writeFileSync(file, 'born again\n')
  await eventually('replaced', () => ann.text.toString() === 'born again\n')
  fs.unlinkSync(file)
  await eventually('closed', () => ann.closed?.code === 4404)
  assert.equal((await api('GET', route)).status, 404)
  const anew = yClient(await session(b, 'ann'), 'src/a.txt')
  await eventually('a new generation', () => anew.synced())
  assert.equal(anew.text.toString(), '')
  assert.ok(!fs.existsSync(file), 'an unedited document leaves no file')
  anew.text.insert(0, 'new\n')
  await eventually('file', () => fs.existsSync(file) && fs.readFileSync(file, 'utf8') === 'new\n')
  // Another history of the same file is refused, not merged.
  const old = yClient(await session(b, 'ann'), 'src/a.txt')
  old.stop()
  Y.applyUpdate(old.doc, Y.encodeStateAsUpdate(ann.doc))
  const stale = new WebsocketProvider((await session(b, 'ann')).docs_url, 'src/a.txt', ann.doc, {
    params: { token: (await session(b, 'ann')).token }, WebSocketPolyfill: WebSocket, disableBc: true
  })
  clients.push({ stop: () => stale.destroy() })
  let reset
  stale.on('closed', (event) => { reset = event })
  await eventually('reset', () => reset?.code === 4409)
  assert.equal(anew.text.toString(), 'new\n')
  await api('PUT', `/v1/branches/${b.id}/files/bin`, new Uint8Array([0xff, 0xfe, 0]))
  const binary = yClient(await session(b, 'ann'), 'bin')
  await eventually('no text', () => binary.closed?.code === 4415)
  for (const bad of ['.git/config', 'a/../../x', '.GIT/hooks/x']) {
    const answer = await api('PUT', `/v1/branches/${b.id}/files/${encodeURIComponent(bad)}`, 'x')
    assert.equal(answer.status, 400, bad)
  }
}

/**
 * Who has the file open when perch replaces it writes on into the old one. That comes into the document once, against
 * what was in it when it was replaced: also when perch is stopped or killed before the writer lets go, right after it has
 * recorded the replacement (`recorded`), and right after it has merged what came late (`committed`).
 */
export async function late_writers() {
  for (const end of ['crash', 'stop', 'recorded', 'committed']) {
    await start({ PERCH_FAULT: end === 'recorded' ? end : undefined })
    const b = await branch()
    const file = path.join(b.files, 'a.txt')
    const route = `/v1/branches/${b.id}/files/a.txt`
    fs.writeFileSync(file, 'one\ntwo\n')
    const ann = hClient(await session(b, 'ann'), 'a.txt')
    await eventually('synced', () => ann.synced())
    const tokens = ['one', 'two']
    const { ino } = fs.statSync(file)
    const writer = fs.openSync(file, 'a')
    const writes = () => {
      const one = token('late')
      tokens.push(one)
      fs.writeSync(writer, `${one}\n`)
    }
    line(ann, 'ann', tokens)
    await eventually('durable', () => ann.synced())
    // The barrier waits for a writer, but not for long.
    await api('GET', route).catch(() => {})
    await eventually('replaced', () => fs.statSync(file).ino !== ino)
    if (end === 'recorded') assert.equal((await perch.ended).signal, 'SIGABRT')
    writes()
    line(ann, 'ann', tokens)
    if (end === 'stop') {
      perch.kill('SIGTERM')
      assert.equal((await perch.ended).code, 0)
    } else if (end !== 'recorded') await crash()
    writes()
    line(ann, 'ann', tokens)
    if (end === 'committed') {
      fs.closeSync(writer)
      await start({ PERCH_FAULT: end })
      await api('GET', route).catch(() => {})
      assert.equal((await perch.ended).signal, 'SIGABRT')
      await start()
    } else {
      await start()
      // Nobody but an editor has asked for the document yet; the writer still holds the file.
      await eventually('synced again', () => ann.synced())
      writes()
      fs.closeSync(writer)
    }
    await eventually('synced again', () => ann.synced())
    line(ann, 'after', tokens)
    await atRest(file, [ann], tokens)
    const temps = path.join(data, 'branches', b.id, 'tmp')
    await eventually(`${end}: nothing is left over`, () => fs.readdirSync(temps).length === 0)
    await eventually(`${end}: nor recorded`, () => ask('select count(*) from document_aside')[0][0] === '0')
    ann.stop()
    await crash()
  }
}
