//! Packing a branch's files as tar: no link is followed, whoever puts one there meanwhile.

use super::tree::{Found, open_beneath, open_root, walk};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Files up to this length are read whole, so that one that grows or shrinks meanwhile is as long as its header says.
/// A larger one that shrinks is filled up with zeros.
const READ_WHOLE: u64 = 16 * 1024 * 1024;

/// A file as it was read.
#[derive(Debug)]
pub struct Packed {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its permission bits.
    mode: u32,
    /// Seconds since 1970.
    modified_s: u64,
}

/// Reads the regular file at `path` beneath `root`, at most `max_bytes` of it; `None` when there is none.
///
/// # Errors
/// What the disk says.
pub fn read_beneath(root: &Path, path: &Path, max_bytes: u64) -> io::Result<Option<Packed>> {
    let root = match open_root(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        root => root?,
    };
    let Some((file, about)) = open(&root, path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(max_bytes).read_to_end(&mut bytes)?;
    Ok(Some(Packed { bytes, mode: about.mode() & 0o777, modified_s: seconds(about.mtime()) }))
}

/// An empty file that is not there yet.
impl Default for Packed {
    fn default() -> Self {
        Self { bytes: Vec::new(), mode: 0o644, modified_s: 0 }
    }
}

fn open(root: &OwnedFd, path: &Path) -> io::Result<Option<(File, std::fs::Metadata)>> {
    let file = match open_beneath(root, path, OFlags::RDONLY) {
        Ok(file) => File::from(file),
        // Gone, or no file any more.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let about = file.metadata()?;
    Ok(about.is_file().then_some((file, about)))
}

fn seconds(at: i64) -> u64 {
    u64::try_from(at).unwrap_or(0)
}

/// A tar that is being written.
pub struct Packer<W: Write> {
    tar: tar::Builder<W>,
    files: u64,
    bytes: u64,
}

impl<W: Write> Packer<W> {
    /// Begins one.
    pub fn new(to: W) -> Self {
        Self { tar: tar::Builder::new(to), files: 0, bytes: 0 }
    }

    /// Files so far.
    pub fn files(&self) -> u64 {
        self.files
    }

    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds all in `from` beneath `prefix`: files with modes and times, links as links, nothing of devices, pipes and
    /// sockets, nothing that `skip` names (by its path from `from`).
    ///
    /// git adds objects before it names them, and packs before it removes what is in them: so objects are read after
    /// all that may name them, and packs last, and a repository in use is whole in the archive.
    ///
    /// # Errors
    /// Names the path.
    pub fn folder(&mut self, from: &Path, prefix: &Path, skip: &dyn Fn(&Path) -> bool) -> io::Result<()> {
        let named = |path: &Path, error: io::Error| {
            io::Error::new(error.kind(), format!("can't read `{}`: {error}", from.join(path).display()))
        };
        let root = open_root(from).map_err(|error| named(Path::new(""), error))?;
        let (mut folders, mut links, mut files) = (Vec::new(), Vec::new(), Vec::new());
        let visit = |found: &Found<'_>| {
            if skip(found.path) {
                return Ok(false);
            }
            match found.kind() {
                FileType::Directory => folders.push((found.path.to_owned(), found.stat.st_mode & 0o777)),
                FileType::RegularFile => files.push(found.path.to_owned()),
                FileType::Symlink => links.extend(link(found)?),
                _ => {}
            }
            Ok(true)
        };
        walk(&root, visit, named)?;
        for (path, mode) in &folders {
            // What is in it comes later.
            self.entry(tar::EntryType::Directory, &prefix.join(path), mode | 0o700, 0, &[])?;
        }
        for (path, target) in links {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            header.set_mode(0o777);
            self.tar.append_link(&mut header, prefix.join(path), target)?;
        }
        files.sort_by_cached_key(|path| late(path));
        for path in files {
            self.file(&root, &path, &prefix.join(&path)).map_err(|error| named(&path, error))?;
        }
        for (path, mode) in folders.iter().filter(|(_, mode)| mode & 0o700 != 0o700) {
            self.entry(tar::EntryType::Directory, &prefix.join(path), *mode, 0, &[])?;
        }
        Ok(())
    }

    fn file(&mut self, root: &OwnedFd, path: &Path, to: &Path) -> io::Result<()> {
        let Some((file, about)) = open(root, path)? else { return Ok(()) };
        let len = about.len();
        if len <= READ_WHOLE {
            let mut bytes = Vec::new();
            file.take(READ_WHOLE).read_to_end(&mut bytes)?;
            let packed = Packed { bytes, mode: about.mode() & 0o777, modified_s: seconds(about.mtime()) };
            return self.packed(to, &packed);
        }
        let mut header = header(tar::EntryType::Regular, about.mode() & 0o777, seconds(about.mtime()), len);
        self.tar.append_data(&mut header, to, file.chain(io::repeat(0)).take(len))?;
        (self.files, self.bytes) = (self.files + 1, self.bytes + len);
        Ok(())
    }

    /// Adds a file that was read before.
    ///
    /// # Errors
    /// What the disk says.
    pub fn packed(&mut self, path: &Path, file: &Packed) -> io::Result<()> {
        self.entry(tar::EntryType::Regular, path, file.mode, file.modified_s, &file.bytes)
    }

    /// Adds a file that only its owner may read.
    ///
    /// # Errors
    /// What the disk says.
    pub fn secret(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.entry(tar::EntryType::Regular, Path::new(path), 0o600, 0, bytes)
    }

    /// Adds a large file that only its owner may read and that nobody changes.
    ///
    /// # Errors
    /// What the disk says.
    pub fn secret_file(&mut self, path: &str, file: &mut File) -> io::Result<()> {
        let mut header = header(tar::EntryType::Regular, 0o600, 0, file.metadata()?.len());
        self.tar.append_data(&mut header, path, file)
    }

    fn entry(
        &mut self,
        kind: tar::EntryType,
        path: &Path,
        mode: u32,
        modified_s: u64,
        bytes: &[u8],
    ) -> io::Result<()> {
        if kind.is_file() {
            (self.files, self.bytes) = (self.files + 1, self.bytes + bytes.len() as u64);
        }
        self.tar.append_data(&mut header(kind, mode, modified_s, bytes.len() as u64), path, bytes)
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// What the disk says.
    pub fn finish(self) -> io::Result<W> {
        self.tar.into_inner()
    }
}

fn header(kind: tar::EntryType, mode: u32, modified_s: u64, len: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(modified_s);
    header.set_size(len);
    header
}

/// What is read late: objects of git, and among them packs.
fn late(path: &Path) -> u8 {
    let parts: Vec<&OsStr> = path.iter().collect();
    match parts.iter().position(|part| *part == "objects") {
        Some(at) if parts.get(at + 1).is_some_and(|part| *part == "pack") => 2,
        Some(_) => 1,
        None => 0,
    }
}

fn link(found: &Found<'_>) -> io::Result<Option<(PathBuf, PathBuf)>> {
    let Some(name) = found.path.file_name() else { return Ok(None) };
    match rustix::fs::readlinkat(found.folder, name, Vec::new()) {
        Ok(target) => Ok(Some((found.path.to_owned(), OsStr::from_bytes(target.as_bytes()).into()))),
        Err(Errno::NOENT | Errno::INVAL) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn what_is_packed_comes_out_the_same_and_no_link_is_followed() {
        let base = tempfile::tempdir().unwrap();
        let from = base.path().join("from");
        fs::create_dir_all(from.join("src/deep")).unwrap();
        fs::create_dir_all(from.join(".git/objects/pack")).unwrap();
        fs::create_dir_all(from.join("left")).unwrap();
        fs::write(base.path().join("secret"), "secret").unwrap();
        fs::write(from.join("left/out"), "x").unwrap();
        fs::write(from.join("src/deep/run"), "#!/bin/sh").unwrap();
        fs::set_permissions(from.join("src/deep/run"), fs::Permissions::from_mode(0o750)).unwrap();
        fs::set_permissions(from.join("src/deep"), fs::Permissions::from_mode(0o500)).unwrap();
        fs::write(from.join(".git/objects/pack/p"), "pack").unwrap();
        fs::write(from.join(".git/HEAD"), "head").unwrap();
        fs::write(from.join("x".repeat(200)), "long").unwrap();
        fs::write(from.join("large"), vec![7; usize::try_from(READ_WHOLE).unwrap() + 9]).unwrap();
        symlink("../secret", from.join("out")).unwrap();
        symlink("/etc/passwd", from.join("away")).unwrap();
        let mut packer = Packer::new(Vec::new());
        packer.folder(&from, Path::new("b"), &|path| path == Path::new("left")).unwrap();
        assert_eq!(packer.files(), 5);
        let tar = packer.finish().unwrap();
        let order: Vec<_> = tar::Archive::new(&tar[..])
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().into_owned())
            .collect();
        let at = |path: &str| order.iter().position(|found| found == Path::new(path)).unwrap();
        assert!(at("b/.git/HEAD") < at("b/.git/objects/pack/p"));
        let to = base.path().join("to");
        fs::create_dir(&to).unwrap();
        tar::Archive::new(&tar[..]).unpack(&to).unwrap();
        let to = to.join("b");
        assert_eq!(fs::read(to.join("src/deep/run")).unwrap(), b"#!/bin/sh");
        assert_eq!(fs::metadata(to.join("src/deep/run")).unwrap().mode() & 0o777, 0o750);
        assert_eq!(fs::metadata(to.join("src/deep")).unwrap().mode() & 0o777, 0o500);
        assert_eq!(fs::read(to.join("x".repeat(200))).unwrap(), b"long");
        assert_eq!(fs::read(to.join("large")).unwrap(), fs::read(from.join("large")).unwrap());
        assert_eq!(fs::read_link(to.join("out")).unwrap(), Path::new("../secret"));
        assert_eq!(fs::read_link(to.join("away")).unwrap(), Path::new("/etc/passwd"));
        assert!(!to.join("left").exists());
        assert!(read_beneath(&from, Path::new("out"), 10).unwrap().is_none());
        assert_eq!(read_beneath(&from, Path::new(".git/HEAD"), 10).unwrap().unwrap().bytes, b"head");
        fs::set_permissions(from.join("src/deep"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(to.join("src/deep"), fs::Permissions::from_mode(0o700)).unwrap();
    }
}
