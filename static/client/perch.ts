// What the holder of an API token does: branches, sessions, links.
import { Http } from './http.js'
import type { Branch, Link, Member, Right, Seat } from './types.js'

export interface NewSession {
  /** The same id finds the session again; made up without it. */
  id?: string
  permission: Right
  name?: string
  email?: string
  color?: string
  may_fork?: boolean
  /** Seconds that its token is good for; 12 hours without it. */
  ttl?: number
}

const branchRoute = (branch: string, rest = ''): string => `branches/${encodeURIComponent(branch)}${rest}`

/** Takes a share link: a session of one's own. `url` is where perch is. */
export async function openLink(url: string | URL, secret: string): Promise<Seat> {
  const http = new Http(new URL(url), { token: () => null })
  return http.json('POST', `links/${encodeURIComponent(secret)}/session`)
}

/** perch, for who has an API token. Such a token belongs on servers and in the owner's own browser, nowhere else. */
export class Perch {
  readonly http: Http

  constructor(url: string | URL, token: string | (() => string)) {
    this.http = new Http(new URL(url), { token: typeof token === 'string' ? () => token : token })
  }

  /** One page of branches, newest first. */
  branches(after: string | null = null, limit = 50): Promise<{ branches: Branch[], next: string | null }> {
    return this.http.json('GET', 'branches', { query: { limit, after } })
  }

  branch(branch: string): Promise<Branch> {
    return this.http.json('GET', branchRoute(branch))
  }

  /** Returns at once; `branch` tells when it is ready. */
  make(name: string, git: { url: string, ref?: string } | null = null): Promise<Branch> {
    return this.http.json('POST', 'branches', { json: git === null ? { name } : { name, git } })
  }

  fork(branch: string, name?: string): Promise<Branch> {
    return this.http.json('POST', branchRoute(branch, '/fork'), { json: name === undefined ? {} : { name } })
  }

  /** Makes a session, or finds it again. */
  session(branch: string, wanted: NewSession): Promise<Seat> {
    return this.http.json('POST', branchRoute(branch, '/sessions'), { json: wanted })
  }

  /** Changes a session; felt at once on its open sockets. */
  changeSession(branch: string, session: string, change: {
    permission?: Right, name?: string | null, email?: string | null
  }): Promise<Member> {
    return this.http.json('PATCH', branchRoute(branch, `/sessions/${encodeURIComponent(session)}`), { json: change })
  }

  /** All sessions, oldest first, at most 1,000; also those that have ended. */
  async sessions(branch: string): Promise<Member[]> {
    return (await this.http.json<{ sessions: Member[] }>('GET', branchRoute(branch, '/sessions'))).sessions
  }

  async endSession(branch: string, session: string): Promise<void> {
    await this.http.ask('DELETE', branchRoute(branch, `/sessions/${encodeURIComponent(session)}`))
  }

  async links(branch: string): Promise<Link[]> {
    return (await this.http.json<{ links: Link[] }>('GET', branchRoute(branch, '/links'))).links
  }

  /** The secret is told this once. */
  makeLink(branch: string, link: {
    permission: Right, may_fork?: boolean, expires_in?: number, max_uses?: number
  }): Promise<Link & { secret: string }> {
    return this.http.json('POST', branchRoute(branch, '/links'), { json: link })
  }

  async revokeLink(branch: string, link: string): Promise<void> {
    await this.http.ask('DELETE', branchRoute(branch, `/links/${encodeURIComponent(link)}`))
  }
}
