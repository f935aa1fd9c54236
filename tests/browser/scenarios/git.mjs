// Git in the page: several people, each in their own name and with their own token, in one open editor.
import assert from 'node:assert/strict'
import crypto from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { commitTo, git as plain } from '../../clients/git_server.mjs'
import {
  button, cloned, commit, commitAll, done, entry, fold, giveEmail, giveEmailIfAsked, giveToken, holders, inside,
  perch, remembered, repositoryOn, server
} from '../git_steps.mjs'
import {
  accessible, count, editor, enter, eventually, newFile, onDisk, openFile, panel, picture, shown, Stage, standing,
  typeLine, visitor
} from '../harness.mjs'

/** Two people commit one file's work, each in their own name, and push with their own tokens; a wrong one is asked for again. */
export async function git_own_names() {
  const stage = perch()
  const { bare, http } = await server(stage, { 'a.txt': 'one\ntwo\nthree\n' })
  try {
    await stage.start()
    const id = await cloned(stage, http, 'team')
    const folder = stage.workspace(id)
    const ann = await stage.person()
    const bob = await stage.person({ colorScheme: 'dark' })
    await enter(ann, stage.link, 'team', 'Ann Lee')
    await enter(bob, stage.link, 'team', 'Bob')
    await newFile(bob, 'b.txt')
    await typeLine(bob, 'of bob')
    await standing(bob, 'saved')
    await panel(bob, 'git')
    await button(bob, 'Stage b.txt').click()
    await entry(bob, 'b.txt', 'staged').waitFor()
    await commit(bob, 'a file of Bob’s')
    await bob.getByText('this session has none yet').waitFor()
    await picture(bob, 'git-email-dark')
    await accessible(bob, 'the panel asks for an email', '#side')
    await giveEmail(bob, 'bob@example.org')
    await done(bob, 'Committed')

    await openFile(ann, 'a.txt')
    await panel(bob, 'files')
    await openFile(bob, 'a.txt')
    await typeLine(ann, 'typed by ann')
    await standing(ann, 'saved')
    await editor(bob).getByText('typed by ann').waitFor()
    await typeLine(bob, 'typed by bob')
    await standing(bob, 'saved')
    await panel(ann, 'git')
    await entry(ann, 'a.txt', 'work').locator('[data-changed-by="Ann Lee,Bob"], [data-changed-by="Bob,Ann Lee"]').waitFor()
    await ann.locator('[data-panel=files]').click()
    await ann.locator('[role=treeitem][data-path="a.txt"]').getByText('M', { exact: true }).waitFor()
    await panel(ann, 'git')
    await picture(ann, 'git-changes')
    await button(ann, 'Stage a.txt').click()
    await ann.locator('[data-typist] input:checked').waitFor()
    await picture(ann, 'git-staged')
    await accessible(ann, 'the git panel', '#side')
    await commit(ann, 'work of both')
    await giveEmail(ann, 'ann@example.org')
    await done(ann, 'with Bob')
    const last = (format) => inside(folder, 'log', '-1', `--format=${format}`).trim()
    assert.equal(last('%an <%ae> %cn'), 'Ann Lee <ann@example.org> Ann Lee')
    assert.equal(last('%(trailers:key=Co-authored-by,valueonly)'), 'Bob <bob@example.org>')
    assert.equal(inside(folder, 'log', '-1', '--format=%an <%ae>', '--', 'b.txt').trim(), 'Bob <bob@example.org>')

    // A name can be taken off.
    await typeLine(bob, 'again bob')
    await standing(bob, 'saved')
    await editor(ann).getByText('again bob').waitFor()
    await button(ann, 'Stage a.txt').click()
    await ann.locator('[data-typist] input:checked').uncheck()
    await commit(ann, 'without a name')
    await done(ann, 'Committed')
    assert.equal(last('%(trailers:key=Co-authored-by,valueonly)'), '')

    // Ann's token: none, a wrong one, the right one.
    await button(ann, 'Push').click()
    await ann.getByText(`${http.host} wants a token`).waitFor()
    await ann.getByText('~/.private').waitFor()
    await picture(ann, 'git-token')
    await accessible(ann, 'the panel asks for a token', '#side')
    const wrong = `wr0ng-${crypto.randomBytes(8).toString('hex')}`
    await giveToken(ann, 'ann', wrong)
    await ann.getByText(`${http.host} refused the token`).waitFor()
    await giveToken(ann, 'ann', http.tokens.ann)
    await done(ann, 'Pushed.')
    assert.equal(plain(bare, 'rev-parse', 'main').trim(), inside(folder, 'rev-parse', 'HEAD').trim())
    const pushed = () => http.seen.filter(({ service }) => service.includes('receive-pack')).map(({ user }) => user)
    assert.deepEqual([...new Set(pushed())], ['ann'])

    // Bob's is another; an expired one is asked for anew.
    await typeLine(bob, 'bob once more')
    await standing(bob, 'saved')
    await panel(bob, 'git')
    await commit(bob, 'all of it')
    await done(bob, 'Committed')
    await button(bob, 'Push').click()
    await giveToken(bob, 'bob', http.tokens.bob)
    await done(bob, 'Pushed.')
    assert.ok(pushed().includes('bob'))
    const old = http.tokens.bob
    http.tokens.bob = `t0ken-${crypto.randomBytes(12).toString('hex')}`
    await button(bob, 'Fetch').click()
    await bob.getByText(`${http.host} refused the token`).waitFor()
    await giveToken(bob, 'bob', http.tokens.bob)
    await done(bob, 'Fetched.')

    assert.ok(http.sent.some((sent) => Buffer.from(sent.replace('Basic ', ''), 'base64').includes(wrong)), 'the wrong one was tried')
    for (const secret of [wrong, old, ...Object.values(http.tokens)]) {
      for (const page of [ann, bob]) assert.ok(!(await remembered(page)).includes(secret), 'the page keeps no token')
      assert.ok(!stage.log.includes(secret), 'no token is logged')
      assert.deepEqual(holders(stage.data, secret), [], 'no token is on disk')
    }
  } finally {
    http.stop()
  }
}

