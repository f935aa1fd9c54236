// Files, with the real packages: every call of both versions, what it is refused with, whose view it has.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { both } from '../both.mjs'
import { join } from '../frames.mjs'
import { api, data, eventually, perch, session, start, temp, url, versions, yClient } from '../harness.mjs'

const ENOENT = /^-2: ENOENT: /
const EACCES = /^-13: EACCES: /
const EEXIST = /^-17: EEXIST: /
const ENOTDIR = /^-20: ENOTDIR: /
const EISDIR = /^-21: EISDIR: /
const EINVAL = /^-22: EINVAL: /
const ENOTEMPTY = /^-39: ENOTEMPTY: /
const refused = (promise, message, what) => assert.rejects(promise, (error) => {
  assert.ok(error instanceof Error && message.test(error.message), `${what}: ${error}`)
  return true
})
const files = (v) => path.join(data, 'branches', v.id, 'workspace')
const names = async (client, folder) => (await client.fs.readdir(folder)).map(({ name }) => name)

/** All calls and their refusals, in the workspace and in `/tmp`, where another part of perch does the work. */
export async function sdk_fs() {
  await start()
  for (const v of await both()) {
    const ann = await v.session('ann')
    for (const [at, where] of [['', 'workspace'], ['/tmp/deep/', 'tmp']]) {
      const say = (what) => `${v.name}, ${where}: ${what}`
      const f = (name) => `${at}${name}`
      await ann.fs.mkdir(f('folder'), true)
      await ann.fs.writeTextFile(f('folder/a.txt'), 'one\n')
      assert.equal(await ann.fs.readTextFile(f('folder/a.txt')), 'one\n', say('text'))
      const bytes = new Uint8Array([0, 255, 10, 13, 128])
      await ann.fs.writeFile(f('folder/b.bin'), bytes)
      assert.deepEqual([...await ann.fs.readFile(f('folder/b.bin'))], [...bytes], say('bytes'))
      assert.ok((await ann.fs.readFile(f('folder/b.bin'))) instanceof Uint8Array)
      await ann.fs.writeTextFile(f('new/deep/c.txt'), 'parents are made')
      await ann.fs.writeTextFile(f('folder/empty.txt'), '')
      assert.equal(await ann.fs.readTextFile(f('folder/empty.txt')), '')
      // Listed and looked at.
      assert.deepEqual(await ann.fs.readdir(f('folder')), ['a.txt', 'b.bin', 'empty.txt'].map((name) => ({ name, type: 'file', isSymlink: false })), say('list'))
      const stat = await ann.fs.stat(f('folder/a.txt'))
      assert.deepEqual([stat.type, stat.isSymlink, stat.size], ['file', false, 4])
      for (const time of ['mtime', 'ctime', 'atime']) assert.ok(Math.abs(stat[time] - Date.now()) < 3_600_000, say(time))
      assert.equal((await ann.fs.stat(f('folder'))).type, 'directory')
      // What may be new, what may be there.
      await refused(ann.fs.writeTextFile(f('none.txt'), 'x', { create: false }), ENOENT, say('create: false'))
      await refused(ann.fs.writeTextFile(f('folder/a.txt'), 'x', { overwrite: false }), EEXIST, say('overwrite: false'))
      await ann.fs.writeTextFile(f('folder/a.txt'), 'two\n', { create: false })
      await ann.fs.writeTextFile(f('fresh.txt'), 'fresh', { overwrite: false })
      await refused(ann.fs.writeTextFile(f('folder'), 'x'), EISDIR, say('write a folder'))
      await refused(ann.fs.readFile(f('folder')), EISDIR, say('read a folder'))
      await refused(ann.fs.readFile(f('none.txt')), ENOENT, say('read nothing'))
      await refused(ann.fs.readdir(f('none')), ENOENT, say('list nothing'))
      await refused(ann.fs.readdir(f('folder/a.txt')), ENOTDIR, say('list a file'))
      await refused(ann.fs.stat(f('none')), ENOENT, say('stat nothing'))
      await refused(ann.fs.mkdir(f('folder')), EEXIST, say('mkdir what is there'))
      await ann.fs.mkdir(f('folder'), true)
      await refused(ann.fs.mkdir(f('x/y')), ENOENT, say('mkdir without a parent'))
      await refused(ann.fs.mkdir(f('folder/a.txt/y')), ENOTDIR, say('mkdir in a file'))
      await ann.fs.mkdir(f('x/y/z'), true)
      // Copied and renamed.
      await refused(ann.fs.copy(f('folder'), f('copy')), EISDIR, say('copy a folder'))
      await ann.fs.copy(f('folder'), f('copy'), true)
      assert.deepEqual(await names(ann, f('copy')), ['a.txt', 'b.bin', 'empty.txt'])
      await refused(ann.fs.copy(f('folder'), f('folder/in'), true), EINVAL, say('copy into itself'))
      await refused(ann.fs.copy(f('folder/a.txt'), f('copy/a.txt')), EEXIST, say('copy onto'))
      await ann.fs.writeTextFile(f('folder/a.txt'), 'three\n')
      await ann.fs.writeTextFile(f('copy/own.txt'), 'stays')
      await ann.fs.copy(f('folder'), f('copy'), true, true)
      assert.deepEqual([await ann.fs.readTextFile(f('copy/a.txt')), await ann.fs.readTextFile(f('copy/own.txt'))], ['three\n', 'stays'], say('copy over'))
      await ann.fs.rename(f('copy/a.txt'), f('moved.txt'))
      await refused(ann.fs.readFile(f('copy/a.txt')), ENOENT, say('moved'))
      await refused(ann.fs.rename(f('moved.txt'), f('fresh.txt')), EEXIST, say('rename onto'))
      if (v.name === '0.11.2') {
        await ann.fs.rename(f('moved.txt'), f('fresh.txt'), true)
        assert.equal(await ann.fs.readTextFile(f('fresh.txt')), 'three\n')
        await ann.fs.rename(f('fresh.txt'), f('moved.txt'))
      }
      await refused(ann.fs.rename(f('none'), f('other')), ENOENT, say('rename nothing'))
      await ann.fs.rename(f('copy'), f('renamed'))
      assert.deepEqual(await names(ann, f('renamed')), ['b.bin', 'empty.txt', 'own.txt'])
      // Removed.
      await refused(ann.fs.remove(f('renamed')), ENOTEMPTY, say('remove what holds something'))
      await ann.fs.remove(f('renamed'), true)
      await refused(ann.fs.remove(f('renamed'), true), ENOENT, say('remove nothing'))
      await ann.fs.remove(f('x/y/z'))
      await ann.fs.remove(f('moved.txt'))
      // Shells see the same, and what they make is seen.
      assert.equal((await v.run(ann, `cat ${at || './'}folder/a.txt`)).output, 'three')
      await v.run(ann, `cd ${at || '.'} && ln -s folder link && ln -s nowhere dangling && ln -s folder/a.txt file-link`)
      const listed = Object.fromEntries((await ann.fs.readdir(at || '.')).map((entry) => [entry.name, entry]))
      assert.deepEqual(listed.link, { name: 'link', type: 'directory', isSymlink: true }, say('link'))
      assert.deepEqual(listed['file-link'], { name: 'file-link', type: 'file', isSymlink: true })
      assert.equal((await ann.fs.stat(f('file-link'))).size, 6)
      assert.deepEqual(await names(ann, f('link')), ['a.txt', 'b.bin', 'empty.txt'])
      await ann.fs.writeTextFile(f('file-link'), 'through\n')
      assert.equal(await ann.fs.readTextFile(f('folder/a.txt')), 'through\n', say('a link is written through'))
      await ann.fs.remove(f('link'), true)
      assert.equal(await ann.fs.readTextFile(f('folder/a.txt')), 'through\n', say('of a link only the link goes'))
      for (const name of ['dangling', 'file-link']) await ann.fs.remove(f(name))
    }
    // Between the two.
    await ann.fs.copy('folder', '/tmp/out', true)
    await ann.fs.copy('/tmp/out/a.txt', 'back.txt')
    assert.equal(await ann.fs.readTextFile('/project/workspace/back.txt'), 'through\n')
    await refused(ann.fs.rename('back.txt', '/tmp/back.txt'), /^-18: EXDEV: /, 'rename across')
    // Larger than what an agent takes at once; paths in all their forms.
    const large = Buffer.alloc(20 * 1024 * 1024 + 7, 'large ')
    for (const place of ['large.bin', '/tmp/large.bin']) {
      await ann.fs.writeFile(place, large)
      assert.ok(large.equals(Buffer.from(await ann.fs.readFile(place))), place)
      assert.equal((await ann.fs.stat(place)).size, large.length)
    }
    assert.equal((await v.run(ann, 'cmp large.bin /tmp/large.bin && ls -A /tmp | grep -c perch')).output, '0')
    await ann.fs.writeTextFile('./sp ace/../ä😀.txt', 'odd')
    assert.equal(await ann.fs.readTextFile('ä😀.txt'), 'odd')
    for (const bad of ['', 'a\0b', 'x'.repeat(5000)]) await refused(ann.fs.readFile(bad), EINVAL, 'no path')
    await refused(ann.fs.remove('.', true), /^-16: EBUSY: /, 'the workspace')
    await refused(ann.fs.readFile('/proc/self/environ'), EACCES, '/proc')
    await refused(ann.fs.writeTextFile('/usr/x', 'x'), /^-(13|30|1): E/, 'the machine')
    // Out of the workspace by a link: as the session's shells see it, not as the machine has it.
    await v.run(ann, 'ln -s /tmp/out out && ln -s / root && ln -s ../../../../../../etc/hostname host')
    assert.deepEqual(await names(ann, 'out'), ['a.txt', 'b.bin', 'empty.txt'])
    await ann.fs.writeTextFile('out/new.txt', 'out there')
    assert.equal((await v.run(ann, 'cat /tmp/out/new.txt')).output, 'out there')
    assert.deepEqual((await names(ann, 'root')).filter((name) => ['project', 'data'].includes(name)), ['project'])
    for (const link of ['out', 'root', 'host']) await ann.fs.remove(link)
    // `.git` is there, as for shells.
    await v.run(ann, 'git init -q .')
    assert.ok((await names(ann, '.')).includes('.git'))
    assert.match(await ann.fs.readTextFile('.git/HEAD'), /^ref: /)
    console.log(`# ${v.name}: ok`)
  }
}

