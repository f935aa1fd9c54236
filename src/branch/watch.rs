//! The watcher of branches' files: what it sees goes to open documents at once, and to listeners once it is quiet.

use super::events::{Event, Events, Own};
use super::versions::Version;
use crate::workspace::{FsError, Kind, RelPath, Workspace};
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind, RenameMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::warn;

/// Between looks at the open files of a workspace that the system does not tell of.
const UNWATCHED: Duration = Duration::from_secs(2);
/// File events of a branch that may wait; past it documents look at their files, and listeners hear `reset`.
const QUEUE: usize = 4_096;
/// A path is told of once it was quiet this long …
const QUIET: Duration = Duration::from_millis(100);
/// … or at the latest after this.
const AT_LATEST: Duration = Duration::from_secs(1);
/// Paths that wait to be told of; more at once (a checkout, an install) are told as one `reset`.
const MAX_PENDING: usize = 1_024;
/// The largest file that is compared with what perch wrote there.
const MAX_ECHO_BYTES: u64 = 64 * 1024 * 1024;

/// What the system says of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// It was made.
    Made,
    /// Its bytes changed, or may have.
    Changed,
    /// A writer closed it.
    Closed,
    /// Its mode, owner or times changed.
    Metadata,
    /// It went, or was moved away.
    Gone,
    /// Something was moved here.
    MovedHere,
    /// The same, and where it was.
    MovedFrom(RelPath),
}

/// What a watch sees.
#[derive(Debug)]
pub(super) struct Signs {
    queue: mpsc::Receiver<(RelPath, Sign)>,
    overflowed: Arc<AtomicBool>,
    watch: Watch,
}

impl Signs {
    /// The next sign; `None` once the watch is dropped.
    pub(super) async fn next(&mut self) -> Option<(RelPath, Sign)> {
        self.queue.recv().await
    }

    /// Whether signs were lost since the last call.
    pub(super) fn overflowed(&self) -> bool {
        self.overflowed.swap(false, Ordering::Relaxed)
    }

    /// Returns when files are to be looked at because nobody tells of them; never where the system does.
    pub(super) fn unwatched(&self) -> impl Future<Output = ()> + use<> {
        let is_told = self.watch.is_told;
        async move {
            if is_told {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(UNWATCHED).await;
        }
    }
}

/// Where the signs of one workspace go.
#[derive(Debug)]
struct Listener {
    number: u64,
    signs: mpsc::Sender<(RelPath, Sign)>,
    overflowed: Arc<AtomicBool>,
}

impl Listener {
    fn tell(&self, path: RelPath, sign: Sign) {
        // A full queue is made up for by the look before each write-back and read.
        if self.signs.try_send((path, sign)).is_err() {
            self.overflowed.store(true, Ordering::Relaxed);
        }
    }
}

type Listeners = Mutex<HashMap<PathBuf, Listener>>;

/// The one watcher of a perch: the system allows a user few of them (128 by default), and a folder each of far more.
#[derive(Debug)]
pub(super) struct Watcher {
    listeners: Arc<Listeners>,
    /// Made for the first branch. Held while folders are put on it or taken off, which then happens in order.
    system: Mutex<Option<RecommendedWatcher>>,
    numbers: AtomicU64,
}

/// Keeps a workspace watched; dropped, that ends.
#[derive(Debug)]
struct Watch {
    watcher: Arc<Watcher>,
    root: PathBuf,
    number: u64,
    /// Whether the system tells of changes.
    is_told: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let (watcher, root) = (Arc::clone(&self.watcher), std::mem::take(&mut self.root));
        let is_ours = |listener: &mut Listener| listener.number == self.number;
        let gone =
            watcher.listeners.lock().extract_if(|of, listener| *of == root && is_ours(listener)).count();
        if gone == 0 || !self.is_told {
            return;
        }
        let unwatch = move || {
            let mut system = watcher.system.lock();
            // Opened again meanwhile: what is watched stays so.
            if let Some(system) = system.as_mut()
                && !watcher.listeners.lock().contains_key(&root)
            {
                // Its folder may have gone, and its watches with it.
                let _ = system.unwatch(&root);
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(unwatch)),
            Err(_) => unwatch(),
        }
    }
}

