// Each view, dialog and state of the page, looked at by the gallery.
import fs from 'node:fs'
import path from 'node:path'
import { Gallery } from '../gallery.mjs'
import {
  button, cloned, commit, commitAll, done, entry, fold, giveEmail, giveToken, perch, repositoryOn, server
} from '../git_steps.mjs'
import {
  binary, branchWith, editor, enter, eventually, newFile, onDisk, openFile, panel, row, Stage, standing, typeLine, visitor
} from '../harness.mjs'

const FILES = {
  'src/main.rs': '//! A comment.\nuse std::fmt;\n\nfn main() {\n    let number = 42;\n    println!("text {number}");\n}\n',
  'src/a folder with a very long name that has to be cut somewhere/file.txt': 'x\n',
  'page.html': '<!doctype html>\n<p class="a">text</p>\n', 'style.css': '.a { color: red }\n', 'read.md': '# Heading\n\n*words* `code`\n',
  'data.json': '{ "a": [1, true, null] }\n', '.gitignore': 'ignored\n', 'ignored/y.txt': 'y\n', 'picture.png': Buffer.from([0x89, 0x50, 0xff, 0])
}

const gone = (page) => page.getByRole('dialog').waitFor({ state: 'detached' })
/** Opens a dialog, looks at it, and closes it as it was opened: by a key. */
async function dialog(gallery, page, name, open) {
  await open()
  await page.getByRole('dialog').waitFor()
  await gallery.look(page, name)
  await page.keyboard.press('Escape')
  await gone(page)
}
const terminal = async (page, text) => {
  await button(page, 'New terminal').click()
  await page.locator('.shell[data-typing=true]').waitFor()
  await page.locator('.xterm-helper-textarea').focus()
  await page.keyboard.type(text)
}

