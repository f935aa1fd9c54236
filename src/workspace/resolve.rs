//! Following links, part by part, so that every step is checked and none is taken by the kernel's own rules.
//!
//! A document is keyed by what this gives: a link and its target are one document.

use super::open;
use super::path::is_git;
use super::{FsError, RelPath, Workspace};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Links on one way, as in the kernel; past it the path is refused.
const MAX_LINKS: usize = 40;
/// Times that a way which changes under our feet is walked anew.
const MAX_TRIES: usize = 64;
/// Where a session will see the workspace: links made there hold this path.
const SEEN_BY_SESSIONS: &str = "/project/workspace";

enum Step {
    Done(RelPath),
    Changed,
}

impl Workspace {
    /// The path that `path` leads to once links are followed; what is not there yet is kept as written, so a link to
    /// an absent file gives the path that would be made. A link may be absolute if it points into the workspace, as
    /// the server sees it or at `/project/workspace`.
    ///
    /// # Errors
    /// [`FsError::OutsideRoot`] for links that leave the workspace, lead into `.git` or in circles.
    pub async fn resolve(&self, path: &RelPath) -> Result<RelPath, FsError> {
        let (this, path) = (self.clone(), path.clone());
        self.off_runtime(move || this.resolve_now(&path)).await
    }

    /// As [`Workspace::resolve`], but a link that is the last part is not followed: for what concerns the link itself.
    pub async fn resolve_parent(&self, path: &RelPath) -> Result<RelPath, FsError> {
        let (this, path) = (self.clone(), path.clone());
        self.off_runtime(move || this.resolve_parent_now(&path)).await
    }

    pub(super) fn resolve_parent_now(&self, path: &RelPath) -> Result<RelPath, FsError> {
        match path.parent() {
            None => Ok(path.clone()),
            Some(parent) => self
                .resolve_folder(&parent)?
                .map_or_else(|| path.file_name().parse(), |parent| parent.join(path.file_name()))
                .map_err(|_| FsError::OutsideRoot(path.clone())),
        }
    }

    pub(super) fn resolve_now(&self, path: &RelPath) -> Result<RelPath, FsError> {
        // Only a folder can lead to the root itself.
        self.resolve_folder(path)?.ok_or_else(|| FsError::WrongKind { path: path.clone() })
    }

