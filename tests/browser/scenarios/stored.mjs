// What of one's typing is where: in the page, acknowledged, on disk; and what is kept when the file is another one.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import {
  binary, branchWith, count, editor, enter, eventually, inGroup, newFile, onDisk, openFile, picture, row, shown, Stage, standing, typeLine
} from '../harness.mjs'

const AWAY = /WebSocket connection to|ERR_INTERNET_DISCONNECTED|ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|ERR_SOCKET_NOT_CONNECTED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_NETWORK/

/** The saved mark is true at each moment: typed, acknowledged, on disk; killed hard amid typing again and again. */
export async function mark() {
  const stage = new Stage(binary)
  await stage.start()
  const id = await branchWith(stage, 'mark', { 'a.txt': '' })
  const file = path.join(stage.workspace(id), 'a.txt')
  const ann = await stage.person()
  await enter(ann, stage.link, 'mark', 'Ann')
  await openFile(ann, 'a.txt')
  await standing(ann, 'saved')
  /** What the mark says, and at the same moment what is in the editor. */
  const says = () => ann.evaluate(() => {
    const { standing, disk } = document.querySelector('.saved').dataset
    return { standing, disk, text: [...document.querySelectorAll('section.file:not([hidden]) .cm-line')].map(({ textContent }) => textContent).join('\n') }
  })
  stage.allowed = AWAY
  let sawDisk = 0
  for (let round = 0; round < 4; round += 1) {
    // A perch that holds still acknowledges nothing, and the mark claims nothing.
    stage.signal('SIGSTOP')
    await typeLine(ann, `held ${round}`)
    const held = await says()
    assert.deepEqual([held.standing, held.disk], ['saving', 'no'])
    stage.signal('SIGCONT')
    await standing(ann, 'saved')
    // On disk means: read at this moment, the file has it.
    await onDisk(ann)
    const said = await says()
    if (said.disk === 'yes') {
      assert.equal(fs.readFileSync(file, 'utf8'), said.text)
      sawDisk += 1
    }

    // Killed while keys come in. What the mark called saved before is there after.
    const typing = typeLine(ann, `round ${round}: some words that take a while`)
    await editor(ann).getByText(`round ${round}`).waitFor()
    await stage.crash()
    await typing
    await standing(ann, 'offline')
    assert.equal((await says()).disk, 'no')
    await typeLine(ann, `offline ${round}`)
    assert.equal((await says()).standing, 'offline')
    await ann.locator('.foot').getByText('Not connected').waitFor()
    await stage.start()
    await standing(ann, 'saved')
    await onDisk(ann)
    await ann.locator('.foot').getByText('Connected', { exact: true }).waitFor()
  }
  assert.ok(sawDisk > 0)
  const text = await shown(ann)
  for (let round = 0; round < 4; round += 1) {
    for (const words of [`held ${round}\n`, `round ${round}: some words that take a while\n`, `offline ${round}\n`]) {
      assert.equal(count(text, words), 1, words)
    }
  }
  assert.equal(fs.readFileSync(file, 'utf8'), text)
  await stage.end()
}

/** perch waits for a process that holds a file open for writing: the mark does not run ahead of it. */
export async function unwritten() {
  const stage = new Stage(binary)
  await stage.start()
  const id = await branchWith(stage, 'unwritten', { 'folder/a.txt': 'a\n' })
  const file = path.join(stage.workspace(id), 'folder/a.txt')
  const ann = await stage.person()
  await enter(ann, stage.link, 'unwritten', 'Ann')
  await row(ann, 'folder').click()
  await openFile(ann, 'folder/a.txt')
  await onDisk(ann)
  const held = fs.openSync(file, 'r+')
  await typeLine(ann, 'while it is held')
  // It comes when perch has waited long enough; then the file has it, and not before.
  await onDisk(ann)
  assert.equal(fs.readFileSync(file, 'utf8'), 'a\nwhile it is held\n')
  fs.closeSync(held)
  await stage.end()
}

/** A file that became another one while somebody typed in it offline: nothing of it is lost, both are shown. */
export async function reset() {
  const stage = new Stage(binary)
  await stage.start()
  const id = await branchWith(stage, 'reset', { 'a.txt': 'one\ntwo\n' })
  const ann = await stage.person({ acceptDownloads: true })
  await enter(ann, stage.link, 'reset', 'Ann')
  await openFile(ann, 'a.txt')
  await onDisk(ann)
  stage.allowed = AWAY
  await stage.crash()
  await standing(ann, 'offline')
  await typeLine(ann, 'typed in the dark')
  // Cut off from perch alone, the way a train's tunnel does it, while the file ends and another one begins.
  await ann.context().setOffline(true)
  await stage.start()
  await stage.api('DELETE', `/${id}/files/a.txt`)
  const bob = await stage.person()
  await enter(bob, stage.link, 'reset', 'Bob')
  await newFile(bob, 'a.txt')
  await typeLine(bob, 'quite another text')
  await onDisk(bob)
  await ann.context().setOffline(false)
  const ended = ann.locator('section.file:not([hidden]) .ended')
  await ended.getByText('This file is not shared any more').waitFor()
  assert.equal(await shown(ann), 'one\ntwo\ntyped in the dark\n', 'what was typed is still there')
  await picture(ann, 'reset')
  await ended.getByRole('button', { name: 'Open it again' }).click()
  await ended.getByText('Both texts').waitFor()
  await editor(ann).getByText('quite another text').waitFor()
  await editor(ann).locator('.cm-deletedChunk').getByText('typed in the dark').waitFor()
  await picture(ann, 'reset-both')
  // Taken by keys; it is an edit that the other sees.
  await editor(ann).getByRole('button', { name: 'Take mine' }).first().click()
  await editor(bob).getByText('typed in the dark').waitFor()
  await ann.getByRole('button', { name: 'Done' }).click()
  await editor(ann).locator('.cm-deletedChunk').waitFor({ state: 'detached' })
  await eventually('both have it', async () => await shown(ann) === await shown(bob))
  await stage.end()
}

