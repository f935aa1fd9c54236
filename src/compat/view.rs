//! Files as a session sees them: the branch's files go through the native file API, so that writes are edits; all else,
//! `.git`, the home, `~/.private`, `/tmp`, and what links in the workspace lead out to, goes through the session's agent.

use super::WORKSPACE;
use super::socket::{Fault, errno};
use crate::agent::{Agent, FileAnswer, FileKind, FileOp, FsCall, FsEntry, FsStat, MAX_FILE};
use crate::base::{Permission, SessionId};
use crate::branch::{DocError, FilesError, Hub, Member, WriteGrant};
use crate::http::AppState;
use crate::workspace::{FsError, Kind, RelPath};
use bytes::{Bytes, BytesMut};
use serde_bytes::ByteBuf;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The largest file that is read or written.
pub(super) const MAX_BYTES: usize = 64 * 1024 * 1024;
/// File calls of a branch's agents at once; a session's agent takes no more than 64 of anything.
const CALLS: usize = 16;
/// Entries of a folder.
const MAX_ENTRIES: usize = 100_000;
/// Folders within one another.
const MAX_DEPTH: usize = 128;

/// Turns to call agents.
pub(super) struct Calls(Semaphore);

impl Default for Calls {
    fn default() -> Self {
        Self(Semaphore::new(CALLS))
    }
}

/// See the module's docs; cheap to clone.
#[derive(Clone)]
pub(super) struct View {
    pub(super) app: AppState,
    pub(super) hub: Arc<Hub>,
    pub(super) member: Arc<Member>,
    /// Of the token; the session may have less.
    pub(super) right: Permission,
    pub(super) calls: Arc<Calls>,
}

/// Where something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The workspace itself.
    Root,
    /// Among the branch's files.
    Tree(RelPath),
    /// Elsewhere; absolute.
    Inside(String),
}

/// An entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) is_folder: bool,
    pub(super) is_link: bool,
}

/// What is at a path; links followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) is_folder: bool,
    pub(super) is_link: bool,
    pub(super) len_bytes: u64,
    pub(super) modified_at_ms: i64,
    pub(super) changed_at_ms: i64,
    pub(super) accessed_at_ms: i64,
    pub(super) mode: u32,
}

impl Place {
    /// The place of a path as clients write it: absolute, or relative to the workspace.
    ///
    /// # Errors
    /// `EINVAL`.
    pub(super) fn of(path: &str) -> Result<Self, Fault> {
        if path.is_empty() || path.len() > 4_096 || path.contains('\0') {
            return Err(Fault::fs(errno::EINVAL, "a path has 1 to 4,096 bytes and no NUL"));
        }
        let joined = if path.starts_with('/') { path.to_owned() } else { format!("{WORKSPACE}/{path}") };
        let mut parts: Vec<&str> = Vec::new();
        for part in joined.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        let absolute = format!("/{}", parts.join("/"));
        Ok(match absolute.strip_prefix(WORKSPACE) {
            Some("") => Self::Root,
            Some(rest) if rest.starts_with('/') => match rest[1..].parse() {
                Ok(path) => Self::Tree(path),
                // `.git`, and names that the file API does not take.
                Err(_) => Self::Inside(absolute),
            },
            _ => Self::Inside(absolute),
        })
    }

    /// As shells write it.
    pub(super) fn absolute(&self) -> String {
        match self {
            Self::Root => WORKSPACE.to_owned(),
            Self::Tree(path) => format!("{WORKSPACE}/{path}"),
            Self::Inside(path) => path.clone(),
        }
    }

    /// Something in this folder.
    pub(super) fn join(&self, name: &str) -> Result<Self, Fault> {
        Self::of(&format!("{}/{name}", self.absolute()))
    }

    /// The last part of it.
    pub(super) fn name(&self) -> String {
        let absolute = self.absolute();
        absolute.rsplit('/').next().unwrap_or_default().to_owned()
    }
}

/// Whether a link in the workspace leads out of it: the agent follows it as the session's shells do.
fn leads_out(error: &FilesError) -> bool {
    matches!(error, FilesError::Document(DocError::Path(_)))
}

/// A failed call of an agent, in Node's words.
fn failed(number: i32, call: &str, path: &str) -> Fault {
    let text = std::io::Error::from_raw_os_error(number).to_string();
    let text = text.split(" (os error").next().unwrap_or_default().to_lowercase();
    Fault::fs(-number, &format!("{text}, {call} '{path}'"))
}

