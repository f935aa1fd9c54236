//! One open branch: lookups only, its documents and members have their own types.

use super::document::{self, Content, DocError, Document, OpenContext, WriteBase};
use super::events::{Event, Events, Own};
use super::members::{Member, Members, NotMoved, Seat, WriteGrant};
use super::moves::Follows;
use super::plain;
use super::ports::Ports;
use super::registry::BranchOptions;
use super::terminals::Terminals;
use super::versions::{Version, Versions};
use super::watch::{Quiet, Seen, Sign, Signs, Watch, Watcher};
use crate::audit::{Audit, By, Noted};
use crate::base::{BranchId, Clock, SessionId, Tasks};
use crate::branch::LogWriter;
use crate::crdt::decode;
use crate::egress;
use crate::sandbox::{Network, NetworkError, Places};
use crate::store::{SessionRow, Store, StoreError};
use crate::workspace::{FsError, Kind, RelPath, Workspace};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use tokio::sync::{
    Mutex as AsyncMutex, OnceCell, OwnedMutexGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard,
    OwnedSemaphorePermit, RwLock, Semaphore,
};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{info, warn};

/// How long sessions' processes may take to end when their branch is removed.
const RUNNERS_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);
/// The largest file that the file API reads or writes; it is held in memory whole.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// Requests and sockets of previews of one branch at once.
const VISITS: usize = 512;
/// Archives of one branch that are sent at once: each holds some files in memory.
const ARCHIVES: usize = 4;

/// A request or socket under way to what a branch serves: it keeps the branch open, and its place among 512.
#[derive(Debug)]
pub struct Visit {
    hub: Arc<Hub>,
    _place: OwnedSemaphorePermit,
}

impl Visit {
    /// The branch.
    #[must_use]
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }
}

/// See [`Hub::back_to`].
#[derive(Debug)]
pub struct BackTo(Arc<Mutex<Option<i64>>>);

impl Drop for BackTo {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

pub(super) type Slot = Arc<AsyncMutex<Option<Document>>>;

/// A resolved path while something is opened or written there: nobody else does, and no path of the branch moves.
pub(super) struct Place {
    pub(super) path: RelPath,
    pub(super) held: OwnedMutexGuard<Option<Document>>,
    _tree: OwnedRwLockReadGuard<()>,
}

/// What all branches of a perch share.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) log: LogWriter,
    pub(super) audit: Audit,
    pub(super) clock: Clock,
    pub(super) tasks: Tasks,
    pub(super) watcher: Arc<Watcher>,
}

/// How long after git's first write in a row listeners are told.
const GIT_QUIET: std::time::Duration = std::time::Duration::from_millis(100);

/// See the module's docs.
#[derive(Debug)]
pub struct Hub {
    pub(super) context: OpenContext,
    audit: Audit,
    members: Members,
    terminals: Terminals,
    pub(super) slots: Mutex<HashMap<RelPath, Slot>>,
    /// Held for reading while a path is resolved and its document opened, for writing while paths move.
    pub(super) tree: Arc<RwLock<()>>,
    /// The branch is going: nothing is opened any more.
    is_closed: AtomicBool,
    egress: Arc<egress::Options>,
    network: OnceCell<Network>,
    ports: Ports,
    visits: Arc<Semaphore>,
    archives: Arc<Semaphore>,
    /// Milliseconds since 1970.
    visited_at_ms: AtomicI64,
    /// Whoever runs processes in the branch's folders.
    runners: TaskTracker,
    /// Cancelled when the hub goes.
    going: CancellationToken,
    pub(super) follows: Arc<Follows>,
    pub(super) watch: Watch,
    /// Held by who changes the branch with git.
    git: Arc<tokio::sync::Mutex<()>>,
    /// Ends the hub's own tasks.
    _closed: DropGuard,
}

