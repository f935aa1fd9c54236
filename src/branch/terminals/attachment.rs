//! One connection to a terminal: what it types, with its rights asked for each message, and the output at its own pace.

use super::filter::Filter;
use super::replies::without_replies;
use super::terminal::Terminal;
use super::{BARRIER_WITHIN, Exit, PtyInput, Size, TerminalError};
use crate::base::Permission;
use crate::branch::document::ConnectionId;
use crate::branch::hub::Hub;
use crate::branch::members::{Member, Standing};
use bytes::Bytes;
use std::borrow::Cow;
use std::sync::Arc;
use tokio::sync::watch;

/// Ends a control sequence without effect (CAN).
const CANCEL: u8 = 0x18;

/// Who is at a connection.
#[derive(Clone, Debug)]
pub struct Viewer {
    /// The session.
    pub member: Arc<Member>,
    /// The right of its token.
    pub token: Permission,
    /// Of its token: a token that was revoked writes nothing, though its socket has not closed yet.
    pub epoch: i64,
}

impl Viewer {
    /// Whether it may write at this moment.
    pub(super) fn may_write(&self) -> bool {
        self.member.standing().epoch == self.epoch && self.member.writer(self.token).is_some()
    }
}

/// A connection to a terminal, as long as it lives.
#[derive(Debug)]
pub struct Attachment {
    hub: Arc<Hub>,
    terminal: Arc<Terminal>,
    viewer: Viewer,
    connection: ConnectionId,
}

impl Attachment {
    /// Attaches a connection.
    #[must_use]
    pub fn new(hub: Arc<Hub>, terminal: Arc<Terminal>, viewer: Viewer, connection: ConnectionId) -> Self {
        terminal.attach(connection, viewer.clone());
        Self { hub, terminal, viewer, connection }
    }

    /// The terminal.
    #[must_use]
    pub fn terminal(&self) -> &Arc<Terminal> {
        &self.terminal
    }

    /// Whether its member may type at this moment.
    #[must_use]
    pub fn may_type(&self) -> bool {
        self.check().is_ok()
    }

    /// Hears when its member's right may have changed.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Standing> {
        self.viewer.member.watch()
    }

    fn check(&self) -> Result<(), TerminalError> {
        self.terminal.check_typist(&self.viewer)
    }

    /// Types. Waits for the program to take what was typed before; a line first waits (2 s at most) until what editors
    /// typed is on disk, so that its command sees the text on the screen. What an emulator answers by itself passes from
    /// one connection only. Not cancel-safe: what was not yet handed over is lost.
    ///
    /// # Errors
    /// [`TerminalError::ReadOnly`], [`TerminalError::NotLetIn`], [`TerminalError::Closed`]; then nothing was typed.
    pub async fn input(&self, bytes: Bytes) -> Result<(), TerminalError> {
        self.check()?;
        let bytes = if self.terminal.answers(self.connection) {
            bytes
        } else {
            match without_replies(&bytes) {
                Cow::Borrowed(_) => bytes,
                Cow::Owned(left) => left.into(),
            }
        };
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
            // A document that can't be written now is seen as it is on disk.
            let _ = tokio::time::timeout(BARRIER_WITHIN, self.hub.flush_in(None)).await;
            self.check()?;
        }
        self.terminal.send(PtyInput::Bytes(bytes)).await
    }

    /// Gives the window another size.
    ///
    /// # Errors
    /// As [`Attachment::input`].
    pub async fn resize(&self, size: Size) -> Result<(), TerminalError> {
        self.check()?;
        self.terminal.resize(size).await
    }

    /// Reads the output from an offset on; from the first that is kept without one.
    #[must_use]
    pub fn reader(&self, from: Option<u64>) -> Reader {
        // Before looking for the end, or what comes between would be waited for.
        let written = self.terminal.written();
        let live_from = self.terminal.end();
        self.read_from(from, live_from, written)
    }

    /// Reads all of the output of the present run, as it comes: for who started it. Of several the last one counts: the
    /// program waits for it when it is more than 1 MiB behind, so that it misses nothing.
    #[must_use]
    pub fn live_reader(&self) -> Reader {
        let began_at = self.terminal.began_at();
        let mut reader = self.read_from(Some(began_at), began_at, self.terminal.written());
        reader.pace = Some(self.terminal.pace(began_at));
        reader
    }

    fn read_from(&self, from: Option<u64>, live_from: u64, written: watch::Receiver<()>) -> Reader {
        Reader {
            at: self.terminal.align(from.unwrap_or(0)),
            is_resumed: from.is_some(),
            told: None,
            live_from,
            filter: Filter::default(),
            is_raw: false,
            written,
            pace: None,
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.terminal.detach(self.connection);
    }
}