/** Changes of one file staged, taken back and discarded one by one. */
export async function git_hunks() {
  const stage = perch()
  await stage.start()
  const lines = Array.from({ length: 40 }, (_, n) => `line ${n + 1}`)
  const id = await repositoryOn(stage, 'hunks', { 'a.txt': `${lines.join('\n')}\n` })
  const folder = stage.workspace(id)
  const ann = await stage.person()
  await enter(ann, stage.link, 'hunks', 'Ann')
  await openFile(ann, 'a.txt')
  await editor(ann).getByText('line 1', { exact: true }).waitFor()
  await editor(ann).press('Control+Home')
  await editor(ann).pressSequentially('FIRST ')
  await editor(ann).press('Control+End')
  await editor(ann).pressSequentially('LAST')
  await standing(ann, 'saved')
  await panel(ann, 'git')
  await entry(ann, 'a.txt', 'work').locator('.git-row').click()
  const hunks = ann.locator('section.file:not([hidden]) .hunk')
  await eventually('two hunks', async () => await hunks.count() === 2)
  await hunks.first().locator('.cm-merge-b').getByText('FIRST line 1').waitFor()
  await picture(ann, 'git-diff')
  await accessible(ann, 'a diff', 'section.file:not([hidden])')
  await hunks.first().getByRole('button', { name: 'Stage hunk' }).click()
  await entry(ann, 'a.txt', 'staged').waitFor()
  await eventually('one hunk is left', async () => await hunks.count() === 1)
  const cached = inside(folder, 'diff', '--cached')
  assert.ok(cached.includes('+FIRST line 1') && !cached.includes('LAST'), cached)
  await entry(ann, 'a.txt', 'staged').locator('.git-row').click()
  await eventually('the staged one', async () => await hunks.count() === 1 && (await hunks.first().textContent()).includes('FIRST'))
  await hunks.first().getByRole('button', { name: 'Unstage hunk' }).click()
  await entry(ann, 'a.txt', 'staged').waitFor({ state: 'detached' })
  assert.equal(inside(folder, 'diff', '--cached'), '')

  // What is discarded goes out of the open editor, the rest stays.
  await entry(ann, 'a.txt', 'work').locator('.git-row').click()
  await eventually('two again', async () => await hunks.count() === 2)
  await hunks.last().getByRole('button', { name: 'Discard hunk' }).click()
  await ann.getByRole('dialog', { name: 'Discard this hunk?' }).getByRole('button', { name: 'Discard' }).click()
  await eventually('one is left', async () => await hunks.count() === 1)
  await ann.locator('[role=tab]', { hasText: /^a\.txt$/ }).click()
  await eventually('the editor has one of them', async () => {
    const text = fs.readFileSync(path.join(folder, 'a.txt'), 'utf8')
    return text.includes('FIRST') && !text.includes('LAST') && (await shown(ann)).includes('FIRST')
  })
  await ann.emulateMedia({ colorScheme: 'dark' })
  await entry(ann, 'a.txt', 'work').locator('.git-row').click()
  await eventually('shown', async () => await hunks.count() === 1)
  await picture(ann, 'git-diff-dark')
  await accessible(ann, 'a diff, dark', 'section.file:not([hidden])', '#side')

  // Asked for while another step runs: it waits for its turn.
  const more = ['b.txt', 'c.txt', 'd.txt']
  for (const name of more) fs.writeFileSync(path.join(folder, name), `${name}\n`)
  for (const name of more) await entry(ann, name, 'work').waitFor()
  await ann.evaluate((names) => {
    for (const name of names) document.querySelector(`[aria-label="Stage ${name}"]`).click()
  }, more)
  for (const name of more) await entry(ann, name, 'staged').waitFor()
}

