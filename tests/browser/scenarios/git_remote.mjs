// The ways to a remote, in the page: a rebase with and without a conflict, SSH with a key, https with a token.
import assert from 'node:assert/strict'
import path from 'node:path'
import { commitTo, git as plain, overSsh, repository } from '../../clients/git_server.mjs'
import {
  button, cloned, commit, done, fold, giveEmail, giveToken, holders, inside, perch, remembered, server, trusted
} from '../git_steps.mjs'
import {
  accessible, branchWith, count, editor, enter, eventually, openFile, panel, picture, shown, standing, typeLine
} from '../harness.mjs'

/** Both sides have commits: the page offers both ways, and rebases; a conflict is solved by two, another one is given up. */
export async function git_rebase() {
  const stage = perch()
  const { bare, http } = await server(stage, { 'a.txt': 'one\ntwo\nthree\n', 'b.txt': 'b\n' })
  try {
    await stage.start()
    const id = await cloned(stage, http, 'rebases')
    const folder = stage.workspace(id)
    const log = () => inside(folder, 'log', '-3', '--format=%an: %s').trim().split('\n')
    const ann = await stage.person()
    const bob = await stage.person()
    for (const [page, name] of [[ann, 'Ann'], [bob, 'Bob']]) {
      await enter(page, stage.link, 'rebases', name)
      await openFile(page, 'a.txt')
      await editor(page).getByText('three').waitFor()
      await panel(page, 'git')
    }
    const diverge = async (line, theirs) => {
      await typeLine(ann, line)
      await standing(ann, 'saved')
      await commit(ann, line)
      if (await ann.locator('.git-done, .git-ask').first().waitFor().then(() => ann.locator('.git-ask').isVisible())) await giveEmail(ann, 'ann@example.org')
      await done(ann, 'Committed')
      commitTo(bare, 'a.txt', theirs, 'main', 'theirs')
      await button(ann, 'Fetch').click()
    }

    // Their line is above, ours below: one after the other.
    await diverge('of ann', 'zero\none\ntwo\nthree\n')
    await giveToken(ann, 'ann', http.tokens.ann)
    await done(ann, 'Fetched.')
    await ann.getByText('Both sides have new commits').waitFor()
    await picture(ann, 'git-diverged')
    await accessible(ann, 'both sides have commits', '#side')
    await button(ann, 'Pull and rebase').click()
    await done(ann, 'Pulled.')
    for (const page of [ann, bob]) await eventually('both are in the editor', async () => await shown(page) === 'zero\none\ntwo\nthree\nof ann\n')
    assert.deepEqual(log(), ['Ann: of ann', 'Else: theirs', 'Seed: first'], 'one line of commits, ours on top')
    await button(ann, 'Push').click()
    await done(ann, 'Pushed.')
    assert.equal(plain(bare, 'rev-parse', 'main').trim(), inside(folder, 'rev-parse', 'HEAD').trim())

    // The same place: it stops, both see it, one solves it, the other goes on.
    await diverge('ann again', 'zero\none\ntwo\nthree\nof ann\nof others\n')
    await done(ann, 'Fetched.')
    await button(ann, 'Pull and rebase').click()
    for (const page of [ann, bob]) {
      await page.locator('[data-conflict="a.txt"]').waitFor()
      await page.locator('.git-operation').getByText('A rebase is under way').waitFor()
      await editor(page).getByText('<<<<<<<').waitFor()
    }
    await picture(ann, 'git-rebase-conflict')
    await accessible(ann, 'a rebase has stopped', '#side')
    assert.ok(await button(ann, 'Continue').isDisabled())
    await editor(ann).fill('zero\none\ntwo\nthree\nof ann\nof others\nann again\n')
    await standing(ann, 'saved')
    await editor(bob).getByText('<<<<<<<').waitFor({ state: 'detached' })
    await button(bob, 'Mark a.txt as solved').click()
    await eventually('solved for Ann too', async () => await button(ann, 'Continue').isEnabled())
    await button(ann, 'Continue').click()
    await done(ann, 'Done.')
    for (const page of [ann, bob]) await page.locator('.git-operation').waitFor({ state: 'detached' })
    assert.deepEqual(log(), ['Ann: ann again', 'Else: theirs', 'Ann: of ann'])
    assert.equal(inside(folder, 'show', 'HEAD:a.txt'), 'zero\none\ntwo\nthree\nof ann\nof others\nann again\n')
    await button(ann, 'Push').click()
    await done(ann, 'Pushed.')

    // Given up by the other: commits and text are as before, and what was typed meanwhile stays.
    await diverge('a third time', 'zero\none\ntwo\nthree\nof ann\nof others\nann again\nothers again\n')
    await done(ann, 'Fetched.')
    const before = log()
    await button(ann, 'Pull and rebase').click()
    await bob.locator('[data-conflict="a.txt"]').waitFor()
    await editor(bob).getByText('<<<<<<<').waitFor()
    await editor(bob).press('Control+Home')
    await editor(bob).pressSequentially('typed beside\n')
    await standing(bob, 'saved')
    await button(bob, 'Abort').click()
    await done(bob, 'Aborted.')
    for (const page of [ann, bob]) {
      await page.locator('.git-operation').waitFor({ state: 'detached' })
      await eventually('as before, with what was typed', async () =>
        await shown(page) === 'typed beside\nzero\none\ntwo\nthree\nof ann\nof others\nann again\na third time\n')
    }
    assert.deepEqual(log(), before)
    assert.equal(inside(folder, 'branch', '--show-current').trim(), 'main')

    // A branch onto another one, by the list of branches.
    await commit(bob, 'beside')
    await giveEmail(bob, 'bob@example.org')
    await done(bob, 'Committed')
    await fold(bob, 'Branches')
    await button(bob, 'Rebase onto origin/main').click()
    await bob.locator('[data-conflict="a.txt"]').waitFor()
    await button(bob, 'Abort').click()
    await done(bob, 'Aborted.')
  } finally {
    http.stop()
  }
}

