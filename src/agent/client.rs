//! Perch's side of an agent.

use super::inside::Inside;
use super::ports::Port;
use super::process::ENVIRONMENT;
use super::wire::{
    CHUNK, CREDIT, Exit, FileAnswer, FileOp, Reply, Request, Start, Stream, TermSize, codec, cost,
};
use crate::base::Tasks;
use crate::sandbox::{self, Cgroup, Failed, Pid1, Spec};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use serde_bytes::ByteBuf;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::codec::{FramedRead, FramedWrite};
use tokio_util::sync::CancellationToken;

/// Requests that wait for the socket; past it callers wait.
const QUEUE: usize = 64;
/// Commands and file requests of one session at once.
const MAX_UNDER_WAY: usize = 64;
/// Events of one process that can be under way: what its credit allows in the smallest chunks, and its end.
const EVENTS: usize = (CREDIT / super::wire::LEAST_COST) as usize + 8;

/// Why an agent did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It could not be started.
    #[error("the session's sandbox can't be made: {0}")]
    Launch(#[from] Failed),
    /// It is over.
    #[error("the session's processes were ended")]
    Ended,
    /// A command could not be started.
    #[error("{0}")]
    Refused(String),
    /// Too much is under way.
    #[error(
        "the session has {MAX_UNDER_WAY} commands and file requests under way; wait for some, or end them"
    )]
    TooMany,
}

/// What a process does.
#[derive(Debug)]
pub enum Event {
    /// It wrote.
    Output(Stream, Bytes),
    /// It ended; nothing comes after it.
    Exited(Exit),
}

enum Listener {
    Process {
        events: mpsc::Sender<Event>,
        input: Arc<Semaphore>,
        started: Option<oneshot::Sender<Result<(), String>>>,
    },
    File(oneshot::Sender<FileAnswer>),
}

#[derive(Default)]
struct Listeners {
    by_id: Mutex<HashMap<u32, Listener>>,
}

/// One session's agent. It ends with the last clone's [`Agent::end`], or by itself; never by being dropped alone.
#[derive(Clone)]
pub struct Agent {
    requests: mpsc::Sender<Request>,
    listeners: Arc<Listeners>,
    next: Arc<AtomicU32>,
    ended: CancellationToken,
    process: Arc<Pid1>,
    pid: i32,
    ports: watch::Receiver<Vec<Port>>,
    may_write: Arc<AtomicBool>,
    inside: Arc<Inside>,
    private: Arc<tokio::sync::Mutex<()>>,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("pid", &self.pid).finish_non_exhaustive()
    }
}

