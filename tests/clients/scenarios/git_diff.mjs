// What differs, staging by file and by hunk, what was committed; of repositories that would like to run something too.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { api, atRest, branch, count, eventually, line, session, sleep, start, yClient } from '../harness.mjs'
import { as, run, said } from '../exec.mjs'

const route = (b, what) => `/v1/branches/${b.id}/git/${what}`
const query = (what, params) => `${what}?${new URLSearchParams(params)}`
/** Asks, and gives what came, which must be a success. */
async function git(method, b, s, what, body) {
  const answer = await api(method, route(b, what), body, as(s))
  const text = await answer.text()
  assert.ok(answer.ok, `${method} ${what}: ${answer.status} ${text}`)
  return text && JSON.parse(text)
}
const look = (b, s, what, params = {}) => git('GET', b, s, query(what, params))
/** Asks for what is refused, and gives the status and the code. */
async function refused(method, b, s, what, body) {
  const answer = await api(method, route(b, what), body, as(s))
  const text = await answer.text()
  assert.ok(!answer.ok, `${method} ${what}: ${answer.status} ${text}`)
  return `${answer.status} ${JSON.parse(text).code}`
}
const who = (name) => ({ name: name[0].toUpperCase() + name.slice(1), email: `${name}@example.org` })
const numbers = (count) => Array.from({ length: count }, (_, n) => `line ${n + 1}\n`).join('')
/** A file's changed lines, each with its sign. */
const changed = (file) => file.hunks.flatMap(({ lines }) => lines.filter(({ kind }) => kind !== 'context').map(({ kind, text }) => `${kind === 'added' ? '+' : '-'}${text}`))
/** What another implementation of git says. */
function libgit2(b, ...what) {
  const root = fileURLToPath(new URL('../../../', import.meta.url))
  const [python, script] = ['target/python/bin/python', 'tests/python/repository.py'].map((file) => path.join(root, file))
  return JSON.parse(execFileSync(python, [script, b.files, ...what], { maxBuffer: 64 << 20 }))
}
/** A file as that one tells it. */
const told = (file) => ({
  path: file.path, from: file.from, change: file.change, modes: [file.old_mode, file.new_mode], is_binary: file.is_binary,
  lines: changed(file).map((line) => [line[0], line.slice(1)])
})
const brief = ({ path, change, added, deleted }) => [path, change, added, deleted]
async function repository() {
  await start()
  const b = await branch()
  const ann = await session(b, 'ann', 'write', who('ann'))
  await git('POST', b, ann, 'init')
  // As the session: what this process makes itself belongs to somebody else.
  const write = async (name, text) => {
    const answer = await api('PUT', `/v1/branches/${b.id}/files/${name.split('/').map(encodeURIComponent).join('/')}`, text, as(ann))
    assert.ok(answer.ok, `${name}: ${answer.status} ${await answer.clone().text()}`)
  }
  const sh = (line) => said(b, ann, `set -e; ${line}`)
  const read = (name) => fs.readFileSync(path.join(b.files, name), 'utf8')
  const commit = async (message) => (await git('POST', b, ann, 'commit', { message })).commit
  return { b, ann, write, read, commit, sh }
}

