// Shapes of perch's answers, as `/v1/openapi.json` describes them.

export type Right = 'read' | 'write'

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

/** All that is needed to work on one branch: what `POST …/sessions` and `POST /v1/links/…/session` give. */
export interface Seat {
  branch: string
  /** The session's id. */
  id: string
  permission: Right
  token: string
  /** RFC 3339. */
  expires_at: string
  /** Whether this session may fork the branch, once. */
  may_fork: boolean
  /** The display name that it was made with; perch has the last word on what others see. */
  name?: string
}

/** A session that is connected now. */
export interface Present {
  session: string
  /** Its id where it has none. */
  name: string
  /** `#rrggbb`. */
  color: string
  permission: Right
  since_ms: number
  /** The file it looks at, as it says itself. */
  path: string | null
}

/** A session as perch lists it. */
export interface Member {
  id: string
  permission: Right
  name: string | null
  email: string | null
  /** `#rrggbb`. */
  color: string
  created_at_ms: number
  ended_at_ms: number | null
  may_fork: boolean
  /** Sockets it has open now. */
  connections: number
  connected_since_ms: number | null
}

export interface Link {
  id: string
  permission: Right
  may_fork: boolean
  expires_at_ms: number | null
  max_uses: number | null
  uses: number
  created_at_ms: number
  revoked_at_ms: number | null
}

export interface Entry {
  path: string
  kind: 'file' | 'folder' | 'symlink' | 'other'
  len_bytes: number
  modified_at_ms: number
  ignored: boolean
  /** Of a link, what it leads to, if that is in the branch. */
  target?: 'file' | 'folder' | 'symlink' | 'other'
}

/** A program on the server that all of a branch can watch. */
export interface Terminal {
  id: string
  title: string
  /** The session that opened it. */
  session: string
  /** Sessions that may type beside it. */
  typists: string[]
  /** Sessions that ask the opener to let them type too. */
  asking: string[]
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
