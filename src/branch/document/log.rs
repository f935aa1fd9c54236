//! A document's place in the log: what is pending, in flight, durable; and who wrote which clocks.

use super::changes::Changes;
use super::{Author, DocError};
use crate::base::{DocumentId, SessionId};
use crate::branch::log_writer::{LogError, LogWriter};
use crate::crdt::{Applied, ClockRange, SharedText};
use crate::store::{Append, AsideChange, AuthorRange, DiskRecord, LogRow};
use bytes::Bytes;
use std::collections::HashMap;
use tokio::sync::oneshot;

/// Clocks of one client in one range of the table, at most this long apart: blame's resolution in time.
const AUTHOR_RANGE_MS: i64 = 60_000;
/// Bytes of updates that wait while an append is in flight.
const MAX_PENDING_BYTES: usize = 8 * 1024 * 1024;
/// Rows or bytes of log after which a snapshot replaces them …
const COMPACT_ROWS: usize = 256;
const COMPACT_BYTES: usize = 1024 * 1024;
/// … and from here on as soon as they are more than the last snapshot: snapshots written are then at most as much again as
/// what was typed, and what is loaded is mostly one of them.
const COMPACT_FROM: usize = 64 * 1024;

/// Numbers updates from 1 in the order in which they were applied. A position is durable once a transaction that
/// holds it has committed; at most one append of a document is in flight, so rows commit in order.
#[derive(Debug)]
pub(super) struct Log {
    document: DocumentId,
    writer: LogWriter,
    position: i64,
    committed: i64,
    pending: Vec<Bytes>,
    pending_bytes: usize,
    pending_authors: Vec<AuthorRange>,
    pending_asides: Vec<AsideChange>,
    pub(super) changes: Changes,
    in_flight: Option<(i64, oneshot::Receiver<Result<(), LogError>>)>,
    rows: usize,
    bytes: usize,
    snapshot_bytes: usize,
    authors: Authors,
}

impl Log {
    pub(super) fn new(document: DocumentId, writer: LogWriter, position: i64, authors: Authors) -> Self {
        Self {
            document,
            writer,
            position,
            committed: position,
            pending: Vec::new(),
            pending_bytes: 0,
            pending_authors: Vec::new(),
            pending_asides: Vec::new(),
            changes: Changes::default(),
            in_flight: None,
            rows: 0,
            bytes: 0,
            snapshot_bytes: 0,
            authors,
        }
    }

    /// The position of the newest update, durable or not.
    pub(super) fn position(&self) -> i64 {
        self.position
    }

    /// The newest durable position.
    pub(super) fn committed(&self) -> i64 {
        self.committed
    }

    /// Says how much the log already holds, after a load.
    pub(super) fn loaded(&mut self, snapshot_bytes: usize, rows: &[LogRow]) {
        self.snapshot_bytes = snapshot_bytes;
        (self.rows, self.bytes) = (rows.len(), rows.iter().map(|row| row.data.len()).sum());
    }

    /// Whether so much was appended since the last snapshot that a new one is due.
    pub(super) fn is_long(&self) -> bool {
        self.rows >= COMPACT_ROWS || self.bytes >= COMPACT_BYTES.min(self.snapshot_bytes.max(COMPACT_FROM))
    }

    /// A snapshot has replaced the log, but for what came while it was written: that counts from the next time on.
    pub(super) fn was_cut(&mut self, snapshot_bytes: usize) {
        (self.rows, self.bytes, self.snapshot_bytes) = (0, 0, snapshot_bytes);
    }

    pub(super) fn authors(&self) -> &Authors {
        &self.authors
    }

    pub(super) fn authors_mut(&mut self) -> &mut Authors {
        &mut self.authors
    }

    /// Takes an update that was applied; gives its position. Clocks of a client id that some session is known to
    /// own are credited to that session, whoever relayed them.
    pub(super) fn push(&mut self, update: Bytes, applied: &Applied, author: &Author, now_ms: i64) -> i64 {
        self.push_for(update, applied, author, &[], now_ms)
    }

    /// The same of an update that brings some text of others: `theirs`, by client id and clock.
    pub(super) fn push_for(
        &mut self,
        update: Bytes,
        applied: &Applied,
        author: &Author,
        theirs: &[AuthorRange],
        now_ms: i64,
    ) -> i64 {
        for range in &applied.inserted {
            let mut rest = *range;
            for (part, of) in parts(*range, theirs) {
                rest.end = part.start;
                self.note_author(rest, author.as_str(), now_ms);
                self.note_author(part, &of.session_id, of.at_ms);
                rest = ClockRange { start: part.end, ..*range };
            }
            self.note_author(rest, author.as_str(), now_ms);
        }
        self.pending_bytes += update.len();
        self.pending.push(update);
        self.position += 1;
        self.changes.note(self.position, author, applied, now_ms);
        self.position
    }

