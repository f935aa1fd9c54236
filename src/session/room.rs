//! Holds a branch's processes to its size: the folders that they share have no quota of the file system's.
//!
//! Branches with agents are measured over and over. In one that has grown past its bound no process can write to a file
//! any more, what is removed makes room; one that grows on all the same loses its processes.

use super::agents::Agents;
use crate::agent::Agent;
use crate::base::BranchId;
use crate::branch::{Event, Hub};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two measurements of a branch, at least …
const EVERY: Duration = Duration::from_secs(2);
/// … and this many times what the last one took, so that huge trees are not walked all day.
const REST: u32 = 20;
/// What may be under way when writing ends; past it processes are ended.
const BEYOND: u64 = 64 * 1024 * 1024;

/// How a branch stood when it was measured last.
#[derive(Clone, Copy, Debug)]
struct Known {
    is_full: bool,
    /// `None` while it is measured.
    again_at: Option<Instant>,
}

/// The branches that something may run in.
pub(super) type Running = HashMap<BranchId, (Arc<Hub>, Vec<Agent>)>;

/// Looks after all branches until perch stops.
pub(super) async fn look_after(agents: Agents) {
    let max_bytes = agents.options().max_branch_bytes;
    let stop = agents.tasks().stopping().clone();
    let known: Arc<Mutex<HashMap<BranchId, Known>>> = Arc::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY / 4) => {}
        }
        let running = agents.by_branch();
        known.lock().retain(|id, _| running.contains_key(id));
        for (id, (hub, seated)) in running {
            let before = known.lock().get(&id).copied();
            let before = before.unwrap_or(Known { is_full: false, again_at: Some(Instant::now()) });
            // One that has started since is told as well.
            tell(&seated, !before.is_full);
            if before.again_at.is_none_or(|at| at > Instant::now()) {
                continue;
            }
            known.lock().insert(id.clone(), Known { again_at: None, ..before });
            let known = Arc::clone(&known);
            // Each in a task of its own: one that takes long keeps no other from being measured.
            agents.tasks().spawn(async move {
                let began = Instant::now();
                let size_bytes = hub.measure().await.unwrap_or(0);
                let is_full = size_bytes >= max_bytes;
                let again_at = Some(Instant::now() + EVERY.max(began.elapsed() * REST));
                known.lock().insert(id, Known { is_full, again_at });
                if is_full && !before.is_full {
                    hub.events().publish(&Event::BranchFull { size_bytes, max_bytes });
                }
                tell(&seated, !is_full);
                if before.is_full && size_bytes > max_bytes.saturating_add(BEYOND) {
                    let id = hub.branch();
                    tracing::warn!(branch.id = %id, size_bytes, "processes of a full branch are ended: they still write");
                    for agent in &seated {
                        agent.end();
                    }
                }
            });
        }
    }
}

fn tell(agents: &[Agent], may_write: bool) {
    for agent in agents {
        agent.may_write(may_write);
    }
}
