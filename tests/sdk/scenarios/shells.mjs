// Shells, with the real packages: commands, terminals, interpreters, what others see of them.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { both, flat, plain } from '../both.mjs'
import { ask, data, eventually, perch, sdk0, sdk2, start } from '../harness.mjs'

/** Commands: output and exit codes, environment, folder, interpreters; killed ones; many at once; what has ended is there for a while. */
export async function sdk_commands() {
  await start()
  for (const v of await both()) {
    const { global } = v
    const ann = await v.session('ann')
    for (const client of [global, ann]) {
      assert.deepEqual(await v.run(client, 'echo one; echo two >&2; exit 3'), { output: 'one\ntwo', exitCode: 3 }, v.name)
      assert.deepEqual(await v.run(client, 'whoami; pwd; echo $HOME'), { output: 'root\n/project/workspace\n/root', exitCode: 0 }, v.name)
    }
    assert.equal((await v.run(ann, 'kill -9 $$')).exitCode, 137, 'a signal')
    assert.deepEqual(await v.run(ann, 'true'), { output: '', exitCode: 0 }, 'no output at all')
    assert.equal((await v.run(ann, 'pwd', { cwd: '/tmp' })).output, '/tmp')
    // 0.11.2 writes the value as it is, 2.4.2 quotes it.
    assert.equal((await v.run(ann, 'printenv GREETING', { env: { GREETING: 'hello' } })).output, 'hello')
    assert.equal(await v.javascript(ann, '6 * 7'), '42')
    assert.equal(await v.python(ann, '6 * 7'), '42')
    assert.equal((await v.run(ann, 'command -v nothing-of-this-name')).exitCode, 1)
    // Programs see a terminal of the size that was asked for; a program in the middle of what it does is there at once.
    assert.equal((await v.run(ann, 'tput cols; tput lines; test -t 1 && echo tty')).output, '128\n24\ntty')
    const text = 'ä€😀 文字'
    assert.equal((await v.run(ann, `printf '%s' '${text}'`)).output, text)

    // Characters that come a byte at a time are never cut, lines that come in a row stay in order.
    const slow = await v.run(ann, `for i in $(seq 200); do printf '\\xf0\\x9f'; printf '\\x98\\x80ä%s\\n' $i; done`)
    assert.equal(flat(slow.output), Array.from({ length: 200 }, (_, i) => `😀ä${i + 1}`).join(''), v.name)
    // More than is kept, at full speed: nothing is missing.
    const big = await v.run(ann, 'seq 1000000')
    assert.equal(big.exitCode, 0)
    const numbers = Array.from({ length: 1_000_000 }, (_, i) => i + 1).join('')
    assert.ok(flat(big.output) === numbers, `${v.name}: ${flat(big.output).length} of ${numbers.length}`)

    // Many at once, of several sessions, each with its own output and code.
    const bob = await v.session('bob')
    const many = Array.from({ length: 60 }, async (_, i) => v.run([global, ann, bob][i % 3], `echo mine-${i}; exit ${i}`))
    for (const [i, { output, exitCode }] of (await Promise.all(many)).entries()) {
      assert.deepEqual({ output, exitCode }, { output: `mine-${i}`, exitCode: i }, v.name)
    }

    // Killed with all that came of it; whoever opens it later is told that there is none.
    const killed = v.background(ann, `sh -c 'echo $$ > /tmp/inner; echo is-there; sleep 1000' & setsid sleep 1001 & wait`)
    await eventually('it runs', () => killed.seen().includes('is-there'))
    assert.equal((await v.run(ann, 'pgrep -c sleep')).output, '2')
    await killed.kill()
    await eventually('all of it has ended', async () => (await v.run(ann, 'pgrep -c sleep')).output === '0')
    console.log(`# ${v.name}: ok`)
  }

  // The rest is for 2.4.2 alone: commands that are looked at again.
  const sandbox = await sdk2().sandboxes.create()
  const client = await sandbox.connect({ id: 'ann' })
  const command = await client.commands.runBackground('echo early; read line; echo got-$line', { name: 'reader' })
  await eventually('it is listed', async () => (await client.commands.getAll()).length === 1)
  const [again] = await client.commands.getAll()
  assert.deepEqual([again.command, again.name], ['echo early; read line; echo got-$line', 'reader'])
  await eventually('its output', async () => (await again.open()).includes('early'))
  // Restarted: the output begins anew, nobody hears of an end.
  let ended = false
  const end = command.waitUntilComplete().then((output) => { ended = output })
  let anew = ''
  again.onOutput((out) => { anew += out })
  await command.restart()
  await eventually('it has printed again', () => anew.includes('early'))
  assert.equal(ended, false)
  const shell = (await client.terminals.getAll()).length
  assert.equal(shell, 0, 'commands are no terminals')
  await client.agentClient.shells.send(command.shell.shellId, 'it\n', { cols: 128, rows: 24 })
  await end
  assert.match(plain(ended), /got-it/)
  assert.equal((await client.commands.getAll()).length, 0, 'what has ended is not listed')
  // … but can be opened, and says how it ended.
  const opened = await client.agentClient.shells.open(command.shell.shellId, { cols: 128, rows: 24 })
  assert.deepEqual([opened.status, opened.exitCode, opened.buffer.length], ['FINISHED', 0, 1])
  assert.equal(plain(opened.buffer[0]).match(/early/g).length, 1, 'the last run only')
  const short = await client.commands.runBackground('echo short; exit 4')
  const late = await client.agentClient.shells.open(short.shell.shellId, { cols: 128, rows: 24 })
  assert.match(late.buffer.join(''), /^(short\r\n)?$/)
  await assert.rejects(short.waitUntilComplete(), { exitCode: 4 })
  await short.kill()
  await assert.rejects(client.agentClient.shells.open(short.shell.shellId, { cols: 1, rows: 1 }), { code: 204 })
  await assert.rejects(client.agentClient.shells.delete(short.shell.shellId), { code: 204 })
  await assert.rejects(client.agentClient.shells.open('tm_nonsense', { cols: 1, rows: 1 }), { code: 204 })
  // As the global session.
  const user = (options) => client.commands.run('echo $PERCH_PROCESS; ls ~/.private | wc -l; touch ~/.private/mine', options)
  await user({})
  assert.match(plain(await user({})), /1\s*$/, 'its own folder')
  assert.match(plain(await user({ asGlobalSession: true })), /0\s*$/, 'another folder')
  assert.equal((await client.commands.getAll()).length, 0)
  // Too many, too long: said so, and all goes on.
  await assert.rejects(client.commands.run(`: ${'x'.repeat(131_072)}`), /131,071 bytes/)
  const held = await Promise.all(Array.from({ length: 48 }, () => client.commands.runBackground('sleep 1000')))
  await assert.rejects(client.commands.run('echo no'), { code: 3 })
  await held[0].kill()
  assert.match(await client.commands.run('echo yes'), /yes/)
}

