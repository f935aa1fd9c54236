// Remotes: fetched from, pulled and pushed to, with each session's own token.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import crypto from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import * as harness from '../harness.mjs'
import { api, branch, count, data, eventually, session, sleep, start, temp, url, yClient } from '../harness.mjs'
import { alive, as, run, said } from '../exec.mjs'
import { commitTo, dulwich, git as plain, httpBackend, overSsh, repository } from '../git_server.mjs'

const who = (name) => ({ name: name[0].toUpperCase() + name.slice(1), email: `${name}@example.org` })
const secret = (who) => `t0ken-${who}-${crypto.randomBytes(12).toString('hex')}`
const route = (b, what) => `/v1/branches/${b.id}/git/${what}`
const tokens = (b, s) => `/v1/branches/${b.id}/sessions/${s.id}/git-credentials`

/** Asks for what answers at once; gives the status and what came. */
async function ask(method, where, s, body) {
  const answer = await api(method, where, body, as(s))
  const text = await answer.text()
  return { status: answer.status, ...(text && JSON.parse(text)) }
}
/** More than what git unpacks one by one. */
const large = () => ({
  'a.txt': 'one\n', large: crypto.randomBytes(3_000_000), ...Object.fromEntries(Array.from({ length: 150 }, (_, n) => [`f${n}`, `${n}`]))
})
const remote = async (b, s, address, name = 'origin') => assert.equal((await ask('PUT', route(b, `remotes/${name}`), s, { url: address })).status, 200)
const give = async (b, s, host, username, token, more = {}) =>
  assert.equal((await ask('PUT', tokens(b, s), s, { protocol: 'http', host, username, token, ...more })).status, 204)
/** Asks for what answers with lines; gives them, and the last one's member. */
async function follow(b, s, what, body = {}, { signal, each = () => {} } = {}) {
  const answer = await fetch(url + route(b, what), {
    method: 'POST', signal, headers: { 'content-type': 'application/json', ...as(s) }, body: JSON.stringify(body)
  })
  if (answer.status !== 200) return { lines: [], refused: await answer.json() }
  const lines = []
  let rest = ''
  for await (const text of answer.body.pipeThrough(new TextDecoderStream())) {
    const whole = (rest + text).split('\n')
    rest = whole.pop()
    for (const line of whole.map((one) => JSON.parse(one))) {
      lines.push(line)
      each(line)
    }
  }
  assert.equal(rest, '')
  const at = Date.now()
  assert.ok(lines.at(-1).done || lines.at(-1).error, JSON.stringify(lines))
  assert.ok(lines.slice(0, -1).every((line) => line.progress || line.remote), JSON.stringify(lines))
  return { lines, at, ...lines.at(-1) }
}
async function does(b, s, what, body) {
  const { done, error, refused } = await follow(b, s, what, body)
  assert.ok(done, `${what}: ${JSON.stringify(error ?? refused)}`)
  return done
}
async function fails(b, s, what, body, code) {
  const { error, refused } = await follow(b, s, what, body)
  assert.equal((error ?? refused)?.code, code, `${what}: ${JSON.stringify(error ?? refused)}`)
  return error ?? refused
}
/** A commit of a file, as a session. */
async function commit(b, s, file, content, message = `${s.id} ${file}`) {
  await said(b, s, { argv: ['sh', '-c', 'printf %s "$1" > "$2" && git add "$2"', 'sh', content, file] })
  const { commit: made, code } = await ask('POST', route(b, 'commit'), s, { message })
  assert.ok(made, code)
  return made
}

