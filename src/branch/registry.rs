//! All branches: made, found, opened once, removed.

use super::hub::Hub;
use super::log_writer::LogWriter;
use crate::base::{BranchId, Clock, Tasks};
use crate::store::{Branch, BranchState, Store, StoreError};
use crate::workspace::{FsError, Workspace};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, OnceCell};
use tracing::warn;

/// How long routes wait for a branch that is being made.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// The longest a clone may take.
const CLONE_WITHIN: Duration = Duration::from_secs(3_600);

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
    /// A clone. User info in the URL is refused.
    Git {
        /// `https://`, `http://`, or a local path beneath an allowed folder.
        url: String,
        /// Branch or tag; the remote's default without it.
        reference: Option<String>,
    },
}

/// A branch to be made.
#[derive(Clone, Debug)]
pub struct NewBranch {
    /// For people.
    pub name: String,
    /// What it starts with.
    pub source: Source,
}

/// See the module's docs; cheap to clone.
#[derive(Clone, Debug)]
pub struct Branches {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    local_git: Vec<PathBuf>,
    store: Store,
    log: LogWriter,
    clock: Clock,
    tasks: Tasks,
    max_bytes: u64,
    open: Mutex<HashMap<BranchId, Arc<OnceCell<Arc<Hub>>>>>,
    changed: Notify,
}

impl Branches {
    /// Branches whose files lie in `folder`. `local_git`: folders beneath which local repositories may be cloned.
    #[must_use]
    pub fn new(
        folder: PathBuf,
        local_git: Vec<PathBuf>,
        store: Store,
        clock: Clock,
        tasks: Tasks,
        max_bytes: u64,
    ) -> Self {
        let log = LogWriter::start(store.clone(), &tasks);
        let open = Mutex::default();
        let changed = Notify::new();
        let inner = Inner { folder, local_git, store, log, clock, tasks, max_bytes, open, changed };
        Self { inner: Arc::new(inner) }
    }

    /// Marks branches whose making was interrupted as failed.
    pub async fn mend(&self) -> Result<(), StoreError> {
        for branch in self.inner.store.branches_in_state(BranchState::Creating).await? {
            self.set_state(branch, BranchState::Failed, Some("perch stopped while it was made".into()))
                .await?;
        }
        Ok(())
    }

    async fn set_state(
        &self,
        mut branch: Branch,
        state: BranchState,
        error: Option<String>,
    ) -> Result<(), StoreError> {
        branch.state = state;
        branch.error = error;
        branch.updated_at_ms = self.inner.clock.now_ms();
        self.inner.store.update_branch(&branch).await?;
        self.inner.changed.notify_waiters();
        Ok(())
    }

    fn folder(&self, id: &BranchId) -> PathBuf {
        self.inner.folder.join(id.as_str())
    }

    /// Makes a branch; returns at once, its files are made meanwhile.
    ///
    /// # Errors
    /// [`BranchError::Url`] for a source that is refused.
    pub async fn create(&self, new: NewBranch) -> Result<Branch, BranchError> {
        let (git_url, git_ref) = match &new.source {
            Source::Empty => (None, None),
            Source::Git { url, reference } => {
                check_url(url, &self.inner.local_git)?;
                if reference
                    .as_ref()
                    .is_some_and(|name| name.starts_with('-') || name.contains(char::is_control))
                {
                    return Err(BranchError::Url("the ref is no name of a branch or tag"));
                }
                (Some(url.clone()), reference.clone())
            }
        };
        let now_ms = self.inner.clock.now_ms();
        let branch = Branch {
            id: BranchId::generate(),
            name: new.name,
            description: String::new(),
            tags: Vec::new(),
            state: BranchState::Creating,
            error: None,
            git_url,
            git_ref,
            forked_from: None,
            created_at_ms: now_ms,
            updated_at_ms: now_ms,
        };
        self.inner.store.insert_branch(&branch).await?;
        let (this, made) = (self.clone(), branch.clone());
        self.inner.tasks.spawn(async move {
            let outcome = make_files(&this.folder(&made.id), &new.source).await;
            let id = made.id.clone();
            let stored = match outcome {
                Ok(()) => this.set_state(made, BranchState::Ready, None).await,
                Err(reason) => this.set_state(made, BranchState::Failed, Some(reason)).await,
            };
            if let Err(error) = stored {
                warn!(branch.id = %id, %error, "could not mark the branch as made");
            }
        });
        Ok(branch)
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
                    BranchState::Failed => return Err(BranchError::Failed(branch.error.unwrap_or_default())),
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
        if let Some(hub) = self.inner.open.lock().get(id).and_then(|cell| cell.get().cloned()) {
            return Ok(hub);
        }
        // In a task of its own: a caller that goes away must not leave a branch half opened, with documents at work
        // that the next opening knows nothing of.
        let (this, id) = (self.clone(), id.clone());
        let opening = self.inner.tasks.spawn(async move { this.open_hub(&id).await });
        opening.await.unwrap_or(Err(BranchError::NotReady))
    }