impl From<FsEntry> for Entry {
    fn from(entry: FsEntry) -> Self {
        Self {
            is_folder: entry.target.unwrap_or(entry.kind) == FileKind::Folder,
            is_link: entry.kind == FileKind::Symlink,
            name: entry.name,
        }
    }
}

impl From<FsStat> for Found {
    fn from(stat: FsStat) -> Self {
        Self {
            is_folder: stat.target.unwrap_or(stat.kind) == FileKind::Folder,
            is_link: stat.kind == FileKind::Symlink,
            len_bytes: stat.len_bytes,
            modified_at_ms: stat.modified_at_ms,
            changed_at_ms: stat.changed_at_ms,
            accessed_at_ms: stat.accessed_at_ms,
            mode: stat.mode,
        }
    }
}

/// Runs the first, and where a link leads out of the workspace the second.
macro_rules! or_inside {
    ($outcome:expr, $inside:expr) => {
        match $outcome {
            Err(error) if leads_out(&error) => $inside,
            outcome => Ok(outcome?),
        }
    };
}

impl View {
    fn session(&self) -> &SessionId {
        self.member.session()
    }

    /// The right to change the branch, at this moment.
    fn writer(&self) -> Result<WriteGrant, Fault> {
        self.member.writer(self.right).ok_or_else(Fault::read_only)
    }

    async fn agent(&self) -> Result<Agent, Fault> {
        let row = self.hub.session_now(self.session()).await?;
        let row = row.filter(|row| row.ended_at_ms.is_none()).ok_or_else(Fault::read_only)?;
        Ok(self.app.agents.get(&self.hub, &row, false).await?)
    }

    /// Calls the session's agent.
    async fn call(&self, name: &str, path: &str, call: FsCall) -> Result<FileAnswer, Fault> {
        let agent = self.agent().await?;
        // What is private to the session is not for a token of less right, as in the native API.
        let is_own = self.right >= self.member.standing().permission;
        let _turn = self.calls.0.acquire().await;
        match agent.file(FileOp::Own(call, is_own)).await? {
            FileAnswer::Failed(number) => Err(failed(number, name, path)),
            FileAnswer::Refused(error) => Err(error.into()),
            answer => Ok(answer),
        }
    }

    /// A file's bytes.
    pub(super) async fn read(&self, place: &Place) -> Result<Bytes, Fault> {
        match place {
            Place::Root => Err(Fault::fs(errno::EISDIR, "it is a directory, read")),
            Place::Inside(path) => self.read_inside(path).await,
            Place::Tree(path) => {
                let read = self.hub.read(path, Some(self.session())).await.map_err(FilesError::from);
                or_inside!(read.map(|content| content.bytes), self.read_inside(&place.absolute()).await)
            }
        }
    }

    async fn read_inside(&self, path: &str) -> Result<Bytes, Fault> {
        let mut bytes = BytesMut::new();
        loop {
            let len = u32::try_from(MAX_FILE).unwrap_or(u32::MAX);
            let call = FsCall::Read { path: path.to_owned(), at: bytes.len() as u64, len };
            let FileAnswer::Part(part, all) = self.call("open", path, call).await? else {
                return Err(Fault::internal(&"an agent gave no part"));
            };
            if all > MAX_BYTES as u64 || bytes.len() + part.len() > MAX_BYTES {
                return Err(Fault::fs(errno::EFBIG, "it has more than 64 MiB; read it in a shell"));
            }
            bytes.extend_from_slice(&part);
            // Less than was asked for: its end, or it became shorter meanwhile.
            if part.len() < MAX_FILE {
                return Ok(bytes.freeze());
            }
        }
    }

    /// Writes a file and the folders it lies in; among the branch's files by an edit that is merged with what others did
    /// since this session last saw the file. Durable when it returns.
    pub(super) async fn write(
        &self,
        place: &Place,
        bytes: Bytes,
        create: bool,
        overwrite: bool,
    ) -> Result<(), Fault> {
        let grant = self.writer()?;
        if bytes.len() > MAX_BYTES {
            return Err(Fault::fs(errno::EFBIG, "a file of one request has at most 64 MiB"));
        }
        self.app.branches.take_room(self.hub.branch(), bytes.len() as u64).await?;
        let path = match place {
            Place::Root => return Err(Fault::fs(errno::EISDIR, "it is a directory, write")),
            Place::Inside(path) => return self.write_inside(path, bytes, create, overwrite).await,
            Place::Tree(path) => path,
        };
        if !create && let Err(FilesError::Document(error @ DocError::NotFound(_))) = self.hub.stat(path).await
        {
            return Err(error.into());
        }
        let written = if !overwrite && create {
            self.hub.create(path, &grant, bytes.clone()).await.map(|_| ())
        } else if overwrite {
            self.hub.write(path, &grant, None, bytes.clone()).await.map(|_| ()).map_err(FilesError::from)
        } else {
            Err(FilesError::Exists(path.clone()))
        };
        or_inside!(written, self.write_inside(&place.absolute(), bytes, create, overwrite).await)
    }

