//! The workspace itself, and looking at one file.

use super::{FsError, RelPath, open};
use crate::sandbox::Owner;
use bytes::Bytes;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Walks (recursive lists, searches, copies) that run at once on one branch; others wait for their turn.
const WALKS: usize = 4;

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Symlink,
    /// A device, pipe or socket; never opened.
    Other,
}

/// What is known of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Its size.
    pub len_bytes: u64,
    /// Its inode.
    pub inode: u64,
    /// Its permission bits.
    pub mode: u32,
    /// When its content last changed, in milliseconds since 1970 UTC.
    pub modified_at_ms: i64,
    pub(super) owner: (u32, u32),
}

impl Stat {
    pub(super) fn from(stat: &rustix::fs::Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Folder,
            FileType::Symlink => Kind::Symlink,
            _ => Kind::Other,
        };
        Self {
            kind,
            len_bytes: u64::try_from(stat.st_size).unwrap_or(0),
            inode: stat.st_ino,
            mode: stat.st_mode & 0o7777,
            modified_at_ms: modified_at_ms(stat),
            owner: (stat.st_uid, stat.st_gid),
        }
    }
}

/// A regular file's content.
#[derive(Clone, Debug)]
pub struct FileData {
    /// All of it.
    pub bytes: Bytes,
    /// What it was when it was opened.
    pub stat: Stat,
}

#[expect(clippy::useless_conversion, reason = "the fields' types differ between machines")]
fn modified_at_ms(stat: &rustix::fs::Stat) -> i64 {
    let seconds = i64::try_from(stat.st_mtime).unwrap_or(0);
    let nanos = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000).saturating_add(nanos / 1_000_000)
}

/// Files under one root, cheap to clone.
#[derive(Clone, Debug)]
pub struct Workspace {
    pub(super) root: Arc<OwnedFd>,
    pub(super) temp: Arc<OwnedFd>,
    pub(super) folder: Arc<PathBuf>,
    /// The same without links on the way to it.
    pub(super) real_folder: Arc<PathBuf>,
    pub(super) walks: Arc<Semaphore>,
    owner: Owner,
}

fn open_folder(path: &Path) -> Result<OwnedFd, FsError> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(FsError::io(format!("open {}", path.display())))
}

impl Workspace {
    /// The files under `root`; `temp` is a folder beside it on the same file system.
    ///
    /// # Errors
    /// [`FsError::Io`] when one of them is not there.
    pub fn open(root: &Path, temp: &Path) -> Result<Self, FsError> {
        Ok(Self {
            root: Arc::new(open_folder(root)?),
            temp: Arc::new(open_folder(temp)?),
            real_folder: Arc::new(root.canonicalize().map_err(FsError::std("open the workspace"))?),
            folder: Arc::new(root.to_owned()),
            walks: Arc::new(Semaphore::new(WALKS)),
            owner: Owner::default(),
        })
    }

    /// The same files, worked on as `owner`.
    #[must_use]
    pub fn of(self, owner: Owner) -> Self {
        Self { owner, ..self }
    }

