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
    /// A symlink leads out of the workspace, into `.git`, or in circles.
    #[error("`{0}` leads out of the workspace")]
    OutsideRoot(RelPath),
    /// Something is there already.
    #[error("`{0}` exists already")]
    Exists(RelPath),
    /// Nothing is there.
    #[error("there is no `{0}`")]
    Absent(RelPath),
    /// A folder that holds something.
    #[error("the folder `{0}` is not empty")]
    NotEmpty(RelPath),
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
    /// More names or bytes than one call takes.
    #[error("{what} has more than {max}")]
    TooMany {
        /// Of what.
        what: String,
        /// The limit, with its unit.
        max: String,
    },
    /// A search that can't be understood.
    #[error("the query can't be used: {0}")]
    Query(String),
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