/** Two servers; two people on one branch, who fetch, pull and push at the same time, each as themselves. */
export async function git_remotes() {
  const root = path.join(temp, 'served')
  const bare = repository(path.join(root, 'team.git'))
  const [annToken, bobToken] = [secret('ann'), secret('bob')]
  const first = await httpBackend(root, '127.0.0.2', { ann: annToken, bob: bobToken })
  const other = await dulwich(root, '127.0.0.3', { ann: annToken, bob: bobToken })
  await start({}, ['--session-network-allow', first.host, '--session-network-allow', other.host])
  for (const server of [first, other]) {
    const b = await branch()
    const given = [{ protocol: 'http', host: server.host, username: 'ann', token: annToken }]
    // One gets hers from the embedder's server, one gives his himself.
    const ann = await session(b, 'ann', 'write', { ...who('ann'), git_credentials: given })
    const bob = await session(b, 'bob', 'write', who('bob'))
    const eve = await session(b, 'eve', 'read')
    await give(b, bob, server.host, 'bob', bobToken)
    assert.deepEqual((await ask('GET', tokens(b, ann), ann)).credentials, [{ protocol: 'http', host: server.host, username: 'ann' }])
    assert.equal((await ask('GET', route(b, 'remotes'), ann)).code, 'git_no_repository')
    assert.equal((await api('POST', route(b, 'init'), undefined, as(ann))).status, 204)
    assert.deepEqual((await ask('GET', route(b, 'remotes'), eve)).remotes, [])
    await fails(b, ann, 'fetch', {}, 'git_unknown_revision')
    const address = `http://${server.host}/team.git`
    await remote(b, ann, address)
    assert.deepEqual((await ask('GET', route(b, 'remotes'), eve)).remotes, [{ name: 'origin', url: address, push_url: null, is_usable: true }])
    assert.equal((await fails(b, eve, 'fetch', {}, 'forbidden')).status, 403)
    // A first pull into a repository that has nothing yet.
    const { from, to, updates } = await does(b, ann, 'pull')
    const tip = plain(bare, 'rev-parse', 'main').trim()
    assert.deepEqual([from, to], [null, tip])
    assert.ok(updates.some((one) => one.name === 'refs/remotes/origin/main' && one.to === tip))
    assert.ok(server.seen.length > 0 && server.seen.every(({ user }) => user === 'ann'), JSON.stringify(server.seen))
    assert.deepEqual(await does(b, ann, 'fetch'), { remote: 'origin', updates: [], count: 0 })

    // Both push at once, each a branch of their own, again and again: nobody goes as the other.
    await said(b, ann, 'git branch ann && git branch bob')
    server.seen.length = 0
    for (let n = 0; n < 3; n++) {
      const mine = await Promise.all([
        said(b, ann, `git commit-tree -p ann -m "ann ${n}" "ann^{tree}" | xargs git update-ref refs/heads/ann; git rev-parse ann`),
        said(b, bob, `git commit-tree -p bob -m "bob ${n}" "bob^{tree}" | xargs git update-ref refs/heads/bob; git rev-parse bob`)
      ])
      const [one, two] = await Promise.all([does(b, ann, 'push', { branch: 'ann' }), does(b, bob, 'push', { branch: 'bob' })])
      assert.deepEqual([one.pushed, two.pushed], [['refs/heads/ann'], ['refs/heads/bob']])
      assert.deepEqual([one.commit, two.commit], mine.map((id) => id.trim()))
      await Promise.all([does(b, bob, 'fetch'), does(b, ann, 'fetch', { prune: true })])
    }
    const pushes = server.seen.filter(({ service }) => service === 'git-receive-pack').map(({ user }) => user)
    assert.deepEqual(pushes.toSorted(), ['ann', 'ann', 'ann', 'bob', 'bob', 'bob'], JSON.stringify(server.seen))
    assert.equal(plain(bare, 'log', '--format=%an %ae', '-3', 'ann'), 'Ann ann@example.org\n'.repeat(3))
    assert.equal(plain(bare, 'log', '--format=%an %ae', '-3', 'bob'), 'Bob bob@example.org\n'.repeat(3))
    assert.deepEqual((await does(b, ann, 'push', { branch: 'ann' })).pushed, [])

    // Set as upstream; status knows where it stands.
    await commit(b, ann, 'ann.txt', 'by ann\n')
    await does(b, ann, 'push', { set_upstream: true })
    const { head } = await ask('GET', route(b, 'status'), bob)
    assert.deepEqual([head.upstream, head.ahead, head.behind], ['origin/main', 0, 0])

    // Somebody else was faster.
    const theirs = commitTo(bare, 'else.txt', 'by somebody else\n')
    const own = await commit(b, bob, 'bob.txt', 'by bob\n')
    assert.equal((await fails(b, bob, 'push', {}, 'git_push_rejected')).status, 409)
    await fails(b, bob, 'pull', {}, 'git_diverged')
    assert.equal((await said(b, bob, 'git rev-parse HEAD origin/main')), `${own}\n${theirs}\n`, 'it was fetched, and nothing else')
    const merged = await does(b, bob, 'pull', { how: 'merge' })
    assert.equal(merged.from, own)
    assert.equal(await said(b, bob, 'git log -1 --format="%an %ae|%cn|%P|%s"'), `Bob bob@example.org|Bob|${own} ${theirs}|Merge branch 'main' of ${address}\n`)
    await does(b, bob, 'push')

    // Rebased: commits keep their authors, and the committer is who did it.
    const before = commitTo(bare, 'else.txt', 'again\n')
    await commit(b, ann, 'ann.txt', 'by ann again\n')
    const rebased = await does(b, bob, 'pull', { how: 'rebase' })
    assert.equal(await said(b, bob, 'git log -1 --format="%an|%cn|%P"'), `Ann|Bob|${before}\n`)
    assert.equal(await said(b, bob, 'git status --porcelain'), '')
    // Forced with a lease only on what is there.
    await does(b, ann, 'push')
    const amended = (await said(b, ann, 'git commit -q --amend -m amended && git rev-parse HEAD')).trim()
    await fails(b, ann, 'push', {}, 'git_push_rejected')
    await fails(b, ann, 'push', { force_with_lease: before }, 'git_push_rejected')
    assert.equal((await fails(b, ann, 'push', { force_with_lease: 'HEAD' }, 'bad_request')).status, 400)
    await does(b, ann, 'push', { force_with_lease: rebased.to })
    assert.equal(plain(bare, 'rev-parse', 'main').trim(), amended)

    // Open editors stay, and get what came; what was typed is not lost.
    const editor = yClient(ann, 'a.txt')
    await eventually('synced', () => editor.synced())
    commitTo(bare, 'a.txt', 'zero\none\n')
    await does(b, bob, 'pull')
    await eventually('pulled', () => editor.text.toString() === 'zero\none\n')
    editor.text.insert(0, 'typed\n')
    commitTo(bare, 'a.txt', 'zero\nhalf\none\n')
    const { files } = await fails(b, bob, 'pull', {}, 'git_would_overwrite')
    assert.deepEqual(files, ['a.txt'])
    assert.equal(editor.text.toString(), 'typed\nzero\none\n')
    await said(b, ann, 'git add a.txt')
    assert.ok((await ask('POST', route(b, 'commit'), ann, { message: 'typed' })).commit)
    commitTo(bare, 'a.txt', 'other\nhalf\none\n')
    // A conflict leaves its markers to everybody.
    const stopped = await does(b, ann, 'pull', { how: 'merge' })
    assert.deepEqual([stopped.outcome, stopped.conflicts.map(({ path }) => path)], ['conflict', ['a.txt']])
    await eventually('markers', () => /<<<<<<< HEAD[^]*>>>>>>>/.test(editor.text.toString()))
    await fails(b, bob, 'pull', { how: 'merge' }, 'git_under_way')
    await said(b, ann, 'git merge --abort')
    editor.stop()

    // Tags, and what is gone at the remote.
    await said(b, ann, 'git tag v1 && git tag -a -m two v2')
    assert.deepEqual((await does(b, ann, 'push', { branch: 'ann', tags: true })).pushed.toSorted(), ['refs/tags/v1', 'refs/tags/v2'])
    plain(bare, 'tag', 'v3', 'main')
    plain(bare, 'branch', '-D', 'bob')
    const names = (await does(b, bob, 'fetch')).updates.map((one) => one.name)
    assert.deepEqual(names.filter((name) => name.startsWith('refs/tags')), ['refs/tags/v3'])
    assert.deepEqual((await does(b, bob, 'fetch', { prune: true })).updates.map((one) => [one.name, one.to]), [['refs/remotes/origin/bob', null]])
    assert.equal((await run(b, bob, 'git rev-parse -q --verify origin/bob')).exit.code, 1)
    await fails(b, bob, 'push', { branch: 'nowhere' }, 'git_unknown_revision')
    await fails(b, bob, 'pull', { branch: 'nowhere' }, 'git_unknown_revision')
    await said(b, ann, 'git checkout -q --detach')
    await fails(b, bob, 'pull', {}, 'git_detached')
    await remote(b, ann, `http://${server.host}/nothing.git`, 'lost')
    await fails(b, ann, 'fetch', { remote: 'lost' }, 'git_remote_not_found')
    // Nothing is left of what talked to remotes.
    await eventually('swept', async () => !(await said(b, ann, 'ls -a ~/.private')).includes('.git-remote'))
    assert.equal((await ask('DELETE', route(b, 'remotes/lost'), ann)).status, 204)
    assert.equal((await ask('DELETE', route(b, 'remotes/lost'), ann)).code, 'git_unknown_revision')
    for (const bad of [
      `http://ann:${annToken}@${server.host}/x`, `http://ann@${server.host}/x`, 'ext::sh -c id', 'file:///etc', '/etc', '--upload-pack=id',
      'ssh://-oProxyCommand=id/x', 'git://h/x', 'http://h/x\n', 'a@-h:x'
    ]) {
      const refused = await ask('PUT', route(b, 'remotes/bad'), ann, { url: bad })
      assert.deepEqual([refused.status, refused.code], [400, 'git_url_refused'], bad)
      assert.ok(!JSON.stringify(refused).includes(annToken))
    }
    for (const bad of ['-x', 'a..b', 'a%2fb', 'a%0ab']) {
      assert.equal((await ask('PUT', route(b, `remotes/${bad}`), ann, { url: address })).status, 400, bad)
    }
    await api('DELETE', `/v1/branches/${b.id}?confirm=${b.id}`)
    fs.rmSync(bare, { recursive: true })
    repository(bare)
  }
  first.stop()
  other.stop()
}

