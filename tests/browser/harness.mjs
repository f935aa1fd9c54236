// A perch of its own, a browser, and one context per person. Waits on state only; any error of a page fails the test.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { chromium } from 'playwright-core'
import { front } from './front.mjs'

/** The perch to test; see page.mjs. */
export const binary = process.argv[2]

/** What a state may take to come. */
export const PATIENCE_MS = Number(process.env.PERCH_PATIENCE ?? 30_000)

export async function eventually(what, check) {
  const end = Date.now() + PATIENCE_MS
  let last
  for (let pause = 2; ; pause = Math.min(2 * pause, 25)) {
    try {
      const value = await check()
      if (value) return value
    } catch (error) {
      last = error
    }
    if (Date.now() > end) throw new Error(`never: ${what}${last ? `: ${last.message}` : ''}`)
    await new Promise((resolve) => setTimeout(resolve, pause))
  }
}

function browserPath() {
  for (const name of ['chromium', 'chromium-browser', 'google-chrome']) {
    try {
      return execFileSync('which', [name], { encoding: 'utf8' }).trim()
    } catch {
      // The next name.
    }
  }
  throw new Error('no chromium: run tests/install.sh as root, or apt-get install chromium fonts-dejavu-core')
}

const freePort = () => new Promise((resolve) => {
  const server = net.createServer().listen(0, '127.0.0.1', () => {
    const { port } = server.address()
    server.close(() => resolve(port))
  })
})

export class Stage {
  temp = fs.mkdtempSync(path.join(os.tmpdir(), 'perch-browser-'))
  data = path.join(this.temp, 'data')
  link = null
  /** All that perch has printed. */
  log = ''
  errors = []
  /** Console errors that the scenario brings about itself: connections to a perch that it stopped. */
  allowed = null
  /** A command with its arguments, under which perch is started; it becomes perch. */
  under = []
  #perch = null
  #browser = null
  #unfront = () => {}

  constructor(binary, ...flags) {
    this.binary = binary
    this.flags = flags
  }

  async start() {
    this.port ??= await freePort()
    this.url ??= await this.#address()
    const env = { ...process.env, PERCH_DATA: this.data, PERCH_LISTEN: `127.0.0.1:${this.port}` }
    delete env.PERCH_OWNER_TOKEN
    const [program, ...args] = [...this.under, this.binary, 'serve', ...this.flags]
    const perch = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'inherit'] })
    perch.ended = new Promise((resolve) => perch.on('exit', resolve))
    this.#perch = perch
    let said = ''
    perch.stdout.setEncoding('utf8').on('data', (text) => {
      said += text
      this.log += text
    })
    const link = await eventually('perch prints its link', () => /perch is ready: (\S+#token=\S+)/.exec(said)?.[1])
    this.link = `${this.url}/${new URL(link).hash}`
    this.token = new URLSearchParams(new URL(this.link).hash.slice(1)).get('token')
  }

  /** Where the page is; perch itself, but for those who work on the page. */
  async #address() {
    const folder = process.env.PERCH_PAGE
    if (folder === undefined) return `http://127.0.0.1:${this.port}`
    const port = await freePort()
    this.#unfront = await front(path.resolve(folder), port, this.port)
    return `http://127.0.0.1:${port}`
  }

  async crash() {
    this.#perch.kill('SIGKILL')
    await this.#perch.ended
  }

  signal(name) {
    this.#perch.kill(name)
  }

  /** A page in a context of its own: another person's browser. */
  async person(options = {}) {
    this.#browser ??= await chromium.launch({
      executablePath: browserPath(),
      args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
        '--disable-component-update', '--disable-sync']
    })
    return this.page(await this.#browser.newContext({ viewport: { width: 1280, height: 800 }, ...options }))
  }

  /** One more page of a browser. */
  async page(context) {
    const page = await context.newPage()
    page.setDefaultTimeout(PATIENCE_MS)
    page.on('pageerror', (error) => this.errors.push(`pageerror: ${error.stack ?? error}`))
    page.on('console', (message) => {
      if (message.type() === 'error' && !this.allowed?.test(message.text())) this.errors.push(`console: ${message.text()}`)
    })
    return page
  }

  async api(method, route, body) {
    const answer = await fetch(`${this.url}/v1/branches${route}`, {
      method,
      headers: { authorization: `Bearer ${this.token}`, ...body === undefined ? {} : { 'content-type': 'application/json' } },
      body: body === undefined ? undefined : JSON.stringify(body)
    })
    assert.ok(answer.ok, `${method} ${route}: ${answer.status}`)
    return answer.status === 204 ? null : answer.json()
  }

  workspace(branch) {
    return path.join(this.data, 'branches', branch, 'workspace')
  }

  async end() {
    await this.#browser?.close()
    this.#unfront()
    // Ends one that a scenario has stopped, too.
    this.#perch?.kill('SIGKILL')
    await this.#perch?.ended
    fs.rmSync(this.temp, { recursive: true, force: true })
  }
}

