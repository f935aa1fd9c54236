import { render } from 'preact'
import { watchFragment } from './access'
import { watchParent } from './embedded'
import { watchLink } from './link'
import './css/base.css'
import './css/bench.css'
import './css/carets.css'
import './css/git.css'
import './css/compare.css'
import './css/phone.css'
import './css/pick.css'
import './css/side.css'
import './css/terminals.css'
import { watchRoute } from './route'
import { Page } from './ui/page'

// Secrets leave the address before anything else happens.
watchParent()
watchFragment()
watchLink()
watchRoute()
render(<Page />, document.getElementById('page')!)