/** Terminals: typed in, seen by others, by read sessions too, which change nothing; they outlive their client. */
export async function sdk_terminals() {
  await start()
  for (const v of await both()) {
    const [ann, bob] = [await v.session('ann'), await v.session('bob')]
    const eve = await v.session('eve', 'read')
    const shell = await v.terminal(ann, 'of-ann')
    await shell.write('echo before-$((40 + 2))\n')
    await eventually('typed', () => shell.seen().includes('before-42'))
    const seen = (await v.list(bob)).find((one) => one.shellId === shell.id)
    assert.deepEqual([seen.ownerUsername, seen.shellType, seen.status], ['ann', 'TERMINAL', 'RUNNING'], v.name)
    const watchers = [await v.watch(bob, shell.id), await v.watch(eve, shell.id)]
    for (const watcher of watchers) {
      await eventually('what was printed before', () => watcher.seen().includes('before-42'))
    }
    await shell.write('echo after-$((50 + 4))\n')
    for (const watcher of watchers) {
      await eventually('what is printed now', () => watcher.seen().includes('after-54'))
      // Neither a reader nor another session types as ann.
      await assert.rejects(watcher.write('touch typed\n'), (error) => error.code === (watcher === watchers[0] ? 200 : 2))
      await assert.rejects(watcher.kill())
    }
    await shell.write('ls typed; echo still-$((60 + 6))\n')
    await eventually('it lives', () => shell.seen().includes('still-66'))
    assert.match(shell.seen(), /cannot access/)
    // What a snapshot holds does not come again, and nothing is left out between.
    await shell.write('for i in $(seq 3000); do echo n$i.; done; echo all-$((90 + 9))\n')
    const late = await v.watch(bob, shell.id)
    await eventually('all came', () => late.seen().includes('all-99'))
    const all = late.seen()
    for (let i = 1; i <= 3000; i += 1) assert.equal(all.split(`n${i}.`).length, 2, `${v.name}: n${i}`)
    // The global session may end what it does not type in.
    const global = await v.watch(v.global, shell.id)
    await assert.rejects(global.write('x'), { code: 200 })
    await global.kill()
    await assert.rejects(shell.write('echo\n'), { code: 204 })
    assert.ok(!(await v.list(bob)).some((one) => one.shellId === shell.id))
  }

  // A terminal goes on when its client goes, and all clients of the sandbox; it ends with the sandbox.
  const sandbox = await sdk2().sandboxes.create()
  const first = await sandbox.connect({ id: 'ann' })
  const terminal = await first.terminals.create('bash', { name: 'long' })
  await terminal.write('(sleep 1; echo late-$((1 + 1))) & \n')
  await first.disconnect()
  const second = await sandbox.connect({ id: 'ann' })
  const found = await second.terminals.get(terminal.id)
  assert.equal(found.name, 'long')
  let output = await found.open()
  found.onOutput((out) => { output += out })
  await eventually('what was printed after its client went', () => output.includes('late-2'))
  await sdk2().sandboxes.shutdown(sandbox.id)
  const again = await (await sdk2().sandboxes.resume(sandbox.id)).connect({ id: 'ann' })
  assert.deepEqual(await again.terminals.getAll(), [])
}

