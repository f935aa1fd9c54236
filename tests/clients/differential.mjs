// The other half of tests/it/differential.rs: the same update streams in Yjs and in perch.
// node differential.mjs make SEED OUT [TRACE.json]   writes streams made by Yjs, with the text and clocks they lead to
// node differential.mjs check IN                     applies streams made by perch and compares text and clocks
import assert from 'node:assert/strict'
import fs from 'node:fs'
import * as Y from 'yjs'

const [mode, ...rest] = process.argv.slice(2)

// xorshift32: the same seed gives the same streams.
let state = 1
function below(bound) {
  state ^= state << 13
  state ^= state >>> 17
  state ^= state << 5
  return (state >>> 0) % bound
}

const clocks = (doc) => Object.fromEntries(Y.decodeStateVector(Y.encodeStateVector(doc)))
const story = (name, doc, updates) => ({
  name,
  updates: updates.map((update) => Buffer.from(update).toString('base64')),
  text: doc.getText('content').toString(),
  clocks: clocks(doc)
})

const pieces = ['a', 'word ', '\n', 'é', '😀', '👩‍👩‍👧', 'fn main() {\n}\n', '\t', '漢字', 'x'.repeat(300)]

// Authors type and delete at random, are offline for a while, and come back: with each update of that time, with all
// of them merged, or with the difference to what the server has.
function concurrent(number) {
  const server = new Y.Doc()
  const stream = []
  const authors = Array.from({ length: 2 + below(4) }, () => {
    const doc = new Y.Doc()
    doc.clientID = 1 + below(0xfffffffe)
    const author = { doc, text: doc.getText('content'), pending: [], seen: 0 }
    doc.on('update', (update, origin) => { if (origin !== 'server') author.pending.push(update) })
    return author
  })
  const send = (update) => { stream.push(update); Y.applyUpdate(server, update) }
  const flush = (author) => {
    if (author.pending.length === 0) return
    const way = below(3)
    if (way === 0) author.pending.forEach(send)
    else if (way === 1) send(Y.mergeUpdates(author.pending))
    else send(Y.encodeStateAsUpdate(author.doc, Y.encodeStateVector(server)))
    author.pending = []
  }
  const pull = (author) => {
    for (; author.seen < stream.length; author.seen++) Y.applyUpdate(author.doc, stream[author.seen], 'server')
  }
  const steps = 50 + below(300)
  for (let step = 0; step < steps; step++) {
    const author = authors[below(authors.length)]
    const { text } = author
    switch (below(8)) {
      case 0: flush(author); break
      case 1: pull(author); break
      case 2: case 3: {
        const at = below(text.length + 1)
        // Also halves of surrogate pairs: both sides must make the same of them.
        text.delete(at, below(Math.min(12, text.length - at) + 1))
        break
      }
      case 4: {
        author.doc.transact(() => {
          for (let n = 0; n < 5; n++) text.insert(below(text.length + 1), pieces[below(pieces.length)])
        })
        break
      }
      case 5: {
        let at = below(text.length + 1)
        for (const letter of 'typed on') text.insert(at++, letter)
        break
      }
      default: text.insert(below(text.length + 1), pieces[below(pieces.length)])
    }
  }
  authors.forEach(flush)
  authors.forEach((author) => {
    pull(author)
    assert.equal(author.text.toString(), server.getText('content').toString(), 'Yjs agrees with itself')
  })
  return story(`concurrent ${number}`, server, stream)
}

// Each author's document takes in what a transaction builds on, then makes its edits.
function recorded(trace) {
  const astral = /[\u{10000}-\u{10FFFF}]/u
  assert(!trace.txns.some(({ patches }) => patches.some((patch) => astral.test(patch[2]))), 'code points are units')
  const authors = new Map()
  const stream = []
  for (const { parents, agent, patches } of trace.txns) {
    if (!authors.has(agent)) {
      const doc = new Y.Doc()
      // Of what two insert at one place the lower id's comes first, as in the recorded end.
      doc.clientID = agent + 1
      authors.set(agent, { doc, seen: new Set() })
    }
    const { doc, seen } = authors.get(agent)
    const wanted = []
    const stack = [...parents]
    while (stack.length > 0) {
      const index = stack.pop()
      if (seen.has(index)) continue
      seen.add(index)
      wanted.push(index)
      stack.push(...trace.txns[index].parents)
    }
    for (const index of wanted.sort((a, b) => a - b)) Y.applyUpdate(doc, stream[index], 'other')
    let made = null
    const keep = (update) => { made = update }
    doc.once('update', keep)
    doc.transact(() => {
      for (const [at, deleted, inserted] of patches) {
        const text = doc.getText('content')
        if (deleted > 0) text.delete(at, deleted)
        if (inserted !== '') text.insert(at, inserted)
      }
    })
    if (made === null) {
      doc.off('update', keep)
      made = Uint8Array.of(0, 0)
    }
    seen.add(stream.length)
    stream.push(made)
  }
  const all = new Y.Doc()
  stream.forEach((update) => Y.applyUpdate(all, update))
  if (trace.endContent !== undefined) assert(all.getText('content').toString() === trace.endContent, 'the recorded end')
  return story('recorded', all, stream)
}

if (mode === 'make') {
  const [seed, out, trace] = rest
  state = (Number(BigInt(seed) & 0xffffffffn) | 0) || 1
  const stories = Array.from({ length: 60 }, (_, number) => concurrent(number))
  if (trace) stories.push(recorded(JSON.parse(fs.readFileSync(trace))))
  fs.writeFileSync(out, JSON.stringify({ stories }))
} else if (mode === 'check') {
  for (const { name, updates, text, clocks: expected } of JSON.parse(fs.readFileSync(rest[0])).stories) {
    // Y.mergeUpdates sorts all of them at each step.
    for (const order of updates.length < 1000 ? ['as sent', 'merged'] : ['as sent']) {
      const doc = new Y.Doc()
      const bytes = updates.map((update) => Buffer.from(update, 'base64'))
      if (order === 'merged') Y.applyUpdate(doc, Y.mergeUpdates(bytes))
      else bytes.forEach((update) => Y.applyUpdate(doc, update))
      assert.equal(doc.getText('content').toString(), text, `${name}, ${order}: text`)
      assert.deepEqual(clocks(doc), expected, `${name}, ${order}: clocks`)
    }
  }
} else {
  throw new Error('make or check?')
}
console.log('ok')