/** No token, a wrong one, one that expires and is refreshed; and all who would like to have it. */
export async function git_credentials() {
  const root = path.join(temp, 'served')
  repository(path.join(root, 'team.git'), large())
  repository(path.join(root, 'other.git'))
  const token = secret('ann')
  const server = await httpBackend(root, '127.0.0.2', { ann: token })
  /** Whoever asks here wants a token, and none must come. */
  const thief = await httpBackend(root, '127.0.0.3', {})
  const lure = await httpBackend(root, '127.0.0.4', {}, (request, response) => {
    response.writeHead(302, { location: `http://${thief.host}${request.url}` }).end()
    return true
  })
  // Takes the token first, and sends away then.
  const late = await httpBackend(root, '127.0.0.5', {}, (request, response) => {
    if (!request.headers.authorization) return false
    response.writeHead(307, { location: `http://${thief.host}${request.url}` }).end()
    return true
  })
  await start({}, [server, thief, lure, late].flatMap((one) => ['--session-network-allow', one.host]))
  const b = await branch()
  const [ann, bob, eve, other] = [await session(b, 'ann'), await session(b, 'bob'), await session(b, 'eve', 'read'), await branch({ name: 'other' })]
  const far = await session(other, 'ann')
  for (const [where, s] of [[b, ann], [other, far]]) {
    assert.equal((await api('POST', route(where, 'init'), undefined, as(s))).status, 204)
    await remote(where, s, `http://${server.host}/team.git`)
  }
  await fails(b, ann, 'fetch', {}, 'git_credentials_missing')
  await give(b, ann, server.host, 'ann', 'wrong-one')
  const { detail } = await fails(b, ann, 'fetch', {}, 'git_credentials_refused')
  assert.ok(!detail.includes('wrong-one') && !detail.includes(btoa('ann:wrong-one')), detail)
  await give(b, ann, server.host.toUpperCase(), 'ann', token)
  assert.equal((await ask('GET', tokens(b, ann), ann)).credentials.length, 1, 'put again is put in its place')
  await does(b, ann, 'pull')
  // It expires, and is refreshed.
  const next = secret('ann')
  server.tokens.ann = next
  await fails(b, ann, 'fetch', {}, 'git_credentials_refused')
  await give(b, ann, server.host, 'ann', next)
  await does(b, ann, 'fetch')

  // Refreshed while a fetch is under way: that one ends well, and the next has the new one.
  server.pause = 100
  await said(b, ann, 'rm -rf .git')
  assert.equal((await api('POST', route(b, 'init'), undefined, as(ann))).status, 204)
  await remote(b, ann, `http://${server.host}/team.git`)
  let refreshed, others
  const last = secret('ann')
  const slow = await follow(b, ann, 'fetch', {}, { each: ({ progress }) => {
    if (/receiving|unpacking/.test(progress?.phase)) refreshed ??= give(b, ann, server.host, 'ann', last).then(() => { server.tokens.ann = last })
    // Nobody is held up: this one needs the turn to change the branch.
    if (/receiving/.test(progress?.phase)) others ??= api('POST', route(b, 'init'), undefined, as(bob)).then(() => Date.now())
  } })
  assert.ok(slow.done, JSON.stringify(slow.error))
  const received = slow.lines.filter(({ progress }) => /receiving|unpacking/.test(progress?.phase))
  assert.ok(received.length > 3 && received.some(({ progress }) => progress.percent < 100 && progress.total > 100), JSON.stringify(slow.lines))
  assert.ok(await others < slow.at - 500, 'the turn was free')
  await refreshed
  await does(b, ann, 'fetch')
  // Refreshed between the two requests of one fetch, of which the second is refused for that: it is asked again.
  server.pause = 0
  commitTo(path.join(root, 'team.git'), 'between.txt', 'x\n')
  const between = secret('ann')
  server.before = (request, response) => {
    if (request.method !== 'POST' || server.tokens.ann === between) return false
    server.tokens.ann = between
    give(b, ann, server.host, 'ann', between).then(() => server.serve(request, response))
    return true
  }
  assert.equal((await does(b, ann, 'fetch')).count, 1)
  server.before = () => false
  await give(b, ann, server.host, 'ann', last)
  server.tokens.ann = last
  server.pause = 100
  // Hung up: git ends, and what it left too.
  await said(b, ann, 'rm -rf .git')
  assert.equal((await api('POST', route(b, 'init'), undefined, as(ann))).status, 204)
  await remote(b, ann, `http://${server.host}/team.git`)
  const stop = new AbortController()
  const mark = `${server.host}/team.git`
  const cut = follow(b, ann, 'fetch', {}, { signal: stop.signal, each: ({ progress }) => {
    if (!/receiving|unpacking/.test(progress?.phase) || stop.signal.aborted) return
    assert.ok(alive(mark).length > 1, 'git runs')
    stop.abort()
  } })
  await assert.rejects(cut, { name: 'AbortError' })
  await eventually('ended', () => alive(mark).length === 0)
  await eventually('swept', async () => !(await said(b, ann, 'ls -a ~/.private')).includes('.git-remote'))
  assert.equal((await run(b, ann, 'git rev-parse -q --verify origin/main')).exit.code, 1)
  server.pause = 0
  assert.deepEqual((await fails(b, ann, 'pull', {}, 'git_would_overwrite')).files, ['a.txt'])
  await said(b, ann, 'rm -f *')
  await does(b, ann, 'pull')

  // Others have none: another session, the same name elsewhere, another path, host and protocol.
  await fails(b, bob, 'fetch', {}, 'git_credentials_missing')
  await fails(other, far, 'fetch', {}, 'git_credentials_missing')
  for (const [method, s] of [['GET', bob], ['PUT', bob], ['DELETE', bob], ['GET', null], ['PUT', null], ['GET', eve], ['PUT', far]]) {
    const query = method === 'DELETE' ? `?protocol=http&host=${server.host}` : ''
    const body = method === 'PUT' ? { protocol: 'http', host: 'h', username: 'u', token: 't' } : undefined
    const answer = await api(method, tokens(b, ann) + query, body, s ? as(s) : {})
    // Other branches are not there for a session.
    assert.equal(answer.status, s === far ? 404 : 403, `${method} ${s?.id}`)
  }
  assert.equal((await ask('PUT', tokens(b, eve), eve, { protocol: 'http', host: 'h', username: 'u', token: 't' })).status, 403, 'it runs nothing')
  const narrow = { protocol: 'http', host: server.host, username: 'ann', token: last, path: 'team' }
  assert.equal((await ask('PUT', tokens(b, bob), bob, narrow)).status, 204)
  await does(b, bob, 'fetch')
  await remote(b, bob, `http://${server.host}/other.git`, 'other')
  await fails(b, bob, 'fetch', { remote: 'other' }, 'git_credentials_missing')
  await remote(b, bob, `http://${server.host}/team/../other.git`, 'sly')
  await fails(b, bob, 'fetch', { remote: 'sly' }, 'git_credentials_missing')

  // A redirect, before and after the token was asked for.
  for (const [name, { host }] of [['lure', lure], ['late', late]]) {
    await give(b, ann, host, 'ann', last)
    await remote(b, ann, `http://${host}/team.git`, name)
    const { error } = await follow(b, ann, 'fetch', { remote: name })
    assert.ok(error, name)
  }
  assert.ok(late.sent.some((one) => one.startsWith('Basic ')), 'the control: it got the token that is its own')
  // What co-editors write into the configuration.
  const evil = `http://${thief.host}/`
  for (const [name, value] of [
    [`url.${evil}.insteadOf`, `http://${server.host}/`],
    [`url.${evil}.pushInsteadOf`, `http://${server.host}/`],
    ['http.proxy', evil],
    [`http.http://${server.host}/.proxy`, evil],
    [`http.http://${server.host}/.extraHeader`, 'X-Evil: 1'],
    ['remote.origin.proxy', evil],
    ['credential.helper', '!id > /project/workspace/ran; true'],
    [`credential.http://${server.host}.helper`, '!id > /project/workspace/ran; true'],
    ['credential.useHttpPath', 'false'],
    ['core.askPass', '/project/workspace/script'],
    ['core.sshCommand', '/project/workspace/script'],
    ['core.gitProxy', '/project/workspace/script'],
    ['core.fsmonitor', '/project/workspace/script'],
    ['core.hooksPath', '/project/workspace'],
    ['remote.origin.uploadpack', '/project/workspace/script'],
    ['remote.origin.receivepack', '/project/workspace/script'],
    ['remote.origin.vcs', 'ext'],
    ['branch.main.mergeOptions', '-F /run/perch/private/.perch/git-credentials'],
    ['include.path', '/project/workspace/more']
  ]) await said(b, bob, { argv: ['git', 'config', name, value] })
  const script = '#!/bin/sh\necho "$0 $@" >> /project/workspace/ran\ncat >> /project/workspace/ran\n'
  for (const name of ['script', 'pre-push', 'post-merge', 'reference-transaction', 'pre-merge-commit', 'post-checkout', 'post-commit', 'pre-rebase', 'post-rewrite']) {
    for (const folder of [b.files, path.join(b.files, '.git/hooks')]) {
      fs.mkdirSync(folder, { recursive: true })
      fs.writeFileSync(path.join(folder, name), script, { mode: 0o755 })
    }
  }
  fs.writeFileSync(path.join(b.files, 'more'), `[http "http://${server.host}/"]\n\tproxy = ${evil}\n`)
  commitTo(path.join(root, 'team.git'), 'b.txt', 'two\n')
  await api('PATCH', `/v1/branches/${b.id}/sessions/ann`, { email: 'ann@example.org' })
  assert.equal((await does(b, ann, 'pull')).updates.length, 1)
  await said(b, ann, 'git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c user.email=ann@example.org commit -q --allow-empty -m own')
  commitTo(path.join(root, 'team.git'), 'c.txt', 'three\n')
  await does(b, ann, 'pull', { how: 'merge' })
  assert.equal(await said(b, ann, 'git log -1 --format=%s'), `Merge branch 'main' of http://${server.host}/team.git\n`)
  await does(b, ann, 'push', { set_upstream: true })
  assert.ok(!fs.existsSync(path.join(b.files, 'ran')), 'something ran')
  // Whoever sets the remote itself gets what was stored for that place: nothing.
  await said(b, bob, { argv: ['git', 'config', 'remote.origin.url', `${evil}team.git`] })
  await fails(b, ann, 'fetch', {}, 'git_credentials_missing')
  assert.ok(thief.sent.length > 2 && thief.sent.every((one) => one === 'none'), thief.sent.join())
  // A user in a URL that a shell wrote is neither shown nor used.
  await said(b, bob, { argv: ['git', 'config', 'remote.origin.url', `http://bob:pw@${server.host}/team.git`] })
  assert.ok(!JSON.stringify(await ask('GET', route(b, 'remotes'), bob)).includes('pw@'))
  server.sent.length = 0
  await does(b, ann, 'fetch')
  assert.ok(server.sent.every((one) => ['none', `Basic ${btoa(`ann:${last}`)}`].includes(one)), server.sent.join())
  await said(b, bob, { argv: ['git', 'config', 'remote.origin.url', '/project/workspace'] })
  await fails(b, ann, 'fetch', {}, 'git_url_refused')

  // The helper itself answers for what was stored, and gives nothing of it to questions with more lines than one.
  const helper = (question) => said(b, ann, { argv: ['/run/perch/bin/perch', 'git-credential', '/run/perch/private/.perch/git-credentials', 'get'], stdin: question })
  assert.equal(await helper(`protocol=http\nhost=${server.host}\n\n`), `username=ann\npassword=${last}\n`)
  for (const question of [`protocol=https\nhost=${server.host}\n`, `protocol=http\nhost=${thief.host}\n`, `protocol=http\nhost=${server.host}\r\n`, '']) {
    assert.equal(await helper(question), '', question)
  }
  assert.equal((await run(b, ann, 'echo x > /run/perch/bin/perch')).exit.code, 1)
  assert.equal((await run(b, bob, 'cat ~/.private/.perch/git-credentials | grep -c ann')).out, '1\n', 'his own alone')
  // Bounds.
  for (const bad of [{ token: '' }, { token: 'a b' }, { token: 'x'.repeat(2_049) }, { token: 12_345 }, { username: '' }, { host: 'a/b' }, { host: 'a@b' }, { protocol: 'ssh' }, { path: '../x' }]) {
    const refused = await ask('PUT', tokens(b, bob), bob, { protocol: 'https', host: 'h', username: 'u', token: 't', ...bad })
    assert.equal(refused.status, 400, JSON.stringify(bad))
    assert.ok(!refused.detail.includes('12345'), refused.detail)
  }
  for (let n = 0; n < 31; n++) await give(b, bob, `h${n}`, 'u', 't')
  assert.equal((await ask('PUT', tokens(b, bob), bob, { protocol: 'https', host: 'one-more', username: 'u', token: 't' })).code, 'too_many_git_credentials')
  const gone = (query) => api('DELETE', `${tokens(b, bob)}?${query}`, undefined, as(bob))
  assert.equal((await gone(`protocol=http&host=${server.host}`)).status, 404, 'of another path')
  assert.equal((await gone(`protocol=http&host=${server.host}&path=team`)).status, 204)
  await said(b, bob, { argv: ['git', 'config', 'remote.origin.url', `http://${server.host}/team.git`] })
  await fails(b, bob, 'fetch', {}, 'git_credentials_missing')
  // Given anew while many ask, none is lost.
  for (let n = 0; n < 31; n++) assert.equal((await gone(`protocol=http&host=h${n}`)).status, 204)
  await Promise.all(Array.from({ length: 20 }, (_, n) => give(b, bob, `p${n}`, 'u', 't')))
  assert.equal((await ask('GET', tokens(b, bob), bob)).credentials.length, 20)
  for (const refused of [
    { id: 'new', permission: 'read', git_credentials: [{ protocol: 'https', host: 'h', username: 'u', token: last }] },
    { id: 'new', permission: 'write', git_credentials: [{ protocol: 'https', host: 'h', username: 'u', token: `${last}\n` }] },
    { id: 'new', permission: 'write', git_credentials: Array(33).fill(0).map((_, n) => ({ protocol: 'https', host: `h${n}`, username: 'u', token: last })) }
  ]) {
    const answer = await api('POST', `/v1/branches/${b.id}/sessions`, refused)
    assert.ok([400, 409].includes(answer.status))
    assert.ok(!(await answer.text()).includes(last))
  }
  // A repository without its older commits, and one with longer hashes.
  const short = await branch({ name: 'short' })
  const sue = await session(short, 'ann', 'write', { ...who('ann'), git_credentials: [{ protocol: 'http', host: server.host, username: 'ann', token: last }] })
  await said(short, sue, `git clone -q --depth 1 http://ann:${last}@${server.host}/team.git . && git rev-parse --is-shallow-repository`)
  assert.ok(!JSON.stringify(await ask('GET', route(short, 'remotes'), sue)).includes(last))
  commitTo(path.join(root, 'team.git'), 'd.txt', 'four\n')
  assert.equal((await does(short, sue, 'pull')).updates.length, 1)
  await commit(short, sue, 'e.txt', 'five\n')
  assert.deepEqual((await does(short, sue, 'push')).pushed, ['refs/heads/main'])
  assert.equal(await said(short, sue, 'git rev-list --count HEAD; git fsck --no-dangling 2>&1'), '3\n')
  repository(path.join(root, 'long.git'), undefined, 'sha256')
  await said(short, sue, 'rm -rf .git * && git init -q -b main --object-format=sha256')
  await remote(short, sue, `http://${server.host}/long.git`)
  assert.equal((await does(short, sue, 'pull')).to.length, 64)
  await commit(short, sue, 'e.txt', 'five\n')
  assert.deepEqual((await does(short, sue, 'push')).pushed, ['refs/heads/main'])
  // A host that the branch's network has a wall before is no host that refuses a token.
  await remote(b, ann, 'http://127.0.0.9:81/team.git', 'walled')
  assert.match((await fails(b, ann, 'fetch', { remote: 'walled' }, 'git_remote_unreachable')).detail, /--session-network-allow/)
  for (const one of [server, thief, lure, late]) one.stop()
}