/** A pull comes into the open editor; the cursor stays in its line. A pull that takes long is told of, and can be stopped. */
export async function git_pull_arrives() {
  const stage = perch()
  const { bare, http } = await server(stage, { 'a.txt': 'one\ntwo\nthree\n' })
  try {
    await stage.start()
    await cloned(stage, http, 'pulls')
    const ann = await stage.person()
    const bob = await stage.person()
    await enter(ann, stage.link, 'pulls', 'Ann')
    await enter(bob, stage.link, 'pulls', 'Bob')
    for (const page of [ann, bob]) await openFile(page, 'a.txt')
    await editor(bob).getByText('three').waitFor()
    await editor(bob).press('Control+Home')
    await editor(bob).press('ArrowDown')
    await editor(bob).press('End')
    commitTo(bare, 'a.txt', 'zero\none\ntwo\nthree\nfour\n')
    await panel(ann, 'git')
    await button(ann, 'Pull').click()
    await giveToken(ann, 'ann', http.tokens.ann)
    await done(ann, 'Pulled.')
    for (const page of [ann, bob]) await eventually('it is in the editor', async () => (await shown(page)).startsWith('zero\none\ntwo\nthree\nfour'))
    await editor(bob).pressSequentially('!')
    await eventually('the cursor stayed', async () => await shown(ann) === 'zero\none\ntwo!\nthree\nfour\n')

    // Slow, and stopped.
    await commit(ann, 'the mark')
    await giveEmail(ann, 'ann@example.org')
    await done(ann, 'Committed')
    const before = inside(stage.workspace(await ann.evaluate(() => location.hash.split('/')[2])), 'rev-parse', 'HEAD')
    commitTo(bare, 'large', crypto.randomBytes(4_000_000))
    http.pause = 1_000
    await button(ann, 'Fetch').click()
    await ann.locator('.git-busy', { hasText: /Fetching: [a-z ]+/ }).waitFor()
    await picture(ann, 'git-progress')
    await ann.locator('.git-busy').getByRole('button', { name: 'Cancel' }).click()
    await ann.getByText('Fetching was stopped.').waitFor()
    assert.equal(inside(stage.workspace(await ann.evaluate(() => location.hash.split('/')[2])), 'rev-parse', 'HEAD'), before)
    // Both sides have commits now: the page says so, and merges.
    http.pause = 0
    await button(ann, 'Fetch').click()
    await done(ann, 'Fetched.')
    await button(ann, 'Pull and merge').click()
    await done(ann, 'Pulled.')
  } finally {
    http.stop()
  }
}

