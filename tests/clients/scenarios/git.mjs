// Git on a branch that several people edit, each with their own name.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import * as Y from 'yjs'
import { api, branch, crash, eventually, hClient, session, sleep, start, yClient } from '../harness.mjs'
import { as, said } from '../exec.mjs'

const route = (b, what) => `/v1/branches/${b.id}/git/${what}`
/** Asks, and gives what came, which must be a success. */
async function git(method, b, s, what, body) {
  const answer = await api(method, route(b, what), body, as(s))
  const text = await answer.text()
  assert.ok(answer.ok, `${method} ${what}: ${answer.status} ${text}`)
  return text && JSON.parse(text)
}
/** Asks for what is refused, and gives the code. */
async function refused(method, b, s, what, body) {
  const answer = await api(method, route(b, what), body, as(s))
  const text = await answer.text()
  assert.ok(!answer.ok, `${method} ${what}: ${answer.status} ${text}`)
  return JSON.parse(text).code
}
/** How many processes of git the API has started, by command. */
async function started() {
  const text = await (await api('GET', '/metrics')).text()
  return Object.fromEntries([...text.matchAll(/^perch_git_commands_total\{command="(.*)"\} (\d+)$/gm)].map(([, name, count]) => [name, Number(count)]))
}
const who = (name) => ({ name: name[0].toUpperCase() + name.slice(1), email: `${name}@example.org` })

/** A first repository, what differs from what was committed, and a commit by oneself. */
export async function git_status() {
  await start()
  const b = await branch()
  const [ann, bob, eve] = [await session(b, 'ann', 'write', who('ann')), await session(b, 'bob'), await session(b, 'eve', 'read')]
  assert.equal(await refused('GET', b, ann, 'status'), 'git_no_repository')
  await git('POST', b, ann, 'init?name=trunk')
  assert.deepEqual((await git('GET', b, eve, 'status')).head, { commit: null, branch: 'trunk', upstream: null, ahead: null, behind: null })
  fs.writeFileSync(path.join(b.files, 'a.txt'), 'one\n')
  const editor = yClient(ann, 'a.txt')
  await eventually('synced', () => editor.synced())
  await said(b, ann, 'git add a.txt')
  // What is on the screen is what git sees.
  editor.text.insert(0, 'typed\n')
  await eventually('seen', async () => (await git('GET', b, eve, 'status')).entries[0]?.unstaged === 'modified')
  assert.deepEqual((await git('GET', b, bob, 'status')).entries.map(({ path, staged, unstaged }) => [path, staged, unstaged]), [['a.txt', 'added', 'modified']])
  assert.equal(await refused('POST', b, bob, 'commit', { message: 'mine' }), 'git_identity_missing')
  assert.equal(await refused('POST', b, eve, 'commit', { message: 'mine' }), 'forbidden')
  const { commit } = await git('POST', b, ann, 'commit', { message: 'First\n\nof all\n' })
  assert.equal(await said(b, bob, 'git log -1 --format="%H %an <%ae> %cn <%ce>%n%B"'), `${commit} Ann <ann@example.org> Ann <ann@example.org>\nFirst\n\nof all\n\n`)
  assert.equal(await refused('POST', b, ann, 'commit', { message: 'again' }), 'git_nothing_to_do')
  // One process looks at what the repository configures, and whether there is one.
  const before = await started()
  await git('GET', b, eve, 'status')
  const after = await started()
  assert.deepEqual(Object.entries(after).map(([name, count]) => [name, count - (before[name] ?? 0)]).filter(([, count]) => count > 0).toSorted(), [['config', 1], ['status', 1]])
  // One in which nothing is configured is one all the same.
  await said(b, ann, 'cp .git/config /tmp/config && : > .git/config')
  assert.equal((await git('GET', b, eve, 'status')).head.branch, 'trunk')
  await said(b, ann, 'mv .git /tmp/git')
  assert.equal(await refused('GET', b, eve, 'status'), 'git_no_repository')
  editor.stop()
}