/** What a session gives as a command is shown to no other session, and written down nowhere. */
export async function sdk_secrets() {
  await start({ PERCH_LOG: 'trace' })
  const secrets = ['tok_canary_git_81', 'canary-env-value-82', 'canary-text-83', 'canary-typed-84', 'canary-global-85', 'canary-old-86']
  const sandbox = await sdk2().sandboxes.create()
  const [global, bob, eve] = [await sandbox.connect(), await sandbox.connect({ id: 'bob' }), await sandbox.connect({ id: 'eve', permission: 'read' })]
  const told = []
  for (const client of [global, bob, eve]) {
    const { agentConnection } = client.agentClient
    for (const method of ['shell/create', 'shell/rename', 'shell/exit', 'shell/terminate', 'shell/restart', 'task/update', 'setup/progress']) {
      agentConnection.onNotification(method, (params) => told.push([method, JSON.stringify(params)]))
    }
  }
  const ann = await sandbox.connect({
    id: 'ann',
    git: { provider: '127.0.0.9', username: 'ann', accessToken: secrets[0], email: 'ann@example.org', name: 'Ann' },
    env: { CANARY: secrets[1] }
  })
  assert.match(await ann.commands.run('cat ~/.private/.gitcredentials; printenv CANARY'), /tok_canary_git_81[^]*canary-env-value-82/)
  const running = await ann.commands.runBackground(`true ${secrets[2]}; sleep 1000`, { name: 'deploy' })
  const terminal = await ann.terminals.create(`bash -c 'true ${secrets[2]}; exec bash'`, { name: 'mine' })
  await ann.commands.runBackground(`true ${secrets[4]}; sleep 1000`, { asGlobalSession: true, name: 'as global' })
  await running.restart()
  const old = await sdk0().open(sandbox.id)
  const other = await old.sessions.create('cyn')
  other.shells.run(`true ${secrets[5]}; sleep 1000`)
  await eventually('all run', async () => (await bob.agentClient.shells.getShells()).length === 5)
  // The session itself sees its own.
  await eventually('named', async () => (await ann.commands.getAll()).some((one) => one.command.includes(secrets[2])))
  const names = (await bob.commands.getAll()).map((one) => [one.name, one.command])
  assert.ok(names.some(([name, command]) => name === 'deploy' && command === ''), JSON.stringify(names))
  for (const client of [global, bob, eve]) {
    const listed = JSON.stringify(await client.agentClient.shells.getShells())
    for (const secret of secrets) assert.ok(!listed.includes(secret), `${secret} in a list`)
    for (const { shellId } of await client.agentClient.shells.getShells()) {
      const opened = JSON.stringify(await client.agentClient.shells.open(shellId, { cols: 80, rows: 24 }))
      for (const secret of secrets) assert.ok(!opened.includes(secret), `${secret} in a shell`)
    }
  }
  assert.ok(told.length > 10 && told.some(([method]) => method === 'shell/rename'))
  for (const [method, params] of told) for (const secret of secrets) assert.ok(!params.includes(secret), `${secret} in ${method}`)
  // Nor by the native API.
  const native = await (await fetch(`${process.env.CSB_BASE_URL}/v1/branches/${sandbox.id}/terminals`, { headers: { authorization: `Bearer ${process.env.CSB_API_KEY}` } })).text()
  assert.match(native, /deploy/)
  for (const secret of secrets) assert.ok(!native.includes(secret), secret)
  // Not in the processes that another session sees, nor in files that it can read.
  const seen = await bob.commands.run(`cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' ' '; grep -rslI 'can''ary\\|tok_can''ary' ~ /tmp /project /run 2>/dev/null; true`)
  for (const secret of secrets) assert.ok(!seen.includes(secret), `${secret}: ${seen}`)
  await terminal.kill()
  await sdk2().sandboxes.hibernate(sandbox.id)
  // Nor in what perch says, at its most talkative, nor in what it keeps.
  for (const secret of secrets) assert.ok(!perch.said.includes(secret), `${secret} in the log`)
  const tables = process.env.DATABASE_URL
    ? ask("select table_name from information_schema.tables where table_schema = current_schema()").flat()
    : ask("select name from sqlite_master where type = 'table'").flat()
  assert.ok(tables.length > 5)
  for (const table of tables) {
    const rows = JSON.stringify(process.env.DATABASE_URL ? ask(`select t::text from "${table}" t`) : ask(`select * from "${table}"`))
    for (const secret of secrets) assert.ok(!rows.includes(secret), `${secret} in ${table}`)
  }
  const holds = (folder) => fs.readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const file = path.join(folder, entry.name)
    if (entry.isDirectory()) return holds(file)
    return entry.isFile() && secrets.some((secret) => fs.readFileSync(file).includes(secret)) ? [file] : []
  })
  assert.deepEqual(holds(data), [])
}
