//! Plain changes of the tree: folders, removals, copies.
//!
//! What is big is prepared, or taken apart, beside the workspace: others see it appear or go in one step.

use super::list::{Start, Walk};
use super::temp::{TempKind, temp_name};
use super::{FsError, Kind, RelPath, Workspace, open};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};
use tracing::warn;

/// Files, folders and links in one copy.
const MAX_COPIED: usize = 100_000;
/// Bytes of files in one copy.
const MAX_COPIED_BYTES: u64 = 4 * 1024 * 1024 * 1024;

impl Workspace {
    /// Makes a folder, and those above it. `true`: it is new.
    ///
    /// # Errors
    /// [`FsError::Exists`] when something else than a folder is there.
    pub async fn make_folder(&self, path: &RelPath) -> Result<bool, FsError> {
        let (this, path) = (self.clone(), path.clone());
        self.off_runtime(move || {
            let (above, name) = this.parent_of(&path, true)?;
            match rustix::fs::mkdirat(&above, name.as_str(), Mode::from_raw_mode(0o755)) {
                Ok(()) => Ok(true),
                Err(Errno::EXIST) => match this.stat_now(&path)? {
                    Some(stat) if stat.kind == Kind::Folder => Ok(false),
                    _ => Err(FsError::Exists(path.clone())),
                },
                Err(errno) => Err(FsError::io(format!("make folder {path}"))(errno)),
            }
        })
        .await
    }

    /// Removes a file, a link (never what it points to), or a pipe and the like.
    ///
    /// # Errors
    /// [`FsError::WrongKind`] for a folder.
    pub async fn remove_file(&self, path: &RelPath) -> Result<(), FsError> {
        let (this, path) = (self.clone(), path.clone());
        self.off_runtime(move || {
            let (folder, name) = this.parent_of(&path, false)?;
            rustix::fs::unlinkat(&folder, name.as_str(), AtFlags::empty()).map_err(|errno| match errno {
                Errno::ISDIR | Errno::PERM => FsError::WrongKind { path: path.clone() },
                Errno::NOENT => FsError::Absent(path.clone()),
                errno => FsError::io(format!("remove {path}"))(errno),
            })
        })
        .await
    }

