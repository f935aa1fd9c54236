// What a session may not do.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { api, atRest, branch, count, eventually, hClient, line, session, sleep, start, token, url, yClient } from '../harness.mjs'
import { said } from '../exec.mjs'

/** A read session changes nothing, on either protocol or the file API; a write session does (the control). */
export async function readers() {
  await start()
  const b = await branch()
  const file = path.join(b.files, 'a.txt')
  await api('PUT', `/v1/branches/${b.id}/files/a.txt`, 'start\n')
  const reader = await session(b, 'eve', 'read')
  const writer = await session(b, 'ann')
  const [ry, rh] = [yClient(reader, 'a.txt'), hClient(reader, 'a.txt')]
  const ann = hClient(writer, 'a.txt', undefined)
  await eventually('synced', () => ry.provider.synced && rh.provider.synced && ann.synced())
  assert.equal(rh.provider.authorizedScope, 'readonly')
  assert.equal(ann.provider.authorizedScope, 'read-write')
  ry.text.insert(0, 'EVIL-Y')
  rh.text.insert(0, 'EVIL-H')
  const put = (s, body) => api('PUT', `/v1/branches/${b.id}/files/a.txt`, body, { authorization: `Bearer ${s.token}` })
  assert.equal((await put(reader, 'EVIL-PUT')).status, 403)
  const tokens = ['start']
  line(ann, 'ann', tokens)
  await atRest(file, [ann], tokens)
  await eventually('readers see it', () => [ry, rh].every((r) => count(r.text.toString(), tokens[1]) === 1))
  assert.ok(rh.provider.unsyncedChanges > 0, 'the reader is told that it was not taken')
  assert.equal(count(ann.text.toString() + fs.readFileSync(file, 'utf8'), 'EVIL'), 0)
  const absent = yClient(reader, 'absent.txt')
  await eventually('absent is not found', () => absent.closed?.code === 4404)
  assert.equal((await put(writer, `${fs.readFileSync(file, 'utf8')}put\n`)).status, 200)
  await atRest(file, [ann], [...tokens, 'put'])
  // Raised to write, what was typed while reading is asked for; ended, the socket is cut and the token refused.
  assert.equal((await api('PATCH', `/v1/branches/${b.id}/sessions/ann`, { permission: 'read' })).status, 200)
  await eventually('told', () => ann.provider.authorizedScope === 'readonly')
  ann.text.insert(0, 'LATER')
  await sleep(300)
  assert.equal(count(fs.readFileSync(file, 'utf8'), 'LATER'), 0)
  assert.equal((await api('PATCH', `/v1/branches/${b.id}/sessions/ann`, { permission: 'write' })).status, 200)
  await atRest(file, [ann], [...tokens, 'put', 'LATER'])
  assert.equal((await api('DELETE', `/v1/branches/${b.id}/sessions/eve`)).status, 204)
  await eventually('cut', () => ry.closed?.code === 4403)
  assert.equal((await put(reader, 'x')).status, 401)
  const none = await fetch(`${url}/v1/branches`)
  assert.equal(none.status, 401)
  assert.equal((await none.json()).code, 'unauthorized')
}

/**
 * Each route of the OpenAPI document that is no GET, with a `read` session's token: refused, and nothing has changed.
 * With the right of a `write` session, or an API token where it needs one, it does what it says (the control).
 */
