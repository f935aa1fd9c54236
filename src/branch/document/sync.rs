//! A document's connections: sync, updates, presence, resync of slow readers.

use super::actor::Actor;
use super::log::is_session;
use super::{Author, Command, ConnectionId, Incoming, Join};
use crate::base::Permission;
use crate::branch::outbox::{Channel, MAX_AT_ONCE, Outbox, Pushed, framed};
use crate::branch::wire::Wire;
use crate::crdt::{Applied, ApplyError, FIRST_SERVER_CLIENT, Identity, Typing, UpdateInfo, inspect, without};
use bytes::Bytes;
use std::iter::Peekable;
use std::sync::Arc;
use tracing::{debug, warn};

/// Updates of one connection that may wait for what they build on; one more closes it and all are kept as drafts.
const MAX_HELD: usize = 64;
/// The same in bytes.
const MAX_HELD_BYTES: usize = 1024 * 1024;
/// Client ids that a connection is known to type under; a page has one.
const MAX_IDS: usize = 16;

/// Updates between two renewals of the base that slow readers are diffed from.
const CHECKPOINT_UPDATES: i64 = 256;

/// Readers to which a lone update is written by the document's own task, some microseconds each; those past it are woken,
/// and other threads write to them.
const AT_ONCE: usize = 256;

/// Close codes. 44xx is final for stock clients, everything else means "come back".
pub(super) mod code {
    /// Bytes that no client of ours sends.
    pub(in super::super) const MALFORMED: u16 = 4400;
    /// The file was deleted.
    pub(in super::super) const DELETED: u16 = 4404;
    /// The client holds another history of this file.
    pub(in super::super) const RESET: u16 = 4409;
    /// The document would grow past the limit, or has.
    pub(in super::super) const TOO_LARGE: u16 = 4413;
    /// The file is no text any more.
    pub(in super::super) const NOT_TEXT: u16 = 4415;
    /// Something went wrong here; come back.
    pub(in super::super) const FAILED: u16 = 4500;
    /// perch is stopping; come back.
    pub(in super::super) const STOPPING: u16 = 1013;
}

#[derive(Debug)]
pub(super) struct Connection {
    member: Arc<crate::branch::members::Member>,
    token: Permission,
    outbox: Arc<Outbox>,
    channel: Channel,
    wire: Wire,
    /// Clocks the client certainly has; `None` before its sync step 1.
    base: Option<Arc<[(u64, u32)]>>,
    /// Frames for it were dropped. Until the diff that makes up for them, `base` must not move and nothing is pushed.
    is_stale: bool,
    /// Client ids under which it types: those that it shows presence under; where it shows none, those that it brought.
    ids: Vec<u64>,
    shows_presence: bool,
}

/// An update as it is taken.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    update: Bytes,
    /// How many its connection sent it as; each wants an answer.
    messages: u32,
}

impl Sent {
    /// An update, with those that wait behind it and type on where it ends.
    pub(super) fn typed_together(
        id: ConnectionId,
        update: Bytes,
        waiting: &mut Peekable<impl Iterator<Item = Command>>,
    ) -> Self {
        let (mut typing, mut messages) = (Typing::new(update), 1);
        let mut follows = |command: &Command| match command {
            Command::Incoming(of, Incoming::Update { update, is_step2: false }) if *of == id => {
                typing.join(update)
            }
            _ => false,
        };
        while waiting.next_if(&mut follows).is_some() {
            messages += 1;
        }
        Self { update: typing.into_update(), messages }
    }
}

/// An update that waits, outside yrs, for what it builds on.
#[derive(Debug)]
pub(super) struct HeldUpdate {
    from: ConnectionId,
    sent: Sent,
}

impl Connection {
    pub(super) fn new(join: Join) -> (ConnectionId, Self) {
        let connection = Self {
            member: join.member,
            token: join.token,
            outbox: join.outbox,
            channel: join.channel,
            wire: join.wire,
            base: None,
            is_stale: false,
            ids: Vec::new(),
            shows_presence: false,
        };
        (join.connection, connection)
    }

