// Requests to perch. Errors are perch's own words (problem+json), for people to read.

/** An answer that is no success; `status` 0: no answer at all. `code` is stable, see `/docs`. */
export class Problem extends Error {
  constructor(
    readonly status: number, readonly code: string, detail: string,
    /** Paths that an error of git names. */
    readonly files: readonly string[] = []
  ) {
    super(detail)
  }

  /** What perch answered, or `status` where that is no problem+json. */
  static of(status: number, body: unknown): Problem {
    const { code, detail, files } = (body ?? {}) as { code?: string, detail?: string, files?: string[] }
    return new Problem(status, code ?? 'unknown', detail ?? `perch answered ${status}.`, Array.isArray(files) ? files : [])
  }
}

type Value = string | number | boolean | null | undefined

export interface Request {
  /** Sent as JSON. */
  json?: unknown
  /** Sent as it is. */
  body?: BodyInit
  /** Members that are `null` or `undefined` are left out. */
  query?: Record<string, Value>
  headers?: Record<string, string>
  signal?: AbortSignal
}

/** Who asks: the token as it is now, and what gets a fresh one when perch refuses it (`false`: there is none). */
export interface Asker {
  token: () => string | null
  renew?: () => Promise<boolean>
}

export const pathInUrl = (path: string): string => path.split('/').map(encodeURIComponent).join('/')

export class Http {
  /** `base`: where perch is, with a slash at its end; behind a proxy it may have a folder of its own. */
  constructor(readonly base: URL, private readonly asker: Asker) {}

  /** The same perch beneath `route`, as `branches/br_…/`. */
  url(route: string, query: Request['query'] = {}): URL {
    const url = new URL(`v1/${route}`, this.base)
    for (const [name, value] of Object.entries(query)) {
      if (value !== null && value !== undefined) url.searchParams.set(name, String(value))
    }
    return url
  }

  /** Asks once, and once more with a fresh token if the first has run out. */
  async ask(method: string, route: string, request: Request = {}): Promise<Response> {
    const first = await this.once(method, route, request)
    if (first.status !== 401 || this.asker.renew === undefined || !await this.asker.renew()) return this.good(first)
    return this.good(await this.once(method, route, request))
  }

  async json<T>(method: string, route: string, request: Request = {}): Promise<T> {
    return await (await this.ask(method, route, request)).json() as T
  }

  private async once(method: string, route: string, { json, body, query, headers, signal }: Request): Promise<Response> {
    const token = this.asker.token()
    const all: Record<string, string> = { ...headers }
    if (token !== null) all['authorization'] = `Bearer ${token}`
    if (json !== undefined) all['content-type'] = 'application/json'
    try {
      return await fetch(this.url(route, query), {
        method, headers: all, credentials: 'omit', body: json === undefined ? body ?? null : JSON.stringify(json),
        ...signal === undefined ? {} : { signal }
      })
    } catch (error) {
      if (signal?.aborted === true) throw error
      throw new Problem(0, 'no_answer', 'perch does not answer. Check that it runs and that you are online.')
    }
  }

  private async good(answer: Response): Promise<Response> {
    if (!answer.ok) throw Problem.of(answer.status, await answer.json().catch(() => null))
    return answer
  }
}

/** The lines of an answer of JSON lines, as they come. */
export async function* jsonLines<T>(answer: Response): AsyncGenerator<T> {
  const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      const lines = (rest + value).split('\n')
      rest = lines.pop()!
      for (const line of lines) if (line !== '') yield JSON.parse(line) as T
    }
  } finally {
    // Whoever stops reading hangs up.
    void reader.cancel().catch(() => {})
  }
}
