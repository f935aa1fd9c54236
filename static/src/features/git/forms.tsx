// What git asks for before it goes on: an email address, a token, a key.
import { useSignal } from '@preact/signals'
import type { RefObject } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { apiToken, perch } from '../../access'
import { inWords } from '../../bench/notices'
import type { Workbench } from '../../bench/workbench'
import { Failure } from '../../ui/parts'
import type { Wanted } from './repository'

/** The first field has the keyboard: what somebody has just done led here. */
function useFirstField<E extends HTMLElement>(): RefObject<E | null> {
  const field = useRef<E>(null)
  useEffect(() => field.current?.focus(), [])
  return field
}

export function EmailForm({ bench, why }: { bench: Workbench, why: string }) {
  const email = useSignal('')
  const problem = useSignal<string | null>(null)
  const { id, branch } = bench.seat
  const field = useFirstField<HTMLInputElement>()
  const give = async (): Promise<void> => {
    problem.value = null
    try {
      const address = email.value.trim()
      await bench.git.give(async () => {
        if (apiToken.value === null) await bench.session.introduce({ email: address })
        else await perch.changeSession(branch, id, { email: address })
      })
    } catch (error) {
      problem.value = inWords(error)
    }
  }
  return (
    <form class="git-ask" aria-label="Your email address" onSubmit={(event) => {
      event.preventDefault()
      void give()
    }}>
      <p>{why}</p>
      <label>
        <span>Email address</span>
        <input ref={field} type="email" name="email" required autocomplete="email" value={email.value}
          onInput={({ currentTarget }) => { email.value = currentTarget.value }} />
      </label>
      {problem.value !== null && <Failure>{problem.value}</Failure>}
      <p class="buttons">
        <button type="button" onClick={() => bench.git.forget()}>Cancel</button>
        <button class="primary">Go on</button>
      </p>
    </form>
  )
}

export function TokenForm({ bench, wanted }: { bench: Workbench, wanted: Extract<Wanted, { what: 'token' }> }) {
  const username = useSignal('x-access-token')
  // Held here until it is sent, and nowhere else in the page.
  const token = useSignal('')
  const problem = useSignal<string | null>(null)
  const url = new URL(wanted.remote.url)
  const field = useFirstField<HTMLInputElement>()
  const give = async (): Promise<void> => {
    problem.value = null
    const given = token.value.trim()
    token.value = ''
    try {
      const protocol = url.protocol === 'https:' ? 'https' : 'http'
      await bench.git.giveToken({ protocol, host: url.host, username: username.value.trim(), token: given })
    } catch (error) {
      problem.value = inWords(error)
    }
  }
  return (
    <form class="git-ask" aria-label="A token for the remote" onSubmit={(event) => {
      event.preventDefault()
      void give()
    }}>
      <p>
        <strong>{wanted.isRefused ? `${url.host} refused the token` : `${url.host} wants a token`}</strong>
        {wanted.isRefused && ': it is wrong, has expired, or lacks the right. Give another.'}
      </p>
      <label>
        <span>User name</span>
        <input ref={field} name="git-user" autocomplete="off" spellcheck={false} required value={username.value}
          onInput={({ currentTarget }) => { username.value = currentTarget.value }} />
      </label>
      <label>
        <span>Token</span>
        <input name="git-token" type="password" autocomplete="off" spellcheck={false} required value={token.value}
          onInput={({ currentTarget }) => { token.value = currentTarget.value }} />
      </label>
      <p class="hint">
        It goes to your session’s <code>~/.private</code> on perch’s server and nowhere else: that is memory which no other session
        reads, and it is gone with your session. Neither this browser nor the database keeps it.
      </p>
      {problem.value !== null && <Failure>{problem.value}</Failure>}
      <p class="buttons">
        <button type="button" onClick={() => bench.git.forget()}>Cancel</button>
        <button class="primary">Use token</button>
      </p>
    </form>
  )
}

/** The host in `ssh://user@host:port/path` and in `user@host:path`. */
const sshHost = (url: string): string => /^(?:ssh:\/\/)?(?:[^@/]*@)?([^/]*?)(?::(?!\d+(?:\/|$)).*)?(?:\/|$)/.exec(url)?.[1] ?? url

const SSH = {
  id: {
    name: 'Private key', about: 'It', example: '-----BEGIN OPENSSH PRIVATE KEY-----', button: 'Use key',
    words: (host: string) => <><strong>{host} wants a key</strong>: the private half of one that it knows, without a passphrase.</>
  },
  known_hosts: {
    name: 'Lines of the server', about: 'They', example: 'example.org ssh-ed25519 AAAA…', button: 'Trust it',
    words: (host: string) => (
      <>
        <strong>{host} is not known here</strong>, or shows another key than the one that is. Give its line as whoever runs it tells it,
        or as <code>ssh-keyscan</code> prints it where you trust the network.
      </>
    )
  }
} as const

/** What ssh needs and has not: a key, or the server's own. */
export function SshForm({ bench, wanted }: { bench: Workbench, wanted: Extract<Wanted, { what: 'ssh' }> }) {
  // Held here until it is sent, and nowhere else in the page.
  const text = useSignal('')
  const problem = useSignal<string | null>(null)
  const field = useFirstField<HTMLTextAreaElement>()
  const { name, about, example, button, words } = SSH[wanted.file]
  const give = async (): Promise<void> => {
    problem.value = null
    const given = text.value
    text.value = ''
    try {
      await bench.git.giveSsh(wanted.file, given)
    } catch (error) {
      problem.value = inWords(error)
    }
  }
  return (
    <form class="git-ask" aria-label={wanted.file === 'id' ? 'A key for the remote' : 'The server’s own key'} onSubmit={(event) => {
      event.preventDefault()
      void give()
    }}>
      <p>{words(sshHost(wanted.remote.url))}</p>
      <label>
        <span>{name}</span>
        <textarea ref={field} class="git-key" rows={4} required autocomplete="off" spellcheck={false} placeholder={example} value={text.value}
          onInput={({ currentTarget }) => { text.value = currentTarget.value }} />
      </label>
      <p class="hint">
        {about} {wanted.file === 'id' ? 'goes' : 'go'} to <code>~/.private/ssh/{wanted.file}</code> of your session on perch’s server and nowhere
        else, in place of what is there: memory which no other session reads, gone with your session.
      </p>
      {problem.value !== null && <Failure>{problem.value}</Failure>}
      <p class="buttons">
        <button type="button" onClick={() => bench.git.forget()}>Cancel</button>
        <button class="primary">{button}</button>
      </p>
    </form>
  )
}
