//! Looking at files, and plain changes of the tree.

use super::{FsError, RelPath};
use bytes::Bytes;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

/// One name in a folder.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its path in the workspace.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// Its size.
    pub len_bytes: u64,
}

/// Files under one root, cheap to clone.
#[derive(Clone, Debug)]
pub struct Workspace {
    pub(super) root: Arc<OwnedFd>,
    pub(super) temp: Arc<OwnedFd>,
    pub(super) folder: Arc<PathBuf>,
}

pub(super) async fn off_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FsError> + Send + 'static,
) -> Result<T, FsError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(FsError::Io { what: "file task".into(), source: std::io::Error::other(error) })
    })
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
            folder: Arc::new(root.to_owned()),
        })
    }

    /// Where it lies on this machine.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Opens beneath the root. `None` when nothing is there.
    pub(super) fn open_at(&self, path: &RelPath, flags: OFlags) -> Result<Option<OwnedFd>, FsError> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        // A retry, as the kernel asks for when a rename races with the walk.
        for _ in 0..64 {
            match rustix::fs::openat2(
                &*self.root,
                path.as_str(),
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                resolve,
            ) {
                Ok(file) => return Ok(Some(file)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                Err(Errno::XDEV | Errno::LOOP) => return Err(FsError::OutsideRoot(path.clone())),
                Err(errno) => return Err(FsError::io(format!("open {path}"))(errno)),
            }
        }
        Err(FsError::io(format!("open {path}"))(Errno::AGAIN))
    }

    pub(super) fn stat_now(&self, path: &RelPath) -> Result<Option<Stat>, FsError> {
        let Some(file) = self.open_at(path, OFlags::PATH)? else { return Ok(None) };
        let stat = rustix::fs::fstat(&file).map_err(FsError::io(format!("stat {path}")))?;
        Ok(Some(Stat::from(&stat)))
    }

    pub(super) fn read_now(&self, path: &RelPath, max_bytes: u64) -> Result<Option<FileData>, FsError> {
        // Without O_NONBLOCK opening a pipe would wait; what was opened is looked at before it is read.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match self.open_at(path, flags) {
            Err(FsError::Io { source, .. }) if source.raw_os_error() == Some(libc::ENXIO) => {
                return Err(FsError::WrongKind { path: path.clone() });
            }
            other => other?,
        };
        let Some(file) = file else { return Ok(None) };
        read_open(file, path, max_bytes).map(Some)
    }

    /// What is at a path, links followed.
    pub async fn stat(&self, path: &RelPath) -> Result<Option<Stat>, FsError> {
        let (this, path) = (self.clone(), path.clone());
        off_runtime(move || this.stat_now(&path)).await
    }

    /// What is at a path; a symlink as its last part is not followed.
    pub async fn stat_itself(&self, path: &RelPath) -> Result<Option<Stat>, FsError> {
        let (this, path) = (self.clone(), path.clone());
        off_runtime(move || {
            let Some(file) = this.open_at(&path, OFlags::PATH | OFlags::NOFOLLOW)? else { return Ok(None) };
            let stat = rustix::fs::fstat(&file).map_err(FsError::io(format!("stat {path}")))?;
            Ok(Some(Stat::from(&stat)))
        })
        .await
    }

    /// A regular file's content; `None` when nothing is there.
    ///
    /// # Errors
    /// [`FsError::TooLarge`], [`FsError::WrongKind`], [`FsError::OutsideRoot`].
    pub async fn read(&self, path: &RelPath, max_bytes: u64) -> Result<Option<FileData>, FsError> {
        let (this, path) = (self.clone(), path.clone());
        off_runtime(move || this.read_now(&path, max_bytes)).await
    }

    /// The path that `path` leads to once links are followed; what is not there yet is kept as written.
    ///
    /// # Errors
    /// [`FsError::OutsideRoot`] for links that leave the workspace or lead into `.git`.
    pub async fn resolve(&self, path: &RelPath) -> Result<RelPath, FsError> {
        let (this, path) = (self.clone(), path.clone());
        off_runtime(move || this.resolve_now(&path)).await
    }

    pub(super) fn resolve_now(&self, path: &RelPath) -> Result<RelPath, FsError> {
        let outside = || FsError::OutsideRoot(path.clone());
        let mut there = Some(path.clone());
        let mut absent: Vec<String> = Vec::new();
        while let Some(part) = there {
            if let Some(file) = self.open_at(&part, OFlags::PATH)? {
                let real = real_path(&file)?;
                let root = real_path(&self.root)?;
                let relative = real.strip_prefix(&root).map_err(|_| outside())?;
                let mut text = relative.to_str().ok_or_else(outside)?.to_owned();
                for name in absent.iter().rev() {
                    text = if text.is_empty() { name.clone() } else { format!("{text}/{name}") };
                }
                return text.parse().map_err(|_| outside());
            }
            // A link that leads nowhere is not a name that is free.
            if self.is_link(&part)? {
                return Err(outside());
            }
            absent.push(part.file_name().to_owned());
            there = part.parent();
        }
        Ok(path.clone())
    }

    fn is_link(&self, path: &RelPath) -> Result<bool, FsError> {
        let found = self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let Some(file) = found else { return Ok(false) };
        let stat = rustix::fs::fstat(&file).map_err(FsError::io(format!("stat {path}")))?;
        Ok(Stat::from(&stat).kind == Kind::Symlink)
    }

    /// One folder's names in order, `.git` left out; `None` lists the workspace itself.
    pub async fn list(&self, folder: Option<&RelPath>) -> Result<Option<Vec<Entry>>, FsError> {
        let (this, folder) = (self.clone(), folder.cloned());
        off_runtime(move || this.list_now(folder.as_ref())).await
    }

    fn list_now(&self, folder: Option<&RelPath>) -> Result<Option<Vec<Entry>>, FsError> {
        let what = folder.map_or_else(|| "the workspace".to_owned(), ToString::to_string);
        let open = match folder {
            Some(path) => match self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)? {
                Some(open) => open,
                None => return Ok(None),
            },
            None => open_folder(&self.folder)?,
        };
        let mut entries = Vec::new();
        let names = rustix::fs::Dir::read_from(&open).map_err(FsError::io(format!("list {what}")))?;
        for name in names {
            let name = name.map_err(FsError::io(format!("list {what}")))?;
            let Ok(text) = name.file_name().to_str() else { continue };
            let path = folder.map_or_else(|| text.to_owned(), |folder| format!("{folder}/{text}"));
            if path.parse::<RelPath>().is_err() {
                continue;
            }
            let Ok(stat) = rustix::fs::statat(&open, name.file_name(), AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            let stat = Stat::from(&stat);
            entries.push(Entry { path, kind: stat.kind, len_bytes: stat.len_bytes });
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Some(entries))
    }

    /// Removes a file.
    pub async fn remove_file(&self, path: &RelPath) -> Result<(), FsError> {
        let (this, path) = (self.clone(), path.clone());
        off_runtime(move || {
            let (folder, name) = this.parent_of(&path, false)?;
            rustix::fs::unlinkat(&folder, name.as_str(), AtFlags::empty())
                .map_err(FsError::io(format!("remove {path}")))
        })
        .await
    }

    /// The open parent folder of a path, made if asked for, and the last part.
    pub(super) fn parent_of(&self, path: &RelPath, make: bool) -> Result<(OwnedFd, String), FsError> {
        let name = path.file_name().to_owned();
        let Some(parent) = path.parent() else {
            let root = self.root.try_clone().map_err(FsError::std("open the workspace"))?;
            return Ok((root, name));
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        if let Some(folder) = self.open_at(&parent, flags)? {
            return Ok((folder, name));
        }
        if !make {
            return Err(FsError::io(format!("open {parent}"))(Errno::NOENT));
        }
        let (above, own) = self.parent_of(&parent, true)?;
        match rustix::fs::mkdirat(&above, own.as_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(FsError::io(format!("make folder {parent}"))(errno)),
        }
        let folder = self.open_at(&parent, flags)?.ok_or(FsError::WrongKind { path: parent })?;
        Ok((folder, name))
    }
}

/// Where an open file is, as the kernel says.
fn real_path(file: &OwnedFd) -> Result<PathBuf, FsError> {
    use std::os::fd::AsRawFd;
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(FsError::std("resolve a path"))
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