impl Watcher {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { listeners: Arc::default(), system: Mutex::new(None), numbers: AtomicU64::new(0) })
    }

    /// Watches the workspace. Where the system allows no more watches, its open documents look at their files every
    /// two seconds instead, and listeners hear nothing of the other files.
    pub(super) async fn watch(self: &Arc<Self>, workspace: &Workspace) -> Signs {
        let (signs, queue) = mpsc::channel(QUEUE);
        let overflowed = Arc::new(AtomicBool::new(false));
        let root = workspace.folder().to_owned();
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let listener = Listener { number, signs, overflowed: Arc::clone(&overflowed) };
        let (this, folder) = (Arc::clone(self), root.clone());
        let started = tokio::task::spawn_blocking(move || {
            let mut system = this.system.lock();
            this.listeners.lock().insert(folder.clone(), listener);
            let system = match &mut *system {
                Some(system) => system,
                empty => {
                    let listeners = Arc::clone(&this.listeners);
                    let mut moves = Moves::default();
                    empty.insert(notify::recommended_watcher(move |event| {
                        hear(&listeners, &mut moves, event);
                    })?)
                }
            };
            system.watch(&folder, RecursiveMode::Recursive).inspect_err(|_| {
                // Of its folders some may be watched.
                let _ = system.unwatch(&folder);
            })
        });
        let is_told = match started.await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                let workspace = root.display();
                warn!(%error, %workspace, "a branch can't be watched: changes from outside to open files are seen within \
                    two seconds, to others when they are read; raise fs.inotify.max_user_watches \
                    and max_user_instances (sysctl)");
                false
            }
            Err(_) => false,
        };
        Signs { queue, overflowed, watch: Watch { watcher: Arc::clone(self), root, number, is_told } }
    }
}

/// Names that something was moved away from, with what the system calls the move. The other half comes right after, but
/// for what happens in other folders at the same moment.
#[derive(Debug, Default)]
struct Moves(VecDeque<(usize, PathBuf)>);

impl Moves {
    /// Halves that are remembered. Of what was moved to where nobody looks there is no other.
    const MOST: usize = 64;

    fn left(&mut self, id: usize, path: PathBuf) {
        self.0.truncate(Self::MOST - 1);
        self.0.push_front((id, path));
    }

    fn arrived(&mut self, id: usize) -> Option<PathBuf> {
        let at = self.0.iter().position(|(of, _)| *of == id)?;
        self.0.remove(at).map(|(_, path)| path)
    }
}

/// Gives an event to whoever listens there.
fn hear(listeners: &Listeners, moves: &mut Moves, event: notify::Result<notify::Event>) {
    let listeners = listeners.lock();
    let Some(event) = event.ok().filter(|event| !event.need_rescan()) else {
        for listener in listeners.values() {
            listener.overflowed.store(true, Ordering::Relaxed);
        }
        return;
    };
    // Names that are no path here, `.git` among them, are nobody's business.
    let place = |path: &Path| -> Option<(&Listener, RelPath)> {
        let (root, listener) = path.ancestors().find_map(|root| listeners.get_key_value(root))?;
        Some((listener, path.strip_prefix(root).ok()?.to_str()?.parse().ok()?))
    };
    let mut from = None;
    let sign = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Sign::Closed,
        // Opens and reads are events too, our own among them. Both halves of a rename in one are told besides the two, and
        // only where nothing came between them.
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => return,
        EventKind::Create(CreateKind::File | CreateKind::Folder | CreateKind::Any | CreateKind::Other) => {
            Sign::Made
        }
        EventKind::Remove(RemoveKind::Any | RemoveKind::File | RemoveKind::Folder | RemoveKind::Other) => {
            Sign::Gone
        }
        EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
            if let (Some(id), [path]) = (event.tracker(), event.paths.as_slice()) {
                moves.left(id, path.clone());
            }
            Sign::Gone
        }
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
            from = event.tracker().and_then(|id| moves.arrived(id));
            Sign::MovedHere
        }
        EventKind::Modify(ModifyKind::Name(_)) => Sign::MovedHere,
        EventKind::Modify(ModifyKind::Metadata(_)) => Sign::Metadata,
        _ => Sign::Changed,
    };
    for path in event.paths {
        let Some((listener, path)) = place(&path) else { continue };
        listener.tell(path.clone(), sign.clone());
        if let Some((left, from)) = from.as_deref().and_then(place)
            && left.number == listener.number
        {
            listener.tell(path, Sign::MovedFrom(from));
        }
    }
}

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
pub(super) struct Quiet {
    pending: BTreeMap<RelPath, Pending>,
    is_too_much: bool,
}

impl Quiet {
    pub(super) fn note(&mut self, path: RelPath, sign: &Sign, now: Instant) {
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
    pub(super) fn due(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.due).min()
    }

