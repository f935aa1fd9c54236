// Terminals and ports.
import assert from 'node:assert/strict'
import { accessible, binary, count, enter, eventually, picture, Stage, visitor } from '../harness.mjs'

/** One types in a terminal, others watch; what listens on a port is a click away. */
export async function terminals() {
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
  const port = ann.locator('[data-port-tab="8123"]')
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
}

/** A terminal is handed over and taken back; found in, copied and pasted; links open elsewhere; lists are live. */
export async function handover() {
  const stage = new Stage(binary)
  await stage.start()
  const { id } = await stage.api('POST', '', { name: 'handover' })
  await eventually('ready', async () => (await stage.api('GET', `/${id}`)).state === 'ready')
  const options = { permissions: ['clipboard-read', 'clipboard-write'] }
  const ann = await stage.person(options)
  const bob = await stage.person(options)
  await enter(ann, stage.link, 'handover', 'Ann')
  await enter(bob, stage.link, 'handover', 'Bob')
  const screen = (page) => page.locator('.xterm-rows')
  const type = async (page, text) => {
    await page.locator('.xterm-helper-textarea').focus()
    await page.keyboard.type(text)
  }
  // By keys alone, and the other hears of it without asking.
  await ann.keyboard.press('Control+Shift+`')
  await ann.locator('.shell[data-typing=true]').waitFor()
  await bob.getByRole('button', { name: 'Terminals (1)' }).click()
  await bob.getByText('Ann’s terminal: you watch.').waitFor()
  await type(ann, 'echo made-by-ann\n')
  await screen(bob).getByText('made-by-ann').last().waitFor()

  await ann.getByRole('button', { name: 'Who may type…' }).click()
  await ann.getByRole('checkbox', { name: 'Bob' }).check()
  await picture(ann, 'hand-over')
  await ann.getByRole('button', { name: 'Done' }).click()
  await bob.locator('.shell[data-typing=true]').getByText('Ann lets you type here.').waitFor()
  await ann.getByText('Bob may type here too.').waitFor()
  await type(bob, 'echo by-bob-$((40+2))\n')
  await screen(ann).getByText('by-bob-42').waitFor()
  await picture(bob, 'handed-over')
  await ann.getByRole('button', { name: 'Who may type…' }).click()
  await ann.getByRole('checkbox', { name: 'Bob' }).uncheck()
  await ann.getByRole('button', { name: 'Done' }).click()
  await bob.getByText('Ann’s terminal: you watch.').waitFor()
  await type(bob, 'echo EVIL\n')
  await type(ann, 'echo after-$((1+1))\n')
  await screen(bob).getByText('after-2').waitFor()
  assert.equal(count(await screen(ann).innerText(), 'EVIL'), 0, 'who may type no more types nothing')

  // Found, copied, pasted.
  await bob.getByRole('button', { name: 'Find', exact: true }).click()
  await bob.getByRole('textbox', { name: 'Find in the terminal' }).fill('by-bob-42')
  await bob.locator('.xterm-decoration-overview-ruler, .xterm-find-result-decoration, .xterm-find-active-result-decoration').first().waitFor({ state: 'attached' })
  await bob.getByRole('textbox', { name: 'Find in the terminal' }).fill('not to be found')
  await bob.getByText('Not found').waitFor()
  await picture(bob, 'terminal-find')
  await bob.getByRole('button', { name: 'End finding' }).click()
  await bob.getByRole('button', { name: 'Copy', exact: true }).click()
  await eventually('it is on the clipboard', async () => (await bob.evaluate(() => navigator.clipboard.readText())).includes('by-bob-42'))
  await ann.evaluate(() => navigator.clipboard.writeText('echo pasted-$((5+5))'))
  await ann.getByRole('button', { name: 'Paste', exact: true }).click()
  await screen(ann).getByText('echo pasted-').last().waitFor()
  await type(ann, '\n')
  await screen(bob).getByText('pasted-10').waitFor()

  // A link of the output opens in a tab of its own that knows nothing of this page.
  await type(ann, `clear; echo ${stage.url}/healthz\n`)
  const line = ann.locator('.xterm-rows > div', { hasText: 'healthz' }).first()
  await eventually('cleared', async () => !(await screen(ann).innerText()).includes('pasted-10'))
  const { x, y, height } = await line.boundingBox()
  await ann.mouse.move(x + 30, y + height / 2)
  await ann.mouse.move(x + 40, y + height / 2)
  await ann.locator('.xterm-cursor-pointer').waitFor()
  const [tab] = await Promise.all([ann.context().waitForEvent('page'), ann.mouse.click(x + 40, y + height / 2)])
  await tab.waitForURL(/healthz/)
  assert.equal(await tab.evaluate(() => window.opener), null)
  await tab.close()

  // Several, with names; each change is in the other's list.
  await ann.getByRole('button', { name: 'New terminal' }).click()
  await ann.locator('.shells .tab').nth(1).waitFor()
  await bob.locator('.shells .tab').nth(1).waitFor()
  await ann.getByRole('button', { name: 'Rename…' }).click()
  await ann.getByLabel('Name', { exact: true }).fill('the server')
  await ann.getByRole('button', { name: 'Rename', exact: true }).click()
  await bob.getByRole('tab', { name: 'the server Ann' }).waitFor()

  // Resized: as large as its opener's window has it.
  const rows = () => ann.locator('.xterm-rows > div').count()
  const before = await rows()
  const { y: top } = await ann.getByRole('separator', { name: 'Height of the terminals' }).boundingBox()
  await ann.getByRole('separator', { name: 'Height of the terminals' }).focus()
  for (let n = 0; n < 4; n += 1) await ann.keyboard.press('ArrowUp')
  await eventually('more rows', async () => await rows() > before)
  assert.ok((await ann.getByRole('separator', { name: 'Height of the terminals' }).boundingBox()).y < top)
  await stage.end()
}

