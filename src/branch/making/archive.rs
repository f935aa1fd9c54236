//! Unpacking tar and zip: nothing leaves the folder, all is bounded.
//!
//! The folder is fresh and nobody else's. Links are made after all files, so nothing is written through one; a link's
//! target may go up (`..`) only at its start and no further than the folder, so that following it, also through other
//! links of the archive, stays inside.

use super::{MAX_ENTRIES, Making, Phase};
use flate2::read::MultiGzDecoder;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

/// An archive may grow to this many times its size, once it has grown past [`RATIO_FROM`].
const MAX_RATIO: u64 = 200;
/// Bytes up to which the ratio does not matter.
const RATIO_FROM: u64 = 16 * 1024 * 1024;
/// Bytes of a name, a link's target, or an extension header.
const MAX_NAME: u64 = 64 * 1024;
/// Links in one archive; they are held in memory.
const MAX_LINKS: usize = 100_000;

/// What an uploaded archive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// tar.
    Tar,
    /// tar in gzip.
    TarGz,
    /// zip.
    Zip,
}

struct Unpacking<'a> {
    to: &'a Path,
    making: &'a Making,
    packed_bytes: u64,
    /// Path and target.
    links: Vec<(PathBuf, PathBuf)>,
    last_folder: PathBuf,
}

/// Unpacks an archive into `to`, which is made.
///
/// # Errors
/// Says which entry is refused, and why.
pub(in crate::branch) fn unpack(
    archive: &Path,
    format: ArchiveFormat,
    to: &Path,
    making: &Making,
) -> Result<(), String> {
    making.at(Phase::Unpacking, None);
    let damaged = |error: io::Error| format!("the archive can't be read: {error}");
    let file = File::open(archive).map_err(damaged)?;
    let packed_bytes = file.metadata().map_err(damaged)?.len();
    fs::create_dir(to).map_err(|error| error.to_string())?;
    let mut unpacking =
        Unpacking { to, making, packed_bytes, links: Vec::new(), last_folder: PathBuf::new() };
    match format {
        ArchiveFormat::Tar => unpacking.tar(BufReader::new(file))?,
        ArchiveFormat::TarGz => unpacking.tar(MultiGzDecoder::new(BufReader::new(file)))?,
        ArchiveFormat::Zip => unpacking.zip(BufReader::new(file))?,
    }
    unpacking.make_links()
}