/** Commits name everybody whose typing is in them, nobody else, each once, and whom they do not want to name not. */
export async function git_co_authors() {
  await start()
  const b = await branch()
  const people = {}
  for (const name of ['ann', 'bob', 'cat', 'dan', 'eve']) people[name] = await session(b, name, 'write', who(name))
  people.gus = await session(b, 'gus')
  const { ann, bob } = people
  await git('POST', b, ann, 'init')
  const editors = {}
  const open = async (name, file) => {
    const editor = yClient(people[name], file)
    await eventually('synced', () => editor.synced())
    editors[`${name} ${file}`] = editor
    return editor
  }
  const trailers = async () => (await said(b, ann, 'git log -1 --format="%(trailers:key=Co-authored-by,valueonly)"')).split('\n').filter(Boolean)
  const staged = async () => (await git('GET', b, ann, 'typists')).typists.map(({ session, named, bytes }) => `${session} ${bytes} ${named}`)
  const onDisk = (file, text) => eventually(`${file} is on disk`, () => fs.existsSync(path.join(b.files, file)) && fs.readFileSync(path.join(b.files, file), 'utf8').includes(text))
  // From a file that is nobody's typing. Ann, Bob and Gus, who has no address, type; Cat only looks on, Dan's goes again.
  fs.writeFileSync(path.join(b.files, 'a.txt'), 'of nobody\n')
  for (const name of ['ann', 'bob', 'cat', 'dan', 'gus']) await open(name, 'a.txt')
  const text = (name, file = 'a.txt') => editors[`${name} ${file}`].text
  text('ann').insert(0, 'ann wrote this\n')
  await eventually('ann is seen', () => text('dan').toString().startsWith('ann'))
  text('dan').insert(0, 'dan\n')
  await eventually('dan is seen', () => text('bob').toString().startsWith('dan\nann'))
  text('bob').delete(0, 4)
  text('bob').insert(text('bob').length, 'bobby was here\n')
  text('gus').insert(0, 'gus\n')
  await onDisk('a.txt', 'bobby was here\n')
  await onDisk('a.txt', 'gus\n')
  await said(b, ann, 'git add a.txt')
  assert.deepEqual(await staged(), ['ann 14 false', 'bob 14 true', 'gus 3 false'])
  const made = await git('POST', b, ann, 'commit', { message: 'One' })
  assert.deepEqual(made.co_authors.map(({ email }) => email), ['bob@example.org'])
  assert.deepEqual(await trailers(), ['Bob <bob@example.org>'])
  // What was committed counts no more, though it stands in the same line; what is typed after the staging does not yet.
  text('cat').insert(text('cat').toString().indexOf('bobby was here') + 14, ' and cat')
  await onDisk('a.txt', 'bobby was here and cat\n')
  await said(b, bob, 'git add a.txt')
  text('dan').insert(0, 'dan, later\n')
  await onDisk('a.txt', 'dan, later\n')
  assert.deepEqual(await staged(), ['cat 8 true'])
  await git('POST', b, bob, 'commit', { message: 'Two\n\nCo-authored-by: Cat <cat@example.org>\n' })
  assert.deepEqual(await trailers(), ['Cat <cat@example.org>'], 'not twice')
  // After a restart, in a file that was renamed, and in a new one; all of it staged by perch. Eve does not want to be named, Cat
  // is taken off.
  await crash()
  await start()
  for (const editor of Object.values(editors)) editor.stop()
  await open('cat', 'new.txt')
  await open('eve', 'new.txt')
  text('cat', 'new.txt').insert(0, 'cat in a new file\n')
  text('eve', 'new.txt').insert(0, 'eve\n')
  await onDisk('new.txt', 'cat in')
  await onDisk('new.txt', 'eve')
  assert.equal((await api('POST', `/v1/branches/${b.id}/rename`, { from: 'a.txt', to: 'lib/a.txt' }, as(ann))).status, 204)
  await git('PUT', b, people.eve, 'credit', { credited: false })
  const last = await git('POST', b, ann, 'commit', { message: 'Three', all: true, without: ['cat'] })
  assert.deepEqual(last.co_authors.map(({ session }) => session), ['dan'])
  assert.deepEqual(await trailers(), ['Dan <dan@example.org>'])
  assert.equal(await said(b, ann, 'git status --porcelain'), '')
  for (const editor of Object.values(editors)) editor.stop()
}