    /// Ends this document on the connection. Final codes leave a Hocuspocus socket open for its other documents.
    pub(super) fn close(&self, code: u16, reason: &str) {
        match &self.wire {
            Wire::Hocuspocus(name) if (4400..4500).contains(&code) => {
                self.outbox.forget(self.channel);
                self.outbox.answer(crate::crdt::hocuspocus::permission_denied(name, reason));
                self.outbox.answer(crate::crdt::hocuspocus::close(name, reason));
            }
            _ => self.outbox.close(code, reason),
        }
    }

    /// Sends the whole state, unless so much waits already that it is to be read first.
    pub(super) fn send_all(&self, state: &[u8]) -> bool {
        let has_room = !self.outbox.is_crowded();
        if has_room {
            self.outbox.answer(self.wire.sync_step2(state));
        }
        has_room
    }

    pub(super) fn session(&self) -> String {
        self.member.session().to_string()
    }

    pub(super) fn answer(&self, durable: bool, messages: u32) {
        if let Some(frame) = self.wire.answer(durable) {
            for _ in 0..messages {
                self.outbox.answer(frame.clone());
            }
        }
    }
}

/// One broadcast, encoded once per wire language.
struct Broadcast<'a> {
    payload: &'a [u8],
    encode: fn(&Wire, &[u8]) -> Bytes,
    encoded: Vec<(Wire, Encoded)>,
    /// To how many more it is written at once.
    at_once: usize,
    /// Bytes that were.
    wrote: usize,
}

struct Encoded {
    frame: Bytes,
    /// With its header, where it may be written at once.
    framed: Option<Bytes>,
}

impl Broadcast<'_> {
    /// Names are the clients' spelling of one path: a handful. Past that, the last one is encoded anew each time.
    const REMEMBERED: usize = 8;

    fn push(&mut self, connection: &Connection) -> Pushed {
        let at = self.encode_for(&connection.wire);
        let (_, Encoded { frame, framed }) = &self.encoded[at];
        match framed {
            Some(framed) if self.at_once > 0 => {
                self.at_once -= 1;
                let pushed = connection.outbox.push_at_once(connection.channel, frame, framed);
                if pushed == Pushed::Written {
                    self.wrote += frame.len();
                }
                pushed
            }
            _ => connection.outbox.push(connection.channel, frame.clone()),
        }
    }

    /// Where among the encoded the one for a wire is.
    fn encode_for(&mut self, wire: &Wire) -> usize {
        if let Some(at) = self.encoded.iter().position(|(of, _)| of == wire) {
            return at;
        }
        let frame = (self.encode)(wire, self.payload);
        let framed = (self.at_once > 0 && frame.len() <= MAX_AT_ONCE).then(|| framed(&frame));
        self.encoded.truncate(Self::REMEMBERED - 1);
        self.encoded.push((wire.clone(), Encoded { frame, framed }));
        self.encoded.len() - 1
    }
}

impl Drop for Broadcast<'_> {
    fn drop(&mut self) {
        if self.wrote > 0 {
            // The sockets count what their tasks write.
            metrics::counter!("perch_socket_bytes_total", "direction" => "out").increment(self.wrote as u64);
        }
    }
}

impl Actor {
    pub(super) async fn on_incoming(&mut self, id: ConnectionId, message: Incoming) {
        match message {
            Incoming::SyncStep1(clocks) => self.on_step1(id, clocks).await,
            Incoming::Update { update, is_step2 } => {
                self.on_update(id, Sent { update, messages: 1 }, is_step2).await;
            }
            Incoming::Awareness(payload) => self.on_awareness(id, &payload),
            Incoming::QueryAwareness => self.send_presence(id),
        }
    }

