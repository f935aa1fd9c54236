//! Files for the session itself, by calls like those of Node's `fs`: as its shells see them, `~/.private` included.
//!
//! Paths are absolute. `/proc` is refused all the same: the agent may see more there than the session's shells.

use super::files::{kind, shared};
use super::wire::{FileAnswer, FileKind, FsCall, FsEntry, FsStat, MAX_FILE};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use serde_bytes::ByteBuf;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Entries of one folder that are listed; one more is an error, since nothing tells that the rest is missing.
const MAX_ENTRIES: usize = 100_000;
/// Folders within one another that are copied.
const MAX_DEPTH: usize = 128;

type Outcome = Result<FileAnswer, Errno>;

/// Does one call; blocks. `is_own`: whoever asks may see what is private to the session.
pub(super) fn call(private: &Path, call: FsCall, is_own: bool) -> FileAnswer {
    let look = |path: &str| look(private, path, is_own);
    let outcome = match &call {
        FsCall::Read { path, .. }
        | FsCall::List(path)
        | FsCall::Stat(path)
        | FsCall::Stage { path, .. }
        | FsCall::Unstage { path, .. }
        | FsCall::Write { path, .. }
        | FsCall::MakeFolder { path, .. }
        | FsCall::Remove { path, .. } => look(path),
        FsCall::Rename { from, to, .. } | FsCall::Copy { from, to, .. } => look(from).and_then(|()| look(to)),
    };
    let outcome = outcome.and_then(|()| match call {
        FsCall::Read { path, at, len } => read(&path, at, len),
        FsCall::List(path) => list(&path),
        FsCall::Stat(path) => stat(&path),
        FsCall::Stage { path, token, bytes } => stage(&path, token, &bytes),
        FsCall::Unstage { path, token } => {
            fs::remove_file(staged(Path::new(&path), token)?).map_err(|error| errno(&error))?;
            Ok(FileAnswer::Done)
        }
        FsCall::Write { path, token, bytes, create, overwrite } => {
            write(&path, token, &bytes, create, overwrite)
        }
        FsCall::MakeFolder { path, recursive } => done(make_folder(&path, recursive)),
        FsCall::Remove { path, recursive } => done(remove(&path, recursive)),
        FsCall::Rename { from, to, overwrite } => rename(&from, &to, overwrite),
        FsCall::Copy { from, to, recursive, overwrite } => copy(&from, &to, recursive, overwrite),
    });
    outcome.unwrap_or_else(|errno| FileAnswer::Failed(errno.raw_os_error()))
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn done(outcome: io::Result<()>) -> Outcome {
    outcome.map(|()| FileAnswer::Done).map_err(|error| errno(&error))
}

/// Whether the session's own calls may go there: the deepest part of the path that is there says it.
fn look(private: &Path, path: &str, is_own: bool) -> Result<(), Errno> {
    for at in Path::new(path).ancestors() {
        match rustix::fs::open(at, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Ok(found) if is_own => {
                let is_proc = rustix::fs::fstatfs(&found)?.f_type == rustix::fs::PROC_SUPER_MAGIC;
                return if is_proc { Err(Errno::ACCESS) } else { Ok(()) };
            }
            Ok(found) => return shared(private, &found).map_err(|_| Errno::ACCESS),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::NOENT)
}

fn read(path: &str, at: u64, len: u32) -> Outcome {
    // A pipe would hold a thread for ever.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let meta = file.metadata().map_err(|error| errno(&error))?;
    if meta.is_dir() {
        return Err(Errno::ISDIR);
    }
    if !meta.is_file() {
        return Err(Errno::INVAL);
    }
    let mut bytes = vec![0; (len as usize).min(MAX_FILE)];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(errno(&error)),
        }
    }
    bytes.truncate(filled);
    Ok(FileAnswer::Part(ByteBuf::from(bytes), meta.len()))
}

fn target(path: &Path) -> Option<FileKind> {
    fs::metadata(path).ok().map(|meta| kind(FileType::from_raw_mode(meta.mode())))
}

fn list(path: &str) -> Outcome {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| errno(&error))? {
        let entry = entry.map_err(|error| errno(&error))?;
        let Ok(meta) = entry.metadata() else { continue };
        if entries.len() >= MAX_ENTRIES {
            return Err(Errno::OVERFLOW);
        }
        let own = kind(FileType::from_raw_mode(meta.mode()));
        let target = if own == FileKind::Symlink { target(&entry.path()) } else { None };
        entries.push(FsEntry { name: entry.file_name().to_string_lossy().into_owned(), kind: own, target });
    }
    entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(FileAnswer::Listed(entries))
}

fn ms(seconds: i64, nanos: i64) -> i64 {
    seconds.saturating_mul(1_000).saturating_add(nanos / 1_000_000)
}

