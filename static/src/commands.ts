// Everything that can be done by name: the palette lists it, keys reach it.
import { Registry } from './registry'

export interface Command {
  readonly id: string
  /** What it does, as the palette says it. */
  readonly title: string
  /** Under which heading the list of keys has it. */
  readonly group: string
  /** As `Mod-Shift-p`; Mod is Ctrl, and Cmd on a Mac. The last part is `KeyboardEvent.key` in lower case. */
  readonly keys?: string
  /** Whether its keys count in a terminal too, which has most keys for itself. */
  readonly isForTerminals?: boolean
  /** Whether it can be done now, or at all by this session; without it: always. */
  readonly isThere?: () => boolean
  /** It is another way to one that is listed. */
  readonly isHidden?: boolean
  /** May throw or reject: that is said in the page. */
  readonly run: () => unknown
}

export const isMac = /mac|iphone|ipad/i.test(navigator.platform)

interface Chord { mod: boolean, ctrl: boolean, alt: boolean, shift: boolean, key: string }

function parse(keys: string): Chord {
  const parts = keys.split(/-(?!$)/)
  const key = (parts.pop() ?? '').toLowerCase()
  const has = (name: string): boolean => parts.includes(name)
  return { mod: has('Mod'), ctrl: has('Ctrl'), alt: has('Alt'), shift: has('Shift'), key }
}

/** The key as it is on the keyboard: with Alt or Shift `key` may be another character. */
function plainKey({ code, key }: KeyboardEvent): string[] {
  const letter = /^(?:Key|Digit)(.)$/.exec(code)?.[1]?.toLowerCase()
  const named: Record<string, string> = { Backquote: '`', Backslash: '\\', Slash: '/' }
  return [key.toLowerCase(), letter ?? named[code] ?? ''].filter((one) => one !== '')
}

function isPressed(event: KeyboardEvent, { mod, ctrl, alt, shift, key }: Chord): boolean {
  const wantsCtrl = ctrl || (mod && !isMac)
  const wantsMeta = mod && isMac
  return event.ctrlKey === wantsCtrl && event.metaKey === wantsMeta && event.altKey === alt && event.shiftKey === shift &&
    plainKey(event).includes(key)
}

const NAMES: Record<string, string> = {
  arrowleft: '←', arrowright: '→', arrowup: '↑', arrowdown: '↓', pageup: 'Page Up', pagedown: 'Page Down', escape: 'Esc'
}

/** Keys for people: `Ctrl+Shift+P`. */
export function keysInWords(keys: string): string {
  const { mod, ctrl, alt, shift, key } = parse(keys)
  const name = NAMES[key] ?? (key.length === 1 ? key.toUpperCase() : key.charAt(0).toUpperCase() + key.slice(1))
  const held = [mod && (isMac ? '⌘' : 'Ctrl'), ctrl && 'Ctrl', alt && (isMac ? '⌥' : 'Alt'), shift && (isMac ? '⇧' : 'Shift')]
  return [...held.filter((one) => one !== false), name].join(isMac ? '' : '+')
}

export class Commands extends Registry<Command> {
  /** `failed` is told what a command threw. */
  constructor(private readonly failed: (problem: unknown) => void) {
    super()
  }

  isThere(command: Command): boolean {
    return command.isThere?.() ?? true
  }

  run(id: string): void {
    const command = this.find(id)
    if (command !== null && this.isThere(command)) void this.attempt(command)
  }

  private async attempt(command: Command): Promise<void> {
    try {
      await command.run()
    } catch (problem) {
      this.failed(problem)
    }
  }

  /** Runs the command that the pressed keys belong to. */
  readonly onKeyDown = (event: KeyboardEvent): void => {
    // A dialog has the keys for itself.
    if (event.defaultPrevented || event.isComposing || document.querySelector('dialog[open]') !== null) return
    const isInTerminal = event.target instanceof Element && event.target.closest('.xterm') !== null
    const pressed = this.all.peek().find((command) =>
      command.keys !== undefined && (!isInTerminal || command.isForTerminals === true) &&
      isPressed(event, parse(command.keys)) && this.isThere(command))
    if (pressed === undefined) return
    event.preventDefault()
    event.stopPropagation()
    void this.attempt(pressed)
  }
}
