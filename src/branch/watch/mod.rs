//! The watcher of branches' files: what it sees goes to open documents at once, and to listeners once it is quiet.
//!
//! | file | idea |
//! |---|---|
//! | `system.rs` | what the kernel tells, of which folder of which branch |
//! | `quiet.rs` | what is told of files without an open document |
//!
//! Folders that git ignores are not watched: an install or a build writes ten thousand files there that nobody looks at,
//! and the kernel allows a user so many watches. One is watched from when a file in it is opened until the branch is
//! closed. What is kept watched is the workspace as it is on disk: a folder that comes, whole or by name, and ignore files
//! that change, make the watcher look through that folder anew.

mod quiet;
mod system;

use crate::base::Tasks;
use crate::workspace::{RelPath, Workspace};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use system::System;
use tokio::sync::{Notify, OnceCell, mpsc, watch};
use tokio_util::sync::DropGuard;
use tracing::warn;

pub(super) use quiet::Quiet;

/// Between looks at the open files of a workspace that the system does not tell of.
const UNWATCHED: Duration = Duration::from_secs(2);
/// File events of a branch that may wait; past it documents look at their files, and listeners hear `reset`.
const QUEUE: usize = 4_096;
/// Folders that wait to be looked through; past it the whole workspace is.
const MAX_STALE: usize = 1_024;

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
    /// Where it was, told right before.
    MovedFrom(RelPath),
}

/// What a watch sees.
#[derive(Debug)]
pub(super) enum Seen {
    /// Something at a path.
    At(RelPath, Sign),
    /// What git has checked out, staged or under way.
    Git,
    /// More than was kept: anything may have changed.
    Lost,
    /// Nothing, because the system tells nothing: open files are to be looked at.
    Nothing,
}

/// The signs of one workspace.
#[derive(Debug)]
pub(super) struct Signs {
    queue: mpsc::Receiver<(RelPath, Sign)>,
    listener: Arc<Listener>,
}

impl Signs {
    /// What comes next.
    pub(super) async fn next(&mut self) -> Seen {
        let mut is_told = self.listener.is_told.subscribe();
        tokio::select! {
            () = self.listener.lost.notified() => Seen::Lost,
            () = self.listener.git.notified() => Seen::Git,
            Some((path, sign)) = self.queue.recv() => Seen::At(path, sign),
            () = async {
                let _ = is_told.wait_for(|is_told| !is_told).await;
                tokio::time::sleep(UNWATCHED).await;
            } => Seen::Nothing,
        }
    }
}

/// Where the signs of one workspace go, and what of it is to be watched.
#[derive(Debug)]
struct Listener {
    number: u64,
    files: Workspace,
    signs: mpsc::Sender<(RelPath, Sign)>,
    lost: Notify,
    git: Notify,
    /// Whether the system tells of changes.
    is_told: watch::Sender<bool>,
    /// Folders to be looked through (`None`: the workspace), and whether they are new with all that is in them.
    stale: Mutex<BTreeMap<Option<RelPath>, bool>>,
    is_stale: Notify,
    /// Folders on the way to files that were opened, which are watched though git ignores them.
    held: Mutex<BTreeSet<RelPath>>,
}

impl Listener {
    fn new(number: u64, files: Workspace, signs: mpsc::Sender<(RelPath, Sign)>) -> Self {
        Self {
            number,
            files,
            signs,
            lost: Notify::new(),
            git: Notify::new(),
            is_told: watch::Sender::new(true),
            stale: Mutex::default(),
            is_stale: Notify::new(),
            held: Mutex::default(),
        }
    }

    fn tell(&self, path: RelPath, sign: Sign) {
        // A full queue is made up for by the look before each write-back and read.
        if self.signs.try_send((path, sign)).is_err() {
            self.lost.notify_one();
        }
    }

    /// Has a folder looked through soon.
    fn is_stale(&self, folder: Option<RelPath>, is_new: bool) {
        let mut stale = self.stale.lock();
        if stale.len() >= MAX_STALE {
            stale.clear();
            stale.insert(None, false);
            self.lost.notify_one();
        } else {
            *stale.entry(folder).or_default() |= is_new;
        }
        self.is_stale.notify_one();
    }

    /// The folders to be looked through now, without those inside another.
    fn take_stale(&self) -> Vec<(Option<RelPath>, bool)> {
        let stale = std::mem::take(&mut *self.stale.lock());
        let covers =
            |above: &Option<RelPath>, is_new: bool| stale.get(above).is_some_and(|new| *new || !is_new);
        let is_covered = |folder: &RelPath, is_new| {
            std::iter::successors(folder.parent(), RelPath::parent).any(|above| covers(&Some(above), is_new))
                || covers(&None, is_new)
        };
        let folders = stale
            .iter()
            .filter(|(folder, is_new)| folder.as_ref().is_none_or(|folder| !is_covered(folder, **is_new)));
        folders.map(|(folder, is_new)| (folder.clone(), *is_new)).collect()
    }
}

