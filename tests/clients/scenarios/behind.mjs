// Files that can't be brought up to what was typed: nobody is given old bytes as if they were all.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { api, ask, branch, count, data, eventually, hClient, holdDatabase, session, start } from '../harness.mjs'
import { rawH } from '../raw.mjs'

/**
 * A document failed with durable edits that are not on disk, and nobody has opened it since. Whatever reads its file
 * opens it again; where that fails too it says so.
 */
export async function failed() {
  await start()
  const ways = {
    get: async (b) => (await api('GET', `/v1/branches/${b.id}/files/a.txt`)).text(),
    search: async (b) => (await api('GET', `/v1/branches/${b.id}/search?query=typed`)).text(),
    copy: async (b) => {
      assert.equal((await api('POST', `/v1/branches/${b.id}/copy`, { from: 'a.txt', to: 'b.txt' })).status, 201)
      return fs.readFileSync(path.join(b.files, 'b.txt'), 'utf8')
    },
    fork: async (b) => {
      const { id } = await (await api('POST', `/v1/branches/${b.id}/fork`)).json()
      await eventually('forked', async () => (await (await api('GET', `/v1/branches/${id}`)).json()).state === 'ready')
      return fs.readFileSync(path.join(data, 'branches', id, 'workspace/a.txt'), 'utf8')
    },
    rename: async (b) => {
      assert.equal((await api('POST', `/v1/branches/${b.id}/rename`, { from: 'a.txt', to: 'b.txt' })).status, 204)
      return (await api('GET', `/v1/branches/${b.id}/files/b.txt`)).text()
    }
  }
  for (const [way, read] of Object.entries(ways)) {
    const b = await branch()
    const file = path.join(b.files, 'a.txt')
    fs.writeFileSync(file, 'base\n')
    const ann = await rawH(await session(b, 'ann'), 'a.txt').sync()
    // As long as somebody has the file open for writing, it is not replaced for a while.
    const writer = fs.openSync(file, 'a')
    ann.send('update', ann.typed(0, 'typed\n'))
    await eventually('acknowledged', () => ann.statuses().length === 1)
    // Somebody else takes the next position of the log: a row of no updates.
    const [[document, position]] = ask(`select document_id, max(position) from document_log where document_id in
      (select id from document where branch_id = '${b.id}') group by document_id`)
    const taken = `document_id = '${document}' and position = ${Number(position) + 1}`
    const set = (bytes) => {
      const blob = process.env.DATABASE_URL ? `'\\x${bytes}'` : `x'${bytes}'`
      ask(`delete from document_log where ${taken}`)
      ask(`insert into document_log (document_id, first_position, position, data, at_ms)
        values ('${document}', ${Number(position) + 1}, ${Number(position) + 1}, ${blob}, 0)`)
    }
    set(way === 'get' ? '01' : '')
    ann.send('update', ann.typed(0, 'never acknowledged\n'))
    await eventually('it failed', () => ann.closed || ann.all('close').length === 1)
    fs.closeSync(writer)
    assert.equal(fs.readFileSync(file, 'utf8'), 'base\n', 'not on disk')
    if (way === 'get') {
      // Its log can't be read.
      const routes = [['GET', 'files/a.txt'], ['POST', 'copy', { from: 'a.txt', to: 'b.txt' }]]
      for (const [method, route, body] of [...routes, ...routes]) {
        assert.equal((await api(method, `/v1/branches/${b.id}/${route}`, body)).status, 503, route)
      }
      const found = await (await api('GET', `/v1/branches/${b.id}/search?query=base`)).json()
      assert.deepEqual(found.behind, ['a.txt'])
      set('')
    }
    const text = await read(b)
    assert.equal(count(text, 'typed'), 1, `${way}: ${text}`)
  }
}

/** A search that can't bring what was typed to disk in time says of which files that is. */
export async function search_behind() {
  await start()
  const b = await branch()
  for (const name of ['a.txt', 'b.txt']) fs.writeFileSync(path.join(b.files, name), 'needle\n')
  const [ann, bob] = [hClient(await session(b, 'ann'), 'a.txt'), hClient(await session(b, 'bob'), 'b.txt')]
  const eve = hClient(await session(b, 'eve', 'read'), 'a.txt')
  await eventually('synced', () => ann.synced() && bob.synced() && eve.synced())
  const search = async () => (await api('GET', `/v1/branches/${b.id}/search?query=needle`)).json()
  assert.deepEqual((await search()).behind, [])
  const release = await holdDatabase()
  ann.text.insert(0, 'needle\n')
  await eventually('perch has it', () => eve.text.toString() === 'needle\nneedle\n')
  const { matches, behind } = await search()
  assert.deepEqual([matches.map((match) => match.path), behind], [['a.txt', 'b.txt'], ['a.txt']])
  await release()
  await eventually('acknowledged', () => ann.synced())
  const after = await search()
  assert.deepEqual([after.matches.length, after.behind], [3, []])
}
