//! Writing the text to the file, and what an interrupted write left.
//!
//! Order: temporary file, fsync → intent → exchange, fsync of the folders → look at what came out → sync record →
//! unlink. The temporary file stays until the sync record is committed, so that after a crash its inode tells whether
//! the exchange happened (H11).

use super::DocError;
use super::actor::Actor;
use super::disk::{JobDone, Seen, WriteError, look};
use crate::branch::versions::Version;
use crate::crdt::FileFormat;
use crate::store::{Append, DiskRecord, Intent};
use crate::workspace::FsError;
use bytes::Bytes;
use tracing::{debug, warn};

/// Rows or bytes of log after which a snapshot replaces them.
const COMPACT_ROWS: usize = 256;
const COMPACT_BYTES: usize = 1024 * 1024;

/// A write-back that reached the file.
#[derive(Clone, Debug)]
pub(super) struct Wrote {
    pub(super) position: i64,
    pub(super) version: Version,
    pub(super) format: FileFormat,
    pub(super) text: String,
    /// The old file, if there was one.
    temp: Option<String>,
    /// What it held.
    came_out: Option<Bytes>,
    /// Whether that was what the disk peer held.
    was_known: bool,
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
        let text = self.live.text();
        let format = self.format_for(&text);
        let bytes = Bytes::from(format.encode(&text));
        let version = Version::of(&bytes);
        let position = self.log.position();
        self.disk.start_job();
        self.disk.written();
        let (workspace, path, writer) =
            (self.context.workspace.clone(), self.path.clone(), self.context.log.clone());
        let (id, max_bytes) = (self.id.clone(), self.context.max_bytes);
        let (known, mut record) = (self.disk.version, self.disk.record());
        self.job = Some(Box::pin(async move {
            let work = async {
                match look(&workspace, &path, known, max_bytes).await.map_err(WriteError::Fs)? {
                    Seen::Same => {}
                    other => return Err(WriteError::Differs(other)),
                }
                let mut wrote =
                    Wrote { position, version, format, text, temp: None, came_out: None, was_known: true };
                if known == Some(version) {
                    return Ok(wrote);
                }
                let staged = workspace.stage(&path, bytes).await.map_err(WriteError::Fs)?;
                crate::base::fault("staged");
                record.intent = Some(Intent {
                    position,
                    hash: version.to_vec(),
                    temp: staged.name.clone(),
                    inode: staged.inode,
                });
                let append = Append { document_id: id, row: None, authors: Vec::new(), disk: Some(record) };
                match writer.append(append).await.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return Err(WriteError::Log(error.to_string())),
                    Err(_) => return Err(WriteError::Log("perch is stopping".into())),
                }
                crate::base::fault("intent");
                let swapped = workspace.install(&staged, &path).await.map_err(WriteError::Fs)?;
                crate::base::fault("exchanged");
                if swapped {
                    let old = workspace.inspect_temp(&staged.name).await.map_err(WriteError::Fs)?;
                    wrote.was_known = old.as_ref().map(|old| Version::of(&old.bytes)) == known;
                    wrote.came_out = old.map(|old| old.bytes);
                    wrote.temp = Some(staged.name);
                }
                Ok(wrote)
            };
            JobDone::Wrote(work.await)
        }));
    }

    /// The file holds our text: take in what came out if it is not what we knew, then record it.
    pub(super) async fn on_wrote(&mut self, wrote: Wrote) {
        let foreign = wrote.came_out.clone().filter(|_| !wrote.was_known);
        let outcome = match foreign {
            Some(bytes) => match self.ingest(&bytes, Some(&wrote)).await {
                // Binary content came out: keep it as it is beside, our text stands.
                Err(DocError::NotText { .. }) => {
                    warn!(document.id = %self.id, "`{}` held bytes that are no text; kept as a draft", self.path);
                    self.keep_draft(0, bytes, "replaced file").await;
                    self.record(&wrote).await
                }
                other => other,
            },
            None => self.record(&wrote).await,
        };
        if let Err(error) = outcome {
            self.fail(&error.to_string());
            return;
        }
        crate::base::fault("recorded");
        metrics::counter!("perch_write_backs_total").increment(1);
        if let Some(name) = &wrote.temp {
            let held = self.context.workspace.has_writers(name).await.unwrap_or(false);
            match &wrote.came_out {
                Some(bytes) if held => self.keep_aside(name.clone(), bytes),
                _ => {
                    if let Err(error) = self.context.workspace.remove_temp(name).await {
                        debug!(%error, "could not remove a replaced file");
                    }
                }
            }
        }
        self.settle_waiters();
        self.compact().await;
    }

    async fn record(&mut self, wrote: &Wrote) -> Result<(), DocError> {
        self.disk.position = wrote.position;
        self.disk.outside.clear();
        self.disk.version = Some(wrote.version);
        self.disk.set_format(wrote.format.clone(), &wrote.text);
        let record = self.disk.record();
        self.log.commit(Some(record), self.context.clock.now_ms()).await?;
        self.answer_committed();
        Ok(())
    }

    /// Replaces the log by a snapshot when it has grown, only where all of it is on disk: past that the disk peer still
    /// needs the rows.
    async fn compact(&mut self) {
        let (rows, bytes) = self.log.weight();
        let all_on_disk = self.disk.position == self.log.position() && self.disk.outside.is_empty();
        if !all_on_disk || (rows < COMPACT_ROWS && bytes < COMPACT_BYTES) {
            return;
        }
        let snapshot = self.live.encode_state();
        let now_ms = self.context.clock.now_ms();
        match self.context.store.compact(&self.id, self.disk.position, &snapshot, now_ms).await {
            Ok(()) => self.log.set_weight(0, 0),
            Err(error) => warn!(document.id = %self.id, %error, "could not compact the log"),
        }
    }

    /// After a load: settles an interrupted write-back, then looks at the file. Runs before anyone can reach the
    /// document (H12).
    pub(super) async fn recover(&mut self, intent: Option<Intent>) -> Result<(), DocError> {
        let disk = |error: FsError| DocError::Disk(error.to_string());
        if let Some(intent) = intent {
            let temp = self.context.workspace.inspect_temp(&intent.temp).await.map_err(disk)?;
            let at_path = self.context.workspace.stat(&self.path).await.map_err(disk)?;
            let happened = match &temp {
                Some(temp) => temp.stat.inode != intent.inode,
                None => at_path.is_some_and(|stat| stat.inode == intent.inode),
            };
            if happened && let Some(version) = Version::from_slice(&intent.hash) {
                let old = temp.as_ref().map(|temp| temp.bytes.clone());
                let wrote = Wrote {
                    position: intent.position,
                    version,
                    format: self.disk.format.clone(),
                    text: self.live.text(),
                    temp: Some(intent.temp.clone()),
                    was_known: old.as_ref().map(|old| Version::of(old)) == self.disk.version,
                    came_out: old,
                };
                self.on_wrote(wrote).await;
            } else {
                let record = DiskRecord { intent: None, ..self.disk.record() };
                self.log.commit(Some(record), self.context.clock.now_ms()).await?;
                self.context.workspace.remove_temp(&intent.temp).await.map_err(disk)?;
            }
        }
        let (workspace, known) = (&self.context.workspace, self.disk.version);
        match look(workspace, &self.path, known, self.context.max_bytes).await.map_err(disk)? {
            Seen::Bytes(bytes) => self.ingest(&bytes, None).await?,
            Seen::Same => {
                if let Ok(Some(file)) = self.context.workspace.read(&self.path, self.context.max_bytes).await
                    && let Ok((text, format)) = crate::crdt::decode(&file.bytes)
                {
                    self.disk.set_format(format, &text);
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

    /// One last write-back when the document is unloaded or perch stops.
    pub(super) async fn flush_before_end(&mut self) {
        for _ in 0..3 {
            if let Some(job) = self.job.take() {
                let done = job.await;
                self.on_job(done).await;
            } else if self.log.position() != self.disk.position {
                self.start_write_back().await;
            } else {
                break;
            }
        }
    }
}
