//! The file as a peer: when to look, what differs, and how that becomes an edit.

use super::actor::Actor;
use super::asides::Asides;
use super::sync::code;
use super::write_back::Wrote;
use super::{Author, Content, DocError, WriteBase, decode_row};
use crate::base::heavy;
use crate::branch::events::Event;
use crate::branch::members::WriteGrant;
use crate::branch::versions::Version;
use crate::crdt::{Applied, FileFormat, Run, SharedText, apply, decode, diff, normalise, rebase};
use crate::store::{AuthorRange, DiskRecord, State};
use crate::workspace::{FsError, RelPath, Workspace};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{debug, warn};

/// Quiet after the last keystroke before the text is written.
const WRITE_AFTER: Duration = Duration::from_millis(300);
/// The longest that a keystroke waits to be written under steady typing.
const WRITE_AT_LATEST: Duration = Duration::from_secs(2);
/// A file that changes too fast for a write-back to find it as it is known is replaced after this long all the same.
pub(super) const OVERDUE: Duration = Duration::from_secs(3);
/// Outside writers are done once nobody has the file open for writing and this long has passed without a change (H8).
pub(super) const QUIET: Duration = Duration::from_millis(100);
/// An outside change is taken in at the latest after this long.
pub(super) const QUIET_AT_LATEST: Duration = Duration::from_secs(2);
/// The same while somebody has the file open for writing: half a file tears lines that people type into it.
pub(super) const UNFINISHED: Duration = Duration::from_secs(1);
/// And this at the latest: a log that is written to all day is never done.
pub(super) const UNFINISHED_AT_LATEST: Duration = Duration::from_secs(5);
/// A path must be absent this long to count as deleted: editors and git replace files by unlink and create (H9).
/// Longer than a rename from outside takes to be followed (`branch::moves`).
pub(super) const ABSENT_SETTLE: Duration = Duration::from_millis(1_000);
/// Between tries at a disk that refuses, doubling.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// What a look at the path found.
#[derive(Debug)]
pub(super) enum Seen {
    Same,
    Absent,
    Bytes(Bytes),
    /// The same, and somebody still has the file open for writing.
    Unfinished(Bytes),
    TooLarge(u64),
    NotAFile,
}

#[derive(Debug)]
pub(super) enum JobDone {
    Checked(Result<Seen, FsError>),
    /// Something differs while git changes files: what is there may be a state in between.
    Held,
    Wrote(Result<Wrote, WriteError>),
}

/// Why a write-back did not happen.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The file is not what the disk peer holds; look at it first. Dirty since then.
    Differs(Seen, Option<Instant>),
    /// Somebody has the file open for writing; dirty since then.
    Busy(Option<Instant>),
    /// Nothing was put in place.
    Fs(FsError),
    /// The staged file still lies under this name with its intent noted; the file is as it was.
    NotInstalled(String, FsError),
    /// Whether the file was replaced is not known here; the intent tells after a reload.
    Unsure(String),
}

/// Someone who waits for the barrier.
#[derive(Debug)]
pub(super) struct Waiter {
    position: i64,
    /// Only a look that began after the question counts.
    after_job: u64,
    reply: oneshot::Sender<Result<Content, DocError>>,
}

impl Waiter {
    pub(super) fn answer(self, content: Result<Content, DocError>) {
        let _ = self.reply.send(content);
    }
}

#[derive(Debug)]
struct Suspicion {
    first: Instant,
    last_change: Instant,
    /// The version last seen; `None` before the first look and where no version can be had.
    seen: Option<Version>,
    has_looked: bool,
    is_closed: bool,
    look_at: Instant,
}

/// What a file has besides its text.
#[derive(Debug, Default)]
pub(super) struct Shape {
    format: FileFormat,
    /// The file's text, kept only where line ends are mixed: they are remembered line by line.
    mixed_text: Option<Arc<str>>,
}

impl Shape {
    pub(super) fn new(format: FileFormat, text: &str) -> Self {
        Self { mixed_text: format.is_mixed().then(|| text.into()), format }
    }

