// People who type together.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { api, atRest, branch, clients, count, crash, eventually, hClient, line, perch, session, sleep, start, temp, token, yClient } from '../harness.mjs'

/** The closing test: a repository, two protocols, an outside writer, a hard kill. */
export async function everyone() {
  const repository = path.join(temp, 'repository')
  fs.mkdirSync(repository)
  for (let n = 0; n < 2_000; n++) {
    const folder = path.join(repository, `d${n % 40}`)
    fs.mkdirSync(folder, { recursive: true })
    fs.writeFileSync(path.join(folder, `f${n}.txt`), `file ${n}\n`)
  }
  const git = (...args) => execFileSync('git', ['-C', repository, '-c', 'user.name=t', '-c', 'user.email=t@example.org', ...args])
  git('init', '-q')
  git('add', '.')
  git('commit', '-qm', 'first')
  await start()
  const b = await branch({ name: 'repository', git: { url: repository } })
  const file = path.join(b.files, 'd7/f7.txt')
  const ann = yClient(await session(b, 'ann'), 'd7/f7.txt')
  const bob = hClient(await session(b, 'bob'), 'd7/f7.txt')
  await eventually('both synced', () => ann.synced() && bob.synced())
  const tokens = ['file 7']
  const outside = () => {
    const one = token('disk')
    tokens.push(one)
    const now = fs.readFileSync(file, 'utf8')
    // A shell's append, or an editor's atomic save; only what it read may it write back.
    if (tokens.length % 2) fs.appendFileSync(file, `${one}\n`)
    else {
      fs.writeFileSync(`${file}.new`, `${one}\n${now}`)
      fs.renameSync(`${file}.new`, file)
    }
  }
  for (let round = 0; round < 30; round++) {
    line(ann, 'ann', tokens)
    line(bob, 'bob', tokens)
    if (round % 10 === 5) outside()
    await sleep(30)
  }
  await eventually('all acknowledged', () => bob.synced())
  await crash()
  line(ann, 'offline', tokens)
  line(bob, 'offline', tokens)
  await start()
  await eventually('both synced again', () => ann.synced() && bob.synced())
  line(bob, 'after', tokens)
  await atRest(file, [ann, bob], tokens)
  const late = yClient(await session(b, 'cyn', 'read'), 'd7/f7.txt')
  await eventually('late joiner', () => late.synced())
  await atRest(file, [ann, bob, late], tokens)
  perch.kill('SIGTERM')
  assert.deepEqual(await perch.ended, { code: 0, signal: null })
}

/** Acknowledged means durable: whatever was acknowledged before a kill is there after it, without the client. */
export async function durable() {
  await start()
  const b = await branch()
  for (let round = 0; round < 5; round++) {
    const ann = hClient(await session(b, 'ann'), 'a.txt')
    await eventually('synced', () => ann.synced())
    const tokens = []
    for (let n = 0; n < 40; n++) line(ann, `r${round}n`, tokens)
    await eventually('acknowledged', () => ann.synced())
    ann.stop()
    await crash()
    await start()
    const answer = await api('GET', `/v1/branches/${b.id}/files/a.txt`)
    assert.equal(answer.status, 200)
    const text = await answer.text()
    for (const one of tokens) assert.equal(count(text, one), 1, one)
    assert.equal(fs.readFileSync(path.join(b.files, 'a.txt'), 'utf8'), text)
  }
}