/** From signing in to files, editors, searching and terminals; and what is seen when something goes wrong. */
export async function looks() {
  const stage = new Stage(binary)
  const gallery = new Gallery()
  stage.allowed = /status of (400|401|404)/
  await stage.start()
  const page = await stage.person()
  const view = (name, options) => gallery.look(page, name, options)
  await page.goto(stage.url)
  await page.getByText('Open perch by its link').waitFor()
  await view('sign-in')
  await page.getByLabel('Link or token').fill('perch_not_a_token')
  await button(page, 'Sign in').click()
  await page.getByText('perch refused this page’s token').waitFor()
  await view('sign-in-refused')
  await page.goto(`${stage.url}/#link=nothing`)
  await page.getByText('The link opens nothing').waitFor()
  await view('link-refused')
  await page.goto(stage.link)
  await page.getByRole('heading', { name: 'No branches yet' }).waitFor()
  await view('no-branches')
  const id = await branchWith(stage, 'looks', FILES)
  await stage.api('POST', '', { name: 'a branch with a very long name, from a place that can’t be reached', git: { url: 'http://127.0.0.1:9/nothing.git' } })
  await page.reload()
  await page.locator('.rows li[data-state="failed"]').waitFor()
  await view('branches')
  await button(page, 'New branch').click()
  await page.getByLabel('Name', { exact: true }).fill('secret')
  await page.getByLabel('Git repository').fill('file:///etc')
  await button(page, 'Make branch').click()
  await page.getByRole('alert').getByText('the git URL is refused').waitFor()
  await dialog(gallery, page, 'new-branch', async () => {})
  await page.getByRole('link', { name: 'looks' }).click()
  await page.getByRole('dialog', { name: 'Your name' }).waitFor()
  await view('your-name')
  await page.getByLabel('Name', { exact: true }).fill('Lea Light')
  await button(page, 'Go on').click()

  await row(page, 'src').waitFor()
  await view('empty')
  await row(page, 'src').click()
  await view('files', { isPanel: true })
  await openFile(page, 'src/main.rs')
  await editor(page).getByText('println').waitFor()
  await onDisk(page)
  await view('file')
  for (const file of ['page.html', 'style.css', 'read.md', 'data.json']) {
    await row(page, file).click()
    await page.locator(`section.file[data-file="${file}"]:not([hidden]) .cm-line span[class]`).first().waitFor()
    await view(file)
  }
  await editor(page).press('Control+f')
  await page.locator('.cm-search').waitFor()
  await view('find-in-file')
  await page.keyboard.press('Escape')
  await page.keyboard.press('Control+\\')
  await page.locator('.group[data-group="1"] .cm-content').waitFor()
  await view('split')
  await page.keyboard.press('Alt+w')
  await row(page, 'picture.png').click()
  await page.getByText('This file can’t be edited here').waitFor()
  await view('binary')
  await page.keyboard.press('Alt+w')

  const search = page.getByRole('textbox', { name: 'Search in files' })
  await page.keyboard.press('Control+Shift+f')
  await page.getByText('Type a word to find it').waitFor()
  await view('search-empty', { isPanel: true })
  await search.fill('text')
  await page.locator('.found-line').first().waitFor()
  await button(page, 'Where to search').click()
  await view('search', { isPanel: true })
  await search.fill('to be found nowhere')
  await page.getByText('Nothing found').waitFor()
  await view('search-nothing', { isPanel: true })
  await button(page, 'Regular expression').click()
  await search.fill('need[')
  await page.locator('.side [role=alert]').waitFor()
  await view('search-failed', { isPanel: true })
  await panel(page, 'files')

  await dialog(gallery, page, 'palette', async () => {
    await page.keyboard.press('Control+Shift+p')
    await page.getByRole('option').first().waitFor()
  })
  await dialog(gallery, page, 'quick-open', async () => {
    await page.keyboard.press('Control+p')
    await page.getByRole('option').first().waitFor()
  })
  await dialog(gallery, page, 'quick-open-nothing', async () => {
    await page.keyboard.press('Control+p')
    await page.getByRole('combobox').fill('no such thing')
    await page.getByText('No file is called that').waitFor()
  })
  await dialog(gallery, page, 'keys', () => page.keyboard.press('Shift+F1'))

  await button(page, 'Terminals').click()
  await page.getByText('No terminal yet.').waitFor()
  await view('terminals-none')
  await terminal(page, 'echo "some words"; false\n')
  await page.locator('.xterm-rows').getByText('some words').last().waitFor()
  await view('terminal')
  await button(page, 'Find').click()
  await page.getByRole('textbox', { name: 'Find in the terminal' }).fill('not to be found')
  await page.getByText('Not found').waitFor()
  await view('terminal-find')
  await button(page, 'Terminals (1)').click()

  // Two in one file: carets and selections of the other, faces, following.
  const other = await stage.person({ reducedMotion: 'reduce' })
  await enter(other, stage.link, 'looks', 'Dan Dark With A Long Name')
  await row(other, 'src').click()
  for (const one of [page, other]) await row(one, 'read.md').click()
  await editor(other).press('Control+Home')
  await editor(other).press('Shift+Control+End')
  await page.locator('.cm-other-selection').first().waitFor()
  await panel(page, 'people')
  await page.locator('.persons li').nth(1).waitFor()
  await page.keyboard.press('Alt+f')
  await page.locator('.notice-follow').waitFor()
  await view('together')
  await view('people', { isPanel: true })
  await panel(page, 'files')

  // What goes wrong is seen, too.
  stage.allowed = /./
  await stage.crash()
  await page.locator('.foot').getByText('Not connected').waitFor()
  await typeLine(page, 'typed offline')
  await page.locator('.notice', { hasText: 'Offline' }).waitFor()
  await view('offline')
  await stage.start()
  await page.locator('.foot').getByText('Connected', { exact: true }).waitFor()
  await onDisk(page)
  // Deleted while it is open, and opened anew.
  await newFile(page, 'doomed.txt')
  await typeLine(page, 'some text')
  await onDisk(page)
  await stage.api('DELETE', `/${id}/files/doomed.txt`)
  await page.getByText('This file is not shared any more').waitFor()
  await view('deleted')
  await button(page, 'Open it again').click()
  await page.getByText('Both texts').waitFor()
  await page.locator('.cm-deletedChunk').waitFor()
  await view('both')
  await button(page, 'Done').click()
  const { sessions } = await stage.api('GET', `/${id}/sessions`)
  await stage.api('DELETE', `/${id}/sessions/${sessions.find(({ name }) => name === 'Lea Light').id}`)
  await page.getByText('perch ended your session here').waitFor()
  await view('session-ended')
  gallery.end()
}

