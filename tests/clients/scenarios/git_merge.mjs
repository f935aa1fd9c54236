// Branches, merges, stashes and restore points, while people type.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { api, atRest, branch, chance, count, crash, eventually, generator, hClient, line, perch, session, shown, sleep, start, temp, token, yClient } from '../harness.mjs'
import { as, run, said } from '../exec.mjs'

const route = (b, what) => `/v1/branches/${b.id}/git/${what}`
const call = async (method, b, s, what, body) => {
  const answer = await api(method, route(b, what), method === 'POST' ? (body ?? {}) : body, as(s))
  const text = await answer.text()
  return { ok: answer.ok, status: answer.status, body: text && JSON.parse(text), text }
}
/** Asks, and gives what came, which must be a success. */
const git = async (method, b, s, what, body) => {
  const answer = await call(method, b, s, what, body)
  assert.ok(answer.ok, `${method} ${what}: ${answer.status} ${answer.text}`)
  return answer.body
}
/** Asks for what is refused, and gives the problem. */
const refused = async (method, b, s, what, body) => {
  const answer = await call(method, b, s, what, body)
  assert.ok(!answer.ok, `${method} ${what}: ${answer.status} ${answer.text}`)
  return answer.body
}
const who = (name) => ({ name: name[0].toUpperCase() + name.slice(1), email: `${name}@example.org` })
const file = (b, name) => path.join(b.files, name)
const read = (b, name) => fs.readFileSync(file(b, name), 'utf8')
/** Writes a file as one of the branch's own. */
const put = (b, name, content, options) => {
  const { uid, gid } = fs.statSync(b.files)
  const made = path.dirname(name).split('/').map((_, n, parts) => parts.slice(0, n + 1).join('/')).filter((one) => one !== '.')
  for (const one of made.filter((one) => !fs.existsSync(file(b, one)))) {
    fs.mkdirSync(file(b, one))
    fs.chownSync(file(b, one), uid, gid)
  }
  fs.writeFileSync(file(b, name), content, options)
  fs.chownSync(file(b, name), uid, gid)
}
const numbered = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => `line ${from + n}\n`).join('')
/** A branch with a repository, its first commit these files, and a session that may write. */
async function repository(files, names = ['ann', 'bob']) {
  const b = await branch()
  const people = []
  for (const name of names) people.push(await session(b, name, 'write', who(name)))
  await git('POST', b, people[0], 'init')
  for (const [name, content] of Object.entries(files)) put(b, name, content)
  await said(b, people[0], 'git add -A && git commit -qm base')
  return { b, people }
}
/** One client of each protocol on a file. */
async function editors(people, name) {
  const both = [yClient(people[0], name), hClient(people[1], name)]
  await eventually(`synced ${name}`, () => both.every((one) => one.synced()))
  both.forEach(watch)
  return both
}
/** Counts how often a client loses its connection. */
function watch(client) {
  client.drops = 0
  const source = client.socket ?? client.provider
  source.on('status', ({ status }) => { if (status === 'disconnected') client.drops++ })
}
/** People who type lines of their own until they are told to stop. */
function typing(both, tokens, where = () => undefined, every = 15) {
  let goes = true
  const done = Promise.all(both.map(async (editor, n) => {
    while (goes) {
      const at = where(editor)
      if (at === undefined) line(editor, `t${n}`, tokens)
      else {
        const one = token(`t${n}`)
        editor.text.insert(at, `${one}\n`)
        tokens.push(one)
      }
      await sleep(every * (0.5 + Math.random()))
    }
  }))
  return async () => {
    goes = false
    await done
  }
}
const commitAll = (b, s, message = 'all') => said(b, s, `git add -A && (git diff --cached --quiet || git commit -qm '${message}')`)
/** Nobody was sent away, nobody had to come back. */
const allThere = (editors) => editors.every((one) => one.drops === 0 && !one.closed && !one.refused)
/** Begins a step and waits until files stand still for it: the index of restore points is written then. */
const begun = async (b, ask) => {
  const mark = () => fs.statSync(file(b, '.git/perch-index'), { throwIfNoEntry: false })?.mtimeMs ?? 0
  const before = mark()
  const going = ask()
  let isOver = false
  const over = () => { isOver = true }
  going.then(over, over)
  await eventually('it has begun', () => isOver || mark() > before)
  // Not a promise in a promise, which would be waited for.
  return { going }
}

/** Branches and tags: names, lists, what goes and what stays. */
export async function git_branches() {
  await start()
  const { b, people: [ann, bob] } = await repository({ 'a.txt': 'one\n' })
  const eve = await session(b, 'eve', 'read')
  let list = await git('GET', b, eve, 'branches')
  assert.deepEqual([list.current, list.branches.map(({ name, is_current, subject, by }) => [name, is_current, subject, by])], ['main', [['main', true, 'base', 'Ann']]])
  assert.equal(list.commit, list.branches[0].commit)
  const made = await git('POST', b, ann, 'branches', { name: 'feature/x' })
  assert.deepEqual(made, { name: 'feature/x', commit: list.commit })
  assert.equal((await refused('POST', b, bob, 'branches', { name: 'feature/x' })).code, 'git_exists')
  assert.equal((await refused('POST', b, bob, 'branches', { name: 'y', from: 'nothing' })).code, 'git_unknown_revision')
  assert.equal((await refused('POST', b, eve, 'branches', { name: 'y' })).code, 'forbidden')
  for (const name of ['-d', '--help', 'a b', 'a..b', '../x', 'HEAD', 'x.lock', 'a@{1}', '']) {
    assert.equal((await refused('POST', b, ann, 'branches', { name })).code, 'bad_request', name)
    assert.equal((await refused('POST', b, ann, 'tags', { name })).code, 'bad_request', name)
    assert.equal((await refused('POST', b, ann, 'switch', { branch: name })).code, 'bad_request', name)
  }
  for (const revision of ['-d', '--upload-pack=x', 'a:b', 'x y']) {
    assert.equal((await refused('POST', b, ann, 'merge', { revision })).code, 'bad_request', revision)
    assert.equal((await refused('POST', b, ann, 'rebase', { onto: revision })).code, 'bad_request', revision)
    assert.equal((await refused('POST', b, ann, 'switch', { commit: revision })).code, 'bad_request', revision)
  }
  // Ahead and behind, by a branch that follows another.
  const to = await git('POST', b, ann, 'switch', { branch: 'next', create: 'main' })
  assert.deepEqual([to.branch, to.commit], ['next', list.commit])
  await said(b, ann, 'git branch -q --set-upstream-to=main && echo two >> a.txt && git commit -qam two')
  list = await git('GET', b, bob, 'branches')
  const next = list.branches.find(({ name }) => name === 'next')
  assert.deepEqual([list.current, next.upstream, next.ahead, next.behind, next.is_current], ['next', 'main', 1, 0, true])
  assert.equal((await refused('DELETE', b, ann, 'branches/next')).code, 'git_checked_out')
  const apart = await git('POST', b, ann, 'switch', { commit: 'feature/x' })
  assert.deepEqual([apart.branch, apart.commit], [null, to.commit])
  assert.equal((await git('GET', b, bob, 'branches')).current, null)
  assert.equal((await refused('DELETE', b, ann, 'branches/none')).code, 'git_unknown_revision')
  await git('POST', b, ann, 'switch', { branch: 'main' })
  await said(b, ann, 'git branch -q --unset-upstream next')
  assert.equal((await refused('DELETE', b, ann, 'branches/next')).code, 'git_not_merged')
  await git('DELETE', b, ann, 'branches/next?force=true')
  await git('DELETE', b, ann, 'branches/feature/x')
  assert.deepEqual((await git('GET', b, bob, 'branches')).branches.map(({ name }) => name), ['main'])
  assert.equal((await refused('POST', b, ann, 'switch', { branch: 'next' })).code, 'git_unknown_revision')
  assert.equal((await refused('POST', b, ann, 'switch', { branch: 'main', commit: 'HEAD' })).code, 'bad_request')

  await git('POST', b, ann, 'tags', { name: 'v1' })
  await git('POST', b, ann, 'tags', { name: 'rel/2', message: 'Second\n\nof all' })
  assert.equal((await refused('POST', b, ann, 'tags', { name: 'v1' })).code, 'git_exists')
  const { tags } = await git('GET', b, eve, 'tags')
  assert.deepEqual(tags.map(({ name, commit, subject, by }) => [name, commit, subject, by]).sort(), [['rel/2', list.branches.find(({ name }) => name === 'main').commit, 'Second', 'Ann'], ['v1', to.commit, 'base', 'Ann']])
  await git('DELETE', b, ann, 'tags/rel/2')
  assert.equal((await refused('DELETE', b, ann, 'tags/rel/2')).code, 'git_unknown_revision')
  assert.deepEqual((await git('GET', b, eve, 'tags')).tags.map(({ name }) => name), ['v1'])
}

