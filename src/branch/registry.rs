//! All branches: made, found, opened once, changed, forked, removed.

use super::hub::{Hub, Shared};
use super::log_writer::LogWriter;
use super::making::{self, ArchiveFormat, Git, Making, Phase, Progress};
use super::versions::Shelf;
use super::watch::Watcher;
use crate::audit::{self, Audit};
use crate::base::{BranchId, Clock, Tasks};
use crate::egress;
use crate::sandbox::Owners;
use crate::store::{Branch, BranchState, Previews, Store, StoreError};
use crate::workspace::{FsError, Workspace};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, OnceCell, Semaphore};
use tracing::{info, warn};

/// How long routes wait for a branch that is being made.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Branches of one perch.
const MAX_BRANCHES: i64 = 10_000;
/// Branches made at once; others wait.
const MAKINGS_AT_ONCE: usize = 4;
/// Archives taken in at once; others are refused.
const UPLOADS_AT_ONCE: usize = 8;
/// An upload that brings nothing for this long has ended.
const UPLOAD_SILENT_FOR: Duration = Duration::from_secs(60);
/// A branch that nobody uses is closed after this long.
const IDLE_AFTER: Duration = Duration::from_secs(300);
/// How old a measured size may be when a write is let through for it; writes since are added.
const SIZE_GOOD_FOR: Duration = Duration::from_secs(60);
/// How old it may be when a write is refused for it.
const SIZE_GOOD_FOR_REFUSAL: Duration = Duration::from_secs(2);
/// How old it may be when it is shown.
const SIZE_SHOWN_FOR_MS: i64 = 5_000;
/// How long a caller waits for a size before it gets the last known one.
const SIZE_WITHIN: Duration = Duration::from_secs(2);
/// The error of a branch whose files are gone; it is ready again when they are back.
const MISSING: &str = "its files are missing";
/// The error of a branch whose making a restart cut short.
const INTERRUPTED: &str = "perch stopped while it was made";

/// Why a branch can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BranchError {
    /// There is none.
    #[error("there is no such branch")]
    NotFound,
    /// Its files are still being made.
    #[error("the branch is still being made; try again")]
    NotReady,
    /// Its files could not be made, or are gone.
    #[error("the branch can't be used: {0}")]
    Failed(String),
    /// The git URL is refused.
    #[error("the git URL is refused: {0}")]
    Url(&'static str),
    /// Too many branches.
    #[error("there are {MAX_BRANCHES} branches; delete one first")]
    TooMany,
    /// The branch would become larger than allowed.
    #[error(
        "the branch has {size_bytes} bytes; with this it would pass the {max_bytes} of --max-branch-bytes"
    )]
    Full {
        /// What it has.
        size_bytes: u64,
        /// The bound.
        max_bytes: u64,
    },
    /// An uploaded archive is larger than a branch may be.
    #[error("the archive has more than {max_bytes} bytes (--max-branch-bytes)")]
    ArchiveTooLarge {
        /// The bound.
        max_bytes: u64,
    },
    /// The upload broke off.
    #[error("the upload broke off: {0}")]
    Upload(String),
    /// Too many at once.
    #[error("{UPLOADS_AT_ONCE} archives are being uploaded; try again later")]
    Busy,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] FsError),
}

/// What a branch starts with.
#[derive(Clone, Debug)]
pub enum Source {
    /// Nothing.
    Empty,
    /// A clone.
    Git(Git),
}

/// A branch to be made.
#[derive(Clone, Debug)]
pub struct NewBranch {
    /// For people.
    pub name: String,
    /// What it starts with.
    pub source: Source,
}

/// What of a branch's description is to change.
#[derive(Clone, Debug, Default)]
pub struct BranchChange {
    /// For people.
    pub name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// To find it by.
    pub tags: Option<Vec<String>>,
    /// Who may look at previews.
    pub previews: Option<Previews>,
}

/// Bounds and places of all branches.
#[derive(Clone, Debug)]
pub struct BranchOptions {
    /// Where their files lie.
    pub folder: PathBuf,
    /// Folders beneath which local repositories may be cloned.
    pub local_git: Vec<PathBuf>,
    /// The largest document.
    pub max_document_bytes: u64,
    /// The largest branch.
    pub max_branch_bytes: u64,
    /// Whom branches' files belong to.
    pub owners: Owners,
    /// How sessions reach the network.
    pub egress: Arc<egress::Options>,
    /// How much of the audit log is kept.
    pub audit: audit::Bounds,
}