/** The dialogs and menus of files and terminals. */
export async function looks_dialogs() {
  const stage = new Stage(binary)
  const gallery = new Gallery()
  stage.allowed = /status of (404|409|412)/
  await stage.start()
  await branchWith(stage, 'dialogs', FILES)
  const page = await stage.person()
  await enter(page, stage.link, 'dialogs', 'Lea')
  const look = (name, open) => dialog(gallery, page, name, open)
  await openFile(page, 'read.md')
  for (const [name, file] of [['menu-folder', 'src'], ['menu-file', 'read.md']]) {
    // A menu goes when the window changes.
    await panel(page, 'files')
    await gallery.look(page, name, {
      isPanel: true,
      open: async () => {
        await row(page, file).click({ button: 'right' })
        await page.getByRole('menu').waitFor()
      }
    })
    await page.keyboard.press('Escape')
  }
  await gallery.look(page, 'menu-upload', { isPanel: true, open: () => page.getByRole('button', { name: 'Upload', exact: true }).click() })
  await page.keyboard.press('Escape')
  await look('new-file', () => page.getByRole('button', { name: 'New file' }).first().click())
  await look('new-folder', () => button(page, 'New folder').click())
  await look('rename', async () => {
    await row(page, 'read.md').focus()
    await page.keyboard.press('F2')
  })
  await look('rename-failed', async () => {
    await row(page, 'read.md').focus()
    await page.keyboard.press('F2')
    await page.getByLabel('Path').fill('page.html')
    await page.keyboard.press('Enter')
    await page.getByRole('dialog').getByRole('alert').waitFor()
  })
  for (const [name, file] of [['delete-folder', 'src'], ['delete-file', 'read.md']]) {
    await look(name, async () => {
      await row(page, file).focus()
      await page.keyboard.press('Delete')
    })
  }
  const local = path.join(stage.temp, 'local')
  fs.mkdirSync(local)
  const files = ['read.md', 'page.html', 'style.css', 'data.json'].map((name) => path.join(local, name))
  for (const file of files) fs.writeFileSync(file, 'other\n')
  await look('replace', async () => {
    await button(page, 'Upload').click()
    const [chooser] = await Promise.all([page.waitForEvent('filechooser'), page.getByRole('menuitem', { name: 'Upload files' }).click()])
    await chooser.setFiles(files)
  })
  await page.getByText('stay as they were').waitFor()
  await gallery.look(page, 'notice')
  await button(page, 'Put this notice away').click()
  await look('name-again', () => page.getByRole('button', { name: 'change your name' }).click())

  await terminal(page, 'echo words\n')
  await look('hand-over-alone', () => button(page, 'Who may type…').click())
  const other = await stage.person()
  await enter(other, stage.link, 'dialogs', 'Dan With A Name That Is Rather Long')
  await page.locator('.people li').nth(1).waitFor()
  await look('hand-over', async () => {
    await button(page, 'Who may type…').click()
    await page.getByRole('checkbox', { name: 'Dan' }).check()
  })
  await page.getByText('may type here too.').waitFor()
  await gallery.look(page, 'handed-over')
  await look('terminal-rename', () => button(page, 'Rename…').click())
  await look('terminal-end', () => page.getByRole('button', { name: /^End terminal/ }).click())
  gallery.end()
}

