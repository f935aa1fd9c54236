//! The terminals of a branch: one session opens one, all may watch, who is let in may type.
//!
//! Knows no agent: a terminal is made from the channels of a [`Pty`].
//!
//! | file | idea |
//! |---|---|
//! | `terminal.rs` | one terminal: its output, who may type, its end |
//! | `attachment.rs` | one connection to it: input with its rights, output at its own pace |
//! | `ring.rs` | the last 2 MiB of output, found by offset |
//! | `filter.rs` | what of the output a viewer may be shown |
//! | `replies.rs` | what emulators send by themselves |

mod attachment;
mod filter;
mod replies;
mod ring;
mod terminal;

pub use attachment::{Attachment, Output, Reader, Viewer};
pub use filter::Filter;
pub use ring::SCROLLBACK_BYTES;
pub use terminal::{MAX_TYPISTS, Shape, Terminal, TerminalChange};

use super::events::{Event, Events};
use super::members::WriteGrant;
use crate::base::{Clock, SessionId, Tasks, TerminalId};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Terminals that one session may have open; its PTYs are 64.
pub const MAX_OF_SESSION: usize = 48;
/// Terminals that may be open on one branch.
pub const MAX_OF_BRANCH: usize = 128;
/// Closed terminals of a branch that are kept, with their output and exit code; pinned ones are kept besides.
pub const MAX_CLOSED: usize = 64;
/// Bytes of output of all those; past it the oldest go, but for the last one.
const MAX_CLOSED_BYTES: usize = 32 * 1024 * 1024;
/// Messages to a PTY that may wait; then a typist waits. What [`Pty::input`] should hold.
pub const INPUT_WAITING: usize = 64;
/// The longest a typed line waits for open documents to reach the disk.
const BARRIER_WITHIN: Duration = Duration::from_secs(2);

/// What runs a terminal's program: three channels to a PTY somewhere. When this end drops the output's receiver before
/// the exit was told, the terminal is given up: end what still runs in it.
#[derive(Debug)]
pub struct Pty {
    /// In order. Its end means [`PtyInput::Close`]. Give it room for [`INPUT_WAITING`].
    pub input: mpsc::Sender<PtyInput>,
    /// In order, cut anywhere, of any length. Its end, with no exit after, is [`Exit::Lost`]. It is always read at once:
    /// no viewer makes the program wait.
    pub output: mpsc::Receiver<Bytes>,
    /// Once; output that still comes within a moment is kept.
    pub exit: oneshot::Receiver<Exit>,
    /// Names the program among those of its session, where its ports are to be told from others'.
    pub number: Option<u32>,
}

/// What a PTY is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PtyInput {
    /// Typed.
    Bytes(Bytes),
    /// The window has another size.
    Resize(Size),
    /// Hang up. It is left out, and only the channel ends, where the channel is full.
    Close,
}

/// The size of a terminal's window, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    rows: u16,
    cols: u16,
}

impl Size {
    /// A size of 1 to 500 rows and 1 to 1,000 columns.
    ///
    /// # Errors
    /// [`TerminalError::Size`].
    pub fn new(rows: u16, cols: u16) -> Result<Self, TerminalError> {
        let is_good = (1..=500).contains(&rows) && (1..=1_000).contains(&cols);
        is_good.then_some(Self { rows, cols }).ok_or(TerminalError::Size)
    }

    /// Lines.
    #[must_use]
    pub fn rows(self) -> u16 {
        self.rows
    }

    /// Characters of a line.
    #[must_use]
    pub fn cols(self) -> u16 {
        self.cols
    }
}

impl Default for Size {
    /// 24 rows of 80 columns.
    fn default() -> Self {
        Self { rows: 24, cols: 80 }
    }
}

/// How a terminal's program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// Nobody knows: what ran it is gone.
    Lost,
}

impl Exit {
    /// The exit code, where it ended by itself.
    #[must_use]
    pub fn code(self) -> Option<i32> {
        if let Self::Code(code) = self { Some(code) } else { None }
    }

    /// The signal that ended it.
    #[must_use]
    pub fn signal(self) -> Option<i32> {
        if let Self::Signal(signal) = self { Some(signal) } else { None }
    }
}

