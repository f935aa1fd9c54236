// The tree through the file API: lists, ranges, edits of agents, folders, copies, search, and who may not.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { api, atRest, branch, count, eventually, hClient, session, start, temp, url, yClient } from '../harness.mjs'

const escaped = (file) => file.split('/').map(encodeURIComponent).join('/')
/** The API of one branch, for the holder of a session token or of the owner's. */
function on(b, s) {
  const headers = s ? { authorization: `Bearer ${s.token}` } : {}
  const call = (method, route, body, more = {}) => api(method, `/v1/branches/${b.id}/${route}`, body, { ...headers, ...more })
  return {
    call,
    get: (route, more) => call('GET', route, undefined, more),
    json: async (method, route, body) => {
      const answer = await call(method, route, body)
      const text = await answer.text()
      return { status: answer.status, etag: answer.headers.get('etag'), ...(text ? JSON.parse(text) : {}) }
    },
    put: (file, body, more) => call('PUT', `files/${escaped(file)}`, body, more),
    text: async (file) => (await call('GET', `files/${escaped(file)}`)).text()
  }
}
/** Everything in a folder: kinds, contents, link targets. */
function snapshot(folder) {
  return fs.readdirSync(folder, { recursive: true, withFileTypes: true }).map((entry) => {
    const name = path.join(entry.parentPath, entry.name)
    const content = entry.isFile() ? fs.readFileSync(name, 'utf8') : entry.isSymbolicLink() ? fs.readlinkSync(name) : ''
    return `${name} ${content}`
  }).sort()
}

/** Lists, pages, looks, and file answers with ranges. */
export async function tree() {
  await start()
  const b = await branch()
  const it = on(b)
  execFileSync('git', ['init', '-q', b.files])
  for (let n = 0; n < 25; n++) assert.equal((await it.put(`many/f${String(n).padStart(2, '0')}`, `${n}`)).status, 201)
  await it.put('.gitignore', 'build/\n')
  await it.put('build/out.o', 'x')
  fs.symlinkSync('many', path.join(b.files, 'way'))
  const odd = ['a b?c#d%41.txt', 'über/😀 %2e%2e.md', 'plus+and&=.txt', '\\back\\slash']
  for (const name of odd) {
    assert.equal((await it.put(name, name)).status, 201, name)
    assert.equal(fs.readFileSync(path.join(b.files, name), 'utf8'), name)
    assert.equal(await it.text(name), name)
    const looked = await it.json('GET', `stat/${escaped(name)}`)
    assert.deepEqual([looked.path, looked.kind, looked.len_bytes], [name, 'file', Buffer.byteLength(name)])
  }
  const top = await it.json('GET', 'tree')
  assert.deepEqual(top.entries.find((e) => e.path === 'build').ignored, true)
  assert.deepEqual(top.entries.find((e) => e.path === 'many').ignored, false)
  assert.equal(top.entries.find((e) => e.path === 'way').target, 'folder')
  assert.ok(!top.entries.some((e) => e.path === '.git'))
  assert.ok(Math.abs(top.entries[0].modified_at_ms - Date.now()) < 600_000)
  // Pages of any size give the same list.
  const whole = (await it.json('GET', 'tree?recursive=true')).entries.map((e) => e.path)
  assert.ok(odd.every((name) => whole.includes(name)))
  for (const limit of [1, 7, 1000]) {
    const paged = []
    for (let after = ''; after !== undefined;) {
      const page = await it.json('GET', `tree?recursive=true&limit=${limit}&after=${encodeURIComponent(after)}`)
      assert.ok(page.entries.length <= limit)
      paged.push(...page.entries.map((e) => e.path))
      after = page.next
    }
    assert.deepEqual(paged, whole)
  }
  assert.deepEqual((await it.json('GET', 'tree?path=way&limit=2')).entries.map((e) => e.path), ['way/f00', 'way/f01'])
  for (const [route, status, code] of [
    ['tree?path=none', 404, 'not_found'], ['tree?path=..', 400, 'path_refused'], ['tree?limit=x', 400, 'bad_request'],
    ['tree?path=many&after=build', 400, 'query_refused'], ['stat/none', 404, 'not_found'], ['files/many', 409, 'not_a_file'],
    ['files/%ff', 400, 'bad_request']
  ]) {
    const refused = await it.json('GET', route)
    assert.deepEqual([refused.status, refused.code], [status, code], route)
  }
  // Parts of a file, and none of one that is known.
  await it.put('page.html', '<script>alert(1)</script>')
  const full = await it.get('files/page.html')
  const etag = full.headers.get('etag')
  assert.match(etag, /^"[0-9a-f]{64}"$/)
  assert.equal(full.headers.get('content-type'), 'text/html; charset=utf-8')
  assert.equal(full.headers.get('x-content-type-options'), 'nosniff')
  assert.match(full.headers.get('content-security-policy'), /sandbox/)
  assert.match(full.headers.get('content-disposition'), /^attachment/)
  const part = await it.get('files/page.html', { range: 'bytes=1-6' })
  assert.deepEqual([part.status, await part.text(), part.headers.get('content-range')], [206, 'script', 'bytes 1-6/25'])
  assert.equal(part.headers.get('etag'), etag)
  const past = await it.get('files/page.html', { range: 'bytes=25-' })
  assert.deepEqual([past.status, past.headers.get('content-range'), (await past.json()).code], [416, 'bytes */25', 'range_refused'])
  const known = await it.get('files/page.html', { 'if-none-match': etag })
  assert.deepEqual([known.status, await known.text()], [304, ''])
  const head = await it.call('HEAD', 'files/page.html')
  assert.deepEqual([head.status, head.headers.get('content-length'), head.headers.get('etag'), await head.text()], [200, '25', etag, ''])
  // Only where nothing is; text that was typed but is not on disk yet is something.
  const once = { 'if-none-match': '*' }
  assert.equal((await it.put('new/once.txt', 'first', once)).status, 201)
  const again = await it.put('new/once.txt', 'second', once)
  assert.deepEqual([again.status, (await again.json()).code], [412, 'exists'])
  assert.equal(await it.text('new/once.txt'), 'first')
  const s = await session(b, 'ann')
  const [typed, empty] = [hClient(s, 'typed.txt'), hClient(s, 'empty.txt')]
  await eventually('synced', () => typed.synced() && empty.synced())
  typed.text.insert(0, 'typed')
  await eventually('acknowledged', () => typed.synced())
  assert.equal((await it.put('typed.txt', 'x', once)).status, 412)
  assert.equal((await it.put('empty.txt', 'made\n', once)).status, 201)
  await atRest(path.join(b.files, 'empty.txt'), [empty], ['made'])
  assert.equal((await it.json('GET', 'stat/typed.txt')).len_bytes, 5)
  const large = await it.put('large', new Uint8Array(64 * 1024 * 1024 + 1))
  assert.deepEqual([large.status, (await large.json()).code], [413, 'too_large'])
}

