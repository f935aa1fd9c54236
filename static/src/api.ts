// The native API as this page uses it. Errors are perch's own words (problem+json), for people to read.

/** An answer that is no success; `status` 0: no answer at all. */
export class Problem extends Error {
  constructor(readonly status: number, readonly code: string, detail: string) {
    super(detail)
  }
}

export interface Branch {
  id: string
  name: string
  state: 'creating' | 'ready' | 'failed'
  error: string | null
  /** How far it is while it is being made. */
  progress?: { phase: string, percent: number | null } | null
  git: { url: string, ref: string | null } | null
  created_at_ms: number
}

export interface Entry {
  path: string
  kind: 'file' | 'folder' | 'symlink' | 'other'
  len_bytes: number
}

/** What `POST …/sessions` gives: all that is needed to work on one branch. */
export interface Grant {
  id: string
  permission: 'read' | 'write'
  token: string
  expires_at: string
  collab_url: string
}

const request = (token: string, method: string, route: string, body?: unknown) =>
  ask(token, method, `branches${route}`, body)

async function ask(token: string | null, method: string, route: string, body?: unknown): Promise<Response> {
  const headers: Record<string, string> = token === null ? {} : { authorization: `Bearer ${token}` }
  if (body !== undefined) headers['content-type'] = 'application/json'
  let answer: Response
  try {
    // Relative: behind a proxy perch may have a folder of its own.
    answer = await fetch(`v1/${route}`, {
      method, headers, credentials: 'omit', body: body === undefined ? undefined : JSON.stringify(body)
    })
  } catch {
    throw new Problem(0, 'no_answer', 'perch does not answer. Check that it runs and that you are online.')
  }
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({})) as { code?: string, detail?: string }
    throw new Problem(answer.status, problem.code ?? 'unknown', problem.detail ?? `perch answered ${answer.status}.`)
  }
  return answer
}

async function json<T>(answer: Promise<Response>): Promise<T> {
  return await (await answer).json() as T
}

export const pathInUrl = (path: string): string => path.split('/').map(encodeURIComponent).join('/')

export const listBranches = (token: string, after: string | null) =>
  json<{ branches: Branch[], next: string | null }>(
    request(token, 'GET', `?limit=50${after === null ? '' : `&after=${encodeURIComponent(after)}`}`))

export const oneBranch = (token: string, branch: string) =>
  json<Branch>(request(token, 'GET', `/${encodeURIComponent(branch)}`))

export const makeBranch = (token: string, name: string, git: { url: string, ref?: string } | null) =>
  json<Branch>(request(token, 'POST', '', git === null ? { name } : { name, git }))

export const makeSession = (token: string, branch: string, id: string, name: string) =>
  json<Grant>(request(token, 'POST', `/${encodeURIComponent(branch)}/sessions`, { id, name, permission: 'write' }))

/** Makes an anonymous session with a share link's secret. */
export const openLink = (secret: string) =>
  json<Grant & { branch: string }>(ask(null, 'POST', `links/${encodeURIComponent(secret)}/session`))

/** A program on the server that all of a branch can watch. */
export interface Terminal {
  id: string
  title: string
  /** The session that opened it. */
  session: string
  /** How its program ended; absent while it runs. */
  exit?: { code: number | null, signal: number | null } | null
}

/** A port that a program of the branch listens on. */
export interface Port {
  port: number
  process: string | null
  /** `null`: it can't be looked at from here. */
  url: string | null
}

const inBranch = (branch: string, rest: string): string => `/${encodeURIComponent(branch)}/${rest}`

export const listTerminals = async (token: string, branch: string) =>
  (await json<{ terminals: Terminal[] }>(request(token, 'GET', inBranch(branch, 'terminals')))).terminals

export const openTerminal = (token: string, branch: string) =>
  json<Terminal>(request(token, 'POST', inBranch(branch, 'terminals'), {}))

/** Hangs up; one that has ended is forgotten. */
export const endTerminal = async (token: string, branch: string, id: string) => {
  await request(token, 'DELETE', inBranch(branch, `terminals/${encodeURIComponent(id)}`))
}

export const listPorts = async (token: string, branch: string) =>
  (await json<{ ports: Port[] }>(request(token, 'GET', inBranch(branch, 'ports')))).ports

/** A URL that opens the preview of a port once, soon. */
export const previewOf = async (token: string, branch: string, port: number) =>
  (await json<{ url: string }>(request(token, 'POST', inBranch(branch, `ports/${port}/preview`)))).url

/** All entries of a folder, page by page. */
export const folder = async (token: string, branch: string, path: string) => {
  const all: Entry[] = []
  let after: string | null = null
  do {
    const query = new URLSearchParams({ limit: '10000' })
    if (path !== '') query.set('path', path)
    if (after !== null) query.set('after', after)
    const page: { entries: Entry[], next?: string | null } = await json(
      request(token, 'GET', `/${encodeURIComponent(branch)}/tree?${query.toString()}`))
    all.push(...page.entries)
    after = page.next ?? null
  } while (after !== null)
  return all
}

/** A file's bytes as they are on disk; perch writes what it has of a shared file first. */
export const fileBytes = async (token: string, branch: string, path: string) =>
  (await request(token, 'GET', `/${encodeURIComponent(branch)}/files/${pathInUrl(path)}`)).blob()