    /// The format for a text that came of the one this shape was made for.
    pub(super) fn format_for(&self, text: &str) -> FileFormat {
        match &self.mixed_text {
            Some(old) => self.format.follow(old, text),
            None => self.format.clone(),
        }
    }
}

/// What perch knows of the file: the disk peer's coordinates and when to look next.
#[derive(Debug)]
pub(super) struct Disk {
    /// The log up to here, and `outside`, is what the file holds.
    pub(super) position: i64,
    /// Updates after `position` that came from the file (H7).
    pub(super) outside: Vec<i64>,
    /// The file's version; `None` while it does not exist.
    pub(super) version: Option<Version>,
    pub(super) shape: Shape,
    /// The file is to be written for its shape's sake, whatever its text: it was written with other line ends, or
    /// made empty.
    pub(super) wanted: Option<Arc<Shape>>,
    pub(super) dirty_since: Option<Instant>,
    last_edit: Instant,
    pub(super) write_now: bool,
    suspicion: Option<Suspicion>,
    /// What was heard of the file since the last job began, which may have looked before it: whether a writer closed it.
    heard: Option<bool>,
    retry: Option<(Instant, Duration)>,
    /// States from which somebody outside took what sessions had typed, newest first (see `recall.rs`).
    pub(super) taken: Vec<State>,
    pub(super) asides: Asides,
    jobs: u64,
}

impl Disk {
    pub(super) fn new(
        position: i64,
        outside: Vec<i64>,
        version: Option<Version>,
        taken: Vec<State>,
        asides: Asides,
    ) -> Self {
        let now = Instant::now();
        Self {
            position,
            outside,
            version,
            shape: Shape::default(),
            wanted: None,
            dirty_since: None,
            last_edit: now,
            write_now: false,
            suspicion: None,
            heard: None,
            retry: None,
            taken,
            asides,
            jobs: 0,
        }
    }

    /// What the file has, or is to have, beside its text; of mixed line ends as they were last written.
    pub(super) fn format(&self) -> &FileFormat {
        &self.wanted.as_deref().unwrap_or(&self.shape).format
    }

    pub(super) fn record(&self) -> DiskRecord {
        DiskRecord {
            synced_position: self.position,
            synced_hash: self.version.map(Version::to_vec),
            outside: self.outside.clone(),
            intent: None,
            taken: self.taken.clone(),
        }
    }

    pub(super) fn touched(&mut self) {
        let now = Instant::now();
        self.last_edit = now;
        self.dirty_since.get_or_insert(now);
    }

    /// Looks at the file soon: something may have changed it.
    pub(super) fn suspect(&mut self, is_closed: bool) {
        let now = Instant::now();
        let suspicion = self.suspicion.get_or_insert(Suspicion {
            first: now,
            last_change: now,
            seen: None,
            has_looked: false,
            is_closed: false,
            look_at: now,
        });
        suspicion.is_closed |= is_closed;
        suspicion.last_change = now;
        if is_closed {
            suspicion.look_at = now;
        } else if suspicion.first + QUIET_AT_LATEST > now {
            suspicion.look_at = now + QUIET;
        }
        self.heard = Some(is_closed || self.heard.unwrap_or_default());
    }

    /// Somebody waits: one look may tell that there is nothing to wait for, as after perch's own write-back.
    pub(super) fn hurry(&mut self) {
        if let Some(suspicion) = self.suspicion.as_mut().filter(|suspicion| !suspicion.has_looked) {
            suspicion.look_at = Instant::now();
        }
    }

    /// What was suspected is settled by a look, but for what was heard since that began.
    fn looked(&mut self) {
        self.suspicion = None;
        if let Some(is_closed) = self.heard.take() {
            self.suspect(is_closed);
        }
    }

    /// The path is another now: what was suspected of the old one says nothing.
    pub(super) fn moved(&mut self) {
        self.suspicion = None;
        self.suspect(true);
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.dirty_since.is_none()
            && self.wanted.is_none()
            && self.suspicion.is_none()
            && self.asides.is_empty()
    }