/// See the module's docs; cheap to clone.
#[derive(Clone, Debug)]
pub struct Branches {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Open {
    cell: Arc<OnceCell<Arc<Hub>>>,
    used: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Size {
    bytes: u64,
    at: Instant,
}

#[derive(Debug)]
struct Inner {
    options: BranchOptions,
    store: Store,
    log: LogWriter,
    audit: Audit,
    clock: Clock,
    tasks: Tasks,
    open: Mutex<HashMap<BranchId, Open>>,
    versions: Shelf,
    watcher: Arc<Watcher>,
    making: Mutex<HashMap<BranchId, Arc<Making>>>,
    going: Mutex<HashSet<BranchId>>,
    measuring: Mutex<HashSet<BranchId>>,
    /// What was measured, and what was written since.
    sizes: Mutex<HashMap<BranchId, Size>>,
    makings: Semaphore,
    uploads: Semaphore,
    changed: Notify,
}

/// What is to be done for a new branch's files.
enum Plan {
    Empty,
    Git(Git),
    Archive(ArchiveFormat),
    Fork(BranchId),
}

impl Branches {
    /// The branches of a store; closes those that nobody uses until perch stops.
    #[must_use]
    pub fn new(options: BranchOptions, store: Store, clock: Clock, tasks: Tasks) -> Self {
        let log = LogWriter::start(store.clone(), &tasks);
        let audit = Audit::start(store.clone(), clock.clone(), options.audit, &tasks);
        let inner = Inner {
            options,
            store,
            log,
            audit,
            clock,
            watcher: Arc::new(Watcher::new(tasks.clone())),
            tasks,
            open: Mutex::default(),
            versions: Shelf::default(),
            making: Mutex::default(),
            going: Mutex::default(),
            measuring: Mutex::default(),
            sizes: Mutex::default(),
            makings: Semaphore::new(MAKINGS_AT_ONCE),
            uploads: Semaphore::new(UPLOADS_AT_ONCE),
            changed: Notify::new(),
        };
        let this = Self { inner: Arc::new(inner) };
        let (sweeper, stop) = (this.clone(), this.inner.tasks.stopping().clone());
        this.inner.tasks.spawn(async move {
            while tokio::time::timeout(IDLE_AFTER / 5, stop.cancelled()).await.is_err() {
                sweeper.close_idle(IDLE_AFTER);
            }
        });
        this
    }

    /// What a stop or crash left: branches half made are marked as failed, half removed ones go, and in the background
    /// it is looked whether each branch has its files. Costs nothing per branch that is whole.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mend(&self) -> Result<(), StoreError> {
        let (folder, owners) = (self.inner.options.folder.clone(), self.inner.options.owners.clone());
        let looked = off_runtime(move || {
            for entry in std::fs::read_dir(&folder)? {
                if let Ok(meta) = std::fs::symlink_metadata(entry?.path().join("workspace")) {
                    owners.taken(std::os::unix::fs::MetadataExt::uid(&meta));
                }
            }
            Ok(())
        });
        if let Err(error) = looked.await {
            warn!(%error, "could not look whom branches' files belong to");
        }
        for id in self.inner.store.branch_ids_in_state(BranchState::Creating).await? {
            self.made(&id, Err(INTERRUPTED.into())).await?;
            let (this, folder) = (self.clone(), self.folder(&id));
            this.inner.tasks.spawn(async move { remove_folder(folder).await });
        }
        for id in self.inner.store.branch_ids_in_state(BranchState::Deleting).await? {
            let this = self.clone();
            self.inner.tasks.spawn(async move {
                if let Err(error) = this.remove(&id).await {
                    warn!(branch.id = %id, %error, "a deleted branch could not be removed; delete it again");
                }
            });
        }
        let this = self.clone();
        self.inner.tasks.spawn(async move {
            if let Err(error) = this.check_files().await {
                warn!(%error, "could not look whether all branches have their files");
            }
        });
        Ok(())
    }

