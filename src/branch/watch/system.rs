//! What the kernel tells, of which folder of which branch.

use super::{Listener, Sign};
use crate::base::Tasks;
use crate::workspace::{FsError, Kind, RelPath};
use futures_util::StreamExt as _;
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tracing::error;

/// What a folder is watched for. Opens and reads are nobody's business, and would be told of by the million.
const MASK: WatchMask = WatchMask::CREATE
    .union(WatchMask::DELETE)
    .union(WatchMask::MODIFY)
    .union(WatchMask::CLOSE_WRITE)
    .union(WatchMask::ATTRIB)
    .union(WatchMask::MOVE)
    .union(WatchMask::ONLYDIR);
/// What `.git` is watched for: names that come, go, or were written.
const GIT_MASK: WatchMask = WatchMask::CREATE
    .union(WatchMask::DELETE)
    .union(WatchMask::CLOSE_WRITE)
    .union(WatchMask::MOVED_TO)
    .union(WatchMask::ONLYDIR);
/// Folders of `.git` that are watched too: each step of HEAD is noted in the first; of the last ones each name is a reference,
/// or a folder of some.
const GIT_FOLDERS: [&str; 6] =
    ["logs", "refs", "refs/remotes", "refs/heads", "refs/tags", "refs/remotes/origin"];
/// How many of them hold references.
const REF_FOLDERS: usize = 3;
/// Names in `.git`, and in its other folders, that tell of what is checked out, staged or under way.
const GIT_NAMES: [&str; 9] = [
    "HEAD",
    "index",
    "packed-refs",
    "FETCH_HEAD",
    "MERGE_HEAD",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "rebase-apply",
    "rebase-merge",
];
/// Bytes of events that are read at once.
const BUFFER: usize = 64 * 1024;

/// The inotify instance, and what each of its watches stands for.
#[derive(Debug)]
pub(super) struct System {
    watches: Watches,
    /// Held while a watch is made or ended, so that its first event finds it here.
    places: Arc<Mutex<Places>>,
}

/// A watched folder; `None`: the workspace.
type Label = (u64, Option<RelPath>);

#[derive(Debug, Default)]
struct Places {
    listeners: HashMap<u64, Arc<Listener>>,
    of: HashMap<i32, (WatchDescriptor, Label)>,
    at: BTreeMap<Label, i32>,
    /// Of `.git` and what is watched in it: whose, and whether it holds references.
    git: HashMap<i32, (WatchDescriptor, u64, bool)>,
}

impl Places {
    /// Gives a watch its label; `true` if the label had no watch, or another.
    fn label(&mut self, watch: WatchDescriptor, label: Label) -> bool {
        let id = watch.get_watch_descriptor_id();
        if let Some((_, old)) = self.of.insert(id, (watch, label.clone()))
            && old != label
            && self.at.get(&old) == Some(&id)
        {
            self.at.remove(&old);
        }
        self.at.insert(label, id) != Some(id)
    }

    /// Forgets a watch that the kernel has ended.
    fn ended(&mut self, id: i32) {
        self.git.remove(&id);
        if let Some((_, label)) = self.of.remove(&id)
            && self.at.get(&label) == Some(&id)
        {
            self.at.remove(&label);
        }
    }

    /// The labels of a folder and all below it; of the whole branch without one.
    fn labels(&self, number: u64, folder: Option<&RelPath>) -> Vec<Label> {
        let of_branch = self.at.range((number, None)..(number + 1, None)).map(|(label, _)| label);
        let is_in = |at: &Option<RelPath>| match (folder, at) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(folder), Some(at)) => at == folder || at.is_in(folder),
        };
        of_branch.filter(|(_, at)| is_in(at)).cloned().collect()
    }

    /// Takes their watches out.
    fn take(&mut self, number: u64, folder: Option<&RelPath>) -> Vec<WatchDescriptor> {
        let ids = self.labels(number, folder).into_iter().filter_map(|label| self.at.remove(&label));
        let ids: Vec<_> = ids.collect();
        let mut watches: Vec<_> =
            ids.into_iter().filter_map(|id| self.of.remove(&id)).map(|(watch, _)| watch).collect();
        if folder.is_none() {
            watches.extend(self.git.extract_if(|_, (_, of, _)| *of == number).map(|(_, (watch, ..))| watch));
        }
        watches
    }

    /// A folder was moved, and its watches with it: from here on they tell of the new paths.
    fn moved(&mut self, number: u64, from: &RelPath, to: &RelPath) {
        for label in self.labels(number, Some(from)) {
            let moved = label.1.as_ref().and_then(|at| at.moved(from, to));
            if let (Some(id), Some(moved)) = (self.at.remove(&label), moved)
                && let Some((_, label)) = self.of.get_mut(&id)
            {
                label.1 = Some(moved);
                self.at.insert(label.clone(), id);
            }
        }
    }
}

/// Names that something was moved away from, with what the kernel calls the move. The other half comes right after, but
/// for what happens in other folders at the same moment.
#[derive(Debug, Default)]
struct Moves(VecDeque<(u32, u64, RelPath)>);