/** People type into a file that git replaces; each token is where it was typed, once. */
export async function git_switch_live() {
  await start()
  const { b, people } = await repository({ 'a.txt': numbered(1, 40), 'same.txt': 'same\n' })
  const [ann, bob] = people
  await said(b, ann, 'git switch -qc other && sed -i "s/line 20$/line twenty/" a.txt && echo only > only.txt && git add -A && git commit -qm other && git switch -q main')
  const same = await editors(people, 'same.txt')
  const both = await editors(people, 'a.txt')
  const tokens = { main: [], other: [] }
  const free = []
  const keepsOn = typing(same, free)
  let at = 'main'
  let went = 0
  for (let round = 0; round < 14; round++) {
    const to = at === 'main' ? 'other' : 'main'
    const during = []
    const inShell = round % 3 === 2
    // From before git looks at the file until after it has replaced it; every other time, after the last moment in which it
    // would be uncommitted work that is in its way.
    const ask = () => (inShell ? run(b, ann, `git switch -q ${to}`) : call('POST', b, round % 2 ? ann : bob, 'switch', { branch: to }))
    const { going } = inShell || round % 4 === 0 ? { going: ask() } : await begun(b, ask)
    for (let n = 0; n < 1 + round % 5; n++) {
      await sleep(chance.next() * 60)
      line(both[n % 2], 'during', during)
    }
    const answer = await going
    const isDone = inShell ? answer.exit.code === 0 : answer.ok
    if (!isDone && !inShell) {
      assert.equal(answer.body.code, 'git_would_overwrite', answer.text)
      assert.deepEqual(answer.body.files, ['a.txt'])
    }
    if (isDone) {
      at = to
      went++
    }
    tokens[at].push(...during)
    await eventually('git is done', () => both.every((one) => one.text.toString().includes('line twenty') === (at === 'other')))
    const text = await atRest(file(b, 'a.txt'), both, tokens[at])
    assert.equal(count(text, 'line twenty\n'), at === 'other' ? 1 : 0, shown(text))
    assert.equal(count(text, 'line 21\n'), 1)
    for (const one of tokens[at === 'main' ? 'other' : 'main']) assert.equal(count(text, one), 0, `${one} was committed elsewhere`)
    assert.ok(allThere([...both, ...same]), 'nobody was sent away')
    // That other file goes along, uncommitted.
    await said(b, ann, 'git diff --quiet a.txt || git commit -qm typed a.txt')
  }
  assert.ok(went > 5, `${went} switches`)
  await keepsOn()
  await atRest(file(b, 'same.txt'), same, free)
  assert.ok(allThere([...both, ...same]), 'nobody was sent away')
  await commitAll(b, ann)

  // A file that is not on the other branch: its document ends, and there is another one on the way back.
  if (at === 'main') await git('POST', b, ann, 'switch', { branch: 'other' })
  const only = await editors(people, 'only.txt')
  await git('POST', b, ann, 'switch', { branch: 'main' })
  await eventually('both are told', () => only[0].closed?.code === 4404 && only[1].refused)
  for (const one of only) one.stop()
  await git('POST', b, ann, 'switch', { branch: 'other' })
  const again = await editors(people, 'only.txt')
  assert.equal(again[0].text.toString(), 'only\n')
  // A write over the file API is not under git's hands either: it waits.
  await said(b, ann, 'git switch -qc third && echo third > only.txt && git commit -qam third && git switch -q other')
  await eventually('back', () => again.every((one) => one.text.toString() === 'only\n'))
  for (const one of again) one.stop()
  put(b, 'plain.txt', 'plain\n')
  await said(b, ann, 'git add plain.txt && git commit -qm plain && git switch -q third')
  const { going } = await begun(b, () => git('POST', b, ann, 'switch', { branch: 'other' }))
  const written = api('PUT', `/v1/branches/${b.id}/files/plain.txt`, 'written\n')
  await going
  assert.ok((await written).ok)
  assert.equal(read(b, 'plain.txt'), 'written\n')
  for (const one of [...both, ...same, ...again]) one.stop()
}

/** A long checkout in a shell, while people type into the last file that it replaces. */
export async function git_shell_live() {
  await start()
  const { b, people } = await repository({ 'zz.txt': numbered(1, 40) })
  const [ann] = people
  // Many files on each side, so that git is at it for longer than a keystroke waits to be written.
  await said(b, ann, `mkdir f && for n in $(seq 4000); do echo "main $n $RANDOM$RANDOM" > f/$n; done && git add -A && git commit -qm many &&
    git switch -qc other && for n in $(seq 4000); do echo "other $n $RANDOM$RANDOM" > f/$n; done && sed -i "s/line 20$/line twenty/" zz.txt && git commit -qam other && git switch -q main`)
  const both = await editors(people, 'zz.txt')
  const tokens = { main: [], other: [] }
  let at = 'main'
  let went = 0
  for (let round = 0; round < 4; round++) {
    const to = at === 'main' ? 'other' : 'main'
    const during = []
    const going = run(b, ann, `git switch -q ${to}`)
    await eventually('git is at it', () => fs.existsSync(file(b, '.git/index.lock')))
    line(both[round % 2], 'during', during)
    const { exit, err } = await going
    if (exit.code === 0) {
      at = to
      went++
    } else assert.match(err, /zz\.txt/)
    tokens[at].push(...during)
    await eventually('git is done', () => both.every((one) => one.text.toString().includes('line twenty') === (at === 'other')))
    const text = await atRest(file(b, 'zz.txt'), both, tokens[at])
    assert.equal(count(text, 'line twenty\n'), at === 'other' ? 1 : 0, shown(text))
    await commitAll(b, ann)
  }
  assert.ok(went > 1, `${went} switches`)
  for (const one of both) one.stop()
}

/** What `git merge-file` makes of three texts. */
function mergeFile(ours, base, theirs) {
  const files = [ours, base, theirs].map((text, n) => {
    const name = path.join(temp, `merge-${n}`)
    fs.writeFileSync(name, text)
    return name
  })
  return execFileSync('git', ['merge-file', '-p', ...files]).toString()
}

