// What can’t be edited, and what is said then.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import {
  binary, count, editor, enter, eventually, newFile, openFile, picture, shown, Stage, standing, typeLine
} from '../harness.mjs'

/** What is no document, or is one no more, says so where it happens; text is kept. */
export async function refusals() {
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
  // Beside the new history is what she had; that notice may come before one can see that the other is gone.
  await ended.and(ann.getByRole('alert')).waitFor({ state: 'detached' })
  await ended.getByText('Both texts').waitFor()
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
}
