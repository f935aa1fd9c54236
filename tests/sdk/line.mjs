// A line between clients and perch that can be cut: perch goes on, all sockets are gone.
import net from 'node:net'
import { freePort, port } from '../clients/harness.mjs'

/** `env` is for `start`; `cut()` ends all that goes through it now; `count()`: how many there were. */
export async function line() {
  const at = await freePort()
  const open = new Set()
  let count = 0
  const server = net.createServer((near) => {
    const far = net.connect(port, '127.0.0.1')
    count += 1
    for (const [one, other] of [[near, far], [far, near]]) {
      open.add(one)
      one.on('error', () => {})
      one.on('close', () => { open.delete(one); other.destroy() })
      one.pipe(other)
    }
  }).listen(at, '127.0.0.1')
  await new Promise((resolve) => server.on('listening', resolve))
  return {
    env: { PERCH_PUBLIC_URL: `http://127.0.0.1:${at}` },
    cut: () => { for (const one of open) one.destroy() },
    count: () => count,
    end: () => server.close()
  }
}