/** What was typed offline outlives the page: it is back once when the same session comes again, and is nobody else's. */
export async function closed_offline() {
  const stage = new Stage(binary)
  await stage.start()
  const id = await branchWith(stage, 'closed', { 'a.txt': 'one\n', 'moves.txt': 'stays\n' })
  const bob = await stage.person()
  let ann = await stage.person()
  const browser = ann.context()
  await enter(ann, stage.link, 'closed', 'Ann')
  await enter(bob, stage.link, 'closed', 'Bob')
  for (const page of [ann, bob]) await openFile(page, 'a.txt')
  await typeLine(ann, 'before')
  await editor(bob).getByText('before').waitFor()
  for (const page of [ann, bob]) await standing(page, 'saved')
  /** Pieces that this browser keeps. */
  const kept = (page) => page.evaluate(() => new Promise((resolve, reject) => {
    const opening = indexedDB.open('perch.unsent')
    opening.onerror = reject
    opening.onsuccess = () => {
      const db = opening.result
      const all = db.transaction(['parts']).objectStore('parts').count()
      all.onsuccess = () => {
        db.close()
        resolve(all.result)
      }
    }
  }))
  const nothingKept = (page) => eventually('nothing is kept any more', async () => await kept(page) === 0)
  const allKept = async () => {
    // What was typed just now is on screen a frame later, and with it that it is not kept yet.
    await ann.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))))
    await ann.locator('.saved[data-kept=true]').waitFor()
  }
  /** The page is closed without a question, as by a crash of the browser. */
  const close = async () => {
    await allKept()
    await ann.close()
  }
  /** A new page of the same browser, signed in anew. */
  const comeBack = async () => {
    ann = await stage.page(browser)
    await ann.goto(stage.link)
    await ann.getByRole('link', { name: 'closed' }).click()
    await ann.getByRole('tree').waitFor()
  }
  const once = (file, lines, ...pages) => eventually(`${lines} once everywhere`, async () => {
    const texts = [fs.readFileSync(path.join(stage.workspace(id), file), 'utf8'), ...await Promise.all(pages.map(shown))]
    return texts.every((text) => text === texts[0] && lines.every((one) => count(text, `${one}\n`) === 1))
  })
  stage.allowed = AWAY
  await stage.crash()
  for (const page of [ann, bob]) await standing(page, 'offline')
  await ann.getByText('it is kept in this browser').waitFor()
  await typeLine(ann, 'ann in the dark 1')
  await editor(ann).press('Control+Home')
  await editor(ann).pressSequentially('ann on top\n')
  await typeLine(ann, 'ann in the dark 2')
  await typeLine(bob, 'bob in the dark')
  await close()
  await stage.start()
  await standing(bob, 'saved')
  // Opened by itself: it is not to be forgotten.
  await comeBack()
  await editor(ann).getByText('ann in the dark 2').waitFor()
  await ann.getByText('had not reached perch when the page was closed').waitFor()
  await picture(ann, 'brought-back')
  await standing(ann, 'saved')
  await once('a.txt', ['before', 'ann on top', 'ann in the dark 1', 'ann in the dark 2', 'bob in the dark'], ann, bob)
  await nothingKept(ann)

  // A file that was renamed meanwhile; another session of the same browser gets nothing of it.
  await openFile(ann, 'moves.txt')
  await standing(ann, 'saved')
  await stage.crash()
  await standing(ann, 'offline')
  await typeLine(ann, 'for the moved one')
  await close()
  await stage.start()
  await stage.api('POST', `/${id}/rename`, { from: 'moves.txt', to: 'moved.txt' })
  const { secret } = await stage.api('POST', `/${id}/links`, { permission: 'write' })
  const guest = await stage.page(browser)
  await guest.goto(`${stage.url}/#link=${secret}`)
  await openFile(guest, 'moved.txt')
  await standing(guest, 'saved')
  assert.equal(await shown(guest), 'stays\n', 'not another session’s')
  stage.allowed = new RegExp(`${AWAY.source}|status of (401|404)`)
  await comeBack()
  await ann.getByText('there is no such file any more').waitFor()
  await picture(ann, 'brought-back-gone')
  await openFile(ann, 'moved.txt')
  await editor(ann).getByText('for the moved one').waitFor()
  await standing(ann, 'saved')
  await once('moved.txt', ['stays', 'for the moved one'], ann, guest)
  await guest.close()

  // Another file is at the path by now: both texts, until that is done with.
  await openFile(ann, 'a.txt')
  await standing(ann, 'saved')
  await stage.crash()
  await standing(ann, 'offline')
  await typeLine(ann, 'into what is gone')
  await close()
  await stage.start()
  await stage.api('DELETE', `/${id}/files/a.txt`)
  fs.writeFileSync(path.join(stage.workspace(id), 'a.txt'), 'quite another text\n')
  for (let n = 0; n < 2; n += 1) {
    await comeBack()
    await openFile(ann, 'a.txt')
    await ann.getByText('Both texts').waitFor()
    await editor(ann).getByText('quite another text').waitFor()
    await editor(ann).locator('.cm-deletedChunk').getByText('into what is gone').waitFor()
    if (n === 0) await ann.close()
  }
  await picture(ann, 'brought-back-both')
  await ann.getByRole('button', { name: 'Done' }).click()
  await nothingKept(ann)

  // An ended session leaves nothing.
  await stage.crash()
  await standing(ann, 'offline')
  await typeLine(ann, 'of an ended session')
  await browser.setOffline(true)
  await stage.start()
  await allKept()
  assert.notEqual(await kept(ann), 0)
  const { sessions } = await stage.api('GET', `/${id}/sessions`)
  await stage.api('DELETE', `/${id}/sessions/${sessions.find(({ name }) => name === 'Ann').id}`)
  await browser.setOffline(false)
  await ann.getByText('perch ended your session here').waitFor()
  await nothingKept(ann)
  await stage.end()
}

