import { render } from 'preact'
import { watchFragment } from './access'
import './page.css'
import { watchRoute } from './route'
import { Page } from './ui/page'

// The token leaves the address before anything else happens.
watchFragment()
watchRoute()
render(<Page />, document.getElementById('page')!)
