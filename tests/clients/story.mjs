// Real, unmodified clients against the real binary. Usage: node story.mjs PERCH_BINARY SCENARIO
// A scenario is an exported function of a file in `scenarios/`. Each types unique tokens and, at rest, counts each
// exactly once in every editor and in the file.
import fs from 'node:fs'
import { toTheEnd } from './harness.mjs'

const name = process.argv[3]
await toTheEnd(async () => {
  let scenario
  for (const file of fs.readdirSync(new URL('scenarios/', import.meta.url))) {
    scenario ??= (await import(`./scenarios/${file}`))[name]
  }
  if (!scenario) throw new Error(`there is no scenario ${name}`)
  await scenario()
  console.log(`${name}: ok`)
})