impl Unpacking<'_> {
    fn tar(&mut self, source: impl Read) -> Result<(), String> {
        let damaged = |error: io::Error| format!("the archive can't be read: {error}");
        let mut archive = tar::Archive::new(source);
        // Raw: extension headers come as entries, so that their size can be bounded.
        let entries = archive.entries().map_err(damaged)?.raw(true);
        let (mut long_name, mut long_link) = (None, None);
        let mut headers = 0;
        for entry in entries {
            let mut entry = entry.map_err(damaged)?;
            headers += 1;
            if headers > 4 * MAX_ENTRIES {
                return Err("the archive has too many headers".into());
            }
            let kind = entry.header().entry_type();
            if kind.is_pax_global_extensions() {
                bounded(&mut entry)?;
                continue;
            }
            if kind.is_gnu_longname() || kind.is_gnu_longlink() {
                let mut text = bounded(&mut entry)?;
                text.truncate(text.iter().position(|byte| *byte == 0).unwrap_or(text.len()));
                *(if kind.is_gnu_longname() { &mut long_name } else { &mut long_link }) = Some(text);
                continue;
            }
            if kind.is_pax_local_extensions() {
                for pair in pax(&bounded(&mut entry)?) {
                    match pair {
                        (key, value) if key == b"path" => long_name = Some(value),
                        (key, value) if key == b"linkpath" => long_link = Some(value),
                        (key, _) if key == b"size" || key.starts_with(b"GNU.sparse") => {
                            return Err("the archive holds sparse files, or one of more than 8 GiB".into());
                        }
                        _ => {}
                    }
                }
                continue;
            }
            let name = long_name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
            let link = long_link
                .take()
                .or_else(|| entry.link_name_bytes().map(std::borrow::Cow::into_owned))
                .unwrap_or_default();
            let path = inside(&name)?;
            let mode = entry.header().mode().unwrap_or(0o644);
            let modified = entry.header().mtime().ok();
            if kind.is_dir() {
                self.folder(&path)?;
            } else if kind.is_file() || kind.is_contiguous() {
                self.file(&path, mode, modified, &mut entry)?;
            } else if kind.is_symlink() {
                self.link(path, &link)?;
            } else if kind.is_hard_link() {
                // A copy: two names of one file would not stay one.
                let source = self.to.join(inside(&link)?);
                let is_file = fs::symlink_metadata(&source).is_ok_and(|about| about.is_file());
                if !is_file {
                    return Err(format!("`{}` is a hard link to no file of the archive", path.display()));
                }
                let mut source = File::open(&source).map_err(|error| error.to_string())?;
                self.file(&path, mode, modified, &mut source)?;
            } else {
                return Err(format!(
                    "`{}` is no file, folder or link, but a device, pipe or the like",
                    path.display()
                ));
            }
        }
        Ok(())
    }

    fn zip(&mut self, source: BufReader<File>) -> Result<(), String> {
        let damaged = |error: zip::result::ZipError| format!("the archive can't be read: {error}");
        let bodies = BufReader::new(reopen(source.get_ref()).map_err(|error| error.to_string())?);
        let mut archive = zip::unstable::read::ZipIterable::try_new(source, zip::read::Config::default())
            .map_err(damaged)?
            .enforce_header_consistency(true);
        if archive.len() as u64 > MAX_ENTRIES {
            return Err(format!("it has more than {MAX_ENTRIES} files, folders and links"));
        }
        let mut files = archive.files_with_reader(bodies, zip::ZipReadOptions::default()).map_err(damaged)?;
        while let Some(entry) = files.next() {
            let mut entry = entry.map_err(damaged)?;
            let path = inside(entry.name_raw())?;
            if entry.name_raw().contains(&b'\\') {
                return Err(format!("`{}` is named with backslashes", path.display()));
            }
            let mode = entry.unix_mode().unwrap_or(0o644);
            match mode & 0o170_000 {
                _ if entry.is_dir() => self.folder(&path)?,
                0o120_000 => {
                    let target = bounded(&mut entry)?;
                    self.link(path, &target)?;
                }
                0 | 0o100_000 => self.file(&path, mode, None, &mut entry)?,
                _ => {
                    return Err(format!(
                        "`{}` is no file, folder or link, but a device, pipe or the like",
                        path.display()
                    ));
                }
            }
        }
        Ok(())
    }

    fn folder(&mut self, path: &Path) -> Result<(), String> {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        self.making.take(0)?;
        self.make_folder(path)
    }

    /// Makes a folder and those above it, each of them counted as well.
    fn make_folder(&mut self, path: &Path) -> Result<(), String> {
        if path == self.last_folder {
            return Ok(());
        }
        let mut so_far = PathBuf::new();
        for part in path.components() {
            so_far.push(part);
            match fs::create_dir(self.to.join(&so_far)) {
                Ok(()) => self.making.take(0)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    // No link is there yet: only a file can be in the way.
                    let is_folder =
                        fs::symlink_metadata(self.to.join(&so_far)).is_ok_and(|about| about.is_dir());
                    if !is_folder {
                        return Err(format!("`{}` is a file and a folder", so_far.display()));
                    }
                }
                Err(error) => return Err(format!("can't make `{}`: {error}", so_far.display())),
            }
        }
        path.clone_into(&mut self.last_folder);
        Ok(())
    }

    fn file(
        &mut self,
        path: &Path,
        mode: u32,
        modified_s: Option<u64>,
        source: &mut impl Read,
    ) -> Result<(), String> {
        self.making.take(0)?;
        if let Some(folder) = path.parent() {
            self.make_folder(folder)?;
        }
        let failed = |error: io::Error| format!("can't unpack `{}`: {error}", path.display());
        let mut options = OpenOptions::new();
        let mode = (mode & 0o777) | 0o600;
        let place = self.to.join(path);
        // A later entry of the same name counts, as with tar itself.
        let is_there = fs::symlink_metadata(&place).is_ok_and(|about| about.is_file());
        if is_there {
            fs::remove_file(&place).map_err(failed)?;
        }
        let mut file = options.write(true).create_new(true).mode(mode).open(&place).map_err(failed)?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            };
            self.making.take_bytes(read as u64)?;
            let bytes = self.making.bytes();
            if bytes > RATIO_FROM && bytes / MAX_RATIO > self.packed_bytes {
                return Err(format!("the archive grows to more than {MAX_RATIO} times its size"));
            }
            if self.making.cancel.is_cancelled() {
                return Err("it was stopped".into());
            }
            file.write_all(&buffer[..read]).map_err(failed)?;
        }
        let modified = modified_s.and_then(|s| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(s)));
        if let Some(modified) = modified {
            // A time that the file system does not know is no reason to fail.
            let _ = file.set_modified(modified);
        }
        Ok(())
    }

    fn link(&mut self, path: PathBuf, target: &[u8]) -> Result<(), String> {
        self.making.take(0)?;
        if self.links.len() >= MAX_LINKS {
            return Err(format!("it has more than {MAX_LINKS} links"));
        }
        let target = Path::new(OsStr::from_bytes(target));
        let depth = path.components().count().saturating_sub(1);
        if path.as_os_str().is_empty() || !stays_inside(target, depth) {
            return Err(format!("`{}` links to `{}`, outside of it", path.display(), target.display()));
        }
        self.links.push((path, target.to_owned()));
        Ok(())
    }

    fn make_links(&mut self) -> Result<(), String> {
        let links = std::mem::take(&mut self.links);
        // First all folders: made later, one could come to lie behind a link.
        for (path, _) in &links {
            if let Some(folder) = path.parent() {
                self.make_folder(folder)?;
            }
        }
        for (path, target) in links {
            std::os::unix::fs::symlink(&target, self.to.join(&path))
                .map_err(|error| format!("can't make the link `{}`: {error}", path.display()))?;
        }
        Ok(())
    }
}

