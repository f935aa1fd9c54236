// The public members of both versions of the SDK, as their type declarations have them: `Class.member`, and functions.
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const PACKAGES = {
  '0.11.2': { folder: 'csb-0', files: ['index', 'sandbox-client', 'sandbox', 'sessions', 'preview-tokens', 'filesystem', 'shells', 'ports', 'setup', 'tasks', 'browser'] },
  '2.4.2': {
    folder: 'csb-2',
    files: ['index', 'Sandboxes', 'Sandbox', 'HostTokens', 'API', 'SandboxClient/index', 'SandboxClient/filesystem', 'SandboxClient/terminals',
      'SandboxClient/commands', 'SandboxClient/interpreters', 'SandboxClient/ports', 'SandboxClient/setup', 'SandboxClient/tasks',
      'SandboxClient/hosts', 'browser/index', 'node/index', 'browser/previews/index', 'browser/previews/Preview']
  }
}

export function members(version) {
  const { folder, files } = PACKAGES[version]
  const found = new Set()
  for (const file of files) {
    const text = fs.readFileSync(fileURLToPath(new URL(path.join('node_modules', folder, 'dist/esm', `${file}.d.ts`), import.meta.url)), 'utf8')
    let owner = null
    let nested = null
    for (const line of text.replaceAll(/\/\*[^]*?\*\//g, '').split('\n')) {
      const opens = /^(?:export )?(?:declare )?(?:class|interface) (\w+)/.exec(line)
      const called = /^export declare function (\w+)/.exec(line)
      if (called) found.add(called[1])
      // Interfaces of what is handed over have no methods of their own, but for this one.
      if (opens) owner = / class /.test(line) || /^class /.test(line) || opens[1] === 'RunningCommand' ? opens[1] : null
      if (line === '}') owner = nested = null
      if (!owner) continue
      const member = /^ {4}(?:(?:readonly|get|static) )*(\w+)[?(:<]/.exec(line)
      const inner = /^ {8}(\w+): \(/.exec(line)
      if (/^ {4}(private|protected|constructor|static)\b/.test(line)) nested = null
      else if (member) {
        nested = line.trimEnd().endsWith('{') && / readonly /.test(line) ? member[1] : null
        found.add(`${owner}.${member[1]}`)
      } else if (inner && nested) found.add(`${owner}.${nested}.${inner[1]}`)
    }
  }
  return [...found]
}
if (process.argv[1] === fileURLToPath(import.meta.url)) for (const version of Object.keys(PACKAGES)) console.log(version, members(version).join('\n'))