    async fn open_hub(&self, id: &BranchId) -> Result<Arc<Hub>, BranchError> {
        let cell = Arc::clone(self.inner.open.lock().entry(id.clone()).or_default());
        let opened = cell
            .get_or_try_init(|| async {
                self.ready(id).await?;
                let folder = self.folder(id);
                let workspace = Workspace::open(&folder.join("workspace"), &folder.join("tmp"))
                    .map_err(|error| BranchError::Failed(format!("its files are missing ({error})")))?;
                let inner = &self.inner;
                let (store, log) = (inner.store.clone(), inner.log.clone());
                let (clock, tasks) = (inner.clock.clone(), inner.tasks.clone());
                Ok(Hub::open(id.clone(), workspace, store, log, clock, tasks, inner.max_bytes).await?)
            })
            .await
            .cloned();
        if opened.is_err() {
            let mut open = self.inner.open.lock();
            // Only where nobody else waits for this cell: they may open the branch in it.
            if open.get(id).is_some_and(|of| Arc::ptr_eq(of, &cell) && of.get().is_none())
                && Arc::strong_count(&cell) == 2
            {
                open.remove(id);
            }
        }
        opened
    }

    /// Whether the database takes edits now.
    #[must_use]
    pub fn takes_edits(&self) -> bool {
        !self.inner.log.is_stuck()
    }
}

fn check_url(url: &str, local: &[PathBuf]) -> Result<(), BranchError> {
    if url.len() > 4_096 || url.contains(char::is_control) {
        return Err(BranchError::Url("it is too long or holds control characters"));
    }
    match url::Url::parse(url) {
        Ok(parsed) if matches!(parsed.scheme(), "https" | "http") => {
            if parsed.username().is_empty() && parsed.password().is_none() {
                Ok(())
            } else {
                Err(BranchError::Url("a user or password in the URL would be stored; leave it out"))
            }
        }
        _ => {
            let path = Path::new(url.strip_prefix("file://").unwrap_or(url));
            let real = path.canonicalize().ok();
            let allowed = real.is_some_and(|real| {
                local
                    .iter()
                    .filter_map(|folder| folder.canonicalize().ok())
                    .any(|folder| real.starts_with(folder))
            });
            if allowed && path.is_absolute() {
                Ok(())
            } else {
                Err(BranchError::Url("use https://, or a path beneath a folder given by --allow-local-git"))
            }
        }
    }
}

async fn make_files(folder: &Path, source: &Source) -> Result<(), String> {
    for name in ["home", "tmp"] {
        tokio::fs::create_dir_all(folder.join(name)).await.map_err(|error| error.to_string())?;
    }
    let workspace = folder.join("workspace");
    match source {
        Source::Empty => tokio::fs::create_dir_all(&workspace).await.map_err(|error| error.to_string()),
        Source::Git { url, reference } => {
            clone(url, reference.as_deref(), &workspace, &folder.join("tmp")).await
        }
    }
}

/// Clones with the real git and a fixed configuration: nothing of this machine's or the user's, no hooks, no
/// submodules, no prompts, no hard links to a local source.
async fn clone(url: &str, reference: Option<&str>, to: &Path, empty_home: &Path) -> Result<(), String> {
    let mut git = tokio::process::Command::new("git");
    git.env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", empty_home)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ALLOW_PROTOCOL", "https:http:file")
        .args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "safe.directory=*"])
        .args(["clone", "--quiet", "--no-hardlinks", "--no-recurse-submodules"]);
    if let Some(reference) = reference {
        git.arg("--branch").arg(reference);
    }
    let child = git
        .arg("--")
        .arg(url.strip_prefix("file://").unwrap_or(url))
        .arg(to)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(CLONE_WITHIN, child)
        .await
        .map_err(|_| "the clone took longer than an hour".to_owned())?
        .map_err(|error| format!("git can't be started: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said: String = String::from_utf8_lossy(&output.stderr)
        .chars()
        .filter(|c| !c.is_control() || *c == '\n')
        .take(1_000)
        .collect();
    Err(format!("git clone failed: {}", said.trim()))
}
