// Who is on the branch, at which file each is, and whom this page follows.
import { computed, effect, signal } from '@preact/signals'
import type { Present } from '../../client/types'
import type { BranchEvent } from '../../client/events'
import { inWords } from './notices'
import type { Workbench } from './workbench'

/** Events that come together are one look. */
const GATHER_MS = 50
/** How long a file must be shown before the others are told; perch takes ten words a second. */
const SETTLE_MS = 200
const AGAIN_MS = 1_000

export class People {
  /** All who are here, this page's own session too. */
  readonly here = signal<readonly Present[]>([])
  /** The session that this page follows. */
  readonly following = signal<string | null>(null)
  readonly problem = signal<string | null>(null)
  readonly followed = computed(() => this.here.value.find(({ session }) => session === this.following.value) ?? null)

  private timer: ReturnType<typeof setTimeout> | undefined
  private lookTimer: ReturnType<typeof setTimeout> | undefined
  /** The file that perch was told last; whoever has said nothing looks at none. `undefined`: perch may have forgotten it. */
  private told: string | null | undefined = null
  private readonly endings: Array<() => void>

  constructor(private readonly bench: Workbench) {
    this.endings = [
      bench.events.on((event) => this.onEvent(event)),
      effect(() => {
        const path = bench.layout.view.value?.path ?? null
        if (!bench.events.isOn.value) this.told = this.told === null ? null : undefined
        else if (path === this.told) clearTimeout(this.lookTimer)
        else this.tell(path, SETTLE_MS)
      }),
      // Goes where the followed person goes.
      effect(() => {
        const path = this.followed.value?.path ?? null
        if (path !== null && bench.layout.view.peek()?.path !== path) {
          bench.open(path)
          bench.layout.wantsKeys.value = null
        }
      })
    ]
  }

  find(session: string): Present | null {
    return this.here.value.find((one) => one.session === session) ?? null
  }

  /** The name of a session, or its id where it is not here. */
  nameOf(session: string): string {
    return this.find(session)?.name ?? session
  }

  private onEvent(event: BranchEvent): void {
    if (event.type === 'session.moved') {
      const { session, path } = event
      this.here.value = this.here.value.map((one) => one.session === session ? { ...one, path } : one)
    } else if (event.type === 'reset' || event.type.startsWith('session.')) {
      this.timer ??= setTimeout(() => void this.look(), GATHER_MS)
    }
  }

  private async look(): Promise<void> {
    this.timer = undefined
    const { bench } = this
    try {
      this.here.value = await bench.session.people()
      this.problem.value = null
      const gone = this.following.value
      if (gone !== null && this.find(gone) === null) {
        this.following.value = null
        bench.notices.say('The person that you followed has left.')
      }
    } catch (problem) {
      this.problem.value = inWords(problem)
    }
  }

  private tell(path: string | null, after: number): void {
    clearTimeout(this.lookTimer)
    this.lookTimer = setTimeout(() => {
      const { bench } = this
      this.told = path
      bench.session.lookAt(path).catch(() => {
        this.told = undefined
        // Too often, or away: said once more, as long as there are events to hear it by.
        if (bench.events.isOn.peek() && bench.documents.ended.peek() === null) this.tell(path, AGAIN_MS)
      })
    }, after)
  }

  follow(session: string | null): void {
    this.following.value = session
  }

  destroy(): void {
    clearTimeout(this.timer)
    clearTimeout(this.lookTimer)
    for (const end of this.endings) end()
  }
}
