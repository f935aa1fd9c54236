//! Opening beneath the root, and nothing but what was meant.
//!
//! A path is opened without following a single link ([`super::Workspace::resolve`] has followed them before), so
//! whatever is swapped in after a check is refused, not followed. What is to be read is first opened as a mere name
//! (`O_PATH`, which runs no driver and wakes no writer of a pipe), looked at, and opened again through that name.

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Opens `path` beneath `root`; no part of it may be a link. With `O_PATH` a link as the last part is opened itself.
///
/// Where `openat2` is missing (Linux before 5.6, some sandboxes) the parts are opened one by one, each without
/// following: a folder that is moved out of the workspace meanwhile is then still walked.
pub(super) fn beneath(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // A retry, as the kernel asks for when a rename races with the walk.
    for _ in 0..64 {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::NOSYS | Errno::PERM) => return part_by_part(root, path, flags),
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

fn part_by_part(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let (folders, last) = path.rsplit_once('/').map_or((None, path), |(folders, last)| (Some(folders), last));
    let mut at: Option<OwnedFd> = None;
    for part in folders.into_iter().flat_map(|folders| folders.split('/')) {
        let next = name(at.as_ref().map_or(root, OwnedFd::as_fd), part)?;
        if kind(&next)? == FileType::Symlink {
            return Err(Errno::LOOP);
        }
        at = Some(next);
    }
    if last == ".." || path.split('/').any(|part| part == "..") {
        return Err(Errno::XDEV);
    }
    rustix::fs::openat(at.as_ref().map_or(root, OwnedFd::as_fd), last, flags, Mode::empty())
}

/// Opens one name in a folder as a mere name; a link is opened itself.
pub(super) fn name(folder: BorrowedFd<'_>, part: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, part, flags, Mode::empty())
}

pub(super) fn kind(file: &OwnedFd) -> Result<FileType, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode))
}

/// Opens for reading what a mere name stands for, if it is a regular file; `None` for anything else, untouched.
pub(super) fn regular(name: &OwnedFd) -> Result<Option<OwnedFd>, Errno> {
    if kind(name)? != FileType::RegularFile {
        return Ok(None);
    }
    // The only way from a mere name to the file it stands for: by itself, not by its path.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    rustix::fs::open(format!("/proc/self/fd/{}", name.as_raw_fd()), flags, Mode::empty()).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn both_ways_of_opening_refuse_links_and_ways_up() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(root.join("a/b/c"), "x").unwrap();
        std::fs::write(temp.path().join("secret"), "x").unwrap();
        symlink("a", root.join("link")).unwrap();
        symlink("c", root.join("a/b/last")).unwrap();
        let open = std::fs::File::open(&root).unwrap();
        let one_call = |path: &str| beneath(open.as_fd(), path, OFlags::RDONLY);
        let by_parts = |path: &str| {
            part_by_part(open.as_fd(), path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC)
        };
        for ways in [&one_call as &dyn Fn(&str) -> Result<OwnedFd, Errno>, &by_parts] {
            assert!(ways("a/b/c").is_ok());
            assert_eq!(ways("link/b/c").unwrap_err(), Errno::LOOP);
            assert_eq!(ways("a/b/last").unwrap_err(), Errno::LOOP);
            assert_eq!(ways("../secret").unwrap_err(), Errno::XDEV);
            assert_eq!(ways("a/../../secret").unwrap_err(), Errno::XDEV);
            assert_eq!(ways("a/b/none").unwrap_err(), Errno::NOENT);
            assert_eq!(ways("a/b/c/d").unwrap_err(), Errno::NOTDIR);
        }
        let link = beneath(open.as_fd(), "a/b/last", OFlags::PATH).unwrap();
        assert_eq!(kind(&link).unwrap(), FileType::Symlink);
    }

    #[test]
    fn a_pipe_is_looked_at_without_waking_its_writer() {
        let temp = tempfile::tempdir().unwrap();
        let pipe = temp.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let open = std::fs::File::open(temp.path()).unwrap();
        let found = name(open.as_fd(), "pipe").unwrap();
        assert!(regular(&found).unwrap().is_none());
        // A writer that does not wait is refused while nobody reads.
        let flags = OFlags::WRONLY | OFlags::NONBLOCK;
        assert_eq!(rustix::fs::open(&pipe, flags, Mode::empty()).unwrap_err(), Errno::NXIO);
    }
}
