//! What lies in `.git`, which no [`RelPath`](super::RelPath) names: small files are read, and a lock that was left behind is
//! removed. Names are relative to `.git`; a `.git` that is a link or a file leads nowhere.

use super::error::FsError;
use super::temp::is_written;
use super::{Workspace, open};
use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A lock of git's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GitLock {
    inode: u64,
    /// When it was written to last.
    pub modified_ms: i64,
    /// Somebody has it open for writing; who holds it may have closed it.
    pub is_open: bool,
}

/// The path beneath the root, if the name is one of something in `.git`.
fn beneath_git(name: &str) -> Option<String> {
    let is_part = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    name.split('/').all(is_part).then(|| format!(".git/{name}"))
}

impl Workspace {
    fn open_git(&self, name: &str, flags: OFlags) -> Result<Option<OwnedFd>, FsError> {
        let Some(path) = beneath_git(name) else { return Ok(None) };
        match open::beneath(self.root.as_fd(), &path, flags) {
            Ok(file) => Ok(Some(file)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(None),
            Err(errno) => Err(FsError::io(format!("open {path}"))(errno)),
        }
    }

    /// The first `max_bytes` of a regular file in `.git`; `None` where there is none.
    ///
    /// # Errors
    /// [`FsError::Io`].
    pub async fn read_git(&self, name: &str, max_bytes: u64) -> Result<Option<Vec<u8>>, FsError> {
        let (this, name) = (self.clone(), name.to_owned());
        self.off_runtime(move || {
            let Some(path) = this.open_git(&name, OFlags::PATH)? else { return Ok(None) };
            let file = open::regular(&path).map_err(FsError::io(format!("open .git/{name}")))?;
            let Some(file) = file else { return Ok(None) };
            let mut bytes = Vec::new();
            let read = std::fs::File::from(file).take(max_bytes).read_to_end(&mut bytes);
            read.map_err(FsError::std(format!("read .git/{name}")))?;
            Ok(Some(bytes))
        })
        .await
    }

    /// Hands over `.git`, without a name, and folders in it, opened as mere names, those that are there.
    ///
    /// # Errors
    /// [`FsError::Io`] that `each` gives.
    pub async fn each_git_folder(
        &self,
        folders: &'static [&'static str],
        each: impl Fn(Option<&str>, BorrowedFd<'_>) -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), FsError> {
        let this = self.clone();
        self.off_runtime(move || {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let git = open::beneath(this.root.as_fd(), ".git", flags).ok().map(|git| (None, git));
            let open = |name: &&'static str| Some((Some(*name), this.open_git(name, flags).ok().flatten()?));
            for (name, folder) in git.into_iter().chain(folders.iter().filter_map(open)) {
                each(name, folder.as_fd()).map_err(FsError::std("watch .git"))?;
            }
            Ok(())
        })
        .await
    }

    /// Whether anything is there in `.git`.
    ///
    /// # Errors
    /// [`FsError::Io`].
    pub async fn is_in_git(&self, name: &str) -> Result<bool, FsError> {
        let (this, name) = (self.clone(), name.to_owned());
        self.off_runtime(move || Ok(this.open_git(&name, OFlags::PATH)?.is_some())).await
    }

    /// How many entries a folder in `.git` has; at most `max` are counted.
    ///
    /// # Errors
    /// [`FsError::Io`].
    pub async fn git_count(&self, name: &str, max: usize) -> Result<usize, FsError> {
        let (this, name) = (self.clone(), name.to_owned());
        self.off_runtime(move || {
            let Some(folder) = this.open_git(&name, OFlags::RDONLY | OFlags::DIRECTORY)? else {
                return Ok(0);
            };
            let entries =
                rustix::fs::Dir::read_from(&folder).map_err(FsError::io(format!("list .git/{name}")))?;
            let names =
                entries.flatten().filter(|entry| !matches!(entry.file_name().to_bytes(), b"." | b".."));
            Ok(names.take(max).count())
        })
        .await
    }

    /// A lock in `.git`, if it is held or was left behind.
    ///
    /// # Errors
    /// [`FsError::Io`].
    pub async fn git_lock(&self, name: &str) -> Result<Option<GitLock>, FsError> {
        let (this, name) = (self.clone(), name.to_owned());
        self.off_runtime(move || this.git_lock_now(&name)).await
    }

    fn git_lock_now(&self, name: &str) -> Result<Option<GitLock>, FsError> {
        let Some(path) = self.open_git(name, OFlags::PATH)? else { return Ok(None) };
        let what = || format!("look at .git/{name}");
        let stat = rustix::fs::fstat(&path).map_err(FsError::io(what()))?;
        let file = open::regular(&path).map_err(FsError::io(what()))?;
        let nanos = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
        let modified_ms = stat.st_mtime.saturating_mul(1_000) + nanos / 1_000_000;
        let is_open = file.is_some_and(|file| is_written(&file));
        Ok(Some(GitLock { inode: stat.st_ino, modified_ms, is_open }))
    }

    /// Removes a lock, if it is still the one that was seen and nobody has it open.
    ///
    /// # Errors
    /// [`FsError::Io`].
    pub async fn remove_git_lock(&self, name: &str, seen: GitLock) -> Result<bool, FsError> {
        let (this, name) = (self.clone(), name.to_owned());
        self.off_runtime(move || {
            if seen.is_open || this.git_lock_now(&name)? != Some(seen) {
                return Ok(false);
            }
            let path = format!(".git/{name}");
            let (folder, name) = path.rsplit_once('/').unwrap_or((".git", &path));
            let flags = OFlags::DIRECTORY | OFlags::PATH;
            let folder = open::beneath(this.root.as_fd(), folder, flags);
            let removed = folder.and_then(|folder| rustix::fs::unlinkat(&folder, name, AtFlags::empty()));
            removed.map(|()| true).map_err(FsError::io(format!("remove {path}")))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::workspace;
    use std::fs;
    use std::io::Write;

    #[tokio::test]
    async fn a_lock_that_nobody_holds_goes() {
        let (_temp, root, files) = workspace();
        assert!(files.git_lock("index.lock").await.unwrap().is_none());
        fs::create_dir_all(root.join(".git/refs")).unwrap();
        let mut held = fs::File::create(root.join(".git/refs/x.lock")).unwrap();
        held.write_all(b"x").unwrap();
        let lock = files.git_lock("refs/x.lock").await.unwrap().unwrap();
        assert!(lock.is_open);
        assert!(!files.remove_git_lock("refs/x.lock", lock).await.unwrap());
        drop(held);
        let lock = files.git_lock("refs/x.lock").await.unwrap().unwrap();
        assert!(!lock.is_open);
        fs::remove_file(root.join(".git/refs/x.lock")).unwrap();
        fs::write(root.join(".git/refs/y.lock"), "y").unwrap();
        fs::rename(root.join(".git/refs/y.lock"), root.join(".git/refs/x.lock")).unwrap();
        let other = files.git_lock("refs/x.lock").await.unwrap().unwrap();
        assert!(other == lock || !files.remove_git_lock("refs/x.lock", lock).await.unwrap());
        assert!(files.remove_git_lock("refs/x.lock", other).await.unwrap());
        assert!(!root.join(".git/refs/x.lock").exists());
    }

    #[tokio::test]
    async fn nothing_but_git_is_named() {
        let (_temp, root, files) = workspace();
        fs::create_dir(root.join(".git")).unwrap();
        fs::write(root.join("outside"), "x").unwrap();
        fs::write(root.join(".git/HEAD"), "ref: x").unwrap();
        std::os::unix::fs::symlink("../outside", root.join(".git/link")).unwrap();
        assert_eq!(files.read_git("HEAD", 3).await.unwrap().unwrap(), b"ref");
        for name in ["../outside", "link", "", "/etc/passwd", "a/../HEAD", "."] {
            assert_eq!(files.read_git(name, 100).await.unwrap(), None, "{name}");
        }
        assert!(files.is_in_git("HEAD").await.unwrap());
        assert!(!files.is_in_git("MERGE_HEAD").await.unwrap());
    }
}