/// The same file with a position of its own.
fn reopen(file: &File) -> io::Result<File> {
    use std::os::fd::AsRawFd;
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Reads a small entry whole.
fn bounded(source: &mut impl Read) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    source
        .take(MAX_NAME + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("the archive can't be read: {error}"))?;
    if bytes.len() as u64 > MAX_NAME {
        return Err(format!("a name or header of the archive has more than {MAX_NAME} bytes"));
    }
    Ok(bytes)
}

/// The `length key=value\n` records of a pax header.
fn pax(mut bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut pairs = Vec::new();
    while let Some(space) = bytes.iter().position(|byte| *byte == b' ') {
        let length = std::str::from_utf8(&bytes[..space]).ok().and_then(|text| text.parse::<usize>().ok());
        let Some(length) = length.filter(|length| (space + 2..=bytes.len()).contains(length)) else { break };
        let record = &bytes[space + 1..length - 1];
        if let Some(equals) = record.iter().position(|byte| *byte == b'=') {
            pairs.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
        }
        bytes = &bytes[length..];
    }
    pairs
}

/// An entry's path, if it is one that stays inside: relative, no `..`, no NUL.
fn inside(name: &[u8]) -> Result<PathBuf, String> {
    let shown =
        || String::from_utf8_lossy(name).chars().filter(|c| !c.is_control()).take(200).collect::<String>();
    let refused = |why: &str| Err(format!("the entry `{}` {why}", shown()));
    if name.contains(&0) {
        return refused("holds a NUL");
    }
    let mut path = PathBuf::new();
    for part in Path::new(OsStr::from_bytes(name)).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir => return refused("leads out by `..`"),
            Component::RootDir | Component::Prefix(_) => return refused("is absolute"),
        }
    }
    Ok(path)
}

