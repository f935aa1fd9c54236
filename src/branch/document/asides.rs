//! Replaced files that somebody still has open: what is written to them late is merged, once.
//!
//! Such a file keeps its temporary name, and the database keeps its base: its bytes as far as they are in the document.
//! Both last from the transaction that records the write-back to the one that logs what was added since, so perch may
//! be killed at any moment. The base is in memory only while it is compared.

use super::actor::Actor;
use super::disk::QUIET;
use super::{Author, DocError};
use crate::base::heavy;
use crate::crdt::{decode, rebase};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::Instant;

/// Files that are watched for late writes; past it the oldest is looked at once more and dropped.
const MAX_ASIDE: usize = 16;
/// How long one is watched, counted anew when its document is loaded; a reader such as `tail -f` may hold it for ever.
const ASIDE_FOR: Duration = Duration::from_secs(600);

/// A replaced file that somebody still had open.
#[derive(Debug)]
struct Aside {
    name: String,
    since: Instant,
}

/// Those of one document, the oldest first.
#[derive(Debug)]
pub(super) struct Asides {
    files: Vec<Aside>,
    look_at: Instant,
}

impl Asides {
    /// Of the temporary files of these names.
    pub(super) fn new(names: Vec<String>) -> Self {
        let now = Instant::now();
        let files = names.into_iter().map(|name| Aside { name, since: now }).collect();
        Self { files, look_at: now }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub(super) fn holds(&self, name: &str) -> bool {
        self.files.iter().any(|aside| aside.name == name)
    }

    /// When to look at them; never without any.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.is_empty()).then_some(self.look_at)
    }
}

impl Actor {
    /// Keeps a replaced file that somebody still has open; durable with the next commit.
    pub(super) fn keep_aside(&mut self, name: &str, base: Bytes) {
        self.log.keep_aside(name, base);
        self.disk.asides.files.push(Aside { name: name.to_owned(), since: Instant::now() });
        self.disk.asides.look_at = Instant::now() + QUIET;
    }

    /// Takes in what was written to replaced files since, of those that nobody has open any more.
    pub(super) async fn look_at_asides(&mut self) {
        self.disk.asides.look_at = Instant::now() + QUIET;
        let too_many = self.disk.asides.files.len().saturating_sub(MAX_ASIDE);
        for (index, aside) in std::mem::take(&mut self.disk.asides.files).into_iter().enumerate() {
            let is_last_look = index < too_many || aside.since.elapsed() > ASIDE_FOR;
            // Asked before it is read: what nobody has open and no path leads to is final.
            let is_held = self.context.workspace.has_writers(&aside.name).await.unwrap_or(true);
            if is_held && !is_last_look {
                self.disk.asides.files.push(aside);
                continue;
            }
            if let Err(error) = self.take_in_aside(&aside.name).await {
                self.fail(&error.to_string());
                return;
            }
            self.remove_temp(&aside.name).await;
        }
    }

    /// Logs what was added to a replaced file, and in the same transaction forgets it.
    async fn take_in_aside(&mut self, name: &str) -> Result<(), DocError> {
        let file = self.context.workspace.inspect_temp(name).await;
        let file = file.map_err(|error| DocError::Disk(error.to_string()))?;
        let base = self.context.store.aside_base(&self.id, name).await;
        let base = base.map_err(|error| DocError::Log(error.to_string()))?;
        let changed = base.zip(file).filter(|(base, file)| *base != file.bytes);
        let edits = match changed.map(|(base, file)| (decode(&base), decode(&file.bytes), file.bytes)) {
            None => Vec::new(),
            Some((Ok((base, _)), Ok((text, _)), _)) => {
                heavy(text.len(), || rebase(&base, &self.live.text(), &text))
            }
            Some((_, _, bytes)) => {
                self.keep_draft(0, bytes, "replaced file").await;
                Vec::new()
            }
        };
        self.log.forget_aside(name);
        self.server_edit(&edits, &Author::Outside).await?;
        // Where that was no edit.
        self.log.commit(None, self.context.clock.now_ms()).await?;
        self.answer_committed();
        Ok(())
    }

    /// Gives up what is still written to replaced files: the document has ended for good.
    pub(super) async fn drop_asides(&mut self) {
        for aside in std::mem::take(&mut self.disk.asides.files) {
            self.remove_temp(&aside.name).await;
        }
    }
}
