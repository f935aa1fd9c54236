// What perch has acknowledged, counted on the wire: perch answers each update and each sync step 2 exactly once, and
// says "applied" only after the durable commit. The provider's own counter is not used for the saved mark: edits made
// offline are sent twice after a reconnect (from its queue and in step 2), and its counter then says 0 too early.
import { createDecoder, readVarInt, readVarString, readVarUint } from 'lib0/decoding'

const SYNC = 0
const AUTH = 2
const CLOSE = 7
const SYNC_STATUS = 8
const AUTHENTICATED = 2
const STEP2 = 1
const UPDATE = 2

interface Account {
  sent: number
  answered: number
  refused: number
  /** Whether this socket has carried all that the page has (step 2). */
  isWhole: boolean
}

export class Ledger {
  private readonly accounts = new Map<string, Account>()
  private current: WebSocket | null = null

  /** `changed` is called with a document's name after each change of its account. */
  constructor(private readonly changed: (name: string) => void) {}

  /** Whether all that the page has of a document is durable. */
  isSettled(name: string): boolean {
    const account = this.accounts.get(name)
    return account !== undefined && account.isWhole && account.refused === 0 && account.sent === account.answered
  }

  /** Whether perch has refused an edit since it last said what this session may do. */
  hasRefused(name: string): boolean {
    return (this.accounts.get(name)?.refused ?? 0) > 0
  }

  /** A WebSocket that keeps this ledger. */
  socket(): typeof WebSocket {
    const ledger = this
    return class extends WebSocket {
      constructor(url: string | URL, protocols?: string | string[]) {
        super(url, protocols)
        ledger.current = this
        ledger.accounts.clear()
        this.addEventListener('message', ({ data }) => {
          if (ledger.current === this && data instanceof ArrayBuffer) ledger.received(new Uint8Array(data))
        })
      }

      override send(data: string | Blob | BufferSource): void {
        super.send(data)
        if (ledger.current === this && data instanceof Uint8Array) ledger.sent(data)
      }
    }
  }

  private account(name: string): Account {
    let account = this.accounts.get(name)
    if (account === undefined) {
      account = { sent: 0, answered: 0, refused: 0, isWhole: false }
      this.accounts.set(name, account)
    }
    return account
  }

  private sent(frame: Uint8Array): void {
    // One byte is a sign of life.
    if (frame.length < 2) return
    const decoder = createDecoder(frame)
    const name = readVarString(decoder)
    const type = readVarUint(decoder)
    if (type === AUTH || type === CLOSE) {
      this.accounts.delete(name)
    } else if (type === SYNC) {
      const step = readVarUint(decoder)
      if (step !== STEP2 && step !== UPDATE) return
      const account = this.account(name)
      account.sent += 1
      account.isWhole ||= step === STEP2
    } else {
      return
    }
    this.changed(name)
  }

  private received(frame: Uint8Array): void {
    if (frame.length < 2) return
    const decoder = createDecoder(frame)
    const name = readVarString(decoder)
    const type = readVarUint(decoder)
    if (type === SYNC_STATUS) {
      const account = this.account(name)
      account.answered += 1
      if (readVarInt(decoder) !== 1) account.refused += 1
    } else if (type === AUTH && readVarUint(decoder) === AUTHENTICATED) {
      // The right may be another now; perch asks a writer for everything again.
      const account = this.account(name)
      account.refused = 0
      account.isWhole = false
    } else {
      return
    }
    this.changed(name)
  }
}