/** Agents replace parts of a version while others type. */
export async function edits() {
  await start()
  const b = await branch()
  const s = await session(b, 'agent')
  const it = on(b, s)
  const file = path.join(b.files, 'src/a.rs')
  await it.put('src/a.rs', 'fn one() {}\r\nfn two() {}\r\nlet x = 1;\r\nlet x = 1;\r\n')
  const edit = (body) => it.json('POST', 'edit/src/a.rs', body)
  const read = await it.get('files/src/a.rs')
  const version = read.headers.get('etag')
  const ann = yClient(await session(b, 'ann'), 'src/a.rs')
  await eventually('synced', () => ann.synced())
  ann.text.insert(0, '// typed by ann\n')
  await eventually('on disk', () => count(fs.readFileSync(file, 'utf8'), 'typed by ann') === 1)
  // Against the version that was read, merged with what came since; line ends as in the file.
  const first = await edit({ version, edits: [{ old: 'fn two() {}\n', new: 'fn two() {\n    2\n}\n' }] })
  assert.deepEqual([first.status, first.places, first.lines], [200, 1, [{ first: 3, last: 5 }]], JSON.stringify(first))
  assert.equal(`"${first.version}"`, first.etag)
  const text = '// typed by ann\nfn one() {}\nfn two() {\n    2\n}\nlet x = 1;\nlet x = 1;\n'
  await eventually('merged', () => ann.text.toString() === text)
  assert.equal(fs.readFileSync(file, 'utf8'), text.replaceAll('\n', '\r\n'))
  // What is not there, or not once, is named; nothing is changed by a request of which one edit fails.
  const missing = await edit({ edits: [{ old: 'fn one', new: 'fn 1' }, { old: 'let x = 1;\nlet y', new: '' }] })
  assert.deepEqual([missing.status, missing.code, missing.edit, missing.near_lines], [409, 'edit_not_found', 1, [6, 7]])
  const twice = await edit({ edits: [{ old: 'let x', new: 'let y' }] })
  assert.deepEqual([twice.status, twice.code, twice.count, twice.lines], [409, 'edit_ambiguous', 2, [6, 7]])
  const across = await edit({ edits: [{ old: 'one()', new: '' }, { old: 'fn one', new: '' }] })
  assert.deepEqual([across.status, across.code], [400, 'edit_overlap'])
  assert.equal(await it.text('src/a.rs'), text.replaceAll('\n', '\r\n'))
  const all = await edit({ edits: [{ old: 'let x', new: 'let y', all: true }] })
  assert.deepEqual([all.status, all.places, all.lines], [200, 2, [{ first: 6, last: 7 }]])
  const place = { start: 3, end: 8, new: 'moved' }
  assert.equal((await edit({ edits: [place] })).status, 400)
  const placed = await edit({ version: all.version, edits: [place] })
  assert.equal(placed.status, 200)
  assert.ok((await it.text('src/a.rs')).startsWith('// moved by ann\r\n'))
  // Without a version: what the session read last counts, and where it does not fit, the present text does.
  await it.text('src/a.rs')
  ann.text.insert(0, '// fn one() again\n')
  await eventually('on disk', () => count(fs.readFileSync(file, 'utf8'), 'again') === 1)
  const unnamed = await edit({ edits: [{ old: 'fn one()', new: 'fn uno()' }] })
  assert.equal(unnamed.status, 200, JSON.stringify(unnamed))
  await eventually('only the one that was read', () => ann.text.toString().startsWith('// fn one() again\n// moved by ann\nfn uno()'))
  ann.text.insert(0, '// newest\n')
  await eventually('on disk', () => count(fs.readFileSync(file, 'utf8'), 'newest') === 1)
  assert.equal((await edit({ edits: [{ old: 'newest', new: 'latest' }] })).status, 200)
  await eventually('present', () => ann.text.toString().startsWith('// latest\n'))
  for (const [body, status, code] of [
    [{ version: '0'.repeat(64), edits: [{ old: 'a', new: 'b' }] }, 412, 'version_unknown'],
    [{ edits: [] }, 400, 'bad_request'], [{ edits: [{ new: 'x' }] }, 400, 'bad_request'],
    [{ edits: [{ old: '', new: 'x' }] }, 400, 'edit_refused'], [{ edits: [{ old: 'a', typo: 1, new: '' }] }, 400, 'bad_request']
  ]) {
    const refused = await edit(body)
    assert.deepEqual([refused.status, refused.code], [status, code], JSON.stringify(body))
  }
  await it.put('bin', new Uint8Array([0xff]))
  assert.equal((await it.json('POST', 'edit/bin', { edits: [{ old: 'a', new: 'b' }] })).status, 415)
  assert.equal((await it.json('POST', 'edit/none', { edits: [{ old: 'a', new: 'b' }] })).status, 404)
  // Ten agents at once on a file that nobody has open: each edit is there.
  await it.put('plain.txt', Array.from({ length: 10 }, (_, n) => `line ${n}\n`).join(''))
  const many = await Promise.all(Array.from({ length: 10 }, (_, n) =>
    it.json('POST', 'edit/plain.txt', { edits: [{ old: `line ${n}\n`, new: `done ${n}\n` }] })))
  assert.ok(many.every(({ status }) => status === 200), JSON.stringify(many))
  assert.equal(count(await it.text('plain.txt'), 'done '), 10)
}