    async fn on_step1(&mut self, id: ConnectionId, clocks: Vec<(u64, u32)>) {
        let is_foreign =
            |client: u64, clock| client >= FIRST_SERVER_CLIENT && clock > self.live.known(client);
        let foreign: Vec<u64> = clocks
            .iter()
            .filter(|(client, clock)| is_foreign(*client, *clock))
            .map(|(client, _)| *client)
            .collect();
        if !foreign.is_empty() {
            let mut reason = "reset: this copy comes from another history of the file".to_owned();
            for client in foreign.into_iter().take(8) {
                if let Ok(Some(path)) = self.context.store.path_of(&self.context.branch, client).await {
                    reason = format!("reset: the file was renamed to `{path}`");
                }
            }
            self.refuse(id, None, code::RESET, &reason).await;
            return;
        }
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let is_first = connection.base.is_none();
        connection.base = Some(clocks.into());
        if connection.outbox.is_crowded() {
            connection.outbox.mark_stale(connection.channel);
            connection.is_stale = true;
        } else {
            self.send_diff(id);
        }
        // Asked again each time: a client that repeats step 1 wants a full exchange.
        self.ask(id);
        if is_first {
            self.send_presence(id);
        }
    }

    /// Asks for all that the connection has and we lack.
    fn ask(&self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(&id) {
            connection.outbox.answer(connection.wire.sync_step1(&self.live.state_vector()));
        }
    }

