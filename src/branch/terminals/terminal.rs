//! One terminal: its output, who may type in it, and how it ended. Outlives every connection to it.

use super::attachment::Viewer;
use super::ring::{Piece, Ring};
use super::{Exit, PtyInput, Size, TerminalError};
use crate::base::{SessionId, TerminalId};
use crate::branch::document::ConnectionId;
use crate::branch::events::{Event, Events};
use crate::branch::members::WriteGrant;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Sessions that an opener may let in, and that may ask for it.
pub const MAX_TYPISTS: usize = 100;
/// How long output is awaited after the program has ended: what it left running may hold the PTY open.
const REST_WITHIN: Duration = Duration::from_secs(1);
/// How long the exit of a program is awaited that was hung up or whose output has ended.
const EXIT_WITHIN: Duration = Duration::from_secs(10);

/// Bytes of output that a reader may be behind which the program waits for; well within the ring.
const PACE_BYTES: u64 = 1024 * 1024;
/// Bytes of output that are kept of a pinned terminal once it is closed.
const PINNED_BYTES: usize = 256 * 1024;

/// What of a terminal may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// For people.
    pub title: String,
    /// Of the window; set by who of those that may type did so last.
    pub size: Size,
    /// Sessions that may type beside the opener.
    pub typists: BTreeSet<SessionId>,
    /// Sessions that ask the opener to be among those.
    pub asking: BTreeSet<SessionId>,
    /// How the program ended, and when, in milliseconds since 1970.
    pub exit: Option<(Exit, i64)>,
}

/// What the opener wants changed.
#[derive(Clone, Debug, Default)]
pub struct TerminalChange {
    /// For people.
    pub title: Option<String>,
    /// Of the window.
    pub size: Option<Size>,
    /// Sessions that may type beside the opener: all of them.
    pub typists: Option<BTreeSet<SessionId>>,
}

/// A connection that shows it.
#[derive(Debug)]
struct Attached {
    connection: ConnectionId,
    viewer: Viewer,
}

/// One run of the program.
#[derive(Debug)]
struct Run {
    /// Gone once it is hung up.
    input: Option<mpsc::Sender<PtyInput>>,
    hung_up: CancellationToken,
    /// The offset at which its output begins.
    began_at: u64,
    /// See [`super::Pty::number`].
    number: Option<u32>,
}

/// A way to the program, and its number.
type Program = (mpsc::Sender<PtyInput>, Option<u32>);

impl Run {
    fn new((input, number): Program, began_at: u64) -> Self {
        Self { input: Some(input), hung_up: CancellationToken::new(), began_at, number }
    }
}

/// See the module's docs.
#[derive(Debug)]
pub struct Terminal {
    id: TerminalId,
    opener: SessionId,
    opened_at_ms: i64,
    events: Arc<Events>,
    ring: Mutex<Ring>,
    /// Told when there is more in the ring, and at the end.
    written: watch::Sender<()>,
    /// Where the reader is that the program waits for, if there is one.
    pace: Mutex<Option<watch::Receiver<u64>>>,
    shape: watch::Sender<Shape>,
    run: Mutex<Run>,
    /// Not forgotten to make room.
    is_pinned: bool,
    /// In the order of coming.
    attached: Mutex<Vec<Attached>>,
}

impl Terminal {
    pub(super) fn new(new: super::NewTerminal, program: Program, now_ms: i64, events: &Arc<Events>) -> Self {
        let super::NewTerminal { opener, title, size, is_pinned } = new;
        Self {
            id: TerminalId::generate(),
            opener,
            opened_at_ms: now_ms,
            events: Arc::clone(events),
            ring: Mutex::default(),
            written: watch::Sender::new(()),
            pace: Mutex::default(),
            shape: watch::Sender::new(Shape {
                title,
                size,
                typists: BTreeSet::new(),
                asking: BTreeSet::new(),
                exit: None,
            }),
            run: Mutex::new(Run::new(program, 0)),
            is_pinned,
            attached: Mutex::default(),
        }
    }

    /// Its program runs anew, on another PTY; only after it has ended. Output goes on at the present offset.
    pub(super) fn begin_again(&self, program: Program) {
        *self.run.lock() = Run::new(program, self.end());
        self.shape.send_modify(|shape| shape.exit = None);
        self.written.send_replace(());
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &TerminalId {
        &self.id
    }

    /// The session that opened it.
    #[must_use]
    pub fn opener(&self) -> &SessionId {
        &self.opener
    }

    /// When it was opened, in milliseconds since 1970.
    #[must_use]
    pub fn opened_at_ms(&self) -> i64 {
        self.opened_at_ms
    }

    /// What of it may change, as it is now.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape.borrow().clone()
    }

