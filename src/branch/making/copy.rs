//! A branch's own copy of another's files.

use super::tree::{Found, open_beneath, open_root, walk};
use super::{Making, Phase};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Files copied at once.
const THREADS: usize = 4;

/// Copies all in `from` to `to`, which is not there yet: files with their modes and times, links as links, nothing of
/// devices, pipes and sockets, nothing named `skip` at the top. Where the file system can, files share their blocks.
/// What is written meanwhile may be copied half: the caller flushes documents first and files are replaced whole.
pub(in crate::branch) fn copy(from: &Path, to: &Path, skip: &str, making: &Making) -> Result<(), String> {
    let root = open_root(from).map_err(|error| failed(Path::new(""), &error))?;
    fs::create_dir(to).map_err(|error| failed(Path::new(""), &error))?;
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    let visit = |found: &Found<'_>| {
        let (path, mode) = (found.path, found.stat.st_mode & 0o777);
        if path == Path::new(skip) {
            return Ok(false);
        }
        let made = match found.kind() {
            FileType::Directory => {
                making.take(0)?;
                folders.push((path.to_owned(), mode));
                fs::create_dir(to.join(path))
            }
            FileType::RegularFile => {
                making.take(u64::try_from(found.stat.st_size).unwrap_or(0))?;
                files.push(path.to_owned());
                Ok(())
            }
            FileType::Symlink => {
                making.take(0)?;
                copy_link(found, &to.join(path))
            }
            _ => Ok(()),
        };
        made.map(|()| true).map_err(|error| failed(path, &error))
    };
    walk(&root, visit, |path, error| failed(path, &error))?;
    copy_files(&root, to, &files, making)?;
    // Last and from below: a folder may be one that nothing can be made in.
    for (path, mode) in folders.iter().rev() {
        fs::set_permissions(to.join(path), Permissions::from_mode(*mode))
            .map_err(|error| failed(path, &error))?;
    }
    Ok(())
}

fn failed(path: &Path, error: &io::Error) -> String {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    format!("can't copy `{}`: {error}", path.display())
}

fn copy_link(found: &Found<'_>, to: &Path) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let Some(name) = found.path.file_name() else { return Ok(()) };
    let target = match rustix::fs::readlinkat(found.folder, name, Vec::new()) {
        Ok(target) => target,
        Err(Errno::NOENT | Errno::INVAL) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(target.as_bytes()), to)
}

fn copy_files(root: &OwnedFd, to: &Path, files: &[PathBuf], making: &Making) -> Result<(), String> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<(), String> {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = files.get(at) else { return Ok(()) };
            if making.cancel.is_cancelled() {
                return Err("it was stopped".into());
            }
            let percent = u8::try_from(at * 100 / files.len()).ok();
            making.at(Phase::Copying, percent);
            if let Err(error) = copy_file(root, path, &to.join(path)) {
                // The others need not go on.
                next.store(files.len(), Ordering::Relaxed);
                return Err(failed(path, &error));
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let mut outcome = Ok(());
        for thread in threads {
            outcome = outcome.and(thread.join().unwrap_or_else(|_| Err("a copying thread failed".into())));
        }
        outcome
    })
}

fn copy_file(root: &OwnedFd, path: &Path, to: &Path) -> io::Result<()> {
    let from = match open_beneath(root, path, OFlags::RDONLY) {
        Ok(file) => File::from(file),
        // Gone, or no file any more, since the walk saw it.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    let about = from.metadata()?;
    if !about.is_file() {
        return Ok(());
    }
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    // `std::io::copy` between files is `copy_file_range`, as `std::fs::copy` does it, which reflinks where it can.
    // A file that grows meanwhile is taken as long as it was.
    io::copy(&mut from.take(about.len()), &mut copy)?;
    copy.set_permissions(Permissions::from_mode(about.mode() & 0o777))?;
    if let Ok(modified) = about.modified() {
        copy.set_modified(modified)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_util::sync::CancellationToken;

    #[test]
    fn a_copy_is_its_own_and_keeps_modes_links_and_times() {
        let base = tempfile::tempdir().unwrap();
        let (from, to) = (base.path().join("from"), base.path().join("to"));
        fs::create_dir_all(from.join("src/deep")).unwrap();
        fs::create_dir_all(from.join(".private")).unwrap();
        fs::write(from.join(".private/key"), "secret").unwrap();
        for n in 0..200 {
            fs::write(from.join(format!("src/deep/{n}")), format!("{n}")).unwrap();
        }
        fs::write(from.join("run"), "#!/bin/sh").unwrap();
        fs::set_permissions(from.join("run"), Permissions::from_mode(0o750)).unwrap();
        fs::set_permissions(from.join("src"), Permissions::from_mode(0o555)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", from.join("away")).unwrap();
        std::os::unix::fs::symlink("src", from.join("here")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            from.join("pipe"),
            FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let making = Making::new(10_000, CancellationToken::new());
        copy(&from, &to, ".private", &making).unwrap();
        assert_eq!(fs::read_to_string(to.join("src/deep/199")).unwrap(), "199");
        assert_eq!(fs::read_link(to.join("away")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(fs::read_link(to.join("here")).unwrap(), Path::new("src"));
        assert_eq!(fs::metadata(to.join("run")).unwrap().mode() & 0o777, 0o750);
        assert_eq!(fs::metadata(to.join("src")).unwrap().mode() & 0o777, 0o555);
        let times = |folder: &Path| fs::metadata(folder.join("run")).unwrap().modified().unwrap();
        assert_eq!(times(&from), times(&to));
        assert!(!to.join("pipe").exists() && !to.join(".private").exists());
        fs::write(to.join("run"), "changed").unwrap();
        assert_eq!(fs::read_to_string(from.join("run")).unwrap(), "#!/bin/sh");

        let small = Making::new(100, CancellationToken::new());
        let refused = copy(&from, &base.path().join("other"), "", &small).unwrap_err();
        assert!(refused.contains("--max-branch-bytes"), "{refused}");
        let stopped = Making::new(10_000, CancellationToken::new());
        stopped.cancel().cancel();
        assert!(copy(&from, &base.path().join("third"), "", &stopped).is_err());
    }

    #[test]
    fn a_folder_swapped_for_a_link_leads_nowhere() {
        let base = tempfile::tempdir().unwrap();
        let from = base.path().join("from");
        fs::create_dir_all(base.path().join("outside")).unwrap();
        fs::create_dir(&from).unwrap();
        fs::write(base.path().join("outside/secret"), "secret").unwrap();
        std::os::unix::fs::symlink("../outside", from.join("swapped")).unwrap();
        let root = open_root(&from).unwrap();
        copy_file(&root, Path::new("swapped/secret"), &base.path().join("stolen")).unwrap();
        assert!(!base.path().join("stolen").exists());
        assert!(from.join("swapped/secret").exists(), "the link does lead there");
    }
}
