import { useSignal } from '@preact/signals'
import { signIn, tokenIn, tokenWasRefused } from '../access'
import { linkFault } from '../link'
import { Failure, Mark } from './parts'

export function SignIn() {
  const text = useSignal('')
  return (
    <main class="sheet sign-in">
      <p class="brand"><Mark />perch</p>
      <h1>Open perch by its link</h1>
      {tokenWasRefused.value && (
        <Failure>
          perch refused this page’s token: it was revoked, or perch has been started again and printed a new link.
        </Failure>
      )}
      {linkFault.value !== null && <Failure>The link opens nothing: {linkFault.value}</Failure>}
      <p>
        perch prints a link when it starts. Open that link, or paste it here:
      </p>
      <pre class="example">perch is ready: {location.origin}/#token=perch_…</pre>
      <form onSubmit={(event) => {
        event.preventDefault()
        const token = tokenIn(text.value)
        if (token !== '') signIn(token)
      }}>
        <label>
          <span>Link or token</span>
          <input type="password" autocomplete="off" spellcheck={false} value={text.value} required autofocus
            onInput={({ currentTarget }) => { text.value = currentTarget.value }} />
        </label>
        <button class="primary">Sign in</button>
      </form>
      <p class="hint">
        Where perch runs with <code>PERCH_OWNER_TOKEN</code>, that token signs in too. The page keeps it until this tab
        is closed.
      </p>
    </main>
  )
}
