// The packages' browser entries in headless Chromium, on a page of another origin, with a session that was handed to it.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import http from 'node:http'
import { fileURLToPath } from 'node:url'
import { eventually, sdk0, sdk2, start } from '../harness.mjs'
import { line } from '../line.mjs'

const entry = (name) => fileURLToPath(new URL(`../node_modules/${name}/dist/esm/browser.js`, import.meta.url))
const PAGE = `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<script>window.process = { env: {} } // The packages count on a bundler, which puts this in.</script><script type="module">
const versions = { 0: await import('/csb-0.js'), 2: await import('/csb-2.js') }
window.join = async (version, session) => {
  window.client = version === 0
    ? await versions[0].connectToSandbox(session)
    : await versions[2].connectToSandbox({ session, getSession: async () => session, onFocusChange: () => () => {} })
}
window.ready = true
</script>`

function chromiumPath() {
  for (const name of ['chromium', 'chromium-browser', 'google-chrome']) {
    try {
      return execFileSync('which', [name], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
    } catch { /* The next name. */ }
  }
  throw new Error('no chromium: run tests/install.sh as root, or apt-get install chromium fonts-dejavu-core')
}

export async function sdk_browser() {
  const wire = await line()
  await start(wire.env)
  const { chromium } = await import('../../browser/node_modules/playwright-core/index.mjs')
  const site = http.createServer((request, answer) => {
    const module = /^\/(csb-[02])\.js$/.exec(request.url)
    answer.setHeader('content-type', module ? 'text/javascript' : 'text/html')
    answer.end(module ? fs.readFileSync(entry(module[1])) : PAGE)
  }).listen(0, '127.0.0.1')
  await new Promise((resolve) => site.on('listening', resolve))
  const origin = `http://127.0.0.1:${site.address().port}`
  const browser = await chromium.launch({ executablePath: chromiumPath(), args: ['--no-sandbox'] })
  try {
    const one = await sdk0().create()
    const two = await sdk2().sandboxes.resume(one.id)
    const asked = []
    const open = async (version, session) => {
      const page = await (await browser.newContext()).newPage()
      page.on('request', (request) => { if (!request.url().startsWith(origin)) asked.push(`${request.method()} ${new URL(request.url()).pathname}`) })
      page.on('pageerror', (error) => console.log(`# page: ${error}`))
      await page.goto(origin)
      await page.waitForFunction('window.ready')
      await page.evaluate(([version, session]) => window.join(version, session), [version, JSON.parse(JSON.stringify(session))])
      return page
    }
    const ann = await open(0, await sdk0().createSession(one.id, 'ann', { permission: 'write', autoConnect: false }))
    const bob = await open(2, await two.createBrowserSession({ id: 'bob', permission: 'write' }))
    const eve = await open(2, await two.createBrowserSession({ id: 'eve', permission: 'read' }))
    const read = (page, at) => page.evaluate((at) => window.client.fs.readTextFile(at), at)
    await bob.evaluate(async () => {
      window.told = []
      const watcher = await window.client.fs.watch('.', { recursive: true })
      watcher.onEvent((event) => window.told.push(`${event.type} ${event.paths}`))
    })
    await ann.evaluate(() => window.client.fs.writeTextFile('page.txt', 'von Ann 😀\n'))
    assert.equal(await read(bob, 'page.txt'), 'von Ann 😀\n')
    await eventually('bob hears of it', () => bob.evaluate(() => window.told.includes('add /project/workspace/page.txt')))
    const bytes = await bob.evaluate(async () => {
      await window.client.fs.writeFile('bytes.bin', new Uint8Array([0, 255, 128]))
      return [...await window.client.fs.readFile('bytes.bin')]
    })
    assert.deepEqual(bytes, [0, 255, 128])
    // Output follows its answer: without the barrier these never end.
    const ran = await ann.evaluate(() => Promise.all([1, 2, 3, 4, 5].map((n) => window.client.shells.run(`echo of-${n}; cat page.txt`).then(({ output, exitCode }) => [output.includes(`of-${n}`), exitCode]))))
    assert.deepEqual(ran, Array.from({ length: 5 }, () => [true, 0]))
    const said = await bob.evaluate(() => Promise.all([1, 2, 3, 4, 5].map((n) => window.client.commands.run(`echo of-${n}`))))
    assert.deepEqual(said.map((out) => out.trim()), [1, 2, 3, 4, 5].map((n) => `of-${n}`))
    assert.equal(await read(eve, 'page.txt'), 'von Ann 😀\n')
    const refused = await eve.evaluate(() => window.client.fs.writeTextFile('page.txt', 'x').then(() => 'written', (error) => error.message))
    assert.match(refused, /^null: read-only/)
    assert.deepEqual(asked, [], 'not one request but the sockets')
    // Fetched by the page itself, from another origin.
    const fetched = await bob.evaluate(async () => (await fetch((await window.client.fs.download('page.txt')).downloadUrl)).text())
    assert.equal(fetched, 'von Ann 😀\n')
    assert.equal(asked.length, 1)
    // The line breaks: they come back by themselves, with what they were given.
    const before = wire.count()
    wire.cut()
    await eventually('both are back', () => wire.count() >= before + 3)
    for (const [page, who] of [[ann, 'ann'], [bob, 'bob']]) {
      await eventually(`${who} is back`, async () => (await read(page, 'page.txt')) === 'von Ann 😀\n')
    }
    assert.equal(await ann.evaluate(() => window.client.fs.writeTextFile('page.txt', 'again').then(() => 'written')), 'written')
  } finally {
    await browser.close()
    site.close()
    wire.end()
  }
}
