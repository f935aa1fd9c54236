// A perch of its own, a browser, and one context per person. Waits on state only; any error of a page fails the test.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { chromium } from 'playwright-core'

/** What a state may take to come. */
const PATIENCE_MS = Number(process.env.PERCH_PATIENCE ?? 30_000)

export async function eventually(what, check) {
  const end = Date.now() + PATIENCE_MS
  let last
  for (;;) {
    try {
      const value = await check()
      if (value) return value
    } catch (error) {
      last = error
    }
    if (Date.now() > end) throw new Error(`never: ${what}${last ? `: ${last.message}` : ''}`)
    await new Promise((resolve) => setTimeout(resolve, 25))
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
  errors = []
  /** Console errors that the scenario brings about itself: connections to a perch that it stopped. */
  allowed = null
  #perch = null
  #browser = null

  constructor(binary, ...flags) {
    this.binary = binary
    this.flags = flags
  }

  async start() {
    this.port ??= await freePort()
    this.url = `http://127.0.0.1:${this.port}`
    const env = { ...process.env, PERCH_DATA: this.data, PERCH_LISTEN: `127.0.0.1:${this.port}` }
    delete env.PERCH_OWNER_TOKEN
    const perch = spawn(this.binary, ['serve', ...this.flags], { env, stdio: ['ignore', 'pipe', 'inherit'] })
    perch.ended = new Promise((resolve) => perch.on('exit', resolve))
    this.#perch = perch
    let said = ''
    perch.stdout.setEncoding('utf8').on('data', (text) => { said += text })
    this.link = await eventually('perch prints its link', () => /perch is ready: (\S+#token=\S+)/.exec(said)?.[1])
    this.token = new URLSearchParams(new URL(this.link).hash.slice(1)).get('token')
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
    const context = await this.#browser.newContext({ viewport: { width: 1280, height: 800 }, ...options })
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

export const openFile = async (page, path) => {
  await page.locator(`[role=treeitem][data-path="${path}"]`).click()
  await editor(page).waitFor()
}
export const newFile = async (page, path) => {
  await page.getByRole('button', { name: 'New file' }).first().click()
  await page.getByLabel('Path').fill(path)
  await page.getByRole('button', { name: 'Open', exact: true }).click()
  await editor(page).waitFor()
}
export const editor = (page) => page.locator('section.file:not([hidden]) .cm-content')
/** The lines that the editor shows, without the names at others' carets. */
export const shown = (page) => editor(page).evaluate((content) => [...content.querySelectorAll('.cm-line')].map((line) => {
  const copy = line.cloneNode(true)
  copy.querySelectorAll('.cm-other-caret').forEach((caret) => caret.remove())
  return copy.textContent
}).join('\n'))
export const standing = (page, want) => page.locator(`.saved[data-standing="${want}"]`).waitFor()
