//! Locks of git's that stand in the way: those that somebody holds are waited for, those that were left behind removed.
//!
//! Git marks what it is about to change by a file beside it (`index.lock`) that it makes, and removes at the end. One that is
//! killed leaves it there. Processes of sessions end with their session and with perch, so whoever held a lock is among the
//! processes of the sessions that were there when it was last written, or gone.

use super::agents::Agents;
use crate::branch::Hub;
use crate::workspace::GitLock;
use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a lock is waited for that a live process may hold.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// A lock is left behind only if it is this old: a program of another kind than git, which closes it before it is done,
/// is not told from others.
const LEFT_AFTER_MS: i64 = 2_000;
/// The clock that stamps files may go behind by this.
const COARSE_MS: i64 = 20;

/// Looks after the locks of a branch's repository; cheap to clone.
#[derive(Clone, Debug)]
pub struct Locks {
    agents: Agents,
    hub: Arc<Hub>,
}

impl Locks {
    /// Those of the branch.
    #[must_use]
    pub fn new(agents: Agents, hub: Arc<Hub>) -> Self {
        Self { agents, hub }
    }

    /// Waits until the lock is gone, or removes it if it was left behind; `false` when somebody holds it for too long.
    /// `name`: beneath `.git`.
    pub async fn free(&self, name: &str) -> bool {
        let files = self.hub.workspace();
        let until = Instant::now() + PATIENCE;
        loop {
            let Ok(lock) = files.git_lock(name).await else { return false };
            let Some(lock) = lock else { return true };
            if self.is_left_behind(lock).await
                && files.remove_git_lock(name, lock).await.is_ok_and(|was_removed| was_removed)
            {
                tracing::warn!(branch.id = %self.hub.branch(), "removed .git/{name}, which a git that was ended left behind");
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Removes a lock that was left behind, once it is old enough for that to be told; one that somebody holds is none of
    /// this. `name`: beneath `.git`.
    pub async fn sweep(&self, name: &str) {
        if let Ok(Some(lock)) = self.hub.workspace().git_lock(name).await
            && !self.is_held(lock).await
        {
            self.free(name).await;
        }
    }

    async fn is_left_behind(&self, lock: GitLock) -> bool {
        self.hub.now_ms() - lock.modified_ms >= LEFT_AFTER_MS && !self.is_held(lock).await
    }

    async fn is_held(&self, lock: GitLock) -> bool {
        if lock.is_open {
            return true;
        }
        // What began after it was made does not hold it.
        let sessions = self.agents.there_at(self.hub.branch(), lock.modified_ms + COARSE_MS);
        tokio::task::spawn_blocking(move || any_git(&sessions)).await.unwrap_or(true)
    }
}

/// Whether a git is among the processes that came of `first`. Where that can't be told, it is.
fn any_git(first: &[i32]) -> bool {
    let Ok(entries) = fs::read_dir("/proc") else { return true };
    let mut parents = HashMap::new();
    let mut gits = Vec::new();
    for pid in entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        // One that can't be read has ended.
        let Ok(stat) = fs::read(format!("/proc/{pid}/stat")) else { continue };
        let Some((name, parent)) = name_and_parent(&String::from_utf8_lossy(&stat)) else { continue };
        if name.starts_with("git") {
            gits.push(pid);
        }
        parents.insert(pid, parent);
    }
    gits.into_iter().any(|git| {
        let above = std::iter::successors(Some(git), |pid| parents.get(pid).copied());
        // Bounded: a number that was given anew while this was read may close a circle.
        above.take(1_000).any(|pid| first.contains(&pid))
    })
}

/// Out of `/proc/<pid>/stat`; the name may hold anything.
fn name_and_parent(stat: &str) -> Option<(String, i32)> {
    let (before, after) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1;
    Some((name.to_owned(), after.split_whitespace().nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_name_and_parent() {
        assert_eq!(name_and_parent("12 (git) S 7 12 12 0"), Some(("git".into(), 7)));
        assert_eq!(name_and_parent("12 (a) b (c)) R 9 1"), Some(("a) b (c)".into(), 9)));
        for bad in ["", "12", "12 (git", "12 (git) S", "12 (git) S x"] {
            assert_eq!(name_and_parent(bad), None, "{bad}");
        }
        assert!(!any_git(&[]));
    }
}
