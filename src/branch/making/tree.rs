//! Walking, measuring and removing folders without following a link.

use super::MAX_ENTRIES;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Something found on a walk.
pub(super) struct Found<'a> {
    /// From the root of the walk.
    pub(super) path: &'a Path,
    /// The folder it lies in.
    pub(super) folder: &'a OwnedFd,
    pub(super) stat: rustix::fs::Stat,
}

impl Found<'_> {
    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

/// Opens a path beneath `root`; a link in any part of it is an error, whoever put it there meanwhile.
pub(super) fn open_beneath(root: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            // A retry, as the kernel asks for when a rename races with the walk.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

pub(super) fn open_root(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Visits everything beneath `root`, folders before what is in them. `visit` says whether to go on into a folder.
/// What disappears meanwhile is passed over.
pub(super) fn walk<E>(
    root: &OwnedFd,
    mut visit: impl FnMut(&Found<'_>) -> Result<bool, E>,
    failed: impl Fn(&Path, io::Error) -> E,
) -> Result<(), E> {
    let mut folders = vec![PathBuf::new()];
    while let Some(path) = folders.pop() {
        let folder = match open_beneath(root, &path, OFlags::DIRECTORY | OFlags::RDONLY) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(errno) => return Err(failed(&path, errno.into())),
        };
        let names = Dir::read_from(&folder).map_err(|errno| failed(&path, errno.into()))?;
        for name in names {
            let name = name.map_err(|errno| failed(&path, errno.into()))?;
            let name = name.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(failed(&path, errno.into())),
            };
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            let found = Found { path: &path, folder: &folder, stat };
            if visit(&found)? && found.kind() == FileType::Directory {
                folders.push(path);
            }
        }
    }
    Ok(())
}

/// Bytes of all files in `folder`, as their lengths say; at most a million entries are looked at.
pub(in crate::branch) fn measure(folder: &Path) -> io::Result<u64> {
    let (mut bytes, mut entries) = (0_u64, 0_u64);
    let visit = |found: &Found<'_>| {
        entries += 1;
        if found.kind() == FileType::RegularFile {
            bytes = bytes.saturating_add(u64::try_from(found.stat.st_size).unwrap_or(0));
        }
        // An error ends the walk; this one is none.
        if entries > MAX_ENTRIES { Err(None) } else { Ok(true) }
    };
    match walk(&open_root(folder)?, visit, |_, error| Some(error)) {
        Ok(()) | Err(None) => Ok(bytes),
        Err(Some(error)) => Err(error),
    }
}

/// Removes a folder and all in it; that there is none is no error.
pub(in crate::branch) fn remove(folder: &Path) -> io::Result<()> {
    let mut outcome = Ok(());
    // Folders without rights for their owner, and processes that still write, get another try.
    for _ in 0..20 {
        outcome = fs::remove_dir_all(folder);
        match outcome.as_ref().map_err(io::Error::kind) {
            Ok(()) | Err(io::ErrorKind::NotFound) => return Ok(()),
            Err(io::ErrorKind::PermissionDenied) => open_up(folder)?,
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(50)),
        }
    }
    outcome
}

fn open_up(folder: &Path) -> io::Result<()> {
    let may = fs::Permissions::from_mode(0o700);
    fs::set_permissions(folder, may.clone())?;
    let visit = |found: &Found<'_>| {
        if found.kind() == FileType::Directory {
            fs::set_permissions(folder.join(found.path), may.clone())?;
        }
        Ok(true)
    };
    walk(&open_root(folder)?, visit, |_, error| error)
}

/// Makes everything on the folder's file system durable.
pub(in crate::branch) fn sync(folder: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(open_root(folder)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measuring_and_removing_follow_no_link_and_need_no_rights_of_folders() {
        let base = tempfile::tempdir().unwrap();
        let (inside, outside) = (base.path().join("in"), base.path().join("out"));
        fs::create_dir_all(inside.join("a/b")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(inside.join("a/b/f"), "12345").unwrap();
        fs::write(outside.join("kept"), "123456789").unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("a/link")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            inside.join("pipe"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert_eq!(measure(&inside).unwrap(), 5);
        sync(&inside).unwrap();
        fs::set_permissions(inside.join("a/b"), fs::Permissions::from_mode(0o000)).unwrap();
        remove(&inside).unwrap();
        assert!(!inside.exists() && outside.join("kept").exists());
        remove(&inside).unwrap();
    }
}
