//! Git, as argument lists and parsers of what it prints. Starts nothing itself: commands are run in the session's agent.
//!
//! | file | idea |
//! |---|---|
//! | `blame.rs` | `git blame --incremental` |
//! | `branches.rs` | branches and tags |
//! | `command.rs` | a command that runs nothing which the repository chose |
//! | `credential.rs` | tokens for remotes, and what git is answered of them |
//! | `diff.rs` | `git diff`: files that differ, their hunks, a patch of some of them |
//! | `failure.rs` | why git did not do it, by what it said |
//! | `lock.rs` | which lock stands in the way |
//! | `log.rs` | `git log` |
//! | `merge.rs` | merges and the like, and files in conflict |
//! | `patch.rs` | patches as git prints them |
//! | `raw.rs` | which files are staged, and what objects hold |
//! | `remote.rs` | remotes: their names, URLs and commands |
//! | `restore.rs` | states of the files that can be gone back to |
//! | `said.rs` | what git says on the way |
//! | `stash.rs` | work put aside |
//! | `status.rs` | `git status --porcelain=v2` |
//! | `undo.rs` | undoing a step in a text that people went on typing in |

mod blame;
mod branches;
mod command;
mod credential;
mod diff;
mod failure;
mod lock;
mod log;
mod merge;
mod patch;
mod raw;
mod remote;
mod restore;
mod said;
mod stash;
mod status;
mod undo;

pub use blame::{BlameRange, Blamed};
pub use branches::{BranchName, Ref, Refs};
pub use command::{BadName, Command, Identity, Revision, is_of_repository, neutral};
pub use credential::{
    BadCredential, CREDENTIALS, Credential, MAX_CREDENTIALS, Protocol, Scope, answer, from_file, to_file,
};
pub use diff::{Between, Changed, FileDiff, LeftOut, NoPatch, chosen};
pub use failure::{Failure, Kind};
pub use lock::{STEP_LOCKS, lock_in_the_way};
pub use log::{CoAuthor, Commit, Signature, commit_hash};
pub use merge::{Conflict, has_markers, parse_unmerged};
pub use patch::{Hunk, Line, LineKind, Way, context_of};
pub use raw::{StagedFile, objects, staged};
pub use remote::{
    BadRemote, How, Oid, Remote, RemoteName, RemoteUrl, Tips, Update, fetch, integrate, list_refs,
    list_remotes, packed, parse_refs, push, pushed, update_refs,
};
pub use restore::{Note, RestorePoint};
pub use said::{Phase, Progress, Redactor, Said, SaidLine, without_progress};
pub use stash::{Stash, links, parse_stashes};
pub use status::{Change, Entry, Head, Status};
pub use undo::undone;
