// For work on the page: serves a folder that `npm run build` in static/ made, in front of a perch whose binary holds an
// older page. All else goes to perch; the index keeps perch's own headers. Used where PERCH_PAGE names such a folder.
import fs from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import path from 'node:path'

const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8', '.svg': 'image/svg+xml' }

/** Listens on `port` for a perch on `behind`; what is returned ends that. */
export async function front(folder, port, behind) {
  const server = http.createServer((request, response) => {
    const asked = request.url.split('?')[0]
    const name = ['/', '/embed'].includes(asked) ? 'index.html' : asked.slice(1)
    const file = path.join(folder, name)
    // Previews have hosts of their own.
    const isPage = request.headers.host === `127.0.0.1:${port}`
    const isOurs = isPage && file.startsWith(folder) && fs.existsSync(file) && fs.statSync(file).isFile()
    const { method, headers, url } = request
    const ask = http.request({ host: '127.0.0.1', port: behind, method, path: isOurs && asked !== '/embed' ? '/' : url, headers: { ...headers, ...isOurs ? { 'accept-encoding': 'identity' } : {} } })
    ask.on('response', (answer) => {
      if (!isOurs) {
        response.writeHead(answer.statusCode, answer.rawHeaders)
        // Cut off: the page has to notice as it would without this between.
        answer.on('close', () => { if (!answer.complete) response.destroy() })
        return void answer.pipe(response)
      }
      answer.resume()
      const kept = { ...answer.headers, 'content-type': TYPES[path.extname(file)] ?? 'text/plain' }
      if (name !== 'index.html') kept['access-control-allow-origin'] = '*'
      delete kept['content-length']
      response.writeHead(200, kept)
      response.end(fs.readFileSync(file))
    })
    ask.on('error', () => response.destroy())
    response.on('close', () => ask.destroy())
    request.pipe(ask)
  })
  server.on('upgrade', (request, socket, head) => {
    const there = net.connect(behind, '127.0.0.1', () => {
      const lines = [`${request.method} ${request.url} HTTP/1.1`]
      for (let n = 0; n < request.rawHeaders.length; n += 2) lines.push(`${request.rawHeaders[n]}: ${request.rawHeaders[n + 1]}`)
      there.write(`${lines.join('\r\n')}\r\n\r\n`)
      there.write(head)
      there.pipe(socket).pipe(there)
    })
    const end = () => { there.destroy(); socket.destroy() }
    for (const one of [there, socket]) one.on('error', end).on('close', end)
  })
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve))
  return () => {
    server.close()
    server.closeAllConnections()
  }
}
