// What scenarios share: both versions of the SDK, told of perch as their users tell them, and plain requests.
import assert from 'node:assert/strict'
import { owner, url } from '../clients/harness.mjs'

export * from '../clients/harness.mjs'
process.env.CSB_BASE_URL = url
process.env.CSB_API_KEY = owner
export const v0 = await import('csb-0')
export const v2 = await import('csb-2')
export const sdk0 = (token, options) => new v0.CodeSandbox(token, options).sandbox
export const sdk2 = (token, options) => new v2.CodeSandbox(token, options)

/** One vocabulary for both versions, as far as they need no socket. */
export const versions = () => only(process.env.SDK, all())
const only = (name, list) => (name ? list.filter((one) => one.name === name) : list)
const all = () => {
  const [one, two] = [sdk0(), sdk2()]
  return [
    {
      name: '0.11.2',
      create: async (options = {}) => (await one.create({ ...options, autoConnect: false })).id,
      start: async (id, options) => (await one.start(id, options)).bootup_type,
      fork: async (id, options = {}) => (await one.fork(id, { ...options, autoConnect: false })).id,
      hibernate: (id) => one.hibernate(id),
      shutdown: (id) => one.shutdown(id),
      list: (options) => one.list(options),
      tier: (id, tier) => one.updateTier(id, tier),
      timeout: (id, seconds) => one.updateHibernationTimeout(id, seconds),
      tiers: v0.VMTier,
      session: async (id, name, permission) => {
        const got = await one.createSession(id, name, { permission, autoConnect: false })
        return { url: got.pitcher_url, token: got.pitcher_token, workspace: got.user_workspace_path }
      },
      tokens: one.previewTokens
    },
    {
      name: '2.4.2',
      create: async (options) => (await two.sandboxes.create(options)).id,
      start: async (id, options) => (await two.sandboxes.resume(id, options)).bootupType,
      fork: async (id, options) => (await two.sandboxes.create({ id, ...options })).id,
      hibernate: (id) => two.sandboxes.hibernate(id),
      shutdown: (id) => two.sandboxes.shutdown(id),
      list: (options) => two.sandboxes.list(options),
      tier: async (id, tier) => (await two.sandboxes.resume(id)).updateTier(tier),
      timeout: async (id, seconds) => (await two.sandboxes.resume(id)).updateHibernationTimeout(seconds),
      tiers: v2.VMTier,
      session: async (id, name, permission) => {
        const got = await (await two.sandboxes.resume(id)).createSession({ id: name, permission })
        return { url: got.pitcherURL, token: got.pitcherToken, workspace: got.userWorkspacePath }
      },
      tokens: {
        create: (id, expiresAt) => two.hosts.createToken(id, { expiresAt }),
        list: (id) => two.hosts.listTokens(id),
        revoke: (id, token) => two.hosts.revokeToken(id, token),
        revokeAll: (id) => two.hosts.revokeAllTokens(id),
        update: (id, token, at) => two.hosts.updateToken(id, token, at)
      }
    }
  ]
}

/** A request of the SDK's protocol without the SDK; `body`: text as it is, or what becomes JSON. */
export async function rest(method, route, body, headers = {}) {
  const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body)
  const answer = await fetch(url + route, { method, body: text, headers: { authorization: `Bearer ${owner}`, ...headers } })
  const said = await answer.text()
  assert.match(answer.headers.get('content-type'), /^application\/json/, `${method} ${route}: ${said}`)
  return { status: answer.status, headers: answer.headers, ...JSON.parse(said) }
}
/** What a sandbox is now, with `state` as `POST start` would find it, though nothing is started. */
export async function isRunning(id) {
  const { vms } = await sdk2().sandboxes.listRunning()
  return vms.some((vm) => vm.id === id)
}
