//! `file/…`: files that editors of the SDK type in, each by way of a bridge to the live document (`compat/bridge.rs`).
//!
//! A file's id is its path from the workspace's root, so that what `fs/search` finds can be opened.

use super::method;
use crate::branch::{DocError, Event};
use crate::compat::bridge::{Bridge, Opened, Outcome, Selected};
use crate::compat::ot::{Operation, hash_bytes, saved_hash};
use crate::compat::seats;
use crate::compat::socket::{Answer, Answered, Client, Fault, Method, Room, code};
use crate::compat::view::Place;
use crate::crdt::decode;
use crate::workspace::RelPath;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub(super) const METHODS: &[Method] = &[
    method!("file/open", Read, Changes, open),
    method!("file/openByPath", Read, Changes, open_by_path),
    method!("file/close", Read, Changes, close),
    method!("file/save", Write, Changes, save),
    method!("file/documentOperation", Write, Changes, operation),
    method!("file/documentAck", Read, Changes, acknowledge),
    method!("file/documentSelection", Read, Changes, select),
];

/// Files that one client has open.
const MAX_FILES: usize = 200;
/// Parts of a selection.
const MAX_SELECTED: usize = 100;

/// Files of a client, by id.
#[derive(Default)]
struct Files(Mutex<HashMap<String, Open>>);

#[derive(Clone)]
struct Open {
    /// `None`: it is no text, or too large to be shared live.
    bridge: Option<Bridge>,
}

/// Who has a file open: clients and the last that they selected, by file.
#[derive(Default)]
struct Readers(Mutex<HashMap<String, BTreeMap<String, Reader>>>);

#[derive(Clone)]
struct Reader {
    username: String,
    selection: Option<Vec<Selected>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Bytes(serde_bytes::ByteBuf),
}

#[derive(Serialize)]
struct Named {
    username: String,
}

