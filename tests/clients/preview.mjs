// A browser's part of a preview: requests to 127.0.0.1 with the host that a browser would ask for.
import http from 'node:http'
import WebSocket from 'ws'

/** Asks for a URL beneath `*.localhost`; gives status, headers and body. */
export function ask(target, { method = 'GET', headers = {}, body } = {}) {
  const { host, port, pathname, search } = new URL(target)
  return new Promise((resolve, reject) => {
    const request = http.request({ host: '127.0.0.1', port, method, path: pathname + search, headers: { host, ...headers } }, (answer) => {
      const parts = []
      answer.on('data', (part) => parts.push(part))
      answer.on('end', () => resolve({ status: answer.statusCode, headers: answer.headers, body: Buffer.concat(parts).toString() }))
      answer.on('error', reject)
    })
    request.on('error', reject)
    request.end(body)
  })
}
/** Opens a ticket's URL as a browser does; gives the cookie. */
export async function enter(target) {
  const answer = await ask(target)
  if (answer.status !== 303) throw new Error(`${answer.status} ${answer.body}`)
  return { cookie: answer.headers['set-cookie'][0].split(';')[0], answer }
}
export function socket(target, headers = {}) {
  const { host, port, pathname } = new URL(target)
  return new WebSocket(`ws://127.0.0.1:${port}${pathname}`, ['perch-test'], { headers: { host, ...headers } })
}
/** What a socket's upgrade ends in: `open`, or the status of the refusal. */
export function opened(ws) {
  return new Promise((resolve, reject) => {
    ws.on('open', () => resolve('open'))
    ws.on('unexpected-response', (_, answer) => resolve(answer.statusCode))
    ws.on('error', reject)
  })
}
