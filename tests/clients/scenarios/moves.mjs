// Renames: a document keeps its history and its editors, whoever renamed it.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { api, atRest, branch, count, crash, eventually, hClient, line, perch, session, sleep, start, yAgain, yClient } from '../harness.mjs'

const rename = (b, from, to, headers) => api('POST', `/v1/branches/${b.id}/rename`, { from, to }, headers)

/** Through the API: files, folders, what is refused. */
export async function moves() {
  await start()
  const b = await branch()
  await api('PUT', `/v1/branches/${b.id}/files/a.txt`, 'start\n')
  const [s1, s2] = [await session(b, 'ann'), await session(b, 'bob')]
  const ann = yClient(s1, 'a.txt')
  const bob = hClient(s2, 'a.txt')
  await eventually('synced', () => ann.synced() && bob.synced())
  const tokens = ['start']
  line(ann, 'ann', tokens)
  const eve = await session(b, 'eve', 'read')
  assert.equal((await rename(b, 'a.txt', 'x.txt', { authorization: `Bearer ${eve.token}` })).status, 403)
  assert.ok(fs.existsSync(path.join(b.files, 'a.txt')))
  assert.equal((await rename(b, 'a.txt', 'sub/ä b.txt')).status, 204)
  line(ann, 'ann', tokens)
  line(bob, 'bob', tokens)
  await atRest(path.join(b.files, 'sub/ä b.txt'), [ann, bob], tokens)
  assert.ok(!fs.existsSync(path.join(b.files, 'a.txt')), 'nothing writes to the old path')
  // The same history: what ann has is not another one under the new name.
  ann.stop()
  line(ann, 'offline', tokens)
  const again = yAgain(ann, s1, 'sub/ä b.txt')
  await eventually('synced at the new path', () => again.synced())
  await atRest(path.join(b.files, 'sub/ä b.txt'), [again, bob], tokens)
  // A folder takes its documents along, deep ones too.
  await api('PUT', `/v1/branches/${b.id}/files/sub/deep/b.txt`, 'deep\n')
  const cyn = yClient(s1, 'sub/deep/b.txt')
  await eventually('synced', () => cyn.synced())
  const deep = ['deep']
  line(cyn, 'cyn', deep)
  assert.equal((await rename(b, 'sub', 'moved')).status, 204)
  line(cyn, 'cyn', deep)
  line(bob, 'bob', tokens)
  await atRest(path.join(b.files, 'moved/deep/b.txt'), [cyn], deep)
  await atRest(path.join(b.files, 'moved/ä b.txt'), [again, bob], tokens)
  assert.ok(!fs.existsSync(path.join(b.files, 'sub')))
  // Refused, and nothing moved.
  const refused = async (from, to, status, code) => {
    const answer = await rename(b, from, to)
    assert.equal(answer.status, status, `${from} to ${to}`)
    assert.equal((await answer.json()).code, code)
  }
  await refused('absent', 'x', 404, 'not_found')
  await refused('moved', 'moved/in/itself', 400, 'into_itself')
  await refused('moved/ä b.txt', 'moved/deep/b.txt', 409, 'exists')
  await refused('moved/ä b.txt', '.git/hooks/x', 400, 'path_refused')
  await refused('../x', 'y', 400, 'path_refused')
  await atRest(path.join(b.files, 'moved/deep/b.txt'), [cyn], deep)
  // After a restart all is found at its new path, and who asks for the old one is told where it went.
  await crash()
  await start()
  await eventually('told', () => again.closed?.code === 4409 && again.closed.reason.includes('`moved/ä b.txt`'))
  const late = yAgain(again, s1, 'moved/ä b.txt')
  await eventually('synced', () => late.synced())
  await atRest(path.join(b.files, 'moved/ä b.txt'), [late], tokens)
  assert.deepEqual(fs.readdirSync(b.files), ['moved'])
}

/** H9, the other half: a rename from outside is followed; the backup and new file of an editor's save are not. */
export async function follows() {
  await start()
  const b = await branch()
  const at = (name) => path.join(b.files, name)
  fs.mkdirSync(at('d'))
  fs.writeFileSync(at('d/a.txt'), 'start\n')
  const s = await session(b, 'ann')
  const ann = yClient(s, 'd/a.txt')
  await eventually('synced', () => ann.synced())
  const tokens = ['start']
  line(ann, 'ann', tokens)
  await atRest(at('d/a.txt'), [ann], tokens)
  // As vim and git save: the old one to a backup, a new one in its place.
  fs.renameSync(at('d/a.txt'), at('d/a.txt~'))
  tokens.push('<vim>')
  fs.writeFileSync(at('d/a.txt'), `${ann.text.toString()}<vim>\n`)
  await atRest(at('d/a.txt'), [ann], tokens)
  line(ann, 'ann', tokens)
  await atRest(at('d/a.txt'), [ann], tokens)
  assert.equal(count(fs.readFileSync(at('d/a.txt~'), 'utf8'), '<vim>'), 0, 'the backup is no document')
  // A rename, with typing while it happens.
  fs.renameSync(at('d/a.txt'), at('d/b.txt'))
  line(ann, 'during', tokens)
  await atRest(at('d/b.txt'), [ann], tokens)
  line(ann, 'after', tokens)
  await atRest(at('d/b.txt'), [ann], tokens)
  assert.ok(!fs.existsSync(at('d/a.txt')))
  // A save by way of another name, and a rename right after.
  tokens.push('<save>')
  fs.writeFileSync(at('d/b.txt.new'), `${ann.text.toString()}<save>\n`)
  fs.renameSync(at('d/b.txt.new'), at('d/b.txt'))
  fs.renameSync(at('d/b.txt'), at('d/c.txt'))
  line(ann, 'saved', tokens)
  await atRest(at('d/c.txt'), [ann], tokens)
  // And by way of yet another one.
  fs.renameSync(at('d/c.txt'), at('d/d.txt'))
  fs.renameSync(at('d/d.txt'), at('d/b.txt'))
  line(ann, 'twice', tokens)
  await atRest(at('d/b.txt'), [ann], tokens)
  // A folder's rename.
  fs.renameSync(at('d'), at('e'))
  line(ann, 'folder', tokens)
  await atRest(at('e/b.txt'), [ann], tokens)
  assert.ok(!fs.existsSync(at('d')))
  assert.equal(ann.closed, undefined, 'the editor stayed connected')
  // And what was written to the file right after is an outside change.
  fs.renameSync(at('e/b.txt'), at('c.txt'))
  tokens.push('<sh>')
  fs.appendFileSync(at('c.txt'), '<sh>\n')
  await atRest(at('c.txt'), [ann], tokens)
  ann.stop()
  const again = yAgain(ann, s, 'c.txt')
  await eventually('the same history at the new path', () => again.synced())
  // Deleted for good, it ends.
  fs.unlinkSync(at('c.txt'))
  await eventually('closed', () => again.closed?.code === 4404)
}

