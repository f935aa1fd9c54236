// All that a bench can do. A feature is one line here and a folder or file of its own; see `plugs.ts`.
import type { Feature } from '../plugs'
import { editor } from './editor'
import { files } from './files'
import { git } from './git'
import { palette } from './palette'
import { people } from './people'
import { previews } from './previews'
import { search } from './search'
import { sharing } from './sharing'
import { terminals } from './terminals'

export const features: readonly Feature[] = [palette, editor, files, search, git, people, sharing, previews, terminals]