/** Opens the link, and a branch by its name. */
export async function enter(page, link, branch, name) {
  await page.goto(link)
  await page.getByRole('link', { name: branch }).click()
  await page.getByLabel('Name', { exact: true }).fill(name)
  await page.getByRole('button', { name: 'Go on' }).click()
  await page.getByRole('tree').waitFor()
  return new URL(page.url()).hash.split('/')[2]
}

/** Waits for the editor of this very file: another's may be on screen until then. */
const fileShown = (page, path) => page.locator(`section.file[data-file="${path}"]:not([hidden]) .cm-content`).waitFor()
export const openFile = async (page, path) => {
  await page.locator(`[role=treeitem][data-path="${path}"]`).click()
  await fileShown(page, path)
}
export const newFile = async (page, path) => {
  await page.getByRole('button', { name: 'New file' }).first().click()
  await page.getByLabel('Path').fill(path)
  await page.getByRole('button', { name: 'Open', exact: true }).click()
  await fileShown(page, path)
}
export const editor = (page) => page.locator('section.file:not([hidden]) .cm-content')
/** The lines that the editor shows, without the names at others' carets. */
export const shown = (page) => editor(page).evaluate((content) => [...content.querySelectorAll('.cm-line')].map((line) => {
  const copy = line.cloneNode(true)
  copy.querySelectorAll('.cm-other-caret').forEach((caret) => caret.remove())
  return copy.textContent
}).join('\n'))
export const standing = (page, want) => page.locator(`.saved[data-standing="${want}"]`).waitFor()

/** Keeps a picture of the page where PERCH_SHOTS names a folder. */
export async function picture(page, name) {
  if (process.env.PERCH_SHOTS) await page.screenshot({ path: path.join(process.env.PERCH_SHOTS, `${name}.png`) })
}

export const count = (text, token) => text.split(token).length - 1

/** Types a token as a line of its own at the end. */
export async function typeLine(page, text) {
  await editor(page).press('Control+End')
  await editor(page).pressSequentially(`${text}\n`)
}

/** Somebody who opens a share link. */
export async function visitor(stage, secret, as = 'Eve') {
  const eve = await stage.person()
  await eve.goto(`${stage.url}/#link=${secret}`)
  const name = eve.getByLabel('Name', { exact: true })
  await name.or(eve.getByRole('tree')).first().waitFor()
  assert.ok(!eve.url().includes(secret), 'the secret is out of the address')
  if (await name.isVisible()) {
    await name.fill(as)
    await eve.getByRole('button', { name: 'Go on' }).click()
  }
  return eve
}

