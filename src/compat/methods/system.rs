//! `system/…`: signs of life, sleep, what the sandbox takes.

use super::{Nothing, method};
use crate::compat::socket::{Answer, Answered, Client, Fault, Method};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

pub(super) const METHODS: &[Method] = &[
    method!("system/update", Read, Free, update),
    method!("system/hibernate", Write, Free, hibernate),
    method!("system/metrics", Read, Free, metrics),
];

/// How long processes are looked at to see how much of the processors they use.
const SAMPLE: Duration = Duration::from_millis(250);

/// That it was asked for is what counts: every request is activity.
async fn update(_: &Arc<Client>, _: Nothing) -> Answered {
    Answer::empty()
}

async fn hibernate(client: &Arc<Client>, _: Nothing) -> Answered {
    client.writer()?;
    let (compat, branch) = (client.compat().clone(), client.hub().branch().clone());
    // After the answer, which goes out before the socket is closed.
    Ok(Answer::nil()?.then(move || {
        let tasks = compat.app.tasks.clone();
        tasks.spawn(async move {
            if let Err(error) = compat.sandboxes.hibernate(&branch).await {
                tracing::warn!(branch.id = %branch, "the sandbox can't hibernate: {error}");
            }
        });
    }))
}

/// What the processes of all sessions take together, and what the branch may: cores, bytes of memory, bytes of its folders.
async fn metrics(client: &Arc<Client>, _: Nothing) -> Answered {
    let (agents, hub) = (&client.app().agents, client.hub());
    let (before, began) = (agents.taken(hub.branch()).await, Instant::now());
    tokio::time::sleep(SAMPLE).await;
    let now = agents.taken(hub.branch()).await;
    // One that ended meanwhile took its time with it.
    let used = ((now.cpu_seconds - before.cpu_seconds) / began.elapsed().as_secs_f64()).max(0.0);
    let stored = hub.measure().await.map_err(|error| Fault::internal(&error))?;
    let limits = &agents.options().branch_limits;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    #[expect(clippy::cast_precision_loss, reason = "hundredths of cores")]
    let configured = limits.cpu_percent as f64 / 100.0;
    Answer::of(&json!({
        "cpu": { "cores": cores, "used": used, "configured": configured },
        "memory": {
            "used": now.memory_bytes, "total": limits.memory_bytes, "configured": limits.memory_bytes,
        },
        "storage": {
            "used": stored, "total": agents.options().max_branch_bytes,
            "configured": agents.options().max_branch_bytes,
        },
    }))
}