fn stat(path: &str) -> Outcome {
    let own = fs::symlink_metadata(path).map_err(|error| errno(&error))?;
    let own_kind = kind(FileType::from_raw_mode(own.mode()));
    let target = if own_kind == FileKind::Symlink { fs::metadata(path).ok() } else { None };
    let meta: &Metadata = target.as_ref().unwrap_or(&own);
    Ok(FileAnswer::Stat(FsStat {
        kind: own_kind,
        target: target.as_ref().map(|meta| kind(FileType::from_raw_mode(meta.mode()))),
        len_bytes: meta.len(),
        modified_at_ms: ms(meta.mtime(), meta.mtime_nsec()),
        changed_at_ms: ms(meta.ctime(), meta.ctime_nsec()),
        accessed_at_ms: ms(meta.atime(), meta.atime_nsec()),
        mode: meta.mode() & 0o7777,
    }))
}

/// A link is written through, as a shell would.
fn real(path: &Path) -> Result<PathBuf, Errno> {
    match fs::canonicalize(path) {
        Ok(real) => Ok(real),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path.to_owned()),
        Err(error) => Err(errno(&error)),
    }
}

/// Where the parts of a file are gathered until all are there.
fn staged(path: &Path, token: u64) -> Result<PathBuf, Errno> {
    let path = real(path)?;
    let (Some(folder), Some(_)) = (path.parent(), path.file_name()) else { return Err(Errno::ISDIR) };
    Ok(folder.join(format!(".{token:016x}.perch")))
}

fn stage(path: &str, token: u64, bytes: &[u8]) -> Outcome {
    let temp = staged(Path::new(path), token)?;
    if let Some(folder) = temp.parent() {
        fs::create_dir_all(folder).map_err(|error| errno(&error))?;
    }
    let file = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(temp);
    done(file.and_then(|mut file| file.write_all(bytes)))
}

