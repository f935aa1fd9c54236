// Real, unmodified clients against the real binary. Usage: node story.mjs PERCH_BINARY SCENARIO
// A scenario is an exported function of a file in `scenarios/`. Each types unique tokens and, at rest, counts each
// exactly once in every editor and in the file.
import { runScenario } from './harness.mjs'

await runScenario(process.argv[3], new URL('scenarios/', import.meta.url))