/** Two people solve a conflict in the live editor; another one is aborted, and what was typed beside it stays. */
export async function git_conflicts() {
  const stage = perch()
  await stage.start()
  const base = 'top\nmiddle\nbottom\n'
  const id = await repositoryOn(stage, 'conflicts', { 'a.txt': base, 'b.txt': 'b\n' })
  const folder = stage.workspace(id)
  for (const [name, word] of [['other', 'OTHER'], ['third', 'THIRD']]) {
    await stage.api('POST', `/${id}/git/switch`, { branch: name, create: 'main', session: 'seed' })
    await commitAll(stage, id, { 'a.txt': base.replace('middle', word) }, `on ${name}`)
    await stage.api('POST', `/${id}/git/switch`, { branch: 'main', session: 'seed' })
  }
  await commitAll(stage, id, { 'a.txt': base.replace('middle', 'MAIN') }, 'on main')
  const ann = await stage.person()
  const bob = await stage.person()
  for (const [page, name] of [[ann, 'Ann'], [bob, 'Bob']]) {
    await enter(page, stage.link, 'conflicts', name)
    await openFile(page, 'a.txt')
    await editor(page).getByText('MAIN').waitFor()
    await panel(page, 'git')
  }
  await fold(ann, 'Branches')
  await button(ann, 'Merge other into the one that is checked out').click()
  await giveEmail(ann, 'ann@example.org')
  await ann.locator('[data-conflict="a.txt"]').waitFor()
  // Bob sees it too, without asking.
  await bob.locator('[data-conflict="a.txt"]').waitFor()
  await editor(bob).getByText('<<<<<<<').waitFor()
  await picture(bob, 'git-conflict')
  await accessible(bob, 'a conflict', '#side')
  // Marked too early: a question, and nothing happens.
  await button(ann, 'Mark a.txt as solved').click()
  await ann.getByRole('dialog', { name: 'Still in conflict' }).getByRole('button', { name: 'Cancel' }).click()
  await ann.locator('.git > .failure').waitFor()
  assert.ok(await button(ann, 'Continue').isDisabled())
  // Each does a part of it.
  const solve = (page, text) => editor(page).fill(text)
  await editor(bob).press('Control+End')
  await editor(bob).pressSequentially('bob was here\n')
  await standing(bob, 'saved')
  await editor(ann).getByText('bob was here').waitFor()
  await solve(ann, 'top\nBOTH\nbottom\nbob was here\n')
  await standing(ann, 'saved')
  await editor(bob).getByText('BOTH').waitFor()
  await button(bob, 'Mark a.txt as solved').click()
  await eventually('solved for Ann too', async () => await button(ann, 'Continue').isEnabled())
  await button(ann, 'Continue').click()
  await done(ann, 'Done.')
  assert.equal(inside(folder, 'log', '-1', '--format=%an %P').trim().split(' ').length, 3, 'a merge of Ann’s')
  assert.equal(inside(folder, 'show', 'HEAD:a.txt'), 'top\nBOTH\nbottom\nbob was here\n')
  await bob.locator('.git-operation').waitFor({ state: 'detached' })

  await button(ann, 'Merge third into the one that is checked out').click()
  await bob.locator('[data-conflict="a.txt"]').waitFor()
  await editor(bob).getByText('<<<<<<<').waitFor()
  await editor(bob).press('Control+End')
  await editor(bob).pressSequentially('typed beside\n')
  await standing(bob, 'saved')
  await button(bob, 'Abort').click()
  await done(bob, 'Aborted.')
  for (const page of [ann, bob]) {
    await eventually('as before, with what was typed', async () => await shown(page) === 'top\nBOTH\nbottom\nbob was here\ntyped beside\n')
    await page.locator('.git-operation').waitFor({ state: 'detached' })
  }
}

