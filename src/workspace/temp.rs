//! Writing files so that readers see the old or the new, and nothing unseen is written over.
//!
//! A new content is staged beside the workspace, then *exchanged* with the file: what came out lies under the staged
//! name and is looked at before it is removed. Hard links to the old file keep the old content.
//!
//! Where the file system can't exchange (NFS, FAT, old kernels), the old file is given a second name beside the
//! workspace and then replaced: a file that somebody else puts there between these two steps is lost. Where it can't
//! give a second name either, the old file is just replaced, and what was written to it since perch last looked is lost.

use super::change::remove_tree;
use super::tree::{FileData, Kind, read_open};
use super::{FsError, RelPath, Workspace, open};
use bytes::Bytes;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use tracing::warn;

/// A temporary file with its content on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// Its name in the temporary folder.
    pub name: String,
    /// Its inode.
    pub inode: u64,
}

/// What a temporary name stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum TempKind {
    /// A file that is to be, or was, at a path.
    File,
    /// A copy being made, or a folder being removed.
    Tree,
}

/// A name that nothing has yet.
pub(super) fn temp_name(kind: TempKind) -> String {
    let letter = if kind == TempKind::File { 'w' } else { 't' };
    format!("{letter}-{:032x}", rand::random::<u128>())
}

/// Whether a name is one of ours: names come back from the database, and from what lies in the folder.
fn kind_of(name: &str) -> Option<TempKind> {
    let (letter, rest) = name.split_once('-')?;
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    match letter {
        _ if rest.is_empty() || !rest.bytes().all(is_plain) => None,
        "w" => Some(TempKind::File),
        "t" => Some(TempKind::Tree),
        _ => None,
    }
}

fn sync(folder: &OwnedFd, what: &str) -> Result<(), FsError> {
    rustix::fs::fsync(folder).map_err(FsError::io(format!("sync the folder of {what}")))
}

impl Workspace {
    /// Writes bytes to a new temporary file with the permission bits and owner of the file at `path` (0644 for a new
    /// one; set-id bits never) and makes them durable there.
    pub async fn stage(&self, path: &RelPath, bytes: Bytes) -> Result<Staged, FsError> {
        let (this, path) = (self.clone(), path.clone());
        self.off_runtime(move || this.stage_now(&path, &bytes)).await
    }

