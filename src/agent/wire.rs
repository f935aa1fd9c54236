//! What perch and an agent say to each other: postcard in frames that are led by their length, four bytes, big-endian.

use super::ports::Port;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use std::fmt;
use tokio_util::codec::LengthDelimitedCodec;

/// Bytes of the longest frame; a longer one ends the agent.
pub(super) const MAX_FRAME: usize = 16 * 1024 * 1024;
/// Bytes of a file that one request reads or writes.
pub const MAX_FILE: usize = 8 * 1024 * 1024;
/// Bytes of one process's output that may be under way to perch and not taken yet.
pub(super) const CREDIT: u32 = 64 * 1024;
/// What a chunk of output costs at least, so that single bytes can't fill a queue with chunks.
pub(super) const LEAST_COST: u32 = 256;
/// Bytes of one chunk of output at most.
pub(super) const CHUNK: usize = 16 * 1024;

/// Rows and columns of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermSize {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub cols: u16,
}

/// A command to run. Its text is never logged: `Debug` shows none of it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Start {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Where it runs: absolute, or beneath the workspace.
    pub cwd: Option<String>,
    /// Its environment, besides the session's.
    pub env: Vec<(String, String)>,
    /// It gets a terminal of this size; without, pipes.
    pub terminal: Option<TermSize>,
    /// Whether it reaches what is private to the session: `~/.private`, the session's own environment, its other processes.
    /// One that does not has no terminal.
    pub is_trusted: bool,
}

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start").field("terminal", &self.terminal).finish_non_exhaustive()
    }
}

/// Which of its outputs a process wrote to; a terminal has the first only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    /// Standard output, or a terminal's.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// The agent ended before it told.
    Lost,
}

/// Work on files as this session sees them. Paths are absolute; those of `Private…` are relative to `~/.private`, and no
/// link is followed there.
#[derive(Serialize, Deserialize)]
pub enum FileOp {
    /// What is in a folder.
    List(String),
    /// A regular file's bytes.
    Read(String),
    /// Makes or replaces a file, with the folders it lies in.
    Write(String, ByteBuf),
    /// Makes a folder, with those it lies in.
    MakeFolder(String),
    /// Removes a file, or a folder with all in it.
    Remove(String),
    /// The same for `~/.private`.
    PrivateList(String),
    /// The same for `~/.private`.
    PrivateRead(String),
    /// The same for `~/.private`; mode 0600.
    PrivateWrite(String, ByteBuf),
    /// The same for `~/.private`.
    PrivateRemove(String),
    /// A call of the session itself; `true`: whoever asks may see what is private to the session.
    Own(FsCall, bool),
}

/// A call like one of Node's `fs`. Paths are absolute, as the session's shells have them.
#[derive(Serialize, Deserialize)]
pub enum FsCall {
    /// At most `len` bytes of a regular file, and at most [`MAX_FILE`], from `at` on.
    Read {
        /// The file.
        path: String,
        /// From which byte on.
        at: u64,
        /// How many.
        len: u32,
    },
    /// A folder's entries.
    List(String),
    /// What is at a path, and what a link there leads to.
    Stat(String),
    /// Appends to what [`FsCall::Write`] with the same token makes the file of.
    Stage {
        /// The file.
        path: String,
        /// Chosen by chance.
        token: u64,
        /// The next bytes.
        bytes: ByteBuf,
    },
    /// Forgets what was staged.
    Unstage {
        /// The file.
        path: String,
        /// See above.
        token: u64,
    },
    /// Makes or replaces a file, with the folders it lies in.
    Write {
        /// The file.
        path: String,
        /// Of what was staged, which comes before the bytes.
        token: Option<u64>,
        /// The bytes.
        bytes: ByteBuf,
        /// It may be new.
        create: bool,
        /// It may be there.
        overwrite: bool,
    },
    /// Makes a folder; `recursive`: with those it lies in, and it may be there.
    MakeFolder {
        /// The folder.
        path: String,
        /// See above.
        recursive: bool,
    },
    /// Removes a file, link or folder; `recursive`: with all in it.
    Remove {
        /// What goes.
        path: String,
        /// See above.
        recursive: bool,
    },
    /// Renames; `overwrite`: something may be there.
    Rename {
        /// Where it is.
        from: String,
        /// Where it will be.
        to: String,
        /// See above.
        overwrite: bool,
    },
    /// Copies a file, or with `recursive` a folder; `overwrite`: into what may be there.
    Copy {
        /// What is copied.
        from: String,
        /// Where the copy will be.
        to: String,
        /// See above.
        recursive: bool,
        /// See above.
        overwrite: bool,
    },
}

