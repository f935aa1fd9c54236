//! One open document: the CRDT, its connections, its place in the log and on disk.
//!
//! A [`Document`] is a cheap handle; the state lives in one task (the actor), so edits are applied in one order and
//! no lock is held across an await. Knows nothing of WebSockets or HTTP.
//!
//! | file | idea |
//! |---|---|
//! | `actor.rs` | the task: commands, timers, end |
//! | `sync.rs` | connections: sync, updates, presence, resync of slow readers |
//! | `log.rs` | positions: what is pending, in flight, durable; who wrote which clocks |
//! | `changes.rs` | entries of the history |
//! | `disk.rs` | the file as a peer: checks, ingest of outside changes |
//! | `recall.rs` | who typed what an outside change brings back |
//! | `asides.rs` | replaced files that somebody still writes to |
//! | `write_back.rs` | writing the text to the file, and what an interrupted write left |
//! | `open.rs` | from rows and file to a running actor |
//! | `early.rs` | answers before a large document is loaded |
//!
//! **The disk peer is not kept in memory.** `documents.md` describes a second replica whose text is what reading the
//! file back gives. Its state is the log up to the synced position plus the outside updates since, and compaction
//! keeps exactly that, so it is loaded from the log in the one case that needs it: a change from outside while edits
//! are not yet on disk. That halves the memory of an open document and leaves one source of truth.

mod actor;
mod asides;
mod changes;
mod disk;
mod early;
mod log;
mod open;
mod recall;
mod sync;
mod write_back;

pub use log::decode_row;
pub(in crate::branch) use log::state_at;
pub(in crate::branch) use open::{OpenContext, open};

use crate::base::{DocumentId, Permission, SessionId};
use crate::branch::members::{Member, WriteGrant};
use crate::branch::outbox::{Channel, Outbox};
use crate::branch::versions::Version;
use crate::branch::wire::Wire;
use crate::workspace::RelPath;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Commands that may wait for a document; a socket that has one more waits itself, so it stops reading.
pub(in crate::branch) const QUEUE: usize = 256;

/// Names one connection of the node.
pub type ConnectionId = u64;

/// What a document refuses, or why it can't serve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocError {
    /// It closed before it took the command; ask the branch for it again.
    #[error("the document closed meanwhile")]
    Closed,
    /// It failed while it worked on the command, which may have been done or not.
    #[error("the document failed meanwhile; read the file, then try again")]
    Failed,
    /// No such file, and the caller may not make it.
    #[error("there is no file `{0}`")]
    NotFound(RelPath),
    /// Not UTF-8 text.
    #[error("`{path}` is not UTF-8 text (first bad byte at {offset}); use the file API for it")]
    NotText {
        /// The file.
        path: RelPath,
        /// Where the first bad byte is.
        offset: usize,
    },
    /// Not a regular file.
    #[error("`{0}` is not a regular file")]
    NotAFile(RelPath),
    /// Larger than what is shared live.
    #[error("`{path}` has {len_bytes} bytes; at most {max_bytes} are shared live; use the file API for it")]
    TooLarge {
        /// The file.
        path: RelPath,
        /// Its size.
        len_bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// The named base of a write is not known any more.
    #[error("the version named in the request is not known any more; the present one is {present}")]
    VersionUnknown {
        /// What the file is now.
        present: Version,
    },
    /// The path leads out of the workspace, or is refused for its name.
    #[error("{0}")]
    Path(String),
    /// The disk does not take or give the file now.
    #[error("the file can't be read or written: {0}")]
    Disk(String),
    /// The database does not answer or refuses.
    #[error("the document's log can't be used: {0}")]
    Log(String),
}

impl DocError {
    /// Whether it says that the path holds no document, so that its file, if any, is all there is.
    pub(in crate::branch) fn is_no_document(&self) -> bool {
        matches!(self, Self::NotFound(_) | Self::NotText { .. } | Self::NotAFile(_) | Self::TooLarge { .. })
    }
}

/// What a connection brings along.
#[derive(Debug)]
pub struct Join {
    /// The connection.
    pub connection: ConnectionId,
    /// Whose it is.
    pub member: Arc<Member>,
    /// The right of its token; the session's may be less.
    pub token: Permission,
    /// Where its frames go.
    pub outbox: Arc<Outbox>,
    /// Which of the socket's documents this is.
    pub channel: Channel,
    /// How it wants frames.
    pub wire: Wire,
}