    async fn write_inside(
        &self,
        path: &str,
        mut bytes: Bytes,
        create: bool,
        overwrite: bool,
    ) -> Result<(), Fault> {
        let path = || path.to_owned();
        let token = (bytes.len() > MAX_FILE).then(rand::random::<u64>);
        if let Some(token) = token {
            while bytes.len() > MAX_FILE {
                let part = ByteBuf::from(bytes.split_to(MAX_FILE).to_vec());
                let call = FsCall::Stage { path: path(), token, bytes: part };
                if let Err(fault) = self.call("write", &path(), call).await {
                    let _ = self.call("write", &path(), FsCall::Unstage { path: path(), token }).await;
                    return Err(fault);
                }
            }
        }
        let bytes = ByteBuf::from(bytes.to_vec());
        self.call("open", &path(), FsCall::Write { path: path(), token, bytes, create, overwrite }).await?;
        Ok(())
    }

    /// What is in a folder, by name.
    pub(super) async fn list(&self, place: &Place) -> Result<Vec<Entry>, Fault> {
        let folder = match place {
            Place::Inside(path) => return self.list_inside(path).await,
            Place::Root => None,
            Place::Tree(path) => Some(path),
        };
        let listed = self.list_tree(folder).await;
        or_inside!(listed, self.list_inside(&place.absolute()).await)
    }

    async fn list_inside(&self, path: &str) -> Result<Vec<Entry>, Fault> {
        match self.call("scandir", path, FsCall::List(path.to_owned())).await? {
            FileAnswer::Listed(entries) => Ok(entries.into_iter().map(Entry::from).collect()),
            _ => Err(Fault::internal(&"an agent gave no list")),
        }
    }

    async fn list_tree(&self, folder: Option<&RelPath>) -> Result<Vec<Entry>, FilesError> {
        let Some(found) = self.hub.folder(folder, MAX_ENTRIES).await? else {
            let Some(path) = folder else { return Ok(Vec::new()) };
            // A file, or nothing: the error says which.
            self.hub.stat(path).await?;
            return Err(FilesError::NotAFolder(path.clone()));
        };
        let mut entries: Vec<_> = found
            .into_iter()
            .map(|entry| Entry {
                name: entry.path.rsplit('/').next().unwrap_or_default().to_owned(),
                is_folder: entry.target.unwrap_or(entry.kind) == Kind::Folder,
                is_link: entry.kind == Kind::Symlink,
            })
            .collect();
        // The native API has no `.git`; shells have, and so do these calls.
        let workspace = self.hub.workspace();
        let at =
            folder.map_or_else(|| workspace.folder().to_owned(), |at| workspace.folder().join(at.as_str()));
        if let Ok(meta) = tokio::fs::symlink_metadata(at.join(".git")).await {
            let (is_folder, is_link) = (meta.is_dir(), meta.is_symlink());
            entries.push(Entry { name: ".git".into(), is_folder, is_link });
            entries.sort_by(|one, other| one.name.cmp(&other.name));
        }
        Ok(entries)
    }

    /// What is at a path.
    pub(super) async fn stat(&self, place: &Place) -> Result<Found, Fault> {
        let path = match place {
            Place::Inside(path) => return self.stat_inside(path).await,
            Place::Root => return self.stat_root().await,
            Place::Tree(path) => path,
        };
        let found = self.stat_tree(path).await;
        or_inside!(found, self.stat_inside(&place.absolute()).await)
    }

    async fn stat_root(&self) -> Result<Found, Fault> {
        let folder = self.hub.workspace().folder().to_owned();
        let meta = tokio::fs::metadata(folder).await;
        let meta = meta.map_err(|error| Fault::internal(&error))?;
        let at_ms = meta.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let at_ms = at_ms.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
        Ok(Found {
            is_folder: true,
            is_link: false,
            len_bytes: meta.len(),
            modified_at_ms: at_ms,
            changed_at_ms: at_ms,
            accessed_at_ms: at_ms,
            mode: 0o755,
        })
    }