/** Conflicts of a pull have buttons and keys for mine, theirs and both: edits of one's own, absent for readers. */
export async function git_takes() {
  const stage = perch()
  // Conflicts that are closer to each other git makes one.
  const between = ['a', 'b', 'c', 'd', 'e']
  const text = (words) => ['top', ...between, words[0], ...between, words[1], ...between, words[2], 'end', ''].join('\n')
  const { bare, http } = await server(stage, { 'a.txt': text(['one', 'two', 'three']) })
  try {
    await stage.start()
    const id = await cloned(stage, http, 'takes')
    await commitAll(stage, id, { 'a.txt': text(['MINE 1', 'MINE 2', 'MINE 3']) }, 'mine')
    commitTo(bare, 'a.txt', text(['theirs 1', 'theirs 2', 'theirs 3']))
    const ann = await stage.person()
    const bob = await stage.person()
    for (const [page, name] of [[ann, 'Ann'], [bob, 'Bob']]) {
      await enter(page, stage.link, 'takes', name)
      await openFile(page, 'a.txt')
      await editor(page).getByText('MINE 3').waitFor()
    }
    const { secret } = await stage.api('POST', `/${id}/links`, { permission: 'read' })
    const eve = await visitor(stage, secret)
    await openFile(eve, 'a.txt')
    await panel(eve, 'git')
    await panel(ann, 'git')
    await button(ann, 'Fetch').click()
    await giveToken(ann, 'ann', http.tokens.ann)
    await done(ann, 'Fetched.')
    await button(ann, 'Pull and merge').click()
    await giveEmail(ann, 'ann@example.org')
    const bars = (page) => editor(page).getByRole('group', { name: /^Conflict \d of \d$/ })
    const are = (page, many) => eventually(`${many} conflicts`, async () => await bars(page).count() === many)
    for (const page of [ann, bob]) await are(page, 3)
    await eve.locator('[data-conflict="a.txt"]').waitFor()
    await editor(eve).getByText('<<<<<<<').first().waitFor()
    assert.equal(await bars(eve).count(), 0, 'a reader has none')
    await picture(ann, 'git-takes')
    await accessible(ann, 'conflicts with buttons', '.editor:not([hidden])')

    // Bob types in a line that stays, while Ann takes her side of it.
    await editor(bob).getByText('MINE 1').click()
    await editor(bob).press('End')
    await editor(bob).pressSequentially(' and bob')
    await bars(ann).first().getByRole('button', { name: 'Take mine: HEAD' }).click()
    await are(bob, 2)
    await editor(bob).pressSequentially(' on')
    // By keys: the editor's way out, and the buttons follow.
    await editor(ann).focus()
    await ann.keyboard.press('Escape')
    await ann.keyboard.press('Tab')
    const focused = () => ann.evaluate(() => document.activeElement.getAttribute('aria-label'))
    assert.equal(await focused(), 'Take mine: HEAD')
    await ann.keyboard.press('Tab')
    assert.match(await focused(), /^Take theirs: \S/)
    await ann.keyboard.press('Enter')
    await are(bob, 1)
    await ann.keyboard.press('Alt+F8')
    await ann.keyboard.press('F1')
    await ann.locator('dialog input:focus, [role=combobox]:focus').waitFor()
    await ann.keyboard.type('take both')
    await ann.keyboard.press('Enter')
    const solved = text(['MINE 1 and bob on', 'theirs 2', 'MINE 3\ntheirs 3'])
    for (const page of [ann, bob, eve]) await eventually('no marker is left', async () => await shown(page) === solved)
    // One's own edits: undo takes them back one by one, and not what Bob typed.
    await editor(ann).press('Control+z')
    await are(ann, 1)
    await editor(ann).press('Control+z')
    await are(ann, 2)
    await editor(ann).press('Control+y')
    await editor(ann).press('Control+y')
    await eventually('as it was', async () => await shown(ann) === solved)
    await onDisk(ann)
    assert.equal(fs.readFileSync(path.join(stage.workspace(id), 'a.txt'), 'utf8'), solved)
    await button(ann, 'Mark a.txt as solved').click()
    await button(ann, 'Continue').click()
    await done(ann, 'Done.')
    assert.equal(inside(stage.workspace(id), 'show', 'HEAD:a.txt'), solved)

    // In a rebase git calls the other branch its own; mine is what I committed.
    await button(ann, 'Push').click()
    await done(ann, 'Pushed.')
    await commitAll(stage, id, { 'a.txt': solved.replace('top', 'MY TOP') }, 'my top')
    commitTo(bare, 'a.txt', solved.replace('top', 'their top'))
    await button(ann, 'Fetch').click()
    await done(ann, 'Fetched.')
    await button(ann, 'Pull and rebase').click()
    await are(ann, 1)
    await picture(ann, 'git-takes-rebase')
    await bars(ann).first().getByRole('button', { name: /^Take mine: .*my top/ }).click()
    await eventually('mine', async () => (await shown(ann)).startsWith('MY TOP\na\n'))
    await button(ann, 'Mark a.txt as solved').click()
    await button(ann, 'Continue').click()
    await done(ann, 'Done.')
    assert.equal(inside(stage.workspace(id), 'show', 'HEAD:a.txt'), solved.replace('top', 'MY TOP'))
    assert.equal(inside(stage.workspace(id), 'log', '-1', '--format=%s').trim(), 'my top')
  } finally {
    http.stop()
  }
}