const axe = fs.readFileSync(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8')

/** What axe calls serious or critical in what the page shows now, or in those parts, in words; frames of other sites are theirs. */
export const faults = (page, what, ...within) => faultsOf(page, what, within)
/** What of it is too faint to read: the one of axe's rules that is about colours. */
export const faints = (page, what) => faultsOf(page, what, [], ['color-contrast'])
async function faultsOf(page, what, within, rules) {
  // Nothing is looked at while it fades.
  await page.emulateMedia({ reducedMotion: 'reduce' })
  if (!await page.evaluate(() => 'axe' in window)) await page.evaluate(axe)
  return page.evaluate(async ([what, parts, rules]) => {
    const { violations } = await window.axe.run(parts.length === 0 ? document : { include: parts.map((part) => [part]) },
      { iframes: false, resultTypes: ['violations'], ...rules && { runOnly: rules } })
    return violations.filter(({ impact }) => impact === 'serious' || impact === 'critical').flatMap(({ id, nodes }) =>
      nodes.map(({ target, failureSummary }) => `${what}: ${id}: ${target.join(' ')}: ${failureSummary.replaceAll('\n', ' ')}`))
  }, [what, within, rules])
}

/** No serious fault of accessibility is in what the page shows now, or in those parts. */
export async function accessible(page, what, ...within) {
  assert.deepEqual(await faults(page, what, ...within), [])
}

/**
 * What of the page's words and controls is cut off where nobody can scroll to it, or lies under something else, in words. Names that
 * end in three dots are meant to. What is behind a dialog, a menu or a panel over the text is not looked at.
 */
export const misfits = (page, what) => page.evaluate((what) => {
  const found = []
  const name = (one) => `${one.tagName.toLowerCase()}.${[...one.classList].join('.')} “${(one.getAttribute('aria-label') ?? one.textContent).trim().slice(0, 40)}”`
  const { clientWidth: width, clientHeight: height, scrollWidth } = document.documentElement
  if (scrollWidth > width) found.push(`${what}: the page is ${scrollWidth} px wide in ${width}`)
  const over = [...document.querySelectorAll('dialog[open], .menu')].at(-1) ?? document.body
  const isNarrow = width <= 700
  for (const one of over.querySelectorAll('button, a[href], input, select, textarea, summary, label, h1, h2, h3, p, .foot > span, kbd')) {
    if (one.closest('.unseen, .cm-editor, .xterm') !== null || !one.checkVisibility({ visibilityProperty: true })) continue
    let { left, right, top, bottom } = one.getBoundingClientRect()
    if (right - left < 1 || bottom - top < 1) continue
    let [isScrolled, isDotted] = [false, getComputedStyle(one).textOverflow === 'ellipsis']
    // Words that are wider than their own box.
    if (!isDotted && one.scrollWidth > one.clientWidth + 1 && one.clientWidth > 0 && one.matches('button, .foot > span, kbd') && one.querySelector('.item-name, .badge-count, .pick-title') === null) {
      found.push(`${what}: ${name(one)} is ${one.clientWidth} px wide, its words ${one.scrollWidth}`)
    }
    // A short word of a button that is broken over lines.
    const words = one.matches('button:not(.git-row)') && document.createTreeWalker(one, NodeFilter.SHOW_TEXT)
    while (words && words.nextNode()) {
      const range = document.createRange()
      range.selectNodeContents(words.currentNode)
      const lines = new Set([...range.getClientRects()].map(({ top }) => Math.round(top)))
      if (lines.size > 1 && words.currentNode.length < 24 && words.currentNode.parentElement.closest('.unseen') === null) found.push(`${what}: ${name(one)} is broken over ${lines.size} lines`)
    }
    for (let at = one.parentElement; at !== null && at !== document.documentElement; at = at.parentElement) {
      const { overflowX, overflowY, textOverflow } = getComputedStyle(at)
      if (overflowX === 'visible' && overflowY === 'visible') continue
      const box = at.getBoundingClientRect()
      if (textOverflow === 'ellipsis') isDotted = true
      const isOut = left < box.left - 1 || right > box.right + 1 || top < box.top - 1 || bottom > box.bottom + 1
      if (isOut && [overflowX, overflowY].some((how) => how === 'auto' || how === 'scroll')) {
        isScrolled = true
        break
      }
      if (isOut && !isDotted) found.push(`${what}: ${name(one)} is cut by ${name(at).split(' ')[0]}`)
    }
    if (isScrolled || isDotted) continue
    const isFixed = over !== document.body
    if (left < -1 || right > width + 1 || ((isFixed || document.documentElement.scrollHeight <= height) && (top < -1 || bottom > height + 1))) {
      found.push(`${what}: ${name(one)} is outside the window`)
      continue
    }
    if (!one.matches('button, a[href], input, select, textarea, summary') || one.disabled) continue
    // A word that is wrapped has no middle of its own.
    const [box] = one.getClientRects()
    const hit = document.elementFromPoint((box.left + box.right) / 2, (box.top + box.bottom) / 2)
    if (hit === null || one.contains(hit) || hit.contains(one) || hit.closest('label')?.contains(one)) continue
    if (isNarrow && hit.closest('.side') !== null && one.closest('.side') === null) continue
    found.push(`${what}: ${name(one)} is under ${name(hit)}`)
  }
  return found
}, what)

/** Shows a panel of the side bar. */
export async function panel(page, id) {
  const button = page.locator(`[data-panel="${id}"]`)
  if (await button.getAttribute('aria-expanded') !== 'true') await button.click()
}
/** A branch that is ready, with these files on disk. */
export async function branchWith(stage, name, files = {}) {
  const { id } = await stage.api('POST', '', { name })
  await eventually('ready', async () => (await stage.api('GET', `/${id}`)).state === 'ready')
  for (const [file, text] of Object.entries(files)) {
    const at = path.join(stage.workspace(id), file)
    fs.mkdirSync(path.dirname(at), { recursive: true })
    fs.writeFileSync(at, text)
  }
  return id
}
/** A row of the tree. */
export const row = (page, path) => page.locator(`[role=treeitem][data-path="${path}"]`)
/** The text in one of the two groups. */
export const inGroup = (page, group) => page.locator(`.group[data-group="${group}"] section.file:not([hidden]) .cm-content`)
/** What the saved mark says of the disk. */
export const onDisk = (page) => page.locator('.saved[data-standing="saved"][data-disk="yes"]').waitFor()