/// A message of a connection's client.
#[derive(Debug)]
pub enum Incoming {
    /// Asks for all that a replica with these clocks lacks.
    SyncStep1(Vec<(u64, u32)>),
    /// An update; `is_step2`: the answer to our own sync step 1.
    Update {
        /// Yjs v1, not yet looked at.
        update: Bytes,
        /// See above.
        is_step2: bool,
    },
    /// Presence.
    Awareness(Bytes),
    /// Asks for everyone's presence.
    QueryAwareness,
}

/// From which text a file API write was made.
#[derive(Clone, Debug)]
pub enum WriteBase {
    /// Make it so, whatever it is now.
    Present,
    /// From this version; its text where it is still known.
    Version(Version, Option<Arc<str>>),
}

/// A document as the file API gives it: what the file on disk holds.
#[derive(Clone, Debug)]
pub struct Content {
    /// The file's bytes.
    pub bytes: Bytes,
    /// Their version.
    pub version: Version,
}

#[derive(Debug)]
pub(in crate::branch) enum Command {
    Join(Join, oneshot::Sender<Result<(), DocError>>),
    Incoming(ConnectionId, Incoming),
    Leave(ConnectionId),
    Drained(ConnectionId),
    /// Tells that all before it was worked on.
    Reached(oneshot::Sender<()>),
    /// The member's right changed.
    Regrant(ConnectionId),
    /// Barrier: everything up to now is durable, on disk, and what the disk held before is in.
    Flush(oneshot::Sender<Result<Content, DocError>>),
    Write {
        grant: WriteGrant,
        base: WriteBase,
        bytes: Bytes,
        reply: oneshot::Sender<Result<Content, DocError>>,
    },
    /// The watcher saw something at the path; `is_closed`: a writer closed the file.
    FileEvent {
        is_closed: bool,
    },
    /// Touch neither file nor path until told to go on.
    Hold(oneshot::Sender<Result<Held, DocError>>),
    /// The file was deleted through perch.
    /// Ends a document that never had a file or an edit; tells whether it was one.
    GiveWay(oneshot::Sender<Result<bool, DocError>>),
    Deleted(oneshot::Sender<()>),
}

/// A document that holds still; dropped, it goes on where it was.
#[derive(Debug)]
pub(in crate::branch) struct Held {
    go_on: oneshot::Sender<RelPath>,
}

impl Held {
    /// Its file is at `path` now.
    pub(in crate::branch) fn go_on_at(self, path: RelPath) {
        // Nobody waits when perch is stopping; the row holds the path.
        let _ = self.go_on.send(path);
    }
}

impl Command {
    /// Tells whoever waits for an answer that the document closed before it took the command.
    fn refuse(self) {
        match self {
            Self::Join(_, reply) => drop(reply.send(Err(DocError::Closed))),
            Self::Hold(reply) => drop(reply.send(Err(DocError::Closed))),
            Self::GiveWay(reply) => drop(reply.send(Err(DocError::Closed))),
            Self::Flush(reply) | Self::Write { reply, .. } => drop(reply.send(Err(DocError::Closed))),
            Self::Deleted(_)
            | Self::Reached(_)
            | Self::Incoming(..)
            | Self::Leave(_)
            | Self::Drained(_)
            | Self::Regrant(_)
            | Self::FileEvent { .. } => {}
        }
    }
}

/// Handle to an open document, cheap to clone.
#[derive(Clone, Debug)]
pub struct Document {
    id: DocumentId,
    commands: mpsc::Sender<Command>,
    ended: CancellationToken,
    is_at_rest: Arc<AtomicBool>,
}

impl Document {
    fn new(id: DocumentId, commands: mpsc::Sender<Command>) -> Self {
        Self { id, commands, ended: CancellationToken::new(), is_at_rest: Arc::default() }
    }

    /// Stands for a document that could not be opened although its log holds what its file does not.
    pub(in crate::branch) fn behind(id: DocumentId) -> Self {
        let behind = Self::new(id, mpsc::channel(1).0);
        behind.ended.cancel();
        behind
    }

    /// The document's id; another generation of the same path has another.
    #[must_use]
    pub fn id(&self) -> &DocumentId {
        &self.id
    }