/** Each kind of change, each pair of sides, pages, bounds, and files that are no plain text. */
export async function git_diff() {
  const { b, ann, write, commit, sh } = await repository()
  const eve = await session(b, 'eve', 'read')
  const odd = 'd/we"ird\nname ü.txt'
  // Before the first commit.
  await write('a.txt', 'a\nb\nc\n')
  await git('POST', b, ann, 'stage', { paths: ['a.txt'] })
  assert.deepEqual((await look(b, eve, 'diff', { staged: true })).files.map(brief), [['a.txt', 'added', 3, 0]])
  assert.equal(await refused('GET', b, eve, 'diff?from=HEAD'), '404 git_unknown_revision')
  await write(odd, 'x')
  await write('t', 'gone\n')
  await write('script', '#!/bin/sh\n')
  await write('binary', 'a\0b')
  await write('latin', Buffer.from('caf\xe9\n', 'latin1'))
  await write('moved.txt', numbers(20))
  await sh('ln -s a.txt link; ln -s a.txt kind')
  await git('POST', b, ann, 'stage', { all: true })
  const first = await commit('one')
  // A plain edit is on the screen only.
  const editor = yClient(ann, 'a.txt')
  await eventually('synced', () => editor.synced())
  editor.text.insert(0, 'typed\n')
  await eventually('seen', async () => changed((await look(b, eve, 'diff', { path: 'a.txt' })).files[0] ?? { hunks: [] })[0] === '+typed')
  await write(odd, 'y')
  await sh('rm t; chmod +x script')
  await write('binary', 'a\0c')
  await write('latin', Buffer.from('caf\xe9\r\nth\xe9', 'latin1'))
  await sh('ln -sf t link; rm kind')
  await write('kind', 'a file\n')
  await sh('git mv moved.txt "new place.txt"; echo more >> "new place.txt"; git add "new place.txt"')
  await write('new/file.txt', 'all\nof it')
  await write('.gitignore', 'ignored\n')
  await write('ignored', 'x')
  const { files, next } = await look(b, eve, 'diff', { from: first, untracked: true })
  assert.equal(next, undefined)
  const by = Object.fromEntries(files.map((file) => [file.path, file]))
  assert.deepEqual(files.map(brief), [
    ['.gitignore', 'added', 1, 0], ['a.txt', 'modified', 1, 0], ['binary', 'modified', null, null], [odd, 'modified', 1, 1],
    ['kind', 'type_changed', 1, 1], ['latin', 'modified', 2, 1], ['link', 'modified', 1, 1], ['new place.txt', 'renamed', 1, 0],
    ['new/file.txt', 'added', 2, 0], ['script', 'modified', 0, 0], ['t', 'deleted', 0, 1]])
  assert.equal(by['new place.txt'].from, 'moved.txt')
  assert.ok(by.binary.is_binary && by['new/file.txt'].untracked)
  assert.deepEqual([by.script.old_mode, by.script.new_mode, by.kind.old_mode, by.kind.new_mode, by.link.new_mode], ['100644', '100755', '120000', '100644', '120000'])
  assert.deepEqual(changed(by.link), ['-a.txt', '+t'])
  assert.deepEqual(by.latin.hunks[0].lines, [
    { kind: 'deleted', text: 'caf\ufffd', is_replaced: true }, { kind: 'added', text: 'caf\ufffd\r', is_replaced: true },
    { kind: 'added', text: 'th\ufffd', is_replaced: true, no_newline: true }])
  assert.deepEqual(by[odd].hunks[0].lines, [{ kind: 'deleted', text: 'x', no_newline: true }, { kind: 'added', text: 'y', no_newline: true }])
  // Each pair of sides; in a folder; with other context.
  assert.deepEqual((await look(b, eve, 'diff', { staged: true })).files.map(brief), [['new place.txt', 'renamed', 1, 0]])
  assert.deepEqual((await look(b, eve, 'diff')).files.map((file) => file.path), ['a.txt', 'binary', odd, 'kind', 'latin', 'link', 'script', 't'])
  assert.deepEqual((await look(b, eve, 'diff', { path: 'd' })).files.map((file) => file.path), [odd])
  const [narrow] = (await look(b, eve, 'diff', { path: 'a.txt', context: 0 })).files
  assert.deepEqual(narrow.hunks.map(({ old_start, old_len, new_start, new_len, lines }) => [old_start, old_len, new_start, new_len, lines.length]), [[0, 0, 1, 1, 1]])
  await git('POST', b, ann, 'stage', { all: true })
  const second = await commit('two')
  const between = (await look(b, eve, 'diff', { from: first, to: second })).files
  assert.deepEqual(between.map(brief), files.map(brief))
  const known = ({ change, modes, ...file }) => (change === 'type_changed' ? file.path : { change, modes, ...file })
  assert.deepEqual(between.map(told).map(known), libgit2(b, 'diff', first, second).map(known))
  assert.deepEqual((await look(b, eve, 'diff', { from: second, to: first })).files.map(({ path }) => path).includes('moved.txt'), true)
  assert.deepEqual((await look(b, eve, 'diff', { from: 'HEAD~1', to: 'HEAD' })).files.length, files.length)
  // Pages give the same.
  const paged = []
  for (let after; ;) {
    const page = await look(b, eve, 'diff', { from: first, to: second, limit: 2, ...(after && { after }) })
    assert.ok(page.files.length <= 2)
    paged.push(...page.files)
    after = page.next
    if (!after) break
  }
  assert.deepEqual(paged, between)
  // Too large: marked, and the others are there; a page that got too large has a next one.
  await write('a.txt', 'x\n'.repeat(20_001))
  await write('wide', 'y'.repeat(1_100_000))
  await write('huge', 'z\n'.repeat(5_000_000))
  for (let n = 0; n < 6; n++) await write(`many/${n}`, `${'m'.repeat(900_000)}\n`)
  await git('POST', b, ann, 'stage', { all: true })
  const large = []
  let pages = 0
  for (let after; ; pages++) {
    const page = await look(b, eve, 'diff', { staged: true, ...(after && { after }) })
    large.push(...page.files)
    after = page.next
    if (!after) break
  }
  assert.ok(pages > 0)
  assert.deepEqual(large.map(({ path, left_out, is_binary, hunks }) => [path, left_out, is_binary, hunks.length]), [
    ['a.txt', 'too_large', false, 0], ['huge', null, true, 0], ...[0, 1, 2, 3, 4, 5].map((n) => [`many/${n}`, null, false, 1]), ['wide', 'too_large', false, 0]])
  assert.equal(large[0].added, 20_001)
  // What is refused.
  for (const bad of ['to=HEAD', 'from=--output%3Dx', 'from=a..b', 'from=HEAD&to=HEAD&staged=true', 'path=../x', 'path=.git/config', 'context=1001', 'limit=0', 'after=!', 'nonsense=1']) {
    assert.match(await refused('GET', b, eve, `diff?${bad}`), /^400 /, bad)
  }
  for (const bad of ['nothing', '%5EHEAD', 'HEAD~99', 'a1'.repeat(20)]) assert.equal(await refused('GET', b, eve, `diff?from=${bad}`), '404 git_unknown_revision', bad)
  // Plain git says the same, in numbers.
  const stat = await said(b, ann, `git diff --numstat -M -z ${first} ${second}`)
  assert.equal(stat.split('\0').filter((one) => /^\d/.test(one)).length, between.filter((file) => file.added !== null).length)
  // A conflict is shown against one's own side.
  await said(b, ann, `git commit -qm three && git checkout -q -b other ${first} && echo other > a.txt && git commit -qam other && git checkout -q main && (git merge -q other || true)`)
  const conflict = (await look(b, eve, 'diff')).files
  assert.deepEqual(conflict.map(({ path, conflict }) => [path, conflict]), [['a.txt', true]])
  assert.ok((await look(b, eve, 'diff', { staged: true })).files.find((file) => file.path === 'a.txt').conflict)
  editor.stop()
}

