// A team on one branch and its servers: each with their own token and name, at the same time, while all of them type.
import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import { api, atRest, branch, count, crash, data, eventually, hClient, session, shown, sleep, start, temp, token, yClient } from '../harness.mjs'
import { as, said } from '../exec.mjs'
import { dulwich, httpBackend, repository } from '../git_server.mjs'
import { allThere, begun, call, commitAll, git, GitPlan, mergeFile, numbered, pick, runPlans, watch, who, whole } from './git_merge.mjs'
import { does, follow, give, remote, route, secret } from './git_remote.mjs'

const execute = promisify(execFile)
/** Git of this machine in a folder, also one that belongs to a session. */
const plain = (folder, ...args) => execFileSync('git', ['-c', 'safe.directory=*', '-C', folder, ...args], { maxBuffer: 2 ** 26 }).toString()

/** What libgit2 reads. */
function libgit2(folder, ...args) {
  const [python, script] = ['../../../target/python/bin/python', '../../python/repository.py'].map((name) => path.resolve(import.meta.dirname, name))
  return JSON.parse(execFileSync(python, [script, folder, ...args], { maxBuffer: 2 ** 28 }))
}
/** A clone elsewhere, whose owner commits and pushes. */
class Clone {
  constructor(bare) {
    this.folder = `${bare}.clone`
    this.made = execute('git', ['clone', '-q', bare, this.folder])
  }
  run(...args) { return execute('git', ['-C', this.folder, '-c', 'user.name=Else', '-c', 'user.email=else@example.org', ...args]) }
  async push(change, message = 'elsewhere') {
    await this.made
    for (;;) {
      await this.run('fetch', '-q')
      await this.run('reset', '-q', '--hard', 'origin/main')
      change(this.folder)
      await this.run('add', '-A')
      await this.run('commit', '-qm', message)
      // Somebody of the branch was faster.
      if (await this.run('push', '-q', 'origin', 'main').then(() => true, (error) => assert.match(error.stderr, /rejected|lock/))) return
    }
  }
}
/** Puts a text behind a line of a file, whichever line ends that has. */
function behind(file, line, text) {
  const content = fs.readFileSync(file, 'utf8')
  const end = content.includes('\r\n') ? '\r\n' : '\n'
  assert.ok(content.includes(`${line}${end}`), `${file} has ${line}`)
  fs.writeFileSync(file, content.replace(`${line}${end}`, `${line}${end}${text}${end}`))
}

const anyOf = (list) => list[Math.floor(Math.random() * list.length)]

