// Data of the first perch opens in this one. How the fixture was made: tests/upgrade/make.mjs.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { api, ask, atRest, count, crash, data, eventually, hClient, line, session, start, temp } from '../harness.mjs'
import { command } from './backups.mjs'

const fixture = new URL('../../upgrade/first.tar.gz', import.meta.url).pathname

/** Documents with what was only in the log, files, authors and sessions are as they were, and people go on; on Postgres by way of a backup. */
export async function upgraded() {
  fs.mkdirSync(data, { mode: 0o700 })
  execFileSync('tar', ['-xzf', fixture, '-C', data, '--no-same-owner'])
  let place = data
  if (process.env.DATABASE_URL) {
    // Brought up to date as SQLite first: a backup is of one version.
    await start({ DATABASE_URL: undefined })
    await crash()
    const file = path.join(temp, 'moved.tar.gz')
    const made = await command(['backup', file], { DATABASE_URL: undefined })
    assert.equal(made.code, 0, made.said)
    place = path.join(temp, 'moved')
    const moved = await command(['restore', file], { PERCH_DATA: place })
    assert.equal(moved.code, 0, moved.said)
  }
  await start({ PERCH_DATA: place })
  const { branches } = await (await api('GET', '/v1/branches')).json()
  assert.deepEqual(branches.map(({ name, state }) => [name, state]), [['first', 'ready']])
  const [{ id }] = branches
  const files = path.join(place, 'branches', id, 'workspace')
  const b = { id, files }
  const { sessions } = await (await api('GET', `/v1/branches/${id}/sessions`)).json()
  assert.deepEqual(sessions.map(({ id, permission, name }) => [id, permission, name]).toSorted(), [['ann', 'write', 'ANN'], ['bob', 'write', 'BOB'], ['cyn', 'read', 'CYN']])
  // Of these lines the last two were acknowledged, and not yet in the file, when that perch was killed.
  const lines = ['from ann 1', 'from bob 1', 'from ann 2', 'from bob 2', 'only in the log, ann', 'only in the log, bob']
  const ann = hClient(await session(b, 'ann'), 'notes/a.txt')
  await eventually('synced', () => ann.synced())
  assert.equal(await atRest(path.join(files, 'notes/a.txt'), [ann], lines), `${lines.join('\n')}\n`)
  const crlf = hClient(await session(b, 'bob'), 'crlf.txt')
  await eventually('synced', () => crlf.synced())
  assert.equal(crlf.text.toString(), 'one\ntwo by bob\n')
  await eventually('written', () => fs.readFileSync(path.join(files, 'crlf.txt'), 'utf8') === 'one\r\ntwo by bob\r\n')
  assert.deepEqual([...fs.readFileSync(path.join(files, 'plain.bin'))], [0, 255, 1])
  const { lines: typed } = await (await api('GET', `/v1/branches/${id}/authors/notes/a.txt`)).json()
  const by = (number) => typed.find(({ line, count }) => number >= line && number < line + count).authors.map(({ author }) => author)
  assert.deepEqual(lines.map((text, n) => by(n + 1)), lines.map((text) => [text.includes('ann') ? 'ann' : 'bob']))
  // A client of that time that kept its document goes on with the same history: its seed is known.
  const [[generation]] = ask2(place, `select generation from document where path = 'notes/a.txt' and is_live`)
  assert.ok(Number(generation) >= 2 ** 32)
  const tokens = [...lines]
  line(ann, 'now', tokens)
  await eventually('acknowledged', () => ann.synced())
  await crash()
  await start({ PERCH_DATA: place })
  await eventually('synced again', () => ann.synced())
  await atRest(path.join(files, 'notes/a.txt'), [ann], tokens)
  const history = await (await api('GET', `/v1/branches/${id}/history/notes/a.txt`)).json()
  assert.ok(history.entries.some(({ authors }) => authors.some(({ author }) => author === 'ann')))
  assert.equal(count(ann.text.toString(), 'only in the log'), 2)
}

const ask2 = (place, sql) => {
  if (process.env.DATABASE_URL) return ask(sql)
  const lite = 'import sqlite3, sys\nfor row in sqlite3.connect(sys.argv[1]).execute(sys.argv[2]): print(*row, sep="|")'
  return execFileSync('python3', ['-c', lite, path.join(place, 'perch.sqlite'), sql]).toString().split('\n').filter(Boolean).map((row) => row.split('|'))
}