/** Folders come and go with their documents; copies hold what editors see. */
export async function folders() {
  await start()
  const b = await branch()
  const it = on(b)
  assert.equal((await it.call('POST', 'folders/a/b')).status, 201)
  assert.equal((await it.call('POST', 'folders/a/b')).status, 200)
  await it.put('a/b/kept.txt', 'kept\n')
  const taken = await it.json('POST', 'folders/a/b/kept.txt')
  assert.deepEqual([taken.status, taken.code], [409, 'exists'])
  const s = await session(b, 'ann')
  const ann = hClient(s, 'a/b/doc.txt')
  const unwritten = hClient(s, 'a/b/new/unwritten.txt')
  await eventually('synced', () => ann.synced() && unwritten.synced())
  ann.text.insert(0, 'typed just now\n')
  await eventually('acknowledged', () => ann.synced())
  // What is typed but not on disk yet is copied too.
  assert.equal((await it.json('POST', 'copy', { from: 'a', to: 'copy/of a' })).status, 201)
  assert.equal(fs.readFileSync(path.join(b.files, 'copy/of a/b/doc.txt'), 'utf8'), 'typed just now\n')
  assert.equal(fs.readFileSync(path.join(b.files, 'copy/of a/b/kept.txt'), 'utf8'), 'kept\n')
  const copy = yClient(s, 'copy/of a/b/doc.txt')
  await eventually('the copy is a document', () => copy.synced() && copy.text.toString() === 'typed just now\n')
  copy.text.insert(0, 'only here\n')
  await atRest(path.join(b.files, 'copy/of a/b/doc.txt'), [copy], ['only here'])
  assert.equal(ann.text.toString(), 'typed just now\n')
  for (const [from, to, status, code] of [
    ['a', 'copy', 409, 'exists'], ['a', 'a/b/c', 400, 'into_itself'], ['none', 'x', 404, 'not_found'],
    ['a/b/kept.txt', 'a/b/kept.txt', 409, 'exists'], ['a', '.git/x', 400, 'path_refused'], ['a', 'copy/of a/b/kept.txt/x', 409, 'not_a_file']
  ]) {
    const refused = await it.json('POST', 'copy', { from, to })
    assert.deepEqual([refused.status, refused.code], [status, code], `${from} to ${to}`)
  }
  const full = await it.json('DELETE', 'folders/a')
  assert.deepEqual([full.status, full.code], [409, 'folder_not_empty'])
  assert.deepEqual((await it.json('DELETE', 'folders/a/b/kept.txt?recursive=true')).code, 'not_a_folder')
  assert.deepEqual((await it.json('DELETE', 'files/a')).code, 'not_a_file')
  const watcher = yClient(s, 'a/b/doc.txt')
  await eventually('watching', () => watcher.synced())
  assert.equal((await it.call('DELETE', 'folders/a?recursive=true')).status, 204)
  await eventually('closed for good', () => watcher.closed?.code === 4404)
  assert.ok(!fs.existsSync(path.join(b.files, 'a')))
  assert.equal((await it.json('DELETE', 'folders/a?recursive=true')).status, 404)
  ann.stop()
  unwritten.stop()
  // Made anew, the document is a new one.
  const anew = hClient(s, 'a/b/doc.txt')
  await eventually('anew', () => anew.synced())
  assert.equal(anew.text.toString(), '')
  assert.ok(!fs.existsSync(path.join(b.files, 'a')), 'nothing came back')
  assert.equal((await it.call('POST', 'folders/empty')).status, 201)
  assert.equal((await it.call('DELETE', 'folders/empty')).status, 204)
  const temps = path.join(b.files, '../tmp')
  await eventually('nothing is left over', () => fs.readdirSync(temps).length === 0)
}

