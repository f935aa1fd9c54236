// The third unmodified client: PyPI's pycrdt-websocket, beside the two of npm.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import readline from 'node:readline'
import { atRest, branch, chance, clients, crash, eventually, hClient, line, perch, session, sleep, start, token, yClient } from '../harness.mjs'

const root = new URL('../../../', import.meta.url).pathname

function pClient(s, file) {
  const python = path.join(root, 'target/python/bin/python')
  assert.ok(fs.existsSync(python), 'the Python client is not installed: run `make test`')
  const child = spawn(python, [path.join(root, 'tests/python/client.py'), `${s.docs_url}/${file}?token=${s.token}`], { stdio: ['pipe', 'pipe', 'inherit'] })
  const client = { state: { text: '', synced: false }, child }
  readline.createInterface({ input: child.stdout }).on('line', (said) => { client.state = JSON.parse(said) })
  const tell = (command) => child.stdin.write(`${JSON.stringify(command)}\n`)
  client.text = { toString: () => client.state.text }
  client.synced = () => client.state.synced
  client.online = (online) => tell({ online })
  client.line = (who, tokens) => {
    const one = token(who)
    tokens.push(one)
    tell({ line: one, at: chance.next() })
  }
  client.stop = () => child.kill('SIGKILL')
  clients.push(client)
  return client
}

/** pycrdt-websocket, y-websocket and Hocuspocus in one file: typing, offline edits, a hard and a soft restart. */
export async function pycrdt() {
  await start()
  const b = await branch()
  const file = path.join(b.files, 'a.txt')
  fs.writeFileSync(file, 'base\n')
  const tokens = ['base']
  const py = pClient(await session(b, 'pat'), 'a.txt')
  const npm = [yClient(await session(b, 'ann'), 'a.txt'), hClient(await session(b, 'bob'), 'a.txt')]
  const all = [py, ...npm]
  const allSynced = () => eventually('all synced', () => all.every((client) => client.synced()))
  const type = async (rounds) => {
    for (let round = 0; round < rounds; round++) {
      py.line('py', tokens)
      for (const client of npm) line(client, 'npm', tokens)
      if (round % 5 === 0) fs.appendFileSync(file, `${tokens[tokens.push(token('disk')) - 1]}\n`)
      await sleep(20)
    }
  }
  await allSynced()
  await type(20)
  await atRest(file, all, tokens)
  py.online(false)
  await eventually('offline', () => !py.synced())
  await type(5)
  py.online(true)
  await allSynced()
  await atRest(file, all, tokens)
  await crash()
  for (const client of npm) line(client, 'down', tokens)
  py.line('down', tokens)
  await start()
  await allSynced()
  await type(5)
  await atRest(file, all, tokens)
  perch.kill('SIGTERM')
  assert.equal((await perch.ended).code, 0)
  await start()
  await allSynced()
  await type(2)
  await atRest(file, all, tokens)
  // A reader of this client changes nothing, and still sees what others type.
  const eve = pClient(await session(b, 'eve', 'read'), 'a.txt')
  await eventually('synced', () => eve.synced())
  eve.line('EVIL', [])
  await type(1)
  await atRest(file, all, tokens)
  await eventually('the reader sees it', () => tokens.every((one) => eve.text.toString().includes(one)))
  assert.ok(!fs.readFileSync(file, 'utf8').includes('EVIL'))
}
