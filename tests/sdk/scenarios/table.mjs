// docs/sdk-compat.md names every public member of both versions, and no others.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { members } from '../members.mjs'

export async function sdk_table() {
  const text = fs.readFileSync(new URL('../../../docs/sdk-compat.md', import.meta.url), 'utf8')
  for (const version of ['0.11.2', '2.4.2']) {
    const section = text.split(`\n## ${version}\n`)[1].split('\n## ')[0]
    const rows = section.split('\n').filter((line) => line.startsWith('| `'))
    const named = rows.flatMap((row) => [...row.split(' | ')[0].matchAll(/`([\w.]+)`/g)].map(([, name]) => name))
    const known = members(version)
    assert.ok(known.length > 80, `${version}: ${known.length} members were found in the type declarations`)
    assert.deepEqual(known.filter((name) => !named.includes(name)), [], `${version}: not in the table`)
    assert.deepEqual(named.filter((name) => !known.includes(name)), [], `${version}: not in the type declarations`)
    assert.equal(new Set(named).size, named.length, 'each once')
  }
}
