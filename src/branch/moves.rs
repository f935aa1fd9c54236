//! Renames: a document keeps its generation, its editors stay connected, whoever did the rename.
//!
//! Through perch: planned in the database, done on disk, recorded; after a crash in between the disk tells which it was
//! (see `recover_moves`). From outside: followed once the old path has stayed absent for a while, and only if the new
//! one has no document of its own.
//!
//! While a rename is under way nobody opens a path of the branch (`Hub::tree`), and the open documents that it moves
//! hold still; both last for as long as the disk and the database need.

use super::document::{DocError, Document, Held};
use super::events::{Event, Own};
use super::files::FilesError;
use super::hub::Hub;
use super::members::WriteGrant;
use crate::store::StoreError;
use crate::workspace::{FsError, Kind, RelPath};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::iter;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// A renamed path must stay absent this long to be followed: editors save by renaming the old file to a backup (H9).
/// Shorter than what a document waits before it takes absence for deletion.
const FOLLOW_AFTER: Duration = Duration::from_millis(500);
/// How long an opening waits for a rename to be followed …
const PATIENCE: Duration = Duration::from_secs(2);
/// … and how often it looks once that is due.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Renames from outside that may wait; past it they count as deletion and a new file.
const FOLLOWS: usize = 1_024;

/// How often a rename that was done is recorded again when the database does not answer …
const FINISH_TRIES: usize = 20;
/// … and how long in between.
const FINISH_PAUSE: Duration = Duration::from_millis(500);

/// Renames seen on disk that wait to be followed.
#[derive(Debug, Default)]
pub(super) struct Follows {
    waiting: Mutex<VecDeque<Follow>>,
    something: Notify,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Follow {
    from: RelPath,
    to: RelPath,
    due: Instant,
}

impl Follows {
    /// `from` has become `to`.
    pub(super) fn renamed(&self, from: RelPath, to: &RelPath) {
        let due = Instant::now() + FOLLOW_AFTER;
        {
            let mut waiting = self.waiting.lock();
            // Renamed once more: the document is that of `from`, to which a save by way of another name may just have
            // come, or else the one of where it was before.
            let (earlier, others) = waiting.drain(..).partition::<VecDeque<_>, _>(|follow| follow.to == from);
            *waiting = others;
            for from in iter::once(from).chain(earlier.into_iter().map(|follow| follow.from)) {
                if waiting.len() < FOLLOWS {
                    waiting.push_back(Follow { from, to: to.clone(), due });
                }
            }
        }
        self.something.notify_one();
    }

    /// Something happened at `path`: what was renamed away from there is there again.
    pub(super) fn touched(&self, path: &RelPath) {
        self.waiting.lock().retain(|follow| follow.from != *path);
    }

    /// What a rename that waits, or is being followed, brings to `path`: where it was, and when it is due.
    fn to(&self, path: &RelPath) -> Option<(RelPath, Instant)> {
        let waiting = self.waiting.lock();
        let found = waiting.iter().find(|follow| *path == follow.to || path.is_in(&follow.to));
        found.map(|follow| (follow.from.clone(), follow.due))
    }

    /// It was followed, or was not to be.
    fn done(&self, done: &Follow) {
        self.waiting.lock().retain(|follow| follow != done);
    }

