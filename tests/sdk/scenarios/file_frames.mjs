// The form of each message of files, editors, searches and channels, against what is kept in `golden/`.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { join } from '../frames.mjs'
import { eventually, sdk2, start } from '../harness.mjs'

/** `GOLDEN=write` writes it anew. */
export async function sdk_file_frames() {
  await start()
  const sandbox = await sdk2().sandboxes.create()
  const seat = async (id, permission) => {
    const made = await sandbox.createSession({ id, permission })
    return join({ url: made.pitcherURL, token: made.pitcherToken })
  }
  const ann = await seat('ann', 'write')
  const names = new Map([[ann.joined.client.clientId, 'CLIENT1'], [ann.joined.reconnectToken, 'CLIENT1'], [ann.joined.client.color, 'COLOR1'], [ann.joined.version, 'VERSION']])
  const kept = {}
  // Revisions begin anywhere, for each editor.
  const begun = []
  const since = (revision) => revision - begun.find((first) => first <= revision && revision < first + 1000)
  const shape = (value) => {
    const plain = JSON.stringify(value, (key, one) => {
      if (one instanceof Uint8Array) return `bin ${Buffer.from(one).toString('hex')}`
      if (one?.type === 'Buffer' && Array.isArray(one.data)) return `bin ${Buffer.from(one.data).toString('hex')}`
      if (key === 'revision') return `REVISION + ${since(one)}`
      return ['mtime', 'ctime', 'atime'].includes(key) && Number.isInteger(one) ? 'ms' : one
    })
    return JSON.parse([...names].reduce((text, [from, to]) => text.replaceAll(from, to), plain))
  }
  const ask = async (method, params, who = ann, name = method) => {
    try {
      const result = await who.send(method, params)
      if (result?.document && !begun.includes(result.document.revision)) begun.push(result.document.revision)
      if (result?.watchId) names.set(result.watchId, 'WATCH')
      kept[name] = shape({ params, result: result?.downloadUrl ? { downloadUrl: result.downloadUrl.replace(/^http:.*\/download\/.*$/, 'URL') } : result })
      return result
    } catch (error) {
      if (error.code === undefined) throw error
      kept[`${name}, refused`] = shape({ params, error: { code: error.code, message: error.message, data: error.data } })
    }
  }
  const told = async (method, is = () => true, who = ann) => {
    const said = await eventually(method, () => who.heard.find((said) => said.id === undefined && said.method === method && is(said.params)))
    kept[`${method}, told`] = shape(said.params)
  }
  kept['client/join'] = shape(ann.joined)
  const bob = await seat('bob', 'read')
  names.set(bob.joined.client.clientId, 'CLIENT2').set(bob.joined.client.color, 'COLOR2')
  await told('client/connected')
  await ask('client/list', {})
  await ask('fs/read', null)
  await ask('fs/watch', { path: '.', recursive: true, excludes: null })
  await ask('fs/writeFile', { path: 'a.txt', content: Buffer.from('hi\n'), create: true, overwrite: true })
  await told('fs/watchEvent', ({ events }) => events[0].paths[0].endsWith('/a.txt'))
  await ask('fs/writeFile', { path: 'a.txt', content: Buffer.from('hi\n'), create: true, overwrite: true }, bob)
  await ask('fs/writeFile', { path: 'a.txt', content: Buffer.from(''), create: true, overwrite: false }, ann, 'fs/writeFile of what is there')
  await ask('fs/readFile', { path: 'a.txt' }, bob)
  await ask('fs/readFile', { path: 'none' }, bob)
  await ask('fs/readFile', {}, bob, 'fs/readFile of nothing')
  await ask('fs/readFile', { path: '/tmp/none' }, ann, 'fs/readFile in /tmp')
  await ask('fs/mkdir', { path: 'd', recursive: null })
  await ask('fs/mkdir', { path: 'd' }, ann, 'fs/mkdir of what is there')
  await ask('fs/copy', { from: 'a.txt', to: 'd/b.txt', recursive: false, overwrite: false })
  await ask('fs/rename', { from: 'd/b.txt', to: 'd/c.txt', overwrite: null })
  await ask('fs/readdir', { path: '.' })
  await ask('fs/stat', { path: 'd/c.txt' })
  await ask('fs/remove', { path: 'd', recursive: false })
  await ask('fs/upload', { parentId: '0', filename: 'up.txt', content: Buffer.from('up') })
  await ask('fs/download', { path: 'a.txt', excludes: ['*'] })
  await ask('fs/search', { text: 'hi', glob: null, isRegex: null, caseSensitivity: 'smart' })
  await ask('fs/pathSearch', { text: 'up' })
  await ask('fs/streamingSearch', { searchId: 's', text: 'hi', maxResults: 1 })
  await told('fs/searchMatches')
  await told('fs/searchFinished')
  await ask('fs/cancelStreamingSearch', { searchId: 's' })
  await ask('fs/unwatch', { watchId: [...names].find(([, name]) => name === 'WATCH')[0] })

  const { revision } = (await ask('file/openByPath', { path: '/a.txt' })).document
  const { revision: bobs } = (await ask('file/open', { id: 'a.txt', isResync: false }, bob)).document
  await told('file/join', ({ username }) => username === 'bob')
  await ask('file/documentOperation', { id: 'a.txt', operation: ['HI', -2, 1], revision })
  await told('file/documentOperation', undefined, bob)
  await ask('file/documentAck', { id: 'a.txt', revision: bobs + 1 }, bob)
  await ask('file/documentOperation', { id: 'a.txt', operation: ['x', 3], revision: bobs + 1 }, bob)
  await ask('file/documentOperation', { id: 'a.txt', operation: [99], revision: revision + 1 }, ann, 'file/documentOperation that does not fit')
  await ask('file/open', { id: 'a.txt', isResync: true }, ann, 'file/open again')
  await ask('file/documentOperation', { id: 'a.txt', operation: ['HI', 3], revision: revision + 1 }, ann, 'file/documentOperation made before it')
  await ask('file/documentSelection', { id: 'a.txt', selection: [{ anchor: 0, head: 2 }], reason: 1 })
  await told('file/documentSelection', ({ selections }) => Object.keys(selections)[0] === ann.joined.client.clientId, bob)
  await ask('file/save', { id: 'a.txt', write: true })
  await told('file/save')
  await ask('file/close', { id: 'a.txt' }, bob)
  await told('file/leave', ({ username }) => username === 'bob')
  await ask('file/open', { id: 'none' })

  await ask('channel/subscribe', { name: 'talk' })
  await ask('channel/subscribe', { name: 'talk' }, bob, 'channel/subscribe of another')
  await told('channel/subscribed')
  await ask('channel/message', { name: 'talk', clients: null, data: { n: 1 } }, bob)
  await told('channel/message')
  await ask('channel/unsubscribe', { name: 'talk' }, bob)
  await told('channel/unsubscribed')
  await ask('channel/message', { name: 'none', data: {} })
  await ask('language/list', {})
  await ask('command/list', {})
  await ask('command/execute', { id: 'x' })
  bob.socket.close()
  await told('client/disconnected', ({ clientId }) => clientId === bob.joined.client.clientId)

  const golden = new URL('../golden/files.json', import.meta.url)
  const now = `${JSON.stringify(kept, null, 1)}\n`
  if (process.env.GOLDEN === 'write') fs.writeFileSync(golden, now)
  assert.equal(now, fs.readFileSync(golden, 'utf8'))
}