/** Search finds what was typed a moment ago, and neither `.git` nor what is ignored. */
export async function search() {
  const repository = path.join(temp, 'repository')
  fs.mkdirSync(path.join(repository, 'src'), { recursive: true })
  const git = (...args) => execFileSync('git', ['-C', repository, '-c', 'user.name=t', '-c', 'user.email=t@example.org', ...args])
  fs.writeFileSync(path.join(repository, 'src/main.rs'), 'fn main() {\n    println!("😀 needle");\n}\n')
  fs.writeFileSync(path.join(repository, '.gitignore'), 'target\n')
  git('init', '-q')
  git('add', '.')
  git('commit', '-qm', 'needle')
  await start()
  const b = await branch({ name: 'repository', git: { url: repository } })
  const it = on(b, await session(b, 'eve', 'read'))
  fs.mkdirSync(path.join(b.files, 'target'))
  fs.writeFileSync(path.join(b.files, 'target/out'), 'needle')
  fs.writeFileSync(path.join(b.files, 'binary'), 'needle\0')
  fs.symlinkSync('.git', path.join(b.files, 'link'))
  const found = await it.json('GET', 'search?query=NEEDLE')
  assert.deepEqual(found.matches, [
    { path: 'src/main.rs', line: 2, column: 18, length: 6, text: '    println!("😀 needle");', text_column: 1 }
  ])
  assert.equal(found.cut, false)
  assert.deepEqual((await it.json('GET', 'search?query=NEEDLE&case=true')).matches, [])
  const ann = hClient(await session(b, 'ann'), 'notes.txt')
  await eventually('synced', () => ann.synced())
  for (let n = 0; n < 20; n++) {
    ann.text.insert(0, `typed ${n} thing\n`)
    await eventually('acknowledged', () => ann.synced())
    const typed = await it.json('GET', `search?query=${encodeURIComponent(`^typed ${n} \\w+$`)}&regex=true`)
    assert.deepEqual(typed.matches.map((m) => [m.path, m.line, m.column]), [['notes.txt', 1, 1]])
  }
  const cut = await it.json('GET', 'search?query=typed&limit=3')
  assert.deepEqual([cut.matches.length, cut.cut], [3, true])
  assert.equal((await it.json('GET', 'search?query=typed&path=src')).matches.length, 0)
  assert.equal((await it.json('GET', 'search?query=typed&path=notes.txt')).matches.length, 20)
  const files = await it.json('GET', 'find?query=smn')
  assert.deepEqual(files.files.map((f) => f.path), ['src/main.rs'])
  assert.ok((await it.json('GET', 'find')).files.every((f) => !/^(\.git\/|target|link)/.test(f.path)))
  for (const [route, status, code] of [
    ['search?query=(&regex=true', 400, 'query_refused'], ['search?query=', 400, 'query_refused'], ['search', 400, 'bad_request'],
    ['search?query=x&path=none', 404, 'not_found'], ['search?query=x&path=link', 400, 'path_refused'],
    [`find?query=${'x'.repeat(1001)}`, 400, 'query_refused']
  ]) {
    const refused = await it.json('GET', route)
    assert.deepEqual([refused.status, refused.code], [status, code], route)
  }
}

