//! Walking the tree in order, a page at a time.
//!
//! The order is that of paths compared part by part, so a folder stands right before what is in it. No link is
//! entered. A page costs one look at each folder on the way to its start and at each folder in it.

use super::ignores::Ignores;
use super::path::is_git;
use super::{FsError, Kind, RelPath, Stat, Workspace};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;

/// Names in one folder; a larger one is refused, since order needs all of them at once.
const MAX_NAMES: usize = 200_000;
/// Entries of a page where the caller names no number.
const PAGE: usize = 1_000;
/// The largest page.
pub const MAX_PAGE: usize = 10_000;

/// A page that takes longer ends early; there is a next one then.
const PAGE_WITHIN: Duration = Duration::from_secs(3);

/// Which part of a list is asked for.
#[derive(Clone, Debug)]
pub struct Page {
    /// The last path of the page before.
    pub after: Option<RelPath>,
    /// 1 to [`MAX_PAGE`].
    pub limit: usize,
    /// What is in folders too.
    pub recursive: bool,
}

impl Default for Page {
    fn default() -> Self {
        Self { after: None, limit: PAGE, recursive: false }
    }
}

/// What is at a path, for lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path in the workspace, by way of the folder that was asked for.
    pub path: String,
    /// What it is; a link is not followed.
    pub kind: Kind,
    /// Its size.
    pub len_bytes: u64,
    /// When its content last changed, in milliseconds since 1970 UTC.
    pub modified_at_ms: i64,
    /// Whether git ignores it (files that git tracks all the same are not told apart).
    pub ignored: bool,
    /// What a link leads to; `None` where it leads nowhere or out of the workspace.
    pub target: Option<Kind>,
}

/// A page of a list.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// In the order of paths.
    pub entries: Vec<Entry>,
    /// `after` of the next page; `None` on the last.
    pub next: Option<String>,
}

/// Where a walk starts, and what it leaves out.
pub(super) struct Start {
    /// A resolved folder; `None`: the workspace.
    pub(super) folder: Option<RelPath>,
    pub(super) recursive: bool,
    /// Ignored files and folders too.
    pub(super) with_ignored: bool,
    /// Whether anyone asks what is ignored.
    pub(super) is_marked: bool,
    /// Parts of the path, from `folder`, that come before what is wanted.
    pub(super) after: Vec<String>,
}

impl Start {
    /// All in a folder, at any depth.
    pub(super) fn folder(folder: Option<RelPath>) -> Self {
        Self { folder, recursive: true, with_ignored: true, is_marked: false, after: Vec::new() }
    }
}

struct Level {
    folder: Option<RelPath>,
    /// Read when the walk goes on after the folder itself.
    names: Option<std::vec::IntoIter<String>>,
    after: Vec<String>,
    is_ignored: bool,
}

impl Level {
    fn read(&mut self, files: &Workspace) -> Result<&mut std::vec::IntoIter<String>, FsError> {
        if self.names.is_none() {
            let mut names = names(files, self.folder.as_ref(), MAX_NAMES)?;
            if let Some(first) = self.after.first() {
                names.retain(|name| name >= first);
            }
            names.sort_unstable();
            self.names = Some(names.into_iter());
        }
        Ok(self.names.get_or_insert_default())
    }
}

/// What a walk comes by.
pub(super) struct Found {
    pub(super) real: RelPath,
    pub(super) stat: Stat,
    pub(super) ignored: bool,
}

/// Goes through a folder in order.
pub(super) struct Walk<'a> {
    files: &'a Workspace,
    start: Start,
    ignores: Ignores,
    levels: Vec<Level>,
}

impl<'a> Walk<'a> {
    /// # Errors
    /// [`FsError::Absent`] when there is no such folder.
    pub(super) fn new(files: &'a Workspace, mut start: Start) -> Result<Self, FsError> {
        let (ignores, is_ignored) = if start.is_marked {
            Ignores::of(files, start.folder.as_ref())
        } else {
            (Ignores::default(), false)
        };
        // Named outright, an ignored folder is walked.
        start.with_ignored |= is_ignored;
        let after = std::mem::take(&mut start.after);
        let mut level = Level { folder: start.folder.clone(), names: None, after, is_ignored };
        level.read(files)?;
        Ok(Self { files, start, ignores, levels: vec![level] })
    }