    /// `None`: the workspace itself.
    pub(super) fn resolve_folder(&self, path: &RelPath) -> Result<Option<RelPath>, FsError> {
        for _ in 0..MAX_TRIES {
            match self.follow(path) {
                Ok(Some(Step::Done(path))) => return Ok(Some(path)),
                Ok(None) => return Ok(None),
                Ok(Some(Step::Changed)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(FsError::io(format!("resolve {path}"))(Errno::AGAIN))
    }

    fn follow(&self, path: &RelPath) -> Result<Option<Step>, FsError> {
        let outside = || FsError::OutsideRoot(path.clone());
        let io = |errno| FsError::io(format!("resolve {path}"))(errno);
        let mut pending: Vec<String> = path.as_str().rsplit('/').map(str::to_owned).collect();
        let mut done: Vec<String> = Vec::new();
        let mut at: Option<OwnedFd> = None;
        let mut links = 0;
        while let Some(part) = pending.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    done.pop().ok_or_else(outside)?;
                    // Not by `..`, which leads wherever the folder was moved to.
                    at = match self.walk_again(&done) {
                        Ok(at) => at,
                        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Some(Step::Changed)),
                        Err(errno) => return Err(io(errno)),
                    };
                    continue;
                }
                part if is_git(part) => return Err(outside()),
                _ => {}
            }
            let found = match open::name(at.as_ref().map_or(self.root.as_fd(), OwnedFd::as_fd), &part) {
                Ok(found) => found,
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    pending.push(part);
                    pending.reverse();
                    done.extend(pending.into_iter().filter(|part| !matches!(part.as_str(), "" | ".")));
                    break;
                }
                Err(errno) => return Err(io(errno)),
            };
            if open::kind(&found).map_err(io)? != FileType::Symlink {
                at = Some(found);
                done.push(part);
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(outside());
            }
            let target = rustix::fs::readlinkat(&found, "", Vec::new()).map_err(io)?;
            let target = target.into_string().map_err(|_| outside())?;
            let target = if target.starts_with('/') {
                done.clear();
                at = None;
                self.relative(&target).ok_or_else(outside)?
            } else {
                target
            };
            pending.extend(target.rsplit('/').map(str::to_owned));
        }
        if done.is_empty() {
            return Ok(None);
        }
        // Parts of links, absent ones too, are held to the same rules as what callers give.
        done.join("/").parse().map(|path| Some(Step::Done(path))).map_err(|_| outside())
    }

    fn walk_again(&self, parts: &[String]) -> Result<Option<OwnedFd>, Errno> {
        if parts.is_empty() {
            return Ok(None);
        }
        open::beneath(self.root.as_fd(), &parts.join("/"), OFlags::PATH).map(Some)
    }

    /// An absolute target as a path from the root, if it points into the workspace.
    fn relative(&self, target: &str) -> Option<String> {
        let target = Path::new(target);
        let roots = [&**self.folder, &**self.real_folder, Path::new(SEEN_BY_SESSIONS)];
        let inside = roots.iter().find_map(|root| target.strip_prefix(root).ok())?;
        inside.to_str().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Stop, path, workspace};
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn links_inside_are_followed_relative_and_absolute() {
        let (_temp, root, files) = workspace();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/c.txt"), "x").unwrap();
        symlink("a/b", root.join("folder")).unwrap();
        symlink("../a/./b//c.txt", root.join("a/up")).unwrap();
        symlink(root.join("a/b/c.txt"), root.join("absolute")).unwrap();
        symlink("/project/workspace/a/b", root.join("as_session")).unwrap();
        symlink(&root, root.join("self")).unwrap();
        symlink("not/yet.txt", root.join("dangling")).unwrap();
        for (from, to) in [
            ("a/b/c.txt", "a/b/c.txt"),
            ("folder/c.txt", "a/b/c.txt"),
            ("folder/new/file", "a/b/new/file"),
            ("a/up", "a/b/c.txt"),
            ("absolute", "a/b/c.txt"),
            ("as_session/c.txt", "a/b/c.txt"),
            ("self/self/folder/c.txt", "a/b/c.txt"),
            ("dangling", "not/yet.txt"),
            ("none/at/all", "none/at/all"),
            ("a/b/c.txt/below", "a/b/c.txt/below"),
        ] {
            assert_eq!(files.resolve_now(&path(from)).unwrap(), path(to), "{from}");
        }
        assert_eq!(files.resolve_folder(&path("self")).unwrap(), None);
        assert_eq!(files.resolve_parent_now(&path("self/dangling")).unwrap(), path("dangling"));
        assert_eq!(files.resolve_parent_now(&path("folder/x")).unwrap(), path("a/b/x"));
    }

    #[test]
    fn links_that_lead_elsewhere_are_refused() {
        let (temp, root, files) = workspace();
        fs::create_dir_all(root.join(".git/hooks")).unwrap();
        fs::create_dir(root.join("sub")).unwrap();
        fs::write(temp.path().join("secret"), "x").unwrap();
        let links = [
            ("etc", "/etc/passwd".into()),
            ("up", "../secret".into()),
            ("sub/up", "../../secret".into()),
            ("outside", temp.path().join("secret")),
            ("sibling", std::path::PathBuf::from(format!("{}x", root.display()))),
            ("git", ".git".into()),
            ("GIT", "./.GIT/config".into()),
            ("hooks", "/project/workspace/.git/hooks".into()),
            ("sneaky", "/project/workspace/../secret".into()),
            ("absent", "none/../../secret".into()),
            ("one", "two".into()),
            ("two", "one".into()),
        ];
        for (name, target) in &links {
            symlink(target, root.join(name)).unwrap();
        }
        for (name, _) in links {
            let refused = files.resolve_now(&path(name));
            assert!(matches!(refused, Err(FsError::OutsideRoot(_))), "{name}: {refused:?}");
            assert!(files.resolve_now(&path(&format!("{name}/x"))).is_err(), "{name}/x");
        }
        // The control: the last of 40 links is followed, the 41st is not.
        fs::write(root.join("l0"), "x").unwrap();
        for n in 1..=41 {
            symlink(format!("l{}", n - 1), root.join(format!("l{n}"))).unwrap();
        }
        assert_eq!(files.resolve_now(&path("l40")).unwrap(), path("l0"));
        assert!(files.resolve_now(&path("l41")).is_err());
    }

    /// `/proc/self/fd` said `a.txt (deleted)` of a file that was replaced between its opening and the look.
    #[test]
    fn a_file_that_is_replaced_all_the_time_keeps_its_path() {
        let (_temp, root, files) = workspace();
        fs::create_dir(root.join("d")).unwrap();
        fs::write(root.join("d/a.txt"), "x").unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    fs::write(root.join("d/new"), "y").unwrap();
                    fs::rename(root.join("d/new"), root.join("d/a.txt")).unwrap();
                }
            });
            let _stop = Stop(&stop);
            let seen: Vec<_> = (0..5_000).map(|_| files.resolve_now(&path("d/a.txt"))).collect();
            for found in seen {
                assert_eq!(found.unwrap(), path("d/a.txt"));
            }
        });
    }

    /// A folder is swapped for a link to `.git` and back while it is read: never a byte of `.git`.
    #[test]
    fn a_link_that_is_swapped_in_after_the_check_is_not_followed() {
        let (_temp, root, files) = workspace();
        for (folder, text) in [(".git", "secret"), ("real", "plain")] {
            fs::create_dir(root.join(folder)).unwrap();
            fs::write(root.join(folder).join("config"), text).unwrap();
        }
        symlink(".git", root.join("evil")).unwrap();
        let swap = |a: &str, b: &str| {
            let at = rustix::fs::CWD;
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            rustix::fs::renameat_with(at, root.join(a), at, root.join(b), flags).unwrap();
        };
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    swap("real", "evil");
                }
            });
            let _stop = Stop(&stop);
            let mut read = 0;
            for _ in 0..4_000 {
                if let Ok(real) = files.resolve_now(&path("real/config"))
                    && let Ok(Some(file)) = files.read_now(&real, 100)
                {
                    assert_eq!(&file.bytes[..], b"plain");
                    read += 1;
                }
                if let Ok(Some(page)) = files.list_now(Some(&path("real")), &super::super::Page::default()) {
                    assert!(page.entries.iter().all(|entry| entry.len_bytes == 5), "{:?}", page.entries);
                }
            }
            assert!(read > 0, "the control: the file was read now and then");
        });
    }
}
