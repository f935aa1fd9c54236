// Tasks, setup steps and ports, with the real packages.
import assert from 'node:assert/strict'
import { plain } from '../both.mjs'
import { eventually, isRunning, sdk0, sdk2, start, url } from '../harness.mjs'

const listen = (port) => `node -e 'require("http").createServer((q, a) => a.end("served by ${port}")).listen(${port}, () => console.log("listening"))'`
const config = (more = {}) => `{
  // Steps, in order.
  "setupTasks": ["echo step-one > one.txt", { "name": "Second", "command": "cat one.txt; sleep 0.2; echo step-two" }],
  "tasks": {
    "web": { "name": "Web server", "command": ${JSON.stringify(listen(3111))}, "runAtStart": true, "preview": { "port": 3111 } },
    "count": { "name": "Counter", "command": "echo task-$((40 + 2)); sleep 1000" }, /* the last */
    "fails": { "command": "exit 3" },${JSON.stringify(more).slice(1, -1)}
  },
}`
const raw = (client, method, params = {}) => client.agentClient.agentConnection.request({ method, params })

/** There is always a finished step that can be opened; the file's steps run at a start from stopped and when asked for. */
export async function sdk_setup() {
  await start()
  const two = sdk2()
  const sandbox = await two.sandboxes.create()
  const client = await sandbox.connect()
  assert.deepEqual([client.setup.status, client.setup.getSteps().length], ['FINISHED', 1])
  await client.setup.waitUntilComplete()
  const [look] = client.setup.getSteps()
  assert.equal(look.status, 'SUCCEEDED')
  await look.waitUntilComplete()
  const found = plain(await look.open())
  for (const program of ['bash', 'git', 'node', 'python3', 'python', 'unzip']) {
    assert.ok(found.includes(`/${program}\n`) || found.includes(`${program} is missing`), `${program}: ${found}`)
  }
  await client.fs.mkdir('.codesandbox')
  await client.fs.writeTextFile('.codesandbox/tasks.json', config())
  await two.sandboxes.shutdown(sandbox.id)

  const again = await two.sandboxes.resume(sandbox.id)
  assert.equal(again.bootupType, 'CLEAN')
  const after = await again.connect()
  const steps = after.setup.getSteps()
  assert.deepEqual(steps.map((step) => step.name), [look.name, 'echo step-one > one.txt', 'Second'])
  await Promise.all(steps.map((step) => step.waitUntilComplete()))
  assert.match(plain(await steps[2].open()), /step-one\nstep-two/)
  assert.equal(await after.fs.readTextFile('one.txt'), 'step-one\n')
  // 0.11.2 hears when all is done; tasks that run at start follow.
  const old = await sdk0().open(sandbox.id)
  assert.equal((await old.setup.waitForFinish()).state, 'FINISHED')
  assert.equal((await old.ports.waitForPort(3111)).port, 3111)
  // Again, on demand; a step that fails stops the rest.
  const told = []
  old.setup.onSetupProgressUpdate((progress) => told.push(progress))
  await after.fs.writeTextFile('.codesandbox/tasks.json', '{ "setupTasks": ["true", "exit 7", "touch never.txt"] }')
  await old.setup.run()
  await eventually('stopped', () => told.at(-1)?.state === 'STOPPED')
  const last = told.at(-1)
  assert.deepEqual(last.steps.map((step) => step.finishStatus), ['SUCCEEDED', 'SUCCEEDED', 'FAILED', null])
  assert.equal(last.currentStepIndex, 2)
  await assert.rejects(after.fs.readTextFile('never.txt'))
  // What failed can be passed over.
  const set = await raw(after, 'setup/setStep', { stepIndex: 3 })
  assert.equal(set.steps.length, 4)
  await eventually('the last step', () => told.at(-1)?.state === 'FINISHED')
  await after.fs.readTextFile('never.txt')
  await after.fs.writeTextFile('.codesandbox/tasks.json', '{ "setupTasks": ["sleep 1000", "sleep 1001"] }')
  await old.setup.run()
  await eventually('the long step', () => told.at(-1)?.currentStepIndex === 1 && told.at(-1).steps[1].shellId)
  await raw(after, 'setup/skip', { stepIndexToSkip: 1 })
  await eventually('the next step', () => told.at(-1)?.currentStepIndex === 2 && told.at(-1).steps[2].shellId)
  await raw(after, 'setup/skipAll')
  await eventually('the end', () => told.at(-1)?.state === 'FINISHED')
  assert.deepEqual(told.at(-1).steps.map((step) => step.finishStatus), ['SUCCEEDED', 'SKIPPED', 'SKIPPED'])
  assert.match(plain(await after.commands.run('pgrep -c sleep || true')), /^0/)
  await assert.rejects(raw(after, 'setup/disable'), { code: 1 })
  const eve = await again.connect({ id: 'eve', permission: 'read' })
  assert.equal(eve.setup.status, 'FINISHED')
  await assert.rejects(eve.setup.run(), { code: 2 })
}

