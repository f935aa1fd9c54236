//! What a request is refused with: one of the protocol's numbers, and a text for people.

use crate::agent::{AgentError, FileError};
use crate::branch::{BranchError, DocError, FilesError};
use crate::session::AgentsError;
use crate::store::StoreError;
use serde::Serialize;

/// The protocol's numbers (its section 6).
pub(in crate::compat) mod code {
    /// Anything unexpected.
    pub(in crate::compat) const CRITICAL: i32 = 0;
    /// An unknown or unsupported method.
    pub(in crate::compat) const UNAVAILABLE: i32 = 1;
    /// The session may not.
    pub(in crate::compat) const NO_ACCESS: i32 = 2;
    /// Too much at once.
    pub(in crate::compat) const RATE_LIMIT: i32 = 3;
    /// No such document.
    pub(in crate::compat) const INVALID_ID: i32 = 100;
    /// No such path, or one that can't be.
    pub(in crate::compat) const INVALID_PATH: i32 = 101;
    /// A file call failed; carries an `errno`.
    pub(in crate::compat) const RAWFS: i32 = 102;
    /// No such channel.
    pub(in crate::compat) const CHANNEL_NOT_FOUND: i32 = 500;
    /// No such command.
    pub(in crate::compat) const COMMAND_NOT_FOUND: i32 = 704;
}

/// The numbers that Node uses.
pub(in crate::compat) mod errno {
    /// Not permitted, access denied.
    pub(in crate::compat) const EACCES: i32 = -13;
    /// It is there already.
    pub(in crate::compat) const EEXIST: i32 = -17;
    /// It can't be used by two at once; try again.
    pub(in crate::compat) const EBUSY: i32 = -16;
    /// It is no folder.
    pub(in crate::compat) const ENOTDIR: i32 = -20;
    /// It is a folder.
    pub(in crate::compat) const EISDIR: i32 = -21;
    /// It can't be meant.
    pub(in crate::compat) const EINVAL: i32 = -22;
    /// It is too large.
    pub(in crate::compat) const EFBIG: i32 = -27;
    /// No room.
    pub(in crate::compat) const ENOSPC: i32 = -28;
    /// The folder holds something.
    pub(in crate::compat) const ENOTEMPTY: i32 = -39;
    /// Nothing is there.
    pub(in crate::compat) const ENOENT: i32 = -2;
    /// The disk or database does not take it now.
    pub(in crate::compat) const EIO: i32 = -5;
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Data {
    errno: Option<i32>,
}

/// See the module's docs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::compat) struct Fault {
    code: i32,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
}

impl Fault {
    /// With one of [`code`]'s numbers, or another of the protocol's.
    #[must_use]
    pub(in crate::compat) fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// The session may only read.
    #[must_use]
    pub(in crate::compat) fn read_only() -> Self {
        Self::new(code::NO_ACCESS, "read-only session")
    }

    /// What was asked for can't be meant.
    #[must_use]
    pub(in crate::compat) fn invalid(text: &str) -> Self {
        Self { data: Some(Data { errno: Some(errno::EINVAL) }), ..Self::new(code::CRITICAL, text) }
    }

    /// A failed file call, as Node would put it: `name` such as `ENOENT`, `text` without it.
    #[must_use]
    pub(in crate::compat) fn fs(errno: i32, text: &str) -> Self {
        let name = match errno {
            errno::EACCES => "EACCES",
            errno::EEXIST => "EEXIST",
            errno::EBUSY => "EBUSY",
            errno::ENOTDIR => "ENOTDIR",
            errno::EISDIR => "EISDIR",
            errno::EFBIG => "EFBIG",
            errno::ENOSPC => "ENOSPC",
            errno::ENOTEMPTY => "ENOTEMPTY",
            errno::ENOENT => "ENOENT",
            errno::EINVAL => "EINVAL",
            -1 => "EPERM",
            -18 => "EXDEV",
            -30 => "EROFS",
            -36 => "ENAMETOOLONG",
            -40 => "ELOOP",
            -75 => "EOVERFLOW",
            _ => "EIO",
        };
        Self { data: Some(Data { errno: Some(errno) }), ..Self::new(code::RAWFS, format!("{name}: {text}")) }
    }

    /// The text.
    #[must_use]
    pub(in crate::compat) fn message(&self) -> &str {
        &self.message
    }