/** A merge, forward and real, while people type: what comes out is what git makes of the same three texts. */
export async function git_merge_live() {
  await start()
  const { b, people } = await repository({ 'a.txt': `${numbered(1, 30)}middle\n${numbered(31, 60)}`, 'b.txt': 'b\n' })
  const [ann, bob] = people
  const nobody = await session(b, 'nobody')
  const both = await editors(people, 'a.txt')
  const tokens = []
  const base = read(b, 'a.txt')
  await said(b, ann, 'git switch -qc forward && sed -i "s/line 3$/line three/" a.txt && git commit -qam three && git switch -q main')
  assert.equal((await refused('POST', b, nobody, 'merge', { revision: 'forward' })).code, 'git_identity_missing')
  assert.equal((await refused('POST', b, ann, 'merge', { revision: 'nothing' })).code, 'git_unknown_revision')
  /** At the end of the text, far from what git changes. */
  const atEnd = (editor) => {
    const text = editor.text.toString()
    const lines = text.slice(text.indexOf('middle\n') + 7).split('\n')
    const skip = Math.floor(Math.random() * lines.length)
    return text.indexOf('middle\n') + 7 + lines.slice(0, skip).map((one) => one.length + 1).reduce((a, c) => a + c, 0)
  }
  const during = async (ask) => {
    const { going } = await begun(b, ask)
    const stop = typing(both, tokens, atEnd, 20)
    const answer = await going
    await sleep(50)
    await stop()
    return answer
  }
  let went = await during(() => git('POST', b, ann, 'merge', { revision: 'forward' }))
  assert.deepEqual([went.outcome, went.conflicts], ['fast_forward', []])
  assert.equal(went.commit, (await said(b, ann, 'git rev-parse forward')).trim())
  let text = await atRest(file(b, 'a.txt'), both, tokens)
  const tail = (of) => of.slice(of.indexOf('middle\n'))
  const head = (of) => of.slice(0, of.indexOf('middle\n'))
  assert.equal(mergeFile(head(base) + tail(text), base, base.replace('line 3\n', 'line three\n')), text)
  assert.equal((await git('POST', b, ann, 'merge', { revision: 'forward' })).outcome, 'up_to_date')
  await commitAll(b, ann, 'typed')

  // A real one, into typed text that is committed, with more that is typed while it runs.
  await said(b, ann, 'git switch -qc real && sed -i "s/line 7$/line seven/; s/line 12$/line twelve/" a.txt && echo new > new.txt && git add -A && git commit -qm real && git switch -q main && echo more >> b.txt && git commit -qam more')
  await atRest(file(b, 'a.txt'), both, tokens)
  const before = read(b, 'a.txt')
  const theirs = before.replace('line 7\n', 'line seven\n').replace('line 12\n', 'line twelve\n')
  went = await during(() => git('POST', b, bob, 'merge', { revision: 'real', message: 'Real\n\n-n it is' }))
  assert.equal(went.outcome, 'done')
  text = await atRest(file(b, 'a.txt'), both, tokens)
  assert.equal(mergeFile(head(before) + tail(text), before, theirs), text)
  assert.equal(await said(b, ann, 'git log -1 --format="%an <%ae> %cn <%ce> %p%n%B"').then((out) => out.replace(/ [0-9a-f]+ [0-9a-f]+\n/, ' two\n')), 'Bob <bob@example.org> Bob <bob@example.org> two\nReal\n\n-n it is\n\n')
  assert.equal(read(b, 'new.txt'), 'new\n')

  // Uncommitted work in a file that differs.
  await commitAll(b, ann, 'typed too')
  await said(b, ann, 'git switch -qc third && sed -i "s/line 40$/line forty/" a.txt && git commit -qam third && git switch -q main')
  await atRest(file(b, 'a.txt'), both, tokens)
  // Far from what the other branch has changed.
  both[0].text.insert(0, `${tokens[tokens.push(token('dirty')) - 1]}\n`)
  await eventually('sent', () => count(both[1].text.toString(), tokens.at(-1)) === 1)
  const no = await refused('POST', b, ann, 'merge', { revision: 'third' })
  assert.deepEqual([no.code, no.files], ['git_would_overwrite', ['a.txt']])
  const noRebase = await refused('POST', b, ann, 'rebase', { onto: 'third' })
  assert.deepEqual([noRebase.code, noRebase.files], ['git_would_overwrite', ['a.txt']])
  await atRest(file(b, 'a.txt'), both, tokens)
  await commitAll(b, ann, 'dirty')

  // A rebase: the commits' authors stay.
  await said(b, bob, 'echo bob > bob.txt && git add -A && git commit -qm "by bob"')
  went = await during(() => git('POST', b, ann, 'rebase', { onto: 'third' }))
  assert.equal(went.outcome, 'done')
  text = await atRest(file(b, 'a.txt'), both, tokens)
  assert.equal(count(text, 'line forty\n'), 1)
  assert.equal(await said(b, ann, 'git log -1 --format="%s %an %cn" && git merge-base --is-ancestor third HEAD && git symbolic-ref HEAD'), 'by bob Bob Ann\nrefs/heads/main\n')
  assert.ok(allThere(both))
  for (const one of both) one.stop()
}

/** Conflicts are in the open documents, are solved there by all, or go again without what was typed. */
export async function git_conflict_live() {
  await start()
  const { b, people } = await repository({ 'a.txt': numbered(1, 30), 'c.txt': numbered(1, 9) })
  const [ann, bob] = people
  const both = await editors(people, 'a.txt')
  const other = await editors(people, 'c.txt')
  const tokens = []
  await said(b, ann, 'git switch -qc theirs && sed -i "s/line 10$/line ten, theirs/; s/line 25$/line 25, theirs/" a.txt && echo theirs >> c.txt && git commit -qam theirs && git switch -q main && sed -i "s/line 10$/line ten, ours/" a.txt && git commit -qam ours')
  await eventually('in the editors', () => both.every((one) => one.text.toString().includes('ten, ours')))
  const atTop = () => 0
  const begin = async () => {
    const { going } = await begun(b, () => git('POST', b, ann, 'merge', { revision: 'theirs' }))
    const stop = typing(both, tokens, atTop, 30)
    const went = await going
    await stop()
    assert.equal(went.outcome, 'conflict')
    assert.deepEqual(went.conflicts, [{ path: 'a.txt', has_base: true, has_ours: true, has_theirs: true }])
    const text = await atRest(file(b, 'a.txt'), both, tokens)
    assert.match(text, /<<<<<<< HEAD\nline ten, ours\n=======\nline ten, theirs\n>>>>>>> theirs\n/)
    assert.match(text, /line 25, theirs\n/)
    return went
  }
  await begin()
  const now = await git('GET', b, bob, 'operation')
  assert.deepEqual([now.doing, now.is_of_a_shell, now.conflicts.length], ['merge', false, 1])
  for (const [what, body] of [['merge', { revision: 'theirs' }], ['rebase', { onto: 'theirs' }], ['switch', { branch: 'theirs' }]]) {
    assert.equal((await refused('POST', b, bob, what, body)).code, 'git_under_way', what)
  }
  assert.deepEqual((({ code, files }) => [code, files])(await refused('POST', b, bob, 'operation/continue')), ['git_conflict', ['a.txt']])
  assert.deepEqual((({ code, files }) => [code, files])(await refused('POST', b, bob, 'resolved', { paths: ['a.txt'] })), ['git_conflict_markers', ['a.txt']])
  assert.equal((await refused('POST', b, bob, 'resolved', { paths: ['c.txt'] })).code, 'git_not_in_conflict')
  // Aborted: the merge goes, what was typed since stays, in the file in conflict and in one that was merged.
  const since = []
  other[0].text.insert(0, `${since[since.push(token('since')) - 1]}\n`)
  // Right beside a line that the merge brought.
  const beside = token('beside')
  tokens.push(beside)
  const brought = 'line 25, theirs\n'
  both[0].text.insert(both[0].text.toString().indexOf(brought) + brought.length, `${beside}\n`)
  both[1].text.insert(0, `${tokens[tokens.push(token('top')) - 1]}\n`)
  await eventually('sent', () => count(both[0].text.toString(), tokens.at(-1)) === 1)
  const aborted = await git('POST', b, bob, 'operation/abort')
  assert.equal(aborted.outcome, 'done')
  let text = await atRest(file(b, 'a.txt'), both, tokens)
  assert.doesNotMatch(text, /theirs|<<<|>>>|===/)
  assert.match(text, /line ten, ours\n/)
  both[0].text.delete(both[0].text.toString().indexOf(beside), beside.length + 1)
  tokens.splice(tokens.indexOf(beside), 1)
  text = await atRest(file(b, 'c.txt'), other, since)
  assert.doesNotMatch(text, /theirs/)
  assert.deepEqual((await git('GET', b, bob, 'operation')).doing, null)
  assert.deepEqual((await git('GET', b, bob, 'status')).entries.map(({ path, staged, unstaged, conflict }) => [path, staged, unstaged, conflict]), [['a.txt', null, 'modified', null], ['c.txt', null, 'modified', null]])
  assert.equal((await refused('POST', b, bob, 'operation/abort')).code, 'git_nothing_to_do')
  await commitAll(b, ann, 'typed')

  // Solved by one in the editor, while the other types.
  await begin()
  const editor = both[0]
  const solve = () => {
    const all = editor.text.toString()
    const [from, to] = [all.indexOf('<<<<<<< '), all.indexOf('>>>>>>> theirs\n') + '>>>>>>> theirs\n'.length]
    editor.doc.transact(() => {
      editor.text.delete(from, to - from)
      editor.text.insert(from, 'line ten, both\n')
    })
  }
  solve()
  both[1].text.insert(0, `${tokens[tokens.push(token('top')) - 1]}\n`)
  await eventually('solved for both', () => both.every((one) => one.text.toString() === both[0].text.toString() && one.text.toString().includes('ten, both')))
  assert.deepEqual((await git('POST', b, bob, 'resolved', { paths: ['a.txt'] })).conflicts, [])
  const merged = await git('POST', b, bob, 'operation/continue')
  assert.equal(merged.outcome, 'done')
  assert.equal(await said(b, ann, 'git log -1 --format="%an %cn %s" && git rev-parse HEAD^2 && git show HEAD:a.txt | grep -c both'), `Bob Bob Merge branch 'theirs'\n${(await said(b, ann, 'git rev-parse theirs'))}1\n`)
  text = await atRest(file(b, 'a.txt'), both, tokens)
  assert.equal(count(text, 'line ten, both\n'), 1)
  await commitAll(b, ann, 'rest')

  // A rebase that stops twice: gone on with, and, once more, aborted at its second stop.
  await said(b, ann, `git switch -qc upstream HEAD && sed -i "s/line 15$/line 15, up/; s/line 28$/line 28, up/" a.txt && git commit -qam up && git switch -q main &&
    sed -i "s/line 15$/line 15, one/" a.txt && git commit -qam one && sed -i "s/line 28$/line 28, two/" a.txt && git commit -qam two && git branch keep`)
  await eventually('in the editors', () => both.every((one) => one.text.toString().includes('28, two')))
  const solveWith = async (what) => {
    const all = editor.text.toString()
    const from = all.indexOf('<<<<<<< ')
    const to = all.indexOf('\n', all.indexOf('>>>>>>> ')) + 1
    editor.doc.transact(() => {
      editor.text.delete(from, to - from)
      editor.text.insert(from, what)
    })
    await eventually('sent', () => both[1].text.toString() === editor.text.toString())
    return git('POST', b, bob, 'resolved', { paths: ['a.txt'] })
  }
  let went = await git('POST', b, bob, 'rebase', { onto: 'upstream' })
  assert.equal(went.outcome, 'conflict')
  let stands = await git('GET', b, ann, 'operation')
  assert.deepEqual([stands.doing, stands.branch, stands.step, stands.steps, stands.is_of_a_shell], ['rebase', 'main', 1, 2, false])
  await eventually('markers', () => both.every((one) => one.text.toString().includes('<<<<<<<')))
  await solveWith('line 15, solved\n')
  went = await git('POST', b, bob, 'operation/continue')
  assert.equal(went.outcome, 'conflict')
  await eventually('markers', () => both.every((one) => one.text.toString().includes('<<<<<<<')))
  await solveWith('line 28, solved\n')
  went = await git('POST', b, bob, 'operation/continue')
  assert.equal(went.outcome, 'done')
  assert.equal(await said(b, ann, 'git symbolic-ref HEAD && git log -2 --format="%s %an %cn" && git status --porcelain && test ! -e .git/rebase-apply && git merge-base --is-ancestor upstream main'), 'refs/heads/main\ntwo Ann Bob\none Ann Bob\n')
  await said(b, ann, 'git reset -q --hard keep')
  await eventually('back', () => both.every((one) => one.text.toString().includes('28, two')))
  await git('POST', b, bob, 'rebase', { onto: 'upstream' })
  await eventually('markers', () => both.every((one) => one.text.toString().includes('<<<<<<<')))
  both[1].text.insert(0, `${tokens[tokens.push(token('first')) - 1]}\n`)
  await eventually('sent', () => count(editor.text.toString(), tokens.at(-1)) === 1)
  await solveWith('line 15, solved\n')
  assert.equal((await git('POST', b, bob, 'operation/continue')).outcome, 'conflict')
  both[1].text.insert(0, `${tokens[tokens.push(token('second')) - 1]}\n`)
  await eventually('sent', () => count(editor.text.toString(), tokens.at(-1)) === 1)
  await git('POST', b, bob, 'operation/abort')
  text = await atRest(file(b, 'a.txt'), both, tokens)
  assert.doesNotMatch(text, /solved|, up|<<<|>>>/)
  assert.match(text, /line 15, one\n/)
  assert.match(text, /line 28, two\n/)
  assert.equal(await said(b, ann, 'git symbolic-ref HEAD && git diff --name-only keep && git rev-parse HEAD'), `refs/heads/main\na.txt\n${await said(b, ann, 'git rev-parse keep')}`)

  // One that was begun in a shell, with steps that run programs, is not gone on with here.
  await commitAll(b, ann, 'typed')
  await run(b, ann, 'GIT_SEQUENCE_EDITOR="sed -i 1iexec\\ touch\\ /tmp/perch-ran" git rebase -q -i upstream')
  stands = await git('GET', b, ann, 'operation')
  assert.deepEqual([stands.doing, stands.is_of_a_shell], ['rebase', true])
  await said(b, ann, 'git add -A')
  assert.equal((await refused('POST', b, bob, 'operation/continue')).code, 'git_of_a_shell')
  await git('POST', b, bob, 'operation/abort')
  assert.equal((await git('GET', b, ann, 'operation')).doing, null)
  text = await atRest(file(b, 'a.txt'), both, tokens)
  assert.ok(allThere([...both, ...other]))
  for (const one of [...both, ...other]) one.stop()
}