/** Every route that changes files: a read session is refused and nothing changes; a write session may (the control). */
export async function file_rights() {
  await start()
  const b = await branch()
  const owner = on(b)
  for (const file of ['a.txt', 'd/e.txt', 'empty/x']) await owner.put(file, 'text\n')
  fs.unlinkSync(path.join(b.files, 'empty/x'))
  const changes = [
    ['PUT', 'files/a.txt', 'changed\n', 200],
    ['PUT', 'files/new.txt', 'changed\n', 201],
    ['POST', 'edit/a.txt', { edits: [{ old: 'changed', new: 'edited' }] }, 200],
    ['POST', 'folders/made', undefined, 201],
    ['POST', 'copy', { from: 'd', to: 'copied' }, 201],
    ['DELETE', 'folders/empty', undefined, 204],
    ['DELETE', 'folders/d?recursive=true', undefined, 204],
    ['DELETE', 'files/a.txt', undefined, 204]
  ]
  const before = snapshot(b.files)
  const [reader, other] = [on(b, await session(b, 'eve', 'read')), on(await branch(), await session(b, 'ann'))]
  for (const [method, route, body] of changes) {
    const refused = await reader.json(method, route, body)
    assert.deepEqual([refused.status, refused.code], [403, 'forbidden'], `${method} ${route}`)
    assert.equal((await other.call(method, route, body)).status, 404, `another branch: ${method} ${route}`)
    const none = await fetch(`${url}/v1/branches/${b.id}/${route}`, { method, body: body && JSON.stringify(body) })
    assert.equal(none.status, 401, `${method} ${route}`)
  }
  assert.deepEqual(snapshot(b.files), before)
  for (const route of ['tree?recursive=true', 'stat/a.txt', 'files/a.txt', 'search?query=text', 'find?query=a']) {
    assert.equal((await reader.get(route)).status, 200, route)
    assert.equal((await other.get(route)).status, 404, route)
  }
  const writer = on(b, await session(b, 'ann'))
  for (const [method, route, body, status] of changes) {
    const answer = await writer.call(method, route, body)
    assert.equal(answer.status, status, `${method} ${route}: ${await answer.text()}`)
  }
  assert.notDeepEqual(snapshot(b.files), before)
}