    fn note_author(&mut self, range: ClockRange, session: &str, at_ms: i64) {
        if range.start == range.end {
            return;
        }
        let row = self.authors.note(range, session, at_ms);
        match self.pending_authors.last_mut() {
            Some(last) if last.client_id == row.client_id && last.clock_start == row.clock_start => {
                *last = row;
            }
            _ => self.pending_authors.push(row),
        }
    }

    /// From the next commit on, the temporary file of this name is kept, with what of it is in the document.
    pub(super) fn keep_aside(&mut self, temp: &str, base: Bytes) {
        self.pending_asides.push(AsideChange::Keep { temp: temp.to_owned(), base });
    }

    /// From the next commit on, the temporary file of this name is no concern of the document's.
    pub(super) fn forget_aside(&mut self, temp: &str) {
        self.pending_asides.push(AsideChange::Forget { temp: temp.to_owned() });
    }

    fn take_append(&mut self, disk: Option<DiskRecord>, now_ms: i64) -> Append {
        let row = (!self.pending.is_empty()).then(|| {
            let data = encode_row(&self.pending);
            self.rows += 1;
            self.bytes += data.len();
            let count = i64::try_from(self.pending.len()).unwrap_or(i64::MAX);
            self.pending.clear();
            self.pending_bytes = 0;
            LogRow { first_position: self.position - count + 1, position: self.position, data, at_ms: now_ms }
        });
        Append {
            document_id: self.document.clone(),
            row,
            authors: std::mem::take(&mut self.pending_authors),
            changes: self.changes.take_pending(),
            asides: std::mem::take(&mut self.pending_asides),
            disk,
        }
    }

    /// Whether more may be pushed. Without a database no command is taken past the bound, so sockets are not read.
    pub(super) fn has_room(&self) -> bool {
        self.pending_bytes < MAX_PENDING_BYTES
    }

    /// Hands what is pending to the log writer, unless an append is already in flight.
    pub(super) async fn send(&mut self, now_ms: i64) {
        if self.in_flight.is_none() && !self.pending.is_empty() {
            let append = self.take_append(None, now_ms);
            let done = self.writer.append(append).await;
            self.in_flight = Some((self.position, done));
        }
    }

    /// Resolves when the append in flight is durable, with the new committed position; never if none is.
    /// Cancel-safe.
    pub(super) async fn landed(&mut self) -> Result<i64, DocError> {
        let Some((position, done)) = &mut self.in_flight else { return std::future::pending().await };
        let outcome = done.await;
        let position = *position;
        self.in_flight = None;
        flatten(outcome)?;
        self.committed = position;
        Ok(position)
    }

    /// Waits for the append in flight, whatever becomes of it.
    pub(super) async fn rest(&mut self) {
        if self.in_flight.is_some() {
            let _ = self.landed().await;
        }
    }

    /// Makes all that was pushed durable, and `disk` in the same transaction as the last of it.
    pub(super) async fn commit(&mut self, disk: Option<DiskRecord>, now_ms: i64) -> Result<(), DocError> {
        if self.in_flight.is_some() {
            self.landed().await?;
        }
        if self.pending.is_empty() && self.pending_asides.is_empty() && disk.is_none() {
            return Ok(());
        }
        let append = self.take_append(disk, now_ms);
        flatten(self.writer.append(append).await.await)?;
        self.committed = self.position;
        Ok(())
    }
}

fn flatten(outcome: Result<Result<(), LogError>, oneshot::error::RecvError>) -> Result<(), DocError> {
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(DocError::Log(error.to_string())),
        Err(_) => Err(DocError::Log("perch is stopping".into())),
    }
}

/// Which session owns which client id, and the open ranges of the table in the database.
#[derive(Debug, Default)]
pub(super) struct Authors {
    owner: HashMap<u64, String>,
    open: HashMap<u64, AuthorRange>,
}

impl Authors {
    pub(super) fn load(ranges: &[AuthorRange]) -> Self {
        let mut authors = Self::default();
        for range in ranges {
            if let Ok(client) = u64::try_from(range.client_id) {
                authors.owner.insert(client, range.session_id.clone());
            }
        }
        authors
    }

    /// Whose a client id is, from the first clocks it brought.
    pub(super) fn owner(&self, client: u64) -> Option<&str> {
        self.owner.get(&client).map(String::as_str)
    }

    /// A client id is this session's from now on. Whoever relays its first clocks is taken for its owner until it shows
    /// itself: after a crash others may bring a client's edits before it is back.
    pub(super) fn claim(&mut self, client: u64, session: &SessionId) {
        let owner = self.owner.entry(client).or_default();
        if owner != session.as_str() {
            session.as_str().clone_into(owner);
        }
    }

