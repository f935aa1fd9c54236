import { render } from 'preact'
import { watchFragment } from './access'
import { watchLink } from './link'
import './page.css'
import { watchRoute } from './route'
import { Page } from './ui/page'

// Secrets leave the address before anything else happens.
watchFragment()
watchLink()
watchRoute()
render(<Page />, document.getElementById('page')!)
