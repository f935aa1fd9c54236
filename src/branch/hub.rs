//! One open branch: lookups only, its documents and members have their own types.

use super::document::{self, Content, DocError, Document, OpenContext, WriteBase};
use super::members::{Members, WriteGrant};
use super::versions::{Version, Versions};
use crate::base::{BranchId, Clock, SessionId, Tasks};
use crate::branch::LogWriter;
use crate::crdt::{apply, decode, rebase};
use crate::store::{Store, StoreError};
use crate::workspace::{FsError, RelPath, Workspace};
use bytes::Bytes;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tracing::{info, warn};

/// File events that may wait; past it documents find out at their next look.
const EVENTS: usize = 4_096;
/// The largest file that the file API reads or writes; it is held in memory whole.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

type Slot = Arc<AsyncMutex<Option<Document>>>;

/// See the module's docs.
#[derive(Debug)]
pub struct Hub {
    context: OpenContext,
    members: Members,
    slots: Mutex<HashMap<RelPath, Slot>>,
    /// The branch is going: nothing is opened any more.
    is_closed: AtomicBool,
    _watcher: Option<RecommendedWatcher>,
}

impl Hub {
    /// Opens a branch whose files are at `workspace`, and brings its files up to what was acknowledged before a crash:
    /// nobody can reach the branch before that is done (H12).
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn open(
        branch: BranchId,
        workspace: Workspace,
        store: Store,
        log: LogWriter,
        clock: Clock,
        tasks: Tasks,
        max_bytes: u64,
    ) -> Result<Arc<Self>, StoreError> {
        let stop = tasks.stopping().clone();
        let versions = Arc::new(Versions::default());
        let (sender, mut events) = mpsc::channel(EVENTS);
        let watcher = watch(&workspace, sender);
        let context = OpenContext {
            branch,
            workspace,
            store,
            log,
            clock,
            versions,
            tasks: tasks.clone(),
            stop,
            max_bytes,
        };
        let hub = Arc::new(Self {
            context,
            members: Members::default(),
            slots: Mutex::default(),
            is_closed: AtomicBool::new(false),
            _watcher: watcher,
        });
        let weak = Arc::downgrade(&hub);
        tasks.spawn(async move {
            while let Some((path, is_closed)) = events.recv().await {
                let Some(hub) = weak.upgrade() else { break };
                let slot = hub.slots.lock().get(&path).cloned();
                if let Some(slot) = slot
                    && let Some(document) = slot.lock().await.clone()
                {
                    document.file_event(is_closed).await;
                }
            }
        });
        hub.recover().await?;
        Ok(hub)
    }

    async fn recover(&self) -> Result<(), StoreError> {
        let behind = self.context.store.needs_recovery(&self.context.branch).await?;
        // Temporary files of no write under way: of one that never began, or whose end was recorded.
        let under_way: Vec<_> =
            behind.iter().filter_map(|row| row.disk.intent.as_ref()).map(|intent| &intent.temp).collect();
        for name in self.context.workspace.temps().await.unwrap_or_default() {
            if !under_way.contains(&&name)
                && let Err(error) = self.context.workspace.remove_temp(&name).await
            {
                warn!(branch.id = %self.context.branch, %error, "a temporary file is left over");
            }
        }
        if !behind.is_empty() {
            info!(branch.id = %self.context.branch, documents = behind.len(), "bringing files up to their logs");
        }
        for row in behind {
            let Ok(path) = row.path.parse() else { continue };
            let outcome = match self.document(&path, true).await {
                Ok(document) => document.flush().await.map(|_| ()),
                Err(error) => Err(error),
            };
            if let Err(error) = outcome {
                warn!(branch.id = %self.context.branch, "`{path}` is behind its log: {error}");
            }
        }
        Ok(())
    }

    /// Who is on the branch.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// The branch's files.
    #[must_use]
    pub fn workspace(&self) -> &Workspace {
        &self.context.workspace
    }

    fn slot(&self, path: &RelPath) -> Slot {
        let mut slots = self.slots.lock();
        // What nobody uses and holds nothing open goes, so that the map is bounded by what is open.
        if slots.len() > 1_024 {
            slots.retain(|_, slot| {
                Arc::strong_count(slot) > 1
                    || slot.try_lock().is_ok_and(|held| held.as_ref().is_some_and(|doc| !doc.is_closed()))
            });
        }
        Arc::clone(slots.entry(path.clone()).or_default())
    }

