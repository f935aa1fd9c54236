//! Loose objects, packed when there are many: git's own `gc` is off while people wait.
//!
//! Packing loses nothing, neither what no reference leads to nor what somebody is about to refer to.

use super::{Git, Hub};
use crate::base::Tasks;
use crate::git::Command;
use std::sync::Arc;

/// A folder of objects, one of 256 alike.
const FOLDER: &str = "objects/17";
/// With more in it there are about 6,700 loose ones, from which on git's own `gc` packs too.
const MANY: usize = 27;

async fn is_due(hub: &Hub) -> bool {
    hub.workspace().git_count(FOLDER, MANY + 1).await.is_ok_and(|count| count > MANY)
}

/// Sees to it that the branch's loose objects are packed, if there are many: in a turn of its own, after those that wait.
pub(super) async fn tidy(hub: &Arc<Hub>, git: &Git, tasks: &Tasks) {
    if !is_due(hub).await {
        return;
    }
    let (hub, git) = (Arc::clone(hub), git.clone());
    tasks.spawn(async move {
        let _turn = hub.git_turn().await;
        // Somebody else's turn came first.
        if !is_due(&hub).await {
            return;
        }
        let pack = Command::new("maintenance").options(["run", "--quiet", "--task=loose-objects"]);
        // Packed ones stay beside their packs until this.
        let prune = Command::new("prune-packed").option("--quiet");
        for command in [pack, prune] {
            if let Err(error) = git.run(command).await {
                tracing::info!(branch.id = %hub.branch(), "loose objects are not packed: {error}");
                return;
            }
        }
    });
}