    /// Marks branches whose files are gone, or back, and tells of folders that belong to none.
    async fn check_files(&self) -> Result<(), BranchError> {
        let store = &self.inner.store;
        let ready = store.branch_ids_in_state(BranchState::Ready).await?;
        let failed = store.branch_ids_in_state(BranchState::Failed).await?;
        let folder = self.inner.options.folder.clone();
        let there = off_runtime(move || {
            let names = std::fs::read_dir(&folder)?.filter_map(Result::ok);
            Ok(names
                .map(|entry| (entry.file_name(), entry.path().join("workspace").is_dir()))
                .collect::<HashMap<_, _>>())
        })
        .await?;
        let has_files = |id: &BranchId| there.get(std::ffi::OsStr::new(id.as_str())).copied() == Some(true);
        for id in ready.iter().filter(|id| !has_files(id)) {
            self.missing(id).await?;
        }
        for id in failed.iter().filter(|id| has_files(id)) {
            self.found(id).await?;
        }
        let unknown: Vec<_> = there
            .keys()
            .filter_map(|name| name.to_str()?.parse::<BranchId>().ok())
            .filter(|id| !ready.contains(id) && !failed.contains(id))
            .collect();
        for id in unknown {
            if store.branch(&id).await?.is_none() && self.folder(&id).is_dir() {
                let path = self.folder(&id);
                warn!(
                    "{} belongs to no branch of the database; remove it, or restore the database",
                    path.display()
                );
            }
        }
        Ok(())
    }

    async fn missing(&self, id: &BranchId) -> Result<(), StoreError> {
        warn!(branch.id = %id, "the branch's files are missing from {}", self.folder(id).display());
        self.set_state(id, |branch| {
            (branch.state == BranchState::Ready).then_some((BranchState::Failed, Some(MISSING.into())))
        })
        .await?;
        Ok(())
    }

    async fn found(&self, id: &BranchId) -> Result<Option<Branch>, StoreError> {
        self.set_state(id, |branch| {
            let is_missing = branch.state == BranchState::Failed && branch.error.as_deref() == Some(MISSING);
            is_missing.then_some((BranchState::Ready, None))
        })
        .await
    }

    async fn set_state(
        &self,
        id: &BranchId,
        next: impl FnOnce(&Branch) -> Option<(BranchState, Option<String>)>,
    ) -> Result<Option<Branch>, StoreError> {
        let now_ms = self.inner.clock.now_ms();
        let changed = self.inner.store.change_branch(id, |branch| match next(branch) {
            Some((state, error)) => {
                (branch.state, branch.error, branch.updated_at_ms) = (state, error, now_ms);
                true
            }
            None => false,
        });
        let branch = changed.await?;
        self.inner.changed.notify_waiters();
        Ok(branch)
    }

    /// Records how the making of a branch ended, unless it was deleted meanwhile.
    async fn made(&self, id: &BranchId, outcome: Result<(), String>) -> Result<(), StoreError> {
        let (state, error) = match outcome {
            Ok(()) => (BranchState::Ready, None),
            Err(reason) => (BranchState::Failed, Some(reason)),
        };
        self.set_state(id, |branch| (branch.state == BranchState::Creating).then_some((state, error)))
            .await?;
        Ok(())
    }

    fn folder(&self, id: &BranchId) -> PathBuf {
        self.inner.options.folder.join(id.as_str())
    }

    /// Makes a branch; returns at once, its files are made meanwhile.
    ///
    /// # Errors
    /// [`BranchError::Url`] for a source that is refused, [`BranchError::TooMany`].
    pub async fn create(&self, new: NewBranch) -> Result<Branch, BranchError> {
        let plan = match new.source {
            Source::Empty => Plan::Empty,
            Source::Git(git) => {
                making::check_url(&git, &self.inner.options.local_git)?;
                Plan::Git(git)
            }
        };
        let branch = self.insert(new.name, &plan).await?;
        self.spawn_making(branch.id.clone(), plan);
        Ok(branch)
    }

    /// Makes a branch with a copy of another's files, as its editors see them now. Documents start anew.
    ///
    /// # Errors
    /// As [`Branches::ready`] for the other branch, and [`BranchError::TooMany`].
    pub async fn fork(&self, id: &BranchId, name: Option<String>) -> Result<Branch, BranchError> {
        let from = self.ready(id).await?;
        let plan = Plan::Fork(id.clone());
        let branch = self.insert(name.unwrap_or(from.name), &plan).await?;
        self.spawn_making(branch.id.clone(), plan);
        Ok(branch)
    }

