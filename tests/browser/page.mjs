// The page in a real browser. Usage: node page.mjs PERCH_BINARY SCENARIO; PERCH_SHOTS=folder keeps pictures,
// PERCH_PAGE=folder takes the page from there (see front.mjs).
// Scenarios are the functions that the files in scenarios/ export; without one their names are listed.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { Stage } from './harness.mjs'

const scenarios = {}
for (const file of fs.readdirSync(new URL('scenarios/', import.meta.url)).filter((name) => name.endsWith('.mjs'))) {
  for (const [name, run] of Object.entries(await import(`./scenarios/${file}`))) {
    assert.equal(scenarios[name], undefined, `there are two scenarios ${name}`)
    scenarios[name] = run
  }
}
const [, , , scenario] = process.argv
if (scenario === undefined) {
  console.log(Object.keys(scenarios).join('\n'))
  process.exit()
}
const run = scenarios[scenario]
assert.ok(run, `scenarios: ${Object.keys(scenarios).join(', ')}`)
const stages = []
const made = Stage.prototype.start
Stage.prototype.start = function start() {
  if (!stages.includes(this)) stages.push(this)
  return made.call(this)
}
try {
  await run()
  for (const { errors } of stages) assert.deepEqual(errors, [], 'the pages had errors')
  console.log(`${scenario}: ok`)
} finally {
  for (const stage of stages) {
    if (stage.errors.length > 0) console.error(stage.errors.join('\n'))
    await stage.end()
  }
}