    /// While the file is under suspicion nothing is written over it; but a file that is written to over and over is
    /// always under one, and a write-back looks for itself first.
    fn may_write(&self, now: Instant) -> bool {
        self.suspicion.as_ref().is_none_or(|suspicion| {
            !suspicion.has_looked && self.dirty_since.is_some_and(|since| since + WRITE_AT_LATEST <= now)
        })
    }

    /// When there is something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        let write = self.dirty_since.map(|since| {
            let at = (self.last_edit + WRITE_AFTER).min(since + WRITE_AT_LATEST);
            if self.write_now { self.last_edit } else { at }
        });
        let ask = self.write_now.then_some(self.last_edit);
        let look = self.suspicion.as_ref().map(|suspicion| suspicion.look_at);
        let next = look.or(write).or(ask);
        match (next, self.retry) {
            (Some(at), Some((not_before, _))) => Some(at.max(not_before)),
            (next, _) => next,
        }
    }

    pub(super) fn failed(&mut self) {
        let delay = self.retry.map_or(RETRY.0, |(_, delay)| (delay * 2).min(RETRY.1));
        self.retry = Some((Instant::now() + delay, delay));
    }

    /// Nothing is looked at or written before then.
    fn not_before(&mut self, at: Instant) {
        self.retry = Some((at, self.retry.map_or(RETRY.0 / 2, |(_, delay)| delay)));
    }

    pub(super) fn start_job(&mut self) {
        self.jobs += 1;
        self.heard = None;
    }

    pub(super) fn written(&mut self) {
        self.dirty_since = None;
        self.retry = None;
    }
}

/// Reads the path and compares it with what the disk peer holds.
pub(super) async fn look(
    workspace: &Workspace,
    path: &RelPath,
    known: Option<Version>,
    max_bytes: u64,
) -> Result<Seen, FsError> {
    let found = workspace.read(path, max_bytes).await;
    crate::base::pause("looked").await;
    match found {
        Ok(None) => Ok(if known.is_none() { Seen::Same } else { Seen::Absent }),
        Ok(Some(file)) => {
            let version = heavy(file.bytes.len(), || Version::of(&file.bytes));
            if known == Some(version) {
                return Ok(Seen::Same);
            }
            let is_unfinished = workspace.is_being_written(path).await?;
            Ok(if is_unfinished { Seen::Unfinished(file.bytes) } else { Seen::Bytes(file.bytes) })
        }
        Err(FsError::TooLarge { len_bytes, .. }) => Ok(Seen::TooLarge(len_bytes)),
        Err(FsError::WrongKind { .. }) => Ok(Seen::NotAFile),
        Err(error) => Err(error),
    }
}

fn outside() -> Vec<String> {
    vec![Author::Outside.as_str().to_owned()]
}

impl Actor {
    /// Registers a barrier: the next look that begins from now on, and a write-back of all that is applied now; what
    /// was written to replaced files and closed is applied.
    pub(super) async fn wait_for_disk(&mut self, reply: oneshot::Sender<Result<Content, DocError>>) {
        self.look_at_asides().await;
        self.disk.write_now = true;
        self.disk.hurry();
        self.waiters.push(Waiter { position: self.log.position(), after_job: self.disk.jobs, reply });
    }

    /// Starts what is due: a look, a write-back, or a look at replaced files.
    pub(super) async fn work_on_disk(&mut self) {
        let now = Instant::now();
        if self.disk.asides.due().is_some_and(|due| due <= now) {
            self.look_at_asides().await;
        }
        if self.job.is_some() || self.disk.due().is_none_or(|due| due > now) {
            return;
        }
        let suspected = self.disk.suspicion.as_ref().is_some_and(|suspicion| suspicion.look_at <= now);
        let write_due = self.disk.may_write(now)
            && (self.disk.write_now
                || self.disk.dirty_since.is_some_and(|since| {
                    self.disk.last_edit + WRITE_AFTER <= now || since + WRITE_AT_LATEST <= now
                }));
        if write_due {
            self.disk.write_now = false;
            if self.is_on_disk() && !self.needs_normalising {
                self.start_look();
            } else {
                self.start_write_back().await;
            }
        } else if suspected {
            self.start_look();
        }
    }

