// Terminals and ports of a branch.
import type { Http } from './http.js'
import type { Port, Terminal } from './types.js'

export class Terminals {
  constructor(private readonly http: Http, private readonly route: string, private readonly token: () => string) {}

  async list(): Promise<Terminal[]> {
    return (await this.http.json<{ terminals: Terminal[] }>('GET', `${this.route}/terminals`)).terminals
  }

  open(wanted: { command?: string[], cwd?: string, title?: string } = {}): Promise<Terminal> {
    return this.http.json('POST', `${this.route}/terminals`, { json: wanted })
  }

  /** Changes one of one's own: its title, or who may type besides its opener. */
  change(id: string, to: { title?: string, typists?: readonly string[] }): Promise<Terminal> {
    return this.http.json('PATCH', `${this.route}/terminals/${encodeURIComponent(id)}`, { json: to })
  }

  /** Asks the opener to let this session type too; it answers by `typists`, or `turnDown`. */
  ask(id: string): Promise<Terminal> {
    return this.http.json('POST', `${this.route}/terminals/${encodeURIComponent(id)}/asking`)
  }

  /** Turns down what a session asks for, or takes back what this one asked. */
  async turnDown(id: string, session: string): Promise<void> {
    await this.http.ask('DELETE', `${this.route}/terminals/${encodeURIComponent(id)}/asking/${encodeURIComponent(session)}`)
  }

  /** Hangs up; one that has ended is forgotten. */
  async end(id: string): Promise<void> {
    await this.http.ask('DELETE', `${this.route}/terminals/${encodeURIComponent(id)}`)
  }

  /** Where its socket is. */
  socketUrl(id: string): string {
    const url = this.http.url(`${this.route}/terminals/${encodeURIComponent(id)}/socket`)
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'
    return url.href
  }

  /** Opens its socket, see docs/terminals.md. The token goes as a subprotocol: in a URL it would be in logs. */
  socket(id: string, from: number | null = null): WebSocket {
    const query = from === null ? '' : `?from=${from}`
    const socket = new WebSocket(this.socketUrl(id) + query, ['perch', `perch.token.${this.token()}`])
    socket.binaryType = 'arraybuffer'
    return socket
  }

  async ports(): Promise<Port[]> {
    return (await this.http.json<{ ports: Port[] }>('GET', `${this.route}/ports`)).ports
  }

  /** A URL that opens the preview of a port once, within 30 s. */
  async preview(port: number): Promise<string> {
    return (await this.http.json<{ url: string }>('POST', `${this.route}/ports/${port}/preview`)).url
  }
}