/** Who watches asks for the keyboard; the opener sees it wherever he is, says no, then yes. Readers can't ask. */
export async function asks_to_type() {
  const stage = new Stage(binary)
  await stage.start()
  const { id } = await stage.api('POST', '', { name: 'asking' })
  await eventually('ready', async () => (await stage.api('GET', `/${id}`)).state === 'ready')
  const ann = await stage.person()
  const bob = await stage.person({ colorScheme: 'dark' })
  await enter(ann, stage.link, 'asking', 'Ann')
  await enter(bob, stage.link, 'asking', 'Bob')
  const eve = await visitor(stage, (await stage.api('POST', `/${id}/links`, { permission: 'read' })).secret)
  await ann.getByRole('button', { name: 'New terminal' }).click()
  await ann.locator('.shell[data-typing=true]').waitFor()
  for (const page of [bob, eve]) {
    await page.getByRole('button', { name: 'Terminals (1)' }).click()
    await page.locator('.shell[data-typing=false]').waitFor()
  }
  await eve.getByText('you watch').waitFor()
  const ask = bob.getByRole('button', { name: 'Ask to type' })
  await ask.waitFor()
  assert.equal(await eve.getByRole('button', { name: 'Ask to type' }).count(), 0, 'a reader is not offered it')
  assert.equal(await ann.getByRole('button', { name: 'Ask to type' }).count(), 0, 'nor is the opener')

  // Seen with the terminals folded away too.
  await ann.getByRole('button', { name: 'Terminals (1)' }).click()
  await ask.focus()
  await bob.keyboard.press('Enter')
  await bob.getByText('You asked Ann to let you type.').waitFor()
  const asked = ann.locator('.notice[data-asking=Bob]')
  await asked.waitFor()
  await picture(ann, 'asked-to-type')
  await picture(bob, 'asks-to-type')
  await accessible(ann, 'somebody asks to type', '.notices')
  await accessible(bob, 'asked', '.shells')
  assert.equal(await bob.locator('.shell[data-typing=true]').count(), 0, 'asking gives no right')
  await asked.getByRole('button', { name: 'No', exact: true }).click()
  await bob.getByText('Ann keeps the keyboard').waitFor()
  await asked.waitFor({ state: 'detached' })
  // Asked and taken back.
  await ask.click()
  await asked.waitFor()
  await bob.getByRole('button', { name: 'Take it back' }).click()
  await asked.waitFor({ state: 'detached' })
  await ask.click()
  await asked.getByRole('button', { name: 'Let Bob type' }).click()
  await bob.locator('.shell[data-typing=true]').getByText('Ann lets you type here.').waitFor()
  await asked.waitFor({ state: 'detached' })
  await bob.locator('.xterm-helper-textarea').focus()
  await bob.keyboard.type('echo by-bob-$((40+2))\n')
  await bob.locator('.xterm-rows').getByText('by-bob-42').waitFor()

  // The same by the API: who may, whose it is to answer, and where it ends.
  const [{ id: terminal }] = (await stage.api('GET', `/${id}/terminals`)).terminals
  const seat = (session, permission) => stage.api('POST', `/${id}/sessions`, { id: session, permission, name: session })
  const [cat, dan, reader] = [await seat('cat', 'write'), await seat('dan', 'write'), await seat('reader', 'read')]
  const call = async ({ token }, method, more = '') => {
    const answer = await fetch(`${stage.url}/v1/branches/${id}/terminals/${terminal}/asking${more}`, { method, headers: { authorization: `Bearer ${token}` } })
    return [answer.status, answer.status === 204 ? null : (await answer.json()).code ?? 'taken']
  }
  const asking = async () => (await stage.api('GET', `/${id}/terminals/${terminal}`)).asking
  assert.deepEqual(await call(reader, 'POST'), [403, 'forbidden'])
  for (let n = 0; n < 2; n += 1) assert.deepEqual(await call(cat, 'POST'), [200, 'taken'])
  assert.deepEqual(await call(dan, 'POST'), [200, 'taken'])
  assert.deepEqual(await asking(), ['cat', 'dan'])
  assert.deepEqual(await call(dan, 'DELETE', '/cat'), [403, 'not_let_in'], 'not dan’s to answer')
  assert.deepEqual(await call(dan, 'DELETE', '/dan'), [204, null])
  await stage.api('DELETE', `/${id}/sessions/cat`)
  await eventually('who is gone asks no more', async () => (await asking()).length === 0)
  await stage.end()
}