impl Moves {
    /// Halves that are remembered. Of what was moved to where nobody looks there is no other.
    const MOST: usize = 64;

    fn left(&mut self, cookie: u32, number: u64, path: RelPath) {
        self.0.truncate(Self::MOST - 1);
        self.0.push_front((cookie, number, path));
    }

    /// Where in the same branch it came from.
    fn arrived(&mut self, cookie: u32, number: u64) -> Option<RelPath> {
        let at = self.0.iter().position(|(of, _, _)| *of == cookie)?;
        self.0.remove(at).filter(|(_, of, _)| *of == number).map(|(_, _, path)| path)
    }
}

/// Gives an event to whoever listens there.
fn hear(places: &mut Places, moves: &mut Moves, event: &EventOwned) {
    let mask = event.mask;
    if mask.contains(EventMask::Q_OVERFLOW) {
        for listener in places.listeners.values() {
            listener.is_stale(None, false);
            listener.lost.notify_one();
        }
        return;
    }
    let id = event.wd.get_watch_descriptor_id();
    if mask.contains(EventMask::IGNORED) {
        places.ended(id);
        return;
    }
    if let Some((_, number, has_refs)) = places.git.get(&id) {
        let (Some(listener), Some(name)) = (places.listeners.get(number), event.name.as_ref()) else {
            return;
        };
        let is_last = |folder: &&str| name == folder.rsplit('/').next().unwrap_or_default();
        if mask.contains(EventMask::CREATE | EventMask::ISDIR) && GIT_FOLDERS.iter().any(is_last) {
            listener.is_stale(None, false);
            listener.git.notify_one();
        }
        let is_ref = *has_refs && !name.as_encoded_bytes().ends_with(b".lock");
        if is_ref || GIT_NAMES.iter().any(|known| name == known) {
            listener.git.notify_one();
        }
        return;
    }
    let Some((_, (number, folder))) = places.of.get(&id) else { return };
    let Some(listener) = places.listeners.get(number).cloned() else { return };
    if folder.is_none() && event.name.as_ref().is_some_and(|name| name == ".git") {
        listener.git.notify_one();
        listener.is_stale(None, false);
        return;
    }
    // What happens to a folder itself its own folder tells. Names that are no path here, `.git` among them, are nobody's
    // business.
    let Some(path) = event.name.as_ref().and_then(|name| name.to_str()).and_then(|name| match folder {
        Some(folder) => folder.join(name).ok(),
        None => name.parse().ok(),
    }) else {
        return;
    };
    let is_folder = mask.contains(EventMask::ISDIR);
    if is_folder && mask.intersects(EventMask::CREATE | EventMask::MOVED_FROM | EventMask::MOVED_TO) {
        listener.is_stale(Some(path.clone()), mask.contains(EventMask::CREATE));
    }
    if path.file_name() == ".gitignore" && !mask.intersects(EventMask::MODIFY | EventMask::ATTRIB) {
        listener.is_stale(path.parent(), false);
    }
    let sign = match mask.difference(EventMask::ISDIR) {
        EventMask::CREATE => Sign::Made,
        EventMask::DELETE => Sign::Gone,
        EventMask::MODIFY => Sign::Changed,
        EventMask::CLOSE_WRITE => Sign::Closed,
        EventMask::ATTRIB => Sign::Metadata,
        EventMask::MOVED_FROM => {
            moves.left(event.cookie, listener.number, path.clone());
            Sign::Gone
        }
        EventMask::MOVED_TO => {
            if let Some(from) = moves.arrived(event.cookie, listener.number) {
                if is_folder {
                    places.moved(listener.number, &from, &path);
                }
                listener.tell(path.clone(), Sign::MovedFrom(from));
            }
            Sign::MovedHere
        }
        _ => return,
    };
    listener.tell(path, sign);
}

impl System {
    /// # Errors
    /// The system allows this user no more of them.
    pub(super) fn new(tasks: &Tasks) -> io::Result<Arc<Self>> {
        let events = Inotify::init()?.into_event_stream(vec![0; BUFFER])?;
        let places = Arc::<Mutex<Places>>::default();
        let this = Arc::new(Self { watches: events.watches(), places: Arc::clone(&places) });
        let stop = tasks.stopping().clone();
        tasks.spawn(async move { stop.run_until_cancelled(read(events, &places)).await });
        Ok(this)
    }

    pub(super) fn listen(&self, listener: &Arc<Listener>) {
        self.places.lock().listeners.insert(listener.number, Arc::clone(listener));
    }

    /// Whether a folder is watched.
    pub(super) fn watches(&self, listener: &Listener, folder: &RelPath) -> bool {
        self.places.lock().at.contains_key(&(listener.number, Some(folder.clone())))
    }

