// What sessions cost that run nothing. Usage, as root: node measure_sessions.mjs PERCH_BINARY [SESSIONS]
// Prints the memory of a session's processes (shared pages counted in part, and own pages alone) and what perch itself
// holds for it, the time of a session's first command relative to a later one, and what sessions cost that only edit.
import fs from 'node:fs'
import { api, branch, toTheEnd, eventually, perch, session, sleep, start, yClient } from './harness.mjs'

const count = Number(process.argv[3] ?? 200)
const children = () => {
  const parents = new Map()
  for (const pid of fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      parents.set(Number(pid), Number(/\) . (\d+)/.exec(fs.readFileSync(`/proc/${pid}/stat`, 'utf8'))[1]))
    } catch { /* it ended */ }
  }
  const found = new Set([perch.pid])
  for (let before = 0; before !== found.size;) {
    before = found.size
    for (const [pid, parent] of parents) if (found.has(parent)) found.add(pid)
  }
  found.delete(perch.pid)
  return [...found]
}
const memory = (pid) => {
  const rollup = fs.readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
  const of = (name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(rollup)[1]) * 1024
  return { pss: of('Pss'), own: of('Private_Clean') + of('Private_Dirty') }
}
const kib = (bytes) => `${(bytes / 1024).toFixed(0)} KiB`
const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]
async function run(b, id) {
  const began = performance.now()
  const answer = await api('POST', `/v1/branches/${b.id}/exec`, { argv: ['true'], session: id })
  const text = await answer.text()
  if (answer.status !== 200 || !text.includes('"code":0')) throw new Error(`${answer.status} ${text}`)
  return performance.now() - began
}

await toTheEnd(async () => {
  await start({ PERCH_LOG: 'warn' })
  const b = await branch()
  const ids = Array.from({ length: count }, (_, n) => `s${n}`)
  const sessions = []
  for (const id of ids) sessions.push(await session(b, id))
  await api('PUT', `/v1/branches/${b.id}/files/a.txt`, 'one\n')
  // Sessions that edit.
  const editors = sessions.slice(0, 50).map((s) => yClient(s, 'a.txt'))
  await eventually('synced', () => editors.every((editor) => editor.synced()))
  console.log(`processes of ${editors.length} sessions that edit: ${children().length}`)
  for (const editor of editors) editor.stop()
  await sleep(1_000)
  const before = memory(perch.pid)
  const firsts = []
  for (const id of ids) firsts.push(await run(b, id))
  const laters = []
  for (const id of ids) laters.push(await run(b, id))
  await sleep(2_000)
  const processes = children()
  const sum = { pss: 0, own: 0 }
  for (const pid of processes) {
    const { pss, own } = memory(pid)
    sum.pss += pss
    sum.own += own
  }
  const after = memory(perch.pid)
  console.log(`${count} sessions that ran something and are idle: ${processes.length} processes`)
  console.log(`each: ${kib(sum.pss / count)} with its part of shared pages, ${kib(sum.own / count)} of its own; perch itself ${kib((after.own - before.own) / count)} more`)
  console.log(`first command ${median(firsts).toFixed(1)} ms, later ones ${median(laters).toFixed(1)} ms: ${(median(firsts) / median(laters)).toFixed(1)} times; the last ten first ones ${median(firsts.slice(-10)).toFixed(1)} ms`)
  const ticks = () => [perch.pid, ...processes].reduce((sum, pid) => {
    const [user, system] = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ').slice(11, 13)
    return sum + Number(user) + Number(system)
  }, 0)
  const began = ticks()
  await sleep(10_000)
  console.log(`processor time of all of them together in idleness: ${((ticks() - began) / 1000 * 100).toFixed(1)} % of one core`)
})