    /// The number of a failed file call.
    #[must_use]
    pub(in crate::compat) fn errno(&self) -> Option<i32> {
        self.data.as_ref().and_then(|data| data.errno)
    }

    /// The same as a failed file call, which the SDK shows with its `errno`; what has a meaning of its own stays.
    #[must_use]
    pub(super) fn of_fs(self) -> Self {
        match self.code {
            code::CRITICAL => {
                Self::fs(self.data.and_then(|data| data.errno).unwrap_or(errno::EIO), &self.message)
            }
            _ => self,
        }
    }

    /// Something went wrong here; what, is in the log and not in the answer.
    #[must_use]
    pub(in crate::compat) fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "an SDK request failed");
        Self::new(code::CRITICAL, "something went wrong in perch; try again")
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::internal(&error)
    }
}

impl From<BranchError> for Fault {
    fn from(error: BranchError) -> Self {
        match &error {
            BranchError::Full { .. } => Self::fs(errno::ENOSPC, &error.to_string()),
            BranchError::Store(_) | BranchError::Disk(_) => Self::internal(&error),
            _ => Self::new(code::CRITICAL, error.to_string()),
        }
    }
}

impl From<DocError> for Fault {
    fn from(error: DocError) -> Self {
        let text = error.to_string();
        match error {
            DocError::NotFound(path) => {
                Self::fs(errno::ENOENT, &format!("no such file or directory, '{path}'"))
            }
            DocError::NotText { .. } | DocError::VersionUnknown { .. } | DocError::Path(_) => {
                Self::fs(errno::EINVAL, &text)
            }
            DocError::NotAFile(path) => Self::fs(errno::EISDIR, &format!("it is no regular file, '{path}'")),
            DocError::TooLarge { .. } => Self::fs(errno::EFBIG, &text),
            DocError::Closed | DocError::Failed => Self::fs(errno::EBUSY, &text),
            DocError::Disk(_) | DocError::Log(_) => {
                tracing::error!(error = %text, "an SDK request failed in a document");
                Self::fs(errno::EIO, "the file can't be used now; try again")
            }
        }
    }
}

impl From<FilesError> for Fault {
    fn from(error: FilesError) -> Self {
        let text = error.to_string();
        match error {
            FilesError::Document(error) => error.into(),
            FilesError::Exists(path) => Self::fs(errno::EEXIST, &format!("file already exists, '{path}'")),
            FilesError::NotEmpty(path) => {
                Self::fs(errno::ENOTEMPTY, &format!("directory not empty, '{path}'"))
            }
            FilesError::NotAFolder(path) => Self::fs(errno::ENOTDIR, &format!("not a directory, '{path}'")),
            FilesError::IntoItself(_)
            | FilesError::Edit(_)
            | FilesError::Query(_)
            | FilesError::TooMany(_) => Self::fs(errno::EINVAL, &text),
        }
    }
}

impl From<FileError> for Fault {
    fn from(error: FileError) -> Self {
        let text = error.to_string();
        match error {
            FileError::NotFound => Self::fs(errno::ENOENT, "no such file or directory"),
            FileError::WrongKind => Self::fs(errno::ENOTDIR, &text),
            FileError::Denied(_) => Self::fs(errno::EACCES, &text),
            FileError::TooLarge => Self::fs(errno::EFBIG, &text),
            FileError::Full => Self::fs(errno::ENOSPC, &text),
            FileError::Other(_) => Self::fs(errno::EIO, &text),
        }
    }
}

impl From<AgentError> for Fault {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::TooMany => Self::new(code::RATE_LIMIT, error.to_string()),
            AgentError::Launch(_) => Self::internal(&error),
            AgentError::Ended | AgentError::Refused(_) => Self::new(code::CRITICAL, error.to_string()),
        }
    }
}

impl From<AgentsError> for Fault {
    fn from(error: AgentsError) -> Self {
        match error {
            AgentsError::TooMany => Self::new(code::RATE_LIMIT, error.to_string()),
            AgentsError::OwnerOnly => Self::new(code::NO_ACCESS, error.to_string()),
            AgentsError::Agent(error) => error.into(),
            AgentsError::Refused(_) | AgentsError::Network(_) => {
                Self::new(code::UNAVAILABLE, error.to_string())
            }
            AgentsError::Store(error) => error.into(),
        }
    }
}
