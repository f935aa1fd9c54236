// Makes first.tar.gz: a data folder written by the perch of commit dfa76bc, the first with the schema, and killed while
// acknowledged edits were in its log and not yet in their files. Once, by hand:
//   git worktree add /tmp/first dfa76bc && cd /tmp/first && cargo build
//   cd tests/clients && PERCH_FAULT= node ../upgrade/make.mjs /tmp/first/target/debug/perch ../upgrade/first.tar.gz
// Keys are left out: they are secrets of a kind, and a perch without them makes new ones.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { branch, crash, data, eventually, hClient, perch, session, start, toTheEnd } from '../clients/harness.mjs'

const out = path.resolve(process.argv[3])
await toTheEnd(async () => {
  await start()
  const b = await branch({ name: 'first' })
  fs.writeFileSync(path.join(b.files, 'plain.bin'), Buffer.from([0, 255, 1]))
  fs.writeFileSync(path.join(b.files, 'crlf.txt'), 'one\r\ntwo\r\n')
  const [one, other] = [await session(b, 'ann'), await session(b, 'bob')]
  await session(b, 'cyn', 'read')
  const [ann, bob] = [hClient(one, 'notes/a.txt'), hClient(other, 'notes/a.txt')]
  await eventually('synced', () => ann.synced() && bob.synced())
  const file = path.join(b.files, 'notes/a.txt')
  const append = async (editor, text) => {
    editor.text.insert(editor.text.length, `${text}\n`)
    await eventually('both have it', () => [ann, bob].every((each) => each.synced() && each.text.toString().includes(text)))
  }
  for (const n of [1, 2]) {
    await append(ann, `from ann ${n}`)
    await append(bob, `from bob ${n}`)
  }
  const crlf = hClient(other, 'crlf.txt')
  await eventually('synced', () => crlf.synced())
  crlf.text.insert(crlf.text.toString().indexOf('two') + 3, ' by bob')
  await eventually('written', () => fs.readFileSync(file, 'utf8') === ann.text.toString() && fs.readFileSync(path.join(b.files, 'crlf.txt'), 'utf8').includes('bob'))
  // Stopped in order and started anew, so that nothing is left in SQLite's own log but the last lines.
  for (const each of [ann, bob, crlf]) each.stop()
  perch.kill('SIGTERM')
  await perch.ended
  await start()
  const [anew, beside] = [hClient(one, 'notes/a.txt'), hClient(other, 'notes/a.txt')]
  await eventually('synced', () => anew.synced() && beside.synced())
  anew.text.insert(anew.text.length, 'only in the log, ann\n')
  await eventually('acknowledged', () => anew.synced() && beside.text.toString().includes('log, ann'))
  beside.text.insert(beside.text.length, 'only in the log, bob\n')
  await eventually('acknowledged', () => beside.synced() && anew.text.toString().includes('log, bob'))
  await crash()
  assert.ok(!fs.readFileSync(file, 'utf8').includes('only in the log'), 'written too soon: run it again')
  fs.rmSync(path.join(data, 'branches', b.id, 'tmp'), { recursive: true })
  fs.mkdirSync(path.join(data, 'branches', b.id, 'tmp'))
  execFileSync('tar', ['-C', data, '--owner=0', '--group=0', '--sort=name', '-czf', out, '--exclude=keys.json', '--exclude=lock', '.'])
})
