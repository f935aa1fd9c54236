// The page in a real browser. Usage: node page.mjs PERCH_BINARY SCENARIO; PERCH_SHOTS=folder keeps pictures.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { editor, enter, eventually, newFile, openFile, shown, Stage, standing } from './harness.mjs'

const [binary, scenario] = process.argv.slice(2)

async function picture(page, name) {
  if (process.env.PERCH_SHOTS) await page.screenshot({ path: path.join(process.env.PERCH_SHOTS, `${name}.png`) })
}

const count = (text, token) => text.split(token).length - 1

/** Types a token as a line of its own at the end. */
async function typeLine(page, text) {
  await editor(page).press('Control+End')
  await editor(page).pressSequentially(`${text}\n`)
}

/** Somebody who opens a share link. */
async function visitor(stage, secret) {
  const eve = await stage.person()
  await eve.goto(`${stage.url}/#link=${secret}`)
  const name = eve.getByLabel('Name', { exact: true })
  await name.or(eve.getByRole('tree')).first().waitFor()
  assert.ok(!eve.url().includes(secret), 'the secret is out of the address')
  if (await name.isVisible()) {
    await name.fill('Eve')
    await eve.getByRole('button', { name: 'Go on' }).click()
  }
  return eve
}

const scenarios = {
  /** A share link: the visitor reads along without a token, and is told when the link works no more. */
  async visitors() {
    const stage = new Stage(binary)
    await stage.start()
    const { id } = await stage.api('POST', '', { name: 'shared' })
    await eventually('ready', async () => (await stage.api('GET', `/${id}`)).state === 'ready')
    fs.writeFileSync(path.join(stage.workspace(id), 'a.txt'), 'for visitors\n')
    const link = await stage.api('POST', `/${id}/links`, { permission: 'read' })
    const eve = await visitor(stage, link.secret)
    await openFile(eve, 'a.txt')
    await editor(eve).getByText('for visitors').waitFor()
    await editor(eve).press('Control+End')
    await editor(eve).pressSequentially('EVIL')
    fs.appendFileSync(path.join(stage.workspace(id), 'a.txt'), 'more\n')
    await editor(eve).getByText('more').waitFor()
    assert.equal(count(fs.readFileSync(path.join(stage.workspace(id), 'a.txt'), 'utf8'), 'EVIL'), 0)
    await stage.api('DELETE', `/${id}/links/${link.id}`)
    stage.allowed = /410/
    const late = await stage.person()
    await late.goto(`${stage.url}/#link=${link.secret}`)
    await late.getByText('The link opens nothing').waitFor()
    await stage.end()
  },

  /** From the printed link to two people in one file. */
  async together() {
    const stage = new Stage(binary)
    await stage.start()
    const ann = await stage.person()
    await ann.goto(stage.link)
    await ann.getByRole('heading', { name: 'No branches yet' }).waitFor()
    assert.ok(!ann.url().includes('perch_'), 'the token is out of the address')
    assert.ok(!(await ann.evaluate(() => JSON.stringify(localStorage))).includes('perch_'), 'and not in localStorage')
    await ann.getByRole('button', { name: 'New branch' }).click()
    await ann.getByLabel('Name', { exact: true }).fill('hello')
    await ann.getByRole('button', { name: 'Make branch' }).click()
    const id = await enter(ann, stage.link, 'hello', 'Ann Lee')
    await newFile(ann, 'src/main.rs')
    await editor(ann).pressSequentially('fn main() {\nprintln!("hello");')
    await standing(ann, 'saved')
    await ann.locator('[role=treeitem][data-path="src/main.rs"]').waitFor()

    const bob = await stage.person({ colorScheme: 'dark' })
    assert.equal(await enter(bob, stage.link, 'hello', 'Bob'), id)
    await bob.locator('[role=treeitem][data-path="src"]').click()
    await openFile(bob, 'src/main.rs')
    await editor(bob).getByText('println').waitFor()
    const names = (page) => page.locator('.people li').evaluateAll((items) => items.map((item) => item.dataset.person))
    await eventually('each sees both', async () =>
      (await names(ann)).join() === 'Ann Lee,Bob' && (await names(bob)).join() === 'Bob,Ann Lee')

    // Both type at once, in lines of their own.
    await editor(ann).press('Control+Home')
    await editor(bob).press('Control+End')
    await Promise.all([
      editor(ann).pressSequentially('// ann was here 😀\n', { delay: 5 }),
      editor(bob).pressSequentially('\n// bob was here é\n', { delay: 5 })
    ])
    await standing(ann, 'saved')
    await standing(bob, 'saved')
    const file = path.join(stage.workspace(id), 'src/main.rs')
    await eventually('both and the file hold the same', async () => {
      const texts = [await shown(ann), await shown(bob), fs.readFileSync(file, 'utf8')]
      return texts.every((text) => text === texts[0] &&
        count(text, '// ann was here 😀') === 1 && count(text, '// bob was here é') === 1)
    })
    const caretOf = (page) => page.locator('section.file:not([hidden]) .cm-other-name').allTextContents()
    await eventually('each sees the other’s caret', async () =>
      (await caretOf(ann)).join() === 'Bob' && (await caretOf(bob)).join() === 'Ann Lee')
    await editor(bob).press('Shift+Control+Home')
    await ann.locator('.cm-other-selection').first().waitFor()
    await picture(ann, 'together-light')
    await picture(bob, 'together-dark')
    await ann.setViewportSize({ width: 1024, height: 700 })
    await picture(ann, 'together-1024')
    assert.ok(await ann.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing is cut off at 1024 px')

    // Undo takes back own edits only.
    await editor(ann).press('Control+z')
    await eventually('only Ann’s last edit is gone', async () => {
      const text = await shown(bob)
      return !text.includes('ann was here') && text.includes('bob was here') && text === await shown(ann)
    })

    // A change on disk arrives like anyone else's.
    await standing(ann, 'saved')
    await eventually('the file has caught up', async () => fs.readFileSync(file, 'utf8') === await shown(ann))
    fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace('hello', 'good day'))
    await editor(bob).getByText('good day').waitFor()
    await editor(ann).getByText('good day').waitFor()

    // Another name is felt by the others at once.
    await ann.getByRole('button', { name: 'change your name' }).click()
    await ann.getByLabel('Name', { exact: true }).fill('Ann B.')
    await ann.getByRole('button', { name: 'Go on' }).click()
    await eventually('Bob sees the new name', async () => (await names(bob)).join() === 'Bob,Ann B.')

    await bob.context().close()
    await eventually('Bob is gone', async () => (await names(ann)).join() === 'Ann B.')
  },

  /** One types in a terminal, others watch; what listens on a port is a click away. */
  async terminals() {
    const stage = new Stage(binary)
    await stage.start()
    const { id } = await stage.api('POST', '', { name: 'shells' })
    await eventually('ready', async () => (await stage.api('GET', `/${id}`)).state === 'ready')
    const ann = await stage.person()
    await enter(ann, stage.link, 'shells', 'Ann')
    const screen = (page) => page.locator('.xterm-rows')
    const type = async (page, text) => {
      await page.locator('.xterm-helper-textarea').focus()
      await page.keyboard.type(text)
    }
    await ann.getByRole('button', { name: 'New terminal' }).click()
    await ann.locator('.shell[data-typing=true]').waitFor()
    await type(ann, 'echo sum-$((20+22)) häm\n')
    await screen(ann).getByText('sum-42 häm').waitFor()

    const bob = await stage.person({ colorScheme: 'dark' })
    await enter(bob, stage.link, 'shells', 'Bob')
    await bob.getByRole('button', { name: /^Terminals/ }).click()
    await screen(bob).getByText('sum-42 häm').waitFor()
    await bob.getByText('you watch').waitFor()
    await type(bob, 'echo EVIL\n')
    await type(ann, 'echo after-$((1+1))\n')
    for (const page of [ann, bob]) await screen(page).getByText('after-2').waitFor()
    assert.equal(count(await screen(ann).innerText(), 'EVIL'), 0, 'who watches types nothing')
    await picture(ann, 'terminals-light')
    await picture(bob, 'terminals-dark')
    await ann.setViewportSize({ width: 1024, height: 700 })
    assert.ok(await ann.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing is cut off at 1024 px')

    // Loaded anew, the screen is what it was.
    await ann.reload()
    await ann.getByRole('button', { name: /^Terminals/ }).click()
    await screen(ann).getByText('after-2').waitFor()
    await ann.locator('.shell[data-typing=true]').waitFor()

    // A visitor with the right to read opens none.
    const link = await stage.api('POST', `/${id}/links`, { permission: 'read' })
    const eve = await visitor(stage, link.secret)
    await eve.getByRole('button', { name: /^Terminals/ }).click()
    await screen(eve).getByText('after-2').waitFor()
    assert.equal(await eve.getByRole('button', { name: 'New terminal' }).count(), 0)

    // What a program serves.
    await type(ann, 'cd /tmp && echo served-here > index.html && python3 -m http.server 8123\n')
    const port = ann.locator('[data-port="8123"]')
    const [tab] = await Promise.all([ann.context().waitForEvent('page'), port.click()])
    await tab.getByText('served-here').waitFor()
    assert.equal(await tab.evaluate(() => window.opener), null)
    await tab.close()
    await ann.locator('.xterm-helper-textarea').focus()
    await ann.keyboard.press('Control+c')
    await port.waitFor({ state: 'detached' })

    await ann.getByRole('button', { name: /^End terminal/ }).click()
    await ann.getByRole('button', { name: 'End terminal', exact: true }).click()
    await ann.locator('.shell-foot').getByText('Ended').waitFor()
    await bob.locator('.shell-foot').getByText('Ended').waitFor()
    await ann.getByRole('button', { name: /^End terminal/ }).click()
    await ann.getByText('No terminal yet.').waitFor()
    await stage.end()
  },

  /** perch dies and comes back: typing goes on, the saved mark tells the truth throughout. */
  async offline() {
    const stage = new Stage(binary)
    await stage.start()
    const ann = await stage.person()
    const bob = await stage.person()
    const { id } = await stage.api('POST', '', { name: 'offline' })
    await enter(ann, stage.link, 'offline', 'Ann')
    await enter(bob, stage.link, 'offline', 'Bob')
    for (const page of [ann, bob]) await newFile(page, 'notes.txt')
    await typeLine(ann, 'before')
    await editor(bob).getByText('before').waitFor()
    await standing(ann, 'saved')
    await standing(bob, 'saved')

    // A perch that can't answer acknowledges nothing.
    stage.signal('SIGSTOP')
    await typeLine(ann, 'held')
    assert.equal(await ann.locator('.saved').getAttribute('data-standing'), 'saving')
    const warning = new Promise((resolve) => ann.once('dialog', (dialog) => {
      void dialog.dismiss()
      resolve(dialog.type())
    }))
    await ann.evaluate(() => { setTimeout(() => location.reload()) })
    assert.equal(await warning, 'beforeunload', 'leaving would lose the edit, and the page says so')
    assert.equal(await ann.locator('.saved').getAttribute('data-standing'), 'saving')
    stage.signal('SIGCONT')
    await standing(ann, 'saved')
    await editor(bob).getByText('held').waitFor()

    stage.allowed = /WebSocket connection to|ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|ERR_SOCKET_NOT_CONNECTED/
    await stage.crash()
    await standing(ann, 'offline')
    await standing(bob, 'offline')
    await typeLine(ann, 'ann offline 1')
    await typeLine(ann, 'ann offline 2')
    await typeLine(bob, 'bob offline')
    assert.equal(await ann.locator('.saved').getAttribute('data-standing'), 'offline')
    // The list and back: what was typed is still there.
    await ann.getByRole('link', { name: 'All branches' }).click()
    await ann.getByRole('heading', { name: 'Branches' }).waitFor()
    await ann.goBack()
    await editor(ann).getByText('ann offline 2').waitFor()
    await typeLine(ann, 'ann offline 3')
    await picture(ann, 'offline')
    await stage.start()
    await standing(ann, 'saved')
    await standing(bob, 'saved')
    const file = path.join(stage.workspace(id), 'notes.txt')
    await eventually('all lines are there once, everywhere', async () => {
      const texts = [await shown(ann), await shown(bob), fs.readFileSync(file, 'utf8')]
      const lines = ['before', 'held', 'ann offline 1', 'ann offline 2', 'ann offline 3', 'bob offline']
      return texts.every((text) => text === texts[0] && lines.every((line) => count(text, `${line}\n`) === 1))
    })
    const people = () => bob.locator('.people li').count()
    await eventually('both are here again', async () => await people() === 2)
    await ann.locator('.notice').waitFor({ state: 'detached' })

    // The new perch has another link, but the session goes on, also after the page is loaded anew.
    stage.allowed = /status of 401/
    await ann.reload()
    await editor(ann).getByText('ann offline 3').waitFor()
    await typeLine(ann, 'after')
    await editor(bob).getByText('after').waitFor()
    await standing(ann, 'saved')
  },

  /** What is no document, or is one no more, says so where it happens; text is kept. */
  async refusals() {
    const stage = new Stage(binary, '--max-document-bytes', '4096')
    await stage.start()
    const { id } = await stage.api('POST', '', { name: 'refusals' })
    const ann = await stage.person({ acceptDownloads: true })
    await eventually('ready', async () => (await stage.api('GET', `/${id}`)).state === 'ready')
    const folder = stage.workspace(id)
    const binaryBytes = Buffer.from([0x89, 0x50, 0xff, 0xfe, 0, 1, 2])
    fs.writeFileSync(path.join(folder, 'picture.png'), binaryBytes)
    fs.writeFileSync(path.join(folder, 'big.txt'), 'x'.repeat(5_000))
    fs.writeFileSync(path.join(folder, 'doomed.txt'), 'keep me\n')
    fs.mkdirSync(path.join(folder, 'docs'))
    fs.writeFileSync(path.join(folder, 'docs/a b#c?.md'), '# odd name\n')
    fs.symlinkSync('docs', path.join(folder, 'link'))
    await enter(ann, stage.link, 'refusals', 'Ann')

    const ended = ann.locator('section.file:not([hidden]) .ended')
    await ann.locator('[data-path="picture.png"]').click()
    await ended.getByText('not UTF-8 text').waitFor()
    await picture(ann, 'binary')
    const [download] = await Promise.all([
      ann.waitForEvent('download'), ended.getByRole('button', { name: 'Download the file' }).click()
    ])
    assert.equal(download.suggestedFilename(), 'picture.png')
    assert.deepEqual(fs.readFileSync(await download.path()), binaryBytes)
    await ann.locator('[data-path="big.txt"]').click()
    await ended.getByText('at most 4096').waitFor()

    // Odd names and links to folders.
    await ann.locator('[data-path="link"]').click()
    await openFile(ann, 'link/a b#c?.md')
    await editor(ann).getByText('# odd name').waitFor()
    await ann.reload()
    await editor(ann).getByText('# odd name').waitFor()
    assert.equal(await ann.getByRole('tab').count(), 3, 'the open files are remembered')

    // Deleted while it is open: the text stays and can be saved, the path can be opened anew.
    await openFile(ann, 'doomed.txt')
    await typeLine(ann, 'mine')
    await standing(ann, 'saved')
    await stage.api('DELETE', `/${id}/files/doomed.txt`)
    await ended.getByText('the file was deleted', { exact: false }).waitFor()
    assert.equal(await shown(ann), 'keep me\nmine\n')
    await picture(ann, 'deleted')
    const [kept] = await Promise.all([
      ann.waitForEvent('download'), ended.getByRole('button', { name: 'Save my text' }).click()
    ])
    assert.equal(fs.readFileSync(await kept.path(), 'utf8'), 'keep me\nmine\n')
    await editor(ann).press('Control+End')
    await editor(ann).press('x')
    assert.equal(await shown(ann), 'keep me\nmine\n', 'an ended file is not typed into')
    await ended.getByRole('button', { name: 'Open it again' }).click()
    await ended.waitFor({ state: 'detached' })
    await editor(ann).waitFor()
    await eventually('a new, empty history', async () => await shown(ann) === '')
    await typeLine(ann, 'second life')
    await standing(ann, 'saved')
    await eventually('on disk', () => fs.readFileSync(path.join(folder, 'doomed.txt'), 'utf8') === 'second life\n')

    // Growing past the limit.
    await newFile(ann, 'grows.txt')
    await editor(ann).fill('y'.repeat(5_000))
    await ended.getByText('would grow past 4096', { exact: false }).waitFor()
    assert.equal((await shown(ann)).length, 5_000, 'what was typed is still there')
  },

  /** A seat without any API token, as a share link gives it: read only, raised and ended by others. */
  async reading() {
    const stage = new Stage(binary)
    await stage.start()
    const { id } = await stage.api('POST', '', { name: 'reading' })
    const session = await stage.api('POST', `/${id}/sessions`, { id: 'guest', permission: 'write', name: 'Guest' })
    fs.writeFileSync(path.join(stage.workspace(id), 'a.txt'), 'read me\n')
    const guest = await stage.person()
    const seat = JSON.stringify({ ...session, branch: id, name: 'Guest' })
    await guest.addInitScript(([key, value]) => sessionStorage.setItem(key, value), [`perch.seat.${id}`, seat])
    await guest.goto(`${stage.url}/#/b/${id}/a.txt`)
    await editor(guest).getByText('read me').waitFor()
    await standing(guest, 'saved')
    await stage.api('PATCH', `/${id}/sessions/guest`, { permission: 'read' })
    await standing(guest, 'reading')
    await editor(guest).click()
    await editor(guest).press('x')
    assert.equal(await shown(guest), 'read me\n', 'a reader types nothing')
    await stage.api('PATCH', `/${id}/sessions/guest`, { permission: 'write' })
    await standing(guest, 'saved')
    await typeLine(guest, 'now I write')
    await eventually('on disk', () => fs.readFileSync(path.join(stage.workspace(id), 'a.txt'), 'utf8') === 'read me\nnow I write\n')
    await stage.api('PATCH', `/${id}/sessions/guest`, { permission: 'read' })
    await standing(guest, 'reading')
    await editor(guest).press('Control+z')
    assert.equal(await shown(guest), 'read me\nnow I write\n', 'a reader undoes nothing')
    // A look at the folders may be under way when a session ends.
    stage.allowed = /status of 401/
    await stage.api('DELETE', `/${id}/sessions/guest`)
    await guest.getByText('perch ended your session here').waitFor()
    await guest.getByRole('button', { name: 'Join again' }).click()
    await guest.getByText('Ask for a new link').waitFor()
    assert.equal(await shown(guest), 'read me\nnow I write\n')

    // With an API token joining again is one click, and what was typed meanwhile is kept.
    const ann = await stage.person()
    await enter(ann, stage.link, 'reading', 'Ann')
    await openFile(ann, 'a.txt')
    await standing(ann, 'saved')
    const { sessions } = await stage.api('GET', `/${id}/sessions`)
    await stage.api('DELETE', `/${id}/sessions/${sessions.find(({ name }) => name === 'Ann').id}`)
    await ann.getByText('perch ended your session here').waitFor()
    await typeLine(ann, 'typed outside')
    await standing(ann, 'offline')
    await picture(ann, 'session-ended')
    await ann.getByRole('button', { name: 'Join again' }).click()
    await standing(ann, 'saved')
    await eventually('on disk', () =>
      fs.readFileSync(path.join(stage.workspace(id), 'a.txt'), 'utf8') === 'read me\nnow I write\ntyped outside\n')
  },

  /** Two people of one colour: each caret has its own person's name, also after both have moved. */
  async carets() {
    const stage = new Stage(binary)
    await stage.start()
    const { id } = await stage.api('POST', '', { name: 'carets' })
    const seat = async (session, name) => {
      const grant = await stage.api('POST', `/${id}/sessions`, { id: session, permission: 'write', name, color: '#0f766e' })
      const page = await stage.person()
      const kept = JSON.stringify({ ...grant, branch: id, name })
      await page.addInitScript(([key, value]) => sessionStorage.setItem(key, value), [`perch.seat.${id}`, kept])
      await page.goto(`${stage.url}/#/b/${id}/a.txt`)
      await editor(page).waitFor()
      return page
    }
    // One colour is not enough to tell them apart.
    const ann = await seat('a', 'Ann')
    const ida = await seat('i', 'Ida')
    const watcher = await seat('w', 'Watcher')
    await editor(ann).pressSequentially('one\ntwo\nthree')
    const whoIsWhere = () => editor(watcher).evaluate((content) => [...content.querySelectorAll('.cm-line')].map((line) =>
      [...line.querySelectorAll('.cm-other-name')].map(({ textContent }) => textContent).join()).join('|'))
    const colours = () => watcher.locator('.cm-other-caret').evaluateAll((carets) =>
      carets.map((caret) => caret.style.getPropertyValue('--who')))
    await editor(ann).press('Control+Home')
    await editor(ida).press('Control+End')
    await eventually('each at an end', async () => await whoIsWhere() === 'Ann||Ida')
    const [first, second] = await colours()
    assert.equal(first, second, 'the two have one colour, or this shows nothing')
    await editor(ann).press('Control+End')
    await editor(ida).press('Control+Home')
    await eventually('each at the other end', async () => await whoIsWhere() === 'Ida||Ann')
  },

  /** Signing in, branches in all states, and what is said when something is wrong. */
  async branches() {
    const stage = new Stage(binary)
    await stage.start()
    const ann = await stage.person()
    let sockets = 0
    ann.on('websocket', () => { sockets += 1 })
    await ann.goto(stage.url)
    await ann.getByText('perch prints a link when it starts').waitFor()
    await picture(ann, 'sign-in')
    stage.allowed = /status of (401|400)/
    await ann.getByLabel('Link or token').fill('perch_not_a_token')
    await ann.getByRole('button', { name: 'Sign in' }).click()
    await ann.getByText('perch refused this page’s token').waitFor()
    await ann.getByLabel('Link or token').fill(stage.link)
    await ann.getByRole('button', { name: 'Sign in' }).click()
    await ann.getByRole('heading', { name: 'No branches yet' }).waitFor()
    await picture(ann, 'no-branches')
    const make = async (name, url) => {
      await ann.getByRole('button', { name: 'New branch' }).click()
      await ann.getByLabel('Name', { exact: true }).fill(name)
      if (url !== undefined) await ann.getByLabel('Git repository').fill(url)
      await ann.getByRole('button', { name: 'Make branch' }).click()
    }
    await make('secret', 'file:///etc')
    await ann.getByRole('alert').getByText('the git URL is refused').waitFor()
    await picture(ann, 'make-branch')
    await ann.keyboard.press('Escape')
    await make('unreachable', 'http://127.0.0.1:9/nothing.git')
    const row = (name) => ann.locator('.rows li', { hasText: name })
    await ann.locator('.rows li[data-state="failed"]').waitFor()
    assert.ok((await row('unreachable').locator('.row-error').textContent()).length > 10, 'the reason is shown')
    await make('plain <b>words</b>')
    await row('plain <b>words</b>').getByText('Ready').waitFor()
    await picture(ann, 'branches')
    // Keys alone are enough to get to a branch.
    await ann.keyboard.press('Tab')
    await row('plain').getByRole('link').focus()
    await ann.keyboard.press('Enter')
    await ann.getByRole('dialog', { name: 'Your name' }).waitFor()
    await ann.getByLabel('Name', { exact: true }).fill('a<b')
    await ann.keyboard.press('Enter')
    await ann.getByRole('alert').getByText('can’t hold').waitFor()
    await ann.getByLabel('Name', { exact: true }).fill('Ann')
    await ann.keyboard.press('Enter')
    await ann.getByRole('heading', { name: 'Open a file' }).waitFor()
    await picture(ann, 'empty-branch')
    assert.equal(sockets, 0, 'without an open file there is no socket, which perch would close')

    // Signing out leaves nothing behind in the tab.
    await ann.getByRole('link', { name: 'All branches' }).click()
    await ann.getByRole('button', { name: 'Sign out' }).click()
    await ann.getByRole('heading', { name: 'Open perch by its link' }).waitFor()
    assert.equal(await ann.evaluate(() => sessionStorage.length), 0)

    // What the server says with the page.
    const index = await fetch(stage.url)
    assert.equal(index.status, 200)
    const policy = index.headers.get('content-security-policy')
    for (const part of ["default-src 'self'", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"]) {
      assert.ok(policy.includes(part), `${part} in ${policy}`)
    }
    assert.equal(index.headers.get('cache-control'), 'no-cache')
    assert.equal(index.headers.get('referrer-policy'), 'no-referrer')
    const script = `/${/src="(assets\/[^"]+)"/.exec(await index.text())[1]}`
    const asset = await fetch(stage.url + script, { headers: { 'accept-encoding': 'gzip' } })
    assert.equal(asset.headers.get('content-encoding'), 'gzip')
    assert.ok(asset.headers.get('cache-control').includes('immutable'))
    assert.equal(asset.headers.get('x-content-type-options'), 'nosniff')
    assert.equal((await fetch(`${stage.url}/assets/none.js`)).status, 404)
    assert.equal((await fetch(`${stage.url}/assets/..%2findex.html`)).status, 404)
  }
}

const run = scenarios[scenario]
assert.ok(run, `scenarios: ${Object.keys(scenarios).join(', ')}`)
const stages = []
const made = Stage.prototype.start
Stage.prototype.start = function start() {
  if (!stages.includes(this)) stages.push(this)
  return made.call(this)
}
try {
  await run()
  for (const { errors } of stages) assert.deepEqual(errors, [], 'the pages had errors')
  console.log(`${scenario}: ok`)
} finally {
  for (const stage of stages) {
    if (stage.errors.length > 0) console.error(stage.errors.join('\n'))
    await stage.end()
  }
}