    fn stage_now(&self, path: &RelPath, bytes: &[u8]) -> Result<Staged, FsError> {
        let name = temp_name(TempKind::File);
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
            // Set-id bits would make a program of the new owner's out of whatever is written.
            let mode = present.map_or(0o644, |stat| stat.mode & 0o777);
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
    /// [`FsError::WrongKind`] when something else than a file is there; it stays there.
    pub async fn install(&self, staged: &Staged, path: &RelPath) -> Result<bool, FsError> {
        let (this, staged, path) = (self.clone(), staged.clone(), path.clone());
        self.off_runtime(move || this.install_now(&staged, &path, true)).await
    }

    /// The same where a file is to be, never where none is.
    ///
    /// # Errors
    /// [`FsError::Absent`] when nothing is there, and as for [`Workspace::install`].
    pub async fn install_over(&self, staged: &Staged, path: &RelPath) -> Result<bool, FsError> {
        let (this, staged, path) = (self.clone(), staged.clone(), path.clone());
        self.off_runtime(move || this.install_now(&staged, &path, false)).await
    }

    fn install_now(&self, staged: &Staged, path: &RelPath, may_create: bool) -> Result<bool, FsError> {
        let (folder, name) = self.parent_of(path, may_create)?;
        for _ in 0..64 {
            let outcome = match kind_at(&folder, &name) {
                Ok(Some(FileType::RegularFile)) => self.exchange(staged, &folder, &name),
                Ok(Some(_)) => return Err(FsError::WrongKind { path: path.clone() }),
                Ok(None) if !may_create => return Err(FsError::Absent(path.clone())),
                Ok(None) => rename_new(&self.temp, &staged.name, &folder, &name).map(|()| Came::Nothing),
                Err(errno) => return Err(FsError::io(format!("look at {path}"))(errno)),
            };
            match outcome {
                Ok(came) => {
                    sync(&folder, path.as_str())?;
                    sync(&self.temp, "temporary files")?;
                    return match came {
                        Came::Nothing => Ok(false),
                        Came::File => Ok(true),
                        Came::Other => Err(FsError::WrongKind { path: path.clone() }),
                    };
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
    /// [`FsError::Exists`], [`FsError::Absent`].
    pub async fn rename(&self, from: &RelPath, to: &RelPath) -> Result<(), FsError> {
        let (this, from, to) = (self.clone(), from.clone(), to.clone());
        self.off_runtime(move || {
            let (old_folder, old_name) = this.parent_of(&from, false)?;
            let (new_folder, new_name) = this.parent_of(&to, true)?;
            rename_new(&old_folder, &old_name, &new_folder, &new_name).map_err(|errno| match errno {
                Errno::EXIST | Errno::NOTEMPTY => FsError::Exists(to.clone()),
                Errno::NOENT => FsError::Absent(from.clone()),
                errno => FsError::io(format!("rename {from} to {to}"))(errno),
            })?;
            sync(&new_folder, to.as_str())?;
            sync(&old_folder, from.as_str())
        })
        .await
    }

    /// Exchanges, and puts back what is no file: a link or folder that came between the look and the exchange.
    fn exchange(&self, staged: &Staged, folder: &OwnedFd, name: &str) -> Result<Came, Errno> {
        // In this order watchers of the folder hear of what goes before what comes. In the other one the kernel takes what
        // goes, as long as nobody has read of it, for one with the start of a rename that comes right after: of that only
        // the end would be heard.
        let exchange = || {
            let (temp, flags) = (&*self.temp, RenameFlags::EXCHANGE);
            rustix::fs::renameat_with(folder, name, temp, staged.name.as_str(), flags)
        };
        match exchange() {
            Err(Errno::INVAL | Errno::NOSYS) => return self.replace(staged, folder, name),
            other => other?,
        }
        if kind_at(&self.temp, &staged.name)? == Some(FileType::RegularFile) {
            return Ok(Came::File);
        }
        exchange()?;
        let back = rustix::fs::statat(&*self.temp, staged.name.as_str(), AtFlags::SYMLINK_NOFOLLOW)?;
        if back.st_ino != staged.inode {
            // A file was put over ours in that moment: it is the newest, and goes to the path. The link or folder
            // stays under the staged name, which `remove_temp` respects.
            exchange()?;
        }
        Ok(Came::Other)
    }

    /// The next best where a file system can't exchange; see the module's docs.
    fn replace(&self, staged: &Staged, folder: &OwnedFd, name: &str) -> Result<Came, Errno> {
        let old = format!("{}-old", staged.name);
        match rustix::fs::linkat(folder, name, &*self.temp, old.as_str(), AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {
                rustix::fs::renameat(&*self.temp, staged.name.as_str(), folder, name)?;
                return Ok(Came::Nothing);
            }
            Err(errno) => return Err(errno),
        }
        if kind_at(&self.temp, &old)? != Some(FileType::RegularFile) {
            rustix::fs::unlinkat(&*self.temp, old.as_str(), AtFlags::empty())?;
            return Ok(Came::Other);
        }
        rustix::fs::renameat(&*self.temp, staged.name.as_str(), folder, name)?;
        rustix::fs::renameat(&*self.temp, old.as_str(), &*self.temp, staged.name.as_str())?;
        Ok(Came::File)
    }

    pub(super) fn place_new(
        &self,
        temp: &str,
        folder: &OwnedFd,
        name: &str,
        path: &RelPath,
    ) -> Result<(), FsError> {
        rename_new(&self.temp, temp, folder, name).map_err(|errno| match errno {
            Errno::EXIST | Errno::NOTEMPTY => FsError::Exists(path.clone()),
            errno => FsError::io(format!("put {path} in place"))(errno),
        })
    }

    /// Writes a file where nothing is, parent folders made.
    ///
    /// # Errors
    /// [`FsError::Exists`] when anything is there, a link that leads nowhere too.
    pub async fn write_new(&self, path: &RelPath, bytes: Bytes) -> Result<(), FsError> {
        let staged = self.stage(path, bytes).await?;
        let (this, name, path) = (self.clone(), staged.name.clone(), path.clone());
        let placed = self
            .off_runtime(move || {
                let (folder, last) = this.parent_of(&path, true)?;
                this.place_new(&name, &folder, &last, &path)?;
                sync(&folder, path.as_str())
            })
            .await;
        if placed.is_err() {
            let _ = self.remove_temp(&staged.name).await;
        }
        placed
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

    /// What a temporary file holds; `None` when it is gone, or is no file.
    pub async fn inspect_temp(&self, name: &str) -> Result<Option<FileData>, FsError> {
        let (this, name) = (self.clone(), name.to_owned());
        self.off_runtime(move || {
            match this.open_temp(&name).map_err(FsError::io("look at a replaced file"))? {
                Some(file) => {
                    let label: RelPath =
                        name.parse().map_err(|_| FsError::io("temporary file")(Errno::INVAL))?;
                    read_open(file, &label, u64::MAX / 2).map(Some)
                }
                None => Ok(None),
            }
        })
        .await
    }

    fn open_temp(&self, name: &str) -> Result<Option<OwnedFd>, Errno> {
        if kind_of(name) != Some(TempKind::File) {
            return Err(Errno::INVAL);
        }
        match open::name(self.temp.as_fd(), name) {
            Ok(found) => open::regular(&found),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Whether anyone else has a temporary file open: a process that still writes to the file it replaced.
    pub async fn has_writers(&self, name: &str) -> Result<bool, FsError> {
        let (this, name) = (self.clone(), name.to_owned());
        self.off_runtime(move || {
            let file = this.open_temp(&name).map_err(FsError::io("look at a replaced file"))?;
            Ok(file.is_some_and(|file| !lease(&file, libc::F_WRLCK)))
        })
        .await
    }

    /// Whether a process has the file at `path` open for writing now.
    pub async fn is_being_written(&self, path: &RelPath) -> Result<bool, FsError> {
        let (this, path) = (self.clone(), path.clone());
        self.off_runtime(move || {
            let Some(name) = this.open_at(&path, OFlags::PATH)? else { return Ok(false) };
            let file = open::regular(&name).map_err(FsError::io(format!("open {path}")))?;
            Ok(file.is_some_and(|file| !lease(&file, libc::F_RDLCK)))
        })
        .await
    }

    /// The names of all temporary files.
    pub async fn temps(&self) -> Result<Vec<String>, FsError> {
        let this = self.clone();
        self.off_runtime(move || {
            let what = "list temporary files";
            let names = rustix::fs::Dir::read_from(&*this.temp).map_err(FsError::io(what))?;
            let mut found = Vec::new();
            for name in names {
                let name = name.map_err(FsError::io(what))?;
                if let Some(name) = name.file_name().to_str().ok().filter(|name| kind_of(name).is_some()) {
                    found.push(name.to_owned());
                }
            }
            Ok(found)
        })
        .await
    }

    /// Removes a temporary file, or what is left of a copy or a removal; what is gone is no error. A link or folder
    /// under the name of a temporary file is none of ours and is kept.
    ///
    /// # Errors
    /// [`FsError::Io`] for a name that is none of a temporary file, too.
    pub async fn remove_temp(&self, name: &str) -> Result<(), FsError> {
        let (this, name) = (self.clone(), name.to_owned());
        self.off_runtime(move || this.remove_temp_now(&name)).await
    }

    pub(super) fn remove_temp_now(&self, name: &str) -> Result<(), FsError> {
        let removed = match kind_of(name) {
            None => Err(Errno::INVAL),
            Some(TempKind::File) => match kind_at(&self.temp, name) {
                Ok(Some(FileType::RegularFile)) => rustix::fs::unlinkat(&*self.temp, name, AtFlags::empty()),
                Ok(None) => Ok(()),
                Ok(Some(_)) => {
                    warn!(
                        "`{name}` beside the workspace is a link or folder that somebody raced in; it is kept there"
                    );
                    Ok(())
                }
                Err(errno) => Err(errno),
            },
            Some(TempKind::Tree) => remove_tree(self.temp.as_fd(), name),
        };
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(FsError::io("remove a temporary file")(errno)),
        }
    }
}

/// What came out when a staged file went in.
enum Came {
    Nothing,
    File,
    /// A link, folder or device: it was put back, ours did not go in.
    Other,
}

fn kind_at(folder: &OwnedFd, name: &str) -> Result<Option<FileType>, Errno> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Moves a file or folder to a name that nothing has.
fn rename_new(from: &OwnedFd, name: &str, to: &OwnedFd, new: &str) -> Result<(), Errno> {
    match rustix::fs::renameat_with(from, name, to, new, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => {}
        other => return other,
    }
    // A second name is refused where something is; a folder can't have one, and is only put over nothing or an
    // empty folder by a plain rename.
    match rustix::fs::linkat(from, name, to, new, AtFlags::empty()) {
        Ok(()) => rustix::fs::unlinkat(from, name, AtFlags::empty()),
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => match kind_at(to, new)? {
            None => rustix::fs::renameat(from, name, to, new),
            Some(_) => Err(Errno::EXIST),
        },
        Err(errno) => Err(errno),
    }
}

/// Linux's `F_SETSIG`, which the libc crate does not name.
const F_SETSIG: libc::c_int = 10;

/// Whether a process has a regular file open for writing now.
pub(super) fn is_written(file: &OwnedFd) -> bool {
    !lease(file, libc::F_RDLCK)
}

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

#[cfg(test)]
mod tests {
    use super::super::testing::{Stop, path, workspace};
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn temps(root: &Path) -> usize {
        fs::read_dir(root.parent().unwrap().join("tmp")).unwrap().count()
    }

    #[tokio::test]
    async fn a_write_keeps_permissions_but_no_set_id_bits() {
        let (_temp, root, files) = workspace();
        let file = root.join("a");
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o6755)).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o6755, "the control");
        assert!(!files.write(&path("a"), "new".into()).await.unwrap());
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o755);
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(temps(&root), 0);
    }

    /// What the kernel tells of a folder, with what it calls each move, of two things that nobody reads of in between.
    fn told(
        root: &Path,
        first: impl FnOnce(),
        then: impl FnOnce(),
    ) -> Vec<(inotify::EventMask, String, u32)> {
        let mut events = inotify::Inotify::init().unwrap();
        events.watches().add(root, inotify::WatchMask::MOVE).unwrap();
        first();
        then();
        let mut buffer = vec![0; 4_096];
        let read = events.read_events(&mut buffer).unwrap();
        read.map(|event| (event.mask, event.name.unwrap().to_str().unwrap().to_owned(), event.cookie))
            .collect()
    }

    #[tokio::test]
    async fn a_rename_right_after_a_write_is_told_whole() {
        let (_temp, root, files) = workspace();
        fs::write(root.join("a"), "old").unwrap();
        let rename = || fs::rename(root.join("a"), root.join("b")).unwrap();
        let whole = |told: &[(inotify::EventMask, String, u32)]| {
            let (.., cookie) = told.last().unwrap();
            told.contains(&(inotify::EventMask::MOVED_FROM, "a".into(), *cookie))
        };
        let staged = files.stage(&path("a"), "new".into()).await.unwrap();
        let said = told(&root, || assert!(files.install_now(&staged, &path("a"), false).unwrap()), rename);
        assert!(whole(&said), "{said:?}");
        assert_eq!(fs::read(root.join("b")).unwrap(), b"new");
        // The control: the other order of the same exchange.
        fs::rename(root.join("b"), root.join("a")).unwrap();
        let temp = root.parent().unwrap().join("tmp").join(&staged.name);
        let cwd = rustix::fs::CWD;
        let exchange = || rustix::fs::renameat_with(cwd, &temp, cwd, root.join("a"), RenameFlags::EXCHANGE);
        let said = told(&root, || exchange().unwrap(), rename);
        assert!(!whole(&said), "{said:?}");
    }

    #[tokio::test]
    async fn only_files_are_written_over() {
        let (_temp, root, files) = workspace();
        fs::create_dir(root.join("folder")).unwrap();
        fs::write(root.join("target"), "kept").unwrap();
        symlink("target", root.join("link")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(root.join("pipe")).status().unwrap().success());
        for taken in ["folder", "link", "pipe", "target/below"] {
            let refused = files.write(&path(taken), "x".into()).await;
            assert!(matches!(refused, Err(FsError::WrongKind { .. })), "{taken}: {refused:?}");
            assert!(files.write_new(&path(taken), "x".into()).await.is_err(), "{taken}");
        }
        assert!(matches!(files.write_new(&path("target"), "x".into()).await, Err(FsError::Exists(_))));
        files.write_new(&path("new/one"), "x".into()).await.unwrap();
        assert_eq!(fs::read(root.join("target")).unwrap(), b"kept");
        assert!(fs::symlink_metadata(root.join("link")).unwrap().is_symlink());
        assert_eq!(temps(&root), 0);
    }

    /// What came out of the exchange was not looked at: a link or folder that was raced in was taken for the old file
    /// and removed.
    #[test]
    fn a_link_or_folder_that_is_raced_in_stays() {
        let (temp, root, files) = workspace();
        fs::write(root.join("a"), "one").unwrap();
        fs::create_dir(root.join("folder")).unwrap();
        fs::write(root.join("folder/precious"), "x").unwrap();
        symlink("elsewhere", root.join("link")).unwrap();
        let staged = files.stage_now(&path("a"), b"two").unwrap();
        let folder = OwnedFd::from(fs::File::open(&root).unwrap());
        for (n, raced) in ["link", "folder"].into_iter().enumerate() {
            // As if it came between the look, which saw a file, and the exchange.
            assert!(matches!(files.exchange(&staged, &folder, raced), Ok(Came::Other)), "{n}");
            assert!(matches!(files.replace(&staged, &folder, "link"), Ok(Came::Other)), "{n}");
        }
        assert_eq!(fs::read_link(root.join("link")).unwrap(), Path::new("elsewhere"));
        assert!(root.join("folder/precious").exists());
        assert!(matches!(files.exchange(&staged, &folder, "a"), Ok(Came::File)), "the control");
        assert_eq!(fs::read(root.join("a")).unwrap(), b"two");
        assert_eq!(fs::read(temp.path().join("tmp").join(&staged.name)).unwrap(), b"one");
    }

    #[test]
    fn writes_that_race_with_links_never_lose_the_link_or_follow_it() {
        let (temp, root, files) = workspace();
        fs::write(temp.path().join("secret"), "secret").unwrap();
        fs::write(root.join("a"), "file").unwrap();
        symlink("../secret", root.join("link")).unwrap();
        let at = rustix::fs::CWD;
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let flags = RenameFlags::EXCHANGE;
                    let _ = rustix::fs::renameat_with(at, root.join("a"), at, root.join("link"), flags);
                }
            });
            let _stop = Stop(&stop);
            let mut written = 0;
            for n in 0..200 {
                let staged = files.stage_now(&path("a"), format!("{n}").as_bytes()).unwrap();
                match files.install_now(&staged, &path("a"), true) {
                    Ok(_) => written += 1,
                    Err(error) => assert!(matches!(error, FsError::WrongKind { .. }), "{error}"),
                }
                files.remove_temp_now(&staged.name).unwrap();
            }
            assert!(written > 0, "the control: some writes went through");
        });
        let is_link = |name| fs::symlink_metadata(root.join(name)).unwrap().is_symlink();
        // The other side exchanges, too: then it may be beside the workspace, but it is there.
        let kept = temps(&root);
        assert!(is_link("a") || is_link("link") || kept > 0, "the link is there");
        for entry in fs::read_dir(temp.path().join("tmp")).unwrap() {
            assert!(entry.unwrap().file_type().unwrap().is_symlink(), "nothing else is left over");
        }
        assert_eq!(fs::read(temp.path().join("secret")).unwrap(), b"secret");
    }

    #[test]
    fn where_nothing_can_be_exchanged_the_old_file_still_comes_out() {
        let (temp, root, files) = workspace();
        fs::write(root.join("a"), "one").unwrap();
        let staged = files.stage_now(&path("a"), b"two").unwrap();
        let folder = OwnedFd::from(fs::File::open(&root).unwrap());
        assert!(matches!(files.replace(&staged, &folder, "a"), Ok(Came::File)));
        assert_eq!(fs::read(root.join("a")).unwrap(), b"two");
        assert_eq!(fs::read(temp.path().join("tmp").join(&staged.name)).unwrap(), b"one");
        assert_eq!(temps(&root), 1);
    }

    #[tokio::test]
    async fn names_that_are_no_temporary_files_are_refused() {
        let (temp, root, files) = workspace();
        fs::write(root.join("a"), "x").unwrap();
        fs::write(temp.path().join("tmp/other"), "x").unwrap();
        for bad in ["", "other", "../workspace/a", "w-", "w-/../a", "w-A", "w-..", "t-../workspace", "x-1"] {
            assert!(files.remove_temp(bad).await.is_err(), "{bad}");
            assert!(files.inspect_temp(bad).await.is_err(), "{bad}");
        }
        assert!(root.join("a").exists() && temp.path().join("tmp/other").exists());
        let staged = files.stage(&path("a"), "y".into()).await.unwrap();
        assert_eq!(files.temps().await.unwrap(), std::slice::from_ref(&staged.name));
        files.remove_temp(&staged.name).await.unwrap();
        files.remove_temp(&staged.name).await.unwrap();
        // What an interrupted copy or removal left.
        fs::create_dir_all(temp.path().join("tmp/t-1/a")).unwrap();
        symlink("../../../workspace/a", temp.path().join("tmp/t-1/a/link")).unwrap();
        assert_eq!(files.temps().await.unwrap(), ["t-1"]);
        files.remove_temp("t-1").await.unwrap();
        assert!(files.temps().await.unwrap().is_empty() && root.join("a").exists());
    }

    /// A pipe under a staged name (raced in just before a crash) made the look at it wait for ever.
    #[tokio::test]
    async fn a_staged_name_that_is_no_file_reads_as_gone() {
        let (temp, root, files) = workspace();
        fs::write(root.join("a"), "x").unwrap();
        let staged = temp.path().join("tmp/w-1");
        for kind in ["pipe", "link", "folder"] {
            match kind {
                "pipe" => {
                    assert!(std::process::Command::new("mkfifo").arg(&staged).status().unwrap().success());
                }
                "link" => symlink("../workspace/a", &staged).unwrap(),
                _ => fs::create_dir(&staged).unwrap(),
            }
            assert!(files.inspect_temp("w-1").await.unwrap().is_none(), "{kind}");
            assert!(!files.has_writers("w-1").await.unwrap(), "{kind}");
            let _ = fs::remove_file(&staged);
        }
    }
}
