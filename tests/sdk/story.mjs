// The unmodified npm packages of the CodeSandbox SDK against the real binary. Usage: node story.mjs PERCH_BINARY SCENARIO
// A scenario is an exported function of a file in `scenarios/`.
import { runScenario } from '../clients/harness.mjs'

// Both versions leave requests behind when a client is disposed; those rejections are nobody's.
process.on('unhandledRejection', (error) => console.log(`# unhandled rejection inside the SDK: ${error}`))
await runScenario(process.argv[3], new URL('scenarios/', import.meta.url))