/** Work is put aside and brought back, while people type. */
export async function git_stash() {
  await start()
  const { b, people } = await repository({ 'a.txt': numbered(1, 20) })
  const [ann, bob] = people
  const both = await editors(people, 'a.txt')
  assert.deepEqual(await git('GET', b, ann, 'stash'), { stashes: [], is_truncated: false })
  assert.equal((await refused('POST', b, ann, 'stash')).code, 'git_nothing_to_do')
  const aside = []
  for (const one of both) one.text.insert(one.text.toString().indexOf('line 15\n'), `${aside[aside.push(token('aside')) - 1]}\n`)
  await atRest(file(b, 'a.txt'), both, aside)
  put(b, 'new.txt', 'new\n')
  const during = []
  // All of what was typed before the stash began is in it, all of what was typed while it went on stays.
  const { going } = await begun(b, () => git('POST', b, ann, 'stash', { message: '-m one', untracked: true }))
  const stop = typing(both, during, () => 0, 20)
  const set = await going
  await stop()
  let text = await atRest(file(b, 'a.txt'), both, during)
  for (const one of aside) assert.equal(count(text, one), 0, `${one} is put aside`)
  assert.ok(!fs.existsSync(file(b, 'new.txt')))
  let { stashes } = await git('GET', b, bob, 'stash')
  assert.deepEqual(stashes.map(({ number, commit, message, by }) => [number, commit, message, by]), [[0, set.commit, 'On main: -m one', 'Ann']])
  const dirty = await refused('POST', b, bob, 'stash/0/pop')
  assert.deepEqual([dirty.code, dirty.files], ['git_would_overwrite', ['a.txt']])
  assert.ok(!fs.existsSync(file(b, 'new.txt')), 'what is refused changes nothing')
  await commitAll(b, ann, 'typed')
  assert.equal((await refused('POST', b, bob, `stash/0/apply?commit=${'0'.repeat(40)}`)).code, 'git_changed')
  const back = await git('POST', b, bob, `stash/0/apply?commit=${set.commit}`)
  assert.equal(back.outcome, 'done')
  text = await atRest(file(b, 'a.txt'), both, [...during, ...aside])
  assert.equal(read(b, 'new.txt'), 'new\n')
  await said(b, ann, 'rm new.txt && git checkout -q a.txt')
  assert.equal((await git('POST', b, bob, 'stash/0/pop')).outcome, 'done')
  await atRest(file(b, 'a.txt'), both, [...during, ...aside])
  assert.equal((await refused('POST', b, bob, 'stash/0/pop')).code, 'git_unknown_revision')
  // In conflict it is kept.
  await commitAll(b, ann, 'all')
  await said(b, ann, 'sed -i "s/line 9$/line nine, aside/" a.txt && git stash -q && sed -i "s/line 9$/line nine/" a.txt && git commit -qam nine')
  const conflict = await git('POST', b, ann, 'stash/0/pop')
  assert.deepEqual([conflict.outcome, conflict.conflicts.map(({ path }) => path)], ['conflict', ['a.txt']])
  text = await atRest(file(b, 'a.txt'), both, [...during, ...aside])
  assert.match(text, /<<<<<<< Updated upstream\nline nine\n=======\nline nine, aside\n>>>>>>> Stashed changes\n/)
  const now = await git('GET', b, ann, 'operation')
  assert.deepEqual([now.doing, now.conflicts.length], [null, 1])
  assert.equal((await git('GET', b, ann, 'stash')).stashes.length, 1)
  await git('DELETE', b, ann, 'stash/0')
  assert.equal((await refused('DELETE', b, ann, 'stash/0')).code, 'git_unknown_revision')
  assert.ok(allThere(both))
  for (const one of both) one.stop()
}

