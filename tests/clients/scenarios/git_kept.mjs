// What is kept on git's detours: who typed what, objects, and what goes along into a fork.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { api, branch, crash, data, eventually, hClient, session, start, yClient } from '../harness.mjs'
import { as, run, said } from '../exec.mjs'

const route = (b, what) => `/v1/branches/${b.id}/git/${what}`
/** Asks, and gives what came, which must be a success. */
async function git(method, b, s, what, body) {
  const answer = await api(method, route(b, what), method === 'POST' ? (body ?? {}) : body, as(s))
  const text = await answer.text()
  assert.ok(answer.ok, `${method} ${what}: ${answer.status} ${text}`)
  return text && JSON.parse(text)
}
const who = (name) => ({ name: name[0].toUpperCase() + name.slice(1), email: `${name}@example.org` })
const read = (b, name) => fs.readFileSync(path.join(b.files, name), 'utf8')
const onDisk = (b, name, holds) => eventually(`${name} is on disk`, () => fs.existsSync(path.join(b.files, name)) && holds(read(b, name)))
/** Puts `text` before `before`; at the end without it. */
const put = (editor, text, before) => editor.text.insert(before === undefined ? editor.text.length : editor.text.toString().indexOf(before), text)
const drop = (editor, text) => editor.text.delete(editor.text.toString().indexOf(text), text.length)
/** Lines that are in no commit, each with who typed it, who typed most first. */
const uncommitted = async (b, s, name) => {
  const { ranges } = await git('GET', b, s, `blame?path=${name}&uncommitted=1`)
  return ranges.filter(({ commit }) => !commit).map(({ first, count, typed }) => `${first}+${count} ${typed?.map(({ author }) => author).join(',')}`)
}
const staged = async (b, s) => (await git('GET', b, s, 'typists')).typists.map(({ session, bytes }) => `${session} ${bytes}`).toSorted()