    /// The document of a path, opened once however many ask. `may_create`: an absent path gives an empty document.
    ///
    /// # Errors
    /// [`DocError`] says why the path is no document.
    pub async fn document(&self, path: &RelPath, may_create: bool) -> Result<Document, DocError> {
        let path = self.resolve(path).await?;
        let slot = self.slot(&path);
        let mut held = slot.lock().await;
        self.in_slot(&mut held, &path, may_create).await
    }

    async fn in_slot(
        &self,
        held: &mut Option<Document>,
        path: &RelPath,
        may_create: bool,
    ) -> Result<Document, DocError> {
        if let Some(document) = held.as_ref() {
            if !document.is_closed() {
                return Ok(document.clone());
            }
            document.ended().await;
        }
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(DocError::Closed);
        }
        let document = document::open(&self.context, path, may_create).await?;
        *held = Some(document.clone());
        Ok(document)
    }

    fn held_slots(&self) -> Vec<Slot> {
        self.slots.lock().values().cloned().collect()
    }

    /// Whether no document is open or being opened.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let is_empty = |held: &Option<Document>| held.as_ref().is_none_or(Document::has_ended);
        self.slots.lock().values().all(|slot| slot.try_lock().is_ok_and(|held| is_empty(&held)))
    }

    /// The barrier for all open documents: when it returns, the files hold what was typed before the call.
    ///
    /// # Errors
    /// The first document's that can't be written now.
    pub async fn flush_all(&self) -> Result<(), DocError> {
        for slot in self.held_slots() {
            let document = slot.lock().await.clone();
            let Some(document) = document else { continue };
            match document.flush().await {
                // One that closed has written its file.
                Ok(_) | Err(DocError::Closed | DocError::NotFound(_)) => document_end(&document).await,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ends all members and documents for good: the branch is being removed.
    pub async fn close(&self) {
        self.members.close();
        self.is_closed.store(true, Ordering::SeqCst);
        for slot in self.held_slots() {
            let document = slot.lock().await.take();
            if let Some(document) = document {
                document.deleted().await;
                document.ended().await;
            }
        }
    }

    async fn resolve(&self, path: &RelPath) -> Result<RelPath, DocError> {
        self.context.workspace.resolve(path).await.map_err(|error| DocError::Path(error.to_string()))
    }

    /// The document of a path if it is open, or if it has a history that a write must go through.
    async fn known(&self, held: &mut Option<Document>, path: &RelPath) -> Result<Option<Document>, DocError> {
        let is_open = held.as_ref().is_some_and(|document| !document.is_closed());
        let has_history = is_open
            || self
                .context
                .store
                .live_document(&self.context.branch, path.as_str())
                .await
                .map_err(|error| DocError::Log(error.to_string()))?
                .is_some();
        if !has_history {
            return Ok(None);
        }
        match self.in_slot(held, path, false).await {
            Ok(document) => Ok(Some(document)),
            // Deleted or replaced outside: a plain file, or none.
            Err(DocError::NotFound(_) | DocError::NotText { .. } | DocError::TooLarge { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A file's content as editors and shells see it now. `reader`: remembered as the base of its next write.
    ///
    /// # Errors
    /// [`DocError::NotFound`] and the like.
    pub async fn read(&self, path: &RelPath, reader: Option<&SessionId>) -> Result<Content, DocError> {
        let path = self.resolve(path).await?;
        let slot = self.slot(&path);
        let open = slot.lock().await.clone().filter(|document| !document.is_closed());
        let content = match open {
            Some(document) => document.flush().await?,
            None => self.read_plain(&path).await?.ok_or_else(|| DocError::NotFound(path.clone()))?,
        };
        if let Some(session) = reader {
            self.context.versions.note_read(session, &path, content.version);
        }
        Ok(content)
    }

    async fn read_plain(&self, path: &RelPath) -> Result<Option<Content>, DocError> {
        let file = match self.context.workspace.read(path, MAX_FILE_BYTES).await {
            Ok(file) => file,
            Err(FsError::TooLarge { len_bytes, max_bytes, .. }) => {
                return Err(DocError::TooLarge { path: path.clone(), len_bytes, max_bytes });
            }
            Err(FsError::WrongKind { .. }) => return Err(DocError::NotAFile(path.clone())),
            Err(FsError::OutsideRoot(path)) => return Err(DocError::Path(format!("`{path}` leads outside"))),
            Err(error) => return Err(DocError::Disk(error.to_string())),
        };
        Ok(file.map(|file| {
            let version = Version::of(&file.bytes);
            if let Ok((text, _)) = decode(&file.bytes) {
                self.context.versions.remember(version, &text);
            }
            Content { bytes: file.bytes, version }
        }))
    }

    /// Writes a file. `named`: the version the caller started from; without it the one its session read last, without
    /// that the present one. `true`: the file is new.
    ///
    /// # Errors
    /// [`DocError::VersionUnknown`] when the base is not known any more, and the like.
    pub async fn write(
        &self,
        path: &RelPath,
        grant: &WriteGrant,
        named: Option<Version>,
        bytes: Bytes,
    ) -> Result<(Content, bool), DocError> {
        let path = self.resolve(path).await?;
        let base = named.or_else(|| self.context.versions.last_read(grant.session(), &path));
        let base_text = base.and_then(|version| self.context.versions.text(version));
        let slot = self.slot(&path);
        let mut held = slot.lock().await;
        let (content, is_new) = if let Some(document) = self.known(&mut held, &path).await? {
            drop(held);
            let base = base.map_or(WriteBase::Present, |version| WriteBase::Version(version, base_text));
            let was_there = self.context.workspace.stat(&path).await.is_ok_and(|stat| stat.is_some());
            (document.write(grant.clone(), base, bytes).await?, !was_there)
        } else {
            let present = self.read_plain(&path).await?;
            let bytes = merge_plain(present.as_ref(), base, base_text.as_deref(), bytes)?;
            let is_new = match self.context.workspace.write(&path, bytes.clone()).await {
                Ok(is_new) => is_new,
                Err(FsError::WrongKind { .. }) => return Err(DocError::NotAFile(path)),
                Err(error) => return Err(DocError::Disk(error.to_string())),
            };
            let version = Version::of(&bytes);
            if let Ok((text, _)) = decode(&bytes) {
                self.context.versions.remember(version, &text);
            }
            (Content { bytes, version }, is_new)
        };
        self.context.versions.note_read(grant.session(), &path, content.version);
        Ok((content, is_new))
    }

    /// Deletes a file; its document closes for all.
    ///
    /// # Errors
    /// [`DocError::NotFound`] when there is none.
    pub async fn delete(&self, path: &RelPath, _grant: &WriteGrant) -> Result<(), DocError> {
        let path = self.resolve(path).await?;
        let slot = self.slot(&path);
        let mut held = slot.lock().await;
        if let Some(document) = self.known(&mut held, &path).await? {
            document.deleted().await;
            *held = None;
        }
        match self.context.workspace.stat(&path).await {
            Ok(Some(_)) => self
                .context
                .workspace
                .remove_file(&path)
                .await
                .map_err(|error| DocError::Disk(error.to_string())),
            Ok(None) => Err(DocError::NotFound(path)),
            Err(error) => Err(DocError::Disk(error.to_string())),
        }
    }
}

/// Waits for the end of a document that takes commands no more.
async fn document_end(document: &Document) {
    if document.is_closed() {
        document.ended().await;
    }
}

/// What a write to a file that is no document puts there: merged where the caller started from another text.
fn merge_plain(
    present: Option<&Content>,
    base: Option<Version>,
    base_text: Option<&str>,
    bytes: Bytes,
) -> Result<Bytes, DocError> {
    let (Some(present), Some(base)) = (present, base) else { return Ok(bytes) };
    if present.version == base || present.version == Version::of(&bytes) {
        return Ok(bytes);
    }
    let unknown = || DocError::VersionUnknown { present: present.version };
    let base_text = base_text.ok_or_else(unknown)?;
    let (now, _) = decode(&present.bytes).map_err(|_| unknown())?;
    let (new, format) = decode(&bytes).map_err(|_| unknown())?;
    let merged = apply(&now, &rebase(base_text, &now, &new));
    Ok(format.follow(&new, &merged).encode(&merged).into())
}

/// Watches the workspace. Without a watch (too many folders) documents find changes when they are read or written.
fn watch(workspace: &Workspace, sender: mpsc::Sender<(RelPath, bool)>) -> Option<RecommendedWatcher> {
    use notify::event::{AccessKind, AccessMode, ModifyKind};
    let root = workspace.folder().to_owned();
    let folder = root.clone();
    let handler = move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return };
        let is_closed = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(_)) => true,
            // Opens and reads are events too, our own among them.
            EventKind::Access(_) => return,
            _ => false,
        };
        for path in event.paths {
            let Ok(relative) = path.strip_prefix(&root) else { continue };
            let Some(path) = relative.to_str().and_then(|text| text.parse().ok()) else { continue };
            // A full queue is made up for by the look before each write-back and read.
            let _ = sender.try_send((path, is_closed));
        }
    };
    let started = notify::recommended_watcher(handler)
        .and_then(|mut watcher| watcher.watch(&folder, RecursiveMode::Recursive).map(|()| watcher));
    started
        .inspect_err(|error| warn!(%error, "the workspace can't be watched; outside changes are seen late"))
        .ok()
}