/** Each step can be undone, files byte by byte. */
export async function git_restore() {
  await start()
  const odd = Buffer.from([0xff, 0, 13, 10, 10])
  const { b, people } = await repository({ 'a.txt': numbered(1, 20), 'crlf.txt': 'one\r\ntwo\nthree\r\n', 'deep/er/x.txt': 'x\n', '.gitignore': 'ignored*\n', '.gitattributes': '*.txt text=auto\n' })
  const [ann, bob] = people
  const both = await editors(people, 'a.txt')
  const first = []
  line(both[0], 'first', first)
  put(b, 'new file', odd)
  put(b, 'ignored', 'ignored\n')
  put(b, 'crlf.txt', 'one\r\ntwo\nthree\r\nfour\n')
  fs.symlinkSync('a.txt', file(b, 'link'))
  put(b, 'run', '#!/bin/sh\n', { mode: 0o755 })
  await said(b, ann, 'echo staged > staged.txt && git add staged.txt && git init -q nested')
  await eventually('sent', () => count(both[1].text.toString(), first[0]) === 1)
  const point = await git('POST', b, ann, 'restore-points', { label: 'mine' })
  assert.deepEqual([point.label, point.branch, point.by], ['mine', 'refs/heads/main', 'ann'])
  for (const label of ['', ' ', 'x'.repeat(201)]) assert.equal((await refused('POST', b, ann, 'restore-points', { label })).code, 'bad_request')

  const second = []
  line(both[1], 'second', second)
  await atRest(file(b, 'a.txt'), both, [...first, ...second])
  await said(b, ann, 'rm -rf "new file" link run deep crlf.txt && echo more > more.txt && git add more.txt && git commit -qam gone && git switch -qc elsewhere')
  const during = []
  const going = git('POST', b, bob, `restore-points/${point.id}/restore`)
  await sleep(5)
  const back = await going
  let text = await atRest(file(b, 'a.txt'), both, [...first, ...during])
  assert.equal(count(text, second[0]), 0)
  const check = () => {
    assert.deepEqual(fs.readFileSync(file(b, 'new file')), odd)
    assert.equal(read(b, 'crlf.txt'), 'one\r\ntwo\nthree\r\nfour\n')
    assert.equal(fs.readlinkSync(file(b, 'link')), 'a.txt')
    assert.ok(fs.statSync(file(b, 'run')).mode & 0o100)
    assert.equal(read(b, 'deep/er/x.txt'), 'x\n')
    assert.equal(read(b, 'ignored'), 'ignored\n')
    assert.ok(!fs.existsSync(file(b, 'more.txt')))
  }
  check()
  assert.equal((await git('GET', b, ann, 'branches')).current, 'elsewhere')
  // And back from there.
  const { restore_points: points } = await git('GET', b, bob, 'restore-points')
  assert.deepEqual(points.map(({ label }) => label), ['before going back to: mine', 'mine'])
  assert.equal(points[0].id, back.restore_point)
  await git('POST', b, bob, `restore-points/${back.restore_point}/restore`)
  await atRest(file(b, 'a.txt'), both, [...first, ...second])
  assert.ok(!fs.existsSync(file(b, 'link')) && fs.existsSync(file(b, 'more.txt')))
  // With what was checked out and staged.
  await git('POST', b, bob, `restore-points/${point.id}/restore`, { head: true })
  check()
  assert.equal(await said(b, ann, 'git symbolic-ref HEAD && git rev-parse HEAD && git diff --cached --name-only'), `refs/heads/main\n${point.head}\nstaged.txt\n`)
  await atRest(file(b, 'a.txt'), both, first)
  assert.equal((await refused('POST', b, bob, `restore-points/rp_${'0'.repeat(32)}/restore`)).code, 'not_found')

  // What is typed while it goes back stays.
  const more = []
  line(both[0], 'more', more)
  await atRest(file(b, 'a.txt'), both, [...first, ...more])
  const { going: again } = await begun(b, () => git('POST', b, bob, `restore-points/${point.id}/restore`))
  const stop = typing(both, during, () => 0, 20)
  await again
  await stop()
  text = await atRest(file(b, 'a.txt'), both, [...first, ...during])
  for (const one of more) assert.equal(count(text, one), 0)

  // The oldest ones go; they are named by nothing else.
  await said(b, ann, `for n in $(seq 60); do git update-ref refs/perch/restore/rp_$(printf %032x $n) ${point.commit}; done`)
  await git('POST', b, ann, 'restore-points', { label: 'last' })
  const kept = (await git('GET', b, bob, 'restore-points')).restore_points
  assert.equal(kept.length, 50)
  assert.equal(kept[0].label, 'last')
  assert.equal((await said(b, ann, 'git for-each-ref refs/perch/restore | wc -l')).trim(), '50')
  assert.ok(allThere(both))
  for (const one of both) one.stop()
}

/** Locks that a killed git left behind are found, those of a live one are waited for. */
export async function git_stale_lock() {
  await start()
  const { b, people: [ann, bob] } = await repository({ 'a.txt': 'one\n', '.gitattributes': '*.slow filter=slow\n' })
  const lock = file(b, '.git/index.lock')
  const slowly = async (seconds) => {
    await said(b, ann, `git config filter.slow.clean 'sleep ${seconds}; cat' && echo $RANDOM$RANDOM > x.slow`)
    const done = run(b, ann, 'git add x.slow').catch((error) => error)
    await eventually('the lock is held', () => fs.existsSync(lock))
    return { done }
  }
  // perch is killed in the middle of a real git.
  await slowly(600)
  await crash()
  assert.ok(fs.existsSync(lock))
  await start()
  await git('POST', b, bob, 'stash', { untracked: true })
  assert.ok(!fs.existsSync(lock))
  await git('POST', b, bob, 'stash/0/pop')
  // A git alone is killed: the session goes on, and nothing of it holds the lock.
  await slowly(600)
  await said(b, ann, 'pkill -KILL -x git')
  assert.ok(fs.existsSync(lock))
  await git('POST', b, bob, 'switch', { branch: 'next', create: 'main' })
  assert.ok(!fs.existsSync(lock))
  // One that is nearly done is waited for, one that is not is told of.
  let adding = await slowly(3)
  await git('POST', b, bob, 'switch', { branch: 'main' })
  assert.deepEqual((await adding.done).exit, { code: 0 })
  adding = await slowly(14)
  assert.equal((await refused('POST', b, bob, 'switch', { branch: 'next' })).code, 'git_locked')
  assert.ok(fs.existsSync(lock), 'it is still held')
  assert.deepEqual((await adding.done).exit, { code: 0 })
  await git('POST', b, bob, 'switch', { branch: 'next' })
  // Of a reference.
  put(b, '.git/refs/heads/late.lock', '')
  await git('POST', b, bob, 'branches', { name: 'late' })
  // Of the list of stashes, of which `git stash push` says nothing, and which `git stash pop` meets when the files are back already.
  put(b, 'a.txt', 'put aside\n')
  put(b, '.git/refs/stash.lock', '')
  await git('POST', b, bob, 'stash', {})
  for (const name of ['refs/stash', 'AUTO_MERGE', 'refs/heads/next']) put(b, `.git/${name}.lock`, '')
  await git('POST', b, bob, 'stash/0/pop')
  assert.equal(read(b, 'a.txt'), 'put aside\n')
  assert.equal((await git('GET', b, bob, 'stash')).stashes.length, 0)
  // One that is never old keeps nobody for long.
  put(b, '.git/REBASE_HEAD.lock', '')
  fs.utimesSync(file(b, '.git/REBASE_HEAD.lock'), 4e9, 4e9)
  await git('POST', b, bob, 'switch', { branch: 'main' })
}

/**
 * A git that replaces a file removes it first. perch is killed in between, and that git with it: what was typed into the file is in it, and
 * its editors go on. Without a git that was killed the file was deleted.
 */
export async function git_killed_at_a_file() {
  await start()
  const { b, people: [ann, bob] } = await repository({ 'a.txt': numbered(1, 20), '.gitattributes': '*.slow filter=slow\n' })
  const [one, other] = [hClient(ann, 'a.txt'), yClient(bob, 'a.txt')]
  const both = [one, other]
  await eventually('synced', () => both.every((editor) => editor.synced()))
  const tokens = []
  for (const isGit of [true, false]) {
    line(one, 'before', tokens)
    await atRest(file(b, 'a.txt'), both, tokens)
    if (isGit) {
      // It has the index locked, as one that switches, and so what is typed stays out of the file.
      await said(b, ann, "git config filter.slow.clean 'sleep 600; cat' && echo x > x.slow")
      run(b, ann, 'git add x.slow').catch((error) => error)
      await eventually('the lock is held', () => fs.existsSync(file(b, '.git/index.lock')))
    }
    line(one, 'late', tokens)
    await eventually('acknowledged, and with the other', () => one.synced() && other.text.toString().includes(tokens.at(-1)))
    if (isGit) fs.unlinkSync(file(b, 'a.txt'))
    await crash()
    if (!isGit) fs.unlinkSync(file(b, 'a.txt'))
    await start()
    if (isGit) {
      await eventually('they go on', () => both.every((editor) => editor.synced()))
      await atRest(file(b, 'a.txt'), both, tokens)
      assert.ok(both.every((editor) => !editor.closed && !editor.refused))
      await git('POST', b, bob, 'stash', {})
      await git('POST', b, bob, 'stash/0/pop')
      await atRest(file(b, 'a.txt'), both, tokens)
    } else {
      await eventually('it has ended', () => other.closed?.code === 4409)
      assert.ok(!fs.existsSync(file(b, 'a.txt')))
    }
  }
}

