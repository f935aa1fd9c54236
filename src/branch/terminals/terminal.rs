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

/// Sessions that an opener may let in.
pub const MAX_TYPISTS: usize = 100;
/// How long output is awaited after the program has ended: what it left running may hold the PTY open.
const REST_WITHIN: Duration = Duration::from_secs(1);
/// How long the exit of a program is awaited that was hung up or whose output has ended.
const EXIT_WITHIN: Duration = Duration::from_secs(10);

/// What of a terminal may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// For people.
    pub title: String,
    /// Of the window; set by who of those that may type did so last.
    pub size: Size,
    /// Sessions that may type beside the opener.
    pub typists: BTreeSet<SessionId>,
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
    shape: watch::Sender<Shape>,
    /// Gone once it is hung up.
    input: Mutex<Option<mpsc::Sender<PtyInput>>>,
    hung_up: CancellationToken,
    /// In the order of coming.
    attached: Mutex<Vec<Attached>>,
}

impl Terminal {
    pub(super) fn new(
        opener: SessionId,
        title: String,
        size: Size,
        input: mpsc::Sender<PtyInput>,
        now_ms: i64,
        events: &Arc<Events>,
    ) -> Self {
        Self {
            id: TerminalId::generate(),
            opener,
            opened_at_ms: now_ms,
            events: Arc::clone(events),
            ring: Mutex::default(),
            written: watch::Sender::new(()),
            shape: watch::Sender::new(Shape { title, size, typists: BTreeSet::new(), exit: None }),
            input: Mutex::new(Some(input)),
            hung_up: CancellationToken::new(),
            attached: Mutex::default(),
        }
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
                shape.typists = typists;
            }
            *shape != before
        });
        if is_changed || change.size.is_some() {
            self.events.publish(&Event::TerminalChanged { terminal: self.id.clone() });
        }
        Ok(())
    }

    pub(super) async fn resize(&self, size: Size) -> Result<(), TerminalError> {
        self.send(PtyInput::Resize(size)).await?;
        self.shape.send_if_modified(|shape| std::mem::replace(&mut shape.size, size) != size);
        Ok(())
    }

    /// Waits for room in the channel; nobody else waits.
    pub(super) async fn send(&self, input: PtyInput) -> Result<(), TerminalError> {
        let sender = self.input.lock().clone().ok_or(TerminalError::Closed)?;
        tokio::select! {
            sent = sender.send(input) => sent.map_err(|_| TerminalError::Closed),
            () = self.hung_up.cancelled() => Err(TerminalError::Closed),
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
        if let Some(input) = self.input.lock().take() {
            let _ = input.try_send(PtyInput::Close);
        }
        self.hung_up.cancel();
    }

    /// Keeps the output until the program has ended.
    pub(super) async fn follow(
        &self,
        mut output: mpsc::Receiver<Bytes>,
        mut exit: oneshot::Receiver<Exit>,
        stop: &CancellationToken,
    ) -> Exit {
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
            tokio::select! {
                bytes = output.recv(), if has_output => match bytes {
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
                () = self.hung_up.cancelled(), if !is_hung_up => {
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
        self.ring.lock().finish();
        self.hang_up();
        self.shape.send_modify(|shape| shape.exit = Some((exit, now_ms)));
        self.written.send_replace(());
    }
}
