// Files from this computer on their way to the branch. What is there already is replaced only if that is wanted.
import { computed, signal } from '@preact/signals'
import { Problem } from '../../client/http'
import { inWords } from './notices'
import type { Workbench } from './workbench'

/** Sent at the same time. */
const AT_ONCE = 4
/** More are refused before the first is sent: that many are better packed into an archive or git. */
const MOST = 10_000
/** Reasons shown; the rest is a number. */
const REASONS = 5

/** `file` null: a folder. The path is from the branch's root. */
interface Upload { readonly path: string, readonly file: File | null }

const join = (folder: string, path: string): string => folder === '' ? path : `${folder}/${path}`

/** What was dropped, folders with all in them. Must be called while the drop is handled. */
export function dropped(items: DataTransferItemList): Promise<Upload[]> {
  const entries = [...items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null)
  return walk(entries)
}

async function walk(roots: FileSystemEntry[]): Promise<Upload[]> {
  const found: Upload[] = []
  const rest = [...roots]
  for (let entry = rest.pop(); entry !== undefined && found.length <= MOST; entry = rest.pop()) {
    const path = entry.fullPath.replace(/^\//, '')
    if (entry.isFile) {
      const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject))
      found.push({ path, file })
    } else {
      found.push({ path, file: null })
      const reader = (entry as FileSystemDirectoryEntry).createReader()
      // A part at a time, until there is none.
      for (;;) {
        const part = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject))
        if (part.length === 0) break
        rest.push(...part)
      }
    }
  }
  return found
}

/** What was chosen in a file dialog. */
export const chosen = (files: FileList): Upload[] =>
  [...files].map((file) => ({ path: file.webkitRelativePath === '' ? file.name : file.webkitRelativePath, file }))

export class Uploads {
  private readonly now = signal<{ done: number, total: number } | null>(null)
  /** Null: nothing is under way. */
  readonly progress = computed(() => this.now.value)
  private stop = new AbortController()

  constructor(private readonly bench: Workbench) {}

  cancel(): void {
    this.stop.abort()
  }

  /** Sends files into a folder. `ask` is given the paths that are there already, and says whether to replace them. */
  async send(what: Upload[] | Promise<Upload[]>, folder: string, ask: (there: string[]) => Promise<boolean>): Promise<void> {
    const { notices } = this.bench
    if (this.now.value !== null) return notices.say('Another upload is under way; wait for its end or cancel it.', { isBad: true })
    this.stop = new AbortController()
    this.now.value = { done: 0, total: 0 }
    try {
      const all = (await what).map(({ path, file }) => ({ path: join(folder, path), file }))
      if (all.length > MOST) return notices.say(`These are more than ${MOST} files. Upload fewer at once.`, { isBad: true })
      if (all.length === 0) return
      // Folders first: one that is empty is wanted as well.
      all.sort((a, b) => Number(a.file !== null) - Number(b.file !== null) || a.path.localeCompare(b.path))
      const there: Upload[] = []
      const failed: string[] = []
      await this.each(all, failed, async (one) => {
        if (!await this.put(one, false)) there.push(one)
      })
      const isReplacing = there.length > 0 && !this.stop.signal.aborted && await ask(there.map(({ path }) => path))
      if (isReplacing) await this.each(there, failed, async (one) => void await this.put(one, true))
      this.tell(all.filter(({ file }) => file !== null).length, isReplacing ? 0 : there.length, failed)
    } catch (problem) {
      notices.failed(problem)
    } finally {
      this.now.value = null
    }
  }

  private async each(all: Upload[], failed: string[], work: (one: Upload) => Promise<void>): Promise<void> {
    this.now.value = { done: 0, total: all.length }
    const rest = [...all].reverse()
    const run = async (): Promise<void> => {
      for (let one = rest.pop(); one !== undefined && !this.stop.signal.aborted; one = rest.pop()) {
        try {
          await work(one)
        } catch (problem) {
          failed.push(`${one.path}: ${inWords(problem)}`)
        }
        this.now.value = { done: (this.now.value?.done ?? 0) + 1, total: all.length }
      }
    }
    // Folders one by one: the one above first.
    while (rest.at(-1)?.file === null && !this.stop.signal.aborted) {
      const folder = rest.pop()!
      await work(folder).catch((problem: unknown) => failed.push(`${folder.path}: ${inWords(problem)}`))
      this.now.value = { done: (this.now.value?.done ?? 0) + 1, total: all.length }
    }
    await Promise.all(Array.from({ length: AT_ONCE }, run))
  }

  /** False where something is there already. */
  private async put({ path, file }: Upload, mustReplace: boolean): Promise<boolean> {
    const { bench } = this
    try {
      if (file === null) await bench.session.files.makeFolder(path)
      else await bench.session.files.write(path, file, !mustReplace)
      return true
    } catch (problem) {
      const isThere = problem instanceof Problem && (problem.status === 412 || problem.status === 409)
      // A folder that is there is as good as one that was made.
      if (isThere && (file === null || !mustReplace)) return file === null
      throw problem
    }
  }

  private tell(files: number, kept: number, failed: string[]): void {
    const { notices } = this.bench
    if (this.stop.signal.aborted) return notices.say('The upload was cancelled; what had arrived stays.')
    const done = files - kept - failed.length
    const words = done > 0 ? [`${done} ${done === 1 ? 'file' : 'files'} uploaded.`] : []
    if (kept > 0) words.push(`${kept} ${kept === 1 ? 'file stays' : 'files stay'} as ${kept === 1 ? 'it was' : 'they were'}.`)
    if (failed.length > 0) {
      words.push(`Not uploaded: ${failed.slice(0, REASONS).join('; ')}${failed.length > REASONS ? ` and ${failed.length - REASONS} more` : ''}.`)
    }
    notices.say(words.join(' '), { isBad: failed.length > 0 })
  }
}
