//! Writing files so that readers see the old or the new, and nothing unseen is written over.
//!
//! A new content is staged beside the workspace, then *exchanged* with the file: what came out lies under the staged
//! name and is looked at before it is removed. Hard links to the old file keep the old content.

use super::tree::{FileData, Kind, off_runtime, read_open};
use super::{FsError, RelPath, Workspace};
use bytes::Bytes;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};

/// A temporary file with its content on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// Its name in the temporary folder.
    pub name: String,
    /// Its inode.
    pub inode: u64,
}

fn sync(folder: &OwnedFd, what: &str) -> Result<(), FsError> {
    rustix::fs::fsync(folder).map_err(FsError::io(format!("sync the folder of {what}")))
}

impl Workspace {
    /// Writes bytes to a new temporary file with the mode and owner of the file at `path` (0644 for a new one) and
    /// makes them durable there.
    pub async fn stage(&self, path: &RelPath, bytes: Bytes) -> Result<Staged, FsError> {
        let (this, path) = (self.clone(), path.clone());
        off_runtime(move || this.stage_now(&path, &bytes)).await
    }

    fn stage_now(&self, path: &RelPath, bytes: &[u8]) -> Result<Staged, FsError> {
        let name = format!("w-{:032x}", rand::random::<u128>());
        let what = || format!("write {path}");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&*self.temp, &name, flags, Mode::from_raw_mode(0o600))
            .map_err(FsError::io(what()))?;
        let mut file = File::from(file);
        let fill = || -> Result<u64, FsError> {
            let present = self.stat_now(path)?.filter(|stat| stat.kind == Kind::File);
            if let Some(stat) = present {
                // A server that may not give files away keeps its own as owner.
                let (user, group) = stat.owner;
                let _ = rustix::fs::fchown(
                    &file,
                    Some(rustix::fs::Uid::from_raw(user)),
                    Some(rustix::fs::Gid::from_raw(group)),
                );
            }
            let mode = present.map_or(0o644, |stat| stat.mode);
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(FsError::io(what()))?;
            (&file).write_all(bytes).map_err(FsError::std(what()))?;
            file.sync_all().map_err(FsError::std(what()))?;
            sync(&self.temp, "temporary files")?;
            Ok(rustix::fs::fstat(&file).map_err(FsError::io(what()))?.st_ino)
        };
        let filled = fill();
        file.flush().map_err(FsError::std(what()))?;
        match filled {
            Ok(inode) => Ok(Staged { name, inode }),
            Err(error) => {
                let _ = rustix::fs::unlinkat(&*self.temp, name.as_str(), AtFlags::empty());
                Err(error)
            }
        }
    }

    /// Puts a staged file at `path`. `true`: a file was there and now lies under the staged name.
    ///
    /// # Errors
    /// [`FsError::WrongKind`] when something else than a file is there.
    pub async fn install(&self, staged: &Staged, path: &RelPath) -> Result<bool, FsError> {
        let (this, staged, path) = (self.clone(), staged.clone(), path.clone());
        off_runtime(move || this.install_now(&staged, &path)).await
    }

    fn install_now(&self, staged: &Staged, path: &RelPath) -> Result<bool, FsError> {
        let (folder, name) = self.parent_of(path, true)?;
        let rename = |flags| {
            rustix::fs::renameat_with(&*self.temp, staged.name.as_str(), &folder, name.as_str(), flags)
        };
        for _ in 0..64 {
            let present = rustix::fs::statat(&folder, name.as_str(), AtFlags::SYMLINK_NOFOLLOW)
                .map(|stat| super::Stat::from(&stat).kind);
            let (outcome, swapped) = match present {
                Ok(Kind::File) => (rename(RenameFlags::EXCHANGE), true),
                Ok(_) => return Err(FsError::WrongKind { path: path.clone() }),
                Err(Errno::NOENT) => (rename(RenameFlags::NOREPLACE), false),
                Err(errno) => return Err(FsError::io(format!("look at {path}"))(errno)),
            };
            match outcome {
                Ok(()) => {
                    sync(&folder, path.as_str())?;
                    sync(&self.temp, "temporary files")?;
                    return Ok(swapped);
                }
                // Somebody made or removed it between the look and the rename.
                Err(Errno::EXIST | Errno::NOENT) => {}
                Err(errno) => return Err(FsError::io(format!("put {path} in place"))(errno)),
            }
        }
        Err(FsError::io(format!("put {path} in place"))(Errno::AGAIN))
    }

    /// Renames a file, folder or symlink, and makes that durable; parent folders are made. Never onto something.
    ///
    /// # Errors
    /// [`FsError::Io`] with `AlreadyExists` or `NotFound`.
    pub async fn rename(&self, from: &RelPath, to: &RelPath) -> Result<(), FsError> {
        let (this, from, to) = (self.clone(), from.clone(), to.clone());
        off_runtime(move || {
            let (old_folder, old_name) = this.parent_of(&from, false)?;
            let (new_folder, new_name) = this.parent_of(&to, true)?;
            rustix::fs::renameat_with(
                &old_folder,
                old_name.as_str(),
                &new_folder,
                new_name.as_str(),
                RenameFlags::NOREPLACE,
            )
            .map_err(FsError::io(format!("rename {from} to {to}")))?;
            sync(&new_folder, to.as_str())?;
            sync(&old_folder, from.as_str())
        })
        .await
    }

    /// Writes a file that is no document: atomic, mode and owner kept, parent folders made. `true`: it is new.
    pub async fn write(&self, path: &RelPath, bytes: Bytes) -> Result<bool, FsError> {
        let staged = self.stage(path, bytes).await?;
        match self.install(&staged, path).await {
            Ok(swapped) => {
                if swapped {
                    self.remove_temp(&staged.name).await?;
                }
                Ok(!swapped)
            }
            Err(error) => {
                let _ = self.remove_temp(&staged.name).await;
                Err(error)
            }
        }
    }

    /// What a temporary file holds; `None` when it is gone.
    pub async fn inspect_temp(&self, name: &str) -> Result<Option<FileData>, FsError> {
        let (this, name) = (self.clone(), name.to_owned());
        off_runtime(move || match this.open_temp(&name, OFlags::RDONLY) {
            Ok(file) => {
                let label: RelPath = name.parse().map_err(|_| FsError::io("temporary file")(Errno::INVAL))?;
                read_open(file, &label, u64::MAX / 2).map(Some)
            }
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(FsError::io("look at a replaced file")(errno)),
        })
        .await
    }

    fn open_temp(&self, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let is_ours =
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !is_ours {
            return Err(Errno::INVAL);
        }
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::openat(&*self.temp, name, flags, Mode::empty())
    }

    /// Whether anyone else has a temporary file open: a process that still writes to the file it replaced.
    pub async fn has_writers(&self, name: &str) -> Result<bool, FsError> {
        let (this, name) = (self.clone(), name.to_owned());
        off_runtime(move || {
            let file =
                this.open_temp(&name, OFlags::RDONLY).map_err(FsError::io("look at a replaced file"))?;
            Ok(!lease(&file, libc::F_WRLCK))
        })
        .await
    }

    /// Whether a process has the file at `path` open for writing now.
    pub async fn is_being_written(&self, path: &RelPath) -> Result<bool, FsError> {
        let (this, path) = (self.clone(), path.clone());
        off_runtime(move || {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
            let Some(file) = this.open_at(&path, flags)? else { return Ok(false) };
            Ok(!lease(&file, libc::F_RDLCK))
        })
        .await
    }

    /// The names of all temporary files.
    pub async fn temps(&self) -> Result<Vec<String>, FsError> {
        let this = self.clone();
        off_runtime(move || {
            let what = "list temporary files";
            let names = rustix::fs::Dir::read_from(&*this.temp).map_err(FsError::io(what))?;
            let mut found = Vec::new();
            for name in names {
                let name = name.map_err(FsError::io(what))?;
                if let Some(name) = name.file_name().to_str().ok().filter(|name| name.starts_with("w-")) {
                    found.push(name.to_owned());
                }
            }
            Ok(found)
        })
        .await
    }

    /// Removes a temporary file; one that is gone is no error.
    pub async fn remove_temp(&self, name: &str) -> Result<(), FsError> {
        let (this, name) = (self.clone(), name.to_owned());
        off_runtime(move || match rustix::fs::unlinkat(&*this.temp, name.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(FsError::io("remove a temporary file")(errno)),
        })
        .await
    }
}

/// Linux's `F_SETSIG`, which the libc crate does not name.
const F_SETSIG: libc::c_int = 10;

/// Tries for a lease and lets it go: the kernel gives a write lease only while nobody else has the file open, a read
/// lease while nobody has it open for writing.
#[expect(unsafe_code, reason = "no safe crate offers F_SETLEASE")]
fn lease(file: &OwnedFd, kind: libc::c_int) -> bool {
    // SAFETY: F_SETLEASE takes an integer and the descriptor is open; it touches no memory of ours.
    // The signal that tells of a broken lease would end the process by default; SIGURG is ignored.
    unsafe {
        libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG);
        let got = libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) == 0;
        libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK);
        got
    }
}
