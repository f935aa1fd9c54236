//! What is told of files without an open document, once they are quiet.

use super::Sign;
use crate::branch::Author;
use crate::branch::events::{Event, Events, Own};
use crate::branch::versions::Version;
use crate::workspace::{FsError, Kind, RelPath, Workspace};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// A path is told of once it was quiet this long …
const QUIET: Duration = Duration::from_millis(100);
/// … or at the latest after this.
const AT_LATEST: Duration = Duration::from_secs(1);
/// Paths that wait to be told of; more at once (a checkout, an install) are told as one `reset`.
const MAX_PENDING: usize = 1_024;
/// The largest file that is compared with what perch wrote there.
const MAX_ECHO_BYTES: u64 = 64 * 1024 * 1024;

/// What is known of a path since its first sign.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pending {
    first: Instant,
    due: Instant,
    /// Whether it was there before; `None`: not known.
    existed: Option<bool>,
    /// Where it was before it was moved here; that path was there before.
    from: Option<RelPath>,
}

/// Gathers signs of paths without an open document until each was quiet for a moment.
#[derive(Debug, Default)]
pub(in crate::branch) struct Quiet {
    pending: BTreeMap<RelPath, Pending>,
    is_too_much: bool,
}

impl Quiet {
    pub(in crate::branch) fn note(&mut self, path: RelPath, sign: &Sign, now: Instant) {
        let existed = match sign {
            Sign::Metadata => return,
            Sign::Made => Some(false),
            Sign::Changed | Sign::Closed | Sign::Gone => Some(true),
            Sign::MovedHere | Sign::MovedFrom(_) => None,
        };
        if self.pending.len() >= MAX_PENDING {
            self.pending.clear();
            self.is_too_much = true;
        }
        let fresh = Pending { first: now, due: now, existed, from: None };
        let from = match sign {
            Sign::MovedFrom(from) => {
                // Made and moved within the moment: a temporary file, of which nobody was told.
                let moved = self.pending.remove(from);
                moved.is_none_or(|moved| moved.existed != Some(false)).then(|| from.clone())
            }
            _ => None,
        };
        let pending = self.pending.entry(path).or_insert(fresh);
        pending.due = (now + QUIET).min(pending.first + AT_LATEST);
        if from.is_some() {
            pending.from = from;
        }
    }

    /// When there is something to tell.
    pub(in crate::branch) fn due(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.due).min()
    }

    /// Forgets all: listeners are to list anew.
    pub(in crate::branch) fn clear(&mut self) {
        self.pending.clear();
    }

    fn take_due(&mut self, now: Instant) -> Vec<(RelPath, Pending)> {
        self.pending.extract_if(.., |_, pending| pending.due <= now).collect()
    }

    /// Looks at the paths that are quiet and tells of them.
    pub(in crate::branch) async fn tell(&mut self, workspace: &Workspace, events: &Events, now: Instant) {
        let due = self.take_due(now);
        if std::mem::take(&mut self.is_too_much) {
            events.publish(&Event::Reset);
            return;
        }
        let mut told = BTreeSet::new();
        for (path, pending) in due {
            // Told as one with where it came from.
            let kind = kind_at(workspace, &path).await;
            let own = events.own(&path);
            // Also where the folder is new, and what is in it told of as made.
            if own == Some(Own::MovedHere) && pending.existed != Some(true) && kind.is_some() {
                continue;
            }
            let is_echo = is_echo(workspace, events, &path).await;
            if kind.is_none() {
                // Somebody may make it again.
                events.seen_own(&path);
            }
            let from_kind = match &pending.from {
                Some(from) => kind_at(workspace, from).await,
                None => None,
            };
            for event in tell(&path, &pending, kind, from_kind, is_echo, events) {
                // A folder that is made and one beneath it are each told once.
                if told.insert(format!("{event:?}")) {
                    events.publish(&event);
                }
            }
        }
    }
}

fn disk() -> Vec<String> {
    vec![Author::Outside.as_str().to_owned()]
}

fn tell(
    path: &RelPath,
    pending: &Pending,
    kind: Option<Kind>,
    from_kind: Option<Kind>,
    is_echo: bool,
    events: &Events,
) -> Vec<Event> {
    let mut told = Vec::new();
    if let Some(from) = &pending.from {
        let from = from.to_string();
        match (from_kind, kind) {
            (None, Some(_)) => {
                told.push(Event::FileRenamed { from, path: path.to_string(), by: disk() });
                return told;
            }
            (None, None) => told.push(Event::FileDeleted { path: from, by: disk() }),
            // Made anew since.
            (Some(_), _) => told.push(Event::FileChanged { path: from, by: disk() }),
        }
    }
    if is_echo {
        return told;
    }
    let path_text = path.to_string();
    match (pending.existed, kind) {
        (Some(false), None) | (Some(true), Some(Kind::Folder)) => {}
        (_, None) => {
            let by = events.own_near(path).unwrap_or_else(disk);
            told.push(Event::FileDeleted { path: path_text, by });
        }
        (None, Some(kind @ Kind::Folder)) | (Some(false), Some(kind)) => {
            let by = events.own_near(path).unwrap_or_else(disk);
            told.push(Event::FileCreated { path: path_text, kind, by });
        }
        (_, Some(_)) => told.push(Event::FileChanged { path: path_text, by: disk() }),
    }
    told
}

