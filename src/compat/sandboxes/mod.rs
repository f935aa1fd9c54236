//! Sandboxes: branches that the SDK starts, puts to sleep and stops. What is running is kept here; the rest is a row.
//!
//! Everything that begins or ends a [`Life`] has the branch's turn, so a start that comes while a sandbox goes to sleep
//! waits until it sleeps, and wakes it.

mod idle;

use crate::base::BranchId;
use crate::branch::BranchError;
use crate::http::AppState;
use crate::store::{Sandbox, SandboxState, StoreError};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{info, warn};

/// How long sockets may take to say good-bye.
const CLIENTS_WITHIN: Duration = Duration::from_secs(5);
/// Without anybody who said otherwise a sandbox hibernates after this many seconds without activity.
pub(super) const HIBERNATION_TIMEOUT_S: i64 = 1_800;
/// The size that is reported where none was asked for.
pub(super) const TIER: &str = "Micro";
/// The privacy of a branch that the SDK did not make: private.
pub(super) const PRIVATE: i64 = 2;

/// What a branch is to the SDK that it never used.
pub(super) fn unused() -> Sandbox {
    Sandbox {
        privacy: PRIVATE,
        tier: TIER.to_owned(),
        hibernation_timeout_s: HIBERNATION_TIMEOUT_S,
        is_template: false,
        is_default: false,
        state: SandboxState::Stopped,
        started_at_ms: None,
        active_at_ms: None,
    }
}

/// How a sandbox came to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bootup {
    /// For the first time since it was forked.
    Fork,
    /// It ran already.
    Running,
    /// Out of hibernation.
    Resume,
    /// From stopped.
    Clean,
}

impl Bootup {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Fork => "FORK",
            Self::Running => "RUNNING",
            Self::Resume => "RESUME",
            Self::Clean => "CLEAN",
        }
    }
}

/// One stretch of time in which a sandbox runs: from a start to the next hibernation, shutdown or deletion.
#[derive(Debug)]
pub(super) struct Life {
    clock: crate::base::Clock,
    /// How it began.
    pub(super) bootup: Bootup,
    /// Milliseconds since 1970.
    pub(super) started_at_ms: i64,
    going: CancellationToken,
    has_begun: AtomicBool,
    clients: TaskTracker,
    active_at_ms: AtomicI64,
    timeout_s: AtomicI64,
}

impl Life {
    /// `true` once: what belongs to its begin is to be done.
    pub(super) fn begins_once(&self) -> bool {
        !self.has_begun.swap(true, Ordering::Relaxed)
    }

    /// Something was asked of the sandbox; heartbeats are nothing.
    pub(super) fn active(&self) {
        self.active_at_ms.store(self.clock.now_ms(), Ordering::Relaxed);
    }

    /// When something was asked last.
    pub(super) fn active_at_ms(&self) -> i64 {
        self.active_at_ms.load(Ordering::Relaxed)
    }

    /// How long nothing may be asked before it hibernates.
    fn timeout_ms(&self) -> i64 {
        self.timeout_s.load(Ordering::Relaxed).saturating_mul(1_000)
    }

    /// Sockets that are open.
    pub(super) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Cancelled when the sandbox is about to hibernate, stop or be deleted: a client is told `system/hibernate`, then its
    /// socket is closed, then its [`Life::client`] is dropped; at most 5 s are waited for that.
    pub(super) fn going(&self) -> &CancellationToken {
        &self.going
    }

    /// Makes hibernation wait for a socket, until what is returned is dropped.
    pub(super) fn client(&self) -> TaskTrackerToken {
        self.clients.token()
    }
}

#[derive(Debug, Default)]
struct Slot {
    turn: Arc<tokio::sync::Mutex<()>>,
    life: Mutex<Option<Arc<Life>>>,
}

/// See the module's docs; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Sandboxes {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    app: AppState,
    /// Those that run or are about to begin or end.
    slots: Mutex<HashMap<BranchId, Arc<Slot>>>,
}

