//! One open branch: lookups only, its documents and members have their own types.

use super::document::{self, Content, DocError, Document, OpenContext, WriteBase};
use super::events::{Event, Events, Own, Seat};
use super::members::{Member, Members, WriteGrant};
use super::versions::{Version, Versions};
use super::watch::{Quiet, Sign, Signs, Watch, watch};
use crate::base::{BranchId, Clock, SessionId, Tasks};
use crate::branch::LogWriter;
use crate::crdt::{apply, decode, rebase};
use crate::store::{SessionRow, Store, StoreError};
use crate::workspace::{FsError, Kind, RelPath, Workspace};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;
use tracing::{info, warn};

/// The largest file that the file API reads or writes; it is held in memory whole.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

type Slot = Arc<AsyncMutex<Option<Document>>>;

/// See the module's docs.
#[derive(Debug)]
pub struct Hub {
    pub(super) context: OpenContext,
    members: Members,
    slots: Mutex<HashMap<RelPath, Slot>>,
    _watch: Watch,
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
        let (watch, signs) = watch(&workspace);
        let events = Events::new(clock.clone());
        let context = OpenContext {
            branch,
            workspace,
            store,
            log,
            clock,
            versions,
            events,
            tasks: tasks.clone(),
            stop,
            max_bytes,
        };
        let hub =
            Arc::new(Self { context, members: Members::default(), slots: Mutex::default(), _watch: watch });
        let weak = Arc::downgrade(&hub);
        tasks.spawn(Self::hear(weak, signs));
        hub.recover().await?;
        Ok(hub)
    }

    /// Hands what the watcher sees to the open documents; of other paths it tells the listeners itself.
    async fn hear(hub: Weak<Self>, mut signs: Signs) {
        let mut quiet = Quiet::default();
        loop {
            let due = quiet.due();
            let sign = tokio::select! {
                sign = signs.next() => match sign {
                    Some(sign) => Some(sign),
                    None => return,
                },
                () = async {
                    match due {
                        Some(due) => tokio::time::sleep_until(due).await,
                        None => std::future::pending().await,
                    }
                } => None,
            };
            let Some(hub) = hub.upgrade() else { return };
            if signs.overflowed() {
                quiet.clear();
                for document in hub.open_documents().await {
                    document.file_event(false).await;
                }
                hub.events().publish(&Event::Reset);
            }
            match sign {
                // Told besides its two halves, which documents have heard.
                Some((path, sign)) => {
                    let is_closed = matches!(sign, Sign::Closed | Sign::MovedHere);
                    match hub.open_document(&path).await {
                        Some(document) if !matches!(sign, Sign::MovedFrom(_)) => {
                            document.file_event(is_closed).await;
                        }
                        Some(_) => {}
                        None => quiet.note(path, &sign, Instant::now()),
                    }
                }
                None => quiet.tell(hub.workspace(), hub.events(), Instant::now()).await,
            }
        }
    }

    async fn open_document(&self, path: &RelPath) -> Option<Document> {
        let slot = self.slots.lock().get(path).cloned()?;
        let held = slot.lock().await;
        held.clone().filter(|document| !document.is_closed())
    }

    async fn open_documents(&self) -> Vec<Document> {
        let slots: Vec<Slot> = self.slots.lock().values().cloned().collect();
        let mut open = Vec::new();
        for slot in slots {
            open.extend(slot.lock().await.clone().filter(|document| !document.is_closed()));
        }
        open
    }

    /// What happens on the branch.
    #[must_use]
    pub fn events(&self) -> &Arc<Events> {
        &self.context.events
    }

    /// Counts a member as present, for listeners, as long as the seat lives.
    #[must_use]
    pub fn sit(&self, member: &Member) -> Seat {
        self.context.events.sit(member.session(), &member.standing().name)
    }

    /// Makes a changed session row felt on everything that its member holds open, and tells the listeners.
    pub fn session_changed(&self, row: &SessionRow) {
        self.members.changed(row);
        let session = row.id.clone();
        self.context.events.publish(&match row.ended_at_ms {
            Some(_) => Event::SessionEnded { session },
            None => Event::SessionChanged { session },
        });
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
        let document = document::open(&self.context, path, may_create).await?;
        *held = Some(document.clone());
        Ok(document)
    }

    pub(super) async fn resolve(&self, path: &RelPath) -> Result<RelPath, DocError> {
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
        let base = base.map(|version| (version, self.context.versions.text(version)));
        self.write_from(&path, grant, base, bytes).await
    }

    /// Writes the file of a resolved path from a base and its text, where that is known; from the present text
    /// without one.
    pub(super) async fn write_from(
        &self,
        path: &RelPath,
        grant: &WriteGrant,
        base: Option<(Version, Option<Arc<str>>)>,
        bytes: Bytes,
    ) -> Result<(Content, bool), DocError> {
        let slot = self.slot(path);
        let mut held = slot.lock().await;
        let (content, is_new) = if let Some(document) = self.known(&mut held, path).await? {
            drop(held);
            let base = base.map_or(WriteBase::Present, |(version, text)| WriteBase::Version(version, text));
            let was_there = self.context.workspace.stat(path).await.is_ok_and(|stat| stat.is_some());
            (document.write(grant.clone(), base, bytes).await?, !was_there)
        } else {
            let present = self.read_plain(path).await?;
            let (base, base_text) = base.map_or((None, None), |(version, text)| (Some(version), text));
            let bytes = merge_plain(present.as_ref(), base, base_text.as_deref(), bytes)?;
            let is_new = match self.context.workspace.write(path, bytes.clone()).await {
                Ok(is_new) => is_new,
                Err(FsError::WrongKind { .. }) => return Err(DocError::NotAFile(path.clone())),
                Err(error) => return Err(DocError::Disk(error.to_string())),
            };
            let version = Version::of(&bytes);
            if let Ok((text, _)) = decode(&bytes) {
                self.context.versions.remember(version, &text);
            }
            let by = vec![grant.session().to_string()];
            self.context.events.note_own(path, Own::Wrote(version), &by);
            self.context.events.publish(&if is_new {
                Event::FileCreated { path: path.to_string(), kind: Kind::File, by }
            } else {
                Event::FileChanged { path: path.to_string(), by }
            });
            (Content { bytes, version }, is_new)
        };
        self.context.versions.note_read(grant.session(), path, content.version);
        Ok((content, is_new))
    }

    /// Deletes a file; its document closes for all.
    ///
    /// # Errors
    /// [`DocError::NotFound`] when there is none.
    pub async fn delete(&self, path: &RelPath, grant: &WriteGrant) -> Result<(), DocError> {
        let path = self.resolve(path).await?;
        let slot = self.slot(&path);
        let mut held = slot.lock().await;
        if let Some(document) = self.known(&mut held, &path).await? {
            document.deleted().await;
            *held = None;
        }
        match self.context.workspace.stat(&path).await {
            Ok(Some(_)) => {
                let removed = self.context.workspace.remove_file(&path).await;
                removed.map_err(|error| DocError::Disk(error.to_string()))?;
                let by = vec![grant.session().to_string()];
                self.context.events.note_own(&path, Own::Deleted, &by);
                self.context.events.publish(&Event::FileDeleted { path: path.to_string(), by });
                Ok(())
            }
            Ok(None) => Err(DocError::NotFound(path)),
            Err(error) => Err(DocError::Disk(error.to_string())),
        }
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