/** Who typed each line before any commit, which commit it is of after: also after a restart, compaction, undo and a pull. */
export async function git_live_blame() {
  await start()
  const b = await branch()
  const [ann, bob] = [await session(b, 'ann', 'write', who('ann')), await session(b, 'bob', 'write', who('bob'))]
  await git('POST', b, ann, 'init')
  const file = path.join(b.files, 'a.txt')
  fs.writeFileSync(file, 'of the file\r\n')
  let [one, other] = [yClient(ann, 'a.txt'), hClient(bob, 'a.txt')]
  await eventually('synced', () => one.synced() && other.synced())
  const blame = async (more = '') => (await git('GET', b, ann, `blame?path=a.txt&uncommitted=1${more}`)).ranges
    .map(({ first, count, commit, typed }) => `${first}+${count} ${commit?.subject ?? typed?.map(({ author }) => author).join(',')}`)
  one.text.insert(one.text.length, 'by ann\nby ann too\n')
  await eventually('seen', () => other.text.toString().endsWith('too\n'))
  other.text.insert(other.text.length, 'by bob\n')
  await eventually('on disk', () => fs.readFileSync(file, 'utf8').endsWith('by bob\r\n'))
  assert.deepEqual(await blame(), ['1+1 (file)', '2+2 ann', '4+1 bob'])
  assert.equal(await refused('GET', b, ann, 'blame?path=a.txt'), 'git_unknown_revision')
  const { commit } = await git('POST', b, ann, 'commit', { message: 'First', all: true })
  assert.deepEqual(await blame(), ['1+4 First'])
  other.text.insert(other.text.toString().indexOf('by ann too'), 'between\n')
  await eventually('on disk', () => fs.readFileSync(file, 'utf8').includes('between\r\n'))
  fs.appendFileSync(file, 'by a program\r\n')
  await eventually('taken in', () => one.text.toString().endsWith('program\n'))
  const expected = ['1+2 First', '3+1 bob', '4+2 First', '6+1 (disk)']
  assert.deepEqual(await blame(), expected)
  const [line] = (await git('GET', b, ann, 'blame?path=a.txt&uncommitted=1&first=3&last=3')).ranges
  assert.equal(line.typed[0].name, 'Bob')
  assert.ok(Math.abs(Date.now() - line.typed[0].at_ms) < 120_000)
  await crash()
  await start()
  assert.deepEqual(await blame(), expected, 'right after a restart')
  // Many edits, so that the log is replaced by a snapshot; and one that is taken back.
  await eventually('synced', () => one.synced() && other.synced())
  for (let n = 0; n < 300; n++) {
    one.text.insert(one.text.length, 'x')
    if (n % 20 === 0) await sleep(20)
  }
  const undo = new Y.UndoManager(other.text)
  other.text.delete(0, 'of the file\n'.length)
  undo.undo()
  await eventually('on disk', () => fs.readFileSync(file, 'utf8').endsWith('xxx'))
  assert.equal((await blame()).at(-1), '7+1 ann')
  assert.equal((await blame())[0].split(' ').at(-1), 'First', 'what was undone is as it was committed')
  // What comes by a merge is its commit's.
  await git('POST', b, ann, 'commit', { message: 'Second', all: true })
  await said(b, bob, `git -c user.name=Cat -c user.email=cat@example.org checkout -q -b side ${commit} && printf 'of the file\\r\\nby ann\\r\\nby ann too\\r\\nby bob\\r\\n' > new.txt && git add new.txt && git -c user.name=Cat -c user.email=cat@example.org commit -qm Side && git checkout -q main && git -c user.name=Cat -c user.email=cat@example.org merge -q --no-edit side`)
  const merged = yClient(ann, 'new.txt')
  await eventually('synced', () => merged.synced())
  merged.text.insert(0, 'typed after\n')
  await eventually('on disk', () => fs.readFileSync(path.join(b.files, 'new.txt'), 'utf8').startsWith('typed'))
  const ranges = (await git('GET', b, bob, 'blame?path=new.txt&uncommitted=1')).ranges
  assert.deepEqual(ranges.map(({ first, count, commit, typed }) => [first, count, commit?.author.name ?? typed[0].author]), [[1, 1, 'ann'], [2, 4, 'Cat']])
  for (const editor of [one, other, merged]) editor.stop()
}
