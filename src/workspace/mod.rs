//! Files under one root; symlinks never lead out of it. Every public call runs off the async runtime's threads.
//!
//! Paths are opened with `openat2` and `RESOLVE_BENEATH`, so there is no check that a racing rename could outrun.

mod error;
mod path;
mod temp;
mod tree;

pub use error::FsError;
pub use path::{PathError, RelPath};
pub use temp::Staged;
pub use tree::{Entry, FileData, Kind, Stat, Workspace};
