// Git with the SDK: each session with its own name and token, against a real server.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import https from 'node:https'
import path from 'node:path'
import { git as plainGit, httpBackend, repository } from '../../clients/git_server.mjs'
import { lines } from '../both.mjs'
import { api, eventually, perch, sdk0, sdk2, start, temp } from '../harness.mjs'

const CA = '/tmp/ca.pem'
const raw = (client, method, params = {}) => client.agentClient.agentConnection.request({ method, params })

/** A server with a token for each user, behind TLS: the SDK writes `https` into its credentials. */
async function served(root, tokens) {
  const plain = await httpBackend(root, '127.0.0.4', tokens)
  const [key, cert] = [path.join(temp, 'key.pem'), path.join(temp, 'cert.pem')]
  const subject = ['-subj', '/CN=git', '-addext', 'subjectAltName=IP:127.0.0.5']
  execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', ...subject, '-keyout', key, '-out', cert], { stdio: 'ignore' })
  const tls = https.createServer({ key: fs.readFileSync(key), cert: fs.readFileSync(cert) }, (...both) => plain.emit('request', ...both))
  await new Promise((resolve) => tls.listen(0, '127.0.0.5', resolve))
  const stop = () => { plain.stop(); tls.close(); tls.closeAllConnections() }
  return { server: plain, host: `127.0.0.5:${tls.address().port}`, cert: fs.readFileSync(cert, 'utf8'), stop }
}

/** Clone, commit and push, as two people and as nobody. */
export async function sdk_git_own() {
  const root = path.join(temp, 'served')
  const bare = repository(path.join(root, 'team.git'))
  const tokens = { ann: 'tok_ann_of_the_canaries', 'x-access-token': 'tok_bob_of_the_canaries' }
  const { server, host, cert, stop } = await served(root, tokens)
  await start({ PERCH_LOG: 'debug' }, ['--session-network-allow', host])
  const sandbox = await sdk2().sandboxes.create()
  const global = await sandbox.connect()
  await global.fs.writeTextFile(CA, cert)
  const git = (accessToken, more) => ({ provider: host, accessToken, ...more })
  const env = { GIT_SSL_CAINFO: CA }
  const ann = await sandbox.connect({ id: 'ann', git: git(tokens.ann, { username: 'ann', email: 'ann@example.org', name: 'Ann of Team' }), env })
  // Without a name and a user it is the session's id, and `x-access-token`.
  const bob = await sandbox.connect({ id: 'bob', git: git(tokens['x-access-token'], { email: 'bob@example.org' }), env })
  const run = async (client, command) => lines(await client.commands.run(command))
  const as = { ann: 'Ann of Team <ann@example.org>', bob: 'bob <bob@example.org>' }
  for (const [id, client] of [['ann', ann], ['bob', bob]]) {
    await run(client, `git clone -q https://${host}/team.git /tmp/of-${id} && cd /tmp/of-${id} && echo ${id} > ${id}.txt && git add . && git commit -qm "by ${id}" && git push -q`)
    assert.equal(plainGit(bare, 'log', '-1', '--format=%an <%ae>').trim(), as[id])
  }
  assert.deepEqual([...new Set(server.seen.filter(({ service }) => service === 'git-receive-pack').map(({ user }) => user))], ['ann', 'x-access-token'])
  // At the same time, in turns: nobody takes the other's name, though `~/.gitconfig` is of one home.
  await Promise.all([['ann', ann], ['bob', bob]].map(async ([id, client]) => {
    for (let n = 0; n < 3; n += 1) {
      await run(client, `cd /tmp/of-${id} && echo ${n} >> ${id}.txt && git commit -qam "${id} ${n}" && for try in $(seq 100); do git pull -q --rebase && git push -q && exit 0; done; exit 1`)
    }
  }))
  const authors = plainGit(bare, 'log', '--format=%an <%ae>|%s').trim().split('\n').map((line) => line.split('|'))
  for (const [author, subject] of authors.filter(([, subject]) => subject !== 'first')) {
    assert.equal(author, as[subject.includes('ann') ? 'ann' : 'bob'], subject)
  }
  assert.equal(authors.length, 1 + 2 + 6)
  // The global session and a third one have neither name nor token.
  const cyn = await sandbox.connect({ id: 'cyn' })
  for (const client of [global, cyn]) {
    const said = await run(client, `cat ~/.gitconfig ~/.private/.gitcredentials 2>&1; cd /tmp/of-ann && GIT_TERMINAL_PROMPT=0 git -c http.sslCAInfo=${CA} push origin HEAD:refs/heads/other 2>&1; git config user.email; true`)
    assert.ok(!/example\.org|canaries/.test(said), said)
  }
  assert.equal(plainGit(bare, 'branch', '--list', 'other'), '')
  // The settings are there when the session comes again, and gone when the sandbox was shut down.
  const again = await sandbox.connect({ id: 'ann' })
  assert.equal(await run(again, 'git config user.name'), 'Ann of Team')
  await sdk2().sandboxes.shutdown(sandbox.id)
  const after = await (await sdk2().sandboxes.resume(sandbox.id)).connect({ id: 'ann' })
  assert.equal(await run(after, 'cat ~/.private/.gitcredentials; git config user.email || echo none').catch((error) => lines(error.output)), "cat: /root/.private/.gitcredentials: No such file or directory\nnone")
  for (const token of Object.values(tokens)) assert.ok(!perch.said.includes(token), 'a token in the log')
  stop()
}