    fn note(&mut self, range: ClockRange, author: &str, now_ms: i64) -> AuthorRange {
        // The server's own id writes for many; a browser's id belongs to the session that first brought it.
        let session = if range.client >= crate::crdt::FIRST_SERVER_CLIENT {
            author
        } else {
            self.owner.entry(range.client).or_insert_with(|| author.to_owned())
        };
        let (start, end) = (i64::from(range.start), i64::from(range.end));
        match self.open.get_mut(&range.client) {
            Some(open)
                if open.clock_end == start
                    && open.session_id == session
                    && (now_ms - open.at_ms).abs() < AUTHOR_RANGE_MS =>
            {
                open.clock_end = end;
                open.clone()
            }
            _ => {
                let row = AuthorRange {
                    client_id: i64::try_from(range.client).unwrap_or(i64::MAX),
                    clock_start: start,
                    clock_end: end,
                    session_id: session.to_owned(),
                    at_ms: now_ms,
                };
                self.open.insert(range.client, row.clone());
                row
            }
        }
    }
}

/// Those of `theirs`, which ascend, that are in the range, cut at its ends.
fn parts(range: ClockRange, theirs: &[AuthorRange]) -> impl Iterator<Item = (ClockRange, &AuthorRange)> {
    let (client, start, end) = (i64::try_from(range.client), i64::from(range.start), i64::from(range.end));
    theirs.iter().filter_map(move |of| {
        let (from, until) = (of.clock_start.max(start), of.clock_end.min(end));
        let is_in = client == Ok(of.client_id) && from < until;
        let (from, until) = (u32::try_from(from).ok()?, u32::try_from(until).ok()?);
        is_in.then_some((ClockRange { start: from, end: until, ..range }, of))
    })
}

/// Whether `session` is the one named in the table.
pub(super) fn is_session(owner: &str, session: &SessionId) -> bool {
    owner == session.as_str()
}

/// A document at a position, of a state before it and the rows since. `None` when they are damaged.
pub(in crate::branch) fn state_at(snapshot: &[u8], rows: &[LogRow], position: i64) -> Option<SharedText> {
    let mut updates = vec![snapshot];
    for row in rows {
        let in_row = decode_row(&row.data)?;
        updates.extend((row.first_position..=position).zip(in_row).map(|(_, update)| update));
    }
    SharedText::load(updates).ok()
}

/// One row of the log: each update led by its length (four bytes, little endian).
fn encode_row(updates: &[Bytes]) -> Bytes {
    let mut data = Vec::with_capacity(updates.iter().map(|update| update.len() + 4).sum());
    for update in updates {
        let len = u32::try_from(update.len()).expect("frames are bounded far below 4 GiB");
        data.extend_from_slice(&len.to_le_bytes());
        data.extend_from_slice(update);
    }
    data.into()
}

/// The updates of one row of the log, in order. `None` when the row is damaged.
#[must_use]
pub fn decode_row(mut data: &[u8]) -> Option<Vec<&[u8]>> {
    let mut updates = Vec::new();
    while let Some((len, rest)) = data.split_first_chunk::<4>() {
        let (update, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        updates.push(update);
        data = rest;
    }
    data.is_empty().then_some(updates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_back_and_damage_is_seen() {
        let updates = [Bytes::from_static(b"one"), Bytes::new(), Bytes::from_static(b"two")];
        let row = encode_row(&updates);
        assert_eq!(decode_row(&row).unwrap(), [b"one".as_slice(), b"", b"two"]);
        assert_eq!(decode_row(&[]).unwrap(), Vec::<&[u8]>::new());
        assert!(decode_row(&row[..row.len() - 1]).is_none());
        assert!(decode_row(&[1]).is_none());
    }

    #[test]
    fn relayed_clocks_are_credited_to_the_ids_owner() {
        let mut authors = Authors::default();
        let (ann, bob) = ("ann", "bob");
        // Relayed by bob before ann was back, then she showed herself.
        authors.note(ClockRange { client: 8, start: 0, end: 1 }, bob, 0);
        authors.claim(8, &"ann".parse().unwrap());
        let row = authors.note(ClockRange { client: 8, start: 1, end: 2 }, bob, 1);
        assert_eq!((row.session_id.as_str(), row.clock_start), ("ann", 1));
        authors.note(ClockRange { client: 7, start: 0, end: 1 }, ann, 0);
        let row = authors.note(ClockRange { client: 7, start: 1, end: 3 }, bob, 10);
        assert_eq!((row.session_id.as_str(), row.clock_start, row.clock_end), ("ann", 0, 3));
        let later = authors.note(ClockRange { client: 7, start: 3, end: 4 }, ann, AUTHOR_RANGE_MS + 1);
        assert_eq!(later.clock_start, 3);
    }

    #[test]
    fn a_range_is_cut_where_some_of_it_is_of_others() {
        let of = |client_id, clock_start, clock_end| AuthorRange {
            client_id,
            clock_start,
            clock_end,
            session_id: "ann".into(),
            at_ms: 1,
        };
        let theirs = [of(6, 0, 90), of(7, 0, 4), of(7, 6, 8), of(7, 8, 20), of(7, 40, 50)];
        let cut: Vec<_> = parts(ClockRange { client: 7, start: 2, end: 10 }, &theirs)
            .map(|(part, _)| (part.start, part.end))
            .collect();
        assert_eq!(cut, [(2, 4), (6, 8), (8, 10)]);
    }
}