/** What three people of a branch do. */
class Team {
  constructor() {
    /** Who typed what, in which file. */
    this.typed = new Map()
    /** What somebody took away again, and when. */
    this.erased = new Map()
    /** Commits that were made here: by whom, and whom the answer named. */
    this.made = new Map()
    this.editors = {}
    this.files = ['a.txt', 'crlf.txt', 'run.sh', 'new.txt']
    this.places = {}
    this.did = { commits: 0, merges: 0, pulls: 0, refused: 0, pushes: 0, rejected: 0 }
  }
  left(name) { return this.places[name] ??= Array.from({ length: 100 }, (_, n) => `line ${4 * n + 2}`) }
  place(name) {
    const places = this.left(name)
    return places.splice(Math.floor(Math.random() * places.length), 1)[0]
  }
  async open(name) {
    this.editors[name] = this.people.map((s, n) => ((n + name.length) % 2 ? yClient : hClient)(s, name))
    await eventually(`synced ${name}`, () => this.editors[name].every((one) => one.synced()))
    this.editors[name].forEach(watch)
  }
  all() { return Object.values(this.editors).flat() }
  type(n, name = anyOf(this.files)) {
    const { text } = this.editors[name][n]
    const typed = token(this.people[n].id)
    const at = `${this.place(name)}\n`
    const before = text.toString().indexOf(at)
    assert.ok(before >= 0, `${name} has ${at}`)
    text.insert(before + at.length, `${typed} é😀\n`)
    this.typed.set(typed, { by: this.people[n].id, name })
    return typed
  }
  /** Takes away a line of somebody that is seen here. */
  erase(n) {
    const name = anyOf(this.files)
    const { text } = this.editors[name][n]
    const [line] = /^<.*\n/m.exec(text.toString()) ?? []
    const one = line?.split(' ')[0]
    if (!this.typed.has(one)) return
    text.delete(text.toString().indexOf(line), line.length)
    if (!this.erased.has(one)) this.erased.set(one, Date.now())
  }
  async typing(n) {
    while (this.goes) {
      // On a slow machine the rounds outlast the lines; some are kept for what comes after them.
      const roomy = this.files.filter((name) => this.left(name).length > 20)
      if (Math.random() < 0.1) this.erase(n)
      else if (roomy.length > 0) this.type(n, anyOf(roomy))
      await sleep(150 + 200 * Math.random())
    }
  }
  async commit(n, body) {
    const answer = await call('POST', this.b, this.people[n], 'commit', { message: `By ${this.people[n].id}\n\nin a round`, ...body })
    if (!answer.ok) return assert.equal(answer.body.code, 'git_nothing_to_do', answer.text)
    this.made.set(answer.body.commit, { by: this.people[n].id, named: answer.body.co_authors.map(({ email }) => email), at: Date.now() })
    this.did.commits++
  }
  async pull(n, server, how = 'merge') {
    const { done, error, refused } = await follow(this.b, this.people[n], 'pull', { remote: `${server}-${this.people[n].id}`, branch: 'main', how })
    if (!done) {
      const { code, detail } = error ?? refused
      // dulwich does not know what it offered a moment ago, once somebody has pushed.
      const isOvertaken = server === 'two' && code === 'git_failed' && /HTTP 500/.test(detail)
      assert.ok(code === 'git_would_overwrite' || isOvertaken, detail)
      this.did.refused++
      return
    }
    assert.notEqual(done.outcome, 'conflict', JSON.stringify(done))
    if (done.outcome === 'done') {
      this.made.set(done.to, { by: this.people[n].id, named: [] })
      this.did.merges++
    }
    this.did.pulls++
    return done
  }
  async push(n, server) {
    const { done, error } = await follow(this.b, this.people[n], 'push', { remote: `${server}-${this.people[n].id}`, branch: 'main' })
    if (done) this.did.pushes++
    else assert.equal(error.code, 'git_push_rejected', JSON.stringify(error))
    if (error) this.did.rejected++
    return done
  }
  async round(n, number) {
    const [first, second] = (n + number) % 2 ? ['one', 'two'] : ['two', 'one']
    if ((n + number) % 3 === 0) {
      await git('POST', this.b, this.people[n], 'stage', { paths: [this.files[(n + number) % this.files.length]] })
      await this.commit(n)
    } else await this.commit(n, { all: true })
    await this.pull(n, first)
    await this.push(n, first)
    if (number % 2) await this.pull(n, second)
    await this.push(n, second)
  }
  async atRest() {
    for (const name of this.files) {
      const tokens = [...this.typed].filter(([one, { name: of }]) => of === name && !this.erased.has(one)).map(([one]) => one)
      const text = await atRest(path.join(this.b.files, name), this.editors[name], tokens)
      for (const one of this.erased.keys()) assert.equal(count(text, one), 0, `${one} was erased`)
    }
  }
  /** All is committed, both servers have all. */
  async settle(n = 0) {
    await this.atRest()
    await this.commit(n, { all: true })
    await eventually('both servers have all', async () => {
      for (const server of ['one', 'two']) if (!await this.pull(n, server)) return false
      const all = []
      for (const server of ['one', 'two']) all.push(await this.push(n, server))
      return all.every(Boolean)
    })
    await this.atRest()
  }
}