    /// Removes a folder; with what is in it, `.git` of a repository in it too, only if `recursive`.
    ///
    /// # Errors
    /// [`FsError::NotEmpty`], [`FsError::WrongKind`] when it is no folder, [`FsError::Absent`].
    pub async fn remove_folder(&self, path: &RelPath, recursive: bool) -> Result<(), FsError> {
        let (this, path) = (self.clone(), path.clone());
        self.off_runtime(move || {
            let failed = |errno| match errno {
                Errno::NOENT => FsError::Absent(path.clone()),
                Errno::NOTDIR => FsError::WrongKind { path: path.clone() },
                Errno::NOTEMPTY | Errno::EXIST => FsError::NotEmpty(path.clone()),
                errno => FsError::io(format!("remove {path}"))(errno),
            };
            let (above, name) = this.parent_of(&path, false)?;
            match rustix::fs::unlinkat(&above, name.as_str(), AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY | Errno::EXIST) if recursive => {}
                other => return other.map_err(failed),
            }
            // Out of the tree in one step; whoever looks sees all of it or nothing.
            let aside = temp_name(TempKind::Tree);
            match rustix::fs::renameat(&above, name.as_str(), &*this.temp, aside.as_str()) {
                Ok(()) => {
                    // It is gone for all; what can't be removed now is tried again when the branch is opened next.
                    if let Err(error) = this.remove_temp_now(&aside) {
                        warn!(%error, "a removed folder is left over");
                    }
                    Ok(())
                }
                Err(errno) => Err(failed(errno)),
            }
        })
        .await
    }

    /// Copies a file or a folder to a path where nothing is: contents, links as they are, permission bits; not owner,
    /// times and hard links, and no `.git`, pipes and the like. All of it appears at once.
    ///
    /// # Errors
    /// [`FsError::Exists`], [`FsError::Absent`], [`FsError::TooMany`] past 100,000 entries or 4 GiB.
    pub async fn copy(&self, from: &RelPath, to: &RelPath) -> Result<(), FsError> {
        let (this, from, to) = (self.clone(), from.clone(), to.clone());
        let turn = this.turn().await?;
        self.off_runtime(move || {
            let _turn = turn;
            this.copy_now(&from, &to)
        })
        .await
    }

    fn copy_now(&self, from: &RelPath, to: &RelPath) -> Result<(), FsError> {
        if self.stat_now(to)?.is_some() {
            return Err(FsError::Exists(to.clone()));
        }
        let stat = self.stat_now(from)?.ok_or_else(|| FsError::Absent(from.clone()))?;
        if stat.kind == Kind::Other {
            return Err(FsError::WrongKind { path: from.clone() });
        }
        let made = temp_name(TempKind::Tree);
        let mut left = Left { entries: MAX_COPIED, bytes: MAX_COPIED_BYTES, what: from.to_string() };
        let mut fill = || -> Result<(), FsError> {
            self.copy_one(from, stat.kind, &made, &mut left)?;
            if stat.kind == Kind::Folder {
                let mut walk = Walk::new(self, Start::folder(Some(from.clone())))?;
                while let Some(found) = walk.next()? {
                    let Some(rest) = found.real.as_str().strip_prefix(from.as_str()) else { continue };
                    match self.copy_one(&found.real, found.stat.kind, &format!("{made}{rest}"), &mut left) {
                        // Gone meanwhile.
                        Err(FsError::Absent(_)) => {}
                        other => other?,
                    }
                }
            }
            rustix::fs::syncfs(&*self.temp).map_err(FsError::io(format!("copy {from}")))?;
            let (folder, name) = self.parent_of(to, true)?;
            self.place_new(&made, &folder, &name, to)?;
            rustix::fs::fsync(&folder).map_err(FsError::io(format!("sync the folder of {to}")))
        };
        let filled = fill();
        if filled.is_err() {
            let _ = self.remove_temp_now(&made);
        }
        filled
    }

    fn copy_one(&self, from: &RelPath, kind: Kind, made: &str, left: &mut Left) -> Result<(), FsError> {
        let what = || format!("copy {from}");
        let absent = || FsError::Absent(from.clone());
        left.entry()?;
        let name = self.open_at(from, OFlags::PATH)?.ok_or_else(absent)?;
        match kind {
            Kind::Folder => rustix::fs::mkdirat(&*self.temp, made, Mode::from_raw_mode(0o755))
                .map_err(FsError::io(what())),
            Kind::Symlink => {
                let target = match rustix::fs::readlinkat(&name, "", Vec::new()) {
                    // Something else by now.
                    Err(Errno::NOENT | Errno::INVAL) => return Err(absent()),
                    other => other.map_err(FsError::io(what()))?,
                };
                rustix::fs::symlinkat(&*target, &*self.temp, made).map_err(FsError::io(what()))
            }
            Kind::File => {
                let source = open::regular(&name).map_err(FsError::io(what()))?.ok_or_else(absent)?;
                let stat = rustix::fs::fstat(&source).map_err(FsError::io(what()))?;
                left.fits(u64::try_from(stat.st_size).unwrap_or(0))?;
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                let target = rustix::fs::openat(&*self.temp, made, flags, Mode::from_raw_mode(0o600))
                    .map_err(FsError::io(what()))?;
                let mut target = File::from(target);
                // It may grow while it is read. std copies within the kernel, and shares blocks where that can be.
                let copied = std::io::copy(&mut File::from(source).take(left.bytes + 1), &mut target)
                    .map_err(FsError::std(what()))?;
                left.fits(copied)?;
                left.bytes -= copied;
                rustix::fs::fchmod(&target, Mode::from_raw_mode(stat.st_mode & 0o777))
                    .map_err(FsError::io(what()))
            }
            Kind::Other => Ok(()),
        }
    }

    /// The open parent folder of a resolved path, made if asked for, and the last part.
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
            return Err(FsError::Absent(path.clone()));
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

/// What one copy may still take.
struct Left {
    entries: usize,
    bytes: u64,
    what: String,
}

impl Left {
    fn too_many(&self, max: &str) -> FsError {
        FsError::TooMany { what: self.what.clone(), max: max.into() }
    }

    fn entry(&mut self) -> Result<(), FsError> {
        self.entries = self.entries.checked_sub(1).ok_or_else(|| self.too_many("100,000 entries"))?;
        Ok(())
    }

    fn fits(&self, bytes: u64) -> Result<(), FsError> {
        if bytes > self.bytes { Err(self.too_many("4 GiB")) } else { Ok(()) }
    }
}