impl Agent {
    /// Starts an agent in a new sandbox. Its groups are kept until it has ended.
    ///
    /// # Errors
    /// [`AgentError::Launch`] names the step that failed.
    pub async fn start(
        spec: Spec,
        network: Option<OwnedFd>,
        cgroup: Option<Cgroup>,
        tasks: &Tasks,
    ) -> Result<Self, AgentError> {
        let inside = Arc::new(Inside::of(&spec));
        let launching = tokio::task::spawn_blocking(move || {
            let join = |pid| cgroup.as_ref().map_or(Ok(()), |cgroup| cgroup.join(pid));
            let launched = sandbox::launch(&spec, network, join)?;
            Ok::<_, Failed>((launched, cgroup))
        });
        let lost = |error: &dyn std::fmt::Display| Failed { step: "start".into(), reason: error.to_string() };
        let (launched, cgroup) = launching.await.map_err(|error| lost(&error))??;
        launched.socket.set_nonblocking(true).map_err(|error| lost(&error))?;
        let socket = tokio::net::UnixStream::from_std(launched.socket).map_err(|error| lost(&error))?;
        let (read, write) = socket.into_split();
        let (seen, ports) = watch::channel(Vec::new());
        let (requests, mut waiting) = mpsc::channel::<Request>(QUEUE);
        let agent = Self {
            requests,
            listeners: Arc::default(),
            next: Arc::default(),
            ended: CancellationToken::new(),
            process: Arc::new(launched.process),
            pid: launched.pid,
            ports,
            may_write: Arc::new(AtomicBool::new(true)),
            inside,
            private: Arc::default(),
        };
        let ended = agent.ended.clone();
        tasks.spawn(async move {
            let mut write = FramedWrite::new(write, codec());
            loop {
                let request = tokio::select! {
                    biased;
                    () = ended.cancelled() => return,
                    request = waiting.recv() => request,
                };
                let Some(request) = request else { return };
                let Ok(bytes) = postcard::to_stdvec(&request) else { continue };
                if write.send(Bytes::from(bytes)).await.is_err() {
                    return;
                }
            }
        });
        let hearing = agent.clone();
        tasks.spawn(async move {
            let mut replies = FramedRead::new(read, codec());
            while let Some(Ok(frame)) = replies.next().await {
                let Ok(reply) = postcard::from_bytes::<Reply>(&frame) else { break };
                match reply {
                    Reply::Ports(ports) => drop(seen.send(ports)),
                    reply => hearing.listeners.hear(reply),
                }
            }
            // One that can't be heard any more is of no use.
            hearing.end();
        });
        tasks.spawn(agent.clone().outlive(cgroup));
        // When perch stops, sessions' processes stop.
        let (stopping, stopped) = (tasks.stopping().clone(), agent.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stopping.cancelled() => stopped.end(),
                () = stopped.ended.cancelled() => {}
            }
        });
        Ok(agent)
    }

    /// Waits for pid 1's end, and tells all who wait for it.
    async fn outlive(self, cgroup: Option<Cgroup>) {
        if let Err(error) = self.process.ended().await {
            tracing::warn!(%error, "a session's processes can't be watched; they are ended");
            self.process.kill();
            let process = Arc::clone(&self.process);
            let _ = tokio::task::spawn_blocking(move || process.wait()).await;
        }
        self.ended.cancel();
        self.listeners.by_id.lock().clear();
        drop(cgroup);
    }

    /// The ports that it sees; over when it ends.
    #[must_use]
    pub fn ports(&self) -> watch::Receiver<Vec<Port>> {
        self.ports.clone()
    }

    /// Where things lie for its processes.
    #[must_use]
    pub fn inside(&self) -> &Inside {
        &self.inside
    }

    /// The turn to read a file of `~/.private` and write it back.
    pub async fn private_turn(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.private).lock_owned().await
    }

    /// Its process, as perch counts; all of the session's processes come of it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Ends it and all of the session's processes at once.
    pub fn end(&self) {
        self.process.kill();
    }

    /// Waits until it and all of the session's processes are gone.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Whether it is over.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    fn id(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn listen(&self, id: u32, listener: Listener) -> Result<(), AgentError> {
        let mut by_id = self.listeners.by_id.lock();
        if by_id.len() >= MAX_UNDER_WAY {
            return Err(AgentError::TooMany);
        }
        by_id.insert(id, listener);
        // One that ended just now cleared them before.
        if self.ended.is_cancelled() { Err(AgentError::Ended) } else { Ok(()) }
    }

    /// Says whether the session's processes may write to files; they may until told otherwise. An agent that has too
    /// much to do is not told: say it again.
    pub fn may_write(&self, may: bool) {
        let is_known = self.may_write.load(Ordering::Relaxed) == may;
        if !is_known && self.requests.try_send(Request::Writing(may)).is_ok() {
            self.may_write.store(may, Ordering::Relaxed);
        }
    }

    async fn ask(&self, request: Request) -> Result<(), AgentError> {
        tokio::select! {
            biased;
            () = self.ended.cancelled() => Err(AgentError::Ended),
            sent = self.requests.send(request) => sent.map_err(|_| AgentError::Ended),
        }
    }

    /// Starts a command.
    ///
    /// # Errors
    /// [`AgentError::Refused`] when it can't be started, [`AgentError::Ended`].
    pub async fn run(&self, start: Start) -> Result<Process, AgentError> {
        let id = self.id();
        let (events, heard) = mpsc::channel(EVENTS);
        let (started, outcome) = oneshot::channel();
        let input = Arc::new(Semaphore::new(CREDIT as usize));
        let listener = Listener::Process { events, input: Arc::clone(&input), started: Some(started) };
        self.listen(id, listener)?;
        let process = Process { id, agent: self.clone(), events: heard, input };
        self.ask(Request::Start(id, start)).await?;
        match outcome.await {
            Ok(Ok(())) => Ok(process),
            Ok(Err(reason)) => Err(AgentError::Refused(reason)),
            Err(_) => Err(AgentError::Ended),
        }
    }

    /// Gives the session an environment of its own, in place of what it had: names without `=`, nothing with NUL.
    ///
    /// # Errors
    /// [`AgentError::Ended`].
    pub async fn set_environment<'a>(
        &self,
        variables: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Result<FileAnswer, AgentError> {
        let text: String = variables.into_iter().map(|(name, value)| format!("{name}={value}\0")).collect();
        self.file(FileOp::PrivateWrite(ENVIRONMENT.to_owned(), ByteBuf::from(text))).await
    }

    /// Works on a file as the session sees it.
    ///
    /// # Errors
    /// [`AgentError::Ended`].
    pub async fn file(&self, op: FileOp) -> Result<FileAnswer, AgentError> {
        let id = self.id();
        let (answer, answered) = oneshot::channel();
        self.listen(id, Listener::File(answer))?;
        // A caller that goes away leaves its entry until the answer comes, or the agent ends.
        self.ask(Request::File(id, op)).await?;
        answered.await.map_err(|_| AgentError::Ended)
    }
}

