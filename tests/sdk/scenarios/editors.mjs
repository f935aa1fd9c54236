// Editors of the SDK's own protocol (0.11.2 carries one), Yjs editors, whole-file writes of the SDK and shells in one file.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { api, atRest, chance, count, crash, data, eventually, generator, line, sdk0, sdk2, session, start, token, yClient } from '../harness.mjs'

/** 0.11.2's editor of a file, which types like a Yjs editor of the harness. */
async function editor(client, at) {
  const { file } = client.pitcherClient.clients
  const opened = await file.openFileByPath(at)
  const object = opened.object
  const type = (text) => object.document.applyClient(file.createDocumentOperationFromDiff(object.content, text))
  return {
    object,
    close: () => opened.dispose(),
    text: {
      toString: () => object.content,
      insert: (at, text) => type(object.content.slice(0, at) + text + object.content.slice(at)),
      delete: (at, length) => type(object.content.slice(0, at) + object.content.slice(at + length))
    },
    settled: () => !object.document.otClient.hasPendingOperation && !object.document.otClient.hasQueuedOperation
  }
}

/** All of them type at once; each token is there once in every editor and in the file, and undone words stay gone. */
export async function sdk_editors() {
  await start()
  const seed = Number(process.env.PERCH_SEED ?? Math.floor(Math.random() * 2 ** 32))
  console.log(`# PERCH_SEED=${seed}`)
  chance.next = generator(seed)
  const one = await sdk0().create()
  const two = await sdk2().sandboxes.resume(one.id)
  const [ann, bob] = [await one.sessions.create('ann'), await one.sessions.create('bob')]
  const cyn = await two.connect({ id: 'cyn' })
  const file = path.join(data, 'branches', one.id, 'workspace', 'doc.txt')
  await ann.fs.writeTextFile('doc.txt', 'hello wörld 😀\n')
  const dan = yClient(await session({ id: one.id }, 'dan'), 'doc.txt')
  const editors = [await editor(ann, '/doc.txt'), await editor(bob, '/project/workspace/doc.txt'), dan]
  await eventually('synced', () => dan.synced() && dan.text.toString() === 'hello wörld 😀\n')
  const tokens = []
  const write = async (client, who) => {
    const text = await client.fs.readTextFile('doc.txt')
    const one = token(who)
    await client.fs.writeTextFile('doc.txt', `${text}${one}\n`)
    tokens.push(one)
  }
  const shell = async (client, who) => {
    const one = token(who)
    // A shell that appends while perch replaces the file may write into what was replaced; perch reads that too.
    const { exitCode } = await client.shells.run(`echo '${one}' >> doc.txt`)
    assert.equal(exitCode, 0)
    tokens.push(one)
  }
  for (let round = 0; round < 12; round += 1) {
    for (let n = 0; n < 8; n += 1) {
      const who = Math.floor(chance.next() * editors.length)
      line(editors[who], ['ann', 'bob', 'dan'][who], tokens)
    }
    const doing = [write(cyn, 'cyn'), write(ann, 'annfile')]
    if (round % 3 === 0) doing.push(shell(bob, 'shell'))
    line(editors[round % 3], 'meanwhile', tokens)
    await Promise.all(doing)
  }
  const text = await atRest(file, editors, tokens)
  assert.ok(text.includes('hello wörld 😀'))
  await eventually('all is settled', () => editors[0].settled() && editors[1].settled())
  // Deleted by one, gone for all, while another types beside it.
  const victim = tokens[0]
  const at = editors[0].text.toString().indexOf(victim)
  editors[0].text.delete(at, victim.length)
  line(editors[1], 'beside', tokens)
  await atRest(file, editors, tokens.slice(1))
  assert.equal(count(fs.readFileSync(file, 'utf8'), victim), 0)
  // Who typed what.
  const { lines } = await (await api('GET', `/v1/branches/${one.id}/authors/doc.txt`)).json()
  const authors = new Set(lines.flatMap(({ authors }) => authors.map(({ author }) => author)))
  for (const who of ['ann', 'bob', 'cyn', 'dan']) assert.ok(authors.has(who), `${who} of ${[...authors]}`)
  // Saved by itself, and told so.
  for (const one of editors.slice(0, 2)) await eventually('it is saved', () => one.object.contentHash === one.object.savedHash)
  await editors[0].object.save()

  // perch goes and comes back: they go on from where they were.
  await crash()
  await start()
  await eventually('ann is back', async () => (await ann.fs.readTextFile('doc.txt')).length > 0)
  await eventually('bob is back', async () => (await bob.fs.readTextFile('doc.txt')).length > 0)
  await eventually('dan is back', () => dan.synced())
  // Each in a place of their own: these editors find out what changed meanwhile by comparing the texts letter by letter, and put what
  // they have typed in the middle of what somebody typed in the same place.
  const places = [() => 0, (text) => text.indexOf('\n', text.length / 2) + 1, (text) => text.length]
  for (const [n, who] of ['ann', 'bob', 'dan'].entries()) {
    await eventually(`${who} types again`, async () => {
      if (editors[n].object && editors[n].object.document.syncState === 'RESYNCING') return false
      const one = token(`${who}again`)
      editors[n].text.insert(places[n](editors[n].text.toString()), `${one}\n`)
      tokens.push(one)
      return true
    })
  }
  await atRest(file, editors, tokens.slice(1))
}