/** Work is kept, gone back to, put aside and brought back; git branches are made and switched; the log shows it. */
export async function git_keeps() {
  const stage = perch()
  await stage.start()
  const id = await repositoryOn(stage, 'keeps', { 'a.txt': 'one\n' })
  const folder = stage.workspace(id)
  const ann = await stage.person()
  await enter(ann, stage.link, 'keeps', 'Ann')
  await openFile(ann, 'a.txt')
  await typeLine(ann, 'worth keeping')
  await standing(ann, 'saved')
  await panel(ann, 'git')
  await fold(ann, 'Restore points')
  await ann.getByLabel('What the restore point is for').fill('before the mess')
  await button(ann, 'Keep').click()
  await button(ann, 'Go back to before the mess').waitFor()
  await typeLine(ann, 'mess')
  await standing(ann, 'saved')
  await button(ann, 'Go back to before the mess').click()
  await done(ann, 'The files are as they were')
  await eventually('gone back', async () => await shown(ann) === 'one\nworth keeping\n')

  await fold(ann, 'Put aside')
  await ann.getByLabel('Why it is put aside').fill('for later')
  await button(ann, 'Stash all').click()
  await giveEmailIfAsked(ann)
  await eventually('put aside', async () => await shown(ann) === 'one\n')
  await ann.getByRole('button', { name: /^Bring back .*for later/ }).click()
  await eventually('brought back', async () => await shown(ann) === 'one\nworth keeping\n')

  await commit(ann, 'kept')
  await giveEmailIfAsked(ann)
  await done(ann, 'Committed')
  await fold(ann, 'Branches')
  await ann.getByLabel('Name of a new git branch').fill('topic')
  await button(ann, 'Create').click()
  await ann.locator('[data-head]', { hasText: 'topic' }).waitFor()
  await typeLine(ann, 'on topic')
  await standing(ann, 'saved')
  await commit(ann, 'on topic')
  await done(ann, 'Committed')
  await button(ann, 'Switch to main').click()
  await ann.locator('[data-head]', { hasText: 'main' }).waitFor()
  await eventually('the file of main', async () => await shown(ann) === 'one\nworth keeping\n')
  assert.equal(inside(folder, 'branch', '--show-current').trim(), 'main')
  await fold(ann, 'Log')
  await ann.locator('[data-commit] .git-row', { hasText: 'kept' }).click()
  await ann.getByRole('list', { name: 'Files of kept' }).getByRole('button', { name: 'a.txt' }).click()
  await ann.locator('section.file:not([hidden]) .hunk .cm-merge-b').getByText('worth keeping').waitFor()
  await picture(ann, 'git-log')
  await accessible(ann, 'the unfolded panel', '#side', 'section.file:not([hidden])')
}

/** The gutter says who typed each line, for two typists, also after a restart. */
export async function git_blame_gutter() {
  const stage = perch()
  await stage.start()
  const id = await repositoryOn(stage, 'blame', { 'a.txt': 'committed\n' })
  const ann = await stage.person()
  const bob = await stage.person()
  for (const [page, name] of [[ann, 'Ann'], [bob, 'Bob']]) {
    await enter(page, stage.link, 'blame', name)
    await openFile(page, 'a.txt')
    await editor(page).getByText('committed').waitFor()
  }
  await typeLine(ann, 'of ann')
  await standing(ann, 'saved')
  await editor(bob).getByText('of ann').waitFor()
  await typeLine(bob, 'of bob')
  await standing(bob, 'saved')
  const who = () => ann.locator('section.file:not([hidden]) .cm-blame .cm-who').evaluateAll((all) => all.filter(({ title }) => title !== '').map(({ dataset }) => dataset.who).join())
  assert.equal(await who(), '', 'nothing before it is wanted')
  await button(ann, 'Who typed this').click()
  await eventually('who typed what', async () => await who() === 'Seed,Ann,Bob')
  await picture(ann, 'git-blame')
  await accessible(ann, 'the gutter', 'section.file:not([hidden])', '.foot')
  // It follows what is typed.
  await editor(bob).press('Control+Home')
  await editor(bob).pressSequentially('bob above\n')
  await eventually('the new line too', async () => await who() === 'Bob,Seed,Ann,Bob')
  await standing(bob, 'saved')
  stage.allowed = /ERR_|WebSocket|Failed to (load|fetch)|status of (401|404|409|422)/
  await stage.crash()
  await standing(ann, 'offline')
  await stage.start()
  await standing(ann, 'saved')
  // The link that signed the page in has ended; its session goes on.
  await ann.reload()
  await editor(ann).getByText('bob above').waitFor()
  await button(ann, 'Who typed this').click()
  await eventually('the same after a restart', async () => await who() === 'Bob,Seed,Ann,Bob')
  await button(ann, 'Who typed this').click()
  await ann.locator('.cm-blame').waitFor({ state: 'detached' })
  assert.equal(count(await shown(ann), 'of ann'), 1)
  void id
}