/// Why something can't be done with a terminal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TerminalError {
    /// Its program runs.
    #[error("the terminal's program still runs")]
    StillOpen,
    /// There is none with this id, or the branch is going.
    #[error("there is no such terminal")]
    NotFound,
    /// Too many of one session.
    #[error("the session has {MAX_OF_SESSION} terminals open; close one first")]
    TooManyOfSession,
    /// Too many of the branch.
    #[error("the branch has {MAX_OF_BRANCH} terminals open; close one first")]
    TooMany,
    /// No size that a window can have.
    #[error("a terminal has 1 to 500 rows and 1 to 1,000 columns")]
    Size,
    /// Its program has ended.
    #[error("the terminal is closed")]
    Closed,
    /// The session has no right to write now.
    #[error("this session can only read")]
    ReadOnly,
    /// Neither the opener nor let in by it.
    #[error("only the session that opened the terminal, and whom it lets in, may do this")]
    NotLetIn,
    /// Too many are let in.
    #[error("at most {MAX_TYPISTS} sessions are let in")]
    TooManyTypists,
    /// Too many ask.
    #[error("{MAX_TYPISTS} sessions ask already")]
    TooManyAsk,
}

/// What a terminal is made with.
#[derive(Clone, Debug)]
pub struct NewTerminal {
    /// Who may type, and say who else may.
    pub opener: SessionId,
    /// For people.
    pub title: String,
    /// What the PTY was made with.
    pub size: Size,
    /// Once closed it is kept, with its last 256 KiB, until it is removed: others make no room for themselves by it. Who
    /// sets it bounds how many there are.
    pub is_pinned: bool,
}

/// See the module's docs; cheap to clone.
#[derive(Clone, Debug)]
pub struct Terminals {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    all: Mutex<All>,
    events: Arc<Events>,
    clock: Clock,
    tasks: Tasks,
}

#[derive(Debug, Default)]
struct All {
    /// In the order of opening: ids sort by time.
    by_id: BTreeMap<TerminalId, Arc<Terminal>>,
    /// In the order of closing.
    closed: VecDeque<TerminalId>,
    /// The branch is going.
    is_closed: bool,
}

impl All {
    fn open(&self) -> impl Iterator<Item = &Arc<Terminal>> {
        self.by_id.values().filter(|terminal| terminal.is_open())
    }

    /// Forgets the oldest closed ones where there are too many.
    fn make_room(&mut self) {
        let by_id = &self.by_id;
        let is_pinned = |id: &TerminalId| by_id.get(id).is_none_or(|terminal| terminal.is_pinned());
        let mut left: Vec<_> = self.closed.iter().filter(|id| !is_pinned(id)).cloned().collect();
        let mut bytes: usize = left.iter().map(|id| by_id.get(id).map_or(0, |it| it.kept_bytes())).sum();
        left.reverse();
        while left.len() > MAX_CLOSED || (left.len() > 1 && bytes > MAX_CLOSED_BYTES) {
            let Some(oldest) = left.pop() else { return };
            bytes -= self.by_id.remove(&oldest).map_or(0, |it| it.kept_bytes());
            self.closed.retain(|closed| *closed != oldest);
        }
    }

    fn room(&self, opener: &SessionId) -> Result<(), TerminalError> {
        if self.is_closed {
            return Err(TerminalError::NotFound);
        }
        if self.open().filter(|terminal| terminal.opener() == opener).count() >= MAX_OF_SESSION {
            return Err(TerminalError::TooManyOfSession);
        }
        if self.open().count() >= MAX_OF_BRANCH { Err(TerminalError::TooMany) } else { Ok(()) }
    }
}

impl Terminals {
    pub(super) fn new(events: Arc<Events>, clock: Clock, tasks: Tasks) -> Self {
        Self { inner: Arc::new(Inner { all: Mutex::default(), events, clock, tasks }) }
    }

    /// Whether a session may open one more: asked before a program is started for it; [`Terminals::add`] asks again.
    ///
    /// # Errors
    /// [`TerminalError::TooManyOfSession`], [`TerminalError::TooMany`].
    pub fn room(&self, opener: &SessionId) -> Result<(), TerminalError> {
        self.inner.all.lock().room(opener)
    }

