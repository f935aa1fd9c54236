// Git servers with a token for each user, and what each user did there. They listen on loopback addresses other than
// 127.0.0.1, which sessions keep for their own network.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import path from 'node:path'
import readline from 'node:readline'
import { Transform } from 'node:stream'

const python = path.resolve(import.meta.dirname, '../../target/python/bin/python')

/** A bare repository with one commit on `main`. */
export function repository(folder, files = { 'a.txt': 'one\n' }, format = 'sha1') {
  const work = `${folder}.work`
  fs.mkdirSync(work, { recursive: true })
  const git = (...args) => execFileSync('git', ['-C', work, '-c', 'user.name=Seed', '-c', 'user.email=seed@example.org', ...args]).toString()
  git('init', '-q', '-b', 'main', `--object-format=${format}`)
  for (const [name, content] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(work, name)), { recursive: true })
    fs.writeFileSync(path.join(work, name), content)
  }
  git('add', '.')
  git('commit', '-qm', 'first')
  execFileSync('git', ['clone', '-q', '--bare', work, folder])
  fs.rmSync(work, { recursive: true })
  return folder
}
/** A commit by somebody else, straight into a bare repository. */
export function commitTo(bare, name, content, branch = 'main', message = `change ${name}`) {
  const work = fs.mkdtempSync(`${bare}.work-`)
  const git = (...args) => execFileSync('git', ['-C', work, '-c', 'user.name=Else', '-c', 'user.email=else@example.org', ...args]).toString()
  execFileSync('git', ['clone', '-q', '-b', branch, bare, work])
  fs.writeFileSync(path.join(work, name), content)
  git('add', '.')
  git('commit', '-qm', message)
  git('push', '-q', 'origin', branch)
  const commit = git('rev-parse', 'HEAD').trim()
  fs.rmSync(work, { recursive: true })
  return commit
}
export const git = (folder, ...args) => execFileSync('git', ['-C', folder, ...args]).toString()

/**
 * `git http-backend` behind Basic auth. `tokens`: of each user, may change. `seen`: what was served to whom. `sent`: all
 * that came as authorization, refused or not. `pause`: milliseconds before each larger piece of an answer. `before`: may answer a
 * request itself, and says so. `tls`: key and certificate, for https.
 */
export async function httpBackend(root, address, tokens, before = () => false, tls = null) {
  const hear = (request, response) => {
    server.sent.push(request.headers.authorization ?? 'none')
    if (!server.before(request, response)) server.serve(request, response)
  }
  const server = tls === null ? http.createServer(hear) : https.createServer({ key: tls.key, cert: tls.cert }, hear)
  server.protocol = tls === null ? 'http' : 'https'
  const serve = (request, response) => {
    const [user, ...rest] = Buffer.from((request.headers.authorization ?? '').replace(/^Basic /, ''), 'base64').toString().split(':')
    if (!user || server.tokens[user] !== rest.join(':')) {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="git"' }).end(`you sent ${request.headers.authorization}`)
      return
    }
    const [pathInfo, query = ''] = request.url.split('?')
    server.seen.push({ user, service: pathInfo.split('/').at(-1) + query.replace('service=', ''), path: pathInfo })
    const backend = spawn('git', ['http-backend'], {
      env: {
        PATH: process.env.PATH, GIT_PROJECT_ROOT: root, GIT_HTTP_EXPORT_ALL: '1', PATH_INFO: pathInfo, QUERY_STRING: query,
        REQUEST_METHOD: request.method, CONTENT_TYPE: request.headers['content-type'] ?? '', REMOTE_USER: user,
        HTTP_CONTENT_ENCODING: request.headers['content-encoding'] ?? '', GIT_PROTOCOL: request.headers['git-protocol'] ?? ''
      },
      stdio: ['pipe', 'pipe', 'ignore']
    })
    request.pipe(backend.stdin)
    backend.stdin.on('error', () => {})
    response.on('close', () => backend.stdout.destroy())
    let head = Buffer.alloc(0)
    backend.stdout.pipe(new Transform({
      transform(bytes, _, done) {
        const slowly = (rest) => setTimeout(() => done(null, rest), rest.length > 4_000 ? server.pause : 0)
        if (head === null) return slowly(bytes)
        head = Buffer.concat([head, bytes])
        const end = head.indexOf('\r\n\r\n')
        if (end < 0) return done()
        const headers = Object.fromEntries(head.subarray(0, end).toString().split('\r\n').map((line) => line.split(/: (.*)/s)))
        const status = Number(/^\d+/.exec(headers.Status ?? '200')[0])
        delete headers.Status
        response.writeHead(status, headers)
        const rest = head.subarray(end + 4)
        head = null
        slowly(rest)
      }
    })).pipe(response)
  }
  Object.assign(server, { tokens, before, serve, seen: [], sent: [], pause: 0 })
  server.listen(0, address)
  await once(server, 'listening')
  server.host = `${address}:${server.address().port}`
  server.stop = () => { server.close(); server.closeAllConnections() }
  return server
}

/** dulwich, with the same members. */
export async function dulwich(root, address, tokens) {
  const child = spawn(python, [path.resolve(import.meta.dirname, '../python/git_server.py'), root, address], { stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = readline.createInterface({ input: child.stdout })
  const server = { seen: [], stop: () => child.stdin.end() }
  server.allow = (tokens) => child.stdin.write(`${JSON.stringify({ tokens })}\n`)
  const [first] = await once(lines, 'line')
  server.host = `${address}:${JSON.parse(first).port}`
  lines.on('line', (line) => server.seen.push(JSON.parse(line)))
  server.allow(tokens)
  return server
}

/** A server over SSH: users with keys, made here. `known`: its line of `known_hosts`. `keys`: the private key of each user. */
export async function overSsh(root, address, users) {
  const folder = fs.mkdtempSync(`${root}-keys-`)
  const key = (name) => {
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', path.join(folder, name)])
    return fs.readFileSync(path.join(folder, name))
  }
  const keys = Object.fromEntries(users.map((user) => [user, key(user)]))
  key('host')
  const script = path.resolve(import.meta.dirname, '../python/ssh_server.py')
  const child = spawn(python, [script, root, address, folder, path.join(folder, 'host')], { stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = readline.createInterface({ input: child.stdout })
  const server = { keys, seen: [], stop: () => child.stdin.end() }
  const [first] = await once(lines, 'line')
  const { port } = JSON.parse(first)
  server.host = `${address}:${port}`
  server.known = `[${address}]:${port} ${fs.readFileSync(path.join(folder, 'host.pub'))}`
  lines.on('line', (line) => server.seen.push(JSON.parse(line)))
  return server
}