/** Files and hunks are staged, unstaged and discarded, while somebody types; what is not there any more changes nothing. */
export async function git_staging() {
  const { b, ann, write, read, commit, sh } = await repository()
  const [bob, eve] = [await session(b, 'bob'), await session(b, 'eve', 'read')]
  const status = async () => (await look(b, ann, 'status')).entries.map(({ path, staged, unstaged, untracked }) => `${path} ${staged ?? '-'} ${untracked ? 'untracked' : unstaged ?? '-'}`)
  const hunks = async (params) => (await look(b, ann, 'diff', params)).files[0]?.hunks ?? []
  await write('a.txt', numbers(60))
  await write('d/b.txt', 'b\n')
  await write('odd/na"me\n.txt', 'n\n')
  await git('POST', b, ann, 'stage', { paths: ['a.txt', 'd', 'odd'] })
  await git('POST', b, ann, 'unstage', { all: true })
  assert.deepEqual(await status(), ['a.txt - untracked', 'd/b.txt - untracked', 'odd/na"me\n.txt - untracked'])
  await git('POST', b, ann, 'stage', { all: true })
  await commit('one')
  assert.deepEqual(await status(), [])
  for (const what of ['stage', 'unstage', 'discard']) assert.equal(await refused('POST', b, eve, what, { all: true }), '403 forbidden')
  // Files: changed, new, gone, of another kind.
  await write('d/b.txt', 'c\n')
  await write('new', 'new\n')
  await sh('rm -r odd')
  await git('POST', b, bob, 'stage', { paths: ['d', 'new', 'odd/na"me\n.txt'] })
  assert.deepEqual(await status(), ['d/b.txt modified -', 'new added -', 'odd/na"me\n.txt deleted -'])
  await git('POST', b, bob, 'unstage', { paths: ['new', 'odd'] })
  assert.deepEqual(await status(), ['d/b.txt modified -', 'odd/na"me\n.txt - deleted', 'new - untracked'])
  await git('POST', b, bob, 'unstage', { all: true })
  await git('POST', b, bob, 'discard', { paths: ['d/b.txt', 'odd'] })
  assert.deepEqual(await status(), ['new - untracked'])
  assert.equal(read('d/b.txt') + read('odd/na"me\n.txt'), 'b\nn\n')
  // Untracked files go only if asked; ignored ones never.
  await write('.gitignore', 'ignored\n')
  await write('ignored', 'x')
  assert.equal(await refused('POST', b, bob, 'discard', { paths: ['new'] }), '404 git_unknown_path')
  await git('POST', b, bob, 'discard', { all: true })
  assert.deepEqual(await status(), ['.gitignore - untracked', 'new - untracked'])
  await git('POST', b, bob, 'discard', { paths: ['new'], untracked: true })
  assert.deepEqual(await status(), ['.gitignore - untracked'])
  assert.ok(fs.existsSync(path.join(b.files, 'ignored')))
  for (const [what, named] of [['stage', 'ignored'], ['stage', 'nothing'], ['discard', 'nothing']]) {
    assert.equal(await refused('POST', b, bob, what, { paths: [named] }), '404 git_unknown_path', named)
  }
  await sh('rm -r d')
  await write('d', 'a file now\n')
  await git('POST', b, bob, 'stage', { all: true })
  assert.deepEqual(await status(), ['.gitignore added -', 'd added -', 'd/b.txt deleted -'])
  await sh('rm d')
  await write('d/b.txt', 'b\n')
  await git('POST', b, bob, 'stage', { all: true })
  await commit('two')
  // Hunks, of what is typed.
  const [mine, other] = [yClient(ann, 'a.txt'), yClient(bob, 'a.txt')]
  await eventually('synced', () => mine.synced() && other.synced())
  const insert = (editor, before, text) => editor.text.insert(editor.text.toString().indexOf(before), text)
  insert(mine, 'line 5\n', 'first\n')
  insert(mine, 'line 30\n', 'second\n')
  insert(mine, 'line 55\n', 'third\n')
  const three = await eventually('three hunks', async () => {
    const three = await hunks()
    return three.length === 3 && three
  })
  const [one, two, last] = three.map(({ id }) => id)
  assert.deepEqual((await hunks()).map(({ id }) => id), [one, two, last], 'ids stay')
  await git('POST', b, bob, 'stage', { path: 'a.txt', hunks: [two] })
  assert.deepEqual((await hunks()).map(({ id }) => id), [one, last])
  assert.deepEqual(changed((await look(b, ann, 'diff', { staged: true })).files[0]), ['+second'])
  // Gone, and one of two gone: nothing happens.
  for (const ids of [[two], [one, two]]) assert.equal(await refused('POST', b, bob, 'stage', { path: 'a.txt', hunks: ids }), '409 git_hunk_changed')
  assert.equal(await refused('POST', b, bob, 'stage', { path: 'd/b.txt', hunks: [one] }), '409 git_hunk_changed')
  assert.deepEqual((await hunks()).map(({ id }) => id), [one, last])
  const [staged] = await hunks({ staged: true })
  await git('POST', b, bob, 'unstage', { path: 'a.txt', hunks: [staged.id] })
  assert.equal((await hunks()).length, 3)
  await git('POST', b, bob, 'stage', { path: 'a.txt', hunks: [one, last] })
  // Discarded while both type: what they type stays, and so do their cursors and connections.
  const { createRelativePositionFromTypeIndex: hold, createAbsolutePositionFromRelativePosition: held } = await import('yjs')
  const cursor = hold(mine.text, mine.text.toString().indexOf('line 40\n'))
  let drops = 0
  for (const editor of [mine, other]) editor.provider.on('connection-close', () => drops++)
  const tokens = []
  let goes = true
  const typing = (async () => {
    while (goes) {
      // At the ends: apart from the hunk.
      for (const [editor, name] of [[mine, 'ann'], [other, 'bob']]) {
        const text = `<${name}${tokens.length}>`
        if (name === 'ann') editor.text.insert(0, `${text}\n`)
        else editor.text.insert(editor.text.length, `${text}\n`)
        tokens.push(text)
      }
      await sleep(7)
    }
  })()
  await sleep(150)
  for (let round = 0; round < 6; round++) {
    if (round > 0) insert(other, 'line 30\n', 'second\n')
    const gone = await eventually('shown', async () => (await hunks()).find((hunk) => changed({ hunks: [hunk] }).includes('+second')))
    // The same change has the same name.
    assert.equal(gone.id, two)
    await git('POST', b, bob, 'discard', { path: 'a.txt', hunks: [two] })
    await eventually('discarded for all', () => [mine, other].every((editor) => !editor.text.toString().includes('second')))
  }
  await sleep(150)
  goes = false
  await typing
  const text = await atRest(path.join(b.files, 'a.txt'), [mine, other], tokens)
  for (const kept of ['first\n', 'third\n', 'line 29\nline 30\n']) assert.equal(count(text, kept), 1, kept)
  assert.equal(held(cursor, mine.doc).index, text.indexOf('line 40\n'))
  assert.equal(drops, 0)
  // The file whole, while both type: all that is typed later than the discard stays.
  await git('POST', b, bob, 'discard', { paths: ['a.txt'] })
  await eventually('discarded', () => !mine.text.toString().includes(tokens[0]))
  const after = []
  for (let n = 0; n < 10; n++) line(mine, 'late', after)
  await atRest(path.join(b.files, 'a.txt'), [mine, other], after)
  assert.equal(drops, 0)
  // What git ends up with is what plain git says.
  assert.equal(await said(b, ann, 'git show :a.txt'), numbers(60).replace('line 5\n', 'first\nline 5\n').replace('line 55\n', 'third\nline 55\n'))
  assert.deepEqual((await look(b, ann, 'diff', { staged: true })).files.map(told), libgit2(b, 'staged'))
  // Files that come and go, hunk by hunk; other line ends; a mode that differs stays.
  await git('POST', b, bob, 'discard', { all: true, untracked: true })
  await write('crlf', 'a\r\nb\r\n')
  await said(b, ann, 'git add -A; git commit -qm three')
  await write('crlf', 'a\r\nB\r\n')
  await sh('chmod +x crlf')
  await git('POST', b, bob, 'stage', { path: 'crlf', hunks: [(await hunks({ path: 'crlf' }))[0].id] })
  assert.equal(await said(b, ann, 'git show :crlf; git ls-files -s crlf | cut -c1-6'), 'a\r\nB\r\n100644\n')
  await sh('rm d/b.txt')
  await git('POST', b, bob, 'stage', { path: 'd/b.txt', hunks: [(await hunks({ path: 'd/b.txt' }))[0].id] })
  assert.equal(await said(b, ann, 'git ls-files d'), '')
  await git('POST', b, bob, 'unstage', { path: 'd/b.txt', hunks: [(await hunks({ path: 'd/b.txt', staged: true }))[0].id] })
  assert.equal(await said(b, ann, 'git ls-files d'), 'd/b.txt\n')
  await git('POST', b, bob, 'discard', { path: 'd/b.txt', hunks: [(await hunks({ path: 'd/b.txt' }))[0].id] })
  assert.equal(read('d/b.txt'), 'b\n')
  // Of a renamed file the content alone.
  await said(b, ann, 'git reset -q --hard; git mv a.txt b.txt; sed -i "s/line 5$/LINE 5/;s/line 50$/LINE 50/" b.txt; git add b.txt')
  const renamed = await hunks({ staged: true })
  assert.equal(renamed.length, 2)
  await git('POST', b, bob, 'unstage', { path: 'b.txt', hunks: [renamed[0].id] })
  const rest = (await look(b, ann, 'diff', { staged: true })).files
  assert.deepEqual([rest.length, rest[0].from, ...changed(rest[0])], [1, 'a.txt', '-line 50', '+LINE 50'])
  // A conflict is whole.
  await said(b, ann, 'git reset -q --hard; git checkout -q -b side; echo side > d/b.txt; git commit -qam side; git checkout -q -; echo main > d/b.txt; git commit -qam main; (git merge -q side || true)')
  assert.equal(await refused('POST', b, bob, 'stage', { path: 'd/b.txt', hunks: [(await hunks())[0].id] }), '409 git_whole_file')
  assert.equal(await refused('POST', b, bob, 'discard', { paths: ['d/b.txt'] }), '409 git_conflict')
  await write('d/b.txt', 'both\n')
  await git('POST', b, bob, 'stage', { paths: ['d/b.txt'] })
  assert.ok(fs.existsSync(path.join(b.files, '.git/MERGE_HEAD')))
  await git('POST', b, bob, 'unstage', { all: true })
  assert.ok(fs.existsSync(path.join(b.files, '.git/MERGE_HEAD')), 'the merge is still under way')
  assert.equal(await refused('POST', b, bob, 'stage', { paths: ['a'], all: true }), '400 bad_request')
  mine.stop()
  other.stop()
}

