//! The task of one document: commands, timers, end.

use super::disk::{Disk, JobDone, Waiter};
use super::early::Early;
use super::log::Log;
use super::open::OpenContext;
use super::sync::{Connection, HeldUpdate, Sent, code};
use super::{Command, ConnectionId, DocError, Held, Incoming};
use crate::base::{DocumentId, DraftId};
use crate::branch::events::Event;
use crate::crdt::{Awareness, SharedText};
use crate::store::{Draft, LastText};
use crate::workspace::{Kind, RelPath};
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{info, warn};

/// How long a document that nobody holds stays open.
const UNLOAD_AFTER: Duration = Duration::from_secs(60);
/// How long until it is asked again whether a document that nobody holds may go.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often presence is swept.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Commands taken before what they brought goes to the log, so that what waits together commits together.
pub(super) const COMMANDS_AT_ONCE: usize = 128;

pub(super) type Job = Pin<Box<dyn Future<Output = JobDone> + Send>>;

/// How a document ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nobody holds it.
    Idle,
    /// perch stops.
    Stopping,
    /// It ended for good; nothing more is written.
    Gone,
    /// Something failed; nothing more is written, and it is loaded anew from its log.
    Failed,
}

pub(super) struct Actor {
    pub(super) context: OpenContext,
    pub(super) id: DocumentId,
    pub(super) path: RelPath,
    pub(super) live: SharedText,
    pub(super) awareness: Awareness,
    pub(super) connections: HashMap<ConnectionId, Connection>,
    pub(super) log: Log,
    pub(super) disk: Disk,
    /// Connections that wait for a position to be durable, and for how many messages.
    pub(super) unanswered: VecDeque<(i64, ConnectionId, u32)>,
    /// Updates that wait for what they build on.
    pub(super) held: Vec<HeldUpdate>,
    /// Callers that wait for a position to be on disk.
    pub(super) waiters: Vec<Waiter>,
    pub(super) job: Option<Job>,
    /// A client typed what does not survive a round trip through a file.
    pub(super) needs_normalising: bool,
    pub(super) checkpoint: Arc<[(u64, u32)]>,
    pub(super) checkpoint_position: i64,
    pub(super) idle_since: Instant,
    pub(super) commands: mpsc::Receiver<Command>,
    /// The command that is worked on came by itself.
    pub(super) is_lone: bool,
    end: Option<End>,
    next_sweep: Instant,
}

impl Actor {
    pub(super) fn new(
        context: OpenContext,
        id: DocumentId,
        path: RelPath,
        live: SharedText,
        log: Log,
        disk: Disk,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        Self {
            context,
            id,
            path,
            live,
            awareness: Awareness::default(),
            connections: HashMap::new(),
            log,
            disk,
            unanswered: VecDeque::new(),
            held: Vec::new(),
            waiters: Vec::new(),
            job: None,
            needs_normalising: false,
            checkpoint: Arc::from([]),
            checkpoint_position: 0,
            idle_since: Instant::now(),
            commands,
            is_lone: false,
            end: None,
            next_sweep: Instant::now() + SWEEP_EVERY,
        }
    }