/** Text that git takes away and brings back stays its typists', whoever's git it is; a copy of it is not theirs. */
export async function git_detours() {
  await start()
  const b = await branch()
  const [ann, bob] = [await session(b, 'ann', 'write', who('ann')), await session(b, 'bob', 'write', who('bob'))]
  await git('POST', b, ann, 'init')
  await said(b, ann, 'seq -f "line %g" 9 > a.txt; seq 9 > b.txt; git add -A; git commit -qm base; git switch -qc side; seq 0 9 > b.txt; sed -i "1i first" a.txt; git commit -qam side; git switch -q main')
  let [one, other] = [yClient(ann, 'a.txt'), hClient(bob, 'a.txt')]
  await eventually('synced', () => one.synced() && other.synced())
  put(one, "ann's own\n", 'line 2')
  await eventually('seen', () => other.text.toString().includes('own'))
  put(other, "bob's own\n}\n", 'line 4')
  put(other, ' by bob', '\nline 9')
  const whole = (text) => ["ann's own\n", "bob's own\n}\n", 'line 8 by bob\n'].every((part) => text.includes(part))
  const bare = (text) => !/own|by bob/.test(text)
  await onDisk(b, 'a.txt', whole)
  const expected = ['2+1 ann', '5+2 bob', '11+1 (file),bob']
  assert.deepEqual(await uncommitted(b, ann, 'a.txt'), expected)
  const isBack = async (how, wanted = expected) => {
    await onDisk(b, 'a.txt', whole)
    await eventually('taken in', () => whole(one.text.toString()) && whole(other.text.toString()))
    assert.deepEqual(await uncommitted(b, ann, 'a.txt'), wanted, how)
  }
  const isAway = () => eventually('away', () => bare(one.text.toString()) && bare(other.text.toString()))

  await git('POST', b, ann, 'stash')
  await isAway()
  assert.deepEqual(await uncommitted(b, ann, 'a.txt'), [])
  await git('POST', b, bob, 'stash/0/pop')
  await isBack('stash and pop')

  await said(b, bob, 'git stash -q')
  await isAway()
  await said(b, ann, 'git stash pop -q')
  await isBack('stash and pop in a shell')

  // Also after a restart in between.
  await git('POST', b, ann, 'stash')
  await isAway()
  for (const editor of [one, other]) editor.stop()
  await crash()
  await start()
  await git('POST', b, ann, 'stash/0/pop')
  ;[one, other] = [yClient(ann, 'a.txt'), hClient(bob, 'a.txt')]
  await eventually('synced', () => one.synced() && other.synced())
  await isBack('stash, restart and pop')

  // A merge that git refuses takes uncommitted work out of the files and puts it back.
  for (let n = 0; n < 5; n++) assert.notDeepEqual((await run(b, bob, 'git merge -q side')).exit, { code: 0 })
  await isBack('refused merges')

  await git('POST', b, bob, 'discard', { all: true })
  await isAway()
  const points = async () => (await git('GET', b, ann, 'restore-points')).restore_points
  await git('POST', b, ann, `restore-points/${(await points())[0].id}/restore`)
  await isBack('discard and restore')

  // What somebody deleted themselves comes back by a restore point too.
  const point = await git('POST', b, ann, 'restore-points', { label: 'whole' })
  for (const [editor, text] of [[one, "ann's own\n"], [other, ' by bob']]) {
    await eventually('seen', () => editor.text.toString().includes(text))
    drop(editor, text)
  }
  await onDisk(b, 'a.txt', (text) => !/ann's|by bob/.test(text))
  await git('POST', b, ann, `restore-points/${point.id}/restore`)
  await isBack('deleted and restored')

  // Onto another commit, with what is uncommitted put aside meanwhile.
  await said(b, ann, 'git rebase -q --autostash side')
  await eventually('taken in', () => one.text.toString().startsWith('first\n'))
  await isBack('rebase', ['3+1 ann', '6+2 bob', '12+1 (file),bob'])

  // A program's copy of what is still there is the program's.
  await said(b, bob, `echo "bob's own" >> a.txt`)
  await eventually('taken in', () => one.text.toString().endsWith("bob's own\n"))
  assert.equal((await uncommitted(b, ann, 'a.txt')).at(-1), '14+1 (disk)')
  await said(b, bob, "sed -i '$d' a.txt")
  await eventually('taken in', () => one.text.toString().endsWith('line 9\n'))

  // A new file goes and comes, and nobody opens it again.
  const fresh = hClient(bob, 'new.txt')
  await eventually('synced', () => fresh.synced())
  put(fresh, 'new by bob\n')
  await onDisk(b, 'new.txt', (text) => text === 'new by bob\n')
  await git('POST', b, ann, 'stash', { untracked: true })
  assert.ok(!fs.existsSync(path.join(b.files, 'new.txt')))
  await eventually('it has ended', async () => {
    const { documents } = await (await api('GET', `/v1/branches/${b.id}/deleted`, undefined, as(ann))).json()
    return documents.some(({ path }) => path === 'new.txt')
  })
  fresh.stop()
  await git('POST', b, ann, 'stash/0/pop')
  assert.equal(read(b, 'new.txt'), 'new by bob\n')
  await isBack('stash with new files', ['3+1 ann', '6+2 bob', '12+1 (file),bob'])
  await git('POST', b, ann, 'stage', { all: true })
  assert.deepEqual(await uncommitted(b, ann, 'new.txt'), ['1+1 bob'])
  assert.deepEqual(await staged(b, ann), ['ann 9', `bob ${"bob's own".length + 1 + ' by bob'.length + 'new by bob'.length}`])
  const { co_authors: named } = await git('POST', b, ann, 'commit', { message: 'all' })
  assert.deepEqual(named.map(({ email }) => email), ['bob@example.org'])
  for (const editor of [one, other]) editor.stop()
}

/** Typed text that goes and comes with git's branches, and with merges and rebases that are aborted, stays its typists'. */
export async function git_there_and_back() {
  await start()
  const b = await branch()
  const [ann, bob] = [await session(b, 'ann', 'write', who('ann')), await session(b, 'bob', 'write', who('bob'))]
  await git('POST', b, ann, 'init')
  await said(b, ann, `seq -f "line %g" 9 > a.txt; git add -A; git commit -qm base; git switch -qc side; sed -i "s/line 6/line six/" a.txt; git commit -qam side
    git switch -qc theirs main; sed -i "1a their own" a.txt; git commit -qam theirs; git switch -q main`)
  const both = [yClient(ann, 'a.txt'), hClient(bob, 'a.txt')]
  const [one, other] = both
  const inBoth = (what, holds) => eventually(what, () => both.every(({ text }) => holds(text.toString())))
  await eventually('synced', () => both.every((editor) => editor.synced()))
  put(one, "ann's own\n", 'line 2')
  await onDisk(b, 'a.txt', (text) => text.includes('ann'))
  await said(b, ann, 'git commit -qam "by ann"')
  put(other, "bob's own\n}\n", 'line 4')
  put(other, ' by bob', '\nline 9')
  await onDisk(b, 'a.txt', (text) => /bob's own\n}\n/.test(text) && /8 by bob/.test(text))
  await said(b, ann, 'git commit -qam "by bob"')
  const full = read(b, 'a.txt')
  const typists = async () => {
    const { lines } = await (await api('GET', `/v1/branches/${b.id}/authors/a.txt`, undefined, as(ann))).json()
    return lines.map(({ line, count, authors }) => [`${line}+${count}`, ...authors.map(({ author }) => author).filter((author) => !author.startsWith('('))].join(' ')).filter((told) => told.includes(' '))
  }
  const expected = ['2+1 ann', '5+2 bob', '11+1 bob']
  assert.deepEqual(await typists(), expected)
  const isBack = async (how) => {
    await inBoth(how, (text) => text === full)
    await onDisk(b, 'a.txt', (text) => text === full)
    assert.deepEqual(await typists(), expected, how)
  }

  // To a branch without it, and back.
  await git('POST', b, ann, 'switch', { branch: 'side' })
  await inBoth('away', (text) => /six/.test(text) && !/own|by bob/.test(text))
  assert.deepEqual(await typists(), [])
  await git('POST', b, bob, 'switch', { branch: 'main' })
  await isBack('switched')
  await said(b, bob, 'git switch -q side')
  await inBoth('away', (text) => /six/.test(text) && !/own|by bob/.test(text))
  await said(b, ann, 'git switch -q main')
  await isBack('switched in a shell')

  // A merge and a rebase that stop at ann's line, bob's commit comes after it: aborted at once, and when bob has solved it his way.
  const markers = () => inBoth('markers', (text) => text.includes('<<<<<<<') && text.includes('their own'))
  for (const [what, body, bobsIsAway] of [['merge', { revision: 'theirs' }, false], ['rebase', { onto: 'theirs' }, true]]) {
    for (const solves of [false, true]) {
      assert.equal((await git('POST', b, ann, what, body)).outcome, 'conflict')
      await markers()
      assert.equal(one.text.toString().includes("bob's own"), !bobsIsAway)
      if (solves) {
        const all = other.text.toString()
        const [from, to] = [all.indexOf('<<<<<<<'), all.indexOf('\n', all.indexOf('>>>>>>>')) + 1]
        other.text.delete(from, to - from)
        other.text.insert(from, 'solved by bob\n')
        await inBoth('solved', (text) => text.includes('solved by bob') && !text.includes('ann'))
      }
      await git('POST', b, bob, 'operation/abort')
      await isBack(`${what} aborted${solves ? ', solved' : ''}`)
    }
    assert.notDeepEqual((await run(b, ann, `git ${what} -q theirs`)).exit, { code: 0 })
    await markers()
    await said(b, bob, `git ${what} --abort`)
    await isBack(`${what} aborted in a shell`)
  }

  // All of it is theirs in the next commit.
  await said(b, ann, 'git reset -q --soft HEAD~2')
  assert.deepEqual(await uncommitted(b, ann, 'a.txt').then((told) => told.map((one) => one.replace(/\((file|disk)\),/, ''))), ['2+1 ann', '5+2 bob', '11+1 bob'])
  const bobs = "bob's own}".length + ' by bob'.length
  assert.deepEqual(await staged(b, ann), ['ann 9', `bob ${bobs}`])
  const { co_authors: named } = await git('POST', b, ann, 'commit', { message: 'all' })
  assert.deepEqual(named.map(({ session, bytes }) => [session, bytes]), [['bob', bobs]])
  for (const editor of both) editor.stop()
}

/** Who typed what is staged is named, though it was deleted since; who deleted theirs before is not. */
export async function git_deleted_since() {
  await start()
  const b = await branch()
  const people = {}
  for (const name of ['ann', 'bob', 'cat']) people[name] = await session(b, name, 'write', who(name))
  const { ann, bob, cat } = people
  await git('POST', b, ann, 'init')
  await said(b, ann, 'seq -f "line %g" 5 > a.txt; git add -A; git commit -qm base')
  const [one, two, three] = [yClient(ann, 'a.txt'), hClient(bob, 'a.txt'), yClient(cat, 'a.txt')]
  await eventually('synced', () => [one, two, three].every((editor) => editor.synced()))
  put(three, 'cat typed\n', 'line 1')
  await onDisk(b, 'a.txt', (text) => text.includes('cat typed'))
  drop(three, 'cat typed\n')
  put(two, 'bob typed\n', 'line 3')
  put(one, 'ann typed\n', 'line 5')
  await onDisk(b, 'a.txt', (text) => /bob typed/.test(text) && /ann typed/.test(text) && !/cat/.test(text))
  await git('POST', b, ann, 'stage', { paths: ['a.txt'] })
  assert.deepEqual(await staged(b, ann), ['ann 9', 'bob 9'])
  await eventually('seen', () => two.text.toString().includes('ann typed'))
  drop(two, 'bob typed\n')
  put(three, 'cat, later\n', 'line 2')
  await onDisk(b, 'a.txt', (text) => !/bob/.test(text) && /later/.test(text))
  assert.deepEqual(await staged(b, ann), ['ann 9', 'bob 9'])
  for (const editor of [one, two, three]) editor.stop()
  await crash()
  await start()
  const { co_authors: named } = await git('POST', b, ann, 'commit', { message: 'with what bob typed' })
  assert.deepEqual(named.map(({ session, bytes }) => [session, bytes]), [['bob', 9]])
}

/** The same of what was staged by single hunks, in the API and in a shell; who typed another hunk is not named. */
export async function git_hunks_deleted_since() {
  await start()
  const b = await branch()
  const people = {}
  for (const name of ['ann', 'bob', 'cat', 'dan']) people[name] = await session(b, name, 'write', who(name))
  const { ann, bob, cat, dan } = people
  await git('POST', b, ann, 'init')
  await said(b, ann, 'seq -f "line %g" 40 > a.txt; git add -A; git commit -qm base')
  const editors = [yClient(ann, 'a.txt'), hClient(bob, 'a.txt'), yClient(cat, 'a.txt'), hClient(dan, 'a.txt')]
  const [one, two, three, four] = editors
  await eventually('synced', () => editors.every((editor) => editor.synced()))
  put(two, 'if bob typed {\n}\n', 'line 3\n')
  put(three, 'cat typed\n', 'line 20\n')
  await onDisk(b, 'a.txt', (text) => /bob typed/.test(text) && /cat typed/.test(text))
  const hunkOf = async (text) => {
    const { files } = await git('GET', b, ann, 'diff?path=a.txt&context=1')
    return files[0].hunks.find(({ lines }) => JSON.stringify(lines).includes(text)).id
  }
  await git('POST', b, ann, 'stage', { path: 'a.txt', hunks: [await hunkOf('bob typed')] })
  const bobs = ['bob', 'if bob typed {}'.length].join(' ')
  assert.deepEqual(await staged(b, ann), [bobs])
  // He takes it away, and another one types what looks like a part of it.
  drop(two, 'if bob typed {\n}\n')
  put(four, 'while dan typed {\n}\n', 'line 4\n')
  await onDisk(b, 'a.txt', (text) => !/bob/.test(text) && /dan typed/.test(text))
  assert.deepEqual(await staged(b, ann), [bobs])
  // A second one, in a shell, when the first is gone; then that goes too.
  put(one, 'ann typed\n', 'line 30\n')
  await onDisk(b, 'a.txt', (text) => /ann typed/.test(text))
  await said(b, ann, 'printf "n\\nn\\ny\\n" | git add -p a.txt')
  assert.match(await said(b, ann, 'git diff --cached'), /\+ann typed/)
  assert.doesNotMatch(await said(b, ann, 'git diff --cached'), /dan|cat/)
  await eventually('seen', () => three.text.toString().includes('ann typed'))
  drop(three, 'ann typed\n')
  await onDisk(b, 'a.txt', (text) => !/ann/.test(text))
  assert.deepEqual(await staged(b, ann), ['ann 9', bobs])
  for (const editor of editors) editor.stop()
  await crash()
  await start()
  const { co_authors: named } = await git('POST', b, ann, 'commit', { message: 'with what bob typed' })
  assert.deepEqual(named.map(({ session, bytes }) => `${session} ${bytes}`), [bobs])
}

/** Many loose objects become a pack; none is lost, not those either that nothing leads to. */
export async function git_tidy() {
  await start()
  const b = await branch()
  const ann = await session(b, 'ann', 'write', who('ann'))
  await git('POST', b, ann, 'init')
  await said(b, ann, 'echo one > a.txt; git add -A; git commit -qm base; echo two > a.txt; echo new > new.txt')
  const point = await git('POST', b, ann, 'restore-points', { label: 'mine' })
  await said(b, ann, 'rm a.txt new.txt; mkdir /tmp/o; seq 9000 | split -l 1 -a 4 - /tmp/o/; find /tmp/o -type f | git hash-object -w --stdin-paths | sort > /tmp/objects')
  const counted = async () => Object.fromEntries((await said(b, ann, 'git count-objects -v')).trim().split('\n').map((line) => line.split(': ')))
  assert.ok(Number((await counted()).count) >= 9_000, 'they are loose')
  await git('POST', b, ann, 'stage', { all: true })
  await eventually('they are packed', async () => Number((await counted()).count) < 100)
  assert.ok(Number((await counted())['in-pack']) >= 9_000)
  assert.equal(await said(b, ann, 'git cat-file --batch-check="%(objecttype)" < /tmp/objects | sort | uniq -c | tr -s " "'), ' 9000 blob\n')
  await said(b, ann, 'git fsck --no-dangling')
  await git('POST', b, ann, `restore-points/${point.id}/restore`)
  assert.deepEqual([read(b, 'a.txt'), read(b, 'new.txt')], ['two\n', 'new\n'])
}

/** A fork goes on where its branch stood: with stashes, restore points and a merge under way, without locks and passwords. */
export async function git_forked() {
  await start()
  const b = await branch()
  const ann = await session(b, 'ann', 'write', who('ann'))
  await git('POST', b, ann, 'init')
  const secret = 'perch-test-s3cret'
  await said(b, ann, 'seq 9 > a.txt; echo b > b.txt; git add -A; git commit -qm base; git switch -qc side; sed -i s/5/side/ a.txt; git commit -qam side; git switch -q main; sed -i s/5/main/ a.txt; git commit -qam main; echo put aside > b.txt')
  await git('POST', b, ann, 'stash')
  await git('POST', b, ann, 'restore-points', { label: 'mine' })
  assert.equal((await git('POST', b, ann, 'merge', { revision: 'side' })).outcome, 'conflict')
  await said(b, ann, `git remote add origin https://ann:${secret}@git.example/x.git; git config http.https://git.example/.extraHeader "Authorization: ${secret}"; git config credential.helper '!echo password=${secret}'; mkdir -p .git/hooks; touch .git/hooks/pre-commit; touch .git/index.lock .git/refs/heads/main.lock; grep -r ${secret} .git`)
  const answer = await api('POST', `/v1/branches/${b.id}/fork`)
  assert.equal(answer.status, 201, await answer.clone().text())
  const fork = { ...(await answer.json()) }
  fork.files = path.join(data, 'branches', fork.id, 'workspace')
  const bob = await session(fork, 'bob', 'write', who('bob'))
  assert.equal(await said(fork, bob, `grep -r ${secret} .git "$HOME"; find .git -name "*.lock"; ls .git/hooks/pre-commit; git remote -v`),
    '.git/hooks/pre-commit\norigin\thttps://git.example/x.git (fetch)\norigin\thttps://git.example/x.git (push)\n')
  const stands = await git('GET', fork, bob, 'operation')
  assert.deepEqual([stands.doing, stands.conflicts.map(({ path }) => path)], ['merge', ['a.txt']])
  assert.deepEqual((await git('GET', fork, bob, 'restore-points')).restore_points.map(({ label }) => label), ['before merge of side', 'mine', 'before stash'])
  await git('POST', fork, bob, 'operation/abort')
  assert.equal(read(fork, 'a.txt'), '1\n2\n3\n4\nmain\n6\n7\n8\n9\n')
  assert.equal((await git('POST', fork, bob, 'stash/0/pop')).outcome, 'done')
  assert.equal(read(fork, 'b.txt'), 'put aside\n')
  // The branch itself is as it was.
  assert.match(read(b, '.git/config'), new RegExp(secret))
  assert.match(read(b, 'a.txt'), /<<<<<<</)
  await said(b, ann, 'rm .git/index.lock .git/refs/heads/main.lock')
  assert.equal((await git('GET', b, ann, 'stash')).stashes.length, 1)
}