    /// Hears of each change of the shape.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Shape> {
        self.shape.subscribe()
    }

    /// Whether its program runs.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.shape.borrow().exit.is_none()
    }

    /// Whether it stays when closed ones make room for others.
    #[must_use]
    pub(super) fn is_pinned(&self) -> bool {
        self.is_pinned
    }

    /// The offset at which the output of its present run begins; 0 but for one that was restarted.
    #[must_use]
    pub fn began_at(&self) -> u64 {
        self.run.lock().began_at
    }

    /// Names its present program among those of the opener, see [`super::Pty::number`].
    #[must_use]
    pub fn number(&self) -> Option<u32> {
        self.run.lock().number
    }

    /// Bytes of output that are kept.
    pub(super) fn kept_bytes(&self) -> usize {
        self.ring.lock().len()
    }

    /// Bytes of output until now.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.ring.lock().end()
    }

    pub(super) fn align(&self, offset: u64) -> u64 {
        self.ring.lock().align(offset)
    }

    pub(super) fn read(&self, from: u64, to: u64) -> Option<Piece> {
        self.ring.lock().read(from, to)
    }

    /// The program waits for a reader that tells where it is, as long as what is told with lives.
    pub(super) fn pace(&self, at: u64) -> watch::Sender<u64> {
        let (pace, place) = watch::channel(at);
        *self.pace.lock() = Some(place);
        pace
    }

    /// Returns when no reader is too far behind, or the one that was is gone.
    async fn keep_pace(&self) {
        let end = self.end();
        let Some(mut place) = self.pace.lock().clone() else { return };
        let _ = place.wait_for(|at| end.saturating_sub(*at) <= PACE_BYTES).await;
    }

    pub(super) fn written(&self) -> watch::Receiver<()> {
        self.written.subscribe()
    }

    /// Only the opener, or the holder of an API token.
    pub(super) fn check_owner(&self, grant: &WriteGrant) -> Result<(), TerminalError> {
        let is_owner = grant.session().is_none_or(|session| *session == self.opener);
        if is_owner { Ok(()) } else { Err(TerminalError::NotLetIn) }
    }

    /// Renames it, resizes its window, says who else may type; for its opener. Listeners of the branch hear of it.
    ///
    /// # Errors
    /// [`TerminalError::NotLetIn`], [`TerminalError::TooManyTypists`]; [`TerminalError::Closed`] for a size.
    pub async fn change(&self, grant: &WriteGrant, change: TerminalChange) -> Result<(), TerminalError> {
        self.check_owner(grant)?;
        if change.typists.as_ref().is_some_and(|typists| typists.len() > MAX_TYPISTS) {
            return Err(TerminalError::TooManyTypists);
        }
        if let Some(size) = change.size {
            self.resize(size).await?;
        }
        let is_changed = self.shape.send_if_modified(|shape| {
            let before = shape.clone();
            if let Some(title) = change.title {
                shape.title = title;
            }
            if let Some(typists) = change.typists {
                shape.asking.retain(|session| !typists.contains(session));
                shape.typists = typists;
            }
            *shape != before
        });
        if is_changed || change.size.is_some() {
            self.tell_changed();
        }
        Ok(())
    }

    fn tell_changed(&self) {
        self.events.publish(&Event::TerminalChanged { terminal: self.id.clone() });
    }

    /// Asks the opener to let the session type too. Who may already, and who holds an API token, asks for nothing.
    /// Listeners of the branch hear of it.
    ///
    /// # Errors
    /// [`TerminalError::Closed`]; [`TerminalError::TooManyAsk`] when 100 do.
    pub fn ask(&self, grant: &WriteGrant) -> Result<(), TerminalError> {
        let Some(session) = grant.session().filter(|session| **session != self.opener) else { return Ok(()) };
        let mut outcome = Ok(());
        let is_changed = self.shape.send_if_modified(|shape| {
            if shape.exit.is_some() {
                outcome = Err(TerminalError::Closed);
                return false;
            }
            if shape.typists.contains(session) || shape.asking.contains(session) {
                return false;
            }
            if shape.asking.len() >= MAX_TYPISTS {
                outcome = Err(TerminalError::TooManyAsk);
                return false;
            }
            shape.asking.insert(session.clone())
        });
        if is_changed {
            self.tell_changed();
        }
        outcome
    }

    /// Ends what a session asks for without letting it in: for the opener, and the session itself.
    ///
    /// # Errors
    /// [`TerminalError::NotLetIn`].
    pub fn turn_down(&self, grant: &WriteGrant, session: &SessionId) -> Result<(), TerminalError> {
        if grant.session() != Some(session) {
            self.check_owner(grant)?;
        }
        self.asks_no_more(session);
        Ok(())
    }

    pub(super) fn asks_no_more(&self, session: &SessionId) {
        if self.shape.send_if_modified(|shape| shape.asking.remove(session)) {
            self.tell_changed();
        }
    }

    pub(super) async fn resize(&self, size: Size) -> Result<(), TerminalError> {
        self.send(PtyInput::Resize(size)).await?;
        self.shape.send_if_modified(|shape| std::mem::replace(&mut shape.size, size) != size);
        Ok(())
    }

    /// Waits for room in the channel; nobody else waits.
    pub(super) async fn send(&self, input: PtyInput) -> Result<(), TerminalError> {
        let (sender, hung_up) = {
            let run = self.run.lock();
            (run.input.clone().ok_or(TerminalError::Closed)?, run.hung_up.clone())
        };
        tokio::select! {
            sent = sender.send(input) => sent.map_err(|_| TerminalError::Closed),
            () = hung_up.cancelled() => Err(TerminalError::Closed),
        }
    }

    /// Whether a member may type now.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check_typist(&self, viewer: &Viewer) -> Result<(), TerminalError> {
        let shape = self.shape.borrow();
        if shape.exit.is_some() {
            return Err(TerminalError::Closed);
        }
        let session = viewer.member.session();
        let is_let_in = *session == self.opener || shape.typists.contains(session);
        if !is_let_in {
            return Err(TerminalError::NotLetIn);
        }
        if viewer.may_write() { Ok(()) } else { Err(TerminalError::ReadOnly) }
    }

    pub(super) fn attach(&self, connection: ConnectionId, viewer: Viewer) {
        self.attached.lock().push(Attached { connection, viewer });
    }

    pub(super) fn detach(&self, connection: ConnectionId) {
        self.attached.lock().retain(|attached| attached.connection != connection);
    }

    /// Whether this connection's emulator answers the program's questions: one of the opener, without one any that may
    /// type; of several the last that came, since an older one may be gone without having said so.
    pub(super) fn answers(&self, connection: ConnectionId) -> bool {
        let attached = self.attached.lock();
        let typing = || attached.iter().rev().filter(|one| self.check_typist(&one.viewer).is_ok());
        let opener = typing().find(|one| *one.viewer.member.session() == self.opener);
        opener.or_else(|| typing().next()).is_some_and(|one| one.connection == connection)
    }

    /// Closes it: what is typed from now on is refused, its program is told.
    pub(super) fn hang_up(&self) {
        // Where there is no room for it, the end of the channel says the same.
        let mut run = self.run.lock();
        if let Some(input) = run.input.take() {
            let _ = input.try_send(PtyInput::Close);
        }
        run.hung_up.cancel();
    }

    /// Keeps the output until the program has ended.
    pub(super) async fn follow(
        &self,
        mut output: mpsc::Receiver<Bytes>,
        mut exit: oneshot::Receiver<Exit>,
        stop: &CancellationToken,
    ) -> Exit {
        let hung_up = self.run.lock().hung_up.clone();
        let mut ended = None;
        let mut has_output = true;
        let mut is_stopping = false;
        let mut is_hung_up = false;
        let mut deadline = None;
        loop {
            if let (Some(ended), false) = (ended, has_output) {
                return ended;
            }
            let over = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            // Only while it runs: its end is not to be held up.
            let next = async {
                if deadline.is_none() {
                    self.keep_pace().await;
                }
                output.recv().await
            };
            tokio::select! {
                bytes = next, if has_output => match bytes {
                    Some(bytes) => {
                        self.ring.lock().append(&bytes);
                        self.written.send_replace(());
                    }
                    None => {
                        has_output = false;
                        deadline.get_or_insert(Instant::now() + EXIT_WITHIN);
                    }
                },
                how = &mut exit, if ended.is_none() => {
                    ended = Some(how.unwrap_or(Exit::Lost));
                    deadline = Some(Instant::now() + REST_WITHIN);
                }
                () = hung_up.cancelled(), if !is_hung_up => {
                    is_hung_up = true;
                    deadline.get_or_insert(Instant::now() + EXIT_WITHIN);
                }
                () = stop.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    self.hang_up();
                    deadline = Some(Instant::now() + REST_WITHIN);
                }
                () = over => return ended.unwrap_or(Exit::Lost),
            }
        }
    }

    pub(super) fn ended(&self, exit: Exit, now_ms: i64) {
        {
            let mut ring = self.ring.lock();
            ring.finish();
            if self.is_pinned {
                ring.cut_to(PINNED_BYTES);
            }
        }
        self.hang_up();
        self.shape.send_modify(|shape| {
            shape.asking.clear();
            shape.exit = Some((exit, now_ms));
        });
        self.written.send_replace(());
    }
}