    /// Runs until nobody holds the document, it is gone, or perch stops. Gives what [`super::Document::is_at_rest`] says.
    ///
    /// What is done for a command, a job or a timer is in boxes of its own: in place, the largest of it (tens of KB) would
    /// be held for each open document all the time.
    pub(super) async fn run(&mut self, early: Early) -> bool {
        let open = metrics::gauge!("perch_documents");
        open.increment(1);
        let stop = self.context.stop.clone();
        if !early.is_empty() {
            Box::pin(self.go_on_with(early)).await;
        }
        let end = loop {
            if let Some(end) = self.end {
                break end;
            }
            let wake = self.wake_at();
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                () = stop.cancelled() => break End::Stopping,
                landed = self.log.landed() => match landed {
                    Ok(_) => self.answer_committed(),
                    Err(error) => self.fail(&error.to_string()),
                },
                done = next(&mut self.job) => {
                    self.job = None;
                    Box::pin(self.on_job(done)).await;
                }
                taken = self.commands.recv_many(&mut batch, COMMANDS_AT_ONCE), if self.log.has_room() => {
                    if taken == 0 {
                        break End::Idle;
                    }
                    Box::pin(self.on_commands(batch)).await;
                }
                () = tokio::time::sleep_until(wake) => {}
            }
            // Looked at after whatever came: a queue that never empties must not keep the text from its file.
            if self.end.is_none() && self.wake_at() <= Instant::now() {
                Box::pin(self.on_timer()).await;
            }
            if self.end.is_none() {
                self.log.send(self.context.clock.now_ms()).await;
            }
        };
        let is_at_rest = Box::pin(self.finish(end)).await;
        open.decrement(1);
        is_at_rest
    }

    /// What came before it was loaded.
    async fn go_on_with(&mut self, early: Early) {
        self.connections = early.connections;
        for id in early.answered {
            self.sent_early(id);
        }
        self.on_commands(early.waiting).await;
        self.log.send(self.context.clock.now_ms()).await;
    }

    async fn on_commands(&mut self, batch: Vec<Command>) {
        self.is_lone = batch.len() == 1;
        let mut batch = batch.into_iter().peekable();
        while let Some(command) = batch.next() {
            match (self.end, command) {
                (None, Command::Incoming(id, Incoming::Update { update, is_step2 })) => {
                    let sent = Sent::typed_together(id, update, &mut batch);
                    self.on_update(id, sent, is_step2).await;
                }
                (None, command) => self.on_command(command).await,
                // It failed on a command before this one.
                (Some(_), command) => command.refuse(),
            }
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.end == Some(End::Failed)
    }

    fn wake_at(&self) -> Instant {
        let mut wake = self.idle_since + UNLOAD_AFTER;
        if !self.connections.is_empty() || !self.awareness.is_empty() {
            wake = self.next_sweep;
        }
        if self.job.is_none()
            && let Some(due) = self.disk.due()
        {
            wake = wake.min(due);
        }
        self.disk.asides.due().map_or(wake, |due| wake.min(due))
    }

    async fn on_command(&mut self, command: Command) {
        match command {
            Command::Join(join, reply) => {
                let (id, connection) = Connection::new(join);
                self.connections.insert(id, connection);
                let _ = reply.send(Ok(()));
            }
            Command::Incoming(id, message) => self.on_incoming(id, message).await,
            Command::Leave(id) => {
                self.on_leave(id);
                // What only it could bring may be taken from others now.
                self.retry_held().await;
            }
            Command::Drained(id) => self.on_drained(id),
            Command::Reached(reply) => drop(reply.send(())),
            Command::Regrant(id) => self.on_regrant(id),
            Command::Flush(reply) => self.wait_for_disk(reply).await,
            Command::Write { grant, base, bytes, reply } => match self.write(&grant, base, &bytes).await {
                Ok(()) => self.wait_for_disk(reply).await,
                Err(error) => {
                    let _ = reply.send(Err(error));
                }
            },
            Command::FileEvent { is_closed } => {
                self.disk.suspect(is_closed);
                if !self.waiters.is_empty() {
                    self.disk.hurry();
                }
            }
            Command::Hold(reply) => self.hold(reply).await,
            Command::GiveWay(reply) => {
                let is_blank = self.log.position() == 0 && self.disk.version.is_none() && self.job.is_none();
                if is_blank {
                    let reason = "the file that is renamed to this path brings its own document; come back";
                    self.close_for_good("replaced", code::FAILED, reason).await;
                }
                let _ = reply.send(Ok(is_blank));
            }
            Command::Deleted(reply) => {
                self.close_for_good("deleted", code::DELETED, "the file was deleted").await;
                let _ = reply.send(());
            }
        }
    }

    async fn hold(&mut self, reply: oneshot::Sender<Result<Held, DocError>>) {
        if let Some(job) = self.job.take() {
            let done = job.await;
            self.on_job(done).await;
        }
        if self.end.is_some() {
            let _ = reply.send(Err(DocError::Failed));
            return;
        }
        let (go_on, told) = oneshot::channel();
        if reply.send(Ok(Held { go_on })).is_ok()
            && let Ok(path) = told.await
        {
            self.path = path;
            self.disk.moved();
        }
    }

    async fn on_timer(&mut self) {
        let now = Instant::now();
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP_EVERY;
            if let Some(gone) = self.awareness.sweep(self.context.clock.now_ms()) {
                self.broadcast_awareness(&gone);
            }
        }
        self.work_on_disk().await;
        let is_idle = self.connections.is_empty()
            && self.job.is_none()
            && self.waiters.is_empty()
            && self.commands.is_empty()
            && self.disk.is_quiet()
            && self.is_on_disk()
            && now >= self.idle_since + UNLOAD_AFTER;
        if is_idle {
            self.end = Some(End::Idle);
        } else if now >= self.idle_since + UNLOAD_AFTER {
            // Asked again in a while, not at once: what it waits for may take long.
            self.idle_since = now - UNLOAD_AFTER + LOOK_AGAIN;
        }
    }

    /// Marks an edit that is to reach the disk.
    pub(super) fn touched(&mut self) {
        self.idle_since = Instant::now();
        self.disk.touched();
    }

    /// Ends the document because something here failed; clients come back and it is loaded anew from its log.
    pub(super) fn fail(&mut self, reason: &str) {
        warn!(document.id = %self.id, "document `{}` closes: {reason}", self.path);
        for connection in self.connections.values() {
            connection.close(code::FAILED, reason);
        }
        self.end = Some(End::Failed);
        self.tell_closed("failed");
    }

    fn tell_closed(&self, reason: &str) {
        let (path, document) = (self.path.to_string(), self.id.clone());
        let closed = Event::DocumentClosed { path, document, reason: reason.to_owned() };
        self.context.events.publish(&closed);
    }

    /// Tells that the file has other bytes. `is_new`: it was not there before.
    pub(super) fn tell_file(&self, is_new: bool, by: Vec<String>) {
        let path = self.path.to_string();
        self.context.events.publish(&if is_new {
            Event::FileCreated { path, kind: Kind::File, by }
        } else {
            Event::FileChanged { path, by }
        });
    }

    /// Ends the document for good: its log is kept and can be restored, the path is free for a new generation.
    pub(super) async fn close_for_good(&mut self, why: &str, code: u16, reason: &str) {
        if self.log.commit(None, self.context.clock.now_ms()).await.is_ok() {
            self.answer_committed();
        }
        let last = last_text(&self.live.text(), |text| self.format_for(text));
        let now_ms = self.context.clock.now_ms();
        if let Err(error) = self.context.store.close_document(&self.id, why, Some(&last), now_ms).await {
            warn!(document.id = %self.id, %error, "could not mark the document as closed");
        }
        info!(document.id = %self.id, "document `{}` ended: {reason}", self.path);
        for connection in self.connections.values() {
            connection.close(code, reason);
        }
        self.drop_asides().await;
        for waiter in self.waiters.drain(..) {
            waiter.answer(Err(DocError::NotFound(self.path.clone())));
        }
        self.end = Some(End::Gone);
        self.tell_closed(why);
    }

    pub(super) async fn keep_draft(&mut self, from: ConnectionId, update: Bytes, reason: &str) {
        let outside = || super::Author::Outside.as_str().to_owned();
        let session = self.connections.get(&from).map_or_else(outside, Connection::session);
        let draft = Draft {
            id: DraftId::generate(),
            branch_id: self.context.branch.clone(),
            document_id: Some(self.id.clone()),
            path: self.path.to_string(),
            session_id: session,
            reason: reason.to_owned(),
            data: update.to_vec(),
            created_at_ms: self.context.clock.now_ms(),
        };
        if let Err(error) = self.context.store.insert_draft(&draft).await {
            warn!(document.id = %self.id, %error, "could not keep a refused edit as a draft");
        }
    }

    async fn finish(&mut self, end: End) -> bool {
        // From here commands fail with `Closed`, and their senders ask the branch anew.
        self.commands.close();
        if matches!(end, End::Gone | End::Failed) {
            // Whoever opens it next must find the file and the log at rest: a write under way would go on without us.
            if let Some(job) = self.job.take() {
                job.await;
            }
            self.log.rest().await;
        } else {
            if self.log.commit(None, self.context.clock.now_ms()).await.is_ok() {
                self.answer_committed();
                self.flush_before_end().await;
            }
            for connection in self.connections.values() {
                connection.close(code::STOPPING, "perch is stopping; come back");
            }
            self.tell_closed(if end == End::Idle { "idle" } else { "stopping" });
        }
        // Commands that arrived before the close: whoever waits for an answer must hear that they are to come back.
        while let Ok(command) = self.commands.try_recv() {
            command.refuse();
        }
        end == End::Gone || (end != End::Failed && !self.has_failed() && self.is_on_disk())
    }
}

/// Line ends that take more room than this are not kept with a document that ended.
const MAX_FORMAT: usize = 64 * 1024;

fn last_text(text: &str, format: impl FnOnce(&str) -> crate::crdt::FileFormat) -> LastText {
    let format = serde_json::to_string(&format(text)).ok().filter(|format| format.len() <= MAX_FORMAT);
    LastText { len_bytes: i64::try_from(text.len()).unwrap_or(i64::MAX), format }
}

async fn next(job: &mut Option<Job>) -> JobDone {
    match job {
        Some(job) => job.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::{Actor, Early};
    use std::future::Future;

    /// A document that nothing happens to holds little beside its text.
    #[test]
    fn waiting_takes_little_room() {
        fn size<'a, F: Future + 'a>(_: fn(&'a mut Actor, Early) -> F) -> usize {
            size_of::<F>()
        }
        // More than this is something done in place that belongs in a box.
        assert!(size(Actor::run) <= 2 * 1024, "{}", size(Actor::run));
        assert!(size_of::<Actor>() <= 2 * 1024, "{}", size_of::<Actor>());
    }
}