/// Removes what `name` in `folder` is, with all in it; links are removed, not followed.
pub(super) fn remove_tree(folder: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return other,
    }
    // Emptied from below, always one folder deep from here: no pile of open folders for a deep tree. What is found
    // in a folder below is moved up here first.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    let mut lifted = 0_u64;
    loop {
        let mut is_empty = true;
        for found in rustix::fs::Dir::read_from(&top)? {
            let found = found?;
            let below = found.file_name();
            if matches!(below.to_bytes(), b"." | b"..") {
                continue;
            }
            is_empty = false;
            match rustix::fs::unlinkat(&top, below, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(errno) => return Err(errno),
            }
            if rustix::fs::unlinkat(&top, below, AtFlags::REMOVEDIR).is_ok() {
                continue;
            }
            let inner = rustix::fs::openat(&top, below, flags, Mode::empty())?;
            for deep in rustix::fs::Dir::read_from(&inner)? {
                let deep = deep?;
                let name = deep.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                if rustix::fs::unlinkat(&inner, name, AtFlags::empty()).is_err() {
                    lifted += 1;
                    let lift = format!("perch-lifted-{lifted}");
                    match rustix::fs::renameat_with(&inner, name, &top, lift.as_str(), RenameFlags::NOREPLACE)
                    {
                        Ok(()) | Err(Errno::NOENT | Errno::EXIST) => {}
                        Err(errno) => return Err(errno),
                    }
                }
            }
            match rustix::fs::unlinkat(&top, below, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        if is_empty {
            break;
        }
    }
    rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{path, workspace};
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[tokio::test]
    async fn folders_are_made_and_removed() {
        let (temp, root, files) = workspace();
        assert!(files.make_folder(&path("a/b/c")).await.unwrap());
        assert!(!files.make_folder(&path("a/b")).await.unwrap());
        fs::write(root.join("a/file"), "x").unwrap();
        assert!(matches!(files.make_folder(&path("a/file")).await, Err(FsError::Exists(_))));
        assert!(matches!(files.make_folder(&path("a/file/x")).await, Err(FsError::WrongKind { .. })));
        assert!(matches!(files.remove_folder(&path("a"), false).await, Err(FsError::NotEmpty(_))));
        assert!(matches!(files.remove_folder(&path("a/file"), true).await, Err(FsError::WrongKind { .. })));
        assert!(matches!(files.remove_folder(&path("none"), true).await, Err(FsError::Absent(_))));
        assert!(matches!(files.remove_file(&path("a/b")).await, Err(FsError::WrongKind { .. })));
        files.remove_folder(&path("a/b/c"), false).await.unwrap();
        // A link in it is removed, not what it points to.
        fs::create_dir(temp.path().join("precious")).unwrap();
        fs::write(temp.path().join("precious/x"), "x").unwrap();
        symlink("../../precious", root.join("a/link")).unwrap();
        files.remove_folder(&path("a"), true).await.unwrap();
        assert!(!root.join("a").exists() && temp.path().join("precious/x").exists());
        assert_eq!(fs::read_dir(temp.path().join("tmp")).unwrap().count(), 0);
    }

    /// A tree so deep that neither the stack nor open files would do for one per level.
    #[tokio::test]
    async fn a_tree_of_any_depth_is_removed() {
        let (temp, root, files) = workspace();
        fs::create_dir(root.join("top")).unwrap();
        let mut at = OwnedFd::from(fs::File::open(root.join("top")).unwrap());
        for _ in 0..1_100 {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            for name in ["d", "side"] {
                rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o755)).unwrap();
            }
            at = rustix::fs::openat(&at, "d", flags, Mode::empty()).unwrap();
        }
        files.remove_folder(&path("top"), true).await.unwrap();
        assert!(!root.join("top").exists());
        assert_eq!(fs::read_dir(temp.path().join("tmp")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_copy_has_contents_links_and_permissions_but_no_git() {
        let (temp, root, files) = workspace();
        fs::create_dir_all(root.join("a/b/empty")).unwrap();
        fs::create_dir(root.join("a/.git")).unwrap();
        fs::write(root.join("a/.git/config"), "x").unwrap();
        fs::write(root.join("a/b/run"), "text").unwrap();
        fs::set_permissions(root.join("a/b/run"), fs::Permissions::from_mode(0o4750)).unwrap();
        symlink("b/run", root.join("a/link")).unwrap();
        symlink("../../secret", root.join("a/out")).unwrap();
        fs::write(temp.path().join("secret"), "secret").unwrap();
        files.copy(&path("a"), &path("new/c")).await.unwrap();
        assert_eq!(fs::read(root.join("new/c/b/run")).unwrap(), b"text");
        let mode = fs::metadata(root.join("new/c/b/run")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o750);
        assert!(root.join("new/c/b/empty").is_dir() && !root.join("new/c/.git").exists());
        for (link, target) in [("link", "b/run"), ("out", "../../secret")] {
            assert_eq!(fs::read_link(root.join("new/c").join(link)).unwrap(), std::path::Path::new(target));
        }
        files.copy(&path("a/b/run"), &path("run")).await.unwrap();
        assert_eq!(fs::read(root.join("run")).unwrap(), b"text");
        for taken in ["run", "a", "a/out"] {
            let refused = files.copy(&path("a/b/run"), &path(taken)).await;
            assert!(matches!(refused, Err(FsError::Exists(_))), "{taken}");
        }
        assert!(matches!(files.copy(&path("none"), &path("x")).await, Err(FsError::Absent(_))));
        assert_eq!(fs::read_dir(temp.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn a_copy_that_is_too_large_leaves_nothing() {
        let (temp, root, files) = workspace();
        fs::create_dir(root.join("a")).unwrap();
        // Sparse: it takes no room.
        fs::File::create(root.join("a/large")).unwrap().set_len(MAX_COPIED_BYTES + 1).unwrap();
        assert!(matches!(files.copy_now(&path("a"), &path("b")), Err(FsError::TooMany { .. })));
        assert!(!root.join("b").exists());
        assert_eq!(fs::read_dir(temp.path().join("tmp")).unwrap().count(), 0);
    }
}