/// Whether a link `depth` folders deep to `target` stays inside, whatever other such links lie on the way.
fn stays_inside(target: &Path, depth: usize) -> bool {
    let (mut ups, mut is_down) = (0, false);
    for part in target.components() {
        match part {
            Component::ParentDir if is_down => return false,
            Component::ParentDir => ups += 1,
            Component::Normal(_) => is_down = true,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    ups <= depth && !target.as_os_str().is_empty() && !target.as_os_str().as_bytes().contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::os::unix::fs::PermissionsExt;
    use tar::{Builder, EntryType, Header};
    use tokio_util::sync::CancellationToken;

    const ROOM: u64 = 1 << 30;

    /// An entry whose name and target are written as given, which the library would refuse.
    fn entry(archive: &mut Builder<impl Write>, kind: EntryType, name: &str, target: &str, bytes: &[u8]) {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_mtime(1_000_000_000);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        archive.append(&header, bytes).unwrap();
    }

    fn tar_of(entries: &[(EntryType, &str, &str, &[u8])]) -> Vec<u8> {
        let mut archive = Builder::new(Vec::new());
        for (kind, name, target, bytes) in entries {
            entry(&mut archive, *kind, name, target, bytes);
        }
        archive.into_inner().unwrap()
    }

    type Entries<'a> = Vec<(EntryType, &'a str, &'a str, &'a [u8])>;

    struct Place {
        base: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            Self { base: tempfile::tempdir().unwrap() }
        }

        fn to(&self) -> PathBuf {
            self.base.path().join("branch/workspace")
        }

        fn unpack(&self, bytes: &[u8], format: ArchiveFormat, room: u64) -> Result<(), String> {
            fs::create_dir_all(self.base.path().join("branch")).unwrap();
            let archive = self.base.path().join("branch/upload");
            fs::write(&archive, bytes).unwrap();
            let making = Making::new(room, CancellationToken::new());
            unpack(&archive, format, &self.to(), &making)
        }

        /// Everything outside of the folder that was unpacked into.
        fn outside(&self) -> Vec<PathBuf> {
            let mut found = Vec::new();
            let mut folders = vec![self.base.path().to_owned()];
            while let Some(folder) = folders.pop() {
                for entry in fs::read_dir(&folder).unwrap() {
                    let path = entry.unwrap().path();
                    if path == self.to() {
                        continue;
                    }
                    if path.is_dir() {
                        folders.push(path.clone());
                    }
                    found.push(path);
                }
            }
            found.sort();
            found
        }
    }

    const FILE: EntryType = EntryType::Regular;
    const LINK: EntryType = EntryType::Symlink;

    #[test]
    fn a_plain_archive_is_unpacked_in_each_format() {
        let long = format!("{}/{}", "d".repeat(90), "f".repeat(90));
        let entries: Entries<'_> = vec![
            (
                EntryType::XGlobalHeader,
                "pax_global_header",
                "",
                b"52 comment=0123456789012345678901234567890123456789\n",
            ),
            (EntryType::Directory, "./src/", "", b""),
            (FILE, "src/run.sh", "", b"#!/bin/sh\n"),
            (FILE, "deep/er/file", "", b"one"),
            (FILE, "deep/er/file", "", b"two"),
            (LINK, "src/up", "../deep/er", b""),
            (LINK, "loop", "loop", b""),
            (EntryType::Link, "copy", "src/run.sh", b""),
        ];
        let mut builder = Builder::new(Vec::new());
        for (kind, name, target, bytes) in &entries {
            entry(&mut builder, *kind, name, target, bytes);
        }
        // A long name as GNU and as pax write it.
        let mut header = Header::new_gnu();
        header.set_size(4);
        header.set_mode(0o644);
        builder.append_data(&mut header, &long, &b"long"[..]).unwrap();
        builder.append_pax_extensions([("path", "päx/name".as_bytes())]).unwrap();
        entry(&mut builder, FILE, "short", "", b"pax");
        let tar = builder.into_inner().unwrap();
        let mut gz = GzEncoder::new(Vec::new(), Compression::default());
        gz.write_all(&tar).unwrap();
        for (bytes, format) in [(tar, ArchiveFormat::Tar), (gz.finish().unwrap(), ArchiveFormat::TarGz)] {
            let place = Place::new();
            place.unpack(&bytes, format, ROOM).unwrap();
            let read = |path: &str| fs::read_to_string(place.to().join(path)).unwrap();
            assert_eq!(read("deep/er/file"), "two", "a later entry of the same name counts");
            assert_eq!(read("src/up/file"), "two");
            assert_eq!(read("copy"), "#!/bin/sh\n");
            assert_eq!(read(&long), "long");
            assert_eq!(read("päx/name"), "pax");
            let about = fs::metadata(place.to().join("src/run.sh")).unwrap();
            assert_eq!(about.permissions().mode() & 0o7777, 0o755);
            let at = about.modified().unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            assert_eq!(at.as_secs(), 1_000_000_000);
            assert_eq!(fs::read_link(place.to().join("loop")).unwrap(), Path::new("loop"));
        }
        let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default();
        zip.add_directory("src/", options).unwrap();
        zip.start_file("src/run.sh", options.unix_permissions(0o755)).unwrap();
        zip.write_all(b"#!/bin/sh\n").unwrap();
        zip.start_file("a/b/c", options).unwrap();
        zip.write_all(b"c").unwrap();
        zip.add_symlink("src/link", "../a/b/c", options).unwrap();
        let place = Place::new();
        place.unpack(&zip.finish().unwrap().into_inner(), ArchiveFormat::Zip, ROOM).unwrap();
        assert_eq!(fs::read_to_string(place.to().join("src/link")).unwrap(), "c");
        let mode = fs::metadata(place.to().join("src/run.sh")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
    }

    #[test]
    fn what_would_leave_the_folder_is_refused() {
        let cases: Vec<(&str, Entries<'_>)> = vec![
            ("leads out", vec![(FILE, "../evil", "", b"x")]),
            ("leads out", vec![(FILE, "a/../../../evil", "", b"x")]),
            ("is absolute", vec![(FILE, "/tmp/perch-evil", "", b"x")]),
            ("is absolute", vec![(EntryType::Directory, "/tmp/perch-evil", "", b"")]),
            ("outside of it", vec![(LINK, "a", "/etc", b"")]),
            ("outside of it", vec![(LINK, "a", "..", b"")]),
            ("outside of it", vec![(LINK, "d/a", "../..", b"")]),
            // Lexically inside, but out once `deep` leads somewhere flatter.
            (
                "outside of it",
                vec![(LINK, "d/e/deep", "../..", b""), (LINK, "m", "d/e/deep/../../evil", b"")],
            ),
            ("can't make the link", vec![(LINK, "d", "e", b""), (FILE, "d/evil", "", b"x")]),
            ("can't make the link", vec![(LINK, "d", "e", b""), (LINK, "d/a", "..", b"")]),
            ("hard link to no file", vec![(EntryType::Link, "a", "b", b"")]),
            ("leads out", vec![(EntryType::Link, "a", "../../../etc/passwd", b"")]),
            ("hard link to no file", vec![(LINK, "l", "x", b""), (EntryType::Link, "a", "l", b"")]),
            ("a device, pipe", vec![(EntryType::Fifo, "a", "", b"")]),
            ("a device, pipe", vec![(EntryType::Char, "a", "", b"")]),
            ("a device, pipe", vec![(EntryType::Block, "a", "", b"")]),
            ("a file and a folder", vec![(FILE, "a", "", b"x"), (FILE, "a/b", "", b"x")]),
            ("sparse", vec![(EntryType::XHeader, "a", "", b"22 GNU.sparse.major=1\n")]),
        ];
        for (reason, entries) in cases {
            let place = Place::new();
            let refused = place.unpack(&tar_of(&entries), ArchiveFormat::Tar, ROOM).expect_err(reason);
            assert!(refused.contains(reason), "{refused}: {reason}");
            let known = [place.base.path().join("branch"), place.base.path().join("branch/upload")];
            assert_eq!(place.outside(), known, "{reason}");
        }
        assert!(!Path::new("/tmp/perch-evil").exists());
        for name in ["../evil", "/tmp/perch-evil", "a/../../evil"] {
            let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
            zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(b"x").unwrap();
            let place = Place::new();
            let bytes = zip.finish().unwrap().into_inner();
            place.unpack(&bytes, ArchiveFormat::Zip, ROOM).expect_err(name);
            assert_eq!(place.outside().len(), 2, "{name}");
        }
        let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        zip.add_symlink("a", "../../evil", zip::write::SimpleFileOptions::default()).unwrap();
        let bytes = zip.finish().unwrap().into_inner();
        assert!(Place::new().unpack(&bytes, ArchiveFormat::Zip, ROOM).unwrap_err().contains("outside of it"));
    }

    #[test]
    fn bombs_end_early() {
        let mut gz = GzEncoder::new(Vec::new(), Compression::default());
        let size = 20 * 1024 * 1024;
        let mut header = Header::new_gnu();
        header.set_path("zeros").unwrap();
        header.set_size(size);
        header.set_cksum();
        gz.write_all(header.as_bytes()).unwrap();
        io::copy(&mut io::repeat(0).take(size), &mut gz).unwrap();
        let bomb = gz.finish().unwrap();
        let place = Place::new();
        let refused = place.unpack(&bomb, ArchiveFormat::TarGz, ROOM).unwrap_err();
        assert!(refused.contains("times its size"), "{refused}");
        let written = fs::metadata(place.to().join("zeros")).unwrap().len();
        assert!(written < RATIO_FROM + 1024 * 1024, "{written}");

        let refused = Place::new().unpack(&bomb, ArchiveFormat::TarGz, 1_000_000).unwrap_err();
        assert!(refused.contains("--max-branch-bytes"), "{refused}");

        // An extension header that would be read into memory.
        let mut gz = GzEncoder::new(Vec::new(), Compression::default());
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(size);
        header.set_cksum();
        gz.write_all(header.as_bytes()).unwrap();
        io::copy(&mut io::repeat(b'a').take(size), &mut gz).unwrap();
        let refused = Place::new().unpack(&gz.finish().unwrap(), ArchiveFormat::TarGz, ROOM).unwrap_err();
        assert!(refused.contains("a name or header"), "{refused}");

        for garbage in [&b"no archive at all"[..], &[0xff; 4_096][..]] {
            for format in [ArchiveFormat::Tar, ArchiveFormat::TarGz, ArchiveFormat::Zip] {
                assert!(Place::new().unpack(garbage, format, ROOM).is_err(), "{format:?}");
            }
        }
        let stopped = Place::new();
        fs::create_dir_all(stopped.base.path().join("branch")).unwrap();
        let archive = stopped.base.path().join("upload");
        fs::write(&archive, tar_of(&[(FILE, "a", "", b"x")])).unwrap();
        let making = Making::new(ROOM, CancellationToken::new());
        making.cancel().cancel();
        assert!(
            unpack(&archive, ArchiveFormat::Tar, &stopped.to(), &making).unwrap_err().contains("stopped")
        );
    }
}