    /// Makes a branch from an archive that comes in now; returns when it is here, it is unpacked meanwhile.
    ///
    /// # Errors
    /// [`BranchError::ArchiveTooLarge`], [`BranchError::Upload`], [`BranchError::Busy`], [`BranchError::TooMany`]; then
    /// there is no branch.
    pub async fn create_from_archive<E: std::fmt::Display + Send>(
        &self,
        name: String,
        format: ArchiveFormat,
        bytes: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> Result<Branch, BranchError> {
        let plan = Plan::Archive(format);
        let this = self.clone();
        // A task of its own: a caller that goes away must not leave a branch behind that is being made by nobody.
        let task = self.inner.tasks.spawn(async move {
            let _seat = this.inner.uploads.try_acquire().map_err(|_| BranchError::Busy)?;
            let branch = this.insert(name, &plan).await?;
            let folder = this.folder(&branch.id);
            let stop = this.inner.tasks.stopping().clone();
            let max_bytes = this.inner.options.max_branch_bytes;
            let outcome = tokio::select! {
                outcome = take_in(&folder, bytes, max_bytes) => outcome,
                () = stop.cancelled() => Err(BranchError::Upload("perch is stopping".into())),
            };
            match outcome {
                Ok(()) => {
                    this.spawn_making(branch.id.clone(), plan);
                    Ok(branch)
                }
                Err(error) => {
                    remove_folder(folder).await;
                    this.inner.store.delete_branch(&branch.id).await?;
                    Err(error)
                }
            }
        });
        task.await.map_err(|_| BranchError::Upload("perch failed".into()))?
    }

    async fn insert(&self, name: String, plan: &Plan) -> Result<Branch, BranchError> {
        let now_ms = self.inner.clock.now_ms();
        let git = if let Plan::Git(git) = plan { Some(git) } else { None };
        let branch = Branch {
            id: BranchId::generate(),
            name,
            description: String::new(),
            tags: Vec::new(),
            state: BranchState::Creating,
            error: None,
            git_url: git.map(|git| git.url.clone()),
            git_ref: git.and_then(|git| git.reference.clone()),
            forked_from: if let Plan::Fork(from) = plan { Some(from.clone()) } else { None },
            created_at_ms: now_ms,
            updated_at_ms: now_ms,
            size_bytes: None,
            measured_at_ms: None,
            previews: Previews::Members,
        };
        if self.inner.store.insert_branch(&branch, MAX_BRANCHES).await? {
            Ok(branch)
        } else {
            Err(BranchError::TooMany)
        }
    }

    fn spawn_making(&self, id: BranchId, plan: Plan) {
        let cancel = self.inner.tasks.stopping().child_token();
        let making = Arc::new(Making::new(self.inner.options.max_branch_bytes, cancel));
        self.inner.making.lock().insert(id.clone(), Arc::clone(&making));
        let this = self.clone();
        self.inner.tasks.spawn(async move {
            let outcome = this.make_files(&id, plan, &making).await;
            let is_stopping = this.inner.tasks.stopping().is_cancelled();
            if outcome.is_err() {
                remove_folder(this.folder(&id)).await;
            }
            if let Err(reason) = &outcome {
                info!(branch.id = %id, "the branch could not be made: {reason}");
            }
            let outcome = if is_stopping { outcome.map_err(|_| INTERRUPTED.to_owned()) } else { outcome };
            if let Err(error) = this.made(&id, outcome).await {
                warn!(branch.id = %id, %error, "could not mark the branch as made");
            }
            this.inner.making.lock().remove(&id);
            this.inner.changed.notify_waiters();
        });
    }

    async fn make_files(&self, id: &BranchId, plan: Plan, making: &Arc<Making>) -> Result<(), String> {
        let _turn = tokio::select! {
            turn = self.inner.makings.acquire() => turn.map_err(|error| error.to_string())?,
            () = making.cancel().cancelled() => return Err("it was stopped".into()),
        };
        // It may have been deleted before it was known to be under way.
        let is_wanted = |branch: Option<Branch>| branch.is_some_and(|it| it.state == BranchState::Creating);
        if !is_wanted(self.inner.store.branch(id).await.map_err(|error| error.to_string())?) {
            return Err("it was deleted".into());
        }
        let folder = self.folder(id);
        let made = folder.clone();
        blocking(move || {
            for name in ["", "home", "tmp"] {
                std::fs::create_dir_all(made.join(name)).map_err(|error| error.to_string())?;
            }
            Ok(())
        })
        .await?;
        let workspace = folder.join("workspace");
        match plan {
            Plan::Empty => {
                tokio::fs::create_dir_all(&workspace).await.map_err(|error| error.to_string())?;
            }
            Plan::Git(git) => {
                making.at(Phase::Counting, None);
                making::clone(&git, &folder, making).await?;
            }
            Plan::Archive(format) => {
                let (making, archive) = (Arc::clone(making), folder.join(UPLOAD));
                blocking(move || {
                    making::unpack(&archive, format, &workspace, &making)?;
                    std::fs::remove_file(&archive).map_err(|error| error.to_string())
                })
                .await?;
            }
            Plan::Fork(from) => {
                making.at(Phase::Copying, None);
                // Editors' texts are on disk when this returns.
                let hub = self.hub(&from).await.map_err(|error| error.to_string())?;
                // What git is about to change is copied before or after.
                let _turn = hub.git_turn().await;
                hub.flush_in(None).await.map_err(|error| error.to_string())?;
                let (making, source, folder) = (Arc::clone(making), self.folder(&from), folder.clone());
                blocking(move || {
                    std::fs::remove_dir(folder.join("home")).map_err(|error| error.to_string())?;
                    making::copy(&source.join("home"), &folder.join("home"), ".private", &making)?;
                    making::copy(&source.join("workspace"), &workspace, "", &making)?;
                    making::settle(&workspace)
                })
                .await?;
                // Deleted meanwhile, what was copied may not be all.
                self.ready(&from).await.map_err(|error| error.to_string())?;
            }
        }
        blocking(move || {
            let size = making::measure(&folder).map_err(|error| error.to_string())?;
            making::sync(&folder).map_err(|error| error.to_string())?;
            Ok(size)
        })
        .await
        .and_then(|size| if size > making.max_bytes() { Err(making.too_large()) } else { Ok(()) })
    }

    /// How far the making of a branch is, while it is under way.
    #[must_use]
    pub fn progress(&self, id: &BranchId) -> Option<Progress> {
        self.inner.making.lock().get(id).map(|making| making.progress())
    }

    /// Waits until a branch is ready, at most 30 s.
    ///
    /// # Errors
    /// See [`BranchError`].
    pub async fn ready(&self, id: &BranchId) -> Result<Branch, BranchError> {
        let wait = async {
            loop {
                // Listen before looking, or a change between would be missed.
                let changed = self.inner.changed.notified();
                let branch = self.inner.store.branch(id).await?.ok_or(BranchError::NotFound)?;
                match branch.state {
                    BranchState::Ready => return Ok(branch),
                    BranchState::Creating => changed.await,
                    BranchState::Failed => {
                        let error = branch.error.unwrap_or_default();
                        let is_back = error == MISSING && {
                            let workspace = self.folder(id).join("workspace");
                            off_runtime(move || Ok(workspace.is_dir())).await?
                        };
                        if !is_back {
                            return Err(BranchError::Failed(error));
                        }
                        self.found(id).await?;
                    }
                    BranchState::Deleting => return Err(BranchError::NotFound),
                }
            }
        };
        tokio::time::timeout(READY_WITHIN, wait).await.unwrap_or(Err(BranchError::NotReady))
    }

    /// The live side of a branch, opened once however many ask.
    ///
    /// # Errors
    /// [`BranchError::Failed`] when its files are missing: it is not served half.
    pub async fn hub(&self, id: &BranchId) -> Result<Arc<Hub>, BranchError> {
        if let Some(hub) = self.cell(id).get() {
            return Ok(Arc::clone(hub));
        }
        // In a task of its own: a caller that goes away must not leave a branch half opened, with documents at work
        // that the next opening knows nothing of.
        let (this, id) = (self.clone(), id.clone());
        let opening = self.inner.tasks.spawn(async move { this.open_hub(&id).await });
        opening.await.unwrap_or(Err(BranchError::NotReady))
    }

    /// Where a branch's live side is, or will be.
    fn cell(&self, id: &BranchId) -> Arc<OnceCell<Arc<Hub>>> {
        let mut open = self.inner.open.lock();
        let used = Instant::now();
        let entry = open.entry(id.clone()).or_insert_with(|| Open { cell: Arc::default(), used });
        entry.used = used;
        Arc::clone(&entry.cell)
    }

    async fn open_hub(&self, id: &BranchId) -> Result<Arc<Hub>, BranchError> {
        let cell = self.cell(id);
        let opened = cell
            .get_or_try_init(|| async {
                self.ready(id).await?;
                let folder = self.folder(id);
                let workspace = match self.settle(folder.clone()).await {
                    Ok(workspace) => workspace,
                    Err(error) => {
                        if !folder.join("workspace").is_dir() {
                            self.missing(id).await?;
                        }
                        return Err(BranchError::Failed(format!("{MISSING} ({error})")));
                    }
                };
                let inner = &self.inner;
                let shared = Shared {
                    store: inner.store.clone(),
                    log: inner.log.clone(),
                    audit: inner.audit.clone(),
                    clock: inner.clock.clone(),
                    tasks: inner.tasks.clone(),
                    watcher: Arc::clone(&inner.watcher),
                };
                Ok(Hub::open(id.clone(), workspace, inner.versions.take(id), shared, &inner.options).await?)
            })
            .await
            .cloned();
        if opened.is_err() {
            let mut open = self.inner.open.lock();
            // Only where nobody else waits for this cell: they may open the branch in it.
            if open.get(id).is_some_and(|of| Arc::ptr_eq(&of.cell, &cell) && of.cell.get().is_none())
                && Arc::strong_count(&cell) == 2
            {
                open.remove(id);
            }
        }
        opened
    }

    /// Makes a branch's folders and gives its files to its owner, where that is not done yet.
    async fn settle(&self, folder: PathBuf) -> Result<Workspace, BranchError> {
        let owners = self.inner.options.owners.clone();
        off_runtime(move || {
            let workspace = folder.join("workspace");
            std::fs::symlink_metadata(&workspace)?;
            making::lay_out(&folder)?;
            let owner = owners.settle(&folder, &[&making::SHARED[..], &["tmp"]].concat())?;
            let files = Workspace::open(&workspace, &folder.join("tmp")).map_err(std::io::Error::other)?;
            Ok(files.of(owner))
        })
        .await
    }

    /// The live side of a branch, if it is open.
    #[must_use]
    pub fn opened(&self, id: &BranchId) -> Option<Arc<Hub>> {
        self.inner.open.lock().get(id).and_then(|entry| entry.cell.get().cloned())
    }

    /// Closes branches that nobody holds, has asked for within `unused`, or has a document open of.
    fn close_idle(&self, unused: Duration) -> usize {
        let mut open = self.inner.open.lock();
        let before = open.len();
        // Under the lock nobody can get a hub that nobody has.
        open.retain(|_, entry| {
            let is_held = Arc::strong_count(&entry.cell) > 1
                || entry.cell.get().is_some_and(|hub| Arc::strong_count(hub) > 1 || !hub.is_quiet());
            is_held || entry.used.elapsed() < unused
        });
        self.inner.versions.trim();
        before - open.len()
    }

    /// Changes what is said of a branch.
    ///
    /// # Errors
    /// [`BranchError::NotFound`].
    pub async fn describe(&self, id: &BranchId, change: BranchChange) -> Result<Branch, BranchError> {
        let now_ms = self.inner.clock.now_ms();
        let changed = self.inner.store.change_branch(id, |branch| {
            branch.name = change.name.unwrap_or_else(|| std::mem::take(&mut branch.name));
            branch.description =
                change.description.unwrap_or_else(|| std::mem::take(&mut branch.description));
            branch.tags = change.tags.unwrap_or_else(|| std::mem::take(&mut branch.tags));
            branch.previews = change.previews.unwrap_or(branch.previews);
            branch.updated_at_ms = now_ms;
            true
        });
        changed.await?.ok_or(BranchError::NotFound)
    }

    /// Deletes a branch: cuts its sessions, closes its documents, removes its files and then its rows. A crash on the way
    /// is made good at the next start.
    ///
    /// # Errors
    /// [`BranchError::NotFound`]; [`BranchError::Disk`] when files can't be removed: delete it again.
    pub async fn delete(&self, id: &BranchId) -> Result<(), BranchError> {
        let deleting = self.set_state(id, |branch| {
            (branch.state != BranchState::Deleting).then_some((BranchState::Deleting, None))
        });
        deleting.await?.ok_or(BranchError::NotFound)?;
        crate::base::fault("branch-deleting");
        let (this, id) = (self.clone(), id.clone());
        // It goes on when the caller does not wait.
        let task = self.inner.tasks.spawn(async move { this.remove(&id).await });
        task.await.unwrap_or(Err(BranchError::NotReady))
    }

    async fn remove(&self, id: &BranchId) -> Result<(), BranchError> {
        if !self.inner.going.lock().insert(id.clone()) {
            // Somebody is at it.
            return Err(BranchError::NotReady);
        }
        let outcome = self.remove_all(id).await;
        self.inner.going.lock().remove(id);
        outcome
    }

    async fn remove_all(&self, id: &BranchId) -> Result<(), BranchError> {
        loop {
            let changed = self.inner.changed.notified();
            let Some(making) = self.inner.making.lock().get(id).cloned() else { break };
            making.cancel().cancel();
            changed.await;
        }
        let open = self.inner.open.lock().remove(id);
        if let Some(open) = open {
            // One that is being opened at this moment is waited for; a new one finds the branch gone.
            let hub = open.cell.get_or_try_init(|| async { Err(BranchError::NotFound) }).await;
            if let Ok(hub) = hub {
                hub.close().await;
            }
        }
        let (folder, owners) = (self.folder(id), self.inner.options.owners.clone());
        off_runtime(move || {
            let owner = std::fs::symlink_metadata(folder.join("workspace")).ok();
            making::remove(&folder)?;
            if let Some(owner) = owner {
                owners.free(std::os::unix::fs::MetadataExt::uid(&owner));
            }
            Ok(())
        })
        .await?;
        crate::base::fault("branch-removed");
        self.inner.store.delete_branch(id).await?;
        self.inner.sizes.lock().remove(id);
        self.inner.versions.forget(id);
        self.inner.changed.notify_waiters();
        info!(branch.id = %id, "deleted");
        Ok(())
    }

    /// The branch with its size as it is now, or was when it was measured last if that takes too long.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn with_size(&self, branch: Branch) -> Result<Branch, StoreError> {
        let now_ms = self.inner.clock.now_ms();
        let is_good = branch.measured_at_ms.is_some_and(|at_ms| at_ms + SIZE_SHOWN_FOR_MS > now_ms);
        if branch.state != BranchState::Ready || is_good {
            return Ok(branch);
        }
        // One measures, others get the last known size.
        if !self.inner.measuring.lock().insert(branch.id.clone()) {
            return Ok(branch);
        }
        let (this, id) = (self.clone(), branch.id.clone());
        let task = self.inner.tasks.spawn(async move {
            let measured = this.measure(&id).await;
            this.inner.measuring.lock().remove(&id);
            if let Err(error) = measured {
                warn!(branch.id = %id, %error, "could not measure the branch");
            }
        });
        if tokio::time::timeout(SIZE_WITHIN, task).await.is_ok() {
            return Ok(self.inner.store.branch(&branch.id).await?.unwrap_or(branch));
        }
        Ok(branch)
    }