/** Two servers, three people who commit, pull and push at the same time while all of them type. */
export async function git_team() {
  const names = ['ann', 'bob', 'cat']
  const roots = { one: path.join(temp, 'one'), two: path.join(temp, 'two') }
  const secrets = { one: {}, two: {} }
  for (const [server, root] of Object.entries(roots)) {
    for (const name of names) secrets[server][name] = secret(name)
    fs.mkdirSync(root)
    // Each asks by a path of their own, so that each request tells whose it was.
    for (const name of names) fs.symlinkSync('.', path.join(root, name))
  }
  const bares = { one: path.join(roots.one, 'team.git'), two: path.join(roots.two, 'team.git') }
  const crlf = numbered(1, 400).replaceAll('\n', '\r\n')
  repository(bares.one, { 'a.txt': numbered(1, 400), 'crlf.txt': crlf, 'run.sh': numbered(1, 400), 'one.txt': 'one\n', 'two.txt': 'two\r\n', 'odd': Buffer.from([0xff, 0, 13, 10, 10]) })
  const clones = { one: new Clone(bares.one) }
  await clones.one.push((folder) => {
    fs.chmodSync(path.join(folder, 'run.sh'), 0o755)
    fs.symlinkSync('a.txt', path.join(folder, 'link'))
    fs.mkdirSync(path.join(folder, 'deep'))
    fs.writeFileSync(path.join(folder, 'deep/é.txt'), 'é')
  }, 'modes')
  execFileSync('git', ['clone', '-q', '--bare', bares.one, bares.two])
  clones.two = new Clone(bares.two)
  const servers = { one: await httpBackend(roots.one, '127.0.0.2', secrets.one), two: await dulwich(roots.two, '127.0.0.3', secrets.two) }
  await start({}, Object.values(servers).flatMap(({ host }) => ['--session-network-allow', host]))
  const team = new Team()
  const b = team.b = await branch()
  team.people = []
  for (const name of names) team.people.push(await session(b, name, 'write', who(name)))
  const [ann, bob, cat] = team.people
  await git('POST', b, ann, 'init')
  for (const s of team.people) {
    for (const [server, { host }] of Object.entries(servers)) {
      await give(b, s, host, s.id, secrets[server][s.id])
      await remote(b, s, `http://${host}/${s.id}/team.git`, `${server}-${s.id}`)
    }
  }
  await does(b, ann, 'pull', { remote: 'one-ann', branch: 'main' })
  for (const name of ['a.txt', 'crlf.txt', 'run.sh', 'new.txt', 'one.txt', 'two.txt']) await team.open(name)
  // A new file, which somebody begins; and what a shell makes.
  team.editors['new.txt'][1].text.insert(0, numbered(1, 400))
  await eventually('begun', () => team.editors['new.txt'].every((one) => one.text.toString() === numbered(1, 400)))
  await said(b, cat, 'printf "#!/bin/sh\\n" > tool.sh && chmod +x tool.sh && ln -s ../a.txt deep/link')

  const rounds = Number(process.env.PERCH_ROUNDS ?? 4)
  team.goes = true
  const all = names.map((_, n) => team.typing(n))
  const outside = { one: [], two: [] }
  const outsider = async (server) => {
    for (let n = 0; team.goes; n++) {
      const one = token('else')
      const shared = server === 'one' ? 'a.txt' : 'crlf.txt'
      const [name, place] = n % 2 && team.left(shared).length > 10 ? [shared, team.place(shared)] : [`${server}.txt`, server]
      await clones[server].push((folder) => behind(path.join(folder, name), place, one))
      outside[server].push([one, name])
      await sleep(700)
    }
  }
  all.push(outsider('one'), outsider('two'))
  const watched = Promise.all(all)
  for (let round = 0; round < rounds; round++) {
    await Promise.race([watched, Promise.all(names.map((_, n) => team.round(n, round)))])
  }
  team.goes = false
  await watched
  await team.settle()
  // Everybody has been at both servers, whatever the rounds came to.
  for (let n = 0; n < 3; n++) {
    team.type(n)
    team.type((n + 1) % 3)
    await team.settle(n)
  }
  for (const [one, name] of [...outside.one, ...outside.two]) assert.equal(count(fs.readFileSync(path.join(b.files, name), 'utf8'), one), 1, `${one} came`)
  assert.ok(allThere(team.all()), 'nobody was sent away')

  // Right after a pull: lines of commits are theirs, what was typed while git was at it is of who typed it.
  const [pulled, back] = [token('else'), token('else')]
  await clones.one.push((folder) => {
    behind(path.join(folder, 'a.txt'), team.place('a.txt'), pulled)
    behind(path.join(folder, 'crlf.txt'), team.place('crlf.txt'), back)
  })
  const { going } = await begun(b, () => team.pull(0, 'one', 'ff_only'))
  const now = [team.type(1, 'a.txt'), team.type(2, 'a.txt'), team.type(0, 'crlf.txt'), team.type(1, 'new.txt')]
  const { outcome } = await going
  assert.equal(outcome, 'fast_forward')
  const blames = {}
  for (const name of team.files) blames[name] = await git('GET', b, team.people[1], `blame?path=${name}&uncommitted=1`)
  await team.atRest()
  const texts = Object.fromEntries(team.files.map((name) => [name, fs.readFileSync(path.join(b.files, name), 'utf8').split(/\r?\n/)]))
  await team.settle(1)
  await check(team, { bares, blames, texts, now, pulled: [pulled, back] })

  // Whose requests they were.
  for (const [server, { seen }] of Object.entries(servers)) {
    assert.deepEqual(seen.filter(({ user, path }) => !path.startsWith(`/${user}/team.git/`)), [])
    for (const user of names) {
      for (const service of ['git-upload-pack', 'git-receive-pack']) assert.ok(seen.some((one) => one.user === user && one.service === service), `${user} ${service} at ${server}`)
    }
  }
  // No token anywhere; what is in the open is found, in packs too.
  const words = names.flatMap((name) => Object.values(secrets).flatMap((of) => [of[name], btoa(`${name}:${of[name]}`)]))
  for (const folder of [...Object.values(bares), b.files]) {
    const found = libgit2(folder, 'holds', ...words, pulled)
    assert.deepEqual(found.filter(([, word]) => word !== pulled), [])
    assert.ok(found.length > 0, 'the control')
  }
  assert.deepEqual(await holders(data, words), [])
  assert.deepEqual(await holders(roots.one, words), [])
  assert.deepEqual(await holders(roots.two, words), [])
  assert.notDeepEqual(await holders(data, [pulled]), [], 'the control')
  console.log(`typed: ${team.typed.size}, erased: ${team.erased.size}, ${Object.entries(team.did).map(([what, number]) => `${what}: ${number}`).join(', ')}`)
  for (const server of Object.values(servers)) server.stop()
}
/** Files beneath a folder that hold one of the words. */
async function holders(folder, words) {
  const { stdout } = await execute('grep', ['-rlaF', ...words.flatMap((word) => ['-e', word]), folder]).catch((error) => {
    if (error.code !== 1) throw error
    return { stdout: '' }
  })
  return stdout.split('\n').filter(Boolean)
}
/** What was pushed, as libgit2 reads it. */
async function check(team, { bares, blames, texts, now, pulled }) {
  const { b } = team
  const log = libgit2(bares.one, 'log', 'main')
  assert.deepEqual(libgit2(bares.two, 'log', 'main'), log, 'both servers have the same')
  const marks = libgit2(bares.one, 'marks', 'main', '<[a-z]+[0-9]+>')
  /** The commit that each token came with. */
  const origin = new Map()
  const trailers = { none: 0, some: 0 }
  for (const { hash, parents, author, committer, co_authors: named } of log) {
    const before = new Set(parents.flatMap((parent) => marks[parent]))
    const added = marks[hash].filter((one) => !before.has(one))
    for (const one of added) {
      assert.ok(!origin.has(one), `${one} came once`)
      origin.set(one, { hash, author })
    }
    assert.deepEqual([author.name, author.email], [committer.name, committer.email])
    if (['Seed', 'Else'].includes(author.name)) {
      assert.deepEqual([named, team.made.has(hash)], [[], false])
      assert.ok(added.every((one) => one.startsWith('<else')), `${added}`)
      continue
    }
    const made = team.made.get(hash)
    assert.deepEqual([author.name, author.email], Object.values(who(made.by)), hash)
    if (parents.length > 1) assert.deepEqual(added, [], 'a merge has nothing of its own')
    // Somebody's typing that was taken away between staging and commit names nobody, and where it was just then, maybe.
    const by = (tokens) => new Set(tokens.map((one) => team.typed.get(one).by).filter((id) => id !== made.by))
    const all = by(added)
    const sure = by(added.filter((one) => !(team.erased.get(one) < made.at)))
    // The first lines of the new file.
    if (parents.length === 1 && made.by !== 'bob' && plain(bares.one, 'diff', '--name-status', parents[0], hash).includes('A\tnew.txt')) for (const set of [all, sure]) set.add('bob')
    const ids = made.named.map((email) => email.split('@')[0])
    assert.deepEqual(named.toSorted(), ids.map((id) => `${who(id).name} <${id}@example.org>`).sort(), 'as the answer said')
    assert.ok(ids.every((id) => all.has(id)) && [...sure].every((id) => ids.includes(id)), `${hash} by ${made.by} names ${ids}: ${added}`)
    if (sure.size < all.size) console.log(`${hash}: ${added} is of ${[...all]}, names ${ids}`)
    trailers[ids.length > 0 ? 'some' : 'none']++
  }
  assert.deepEqual([...team.made.keys()].filter((hash) => !marks[hash]), [], 'each commit was pushed')
  assert.ok(trailers.some > 3, JSON.stringify(trailers))

  // As on disk: bytes, modes, links.
  const disk = {}
  const walk = (folder) => {
    for (const name of fs.readdirSync(path.join(b.files, folder))) {
      const file = path.join(folder, name)
      const stat = fs.lstatSync(path.join(b.files, file))
      const full = path.join(b.files, file)
      if (stat.isDirectory()) name !== '.git' && walk(file)
      else if (stat.isSymbolicLink()) disk[file] = ['120000', fs.readlinkSync(full, 'base64')]
      else disk[file] = [stat.mode & 0o100 ? '100755' : '100644', fs.readFileSync(full, 'base64')]
    }
  }
  walk('')
  const tree = libgit2(bares.two, 'tree', 'main')
  assert.deepEqual(tree, disk)
  const modes = Object.fromEntries(['a.txt', 'run.sh', 'tool.sh', 'link', 'deep/link', 'deep/é.txt', 'new.txt'].map((name) => [name, tree[name][0]]))
  assert.deepEqual(modes, { 'a.txt': '100644', 'run.sh': '100755', 'tool.sh': '100755', 'link': '120000', 'deep/link': '120000', 'deep/é.txt': '100644', 'new.txt': '100644' })
  for (const [name, [, bytes]] of Object.entries(tree)) {
    const text = Buffer.from(bytes, 'base64').toString()
    if (['crlf.txt', 'two.txt'].includes(name)) assert.equal(text.replaceAll('\r\n', '').search(/[\r\n]/), -1, `${name}: ${shown(text)}`)
    else if (name !== 'odd') assert.equal(text.includes('\r'), false, `${name}: ${shown(text)}`)
  }

  // Of each line whose it was, right after the pull.
  const told = new Set()
  for (const name of team.files) {
    for (const { first, count, commit, typed } of blames[name].ranges) {
      for (const line of texts[name].slice(first - 1, first - 1 + count)) {
        const [one] = /<[a-z]+\d+>/.exec(line) ?? []
        told.add(one)
        if (now.includes(one)) assert.deepEqual([commit, typed.map(({ author }) => author)], [undefined, [team.typed.get(one).by]], line)
        else if (one) assert.deepEqual([commit?.hash, commit?.author.email], [origin.get(one).hash, origin.get(one).author.email], line)
        else assert.ok(commit, `${name}: ${line}`)
      }
    }
  }
  for (const one of [...now, ...pulled]) assert.ok(told.has(one), `${one} is told of`)
  for (const one of pulled) assert.equal(origin.get(one).author.email, 'else@example.org')
}