/** `~/.private` is its session's; the home is everybody's; a session that can only read leaves nothing behind. */
export async function sdk_fs_views() {
  await start()
  for (const v of await both()) {
    const ann = await v.session('ann')
    const bob = await v.session('bob')
    await ann.fs.writeTextFile('/root/.private/secret', 'of ann')
    assert.equal(await ann.fs.readTextFile('/root/.private/secret'), 'of ann')
    assert.equal((await v.run(ann, 'cat ~/.private/secret')).output, 'of ann')
    await ann.fs.writeTextFile('/root/seen.txt', 'of all')
    assert.equal(await bob.fs.readTextFile('/root/seen.txt'), 'of all')
    for (const other of [bob, v.global]) {
      await refused(other.fs.readTextFile('/root/.private/secret'), ENOENT, 'of another')
      assert.ok(!(await names(other, '/root/.private')).includes('secret'))
    }
    // By a link that the other laid.
    await v.run(ann, 'ln -s /root/.private/secret /project/workspace/trap; ln -s /root/.private /tmp/trap')
    await refused(bob.fs.readTextFile('trap'), ENOENT, 'a link into it')
    await refused(bob.fs.readTextFile('/tmp/trap/secret'), ENOENT, 'a link into it')
    await refused(v.global.fs.copy('/tmp/trap', 'stolen', true).then(() => v.global.fs.readTextFile('stolen/secret')), ENOENT, 'a copy of it')

    await ann.fs.writeTextFile('there.txt', 'there')
    const eve = await v.session('eve', 'read')
    assert.equal(await eve.fs.readTextFile('there.txt'), 'there')
    assert.ok((await names(eve, '.')).includes('there.txt'))
    assert.equal((await eve.fs.stat('there.txt')).size, 5)
    const readOnly = /^null: /
    for (const [what, call] of Object.entries({
      write: () => eve.fs.writeTextFile('new.txt', 'x'), over: () => eve.fs.writeTextFile('there.txt', 'x'), missing: () => eve.fs.writeTextFile('none.txt', 'x', { create: false }),
      mkdir: () => eve.fs.mkdir('folder', true), remove: () => eve.fs.remove('there.txt'), rename: () => eve.fs.rename('there.txt', 'b.txt'), copy: () => eve.fs.copy('there.txt', 'b.txt'),
      tmp: () => eve.fs.writeTextFile('/tmp/x', 'x')
    })) await refused(call(), readOnly, `${v.name}, ${what}`)
    assert.equal(await ann.fs.readTextFile('there.txt'), 'there')
    assert.deepEqual((await names(ann, '.')).filter((name) => ['new.txt', 'folder', 'b.txt', 'none.txt'].includes(name)), [])
    console.log(`# ${v.name}: ok`)
  }
}

