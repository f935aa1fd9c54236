//! The audit log: who did what, kept in the database, bounded by count and age.
//!
//! Entries are written by a task of their own, many in one transaction, so nobody waits for it. While the database is
//! away they wait, at most `QUEUE` of them; past it new ones are lost, which is counted and logged.

use crate::base::{AuditId, BranchId, Clock, SessionId, Tasks, TokenId};
use crate::store::{AuditRow, Store};
use serde_json::{Map, Value};
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{error, warn};

/// Entries that wait for the database.
const QUEUE: usize = 4_096;
/// Entries in one transaction.
const GROUP: usize = 256;
/// Between tries at a database that is away.
const RETRY: Duration = Duration::from_secs(1);
/// Entries between two looks for what is to go, at most.
const CUT_EVERY: usize = 1_000;
/// A day, in milliseconds.
const DAY_MS: i64 = 24 * 3_600 * 1_000;
/// Bytes of one subject; a longer one is cut.
const MAX_SUBJECT: usize = 512;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Entries; past it the oldest go.
    pub entries: i64,
    /// Days; older ones go.
    pub days: i64,
}

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// The owner token of perch's environment.
    Environment,
    /// An API token.
    Token(TokenId),
    /// A session.
    Session(SessionId),
    /// Somebody who has a link.
    Link,
    /// Whoever ran a command of perch's on its machine.
    Command,
}

impl By {
    fn parts(&self) -> (&'static str, Option<String>) {
        match self {
            Self::Environment => ("environment", None),
            Self::Token(id) => ("token", Some(id.to_string())),
            Self::Session(id) => ("session", Some(id.to_string())),
            Self::Link => ("link", None),
            Self::Command => ("command", None),
        }
    }
}

/// What is noted.
#[derive(Clone, Debug)]
pub struct Noted {
    /// What was done, such as `session.made`.
    pub action: &'static str,
    /// Who did it.
    pub by: By,
    /// On which branch.
    pub branch: Option<BranchId>,
    /// Where the request came from.
    pub address: Option<IpAddr>,
    /// What it was done to, or what came of it: an id, a commit, a path.
    pub subject: Option<String>,
    /// Short words beside, such as a right. Never a secret or a text that somebody wrote.
    pub detail: Map<String, Value>,
}

/// Handle to the log, cheap to clone.
#[derive(Clone, Debug)]
pub struct Audit {
    queue: mpsc::Sender<AuditRow>,
    clock: Clock,
}

impl Noted {
    /// As it is stored.
    #[must_use]
    pub fn row(self, now_ms: i64) -> AuditRow {
        let (by_kind, by_id) = self.by.parts();
        AuditRow {
            id: AuditId::generate(),
            at_ms: now_ms,
            branch_id: self.branch,
            action: self.action.into(),
            by_kind: by_kind.into(),
            by_id,
            address: self.address.map(|address| address.to_string()),
            subject: self.subject.map(shortened),
            detail: Value::from(self.detail).to_string(),
        }
    }
}

impl Audit {
    /// Starts the task that writes; it ends when perch stops, once all is written.
    #[must_use]
    pub fn start(store: Store, clock: Clock, bounds: Bounds, tasks: &Tasks) -> Self {
        let (queue, rows) = mpsc::channel(QUEUE);
        let (stop, own) = (tasks.stopping().clone(), clock.clone());
        tasks.spawn(async move {
            let writer = Writer { store, clock: own, bounds };
            writer.run(rows, stop).await;
        });
        Self { queue, clock }
    }

    /// Entries that wait now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        QUEUE - self.queue.capacity()
    }

    /// Notes something that was done. Does not wait.
    pub fn note(&self, noted: Noted) {
        if let Err(lost) = self.queue.try_send(noted.row(self.clock.now_ms())) {
            metrics::counter!("perch_audit_lost_total").increment(1);
            let row = lost.into_inner();
            error!(
                action = row.action,
                by = row.by_id,
                subject = row.subject,
                "not in the audit log: too many wait"
            );
        }
    }
}

fn shortened(mut subject: String) -> String {
    let end = subject.floor_char_boundary(MAX_SUBJECT);
    subject.truncate(end);
    subject
}

struct Writer {
    store: Store,
    clock: Clock,
    bounds: Bounds,
}

impl Writer {
    async fn run(&self, mut rows: mpsc::Receiver<AuditRow>, stop: tokio_util::sync::CancellationToken) {
        let mut group = Vec::new();
        let mut since_cut = CUT_EVERY;
        loop {
            if since_cut >= CUT_EVERY {
                self.cut().await;
                since_cut = 0;
            }
            let came = tokio::select! {
                biased;
                came = rows.recv_many(&mut group, GROUP) => came,
                () = stop.cancelled() => 0,
            };
            if came == 0 {
                return;
            }
            while let Err(error) = self.store.add_audit(&group).await {
                warn!(%error, "the audit log can't be written; trying again");
                if tokio::time::timeout(RETRY, stop.cancelled()).await.is_ok() {
                    // One more try while perch stops.
                    if let Err(error) = self.store.add_audit(&group).await {
                        error!(%error, entries = group.len(), "not in the audit log");
                    }
                    break;
                }
            }
            since_cut += group.len();
            group.clear();
        }
    }

    async fn cut(&self) {
        let oldest_ms = self.clock.now_ms() - self.bounds.days * DAY_MS;
        if let Err(error) = self.store.cut_audit(self.bounds.entries, oldest_ms).await {
            warn!(%error, "old entries of the audit log could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{AuditFilter, Options};

    #[tokio::test]
    async fn entries_are_kept_in_order_and_bounded_by_count_and_age() {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(&Options { database_url: None, data: data.path().to_owned() }).await.unwrap();
        let tasks = Tasks::new();
        let old = AuditRow {
            id: AuditId::generate(),
            at_ms: 5,
            branch_id: None,
            action: "token.made".into(),
            by_kind: "command".into(),
            by_id: None,
            address: None,
            subject: None,
            detail: "{}".into(),
        };
        store.add_audit(&[old]).await.unwrap();
        let audit = Audit::start(store.clone(), Clock::system(), Bounds { entries: 1_500, days: 1 }, &tasks);
        for n in 0..3_000 {
            while audit.queue.capacity() == 0 {
                tokio::task::yield_now().await;
            }
            audit.note(Noted {
                action: "session.made",
                by: By::Command,
                branch: None,
                address: None,
                subject: Some(format!("{n}")),
                detail: Map::new(),
            });
        }
        assert!(tasks.shutdown(Duration::from_secs(30)).await);
        let page = |before| AuditFilter { before, limit: 500, ..AuditFilter::default() };
        let first = store.audit(&page(None)).await.unwrap();
        assert_eq!(first[0].subject.as_deref(), Some("2999"), "nothing is lost when perch stops");
        let second = store.audit(&page(Some(first[499].id.clone()))).await.unwrap();
        assert_eq!(second[0].subject.as_deref(), Some("2499"), "pages follow each other");
        let all = AuditFilter { limit: i64::MAX, ..AuditFilter::default() };
        let kept = store.audit(&all).await.unwrap().len();
        assert!((1_500..1_500 + CUT_EVERY + GROUP).contains(&kept), "{kept} are kept");
        let none = AuditFilter { action: Some("token.".into()), limit: 10, ..AuditFilter::default() };
        assert!(store.audit(&none).await.unwrap().is_empty(), "the old one is gone");
        let these = AuditFilter { action: Some("session.".into()), limit: 10, ..AuditFilter::default() };
        assert_eq!(store.audit(&these).await.unwrap().len(), 10);
    }
}
