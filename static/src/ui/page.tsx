import { apiToken } from '../access'
import { isOpening } from '../link'
import { route } from '../route'
import { handed, isEmbedded, refusal } from '../embedded'
import { keptSeat } from '../seat'
import { BranchList } from './branches'
import { BranchPage } from './branch'
import { Failure, Waiting } from './parts'
import { SignIn } from './sign_in'

/** Chooses the screen: a kept seat is enough for its branch, all else needs an API token. */
export function Page() {
  if (isEmbedded) {
    const given = handed.value
    if (given !== null) return <BranchPage key={given.seat.branch} branch={given.seat.branch} />
    return (
      <main class="sheet">
        {refusal.value !== null ? <Failure>{refusal.value}</Failure> : <Waiting>Waiting for the page around this one…</Waiting>}
      </main>
    )
  }
  const { branch } = route.value
  if (isOpening.value) return <main class="sheet"><p>Opening the link…</p></main>
  if (apiToken.value === null && (branch === null || keptSeat(branch) === null)) return <SignIn />
  return branch === null ? <BranchList /> : <BranchPage key={branch} branch={branch} />
}