/** `fs.watch` tells of what the SDK, editors, shells and renames do; of no more than was asked for. */
export async function sdk_watch() {
  await start()
  for (const v of await both()) {
    const [ann, bob] = [await v.session('ann'), await v.session('bob')]
    const w = '/project/workspace'
    await ann.fs.mkdir('src/deep', true)
    await ann.fs.writeTextFile('src/old.txt', 'old')
    const watching = async (client, at, options) => {
      const told = []
      const watcher = await client.fs.watch(at, options)
      watcher.onEvent((event) => { for (const path of event.paths) told.push(`${event.type} ${path}`) })
      return { told, watcher, heard: (line) => eventually(`${v.name} ${at}: ${line} of ${told}`, () => told.includes(line)) }
    }
    const all = await watching(bob, '.', { recursive: true, excludes: ['**/node_modules/**', '*.log'] })
    const src = await watching(bob, 'src')
    const one = await watching(bob, `${w}/src/old.txt`)
    await ann.fs.writeTextFile('src/new.txt', 'new')
    await all.heard(`add ${w}/src/new.txt`)
    await src.heard(`add ${w}/src/new.txt`)
    await v.run(ann, 'echo more >> src/old.txt; mkdir -p made/node_modules && touch made/in made/node_modules/x hidden.log src/deep/er')
    for (const watch of [all, src, one]) await watch.heard(`change ${w}/src/old.txt`)
    await all.heard(`add ${w}/src/deep/er`)
    await all.heard(`add ${w}/made`)
    await ann.fs.writeTextFile('made/later.txt', 'in a folder that is new')
    await all.heard(`add ${w}/made/later.txt`)
    // An editor of the native API.
    const editor = yClient(await session({ id: v.id }, 'eve'), 'src/new.txt')
    await eventually('it is there', () => editor.text.toString() === 'new')
    editor.text.insert(0, 'typed ')
    await all.heard(`change ${w}/src/new.txt`)
    editor.stop()
    await ann.fs.rename('src/old.txt', 'src/other.txt')
    for (const line of [`remove ${w}/src/old.txt`, `add ${w}/src/other.txt`]) {
      await all.heard(line)
      await src.heard(line)
    }
    await ann.fs.remove('made', true)
    await all.heard(`remove ${w}/made`)
    // A fence: what was told before it is all there is.
    await ann.fs.writeTextFile('src/fence.txt', '')
    for (const watch of [all, src]) await watch.heard(`add ${w}/src/fence.txt`)
    assert.deepEqual(all.told.filter((line) => line.includes('node_modules/') || line.includes('.log')), [])
    assert.deepEqual(src.told.filter((line) => line.includes('/deep/') || line.includes('/made')), [])
    assert.deepEqual(one.told.filter((line) => !line.endsWith('/src/old.txt')), [])
    assert.equal(all.told.filter((line) => line === `add ${w}/src/new.txt`).length, 1, 'once')
    src.watcher.dispose()
    const before = src.told.length
    await ann.fs.writeTextFile('src/unseen.txt', '')
    await all.heard(`add ${w}/src/unseen.txt`)
    await ann.fs.writeTextFile('src/unseen2.txt', '')
    await all.heard(`add ${w}/src/unseen2.txt`)
    assert.equal(src.told.length, before, 'ended')
    await refused(bob.fs.watch('none'), ENOENT, 'nothing is there')
    await refused(bob.fs.watch('/tmp'), EINVAL, 'outside')
    console.log(`# ${v.name}: ok`)
  }
}