async fn kind_at(workspace: &Workspace, path: &RelPath) -> Option<Kind> {
    match workspace.stat(path).await {
        Ok(stat) => stat.map(|stat| stat.kind),
        Err(FsError::OutsideRoot(_)) => Some(Kind::Symlink),
        Err(_) => None,
    }
}

/// Whether what is at a path is what perch itself put there a moment ago, and has told of.
async fn is_echo(workspace: &Workspace, events: &Events, path: &RelPath) -> bool {
    match events.own(path) {
        None | Some(Own::MovedHere) => false,
        Some(Own::Deleted) => kind_at(workspace, path).await.is_none(),
        // A file that was copied may have been written since; told twice does no harm.
        Some(Own::Made) => kind_at(workspace, path).await == Some(Kind::Folder),
        Some(Own::Wrote(version)) => {
            let file = workspace.read(path, MAX_ECHO_BYTES).await;
            file.is_ok_and(|file| file.is_some_and(|file| Version::of(&file.bytes) == version))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Clock;

    fn path(text: &str) -> RelPath {
        text.parse().unwrap()
    }

    /// What is told of signs, given what is there afterwards.
    fn told(signs: &[(&str, Sign)], there: &[&str]) -> Vec<String> {
        let now = Instant::now();
        let mut quiet = Quiet::default();
        for (at, sign) in signs {
            quiet.note(path(at), sign, now);
        }
        assert!(quiet.take_due(now).is_empty(), "not yet quiet");
        let events = Events::new(Clock::manual(0));
        let kind = |at: &RelPath| there.contains(&at.as_str()).then_some(Kind::File);
        let mut told = Vec::new();
        for (at, pending) in quiet.take_due(now + QUIET) {
            let from_kind = pending.from.as_ref().and_then(kind);
            told.extend(tell(&at, &pending, kind(&at), from_kind, false, &events));
        }
        told.iter()
            .map(|event| match event {
                Event::FileCreated { path, .. } => format!("created {path}"),
                Event::FileChanged { path, .. } => format!("changed {path}"),
                Event::FileDeleted { path, .. } => format!("deleted {path}"),
                Event::FileRenamed { from, path, .. } => format!("renamed {from} {path}"),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn what_writers_do_is_told_as_they_meant_it() {
        use Sign::{Changed, Closed, Gone, Made, Metadata, MovedFrom, MovedHere};
        assert_eq!(told(&[("a", Made), ("a", Changed), ("a", Closed)], &["a"]), ["created a"]);
        assert_eq!(told(&[("a", Changed), ("a", Closed)], &["a"]), ["changed a"]);
        assert_eq!(told(&[("a", Gone)], &[]), ["deleted a"]);
        assert_eq!(told(&[("a", Gone), ("a", Made)], &["a"]), ["changed a"], "unlink and create");
        assert_eq!(told(&[("a", Made), ("a", Gone)], &[]), [""; 0], "came and went");
        assert_eq!(told(&[("a", Metadata)], &["a"]), [""; 0]);
        let save = [
            ("a.new", Made),
            ("a.new", Closed),
            ("a.new", Gone),
            ("a", MovedFrom(path("a.new"))),
            ("a", MovedHere),
        ];
        assert_eq!(told(&save, &["a"]), ["changed a"], "an editor's save by way of a temporary file");
        let moved = [("a", Gone), ("b", MovedFrom(path("a"))), ("b", MovedHere)];
        assert_eq!(told(&moved, &["b"]), ["renamed a b"]);
        assert_eq!(told(&moved, &[]), ["deleted a", "deleted b"]);
        assert_eq!(told(&moved, &["a", "b"]), ["changed a", "changed b"], "made anew");
    }

    #[tokio::test]
    async fn too_many_paths_are_one_reset() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::open(folder.path(), folder.path()).unwrap();
        let events = Events::new(Clock::manual(0));
        let mut listener = events.listen(None).unwrap();
        let now = Instant::now();
        let mut quiet = Quiet::default();
        for n in 0..=MAX_PENDING {
            quiet.note(path(&format!("f{n}")), &Sign::Made, now);
        }
        quiet.tell(&workspace, &events, now + QUIET).await;
        assert!(listener.next().await.unwrap().json.contains("\"reset\""));
        assert_eq!(quiet.due(), None);
    }
}
