// Shells in one vocabulary for both versions of the SDK.
import { sdk0, sdk2 } from './harness.mjs'

/** Without what a terminal adds. */
export const plain = (text) => text.replace(/\x1b\[[0-9;?]*[A-Za-z]/g, '').replace(/\r/g, '')
/** 2.4.2 puts a line end between the messages in which output came: empty lines say nothing. */
export const lines = (text) => plain(text).trim().replace(/\n+/g, '\n')
/** Nor does any line end in the middle of what is looked for. */
export const flat = (text) => plain(text).replace(/\n/g, '')

/** Both versions in one vocabulary: a sandbox, clients of it, and what a client does with commands. */
export async function both() {
  const wanted = process.env.SDK
  return [...(wanted === '2.4.2' ? [] : [await older()]), ...(wanted === '0.11.2' ? [] : [await newer()])]
}
async function older() {
  const sandbox0 = await sdk0().create()
  return {
    name: '0.11.2',
    id: sandbox0.id,
    global: sandbox0,
    session: (id, permission = 'write') => sandbox0.sessions.create(id, { permission }),
    async run(client, command, options = {}) {
      const { output, exitCode } = await client.shells.run(command, options)
      return { output: lines(output), exitCode }
    },
    background(client, command) {
      const running = client.shells.run(command)
      let seen = ''
      running.onOutput((out) => { seen += out })
      return { seen: () => seen, ended: running.then(({ exitCode }) => exitCode), kill: () => running.kill() }
    },
    async terminal(client, name) {
      const shell = await client.shells.create('bash')
      return { id: shell.id, write: (text) => shell.write(text), seen: () => flat(shell.getOutput()), kill: () => shell.kill(), name: () => shell.name }
    },
    async watch(client, id) {
      const shell = await client.shells.open(id)
      return { write: (text) => shell.write(text), seen: () => flat(shell.getOutput()), kill: () => shell.kill() }
    },
    list: (client) => client.pitcherClient.clients.shell.messageHandler.request({ method: 'shell/list', params: {} }).then(({ shells }) => shells),
    javascript: async (client, code) => plain((await client.shells.js.run(`console.log(${code})`)).output),
    python: async (client, code) => plain((await client.shells.python.run(`print(${code})`)).output)
  }
}
async function newer() {
  const sandbox2 = await sdk2().sandboxes.create()
  return {
    name: '2.4.2',
    id: sandbox2.id,
    sandbox: sandbox2,
    global: await sandbox2.connect(),
    session: (id, permission = 'write', more = {}) => sandbox2.connect({ id, permission, ...more }),
    async run(client, command, options = {}) {
      try {
        return { output: lines(await client.commands.run(command, options)), exitCode: 0 }
      } catch (error) {
        if (error.name !== 'CommandError') throw error
        return { output: lines(error.output), exitCode: error.exitCode }
      }
    },
    background(client, command) {
      let seen = ''
      const running = client.commands.runBackground(command).then((command) => {
        command.onOutput((out) => { seen += out })
        return command
      })
      const ended = running.then((command) => command.waitUntilComplete()).then(() => 0, (error) => error.exitCode)
      return { seen: () => seen, ended, kill: async () => (await running).kill() }
    },
    async terminal(client, name) {
      const shell = await client.terminals.create('bash', { name })
      let seen = ''
      shell.onOutput((out) => { seen += out })
      return { id: shell.id, write: (text) => shell.write(text), seen: () => flat(seen), kill: () => shell.kill() }
    },
    async watch(client, id) {
      const shell = await client.terminals.get(id)
      let seen = await shell.open()
      shell.onOutput((out) => { seen += out })
      return { write: (text) => shell.write(text), seen: () => flat(seen), kill: () => shell.kill() }
    },
    list: (client) => client.agentClient.shells.getShells(),
    javascript: async (client, code) => plain(await client.interpreters.javascript(code)).trim(),
    python: async (client, code) => plain(await client.interpreters.python(code)).trim()
  }
}