/** The panel of git in all its states, diffs, a conflict, and who typed this. */
export async function looks_git() {
  const stage = perch()
  const gallery = new Gallery()
  const { http } = await server(stage, { 'a.txt': 'one\ntwo\nthree\n', 'src/a rather long name of a file.txt': 'x\n' })
  try {
    await stage.start()
    const id = await cloned(stage, http, 'served')
    await branchWith(stage, 'bare', { 'a.txt': 'a\n' })
    const page = await stage.person()
    const look = (name) => gallery.look(page, name, { isPanel: true })
    await enter(page, stage.link, 'bare', 'Lea')
    await panel(page, 'git')
    await page.getByText('These files are no git repository yet.').waitFor()
    await look('git-none')
    await enterAgain(page, stage, id)
    await panel(page, 'git')
    await page.getByText('Nothing differs from the last commit.').waitFor()
    await look('git-clean')

    const bob = await stage.person()
    await enter(bob, stage.link, 'served', 'Bob')
    await openFile(bob, 'a.txt')
    await typeLine(bob, 'of bob')
    await standing(bob, 'saved')
    await stage.api('PATCH', `/${id}/sessions/${(await stage.api('GET', `/${id}/sessions`)).sessions.find(({ name }) => name === 'Bob').id}`, { email: 'bob@example.org' })
    await newFile(bob, 'src/new.txt')
    await typeLine(bob, 'new')
    await standing(bob, 'saved')
    await entry(page, 'a.txt', 'work').locator('[data-changed-by]').waitFor()
    await look('git-changes')
    await dialog(gallery, page, 'git-discard', () => button(page, 'Discard a.txt').click())
    await button(page, 'Stage a.txt').click()
    await page.locator('[data-typist]').waitFor()
    await look('git-staged')
    await entry(page, 'a.txt', 'staged').locator('.git-row').click()
    await page.locator('section.file:not([hidden]) .hunk .cm-merge-b').getByText('of bob').waitFor()
    await gallery.look(page, 'git-diff')
    await commit(page, 'work of Bob')
    await page.getByText('this session has none yet').waitFor()
    await look('git-email')
    await giveEmail(page, 'lea@example.org')
    await done(page, 'Committed')
    await look('git-committed')
    await button(page, 'Push').click()
    await page.getByText(`${http.host} wants a token`).waitFor()
    await look('git-token')
    await giveToken(page, 'ann', 'wrong')
    await page.getByText(`${http.host} refused the token`).waitFor()
    await look('git-token-refused')
    await giveToken(page, 'ann', http.tokens.ann)
    await done(page, 'Pushed.')
    for (const title of ['Branches', 'Put aside', 'Restore points', 'Log']) await fold(page, title)
    await page.locator('[data-commit] .git-row', { hasText: 'work of Bob' }).click()
    await page.getByRole('list', { name: 'Files of work of Bob' }).waitFor()
    await page.getByText('Nothing is put aside.').waitFor()
    await look('git-unfolded')
    await page.locator('.git').evaluate((git) => { git.scrollTop = git.scrollHeight })
    await look('git-unfolded-end')
    // A server that answers slowly, and one that is away.
    http.pause = 60_000
    http.before = () => true
    await button(page, 'Fetch').click()
    await page.locator('.git-busy').getByRole('button', { name: 'Cancel' }).waitFor()
    await look('git-busy')
    await button(page, 'Cancel').click()
    await page.locator('.git').getByText('Fetching was stopped.').waitFor()
    await look('git-failed')

    await panel(page, 'files')
    await openFile(page, 'a.txt')
    await button(page, 'Who typed this').click()
    await page.locator('section.file:not([hidden]) .cm-blame .cm-who[data-who=Seed]').first().waitFor()
    await gallery.look(page, 'git-blame')
    await button(page, 'Who typed this').click()
  } finally {
    http.stop()
  }
  const base = 'top\nmiddle\nbottom\n'
  const id = await repositoryOn(stage, 'conflicts', { 'a.txt': base, 'src/b.txt': base })
  await stage.api('POST', `/${id}/git/switch`, { branch: 'other', create: 'main', session: 'seed' })
  await commitAll(stage, id, { 'a.txt': base.replace('middle', 'OTHER'), 'src/b.txt': base.replace('middle', 'OTHER') }, 'on other')
  await stage.api('POST', `/${id}/git/switch`, { branch: 'main', session: 'seed' })
  await commitAll(stage, id, { 'a.txt': base.replace('middle', 'MAIN'), 'src/b.txt': base.replace('middle', 'MAIN') }, 'on main')
  const page = await stage.person()
  await enter(page, stage.link, 'conflicts', 'Lea')
  await openFile(page, 'a.txt')
  await stage.api('POST', `/${id}/git/merge`, { revision: 'other', session: 'seed' })
  await panel(page, 'git')
  await page.locator('[data-conflict="a.txt"]').waitFor()
  await editor(page).getByText('<<<<<<<').waitFor()
  await gallery.look(page, 'git-conflict')
  await gallery.look(page, 'git-conflict-panel', { isPanel: true })
  gallery.end()
}

