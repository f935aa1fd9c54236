// One branch at work: what is open, what happens there, and what features have put on it.
import { computed, effect, signal, type Signal } from '@preact/signals'
import type { ComponentChildren } from 'preact'
import type { Documents } from '../../client/documents'
import type { Events } from '../../client/events'
import { Problem } from '../../client/http'
import { Session } from '../../client/session'
import type { Branch } from '../../client/types'
import { base } from '../access'
import { isEmbedded } from '../embedded'
import { Commands } from '../commands'
import type { OpenDocument } from '../../client/document'
import { features } from '../features'
import type { EditorPart, Kind, Marker, Panel, PathAction, PersonAction, Piece, Spot, View } from '../plugs'
import { Registry } from '../registry'
import type { Repository } from '../features/git/repository'
import { keepSeat, makeSeat, type Seat } from '../seat'
import { BrowserShelf } from '../shelf'
import { Shells } from '../shells'
import { store, stored } from '../stored'
import { Files } from './files'
import { Layout, MAX_VIEWS } from './layout'
import { Notices } from './notices'
import { People } from './people'
import { Uploads } from './uploads'

/** A view of one shared file. */
export interface FileView extends View {
  readonly file: OpenDocument
  /** Where its editor is to go as soon as the text is there; then null again. */
  readonly spot: Signal<Spot | null>
  /** What this page had of another history of the file, to be compared with what is there now. */
  readonly kept: Signal<string | null>
}

export const fileKey = (path: string): string => `file:${path}`

export class Workbench {
  /** What features bring; see `plugs.ts`. */
  readonly commands: Commands
  readonly panels = new Registry<Panel>()
  readonly kinds = new Registry<Kind>()
  readonly markers = new Registry<Marker>()
  readonly pathActions = new Registry<PathAction>()
  readonly personActions = new Registry<PersonAction>()
  readonly editorParts = new Registry<EditorPart>()
  readonly topPieces = new Registry<Piece>()
  readonly footPieces = new Registry<Piece>()
  readonly noticePieces = new Registry<Piece>()

  readonly notices = new Notices()
  /** What the page asks perch with, as this session. */
  readonly session: Session
  /** Where edits outlive the page. */
  private readonly shelf: BrowserShelf | null
  /** What git says; set by its feature. */
  git!: Repository
  readonly files: Files
  readonly people: People
  readonly uploads = new Uploads(this)
  readonly layout = new Layout((key) => this.makeView(key))
  /** The branch's terminals and ports. */
  readonly shells: Shells
  /** Asks for another name; `null`: this page can't change it. Set by the page. */
  onRename: (() => void) | null = null
  /** What lies over the page: a dialog or a menu; at most one. */
  readonly dialog = signal<ComponentChildren>(null)
  /** The side bar's panel; `null`: it is folded away. */
  readonly panel = signal<string | null>('files')

  /** The shared file that has the focus, if it is one. */
  readonly file = computed(() => (this.layout.view.value as Partial<FileView> | null)?.file ?? null)
  /** Whether perch can be heard: its events, and the socket where there is an open file. */
  readonly isOnline = computed(() =>
    this.events.isOn.value && (this.documents.open.value.length === 0 || this.documents.isOnline.value))
  /** Whether this session may change the branch. Controls that would are left out without it. */
  readonly mayWrite = computed(() => this.seat.permission === 'write')

  private readonly endings: Array<() => void> = []

  constructor(readonly branch: Branch, seat: Seat) {
    // Where the page is from, not what the answer says: behind a proxy both are the same, and the page's policy allows no other.
    // In a frame of another page nothing is remembered.
    this.shelf = isEmbedded ? null : new BrowserShelf(branch.id, seat.id)
    const renew = (): Promise<Seat> => makeSeat(branch.id, this.seat.name)
    this.session = new Session(seat, { url: base, renew, ...this.shelf === null ? {} : { shelf: this.shelf } })
    this.commands = new Commands(this.notices.failed)
    this.files = new Files(this.session.files)
    this.shells = new Shells(this)
    this.people = new People(this)
    const comeBack = (): void => this.events.wake()
    const warn = (event: BeforeUnloadEvent): void => {
      if (this.documents.isUnsaved) event.preventDefault()
    }
    addEventListener('online', comeBack)
    addEventListener('beforeunload', warn)
    addEventListener('keydown', this.commands.onKeyDown, true)
    this.endings.push(
      this.events.on(this.files.onEvent),
      // Its right may be another now, and with it what the page offers.
      this.events.on((event) => {
        if (event.type === 'session.changed' && event.session === this.seat.id) void this.session.self().catch(() => {})
      }),
      this.session.seat.subscribe((now) => keepSeat({ name: seat.name, ...now })),
      () => removeEventListener('online', comeBack),
      () => removeEventListener('beforeunload', warn),
      () => removeEventListener('keydown', this.commands.onKeyDown, true)
    )
    for (const feature of features) {
      const end = feature(this)
      if (end !== undefined) this.endings.push(end)
    }
    this.endings.push(
      this.rememberLayout(),
      effect(() => { if (this.documents.ended.value !== null) void this.shelf?.clear() })
    )
    void this.bringBack()
  }

