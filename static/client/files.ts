// The files of a branch as they are on disk; perch writes what it has of a shared file first.
import { pathInUrl, type Http } from './http.js'
import type { Blame } from './git.js'
import type { Entry } from './types.js'

/** A line that matches; numbers from 1, in UTF-16 units. */
export interface FoundLine { path: string, line: number, column: number, length: number, text: string, text_column: number }

export interface Found {
  matches: FoundLine[]
  /** There may be more. */
  cut: boolean
  /** Files that were not searched. */
  too_large: number
  /** Files that were searched without their latest edits. */
  behind: string[]
}

export class Files {
  constructor(private readonly http: Http, private readonly route: string) {}

  /** All entries of a folder, page by page; `''` is the root. */
  async list(path = ''): Promise<Entry[]> {
    const all: Entry[] = []
    let after: string | null = null
    do {
      const page: { entries: Entry[], next?: string | null } = await this.http.json('GET', `${this.route}/tree`, {
        query: { limit: 10_000, path: path === '' ? null : path, after }
      })
      all.push(...page.entries)
      after = page.next ?? null
    } while (after !== null)
    return all
  }

  async read(path: string): Promise<Blob> {
    return (await this.http.ask('GET', `${this.route}/files/${pathInUrl(path)}`)).blob()
  }

  /** Merged with what others type: open editors get it as edits. `isNew`: only where nothing is, else 412. */
  async write(path: string, content: BodyInit, isNew = false): Promise<void> {
    const headers: Record<string, string> = isNew ? { 'if-none-match': '*' } : {}
    await this.http.ask('PUT', `${this.route}/files/${pathInUrl(path)}`, { body: content, headers })
  }

  /** Brings what was typed in a file to disk, and answers once it is there. */
  async flush(path: string): Promise<void> {
    await this.http.ask('HEAD', `${this.route}/files/${pathInUrl(path)}`)
  }

  async makeFolder(path: string): Promise<void> {
    await this.http.ask('POST', `${this.route}/folders/${pathInUrl(path)}`)
  }

  /** Deletes a file, or a folder with all in it. */
  async delete(path: string, isFolder = false): Promise<void> {
    if (isFolder) await this.http.ask('DELETE', `${this.route}/folders/${pathInUrl(path)}`, { query: { recursive: true } })
    else await this.http.ask('DELETE', `${this.route}/files/${pathInUrl(path)}`)
  }

  /** A link by which one file is downloaded, or a folder with all in it as a zip archive (`''` is all files), for five minutes. */
  async download(path: string, isFolder = false): Promise<string> {
    return (await this.http.json<{ url: string }>('POST', `${this.route}/downloads`, { json: { path, folder: isFolder } })).url
  }

  /** Files by name, the best first. */
  find(query: string): Promise<{ files: Array<{ path: string, score: number }>, cut: boolean }> {
    return this.http.json('GET', `${this.route}/find`, { query: { query, limit: 50 } })
  }

  /** Lines by content, with what was typed until now; `path`: a folder, `''` is all. */
  search({ path, ...wanted }: { query: string, regex: boolean, case: boolean, path: string, limit: number }): Promise<Found> {
    return this.http.json('GET', `${this.route}/search`, { query: { ...wanted, path: path === '' ? null : path } })
  }

  /** Who typed which lines, from the document's own log; git is not asked. */
  async authors(path: string): Promise<Blame[]> {
    type Lines = { line: number, count: number, authors: NonNullable<Blame['typed']> }
    const all: Blame[] = []
    let line: number | null = null
    do {
      const page: { lines: Lines[], next?: number } = await this.http.json('GET', `${this.route}/authors/${pathInUrl(path)}`, { query: { line } })
      all.push(...page.lines.map(({ line: first, count, authors }) => ({ first, count, typed: authors })))
      line = page.next ?? null
    } while (line !== null)
    return all
  }

  /** Editors of the file stay connected. */
  async rename(from: string, to: string): Promise<void> {
    await this.http.ask('POST', `${this.route}/rename`, { json: { from, to } })
  }
}
