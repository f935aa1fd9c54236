//! Files as this session sees them: the kernel decides what it may, nothing here does.
//!
//! Nothing but regular files is opened, and never one that waits for somebody: a pipe would hold a thread for ever.

use super::wire::{FileAnswer, FileEntry, FileError, FileKind, FileOp, MAX_FILE};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde_bytes::ByteBuf;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Entries of one folder that are listed.
const MAX_ENTRIES: usize = 10_000;

/// Does one piece of work; blocks.
pub(super) fn work(private: &Path, op: FileOp) -> FileAnswer {
    let outcome = match op {
        FileOp::List(path) => list(private, &path),
        FileOp::Read(path) => read(private, &path),
        FileOp::Write(path, bytes) => shared_path(private, &path).and_then(|()| write(&path, &bytes)),
        FileOp::MakeFolder(path) => shared_path(private, &path).and_then(|()| {
            fs::create_dir_all(path)?;
            Ok(FileAnswer::Done)
        }),
        FileOp::Remove(path) => shared_path(private, &path).and_then(|()| remove(&path)),
        FileOp::PrivateList(path) => {
            beneath(private, &path, OFlags::DIRECTORY).and_then(|folder| list_open(&folder))
        }
        FileOp::PrivateRead(path) => {
            beneath(private, &path, OFlags::NONBLOCK | OFlags::NOCTTY).and_then(|file| read_open(file.into()))
        }
        FileOp::PrivateWrite(path, bytes) => private_write(private, &path, &bytes),
        FileOp::PrivateRemove(path) => private_remove(private, &path),
        FileOp::Own(call, is_own) => Ok(super::own::call(private, call, is_own)),
    };
    outcome.unwrap_or_else(FileAnswer::Refused)
}

impl From<Errno> for FileError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT => Self::NotFound,
            Errno::NOTDIR | Errno::ISDIR | Errno::LOOP | Errno::XDEV | Errno::NOTEMPTY => Self::WrongKind,
            Errno::ACCESS | Errno::PERM => Self::Denied("permission denied".into()),
            Errno::ROFS => Self::Denied("it can only read".into()),
            Errno::NOSPC | Errno::DQUOT => Self::Full,
            Errno::FBIG => Self::TooLarge,
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        error
            .raw_os_error()
            .map_or_else(|| Self::Other(error.to_string()), |raw| Errno::from_raw_os_error(raw).into())
    }
}

pub(super) fn kind(kind: FileType) -> FileKind {
    match kind {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Folder,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
    }
}

/// Refuses what is private to the session, and `/proc`: those are not for whoever may ask for files.
pub(super) fn shared(private: &Path, file: &OwnedFd) -> Result<(), FileError> {
    let own = rustix::fs::stat(private)?.st_dev;
    // Without isolation it is a folder like others, and nothing of it is private.
    let above = private.parent().map(rustix::fs::stat).transpose()?.map(|above| above.st_dev);
    let is_private = above != Some(own) && rustix::fs::fstat(file)?.st_dev == own;
    if is_private || rustix::fs::fstatfs(file)?.f_type == rustix::fs::PROC_SUPER_MAGIC {
        return Err(FileError::Denied("it is private to the session".into()));
    }
    Ok(())
}

/// The same for a path that may not be there yet: the deepest folder of it that is there says it.
fn shared_path(private: &Path, path: &str) -> Result<(), FileError> {
    for at in Path::new(path).ancestors() {
        match rustix::fs::open(at, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Ok(found) => return shared(private, &found),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(FileError::NotFound)
}

fn list(private: &Path, path: &str) -> Result<FileAnswer, FileError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, Mode::empty())?;
    shared(private, &folder)?;
    list_open(&folder)
}

fn list_open(folder: &OwnedFd) -> Result<FileAnswer, FileError> {
    let mut entries = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") || entries.len() >= MAX_ENTRIES {
            continue;
        }
        let Ok(stat) = rustix::fs::statat(folder, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        entries.push(FileEntry {
            name: name.to_string_lossy().into_owned(),
            kind: kind(FileType::from_raw_mode(stat.st_mode)),
            bytes: u64::try_from(stat.st_size).unwrap_or(0),
        });
    }
    entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(FileAnswer::Entries(entries))
}

fn read(private: &Path, path: &str) -> Result<FileAnswer, FileError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    shared(private, &file)?;
    read_open(file.into())
}

fn read_open(file: File) -> Result<FileAnswer, FileError> {
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(FileError::WrongKind);
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_FILE {
        return Err(FileError::TooLarge);
    }
    Ok(FileAnswer::Bytes(ByteBuf::from(bytes)))
}

/// Readers see the old file or the new one.
fn write(path: &str, bytes: &[u8]) -> Result<FileAnswer, FileError> {
    let path = match fs::canonicalize(path) {
        // A link is written through, as a shell would.
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => PathBuf::from(path),
        Err(error) => return Err(error.into()),
    };
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(FileError::WrongKind);
    };
    fs::create_dir_all(folder)?;
    let mode = match fs::metadata(&path) {
        Ok(meta) if !meta.is_file() => return Err(FileError::WrongKind),
        Ok(meta) => std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777,
        Err(_) => 0o644,
    };
    let temp = folder.join(format!(".{}.{}.perch", name.to_string_lossy(), rand::random::<u32>()));
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temp)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&temp, &path));
    if let Err(error) = written {
        let _ = fs::remove_file(&temp);
        return Err(error.into());
    }
    Ok(FileAnswer::Done)
}

