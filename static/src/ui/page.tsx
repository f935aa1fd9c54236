import { apiToken } from '../access'
import { isOpening } from '../link'
import { route } from '../route'
import { keptSeat } from '../seat'
import { BranchList } from './branches'
import { BranchPage } from './branch'
import { SignIn } from './sign_in'

/** Chooses the screen: a kept seat is enough for its branch, all else needs an API token. */
export function Page() {
  const { branch } = route.value
  if (isOpening.value) return <main class="sheet"><p>Opening the link…</p></main>
  if (apiToken.value === null && (branch === null || keptSeat(branch) === null)) return <SignIn />
  return branch === null ? <BranchList /> : <BranchPage key={branch} branch={branch} />
}
