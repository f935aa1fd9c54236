// One terminal's screen: an emulator on perch's socket. Loaded when the first terminal is shown.
import { FitAddon } from '@xterm/addon-fit'
import { Terminal } from '@xterm/xterm'

/** Close codes after which coming back is no use: it has ended, or the session may not. */
const FOR_GOOD = [1000, 4400, 4403]
const COME_BACK_MS = [250, 500, 1_000, 2_000, 5_000]

export interface Told {
  /** Whether this session may type now. */
  typing: boolean
  isConnected: boolean
  /** How the program ended, in words. */
  ended: string | null
}

type FromServer =
  | { type: 'state', rows: number, cols: number, typing: boolean }
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

/** Shows a terminal in `place` and returns what ends that. `token` gives the session's token as it is then. */
export function showTerminal(place: HTMLElement, url: string, token: () => string, onTold: (told: Told) => void): () => void {
  const emulator = new Terminal({
    fontFamily: colour('--mono'), fontSize: 13, scrollback: 10_000, theme: theme(), cursorBlink: false, minimumContrastRatio: 4.5
  })
  const fit = new FitAddon()
  emulator.loadAddon(fit)
  emulator.open(place)
  const told: Told = { typing: false, isConnected: false, ended: null }
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
    }
  }
  const connect = (): void => {
    const from = offset === null ? '' : `?from=${offset}`
    if (offset === null) emulator.reset()
    // The token goes as a subprotocol: in a URL it would be in logs.
    const opened = new WebSocket(url + from, ['perch', `perch.token.${token()}`])
    socket = opened
    opened.binaryType = 'arraybuffer'
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
  const scheme = matchMedia('(prefers-color-scheme: dark)')
  const recolour = (): void => { emulator.options.theme = theme() }
  scheme.addEventListener('change', recolour)
  const watch = new ResizeObserver(() => { if (place.clientHeight > 0) size() })
  watch.observe(place)
  connect()
  emulator.focus()
  return () => {
    isGone = true
    clearTimeout(timer)
    watch.disconnect()
    scheme.removeEventListener('change', recolour)
    socket?.close()
    emulator.dispose()
  }
}