    /// Keeps what is watched of a workspace in step with what is there, until it is let go.
    pub(super) async fn keep(self: Arc<Self>, listener: Arc<Listener>, closed: CancellationToken) {
        while closed.run_until_cancelled(listener.is_stale.notified()).await.is_some() {
            for (folder, is_new) in listener.take_stale() {
                let is_told = *listener.is_told.borrow();
                if is_told && let Err(error) = self.refresh(&listener, folder, is_new).await {
                    self.give_up(&listener, &error);
                }
            }
        }
        self.places.lock().listeners.remove(&listener.number);
        let this = Arc::clone(&self);
        let forgotten = tokio::task::spawn_blocking(move || this.forget(listener.number, None));
        let _ = forgotten.await;
    }

    /// Ends the watches of a folder and all below it.
    fn forget(&self, number: u64, folder: Option<&RelPath>) {
        let mut places = self.places.lock();
        for watch in places.take(number, folder) {
            // Gone with its folder, maybe.
            let _ = self.watches.clone().remove(watch);
        }
    }

    /// The workspace is not watched any more: of its folders some can't be.
    pub(super) fn give_up(&self, listener: &Listener, error: &FsError) {
        super::unwatched(listener, error);
        self.forget(listener.number, None);
    }

    fn add(&self, label: Label, folder: BorrowedFd<'_>) -> io::Result<bool> {
        let mut places = self.places.lock();
        // By what was opened, not by its path, which may lead elsewhere by now.
        match self.watches.clone().add(format!("/proc/self/fd/{}", folder.as_raw_fd()), MASK) {
            Ok(watch) => Ok(places.label(watch, label)),
            // One that perch may not read is as if it were empty.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn add_git(&self, number: u64, name: Option<&str>, folder: BorrowedFd<'_>) -> io::Result<()> {
        let mut places = self.places.lock();
        let watch = self.watches.clone().add(format!("/proc/self/fd/{}", folder.as_raw_fd()), GIT_MASK)?;
        let has_refs =
            name.is_some_and(|name| GIT_FOLDERS[GIT_FOLDERS.len() - REF_FOLDERS..].contains(&name));
        places.git.insert(watch.get_watch_descriptor_id(), (watch, number, has_refs));
        Ok(())
    }

    /// Watches a folder that is held, whether or not git ignores it.
    ///
    /// # Errors
    /// [`FsError::Io`] when the system allows no more watches.
    pub(super) async fn add_held(
        self: &Arc<Self>,
        listener: &Listener,
        folder: &RelPath,
    ) -> Result<(), FsError> {
        let (this, label) = (Arc::clone(self), (listener.number, Some(folder.clone())));
        let add = move |folder: BorrowedFd<'_>| this.add(label, folder).map(drop);
        listener.files.with_folder(folder, add).await
    }

    /// Watches a folder and all below it that git does not ignore. Of one that is new what is in it is told: it may have
    /// come before the watch.
    ///
    /// # Errors
    /// [`FsError::Io`] when the system allows no more watches.
    pub(super) async fn refresh(
        self: &Arc<Self>,
        listener: &Arc<Listener>,
        folder: Option<RelPath>,
        is_new: bool,
    ) -> Result<(), FsError> {
        if let Some(folder) = &folder
            && !matches!(listener.files.stat(folder).await, Ok(Some(stat)) if stat.kind == Kind::Folder)
        {
            self.forget(listener.number, Some(folder));
            return Ok(());
        }
        if folder.is_none() {
            let (this, number) = (Arc::clone(self), listener.number);
            let add = move |name: Option<&str>, folder: BorrowedFd<'_>| this.add_git(number, name, folder);
            listener.files.each_git_folder(&GIT_FOLDERS, add).await?;
        }
        let (this, to) = (Arc::clone(self), Arc::clone(listener));
        let mut fresh = HashSet::new();
        let each = move |at: Option<&RelPath>, opened: Option<BorrowedFd<'_>>| {
            if let Some(at) = at
                && is_new
                && fresh.contains(&at.parent())
            {
                to.tell(at.clone(), Sign::Made);
            }
            if let Some(opened) = opened
                && this.add((to.number, at.cloned()), opened)?
            {
                fresh.insert(at.cloned());
            }
            Ok(())
        };
        listener.files.unignored(folder.as_ref(), each).await?;
        let held: Vec<_> = {
            let held = listener.held.lock();
            let is_in =
                |at: &&RelPath| folder.as_ref().is_none_or(|folder| *at == folder || at.is_in(folder));
            held.iter().filter(is_in).cloned().collect()
        };
        for at in held {
            self.add_held(listener, &at).await?;
        }
        Ok(())
    }
}

/// Reads until nothing comes any more.
async fn read(mut events: EventStream<Vec<u8>>, places: &Mutex<Places>) {
    let mut moves = Moves::default();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => hear(&mut places.lock(), &mut moves, &event),
            Err(error) => {
                error!(%error, "the watcher of files has ended: branches are watched no more");
                let listeners: Vec<_> = places.lock().listeners.values().cloned().collect();
                for listener in listeners {
                    super::unwatched(&listener, &error);
                }
                return;
            }
        }
    }
}
