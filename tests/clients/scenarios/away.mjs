// The database goes away, the disk is full: nothing acknowledged is lost, and perch recovers without a restart.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { api, atRest, branch, count, crash, data, eventually, freePort, hClient, line, perch, session, sleep, start, temp, url, yClient } from '../harness.mjs'
import { refused } from './operating.mjs'

const ready = async () => (await fetch(`${url}/readyz`)).status
/** perch's advisory lock: "perch" in ASCII. */
const LOCK = 0x7065726368

/** A Postgres cluster of this scenario's own, with a password, not started. */
async function cluster() {
  const versions = fs.readdirSync('/usr/lib/postgresql').toSorted((a, b) => b - a)
  const bin = `/usr/lib/postgresql/${versions[0]}/bin`
  const folder = path.join(temp, 'postgres')
  fs.mkdirSync(folder)
  fs.writeFileSync(path.join(temp, 'password'), 'right-password\n')
  // Postgres refuses to run as root.
  const as = process.getuid() === 0 ? ['setpriv', '--reuid=postgres', '--regid=postgres', '--init-groups'] : ['env']
  fs.chmodSync(temp, 0o755)
  if (process.getuid() === 0) execFileSync('chown', ['postgres', folder, path.join(temp, 'password')])
  const port = await freePort()
  const run = (program, ...args) => execFileSync(as[0], [...as.slice(1), `${bin}/${program}`, ...args], { cwd: folder, stdio: 'ignore' })
  run('initdb', '-D', `${folder}/data`, '-U', 'perch', '--auth=scram-sha-256', `--pwfile=${temp}/password`)
  const options = `-p ${port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=${folder} -c fsync=off`
  return {
    url: (password) => `postgres://perch:${password}@127.0.0.1:${port}/postgres`,
    start: () => run('pg_ctl', '-D', `${folder}/data`, '-l', `${folder}/log`, '-o', options, '-w', 'start'),
    stop: (how) => run('pg_ctl', '-D', `${folder}/data`, '-m', how, '-w', 'stop')
  }
}

/** Postgres comes late, crashes under people who type, is restarted, and is taken by another. */
export async function database() {
  const postgres = await cluster()
  const DATABASE_URL = postgres.url('right-password')
  try {
    const starting = start({ DATABASE_URL })
    await eventually('it says that it waits', () => /trying again for 30 s/.test(perch.said))
    postgres.start()
    await starting
    const wrong = await refused({ DATABASE_URL: postgres.url('wrong-password'), PERCH_DATA: path.join(temp, 'elsewhere') }, [], 10_000)
    assert.match(wrong, /--database-url.*password authentication failed/)
    assert.ok(!wrong.includes('wrong-password'))
    const b = await branch()
    const file = path.join(b.files, 'a.txt')
    const [ann, bob] = [hClient(await session(b, 'ann'), 'a.txt'), yClient(await session(b, 'bob'), 'a.txt')]
    await eventually('synced', () => ann.synced() && bob.synced())
    const tokens = []
    for (const how of ['immediate', 'fast', 'immediate']) {
      let typing = true
      const typists = [ann, bob].map(async (editor, n) => {
        while (typing) {
          line(editor, `u${n}`, tokens)
          await sleep(15)
        }
      })
      await sleep(500)
      postgres.stop(how)
      line(ann, 'away', tokens)
      await eventually('not ready', async () => (await ready()) === 503)
      await eventually('edits wait', () => /the database does not take edits; they wait/.test(perch.said))
      await sleep(500)
      assert.ok(!ann.synced(), 'nothing is acknowledged that is not durable')
      const answer = await api('GET', '/v1/branches')
      assert.equal(answer.status, 503)
      assert.equal((await answer.json()).code, 'unavailable')
      postgres.start()
      await eventually('ready again', async () => (await ready()) === 200)
      typing = false
      await Promise.all(typists)
      await eventually('acknowledged', () => ann.synced())
      await atRest(file, [ann, bob], tokens)
    }
    // Only the connection that holds the lock dies, and another takes the lock.
    const psql = (sql, wait) => spawn('psql', [DATABASE_URL, '-qAt', '-c', sql, '-c', wait], { stdio: ['ignore', 'pipe', 'inherit'] })
    const cut = `select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'; select pg_advisory_lock(${LOCK})`
    const other = psql(cut, 'select pg_sleep(600)')
    await eventually('it says so', () => /lost its hold of the database.*another perch uses this database/.test(perch.said))
    assert.equal(await ready(), 503)
    line(ann, 'fenced', tokens)
    await sleep(1_500)
    assert.ok(!ann.synced(), 'nothing is written without the lock')
    assert.equal(count(fs.readFileSync(file, 'utf8'), tokens.at(-1)), 0)
    // psql's end does not end its backend at once.
    execFileSync('psql', [DATABASE_URL, '-qAt', '-c', "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'"])
    other.kill('SIGKILL')
    await eventually('held again', async () => (await ready()) === 200)
    await eventually('acknowledged', () => ann.synced())
    await atRest(file, [ann, bob], tokens)
    // A kill while the database is away loses nothing that was acknowledged.
    await crash()
    postgres.stop('immediate')
    postgres.start()
    await start({ DATABASE_URL })
    await eventually('synced again', () => ann.synced() && bob.synced())
    await atRest(file, [ann, bob], tokens)
    postgres.stop('immediate')
    perch.kill('SIGTERM')
    assert.equal((await perch.ended).code, 0, 'it stops without a database')
  } finally {
    try { postgres.stop('immediate') } catch { /* it is stopped */ }
  }
}

