//! The agents of sessions: one for each session that ran something, started when it is first needed.
//!
//! An agent keeps its branch open and lives until its session ends, its right changes (mounts that can be written do not
//! become ones that can't), the branch goes, or perch stops. It is not ended with the session's tokens or sockets:
//! `~/.private` survives a reconnect.

use super::room::{self, Running};
use crate::agent::{Agent, AgentError, Port, Taken, taken};
use crate::base::{BranchId, Permission, SessionId, Tasks};
use crate::branch::{Hub, Member};
use crate::egress;
use crate::sandbox::{Cgroups, Failed, Level, Limits, Network, NetworkError, Spec, Standing};
use crate::store::{SessionRow, StoreError};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use tokio::sync::{OnceCell, watch};

/// Agents of one perch at once.
pub const MAX_AGENTS: usize = 1_000;

/// How sessions' sandboxes are to be.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// What the machine allows.
    pub standing: Standing,
    /// Groups that bound sums.
    pub cgroups: Cgroups,
    /// Bounds of one session.
    pub limits: Limits,
    /// Bounds of one branch's sum.
    pub branch_limits: Limits,
    /// Bytes of a branch's folders; past it its processes can't write to files.
    pub max_branch_bytes: u64,
    /// More folders of the machine that sessions may read.
    pub image: Vec<PathBuf>,
    /// SSH servers that git meets for the first time are believed.
    pub trusts_first_ssh: bool,
}

/// Why there is no agent.
#[derive(Debug, thiserror::Error)]
pub enum AgentsError {
    /// The machine refuses what sandboxes need.
    #[error("this machine refuses what sessions' processes need: {0}")]
    Refused(String),
    /// Too many run.
    #[error("{MAX_AGENTS} sessions run processes; end some sessions")]
    TooMany,
    /// Without isolation only the owner may.
    #[error(
        "perch runs with --isolation=none: only the owner's token may run something, in one session at a time"
    )]
    OwnerOnly,
    /// The branch's network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The agent.
    #[error(transparent)]
    Agent(#[from] AgentError),
}

type Key = (BranchId, SessionId);
type Cell = Arc<OnceCell<Seated>>;

/// An agent, and what its session was when it was started.
#[derive(Clone, Debug)]
struct Seated {
    agent: Agent,
    hub: Weak<Hub>,
    created_at_ms: i64,
    changed_at_ms: i64,
    permission: Permission,
    started_at_ms: i64,
}

impl Seated {
    /// Whether a reading of the session's row says that this agent is over; an older reading says nothing.
    fn is_over(&self, row: &SessionRow) -> bool {
        let is_other = self.created_at_ms != row.created_at_ms || self.permission != row.permission;
        self.agent.has_ended() || (is_other && row.updated_at_ms > self.changed_at_ms)
    }
}

/// See the module's docs; cheap to clone.
#[derive(Clone, Debug)]
pub struct Agents {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: AgentOptions,
    tasks: Tasks,
    cells: Mutex<HashMap<Key, Cell>>,
}

impl Agents {
    /// No agent yet.
    #[must_use]
    pub fn new(options: AgentOptions, tasks: Tasks) -> Self {
        let agents = Self { inner: Arc::new(Inner { options, tasks, cells: Mutex::default() }) };
        agents.inner.tasks.spawn(room::look_after(agents.clone()));
        agents
    }

    /// Where all tasks of this perch run.
    #[must_use]
    pub fn tasks(&self) -> &Tasks {
        &self.inner.tasks
    }

    /// How sandboxes are.
    #[must_use]
    pub fn options(&self) -> &AgentOptions {
        &self.inner.options
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.inner.cells.lock().len()
    }

    /// The agents that run, by their branches.
    pub(super) fn by_branch(&self) -> Running {
        let mut running = Running::new();
        for ((branch, _), cell) in self.inner.cells.lock().iter() {
            if let Some(seated) = cell.get()
                && let Some(hub) = seated.hub.upgrade()
            {
                let (_, agents) = running.entry(branch.clone()).or_insert_with(|| (hub, Vec::new()));
                agents.push(seated.agent.clone());
            }
        }
        running
    }