    pub(super) fn start_look(&mut self) {
        self.disk.start_job();
        let (workspace, path) = (self.context.workspace.clone(), self.path.clone());
        let (version, max_bytes) = (self.disk.version, self.context.max_bytes);
        let writing = Arc::clone(&self.context.writing);
        self.job = Some(Box::pin(async move {
            // A merge that git refuses takes uncommitted work out of the files and puts it back: taken in as it goes, all of
            // it would be the disk's typing, and what somebody deletes meanwhile would come again.
            let calm = writing.try_read_owned();
            match look(&workspace, &path, version, max_bytes).await {
                Ok(Seen::Same) => JobDone::Checked(Ok(Seen::Same)),
                _ if calm.is_err() => JobDone::Held,
                seen => JobDone::Checked(seen),
            }
        }));
    }

    pub(super) async fn on_job(&mut self, done: JobDone) {
        match done {
            JobDone::Checked(Ok(seen)) => self.on_seen(seen).await,
            JobDone::Held => {
                // Its time begins when git is done.
                self.disk.suspicion = None;
                self.disk.suspect(true);
                self.disk.write_now = !self.waiters.is_empty();
                self.disk.not_before(Instant::now() + QUIET / 4);
            }
            JobDone::Wrote(Ok(wrote)) => self.on_wrote(wrote).await,
            JobDone::Wrote(Err(WriteError::Differs(seen, since))) => self.on_differs(seen, since).await,
            JobDone::Wrote(Err(WriteError::Busy(since))) => {
                let now = Instant::now();
                self.disk.dirty_since = since.or(self.disk.dirty_since).or(Some(now));
                self.disk.write_now = !self.waiters.is_empty();
                self.disk.not_before(now + QUIET / 4);
            }
            JobDone::Checked(Err(error)) | JobDone::Wrote(Err(WriteError::Fs(error))) => {
                self.disk_failed(&error.to_string());
            }
            JobDone::Wrote(Err(WriteError::NotInstalled(temp, error))) => {
                // First the intent: a staged file that is gone while its intent stands counts as put in place.
                let forgotten = self.log.commit(Some(self.disk.record()), self.context.clock.now_ms()).await;
                self.answer_committed();
                match forgotten {
                    Ok(()) => self.remove_temp(&temp).await,
                    Err(error) => return self.fail(&error.to_string()),
                }
                match error {
                    FsError::Absent(_) => self.on_differs(Seen::Absent, None).await,
                    error => self.disk_failed(&error.to_string()),
                }
            }
            JobDone::Wrote(Err(WriteError::Unsure(error))) => self.fail(&error),
        }
    }

    pub(super) async fn remove_temp(&mut self, name: &str) {
        if let Err(error) = self.context.workspace.remove_temp(name).await {
            debug!(document.id = %self.id, %error, "could not remove a temporary file");
        }
    }

    /// Whether the file holds all that was applied, in the shape it is to have.
    pub(super) fn is_on_disk(&self) -> bool {
        self.log.position() == self.disk.position && self.disk.wanted.is_none()
    }

    fn disk_failed(&mut self, error: &str) {
        if self.disk.retry.is_none() {
            warn!(document.id = %self.id, "`{}` can't be written or read now, trying again: {error}", self.path);
        }
        metrics::counter!("perch_write_back_failures_total").increment(1);
        self.disk.failed();
        self.disk.dirty_since.get_or_insert_with(Instant::now);
        for waiter in self.waiters.drain(..) {
            waiter.answer(Err(DocError::Disk(error.to_owned())));
        }
    }

    async fn on_differs(&mut self, seen: Seen, since: Option<Instant>) {
        // Still to be written, also where the look finds nothing new: the path may have moved meanwhile.
        self.disk.dirty_since = since.or(self.disk.dirty_since).or_else(|| Some(Instant::now()));
        self.disk.write_now = !self.waiters.is_empty();
        self.on_seen(seen).await;
    }