/** Who is in a file and what they selected, in both protocols; binary files; what is refused. */
export async function sdk_editors_seen() {
  await start()
  const one = await sdk0().create()
  const [ann, bob] = [await one.sessions.create('ann'), await one.sessions.create('bob')]
  await ann.fs.writeTextFile('doc.txt', 'one two three')
  const first = await editor(ann, '/doc.txt')
  const joins = []
  first.object.onDidClientJoin(({ username }) => joins.push(username))
  first.object.onDidClientLeave(({ username }) => joins.push(`-${username}`))
  const selected = {}
  first.object.document.onSelection(({ clientSelections }) => {
    for (const [id, selection] of clientSelections) selected[first.object.clients[id]?.username] = selection
  })
  const second = await editor(bob, '/doc.txt')
  await eventually('ann sees bob', () => joins.includes('bob'))
  assert.deepEqual(Object.values(second.object.clients).map(({ username }) => username).toSorted(), ['ann', 'bob'])
  await second.object.document.sendSelection([{ anchor: 4, head: 7 }], 1)
  await eventually('ann sees what bob selected', () => JSON.stringify(selected.bob) === '[{"anchor":4,"head":7}]')

  const dan = yClient(await session({ id: one.id }, 'dan'), 'doc.txt')
  await eventually('dan is there', () => dan.synced() && dan.text.length === 13)
  const { awareness } = dan.provider
  await eventually('dan sees both, by name, with what bob selected', () => {
    const states = [...awareness.getStates().values()].filter(({ sdk }) => sdk)
    const names = states.map(({ user }) => user.session).toSorted()
    const of = states.find(({ user }) => user.session === 'bob')
    return names.join() === 'ann,bob' && of.cursor?.anchor && of.cursor?.head
  })
  // A cursor, as y-codemirror writes it: beside the letter at 4 and the one at 8, whichever ids they have.
  const state = [...awareness.getStates().values()].find(({ user, sdk }) => sdk && user.session === 'bob')
  awareness.setLocalStateField('cursor', state.cursor)
  await eventually('ann sees dan', () => joins.includes('dan') && JSON.stringify(selected.dan) === '[{"anchor":4,"head":7}]')
  dan.text.insert(0, '>> ')
  await eventually('all have it', () => first.object.content === '>> one two three' && second.object.content === '>> one two three')
  dan.provider.awareness.setLocalState(null)
  await eventually('dan left', () => joins.includes('-dan'))
  second.close()
  await eventually('bob left', () => joins.includes('-bob'))

  // A session that can only read has the text and hears, and changes nothing.
  const eve = await one.sessions.create('eve', { permission: 'read' })
  const third = await editor(eve, '/doc.txt')
  assert.equal(third.object.content, '>> one two three')
  const raw = (client, method, params) => client.pitcherClient.clients.file.messageHandler.request({ method, params })
  await assert.rejects(raw(eve, 'file/documentOperation', { id: 'doc.txt', operation: ['x', 16], revision: 0 }), { code: 2 })
  await assert.rejects(raw(eve, 'file/save', { id: 'doc.txt' }), { code: 2 })
  // What does not fit.
  const { revision } = first.object.document.otClient
  const refusals = [[{ operation: ['x', 3], revision }, 0], [{ operation: ['x', 16], revision: revision + 9 }, 0], [{ operation: ['x', 16], revision: -1 }, 0], [{ operation: [true], revision }, 0]]
  for (const [more, code] of refusals) await assert.rejects(raw(ann, 'file/documentOperation', { id: 'doc.txt', ...more }), { code }, JSON.stringify(more))
  await assert.rejects(raw(ann, 'file/documentOperation', { id: 'other.txt', operation: [1], revision: 0 }), { code: 100 })
  await assert.rejects(raw(ann, 'file/open', { id: 'none.txt' }), { code: 100 })
  for (const at of ['/none.txt', '/tmp/x', '/', '']) await assert.rejects(raw(ann, 'file/openByPath', { path: at }), (error) => [101, 102].includes(error.code), at)
  assert.equal(await ann.fs.readTextFile('doc.txt'), '>> one two three')
  // After a refusal the editor asks for the text, and goes on.
  first.text.insert(0, 'still ')
  await eventually('it goes on', async () => (await ann.fs.readTextFile('doc.txt')) === 'still >> one two three')
  const bytes = new Uint8Array([0xff, 0, 1])
  await ann.fs.writeFile('x.bin', bytes)
  const binary = await raw(ann, 'file/openByPath', { path: '/x.bin' })
  assert.deepEqual([binary.isBinary, [...binary.content], binary.document], [true, [...bytes], null])
  // Deleted under the editor.
  await bob.fs.remove('doc.txt')
  await eventually('it is gone', () => assert.rejects(raw(ann, 'file/documentOperation', { id: 'doc.txt', operation: [22], revision: 5 }), { code: 100 }).then(() => true))
}