/** A remote over SSH: the page asks for the server's key and one's own, says where they go, and then everything goes as oneself. */
export async function git_ssh_key() {
  const stage = perch()
  const root = path.join(stage.temp, 'served')
  const bare = repository(path.join(root, 'team.git'))
  const ssh = await overSsh(root, '127.0.0.2', ['ann'])
  stage.flags.push('--session-network-allow', ssh.host)
  stage.allowed = /status of (404|409|422|502)/
  try {
    await stage.start()
    const id = await branchWith(stage, 'over-ssh')
    const ann = await stage.person()
    await enter(ann, stage.link, 'over-ssh', 'Ann')
    await panel(ann, 'git')
    await button(ann, 'Make a repository').click()
    await ann.getByLabel('URL of the remote').fill(`ssh://ann@${ssh.host}/team.git`)
    await button(ann, 'Set remote').click()
    await done(ann, 'origin is set.')
    await button(ann, 'Fetch').click()
    // A server that nobody has vouched for gets no key; one that is another gets none either.
    const host = ann.getByRole('form', { name: 'The server’s own key' })
    await host.getByText(`${ssh.host} is not known here`).waitFor()
    await host.getByText('~/.private/ssh/known_hosts').waitFor()
    await picture(ann, 'git-ssh-unknown')
    await accessible(ann, 'a server that is not known', '#side')
    await host.getByLabel('Lines of the server').fill(ssh.known.replace(/AAAA\S+/, (key) => `${key.slice(0, 40)}${'A'.repeat(key.length - 40)}`))
    await Promise.all([ann.waitForResponse((answer) => answer.url().endsWith('/git/fetch')), button(ann, 'Trust it').click()])
    await ann.locator('.git-busy').waitFor({ state: 'detached' })
    await host.getByText(`${ssh.host} is not known here`).waitFor()
    assert.equal(await host.getByLabel('Lines of the server').inputValue(), '')
    await host.getByLabel('Lines of the server').fill(ssh.known)
    await button(ann, 'Trust it').click()
    const key = ann.getByRole('form', { name: 'A key for the remote' })
    await key.getByText(`${ssh.host} wants a key`).waitFor()
    await key.getByText('~/.private/ssh/id').waitFor()
    await picture(ann, 'git-ssh-key')
    await accessible(ann, 'a key is missing', '#side')
    assert.deepEqual(ssh.seen, [], 'nothing was asked of it yet')
    await key.getByLabel('Private key').fill(String(ssh.keys.ann))
    await button(ann, 'Use key').click()
    await done(ann, 'Fetched.')
    await fold(ann, 'Branches')
    await button(ann, 'Switch to origin/main').click()
    await done(ann, 'On main now.')
    await panel(ann, 'files')
    await openFile(ann, 'a.txt')
    await typeLine(ann, 'over ssh')
    await standing(ann, 'saved')
    await panel(ann, 'git')
    commitTo(bare, 'b.txt', 'of others\n')
    await button(ann, 'Pull').click()
    await done(ann, 'Pulled.')
    await commit(ann, 'over ssh')
    await giveEmail(ann, 'ann@example.org')
    await done(ann, 'Committed')
    await button(ann, 'Push').click()
    await done(ann, 'Pushed.')
    assert.equal(plain(bare, 'rev-parse', 'main').trim(), inside(stage.workspace(id), 'rev-parse', 'HEAD').trim())
    assert.deepEqual([...new Set(ssh.seen.map(({ user, service }) => `${user} ${service}`))].toSorted(), ['ann git-receive-pack', 'ann git-upload-pack'])
    const secret = String(ssh.keys.ann).split('\n')[2]
    assert.ok(secret.length > 40 && !stage.log.includes(secret), 'the key is not logged')
    assert.equal(count(await remembered(ann), secret), 0, 'the page keeps no key')
    assert.deepEqual(holders(stage.data, secret), [], 'no key is on disk')
  } finally {
    ssh.stop()
  }
}