impl Hub {
    /// Opens a branch whose files are at `workspace`, and brings its files up to what was acknowledged before a crash:
    /// nobody can reach the branch before that is done (H12).
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub(super) async fn open(
        branch: BranchId,
        workspace: Workspace,
        versions: Arc<Versions>,
        shared: Shared,
        options: &BranchOptions,
    ) -> Result<Arc<Self>, StoreError> {
        let Shared { store, log, audit, clock, tasks, watcher } = shared;
        let stop = tasks.stopping().clone();
        let closed = stop.child_token();
        let events = Events::new(clock.clone());
        let egress = Arc::clone(&options.egress);
        let ports = Ports::new(Arc::clone(&events), egress.reach);
        let follows = Arc::new(Follows::default());
        let (signs, watch) = watcher.watch(&workspace).await;
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
            writing: Arc::default(),
            back_to: Arc::default(),
            max_bytes: options.max_document_bytes,
        };
        let hub = Arc::new(Self {
            terminals: Terminals::new(Arc::clone(&context.events), context.clock.clone(), tasks.clone()),
            context,
            audit,
            members: Members::default(),
            slots: Mutex::default(),
            tree: Arc::default(),
            is_closed: AtomicBool::new(false),
            egress,
            network: OnceCell::new(),
            ports,
            runners: TaskTracker::new(),
            visits: Arc::new(Semaphore::new(VISITS)),
            archives: Arc::new(Semaphore::new(ARCHIVES)),
            visited_at_ms: AtomicI64::new(0),
            going: closed.child_token(),
            follows: Arc::clone(&follows),
            watch,
            git: Arc::default(),
            _closed: closed.clone().drop_guard(),
        });
        tasks.spawn(Self::hear(Arc::downgrade(&hub), signs, Arc::clone(&follows), closed.clone()));
        hub.recover_moves().await?;
        hub.recover().await?;
        tasks.spawn(Self::follow_all(Arc::downgrade(&hub), follows, closed));
        Ok(hub)
    }

    /// Where the folders that its sessions share lie.
    #[must_use]
    pub fn places(&self) -> Places {
        let workspace = self.workspace().folder().to_owned();
        let beside = |name| workspace.with_file_name(name);
        Places { home: beside("home"), scratch: beside("scratch"), workspace }
    }

    /// Bytes of its workspace, home and scratch folder, as their files' lengths say.
    ///
    /// # Errors
    /// The file system's.
    pub async fn measure(&self) -> std::io::Result<u64> {
        let folders = self.places();
        let measured = tokio::task::spawn_blocking(move || {
            let folders = [folders.workspace, folders.home, folders.scratch];
            folders.iter().filter(|folder| folder.is_dir()).map(|folder| super::making::measure(folder)).sum()
        });
        measured.await?
    }

    /// Brings all that was typed to disk, so that a command sees what is on the screen; at most `patience` long.
    ///
    /// # Errors
    /// [`DocError`] of one document that could not be brought there.
    pub async fn barrier(&self, patience: std::time::Duration) -> Result<(), DocError> {
        let flushed = tokio::time::timeout(patience, self.flush_in(None)).await;
        flushed.unwrap_or_else(|_| Err(DocError::Disk("open files are not on disk yet; try again".into())))
    }

    /// Hands what the watcher sees to the open documents; of other paths it tells the listeners itself.
    async fn hear(hub: Weak<Self>, mut signs: Signs, follows: Arc<Follows>, closed: CancellationToken) {
        let mut quiet = Quiet::default();
        let mut git_due: Option<Instant> = None;
        loop {
            let due = quiet.due().into_iter().chain(git_due).min();
            let seen = tokio::select! {
                () = closed.cancelled() => return,
                seen = signs.next() => Some(seen),
                () = async {
                    match due {
                        Some(due) => tokio::time::sleep_until(due).await,
                        None => std::future::pending().await,
                    }
                } => None,
            };
            let Some(hub) = hub.upgrade() else { return };
            let (path, sign) = match seen {
                None => {
                    if git_due.take_if(|due| *due <= Instant::now()).is_some() {
                        hub.events().publish(&Event::GitChanged);
                    }
                    quiet.tell(hub.workspace(), hub.events(), Instant::now()).await;
                    continue;
                }
                Some(Seen::Git) => {
                    // One step of git's writes several files.
                    git_due.get_or_insert_with(|| Instant::now() + GIT_QUIET);
                    continue;
                }
                Some(Seen::At(path, sign)) => (path, sign),
                Some(seen) => {
                    for document in hub.open_in(None).await {
                        document.file_event(false).await;
                    }
                    if matches!(seen, Seen::Lost) {
                        quiet.clear();
                        hub.events().publish(&Event::Reset);
                    }
                    continue;
                }
            };
            let is_closed = matches!(sign, Sign::Closed | Sign::MovedHere);
            match &sign {
                Sign::MovedFrom(from) => follows.renamed(from.clone(), &path),
                _ => follows.touched(&path),
            }
            match hub.open_document(&path).await {
                // Told besides its two halves, which documents have heard.
                Some(_) if matches!(sign, Sign::MovedFrom(_)) => {}
                Some(document) if sign == Sign::MovedHere && hub.gives_way(&path, &document).await => {}
                Some(document) => document.file_event(is_closed).await,
                None => quiet.note(path, &sign, Instant::now()),
            }
        }
    }

    /// What happens on the branch.
    #[must_use]
    pub fn events(&self) -> &Arc<Events> {
        &self.context.events
    }

    /// The network that the branch's sessions share, made when it is first asked for; it goes with the hub.
    ///
    /// # Errors
    /// [`NetworkError`] names the step and the cure; the next call tries again.
    pub async fn network(&self) -> Result<&Network, NetworkError> {
        let open = || egress::open(&self.egress, &self.context.tasks, self.going.clone());
        self.network.get_or_try_init(open).await
    }

    /// That network, if it was made: where it was not, nothing listens.
    #[must_use]
    pub fn present_network(&self) -> Option<&Network> {
        self.network.get()
    }

    /// The turn to change the branch with git: one at a time has it, in the order in which they asked.
    pub async fn git_turn(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.git).lock_owned().await
    }

    /// Keeps files as they are: waits for what is being written, then nothing typed is written until what is returned is
    /// dropped. Between the moment in which git looks whether a file has uncommitted work and the one in which it replaces
    /// it, such a write would be undone by git, as if somebody had deleted what was typed.
    pub async fn hold_writing(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.context.writing).write_owned().await
    }

    /// Until what is returned is dropped, what comes into files from outside is what stood there at this time: whoever typed
    /// it then has typed it.
    #[must_use]
    pub fn back_to(&self, at_ms: i64) -> BackTo {
        *self.context.back_to.lock() = Some(at_ms);
        BackTo(Arc::clone(&self.context.back_to))
    }

    /// Begins a visit; `None` when 512 are under way.
    #[must_use]
    pub fn visit(self: Arc<Self>) -> Option<Visit> {
        let place = Arc::clone(&self.visits).try_acquire_owned().ok()?;
        self.visited_at_ms.store(self.now_ms(), Ordering::Relaxed);
        Some(Visit { hub: self, _place: place })
    }

    /// A turn to make an archive of the branch's files; `None` when four are under way.
    #[must_use]
    pub fn archive_turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.archives).try_acquire_owned().ok()
    }

    /// Whether visits are under way.
    #[must_use]
    pub fn has_visits(&self) -> bool {
        self.visits.available_permits() < VISITS
    }

    /// When the last visit began, in milliseconds since 1970; 0 before the first.
    #[must_use]
    pub fn visited_at_ms(&self) -> i64 {
        self.visited_at_ms.load(Ordering::Relaxed)
    }

    /// A session as the database has it at this moment, felt on what its member holds open.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn session_now(&self, id: &SessionId) -> Result<Option<SessionRow>, StoreError> {
        let row = self.context.store.session(&self.context.branch, id).await?;
        if let Some(row) = &row {
            self.members.changed(row);
        }
        Ok(row)
    }

    /// Makes the branch's removal wait, as long as what is returned lives.
    pub fn runner(&self) -> TaskTrackerToken {
        self.runners.token()
    }

    /// The ports that the branch's processes listen on.
    #[must_use]
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Counts a member as present, for listeners, as long as the seat lives.
    #[must_use]
    pub fn sit(&self, member: &Arc<Member>) -> Seat {
        let (seat, is_first) = Seat::take(member, self.events(), self.now_ms());
        if is_first {
            self.audit.note(Noted {
                action: "session.joined",
                by: By::Session(member.session().clone()),
                branch: Some(self.context.branch.clone()),
                address: None,
                subject: None,
                detail: serde_json::Map::new(),
            });
        }
        seat
    }

    /// Notes what a session looks at, and tells the others.
    ///
    /// # Errors
    /// When it may not say so now.
    pub fn look(&self, session: &SessionId, at: Option<RelPath>) -> Result<(), NotMoved> {
        let member = self.members.present().into_iter().find(|member| member.session() == session);
        member.ok_or(NotMoved::NotConnected)?.look(at, self.events(), self.now_ms())
    }

    /// Makes a changed session row felt on everything that its member holds open, and tells the listeners.
    pub fn session_changed(&self, row: &SessionRow) {
        self.members.changed(row);
        let session = row.id.clone();
        if row.ended_at_ms.is_some() {
            self.terminals.end_of(&session);
        }
        self.context.events.publish(&match row.ended_at_ms {
            Some(_) => Event::SessionEnded { session },
            None => Event::SessionChanged { session },
        });
    }

    async fn recover(&self) -> Result<(), StoreError> {
        let behind = self.context.store.needs_recovery(&self.context.branch).await?;
        // Temporary files of no write under way, of one that never began or whose end was recorded, and not watched.
        let mut needed = self.context.store.asides(&self.context.branch).await?;
        needed.extend(behind.iter().filter_map(|row| Some(row.disk.intent.as_ref()?.temp.clone())));
        for name in self.context.workspace.temps().await.unwrap_or_default() {
            if !needed.contains(&name)
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
                Err(error) => {
                    if !error.is_no_document() {
                        *self.slot(&path).lock().await = Some(Document::behind(row.id));
                    }
                    Err(error)
                }
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

    /// The branch's terminals.
    #[must_use]
    pub fn terminals(&self) -> &Terminals {
        &self.terminals
    }

    /// The branch's files.
    #[must_use]
    pub fn workspace(&self) -> &Workspace {
        &self.context.workspace
    }

    /// Its id.
    #[must_use]
    pub fn branch(&self) -> &BranchId {
        &self.context.branch
    }

    pub(super) fn store(&self) -> &Store {
        &self.context.store
    }

    /// The time, as its clock has it.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.context.clock.now_ms()
    }

    /// The document of a resolved path, if it is open.
    pub(super) async fn open_document(&self, path: &RelPath) -> Option<Document> {
        let slot = self.slots.lock().get(path).cloned()?;
        let document = slot.lock().await.clone();
        document.filter(|document| !document.is_closed())
    }

    /// The document of a resolved path if it is open, or has to be: it ended before its file held all that its log does.
    /// Not for who holds the tree.
    ///
    /// # Errors
    /// Why that one can't be opened again.
    pub(super) async fn current(&self, path: &RelPath) -> Result<Option<Document>, DocError> {
        let Some(slot) = self.slots.lock().get(path).cloned() else { return Ok(None) };
        let Some(document) = slot.lock().await.clone() else { return Ok(None) };
        if !document.is_closed() {
            return Ok(Some(document));
        }
        document.ended().await;
        if document.is_at_rest() {
            return Ok(None);
        }
        match self.document(path, false).await {
            Err(error) if error.is_no_document() => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Where documents are open, or are being opened: at `folder` and in it; everywhere without one.
    pub(super) fn slots_in(&self, folder: Option<&RelPath>) -> Vec<(RelPath, Slot)> {
        let slots = self.slots.lock();
        let is_meant = |path: &RelPath| folder.is_none_or(|folder| path == folder || path.is_in(folder));
        let meant = slots.iter().filter(|(path, _)| is_meant(path));
        meant.map(|(path, slot)| (path.clone(), Arc::clone(slot))).collect()
    }

    /// The open documents of those.
    pub(super) async fn open_in(&self, folder: Option<&RelPath>) -> Vec<Document> {
        let mut open = Vec::new();
        for (_, slot) in self.slots_in(folder) {
            open.extend(slot.lock().await.clone().filter(|document| !document.is_closed()));
        }
        open
    }

    /// An open document is found under its new path from now on.
    pub(super) fn move_slot(&self, from: &RelPath, to: &RelPath) {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.remove(from) {
            slots.insert(to.clone(), slot);
        }
    }

    pub(super) fn slot(&self, path: &RelPath) -> Slot {
        let mut slots = self.slots.lock();
        // What nobody uses and holds nothing open goes, so that the map is bounded by what is open.
        if slots.len() > 1_024 {
            slots.retain(|_, slot| {
                Arc::strong_count(slot) > 1
                    || slot.try_lock().is_ok_and(|held| held.as_ref().is_some_and(|doc| !doc.is_at_rest()))
            });
        }
        Arc::clone(slots.entry(path.clone()).or_default())
    }

    /// The document of a path, opened once however many ask. `may_create`: an absent path gives an empty document.
    ///
    /// # Errors
    /// [`DocError`] says why the path is no document.
    pub async fn document(&self, path: &RelPath, may_create: bool) -> Result<Document, DocError> {
        self.await_arrival(path).await;
        if let Some(document) = self.open_now(path) {
            return Ok(document);
        }
        let place = self.place(path).await?;
        self.open_at(place, may_create).await.map(|(_, document)| document)
    }

    /// The document that is open by just this path, unless somebody is opening or moving it. Documents are named by resolved
    /// paths, so the path needs no look at the disk; one that became a link, or leads through one, since then is about to
    /// end its document, as for those who came before.
    fn open_now(&self, path: &RelPath) -> Option<Document> {
        let _tree = self.tree.try_read().ok()?;
        let slot = self.slots.lock().get(path).cloned()?;
        let held = slot.try_lock().ok()?;
        held.clone().filter(|document| !document.is_closed())
    }

    pub(super) async fn place(&self, path: &RelPath) -> Result<Place, DocError> {
        self.await_arrival(path).await;
        let tree = Arc::clone(&self.tree).read_owned().await;
        let path = self.resolve(path).await?;
        Ok(self.place_in(path, tree).await)
    }

    /// The place of a path whose last part is meant itself, though it be a link.
    pub(super) async fn place_itself(&self, path: &RelPath) -> Result<Place, DocError> {
        self.await_arrival(path).await;
        let tree = Arc::clone(&self.tree).read_owned().await;
        let path = self.context.workspace.resolve_parent(path).await.map_err(path_error)?;
        Ok(self.place_in(path, tree).await)
    }

    async fn place_in(&self, path: RelPath, tree: OwnedRwLockReadGuard<()>) -> Place {
        let held = self.slot(&path).lock_owned().await;
        Place { path, held, _tree: tree }
    }

    /// Opens a place's document, in a task of its own: a caller that goes away must not leave it half opened, its log
    /// and file being brought in step by nobody.
    async fn open_at(&self, mut place: Place, may_create: bool) -> Result<(Place, Document), DocError> {
        if let Some(document) = place.held.as_ref().filter(|document| !document.is_closed()) {
            let document = document.clone();
            return Ok((place, document));
        }
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(DocError::Closed);
        }
        self.watch.hold(&place.path).await;
        let context = self.context.clone();
        let opening = self.context.tasks.spawn(async move {
            if let Some(document) = &*place.held {
                document.ended().await;
            }
            let opened = document::open(&context, &place.path, may_create).await;
            match &opened {
                Ok(document) => *place.held = Some(document.clone()),
                Err(error) if error.is_no_document() => *place.held = None,
                // What an earlier one left undone still is.
                Err(_) => {}
            }
            Ok((place, opened?))
        });
        opening.await.unwrap_or(Err(DocError::Failed))
    }

    /// Whether no document is open or being opened, and no terminal's program runs.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let is_empty = |held: &Option<Document>| held.as_ref().is_none_or(Document::has_ended);
        self.slots.lock().values().all(|slot| slot.try_lock().is_ok_and(|held| is_empty(&held)))
            && !self.terminals.any_open()
    }

    /// Ends all members, terminals, documents and listeners for good: the branch is being removed.
    pub async fn close(&self) {
        self.members.close();
        self.terminals.close();
        self.is_closed.store(true, Ordering::SeqCst);
        // Sessions' processes end with the members. What is mounted in them must not be removed before.
        self.runners.close();
        if tokio::time::timeout(RUNNERS_WITHIN, self.runners.wait()).await.is_err() {
            warn!(branch.id = %self.context.branch, "processes of a removed branch did not end in time");
        }
        // Its proxy and what goes through it end; the namespace itself goes with the hub.
        self.going.cancel();
        for (_, slot) in self.slots_in(None) {
            let document = slot.lock().await.take();
            if let Some(document) = document {
                document.deleted().await;
                document.ended().await;
            }
        }
        self.events().close();
    }

    pub(super) async fn resolve(&self, path: &RelPath) -> Result<RelPath, DocError> {
        self.context.workspace.resolve(path).await.map_err(path_error)
    }

    /// The document of a path if it is open, or if it has a history that a write must go through.
    pub(super) async fn known(&self, place: Place) -> Result<Known, DocError> {
        let is_open = place.held.as_ref().is_some_and(|document| !document.is_closed());
        let has_history = is_open
            || self
                .context
                .store
                .live_document(&self.context.branch, place.path.as_str())
                .await
                .map_err(|error| DocError::Log(error.to_string()))?
                .is_some();
        if !has_history {
            return Ok(Known::Plain(place));
        }
        let path = place.path.clone();
        match self.open_at(place, false).await {
            Ok((place, document)) => Ok(Known::Document(place, document)),
            // Deleted or replaced outside: a plain file, or none.
            Err(error) if error.is_no_document() => Ok(Known::Plain(self.place(&path).await?)),
            Err(error) => Err(error),
        }
    }

    /// A file's content as editors and shells see it now. `reader`: remembered as the base of its next write.
    ///
    /// # Errors
    /// [`DocError::NotFound`] and the like.
    pub async fn read(&self, path: &RelPath, reader: Option<&SessionId>) -> Result<Content, DocError> {
        let tree = self.tree.read().await;
        let path = self.resolve(path).await?;
        drop(tree);
        let content = loop {
            let Some(document) = self.current(&path).await? else {
                break self.read_plain(&path).await?.ok_or_else(|| DocError::NotFound(path.clone()))?;
            };
            match document.flush().await {
                // It closed just then; mostly the file holds all of it.
                Err(DocError::Closed) => {}
                outcome => break outcome?,
            }
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
        let base = named.or_else(|| self.context.versions.last_read(grant.session()?, &path));
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
        let (base, base_text) = base.map_or((None, None), |(version, text)| (Some(version), text));
        let (content, is_new) = loop {
            match self.known(self.place(path).await?).await? {
                Known::Plain(_place) => {
                    // Not under git's hands, which would undo it.
                    let _writing = self.context.writing.read().await;
                    let request = plain::Request { base, base_text, bytes };
                    let present = self.read_plain(path).await?;
                    let (workspace, versions) = (&self.context.workspace, &self.context.versions);
                    let (content, is_new) =
                        plain::write(workspace, versions, path, &request, present).await?;
                    self.tell_written(path, content.version, is_new, grant);
                    break (content, is_new);
                }
                Known::Document(place, document) => {
                    drop(place);
                    let base = base
                        .map_or(WriteBase::Present, |version| WriteBase::Version(version, base_text.clone()));
                    let was_there = self.context.workspace.stat(path).await.is_ok_and(|stat| stat.is_some());
                    match document.write(grant.clone(), base, bytes.clone()).await {
                        // It unloaded just then, and took nothing.
                        Err(DocError::Closed) => document.ended().await,
                        outcome => break (outcome?, !was_there),
                    }
                }
            }
        };
        if let Some(session) = grant.session() {
            self.context.versions.note_read(session, path, content.version);
        }
        Ok((content, is_new))
    }

    /// Tells that a file which is no document was written through perch.
    pub(super) fn tell_written(&self, path: &RelPath, version: Version, is_new: bool, grant: &WriteGrant) {
        let by = grant.by();
        self.events().note_own(path, Own::Wrote(version), &by);
        let path = path.to_string();
        self.events().publish(&if is_new {
            Event::FileCreated { path, kind: Kind::File, by }
        } else {
            Event::FileChanged { path, by }
        });
    }

    /// Tells that a file or folder was deleted through perch.
    pub(super) fn tell_deleted(&self, path: &RelPath, grant: &WriteGrant) {
        let by = grant.by();
        self.events().note_own(path, Own::Deleted, &by);
        self.events().publish(&Event::FileDeleted { path: path.to_string(), by });
    }

    /// Deletes a file; its document closes for all. Of a link only the link goes.
    ///
    /// # Errors
    /// [`DocError::NotFound`] when there is none; [`DocError::NotAFile`] for a folder.
    pub async fn delete(&self, path: &RelPath, grant: &WriteGrant) -> Result<(), DocError> {
        let place = self.place_itself(path).await?;
        let path = place.path.clone();
        let _place = match self.known(place).await? {
            Known::Plain(place) => place,
            Known::Document(mut place, document) => {
                document.deleted().await;
                place.held.take();
                place
            }
        };
        match self.context.workspace.stat(&path).await {
            Ok(Some(_)) => {
                match self.context.workspace.remove_file(&path).await {
                    Err(FsError::WrongKind { path }) => return Err(DocError::NotAFile(path)),
                    removed => removed.map_err(|error| DocError::Disk(error.to_string()))?,
                }
                self.tell_deleted(&path, grant);
                Ok(())
            }
            Ok(None) => Err(DocError::NotFound(path)),
            Err(error) => Err(DocError::Disk(error.to_string())),
        }
    }
}

fn path_error(error: FsError) -> DocError {
    match error {
        FsError::Io { .. } => DocError::Disk(error.to_string()),
        FsError::WrongKind { path } => DocError::NotAFile(path),
        error => DocError::Path(error.to_string()),
    }
}

/// What is at a place.
pub(super) enum Known {
    Document(Place, Document),
    /// A file that is no document, or nothing.
    Plain(Place),
}
