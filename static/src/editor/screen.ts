// One terminal's screen: an emulator on perch's socket. Loaded when the first terminal is shown.
import { FitAddon } from '@xterm/addon-fit'
import { SearchAddon } from '@xterm/addon-search'
import { WebLinksAddon } from '@xterm/addon-web-links'
import { Terminal } from '@xterm/xterm'
import { isMac } from '../commands'
import { copyText } from '../ui/clipboard'

/** Close codes after which coming back is no use: it has ended, or the session may not. */
const FOR_GOOD = [1000, 4400, 4403]
const COME_BACK_MS = [250, 500, 1_000, 2_000, 5_000]

export interface Told {
  /** Whether this session may type now. */
  typing: boolean
  isConnected: boolean
  /** The sessions that the opener lets type. */
  typists: readonly string[]
  /** How the program ended, in words. */
  ended: string | null
  /** Why what was sent last had no effect, in perch's words. */
  refused: string | null
}

export interface Screen {
  /** Looks for text, upwards from what is selected; says whether there is any. */
  find(text: string, isForward: boolean): boolean
  endFind(): void
  /** What is selected, or all there is. */
  copy(): Promise<void>
  paste(): Promise<void>
  focus(): void
  destroy(): void
}

type FromServer =
  | { type: 'state', rows: number, cols: number, typing: boolean, typists: string[] }
  | { type: 'at', offset: number }
  | { type: 'gap', offset: number }
  | { type: 'exit', code: number | null, signal: number | null }
  | { type: 'refused', detail: string }

const colour = (name: string): string => getComputedStyle(probe).getPropertyValue(name).trim()
const probe = document.documentElement

/** The page's own colours; those that a program asks for by number stay the emulator's. */
function theme(): Record<string, string> {
  // `light-dark()` is worked out where it is used, not where it is defined.
  const swatch = document.createElement('i')
  document.body.append(swatch)
  const real = (name: string): string => {
    swatch.style.color = `var(${name})`
    return getComputedStyle(swatch).color
  }
  const [background, foreground, selection, accent] = ['--paper', '--ink', '--chosen', '--accent'].map(real)
  swatch.remove()
  return {
    background: background ?? '', foreground: foreground ?? '', cursor: accent ?? '', cursorAccent: background ?? '',
    selectionBackground: selection ?? ''
  }
}

/** Opens a link of a program's output: never with a way back into this page. */
function follow(event: MouseEvent, address: string): void {
  event.preventDefault()
  if (/^(https?|mailto):/i.test(address)) window.open(address, '_blank', 'noopener,noreferrer')
}