/// What a reader finds next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To be shown.
    Bytes(Bytes),
    /// The output between is not kept any more: the reader was away or slow for too long.
    Gap {
        /// Where the reader was.
        from: u64,
        /// Where it goes on.
        to: u64,
    },
    /// All output before this offset was shown; who comes back goes on there.
    At(u64),
    /// The program has ended, and all of its output was shown.
    Ended(Exit),
}

/// A place in the output of a terminal. Nobody waits for it.
#[derive(Debug)]
pub struct Reader {
    at: u64,
    /// Came back with an offset: what is missing before is a gap.
    is_resumed: bool,
    /// The last [`Output::At`].
    told: Option<u64>,
    /// What was there when it began is a replay.
    live_from: u64,
    filter: Filter,
    /// What was shown last passed as it is.
    is_raw: bool,
    written: watch::Receiver<()>,
    /// Tells the program where it is.
    pace: Option<watch::Sender<u64>>,
}

impl Reader {
    /// All that was there when this reader began, as a replay; what [`Reader::next`] gives afterwards follows on it without
    /// a gap and without anything twice.
    pub fn replay(&mut self, attachment: &Attachment) -> Bytes {
        let mut replay = Vec::new();
        while self.at < self.live_from
            && let Some(piece) = attachment.terminal().read(self.at, self.live_from)
        {
            self.at = piece.offset + piece.bytes.len() as u64;
            self.is_resumed = true;
            replay.extend_from_slice(&self.show(&piece.bytes, false));
        }
        replay.into()
    }

    /// The next output. Who may type is shown what comes live as it is; others, and everybody in the replay, only what
    /// draws (see [`Filter`]). Cancel-safe.
    pub async fn next(&mut self, attachment: &Attachment) -> Output {
        let terminal = attachment.terminal();
        loop {
            if let Some(pace) = &self.pace {
                pace.send_replace(self.at);
            }
            self.written.borrow_and_update();
            let exit = terminal.shape().exit;
            let to = if self.at < self.live_from { self.live_from } else { u64::MAX };
            let Some(piece) = terminal.read(self.at, to) else {
                if self.filter.is_between() && self.told != Some(self.at) {
                    self.told = Some(self.at);
                    return Output::At(self.at);
                }
                if let Some((exit, _)) = exit {
                    return Output::Ended(exit);
                }
                // The sender lives in the terminal.
                let _ = self.written.changed().await;
                continue;
            };
            if piece.offset > self.at {
                let from = std::mem::replace(&mut self.at, piece.offset);
                self.filter = Filter::default();
                // Of a first look at all that is kept, nothing is missing.
                if std::mem::replace(&mut self.is_resumed, true) {
                    return Output::Gap { from, to: piece.offset };
                }
                continue;
            }
            let is_live = self.at >= self.live_from;
            self.at += piece.bytes.len() as u64;
            self.is_resumed = true;
            let shown = self.show(&piece.bytes, is_live && attachment.may_type());
            if !shown.is_empty() {
                return Output::Bytes(shown);
            }
        }
    }

    fn show(&mut self, mut bytes: &[u8], is_raw: bool) -> Bytes {
        let mut shown = Vec::with_capacity(bytes.len());
        if !is_raw {
            if std::mem::take(&mut self.is_raw) && !self.filter.is_between() {
                // The emulator has the begin of a sequence that it might get otherwise, or not at all.
                shown.push(CANCEL);
            }
            self.filter.feed(bytes, &mut shown);
            return shown.into();
        }
        // What began while it was filtered ends so, or its rest would be taken for text.
        while !self.is_raw {
            self.is_raw = self.filter.is_between();
            if !self.is_raw {
                let Some((first, rest)) = bytes.split_first() else { return shown.into() };
                self.filter.feed(&[*first], &mut shown);
                bytes = rest;
            }
        }
        shown.extend_from_slice(bytes);
        // It keeps track of where sequences end.
        self.filter.feed(bytes, &mut Vec::new());
        shown.into()
    }
}
