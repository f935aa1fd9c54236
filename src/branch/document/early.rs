//! Answers before a large document is loaded.
//!
//! Reading its rows takes a fraction of the time that yrs needs to load them, and after a restart, or with the first who
//! opens it, somebody waits: a client that has nothing of it needs all of it, which is the snapshot as it was read. So
//! while yrs loads it on another thread, who joins and asks for everything is answered with those bytes. Whatever else
//! comes waits, in its order, for the loaded document.
//!
//! Only where the snapshot is all there is: nothing in the log behind it, nothing to settle, and the file as it was left.

use super::actor::COMMANDS_AT_ONCE;
use super::disk::Shape;
use super::open::OpenContext;
use super::sync::{Connection, code};
use super::{Command, ConnectionId, Incoming};
use crate::base::heavy;
use crate::branch::versions::Version;
use crate::crdt::{ApplyError, SharedText, decode, inspect};
use crate::store::Loaded;
use crate::workspace::RelPath;
use bytes::Bytes;
use std::collections::HashMap;
use tokio::sync::mpsc;

/// Snapshots of fewer bytes are loaded in no time.
const EARLY_FROM: usize = 64 * 1024;

/// What came while the document was loaded.
#[derive(Default)]
pub(super) struct Early {
    pub(super) connections: HashMap<ConnectionId, Connection>,
    /// Those that were sent everything; all else that a sync step 1 asks for is still owed.
    pub(super) answered: Vec<ConnectionId>,
    /// What was not looked at, in its order.
    pub(super) waiting: Vec<Command>,
}

/// Whether the snapshot is all there is; gives the shape of the file then.
pub(super) async fn is_whole(context: &OpenContext, path: &RelPath, loaded: &Loaded) -> Option<Shape> {
    let disk = &loaded.row.disk;
    let is_settled = disk.intent.is_none()
        && disk.synced_position == loaded.snapshot_position
        && loaded.log.is_empty()
        && loaded.asides.is_empty();
    if !is_settled || loaded.snapshot.len() < EARLY_FROM {
        return None;
    }
    let file = context.workspace.read(path, context.max_bytes).await.ok()??;
    let known = disk.synced_hash.as_deref().and_then(Version::from_slice)?;
    heavy(file.bytes.len() + loaded.snapshot.len(), || {
        // One that is damaged is sent to nobody.
        inspect(&loaded.snapshot).ok()?;
        let (text, format) = decode(&file.bytes).ok().filter(|_| Version::of(&file.bytes) == known)?;
        Some(Shape::new(format, &text))
    })
}

impl Early {
    pub(super) fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.waiting.is_empty()
    }

    /// Tells all who came that the document can't be loaded.
    pub(super) fn refuse(self, reason: &str) {
        for connection in self.connections.values() {
            connection.close(code::FAILED, reason);
        }
        self.waiting.into_iter().for_each(Command::refuse);
    }

    /// Loads a document from its whole state, and answers meanwhile.
    pub(super) async fn load(
        &mut self,
        state: Bytes,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Result<SharedText, ApplyError> {
        let read = state.clone();
        let loading = async {
            crate::base::pause("loading").await;
            tokio::task::spawn_blocking(move || SharedText::load([read.as_ref()])).await
        };
        tokio::pin!(loading);
        let mut is_open = true;
        loop {
            tokio::select! {
                biased;
                command = commands.recv(), if is_open && self.waiting.len() < COMMANDS_AT_ONCE => match command {
                    Some(command) => self.take(command, &state),
                    None => is_open = false,
                },
                loaded = &mut loading => return loaded.unwrap_or(Err(ApplyError::Poisoned)),
            }
        }
    }

    fn take(&mut self, command: Command, state: &Bytes) {
        match command {
            Command::Join(join, reply) if self.waiting.is_empty() => {
                let (id, connection) = Connection::new(join);
                self.connections.insert(id, connection);
                let _ = reply.send(Ok(()));
            }
            Command::Incoming(id, Incoming::SyncStep1(clocks))
                if self.waiting.is_empty()
                    && clocks.is_empty()
                    && !self.answered.contains(&id)
                    && self.connections.get(&id).is_some_and(|connection| connection.send_all(state)) =>
            {
                self.answered.push(id);
            }
            command => self.waiting.push(command),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Permission;
    use crate::branch::document::Join;
    use crate::branch::members::{Members, tests::row};
    use crate::branch::outbox::Outbox;
    use crate::branch::wire::Wire;
    use crate::crdt::server_client;
    use std::sync::Arc;
    use tokio::sync::oneshot;

    fn join(connection: ConnectionId) -> (Join, Arc<Outbox>) {
        let outbox = Arc::new(Outbox::default());
        let member = Members::default().enter(&row(Permission::Write, 0));
        let (token, wire) = (Permission::Write, Wire::YWebsocket);
        (Join { connection, member, token, outbox: Arc::clone(&outbox), channel: 0, wire }, outbox)
    }

    /// Who has nothing gets all of it; who has some, and all behind the first of other commands, waits in order.
    #[tokio::test]
    async fn answers_who_has_nothing_and_keeps_the_rest() {
        let state = SharedText::seed(server_client(), &"a line of text\n".repeat(10_000));
        let (commands, mut receiver) = mpsc::channel(64);
        let (mut outboxes, mut replies) = (Vec::new(), Vec::new());
        for connection in 1..=3 {
            let ((join, outbox), (reply, joined)) = (join(connection), oneshot::channel());
            outboxes.push(outbox);
            replies.push(joined);
            commands.try_send(Command::Join(join, reply)).unwrap();
        }
        let step1 = |clocks| Incoming::SyncStep1(clocks);
        for (connection, message) in [
            (1, step1(Vec::new())),
            (2, step1(Vec::new())),
            (3, step1(vec![(7, 1)])),
            (1, Incoming::QueryAwareness),
            (1, step1(Vec::new())),
        ] {
            commands.try_send(Command::Incoming(connection, message)).unwrap();
        }
        let mut early = Early::default();
        let live = early.load(state.clone(), &mut receiver).await.unwrap();
        assert_eq!(live.text().lines().count(), 10_000);
        for joined in &mut replies {
            assert_eq!(joined.try_recv(), Ok(Ok(())));
        }
        assert_eq!(early.answered, [1, 2]);
        for outbox in &outboxes[..2] {
            assert_eq!(outbox.take().await.frames, [Wire::YWebsocket.sync_step2(&state)]);
        }
        let left = early.waiting.iter().map(|command| match command {
            Command::Incoming(id, message) => (*id, matches!(message, Incoming::QueryAwareness)),
            _ => panic!("{command:?}"),
        });
        assert_eq!(left.collect::<Vec<_>>(), [(3, false), (1, true), (1, false)]);
    }

    /// A state that is damaged: who came is told to come back, whoever waits for an answer hears that it closed.
    #[tokio::test]
    async fn damaged_states_are_refused() {
        let mut state = SharedText::seed(server_client(), &"x".repeat(100_000)).to_vec();
        state.truncate(50_000);
        let (commands, mut receiver) = mpsc::channel(64);
        let ((join, outbox), (reply, _joined)) = (join(1), oneshot::channel());
        commands.try_send(Command::Join(join, reply)).unwrap();
        let (reply, flushed) = oneshot::channel();
        commands.try_send(Command::Flush(reply)).unwrap();
        let mut early = Early::default();
        assert!(early.load(state.into(), &mut receiver).await.is_err());
        early.refuse("it is damaged");
        assert_eq!(outbox.take().await.close.map(|close| close.code), Some(code::FAILED));
        assert!(flushed.await.unwrap().is_err());
    }
}