/** Tasks of the file: listed, run, restarted, stopped; a changed file is told of; their ports. */
export async function sdk_tasks() {
  await start()
  const two = sdk2()
  const sandbox = await two.sandboxes.create()
  const client = await sandbox.connect()
  assert.deepEqual(await raw(client, 'task/list'), { tasks: {}, setupTasks: [], validationErrors: [] })
  const old = await sdk0().open(sandbox.id)
  assert.deepEqual(await old.tasks.getTasks(), [])
  await client.fs.mkdir('.codesandbox')
  await client.fs.writeTextFile('.codesandbox/tasks.json', config())
  await eventually('0.11.2 has heard of the file', async () => (await old.tasks.getTasks()).length === 3)
  const listed = await raw(client, 'task/list')
  assert.deepEqual(Object.keys(listed.tasks), ['web', 'count', 'fails'])
  assert.deepEqual(listed.setupTasks.map((step) => step.name), ['echo step-one > one.txt', 'Second'])
  assert.deepEqual(listed.tasks.fails, { id: 'fails', name: 'fails', command: 'exit 3', runAtStart: false, shell: null, ports: [] })

  // Run, by the session of somebody else than whoever stops it.
  const ann = await sandbox.connect({ id: 'ann' })
  const tasks = await ann.tasks.getAll()
  const count = tasks.find((task) => task.id === 'count')
  assert.equal(count.status, 'IDLE')
  await count.run()
  await eventually('it runs', () => count.status === 'RUNNING')
  let output = ''
  count.onOutput((out) => { output += out })
  output += await count.open()
  await eventually('its output', () => output.includes('task-42'))
  const first = count.shell.shellId
  await count.restart()
  await eventually('another run', () => count.shell.shellId !== first && count.status === 'RUNNING')
  assert.match(plain(await client.commands.run('pgrep -c sleep')), /^1/, 'the first run has ended')
  const shell = (await client.agentClient.shells.getShells()).find((one) => one.shellId === count.shell.shellId)
  assert.deepEqual([shell.shellType, shell.name, shell.startCommand], ['COMMAND', 'Counter', 'echo task-$((40 + 2)); sleep 1000'])
  const seen = await client.tasks.get('count')
  await seen.stop()
  await eventually('stopped', () => count.status === 'KILLED')
  assert.match(plain(await client.commands.run('pgrep -c sleep || true')), /^0/)
  const fails = await ann.tasks.get('fails')
  await fails.run()
  await eventually('its end', () => fails.status === 'ERROR')
  await assert.rejects(raw(ann, 'task/run', { taskId: 'nothing' }), { code: 601 })
  await assert.rejects(raw(ann, 'task/stop', { taskId: 'nothing' }), { code: 601 })
  await assert.rejects(raw(ann, 'task/create', { taskFields: {} }), { code: 1 })
  const eve = await sandbox.connect({ id: 'eve', permission: 'read' })
  assert.equal((await eve.tasks.getAll()).length, 3)
  await assert.rejects((await eve.tasks.get('count')).run(), { code: 2 })
  await assert.rejects(raw(eve, 'task/stop', { taskId: 'count' }), { code: 2 })

  // A file that somebody breaks is told of, and loses nothing that runs.
  const told = []
  old.pitcherClient.clients.task.messageHandler.onNotification('task/listUpdate', (list) => told.push(list))
  await ann.fs.writeTextFile('.codesandbox/tasks.json', '{ "tasks": { "bad": 1 } ')
  await eventually('it is told', () => told.at(-1)?.validationErrors.length === 1)
  await ann.fs.writeTextFile('.codesandbox/tasks.json', config({ more: { command: 'true' } }))
  await eventually('it is told', () => told.at(-1)?.tasks.more)
  // As edited in an editor, or by a shell, as well.
  await ann.commands.run('rm -r .codesandbox')
  await eventually('it is gone', () => Object.keys(told.at(-1).tasks).length === 0)
}