#[derive(Serialize)]
struct DocumentView {
    revision: u64,
    clients: BTreeMap<String, Option<Vec<Selected>>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FileView {
    id: String,
    is_binary: bool,
    content: Content,
    saved_hash: String,
    clients: BTreeMap<String, Named>,
    document: Option<DocumentView>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Id {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToOpen {
    id: String,
    /// The editor takes the text for its own, and makes anew on it what is not answered yet.
    #[serde(default)]
    is_resync: bool,
}

async fn open(client: &Arc<Client>, asked: ToOpen) -> Answered {
    let path = asked.id.parse();
    let path = path.map_err(|_| Fault::new(code::INVALID_ID, "there is no file with this id"))?;
    give(client, &path, asked.is_resync, code::INVALID_ID).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct At {
    path: String,
    #[serde(default)]
    is_resync: bool,
}

async fn open_by_path(client: &Arc<Client>, at: At) -> Answered {
    // `/doc.txt` is a file of the workspace here; the workspace's own path is understood as well.
    let path = if at.path.starts_with(crate::compat::WORKSPACE) {
        at.path.as_str()
    } else {
        at.path.trim_start_matches('/')
    };
    match Place::of(path) {
        Ok(Place::Tree(path)) => give(client, &path, at.is_resync, code::INVALID_PATH).await,
        _ => Err(Fault::new(code::INVALID_PATH, "only files of the workspace are opened")),
    }
}

async fn give(client: &Arc<Client>, path: &RelPath, is_resync: bool, missing: i32) -> Answered {
    let id = path.to_string();
    let files = client.kept::<Files>();
    let held = {
        let mut files = files.0.lock();
        files.retain(|_, open| open.bridge.as_ref().is_none_or(|bridge| !bridge.is_gone()));
        if files.len() >= MAX_FILES && !files.contains_key(&id) {
            let text = format!("a client has at most {MAX_FILES} files open; close some");
            return Err(Fault::new(code::RATE_LIMIT, text));
        }
        files.get(&id).cloned()
    };
    let not_there = |error: DocError| match error {
        DocError::NotFound(_) | DocError::Path(_) => Fault::new(missing, error.to_string()),
        error => error.into(),
    };
    let open = match held {
        Some(open) => open,
        None => match Bridge::open(client, &id, path).await {
            Ok(bridge) => Open { bridge: Some(bridge) },
            Err(DocError::NotText { .. } | DocError::TooLarge { .. }) => Open { bridge: None },
            Err(error) => return Err(not_there(error)),
        },
    };
    let (content, hash, opened) = match &open.bridge {
        None => {
            let bytes = client.hub().read(path, None).await.map_err(not_there)?.bytes;
            let hash = hash_bytes(&bytes);
            (Content::Bytes(bytes.to_vec().into()), hash, None)
        }
        Some(bridge) => {
            // What is on disk is what is saved; where it can't be brought there now, it is not.
            let hash = bridge.flush().await.ok().and_then(|bytes| hash_of(&bytes));
            let (opened, answer) = bridge.text(is_resync).await?;
            let hash = hash.unwrap_or_else(|| saved_hash(&opened.text));
            (Content::Text(opened.text.clone()), hash, Some((opened, answer)))
        }
    };
    files.0.lock().insert(id.clone(), open);
    let (is_new, readers) = enter(client, &id);
    let mut clients: BTreeMap<_, _> = readers
        .iter()
        .map(|(id, reader)| (id.clone(), Named { username: reader.username.clone() }))
        .collect();
    let is_binary = opened.is_none();
    let (opened, answer) = opened.unzip();
    let document = opened.map(|Opened { revision, others, .. }| {
        let mut selections: BTreeMap<_, _> =
            readers.into_iter().map(|(id, reader)| (id, reader.selection)).collect();
        for (name, yjs) in others {
            clients.insert(name.clone(), Named { username: yjs.username });
            selections.insert(name, yjs.selection);
        }
        DocumentView { revision, clients: selections }
    });
    let view = FileView { id: id.clone(), is_binary, content, saved_hash: hash, clients, document };
    let this = Arc::clone(client);
    Ok(Answer::of(&view)?.in_line().then(move || {
        drop(answer);
        if is_new {
            tell_others(this.room(), "file/join", &id, this.id(), &about(&this, &id, is_binary));
        }
    }))
}

fn hash_of(bytes: &Bytes) -> Option<String> {
    decode(bytes).ok().map(|(text, _)| saved_hash(&text))
}

fn about(client: &Client, id: &str, is_binary: bool) -> Value {
    let username = seats::username(client.session());
    json!({ "id": id, "isBinary": is_binary, "clientId": client.id(), "username": username })
}

/// Notes that a client has a file open; gives all that have.
fn enter(client: &Client, id: &str) -> (bool, BTreeMap<String, Reader>) {
    let readers = client.room().shared::<Readers>();
    let mut readers = readers.0.lock();
    let of_file = readers.entry(id.to_owned()).or_default();
    let reader = Reader { username: seats::username(client.session()).to_owned(), selection: None };
    let is_new = !of_file.contains_key(client.id());
    of_file.entry(client.id().to_owned()).or_insert(reader);
    (is_new, of_file.clone())
}

/// Tells all clients that have a file open, but one.
fn tell_others(room: &Room, method: &str, id: &str, but: &str, told: &Value) {
    let readers = room.shared::<Readers>();
    let meant: Vec<String> =
        readers.0.lock().get(id).map(|of| of.keys().cloned().collect()).unwrap_or_default();
    room.notify_some(method, told, |client| client.id() != but && meant.iter().any(|id| id == client.id()));
}

fn leave(room: &Room, client: &Client, id: &str, is_binary: bool) {
    let readers = room.shared::<Readers>();
    {
        let mut readers = readers.0.lock();
        if let Some(of_file) = readers.get_mut(id) {
            of_file.remove(client.id());
            if of_file.is_empty() {
                readers.remove(id);
            }
        }
    }
    tell_others(room, "file/leave", id, client.id(), &about(client, id, is_binary));
}

async fn close(client: &Arc<Client>, named: Id) -> Answered {
    let open = client.kept::<Files>().0.lock().remove(&named.id);
    if let Some(open) = open {
        leave(client.room(), client, &named.id, open.bridge.is_none());
    }
    Answer::nil()
}

pub(super) fn left(room: &Arc<Room>, client: &Client) {
    let files: Vec<_> = client.kept::<Files>().0.lock().drain().collect();
    for (id, open) in files {
        leave(room, client, &id, open.bridge.is_none());
    }
}

/// The open file of an id.
fn find(client: &Client, id: &str) -> Result<Open, Fault> {
    let open = client.kept::<Files>().0.lock().get(id).cloned();
    open.ok_or_else(|| Fault::new(code::INVALID_ID, "this client has no file with this id open"))
}

fn bridge(client: &Client, id: &str) -> Result<Bridge, Fault> {
    let open = find(client, id)?;
    open.bridge.ok_or_else(|| Fault::new(code::INVALID_ID, "the file is no text; write it with fs/writeFile"))
}

#[derive(Deserialize)]
struct Operate {
    id: String,
    operation: Operation,
    revision: i64,
}

async fn operation(client: &Arc<Client>, operate: Operate) -> Answered {
    let bridge = bridge(client, &operate.id)?;
    let revision = u64::try_from(operate.revision)
        .map_err(|_| Fault::new(code::CRITICAL, "a revision is no negative number"))?;
    let (outcome, answer) = bridge.take(operate.operation, revision).await?;
    // The answer of a file's operation is what the editor counts as taken; one that names no file is none.
    let id = if outcome == Outcome::Taken { operate.id.as_str() } else { "" };
    Ok(Answer::of(&json!({ "id": id }))?.in_line().then(move || drop(answer)))
}

#[derive(Deserialize)]
struct Ack {
    id: String,
    revision: i64,
}

async fn acknowledge(client: &Arc<Client>, ack: Ack) -> Answered {
    bridge(client, &ack.id)?.reached(u64::try_from(ack.revision).unwrap_or(0)).await;
    Answer::nil()
}

#[derive(Deserialize)]
struct Select {
    id: String,
    selection: Vec<Selected>,
    reason: u8,
}

async fn select(client: &Arc<Client>, mut select: Select) -> Answered {
    let bridge = bridge(client, &select.id)?;
    select.selection.truncate(MAX_SELECTED);
    let room = client.room();
    if let Some(reader) =
        room.shared::<Readers>().0.lock().get_mut(&select.id).and_then(|of_file| of_file.get_mut(client.id()))
    {
        reader.selection = Some(select.selection.clone());
    }
    let selections = HashMap::from([(client.id(), &select.selection)]);
    let told = json!({ "id": select.id, "selections": selections, "reason": select.reason });
    tell_others(room, "file/documentSelection", &select.id, client.id(), &told);
    bridge.select(select.selection).await;
    Answer::nil()
}

/// What is typed is saved without being asked; this waits for it.
async fn save(client: &Arc<Client>, named: Id) -> Answered {
    let open = find(client, &named.id)?;
    let Some(bridge) = open.bridge else { return Answer::nil() };
    let hash = hash_of(&bridge.flush().await?);
    if let Some(hash) = hash {
        saved(client.room(), &named.id, &hash);
    }
    Ok(Answer::nil()?.in_line())
}

fn saved(room: &Room, id: &str, hash: &str) {
    let told = json!({ "id": id, "isBinary": false, "content": null, "savedHash": hash });
    tell_others(room, "file/save", id, "", &told);
}

/// A file was written: editors that have it open hear that it is saved.
pub(super) fn heard(room: &Arc<Room>, event: &Event) {
    let (Event::FileChanged { path, .. } | Event::FileCreated { path, .. }) = event else { return };
    if !room.shared::<Readers>().0.lock().contains_key(path) {
        return;
    }
    let (Some(hub), Ok(path)) = (room.hub(), path.parse::<RelPath>()) else { return };
    let this = Arc::clone(room);
    room.spawn(async move {
        let file = hub.workspace().read(&path, 64 * 1024 * 1024).await;
        let hash = file.ok().flatten().and_then(|file| hash_of(&file.bytes));
        if let Some(hash) = hash {
            saved(&this, path.as_str(), &hash);
        }
    });
}