    /// What comes next; a folder before it is read.
    ///
    /// # Errors
    /// [`FsError::TooMany`] for a folder of too many names; the next call goes on after it.
    pub(super) fn next(&mut self) -> Result<Option<Found>, FsError> {
        while let Some(level) = self.levels.last_mut() {
            let next = level.read(self.files).map(Iterator::next);
            let Ok(Some(name)) = next else {
                self.levels.pop();
                self.ignores.leave();
                match next {
                    Err(error @ FsError::TooMany { .. }) => return Err(error),
                    // A folder inside that can't be read, or went, is an entry without content.
                    _ => continue,
                }
            };
            let path = match &level.folder {
                Some(folder) => folder.join(&name),
                None => name.parse(),
            };
            let Ok(real) = path else { continue };
            // Gone, or changed into something on the way, since the folder was read.
            let Ok(Some(stat)) = self.files.stat_now(&real) else { continue };
            let is_folder = stat.kind == Kind::Folder;
            let ignored = level.is_ignored || self.ignores.matches(&real, is_folder);
            let was_given = level.after.first() == Some(&name);
            let after = if was_given { level.after.split_off(1) } else { Vec::new() };
            if ignored && !self.start.with_ignored {
                continue;
            }
            if is_folder && self.start.recursive {
                if self.start.is_marked {
                    self.ignores.enter(self.files, Some(&real));
                }
                let folder = Some(real.clone());
                self.levels.push(Level { folder, names: None, after, is_ignored: ignored });
            }
            if !was_given {
                return Ok(Some(Found { real, stat, ignored }));
            }
        }
        Ok(None)
    }
}