impl Listeners {
    fn hear(&self, reply: Reply) {
        let mut by_id = self.by_id.lock();
        match reply {
            Reply::Ports(_) => {}
            Reply::File(id, answer) => {
                if let Some(Listener::File(waiting)) = by_id.remove(&id) {
                    let _ = waiting.send(answer);
                }
            }
            Reply::Started(id) | Reply::Refused(id, _) => {
                let outcome = if let Reply::Refused(_, reason) = reply { Err(reason) } else { Ok(()) };
                let is_refused = outcome.is_err();
                if let Some(Listener::Process { started, .. }) = by_id.get_mut(&id)
                    && let Some(started) = started.take()
                {
                    let _ = started.send(outcome);
                }
                if is_refused {
                    by_id.remove(&id);
                }
            }
            Reply::Output(id, stream, bytes) => {
                if let Some(Listener::Process { events, .. }) = by_id.get(&id) {
                    // There is room: the agent sends no more than its credit.
                    let _ = events.try_send(Event::Output(stream, Bytes::from(bytes.into_vec())));
                }
            }
            Reply::Took(id, bytes) => {
                if let Some(Listener::Process { input, .. }) = by_id.get(&id) {
                    input.add_permits(bytes as usize);
                }
            }
            Reply::Exited(id, exit) => {
                if let Some(Listener::Process { events, .. }) = by_id.remove(&id) {
                    let _ = events.try_send(Event::Exited(exit));
                }
            }
        }
    }
}

/// A command that runs. When it is dropped, the command and all that came of it are ended.
#[derive(Debug)]
pub struct Process {
    id: u32,
    agent: Agent,
    events: mpsc::Receiver<Event>,
    input: Arc<Semaphore>,
}

/// Writes to a command, beside whoever listens to it.
#[derive(Clone, Debug)]
pub struct Input {
    id: u32,
    agent: Agent,
    room: Arc<Semaphore>,
}

impl Process {
    /// What it does next; after its end, always that it ended.
    pub async fn next(&mut self) -> Event {
        let Some(event) = self.events.recv().await else { return Event::Exited(Exit::Lost) };
        if let Event::Output(_, bytes) = &event {
            let _ = self.agent.ask(Request::Credit(self.id, cost(bytes.len()))).await;
        }
        event
    }

    /// Its number among the agent's commands, by which ports name it.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.id
    }

    /// The way to write to it.
    #[must_use]
    pub fn input(&self) -> Input {
        Input { id: self.id, agent: self.agent.clone(), room: Arc::clone(&self.input) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut by_id = self.agent.listeners.by_id.lock();
        // No listener: it has ended.
        if by_id.remove(&self.id).is_some() {
            drop(by_id);
            if let Err(mpsc::error::TrySendError::Full(request)) =
                self.agent.requests.try_send(Request::Kill(self.id))
            {
                let requests = self.agent.requests.clone();
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    drop(runtime.spawn(async move { requests.send(request).await }));
                }
            }
        }
    }
}

impl Input {
    /// Writes; waits while the command does not read.
    ///
    /// # Errors
    /// [`AgentError::Ended`].
    pub async fn write(&self, bytes: &[u8]) -> Result<(), AgentError> {
        for chunk in bytes.chunks(CHUNK) {
            let count = u32::try_from(chunk.len()).unwrap_or(0);
            let room = tokio::select! {
                () = self.agent.ended.cancelled() => return Err(AgentError::Ended),
                room = self.room.acquire_many(count) => room.map_err(|_| AgentError::Ended)?,
            };
            room.forget();
            self.agent.ask(Request::Input(self.id, Some(ByteBuf::from(chunk)))).await?;
        }
        Ok(())
    }

    /// Says that nothing more is written.
    ///
    /// # Errors
    /// [`AgentError::Ended`].
    pub async fn close(&self) -> Result<(), AgentError> {
        self.agent.ask(Request::Input(self.id, None)).await
    }

    /// Tells a terminal's program its new size.
    ///
    /// # Errors
    /// [`AgentError::Ended`].
    pub async fn resize(&self, size: TermSize) -> Result<(), AgentError> {
        self.agent.ask(Request::Resize(self.id, size)).await
    }

    /// Ends the command and all that came of it: a word first, after two seconds by force.
    ///
    /// # Errors
    /// [`AgentError::Ended`].
    pub async fn kill(&self) -> Result<(), AgentError> {
        self.agent.ask(Request::Kill(self.id)).await
    }
}