/** What the repository names is not run: hooks, filters, drivers, strategies, helpers, steps of a rebase. */
export async function git_merge_hostile() {
  await start()
  const { b, people: [ann, bob] } = await repository({ 'a.txt': numbered(1, 20), 'b.txt': 'b\n' })
  await said(b, ann, `git switch -qc theirs && sed -i "s/line 5$/line 5, theirs/" a.txt && echo theirs >> b.txt && git commit -qam theirs && git switch -q main &&
    sed -i "s/line 5$/line 5, ours/" a.txt && git commit -qam ours && git switch -qc plain theirs~1 && echo p > p.txt && git add -A && git commit -qm plain && git switch -q main`)
  const evil = (name) => `touch /project/workspace/RAN-${name}`
  const hooks = ['pre-commit', 'commit-msg', 'prepare-commit-msg', 'post-commit', 'post-checkout', 'post-merge', 'pre-merge-commit', 'pre-rebase', 'post-rewrite', 'applypatch-msg', 'pre-applypatch', 'post-applypatch', 'reference-transaction', 'post-index-change', 'pre-auto-gc', 'fsmonitor-watchman']
  for (const hook of hooks) put(b, `.git/hooks/${hook}`, `#!/bin/sh\n${evil(hook)}\n`, { mode: 0o755 })
  put(b, '.git/config', `${read(b, '.git/config')}
[core]
\tfsmonitor = ${evil('fsmonitor')}
\teditor = ${evil('editor')}
\tpager = ${evil('pager')}
[sequence]
\teditor = ${evil('sequence')}
[filter "evil"]
\tclean = ${evil('clean')}; cat
\tsmudge = ${evil('smudge')}; cat
\tprocess = ${evil('process')}
\trequired = true
[merge "evil"]
\tdriver = ${evil('driver')}
[merge]
\tverifySignatures = true
\tgpgSign = true
[diff]
\texternal = ${evil('external')}
[diff "evil"]
\ttextconv = ${evil('textconv')}
\tcommand = ${evil('command')}
[commit]
\tgpgSign = true
[tag]
\tgpgSign = true
\tforceSignAnnotated = true
[gpg]
\tprogram = /project/workspace/.git/evil-gpg
[branch "main"]
\tmergeOptions = -s evil
[pull]
\ttwohead = evil
[alias]
\tmerge-evil = "!${evil('alias')}"
\tstash = "!${evil('stash')}"
[rebase]
\tbackend = merge
\tautoStash = true
[stash]
\tshowPatch = true
[trailer "x"]
\tcommand = ${evil('trailer')}
`)
  put(b, '.git/evil-gpg', `#!/bin/sh\n${evil('gpg')}\n`, { mode: 0o755 })
  put(b, '.git/info/attributes', '* filter=evil merge=evil diff=evil\n')
  const none = (what) => assert.deepEqual(fs.readdirSync(b.files).filter((name) => name.startsWith('RAN')), [], what)
  put(b, 'b.txt', 'b\nmore\n')
  await git('POST', b, bob, 'stash')
  none('stash')
  await git('POST', b, bob, 'stash/0/pop')
  await git('POST', b, bob, 'stash')
  none('pop')
  await git('POST', b, bob, 'tags', { name: 'v1', message: 'one' })
  none('tag')
  await git('POST', b, bob, 'switch', { branch: 'next', create: 'main' })
  await git('POST', b, bob, 'switch', { branch: 'main' })
  none('switch')
  assert.equal((await git('POST', b, bob, 'merge', { revision: 'plain' })).outcome, 'done')
  none('merge')
  assert.equal((await git('POST', b, bob, 'merge', { revision: 'theirs' })).outcome, 'conflict')
  none('conflict')
  await git('POST', b, bob, 'operation/abort')
  none('abort')
  await git('POST', b, bob, 'merge', { revision: 'theirs' })
  put(b, 'a.txt', numbered(1, 20).replace('line 5\n', 'line 5, both\n'))
  await git('POST', b, bob, 'resolved', { paths: ['a.txt'] })
  await git('POST', b, bob, 'operation/continue')
  none('continue')
  await git('POST', b, bob, 'switch', { branch: 'next' })
  assert.equal((await git('POST', b, bob, 'rebase', { onto: 'theirs' })).outcome, 'conflict')
  none('rebase')
  // Steps that a neighbour puts where git's other backend would look for them.
  put(b, 'a.txt', numbered(1, 20).replace('line 5\n', 'line 5, rebased\n'))
  await git('POST', b, bob, 'resolved', { paths: ['a.txt'] })
  put(b, '.git/rebase-merge/git-rebase-todo', `exec ${evil('exec')}\n`)
  assert.equal((await refused('POST', b, bob, 'operation/continue')).code, 'git_of_a_shell')
  fs.rmSync(file(b, '.git/rebase-merge'), { recursive: true })
  assert.equal((await git('POST', b, bob, 'operation/continue')).outcome, 'done')
  none('rebase continued')
  const { restore_points: points } = await git('GET', b, bob, 'restore-points')
  await git('POST', b, bob, `restore-points/${points.at(-1).id}/restore`, { head: true })
  none('restore')
  // They would be run otherwise.
  await run(b, ann, 'git add b.txt; git commit -m x')
  assert.ok(fs.readdirSync(b.files).some((name) => name.startsWith('RAN')))
  assert.equal(read(b, 'b.txt'), 'b\nmore\n')
}

const whole = (n) => Math.floor(chance.next() * n)
const pick = (list) => list[whole(list.length)]

/**
 * People type into one file of two git branches, which are switched between, merged, stashed, discarded and gone back in, over
 * the API and in a shell, and perch is killed in between. Each token has a place of its own, far from all others, so nothing is
 * ever in conflict; at the end, with all stashes brought back and both branches merged, each token is there once: but for
 * those that somebody took away on purpose, or that perch was killed over, which are in a restore point.
 */