/** Links to `.git` and out of the workspace lead nowhere, through no route; a link inside does (the control). */
export async function file_links() {
  await start()
  const b = await branch()
  const it = on(b, await session(b, 'ann'))
  execFileSync('git', ['init', '-q', b.files])
  const outside = path.join(temp, 'outside')
  fs.mkdirSync(outside)
  fs.writeFileSync(path.join(outside, 'config'), 'secret [core]\n')
  fs.mkdirSync(path.join(b.files, 'inside'))
  fs.writeFileSync(path.join(b.files, 'inside/config'), 'plain [core]\n')
  const link = (name, target) => fs.symlinkSync(target, path.join(b.files, name))
  link('git', '.git')
  link('git-too', '/project/workspace/.git')
  link('out', outside)
  link('up', '../../..')
  link('loop', 'loop')
  const [git, out] = [snapshot(path.join(b.files, '.git')), snapshot(outside)]
  const plain = decodeURIComponent
  const routes = (folder) => [
    ['GET', `tree?path=${folder}`], ['GET', `tree?path=${folder}/hooks`], ['GET', `stat/${folder}/config`], ['GET', `files/${folder}/config`],
    ['PUT', `files/${folder}/config`, 'evil'], ['PUT', `files/${folder}/new`, 'evil'], ['DELETE', `files/${folder}/config`],
    ['POST', `edit/${folder}/config`, { edits: [{ old: '[core]', new: 'evil' }] }],
    ['POST', `folders/${folder}/new`], ['DELETE', `folders/${folder}/hooks?recursive=true`], ['DELETE', `folders/${folder}?recursive=true`],
    ['POST', 'copy', { from: plain(folder), to: `got-${folder}` }], ['POST', 'copy', { from: plain(`${folder}/config`), to: `got-${folder}` }],
    ['POST', 'copy', { from: 'inside', to: plain(`${folder}/copied`) }], ['GET', `search?query=core&path=${folder}`]
  ]
  for (const folder of ['git', 'git-too', 'out', 'up', 'loop', '.git', '.GIT', 'inside%5C.git', 'a%2F..%2F.git']) {
    for (const [method, route, body] of routes(folder)) {
      const refused = await it.json(method, route, body)
      assert.ok([400, 404, 409].includes(refused.status), `${method} ${route}: ${refused.status}`)
      assert.ok(refused.code, `${method} ${route}`)
    }
  }
  const doc = yClient(await session(b, 'ann'), 'git/config')
  await eventually('no document either', () => doc.closed && doc.closed.code >= 4400 && doc.closed.code < 4500)
  const seen = await it.json('GET', 'search?query=core')
  assert.deepEqual(seen.matches.map((m) => m.path), ['inside/config'])
  assert.ok(!JSON.stringify(await it.json('GET', 'tree?recursive=true')).includes('hooks'))
  assert.deepEqual(snapshot(path.join(b.files, '.git')), git)
  assert.deepEqual(snapshot(outside), out)
  assert.ok(!fs.existsSync(path.join(b.files, 'got-git')))
  // The control: links that stay inside work, and share one document with their target, also absolute ones as a
  // session writes them.
  link('way', 'inside')
  link('absolute', path.join(b.files, 'inside'))
  link('as-session', '/project/workspace/inside/config')
  for (const name of ['way/config', 'absolute/config', 'as-session']) assert.equal(await it.text(name), 'plain [core]\n', name)
  const s = await session(b, 'bob')
  const [one, two] = [hClient(s, 'as-session'), yClient(s, 'inside/config')]
  await eventually('synced', () => one.synced() && two.synced())
  one.text.insert(0, 'by way of a link\n')
  await atRest(path.join(b.files, 'inside/config'), [one, two], ['by way of a link'])
  assert.ok(fs.lstatSync(path.join(b.files, 'as-session')).isSymbolicLink())
  // Deleting a link takes the link.
  for (const name of ['as-session', 'out', 'git']) assert.equal((await it.call('DELETE', `files/${name}`)).status, 204)
  assert.ok(fs.existsSync(path.join(b.files, 'inside/config')))
  assert.deepEqual(snapshot(outside), out)
  // A pipe makes nobody wait.
  execFileSync('mkfifo', [path.join(b.files, 'pipe')])
  for (const [method, route] of [['GET', 'files/pipe'], ['PUT', 'files/pipe'], ['POST', 'edit/pipe']]) {
    const body = { GET: undefined, PUT: 'x', POST: { edits: [{ old: 'a', new: 'b' }] } }[method]
    const refused = await it.json(method, route, body)
    assert.deepEqual([refused.status, refused.code], [409, 'not_a_file'], `${method} ${route}`)
  }
  assert.equal((await it.json('GET', 'stat/pipe')).kind, 'other')
  assert.equal((await it.json('POST', 'copy', { from: 'pipe', to: 'pipe2' })).code, 'not_a_file')
  assert.equal((await it.json('GET', 'search?query=plain')).status, 200)
  assert.equal((await it.call('DELETE', 'files/pipe')).status, 204)
}