/**
 * A merge that git refuses touches no open document. It was seen as it took uncommitted work out of the file and put it back: the
 * disk counted as who typed it, and what was deleted just then came again.
 */
export async function git_refused_merge() {
  await start()
  const b = await branch()
  const [ann, bob] = [await session(b, 'ann', 'write', who('ann')), await session(b, 'bob', 'write', who('bob'))]
  await git('POST', b, ann, 'init')
  await said(b, ann, `printf '%s' '${numbered(1, 40)}' > a.txt && git add a.txt && git commit -qm base &&
    git switch -qc theirs && sed -i 's/line 5$/line five/' a.txt && git commit -qam theirs && git switch -q main && echo b > b.txt && git add b.txt && git commit -qm ours`)
  const both = [yClient(ann, 'a.txt'), hClient(bob, 'a.txt')]
  await eventually('synced', () => both.every((one) => one.synced()))
  both.forEach(watch)
  const behindLine = (text, line) => text.toString().indexOf(line) + line.length
  const typed = Array.from({ length: 6 }, () => token('bob'))
  typed.forEach((one, n) => both[1].text.insert(behindLine(both[1].text, `line ${10 + 4 * n}\n`), `${one}\n`))
  await atRest(path.join(b.files, 'a.txt'), both, typed)
  const came = []
  for (const { text } of both) text.observe(({ transaction, changes }) => { if (!transaction.local) came.push(changes.delta) })
  while (typed.length > 1) {
    const { going } = await begun(b, () => call('POST', b, ann, 'merge', { revision: 'theirs' }))
    const gone = typed.pop()
    both[1].text.delete(both[1].text.toString().indexOf(gone), gone.length + 1)
    assert.equal((await going).body.code, 'git_would_overwrite')
    assert.equal(count(await atRest(path.join(b.files, 'a.txt'), both, typed), gone), 0, `${gone} was erased`)
    const { ranges } = await git('GET', b, ann, 'blame?path=a.txt&uncommitted=1')
    assert.deepEqual(ranges.flatMap(({ typed }) => typed?.map(({ author }) => author) ?? []), typed.map(() => 'bob'))
  }
  assert.ok(allThere(both), 'nobody was sent away')
  assert.deepEqual(came.map((delta) => delta.at(-1).delete), Array(5).fill(typed[0].length + 1), 'nothing but what was deleted')
  // Nor one that is opened meanwhile.
  for (const one of both) one.stop()
  for (let n = 0; n < 8; n++) {
    await crash()
    await start()
    const { going } = await begun(b, () => call('POST', b, ann, 'merge', { revision: 'theirs' }))
    await Promise.race([going, sleep(25 * n)])
    const late = yClient(bob, 'a.txt')
    await going
    await eventually('synced', () => late.synced())
    const { ranges } = await git('GET', b, ann, 'blame?path=a.txt&uncommitted=1')
    assert.deepEqual(ranges.flatMap(({ typed }) => typed?.map(({ author }) => author) ?? []), ['bob'], `${25 * n} ms`)
    late.stop()
  }
  const made = await git('POST', b, ann, 'commit', { message: 'typed', all: true })
  assert.deepEqual(made.co_authors.map(({ session }) => session), ['bob'])
}