  /** Opens the files in which something was typed that had not reached perch when a page was closed: then it is sent. */
  private async bringBack(): Promise<void> {
    const paths = await this.shelf?.paths() ?? []
    if (!this.mayWrite.peek()) return
    for (const path of paths) {
      const isGone = await this.session.files.flush(path).then(() => false, (problem: unknown) => problem instanceof Problem && problem.status === 404)
      if (!isGone) {
        this.open(path)
        continue
      }
      // Renamed, it comes back when it is opened under its new name.
      const words = `What you typed in ${path} had not reached perch when the page was closed, and there is no such file any more.`
      this.notices.say(words, { action: { title: 'Show my text', run: () => this.open(path) } })
    }
  }

  /** Benches that were left while edits had not reached perch; they go on trying. */
  private static readonly left = new Map<string, Workbench>()

  /** Finds a bench again that was left with unsaved edits. */
  static back(branch: string): Workbench | null {
    const bench = Workbench.left.get(branch) ?? null
    Workbench.left.delete(branch)
    return bench
  }

  /** Ends the bench, as soon as nothing would be lost by it. */
  leave(): void {
    const isUnderWay = this.documents.open.value.some((file) => file.isUnsaved && file.standing.value !== 'ended')
    if (!isUnderWay || this.documents.ended.value !== null) return this.destroy()
    Workbench.left.set(this.branch.id, this)
    const stop = effect(() => {
      const isSettled = this.documents.open.value.every((file) =>
        file.standing.value !== 'saving' && file.standing.value !== 'offline')
      if (Workbench.left.get(this.branch.id) !== this || !isSettled) return
      Workbench.left.delete(this.branch.id)
      queueMicrotask(() => {
        stop()
        this.destroy()
      })
    })
  }

  get seat(): Seat { return { name: 'someone', ...this.session.seat.value } }
  get events(): Events { return this.session.events }
  get documents(): Documents { return this.session.documents }

  /** Gives the session another name; perch tells the others. */
  async rename(name: string): Promise<void> {
    this.session.take(await makeSeat(this.branch.id, name))
    this.documents.introduce()
  }

  /** Goes on after the session was ended, with all that was typed meanwhile. */
  async rejoin(): Promise<void> {
    try {
      this.session.take(await makeSeat(this.branch.id, this.seat.name))
    } catch (problem) {
      this.notices.failed(problem)
    }
  }

  private makeView(key: string): View | null {
    const at = key.indexOf(':')
    return at < 0 ? null : this.kinds.find(key.slice(0, at))?.make(key.slice(at + 1)) ?? null
  }

  /** Shows a view by its key, in the group that has the focus if none is named; see `View`. */
  show(key: string, group?: number): View | null {
    if (this.layout.isFull && this.layout.find(key) === null) {
      this.notices.say(`At most ${MAX_VIEWS} files can be open at once. Close one first.`)
      return null
    }
    // On a phone the panel lies over the text.
    if (matchMedia('(max-width: 700px)').matches) this.panel.value = null
    return this.layout.show(key, group)
  }

  open(path: string, group?: number): void {
    this.show(fileKey(path), group)
  }

  /** Opens a file at a place in it. */
  openAt(path: string, spot: Spot | undefined): void {
    const view = this.show(fileKey(path)) as FileView | null
    if (view !== null && spot !== undefined) view.spot.value = spot
  }

  /** Shows a dialog, in place of one that is there. `make` is given what closes it. */
  showDialog(make: (close: () => void) => ComponentChildren): void {
    const shown = make(() => { if (this.dialog.peek() === shown) this.dialog.value = null })
    this.dialog.value = shown
  }

  /** Opens a file that has ended once more, from what perch has now; beside it is shown what this page had. */
  reopen(path: string): void {
    const old = this.layout.find(fileKey(path)) as FileView | null
    const view = this.makeView(fileKey(path)) as FileView | null
    if (view === null) return
    if (old?.file.isHere.peek() === true) view.kept.value = old.file.text.toString()
    this.layout.replace(fileKey(path), view)
  }

  private lastPanel = 'files'

  /** Shows a panel of the side bar, or folds it away if it is shown and need not be. */
  togglePanel(id: string, mustShow = false): void {
    this.panel.value = this.panel.value === id && !mustShow ? null : id
    this.lastPanel = id
  }

  toggleSide(): void {
    this.togglePanel(this.panel.value ?? this.lastPanel)
  }

  /** Opens what was open before the page was loaded anew, and keeps note from then on. */
  private rememberLayout(): () => void {
    const key = `perch.layout.${this.branch.id}`
    this.layout.restore(stored<unknown>('sessionStorage', key))
    return effect(() => store('sessionStorage', key, JSON.stringify(this.layout.remembered())))
  }

  destroy(): void {
    for (const end of this.endings) end()
    this.people.destroy()
    this.shells.destroy()
    this.files.destroy()
    this.layout.destroy()
    this.session.destroy()
  }
}
