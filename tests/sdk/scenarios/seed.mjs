// The suite that is kept with the protocol's description: the seed document's examples, 74 checks, run as a user runs it.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { owner, start, url } from '../harness.mjs'

export async function sdk_seed() {
  await start()
  const env = { ...process.env, BASE_URL: url, API_TOKEN: owner }
  const suite = spawn(process.execPath, ['run.mjs'], { cwd: fileURLToPath(new URL('../seed/', import.meta.url)), env, stdio: ['ignore', 'pipe', 'inherit'] })
  let said = ''
  suite.stdout.on('data', (text) => { said += text })
  const code = await new Promise((resolve) => suite.on('close', resolve))
  console.log(said)
  assert.match(said, /^74 passed, 0 failed$/m, said.split('\n').filter((line) => !line.startsWith('ok ')).join('\n'))
  assert.equal(code, 0)
}