/** One goes where another goes, sees what they select, and stops with a key of one's own; readers are followed too. */
export async function following() {
  const stage = new Stage(binary)
  await stage.start()
  const long = Array.from({ length: 400 }, (_, n) => `line ${n + 1}`).join('\n')
  const id = await branchWith(stage, 'following', { 'a.txt': 'aa\n', 'long.txt': `${long}\n`, 'c.txt': 'cc\n' })
  const ann = await stage.person()
  const bob = await stage.person()
  await enter(ann, stage.link, 'following', 'Ann')
  await enter(bob, stage.link, 'following', 'Bob')
  await bob.locator('[data-panel=people]').click()
  const person = (page, name) => page.locator(`.persons li[data-person="${name}"]`)
  await person(bob, 'Ann').getByText('No file open').waitFor()
  await picture(bob, 'people')
  await person(bob, 'Ann').getByRole('button', { name: 'Follow' }).click()
  await bob.getByText('Following Ann, who has no file open').waitFor()

  await openFile(ann, 'a.txt')
  await inGroup(bob, 0).getByText('aa').waitFor()
  await row(ann, 'long.txt').click()
  await bob.locator('.tab-active[data-key="file:long.txt"]').waitFor()
  await editor(ann).getByText('line 1', { exact: true }).waitFor()
  await editor(ann).press('Control+End')
  await editor(bob).getByText('line 400').waitFor()
  await editor(ann).press('Control+Shift+Home')
  await editor(bob).getByText('line 1', { exact: true }).waitFor()
  await bob.locator('.cm-other-selection').first().waitFor()
  await person(bob, 'Ann').locator('button', { hasText: 'long.txt' }).waitFor()
  await picture(bob, 'following')
  // The other way: Ann sees where Bob is, and that he is in this file.
  await ann.locator('.people li[data-person=Bob][data-in-file=true]').waitFor()

  // A key of one's own ends it.
  await editor(bob).press('ArrowDown')
  await bob.getByText('Following Ann').waitFor({ state: 'detached' })
  await row(ann, 'c.txt').click()
  await person(bob, 'Ann').locator('button', { hasText: 'c.txt' }).waitFor()
  await bob.locator('.tab-active[data-key="file:long.txt"]').waitFor()

  // Who may only read is seen and followed too; who leaves is followed no more.
  const link = await stage.api('POST', `/${id}/links`, { permission: 'read' })
  const eve = await stage.person()
  await eve.goto(`${stage.url}/#link=${link.secret}`)
  const name = eve.getByLabel('Name', { exact: true })
  await name.or(eve.getByRole('tree')).first().waitFor()
  if (await name.isVisible()) {
    await name.fill('Eve')
    await eve.getByRole('button', { name: 'Go on' }).click()
  }
  await openFile(eve, 'a.txt')
  const reader = bob.locator('.persons li', { hasText: 'reads only' })
  await reader.getByRole('button', { name: 'Follow' }).click()
  await bob.locator('.tab-active[data-key="file:a.txt"]').waitFor()
  await eve.context().close()
  await bob.getByText('The person that you followed has left.').waitFor()
  await stage.end()
}
