//! From rows and file to a running actor.

use super::actor::Actor;
use super::asides::Asides;
use super::disk::{ABSENT_SETTLE, Disk};
use super::early::{self, Early};
use super::log::{Authors, Log};
use super::recall::{Now, predecessor, whose};
use super::write_back::is_git_at_work;
use super::{Command, DocError, Document, QUEUE, decode_row};
use crate::base::{BranchId, Clock, DocumentId, Tasks, heavy};
use crate::branch::events::{Event, Events};
use crate::branch::log_writer::LogWriter;
use crate::branch::versions::{Version, Versions};
use crate::crdt::{ClockRange, SharedText, decode, server_client, utf16_len};
use crate::store::{AuthorRange, DiskRecord, Loaded, NewDocument, State, Store, StoreError};
use crate::workspace::{FsError, RelPath, Workspace};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How often a file is looked for that is missing when its document is opened, and how long while a git is at work.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const GIT_AT_LATEST: Duration = Duration::from_secs(5);

/// What every document of a branch uses.
#[derive(Clone, Debug)]
pub(in crate::branch) struct OpenContext {
    pub(in crate::branch) branch: BranchId,
    pub(in crate::branch) workspace: Workspace,
    pub(in crate::branch) store: Store,
    pub(in crate::branch) log: LogWriter,
    pub(in crate::branch) clock: Clock,
    pub(in crate::branch) versions: Arc<Versions>,
    pub(in crate::branch) events: Arc<Events>,
    pub(in crate::branch) tasks: Tasks,
    pub(in crate::branch) stop: CancellationToken,
    /// Held by each write-back while it replaces a file, and by who wants none (see `Hub::hold_writing`).
    pub(in crate::branch) writing: Arc<tokio::sync::RwLock<()>>,
    /// The time to which somebody brings the files back just now (see `Hub::back_to`).
    pub(in crate::branch) back_to: Arc<parking_lot::Mutex<Option<i64>>>,
    /// Bytes of the largest file that is shared live.
    pub(in crate::branch) max_bytes: u64,
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn store_error(error: StoreError) -> DocError {
    DocError::Log(error.to_string())
}

/// Opens the document of a resolved path; the caller sees to it that only one opens a path at a time. `may_create`:
/// an absent path gives an empty document, whose file appears with the first edit.
pub(in crate::branch) async fn open(
    context: &OpenContext,
    path: &RelPath,
    may_create: bool,
) -> Result<Document, DocError> {
    let row = context.store.live_document(&context.branch, path.as_str()).await.map_err(store_error)?;
    let id = match row {
        Some(row) => row.id,
        None => seed(context, path, may_create).await?,
    };
    let mut loaded = load(context, &id).await?;
    if loaded.row.disk.synced_hash.is_some() && is_gone(context, path).await? {
        if loaded.is_ahead_of_its_file() && a_git_was_killed(context).await {
            // As for a document that has no file yet: it comes with what is written next.
            loaded.row.disk.synced_hash = None;
        } else if loaded.row.disk.intent.is_none() {
            // Deleted while nobody had it open: that generation has ended.
            let now_ms = context.clock.now_ms();
            context.store.close_document(&id, "deleted", None, now_ms).await.map_err(store_error)?;
            loaded = load(context, &seed(context, path, may_create).await?).await?;
        }
    }
    start(context, path, loaded).await
}

async fn load(context: &OpenContext, id: &DocumentId) -> Result<Loaded, DocError> {
    context.store.load(id).await.map_err(store_error)?.ok_or(DocError::Closed)
}

/// Whether the file is gone for good: absent for as long as that takes for an open document too, and no git at work that may
/// have removed it to replace it.
async fn is_gone(context: &OpenContext, path: &RelPath) -> Result<bool, DocError> {
    let began = Instant::now();
    loop {
        let stat = context.workspace.stat(path).await;
        if stat.map_err(|error| DocError::Disk(error.to_string()))?.is_some() {
            return Ok(false);
        }
        let waited = began.elapsed();
        // A step of perch's own, or somebody's git in a shell.
        let is_step = || context.writing.try_read().is_err();
        if waited >= GIT_AT_LATEST
            || (waited >= ABSENT_SETTLE && !is_step() && !is_git_at_work(&context.workspace).await)
        {
            return Ok(true);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Whether one was ended while it worked on the files, as all are that run in sessions when perch is killed. Git replaces a
/// file by removing it first: whoever typed into one that it had just removed did not see it go.
async fn a_git_was_killed(context: &OpenContext) -> bool {
    for lock in ["index.lock", "perch-index.lock"] {
        if let Ok(Some(lock)) = context.workspace.git_lock(lock).await
            && !lock.is_open
        {
            return true;
        }
    }
    false
}

/// Seeds a new generation from the file, durable before the first client syncs.
async fn seed(context: &OpenContext, path: &RelPath, may_create: bool) -> Result<DocumentId, DocError> {
    let file = match context.workspace.read(path, context.max_bytes).await {
        Ok(file) => file,
        Err(FsError::TooLarge { len_bytes, max_bytes, .. }) => {
            return Err(DocError::TooLarge { path: path.clone(), len_bytes, max_bytes });
        }
        Err(FsError::WrongKind { .. }) => return Err(DocError::NotAFile(path.clone())),
        Err(error) => return Err(DocError::Disk(error.to_string())),
    };
    let (text, version) = match &file {
        Some(file) => {
            let (text, _) = decode(&file.bytes)
                .map_err(|error| DocError::NotText { path: path.clone(), offset: error.offset })?;
            (text, Some(Version::of(&file.bytes)))
        }
        None if may_create => (String::new(), None),
        None => return Err(DocError::NotFound(path.clone())),
    };
    let generation = server_client();
    let snapshot = SharedText::seed(generation, &text);
    let (authors, taken) = typists(context, path, &snapshot).await?;
    let id = DocumentId::generate();
    let new = NewDocument {
        id: id.clone(),
        branch_id: context.branch.clone(),
        path: path.to_string(),
        generation: i64::try_from(generation).unwrap_or(i64::MAX),
        snapshot,
        authors,
        disk: DiskRecord { synced_hash: version.map(Version::to_vec), taken, ..DiskRecord::default() },
        now_ms: context.clock.now_ms(),
    };
    context.store.create_document(&new).await.map_err(store_error)?;
    Ok(id)
}

/// Who typed what is in the file, where it was there before and that document's log tells; and which states of then may
/// tell more.
async fn typists(
    context: &OpenContext,
    path: &RelPath,
    snapshot: &Bytes,
) -> Result<(Vec<AuthorRange>, Vec<State>), DocError> {
    let mut states = predecessor(context, path.as_str()).await.map_err(store_error)?;
    if states.is_empty() {
        return Ok((Vec::new(), states));
    }
    let seed = || {
        let runs = SharedText::load([snapshot.as_ref()]).map(|seed| seed.runs());
        let runs = runs.map_err(|error| DocError::Log(error.to_string()))?;
        let all: Vec<_> = runs
            .iter()
            .map(|run| ClockRange {
                client: run.client,
                start: run.clock,
                end: run.clock + utf16_len(&run.text),
            })
            .collect();
        Ok(Now::new(&runs, &all))
    };
    let now = heavy(snapshot.len(), seed)?;
    let authors = whose(context, &mut states, "", now).await;
    Ok((authors, states))
}

async fn start(context: &OpenContext, path: &RelPath, loaded: Loaded) -> Result<Document, DocError> {
    let (commands, mut receiver) = mpsc::channel(QUEUE);
    let document = Document::new(loaded.row.id.clone(), commands);
    let (guard, is_at_rest) = (document.ended.clone().drop_guard(), Arc::clone(&document.is_at_rest));
    let opened = Event::DocumentOpened { path: path.to_string(), document: document.id.clone() };
    if let Some(shape) = early::is_whole(context, path, &loaded).await {
        let (context, path) = (context.clone(), path.clone());
        context.events.publish(&opened);
        context.tasks.clone().spawn(async move {
            let mut early = Early::default();
            match Box::pin(early.load(loaded.snapshot.clone(), &mut receiver)).await {
                Ok(live) => {
                    let mut actor = actor(context, path, loaded, live, receiver);
                    actor.disk.shape = shape;
                    is_at_rest.store(actor.run(early).await, Ordering::SeqCst);
                }
                Err(error) => {
                    receiver.close();
                    while let Ok(command) = receiver.try_recv() {
                        early.waiting.push(command);
                    }
                    warn!(document.id = %loaded.row.id, "document `{path}` can't be loaded: {error}");
                    early.refuse(&error.to_string());
                    let (path, document) = (path.to_string(), loaded.row.id);
                    let reason = "failed".to_owned();
                    context.events.publish(&Event::DocumentClosed { path, document, reason });
                }
            }
            drop(guard);
        });
        return Ok(document);
    }
    let damaged = || DocError::Log("a row of the log is damaged".into());
    let mut updates: Vec<&[u8]> = vec![&loaded.snapshot];
    for row in &loaded.log {
        updates.extend(decode_row(&row.data).ok_or_else(damaged)?);
    }
    let live = heavy(updates.iter().map(|update| update.len()).sum(), || SharedText::load(updates))
        .map_err(|error| DocError::Log(error.to_string()))?;
    let intent = loaded.row.disk.intent.clone();
    let mut actor = actor(context.clone(), path.clone(), loaded, live, receiver);
    actor.recover(intent).await?;
    context.events.publish(&opened);
    context.tasks.spawn(async move {
        is_at_rest.store(actor.run(Early::default()).await, Ordering::SeqCst);
        drop(guard);
    });
    Ok(document)
}

fn actor(
    context: OpenContext,
    path: RelPath,
    loaded: Loaded,
    live: SharedText,
    commands: mpsc::Receiver<Command>,
) -> Actor {
    let position = loaded.position();
    let (id, record) = (loaded.row.id, loaded.row.disk);
    let mut log = Log::new(id.clone(), context.log.clone(), position, Authors::load(&loaded.authors));
    log.loaded(loaded.snapshot.len(), &loaded.log);
    let version = record.synced_hash.as_deref().and_then(Version::from_slice);
    let disk =
        Disk::new(record.synced_position, record.outside, version, record.taken, Asides::new(loaded.asides));
    Actor::new(context, id, path, live, log, disk, commands)
}