/** Links to files and folders: without a token, for browsers too, as the session sees them; ended with it. */
export async function sdk_download() {
  await start()
  for (const v of await both()) {
    const ann = await v.session('ann')
    await ann.fs.writeTextFile('app/a.txt', 'text of a')
    await ann.fs.writeTextFile('app/node_modules/x/big.js', 'left out')
    await ann.fs.writeFile('app/deep/ä 😀.bin', new Uint8Array(300_000).fill(7))
    await v.run(ann, 'printf "#!/bin/sh\\n" > app/run.sh; chmod 755 app/run.sh; ln -s a.txt app/link; mkdir app/empty')
    const get = async (client, at) => {
      const { downloadUrl } = await client.fs.download(at)
      assert.ok(downloadUrl.startsWith(`${url}/`), downloadUrl)
      const answer = await fetch(downloadUrl, { headers: { origin: 'https://elsewhere.example' } })
      assert.equal(answer.headers.get('access-control-allow-origin'), '*')
      assert.equal(answer.headers.get('referrer-policy'), 'no-referrer')
      return { status: answer.status, type: answer.headers.get('content-type'), bytes: Buffer.from(await answer.arrayBuffer()), url: downloadUrl }
    }
    const file = await get(ann, 'app/a.txt')
    assert.deepEqual([file.status, file.bytes.toString()], [200, 'text of a'])
    for (const at of ['app', '/project/workspace/app']) {
      const { type, bytes } = await get(ann, at)
      assert.equal(type, 'application/zip')
      const archive = path.join(temp, 'app.zip')
      const out = fs.mkdtempSync(path.join(temp, 'unzipped-'))
      fs.writeFileSync(archive, bytes)
      execFileSync('python3', ['-c', 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).testzip() and sys.exit(1); zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2])', archive, out])
      const found = fs.readdirSync(out, { recursive: true }).toSorted()
      assert.deepEqual(found, ['a.txt', 'deep', 'deep/ä 😀.bin', 'empty', 'node_modules', 'node_modules/x', 'run.sh'].toSorted().filter((name) => !name.includes('node_modules/')), `${v.name}: without what lies in node_modules, and links`)
      assert.equal(fs.readFileSync(path.join(out, 'a.txt'), 'utf8'), 'text of a')
      assert.equal(fs.readFileSync(path.join(out, 'deep/ä 😀.bin')).length, 300_000)
      const modes = execFileSync('python3', ['-c', 'import sys, zipfile; print(oct(zipfile.ZipFile(sys.argv[1]).getinfo("run.sh").external_attr >> 16 & 0o777))', archive])
      assert.equal(modes.toString().trim(), '0o755')
    }
    // What is private goes out by its own session's link only.
    await ann.fs.writeTextFile('/root/.private/mine', 'private of ann')
    assert.equal((await get(ann, '/root/.private/mine')).bytes.toString(), 'private of ann')
    const bob = await v.session('bob')
    await refused(bob.fs.download('/root/.private/mine'), /ENOENT|no such file/, 'of another')
    await refused(bob.fs.download('none'), /ENOENT|no such file/, 'of nothing')
    // Changed by a character, for another branch, of a session that was ended: one answer.
    const link = new URL(file.url)
    const broken = [file.url.slice(0, -3), link.href.replace(/br_[0-9a-f]{32}/, `br_${'0'.repeat(32)}`)]
    const bobs = await get(bob, 'app/a.txt')
    assert.equal(bobs.status, 200)
    assert.equal((await api('DELETE', `/v1/branches/${v.id}/sessions/bob`)).status, 204)
    for (const one of [...broken, bobs.url]) assert.equal((await fetch(one)).status, 403, one)
    assert.ok(!perch.said.includes(link.pathname.split('/').at(-1)), 'no link is in the log')
    console.log(`# ${v.name}: ok`)
  }
}