/// The one watcher of a perch: the system allows a user few of them (128 by default), and a folder each of far more.
#[derive(Debug)]
pub(super) struct Watcher {
    tasks: Tasks,
    /// Made for the first branch.
    system: OnceCell<Arc<System>>,
    numbers: AtomicU64,
}

/// Keeps a workspace watched; dropped, that ends.
#[derive(Debug)]
pub(super) struct Watch {
    listener: Arc<Listener>,
    /// Not there where the system allows no watcher.
    system: Option<Arc<System>>,
    _guard: DropGuard,
}

impl Watch {
    /// Watches the way to a file that is opened, also where git ignores it.
    pub(super) async fn hold(&self, path: &RelPath) {
        let Some(system) = &self.system else { return };
        let Some(folder) = path.parent() else { return };
        if !*self.listener.is_told.borrow() || system.watches(&self.listener, &folder) {
            return;
        }
        let way: Vec<_> = std::iter::successors(Some(folder), RelPath::parent).collect();
        self.listener.held.lock().extend(way.iter().cloned());
        for folder in way.iter().rev() {
            if let Err(error) = system.add_held(&self.listener, folder).await {
                system.give_up(&self.listener, &error);
            }
        }
    }
}

impl Watcher {
    pub(super) fn new(tasks: Tasks) -> Self {
        Self { tasks, system: OnceCell::new(), numbers: AtomicU64::new(0) }
    }

    /// Watches the workspace. Where the system allows no more watches, its open documents look at their files every
    /// two seconds instead, and listeners hear nothing of the other files.
    pub(super) async fn watch(&self, workspace: &Workspace) -> (Signs, Watch) {
        let (signs, queue) = mpsc::channel(QUEUE);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let listener = Arc::new(Listener::new(number, workspace.clone(), signs));
        let made = self.system.get_or_try_init(async || System::new(&self.tasks)).await;
        let closed = self.tasks.stopping().child_token();
        let system = match made {
            Ok(system) => {
                system.listen(&listener);
                if let Err(error) = system.refresh(&listener, None, false).await {
                    system.give_up(&listener, &error);
                }
                self.tasks.spawn(Arc::clone(system).keep(Arc::clone(&listener), closed.clone()));
                Some(Arc::clone(system))
            }
            Err(error) => {
                unwatched(&listener, &error);
                None
            }
        };
        let signs = Signs { queue, listener: Arc::clone(&listener) };
        (signs, Watch { listener, system, _guard: closed.drop_guard() })
    }
}

