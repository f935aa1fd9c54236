//! Writing the text to the file, and what an interrupted write left.
//!
//! Order: temporary file, fsync → intent → exchange, fsync of the folders → look at what came out → sync record →
//! unlink. The temporary file stays until the sync record is committed, so that after a crash its inode tells whether
//! the exchange happened (H11).

use super::DocError;
use super::actor::Actor;
use super::disk::{
    JobDone, OVERDUE, QUIET, QUIET_AT_LATEST, Seen, Shape, UNFINISHED, UNFINISHED_AT_LATEST, WriteError, look,
};
use crate::base::heavy;
use crate::branch::events::Own;
use crate::branch::versions::Version;
use crate::store::{Append, DiskRecord, Intent};
use crate::workspace::{FsError, Workspace};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// How long a write-back waits for a git that somebody runs in a shell.
const GIT_PATIENCE: Duration = Duration::from_secs(30);

/// A write-back that reached the file.
#[derive(Debug)]
pub(super) struct Wrote {
    pub(super) position: i64,
    /// When the oldest edit in it that was not in the file came.
    since: Option<Instant>,
    pub(super) version: Version,
    pub(super) shape: Shape,
    /// What was wanted of the shape when it began.
    wanted: Option<Arc<Shape>>,
    /// The state at `position`, where the log has grown so long that it is due to replace it.
    snapshot: Option<Bytes>,
    /// The old file, if there was one.
    temp: Option<String>,
    /// What it held.
    came_out: Option<Bytes>,
    /// Whether that was what the disk peer held.
    was_known: bool,
    /// Somebody still had it open when it was read; otherwise it can't change any more.
    is_held: bool,
}

/// Waits for a git in somebody's shell that is about to write its index: it has looked at the file, or will, and would
/// replace what is written now without another look. What it has replaced comes out of the exchange. One that has written
/// it and waits for a person, as for the message of `commit -a`, has closed it, and so has one that was killed.
async fn git_is_done(workspace: &Workspace) {
    let patience = Instant::now() + GIT_PATIENCE;
    while is_git_at_work(workspace).await && Instant::now() < patience {
        tokio::time::sleep(QUIET / 10).await;
    }
}

/// Whether a git has the index open to write it.
pub(super) async fn is_git_at_work(workspace: &Workspace) -> bool {
    matches!(workspace.git_lock("index.lock").await, Ok(Some(lock)) if lock.is_open)
}

