//! The tasks of one server: all are counted, all hear of the end.

use std::future::Future;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Spawns tasks that orderly shutdown waits for. Clones share one set.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// A set with no task in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `future` as a task. It should end by itself soon after [`Tasks::stopping`] is cancelled.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that may")]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.tracker.track_future(future))
    }

    /// Cancelled when the server is asked to stop.
    #[must_use]
    pub fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// How many tasks run now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether no task runs now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Tells all tasks to end and waits for them, at most `patience`. `true` when all have ended.
    pub async fn shutdown(&self, patience: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(patience, self.tracker.wait()).await.is_ok()
    }
}