    async fn stat_inside(&self, path: &str) -> Result<Found, Fault> {
        match self.call("stat", path, FsCall::Stat(path.to_owned())).await? {
            FileAnswer::Stat(stat) => Ok(stat.into()),
            _ => Err(Fault::internal(&"an agent gave no stat")),
        }
    }

    async fn stat_tree(&self, path: &RelPath) -> Result<Found, FilesError> {
        let entry = self.hub.stat(path).await?;
        let is_link = entry.kind == Kind::Symlink;
        let real = if is_link { self.hub.workspace().resolve(path).await } else { Ok(path.clone()) };
        let stat = match real {
            Ok(real) => self.hub.workspace().stat(&real).await?,
            // It leads nowhere.
            Err(FsError::Absent(_)) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Found {
            is_folder: entry.target.unwrap_or(entry.kind) == Kind::Folder,
            is_link,
            len_bytes: stat.map_or(entry.len_bytes, |stat| stat.len_bytes),
            modified_at_ms: stat.map_or(entry.modified_at_ms, |stat| stat.modified_at_ms),
            changed_at_ms: entry.modified_at_ms,
            accessed_at_ms: entry.modified_at_ms,
            mode: stat.map_or(0o644, |stat| stat.mode),
        })
    }

    /// Makes a folder; `recursive`: with those it lies in, and it may be there.
    pub(super) async fn make_folder(&self, place: &Place, recursive: bool) -> Result<(), Fault> {
        let grant = self.writer()?;
        let inside = async |path: String| {
            self.call("mkdir", &path, FsCall::MakeFolder { path: path.clone(), recursive }).await.map(drop)
        };
        let path = match place {
            Place::Inside(path) => return inside(path.clone()).await,
            Place::Root if recursive => return Ok(()),
            Place::Root => return Err(Fault::fs(errno::EEXIST, "file already exists, mkdir '.'")),
            Place::Tree(path) => path,
        };
        let made = async {
            if !recursive {
                if let Some(parent) = path.parent() {
                    let above = self.hub.stat(&parent).await?;
                    if above.target.unwrap_or(above.kind) != Kind::Folder {
                        return Err(FilesError::NotAFolder(parent));
                    }
                }
                if self.hub.workspace().look(path).await?.is_some() {
                    return Err(FilesError::Exists(path.clone()));
                }
            }
            let is_new = self.hub.make_folder(path, &grant).await?;
            // Another was faster.
            if is_new || recursive { Ok(()) } else { Err(FilesError::Exists(path.clone())) }
        };
        or_inside!(made.await, inside(place.absolute()).await)
    }

    /// Removes a file, link or folder; documents of what is removed close.
    pub(super) async fn remove(&self, place: &Place, recursive: bool) -> Result<(), Fault> {
        let grant = self.writer()?;
        let inside = async |path: String| {
            self.call("rm", &path, FsCall::Remove { path: path.clone(), recursive }).await.map(drop)
        };
        let path = match place {
            Place::Inside(path) => return inside(path.clone()).await,
            Place::Root => return Err(Fault::fs(errno::EBUSY, "the workspace itself can't be removed")),
            Place::Tree(path) => path,
        };
        let removed = async {
            // What is typed into a file that is not on disk yet is deleted with it.
            let found = match self.hub.stat(path).await {
                Ok(found) => found,
                Err(error) => return Err(error),
            };
            if found.kind == Kind::Folder {
                self.hub.delete_folder(path, recursive, &grant).await
            } else {
                Ok(self.hub.delete(path, &grant).await?)
            }
        };
        or_inside!(removed.await, inside(place.absolute()).await)
    }