/** A remote over https, whose certificate the machine trusts: the page asks for a token, says where it goes, and pulls with it. */
export async function git_https_token() {
  const stage = perch()
  const tls = trusted(stage)
  const { bare, http } = await server(stage, { 'a.txt': 'one\n' }, tls)
  try {
    await stage.start()
    const id = await cloned(stage, http, 'over-https')
    const ann = await stage.person()
    await enter(ann, stage.link, 'over-https', 'Ann')
    await openFile(ann, 'a.txt')
    await editor(ann).getByText('one').waitFor()
    commitTo(bare, 'a.txt', 'one\ntwo\n')
    await panel(ann, 'git')
    await button(ann, 'Pull').click()
    await ann.getByText(`${http.host} wants a token`).waitFor()
    await ann.getByText('It goes to your session’s ~/.private on perch’s server and nowhere else').waitFor()
    await picture(ann, 'git-https-token')
    await giveToken(ann, 'ann', http.tokens.ann)
    await done(ann, 'Pulled.')
    await eventually('it is in the editor', async () => await shown(ann) === 'one\ntwo\n')
    assert.ok(http.seen.some(({ user, service }) => user === 'ann' && service.includes('upload-pack')))
    assert.ok(!(await remembered(ann)).includes(http.tokens.ann), 'the page keeps no token')

    // Another server at its address, whose certificate nobody here has signed, is given nothing.
    http.sent.length = 0
    tls.impostor(http)
    stage.allowed = /status of (404|409|422|502)/
    await button(ann, 'Fetch').click()
    await ann.locator('.git > .failure').waitFor()
    await picture(ann, 'git-https-impostor')
    assert.deepEqual(http.sent, [], 'nothing was sent to it')
    void id
  } finally {
    http.stop()
  }
}
