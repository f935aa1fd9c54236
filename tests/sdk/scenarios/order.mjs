// The order in which a shell's messages come, and their form, seen frame by frame.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { join } from '../frames.mjs'
import { eventually, start, url, versions } from '../harness.mjs'

const size = { cols: 128, rows: 24 }

/** What a command prints, and its end, reach a client only after it has shown that it read the answer. */
export async function sdk_barrier() {
  await start()
  const [v] = versions()
  const id = await v.create({})
  const session = await v.session(id, 'ann', 'write')
  const other = await join(await v.session(id, 'bob', 'write'))
  const client = await join(session)
  const opened = async (ask) => {
    // A machine that is slow may take longer than output is held back at most; then nothing is seen, and it is tried again.
    for (let tries = 1; tries <= 50; tries += 1) {
      client.heard.length = 0
      client.holds = true
      const began = performance.now()
      const shell = await ask()
      await eventually('the ping after the answer', () => client.waiting.length > 0)
      // Somebody else has heard of its end: all its output is there.
      await eventually('it has ended', () => other.heard.some(({ method, params }) => method === 'shell/exit' && params.shellId === shell.shellId))
      await client.send('system/update', {})
      const early = client.heard.filter(({ method, id }) => id === undefined && ['shell/out', 'shell/exit', 'shell/rename'].includes(method))
      const took = performance.now() - began
      client.answerPings()
      await eventually('its end', () => client.heard.some(({ method }) => method === 'shell/exit'))
      if (took > 900) continue
      assert.deepEqual(early, [], 'nothing came before the pong')
      const order = client.heard.filter(({ method, params, result }) => method?.startsWith('shell/') && (params ?? result)?.shellId === shell.shellId).map(({ method, id }) => (id === undefined ? method : 'answer'))
      return { shell, order }
    }
    throw new Error('this machine is too slow to see anything')
  }
  const made = await opened(() => client.send('shell/create', { command: 'echo one', size, type: 'TERMINAL' }))
  assert.deepEqual([made.shell.status, made.shell.buffer, made.shell.exitCode], ['RUNNING', [], undefined])
  assert.equal(client.printed(made.shell.shellId), 'one\r\n')
  // The notification of the shell itself may come before or after the answer.
  assert.deepEqual(made.order.filter((one) => !['shell/create', 'shell/rename'].includes(one)), ['answer', 'shell/out', 'shell/exit'])
  const again = await opened(() => client.send('shell/open', { shellId: made.shell.shellId, size }))
  assert.deepEqual([again.shell.status, again.shell.exitCode, again.shell.buffer], ['FINISHED', 0, ['one\r\n']])
  assert.equal(client.printed(made.shell.shellId), '', 'what the buffer holds does not come again')
  // However soon they end, each end is told once, behind what was printed.
  client.holds = false
  client.heard.length = 0
  const many = await Promise.all(Array.from({ length: 24 }, () => client.send('shell/create', { command: 'echo one', size, type: 'TERMINAL' })))
  const about = (shell) => client.heard.filter(({ method, id, params }) => id === undefined && ['shell/out', 'shell/exit'].includes(method) && params.shellId === shell).map(({ method }) => method)
  await eventually('all have ended', () => many.every(({ shellId }) => about(shellId).at(-1) === 'shell/exit'))
  await client.send('system/update', {})
  for (const { shellId } of many) assert.deepEqual(about(shellId), ['shell/out', 'shell/exit'])
}

/** Half characters, single bytes and half lines become whole messages. */
export async function sdk_output_pieces() {
  await start()
  const [v] = versions()
  const id = await v.create({})
  const client = await join(await v.session(id, 'ann', 'write'))
  const run = async (command) => {
    const { shellId } = await client.send('shell/create', { command, size, type: 'TERMINAL' })
    await eventually('its end', () => client.heard.some(({ method, params }) => method === 'shell/exit' && params.shellId === shellId))
    return client.heard.filter(({ method, params }) => method === 'shell/out' && params.shellId === shellId).map(({ params }) => params.out)
  }
  const smile = await run(`for i in 1 2 3 4 5; do for b in '\\xf0' '\\x9f' '\\x98' '\\x80'; do printf "$b"; sleep 0.02; done; done`)
  assert.ok(smile.every((out) => !out.includes('\ufffd')), JSON.stringify(smile))
  assert.equal(smile.join(''), '😀'.repeat(5))
  const many = await run('for i in $(seq 2000); do echo line-$i; done')
  assert.equal(many.join(''), Array.from({ length: 2000 }, (_, i) => `line-${i + 1}\r\n`).join(''))
  assert.ok(many.length < 1000, `${many.length} messages`)
  const bytes = await run(`printf '\\xff\\xfe'`)
  assert.equal(bytes.join(''), '\ufffd\ufffd', 'what is no text is replaced')
}