    /// Renames; `overwrite`: what is there goes, unless it is a folder with something in it.
    pub(super) async fn rename(&self, from: &Place, to: &Place, overwrite: bool) -> Result<(), Fault> {
        let grant = self.writer()?;
        let inside = async || {
            let (from, to) = (from.absolute(), to.absolute());
            let call = FsCall::Rename { from: from.clone(), to, overwrite };
            self.call("rename", &from, call).await.map(drop)
        };
        let (Place::Tree(source), Place::Tree(target)) = (from, to) else {
            return match (from, to) {
                (Place::Root, _) | (_, Place::Root) => {
                    Err(Fault::fs(errno::EBUSY, "the workspace itself can't be renamed or replaced"))
                }
                _ => inside().await,
            };
        };
        let renamed = async {
            match self.hub.rename(source, target, &grant).await {
                Err(FilesError::Exists(_)) if overwrite => {}
                outcome => return outcome,
            }
            let (one, other) = (self.hub.stat(source).await?, self.hub.stat(target).await?);
            match (one.kind == Kind::Folder, other.kind == Kind::Folder) {
                (false, true) => Err(DocError::NotAFile(target.clone()).into()),
                (true, false) => Err(FilesError::NotAFolder(target.clone())),
                (true, true) => {
                    self.hub.delete_folder(target, false, &grant).await?;
                    self.hub.rename(source, target, &grant).await
                }
                // Who has the file open that is there sees an edit of it, not its end.
                (false, false) => {
                    let content = self.hub.read(source, None).await?;
                    self.hub.write(target, &grant, None, content.bytes).await?;
                    Ok(self.hub.delete(source, &grant).await?)
                }
            }
        };
        or_inside!(renamed.await, inside().await)
    }

    /// Copies a file, or with `recursive` a folder; `overwrite`: into what is there, file by file.
    pub(super) async fn copy(
        &self,
        from: &Place,
        to: &Place,
        recursive: bool,
        overwrite: bool,
    ) -> Result<(), Fault> {
        let grant = self.writer()?;
        if let (Place::Inside(source), Place::Inside(target)) = (from, to) {
            let call = FsCall::Copy { from: source.clone(), to: target.clone(), recursive, overwrite };
            return self.call("cp", source, call).await.map(drop);
        }
        let found = self.stat(from).await?;
        if found.is_folder && !recursive {
            return Err(Fault::fs(errno::EISDIR, "it is a directory and `recursive` was not given, cp"));
        }
        let (source, target) = (from.absolute(), to.absolute());
        if found.is_folder && (target == source || target.starts_with(&format!("{source}/"))) {
            return Err(Fault::fs(errno::EINVAL, "a folder can't be copied into itself, cp"));
        }
        let is_there = match self.stat(to).await {
            Ok(_) => true,
            Err(fault) if fault.errno() == Some(errno::ENOENT) => false,
            Err(fault) => return Err(fault),
        };
        if is_there && !overwrite {
            return Err(Fault::fs(errno::EEXIST, &format!("file already exists, cp '{target}'")));
        }
        if let (Place::Tree(source), Place::Tree(target), false) = (from, to, is_there) {
            let size = self.hub.size(source).await?;
            self.app.branches.take_room(self.hub.branch(), size).await?;
            return Ok(self.hub.copy(source, target, &grant).await?);
        }
        self.copy_each(from, to, found.is_folder).await
    }

    /// Copies what is at a place into what is at another, through this view.
    async fn copy_each(&self, from: &Place, to: &Place, is_folder: bool) -> Result<(), Fault> {
        let mut left = vec![(from.clone(), to.clone(), is_folder, 0)];
        while let Some((from, to, is_folder, depth)) = left.pop() {
            if !is_folder {
                let bytes = self.read(&from).await?;
                self.write(&to, bytes, true, true).await?;
                continue;
            }
            if depth >= MAX_DEPTH {
                return Err(Fault::fs(errno::EINVAL, "the folders are too deep"));
            }
            self.make_folder(&to, true).await?;
            for entry in self.list(&from).await? {
                left.push((from.join(&entry.name)?, to.join(&entry.name)?, entry.is_folder, depth + 1));
            }
            if left.len() > MAX_ENTRIES {
                return Err(Fault::fs(errno::EINVAL, "it holds too many files; copy it in a shell"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_means_the_same_however_it_is_written() {
        let tree = |path: &str| Place::Tree(path.parse().unwrap());
        let inside = |path: &str| Place::Inside(path.into());
        for (path, expected) in [
            ("a.txt", tree("a.txt")),
            ("./a//b/", tree("a/b")),
            ("/project/workspace/a", tree("a")),
            ("a/../b", tree("b")),
            (".", Place::Root),
            ("/project/workspace/", Place::Root),
            ("/project/workspaces", inside("/project/workspaces")),
            ("../x", inside("/project/x")),
            ("/../..", inside("/")),
            ("/tmp/x", inside("/tmp/x")),
            (".git/config", inside("/project/workspace/.git/config")),
            ("~/x", tree("~/x")),
        ] {
            assert_eq!(Place::of(path).unwrap(), expected, "{path}");
        }
        for path in ["", "a\0b", &"x".repeat(5_000)] {
            assert!(Place::of(path).is_err());
        }
    }
}