impl Sandboxes {
    pub(super) fn new(app: AppState) -> Self {
        let this = Self { inner: Arc::new(Inner { app, slots: Mutex::default() }) };
        this.inner.app.tasks.spawn(idle::look_after(this.clone()));
        this
    }

    /// The branch's turn: until it is dropped nobody else starts or ends the sandbox.
    async fn turn(&self, branch: &BranchId) -> (Arc<Slot>, OwnedMutexGuard<()>) {
        let slot = {
            let mut slots = self.inner.slots.lock();
            slots.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.life.lock().is_some());
            Arc::clone(slots.entry(branch.clone()).or_default())
        };
        let turn = Arc::clone(&slot.turn).lock_owned().await;
        (slot, turn)
    }

    /// Starts or wakes a sandbox; one that runs goes on.
    ///
    /// # Errors
    /// As [`crate::branch::Branches::hub`].
    pub(super) async fn start(
        &self,
        branch: &BranchId,
        change: impl FnOnce(&mut Sandbox),
    ) -> Result<(Bootup, Arc<Life>), BranchError> {
        let app = &self.inner.app;
        let (slot, _turn) = self.turn(branch).await;
        app.branches.hub(branch).await?;
        let present = slot.life.lock().clone();
        let now_ms = app.clock.now_ms();
        let mut bootup = Bootup::Running;
        let sandbox = app.store.change_sandbox(branch, unused(), |sandbox| {
            change(sandbox);
            if present.is_none() {
                bootup = match sandbox.state {
                    SandboxState::New => Bootup::Fork,
                    SandboxState::Hibernated => Bootup::Resume,
                    SandboxState::Stopped | SandboxState::Running => Bootup::Clean,
                };
                (sandbox.state, sandbox.started_at_ms) = (SandboxState::Running, Some(now_ms));
            }
            sandbox.active_at_ms = Some(now_ms);
        });
        let sandbox = sandbox.await?;
        if let Some(life) = present {
            life.timeout_s.store(sandbox.hibernation_timeout_s, Ordering::Relaxed);
            life.active();
            return Ok((bootup, life));
        }
        let life = Arc::new(Life {
            clock: app.clock.clone(),
            bootup,
            started_at_ms: now_ms,
            // Not of perch's end: when that comes clients are to come back by themselves.
            going: CancellationToken::new(),
            has_begun: AtomicBool::new(false),
            clients: TaskTracker::new(),
            active_at_ms: AtomicI64::new(now_ms),
            timeout_s: AtomicI64::new(sandbox.hibernation_timeout_s),
        });
        *slot.life.lock() = Some(Arc::clone(&life));
        info!(branch.id = %branch, "the sandbox starts: {}", bootup.as_str());
        Ok((bootup, life))
    }

    /// Those that run.
    pub(super) fn running(&self) -> Vec<(BranchId, Arc<Life>)> {
        let slots = self.inner.slots.lock();
        slots.iter().filter_map(|(id, slot)| Some((id.clone(), slot.life.lock().clone()?))).collect()
    }

    /// Changes what is kept of a sandbox, felt at once where it runs.
    ///
    /// # Errors
    /// As [`crate::branch::Branches::ready`].
    pub(super) async fn set(
        &self,
        branch: &BranchId,
        change: impl FnOnce(&mut Sandbox),
    ) -> Result<Sandbox, BranchError> {
        let (slot, _turn) = self.turn(branch).await;
        self.inner.app.branches.ready(branch).await?;
        let sandbox = self.inner.app.store.change_sandbox(branch, unused(), change).await?;
        if let Some(life) = &*slot.life.lock() {
            life.timeout_s.store(sandbox.hibernation_timeout_s, Ordering::Relaxed);
            life.active();
        }
        Ok(sandbox)
    }

    /// Puts a sandbox to sleep. One that does not run stays what it is.
    ///
    /// # Errors
    /// [`BranchError::NotFound`], [`BranchError::Store`].
    pub(super) async fn hibernate(&self, branch: &BranchId) -> Result<(), BranchError> {
        let (slot, _turn) = self.turn(branch).await;
        self.inner.app.branches.ready(branch).await?;
        let Some(life) = slot.life.lock().take() else { return Ok(()) };
        Ok(self.sleep(branch, &life).await?)
    }

    /// The same for one that is idle, unless something was asked of it meanwhile. One whose branch is gone is forgotten.
    async fn fall_asleep(&self, branch: &BranchId, idle: &Arc<Life>) -> Result<(), StoreError> {
        let (slot, _turn) = self.turn(branch).await;
        let is_same = slot.life.lock().as_ref().is_some_and(|life| Arc::ptr_eq(life, idle));
        if !is_same || !idle::is_idle(self, branch, idle) {
            return Ok(());
        }
        let is_there = self.inner.app.store.branch(branch).await?.is_some();
        slot.life.lock().take();
        if is_there { self.sleep(branch, idle).await } else { Ok(()) }
    }

    async fn sleep(&self, branch: &BranchId, life: &Life) -> Result<(), StoreError> {
        self.end(branch, life).await;
        self.set_state(branch, SandboxState::Hibernated, Some(life.active_at_ms())).await?;
        info!(branch.id = %branch, "the sandbox hibernates");
        Ok(())
    }

    /// Ends all that runs in a sandbox, running or asleep.
    ///
    /// # Errors
    /// [`BranchError::NotFound`], [`BranchError::Store`].
    pub(super) async fn shutdown(&self, branch: &BranchId) -> Result<(), BranchError> {
        let (slot, _turn) = self.turn(branch).await;
        self.inner.app.branches.ready(branch).await?;
        let life = slot.life.lock().take();
        match &life {
            Some(life) => self.end(branch, life).await,
            // Processes that were started by other ways than the SDK.
            None => self.inner.app.agents.end_of(branch).await,
        }
        let active_at_ms = life.map(|life| life.active_at_ms());
        self.set_state(branch, SandboxState::Stopped, active_at_ms).await?;
        info!(branch.id = %branch, "the sandbox is shut down");
        Ok(())
    }

    /// Deletes a sandbox with all it holds.
    ///
    /// # Errors
    /// As [`crate::branch::Branches::delete`].
    pub(super) async fn delete(&self, branch: &BranchId) -> Result<(), BranchError> {
        let (slot, _turn) = self.turn(branch).await;
        let life = slot.life.lock().take();
        if let Some(life) = life {
            self.end(branch, &life).await;
        }
        self.inner.app.branches.delete(branch).await
    }

    async fn set_state(
        &self,
        branch: &BranchId,
        state: SandboxState,
        active_at_ms: Option<i64>,
    ) -> Result<(), StoreError> {
        let changed = self.inner.app.store.change_sandbox(branch, unused(), |sandbox| {
            sandbox.state = state;
            sandbox.active_at_ms = active_at_ms.or(sandbox.active_at_ms);
        });
        changed.await.map(|_| ())
    }

    /// Clients say good-bye, what was typed reaches the disk, processes end.
    async fn end(&self, branch: &BranchId, life: &Life) {
        let app = &self.inner.app;
        life.going.cancel();
        life.clients.close();
        if tokio::time::timeout(CLIENTS_WITHIN, life.clients.wait()).await.is_err() {
            warn!(branch.id = %branch, "some sockets of a sandbox did not close in time");
        }
        if let Some(hub) = app.branches.opened(branch)
            && let Err(error) = hub.barrier(CLIENTS_WITHIN).await
        {
            warn!(branch.id = %branch, "not all is on disk as a sandbox ends, its log has it: {error}");
        }
        app.agents.end_of(branch).await;
    }
}