    async fn on_seen(&mut self, seen: Seen) {
        let now = Instant::now();
        let version = match &seen {
            Seen::Same => {
                self.disk.looked();
                self.disk.retry = None;
                self.settle_waiters();
                return;
            }
            Seen::Bytes(bytes) | Seen::Unfinished(bytes) => Some(heavy(bytes.len(), || Version::of(bytes))),
            Seen::Absent | Seen::TooLarge(_) | Seen::NotAFile => None,
        };
        let (settle, at_latest) = match seen {
            Seen::Absent => (ABSENT_SETTLE, QUIET_AT_LATEST),
            Seen::Unfinished(_) => (UNFINISHED, UNFINISHED_AT_LATEST),
            _ => (QUIET, QUIET_AT_LATEST),
        };
        let suspicion = self.disk.suspicion.get_or_insert(Suspicion {
            first: now,
            last_change: now,
            seen: None,
            has_looked: false,
            is_closed: false,
            look_at: now,
        });
        if !suspicion.has_looked || suspicion.seen != version {
            suspicion.has_looked = true;
            suspicion.seen = version;
            if !suspicion.is_closed || matches!(seen, Seen::Absent) {
                suspicion.last_change = now;
            }
        }
        let has_bytes = matches!(seen, Seen::Bytes(_) | Seen::Unfinished(_));
        // One writer closed it; another may be at work.
        let closed = suspicion.is_closed && matches!(seen, Seen::Bytes(_));
        let is_settled =
            closed || now >= suspicion.last_change + settle || now >= suspicion.first + at_latest;
        // A document does not end over a file that may have come back since.
        if is_settled && (has_bytes || self.disk.heard.is_none()) {
            self.disk.looked();
            self.take_in(seen).await;
        } else {
            let at = (suspicion.last_change + settle).min(suspicion.first + at_latest);
            // A writer that closes the file is heard of; one that ends without a word is looked for.
            suspicion.look_at = at.min(now + QUIET).max(now + QUIET / 4);
        }
    }

    async fn take_in(&mut self, seen: Seen) {
        match seen {
            Seen::Same => {}
            Seen::Bytes(bytes) | Seen::Unfinished(bytes) => {
                if let Err(error) = self.ingest(&bytes, None).await {
                    self.ingest_failed(error).await;
                } else {
                    self.settle_waiters();
                }
            }
            Seen::Absent => {
                self.close_for_good("deleted", code::DELETED, "the file was deleted").await;
                let (path, by) = (self.path.to_string(), outside());
                self.context.events.publish(&Event::FileDeleted { path, by });
            }
            Seen::TooLarge(len_bytes) => {
                self.tell_file(false, outside());
                let reason = format!("the file has grown to {len_bytes} bytes, more than is shared live");
                self.close_for_good("too_large", code::TOO_LARGE, &reason).await;
            }
            Seen::NotAFile => {
                self.tell_file(false, outside());
                self.close_for_good("replaced", code::DELETED, "the file was replaced by something else")
                    .await;
            }
        }
    }

    pub(super) async fn ingest_failed(&mut self, error: DocError) {
        match error {
            DocError::NotText { .. } => {
                self.tell_file(false, outside());
                self.close_for_good("not_text", code::NOT_TEXT, "the file is not UTF-8 text any more").await;
            }
            error => self.fail(&error.to_string()),
        }
    }

    /// Whether the live text is what the disk peer holds.
    fn is_live_on_disk(&self) -> bool {
        let ahead = self.log.position() - self.disk.position;
        usize::try_from(ahead).is_ok_and(|ahead| ahead == self.disk.outside.len())
    }

