//! `fs/watch`: what happens to files, whoever does it: the SDK, editors, shells, pulls.

use super::method;
use crate::branch::Event;
use crate::compat::socket::{Answer, Answered, Client, Fault, Method, Room, code, errno};
use crate::compat::view::Place;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;

pub(super) const METHODS: &[Method] =
    &[method!("fs/watch", Read, Looks, watch), method!("fs/unwatch", Read, Looks, unwatch)];

/// Watches of one client.
const MAX_WATCHES: usize = 128;
/// Globs of one call.
const MAX_GLOBS: usize = 64;
/// Bytes of one glob.
const MAX_GLOB: usize = 256;

struct Watch {
    id: String,
    /// What is watched, from the workspace's root; empty for all of it.
    real: String,
    /// The same as the client wrote it, absolute.
    shown: String,
    recursive: bool,
    excludes: GlobSet,
}

/// A client's watches.
#[derive(Default)]
struct Watches(Mutex<Vec<Watch>>);

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Change {
    Add,
    #[serde(rename = "change")]
    Write,
    Remove,
}

impl Watch {
    /// The path as the client is told of it, if it is.
    fn shows(&self, path: &str) -> Option<String> {
        let below = match path.strip_prefix(self.real.as_str())? {
            // What is watched itself: a file, or a folder that comes or goes.
            "" => return Some(self.shown.clone()),
            rest if self.real.is_empty() => rest,
            rest => rest.strip_prefix('/')?,
        };
        let is_meant = (self.recursive || !below.contains('/')) && !self.excludes.is_match(below);
        is_meant.then(|| format!("{}/{below}", self.shown))
    }
}

/// Globs against paths below a folder, `/`-separated; `*` stays within a part.
///
/// # Errors
/// `EINVAL`.
pub(super) fn globs(patterns: &[String]) -> Result<GlobSet, Fault> {
    let refused = |text: &str| Fault::fs(errno::EINVAL, text);
    if patterns.len() > MAX_GLOBS || patterns.iter().any(|glob| glob.len() > MAX_GLOB) {
        return Err(refused(&format!("at most {MAX_GLOBS} globs of {MAX_GLOB} bytes")));
    }
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = GlobBuilder::new(pattern).literal_separator(true).build();
        set.add(glob.map_err(|error| refused(&error.to_string()))?);
    }
    set.build().map_err(|error| refused(&error.to_string()))
}

#[derive(Deserialize)]
struct WatchRequest {
    path: String,
    recursive: Option<bool>,
    excludes: Option<Vec<String>>,
}

async fn watch(client: &Arc<Client>, request: WatchRequest) -> Answered {
    let place = Place::of(&request.path)?;
    let excludes = globs(&request.excludes.unwrap_or_default())?;
    let elsewhere = || {
        let text = "only what lies in the workspace is watched; look again with readdir or stat";
        Fault::fs(errno::EINVAL, text)
    };
    let real = match &place {
        Place::Root => String::new(),
        Place::Tree(path) => {
            client.view().stat(&place).await?;
            let real = client.hub().workspace().resolve(path).await.map_err(|_| elsewhere())?;
            real.to_string()
        }
        Place::Inside(_) => return Err(elsewhere()),
    };
    let id = uuid::Uuid::now_v7().simple().to_string();
    let watches = client.kept::<Watches>();
    let mut watches = watches.0.lock();
    if watches.len() >= MAX_WATCHES {
        let text = format!("a client has at most {MAX_WATCHES} watches; end some with fs/unwatch");
        return Err(Fault::new(code::RATE_LIMIT, text));
    }
    let recursive = request.recursive.unwrap_or(false);
    watches.push(Watch { id: id.clone(), real, shown: place.absolute(), recursive, excludes });
    Ok(Answer::of(&json!({ "watchId": id }))?.holding())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Unwatch {
    watch_id: String,
}

/// Of one that is not there nothing is said: it is not there any more.
async fn unwatch(client: &Arc<Client>, request: Unwatch) -> Answered {
    client.kept::<Watches>().0.lock().retain(|watch| watch.id != request.watch_id);
    Answer::empty()
}

/// What an event says of files.
fn changes(event: &Event) -> Vec<(Change, &str)> {
    match event {
        Event::FileCreated { path, .. } => vec![(Change::Add, path)],
        Event::FileChanged { path, .. } => vec![(Change::Write, path)],
        Event::FileDeleted { path, .. } => vec![(Change::Remove, path)],
        Event::FileRenamed { from, path, .. } => vec![(Change::Remove, from), (Change::Add, path)],
        _ => Vec::new(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    watch_id: &'a str,
    events: Vec<One>,
}

#[derive(Serialize)]
struct One {
    paths: [String; 1],
    r#type: Change,
}

pub(super) fn heard(room: &Arc<Room>, event: &Event) {
    let changes = changes(event);
    // Something was missed: what is watched may be anything now.
    let is_reset = *event == Event::Reset;
    if changes.is_empty() && !is_reset {
        return;
    }
    for client in room.clients() {
        let watches = client.kept::<Watches>();
        for watch in watches.0.lock().iter() {
            let mut events: Vec<One> = changes
                .iter()
                .filter_map(|(change, path)| Some(One { paths: [watch.shows(path)?], r#type: *change }))
                .collect();
            if is_reset {
                events.push(One { paths: [watch.shown.clone()], r#type: Change::Write });
            }
            if !events.is_empty() {
                client.notify("fs/watchEvent", &Told { watch_id: &watch.id, events });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watching(real: &str, recursive: bool, excludes: &[&str]) -> Watch {
        let excludes: Vec<_> = excludes.iter().map(|glob| (*glob).to_owned()).collect();
        Watch {
            id: "w".into(),
            real: real.into(),
            shown: format!("/w/{real}").trim_end_matches('/').into(),
            recursive,
            excludes: globs(&excludes).unwrap(),
        }
    }

    #[test]
    fn a_plain_watch_shows_direct_children_and_excludes_hide() {
        let root = watching("", false, &[]);
        assert_eq!(root.shows("a.txt").as_deref(), Some("/w/a.txt"));
        assert_eq!(root.shows("src/a"), None);
        let src = watching("src", true, &["**/node_modules/**", "*.log"]);
        for (path, expected) in [
            ("src/a", Some("/w/src/a")),
            ("src/deep/a", Some("/w/src/deep/a")),
            ("src", Some("/w/src")),
            ("srcs/a", None),
            ("other", None),
            ("src/node_modules/x/y", None),
            ("src/a.log", None),
            ("src/deep/a.log", Some("/w/src/deep/a.log")),
        ] {
            assert_eq!(src.shows(path).as_deref(), expected, "{path}");
        }
        assert!(globs(&["[".to_owned()]).is_err());
        assert!(globs(&vec!["*".to_owned(); MAX_GLOBS + 1]).is_err());
    }
}