/// An entry of a folder, for [`FsCall::List`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsEntry {
    /// Its name; bytes that are no UTF-8 are replaced.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
    /// What a link leads to, if to anything.
    pub target: Option<FileKind>,
}

/// What is at a path, for [`FsCall::Stat`]: size, times and mode are those of what a link leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsStat {
    /// What it is.
    pub kind: FileKind,
    /// What a link leads to, if to anything.
    pub target: Option<FileKind>,
    /// Its size.
    pub len_bytes: u64,
    /// When its content changed, in milliseconds since 1970 UTC.
    pub modified_at_ms: i64,
    /// When anything of it changed.
    pub changed_at_ms: i64,
    /// When it was read.
    pub accessed_at_ms: i64,
    /// Permission bits.
    pub mode: u32,
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A link.
    Symlink,
    /// A device, pipe or socket.
    Other,
}

/// One entry of a folder.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FileEntry {
    /// Its name; bytes that are no UTF-8 are replaced.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
    /// Its size.
    pub bytes: u64,
}

/// What came of work on a file.
#[derive(Serialize, Deserialize)]
pub enum FileAnswer {
    /// It is done.
    Done,
    /// A file's bytes.
    Bytes(ByteBuf),
    /// A folder's entries, at most 10,000, by name; the rest is left out.
    Entries(Vec<FileEntry>),
    /// It was refused.
    Refused(FileError),
    /// A part of a file, and how long the file is.
    Part(ByteBuf, u64),
    /// A folder's entries, by name.
    Listed(Vec<FsEntry>),
    /// What is at a path.
    Stat(FsStat),
    /// A call failed with this number of the kernel's.
    Failed(i32),
}

/// Why work on a file was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum FileError {
    /// Nothing is there.
    #[error("nothing is there")]
    NotFound,
    /// It is not a file, or not a folder.
    #[error("it is of another kind")]
    WrongKind,
    /// The session may not.
    #[error("the session may not: {0}")]
    Denied(String),
    /// It has more bytes than one request moves.
    #[error("it has more than {MAX_FILE} bytes; use a terminal")]
    TooLarge,
    /// There is no room.
    #[error("there is no room left")]
    Full,
    /// Something else.
    #[error("{0}")]
    Other(String),
}

#[derive(Serialize, Deserialize)]
pub(super) enum Request {
    Start(u32, Start),
    /// Nothing more is written once `None` was sent.
    Input(u32, Option<ByteBuf>),
    Resize(u32, TermSize),
    /// Ends the process and all that came of it.
    Kill(u32),
    Credit(u32, u32),
    File(u32, FileOp),
    /// Whether its processes, and it, may write to files.
    Writing(bool),
}

#[derive(Serialize, Deserialize)]
pub(super) enum Reply {
    Started(u32),
    /// It could not be started.
    Refused(u32, String),
    Output(u32, Stream, ByteBuf),
    /// So much of its input was written.
    Took(u32, u32),
    Exited(u32, Exit),
    File(u32, FileAnswer),
    /// All ports that are listened on, whenever they change.
    Ports(Vec<Port>),
}

pub(super) fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME).new_codec()
}

/// What a chunk of output costs of a process's credit.
pub(super) fn cost(len_bytes: usize) -> u32 {
    u32::try_from(len_bytes).unwrap_or(u32::MAX).max(LEAST_COST)
}