/** The process dies before and after the rename on disk: the document is where its file is, in one history. */
export async function move_faults() {
  for (const fault of ['move planned', 'moved']) {
    await start({ PERCH_FAULT: fault })
    const b = await branch()
    await api('PUT', `/v1/branches/${b.id}/files/f/a.txt`, 'start\n')
    const s = await session(b, 'ann')
    const ann = yClient(s, 'f/a.txt')
    await eventually('synced', () => ann.synced())
    const tokens = ['start']
    line(ann, 'ann', tokens)
    await rename(b, 'f', 'g').catch(() => {})
    assert.equal((await perch.ended).signal, 'SIGABRT', `dies at ${fault}`)
    ann.stop()
    const now = fault === 'moved' ? 'g/a.txt' : 'f/a.txt'
    line(ann, 'offline', tokens)
    await start()
    const again = yAgain(ann, s, now)
    await eventually('synced again', () => again.synced())
    await atRest(path.join(b.files, now), [again], tokens)
    assert.equal(fs.existsSync(path.join(b.files, 'f')), fault === 'move planned')
    again.stop()
    await crash()
  }
}

/** Who asks for a file's new path right after a rename from outside joins those who had it open under the old one. */
export async function arrivals() {
  await start()
  const b = await branch()
  const [one, other] = ['a.txt', 'b.txt'].map((name) => path.join(b.files, name))
  fs.writeFileSync(one, 'one\n')
  const ann = yClient(await session(b, 'ann'), 'a.txt')
  await eventually('synced', () => ann.synced())
  const tokens = ['one']
  const people = [ann]
  let from = one
  for (let turn = 0; turn < 4; turn++) {
    const to = from === one ? other : one
    line(ann, 'ann', tokens)
    fs.renameSync(from, to)
    const late = yClient(await session(b, `late${turn}`), path.basename(to))
    await eventually('synced', () => late.synced())
    people.push(late)
    for (const who of [ann, late]) line(who, 'after', tokens)
    await atRest(to, people, tokens)
    from = to
  }
}

/**
 * Who comes to the path that a file was renamed away from begins an empty document there. It gives way when the file is
 * renamed back, also right after somebody typed: the file's own document comes along with all that is in it.
 */
export async function blank_gives_way() {
  await start()
  const b = await branch()
  const [one, other] = ['a.txt', 'b.txt'].map((name) => path.join(b.files, name))
  fs.writeFileSync(one, 'one\n')
  const ann = hClient(await session(b, 'ann'), 'a.txt')
  await eventually('synced', () => ann.synced())
  const tokens = ['one']
  const doc = async () => (await (await api('GET', `/v1/branches/${b.id}/history/${fs.existsSync(one) ? 'a.txt' : 'b.txt'}`)).json()).document
  const id = await doc()
  for (let turn = 0; turn < 3; turn++) {
    fs.renameSync(one, other)
    await eventually('followed', async () => await doc() === id)
    const late = yClient(await session(b, `late${turn}`), 'a.txt')
    await eventually('an empty one', () => late.synced() && late.text.length === 0)
    if (turn === 1) {
      // Nobody has it open any more.
      late.stop()
      await sleep(100)
    }
    line(ann, 'ann', tokens)
    fs.renameSync(other, one)
    await eventually('followed back', async () => await doc() === id)
    if (turn !== 1) await eventually('it is told', () => late.provider.ws === null || late.provider.wsconnected === false)
    late.stop()
    const fresh = yClient(await session(b, `fresh${turn}`), 'a.txt')
    await eventually('synced', () => fresh.synced())
    for (const who of [ann, fresh]) line(who, 'after', tokens)
    await atRest(one, [ann, fresh], tokens)
    fresh.stop()
  }
  // One that somebody typed in stays: both texts are kept, as two documents.
  fs.renameSync(one, other)
  await eventually('followed', async () => await doc() === id)
  const late = yClient(await session(b, 'typist'), 'a.txt')
  await eventually('synced', () => late.synced())
  late.text.insert(0, 'typed at the old path\n')
  await eventually('a file', () => fs.existsSync(one))
  assert.notEqual(await doc(), id)
}