    async fn measure(&self, id: &BranchId) -> Result<u64, BranchError> {
        let folder = self.folder(id);
        let bytes = off_runtime(move || making::measure(&folder)).await?;
        let now_ms = self.inner.clock.now_ms();
        self.inner.store.measured_branch(id, i64::try_from(bytes).unwrap_or(i64::MAX), now_ms).await?;
        self.inner.sizes.lock().insert(id.clone(), Size { bytes, at: Instant::now() });
        Ok(bytes)
    }

    /// Checks that a branch has room for `more` bytes, and counts them until it is measured again.
    ///
    /// # Errors
    /// [`BranchError::Full`].
    pub async fn take_room(&self, id: &BranchId, more: u64) -> Result<(), BranchError> {
        let max_bytes = self.inner.options.max_branch_bytes;
        let known = self.inner.sizes.lock().get(id).copied();
        let fits = |bytes: u64| bytes.saturating_add(more) <= max_bytes;
        let size_bytes = match known {
            Some(size) if fits(size.bytes) && size.at.elapsed() < SIZE_GOOD_FOR => size.bytes,
            Some(size) if size.at.elapsed() < SIZE_GOOD_FOR_REFUSAL => size.bytes,
            _ => self.measure(id).await?,
        };
        if !fits(size_bytes) {
            return Err(BranchError::Full { size_bytes, max_bytes });
        }
        if let Some(size) = self.inner.sizes.lock().get_mut(id) {
            size.bytes = size.bytes.saturating_add(more);
        }
        Ok(())
    }