/** What the protocol asks of git by messages. */
export async function sdk_git_messages() {
  await start()
  const sandbox = await sdk2().sandboxes.create()
  const client = await sandbox.connect({ id: 'ann' })
  const eve = await sandbox.connect({ id: 'eve', permission: 'read' })
  const empty = await raw(client, 'git/status')
  assert.deepEqual([empty.changedFiles, empty.deletedFiles, empty.branch, empty.conflicts], [{}, [], null, false], 'no repository')
  assert.deepEqual(await raw(client, 'git/remotes'), { origin: '', upstream: '' })
  await client.commands.run('git init -qb main && git config user.email a@example.org && git config user.name A && echo one > a.txt && echo b > b.txt && git add . && git commit -qm first && git remote add origin https://user:tok_in_a_url@example.org/x.git')
  assert.deepEqual(await raw(eve, 'git/remotes'), { origin: 'https://example.org/x.git', upstream: '' }, 'without the password that a shell put there')
  await client.commands.run('echo two > a.txt; rm b.txt; echo new > c.txt; git add c.txt')
  const status = await raw(eve, 'git/status')
  assert.deepEqual(Object.keys(status.changedFiles).sort(), ['a.txt', 'c.txt'])
  assert.deepEqual([status.changedFiles['a.txt'].workingTree, status.changedFiles['c.txt'].index, status.deletedFiles[0].path], ['M', 'A', 'b.txt'])
  assert.deepEqual([status.branch, status.localChanges, status.isMerging], ['main', true, false])
  assert.deepEqual(await raw(client, 'git/discard', { paths: ['b.txt'] }), { paths: ['b.txt'] })
  assert.equal(await client.fs.readTextFile('b.txt'), 'b\n')
  await assert.rejects(raw(eve, 'git/discard', {}), { code: 2 })
  await assert.rejects(raw(client, 'git/commit', { message: 'second' }), /email address/)
  assert.equal((await api('PATCH', `/v1/branches/${sandbox.id}/sessions/ann`, { email: 'ann@example.org', name: 'Ann' })).status, 200)
  assert.deepEqual(await raw(client, 'git/commit', { message: 'second' }), { shellId: null })
  assert.deepEqual((await raw(client, 'git/status')).changedFiles, {})
  await client.commands.run('git branch base HEAD~1')
  const ahead = await raw(eve, 'git/targetDiff', { branch: 'base' })
  assert.deepEqual([ahead.ahead, ahead.behind, ahead.commits.map(({ message, author }) => [message, author])], [1, 0, [['second', 'Ann']]])
  const { files } = await raw(eve, 'git/diffStatus', { base: 'base', head: 'main' })
  assert.deepEqual(files.map(({ path, status }) => [path, status]), [['a.txt', 'M'], ['c.txt', 'A']])
  assert.deepEqual(files[0].hunks, [{ original: { start: 1, end: 2 }, modified: { start: 1, end: 2 } }])
  assert.deepEqual(await raw(eve, 'git/remoteContent', { reference: 'base', path: 'a.txt' }), { content: 'one\n' })
  await assert.rejects(raw(eve, 'git/remoteContent', { reference: 'base', path: 'none.txt' }), { code: 404 })
  await assert.rejects(raw(client, 'git/renameBranch', { oldBranch: 'main', newBranch: 'trunk' }), { code: 1 })
  await assert.rejects(raw(client, 'git/push'), { code: 440 })
  await assert.rejects(raw(client, 'git/transposeLines', []), { code: 1 })
  // 0.11.2 asks for both when it comes back.
  const old = await sdk0().open(sandbox.id)
  assert.equal((await eventually('its status', () => old.pitcherClient.clients.git?.messageHandler.request({ method: 'git/status', params: {} }))).branch, 'main')
}