export async function every_route() {
  await start()
  const b = await branch()
  const spare = await branch({ name: 'spare' })
  const base = `/v1/branches/${b.id}`
  for (const file of ['a.txt', 'b.txt', 'd/e.txt', 'gone.txt']) await api('PUT', `${base}/files/${file}`, 'text\n')
  const [reader, writer] = [await session(b, 'eve', 'read'), await session(b, 'ann', 'write', { email: 'ann@example.org' })]
  const { id: terminal } = await (await api('POST', `${base}/terminals`, { session: 'ann' })).json()
  const editors = ['a.txt', 'gone.txt'].map((name) => yClient(writer, name))
  await eventually('synced', () => editors.every((editor) => editor.synced()))
  editors.forEach((editor) => editor.text.insert(0, 'typed\n'))
  await eventually('written', () => ['a.txt', 'gone.txt'].every((name) => fs.readFileSync(path.join(b.files, name), 'utf8') === 'typed\ntext\n'))
  await api('DELETE', `${base}/files/gone.txt`)
  const json = async (route) => (await api('GET', route)).json()
  const [{ id: ended }] = (await json(`${base}/deleted`)).documents
  const { position } = await json(`${base}/history/a.txt`)
  const link = await (await api('POST', `${base}/links`, { permission: 'read' })).json()
  const { id: token } = await (await api('POST', '/v1/tokens', { name: 'spare' })).json()
  // Two branches that change the same line as the one that is checked out, work that is put aside, work that is staged.
  await said(b, writer, `git init -q -b main && echo base > clash && git add -A && git commit -qm base && git branch spare &&
    git switch -qc one && echo one > clash && git commit -qam one && git switch -qc two main && echo two > clash && git commit -qam two &&
    git switch -q main && echo main > clash && git commit -qam main && echo aside >> d/e.txt && git stash -q && echo staged > staged && git add staged`)
  const kept = await (await api('POST', `${base}/git/restore-points`, { session: 'ann', label: 'kept' })).json()
  // In this order: what a later one needs is still there. `own`: what a write session may do itself.
  const own = true
  const routes = {
    'put /v1/branches/{branch}/files/{path}': [`${base}/files/b.txt`, 'changed\n', own],
    'post /v1/branches/{branch}/edit/{path}': [`${base}/edit/b.txt`, { edits: [{ old: 'changed', new: 'edited' }] }, own],
    'post /v1/branches/{branch}/folders/{path}': [`${base}/folders/made`, undefined, own],
    'post /v1/branches/{branch}/copy': [`${base}/copy`, { from: 'd', to: 'copied' }, own],
    'post /v1/branches/{branch}/rename': [`${base}/rename`, { from: 'copied', to: 'moved' }, own],
    'delete /v1/branches/{branch}/folders/{path}': [`${base}/folders/moved?recursive=true`, undefined, own],
    'post /v1/branches/{branch}/history/{path}': [`${base}/history/a.txt/restore`, { position }, own],
    'post /v1/branches/{branch}/deleted/{document}/restore': [`${base}/deleted/${ended}/restore`, {}, own],
    'delete /v1/branches/{branch}/files/{path}': [`${base}/files/b.txt`, undefined, own],
    'post /v1/branches/{branch}/exec': [`${base}/exec`, { shell: 'echo x > by-a-command' }, own],
    'post /v1/branches/{branch}/git/init': [`${base}/git/init`, undefined, own],
    'post /v1/branches/{branch}/git/commit': [`${base}/git/commit`, { message: 'staged' }, own],
    'post /v1/branches/{branch}/git/branches': [`${base}/git/branches`, { name: 'made' }, own],
    'delete /v1/branches/{branch}/git/branches/{name}': [`${base}/git/branches/spare`, undefined, own],
    'post /v1/branches/{branch}/git/tags': [`${base}/git/tags`, { name: 'v1' }, own],
    'delete /v1/branches/{branch}/git/tags/{name}': [`${base}/git/tags/v1`, undefined, own],
    'post /v1/branches/{branch}/git/restore-points': [`${base}/git/restore-points`, { label: 'mine' }, own],
    'post /v1/branches/{branch}/git/stash': [`${base}/git/stash`, { untracked: true }, own],
    'post /v1/branches/{branch}/git/merge': [`${base}/git/merge`, { revision: 'one' }, own],
    'post /v1/branches/{branch}/git/resolved': [`${base}/git/resolved`, { paths: ['clash'], anyway: true }, own],
    'post /v1/branches/{branch}/git/operation/continue': [`${base}/git/operation/continue`, {}, own],
    'post /v1/branches/{branch}/git/rebase': [`${base}/git/rebase`, { onto: 'two' }, own],
    'post /v1/branches/{branch}/git/operation/abort': [`${base}/git/operation/abort`, {}, own],
    'post /v1/branches/{branch}/git/switch': [`${base}/git/switch`, { branch: 'made' }, own],
    'post /v1/branches/{branch}/git/stash/{name}/pop': [`${base}/git/stash/1/pop`, undefined, own],
    'post /v1/branches/{branch}/git/stash/{name}/apply': [`${base}/git/stash/0/apply`, undefined, own],
    'delete /v1/branches/{branch}/git/stash/{name}': [`${base}/git/stash/0`, undefined, own],
    'post /v1/branches/{branch}/git/restore-points/{name}/restore': [`${base}/git/restore-points/${kept.id}/restore`, {}, own],
    'put /v1/branches/{branch}/git/remotes/{name}': [`${base}/git/remotes/origin`, { url: 'http://127.0.0.9:9/x' }, own],
    'post /v1/branches/{branch}/git/fetch': [`${base}/git/fetch`, {}, own],
    'post /v1/branches/{branch}/git/pull': [`${base}/git/pull`, {}, own],
    'post /v1/branches/{branch}/git/push': [`${base}/git/push`, {}, own],
    'delete /v1/branches/{branch}/git/remotes/{name}': [`${base}/git/remotes/origin`, undefined, own],
    'put /v1/branches/{branch}/sessions/{session}/git-credentials': [`${base}/sessions/ann/git-credentials`, { protocol: 'https', host: 'h', username: 'u', token: 't' }, own],
    'delete /v1/branches/{branch}/sessions/{session}/git-credentials': [`${base}/sessions/ann/git-credentials?protocol=https&host=h`, undefined, own],
    'put /v1/branches/{branch}/sessions/{session}/files/{path}': [`${base}/sessions/ann/files/root/made`, 'x', own],
    'delete /v1/branches/{branch}/sessions/{session}/files/{path}': [`${base}/sessions/ann/files/root/made`, undefined, own],
    'post /v1/branches/{branch}/git/stage': [`${base}/git/stage`, { paths: ['a.txt'] }, own],
    'post /v1/branches/{branch}/git/unstage': [`${base}/git/unstage`, { paths: ['a.txt'] }, own],
    'post /v1/branches/{branch}/git/discard': [`${base}/git/discard`, { paths: ['d'], untracked: true }, own],
    'post /v1/branches/{branch}/terminals': [`${base}/terminals`, {}, own],
    'patch /v1/branches/{branch}/terminals/{terminal}': [`${base}/terminals/${terminal}`, { title: 'evil' }, own],
    'post /v1/branches/{branch}/terminals/{terminal}/asking': [`${base}/terminals/${terminal}/asking`, undefined, own],
    'delete /v1/branches/{branch}/terminals/{terminal}/asking/{session}': [`${base}/terminals/${terminal}/asking/ann`, undefined, own],
    'delete /v1/branches/{branch}/terminals/{terminal}': [`${base}/terminals/${terminal}`, undefined, own],
    'post /v1/branches/{branch}/sessions': [`${base}/sessions`, { id: 'bob', permission: 'write' }],
    'patch /v1/branches/{branch}/sessions/{session}': [`${base}/sessions/eve`, { permission: 'write' }],
    'post /v1/branches/{branch}/sessions/{session}/revoke': [`${base}/sessions/bob/revoke`, undefined],
    'delete /v1/branches/{branch}/sessions/{session}': [`${base}/sessions/bob`, undefined],
    'post /v1/branches/{branch}/links': [`${base}/links`, { permission: 'write' }],
    'delete /v1/branches/{branch}/links/{id}': [`${base}/links/${link.id}`, undefined],
    'post /v1/tokens': ['/v1/tokens', { name: 'evil' }],
    'delete /v1/tokens/{id}': [`/v1/tokens/${token}`, undefined],
    'post /v1/branches': ['/v1/branches', { name: 'evil' }],
    'post /v1/branches/{branch}/fork': [`${base}/fork`, {}],
    'patch /v1/branches/{branch}': [base, { name: 'evil' }],
    'delete /v1/branches/{branch}': [`/v1/branches/${spare.id}?confirm=${spare.id}`, undefined]
  }
  // Open to a reader: a fresh token of its own right, a link's visitor, a draft of its own (it can have none), what is
  // private to itself, a preview, a link to a file that it may read.
  const harmless = [
    ...['put', 'delete'].map((method) => `${method} /v1/branches/{branch}/sessions/{session}/private/{path}`),
    'post /v1/branches/{branch}/downloads', 'put /v1/branches/{branch}/people/looking', 'put /v1/branches/{branch}/git/credit', 'post /v1/branches/{branch}/sessions/{session}/token', 'post /v1/links/{secret}/session', 'delete /v1/branches/{branch}/drafts/{draft}',
    'post /v1/branches/{branch}/ports/{port}/preview']
  const { paths } = await json('/v1/openapi.json')
  const all = Object.entries(paths).flatMap(([route, item]) => Object.keys(item).filter((method) => method !== 'get').map((method) => `${method} ${route}`))
  assert.deepEqual(all.toSorted(), [...Object.keys(routes), ...harmless].toSorted())
  const files = (folder) => fs.readdirSync(folder, { recursive: true }).sort()
    .map((name) => [name, fs.statSync(path.join(folder, name)).isFile() ? fs.readFileSync(path.join(folder, name), 'utf8') : null])
  const state = async () => ({
    files: files(b.files), branches: (await json('/v1/branches')).branches.map((one) => [one.id, one.name]),
    sessions: (await json(`${base}/sessions`)).sessions.map((one) => [one.id, one.permission]),
    links: (await json(`${base}/links`)).links.length, tokens: (await json('/v1/tokens')).tokens.length
  })
  const before = await state()
  const ask = (name, headers) => {
    const [route, body] = routes[name]
    return api(name.split(' ')[0].toUpperCase(), route, body, headers)
  }
  const as = (s) => ({ authorization: `Bearer ${s.token}` })
  for (const name of Object.keys(routes)) {
    const answer = await ask(name, as(reader))
    // Another branch looks as if it were not there.
    assert.ok([403, 404].includes(answer.status), `${name} by a reader: ${answer.status} ${await answer.text()}`)
  }
  const fresh = await api('POST', `${base}/sessions/eve/token`, { permission: 'write' }, as(reader))
  assert.equal((await fresh.json()).permission, 'read')
  assert.deepEqual(await state(), before)
  for (const [name, [,, mayWriter]] of Object.entries(routes)) {
    const answer = await ask(name, mayWriter ? as(writer) : {})
    assert.ok(answer.ok, `${name}: ${answer.status} ${await answer.text()}`)
  }
  const after = await state()
  for (const what of Object.keys(before)) assert.notDeepEqual(after[what], before[what], `the control changes ${what}`)
}
