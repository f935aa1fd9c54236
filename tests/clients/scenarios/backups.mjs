// Backups made while people type, what comes back from them, and exports.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { api, atRest, binary, branch, clients, count, crash, data, eventually, hClient, line, perch, session, sleep, start, temp, token, yAgain } from '../harness.mjs'

/** Runs a command of perch's; gives how it ended and what it said. `heard`: gets what it has said, as it comes, and its process. */
export const command = async (args, env = {}, heard = () => {}) => {
  const child = spawn(binary, args, { env: { ...process.env, PERCH_DATA: data, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  for (const from of [child.stdout, child.stderr]) from.on('data', (text) => {
    said += text
    heard(said, child)
  })
  const code = await new Promise((resolve) => child.on('close', resolve))
  return { code, said }
}
async function succeeds(args, env, heard) {
  const { code, said } = await command(args, env, heard)
  assert.equal(code, 0, said)
  return said
}
async function refuses(pattern, args, env) {
  const { code, said } = await command(args, env)
  assert.equal(code, 1, said)
  assert.match(said, pattern)
}
/** A second database beside the test's own, where that is Postgres; gives the environment for it. */
function elsewhere(name) {
  const url = process.env.DATABASE_URL
  const env = { PERCH_DATA: path.join(temp, name) }
  if (!url) return { env, drop: () => {} }
  const database = `${new URL(url).pathname.slice(1)}_${name}`
  execFileSync('psql', [url, '-qc', `create database ${database}`])
  env.DATABASE_URL = `${url.slice(0, url.lastIndexOf('/'))}/${database}`
  return { env, drop: () => execFileSync('psql', [url, '-qc', `drop database ${database} with (force)`]) }
}

/**
 * People type in several documents, a shell writes, git commits; a backup is made, perch is killed, and the backup
 * comes up elsewhere: all that was acknowledged before the backup began is there, once, and the same people go on.
 */
export async function backup() {
  await start()
  const b = await branch()
  const git = (...args) => execFileSync('git', ['-C', b.files, '-c', 'user.name=t', '-c', 'user.email=t@example.org', '-c', 'safe.directory=*', ...args], { stdio: 'pipe' }).toString()
  git('init', '-q')
  const names = ['a.txt', 'b.txt', 'c/d.txt']
  const [ann, bob] = [await session(b, 'ann'), await session(b, 'bob')]
  const made = (await (await api('POST', '/v1/tokens', { name: 'kept' })).json()).token
  const editors = names.flatMap((name, n) => [ann, bob].map((who) => ({ ...hClient(who, name), n, typed: [] })))
  await eventually('synced', () => editors.every((editor) => editor.synced()))
  let typing = true
  const typists = editors.map(async (editor) => {
    while (typing) {
      line(editor, 'u', editor.typed)
      await sleep(20)
    }
  })
  const cyn = hClient(await session(b, 'cyn'), 'closed.txt')
  await eventually('synced', () => cyn.synced())
  const closed = []
  line(cyn, 'cyn', closed)
  await eventually('acknowledged', () => cyn.synced())
  await atRest(path.join(b.files, 'closed.txt'), [cyn], closed)
  const windows = path.join(b.files, 'crlf.txt')
  fs.writeFileSync(windows, 'one\r\ntwo\r\n')
  fs.chmodSync(windows, 0o755)
  fs.symlinkSync('crlf.txt', path.join(b.files, 'link'))
  fs.writeFileSync(path.join(data, 'branches', b.id, 'home', 'kept'), 'at home')
  fs.writeFileSync(path.join(data, 'branches', b.id, 'home', '.private', 'secret'), 'a secret of a session')
  git('add', 'crlf.txt', 'closed.txt')
  git('commit', '-qm', 'first')
  cyn.stop()
  // What an editor typed is acknowledged at the moment at which it waits for nothing.
  for (const editor of editors) {
    editor.certain = await eventually('acknowledged', () => editor.typed.length > 5 && editor.synced() && [...editor.typed])
  }
  const file = path.join(temp, 'backup.tar.gz')
  // It is held still between database and files, until each file holds what was typed meanwhile.
  let held
  const said = await succeeds(['backup', file], { PERCH_PAUSE: 'copied' }, (said, child) => {
    if (held || !said.includes('the database is copied')) return
    child.kill('SIGSTOP')
    const since = editors.map(({ typed }) => typed.length)
    held = eventually('the files have gone on', () => editors.every(({ n, typed }, at) => typed.length > since[at] &&
      fs.readFileSync(path.join(b.files, names[n]), 'utf8').includes(typed[since[at]]))).finally(() => child.kill('SIGCONT'))
  })
  await held
  assert.match(said, /branch 1 of 1: br_/)
  assert.match(said, /wrote .*backup\.tar\.gz: 1 branches/)
  assert.equal(fs.statSync(file).mode & 0o777, 0o600)
  await refuses(/is there already/, ['backup', file])
  typing = false
  await Promise.all(typists)
  const folder = path.join(temp, 'folder')
  fs.mkdirSync(folder)
  await succeeds(['backup', '--with-keys', folder])
  assert.match(fs.readdirSync(folder).join(), /^perch-\d{8}-\d{6}\.tar\.gz$/, 'nothing else is left there')
  const listed = execFileSync('tar', ['-tzf', file]).toString().split('\n')
  assert.ok(!listed.some((name) => name.includes('keys.json') || name.includes('/secret')), 'no secret is in it')
  assert.ok(execFileSync('tar', ['-tzf', path.join(folder, fs.readdirSync(folder)[0])]).toString().includes('keys.json'))
  const bytes = execFileSync('tar', ['-xzOf', file], { maxBuffer: 1 << 30 })
  for (const secret of [made, ann.token, 'a secret of a session']) assert.ok(!bytes.includes(secret))
  for (const editor of clients.splice(0)) editor.stop()
  await crash()
  // Changed from outside while no perch runs: a backup keeps it as that, and it is taken in at the next opening.
  const written = token('shell')
  fs.appendFileSync(path.join(b.files, 'closed.txt'), `${written}\n`)
  const later = path.join(temp, 'later.tar.gz')
  await succeeds(['backup', later])
  await refuses(/holds a perch already|is there already/, ['restore', file])
  const there = elsewhere('restored')
  try {
    const half = path.join(temp, 'half.tar.gz')
    fs.writeFileSync(half, fs.readFileSync(file).subarray(0, fs.statSync(file).size - 5_000))
    await refuses(/cut off|damaged|can't restore/, ['restore', half], { ...there.env, PERCH_DATA: path.join(temp, 'broken') })
    fs.writeFileSync(half, 'nothing')
    await refuses(/no backup of perch/, ['restore', half], { ...there.env, PERCH_DATA: path.join(temp, 'broken2') })
    await succeeds(['restore', file], there.env)
    await refuses(/already/, ['restore', file], there.env)
    await start(there.env)
    assert.equal((await api('GET', '/v1/branches', undefined, { authorization: `Bearer ${made}` })).status, 200, 'API tokens go on')
    assert.equal((await api('GET', `/v1/branches/${b.id}`, undefined, { authorization: `Bearer ${ann.token}` })).status, 401, "sessions' tokens do not")
    const files = path.join(there.env.PERCH_DATA, 'branches', b.id, 'workspace')
    const late = await session(b, 'ann')
    for (const [n, name] of names.entries()) {
      const fresh = hClient(late, name)
      await eventually('synced', () => fresh.synced())
      const of = editors.filter((editor) => editor.n === n)
      await atRest(path.join(files, name), [fresh], of.flatMap((editor) => editor.certain))
      const text = fresh.text.toString()
      const all = of.flatMap((editor) => editor.typed)
      for (const one of all) assert.ok(count(text, one) <= 1, `${one} is not doubled`)
      // Whoever typed on comes with all that was typed since; nothing comes twice.
      const back = yAgain(of[0], late, name)
      await eventually('taken', () => back.synced() && count(fresh.text.toString(), of[0].typed.at(-1)) === 1)
      await atRest(path.join(files, name), [fresh, back], of[0].typed)
      for (const one of all) assert.ok(count(fresh.text.toString(), one) <= 1, `${one} is not doubled`)
    }
    const again = hClient(late, 'closed.txt')
    await eventually('synced', () => again.synced())
    await atRest(path.join(files, 'closed.txt'), [again], closed)
    const history = await (await api('GET', `/v1/branches/${b.id}/history/closed.txt`)).json()
    assert.ok(history.entries.some((entry) => entry.authors.some(({ author }) => author === 'cyn')), 'histories are in it')
    assert.equal(fs.readFileSync(path.join(files, 'crlf.txt'), 'utf8'), 'one\r\ntwo\r\n')
    assert.equal(fs.statSync(path.join(files, 'crlf.txt')).mode & 0o777, 0o755)
    assert.equal(fs.readlinkSync(path.join(files, 'link')), 'crlf.txt')
    assert.equal(fs.readFileSync(path.join(there.env.PERCH_DATA, 'branches', b.id, 'home', 'kept'), 'utf8'), 'at home')
    execFileSync('git', ['-C', files, '-c', 'safe.directory=*', 'fsck', '--strict'], { stdio: 'pipe' })
    await crash()
    // A backup of either database is one for SQLite.
    const other = { PERCH_DATA: path.join(temp, 'other'), DATABASE_URL: undefined }
    await succeeds(['restore', later], other)
    await start(other)
    const changed = hClient(await session(b, 'cyn'), 'closed.txt')
    await eventually('synced', () => changed.synced())
    await atRest(path.join(other.PERCH_DATA, 'branches', b.id, 'workspace', 'closed.txt'), [changed], [...closed, written])
  } finally {
    there.drop()
  }
}

/** An export holds what editors see, though it is not in the files yet, and can be uploaded as a new branch. */
export async function exported() {
  // It dies when it is about to write the file: the log alone holds what was typed.
  await start({ PERCH_FAULT: 'staged' })
  const b = await branch()
  const ann = hClient(await session(b, 'ann'), 'a.txt')
  await eventually('synced', () => ann.synced())
  const tokens = []
  fs.writeFileSync(path.join(b.files, 'plain.bin'), Buffer.from([0, 255, 1]))
  line(ann, 'ann', tokens)
  await perch.ended
  ann.stop()
  assert.ok(!fs.existsSync(path.join(b.files, 'a.txt')))
  const file = path.join(temp, 'export.tar.gz')
  await succeeds(['export', b.id, file])
  await refuses(/is there already/, ['export', b.id, file])
  await refuses(/there is no branch/, ['export', `br_${'0'.repeat(32)}`, path.join(temp, 'none.tar.gz')])
  assert.ok(!fs.existsSync(path.join(temp, 'none.tar.gz')))
  await start()
  const made = await api('POST', '/v1/branches?name=copy', fs.readFileSync(file), { 'content-type': 'application/gzip' })
  assert.equal(made.status, 201, await made.clone().text())
  const { id } = await made.json()
  await eventually('ready', async () => (await (await api('GET', `/v1/branches/${id}`)).json()).state === 'ready')
  const text = await (await api('GET', `/v1/branches/${id}/files/a.txt`)).text()
  for (const one of tokens) assert.equal(count(text, one), 1, one)
  assert.deepEqual([...new Uint8Array(await (await api('GET', `/v1/branches/${id}/files/plain.bin`)).arrayBuffer())], [0, 255, 1])
}