/// Says that the system tells nothing of a workspace, and what that means.
fn unwatched(listener: &Listener, error: &dyn std::fmt::Display) {
    if listener.is_told.send_replace(false) {
        let workspace = listener.files.folder().display();
        warn!(%error, %workspace, "a branch can't be watched: changes from outside to open files are seen within \
            two seconds, to others when they are read; raise fs.inotify.max_user_watches \
            and max_user_instances (sysctl)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Branch {
        folder: std::path::PathBuf,
        signs: Signs,
        watch: Watch,
    }

    impl Branch {
        async fn at(folder: &std::path::Path, watcher: &Watcher) -> Self {
            std::fs::create_dir_all(folder.join("sub")).unwrap();
            let workspace = Workspace::open(folder, folder).unwrap();
            let (signs, watch) = watcher.watch(&workspace).await;
            Self { folder: folder.to_owned(), signs, watch }
        }

        fn write(&self, path: &str) {
            std::fs::write(self.folder.join(path), "x").unwrap();
        }

        fn make(&self, path: &str) {
            std::fs::create_dir_all(self.folder.join(path)).unwrap();
        }

        /// What is seen until something is seen at a path: `path sign`.
        async fn until(&mut self, last: &str) -> Vec<String> {
            let mut all = Vec::new();
            while all.last().is_none_or(|seen| seen != last) {
                let seen = tokio::time::timeout(Duration::from_secs(20), self.signs.next()).await;
                match seen.unwrap_or_else(|_| panic!("no `{last}` in {all:?}")) {
                    Seen::At(path, sign) => all.push(format!("{path} {sign:?}")),
                    other => panic!("{other:?}"),
                }
            }
            all
        }

        /// Waits until a folder is watched.
        async fn watches(&self, folder: &str) {
            let (system, folder) = (self.watch.system.as_ref().unwrap(), folder.parse().unwrap());
            while !system.watches(&self.watch.listener, &folder) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    #[tokio::test]
    async fn one_watcher_tells_each_branch_of_its_own_files() {
        let temp = tempfile::tempdir().unwrap();
        let watcher = Watcher::new(Tasks::new());
        let mut one = Branch::at(&temp.path().join("one"), &watcher).await;
        let mut other = Branch::at(&temp.path().join("other"), &watcher).await;
        one.write("sub/a");
        assert_eq!(one.until("sub/a Closed").await[0], "sub/a Made");
        assert!(other.signs.queue.try_recv().is_err());
        // Opened again right after it was let go, whichever is first.
        for _ in 0..20 {
            let folder = one.folder.clone();
            drop(one);
            one = Branch::at(&folder, &watcher).await;
        }
        one.write("sub/a");
        one.until("sub/a Closed").await;
        other.write("a");
        other.until("a Closed").await;
        std::fs::rename(one.folder.join("sub/a"), one.folder.join("b")).unwrap();
        assert_eq!(one.until("b MovedHere").await, ["sub/a Gone", "b MovedFrom(\"sub/a\")", "b MovedHere"]);
        // To another branch: gone here, new there.
        std::fs::rename(one.folder.join("b"), other.folder.join("sub/c")).unwrap();
        one.until("b Gone").await;
        other.write("d");
        let seen = other.until("d Made").await;
        assert_eq!(seen, ["sub/c MovedHere", "d Made"]);
    }

    #[tokio::test]
    async fn folders_that_come_move_and_go_stay_watched_as_they_are() {
        let temp = tempfile::tempdir().unwrap();
        let watcher = Watcher::new(Tasks::new());
        let mut one = Branch::at(&temp.path().join("one"), &watcher).await;
        // Made at once, with what is in them: all is told, by whichever of the two ways.
        one.make("new/deep");
        one.write("new/deep/a");
        one.until("new/deep/a Made").await;
        one.watches("new/deep").await;
        // Written on the way: the watch goes along.
        std::fs::rename(one.folder.join("new"), one.folder.join("moved")).unwrap();
        one.write("moved/deep/b");
        let seen = one.until("moved/deep/b Closed").await;
        assert!(!seen.iter().any(|seen| seen.starts_with("new/deep/b")), "{seen:?}");
        // Out of the workspace and back, with something new in it.
        let away = temp.path().join("away");
        std::fs::rename(one.folder.join("moved"), &away).unwrap();
        one.until("moved Gone").await;
        std::fs::create_dir(away.join("fresh")).unwrap();
        std::fs::rename(&away, one.folder.join("back")).unwrap();
        one.watches("back/fresh").await;
        one.write("back/fresh/c");
        one.until("back/fresh/c Closed").await;
    }

    #[tokio::test]
    async fn ignored_folders_are_watched_once_something_in_them_is_open() {
        let temp = tempfile::tempdir().unwrap();
        let watcher = Watcher::new(Tasks::new());
        std::fs::create_dir_all(temp.path().join("one/target/debug")).unwrap();
        std::fs::write(temp.path().join("one/.gitignore"), "target\nbuild\n").unwrap();
        let mut one = Branch::at(&temp.path().join("one"), &watcher).await;
        one.write("target/a");
        one.make("build");
        one.write("sub/a");
        assert_eq!(one.until("sub/a Closed").await[0], "build Made", "what is in them is not told");
        one.watch.hold(&"target/debug/a".parse().unwrap()).await;
        one.write("target/debug/a");
        assert_eq!(one.until("target/debug/a Closed").await[0], "target/debug/a Made");
        // Also once it is made anew.
        std::fs::remove_dir_all(one.folder.join("target")).unwrap();
        one.until("target Gone").await;
        one.make("target/debug");
        one.watches("target/debug").await;
        one.write("target/debug/a");
        one.until("target/debug/a Closed").await;
        // Ignored no more.
        one.write(".gitignore");
        one.watches("build").await;
        one.write("build/a");
        one.until("build/a Closed").await;
    }

    #[test]
    fn folders_inside_another_are_not_looked_through_twice() {
        let temp = tempfile::tempdir().unwrap();
        let files = Workspace::open(temp.path(), temp.path()).unwrap();
        let listener = Listener::new(0, files, mpsc::channel(1).0);
        let path = |text: &str| Some(text.parse().unwrap());
        for (folder, is_new) in [("a", false), ("a/b", true), ("a/b/c", false), ("a/c", false), ("ab", false)]
        {
            listener.is_stale(path(folder), is_new);
        }
        let expected = [(path("a"), false), (path("a/b"), true), (path("ab"), false)];
        assert_eq!(listener.take_stale(), expected);
        for n in 0..=MAX_STALE {
            listener.is_stale(path(&n.to_string()), true);
        }
        assert_eq!(listener.take_stale(), [(None, false)]);
    }
}