    /// Branches that are open now, and appends that wait for the database.
    #[must_use]
    pub fn figures(&self) -> (usize, usize) {
        (self.inner.open.lock().len(), self.inner.log.waiting())
    }

    /// Where it is noted who did what.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.inner.audit
    }

    /// Whether the database takes edits now.
    #[must_use]
    pub fn takes_edits(&self) -> bool {
        !self.inner.log.is_stuck()
    }
}

/// The name of an uploaded archive in its branch's folder.
const UPLOAD: &str = "upload";

/// Writes an upload to disk.
async fn take_in<E: std::fmt::Display>(
    folder: &Path,
    bytes: impl Stream<Item = Result<Bytes, E>>,
    max_bytes: u64,
) -> Result<(), BranchError> {
    let disk = |error: std::io::Error| {
        BranchError::Disk(FsError::Io { what: "store the archive".into(), source: error })
    };
    tokio::fs::create_dir_all(folder).await.map_err(disk)?;
    let mut file = tokio::fs::File::create(folder.join(UPLOAD)).await.map_err(disk)?;
    let (mut bytes, mut taken) = (pin!(bytes), 0_u64);
    loop {
        let next = tokio::time::timeout(UPLOAD_SILENT_FOR, bytes.next()).await;
        let next = next.map_err(|_| BranchError::Upload("nothing came for a minute".into()))?;
        let Some(part) = next else { break };
        let part = part.map_err(|error| BranchError::Upload(error.to_string()))?;
        taken = taken.saturating_add(part.len() as u64);
        if taken > max_bytes {
            return Err(BranchError::ArchiveTooLarge { max_bytes });
        }
        file.write_all(&part).await.map_err(disk)?;
    }
    file.flush().await.map_err(disk)
}