    /// What the processes of a branch's sessions hold and have used.
    pub async fn taken(&self, branch: &BranchId) -> Taken {
        let roots = self.there_at(branch, i64::MAX);
        tokio::task::spawn_blocking(move || taken(Path::new("/proc"), &roots)).await.unwrap_or_default()
    }

    /// The first processes of a branch's sessions that were there at that time.
    pub(super) fn there_at(&self, branch: &BranchId, at_ms: i64) -> Vec<i32> {
        let cells = self.inner.cells.lock();
        let of_branch = cells.iter().filter(|((of, _), _)| of == branch).filter_map(|(_, cell)| cell.get());
        of_branch.filter(|seated| seated.started_at_ms <= at_ms).map(|seated| seated.agent.pid()).collect()
    }

    /// The session's agent, started where there is none. `is_owner`: the caller holds an owner token.
    ///
    /// # Errors
    /// See [`AgentsError`].
    pub async fn get(&self, hub: &Arc<Hub>, row: &SessionRow, is_owner: bool) -> Result<Agent, AgentsError> {
        let options = &self.inner.options;
        if let Some(reason) = &options.standing.refused {
            return Err(AgentsError::Refused(reason.clone()));
        }
        let key = (row.branch_id.clone(), row.id.clone());
        // One of a session that was ended or changed since is about to go; the new one starts when it has.
        let old = self.inner.cells.lock().get(&key).cloned();
        if let Some(old) = old
            && let Some(seated) = old.get().filter(|seated| seated.is_over(row))
        {
            seated.agent.end();
            seated.agent.ended().await;
            self.forget(&key, &old);
        }
        let is_bare = options.standing.level == Level::None;
        if is_bare && !is_owner {
            return Err(AgentsError::OwnerOnly);
        }
        let cell = {
            let mut cells = self.inner.cells.lock();
            if !cells.contains_key(&key) {
                if is_bare && !cells.is_empty() {
                    return Err(AgentsError::OwnerOnly);
                }
                if cells.len() >= MAX_AGENTS {
                    return Err(AgentsError::TooMany);
                }
            }
            Arc::clone(cells.entry(key.clone()).or_default())
        };
        // In a task of its own: a caller that goes away leaves no half-started process.
        let (this, hub, row) = (self.clone(), Arc::clone(hub), row.clone());
        let starting = self.inner.tasks.spawn(async move {
            let started = cell.get_or_try_init(|| this.start(&hub, &row, key.clone(), &cell)).await.cloned();
            if started.is_err() {
                this.forget(&key, &cell);
            }
            started
        });
        let seated = starting.await.map_err(|_| AgentError::Ended)??;
        Ok(seated.agent)
    }