    /// Waits for the next one that is due. It stays until it is done.
    async fn next(&self) -> Follow {
        loop {
            let due = self.waiting.lock().front().map(|follow| follow.due);
            match due {
                None => self.something.notified().await,
                Some(due) => {
                    tokio::time::sleep_until(due).await;
                    let waiting = self.waiting.lock();
                    if let Some(follow) = waiting.front().filter(|follow| follow.due <= Instant::now()) {
                        return follow.clone();
                    }
                }
            }
        }
    }
}

/// One document on the move.
struct Moving {
    row: crate::base::DocumentId,
    from: RelPath,
    to: RelPath,
    held: Option<Held>,
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn log_error(error: StoreError) -> DocError {
    DocError::Log(error.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn disk_error(error: FsError) -> DocError {
    DocError::Disk(error.to_string())
}

impl Hub {
    /// Renames a file, folder or symlink. Documents move with it; what others typed meanwhile is kept.
    ///
    /// # Errors
    /// [`DocError::NotFound`], [`FilesError::Exists`], [`FilesError::IntoItself`].
    pub async fn rename(&self, from: &RelPath, to: &RelPath, grant: &WriteGrant) -> Result<(), FilesError> {
        let _tree = self.tree.write().await;
        // The last part is the thing itself, a symlink too.
        let from = self.workspace().resolve_parent(from).await?;
        let to = self.workspace().resolve_parent(to).await?;
        if from == to {
            return Ok(());
        }
        if to.is_in(&from) {
            return Err(FilesError::IntoItself(from));
        }
        let workspace = self.workspace();
        if workspace.stat(&from).await.map_err(disk_error)?.is_none() {
            return Err(DocError::NotFound(from).into());
        }
        if workspace.stat(&to).await.map_err(disk_error)?.is_some()
            || !self.open_in(Some(&to)).await.is_empty()
        {
            return Err(FilesError::Exists(to));
        }
        self.close_stale_beneath(&to).await?;
        // What is moved is what editors see.
        self.flush_open(&from).await?;
        let mut moving = self.hold_all(&from, &to).await?;
        let rows: Vec<_> = moving.iter().map(|one| (one.row.clone(), one.to.to_string())).collect();
        self.store().plan_moves(&rows).await.map_err(log_error)?;
        crate::base::fault("move planned");
        if let Err(error) = workspace.rename(&from, &to).await {
            self.store().drop_moves(&rows).await.map_err(log_error)?;
            return Err(error.into());
        }
        crate::base::fault("moved");
        self.finish(&rows).await.map_err(log_error)?;
        self.moved(&mut moving);
        let by = grant.by();
        self.events().note_own(&from, Own::Deleted, &by);
        self.events().note_own(&to, Own::MovedHere, &by);
        self.events().publish(&Event::FileRenamed { from: from.to_string(), path: to.to_string(), by });
        info!(branch.id = %self.branch(), documents = moving.len(), "renamed `{from}` to `{to}`");
        Ok(())
    }

    /// Records moves that were done on disk; a database that is away for a moment must not end the documents.
    async fn finish(&self, rows: &[(crate::base::DocumentId, String)]) -> Result<(), StoreError> {
        for _ in 0..FINISH_TRIES {
            match self.store().finish_moves(rows).await {
                Err(StoreError::Unavailable(_)) => tokio::time::sleep(FINISH_PAUSE).await,
                outcome => return outcome,
            }
        }
        self.store().finish_moves(rows).await
    }

    /// Live rows of documents whose file is gone, where something is about to be put.
    async fn close_stale_beneath(&self, path: &RelPath) -> Result<(), DocError> {
        for row in self.store().documents_beneath(self.branch(), path.as_str()).await.map_err(log_error)? {
            self.store().close_document(&row.id, "deleted", None, self.now_ms()).await.map_err(log_error)?;
        }
        Ok(())
    }

    /// Finds all documents at or beneath `from` and makes the open ones hold still.
    async fn hold_all(&self, from: &RelPath, to: &RelPath) -> Result<Vec<Moving>, DocError> {
        let mut moving = Vec::new();
        for row in self.store().documents_beneath(self.branch(), from.as_str()).await.map_err(log_error)? {
            let Ok(path) = row.path.parse::<RelPath>() else { continue };
            let Some(target) = path.moved(from, to) else { continue };
            let held = match self.open_document(&path).await {
                None => None,
                Some(document) => match document.hold().await {
                    Ok(held) => Some(held),
                    // It unloaded just then: as if it had not been open.
                    Err(DocError::Closed) => {
                        document.ended().await;
                        None
                    }
                    Err(error) => return Err(error),
                },
            };
            if held.is_some() {
                self.watch.hold(&target).await;
            }
            moving.push(Moving { row: row.id, from: path, to: target, held });
        }
        Ok(moving)
    }

    /// Tells the open documents where they are now.
    fn moved(&self, moving: &mut [Moving]) {
        for one in moving {
            self.move_slot(&one.from, &one.to);
            if let Some(held) = one.held.take() {
                held.go_on_at(one.to.clone());
            }
        }
    }

    /// Settles renames that a crash interrupted; before anyone can reach the branch.
    pub(super) async fn recover_moves(&self) -> Result<(), StoreError> {
        let mut done = Vec::new();
        let mut not_done = Vec::new();
        for (row, moving_to) in self.store().planned_moves(self.branch()).await? {
            let is_at = async |path: &str| match path.parse::<RelPath>() {
                Ok(path) => self.workspace().stat(&path).await.is_ok_and(|stat| stat.is_some()),
                Err(_) => false,
            };
            let happened = !is_at(&row.path).await && is_at(&moving_to).await;
            if happened { &mut done } else { &mut not_done }.push((row.id, moving_to));
        }
        self.store().drop_moves(&not_done).await?;
        for one in done {
            match self.store().finish_moves(std::slice::from_ref(&one)).await {
                // Something was opened there since: the file is that document's.
                Err(StoreError::Conflict) => {
                    self.store().drop_moves(std::slice::from_ref(&one)).await?;
                    self.store().close_document(&one.0, "replaced", None, self.now_ms()).await?;
                }
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// Follows renames from outside, one after the other, until perch stops or the hub is gone.
    pub(super) async fn follow_all(hub: Weak<Self>, follows: Arc<Follows>, stop: CancellationToken) {
        while let Some(next) = stop.run_until_cancelled(follows.next()).await {
            let Some(hub) = hub.upgrade() else { break };
            if let Err(error) = hub.follow(&next.from, &next.to).await {
                warn!(branch.id = %hub.branch(), "could not follow the rename of `{}`: {error}", next.from);
            }
            follows.done(&next);
        }
    }

    /// Waits for a document that a rename from outside is about to bring to `path`: whoever opened it there before that
    /// would begin another one, and the rename could not be followed.
    pub(super) async fn await_arrival(&self, path: &RelPath) {
        let patience = Instant::now() + PATIENCE;
        while let Some((from, due)) = self.follows.to(path) {
            let now = Instant::now();
            if now > patience || self.open_in(Some(&from)).await.is_empty() {
                return;
            }
            tokio::time::sleep_until(due.max(now + LOOK_AGAIN)).await;
        }
    }

    /// Whether something that was renamed from outside brings a document to `path`. One that never had a file or an edit,
    /// as who comes back to an old path begins it, gives way to it; then there is nothing to be told.
    pub(super) async fn gives_way(&self, path: &RelPath, document: &Document) -> bool {
        match self.follows.to(path) {
            Some((from, _)) => !self.open_in(Some(&from)).await.is_empty() && document.give_way().await,
            None => false,
        }
    }

    /// Ends documents at or beneath a path that never had a file or an edit. `false`: others are there.
    async fn clear_blank(&self, path: &RelPath) -> Result<bool, DocError> {
        for document in self.open_in(Some(path)).await {
            if !document.give_way().await {
                return Ok(false);
            }
        }
        let store = self.store();
        for row in store.documents_beneath(self.branch(), path.as_str()).await.map_err(log_error)? {
            let newest = store.positions(&row.id).await.map_err(log_error)?.map(|(_, newest)| newest);
            if row.disk.synced_hash.is_some() || row.disk.intent.is_some() || newest != Some(0) {
                return Ok(false);
            }
            store.close_document(&row.id, "replaced", None, self.now_ms()).await.map_err(log_error)?;
        }
        Ok(true)
    }

    async fn follow(&self, from: &RelPath, to: &RelPath) -> Result<(), DocError> {
        let _tree = self.tree.write().await;
        let workspace = self.workspace();
        let is_back = workspace.stat(from).await.map_err(disk_error)?.is_some();
        let arrived = workspace.stat(to).await.map_err(disk_error)?;
        let arrived = arrived.is_some_and(|stat| matches!(stat.kind, Kind::File | Kind::Folder));
        let store = self.store();
        if is_back || !arrived {
            return Ok(());
        }
        let brings =
            !store.documents_beneath(self.branch(), from.as_str()).await.map_err(log_error)?.is_empty();
        if !brings || !self.clear_blank(to).await? {
            return Ok(());
        }
        let mut moving = self.hold_all(from, to).await?;
        if moving.is_empty() {
            return Ok(());
        }
        let rows: Vec<_> = moving.iter().map(|one| (one.row.clone(), one.to.to_string())).collect();
        store.finish_moves(&rows).await.map_err(log_error)?;
        self.moved(&mut moving);
        info!(branch.id = %self.branch(), documents = moving.len(), "followed `{from}` to `{to}`");
        Ok(())
    }
}
