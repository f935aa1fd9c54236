// Sandboxes with clients in them that are put to sleep, stopped and woken; rights of tokens.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { alive } from '../../clients/exec.mjs'
import { both } from '../both.mjs'
import { data, eventually, isRunning, sdk0, sdk2, session, start, versions, yClient } from '../harness.mjs'

/** What was typed is on disk, processes and private files are gone, nobody wakes it; it goes on when somebody asks. */
export async function sdk_sleep() {
  await start()
  for (const sdk of await both()) {
    const [end] = versions().filter(({ name }) => name === sdk.name)
    const file = path.join(data, 'branches', sdk.id, 'workspace', 'typed.txt')
    for (const how of ['hibernate', 'shutdown']) {
      const ann = await sdk.session('ann')
      await sdk.run(ann, 'echo secret > ~/.private/kept && echo of-home > ~/home.txt')
      const mark = `sleeper-${how}-${sdk.name}`
      const sleeper = sdk.background(ann, `bash -c 'exec -a ${mark} sleep 1000'`)
      sleeper.ended.catch(() => {})
      await eventually('it runs', () => alive(mark).length > 0)
      const editor = yClient(await session(sdk, 'editor'), 'typed.txt')
      await eventually('the editor has the text', () => editor.synced())
      editor.text.insert(0, `typed before ${how}\n`)
      await eventually('it is acknowledged somewhere', async () => (await ann.fs.readTextFile('typed.txt')).startsWith(`typed before ${how}`))
      editor.text.insert(0, 'last words ')
      await eventually('they have arrived', async () => (await ann.fs.readTextFile('typed.txt')).startsWith('last words'))
      editor.stop()
      await end[how](sdk.id)
      assert.ok(fs.readFileSync(file, 'utf8').startsWith(`last words typed before ${how}`))
      assert.deepEqual(alive(mark), [], 'its processes have ended')
      assert.equal(await isRunning(sdk.id), false)
      // The next call by a token of before wakes it.
      const again = await sdk.session('ann')
      assert.equal(await isRunning(sdk.id), true)
      assert.equal((await sdk.run(again, 'cat ~/home.txt')).output, 'of-home')
      assert.notEqual((await sdk.run(again, 'cat ~/.private/kept')).exitCode, 0, 'private files are held in memory alone')
    }
  }
}

/** Nothing is asked of it, though a client is connected: its heartbeats are nothing. */
export async function sdk_idle_client() {
  await start()
  const { id } = await sdk2().sandboxes.create()
  const sandbox = await sdk2().sandboxes.resume(id)
  const client = await sandbox.connect()
  await sandbox.updateHibernationTimeout(1)
  await eventually('it is told to sleep', () => client.state === 'HIBERNATED')
  await eventually('it sleeps', async () => !(await isRunning(id)))
  const other = await sdk0().create()
  await sdk0().updateHibernationTimeout(other.id, 1)
  await eventually('the other one sleeps', async () => !(await isRunning(other.id)))
}

/** The right is the token's: one that reads changes nothing, though its session may elsewhere. Raising loses nothing. */
export async function sdk_rights() {
  await start()
  for (const sdk of await both()) {
    const [by] = versions().filter(({ name }) => name === sdk.name)
    const first = await sdk.session('ann', 'read')
    await assert.rejects(first.fs.writeTextFile('a.txt', 'x'), /null: /)
    const writer = await sdk.session('ann', 'write')
    await sdk.run(writer, 'echo kept > ~/.private/kept')
    await writer.fs.writeTextFile('a.txt', 'by the writer')
    const reader = await sdk.session('ann', 'read')
    for (const client of [first, reader]) {
      assert.equal(await client.fs.readTextFile('a.txt'), 'by the writer')
      await assert.rejects(client.fs.writeTextFile('a.txt', 'x'), /null: /)
      await assert.rejects(client.fs.remove('a.txt'), /null: /)
      await assert.rejects(client.fs.mkdir('folder'), /null: /)
      await assert.rejects(sdk.run(client, 'echo x > a.txt'))
    }
    assert.equal((await sdk.run(writer, 'cat a.txt ~/.private/kept')).output, 'by the writerkept')
    assert.equal((await sdk.run(await sdk.session('ann', 'write'), 'cat ~/.private/kept')).output, 'kept')
    await by.shutdown(sdk.id)
  }
}
