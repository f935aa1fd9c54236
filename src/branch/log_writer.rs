//! The one writer of all documents' logs on this node: group commit.
//!
//! All that has arrived while the last transaction was committing goes into the next one. A database that is away
//! or full is tried again until it answers; meanwhile nothing is acknowledged and the queue fills, so documents
//! wait, and their sockets with them.

use crate::base::Tasks;
use crate::store::{Append, Store, StoreError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

/// Appends that may wait; a document that has one more waits itself.
const QUEUE: usize = 1_024;
/// Appends in one transaction.
const GROUP: usize = 512;
/// Between tries at a database that does not answer: doubling from the first to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// A group commit that takes longer has failed; a large group on a slow disk takes a second or two.
const COMMIT_WITHIN: Duration = Duration::from_secs(30);

/// Why an append will never be durable.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The database refused it for good: another writer holds this position, or the document is gone.
    #[error("the log of this document can't be written: {0}")]
    Refused(String),
    /// perch is stopping.
    #[error("perch is stopping")]
    Stopped,
}

struct Request {
    append: Append,
    came: std::time::Instant,
    reply: oneshot::Sender<Result<(), LogError>>,
}

/// Handle to the writer, cheap to clone.
#[derive(Clone, Debug)]
pub struct LogWriter {
    queue: mpsc::Sender<Request>,
    is_stuck: Arc<AtomicBool>,
}

impl LogWriter {
    /// Starts the writer's task. It ends when all handles are gone.
    #[must_use]
    pub fn start(store: Store, tasks: &Tasks) -> Self {
        let (queue, requests) = mpsc::channel(QUEUE);
        let is_stuck = Arc::new(AtomicBool::new(false));
        let stop = tasks.stopping().clone();
        let stuck = Arc::clone(&is_stuck);
        tasks.spawn(async move {
            write_groups(&store, requests, &stuck, async move |delay| {
                // While stopping, a database that is away gets one more second of patience in all.
                tokio::time::sleep(delay).await;
                !stop.is_cancelled()
            })
            .await;
        });
        Self { queue, is_stuck }
    }

    /// Whether the database does not take appends now.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.is_stuck.load(Ordering::Relaxed)
    }

    /// Appends that wait now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        QUEUE - self.queue.capacity()
    }

    /// Hands over an append; the receiver hears when it is durable. Waits while the queue is full.
    pub async fn append(&self, append: Append) -> oneshot::Receiver<Result<(), LogError>> {
        let (reply, done) = oneshot::channel();
        let came = std::time::Instant::now();
        if let Err(mpsc::error::SendError(request)) = self.queue.send(Request { append, came, reply }).await {
            let _ = request.reply.send(Err(LogError::Stopped));
        }
        done
    }
}

async fn write_groups(
    store: &Store,
    mut requests: mpsc::Receiver<Request>,
    is_stuck: &AtomicBool,
    wait: impl AsyncFn(Duration) -> bool,
) {
    let mut group = Vec::new();
    while requests.recv_many(&mut group, GROUP).await > 0 {
        // The first of them has waited longest.
        let came = group.first().map(|request: &Request| request.came);
        let (appends, replies): (Vec<_>, Vec<_>) =
            group.drain(..).map(|request| (request.append, request.reply)).unzip();
        metrics::histogram!("perch_log_group_size")
            .record(f64::from(u32::try_from(appends.len()).unwrap_or(u32::MAX)));
        match write(store, &appends, is_stuck, &wait).await {
            Ok(()) => {
                if let Some(came) = came {
                    metrics::histogram!("perch_log_append_seconds").record(came.elapsed().as_secs_f64());
                }
                for reply in replies {
                    let _ = reply.send(Ok(()));
                }
            }
            Err(_) if appends.len() > 1 => {
                // One bad append must not take the others with it.
                for (append, reply) in appends.iter().zip(replies) {
                    let _ = reply.send(write(store, std::slice::from_ref(append), is_stuck, &wait).await);
                }
            }
            Err(error) => {
                for reply in replies {
                    let _ = reply.send(Err(LogError::Refused(error.to_string())));
                }
            }
        }
    }
}

async fn write(
    store: &Store,
    appends: &[Append],
    is_stuck: &AtomicBool,
    wait: &impl AsyncFn(Duration) -> bool,
) -> Result<(), LogError> {
    let mut delay = RETRY.0;
    loop {
        let began = std::time::Instant::now();
        // A connection that hangs is as good as a database that is away. If the commit happened all the same, the
        // next try finds its positions taken, and the documents are loaded anew from what is in the log.
        let tried = tokio::time::timeout(COMMIT_WITHIN, store.append(appends)).await;
        match tried.unwrap_or_else(|_| Err(StoreError::timed_out())) {
            Ok(()) => {
                metrics::histogram!("perch_log_commit_seconds").record(began.elapsed().as_secs_f64());
                metrics::gauge!("perch_database_stuck").set(0);
                if is_stuck.swap(false, Ordering::Relaxed) {
                    info!("the database takes edits again");
                }
                return Ok(());
            }
            Err(source @ (StoreError::Unavailable(_) | StoreError::InUse)) => {
                metrics::gauge!("perch_database_stuck").set(1);
                if !is_stuck.swap(true, Ordering::Relaxed) {
                    warn!(error = %source, "the database does not take edits; they wait, nothing is acknowledged");
                }
                if !wait(delay).await {
                    return Err(LogError::Stopped);
                }
                delay = (delay * 2).min(RETRY.1);
            }
            Err(source) => {
                error!(error = %source, appends = appends.len(), "the database refused edits");
                return Err(LogError::Refused(source.to_string()));
            }
        }
    }
}
