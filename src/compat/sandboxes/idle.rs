//! Sandboxes of which nothing was asked for as long as their timeout says go to sleep. Heartbeats of sockets ask for
//! nothing; requests, visits of previews, and members who are connected by the native API do.

use super::{Life, Sandboxes};
use crate::base::BranchId;
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Looks after all sandboxes until perch stops.
pub(super) async fn look_after(sandboxes: Sandboxes) {
    let app = &sandboxes.inner.app;
    let stop = app.tasks.stopping().clone();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        for (branch, life) in sandboxes.running() {
            if is_idle(&sandboxes, &branch, &life) {
                let (sandboxes, life) = (sandboxes.clone(), Arc::clone(&life));
                app.tasks.spawn(async move {
                    if let Err(error) = sandboxes.fall_asleep(&branch, &life).await {
                        warn!(branch.id = %branch, %error, "an idle sandbox could not hibernate; it is tried again");
                    }
                });
            }
        }
    }
}

/// Whether nothing was asked of a sandbox for as long as its timeout.
pub(super) fn is_idle(sandboxes: &Sandboxes, branch: &BranchId, life: &Life) -> bool {
    let app = &sandboxes.inner.app;
    let mut active_at_ms = life.active_at_ms();
    if let Some(hub) = app.branches.opened(branch) {
        let connected: usize = hub.members().present().iter().map(|member| member.connected().count).sum();
        if connected > life.clients() || hub.has_visits() {
            life.active();
            return false;
        }
        active_at_ms = active_at_ms.max(hub.visited_at_ms());
    }
    app.clock.now_ms() >= active_at_ms.saturating_add(life.timeout_ms())
}