/** The log in pages, by path; a commit and its changes; a file of a commit; blame. */
export async function git_log() {
  const { b, ann, write, commit, sh } = await repository()
  const [bob, eve] = [await session(b, 'bob', 'write', who('bob')), await session(b, 'eve', 'read')]
  assert.deepEqual(await look(b, eve, 'log'), { commits: [] })
  assert.equal(await refused('GET', b, eve, 'show'), '404 git_unknown_revision')
  assert.equal(await refused('GET', b, eve, 'blame?path=a.txt'), '404 git_unknown_revision')
  const before = Date.now() - 2_000
  await write('a.txt', 'one\ntwo\nthree\n')
  await git('POST', b, ann, 'stage', { all: true })
  const first = await commit('First ü')
  await write('a.txt', 'one\n2\nthree\n')
  await write('d/b.txt', 'b\n')
  await git('POST', b, bob, 'stage', { all: true })
  const { commit: second } = await git('POST', b, bob, 'commit', { message: 'Second\n\nWith a body.\n\nCo-authored-by: Ann <ann@example.org>\nCo-authored-by: Eve X <eve@example.org>\n' })
  await said(b, bob, `git tag v1 ${first}; git branch feature/x; git checkout -q -b side ${first}; echo s > s; git add s; git commit -qm side; git checkout -q main; git merge -q --no-ff -m merged side`)
  const { commits } = await look(b, eve, 'log')
  assert.deepEqual(commits.map(({ subject }) => subject).toSorted(), ['First ü', 'Second', 'merged', 'side'])
  const by = Object.fromEntries(commits.map((one) => [one.subject, one]))
  const plain = ({ hash, parents, author, committer, subject, body, co_authors }) => ({
    hash, parents, author, committer, message: body ? `${subject}\n\n${body}\n` : `${subject}\n`, co_authors: co_authors.map(({ name, email }) => `${name} <${email}>`)
  })
  const hashes = (a, b) => (a.hash < b.hash ? -1 : 1)
  assert.deepEqual(commits.map(plain).toSorted(hashes), libgit2(b, 'log', 'HEAD').toSorted(hashes))
  assert.deepEqual(by.Second.co_authors, [{ name: 'Ann', email: 'ann@example.org' }, { name: 'Eve X', email: 'eve@example.org' }])
  assert.equal(by.Second.body, 'With a body.\n\nCo-authored-by: Ann <ann@example.org>\nCo-authored-by: Eve X <eve@example.org>')
  assert.deepEqual([by.Second.hash, by.Second.parents, by.Second.author.name, by.Second.committer.email], [second, [first], 'Bob', 'bob@example.org'])
  assert.ok(by.Second.author.at_ms >= before && by.Second.author.at_ms <= Date.now())
  assert.deepEqual(by.merged.refs, ['HEAD', 'refs/heads/main'])
  assert.deepEqual(by['First ü'].refs, ['refs/tags/v1'])
  assert.deepEqual(by.Second.refs, ['refs/heads/feature/x'])
  assert.equal(by.merged.parents.length, 2)
  const paged = []
  for (let after; ;) {
    const page = await look(b, eve, 'log', { limit: 1, ...(after && { after }) })
    paged.push(...page.commits)
    // What is committed meanwhile shifts nothing.
    if (!after) await said(b, bob, 'git commit -q --allow-empty -m later')
    after = page.next
    if (!after) break
  }
  assert.deepEqual(paged.map(({ hash }) => hash), commits.map(({ hash }) => hash))
  await said(b, bob, 'git reset -q --hard HEAD~1')
  const of = async (params) => (await look(b, eve, 'log', params)).commits.map(({ subject }) => subject)
  assert.deepEqual(await of({ path: 'd' }), ['Second'])
  assert.deepEqual(await of({ revision: 'v1' }), ['First ü'])
  assert.deepEqual(await of({ path: 'a.txt', revision: 'side' }), ['First ü'])
  // A message that is larger than all that is read of one command.
  await sh('for n in 1 2; do head -c 17000000 /dev/zero | tr "\\0" x > big; printf "subject $n\n\n" | cat - big | git commit -q --allow-empty -F -; done; rm big')
  const large = (await look(b, eve, 'log')).commits
  assert.deepEqual(large.map(({ subject, is_cut, body }) => [subject, is_cut, body.length]), [['subject 2', true, 65_536]])
  const { commits: [next], next: after } = await look(b, eve, 'log', { after: (await look(b, eve, 'log')).next })
  assert.deepEqual([next.subject, next.is_cut], ['subject 1', true])
  assert.equal((await look(b, eve, 'log', { after })).commits.length, commits.length)
  assert.deepEqual((await look(b, eve, 'show')).commit.subject, 'subject 2')
  await sh('git reset -q --hard HEAD~2')
  // With an API token somebody must be named.
  assert.deepEqual((await (await api('GET', route(b, 'log?session=eve'))).json()).commits.length, commits.length)
  assert.equal((await api('GET', route(b, 'log'))).status, 400)
  assert.equal((await api('POST', route(b, 'stage'), { all: true, session: 'eve' })).status, 403)
  assert.equal((await api('POST', route(b, 'stage'), { all: true, session: 'ann' })).status, 204)
  // Settings of the repository change nothing of the form.
  await said(b, bob, 'git config i18n.logOutputEncoding UTF-16; git config log.decorate short; git config log.excludeDecoration refs/tags; git config diff.noprefix true; git config diff.mnemonicPrefix true; git config color.diff always; git config color.ui always; git config diff.suppressBlankEmpty true; git config diff.renames false; git config log.follow true; git config diff.context 9; git config diff.orderFile nowhere; git config format.pretty oneline')
  assert.deepEqual((await look(b, eve, 'log')).commits, commits)
  const shown = await look(b, eve, 'show', { revision: 'feature/x' })
  await sh('git config --unset diff.orderFile')
  assert.equal(shown.commit.hash, second)
  assert.deepEqual(shown.files.map(brief), [['a.txt', 'modified', 1, 1], ['d/b.txt', 'added', 1, 0]])
  assert.deepEqual((await look(b, eve, 'show', { revision: 'v1' })).files.map(brief), [['a.txt', 'added', 3, 0]])
  assert.deepEqual((await look(b, eve, 'show')).files.map(brief), [['s', 'added', 1, 0]], 'a merge, against its first parent')
  assert.deepEqual((await look(b, eve, 'show', { revision: second, path: 'd' })).files.map(brief), [['d/b.txt', 'added', 1, 0]])
  // A file of a commit.
  await sh('ln -s a.txt link')
  const bytes = Buffer.from([0, 255, 13, 10, 7])
  await write('binary', bytes)
  await git('POST', b, ann, 'stage', { all: true })
  await commit('more')
  const file = async (params, headers = {}) => api('GET', route(b, query('file', params)), undefined, { ...as(eve), ...headers })
  assert.equal(await (await file({ path: 'a.txt', revision: 'v1' })).text(), 'one\ntwo\nthree\n')
  const whole = await file({ path: 'binary' })
  assert.deepEqual(Buffer.from(await whole.arrayBuffer()), bytes)
  assert.equal((await file({ path: 'binary' }, { 'if-none-match': whole.headers.get('etag') })).status, 304)
  assert.equal((await file({ path: 'binary' }, { range: 'bytes=1-2' })).status, 206)
  assert.equal(await (await file({ path: 'link' })).text(), 'a.txt')
  for (const [what, expected] of [['path=nothing', '404 git_unknown_path'], ['path=d', '409 not_a_file'], ['path=a.txt&revision=no', '404 git_unknown_revision'], ['path=.git/config', '400 path_refused'], ['path=d/b.txt&revision=v1', '404 git_unknown_path']]) {
    assert.equal(await refused('GET', b, eve, `file?${what}`), expected, what)
  }
  // Blame, of commits and of what is typed.
  const editor = yClient(ann, 'a.txt')
  await eventually('synced', () => editor.synced())
  editor.text.insert(editor.text.length, 'typed\n')
  const ranges = await eventually('typed', async () => {
    const { ranges } = await look(b, eve, 'blame', { path: 'a.txt' })
    return ranges.length === 4 && ranges
  })
  assert.deepEqual(ranges.map(({ first, count, commit }) => [first, count, commit?.hash, commit?.author.name, commit?.first]), [
    [1, 1, first, 'Ann', 1], [2, 1, second, 'Bob', 2], [3, 1, first, 'Ann', 3], [4, 1, undefined, undefined, undefined]])
  const committed = (await look(b, eve, 'blame', { path: 'a.txt', revision: 'HEAD' })).ranges
  assert.deepEqual(committed.map(({ first, count, commit }) => [first, count, commit.hash]), libgit2(b, 'blame', 'a.txt'))
  assert.deepEqual([ranges[1].commit.subject, ranges[0].commit.is_boundary, ranges[1].commit.is_boundary], ['Second', true, false])
  assert.equal((await look(b, eve, 'blame', { path: 'a.txt', revision: 'v1' })).ranges.length, 1)
  assert.deepEqual((await look(b, eve, 'blame', { path: 'a.txt', first: 2, last: 3 })).ranges.map(({ first }) => first), [2, 3])
  for (const [what, expected] of [['path=nothing', '404 git_unknown_path'], ['path=a.txt&first=9&last=9', '400 bad_request'], ['path=a.txt&first=2', '400 bad_request'], ['path=a.txt&revision=-x', '400 bad_request']]) {
    assert.equal(await refused('GET', b, eve, `blame?${what}`), expected, what)
  }
  // A damaged repository is not taken for an empty one.
  await sh('find .git/objects -type f -delete')
  assert.equal(await refused('GET', b, eve, 'log'), '404 git_unknown_revision')
  editor.stop()
}

