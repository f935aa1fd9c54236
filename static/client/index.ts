// perch for those who build their own frontend: sessions, live documents, files, terminals, git and events of a branch.
// No framework. What changes (a document's standing, who is in it, whether there is a connection) is a signal: `value` is
// what it is now, `subscribe(f)` calls `f` now and after each change. See docs/embedding.md.
export { Http, Problem, pathInUrl, type Asker, type Request } from './http.js'
export type * from './types.js'
export type * from './git.js'
export { Perch, openLink, type NewSession } from './perch.js'
export { embed, type EmbedOptions } from './embed.js'
export { Session, type SessionOptions } from './session.js'
export { NO_COLOR, OpenDocument, type Person, type Presence, type Standing } from './document.js'
export { bindField } from './field.js'
export { Documents } from './documents.js'
export type { Kept, Shelf } from './keeper.js'
export { Events, type BranchEvent } from './events.js'
export { Files, type Found, type FoundLine } from './files.js'
export { Git } from './git.js'
export { Terminals } from './terminals.js'
