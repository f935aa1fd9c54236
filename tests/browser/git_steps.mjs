// What scenarios of git in the page do again and again: servers, repositories, and steps in the panel.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import crypto from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { git as plain, httpBackend, repository } from '../clients/git_server.mjs'
import { binary, branchWith, Stage } from './harness.mjs'

export const inside = (folder, ...args) => execFileSync('git', ['-c', 'safe.directory=*', '-C', folder, ...args]).toString()

/** What git refuses (no identity, a token, markers) is an answer with a code; the browser notes each in its console. */
const REFUSALS = /status of (404|409|422)/

/** A perch of one's own. */
export function perch() {
  const stage = new Stage(binary)
  stage.allowed = REFUSALS
  return stage
}

/** A branch whose files are a repository, as a session `seed` has made it. */
export async function repositoryOn(stage, name, files) {
  const id = await branchWith(stage, name)
  await stage.api('POST', `/${id}/sessions`, { id: 'seed', permission: 'write', name: 'Seed', email: 'seed@example.org' })
  await stage.api('POST', `/${id}/git/init?session=seed`)
  await commitAll(stage, id, files, 'first')
  return id
}

export async function commitAll(stage, id, files, message) {
  for (const [file, content] of Object.entries(files)) {
    await fetch(`${stage.url}/v1/branches/${id}/files/${file}`, { method: 'PUT', headers: { authorization: `Bearer ${stage.token}` }, body: content })
  }
  await stage.api('POST', `/${id}/git/commit`, { message, all: true, session: 'seed' })
}

/** A branch that has fetched from a server with tokens, which knows `users`. */
export async function cloned(stage, server, name) {
  const id = await branchWith(stage, name)
  const protocol = server.protocol
  const seed = { protocol, host: server.host, username: 'seed', token: server.tokens.seed }
  await stage.api('POST', `/${id}/sessions`, { id: 'seed', permission: 'write', name: 'Seed', email: 'seed@example.org', git_credentials: [seed] })
  await stage.api('POST', `/${id}/git/init?session=seed&name=start`)
  await stage.api('PUT', `/${id}/git/remotes/origin`, { url: `${protocol}://${server.host}/team.git`, session: 'seed' })
  const answer = await fetch(`${stage.url}/v1/branches/${id}/git/fetch`, {
    method: 'POST', body: JSON.stringify({ session: 'seed' }), headers: { authorization: `Bearer ${stage.token}`, 'content-type': 'application/json' }
  })
  assert.match(await answer.text(), /"done"/)
  await stage.api('POST', `/${id}/git/switch`, { branch: 'main', session: 'seed' })
  return id
}

/** A server with a repository, known to the stage's perch; `tls`: a certificate, as `trusted` makes it. */
export async function server(stage, files, tls = null) {
  const root = path.join(stage.temp, 'served')
  const bare = repository(path.join(root, 'team.git'), files)
  plain(bare, 'config', 'http.receivepack', 'true')
  const secret = () => `t0ken-${crypto.randomBytes(12).toString('hex')}`
  const http = await httpBackend(root, '127.0.0.2', { ann: secret(), bob: secret(), seed: secret() }, undefined, tls)
  stage.flags.push('--session-network-allow', http.host)
  return { bare, http }
}

/**
 * A certificate for 127.0.0.2 of an authority made just now, which this stage's perch trusts and nobody else: it is started where
 * `/etc/ssl` has one certificate more. `impostor`: from then on a server shows one that nobody has signed.
 */
export function trusted(stage) {
  const folder = path.join(stage.temp, 'ssl')
  fs.cpSync('/etc/ssl', folder, { recursive: true, verbatimSymlinks: true, filter: (name) => !name.startsWith('/etc/ssl/private') })
  const openssl = (...args) => execFileSync('openssl', args, { cwd: stage.temp, stdio: 'pipe' })
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2']
  const name = ['-addext', 'subjectAltName=IP:127.0.0.2']
  openssl('req', '-x509', ...curve, '-subj', '/CN=authority', '-keyout', 'ca.key', '-out', 'ca.pem')
  openssl('req', '-x509', ...curve, '-subj', '/CN=server', ...name, '-CA', 'ca.pem', '-CAkey', 'ca.key', '-addext', 'basicConstraints=critical,CA:FALSE', '-keyout', 'server.key', '-out', 'server.pem')
  openssl('req', '-x509', ...curve, '-subj', '/CN=server', ...name, '-keyout', 'other.key', '-out', 'other.pem')
  const pair = (which) => ({ key: fs.readFileSync(path.join(stage.temp, `${which}.key`)), cert: fs.readFileSync(path.join(stage.temp, `${which}.pem`)) })
  fs.appendFileSync(path.join(folder, 'certs/ca-certificates.crt'), fs.readFileSync(path.join(stage.temp, 'ca.pem')))
  // Only root may lay folders over others without a name space of users.
  const space = process.getuid() === 0 ? [] : ['--user', '--map-root-user']
  stage.under = ['unshare', ...space, '--mount', 'sh', '-c', 'mount --bind "$0" /etc/ssl && exec "$@"', folder]
  return { ...pair('server'), impostor: (server) => server.setSecureContext(pair('other')) }
}

export const entry = (page, file, side) => page.locator(`[data-entry="${file}"][data-side="${side}"]`)
export const button = (page, name) => page.getByRole('button', { name, exact: true })
export const done = (page, text) => page.locator('.git-done').getByText(text, { exact: false }).waitFor()
export const fold = async (page, title) => {
  const summary = page.locator('.git-fold summary', { hasText: title })
  if (await summary.evaluate((one) => !one.parentElement.open)) await summary.click()
}
export async function commit(page, message) {
  await page.getByLabel('Commit message').fill(message)
  await page.locator('.git-commit-box button.primary').click()
}
export async function giveEmail(page, address) {
  await page.getByLabel('Email address', { exact: true }).fill(address)
  await button(page, 'Go on').click()
}
export async function giveToken(page, user, token) {
  await page.getByLabel('User name').fill(user)
  await page.getByLabel('Token', { exact: true }).fill(token)
  await button(page, 'Use token').click()
}
/** All that a page remembers, and all that is on its screen. */
export const remembered = (page) => page.evaluate(async () => JSON.stringify([
  { ...localStorage }, { ...sessionStorage }, await indexedDB.databases(), document.cookie, location.href, document.documentElement.outerHTML,
  [...document.querySelectorAll('input, textarea')].map(({ value }) => value), history.state
]))
export const holders = (folder, secret) => fs.readdirSync(folder, { recursive: true, withFileTypes: true })
  .filter((one) => one.isFile()).map((one) => path.join(one.parentPath, one.name))
  .filter((file) => fs.readFileSync(file).includes(secret))

export async function giveEmailIfAsked(page) {
  const asked = page.getByLabel('Email address', { exact: true })
  await asked.or(page.locator('.git-done')).first().waitFor()
  if (await asked.isVisible()) await giveEmail(page, 'ann@example.org')
}