    /// Whom they belong to.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.owner
    }

    pub(super) async fn off_runtime<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, FsError> + Send + 'static,
    ) -> Result<T, FsError> {
        let owner = self.owner;
        tokio::task::spawn_blocking(move || owner.acting(work)).await.unwrap_or_else(|error| {
            Err(FsError::Io { what: "file task".into(), source: std::io::Error::other(error) })
        })
    }

    /// Where it lies on this machine.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Opens a resolved path beneath the root. `None` when nothing is there.
    ///
    /// # Errors
    /// [`FsError::WrongKind`] where a part of it is a link by now.
    pub(super) fn open_at(&self, path: &RelPath, flags: OFlags) -> Result<Option<OwnedFd>, FsError> {
        match open::beneath(self.root.as_fd(), path.as_str(), flags) {
            Ok(file) => Ok(Some(file)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(Errno::LOOP) => Err(FsError::WrongKind { path: path.clone() }),
            Err(Errno::XDEV) => Err(FsError::OutsideRoot(path.clone())),
            Err(errno) => Err(FsError::io(format!("open {path}"))(errno)),
        }
    }

    pub(super) fn stat_now(&self, path: &RelPath) -> Result<Option<Stat>, FsError> {
        let Some(file) = self.open_at(path, OFlags::PATH)? else { return Ok(None) };
        let stat = rustix::fs::fstat(&file).map_err(FsError::io(format!("stat {path}")))?;
        Ok(Some(Stat::from(&stat)))
    }

    pub(super) fn read_now(&self, path: &RelPath, max_bytes: u64) -> Result<Option<FileData>, FsError> {
        let Some(name) = self.open_at(path, OFlags::PATH)? else { return Ok(None) };
        let file = open::regular(&name).map_err(FsError::io(format!("open {path}")))?;
        let file = file.ok_or_else(|| FsError::WrongKind { path: path.clone() })?;
        read_open(file, path, max_bytes).map(Some)
    }

    /// What is at a resolved path. A link as the last part is not followed.
    pub async fn stat(&self, path: &RelPath) -> Result<Option<Stat>, FsError> {
        let (this, path) = (self.clone(), path.clone());
        self.off_runtime(move || this.stat_now(&path)).await
    }

    /// A regular file's content at a resolved path; `None` when nothing is there. Nothing but a regular file is ever
    /// opened.
    ///
    /// # Errors
    /// [`FsError::TooLarge`], [`FsError::WrongKind`].
    pub async fn read(&self, path: &RelPath, max_bytes: u64) -> Result<Option<FileData>, FsError> {
        let (this, path) = (self.clone(), path.clone());
        self.off_runtime(move || this.read_now(&path, max_bytes)).await
    }
}

pub(super) fn read_open(file: OwnedFd, path: &RelPath, max_bytes: u64) -> Result<FileData, FsError> {
    let stat = rustix::fs::fstat(&file).map_err(FsError::io(format!("stat {path}")))?;
    let stat = Stat::from(&stat);
    if stat.kind != Kind::File {
        return Err(FsError::WrongKind { path: path.clone() });
    }
    let too_large = |len_bytes| FsError::TooLarge { path: path.clone(), len_bytes, max_bytes };
    if stat.len_bytes > max_bytes {
        return Err(too_large(stat.len_bytes));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(stat.len_bytes).unwrap_or(0));
    // It may grow while it is read.
    File::from(file)
        .take(max_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(FsError::std(format!("read {path}")))?;
    if bytes.len() as u64 > max_bytes {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(FileData { bytes: bytes.into(), stat })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{path, workspace};
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[tokio::test]
    async fn only_regular_files_are_read() {
        let (_temp, root, files) = workspace();
        fs::create_dir(root.join("folder")).unwrap();
        fs::write(root.join("a"), "text").unwrap();
        symlink("a", root.join("link")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(root.join("pipe")).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
        for (name, kind) in [
            ("folder", Kind::Folder),
            ("link", Kind::Symlink),
            ("pipe", Kind::Other),
            ("socket", Kind::Other),
        ] {
            let refused = files.read(&path(name), 100).await;
            assert!(matches!(refused, Err(FsError::WrongKind { .. })), "{name}: {refused:?}");
            assert_eq!(files.stat(&path(name)).await.unwrap().unwrap().kind, kind);
        }
        assert_eq!(&files.read(&path("a"), 4).await.unwrap().unwrap().bytes[..], b"text");
        assert!(matches!(files.read(&path("a"), 3).await, Err(FsError::TooLarge { len_bytes: 4, .. })));
        assert!(files.read(&path("none"), 3).await.unwrap().is_none());
        assert!(files.read(&path("a/below"), 3).await.unwrap().is_none());
    }
}
