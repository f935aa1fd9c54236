// An editor of the SDK's that takes the text anew while another types, told frame by frame.
import assert from 'node:assert/strict'
import { rawY } from '../../clients/raw.mjs'
import { join } from '../frames.mjs'
import { api, eventually, session, start, versions } from '../harness.mjs'

/** A text after an operation; it must be about all of it. */
function applied(text, operation) {
  let made = ''
  let at = 0
  for (const part of operation) {
    if (typeof part === 'string') made += part
    else if (part > 0) made += text.slice(at, at += part)
    else at -= part
  }
  assert.equal(at, text.length, 'an operation is made for the text before it')
  return made
}

/**
 * The SDK's client drops what it is told between its asking for the text and the answer, and goes on from that. So nothing
 * that the answer lacks may come before it.
 */
export async function sdk_anew() {
  await start()
  const [v] = versions()
  const id = await v.create({})
  const ann = await join(await v.session(id, 'ann', 'write'))
  // Large enough that making the answer takes longer than hearing of a key.
  await api('PUT', `/v1/branches/${id}/files/doc.txt`, 'line\n'.repeat(4_000))
  const bob = await rawY(await session({ id }, 'bob'), 'doc.txt').sync()
  ann.socket.on('message', () => {
    const { method, params, id } = ann.heard.at(-1)
    if (id === undefined && method === 'file/documentOperation') ann.send('file/documentAck', { id: 'doc.txt', revision: params.revision })
  })
  const typing = setInterval(() => bob.send('update', bob.typed(0, 'x')), 5)
  const asked = []
  try {
    for (let n = 0; n < 40; n += 1) {
      const from = ann.heard.length
      const { document } = await ann.send('file/open', { id: 'doc.txt', isResync: n > 0 })
      asked.push({ from, revision: document.revision })
    }
  } finally {
    clearInterval(typing)
  }
  const reads = () => {
    let text
    let next = 0
    let isWaiting = false
    for (const [at, { method, id, params, result }] of ann.heard.entries()) {
      if (asked[next]?.from === at) isWaiting = true
      if (method === 'file/open' && id !== undefined) {
        text = result.content
        isWaiting = false
        next += 1
      } else if (method === 'file/documentOperation' && id === undefined && !isWaiting) text = applied(text, params.operation)
    }
    assert.equal(next, asked.length)
    return text
  }
  assert.ok(bob.text.toString().startsWith('xx'))
  await eventually('ann reads what bob typed', () => reads() === bob.text.toString())
  // Whatever was told before an answer is in it.
  for (const { from, revision } of asked) {
    const answer = ann.heard.findIndex(({ method, result }, at) => at >= from && method === 'file/open' && result)
    for (const { params } of ann.heard.slice(from, answer).filter(({ method, id }) => method === 'file/documentOperation' && id === undefined)) {
      assert.ok(params.revision <= revision, `${params.revision} came before the answer, which is of ${revision}`)
    }
  }
}