class GitPlan {
  constructor() {
    this.tokens = []
    /** Taken away on purpose: at most once. */
    this.maybe = []
    /** Whose each is. */
    this.by = new Map()
    this.at = 'main'
    this.done = []
    /** Lines that nothing was typed behind yet. */
    this.places = Array.from({ length: 400 }, (_, n) => 5 * n + 3)
  }
  get other() { return this.at === 'main' ? 'side' : 'main' }
  async begin() {
    Object.assign(this, await this.found())
    this.file = file(this.b, 'a.txt')
    await said(this.b, this.people[0], 'git branch side')
    this.editors = this.people.map((s, n) => (n % 2 ? hClient : yClient)(s, 'a.txt'))
    await eventually('synced', () => this.editors.every((one) => one.synced()))
    this.editors.forEach(watch)
    // After a crash another one may bring what somebody typed, who is known by then.
    for (const n of this.editors.keys()) this.type(this.tokens, this.place(), n)
    await this.settle()
  }
  /** The branch and its people. */
  found() { return repository({ 'a.txt': numbered(1, 2000) }, ['ann', 'bob', 'cid']) }
  /** A line that nothing is typed behind yet, nor will be. */
  place() { return this.places.splice(whole(this.places.length), 1)[0] }
  type(list = this.tokens, place = this.place(), n = whole(this.editors.length)) {
    const editor = this.editors[n]
    const one = token('g')
    this.by.set(one, [this.people[n].id])
    const after = `line ${place}\n`
    editor.text.insert(editor.text.toString().indexOf(after) + after.length, `${one}\n`)
    list.push(one)
  }
  /** Types while something is done. */
  async during(ask) {
    const going = whole(2) ? { going: ask() } : await begun(this.b, ask)
    for (let n = whole(4); n > 0; n--) {
      this.type()
      await sleep(whole(40))
    }
    return going.going
  }
  get who() { return pick(this.people) }
  /** What was sent is acknowledged and in the file. */
  settle() { return atRest(this.file, this.editors, []).then(() => undefined) }
  async allowed(ask, ...codes) {
    const answer = await this.during(ask)
    assert.ok(answer.ok || codes.includes(answer.body.code), answer.text)
    return answer.ok
  }
  async commit() {
    await this.during(() => said(this.b, this.who, 'git add -A && (git diff --cached --quiet || git commit -qm typed)'))
  }
  async switch() {
    const to = this.other
    if (await this.allowed(() => call('POST', this.b, this.who, 'switch', { branch: to }), 'git_would_overwrite')) this.at = to
  }
  async shellSwitch() {
    const to = this.other
    const { exit } = await this.during(() => run(this.b, this.who, `git switch -q ${to}`))
    if (exit.code === 0) this.at = to
  }
  async merge() {
    await this.allowed(() => call('POST', this.b, this.who, 'merge', { revision: this.other }), 'git_would_overwrite')
  }
  async shellMerge() {
    await this.during(() => run(this.b, this.who, `git merge -q --no-edit ${this.other}`))
  }
  async stash() { await this.allowed(() => call('POST', this.b, this.who, 'stash', { message: 'plan' }), 'git_nothing_to_do') }
  async pop() { await this.allowed(() => call('POST', this.b, this.who, 'stash/0/pop'), 'git_would_overwrite', 'git_unknown_revision') }
  /** What is not committed goes. */
  async discard() {
    await this.settle()
    const kept = await said(this.b, this.who, 'git show HEAD:a.txt')
    const here = fs.readFileSync(this.file, 'utf8')
    for (const one of this.tokens.filter((one) => count(here, one) > 0 && count(kept, one) === 0)) this.maybe.push(one)
    this.tokens = this.tokens.filter((one) => !this.maybe.includes(one))
    await said(this.b, this.who, 'git checkout -q a.txt')
  }
  /** A state is kept, lines are typed, and it is gone back to. */
  async goBack() {
    await this.settle()
    const { id } = await git('POST', this.b, this.who, 'restore-points', { label: 'plan' })
    const since = []
    for (let n = 1 + whole(3); n > 0; n--) this.type(since)
    await this.settle()
    this.maybe.push(...since)
    const answer = await this.during(() => call('POST', this.b, this.who, `restore-points/${id}/restore`))
    // Typed before it began to go back, or after: both may be.
    assert.ok(answer.ok, answer.text)
    const there = await atRest(this.file, this.editors, [])
    const lost = this.tokens.filter((one) => count(there, one) === 0)
    const kept = await said(this.b, this.who, `git show ${(await git('GET', this.b, this.who, 'restore-points')).restore_points[0].commit}:a.txt`)
    for (const one of lost.filter((one) => count(kept, one) === 1)) this.maybe.push(one)
    this.tokens = this.tokens.filter((one) => !this.maybe.includes(one))
  }
  /** Starts perch again, after it was killed. */
  async again() {
    await start()
    await this.back()
  }
  async back() {
    await eventually('back', () => this.editors.every((one) => one.synced()))
    for (const one of this.editors) one.drops = 0
    await this.settle()
  }
  /** A step of the API that perch is killed over; afterwards what was before it is brought back, or what `more` says. */
  over(route, body, more) {
    const after = (before, typed) => this.undo(before, typed)
    return { name: route, ask: () => call('POST', this.b, this.people[0], route, body), begun, within: 250, after, ...more }
  }
  /** What perch is killed over. */
  async victim() {
    const to = this.other
    const kind = pick(['switch', 'merge', 'rebase', 'stash', 'discard', 'pop', 'abort', 'shell'])
    if (kind === 'rebase') return this.over(...(await this.isStraight(to) ? ['rebase', { onto: to }] : ['switch', { branch: to }]))
    if (kind === 'pop') return this.popping()
    if (kind === 'abort') return this.aborting()
    if (kind === 'shell') return this.shelling()
    if (kind === 'stash' || kind === 'discard') {
      this.type()
      await this.settle()
    }
    return this.over(...{ switch: ['switch', { branch: to }], merge: ['merge', { revision: to }], stash: ['stash', {}], discard: ['discard', { all: true }] }[kind])
  }
  /** Nothing that was solved in a merge would have to be solved again. */
  async isStraight(to) { return await said(this.b, this.people[0], `git rev-list --merges HEAD ^${to}`) === '' }
  /** What is put aside is there, aside or back. */
  async popping() {
    const aside = []
    this.type(aside)
    await this.settle()
    const { commit } = await git('POST', this.b, this.people[0], 'stash', { message: 'aside' })
    await this.settle()
    const after = async (before, typed) => {
      const { stashes } = await git('GET', this.b, this.people[0], 'stash')
      if (stashes.some((stash) => stash.commit === commit)) await this.undo(before, typed)
      else {
        assert.equal(count(fs.readFileSync(this.file, 'utf8'), aside[0]), 1, 'it is back')
        this.tokens.push(...typed)
      }
      this.tokens.push(...aside)
    }
    return this.over('stash/0/pop', {}, { after })
  }
  /** A merge or rebase that has stopped in a conflict is aborted; once more, after the crash. */
  async aborting() {
    const ann = this.people[0]
    const how = pick(['merge', 'rebase'])
    this.done.push(how)
    const place = this.place()
    const own = []
    // Another line behind the same one, in a commit beside.
    await said(this.b, ann, `blob=$(git show HEAD:a.txt | sed 's/^line ${place}$/&\\nclash/' | git hash-object -w --stdin) &&
      tree=$(git ls-tree HEAD | sed "s/[0-9a-f]*\ta.txt$/$blob\ta.txt/" | git mktree) && git branch -qf clash $(git commit-tree -p HEAD -m clash $tree)`)
    this.type(own, place)
    await this.settle()
    await commitAll(this.b, ann)
    const where = () => said(this.b, ann, 'git symbolic-ref HEAD && git rev-parse HEAD && git diff --cached --name-only')
    const [before, head] = [fs.readFileSync(this.file, 'utf8'), await where()]
    const { outcome } = await git('POST', this.b, ann, how, how === 'merge' ? { revision: 'clash' } : { onto: 'clash' })
    assert.equal(outcome, 'conflict')
    await eventually('markers', () => this.editors.every((one) => one.text.toString().includes('<<<<<<<')))
    const since = []
    for (let n = whole(3); n > 0; n--) this.type(since)
    await this.settle()
    const after = async (_, typed) => {
      const again = await call('POST', this.b, ann, 'operation/abort')
      assert.ok(again.ok || again.body.code === 'git_nothing_to_do', again.text)
      const text = await atRest(this.file, this.editors, [...since, ...typed])
      assert.equal([...since, ...typed].reduce((text, one) => text.replace(`${one}\n`, ''), text), before, 'aborted')
      assert.equal(await where(), head, 'where it was')
      this.tokens.push(...own, ...since, ...typed)
    }
    return this.over('operation/abort', {}, { after })
  }
  /** A git in a shell, which ends with perch. A hook makes it slow before and after each reference that it moves. */
  async shelling() {
    const ann = this.people[0]
    const to = this.other
    const how = pick(['switch', 'merge', 'stash', ...(await this.isStraight(to) ? ['rebase'] : [])])
    this.done.push(how)
    if (how === 'stash') {
      this.type()
      await this.settle()
    }
    await git('POST', this.b, ann, 'restore-points', { label: 'before a shell' })
    const line = { switch: `switch -q ${to}`, merge: `merge -q --no-edit ${to}`, stash: 'stash -q', rebase: `rebase -q ${to}` }[how]
    const hook = "mkdir -p /tmp/hooks && printf '#!/bin/sh\\nsleep 0.03\\n' > /tmp/hooks/reference-transaction && chmod +x /tmp/hooks/reference-transaction"
    const ask = () => run(this.b, ann, `${hook}; git -c core.hooksPath=/tmp/hooks ${line}`)
    const begun = async (b, ask) => {
      const going = ask()
      let isOver = false
      going.finally(() => { isOver = true })
      while (!isOver && !fs.existsSync(file(b, '.git/index.lock'))) await new Promise(setImmediate)
      return { going }
    }
    return this.over('shell', {}, { ask, begun, within: 200 })
  }
  /** Goes back to before the step, if it had begun. */
  async undo(before, typed) {
    const ann = this.people[0]
    const { restore_points: [point] } = await git('GET', this.b, ann, 'restore-points')
    if (!point?.label.startsWith('before') || await said(this.b, ann, `git show ${point.commit}:a.txt`) !== before) {
      this.tokens.push(...typed)
      return
    }
    await git('POST', this.b, ann, `restore-points/${point.id}/restore`, { head: true })
    await said(this.b, ann, 'git stash list --format=%gs | grep -q "WIP" && git stash drop -q || true')
    await this.settle()
    assert.equal(fs.readFileSync(this.file, 'utf8'), before, 'what was before is back')
    const { doing, conflicts } = await git('GET', this.b, ann, 'operation')
    assert.deepEqual([doing, conflicts], [null, []])
    // They are in the state that was left.
    this.maybe.push(...typed)
  }
  /** perch is killed in the middle of something. */
  async crash() {
    await this.settle()
    await commitAll(this.b, this.people[0])
    const what = await this.victim()
    this.done.push(what.name)
    const before = fs.readFileSync(this.file, 'utf8')
    const typed = []
    const { going } = await what.begun(this.b, () => what.ask().catch(() => undefined))
    this.type(typed)
    await sleep(whole(what.within))
    await crash()
    await going
    await this.again()
    // Nothing that was typed is lost, whatever became of the step.
    const after = fs.readFileSync(this.file, 'utf8')
    for (const one of typed) assert.equal(count(after, one), 1, `${one} is there after a crash`)
    await what.after(before, typed)
    this.at = (await git('GET', this.b, this.people[0], 'branches')).current
  }
  get steps() { return 30 }
  get deeds() {
    return [[12, 'type'], [5, 'commit'], [4, 'switch'], [3, 'shellSwitch'], [3, 'merge'], [2, 'shellMerge'], [3, 'stash'], [3, 'pop'], [1, 'discard'], [1, 'goBack'], [3, 'crash']]
  }
  async step() {
    const { deeds } = this
    let dice = chance.next() * deeds.reduce((sum, [weight]) => sum + weight, 0)
    const [, deed] = deeds.find(([weight]) => (dice -= weight) < 0)
    this.done.push(deed)
    await this[deed]()
  }
  async check() {
    const ann = this.people[0]
    await this.settle()
    await commitAll(this.b, ann)
    for (;;) {
      const { stashes } = await git('GET', this.b, ann, 'stash')
      if (stashes.length === 0) break
      await git('POST', this.b, ann, 'stash/0/pop')
      await this.settle()
      await commitAll(this.b, ann)
    }
    assert.equal((await git('POST', this.b, ann, 'merge', { revision: this.other })).conflicts.length, 0)
    const text = await atRest(this.file, this.editors, this.tokens)
    for (const one of this.maybe) assert.ok(count(text, one) <= 1, `${one} is not doubled`)
    assert.equal(text.replaceAll(/<g\d+>\n/g, ''), numbered(1, 2000))
    assert.equal((await git('GET', this.b, ann, 'operation')).doing, null)
    assert.ok(allThere(this.editors), 'nobody was sent away')
    await this.checkTypists(text)
  }
  /** Nobody is said to have typed what another did; what git brought in its commits only is the file's. */
  async checkTypists(text) {
    const { lines } = await (await api('GET', `/v1/branches/${this.b.id}/authors/a.txt`, undefined, as(this.people[0]))).json()
    const all = text.split('\n')
    for (const { line, count, authors } of lines) {
      for (const one of all.slice(line - 1, line - 1 + count).filter((one) => this.by.has(one))) {
        const named = authors.map(({ author }) => author).filter((author) => !author.startsWith('('))
        assert.ok(named.every((author) => this.by.get(one).includes(author)), `${one} is by ${this.by.get(one)}, not by ${named}`)
      }
    }
  }
}