fn remove(path: &str) -> Result<FileAnswer, FileError> {
    let is_folder = fs::symlink_metadata(path)?.is_dir();
    if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) }?;
    Ok(FileAnswer::Done)
}

/// Opens beneath `~/.private`; no part may be a link.
fn beneath(private: &Path, path: &str, flags: OFlags) -> Result<OwnedFd, FileError> {
    let root = rustix::fs::open(private, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let path = if path.is_empty() { "." } else { path };
    Ok(rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty(), resolve)?)
}

/// The folder that a private file lies in, made where it is missing, and the file's name.
fn private_folder<'a>(private: &Path, path: &'a str, make: bool) -> Result<(OwnedFd, &'a str), FileError> {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if !is_plain(name) || !(folders.is_empty() || folders.split('/').all(is_plain)) {
        return Err(FileError::WrongKind);
    }
    let mut made = String::new();
    for part in folders.split('/').filter(|part| make && !part.is_empty()) {
        let above = beneath(private, &made, OFlags::PATH | OFlags::DIRECTORY)?;
        match rustix::fs::mkdirat(&above, part, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        if !made.is_empty() {
            made.push('/');
        }
        made.push_str(part);
    }
    Ok((beneath(private, folders, OFlags::RDONLY | OFlags::DIRECTORY)?, name))
}

fn private_write(private: &Path, path: &str, bytes: &[u8]) -> Result<FileAnswer, FileError> {
    let (folder, name) = private_folder(private, path, true)?;
    let temp = format!(".{}.perch", rand::random::<u64>());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(&folder, &temp, flags, Mode::from_raw_mode(0o600))?);
    let written = file.write_all(bytes).map_err(FileError::from);
    let written = written.and_then(|()| Ok(rustix::fs::renameat(&folder, &temp, &folder, name)?));
    if let Err(error) = written {
        let _ = rustix::fs::unlinkat(&folder, &temp, rustix::fs::AtFlags::empty());
        return Err(error);
    }
    Ok(FileAnswer::Done)
}

fn private_remove(private: &Path, path: &str) -> Result<FileAnswer, FileError> {
    let (folder, name) = private_folder(private, path, false)?;
    remove_at(folder.as_fd(), name, 64)?;
    Ok(FileAnswer::Done)
}

fn remove_at(folder: BorrowedFd<'_>, name: &str, depth: u8) -> Result<(), FileError> {
    let stat = rustix::fs::statat(folder, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(rustix::fs::unlinkat(folder, name, rustix::fs::AtFlags::empty())?);
    }
    if depth == 0 {
        return Err(FileError::Other("it is too deep".into()));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(&inner)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            remove_at(inner.as_fd(), &entry.file_name().to_string_lossy(), depth - 1)?;
        }
    }
    Ok(rustix::fs::unlinkat(folder, name, rustix::fs::AtFlags::REMOVEDIR)?)
}

/// What the agent lays out in `~/.private` before anybody else comes: the folders that the home's links lead to, and who
/// commits are by.
pub(super) fn lay_out(private: &Path, git_config: &str) {
    let root =
        rustix::fs::openat(CWD, private, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    if let Ok(root) = root {
        for folder in [".ssh", ".config", ".config/gh", ".run"] {
            let _ = rustix::fs::mkdirat(&root, folder, Mode::from_raw_mode(0o700));
        }
        let _ = private_write(private, ".gitconfig", git_config.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_paths_lead_nowhere_else() {
        let temp = tempfile::tempdir().unwrap();
        let private = temp.path().join("private");
        fs::create_dir(&private).unwrap();
        fs::write(temp.path().join("outside"), "secret").unwrap();
        std::os::unix::fs::symlink("..", private.join("up")).unwrap();
        std::os::unix::fs::symlink("../outside", private.join("out")).unwrap();
        for path in ["../outside", "up/outside", "out", "/etc/passwd", "", "a/../../outside"] {
            let read = work(&private, FileOp::PrivateRead(path.into()));
            assert!(matches!(read, FileAnswer::Refused(_)), "{path}");
            if path != "out" {
                let written = work(&private, FileOp::PrivateWrite(path.into(), ByteBuf::from(*b"x")));
                assert!(matches!(written, FileAnswer::Refused(_)), "{path}");
            }
        }
        assert_eq!(fs::read_to_string(temp.path().join("outside")).unwrap(), "secret");
        let written = work(&private, FileOp::PrivateWrite("deep/er/token".into(), ByteBuf::from(*b"t")));
        assert!(matches!(written, FileAnswer::Done));
        let read = work(&private, FileOp::PrivateRead("deep/er/token".into()));
        assert!(matches!(read, FileAnswer::Bytes(bytes) if bytes.as_ref() == b"t"));
        assert!(matches!(work(&private, FileOp::PrivateRemove("deep".into())), FileAnswer::Done));
        assert!(!private.join("deep").exists());
    }

    #[test]
    fn a_pipe_holds_nobody_up() {
        let temp = tempfile::tempdir().unwrap();
        let pipe = temp.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let answer = work(temp.path(), FileOp::Read(pipe.to_string_lossy().into_owned()));
        assert!(matches!(answer, FileAnswer::Refused(FileError::WrongKind)));
    }
}