/** The same where sandboxes are made without root, and where there are none. */
export async function git_levels() {
  const root = path.join(temp, 'served')
  repository(path.join(root, 'team.git'))
  const token = secret('ann')
  const server = await httpBackend(root, '127.0.0.2', { ann: token })
  const copy = path.join(temp, "it's perch")
  fs.copyFileSync(harness.binary, copy)
  fs.chmodSync(copy, 0o755)
  fs.chmodSync(temp, 0o755)
  for (const [level, within] of [['nested', ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups']], ['none', []]]) {
    const folder = path.join(temp, `data ${level}`)
    fs.mkdirSync(folder)
    if (within.length > 0) fs.chownSync(folder, 65_534, 65_534)
    harness.runIn(within, copy)
    await start({ PERCH_DATA: folder, HOME: folder }, ['--isolation', level, '--session-network-allow', server.host])
    const b = await branch()
    const given = [{ protocol: 'http', host: server.host, username: 'ann', token }]
    const seat = await session(b, 'ann', 'write', { ...who('ann'), git_credentials: given })
    assert.equal(seat.isolation, level)
    // Without sandboxes the owner alone may run something.
    const ann = { id: 'ann', token: harness.owner }
    const as = { session: 'ann' }
    assert.equal((await api('POST', route(b, 'init?session=ann'))).status, 204)
    assert.equal((await ask('PUT', route(b, 'remotes/origin'), ann, { url: `http://${server.host}/team.git`, ...as })).status, 200)
    server.seen.length = 0
    assert.ok((await does(b, ann, 'pull', as)).to)
    assert.ok(server.seen.length > 0 && server.seen.every(({ user }) => user === 'ann'))
    await does(b, ann, 'push', as)
    await harness.crash()
  }
  server.stop()
}

/** A token is nowhere but in its session's memory: not on a disk, in a log, on a command line, in an answer. */
export async function git_tokens_hidden() {
  const root = path.join(temp, 'served')
  const bare = repository(path.join(root, 'team.git'), large())
  const token = secret('canary')
  const forms = [token, btoa(`ann:${token}`), btoa(`:${token}`).slice(2, -2)]
  const visible = 'canary-in-the-open'
  // The server repeats what it was sent, to whoever listens.
  fs.writeFileSync(path.join(bare, 'hooks/pre-receive'), `#!/bin/sh\necho "you sent ${token} and ${btoa(`ann:${token}`)}, ${visible}"\ntest ! -e ${root}/refuse\n`, { mode: 0o755 })
  const server = await httpBackend(root, '127.0.0.2', { ann: token, bob: 'other' })
  const log = { text: '' }
  await start({ PERCH_LOG: 'trace' }, ['--session-network-allow', server.host], log)
  const b = await branch()
  const given = [{ protocol: 'http', host: server.host, username: 'ann', token }]
  const [ann, bob] = [await session(b, 'ann', 'write', { ...who('ann'), git_credentials: given }), await session(b, 'bob')]
  const seen = new Set()
  const watching = setInterval(() => {
    for (const pid of fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)) {
      for (const file of ['cmdline', 'environ']) {
        try {
          const text = fs.readFileSync(`/proc/${pid}/${file}`, 'utf8')
          if (forms.some((form) => text.includes(form))) seen.add(`${pid} ${file} ${text.replaceAll('\0', ' ').slice(0, 200)}`)
          if (text.includes(visible)) seen.add('control')
          if (text.includes('git-credential')) seen.add('helper')
        } catch { /* it ended */ }
      }
    }
  }, 5)
  assert.equal((await api('POST', route(b, 'init'), undefined, as(ann))).status, 204)
  await remote(b, ann, `http://${server.host}/team.git`)
  await said(b, ann, { argv: ['sh', '-c', 'sleep 0.3', visible] })
  const answers = []
  const does = async (what, body) => {
    const told = await follow(b, ann, what, body)
    answers.push(JSON.stringify(told))
    return told
  }
  server.pause = 60
  // Whatever the session asks git to tell of what it does.
  await api('POST', `/v1/branches/${b.id}/sessions`, { id: 'ann', permission: 'write', env: { GIT_TRACE: '1', GIT_TRACE_CURL: '1', GIT_CURL_VERBOSE: '1', GIT_TRACE_REDACT: '0' } })
  const pulled = await does('pull')
  assert.ok(pulled.done, JSON.stringify(pulled))
  server.pause = 0
  for (const name of ['one', 'two']) {
    await said(b, ann, `echo ${name} > ${name} && git add ${name} 2>/dev/null`)
    assert.ok((await ask('POST', route(b, 'commit'), ann, { message: name })).commit)
    if (name === 'two') fs.writeFileSync(path.join(root, 'refuse'), '')
    const { done, error, lines } = await does('push')
    if (name === 'one') assert.ok(done)
    else assert.equal(error.code, 'git_push_rejected')
    assert.deepEqual(lines.filter((line) => line.remote).map((line) => line.remote), [`you sent [token] and [token], ${visible}`])
  }
  server.tokens.ann = 'changed'
  assert.equal((await does('fetch')).error.code, 'git_credentials_refused')
  answers.push(JSON.stringify(await ask('GET', tokens(b, ann), ann)), JSON.stringify(await ask('GET', route(b, 'status'), ann)))
  const wrong = await ask('PUT', tokens(b, ann), ann, { protocol: 'http', host: 'h', username: 'u', token: `${token} ` })
  assert.equal(wrong.status, 400)
  answers.push(JSON.stringify(wrong))
  await said(b, ann, `echo ${visible} > control.txt`)
  assert.equal((await run(b, bob, `grep -rs -e ${token.slice(0, 12)} / --include='*' --exclude-dir=proc --exclude-dir=sys --exclude-dir=usr`)).out, '')
  const forked = await api('POST', `/v1/branches/${b.id}/fork`, {})
  assert.ok(forked.ok)
  const metrics = await (await api('GET', '/metrics')).text()
  clearInterval(watching)
  await api('DELETE', `/v1/branches/${b.id}/sessions/ann`)
  harness.perch.kill('SIGTERM')
  await harness.perch.ended
  assert.ok(seen.delete('control') && seen.delete('helper'), 'the watch sees what is in the open')
  assert.deepEqual([...seen], [])
  assert.ok(answers.some((one) => one.includes(visible)))
  for (const form of forms) {
    assert.equal(count(log.text, form), 0, 'in the log')
    assert.deepEqual(answers.filter((one) => one.includes(form)), [])
    assert.equal(count(metrics, form), 0)
    assert.equal(spawnSync('grep', ['-rl', '-e', form, data]).stdout.toString(), '')
    if (process.env.DATABASE_URL) assert.equal(count(execFileSync('pg_dump', [process.env.DATABASE_URL]).toString(), form), 0)
  }
  assert.ok(log.text.includes('git-credentials'), 'the log tells of the request')
  assert.notEqual(spawnSync('grep', ['-rl', visible, data]).stdout.toString(), '', 'the control')
  assert.ok(fs.readFileSync(path.join(b.files, '.git/config'), 'utf8').includes(server.host))
  server.stop()
}

/** The same over SSH, by the branch's proxy, with a key of one's own and a server that is known. */
export async function git_ssh() {
  const root = path.join(temp, 'served')
  const bare = repository(path.join(root, 'team.git'))
  const server = await overSsh(root, '127.0.0.2', ['ann', 'bob'])
  const args = ['--session-network-allow', server.host]
  await start({}, args)
  const b = await branch()
  const [ann, bob] = [await session(b, 'ann', 'write', who('ann')), await session(b, 'bob', 'write', who('bob'))]
  const put = async (s, file, bytes) => assert.equal((await api('PUT', `/v1/branches/${b.id}/sessions/${s.id}/private/ssh/${file}`, bytes, as(s))).status, 204)
  assert.equal((await api('POST', route(b, 'init'), undefined, as(ann))).status, 204)
  await remote(b, ann, `ssh://ann@${server.host}/team.git`)
  await remote(b, bob, `ssh://bob@${server.host}/team.git`, 'bobs')
  // Code that waits for whoever's git starts a shell, and a configuration that would believe everybody.
  await said(b, bob, 'echo "touch /project/workspace/ran" >> ~/.bashrc; mkdir -p ~/.ssh && printf "Host *\\n StrictHostKeyChecking no\\n ProxyCommand touch /project/workspace/ran\\n" > ~/.ssh/config; git config core.sshCommand "touch /project/workspace/ran"')
  await put(ann, 'id', server.keys.ann)
  await fails(b, ann, 'fetch', {}, 'git_host_key_refused')
  await put(ann, 'known_hosts', server.known.replace(/AAAA.{60}/, server.keys.ann.toString('hex').slice(0, 64)))
  await fails(b, ann, 'fetch', {}, 'git_host_key_refused')
  await put(ann, 'known_hosts', server.known)
  await put(bob, 'known_hosts', server.known)
  await fails(b, bob, 'fetch', { remote: 'bobs' }, 'git_credentials_missing')
  // Another one's name does not help.
  await put(bob, 'id', server.keys.bob)
  await fails(b, bob, 'fetch', {}, 'git_credentials_missing')
  await does(b, ann, 'pull')
  await commit(b, ann, 'b.txt', 'two\n')
  await said(b, ann, 'git branch ann && git branch bob')
  server.seen.length = 0
  await Promise.all([does(b, ann, 'push', { branch: 'ann' }), does(b, bob, 'push', { remote: 'bobs', branch: 'bob' })])
  assert.deepEqual(server.seen.map(({ user, service }) => `${user} ${service}`).toSorted(), ['ann git-receive-pack', 'bob git-receive-pack'])
  assert.equal(plain(bare, 'rev-parse', 'ann'), plain(bare, 'rev-parse', 'bob'))
  assert.ok(!fs.existsSync(path.join(b.files, 'ran')), 'something ran')
  // What the walls of the branch's network do not let through stays so.
  await remote(b, ann, `ssh://ann@127.0.0.9:22/team.git`, 'closed')
  const { detail } = await fails(b, ann, 'fetch', { remote: 'closed' }, 'git_remote_unreachable')
  assert.match(detail, /--session-network-allow/)
  // Servers that are met for the first time are believed where that is wanted.
  await harness.crash()
  await start({}, [...args, '--git-ssh-trust-first-use'])
  await put(ann, 'id', server.keys.ann)
  await does(b, ann, 'fetch')
  assert.match(await said(b, ann, 'cat ~/.private/ssh/known_hosts'), /ssh-ed25519/)
  server.stop()
}
export { does, follow, give, remote, route, secret }

/**
 * Submodules and files of Git LFS are brought by nothing that perch does by itself, whatever a repository says of them; who wants a
 * submodule asks for it in a shell, and goes there as themselves.
 */
export async function git_submodules() {
  const root = path.join(temp, 'served')
  const [annToken, bobToken] = [secret('ann'), secret('bob')]
  const part = repository(path.join(root, 'part.git'), { 'part.txt': 'of the part\n' })
  const tip = plain(part, 'rev-parse', 'main').trim()
  const bare = repository(path.join(root, 'team.git'))
  const server = await httpBackend(root, '127.0.0.2', { ann: annToken, bob: bobToken })
  const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${'a'.repeat(64)}\nsize 12345\n`
  const seeded = path.join(temp, 'seeded')
  const seed = (...args) => execFileSync('git', ['-C', seeded, '-c', 'user.name=Seed', '-c', 'user.email=seed@example.org', ...args])
  execFileSync('git', ['clone', '-q', bare, seeded])
  const evil = { ext: "ext::sh -c 'touch /project/workspace/RAN-ext'", option: '--upload-pack=touch /project/workspace/RAN-option', file: `file://${part}`, away: '../part.git' }
  const modules = { part: `http://${server.host}/part.git`, ...evil }
  fs.writeFileSync(path.join(seeded, '.gitmodules'), Object.entries(modules).map(([name, address]) => `[submodule "${name}"]\n\tpath = ${name}\n\turl = ${JSON.stringify(address)}\n\tfetchRecurseSubmodules = true\n\tupdate = checkout\n`).join(''))
  fs.writeFileSync(path.join(seeded, '.gitattributes'), '*.bin filter=lfs diff=lfs merge=lfs -text\n')
  fs.writeFileSync(path.join(seeded, 'large.bin'), pointer)
  seed('add', '.')
  for (const name of Object.keys(modules)) seed('update-index', '--add', '--cacheinfo', `160000,${tip},${name}`)
  seed('commit', '-qm', 'with submodules')
  seed('push', '-q', 'origin', 'main')
  await start({}, ['--session-network-allow', server.host])
  const b = await branch()
  const [ann, bob] = [await session(b, 'ann', 'write', who('ann')), await session(b, 'bob', 'write', who('bob'))]
  assert.equal((await api('POST', route(b, 'init'), undefined, as(ann))).status, 204)
  await give(b, ann, server.host, 'ann', annToken)
  await remote(b, ann, `http://${server.host}/team.git`)
  // Told to go along by the repository's own configuration too.
  await said(b, ann, 'git config submodule.recurse true; git config fetch.recurseSubmodules true; git config push.recurseSubmodules on-demand; git config filter.lfs.smudge "touch RAN-lfs; cat"; git config filter.lfs.process "touch RAN-lfs; false"')
  await does(b, ann, 'pull')
  const files = () => fs.readdirSync(b.files).filter((name) => name !== '.git').sort()
  const nothing = () => {
    assert.deepEqual(server.seen.filter(({ path: at }) => !at.startsWith('/team.git')), [], 'only the repository itself is asked for')
    assert.deepEqual(files().filter((name) => name.startsWith('RAN')), [])
    for (const name of Object.keys(modules)) assert.deepEqual(fs.readdirSync(path.join(b.files, name)), [], name)
  }
  nothing()
  assert.equal(fs.readFileSync(path.join(b.files, 'large.bin'), 'utf8'), pointer)
  assert.deepEqual((await ask('GET', route(b, 'status'), ann)).entries, [])
  // A shell does run what is configured.
  await said(b, ann, 'git checkout-index -f large.bin || true; test -e RAN-lfs; rm RAN-lfs; git config --remove-section filter.lfs')
  await commit(b, ann, 'a.txt', 'two\n')
  for (const [what, body] of [['switch', { branch: 'other', create: 'HEAD~1' }], ['switch', { branch: 'main' }], ['merge', { revision: 'other' }]]) {
    assert.equal((await ask('POST', route(b, what), ann, body)).status, 200, what)
  }
  await does(b, ann, 'push', {})
  nothing()
  // In her own shell, with her own token: the part alone that she names. Bob has no token, and gets nothing.
  const helper = '/run/perch/bin/perch git-credential /run/perch/private/.perch/git-credentials'
  const update = `git -c credential.helper='${helper}' submodule update --init --depth 1 part`
  assert.notDeepEqual((await run(b, bob, update)).exit, { code: 0 })
  assert.deepEqual(server.seen.filter(({ path: at }) => at.startsWith('/part.git')), [])
  await said(b, ann, update)
  assert.equal(fs.readFileSync(path.join(b.files, 'part/part.txt'), 'utf8'), 'of the part\n')
  assert.ok(server.seen.some(({ user, path: at }) => user === 'ann' && at.startsWith('/part.git')))
  assert.deepEqual((await ask('GET', route(b, 'status'), ann)).entries, [])
  assert.equal(spawnSync('grep', ['-rl', annToken, b.files], { encoding: 'utf8' }).stdout, '', 'the token is in no file of the branch')
}
