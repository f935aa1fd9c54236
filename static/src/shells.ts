// The terminals of a branch and the ports that its programs listen on, as perch lists them.
import { signal } from '@preact/signals'
import { Problem } from '../client/http'
import type { Port, Terminal } from '../client/types'
import { inWords } from './bench/notices'
import type { Workbench } from './bench/workbench'

/** Events that come together are one look. */
const GATHER_MS = 50

export class Shells {
  readonly terminals = signal<readonly Terminal[]>([])
  readonly ports = signal<readonly Port[]>([])
  readonly isOpen = signal(false)
  readonly active = signal<string | null>(null)
  /** Whether the next screen that is shown is to take the keyboard. */
  wantsKeys = false
  /** Why something did not work, in perch's words. */
  readonly problem = signal<string | null>(null)

  /** Those whose screens have shown the end, which the list may not know yet. */
  private readonly over = new Set<string>()
  private timer: ReturnType<typeof setTimeout> | undefined
  private readonly unlisten: () => void

  constructor(private readonly bench: Workbench) {
    this.unlisten = bench.events.on(({ type }) => {
      if (type === 'reset' || type.startsWith('terminal.') || type.startsWith('port.')) this.lookSoon()
    })
  }

  private get perch() { return this.bench.session.terminals }

  private lookSoon(): void {
    this.timer ??= setTimeout(() => {
      this.timer = undefined
      void this.look()
    }, GATHER_MS)
  }

  /** Asks perch for both lists. */
  private async look(): Promise<void> {
    try {
      const [terminals, ports] = await Promise.all([
        this.perch.list(), this.perch.ports()
      ])
      this.terminals.value = terminals
      this.ports.value = ports
      if (!terminals.some(({ id }) => id === this.active.value)) this.active.value = terminals[0]?.id ?? null
    } catch (problem) {
      // Away, or the session has ended: the page says so elsewhere, and the stream says `reset` when it is back.
      const isAway = problem instanceof Problem && (problem.status === 0 || problem.status === 401)
      if (!isAway) this.problem.value = inWords(problem)
    }
  }

  toggle(): void {
    this.wantsKeys = !this.isOpen.value
    this.isOpen.value = !this.isOpen.value
  }

  private async attempt(work: () => Promise<void>): Promise<void> {
    try {
      this.problem.value = null
      await work()
    } catch (problem) {
      this.problem.value = inWords(problem)
    }
    this.lookSoon()
  }

  open(): Promise<void> {
    this.isOpen.value = true
    return this.attempt(async () => {
      const made = await this.perch.open()
      this.terminals.value = [...this.terminals.value, made]
      this.wantsKeys = true
      this.active.value = made.id
    })
  }

  /** Asks the opener for the keyboard. */
  ask(id: string): Promise<void> {
    return this.attempt(async () => { await this.perch.ask(id) })
  }

  /** Ends what a session asks for. */
  turnDown(id: string, session: string): Promise<void> {
    return this.attempt(() => this.perch.turnDown(id, session))
  }

  /** Lets a session type in one of one's own. */
  letIn({ id, typists }: Terminal, session: string): Promise<void> {
    return this.attempt(async () => { await this.perch.change(id, { typists: [...typists, session] }) })
  }

  /** A screen shows that its program has ended. */
  sawEnd(id: string): void {
    if (this.over.has(id)) return
    this.over.add(id)
    this.lookSoon()
  }

  hasEnded(terminal: Terminal): boolean {
    return this.over.has(terminal.id) || (terminal.exit !== undefined && terminal.exit !== null)
  }

  /** Ends a terminal's program; the list of one that has ended already. */
  end(id: string): Promise<void> {
    return this.attempt(() => this.perch.end(id))
  }

  /** Opens what listens on a port in a tab of its own; `at` may name a page of it. */
  visit(port: number, at = (ticket: string): string => ticket): Promise<void> {
    // Opened before the answer: later, a browser takes it for an advertisement.
    const tab = window.open('about:blank')
    return this.attempt(async () => {
      try {
        const url = at(await this.perch.preview(port))
        if (tab === null) throw new Error('The browser did not allow a new tab for the preview.')
        // What a branch serves must not reach back into this page.
        tab.opener = null
        tab.location.replace(url)
      } catch (problem) {
        tab?.close()
        throw problem
      }
    })
  }

  destroy(): void {
    this.unlisten()
    clearTimeout(this.timer)
  }
}