/** Ports: those of this sandbox, with the hosts of their previews, and what changes. */
export async function sdk_ports() {
  await start()
  const two = sdk2()
  const [sandbox, elsewhere] = [await two.sandboxes.create(), await two.sandboxes.create()]
  const client = await sandbox.connect({ id: 'ann' })
  const other = await elsewhere.connect()
  const old = await sdk0().open(sandbox.id)
  assert.deepEqual(await client.ports.getAll(), [])
  const events = []
  client.ports.onDidPortOpen((port) => events.push(port))
  client.ports.onDidPortClose((port) => events.push(port))
  const waiting = [client.ports.waitForPort(3111), old.ports.waitForPort(3111)]
  const server = await client.commands.runBackground(listen(3111))
  const [{ host }, opened] = await Promise.all(waiting)
  const behind = new URL(url).port
  assert.equal(host, `3111-${sandbox.id.replace('_', '-')}.localhost:${behind}`)
  assert.equal(opened.getPreviewUrl('http://'), `http://${host}`)
  assert.deepEqual((await client.ports.getAll()), [{ port: 3111, host }])
  assert.deepEqual(await other.ports.getAll(), [], 'another sandbox hears nothing')
  // The host is that of the preview: asked as a browser would.
  const answer = await fetch(`${url}/`, { headers: { host }, redirect: 'manual' })
  assert.notEqual(answer.status, 404, 'a preview is there')
  await server.kill()
  await eventually('closed', () => events.length === 2)
  assert.deepEqual(events, [{ port: 3111, host }, 3111])
  // A task has its port, as long as it is open.
  await client.fs.mkdir('.codesandbox')
  await client.fs.writeTextFile('.codesandbox/tasks.json', config())
  const task = await client.tasks.get('web')
  const updates = []
  client.agentClient.tasks.onTaskUpdate((update) => updates.push(update.ports.map(({ port }) => port)))
  await task.run()
  await eventually('its port', () => updates.at(-1)?.[0] === 3111)
  assert.equal((await task.waitForPort()).port, 3111)
  await task.stop()
  await eventually('its port is closed', () => updates.at(-1)?.length === 0)
  // Without being told which, by the process that listens; what is not of the task is not its.
  await client.fs.writeTextFile('.codesandbox/tasks.json', JSON.stringify({ tasks: { own: { command: listen(3222) } } }))
  const others = await client.commands.runBackground(listen(3333), { asGlobalSession: true })
  await client.ports.waitForPort(3333)
  await raw(client, 'task/run', { taskId: 'own' })
  await eventually('its port', () => updates.at(-1)?.[0] === 3222)
  assert.deepEqual((await raw(client, 'task/list')).tasks.own.ports, [{ port: 3222, url: `3222-${host.slice(5)}` }])
  await others.kill()
}

/** What a sandbox takes and may take; it is put to sleep from inside. */
export async function sdk_system() {
  await start()
  const sandbox = await sdk2().sandboxes.create()
  const client = await sandbox.connect()
  await raw(client, 'system/update')
  const idle = await raw(client, 'system/metrics')
  assert.ok(idle.cpu.cores >= 1 && idle.cpu.configured > 0 && idle.memory.total > 0 && idle.storage.configured > 0, JSON.stringify(idle))
  const busy = await client.commands.runBackground(`node -e 'const held = Buffer.alloc(200e6, 1); for (;;) held[0]++'`)
  await client.fs.writeTextFile('large.txt', 'x'.repeat(3_000_000))
  const now = await eventually('it is seen', async () => {
    const now = await raw(client, 'system/metrics')
    return now.memory.used > idle.memory.used + 150e6 && now.cpu.used > idle.cpu.used + 0.05 && now.storage.used >= idle.storage.used + 2_900_000 && now
  })
  assert.ok(now.memory.used < now.memory.total && now.cpu.used <= now.cpu.cores + 1)
  await busy.kill()
  await eventually('it is gone', async () => (await raw(client, 'system/metrics')).memory.used < now.memory.used - 150e6)
  await assert.rejects(raw(await sandbox.connect({ id: 'eve', permission: 'read' }), 'system/hibernate'), { code: 2 })
  await raw(client, 'system/hibernate')
  await eventually('it sleeps', async () => !(await isRunning(sandbox.id)))
}