/** To another branch, with the name that this browser knows. */
async function enterAgain(page, stage, id) {
  await page.goto(`${stage.url}/#/b/${id}`)
  await page.getByRole('tree').waitFor()
}

/** Sharing, and what those see who come by a link: the offer of a copy, a preview, a page that only reads. */
export async function looks_visitors() {
  const stage = perch()
  const gallery = new Gallery()
  await stage.start()
  const id = await branchWith(stage, 'shared', FILES)
  const ann = await stage.person()
  await enter(ann, stage.link, 'shared', 'Ann')
  await openFile(ann, 'read.md')
  await panel(ann, 'sharing')
  await gallery.look(ann, 'sharing-none', { isPanel: true })
  await ann.getByLabel('Visitors may take a copy').check()
  await button(ann, 'Make link').click()
  const url = await eventually('the link', () => ann.getByLabel('The new link').inputValue())
  await ann.getByRole('list', { name: 'Links that work' }).getByText('To read').waitFor()
  await gallery.look(ann, 'sharing', { isPanel: true })
  const eve = await visitor(stage, new URLSearchParams(new URL(url).hash.slice(1)).get('link'))
  await openFile(eve, 'read.md')
  await standing(eve, 'reading')
  await gallery.look(eve, 'reader')
  await panel(ann, 'people')
  await ann.locator('.persons').getByText('reads only, since').waitFor()
  await gallery.look(ann, 'people-rights', { isPanel: true })
  await dialog(gallery, ann, 'end-session', () => button(ann, 'End session: Eve').click())

  await button(ann, 'New terminal').click()
  await ann.locator('.shell[data-typing=true]').waitFor()
  await ann.locator('.xterm-helper-textarea').focus()
  await ann.keyboard.type('mkdir /tmp/www && cd /tmp/www && echo "<h1>served live</h1>" > index.html && python3 -m http.server 8123\n')
  await ann.locator('[data-port="8123"]').click()
  await ann.frameLocator('.preview iframe').getByText('served live').waitFor()
  await gallery.look(ann, 'preview')
  await eve.getByRole('button', { name: /^Terminals/ }).click()
  await eve.locator('.xterm-rows').getByText('http.server').first().waitFor()
  await gallery.look(eve, 'reader-terminal')
  await ann.locator('.xterm-helper-textarea').focus()
  await ann.keyboard.press('Control+c')
  await ann.getByText('Nothing listens on port 8123 now').waitFor()
  await gallery.look(ann, 'preview-gone')
  void id
  gallery.end()
}