impl Actor {
    /// Writes the text at a committed position (H3).
    pub(super) async fn start_write_back(&mut self) {
        let prepared = async {
            self.normalise().await?;
            self.log.commit(None, self.context.clock.now_ms()).await
        }
        .await;
        if let Err(error) = prepared {
            self.fail(&error.to_string());
            return;
        }
        self.answer_committed();
        let (bytes, mut wrote) = heavy(self.live.len_utf16() as usize, || {
            let text = self.live.text();
            let format = self.format_for(&text);
            let bytes = Bytes::from(format.encode(&text));
            let wrote = Wrote {
                position: self.log.position(),
                since: self.disk.dirty_since,
                version: Version::of(&bytes),
                shape: Shape::new(format, &text),
                wanted: self.disk.wanted.clone(),
                snapshot: self.snapshot_if_due(),
                temp: None,
                came_out: None,
                was_known: true,
                is_held: false,
            };
            (bytes, wrote)
        });
        // A writer that is at the file would go on at the replaced one. Who waits for the barrier waits less for it.
        let patience = if self.waiters.is_empty() { UNFINISHED_AT_LATEST } else { UNFINISHED };
        let since = self.disk.dirty_since;
        let is_patient = since.is_some_and(|since| since.elapsed() < patience);
        // A file that changes faster than its changes are taken in.
        let is_overdue = since.is_some_and(|since| since.elapsed() >= OVERDUE);
        self.disk.start_job();
        self.disk.written();
        let (workspace, path, writer) =
            (self.context.workspace.clone(), self.path.clone(), self.context.log.clone());
        let (id, max_bytes) = (self.id.clone(), self.context.max_bytes);
        let (known, mut record) = (self.disk.version, self.disk.record());
        let writing = Arc::clone(&self.context.writing);
        self.job = Some(Box::pin(async move {
            let work = async {
                let Ok(_writing) = writing.try_read_owned() else { return Err(WriteError::Busy(since)) };
                match look(&workspace, &path, known, max_bytes).await.map_err(WriteError::Fs)? {
                    Seen::Same if known == Some(wrote.version) => return Ok(wrote),
                    Seen::Same => {}
                    // What comes out is taken in then.
                    Seen::Bytes(bytes) if is_overdue && crate::crdt::decode(&bytes).is_ok() => {}
                    other => return Err(WriteError::Differs(other, since)),
                }
                if is_patient && workspace.is_being_written(&path).await.map_err(WriteError::Fs)? {
                    return Err(WriteError::Busy(since));
                }
                let staged = workspace.stage(&path, bytes).await.map_err(WriteError::Fs)?;
                crate::base::fault("staged");
                record.intent = Some(Intent {
                    position: wrote.position,
                    hash: wrote.version.to_vec(),
                    temp: staged.name.clone(),
                    inode: staged.inode,
                });
                let append = Append {
                    document_id: id,
                    row: None,
                    authors: Vec::new(),
                    changes: Vec::new(),
                    asides: Vec::new(),
                    disk: Some(record),
                };
                match writer.append(append).await.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return Err(WriteError::Unsure(error.to_string())),
                    Err(_) => return Err(WriteError::Unsure("perch is stopping".into())),
                }
                crate::base::fault("intent");
                git_is_done(&workspace).await;
                // A file that was there and was moved or removed since the look is not brought back.
                let installed = if known.is_some() {
                    workspace.install_over(&staged, &path).await
                } else {
                    workspace.install(&staged, &path).await
                };
                let swapped = match installed {
                    Ok(swapped) => swapped,
                    Err(error) => {
                        let temp = workspace.inspect_temp(&staged.name).await;
                        let is_there =
                            temp.is_ok_and(|temp| temp.is_some_and(|t| t.stat.inode == staged.inode));
                        return Err(if is_there {
                            WriteError::NotInstalled(staged.name, error)
                        } else {
                            WriteError::Unsure(error.to_string())
                        });
                    }
                };
                crate::base::fault("exchanged");
                if swapped {
                    let patience = Instant::now() + QUIET_AT_LATEST;
                    loop {
                        // Asked before it is read: what nobody has open and no path leads to is final.
                        wrote.is_held = workspace.has_writers(&staged.name).await.unwrap_or(false);
                        let old = workspace.inspect_temp(&staged.name).await;
                        let old = old.map_err(|error| WriteError::Unsure(error.to_string()))?;
                        wrote.was_known = old.as_ref().map(|old| Version::of(&old.bytes)) == known;
                        wrote.came_out = old.map(|old| old.bytes);
                        // H8: a writer that was in the middle of the file when it was replaced may finish.
                        if wrote.was_known || !wrote.is_held || Instant::now() > patience {
                            break;
                        }
                        tokio::time::sleep(QUIET / 4).await;
                    }
                    wrote.temp = Some(staged.name);
                }
                Ok(wrote)
            };
            JobDone::Wrote(work.await)
        }));
    }

    /// The state, if the log has grown so long that it is due to replace it.
    fn snapshot_if_due(&mut self) -> Option<Bytes> {
        if !self.log.is_long() {
            return None;
        }
        let snapshot = self.live.encode_checked();
        if snapshot.is_none() {
            // A forged update that the look-ups did not tell; the rows in their order give the text as it is.
            warn!(document.id = %self.id, "the state reads back differently; the log is kept whole");
            self.log.was_cut(usize::MAX);
        }
        snapshot
    }

    /// The file holds our text: take in what came out if it is not what we knew, then record it.
    pub(super) async fn on_wrote(&mut self, mut wrote: Wrote) {
        let (before, version) = (self.disk.version, wrote.version);
        let foreign = wrote.came_out.clone().filter(|_| !wrote.was_known);
        // What came out lacks in the file until that is written once more.
        self.disk.write_now |= foreign.is_some();
        let outcome = match foreign {
            Some(bytes) => match self.ingest(&bytes, Some(&mut wrote)).await {
                // Binary content came out: keep it as it is beside, our text stands.
                Err(DocError::NotText { .. }) => {
                    warn!(document.id = %self.id, "`{}` held bytes that are no text; kept as a draft", self.path);
                    self.keep_draft(0, bytes, "replaced file").await;
                    self.record(&mut wrote).await
                }
                other => other,
            },
            None => self.record(&mut wrote).await,
        };
        if let Err(error) = outcome {
            self.fail(&error.to_string());
            return;
        }
        crate::base::fault("recorded");
        metrics::counter!("perch_write_backs_total").increment(1);
        if let Some(since) = wrote.since {
            metrics::histogram!("perch_write_back_lag_seconds").record(since.elapsed().as_secs_f64());
        }
        if before != Some(version) {
            let by = self.log.changes.take_unwritten();
            self.context.events.note_own(&self.path, Own::Wrote(version), &by);
            self.tell_file(before.is_none(), by);
        }
        if let Some(name) = wrote.temp.filter(|name| !self.disk.asides.holds(name)) {
            self.remove_temp(&name).await;
        }
        self.settle_waiters();
        if let Some(snapshot) = wrote.snapshot {
            self.compact(wrote.position, &snapshot).await;
        }
    }

    /// The disk peer stands where a write-back has put it. Called right before that is committed: what happens to a
    /// replaced file that is still open is then told by its record alone.
    pub(super) fn on_disk_as(&mut self, wrote: &mut Wrote) {
        self.disk.position = wrote.position;
        self.disk.outside.clear();
        self.disk.version = Some(wrote.version);
        self.disk.shape = std::mem::take(&mut wrote.shape);
        let satisfied = |wanted: &Arc<Shape>| wrote.wanted.as_ref().is_some_and(|of| Arc::ptr_eq(of, wanted));
        if self.disk.wanted.as_ref().is_some_and(satisfied) {
            self.disk.wanted = None;
        }
        if let (true, Some(name), Some(bytes)) = (wrote.is_held, &wrote.temp, &wrote.came_out) {
            self.keep_aside(name, bytes.clone());
        }
    }

    async fn record(&mut self, wrote: &mut Wrote) -> Result<(), DocError> {
        self.on_disk_as(wrote);
        let record = self.disk.record();
        self.log.commit(Some(record), self.context.clock.now_ms()).await?;
        self.answer_committed();
        Ok(())
    }

    /// Replaces the log up to where the file now is by the state there. Not past it: the disk peer needs those rows.
    async fn compact(&mut self, position: i64, snapshot: &[u8]) {
        let now_ms = self.context.clock.now_ms();
        match self.context.store.compact(&self.id, position, snapshot, now_ms).await {
            Ok(()) => self.log.was_cut(snapshot.len()),
            Err(error) => warn!(document.id = %self.id, %error, "could not compact the log"),
        }
    }

    /// After a load: settles an interrupted write-back, then looks at the file. Runs before anyone can reach the
    /// document (H12).
    pub(super) async fn recover(&mut self, intent: Option<Intent>) -> Result<(), DocError> {
        let disk = |error: FsError| DocError::Disk(error.to_string());
        if let Some(intent) = intent {
            let is_held = self.context.workspace.has_writers(&intent.temp).await.unwrap_or(false);
            let temp = self.context.workspace.inspect_temp(&intent.temp).await.map_err(disk)?;
            let happened = match &temp {
                Some(temp) => temp.stat.inode != intent.inode,
                // It is durable before its intent and leaves its folder by being put in place, unless somebody
                // cleared that folder: then the file is what it was.
                None => !matches!(self.look_now().await.map_err(disk)?, Seen::Same),
            };
            if happened && let Some(version) = Version::from_slice(&intent.hash) {
                let old = temp.as_ref().map(|temp| temp.bytes.clone());
                let wrote = Wrote {
                    position: intent.position,
                    since: None,
                    version,
                    // Read below from the file itself.
                    shape: Shape::default(),
                    wanted: None,
                    snapshot: None,
                    temp: Some(intent.temp.clone()),
                    was_known: old.as_ref().map(|old| Version::of(old)) == self.disk.version,
                    came_out: old,
                    is_held,
                };
                self.on_wrote(wrote).await;
                if self.has_failed() {
                    return Err(DocError::Failed);
                }
            } else {
                let record = DiskRecord { intent: None, ..self.disk.record() };
                self.log.commit(Some(record), self.context.clock.now_ms()).await?;
                self.context.workspace.remove_temp(&intent.temp).await.map_err(disk)?;
            }
        }
        match self.look_until_finished().await.map_err(disk)? {
            Seen::Bytes(bytes) | Seen::Unfinished(bytes) => self.ingest(&bytes, None).await?,
            Seen::Same => {
                if let Ok(Some(file)) = self.context.workspace.read(&self.path, self.context.max_bytes).await
                    && let Ok((text, format)) = crate::crdt::decode(&file.bytes)
                {
                    self.disk.shape = Shape::new(format, &text);
                }
            }
            Seen::Absent | Seen::TooLarge(_) | Seen::NotAFile => self.disk.suspect(false),
        }
        if self.log.position() != self.disk.position {
            self.needs_normalising = true;
            self.touched();
        }
        Ok(())
    }

    async fn look_now(&mut self) -> Result<Seen, FsError> {
        look(&self.context.workspace, &self.path, self.disk.version, self.context.max_bytes).await
    }

    /// Looks at the file; one that somebody is writing, and git that changes files, is waited for, as later looks do.
    async fn look_until_finished(&mut self) -> Result<Seen, FsError> {
        let began = Instant::now();
        let (mut last, mut last_change) = (None, began);
        loop {
            let (seen, is_calm) = {
                let calm = Arc::clone(&self.context.writing).try_read_owned();
                (self.look_now().await?, calm.is_ok())
            };
            let is_late = began.elapsed() >= UNFINISHED_AT_LATEST;
            if !is_calm && !is_late && !matches!(seen, Seen::Same) {
                tokio::time::sleep(QUIET / 4).await;
                continue;
            }
            let Seen::Unfinished(bytes) = &seen else { return Ok(seen) };
            let version = Some(heavy(bytes.len(), || Version::of(bytes)));
            if last != version {
                (last, last_change) = (version, Instant::now());
            }
            if last_change.elapsed() >= UNFINISHED || is_late {
                return Ok(seen);
            }
            tokio::time::sleep(QUIET / 4).await;
        }
    }

    /// One last write-back when the document is unloaded or perch stops.
    pub(super) async fn flush_before_end(&mut self) {
        self.look_at_asides().await;
        for _ in 0..3 {
            if let Some(job) = self.job.take() {
                let done = job.await;
                self.on_job(done).await;
            } else if !self.is_on_disk() {
                // There is no time to wait for a writer.
                self.disk.dirty_since = None;
                self.start_write_back().await;
            } else {
                break;
            }
        }
    }
}