/** Fills a file system to the last byte; the returned function makes room again. */
function fill(folder) {
  const ballast = path.join(folder, 'ballast')
  const file = fs.openSync(ballast, 'w')
  for (const size of [1 << 20, 4096, 1]) {
    try {
      for (;;) fs.writeSync(file, Buffer.alloc(size))
    } catch (error) {
      assert.equal(error.code, 'ENOSPC')
    }
  }
  fs.closeSync(file)
  return () => fs.rmSync(ballast)
}
const mount = (folder, size) => {
  fs.mkdirSync(folder, { recursive: true })
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', folder])
}

/** Run in a mount namespace of its own. The data folder is full, then only the branches' folder; it is read-only. */
export async function full() {
  mount(data, '24m')
  mount(path.join(data, 'branches'), '8m')
  try {
    await onFull()
  } finally {
    if (perch.exitCode === null && perch.signalCode === null) await crash()
    for (const folder of [path.join(data, 'branches'), data]) execFileSync('umount', ['-l', folder])
  }
}

async function onFull() {
  await start()
  const b = await branch()
  const file = path.join(b.files, 'a.txt')
  const [ann, bob] = [hClient(await session(b, 'ann'), 'a.txt'), yClient(await session(b, 'bob'), 'a.txt')]
  await eventually('synced', () => ann.synced() && bob.synced())
  const tokens = []
  line(ann, 'ann', tokens)
  await atRest(file, [ann, bob], tokens)
  // No room for files: edits are durable and acknowledged, the file follows later.
  let room = fill(path.join(data, 'branches'))
  ann.text.insert(0, `${'x'.repeat(20_000)}\n`)
  line(ann, 'nofile', tokens)
  await eventually('acknowledged', () => ann.synced())
  await eventually('it says so', () => /`a\.txt` can't be written or read now, trying again.*[Nn]o space left/.test(perch.said))
  assert.equal(await ready(), 200)
  assert.equal(count(fs.readFileSync(file, 'utf8'), tokens.at(-1)), 0)
  const put = await api('PUT', `/v1/branches/${b.id}/files/new.bin`, new Uint8Array(50_000).fill(255))
  assert.ok(put.status >= 500, `${put.status}`)
  assert.equal(put.headers.get('content-type'), 'application/problem+json')
  const id = put.headers.get('x-request-id')
  await eventually('each line has the id', () => perch.said.includes(`request{id=${id} method=PUT`) && new RegExp(`id=${id} .*a request failed`).test(perch.said))
  assert.equal((await api('GET', `/v1/branches/${b.id}/files/new.bin`)).status, 404, 'no half file')
  room()
  await atRest(file, [ann, bob], tokens)
  // No room for the log: nothing is acknowledged.
  room = fill(data)
  let typed = 0
  await eventually('the log is full', async () => {
    ann.text.insert(0, `${'y'.repeat(20_000)}\n`)
    typed++
    return (await ready()) === 503
  })
  line(bob, 'nolog', tokens)
  await eventually('it says so', () => /does not take edits; they wait.*full/.test(perch.said))
  await sleep(500)
  assert.ok(!ann.synced(), 'nothing is acknowledged that is not durable')
  assert.equal(count(fs.readFileSync(file, 'utf8'), tokens.at(-1)), 0)
  room()
  await eventually('ready again', async () => (await ready()) === 200)
  await eventually('acknowledged', () => ann.synced())
  const text = await atRest(file, [ann, bob], tokens)
  assert.equal(count(text, 'y'.repeat(20_000)), typed)
  // Killed on a full disk: what was acknowledged is there. A first start on one says what is wrong.
  room = fill(data)
  await crash()
  assert.match(await refused({ PERCH_DATA: path.join(data, 'new') }), /can't open the database.*full|No space left/)
  room()
  await start()
  await eventually('synced again', () => ann.synced() && bob.synced())
  await atRest(file, [ann, bob], tokens)
  perch.kill('SIGTERM')
  assert.equal((await perch.ended).code, 0)
  // Read-only, and a read-only place for a new one.
  execFileSync('mount', ['-o', 'remount,ro', data])
  assert.match(await refused({ PERCH_DATA: data }), /--data: can't write .*lock.*[Rr]ead-only file system/)
  assert.match(await refused({ PERCH_DATA: path.join(data, 'newer') }), /--data: can't make the data folder .*[Rr]ead-only file system/)
}