/** Shows a terminal in `place`. `open` gives a new socket that begins at an offset. */
export function showTerminal(place: HTMLElement, open: (from: number | null) => WebSocket, onTold: (told: Told) => void): Screen {
  const emulator = new Terminal({
    fontFamily: colour('--mono'), fontSize: 13, scrollback: 10_000, theme: theme(), cursorBlink: false, minimumContrastRatio: 4.5,
    // Of the search: marks are drawn by it.
    allowProposedApi: true,
    linkHandler: { activate: follow }
  })
  const fit = new FitAddon()
  const search = new SearchAddon()
  emulator.loadAddon(fit)
  emulator.loadAddon(search)
  emulator.loadAddon(new WebLinksAddon(follow))
  emulator.open(place)
  const told: Told = { typing: false, isConnected: false, typists: [], ended: null, refused: null }
  const tell = (): void => onTold({ ...told })
  let socket: WebSocket | null = null
  // `null` where more was shown than perch has said the offset of: then all is shown anew, and nothing twice.
  let offset: number | null = null
  let tries = 0
  let timer: ReturnType<typeof setTimeout> | undefined
  let isGone = false

  const send = (what: Uint8Array<ArrayBuffer> | string): void => {
    if (told.typing && socket?.readyState === WebSocket.OPEN) socket.send(what)
  }
  /** The size of this window, if it decides; else that of who decides. */
  const size = (): void => {
    if (!told.typing) return
    fit.fit()
    send(JSON.stringify({ type: 'resize', rows: emulator.rows, cols: emulator.cols }))
  }
  const hear = (word: FromServer): void => {
    if (word.type === 'state') {
      const mayType = word.typing && !told.typing
      told.typing = word.typing
      told.typists = word.typists
      told.refused = null
      emulator.options.disableStdin = !word.typing
      if (mayType) size()
      else if (!word.typing) emulator.resize(word.cols, word.rows)
      tell()
    } else if (word.type === 'at') {
      offset = word.offset
    } else if (word.type === 'gap') {
      emulator.reset()
      offset = word.offset
    } else if (word.type === 'exit') {
      const how = word.code !== null ? `with code ${word.code}` : word.signal !== null ? `by signal ${word.signal}` : ''
      told.ended = `Ended ${how}`.trim()
      tell()
    } else if (word.type === 'refused') {
      told.refused = word.detail
      tell()
    }
  }
  const connect = (): void => {
    if (offset === null) emulator.reset()
    const opened = open(offset)
    socket = opened
    opened.onopen = () => {
      tries = 0
      told.isConnected = true
      tell()
    }
    opened.onmessage = ({ data }: MessageEvent<ArrayBuffer | string>) => {
      if (typeof data === 'string') hear(JSON.parse(data) as FromServer)
      else {
        offset = null
        emulator.write(new Uint8Array(data))
      }
    }
    opened.onclose = ({ code }) => {
      told.isConnected = false
      told.typing = false
      emulator.options.disableStdin = true
      tell()
      if (isGone || FOR_GOOD.includes(code)) return
      timer = setTimeout(connect, COME_BACK_MS[Math.min(tries++, COME_BACK_MS.length - 1)])
    }
  }
  const encoder = new TextEncoder()
  emulator.onData((text) => send(encoder.encode(text)))
  emulator.onBinary((text) => send(Uint8Array.from(text, (one) => one.charCodeAt(0))))
  const copy = async (): Promise<void> => {
    const isSome = emulator.hasSelection()
    if (!isSome) emulator.selectAll()
    const text = emulator.getSelection()
    if (!isSome) emulator.clearSelection()
    await copyText(text)
  }
  const paste = async (): Promise<void> => {
    if (navigator.clipboard?.readText === undefined) {
      throw new Error('This browser does not let the page read the clipboard. Paste with its own keys, or from its menu.')
    }
    emulator.paste(await navigator.clipboard.readText())
    emulator.focus()
  }
  emulator.attachCustomKeyEventHandler((event) => {
    // Ctrl+C is the program's; on a Mac the browser's own keys are others.
    if (isMac || !event.ctrlKey || !event.shiftKey || event.altKey || event.metaKey) return true
    const key = event.key.toLowerCase()
    if (key === 'c' && emulator.hasSelection()) {
      if (event.type === 'keydown') void copy().catch(() => {})
      event.preventDefault()
      return false
    }
    // Left to the browser, which pastes.
    return key !== 'v'
  })
  const scheme = matchMedia('(prefers-color-scheme: dark)')
  const recolour = (): void => { emulator.options.theme = theme() }
  scheme.addEventListener('change', recolour)
  const watch = new ResizeObserver(() => { if (place.clientHeight > 0) size() })
  watch.observe(place)
  connect()
  const marks = { matchOverviewRuler: '#888888', activeMatchColorOverviewRuler: '#0f766e' }
  return {
    find: (text, isForward) => isForward
      ? search.findNext(text, { decorations: marks })
      : search.findPrevious(text, { decorations: marks }),
    endFind: () => {
      search.clearDecorations()
      emulator.clearSelection()
      emulator.focus()
    },
    copy, paste,
    focus: () => emulator.focus(),
    destroy: () => {
      isGone = true
      clearTimeout(timer)
      watch.disconnect()
      scheme.removeEventListener('change', recolour)
      socket?.close()
      emulator.dispose()
    }
  }
}