    /// Takes in what somebody outside wrote: edits on the disk peer, merged into the live document by the CRDT,
    /// durable together with the new disk record before anyone sees them (H4, H7). `after`: where the disk peer
    /// stands once this is in, if a write-back has moved it meanwhile.
    pub(super) async fn ingest(&mut self, bytes: &[u8], after: Option<&mut Wrote>) -> Result<(), DocError> {
        let (text, format) = heavy(bytes.len(), || decode(bytes))
            .map_err(|error| DocError::NotText { path: self.path.clone(), offset: error.offset })?;
        let now_ms = self.context.clock.now_ms();
        let is_new = after.is_none() && self.disk.version.is_none();
        let was_live = after.is_none() && self.is_live_on_disk();
        let before;
        let updates = if was_live {
            let edits = heavy(bytes.len(), || diff(&self.live.text(), &text));
            before = self.parts_before(&edits);
            heavy(bytes.len(), || self.live.edit(&edits)).map_err(|error| DocError::Log(error.to_string()))?
        } else {
            self.log.commit(None, now_ms).await?;
            self.answer_committed();
            let mut peer = self.load_disk_peer().await?;
            let edits = heavy(bytes.len(), || diff(&peer.text(), &text));
            before = self.parts_before(&edits);
            let merge = || {
                let updates = peer.edit(&edits)?;
                for (update, _) in &updates {
                    self.live.apply(update)?;
                }
                Ok(updates)
            };
            heavy(bytes.len(), merge)
                .map_err(|error: crate::crdt::ApplyError| DocError::Log(error.to_string()))?
        };
        metrics::counter!("perch_outside_merges_total").increment(1);
        debug!(document.id = %self.id, updates = updates.len(), "took in an outside change of `{}`", self.path);
        let theirs = match before {
            Some(before) => self.recall(&before, &updates).await,
            None => Vec::new(),
        };
        let positions = self.push_all(&updates, &Author::Outside, &theirs);
        if let Some(wrote) = after {
            self.on_disk_as(wrote);
        } else {
            self.disk.version = Some(Version::of(bytes));
            self.disk.shape = Shape::new(format, &text);
            if was_live {
                self.disk.position = self.log.position();
                self.disk.outside.clear();
            } else {
                self.disk.outside.extend(positions);
            }
        }
        let record = self.disk.record();
        crate::base::fault("logged");
        self.log.commit(Some(record), now_ms).await?;
        crate::base::fault("committed");
        self.answer_committed();
        for (update, _) in &updates {
            self.broadcast_update(None, update);
        }
        self.tell_file(is_new, outside());
        self.disk.retry = None;
        if self.log.position() != self.disk.position {
            self.touched();
        }
        Ok(())
    }

    /// The text's parts, if who typed them matters to an outside change: it takes some away, or may bring some back.
    fn parts_before(&self, edits: &[crate::crdt::Edit]) -> Option<Vec<Run>> {
        let is_back = self.context.back_to.lock().is_some();
        let matters = is_back || !self.disk.taken.is_empty() || edits.iter().any(|edit| edit.delete > 0);
        matters.then(|| heavy(self.live.len_utf16() as usize, || self.live.runs()))
    }

    fn push_all(
        &mut self,
        updates: &[(Bytes, Applied)],
        author: &Author,
        theirs: &[AuthorRange],
    ) -> Vec<i64> {
        let now_ms = self.context.clock.now_ms();
        updates
            .iter()
            .map(|(update, applied)| self.log.push_for(update.clone(), applied, author, theirs, now_ms))
            .collect()
    }

    /// The disk peer, from the log: all up to its position, and the outside updates since.
    async fn load_disk_peer(&mut self) -> Result<SharedText, DocError> {
        let loaded = self
            .context
            .store
            .load(&self.id)
            .await
            .map_err(|error| DocError::Log(error.to_string()))?
            .ok_or(DocError::Closed)?;
        let damaged = || DocError::Log("a row of the log is damaged".into());
        let mut updates: Vec<&[u8]> = vec![&loaded.snapshot];
        for row in &loaded.log {
            let in_row = decode_row(&row.data).ok_or_else(damaged)?;
            for (position, update) in (row.first_position..).zip(in_row) {
                if position <= self.disk.position || self.disk.outside.contains(&position) {
                    updates.push(update);
                }
            }
        }
        heavy(updates.iter().map(|update| update.len()).sum(), || SharedText::load(updates))
            .map_err(|error| DocError::Log(error.to_string()))
    }