    /// Whether it takes commands no more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.commands.is_closed()
    }

    /// Waits until its task has ended and everything it had is durable.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Whether its task has ended and everything it had is durable.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Whether it has ended and its file holds all that its log does, or it ended for good. One that ended otherwise is
    /// to be opened again before its file is read.
    pub(in crate::branch) fn is_at_rest(&self) -> bool {
        self.is_at_rest.load(Ordering::SeqCst)
    }

    async fn call<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, DocError>>) -> Command,
    ) -> Result<T, DocError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| DocError::Closed)?;
        answer.await.map_err(|_| DocError::Failed)?
    }

    /// Adds a connection; it hears nothing until its sync step 1.
    ///
    /// # Errors
    /// [`DocError::Closed`]: ask the branch for the document again.
    pub async fn join(&self, join: Join) -> Result<(), DocError> {
        self.call(|reply| Command::Join(join, reply)).await
    }

    /// Hands over a client's message. Waits while the document's queue is full. Answers go to the outbox.
    pub async fn incoming(&self, connection: ConnectionId, message: Incoming) {
        // A document that closed has told its connections so.
        let _ = self.commands.send(Command::Incoming(connection, message)).await;
    }

    /// Waits until all that was handed over before has been worked on; for who holds something large until then.
    pub async fn caught_up(&self) {
        let (reply, reached) = oneshot::channel();
        if self.commands.send(Command::Reached(reply)).await.is_ok() {
            let _ = reached.await;
        }
    }

    /// Tells that the connection's outbox was written out after it had gone stale.
    pub async fn drained(&self, connection: ConnectionId) {
        let _ = self.commands.send(Command::Drained(connection)).await;
    }

    /// Tells that the right of the connection's member changed.
    pub async fn regrant(&self, connection: ConnectionId) {
        let _ = self.commands.send(Command::Regrant(connection)).await;
    }

    /// Takes a connection away; its presence goes after a grace.
    pub async fn leave(&self, connection: ConnectionId) {
        let _ = self.commands.send(Command::Leave(connection)).await;
    }

    /// The barrier: when it returns, everything applied before the call is durable and on disk, and what the file
    /// held at the call is in the document. Gives what the file now holds.
    ///
    /// # Errors
    /// [`DocError::Disk`] or [`DocError::Log`] when that can't be had now.
    pub async fn flush(&self) -> Result<Content, DocError> {
        self.call(Command::Flush).await
    }

    /// Writes new content as minimal edits, made from `base` and merged with what others did since. When it
    /// returns the edit is durable and on disk.
    ///
    /// # Errors
    /// [`DocError::VersionUnknown`], [`DocError::NotText`], [`DocError::TooLarge`], and as for [`Document::flush`].
    pub async fn write(&self, grant: WriteGrant, base: WriteBase, bytes: Bytes) -> Result<Content, DocError> {
        self.call(|reply| Command::Write { grant, base, bytes, reply }).await
    }

    pub(in crate::branch) async fn file_event(&self, is_closed: bool) {
        let _ = self.commands.send(Command::FileEvent { is_closed }).await;
    }

    /// Waits for a write under way, then keeps the document still until what it gives is used or dropped.
    pub(in crate::branch) async fn hold(&self) -> Result<Held, DocError> {
        self.call(Command::Hold).await
    }

    /// Ends it if it never had a file or an edit: another document comes to its path, and its clients come back to that.
    pub(in crate::branch) async fn give_way(&self) -> bool {
        let gave_way = self.call(Command::GiveWay).await.unwrap_or(false);
        if gave_way {
            self.ended().await;
        }
        gave_way
    }

    pub(in crate::branch) async fn deleted(&self) {
        let (reply, done) = oneshot::channel();
        if self.commands.send(Command::Deleted(reply)).await.is_ok() {
            let _ = done.await;
            self.ended().await;
        }
    }
}

/// Who made an edit, for blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Author {
    /// A session.
    Session(SessionId),
    /// The holder of an API token, who is no session.
    Api,
    /// A change of the file from outside perch.
    Outside,
    /// perch itself, such as a normalisation.
    Server,
}

impl Author {
    /// The text in the log: the session's id, or a word no session id can be.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Session(session) => session.as_str(),
            Self::Api => "(api)",
            Self::Outside => "(disk)",
            Self::Server => "(perch)",
        }
    }
}