/** The form of each message, against what is kept in `golden/`; `GOLDEN=write` writes it anew. */
export async function sdk_shell_frames() {
  await start()
  const [v] = versions()
  const id = await v.create({})
  const client = await join(await v.session(id, 'ann', 'write'))
  const reader = await join(await v.session(id, 'eve', 'read'))
  const kept = {}
  const names = new Map([[id, 'SANDBOX'], [id.replace('_', '-'), 'SANDBOX'], [new URL(url).port, 'PORT']])
  const shape = (value) => {
    const text = JSON.stringify(value, (_, one) => (one instanceof Uint8Array ? `bin ${one.length}` : one))
    const shells = text.replace(/tm_[0-9a-f]{32}/g, (shell) => {
      if (!names.has(shell)) names.set(shell, `SHELL${[...names.values()].filter((name) => name.startsWith('SHELL')).length + 1}`)
      return names.get(shell)
    })
    return JSON.parse([...names].reduce((text, [from, to]) => text.replaceAll(from, to), shells))
  }
  const keep = (name, value) => { kept[name] ??= shape(value) }
  const ask = async (method, params, who = client, name = method) => {
    try {
      const result = await who.send(method, params)
      keep(name, { params, result })
      return result
    } catch (error) {
      if (error.code === undefined) throw error
      keep(`${name}, refused`, { params, error: { code: error.code, message: error.message } })
    }
  }
  const heard = (method, is = () => true, who = client) => eventually(method, () => who.heard.find((said) => said.id === undefined && said.method === method && is(said.params)))
  const told = async (method, is, who, name = `${method}, told`) => keep(name, (await heard(method, is, who)).params)

  await eventually('the first step', async () => (await client.send('setup/get', {})).state === 'FINISHED')
  await ask('setup/get', {})
  const shell = await ask('shell/create', { command: 'cat', cwd: '/project/workspace', size, type: 'TERMINAL', isSystemShell: true })
  const of = { shellId: shell.shellId }
  await told('shell/create', ({ shellId }) => shellId === shell.shellId)
  const name = JSON.stringify({ type: 'command', command: 'cat', name: 'my cat' })
  await ask('shell/rename', { ...of, name })
  const isIt = ({ shell: renamed }) => renamed.shellId === shell.shellId
  await told('shell/rename', isIt)
  await told('shell/rename', isIt, reader, 'shell/rename, told to others')
  await ask('shell/in', { ...of, input: 'typed\n', size })
  const { params: printed } = await heard('shell/out', ({ shellId }) => shellId === shell.shellId)
  keep('shell/out, told', { ...printed, out: typeof printed.out })
  await eventually('its echo', () => client.printed(shell.shellId).includes('typed\r\ntyped\r\n'))
  await ask('shell/resize', { ...of, size: { cols: 100, rows: 30 } })
  await ask('shell/list', {}, reader)
  await ask('shell/open', { ...of, size }, reader)
  await ask('shell/close', of, reader)
  await ask('shell/in', { ...of, input: 'no', size }, reader)
  await ask('shell/restart', of)
  await told('shell/restart')
  await ask('shell/in', { ...of, input: '\u0004', size })
  await told('shell/exit', ({ shellId }) => shellId === shell.shellId)
  await ask('shell/in', { ...of, input: 'late', size }, client, 'shell/in of one that has ended')
  await ask('shell/terminate', of)
  await told('shell/terminate')
  await ask('shell/open', { ...of, size })
  const command = await ask('shell/create', { command: 'exit 3', size, type: 'COMMAND' }, client, 'shell/create of a command')
  await told('shell/exit', ({ shellId }) => shellId === command.shellId, client, 'shell/exit of a command, told')
  await ask('shell/create', { command: 'echo', cwd: '/nowhere', size }, client, 'shell/create in no folder')

  await ask('task/list', {})
  await client.send('fs/mkdir', { path: '.codesandbox' })
  const file = { setupTasks: ['true'], tasks: { web: { name: 'Web', command: `node -e 'require("http").createServer(() => {}).listen(3111)'`, preview: { port: 3111, 'pr-link': 'direct' } } } }
  await client.send('fs/writeFile', { path: '.codesandbox/tasks.json', content: Buffer.from(JSON.stringify(file)), create: true, overwrite: true })
  await told('task/listUpdate', ({ tasks }) => tasks.web)
  await ask('task/run', { taskId: 'web' })
  await told('port/changed', ({ list }) => list.length === 1)
  await told('task/update', ({ ports }) => ports.length === 1)
  await ask('port/list', {})
  await ask('task/stop', { taskId: 'web' })
  await ask('task/run', { taskId: 'none' })
  await ask('setup/init', null)
  await eventually('the setup', () => client.heard.some(({ method, params }) => method === 'setup/progress' && params.state === 'FINISHED' && params.steps.length === 2))
  keep('setup/progress at the end', client.heard.findLast(({ method }) => method === 'setup/progress').params)
  await ask('git/remotes', {})
  await ask('git/status', {})
  await ask('system/update', {})
  const metrics = await client.send('system/metrics', {})
  keep('system/metrics', Object.fromEntries(Object.entries(metrics).map(([key, of]) => [key, Object.fromEntries(Object.entries(of).map(([key, number]) => [key, typeof number]))])))
  await ask('system/hibernate', {})
  await told('system/hibernate')

  const golden = new URL('../golden/shells.json', import.meta.url)
  const now = `${JSON.stringify(kept, null, 1)}\n`
  if (process.env.GOLDEN === 'write') fs.writeFileSync(golden, now)
  assert.equal(now, fs.readFileSync(golden, 'utf8'))
}
