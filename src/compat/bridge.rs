//! One editor of the SDK's in a live document: a Yjs replica of its own on one side, operations on the other.
//!
//! To the document it is an editor like any other: its edits have the right, the name and the presence of its session,
//! are durable before they are answered, and are merged with everybody else's.

use super::ot::{Ledger, Operation};
use super::seats;
use super::socket::{Client, Fault, code};
use crate::base::heavy;
use crate::branch::{Close, ConnectionId, DocError, Document, Incoming, Join, Outbox, ToldInside, Wire};
use crate::crdt::{SharedText, diff, showing, shown, utf16_len};
use crate::workspace::RelPath;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

/// What one editor asks for that waits for its bridge; it waits itself then.
const QUEUE: usize = 64;
/// Presence is renewed this often: after 30 s of silence it is dropped.
const SHOW_EVERY: Duration = Duration::from_secs(15);
/// Times a document is looked for again when it closed under the bridge.
const TRIES: usize = 5;
/// Yjs editors whose places are told.
const MAX_SHOWN: usize = 200;

/// One end of a selection and the other, in UTF-16 units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Selected {
    pub(super) anchor: u32,
    pub(super) head: u32,
}

/// The text as the editor gets it.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    pub(super) text: String,
    pub(super) revision: u64,
    /// Places of Yjs editors, by the names under which they are told.
    pub(super) others: HashMap<String, Yjs>,
}

/// A Yjs editor, as editors of the SDK see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Yjs {
    pub(super) username: String,
    pub(super) selection: Option<Vec<Selected>>,
}

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is in the text, durably.
    Taken,
    /// The editor gets the whole text, and makes it anew on that.
    MadeAnew,
}

enum Command {
    Take { operation: Operation, revision: u64, reply: oneshot::Sender<Result<Outcome, Fault>> },
    Reached(u64),
    Select(Vec<Selected>),
    Open { anew: bool, reply: oneshot::Sender<Opened> },
    Flush(oneshot::Sender<Result<Bytes, DocError>>),
}

/// Answers that are not on their way yet. An editor reads an answer as of the moment at which it comes: what it is told
/// before it, and is not in it, would be lost.
#[derive(Default)]
struct Answers {
    held: AtomicUsize,
    given: Notify,
}

/// Until it is dropped, the editor is told nothing: its answer is to come first.
pub(super) struct AnswerFirst(Arc<Answers>);

impl AnswerFirst {
    fn new(answers: &Arc<Answers>) -> Self {
        answers.held.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(answers))
    }
}

impl Drop for AnswerFirst {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
        self.0.given.notify_one();
    }
}

/// Handle of a bridge; it goes with its last clone.
#[derive(Clone)]
pub(super) struct Bridge {
    commands: mpsc::Sender<Command>,
    answers: Arc<Answers>,
}

fn gone() -> Fault {
    Fault::new(code::INVALID_ID, "the file is not open any more: it was deleted, or is no text now")
}

impl Bridge {
    /// Opens a file for an editor.
    ///
    /// # Errors
    /// As opening the document.
    pub(super) async fn open(client: &Arc<Client>, id: &str, path: &RelPath) -> Result<Self, DocError> {
        let side = Side::open(client, path).await?;
        let (commands, waiting) = mpsc::channel(QUEUE);
        let answers = Arc::<Answers>::default();
        let bridge = Self { commands, answers: Arc::clone(&answers) };
        let actor = Actor {
            client: Arc::clone(client),
            id: id.to_owned(),
            path: path.clone(),
            side,
            ledger: Ledger::new(u64::from(rand::random::<u32>() >> 2)),
            answers,
            under_way: None,
            is_lost: false,
            shown: None,
            clock: 0,
            others: HashMap::new(),
        };
        client.spawn_to_end(actor.run(waiting));
        Ok(bridge)
    }

    /// Takes an operation of the editor's; durable when it returns. The editor is told of nothing else until the answer
    /// is on its way.
    ///
    /// # Errors
    /// The editor asks for the text anew.
    pub(super) async fn take(
        &self,
        operation: Operation,
        revision: u64,
    ) -> Result<(Outcome, AnswerFirst), Fault> {
        let answer = AnswerFirst::new(&self.answers);
        let (reply, taken) = oneshot::channel();
        let command = Command::Take { operation, revision, reply };
        self.commands.send(command).await.map_err(|_| gone())?;
        Ok((taken.await.map_err(|_| gone())??, answer))
    }