    /// Forgets all: listeners are to list anew.
    pub(super) fn clear(&mut self) {
        self.pending.clear();
    }

    fn take_due(&mut self, now: Instant) -> Vec<(RelPath, Pending)> {
        self.pending.extract_if(.., |_, pending| pending.due <= now).collect()
    }

    /// Looks at the paths that are quiet and tells of them.
    pub(super) async fn tell(&mut self, workspace: &Workspace, events: &Events, now: Instant) {
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
            if own == Some(Own::MovedHere) && pending.existed.is_none() && kind.is_some() {
                continue;
            }
            let is_echo = is_echo(workspace, events, &path).await;
            if is_echo && own == Some(Own::Deleted) {
                // Somebody may make it and remove it again.
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
    vec![super::Author::Outside.as_str().to_owned()]
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
            ("a", MovedHere),
            ("a", MovedFrom(path("a.new"))),
        ];
        assert_eq!(told(&save, &["a"]), ["changed a"], "an editor's save by way of a temporary file");
        let moved = [("a", Gone), ("b", MovedHere), ("b", MovedFrom(path("a")))];
        assert_eq!(told(&moved, &["b"]), ["renamed a b"]);
        assert_eq!(told(&moved, &[]), ["deleted a", "deleted b"]);
        assert_eq!(told(&moved, &["a", "b"]), ["changed a", "changed b"], "made anew");
    }

    #[test]
    fn halves_of_a_rename_find_each_other_whatever_comes_between() {
        let listeners = Listeners::default();
        let mut queues = Vec::new();
        for (number, root) in ["/of/one", "/of/other"].into_iter().enumerate() {
            let (signs, queue) = mpsc::channel(QUEUE);
            let listener = Listener { number: number as u64, signs, overflowed: Arc::default() };
            listeners.lock().insert(root.into(), listener);
            queues.push(queue);
        }
        let mut moves = Moves::default();
        let mut half = |mode, id, path: &str| {
            let event = notify::Event::new(EventKind::Modify(ModifyKind::Name(mode)));
            hear(&listeners, &mut moves, Ok(event.set_tracker(id).add_path(path.into())));
        };
        half(RenameMode::From, 1, "/of/one/a");
        half(RenameMode::From, 2, "/of/other/a");
        half(RenameMode::To, 3, "/of/other/exchanged");
        half(RenameMode::To, 1, "/of/one/sub/b");
        // To another branch: gone here, new there.
        half(RenameMode::To, 2, "/of/one/c");
        let mut signs = |branch: usize| -> Vec<(RelPath, Sign)> {
            std::iter::from_fn(|| queues[branch].try_recv().ok()).collect()
        };
        let of_one = [
            (path("a"), Sign::Gone),
            (path("sub/b"), Sign::MovedHere),
            (path("sub/b"), Sign::MovedFrom(path("a"))),
            (path("c"), Sign::MovedHere),
        ];
        assert_eq!(signs(0), of_one);
        assert_eq!(signs(1), [(path("a"), Sign::Gone), (path("exchanged"), Sign::MovedHere)]);
    }

    #[tokio::test]
    async fn one_watcher_tells_each_branch_of_its_own_files() {
        let folder = tempfile::tempdir().unwrap();
        let watcher = Watcher::new();
        let open = |name: &str| {
            let folder = folder.path().join(name);
            std::fs::create_dir_all(folder.join("sub")).unwrap();
            Workspace::open(&folder, &folder).unwrap()
        };
        let (one, other) = (open("one"), open("other"));
        let (mut of_one, mut of_other) = (watcher.watch(&one).await, watcher.watch(&other).await);
        let write = |workspace: &Workspace| std::fs::write(workspace.folder().join("sub/a"), "x").unwrap();
        write(&one);
        assert_eq!(of_one.next().await, Some((path("sub/a"), Sign::Made)));
        assert!(of_other.queue.try_recv().is_err());
        // Opened again right after it was let go, whichever is first.
        for _ in 0..20 {
            drop(of_one);
            of_one = watcher.watch(&one).await;
        }
        drop(of_other);
        write(&one);
        assert!(of_one.next().await.is_some());
        // Taken off by a thread of its own.
        while watcher.listeners.lock().len() > 1 {
            tokio::task::yield_now().await;
        }
        let mut of_other = watcher.watch(&other).await;
        write(&other);
        assert!(of_other.next().await.is_some());
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