    /// Adds a terminal whose program runs, and follows it until it ends. On an error the PTY's channels are dropped, which
    /// hangs it up.
    ///
    /// # Errors
    /// [`TerminalError::TooManyOfSession`], [`TerminalError::TooMany`].
    pub fn add(&self, new: NewTerminal, pty: Pty) -> Result<Arc<Terminal>, TerminalError> {
        let inner = &self.inner;
        let Pty { input, output, exit, number } = pty;
        let terminal = Arc::new(Terminal::new(new, (input, number), inner.clock.now_ms(), &inner.events));
        {
            let mut all = inner.all.lock();
            all.room(terminal.opener())?;
            all.by_id.insert(terminal.id().clone(), Arc::clone(&terminal));
        }
        self.run(&terminal, output, exit);
        Ok(terminal)
    }

    /// Runs a closed terminal's program anew: it is the same terminal, its output goes on where it was.
    ///
    /// # Errors
    /// [`TerminalError::StillOpen`], [`TerminalError::NotFound`], and for want of room as [`Terminals::add`].
    pub fn restart(&self, terminal: &Arc<Terminal>, pty: Pty) -> Result<(), TerminalError> {
        let Pty { input, output, exit, number } = pty;
        {
            let mut all = self.inner.all.lock();
            all.room(terminal.opener())?;
            let at = all.closed.iter().position(|closed| closed == terminal.id());
            let missing = if terminal.is_open() { TerminalError::StillOpen } else { TerminalError::NotFound };
            all.closed.remove(at.ok_or(missing)?);
            terminal.begin_again((input, number));
        }
        self.run(terminal, output, exit);
        Ok(())
    }

    /// Tells of a terminal whose program runs, and follows it until it ends.
    fn run(&self, terminal: &Arc<Terminal>, output: mpsc::Receiver<Bytes>, exit: oneshot::Receiver<Exit>) {
        self.inner.events.publish(&Event::TerminalOpened {
            terminal: terminal.id().clone(),
            session: terminal.opener().clone(),
            title: terminal.shape().title,
        });
        let (this, followed) = (self.clone(), Arc::clone(terminal));
        self.inner.tasks.spawn(async move {
            let exit = followed.follow(output, exit, this.inner.tasks.stopping()).await;
            this.keep_closed(&followed, exit);
        });
    }

    fn keep_closed(&self, terminal: &Terminal, exit: Exit) {
        let mut all = self.inner.all.lock();
        // Whoever sees that it has ended finds it among the closed ones.
        terminal.ended(exit, self.inner.clock.now_ms());
        // It may have been forgotten just now.
        if all.by_id.contains_key(terminal.id()) {
            all.closed.push_back(terminal.id().clone());
        }
        all.make_room();
        // Under the lock, so that a new run is told of after the end of this one.
        let (code, signal) = (exit.code(), exit.signal());
        self.inner.events.publish(&Event::TerminalClosed { terminal: terminal.id().clone(), code, signal });
    }

    /// All, in the order of opening; closed ones that are kept too.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Terminal>> {
        self.inner.all.lock().by_id.values().cloned().collect()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: &TerminalId) -> Option<Arc<Terminal>> {
        self.inner.all.lock().by_id.get(id).cloned()
    }

    /// Hangs up an open terminal, which is then kept as closed; forgets a closed one.
    ///
    /// # Errors
    /// [`TerminalError::NotFound`], [`TerminalError::NotLetIn`].
    pub fn remove(&self, id: &TerminalId, grant: &WriteGrant) -> Result<(), TerminalError> {
        let terminal = self.get(id).ok_or(TerminalError::NotFound)?;
        terminal.check_owner(grant)?;
        if terminal.is_open() {
            terminal.hang_up();
        } else {
            let mut all = self.inner.all.lock();
            all.by_id.remove(id);
            all.closed.retain(|closed| closed != id);
        }
        Ok(())
    }

    /// Whether a program runs in any.
    #[must_use]
    pub fn any_open(&self) -> bool {
        self.inner.all.lock().open().next().is_some()
    }

    /// Hangs up those that a session opened, and ends what it asks of others: it has ended.
    pub fn end_of(&self, session: &SessionId) {
        for terminal in self.list() {
            terminal.asks_no_more(session);
            if terminal.opener() == session {
                terminal.hang_up();
            }
        }
    }

    /// Hangs up all, for good: the branch is going.
    pub fn close(&self) {
        self.inner.all.lock().is_closed = true;
        self.list().iter().for_each(|terminal| terminal.hang_up());
    }
}