    /// The editor has seen a revision.
    pub(super) async fn reached(&self, revision: u64) {
        let _ = self.commands.send(Command::Reached(revision)).await;
    }

    /// The editor selected something.
    pub(super) async fn select(&self, selection: Vec<Selected>) {
        let _ = self.commands.send(Command::Select(selection)).await;
    }

    /// The text as it is. `anew`: the editor makes what it has not brought here yet anew on that. Else it may go on with
    /// what it holds, which is told all up to here. It is told of nothing else until the answer is on its way.
    ///
    /// # Errors
    /// The file is gone.
    pub(super) async fn text(&self, anew: bool) -> Result<(Opened, AnswerFirst), Fault> {
        let answer = AnswerFirst::new(&self.answers);
        let (reply, opened) = oneshot::channel();
        self.commands.send(Command::Open { anew, reply }).await.map_err(|_| gone())?;
        Ok((opened.await.map_err(|_| gone())?, answer))
    }

    /// Brings the text to disk; gives the file's bytes.
    ///
    /// # Errors
    /// Why it can't be brought there now.
    pub(super) async fn flush(&self) -> Result<Bytes, Fault> {
        let (reply, flushed) = oneshot::channel();
        self.commands.send(Command::Flush(reply)).await.map_err(|_| gone())?;
        Ok(flushed.await.map_err(|_| gone())??)
    }

    /// Whether it has ended.
    pub(super) fn is_gone(&self) -> bool {
        self.commands.is_closed()
    }
}

/// The side of the document: a connection and a replica.
struct Side {
    document: Document,
    connection: ConnectionId,
    outbox: Arc<Outbox>,
    replica: SharedText,
    text: String,
}

impl Side {
    async fn open(client: &Arc<Client>, path: &RelPath) -> Result<Self, DocError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let document = client.hub().document(path, false).await?;
            match Self::join(client, document).await {
                Err(DocError::Closed) if tries < TRIES => {}
                outcome => return outcome,
            }
        }
    }

    async fn join(client: &Arc<Client>, document: Document) -> Result<Self, DocError> {
        let connection = client.app().next_connection() << 20;
        let outbox = Arc::new(Outbox::default());
        let join = Join {
            connection,
            member: Arc::clone(client.member()),
            token: client.right(),
            outbox: Arc::clone(&outbox),
            channel: 0,
            wire: Wire::Inside,
        };
        document.join(join).await?;
        document.incoming(connection, Incoming::SyncStep1(Vec::new())).await;
        loop {
            let taken = outbox.take().await;
            for frame in taken.frames {
                if let Some(ToldInside::Update(state)) = ToldInside::read(frame) {
                    let replica = heavy(state.len(), || SharedText::as_client(&state));
                    let replica = replica.map_err(|error| DocError::Log(error.to_string()))?;
                    let text = replica.text();
                    // What came with it is told again.
                    document.incoming(connection, Incoming::QueryAwareness).await;
                    return Ok(Self { document, connection, outbox, replica, text });
                }
            }
            if taken.close.is_some() || document.is_closed() {
                return Err(DocError::Closed);
            }
        }
    }
}

/// An operation whose answers are waited for.
struct UnderWay {
    reply: oneshot::Sender<Result<Outcome, Fault>>,
    /// So many updates carry it.
    updates: usize,
}

struct Actor {
    client: Arc<Client>,
    id: String,
    path: RelPath,
    side: Side,
    ledger: Ledger,
    answers: Arc<Answers>,
    under_way: Option<UnderWay>,
    /// An operation failed: what the editor holds is not known until it asks for the text.
    is_lost: bool,
    shown: Option<Vec<Selected>>,
    clock: u32,
    others: HashMap<String, Yjs>,
}