async fn remove_folder(folder: PathBuf) {
    let shown = folder.clone();
    if let Err(error) = off_runtime(move || making::remove(&folder)).await {
        warn!(%error, "could not remove {}", shown.display());
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err("perch failed at it".into()))
}

async fn off_runtime<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, BranchError> {
    let done =
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    done.map_err(|source| BranchError::Disk(FsError::Io { what: "the branch's folder".into(), source }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Options;

    #[tokio::test]
    async fn a_branch_that_nobody_uses_is_closed_and_opens_again() {
        let data = tempfile::tempdir().unwrap();
        let options = Options { database_url: None, data: data.path().to_owned() };
        let store = Store::open(&options).await.unwrap();
        let tasks = Tasks::new();
        let options = BranchOptions {
            folder: data.path().join("branches"),
            local_git: Vec::new(),
            max_document_bytes: 1_000,
            max_branch_bytes: 1_000,
            owners: Owners::default(),
            egress: Arc::default(),
            audit: audit::Bounds { entries: 10, days: 1 },
        };
        let branches = Branches::new(options, store, Clock::system(), tasks.clone());
        let new = NewBranch { name: "b".into(), source: Source::Empty };
        let id = branches.create(new).await.unwrap().id;
        let hub = branches.hub(&id).await.unwrap();
        assert_eq!(branches.close_idle(Duration::ZERO), 0, "held");
        let visits: Vec<_> = std::iter::from_fn(|| Arc::clone(&hub).visit()).collect();
        assert_eq!(visits.len(), 512);
        drop(visits);
        assert!(Arc::clone(&hub).visit().is_some(), "places come free");
        std::fs::write(hub.workspace().folder().join("a.txt"), "text").unwrap();
        let document = hub.document(&"a.txt".parse().unwrap(), false).await.unwrap();
        let (path, ann) = ("a.txt".parse().unwrap(), "ann".parse().unwrap());
        let read = hub.read(&path, Some(&ann)).await.unwrap();
        drop(hub);
        assert_eq!(branches.close_idle(Duration::ZERO), 0, "a document is open");
        branches.opened(&id).unwrap().close().await;
        assert!(document.has_ended());
        let refused = branches.hub(&id).await.unwrap().document(&"a.txt".parse().unwrap(), false).await;
        assert!(refused.is_err(), "closed for good");
        assert_eq!(branches.close_idle(Duration::from_secs(60)), 0, "used lately");
        assert_eq!(branches.close_idle(Duration::ZERO), 1);
        assert!(branches.opened(&id).is_none());
        let hub = branches.hub(&id).await.unwrap();
        let versions = &hub.context.versions;
        assert_eq!(versions.last_read(&ann, &path), Some(read.version), "as if it had never been closed");
        assert_eq!(versions.text(read.version).as_deref(), Some("text"));
        drop(hub);
        assert!(branches.take_room(&id, 990).await.is_ok());
        assert!(matches!(branches.take_room(&id, 990).await, Err(BranchError::Full { .. })));
        drop(branches);
        assert!(tasks.shutdown(Duration::from_secs(10)).await, "nothing holds a closed branch");
    }
}
