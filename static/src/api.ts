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
  /** While it is being made, where perch says so. */
  progress?: string | null
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

async function request(token: string, method: string, route: string, body?: unknown): Promise<Response> {
  const headers: Record<string, string> = { authorization: `Bearer ${token}` }
  if (body !== undefined) headers['content-type'] = 'application/json'
  let answer: Response
  try {
    // Relative: behind a proxy perch may have a folder of its own.
    answer = await fetch(`v1/branches${route}`, {
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

export const folder = async (token: string, branch: string, path: string) => {
  const query = path === '' ? '' : `?path=${encodeURIComponent(path)}`
  const { entries } = await json<{ entries: Entry[] }>(
    request(token, 'GET', `/${encodeURIComponent(branch)}/tree${query}`))
  return entries
}

/** A file's bytes as they are on disk; perch writes what it has of a shared file first. */
export const fileBytes = async (token: string, branch: string, path: string) =>
  (await request(token, 'GET', `/${encodeURIComponent(branch)}/files/${pathInUrl(path)}`)).blob()