    /// Edits of the server's own on the present text: durable first, then seen.
    pub(super) async fn server_edit(
        &mut self,
        edits: &[crate::crdt::Edit],
        author: &Author,
    ) -> Result<(), DocError> {
        let updates = self.live.edit(edits).map_err(|error| DocError::Log(error.to_string()))?;
        if updates.is_empty() {
            return Ok(());
        }
        self.push_all(&updates, author, &[]);
        self.log.commit(None, self.context.clock.now_ms()).await?;
        crate::base::fault("committed");
        self.answer_committed();
        for (update, _) in &updates {
            self.broadcast_update(None, update);
        }
        self.touched();
        Ok(())
    }

    /// Removes what can't survive a round trip through a file.
    pub(super) async fn normalise(&mut self) -> Result<(), DocError> {
        if self.needs_normalising {
            self.needs_normalising = false;
            let edits = normalise(&self.live.text());
            self.server_edit(&edits, &Author::Server).await?;
        }
        Ok(())
    }

    pub(super) async fn write(
        &mut self,
        grant: &WriteGrant,
        base: WriteBase,
        bytes: &[u8],
    ) -> Result<(), DocError> {
        self.check_size(bytes)?;
        let (text, format) = decode(bytes)
            .map_err(|error| DocError::NotText { path: self.path.clone(), offset: error.offset })?;
        self.normalise().await?;
        let present = self.live.text();
        let edits = match base {
            WriteBase::Present => heavy(text.len(), || diff(&present, &text)),
            WriteBase::Version(version, base) => {
                let content = self.content();
                match base {
                    _ if content.version == version => heavy(text.len(), || diff(&present, &text)),
                    Some(base) => heavy(text.len(), || {
                        let edits = rebase(&base, &present, &text);
                        let merged = apply(&present, &edits);
                        self.check_size(&format.follow(&text, &merged).encode(&merged)).map(|()| edits)
                    })?,
                    None => return Err(DocError::VersionUnknown { present: content.version }),
                }
            }
        };
        let is_new = self.disk.version.is_none();
        self.server_edit(&edits, &grant.author()).await?;
        // Line ends and the byte order mark are part of what was written, though not of the text.
        if is_new || (!text.is_empty() && format != self.format_for(&text)) {
            self.disk.wanted = Some(Arc::new(Shape::new(format, &text)));
            self.touched();
        }
        Ok(())
    }

    fn check_size(&self, bytes: &[u8]) -> Result<(), DocError> {
        let (len_bytes, max_bytes) = (bytes.len() as u64, self.context.max_bytes);
        if len_bytes > max_bytes {
            return Err(DocError::TooLarge { path: self.path.clone(), len_bytes, max_bytes });
        }
        Ok(())
    }

    /// What the file holds, or will once what is applied now is on disk.
    pub(super) fn content(&self) -> Content {
        heavy(self.live.len_utf16() as usize, || {
            let text = self.live.text();
            let bytes: Bytes = self.format_for(&text).encode(&text).into();
            let version = Version::of(&bytes);
            self.context.versions.remember(version, &text);
            Content { bytes, version }
        })
    }

    pub(super) fn format_for(&self, text: &str) -> FileFormat {
        self.disk.wanted.as_deref().unwrap_or(&self.disk.shape).format_for(text)
    }

    /// Answers the waiters whose position is on disk and for whom a look began after they asked.
    pub(super) fn settle_waiters(&mut self) {
        if self.waiters.is_empty() {
            return;
        }
        if self.disk.wanted.is_some() {
            self.disk.write_now = true;
            return;
        }
        let jobs = self.disk.jobs;
        let on_disk = if self.is_live_on_disk() {
            self.log.position().max(self.disk.position)
        } else {
            self.disk.position
        };
        let (done, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiters)
            .into_iter()
            .partition(|waiter| waiter.after_job < jobs && waiter.position <= on_disk);
        self.waiters = waiting;
        if !done.is_empty() {
            let content = self.content();
            for waiter in done {
                waiter.answer(Ok(content.clone()));
            }
        }
        self.disk.write_now = !self.waiters.is_empty();
    }
}
