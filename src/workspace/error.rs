//! What can go wrong with files, as far as callers act on it.

use super::RelPath;
use std::io;

/// See the variants.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// A folder where a file is needed, or something that is no file at all.
    #[error("`{path}` is not a regular file")]
    WrongKind {
        /// The path.
        path: RelPath,
    },
    /// A symlink leads out of the workspace, or into `.git`.
    #[error("`{0}` leads out of the workspace")]
    OutsideRoot(RelPath),
    /// Larger than the caller takes.
    #[error("`{path}` has {len_bytes} bytes, more than {max_bytes}")]
    TooLarge {
        /// The path.
        path: RelPath,
        /// Its size.
        len_bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// Anything the system says: no space, read-only, denied.
    #[error("`{what}`: {source}")]
    Io {
        /// What was tried with which path.
        what: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl FsError {
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(rustix::io::Errno) -> Self {
        let what = what.into();
        move |errno| Self::Io { what, source: errno.into() }
    }

    pub(super) fn std(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
