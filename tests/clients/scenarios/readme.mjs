// The README's five minutes, as somebody types them.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import { eventually, start, url } from '../harness.mjs'

const readme = fs.readFileSync(new URL('../../../README.md', import.meta.url), 'utf8')
const minutes = /^## Five minutes\n(.*?)^## /ms.exec(readme)[1]
const block = (language) => new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, 'ms').exec(minutes)[1]

/** A shell that is given one line after the other; `type` resolves with what the line printed. */
function shell() {
  const bash = spawn('bash', [], { stdio: ['pipe', 'pipe', 'inherit'] })
  let said = ''
  bash.stdout.on('data', (bytes) => { said += bytes })
  return {
    end: () => bash.stdin.end(),
    async type(line) {
      said = ''
      bash.stdin.write(`${line}\necho "<$?>"\n`)
      await eventually(line, () => /<\d+>\n$/.test(said))
      const [, printed, status] = /^(.*)<(\d+)>\n$/s.exec(said)
      assert.equal(status, '0', line)
      return printed
    }
  }
}

/** Runs a page's code in a process of its own, with what the page was given; `said` is what it printed. */
function page(code, given) {
  // A browser has a WebSocket, this node perhaps not; a module's imports may stand behind other lines.
  const lead = `globalThis.WebSocket ??= (await import('ws')).WebSocket
    const { ${Object.keys(given)} } = ${JSON.stringify(given)}\n`
  const node = spawn(process.execPath, ['--input-type=module', '-e', lead + code], { stdio: ['ignore', 'pipe', 'inherit'] })
  const run = { said: '', end: () => node.kill() }
  node.stdout.on('data', (bytes) => { run.said += bytes })
  return run
}

export async function five_minutes() {
  const [, PERCH_OWNER_TOKEN] = /^export PERCH_OWNER_TOKEN=(\S+)$/m.exec(block('bash'))
  await start({ PERCH_OWNER_TOKEN })
  const bash = shell()
  const started = [bash]
  try {
    await typed(bash, started)
  } finally {
    // Whatever went wrong: they are not perch's, and would outlive this process.
    for (const one of started) one.end()
  }
}

/** Types the README's lines into `bash`, then opens its pages, which go into `started`. */
async function typed(bash, started) {
  const lines = block('bash').split('\n').filter(Boolean)
  let [answer, put] = ['', '']
  for (const line of lines) {
    // perch runs already, on a free port.
    if (line.startsWith('cargo run')) continue
    const command = line.startsWith('B=') ? `B=${JSON.parse(answer).id}` : line.replaceAll('http://127.0.0.1:7744', url)
    answer = await bash.type(command)
    if (line.includes('-X PUT')) put = command
  }
  assert.ok(lines.length >= 7 && put, 'the README has its lines')
  const seat = JSON.parse(answer)
  assert.ok(seat.docs_url && seat.collab_url && seat.token, answer)
  const [, hocuspocus] = /With Hocuspocus: `(.+?)`/.exec(minutes)
  const pages = [
    page(block('js'), seat),
    page(`import * as Y from 'yjs'
      import { HocuspocusProvider } from '@hocuspocus/provider'
      const doc = new Y.Doc()
      ${hocuspocus}
      doc.getText('content').observe(() => console.log(doc.getText('content').toString()))`, seat)
  ]
  started.push(...pages)
  await eventually('the text is shown', () => pages.every(({ said }) => said.includes('one\n')))
  await bash.type(put.replace('one', 'two'))
  await eventually('a change is shown', () => pages.every(({ said }) => said.includes('two\n')))
}
