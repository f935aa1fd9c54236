//! Holds a branch's processes to its size: the folders that they share have no quota of the file system's.
//!
//! Branches with agents are measured over and over. In one that has grown past its bound no process can write to a file
//! any more, what is removed makes room; one that grows on all the same loses its processes.

use super::agents::Agents;
use crate::agent::Agent;
use crate::base::BranchId;
use crate::branch::{Event, Hub};
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
#[derive(Debug)]
struct Known {
    is_full: bool,
    again_at: Instant,
}

/// Looks after all branches until perch stops.
pub(super) async fn look_after(agents: Agents, max_bytes: u64) {
    let stop = agents.tasks().stopping().clone();
    let mut known: HashMap<BranchId, Known> = HashMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY / 4) => {}
        }
        let running = agents.by_branch();
        known.retain(|id, _| running.contains_key(id));
        for (id, (hub, seated)) in running {
            let was_full = known.get(&id).is_some_and(|known| known.is_full);
            // One that has started since is told as well.
            tell(&seated, !was_full).await;
            if known.get(&id).is_some_and(|known| known.again_at > Instant::now()) {
                continue;
            }
            let began = Instant::now();
            let Ok(size_bytes) = hub.measure().await else { continue };
            let is_full = size_bytes >= max_bytes;
            let again_at = Instant::now() + EVERY.max(began.elapsed() * REST);
            known.insert(id, Known { is_full, again_at });
            if is_full && !was_full {
                hub.events().publish(&Event::BranchFull { size_bytes, max_bytes });
            }
            tell(&seated, !is_full).await;
            if was_full && size_bytes > max_bytes.saturating_add(BEYOND) {
                tracing::warn!(branch.id = %hub.branch(), size_bytes, "processes of a branch that is full are ended: they still write");
                for agent in &seated {
                    agent.end();
                }
            }
        }
    }
}

async fn tell(agents: &[Agent], may_write: bool) {
    for agent in agents {
        // One that has ended writes no more.
        let _ = agent.may_write(may_write).await;
    }
}

/// The branches that something may run in.
pub(super) type Running = HashMap<BranchId, (Arc<Hub>, Vec<Agent>)>;