/**
 * As `git_random`, with a server that an outside clone pushes into, and with what the API takes away: files and single
 * hunks are discarded, `main` of the server is pulled in each way, also into a conflict, which is aborted or solved.
 */
class PullPlan extends GitPlan {
  constructor(number, server, root, args) {
    super()
    Object.assign(this, { server, args, bare: path.join(root, `plan-${number}.git`), outsiders: [] })
  }
  async found() {
    repository(this.bare, { 'a.txt': numbered(1, 2000) })
    this.clone = new Clone(this.bare)
    const b = await branch()
    const people = []
    for (const name of ['ann', 'bob', 'cid']) people.push(await session(b, name, 'write', who(name)))
    Object.assign(this, { b, people })
    assert.equal((await api('POST', route(b, 'init'), undefined, as(people[0]))).status, 204)
    await remote(b, people[0], `http://${this.server.host}/${path.basename(this.bare)}`)
    await this.giveTokens()
    await does(b, people[0], 'pull')
    // The newest one is not from before that.
    await git('POST', b, people[0], 'restore-points', { label: 'plan' })
    return { b, people }
  }
  async giveTokens() {
    for (const s of this.people) await give(this.b, s, this.server.host, s.id, this.server.tokens[s.id])
  }
  async again() {
    await start({}, this.args)
    // They were in memory.
    await this.giveTokens()
    await this.back()
  }
  text(revision) { return plain(this.b.files, 'show', `${revision}:a.txt`) }
  /** Somebody elsewhere commits a line and pushes it. */
  async outside(place = this.place()) {
    const one = token('g')
    await this.clone.push((folder) => behind(path.join(folder, 'a.txt'), `line ${place}`, one), one)
    this.outsiders.push(one)
  }
  /** A rebase would make merges that are not at the server yet anew, without what was solved in them. */
  how() {
    const merges = plain(this.b.files, 'rev-list', '--merges', 'HEAD', '^refs/remotes/origin/main')
    return pick(merges === '' ? ['ff_only', 'merge', 'merge', 'rebase', 'rebase', 'rebase'] : ['ff_only', 'merge', 'merge', 'merge'])
  }
  async pull() {
    await this.settle()
    if (whole(5)) await commitAll(this.b, this.people[0])
    if (whole(4)) await this.outside()
    const how = this.how()
    this.done.push(how)
    const mark = this.tokens.length
    const meanwhile = whole(3) ? undefined : this.outside()
    const { done, error, refused } = await this.during(() => follow(this.b, this.who, 'pull', { branch: 'main', how }))
    await meanwhile
    if (!done) {
      const { code } = error ?? refused
      assert.ok([...(how === 'ff_only' ? ['git_diverged'] : []), 'git_would_overwrite'].includes(code), JSON.stringify(error ?? refused))
      return
    }
    assert.notEqual(done.outcome, 'conflict')
    if (done.outcome === 'up_to_date') return
    this.pulls = (this.pulls ?? 0) + 1
    this.isMerged(await atRest(this.file, this.editors, []), done.from, this.tokens.slice(mark))
  }
  /** What came out is what git makes of the three files, and what was typed since. */
  isMerged(text, from, typed) {
    const theirs = 'refs/remotes/origin/main'
    const [base, ...more] = plain(this.b.files, 'merge-base', '--all', from, theirs).trim().split('\n')
    if (more.length > 0) return
    this.compared = (this.compared ?? 0) + 1
    const merged = mergeFile(this.text(from), this.text(base), this.text(theirs))
    assert.equal(this.text('HEAD'), merged, 'committed as git merges it')
    assert.equal(typed.reduce((text, one) => text.replace(`${one}\n`, ''), text), merged, 'as git merges it')
  }
  async push() {
    const { done, error } = await follow(this.b, this.who, 'push', { branch: 'main' })
    assert.ok(done || error.code === 'git_push_rejected', JSON.stringify(error))
  }
  /** Both sides type behind the same line. */
  async conflict() {
    await this.settle()
    await commitAll(this.b, this.people[0])
    const place = this.place()
    this.type(this.tokens, place)
    await this.settle()
    await commitAll(this.b, this.people[0])
    await this.outside(place)
    const how = this.how() === 'rebase' ? 'rebase' : 'merge'
    for (let abort = whole(2); ; abort = 0) {
      this.done.push(how)
      const before = fs.readFileSync(this.file, 'utf8')
      const typed = []
      const { going } = await begun(this.b, () => follow(this.b, this.who, 'pull', { branch: 'main', how }))
      for (let n = whole(3); n > 0; n--) this.type(typed)
      const { done, error } = await going
      assert.equal(done?.outcome, 'conflict', JSON.stringify(error ?? done))
      await eventually('markers', () => this.editors.every((one) => one.text.toString().includes('<<<<<<<')))
      for (let n = whole(3); n > 0; n--) this.type(typed)
      await this.settle()
      if (whole(3) === 0) {
        this.done.push('killed')
        await crash()
        await this.again()
      }
      this.tokens.push(...typed)
      if (!abort) break
      this.done.push('abort')
      const after = []
      const { going: aborting } = await begun(this.b, () => call('POST', this.b, this.who, 'operation/abort'))
      for (let n = whole(3); n > 0; n--) this.type(after)
      const answer = await aborting
      assert.ok(answer.ok, answer.text)
      this.tokens.push(...after)
      const text = await atRest(this.file, this.editors, [...typed, ...after])
      assert.equal([...typed, ...after].reduce((text, one) => text.replace(`${one}\n`, ''), text), before, 'aborted')
      await commitAll(this.b, this.people[0])
    }
    for (;;) {
      this.done.push('solve')
      this.solve()
      await this.settle()
      await git('POST', this.b, this.who, 'resolved', { paths: ['a.txt'] })
      const { going } = await begun(this.b, () => call('POST', this.b, this.who, 'operation/continue'))
      for (let n = whole(3); n > 0; n--) this.type()
      const answer = await going
      assert.ok(answer.ok, answer.text)
      await this.settle()
      if (answer.body.outcome !== 'conflict') break
      await eventually('markers', () => this.editors.every((one) => one.text.toString().includes('<<<<<<<')))
    }
    this.conflicts = (this.conflicts ?? 0) + 1
  }
  /** Both sides stay. */
  solve() {
    const n = whole(this.editors.length)
    const editor = this.editors[n]
    editor.doc.transact(() => {
      for (const found of [...editor.text.toString().matchAll(/^<<<<<<< .*\n([^]*?)^=======\n([^]*?)^>>>>>>> .*\n/gm)].reverse()) {
        const ours = found[1].split('\n').slice(0, -1)
        const theirs = found[2].split('\n').slice(0, -1).filter((line) => !ours.includes(line))
        // Whoever solves it types both sides anew.
        for (const line of [...ours, ...theirs]) this.by.get(line)?.push(this.people[n].id)
        editor.text.delete(found.index, found[0].length)
        editor.text.insert(found.index, [...ours, ...theirs].map((line) => `${line}\n`).join(''))
      }
    })
  }
  /** What is taken away is in the restore point; gives what went, and what came of the request. */
  async takenAway(ask) {
    const here = fs.readFileSync(this.file, 'utf8')
    const mark = this.tokens.length
    const answer = await this.during(ask)
    const there = await atRest(this.file, this.editors, [])
    const gone = this.tokens.filter((one, n) => (n >= mark || count(here, one) > 0) && count(there, one) === 0)
    if (gone.length > 0) {
      assert.ok(answer.ok, `${answer.text}, and ${gone} are gone`)
      const [point] = (await git('GET', this.b, this.people[0], 'restore-points')).restore_points
      assert.equal(point.label, 'before discard')
      const kept = this.text(point.commit)
      for (const one of gone) assert.equal(count(kept, one), 1, `${one} is in the restore point`)
    }
    this.maybe.push(...gone)
    this.tokens = this.tokens.filter((one) => !gone.includes(one))
    return { gone, there, here, answer }
  }
  async discardFile() {
    if (whole(2)) this.type()
    await this.settle()
    const staged = this.text('')
    const { there, here, answer } = await this.takenAway(() => call('POST', this.b, this.who, 'discard', pick([{ paths: ['a.txt'] }, { all: true }])))
    assert.ok(answer.ok, answer.text)
    const lines = here.split('\n').filter((line) => line.startsWith('<') && count(staged, line) === 0)
    for (const one of lines) assert.equal(count(there, one), 0, `${one} was discarded`)
  }
  async discardHunk() {
    for (let n = 1 + whole(3); n > 0; n--) this.type()
    await this.settle()
    const [file] = (await git('GET', this.b, this.who, `diff?path=a.txt&context=${1 + whole(3)}`)).files
    const hunk = pick(file.hunks)
    const added = JSON.stringify(hunk.lines)
    const { gone, there, answer } = await this.takenAway(() => call('POST', this.b, this.who, 'discard', { path: 'a.txt', hunks: [hunk.id] }))
    assert.ok(answer.ok || answer.body.code === 'git_hunk_changed', answer.text)
    for (const one of gone) assert.ok(added.includes(one), `${one} was not in the hunk`)
    if (answer.ok) for (const one of added.match(/<g\d+>/g)) assert.equal(count(there, one), 0, `${one} was discarded`)
    this.hunks = (this.hunks ?? 0) + (answer.ok ? 1 : 0)
  }
  async victim() {
    if (whole(3) > 0) return super.victim()
    await this.outside()
    return this.over('pull', { branch: 'main', how: this.how() })
  }
  get steps() { return 45 }
  get deeds() {
    return [...super.deeds, [12, 'pull'], [4, 'push'], [2, 'outside'], [2, 'conflict'], [2, 'discardFile'], [3, 'discardHunk'], [1, 'crash']]
  }
  async check() {
    await this.settle()
    await commitAll(this.b, this.people[0])
    const { from, outcome } = await does(this.b, this.people[0], 'pull', { branch: 'main', how: 'merge' })
    assert.notEqual(outcome, 'conflict')
    if (outcome !== 'up_to_date') this.isMerged(await atRest(this.file, this.editors, []), from, [])
    this.tokens.push(...this.outsiders)
    await super.check()
    console.log(`${this.pulls ?? 0} pulls, ${this.compared ?? 0} compared, ${this.conflicts ?? 0} conflicts, ${this.hunks ?? 0} hunks: ${this.done.join(' ')}`)
  }
}

/** Random plans with a server. */
export async function git_random_pull() {
  const root = path.join(temp, 'served')
  const server = await httpBackend(root, '127.0.0.2', Object.fromEntries(['ann', 'bob', 'cid'].map((name) => [name, secret(name)])))
  const args = ['--session-network-allow', server.host]
  await start({}, args)
  await runPlans((number) => new PullPlan(number, server, root, args))
  server.stop()
}
