// The terminals of a branch and the ports that its programs listen on, as perch lists them.
import { signal } from '@preact/signals'
import { endTerminal, listPorts, listTerminals, openTerminal, previewOf, type Port, type Terminal } from './api'

/** How often perch is asked while the panel is open; the screens themselves are live. */
const LOOK_EVERY_MS = 2_000
/** The same while it is closed. */
const GLANCE_EVERY_MS = 10_000

type Ask = <T>(question: (token: string) => Promise<T>) => Promise<T>

export class Shells {
  readonly terminals = signal<readonly Terminal[]>([])
  readonly ports = signal<readonly Port[]>([])
  readonly isOpen = signal(false)
  readonly active = signal<string | null>(null)
  /** Why something did not work, in perch's words. */
  readonly problem = signal<string | null>(null)

  private timer: ReturnType<typeof setTimeout> | undefined
  private isGone = false

  constructor(readonly branch: string, private readonly ask: Ask) {
    this.later(0)
  }

  private later(after: number): void {
    clearTimeout(this.timer)
    if (!this.isGone) this.timer = setTimeout(() => void this.look(), after)
  }

  /** Asks perch for both lists, and again after a while. */
  private async look(): Promise<void> {
    if (document.visibilityState === 'visible') {
      try {
        const [terminals, ports] = await Promise.all([
          this.ask((token) => listTerminals(token, this.branch)), this.ask((token) => listPorts(token, this.branch))
        ])
        if (JSON.stringify(terminals) !== JSON.stringify(this.terminals.value)) this.terminals.value = terminals
        if (JSON.stringify(ports) !== JSON.stringify(this.ports.value)) this.ports.value = ports
        if (!terminals.some(({ id }) => id === this.active.value)) this.active.value = terminals[0]?.id ?? null
      } catch {
        // Away, or the session has ended: the page says so elsewhere, and what was seen last stays.
      }
    }
    this.later(this.isOpen.value ? LOOK_EVERY_MS : GLANCE_EVERY_MS)
  }

  toggle(): void {
    this.isOpen.value = !this.isOpen.value
    this.later(0)
  }

  private async attempt(work: () => Promise<void>): Promise<void> {
    try {
      this.problem.value = null
      await work()
    } catch (problem) {
      this.problem.value = problem instanceof Error ? problem.message : String(problem)
    }
    this.later(0)
  }

  open(): Promise<void> {
    this.isOpen.value = true
    return this.attempt(async () => {
      const made = await this.ask((token) => openTerminal(token, this.branch))
      this.terminals.value = [...this.terminals.value, made]
      this.active.value = made.id
    })
  }

  /** Ends a terminal's program; the list of one that has ended already. */
  end(id: string): Promise<void> {
    return this.attempt(async () => {
      await this.ask((token) => endTerminal(token, this.branch, id))
    })
  }

  /** Opens what listens on a port in a tab of its own. */
  visit(port: number): Promise<void> {
    // Opened before the answer: later, a browser takes it for an advertisement.
    const tab = window.open('about:blank')
    return this.attempt(async () => {
      try {
        const url = await this.ask((token) => previewOf(token, this.branch, port))
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
    this.isGone = true
    clearTimeout(this.timer)
  }
}
