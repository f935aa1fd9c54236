//! `fs/…`: files, in the manner of Node's `fs`.

use super::method;
use crate::compat::socket::{Answer, Answered, Client, Fault, Method, errno};
use crate::compat::view::Place;
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};
use serde_json::json;
use std::sync::Arc;

pub(super) const METHODS: &[Method] = &[
    method!("fs/read", Read, Free, read_tree),
    method!("fs/readFile", Read, Looks, read_file),
    method!("fs/writeFile", Write, Changes, write_file),
    method!("fs/readdir", Read, Looks, readdir),
    method!("fs/stat", Read, Looks, stat),
    method!("fs/mkdir", Write, Changes, mkdir),
    method!("fs/remove", Write, Changes, remove),
    method!("fs/rename", Write, Changes, rename),
    method!("fs/copy", Write, Changes, copy),
    method!("fs/upload", Write, Changes, upload),
];

/// A file, as lists and stats tell it.
const FILE: u8 = 0;
/// A folder.
const FOLDER: u8 = 1;

#[derive(Deserialize)]
struct At {
    path: String,
}

/// There is no tree with ids here: files are told by their paths.
async fn read_tree(_: &Arc<Client>, _: super::Nothing) -> Answered {
    Answer::of(&json!({ "treeNodes": [], "clock": 0 }))
}

async fn read_file(client: &Arc<Client>, at: At) -> Answered {
    #[derive(Serialize)]
    struct Content<'a> {
        content: &'a Bytes,
    }
    let bytes = client.view().read(&Place::of(&at.path)?).await?;
    Answer::of(&Content { content: Bytes::new(&bytes) })
}

#[derive(Deserialize)]
struct WriteFile {
    path: String,
    content: ByteBuf,
    create: Option<bool>,
    overwrite: Option<bool>,
}

async fn write_file(client: &Arc<Client>, write: WriteFile) -> Answered {
    let (create, overwrite) = (write.create.unwrap_or(true), write.overwrite.unwrap_or(true));
    let bytes = write.content.into_vec().into();
    client.view().write(&Place::of(&write.path)?, bytes, create, overwrite).await?;
    Answer::empty()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EntryView {
    name: String,
    r#type: u8,
    is_symlink: bool,
}

fn kind(is_folder: bool) -> u8 {
    if is_folder { FOLDER } else { FILE }
}

async fn readdir(client: &Arc<Client>, at: At) -> Answered {
    #[derive(Serialize)]
    struct Entries {
        entries: Vec<EntryView>,
    }
    let entries = client.view().list(&Place::of(&at.path)?).await?;
    let entries = entries.into_iter().map(|entry| EntryView {
        name: entry.name,
        r#type: kind(entry.is_folder),
        is_symlink: entry.is_link,
    });
    Answer::of(&Entries { entries: entries.collect() })
}

async fn stat(client: &Arc<Client>, at: At) -> Answered {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct StatView {
        r#type: u8,
        is_symlink: bool,
        size: u64,
        mtime: i64,
        ctime: i64,
        atime: i64,
    }
    let found = client.view().stat(&Place::of(&at.path)?).await?;
    Answer::of(&StatView {
        r#type: kind(found.is_folder),
        is_symlink: found.is_link,
        size: found.len_bytes,
        mtime: found.modified_at_ms,
        ctime: found.changed_at_ms,
        atime: found.accessed_at_ms,
    })
}

#[derive(Deserialize)]
struct Deep {
    path: String,
    recursive: Option<bool>,
}

async fn mkdir(client: &Arc<Client>, at: Deep) -> Answered {
    client.view().make_folder(&Place::of(&at.path)?, at.recursive.unwrap_or(false)).await?;
    Answer::empty()
}

async fn remove(client: &Arc<Client>, at: Deep) -> Answered {
    client.view().remove(&Place::of(&at.path)?, at.recursive.unwrap_or(false)).await?;
    Answer::empty()
}

#[derive(Deserialize)]
struct FromTo {
    from: String,
    to: String,
    recursive: Option<bool>,
    overwrite: Option<bool>,
}

async fn rename(client: &Arc<Client>, named: FromTo) -> Answered {
    let (from, to) = (Place::of(&named.from)?, Place::of(&named.to)?);
    client.view().rename(&from, &to, named.overwrite.unwrap_or(false)).await?;
    Answer::empty()
}

async fn copy(client: &Arc<Client>, named: FromTo) -> Answered {
    let (from, to) = (Place::of(&named.from)?, Place::of(&named.to)?);
    let (recursive, overwrite) = (named.recursive.unwrap_or(false), named.overwrite.unwrap_or(false));
    client.view().copy(&from, &to, recursive, overwrite).await?;
    Answer::empty()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Upload {
    /// `0` is the workspace; others are paths, as ids are here.
    parent_id: String,
    filename: String,
    content: ByteBuf,
}

async fn upload(client: &Arc<Client>, upload: Upload) -> Answered {
    if upload.filename.is_empty() || upload.filename.contains('/') {
        return Err(Fault::fs(errno::EINVAL, "`filename` is one name"));
    }
    let folder = if upload.parent_id == "0" { Place::Root } else { Place::of(&upload.parent_id)? };
    let place = folder.join(&upload.filename)?;
    client.view().write(&place, upload.content.into_vec().into(), true, true).await?;
    let id = if let Place::Tree(path) = &place { path.to_string() } else { place.absolute() };
    Answer::of(&json!({ "fileId": id }))
}