    /// Goes on with a connection that was sent the whole state before it was loaded.
    pub(super) fn sent_early(&mut self, id: ConnectionId) {
        let now = self.live.clocks().iter().map(|(client, clock)| (*client, *clock)).collect();
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.base = Some(now);
            self.ask(id);
            self.send_presence(id);
        }
    }

    /// Sends all that the connection lacks, and takes that as its new base.
    pub(super) fn send_diff(&mut self, id: ConnectionId) {
        let now = self.live.clocks().iter().map(|(client, clock)| (*client, *clock)).collect();
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some(base) = &connection.base else { return };
        let diff = self.live.encode_since(base);
        connection.outbox.forget(connection.channel);
        connection.outbox.answer(connection.wire.sync_step2(&diff));
        connection.base = Some(now);
        connection.is_stale = false;
    }

    /// The socket of a stale connection has taken all that waited.
    pub(super) fn on_drained(&mut self, id: ConnectionId) {
        self.send_diff(id);
        self.send_presence(id);
    }

    fn send_presence(&self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else { return };
        if let Some(payload) = self.awareness.encode_all() {
            connection.outbox.answer(connection.wire.awareness(&payload));
        }
    }

    /// The member's right changed: what it typed while reading is asked for again, so that no clock is missing (H2).
    pub(super) fn on_regrant(&self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else { return };
        if connection.base.is_some() && connection.member.writer(connection.token).is_some() {
            connection.outbox.answer(connection.wire.sync_step1(&self.live.state_vector()));
        }
    }

    pub(super) async fn on_update(&mut self, id: ConnectionId, sent: Sent, is_step2: bool) {
        let Some(connection) = self.connections.get(&id) else { return };
        if connection.base.is_none() {
            self.refuse(id, Some(sent.update), code::MALFORMED, "an update before sync step 1").await;
            return;
        }
        let info = match inspect(&sent.update) {
            Ok(info) => info,
            Err(error) => {
                debug!(document.id = %self.id, %error, "refused a malformed update");
                self.refuse(id, None, code::MALFORMED, "malformed update").await;
                return;
            }
        };
        if self.is_foreign(&info) {
            let reason = "reset: the update belongs to another history of the file";
            self.refuse(id, Some(sent.update), code::RESET, reason).await;
            return;
        }
        let grant = connection.member.writer(connection.token);
        if grant.is_none() {
            // A reader's step 2 always carries the whole delete set; it is not applied, so it changes nothing.
            let says_nothing_new =
                !info.adds_blocks(|client| self.live.known(client)) && (is_step2 || info.deletes.is_empty());
            connection.answer(says_nothing_new, sent.messages);
            return;
        }
        let position = self.log.position();
        if !self.take(id, &sent, &info).await {
            self.set_aside(id, sent, &info, is_step2).await;
        }
        if self.log.position() != position {
            self.retry_held().await;
        }
    }

    /// Takes what of an update can be taken now. `false`: it is to be tried again when more is known.
    async fn take(&mut self, id: ConnectionId, sent: &Sent, info: &UpdateInfo) -> bool {
        let elsewhere = self.typed_elsewhere(id, info);
        if elsewhere.is_empty() && !info.missing(|client| self.live.known(client)) {
            self.accept(id, sent.clone(), info).await;
            return true;
        }
        // Two clients may each wait for the other: after a crash each holds, unacknowledged, what the other's edits
        // build on. So each one's own blocks are taken as far as they go.
        let Ok(own) = without(&sent.update, |client| elsewhere.iter().any(|(of, _)| *of == client)) else {
            return true;
        };
        if let Ok(info) = inspect(&own)
            && !info.has_gap(|client| self.live.known(client))
        {
            self.accept_partly(id, own, &info).await;
        }
        false
    }

    /// Whether an update names clocks of a server id that we do not have: they can only come from another
    /// generation's seed, or from a database that was set back (H5).
    fn is_foreign(&self, info: &UpdateInfo) -> bool {
        let unknown =
            |client: u64, clock: u32| client >= FIRST_SERVER_CLIENT && clock > self.live.known(client);
        info.ranges.iter().any(|range| unknown(range.client, range.end))
            || info.references.iter().any(|&(client, clock)| unknown(client, clock.saturating_add(1)))
            || info.deletes.iter().any(|range| unknown(range.client, range.end))
    }

    /// H6: client ids of which the update holds new clocks, though another session types under them on a connection of
    /// its own, which will bring them itself: a forged id would make its owner's real edits look known. See
    /// [`Connection::ids`] for who types under an id.
    fn typed_elsewhere(&self, id: ConnectionId, info: &UpdateInfo) -> Vec<(u64, ConnectionId)> {
        let Some(connection) = self.connections.get(&id) else { return Vec::new() };
        let own = connection.member.session();
        let is_new =
            |client: u64, end: u32| end > self.live.known(client) && !connection.ids.contains(&client);
        let mut found: Vec<(u64, ConnectionId)> = Vec::new();
        for range in info.ranges.iter().filter(|range| is_new(range.client, range.end)) {
            let client = range.client;
            let owner = self.log.authors().owner(client);
            if found.last().is_some_and(|(of, _)| *of == client)
                || owner.is_some_and(|of| is_session(of, own))
            {
                continue;
            }
            let types = |(other, theirs): &(&ConnectionId, &Connection)| {
                **other != id
                    && theirs.member.session() != own
                    && theirs.ids.contains(&client)
                    && theirs.member.writer(theirs.token).is_some()
            };
            found.extend(self.connections.iter().find(types).map(|(other, _)| (client, *other)));
        }
        found
    }

    async fn accept(&mut self, id: ConnectionId, sent: Sent, info: &UpdateInfo) {
        let Sent { update, messages } = sent;
        if let Err(error) = self.live.check_room(&update, info, self.disk.format(), self.context.max_bytes) {
            self.refuse(id, Some(update), code::TOO_LARGE, &error.to_string()).await;
            return;
        }
        let Some(connection) = self.connections.get(&id) else { return };
        if connection.base.is_none() {
            return;
        }
        match self.live.receive(&update, info) {
            Ok(applied) => {
                self.applied(id, &update, &applied, info).await;
                // H1: known in memory is not yet durable.
                self.acknowledge(id, messages);
            }
            Err(error) => {
                if let ApplyError::Unresolvable(Some((part, applied))) = &error {
                    self.applied(id, part, applied, info).await;
                }
                self.refuse_unusable(id, update, &error).await;
            }
        }
    }

    /// Applies what of an update builds on what is known; its answer comes when all of it is.
    async fn accept_partly(&mut self, id: ConnectionId, update: Bytes, info: &UpdateInfo) {
        if let Err(error) = self.live.check_room(&update, info, self.disk.format(), self.context.max_bytes) {
            self.refuse(id, Some(update), code::TOO_LARGE, &error.to_string()).await;
            return;
        }
        match self.live.receive(&update, info) {
            Ok(applied) => self.applied(id, &update, &applied, info).await,
            Err(ApplyError::Unresolvable(Some((part, applied)))) => {
                self.applied(id, &part, &applied, info).await;
            }
            Err(ApplyError::Unresolvable(None)) => {}
            Err(error) => self.refuse_unusable(id, update, &error).await,
        }
    }

    /// An update that the document library or our checks don't take.
    async fn refuse_unusable(&mut self, id: ConnectionId, update: Bytes, error: &ApplyError) {
        self.refuse(id, Some(update), code::MALFORMED, &error.to_string()).await;
        if matches!(error, ApplyError::Poisoned) {
            warn!(document.id = %self.id, "the document library failed on an update; loading anew");
            self.fail("the document is loaded anew");
        }
    }

    /// What an update brought goes to the log and to all others.
    async fn applied(&mut self, id: ConnectionId, update: &Bytes, applied: &Applied, info: &UpdateInfo) {
        if !applied.changed {
            return;
        }
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let session = connection.member.session();
        for range in &applied.inserted {
            let client = range.client;
            let is_own = self.log.authors().owner(client).is_none_or(|owner| is_session(owner, session));
            let is_news = !connection.shows_presence && is_own && !connection.ids.contains(&client);
            if is_news && connection.ids.len() < MAX_IDS {
                connection.ids.push(client);
            }
        }
        let author = Author::Session(session.clone());
        self.needs_normalising |= info.has_carriage_return || info.has_bom;
        self.log.push(update.clone(), applied, &author, self.context.clock.now_ms());
        self.touched();
        if self.is_lone {
            // It is on its way to the log while it is written to the others.
            self.log.send(self.context.clock.now_ms()).await;
        }
        self.broadcast_update(Some(id), update);
    }

    /// An update that builds on what is not here waits, not in yrs; those who have it are asked.
    async fn set_aside(&mut self, id: ConnectionId, sent: Sent, info: &UpdateInfo, is_step2: bool) {
        if !self.connections.contains_key(&id) {
            return;
        }
        let held = || self.held.iter().filter(|held| held.from == id);
        let (count, bytes) = (held().count(), held().map(|held| held.sent.update.len()).sum::<usize>());
        if count >= MAX_HELD || bytes + sent.update.len() > MAX_HELD_BYTES {
            let (own, others) = std::mem::take(&mut self.held).into_iter().partition(|held| held.from == id);
            self.held = others;
            for HeldUpdate { sent, .. } in own {
                self.keep_draft(id, sent.update, "pending").await;
            }
            self.refuse(id, Some(sent.update), code::FAILED, "too much waits for edits that are missing")
                .await;
            return;
        }
        if count == 0 {
            let vector = self.live.state_vector();
            let mut asked: Vec<_> = self.typed_elsewhere(id, info).iter().map(|(_, other)| *other).collect();
            // What a step 2 lacks its sender does not have either.
            asked.extend((!is_step2).then_some(id));
            asked.dedup();
            for connection in asked.iter().filter_map(|other| self.connections.get(other)) {
                connection.outbox.answer(connection.wire.sync_step1(&vector));
            }
        }
        self.held.push(HeldUpdate { from: id, sent });
    }

    /// Tries again what waited, whoever brought what it waited for.
    pub(super) async fn retry_held(&mut self) {
        loop {
            let position = self.log.position();
            for held in std::mem::take(&mut self.held) {
                let Ok(info) = inspect(&held.sent.update) else { continue };
                let is_done = self.take(held.from, &held.sent, &info).await;
                if !is_done && self.connections.contains_key(&held.from) {
                    self.held.push(held);
                }
            }
            if self.held.is_empty() || self.log.position() == position {
                return;
            }
        }
    }

    /// Answers messages once everything applied up to now is durable.
    fn acknowledge(&mut self, id: ConnectionId, messages: u32) {
        let position = self.log.position();
        if self.log.committed() >= position {
            if let Some(connection) = self.connections.get(&id) {
                connection.answer(true, messages);
            }
        } else {
            self.unanswered.push_back((position, id, messages));
        }
    }

    /// Sends the answers that the committed position allows.
    pub(super) fn answer_committed(&mut self) {
        let committed = self.log.committed();
        while let Some(&(position, id, messages)) = self.unanswered.front() {
            if position > committed {
                break;
            }
            self.unanswered.pop_front();
            if let Some(connection) = self.connections.get(&id) {
                connection.answer(true, messages);
            }
        }
    }

    fn broadcast<'a>(&self, payload: &'a [u8], encode: fn(&Wire, &[u8]) -> Bytes) -> Broadcast<'a> {
        // What comes behind it is better written together with it.
        let at_once = if self.is_lone && self.commands.is_empty() { AT_ONCE } else { 0 };
        Broadcast { payload, encode, encoded: Vec::with_capacity(2), at_once, wrote: 0 }
    }

    pub(super) fn broadcast_update(&mut self, except: Option<ConnectionId>, update: &[u8]) {
        let mut broadcast = self.broadcast(update, Wire::update);
        let checkpoint = Arc::clone(&self.checkpoint);
        for (id, connection) in &mut self.connections {
            if Some(*id) == except || connection.base.is_none() || connection.is_stale {
                continue;
            }
            match broadcast.push(connection) {
                // All before this update has been handed to the socket.
                Pushed::Written | Pushed::Queued { was_empty: true } => {
                    connection.base = Some(Arc::clone(&checkpoint));
                }
                Pushed::Queued { was_empty: false } => {}
                Pushed::Stale => connection.is_stale = true,
            }
        }
        self.advance_checkpoint();
    }

    /// The known clocks as a base for diffs, renewed every so often: copying them for each update and reader would
    /// cost more than the update. Renewed only *after* a broadcast: it then holds nothing that a connection whose
    /// outbox is found empty at the next one has not been given.
    fn advance_checkpoint(&mut self) {
        if self.log.position() - self.checkpoint_position >= CHECKPOINT_UPDATES {
            self.checkpoint = self.live.clocks().iter().map(|(client, clock)| (*client, *clock)).collect();
            self.checkpoint_position = self.log.position();
        }
    }

    fn on_awareness(&mut self, id: ConnectionId, payload: &[u8]) {
        let Some(connection) = self.connections.get(&id) else { return };
        let standing = connection.member.standing();
        let identity = Identity {
            session: connection.member.session().to_string(),
            name: standing.name,
            color: standing.color,
        };
        let author = |client| self.log.authors().owner(client);
        match self.awareness.apply(id, &identity, payload, author, self.context.clock.now_ms()) {
            Ok(applied) => {
                self.claim_ids(id);
                if let Some(changed) = applied.broadcast {
                    self.broadcast_awareness(&changed);
                }
            }
            Err(_) => connection.close(code::MALFORMED, "malformed awareness"),
        }
    }

    /// Who shows presence under an id types under it, whoever brought its first edits.
    fn claim_ids(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if !connection.shows_presence {
            connection.ids.clear();
        }
        let ids = &mut connection.ids;
        let shown: Vec<u64> = self
            .awareness
            .ids_of(id)
            .filter(|client| !ids.contains(client))
            .take(MAX_IDS - ids.len())
            .collect();
        connection.shows_presence |= !shown.is_empty();
        for client in shown {
            connection.ids.push(client);
            self.log.authors_mut().claim(client, connection.member.session());
        }
        let ids = connection.ids.clone();
        for (_, other) in
            self.connections.iter_mut().filter(|(of, other)| **of != id && !other.shows_presence)
        {
            other.ids.retain(|client| !ids.contains(client));
        }
    }

    /// To all, the sender too: a lone editor must hear something at least every 30 s.
    pub(super) fn broadcast_awareness(&mut self, payload: &[u8]) {
        let mut broadcast = self.broadcast(payload, Wire::awareness);
        for connection in self.connections.values_mut() {
            if connection.base.is_none() || connection.is_stale {
                continue;
            }
            connection.is_stale = broadcast.push(connection) == Pushed::Stale;
        }
    }

    pub(super) fn on_leave(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.remove(&id) {
            connection.outbox.forget(connection.channel);
            self.awareness.disconnected(id, self.context.clock.now_ms());
            self.held.retain(|held| held.from != id);
        }
        self.idle_since = tokio::time::Instant::now();
    }

    /// Ends a connection whose message can't be taken, and keeps the bytes.
    async fn refuse(&mut self, id: ConnectionId, update: Option<Bytes>, code: u16, reason: &str) {
        debug!(document.id = %self.id, code, reason, "a connection's message was refused");
        if let Some(update) = update {
            self.keep_draft(id, update, reason).await;
        }
        if let Some(connection) = self.connections.get(&id) {
            connection.close(code, reason);
        }
        self.on_leave(id);
    }
}