    async fn start(
        &self,
        hub: &Arc<Hub>,
        row: &SessionRow,
        key: Key,
        cell: &Cell,
    ) -> Result<Seated, AgentsError> {
        let inner = &self.inner;
        let options = &inner.options;
        // Held before anything is looked at: who removes the branch waits from now on, or has ended its members already.
        let runner = hub.runner();
        // Listened to before it starts: a change meanwhile ends it. One before this was told to nobody, so it is read again.
        let member = hub.members().enter(row);
        let watch = member.watch();
        let now = hub.session_now(&row.id).await?;
        let is_same =
            now.is_some_and(|now| now.created_at_ms == row.created_at_ms && now.permission == row.permission);
        if !is_same || member.standing().is_ended {
            return Err(AgentError::Ended.into());
        }
        let is_bare = options.standing.level == Level::None;
        let network = if is_bare { None } else { Some(hub.network().await?) };
        let namespace =
            network.and_then(Network::namespace).map(|held| held.try_clone_to_owned()).transpose();
        let namespace = namespace.map_err(|error| Failed::new("network", error)).map_err(AgentError::from)?;
        let environment = network.map(egress::environment).unwrap_or_default();
        let (groups, limits, of_branch) = (options.cgroups.clone(), options.limits, options.branch_limits);
        let (branch, session) = (row.branch_id.to_string(), row.id.to_string());
        let cgroup =
            tokio::task::spawn_blocking(move || groups.session(&branch, &session, &limits, &of_branch))
                .await
                .unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let cgroup = match cgroup {
            Ok(cgroup) => Some(cgroup),
            Err(error) => {
                tracing::warn!(%error, "a session runs without a group that bounds it");
                None
            }
        };
        let spec = Spec {
            places: hub.places(),
            hostname: hostname(&row.branch_id),
            uid: hub.workspace().owner().uid(),
            is_read_only: row.permission == Permission::Read,
            has_network: namespace.is_some(),
            is_bare,
            limits: options.limits,
            watches_memory: !is_bare && (cgroup.is_none() || options.cgroups.why_not().is_some()),
            image: options.image.clone(),
            environment: environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            git_config: git_config(row),
        };
        let started_at_ms = hub.now_ms();
        let agent = Agent::start(spec, namespace, cgroup, &inner.tasks).await?;
        let present = Arc::downgrade(hub);
        let (this, cell, hub) = (self.clone(), Arc::clone(cell), Arc::clone(hub));
        let guarded = agent.clone();
        let permission = row.permission;
        let (ports, session, telling) = (agent.ports(), row.id.clone(), Arc::clone(&hub));
        inner.tasks.spawn(tell_ports(ports, session, telling));
        inner.tasks.spawn(async move {
            this.guard(&guarded, permission, &member, watch).await;
            this.forget(&key, &cell);
            drop((runner, hub));
        });
        Ok(Seated {
            agent,
            hub: present,
            created_at_ms: row.created_at_ms,
            changed_at_ms: row.updated_at_ms,
            permission,
            started_at_ms,
        })
    }

    /// Ends the processes of all sessions of a branch, and waits until they are over; one that is just being started too.
    pub async fn end_of(&self, branch: &BranchId) {
        let cells: Vec<_> = {
            let cells = self.inner.cells.lock();
            cells
                .iter()
                .filter(|((of, _), _)| of == branch)
                .map(|(key, cell)| (key.clone(), Arc::clone(cell)))
                .collect()
        };
        for (key, cell) in cells {
            // Waits for one that is being started; makes none.
            if let Ok(seated) = cell.get_or_try_init(|| async { Err(()) }).await {
                seated.agent.end();
                seated.agent.ended().await;
                self.forget(&key, &cell);
            }
        }
    }

    /// Ends the agent when its session is no longer what it was started for; returns when it is over.
    async fn guard(
        &self,
        agent: &Agent,
        permission: Permission,
        member: &Member,
        mut watch: watch::Receiver<crate::branch::Standing>,
    ) {
        loop {
            let standing = member.standing();
            if standing.is_ended || standing.permission != permission {
                agent.end();
            }
            tokio::select! {
                () = agent.ended() => return,
                changed = watch.changed() => if changed.is_err() {
                    agent.end();
                    agent.ended().await;
                    return;
                },
            }
        }
    }

    fn forget(&self, key: &Key, cell: &Cell) {
        let mut cells = self.inner.cells.lock();
        if cells.get(key).is_some_and(|present| Arc::ptr_eq(present, cell)) {
            cells.remove(key);
        }
    }
}

/// Tells the branch which ports the session's agent sees, until it ends.
async fn tell_ports(mut ports: watch::Receiver<Vec<Port>>, session: SessionId, hub: Arc<Hub>) {
    while ports.changed().await.is_ok() {
        let seen = ports.borrow_and_update().clone();
        hub.ports().report(&session, seen);
    }
    hub.ports().report(&session, Vec::new());
}

/// The branch's id without its prefix's underscore, and short: it stands in each prompt.
fn hostname(branch: &BranchId) -> String {
    let id = branch.as_str();
    format!("perch-{}", &id[id.len().saturating_sub(8)..])
}

/// Who commits made here are by. As a file, so that tools that set it otherwise are heeded, in this session alone. Without an
/// address git asks for one: it would make one up of the machine's names.
fn git_config(row: &SessionRow) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let name = row.name.clone().unwrap_or_else(|| row.id.to_string());
    let email = row.email.as_ref().map(|email| format!("\temail = {}\n", quoted(email))).unwrap_or_default();
    format!("[user]\n\tname = {}\n{email}\tuseConfigOnly = true\n", quoted(&name))
}