/**
 * perch dies after one of the processes of git that a step runs once it has its restore point. What was typed is there, once; asked
 * for again the step comes to the same end as without the crash: files, what is checked out, what is staged.
 */
async function killedBetween(steps) {
  await start()
  for (const [name, how] of Object.entries(steps)) {
    const prepare = async () => {
      const { b, people: [ann] } = await repository({ 'a.txt': numbered(1, 30) }, ['ann'])
      await said(b, ann, `git switch -qc theirs && sed -i "s/line 10$/line ten, theirs/" a.txt && git commit -qam theirs && git switch -qc apart main && sed -i "s/line 3$/line three/" a.txt && git commit -qam apart
        git switch -q main && sed -i "s/line 10$/line ten, ours/" a.txt && git commit -qam ours && sed -i "s/line 25$/line 25, ours/" a.txt && git commit -qam more`)
      const editor = yClient(ann, 'a.txt')
      await eventually('synced', () => editor.synced() && editor.text.toString().includes('25, ours'))
      if (how.dirty) editor.text.insert(editor.text.toString().indexOf('line 15\n'), 'aside\n')
      if (how.api) await git('POST', b, ann, ...how.api)
      const typed = []
      if (how.step.startsWith('operation')) {
        await eventually('markers', () => editor.text.toString().includes('<<<<<<<'))
        typed.push('since\n')
        editor.text.insert(editor.text.toString().indexOf('line 20\n'), 'since\n')
      }
      if (how.solve) {
        const all = editor.text.toString()
        const [from, to] = [all.indexOf('<<<<<<<'), all.indexOf('\n', all.indexOf('>>>>>>>')) + 1]
        editor.text.delete(from, to - from)
        editor.text.insert(from, 'line ten, both\n')
        await atRest(file(b, 'a.txt'), [editor], [])
        await git('POST', b, ann, 'resolved', { paths: ['a.txt'] })
      }
      await atRest(file(b, 'a.txt'), [editor], typed)
      return { b, ann, editor }
    }
    const stands = async ({ b, ann, editor }) => {
      const text = await atRest(file(b, 'a.txt'), [editor], [])
      const at = await said(b, ann, 'git symbolic-ref HEAD; git log --format=%s; git rev-parse HEAD^{tree}; git diff --cached; git stash list; ls .git | grep -i -e rebase -e merge_ || true')
      return { text, at, ...(({ doing, conflicts }) => ({ doing, conflicts }))(await git('GET', b, ann, 'operation')) }
    }
    const ask = ({ b, ann }) => call('POST', b, ann, how.step, how.body)
    const newest = async ({ b, ann }) => (await git('GET', b, ann, 'restore-points')).restore_points[0]
    // As it ends when nothing happens, and how many processes that takes.
    const untouched = await prepare()
    await crash()
    await start()
    const answer = await ask(untouched)
    assert.ok(answer.ok, answer.text)
    const metrics = await (await api('GET', '/metrics')).text()
    const all = [...metrics.matchAll(/^perch_git_commands_total\{.*\} (\d+)$/gm)].reduce((sum, [, count]) => sum + Number(count), 0)
    const expected = await stands(untouched)
    untouched.editor.stop()
    let last = 0
    // Each third, from one of the last three; PERCH_STRIDE=1 goes through all.
    const stride = Number(process.env.PERCH_STRIDE ?? 3)
    for (let died = all - whole(stride); ; died -= stride) {
      const one = await prepare()
      const before = await newest(one)
      await crash()
      await start({ PERCH_FAULT: `git ${died}` })
      await ask(one).catch(() => undefined)
      await perch.ended
      await start()
      await eventually('back', () => one.editor.synced())
      const text = await atRest(file(one.b, 'a.txt'), [one.editor], [])
      if (how.step.startsWith('operation')) assert.equal(count(text, 'since\n'), 1, `${name}, ${died} of ${all}: ${shown(text)}`)
      const point = await newest(one)
      if (point?.id === before?.id) {
        one.editor.stop()
        break
      }
      last++
      const stashes = how.step.startsWith('stash') ? (await git('GET', one.b, one.ann, 'stash')).stashes : null
      if (how.goesBack && stashes?.length !== 0) await git('POST', one.b, one.ann, `restore-points/${point.id}/restore`, { head: true })
      if (stashes?.length !== 0) {
        const again = await ask(one)
        assert.ok(again.ok || again.body.code === 'git_nothing_to_do', `${name}, ${died} of ${all}: ${again.text}`)
      }
      assert.deepEqual(await stands(one), expected, `${name}, ${died} of ${all}`)
      one.editor.stop()
    }
    console.log(`${name}: ${last} of ${all} processes`)
    assert.ok(last > 0, name)
  }
}

/** What is under way is aborted. */
export async function git_killed_in_abort() {
  await killedBetween({
    'abort of a merge': { api: ['merge', { revision: 'theirs' }], step: 'operation/abort' },
    'abort of a rebase': { api: ['rebase', { onto: 'theirs' }], step: 'operation/abort' }
  })
}

/** What is begun, or gone on with. */
export async function git_killed_between() {
  await killedBetween({
    'continue of a rebase': { api: ['rebase', { onto: 'theirs' }], solve: true, step: 'operation/continue' },
    pop: { api: ['stash', { message: 'aside' }], step: 'stash/0/pop', dirty: true, goesBack: true },
    rebase: { step: 'rebase', body: { onto: 'apart' }, goesBack: true }
  })
}

/** `PERCH_PLANS` plans of `PERCH_SEED`; `PERCH_PLAN` runs one of them alone. `make`: gives the plan of a number. */
async function runPlans(make) {
  const seed = Number(process.env.PERCH_SEED ?? Date.now() % 1_000_000)
  const only = process.env.PERCH_PLAN
  const plans = only ? [Number(only)] : Array.from({ length: Number(process.env.PERCH_PLANS ?? 2) }, (_, n) => n)
  console.log(`random plans: ${plans.length}, PERCH_SEED=${seed}`)
  for (const number of plans) {
    chance.next = generator(seed * 1_000_003 + number)
    const plan = make(number)
    try {
      await plan.begin()
      for (let step = 0; step < plan.steps; step++) await plan.step()
      await plan.check()
    } catch (error) {
      throw new Error(`PERCH_SEED=${seed} PERCH_PLAN=${number}: ${error.message}\nafter: ${plan.done.join(' ')}\n${error.stack.split('\n').filter((one) => / at /.test(one)).join('\n')}`)
    }
    for (const editor of plan.editors) editor.stop()
  }
}

/** Random plans of one git alone. */
export async function git_random() {
  await start()
  await runPlans(() => new GitPlan())
}
export { allThere, begun, call, commitAll, git, GitPlan, mergeFile, numbered, pick, runPlans, watch, who, whole }