impl Actor {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut show = tokio::time::interval_at(Instant::now() + SHOW_EVERY, SHOW_EVERY);
        show.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.show().await;
        let answers = Arc::clone(&self.answers);
        loop {
            let outbox = Arc::clone(&self.side.outbox);
            tokio::select! {
                () = self.client.gone().cancelled() => break,
                taken = outbox.take() => {
                    for frame in taken.frames {
                        self.hear(frame);
                    }
                    if !taken.stale.is_empty() {
                        self.side.document.drained(self.side.connection).await;
                    }
                    if let Some(close) = taken.close
                        && !self.again(&close).await
                    {
                        break;
                    }
                }
                command = commands.recv() => match command {
                    Some(command) => self.on_command(command).await,
                    None => break,
                },
                () = answers.given.notified() => {}
                _ = show.tick() => self.show().await,
            }
            self.settle();
            self.tell();
        }
        self.goodbye().await;
    }

    async fn on_command(&mut self, command: Command) {
        match command {
            Command::Take { operation, revision, reply } => self.take(operation, revision, reply).await,
            Command::Reached(revision) => self.ledger.acknowledge(revision),
            Command::Select(selection) => {
                self.shown = Some(selection);
                self.show().await;
            }
            Command::Open { anew, reply } => {
                self.settle();
                if anew || self.is_lost {
                    self.ledger.resynced();
                    self.is_lost = false;
                } else if let Some((operation, revision)) = self.ledger.rest() {
                    self.notify(&operation, revision);
                }
                let opened = Opened {
                    text: self.side.text.clone(),
                    revision: self.ledger.revision(),
                    others: self.others.clone(),
                };
                let _ = reply.send(opened);
            }
            Command::Flush(reply) => {
                // Beside: the document may take its time, and has to be heard meanwhile.
                let document = self.side.document.clone();
                self.client.spawn(async move {
                    let _ = reply.send(document.flush().await.map(|content| content.bytes));
                });
            }
        }
    }

    async fn take(
        &mut self,
        operation: Operation,
        revision: u64,
        reply: oneshot::Sender<Result<Outcome, Fault>>,
    ) {
        // What came up to now comes before it.
        self.settle();
        if self.is_lost || self.under_way.is_some() {
            let text = "an operation before this one is not settled; open the file again";
            let _ = reply.send(Err(Fault::new(code::CRITICAL, text)));
            return;
        }
        let taken = self.ledger.take(operation, revision, &self.side.text);
        let (live, made) = match taken {
            Ok(Some(taken)) => taken,
            Ok(None) => {
                let _ = reply.send(Ok(Outcome::MadeAnew));
                return;
            }
            Err(refused) => {
                self.is_lost = true;
                let _ = reply.send(Err(Fault::new(code::CRITICAL, refused.to_string())));
                return;
            }
        };
        let edited = self.side.replica.edit(&live.edits());
        let updates = match edited {
            Ok(updates) if self.side.replica.text() == made => updates,
            _ => {
                self.is_lost = true;
                let _ = reply.send(Err(Fault::internal(&"an operation did not do what it says")));
                self.side.outbox.close(4500, "the replica is made anew");
                return;
            }
        };
        self.side.text = made;
        if updates.is_empty() {
            let _ = reply.send(Ok(Outcome::Taken));
            return;
        }
        self.under_way = Some(UnderWay { reply, updates: updates.len() });
        for (update, _) in updates {
            let update = Incoming::Update { update, is_step2: false };
            self.side.document.incoming(self.side.connection, update).await;
        }
    }

    fn hear(&mut self, frame: Bytes) {
        match ToldInside::read(frame) {
            Some(ToldInside::Update(update)) => {
                let outcome = heavy(update.len(), || self.side.replica.apply(&update));
                if outcome.is_err() {
                    self.side.outbox.close(4500, "the replica is made anew");
                }
            }
            Some(ToldInside::Presence(payload)) => self.see(&payload),
            Some(ToldInside::Answer(is_durable)) => self.on_answer(is_durable),
            // All that it made was sent, and is answered or refused.
            Some(ToldInside::Asks) | None => {}
        }
    }

    fn on_answer(&mut self, is_durable: bool) {
        let Some(under_way) = &mut self.under_way else { return };
        under_way.updates -= 1;
        if is_durable && under_way.updates > 0 {
            return;
        }
        let Some(under_way) = self.under_way.take() else { return };
        if is_durable {
            let _ = under_way.reply.send(Ok(Outcome::Taken));
        } else {
            // The replica has what nobody else has.
            self.is_lost = true;
            let _ = under_way.reply.send(Err(Fault::read_only()));
            self.side.outbox.close(4500, "the replica is made anew");
        }
    }

    /// What the replica has become is what the editor is to be told.
    fn settle(&mut self) {
        let now = self.side.replica.text();
        if now == self.side.text {
            return;
        }
        let edits = heavy(now.len(), || diff(&self.side.text, &now));
        let change = Operation::of_edits(&edits, utf16_len(&self.side.text));
        self.side.text = now;
        if self.ledger.changed(change).is_err() {
            self.is_lost = true;
        }
    }

    /// Tells the editor what it does not know yet.
    fn tell(&mut self) {
        while !self.is_lost
            && self.answers.held.load(Ordering::Relaxed) == 0
            && let Some((operation, revision)) = self.ledger.next()
        {
            self.notify(&operation, revision);
        }
    }

    fn notify(&self, operation: &Operation, revision: u64) {
        #[derive(Serialize)]
        struct Told<'a> {
            id: &'a str,
            operation: &'a Operation,
            revision: u64,
            reason: u8,
        }
        let told = Told { id: &self.id, operation, revision, reason: 0 };
        self.client.notify("file/documentOperation", &told);
    }

    /// The document closed under the bridge; `false`: for good.
    async fn again(&mut self, close: &Close) -> bool {
        if let Some(under_way) = self.under_way.take() {
            self.is_lost = true;
            let _ = under_way.reply.send(Err(Fault::new(code::CRITICAL, close.reason.clone())));
        }
        self.side.document.leave(self.side.connection).await;
        // Deleted, no text any more, or perch stops.
        if [4404, 4415, 1013].contains(&close.code) {
            return false;
        }
        match Side::open(&self.client, &self.path).await {
            Ok(side) => {
                let before = std::mem::replace(&mut self.side, side);
                let now = std::mem::replace(&mut self.side.text, before.text);
                let edits = heavy(now.len(), || diff(&self.side.text, &now));
                let change = Operation::of_edits(&edits, utf16_len(&self.side.text));
                self.is_lost |= self.ledger.changed(change).is_err();
                self.side.text = now;
                self.show().await;
                true
            }
            Err(_) => false,
        }
    }

    /// Shows the editor to others, as Yjs editors show themselves.
    async fn show(&mut self) {
        let place = |at| self.side.replica.sticky(at);
        let cursor = self.shown.as_ref().and_then(|shown| shown.first()).and_then(|selected| {
            Some(json!({ "anchor": place(selected.anchor)?, "head": place(selected.head)? }))
        });
        let state = json!({ "user": {}, "cursor": cursor, "sdk": self.client.id() });
        self.send_presence(&state).await;
    }

    async fn goodbye(&mut self) {
        self.send_presence(&Value::Null).await;
        self.side.document.leave(self.side.connection).await;
    }

    async fn send_presence(&mut self, state: &Value) {
        self.clock += 1;
        let payload = showing(self.side.replica.client(), self.clock, state);
        self.side.document.incoming(self.side.connection, Incoming::Awareness(payload)).await;
    }

    /// Tells the editor where Yjs editors are. Other editors of the SDK tell of themselves, in their own way.
    fn see(&mut self, payload: &[u8]) {
        for (client, state) in shown(payload).unwrap_or_default() {
            if client == self.side.replica.client() {
                continue;
            }
            let name = format!("yjs-{client}");
            let Some(state) = state else {
                if let Some(yjs) = self.others.remove(&name) {
                    self.client.notify("file/leave", &self.about(&name, &yjs.username));
                }
                continue;
            };
            if state.get("sdk").is_some()
                || (self.others.len() >= MAX_SHOWN && !self.others.contains_key(&name))
            {
                continue;
            }
            let session = state["user"]["session"].as_str().unwrap_or_default();
            let username =
                session.parse().map_or_else(|_| String::new(), |id| seats::username(&id).to_owned());
            let place = |end: &str| self.side.replica.place_of(state.get("cursor")?.get(end)?);
            let selection =
                place("anchor").zip(place("head")).map(|(anchor, head)| vec![Selected { anchor, head }]);
            let yjs = Yjs { username, selection };
            let before = self.others.insert(name.clone(), yjs.clone());
            if before.is_none() {
                self.client.notify("file/join", &self.about(&name, &yjs.username));
            }
            if before.as_ref() != Some(&yjs) {
                let selections = HashMap::from([(name, yjs.selection)]);
                let told = json!({ "id": self.id, "selections": selections, "reason": 1 });
                self.client.notify("file/documentSelection", &told);
            }
        }
    }

    fn about(&self, name: &str, username: &str) -> Value {
        json!({ "id": self.id, "isBinary": false, "clientId": name, "username": username })
    }
}