/// The names in a folder that have a path: UTF-8, and not `.git`.
fn names(files: &Workspace, folder: Option<&RelPath>, max: usize) -> Result<Vec<String>, FsError> {
    let what = folder.map_or_else(|| "the workspace".to_owned(), ToString::to_string);
    let failed = |errno| match (folder, errno) {
        (Some(folder), Errno::NOTDIR) => FsError::WrongKind { path: folder.clone() },
        _ => FsError::io(format!("list {what}"))(errno),
    };
    let read = match folder {
        None => rustix::fs::Dir::read_from(&*files.root),
        Some(folder) => {
            let open = files.open_at(folder, OFlags::RDONLY | OFlags::DIRECTORY)?;
            rustix::fs::Dir::read_from(open.ok_or_else(|| FsError::Absent(folder.clone()))?)
        }
    };
    let mut names = Vec::new();
    // `.` and `..` are counted too.
    for (count, entry) in read.map_err(failed)?.enumerate() {
        if count >= max + 2 {
            return Err(FsError::TooMany { what, max: format!("{max} names") });
        }
        let entry = entry.map_err(failed)?;
        if let Ok(name) = entry.file_name().to_str()
            && !matches!(name, "." | "..")
            && !is_git(name)
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

impl Workspace {
    /// Waits for a turn to walk the tree.
    pub(super) async fn turn(&self) -> Result<OwnedSemaphorePermit, FsError> {
        let turns = std::sync::Arc::clone(&self.walks);
        turns.acquire_owned().await.map_err(|_| FsError::io("walk the tree")(Errno::CANCELED))
    }

    /// A page of what is in a folder, links on the way to it followed; `.git` is left out, as are names that are not
    /// UTF-8. No `folder`: the workspace itself. `None`: there is no such folder.
    ///
    /// # Errors
    /// [`FsError::TooMany`] past 200,000 names in one folder; [`FsError::Query`] when `after` is not in the folder.
    pub async fn list(&self, folder: Option<&RelPath>, page: &Page) -> Result<Option<Listing>, FsError> {
        let (this, folder, page) = (self.clone(), folder.cloned(), page.clone());
        // One folder is bounded work and waits for nobody.
        let turn = if page.recursive { Some(self.turn().await?) } else { None };
        self.off_runtime(move || {
            let _turn = turn;
            this.list_now(folder.as_ref(), &page)
        })
        .await
    }

    pub(super) fn list_now(&self, folder: Option<&RelPath>, page: &Page) -> Result<Option<Listing>, FsError> {
        let real = match folder {
            None => None,
            Some(folder) => self.resolve_folder(folder)?,
        };
        let after = match (&page.after, folder) {
            (None, _) => Vec::new(),
            (Some(after), Some(folder)) if !after.is_in(folder) => {
                return Err(FsError::Query(format!("`after` is not in `{folder}`")));
            }
            (Some(after), folder) => {
                let skip = folder.map_or(0, |folder| folder.as_str().len() + 1);
                after.as_str()[skip..].split('/').map(str::to_owned).collect()
            }
        };
        let start = Start {
            folder: real.clone(),
            recursive: page.recursive,
            with_ignored: true,
            is_marked: true,
            after,
        };
        let mut walk = match Walk::new(self, start) {
            Err(FsError::Absent(_) | FsError::WrongKind { .. }) => return Ok(None),
            walk => walk?,
        };
        let mut listing = Listing::default();
        let until = Instant::now() + PAGE_WITHIN;
        while let Some(found) = walk.next()? {
            let is_full = listing.entries.len() >= page.limit.clamp(1, MAX_PAGE);
            if is_full || (Instant::now() > until && !listing.entries.is_empty()) {
                listing.next = listing.entries.last().map(|entry| entry.path.clone());
                break;
            }
            let path = shown(folder, real.as_ref(), &found.real);
            listing.entries.push(self.entry(path, &found.real, &found.stat, found.ignored));
        }
        Ok(Some(listing))
    }

    fn entry(&self, path: String, real: &RelPath, stat: &Stat, ignored: bool) -> Entry {
        let target = (stat.kind == Kind::Symlink).then(|| match self.resolve_folder(real) {
            Ok(None) => Some(Kind::Folder),
            Ok(Some(target)) => self.stat_now(&target).ok().flatten().map(|stat| stat.kind),
            Err(_) => None,
        });
        Entry {
            path,
            kind: stat.kind,
            len_bytes: stat.len_bytes,
            modified_at_ms: stat.modified_at_ms,
            ignored,
            target: target.flatten(),
        }
    }

    /// What is at a path, as a list would show it; `None` when nothing is there.
    pub async fn look(&self, path: &RelPath) -> Result<Option<Entry>, FsError> {
        let (this, path) = (self.clone(), path.clone());
        self.off_runtime(move || {
            let real = this.resolve_parent_now(&path)?;
            let Some(stat) = this.stat_now(&real)? else { return Ok(None) };
            let (ignores, is_inside) = Ignores::of(&this, real.parent().as_ref());
            let ignored = is_inside || ignores.matches(&real, stat.kind == Kind::Folder);
            Ok(Some(this.entry(path.to_string(), &real, &stat, ignored)))
        })
        .await
    }
}

/// A path as seen by way of `folder`, which leads to `real`.
pub(super) fn shown(folder: Option<&RelPath>, real: Option<&RelPath>, path: &RelPath) -> String {
    let skip = real.map_or(0, |real| real.as_str().len() + 1);
    let below = &path.as_str()[skip..];
    folder.map_or_else(|| below.to_owned(), |folder| format!("{folder}/{below}"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{path, workspace};
    use super::*;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    fn all(files: &Workspace, folder: Option<&RelPath>, limit: usize, recursive: bool) -> Vec<Entry> {
        let mut page = Page { after: None, limit, recursive };
        let mut entries = Vec::new();
        for _ in 0..1_000 {
            let listing = files.list_now(folder, &page).unwrap().unwrap();
            assert!(listing.entries.len() <= limit);
            entries.extend(listing.entries);
            match listing.next {
                Some(next) => page.after = Some(path(&next)),
                None => return entries,
            }
        }
        panic!("no end of pages");
    }

    fn paths(entries: &[Entry]) -> Vec<&str> {
        entries.iter().map(|entry| entry.path.as_str()).collect()
    }

    #[test]
    fn pages_of_any_size_give_the_same_list() {
        let (_temp, root, files) = workspace();
        for file in ["a/x", "a/b/y", "a-b", "a.txt", "z/1", "z/2/3"] {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), "12345").unwrap();
        }
        fs::create_dir(root.join(".git")).unwrap();
        fs::create_dir(root.join("z/.git")).unwrap();
        fs::write(root.join(std::ffi::OsStr::from_bytes(b"z/\xff")), "x").unwrap();
        symlink("z", root.join("way")).unwrap();
        let tree = ["a", "a/b", "a/b/y", "a/x", "a-b", "a.txt", "way", "z", "z/1", "z/2", "z/2/3"];
        for limit in 1..=12 {
            assert_eq!(paths(&all(&files, None, limit, true)), tree, "{limit}");
            assert_eq!(paths(&all(&files, None, limit, false)), ["a", "a-b", "a.txt", "way", "z"]);
            let by_link = all(&files, Some(&path("way")), limit, true);
            assert_eq!(paths(&by_link), ["way/1", "way/2", "way/2/3"]);
        }
        assert!(files.list_now(Some(&path("none")), &Page::default()).unwrap().is_none());
        assert!(files.list_now(Some(&path("a.txt")), &Page::default()).unwrap().is_none());
        let astray = Page { after: Some(path("z/1")), ..Page::default() };
        assert!(matches!(files.list_now(Some(&path("a")), &astray), Err(FsError::Query(_))));
    }

    #[test]
    fn links_to_git_are_listed_but_never_entered() {
        let (temp, root, files) = workspace();
        fs::create_dir_all(root.join(".git/hooks")).unwrap();
        fs::create_dir(root.join("d")).unwrap();
        symlink(".git", root.join("git")).unwrap();
        symlink(temp.path(), root.join("out")).unwrap();
        symlink("d", root.join("in")).unwrap();
        let entries = all(&files, None, 100, true);
        assert_eq!(paths(&entries), ["d", "git", "in", "out"]);
        let targets: Vec<_> = entries.iter().map(|entry| entry.target).collect();
        assert_eq!(targets, [None, None, Some(Kind::Folder), None]);
        for link in ["git", "git/hooks", "out"] {
            let refused = files.list_now(Some(&path(link)), &Page::default());
            assert!(matches!(refused, Err(FsError::OutsideRoot(_))), "{link}");
        }
        assert!(files.list_now(Some(&path("in")), &Page::default()).unwrap().is_some());
    }

    #[test]
    fn what_git_ignores_is_marked() {
        let (_temp, root, files) = workspace();
        fs::create_dir_all(root.join(".git/info")).unwrap();
        fs::create_dir_all(root.join("target/deep")).unwrap();
        fs::create_dir_all(root.join("src")).unwrap();
        fs::write(root.join(".git/info/exclude"), "excluded\n").unwrap();
        fs::write(root.join(".gitignore"), "/target/\n*.log\n").unwrap();
        fs::write(root.join("src/.gitignore"), "!keep.log\n/only-here\n").unwrap();
        for file in
            ["excluded", "target/deep/x", "a.log", "src/keep.log", "src/b.log", "src/only-here", "only-here"]
        {
            fs::write(root.join(file), "").unwrap();
        }
        let entries = all(&files, None, 100, true);
        let ignored: Vec<_> = entries.iter().filter(|e| e.ignored).map(|e| e.path.as_str()).collect();
        let expected =
            ["a.log", "excluded", "src/b.log", "src/only-here", "target", "target/deep", "target/deep/x"];
        assert_eq!(ignored, expected);
        // Asked for by itself, a folder inside an ignored one is the same.
        assert!(all(&files, Some(&path("target/deep")), 1, false)[0].ignored);
        assert!(
            !all(&files, Some(&path("src")), 100, false)
                .iter()
                .any(|e| e.path == "src/keep.log" && e.ignored)
        );
    }

    #[test]
    fn a_folder_of_too_many_names_is_refused_by_name() {
        let (_temp, root, files) = workspace();
        for name in ["1", "2", "3"] {
            fs::write(root.join(name), "").unwrap();
        }
        assert_eq!(names(&files, None, 3).unwrap().len(), 3);
        let refused = names(&files, None, 2);
        assert!(matches!(refused, Err(FsError::TooMany { .. })), "{refused:?}");
    }
}
