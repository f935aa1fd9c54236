// What somebody develops in a branch. Usage: node dev-server.mjs NAME
import http from 'node:http'
import { WebSocketServer } from 'ws'

const name = process.argv[2]
const server = http.createServer((request, answer) => {
  const { pathname } = new URL(request.url, 'http://x')
  if (pathname === '/stream') {
    answer.writeHead(200, { 'content-type': 'text/event-stream' })
    answer.write('data: first\n\n')
    // The second goes out only once somebody has read the first and says so.
    return server.once('go', () => answer.end('data: second\n\n'))
  }
  if (pathname === '/go') server.emit('go')
  const parts = []
  request.on('data', (part) => parts.push(part))
  request.on('end', () => {
    answer.writeHead(pathname === '/teapot' ? 418 : 200, {
      'content-type': 'application/json', 'set-cookie': ['a=1', 'b=2'], 'cache-control': 'public, max-age=60',
      connection: 'X-Hop', 'x-hop': '1', location: '/elsewhere'
    })
    const { method, url, rawHeaders } = request
    const headers = rawHeaders.flatMap((text, n) => (n % 2 ? [] : [[text.toLowerCase(), rawHeaders[n + 1]]]))
    answer.end(method === 'HEAD' ? undefined : JSON.stringify({ name, method, url, headers, body: Buffer.concat(parts).toString() }))
  })
})
const sockets = new WebSocketServer({ server, handleProtocols: (offered) => [...offered][0] })
sockets.on('connection', (socket, request) => {
  socket.send(JSON.stringify(request.headers))
  socket.on('message', (bytes, isBinary) => socket.send(bytes, { binary: isBinary }))
})
server.listen(3000, '127.0.0.1', () => console.log('listening'))