/// Readers see the old file or the new one.
fn write(path: &str, token: Option<u64>, bytes: &[u8], create: bool, overwrite: bool) -> Outcome {
    let path = real(Path::new(path))?;
    let mode = match fs::metadata(&path) {
        Ok(meta) if meta.is_dir() => return Err(Errno::ISDIR),
        Ok(meta) if !meta.is_file() => return Err(Errno::INVAL),
        Ok(_) if !overwrite => return Err(Errno::EXIST),
        Ok(meta) => meta.permissions().mode() & 0o777,
        Err(error) if error.kind() == io::ErrorKind::NotFound && create => 0o644,
        Err(error) => return Err(errno(&error)),
    };
    let token = token.unwrap_or_else(rand::random);
    let temp = staged(&path, token)?;
    let written = stage(path.to_str().ok_or(Errno::ILSEQ)?, token, bytes).and_then(|_| {
        fs::set_permissions(&temp, fs::Permissions::from_mode(mode)).map_err(|error| errno(&error))?;
        let flags = if overwrite { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        rustix::fs::renameat_with(CWD, &temp, CWD, &path, flags)
    });
    if let Err(errno) = written {
        let _ = fs::remove_file(&temp);
        return Err(errno);
    }
    Ok(FileAnswer::Done)
}

fn make_folder(path: &str, recursive: bool) -> io::Result<()> {
    if recursive { fs::create_dir_all(path) } else { fs::create_dir(path) }
}

/// Of a link only the link goes.
fn remove(path: &str, recursive: bool) -> io::Result<()> {
    match (fs::symlink_metadata(path)?.is_dir(), recursive) {
        (false, _) => fs::remove_file(path),
        (true, true) => fs::remove_dir_all(path),
        (true, false) => fs::remove_dir(path),
    }
}

fn rename(from: &str, to: &str, overwrite: bool) -> Outcome {
    let flags = if overwrite { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
    rustix::fs::renameat_with(CWD, from, CWD, to, flags)?;
    Ok(FileAnswer::Done)
}

fn copy(from: &str, to: &str, recursive: bool, overwrite: bool) -> Outcome {
    let meta = fs::metadata(from).map_err(|error| errno(&error))?;
    if meta.is_dir() && !recursive {
        return Err(Errno::ISDIR);
    }
    // What is there already is not the place for a copy of something that it lies in.
    let (source, target) = (real(Path::new(from))?, real(Path::new(to))?);
    if meta.is_dir() && target.starts_with(&source) {
        return Err(Errno::INVAL);
    }
    if !overwrite && fs::symlink_metadata(to).is_ok() {
        return Err(Errno::EXIST);
    }
    copy_into(Path::new(from), Path::new(to), 0)?;
    Ok(FileAnswer::Done)
}

fn copy_into(from: &Path, to: &Path, depth: usize) -> Result<(), Errno> {
    let io = |error: io::Error| errno(&error);
    // What was named is followed, links beneath it are copied as such.
    let meta = if depth == 0 { fs::metadata(from) } else { fs::symlink_metadata(from) }.map_err(io)?;
    if meta.is_dir() {
        if depth >= MAX_DEPTH {
            return Err(Errno::NAMETOOLONG);
        }
        match fs::create_dir(to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && to.is_dir() => {}
            made => made.map_err(io)?,
        }
        for entry in fs::read_dir(from).map_err(io)? {
            let entry = entry.map_err(io)?;
            copy_into(&entry.path(), &to.join(entry.file_name()), depth + 1)?;
        }
        return fs::set_permissions(to, meta.permissions()).map_err(io);
    }
    if meta.is_symlink() {
        let _ = rustix::fs::unlinkat(CWD, to, AtFlags::empty());
        return std::os::unix::fs::symlink(fs::read_link(from).map_err(io)?, to).map_err(io);
    }
    if !meta.is_file() {
        return Err(Errno::INVAL);
    }
    fs::copy(from, to).map(|_| ()).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(private: &Path, one: FsCall) -> FileAnswer {
        call(private, one, true)
    }

    fn failed(answer: &FileAnswer) -> Option<i32> {
        if let FileAnswer::Failed(errno) = answer { Some(*errno) } else { None }
    }

    #[test]
    fn calls_answer_as_node_would() {
        let temp = tempfile::tempdir().unwrap();
        let private = temp.path().join("private");
        fs::create_dir(&private).unwrap();
        let at = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
        let write = |name: &str, create, overwrite| {
            let bytes = ByteBuf::from(name.as_bytes());
            failed(&run(&private, FsCall::Write { path: at(name), token: None, bytes, create, overwrite }))
        };
        assert_eq!(write("a", false, true), Some(2));
        assert_eq!(write("deep/a", true, true), None);
        assert_eq!(write("deep/a", true, false), Some(17));
        assert_eq!(write("deep", true, true), Some(21));
        let make =
            |path: &str, recursive| failed(&run(&private, FsCall::MakeFolder { path: at(path), recursive }));
        assert_eq!((make("deep", false), make("deep", true), make("x/y", false)), (Some(17), None, Some(2)));
        let copy = |from: &str, to: &str, recursive, overwrite| {
            failed(&run(&private, FsCall::Copy { from: at(from), to: at(to), recursive, overwrite }))
        };
        assert_eq!(copy("deep", "copy", false, false), Some(21));
        assert_eq!(copy("deep", "deep/in", true, false), Some(22));
        assert_eq!(copy("deep", "copy", true, false), None);
        assert_eq!(copy("deep", "copy", true, false), Some(17));
        assert_eq!(copy("deep", "copy", true, true), None);
        let rename = |from: &str, to: &str, overwrite| {
            failed(&run(&private, FsCall::Rename { from: at(from), to: at(to), overwrite }))
        };
        assert_eq!(rename("copy/a", "deep/a", false), Some(17));
        assert_eq!(rename("copy/a", "deep/a", true), None);
        let remove =
            |path: &str, recursive| failed(&run(&private, FsCall::Remove { path: at(path), recursive }));
        assert_eq!((remove("deep", false), remove("none", true)), (Some(39), Some(2)));
        std::os::unix::fs::symlink(at("deep"), at("link")).unwrap();
        let FileAnswer::Stat(stat) = run(&private, FsCall::Stat(at("link"))) else { panic!("no stat") };
        assert_eq!((stat.kind, stat.target), (FileKind::Symlink, Some(FileKind::Folder)));
        assert_eq!(remove("link", true), None);
        assert!(temp.path().join("deep/a").exists());
        for path in ["/proc/self/environ", "/proc/none"] {
            assert_eq!(failed(&run(&private, FsCall::Stat(path.into()))), Some(13), "{path}");
        }
    }

    #[test]
    fn a_large_file_comes_in_parts() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("f").to_str().unwrap().to_owned();
        for part in [b"ab", b"cd"] {
            let bytes = ByteBuf::from(*part);
            run(temp.path(), FsCall::Stage { path: path.clone(), token: 7, bytes });
        }
        assert!(!Path::new(&path).exists());
        let (token, bytes) = (Some(7), ByteBuf::from(*b"ef"));
        run(temp.path(), FsCall::Write { path: path.clone(), token, bytes, create: true, overwrite: false });
        let read = run(temp.path(), FsCall::Read { path: path.clone(), at: 1, len: 3 });
        assert!(matches!(read, FileAnswer::Part(bytes, 6) if bytes.as_ref() == b"bcd"));
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1, "nothing is left over");
    }
}