/** Search in contents and names, streamed too, and channels: the parts of the protocol that the packages have no calls for. */
export async function sdk_search() {
  await start()
  const [v] = versions()
  const id = await v.create({})
  const [ann, bob] = [await join(await v.session(id, 'ann', 'write')), await join(await v.session(id, 'bob', 'read'))]
  const write = (at, text) => ann.send('fs/writeFile', { path: at, content: Buffer.from(text), create: true, overwrite: true })
  await write('a/one.txt', 'first\nä😀 needle and needle\n')
  await write('a/two.md', 'Needle\n')
  await write('b/needle-file.txt', 'nothing\n')
  const found = await bob.send('fs/search', { text: 'needle' })
  assert.deepEqual(found.map(({ fileId, lineNumber }) => [fileId, lineNumber]), [['a/one.txt', 2], ['a/two.md', 1]])
  const [line] = found
  assert.equal(line.lines.text, 'ä😀 needle and needle')
  assert.equal(line.absoluteOffset, 6)
  assert.deepEqual(line.submatches.map(({ match, start, end }) => [match.text, start, end]), [['needle', 7, 13], ['needle', 18, 24]])
  const ids = async (ask) => (await bob.send('fs/search', ask)).map(({ fileId }) => fileId)
  assert.deepEqual(await ids({ text: 'Needle' }), ['a/two.md'], 'smart')
  assert.deepEqual(await ids({ text: 'needle', caseSensitivity: 'enabled' }), ['a/one.txt'])
  assert.deepEqual(await ids({ text: 'n[e]+dle', isRegex: true, glob: '*.md' }), ['a/two.md'])
  await assert.rejects(bob.send('fs/search', { text: '[', isRegex: true }), { code: 102, data: { errno: -22 } })
  const paths = await bob.send('fs/pathSearch', { text: 'needle' })
  assert.deepEqual(paths.matches[0], { path: 'b/needle-file.txt', submatches: [{ match: { text: 'needle' }, start: 2, end: 8 }] })

  assert.deepEqual(await bob.send('fs/streamingSearch', { searchId: 's1', text: 'needle' }), { searchId: 's1' })
  await eventually('it has finished', () => bob.heard.some(({ method, params }) => method === 'fs/searchFinished' && params.searchId === 's1' && params.hitLimit === false))
  const matches = bob.heard.filter(({ method }) => method === 'fs/searchMatches').flatMap(({ params }) => params.matches)
  assert.deepEqual(matches.map(({ fileId }) => fileId), ['a/one.txt', 'a/two.md'])
  assert.deepEqual(await bob.send('fs/cancelStreamingSearch', { searchId: 's1' }), { searchId: 's1' })
  assert.deepEqual(await ann.send('fs/upload', { parentId: '0', filename: 'up.txt', content: Buffer.from('up') }), { fileId: 'up.txt' })
  assert.equal((await bob.send('fs/readFile', { path: 'up.txt' })).content.toString(), 'up')
  await assert.rejects(bob.send('fs/upload', { parentId: '0', filename: 'no.txt', content: Buffer.from('') }), { code: 2 })

  // Channels.
  const { clientId: anns } = ann.joined.client
  const { clientId: bobs } = bob.joined.client
  await assert.rejects(ann.send('channel/message', { name: 'talk', data: {} }), { code: 500 })
  assert.deepEqual(await ann.send('channel/subscribe', { name: 'talk' }), { subscribers: [anns] })
  assert.deepEqual(await bob.send('channel/subscribe', { name: 'talk' }), { subscribers: [anns, bobs] })
  assert.deepEqual(await bob.send('channel/message', { name: 'talk', data: { n: [1, 'ä', null] } }), { clients: [anns] })
  const heard = (client, method) => client.heard.filter((one) => one.method === method && one.id === undefined).map(({ params }) => params)
  await eventually('the message', () => heard(ann, 'channel/message').length === 1)
  assert.deepEqual(heard(ann, 'channel/message')[0], { name: 'talk', clientId: bobs, isUser: true, data: { n: [1, 'ä', null] } })
  assert.deepEqual(heard(ann, 'channel/subscribed')[0], { name: 'talk', clientId: bobs, subscribers: [anns, bobs] })
  bob.socket.close()
  await eventually('bob left', () => heard(ann, 'channel/unsubscribed').some(({ clientId }) => clientId === bobs))
  await eventually('all hear of it', () => heard(ann, 'client/disconnected').some(({ clientId, reason }) => clientId === bobs && reason === 'Disconnect'))
  assert.deepEqual(await ann.send('channel/message', { name: 'talk', data: {} }), { clients: [] })
  assert.deepEqual([await ann.send('language/list', {}), await ann.send('command/list', {})], [{ languages: [] }, { commands: [] }])
  const there = (await ann.send('client/list', {})).map(({ username }) => username)
  assert.deepEqual([there.includes('ann'), there.includes('bob')], [true, false])
}
