// Commands of a session, as its own token asks for them.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { url } from './harness.mjs'

export const as = (s) => ({ authorization: `Bearer ${s.token}` })
/** Asks for a command; the answer's lines as they come. */
export async function* lines(b, s, command, signal) {
  const answer = await fetch(`${url}/v1/branches/${b.id}/exec`, {
    method: 'POST', signal, headers: { 'content-type': 'application/json', ...as(s) },
    body: JSON.stringify(typeof command === 'string' ? { shell: command } : command)
  })
  if (answer.status !== 200) throw new Error(`${answer.status} ${await answer.text()}`)
  let rest = ''
  for await (const text of answer.body.pipeThrough(new TextDecoderStream())) {
    const whole = (rest + text).split('\n')
    rest = whole.pop()
    yield* whole.map((one) => JSON.parse(one))
  }
  assert.equal(rest, '')
}
/** Runs a command to its end. */
export async function run(b, s, command) {
  const told = { out: '', err: '', exit: null }
  for await (const line of lines(b, s, command)) {
    told.out += line.stdout ?? ''
    told.err += line.stderr ?? ''
    told.exit ??= line.exit ?? null
  }
  return told
}
/** What a command that ends well wrote. */
export async function said(b, s, command) {
  const { out, err, exit } = await run(b, s, command)
  assert.deepEqual(exit, { code: 0 }, `${command.shell ?? command}: ${err}`)
  return out
}
/** Processes of this machine whose command line holds `mark`. */
export const alive = (mark) => fs.readdirSync('/proc').filter((pid) => /^\d+$/.test(pid)).filter((pid) => {
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(mark)
  } catch {
    return false
  }
})
