//! Files under one root; symlinks never lead out of it. Every public call runs off the async runtime's threads.
//!
//! | file | idea |
//! |---|---|
//! | `path.rs` | paths that callers may name |
//! | `resolve.rs` | links followed, part by part |
//! | `open.rs` | opening what was meant, and nothing else |
//! | `tree.rs` | looking at one file |
//! | `list.rs`, `ignores.rs` | walking the tree in pages, what git ignores |
//! | `unignored.rs` | what is worth watching |
//! | `git_dir.rs` | looking into `.git`, locks left behind |
//! | `change.rs` | folders, removals, copies |
//! | `temp.rs` | writing so that readers see the old or the new |
//! | `search.rs` | by content and by name |
//!
//! Callers resolve a path first and hand the result to the calls that look or change; those follow no link at all
//! (`openat2` with `RESOLVE_NO_SYMLINKS`), so no check can be outrun by a racing rename. `list`, `look`, `find` and
//! `search` resolve by themselves.

mod change;
mod error;
mod git_dir;
mod ignores;
mod list;
mod open;
mod path;
mod resolve;
mod search;
mod temp;
mod tree;
mod unignored;

pub use error::FsError;
pub use git_dir::GitLock;
pub use list::{Entry, Listing, MAX_PAGE, Page};
pub use path::{PathError, RelPath};
pub use search::{FoundLine, FoundLines, FoundPath, FoundPaths, Pattern};
pub use temp::Staged;
pub use tree::{FileData, Kind, Stat, Workspace};

#[cfg(test)]
mod testing {
    use super::{RelPath, Workspace};
    use std::path::PathBuf;

    /// A workspace in a folder of its own, which goes with the first value.
    pub(super) fn workspace() -> (tempfile::TempDir, PathBuf, Workspace) {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("workspace");
        for folder in [&root, &temp.path().join("tmp")] {
            std::fs::create_dir(folder).unwrap();
        }
        let files = Workspace::open(&root, &temp.path().join("tmp")).unwrap();
        (temp, root, files)
    }

    /// Stops a racing thread, also when the test fails.
    pub(super) struct Stop<'a>(pub(super) &'a std::sync::atomic::AtomicBool);

    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }

    pub(super) fn path(text: &str) -> RelPath {
        text.parse().unwrap()
    }
}