/** What a repository names in its configuration and attributes runs nothing here; plain git runs it all. */
export async function git_hostile_diff() {
  const { b, ann, write, read, sh } = await repository()
  const evil = (name) => `touch ${name}.ran; cat`
  await write('a.evil', 'one\n')
  await write('plain', 'p\n')
  await git('POST', b, ann, 'stage', { all: true })
  await git('POST', b, ann, 'commit', { message: 'one' })
  const ran = () => fs.readdirSync(b.files).filter((name) => name.endsWith('.ran')).sort()
  // A repository inside has a filter of its own, which nobody lists.
  await sh(`mkdir inner && cd inner && git init -q && echo i > i && git add i && git -c user.email=x -c user.name=x commit -qm i && cd .. && git add inner 2>/dev/null && git commit -qm inner &&
    cd inner && git config filter.inner.clean 'touch ../inner.ran; cat' && mkdir -p .git/info && echo '* filter=inner' > .git/info/attributes && git config core.fsmonitor 'touch ../fsmonitor.ran; false'`)
  await sh('mkdir -p .git/hooks .git/info; for hook in post-checkout post-index-change pre-commit; do printf "#!/bin/sh\\ntouch $hook.ran\\n" > .git/hooks/$hook; chmod +x .git/hooks/$hook; done')
  await sh(`
    printf '*.evil diff=evil filter=evil\\n' > .git/info/attributes
    git config diff.evil.textconv 'touch textconv.ran; cat'
    git config diff.external 'touch external.ran; true'
    git config filter.evil.clean '${evil('clean')}'
    git config filter.evil.smudge '${evil('smudge')}'
    git config submodule.inner.ignore none
    git config -f .gitmodules submodule.inner.path inner
    git config -f .gitmodules submodule.inner.ignore none`)
  let times = 0
  const touch = async () => {
    await write('a.evil', `one\n${++times}\n`)
    await write('plain', `${times}\n`)
    await write('inner/i', 'i\n')
    await sh('touch inner/i')
  }
  const control = async (command, expected) => {
    await touch()
    await run(b, ann, command)
    for (const name of expected) assert.ok(ran().includes(`${name}.ran`), `the control runs ${name}: ${ran()}`)
    await run(b, ann, 'rm -f *.ran')
  }
  const nothing = async (method, what, body) => {
    if (!body?.hunks) await touch()
    await git(method, b, ann, what, body)
    assert.deepEqual(ran(), [], `${method} ${what} ran something`)
  }
  await control('git diff --ext-diff', ['external', 'inner'])
  await control('git config --unset diff.external; git diff; git blame a.evil; git show HEAD -- a.evil', ['textconv'])
  await said(b, ann, `git config diff.external 'touch external.ran; true'; git config diff.evil.command 'touch command.ran; true'; rm -f *.ran`)
  await control('git add -A; git reset -q', ['inner', 'clean'])
  await control('git stash -q; git stash drop -q', ['inner'])
  await said(b, ann, 'git config filter.evil.required true; git config filter.evil.process "touch process.ran; false"')
  await control('git add a.evil; git reset -q', ['process'])
  for (const [method, what, body] of [
    ['GET', 'status'], ['GET', 'diff?untracked=true'], ['GET', 'diff?from=HEAD'], ['GET', 'diff?staged=true'], ['GET', 'diff?from=HEAD~1&to=HEAD'],
    ['GET', 'show?revision=HEAD~1'], ['GET', 'log'], ['GET', 'log?path=a.evil'], ['GET', 'blame?path=a.evil'], ['GET', 'blame?path=a.evil&revision=HEAD'],
    ['POST', 'stage', { paths: ['a.evil'] }], ['POST', 'unstage', { paths: ['a.evil'] }], ['POST', 'stage', { all: true }], ['POST', 'unstage', { all: true }],
    ['POST', 'discard', { paths: ['a.evil'] }], ['POST', 'discard', { all: true }], ['POST', 'discard', { all: true, untracked: true }]
  ]) await nothing(method, what, body)
  assert.equal(read('a.evil'), 'one\n')
  // Put aside and brought back, with a repository inside that was just staged and one that somebody marked.
  const plainly = 'export GIT_CONFIG_COUNT=2 GIT_CONFIG_KEY_0=filter.evil.process GIT_CONFIG_VALUE_0= GIT_CONFIG_KEY_1=filter.evil.required GIT_CONFIG_VALUE_1=false;'
  await sh(`${plainly} cp -r inner marked; cp -r inner staged; git add marked; git commit -qm marked; git update-index --assume-unchanged marked; git add staged; rm -f *.ran`)
  for (const body of [{}, { untracked: true }]) {
    await touch()
    const dirty = read('a.evil')
    await git('POST', b, ann, 'stash', body)
    assert.deepEqual(ran(), [], 'stash ran something')
    assert.equal(read('a.evil'), 'one\n')
    assert.equal(await said(b, ann, 'git ls-files -v inner marked staged'), 'H inner\nh marked\n')
    await git('POST', b, ann, 'stash/0/pop')
    assert.deepEqual(ran(), [], 'pop ran something')
    assert.equal(read('a.evil'), dirty)
    await sh(`${plainly} git add staged; rm -f *.ran`)
  }
  await sh(`${plainly} git rm -q -f --cached staged marked; git commit -qm gone; rm -rf staged marked *.ran`)
  await git('POST', b, ann, 'discard', { all: true })
  // By hunk too.
  const hunk = async (params) => {
    if (!params) await touch()
    return (await look(b, ann, 'diff', { path: 'a.evil', ...params })).files[0].hunks[0].id
  }
  await nothing('POST', 'stage', { path: 'a.evil', hunks: [await hunk()] })
  await nothing('POST', 'unstage', { path: 'a.evil', hunks: [await hunk({ staged: true })] })
  await nothing('POST', 'discard', { path: 'a.evil', hunks: [await hunk()] })
  assert.equal(read('a.evil'), 'one\n')
  // The file of a commit is its bytes.
  const answer = await api('GET', route(b, 'file?path=a.evil'), undefined, as(ann))
  assert.equal(await answer.text(), 'one\n')
  assert.deepEqual(ran(), [])
  // Names that look like options, patterns or patches.
  for (const name of ['--output=x', '*', ':(top)y', '-p', 'x\ndiff --git a/plain b/plain\n@@ -1 +1 @@\n-fake']) {
    await write(name, 'odd\n')
    await git('POST', b, ann, 'stage', { paths: [name] })
    assert.deepEqual((await look(b, ann, 'diff', { staged: true })).files.map((file) => [file.path, ...changed(file)]), [[name, '+odd']])
    await git('POST', b, ann, 'unstage', { paths: [name] })
    await git('POST', b, ann, 'discard', { paths: [name], untracked: true })
    assert.ok(!fs.existsSync(path.join(b.files, name)))
  }
  // A link in place of a folder leads no discard out of the branch.
  await said(b, ann, 'rm -f .git/info/attributes; mkdir sub; echo s > sub/s; git add sub; git commit -qnm sub; rm -rf *.ran')
  const outside = path.join(b.files, '../outside')
  fs.mkdirSync(outside, { recursive: true })
  fs.writeFileSync(path.join(outside, 's'), 'outside\n')
  await sh(`rm -r sub; ln -s ${outside} sub`)
  await git('POST', b, ann, 'discard', { paths: ['sub/s'] })
  assert.equal(fs.readFileSync(path.join(outside, 's'), 'utf8'), 'outside\n')
  assert.equal(read('sub/s'), 's\n')
  // Staged, it is the link, and what was in the folder is gone.
  await sh(`rm -r sub; ln -s ${outside} sub`)
  await git('POST', b, ann, 'stage', { paths: ['sub/s'] })
  assert.equal(await sh('git ls-files -s sub'), '')
  await git('POST', b, ann, 'unstage', { all: true })
  await git('POST', b, ann, 'stage', { all: true })
  assert.match(await sh('git ls-files -s sub'), /^120000 \w+ 0\tsub\n$/)
  assert.deepEqual(ran(), [])
  // What looks like a repository in a tracked folder, as a clone would bring it, is a folder with files.
  await sh(`mkdir -p bare/objects bare/refs && echo 'ref: refs/heads/main' > bare/HEAD && touch bare/refs/x bare/objects/x &&
    printf '[core]\\n\\trepositoryformatversion = 0\\n\\tbare = false\\n\\tworktree = ..\\n\\tfsmonitor = touch /project/workspace/bare.ran; false\\n' > bare/config`)
  await run(b, ann, 'cd bare && git -c safe.bareRepository=all status')
  assert.deepEqual(ran(), ['bare.ran'], 'the control runs it')
  await sh('rm bare.ran')
  for (const [method, what, body] of [
    ['GET', 'status'], ['GET', 'diff?untracked=true'], ['POST', 'stage', { paths: ['bare'] }], ['GET', 'diff?staged=true'], ['POST', 'commit', { message: 'bare' }],
    ['GET', 'blame?path=bare/config'], ['POST', 'stash'], ['POST', 'restore-points', { label: 'bare' }], ['POST', 'discard', { paths: ['bare'] }]
  ]) {
    await sh('echo more >> plain; touch bare/config')
    await git(method, b, ann, what, method === 'POST' ? (body ?? {}) : undefined)
    assert.deepEqual(ran(), [], `${method} ${what} ran something`)
  }
  assert.match(await sh('git ls-files -s bare/config'), /^100644 /)
  // What the server wrote is sound for git itself.
  execFileSync('git', ['-c', 'core.fsmonitor=false', '-c', 'safe.directory=*', '-C', b.files, 'fsck', '--strict'], { stdio: 'pipe' })
}
