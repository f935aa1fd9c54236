//! The file API's side of a branch: what goes beyond reading and writing one file. Open documents and files agree in
//! all of it: what is looked at or copied is first brought to disk, what is deleted closes.

use super::document::{Content, DocError, Document, WriteBase};
use super::edits::{self, EditError, TextEdit};
use super::events::{Event, Own};
use super::hub::{Hub, Known, Slot};
use super::making;
use super::members::WriteGrant;
use super::versions::Version;
use crate::base::SessionId;
use crate::crdt::decode;
use crate::workspace::{
    Entry, FoundLines, FoundPaths, FsError, Kind, Listing, MAX_PAGE, Page, Pattern, RelPath,
};
use bytes::Bytes;
use futures_util::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Documents that are flushed or closed at once.
const AT_ONCE: usize = 32;
/// The longest a search waits for open documents to reach the disk.
const FLUSH_WITHIN: Duration = Duration::from_secs(5);
/// Times an edit is made anew because others typed meanwhile and the version it was made from is not kept.
const EDIT_TRIES: usize = 8;

/// Why something with files is refused.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// As for one file.
    #[error(transparent)]
    Document(#[from] DocError),
    /// Edits that can't be made.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// Something is there already.
    #[error("`{0}` exists already")]
    Exists(RelPath),
    /// A folder that holds something.
    #[error("the folder `{0}` is not empty; `recursive=true` deletes what is in it too")]
    NotEmpty(RelPath),
    /// Something else than a folder.
    #[error("`{0}` is not a folder")]
    NotAFolder(RelPath),
    /// A folder copied into itself.
    #[error("`{0}` can't be put into itself")]
    IntoItself(RelPath),
    /// More than one call takes.
    #[error("{0}")]
    TooMany(String),
    /// A search that can't be understood.
    #[error("{0}")]
    Query(String),
}

impl From<FsError> for FilesError {
    fn from(error: FsError) -> Self {
        let text = error.to_string();
        match error {
            FsError::WrongKind { path } => DocError::NotAFile(path).into(),
            FsError::OutsideRoot(_) => DocError::Path(text).into(),
            FsError::Exists(path) => Self::Exists(path),
            FsError::Absent(path) => DocError::NotFound(path).into(),
            FsError::NotEmpty(path) => Self::NotEmpty(path),
            FsError::TooLarge { path, len_bytes, max_bytes } => {
                DocError::TooLarge { path, len_bytes, max_bytes }.into()
            }
            FsError::TooMany { .. } => Self::TooMany(text),
            FsError::Query(_) => Self::Query(text),
            FsError::Io { .. } => DocError::Disk(text).into(),
        }
    }
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Searched {
    /// The lines.
    pub found: FoundLines,
    /// Files that were searched as they are on disk, because what was typed into them could not be brought there in
    /// time; sorted.
    pub behind: Vec<RelPath>,
}

/// What an edit came to.
#[derive(Clone, Debug)]
pub struct Edited {
    /// What the file now holds.
    pub content: Content,
    /// The lines in it that the edits changed, first and last, from 1, ascending.
    pub lines: Vec<(usize, usize)>,
    /// How many places were changed.
    pub places: usize,
}

async fn off_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, DocError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| DocError::Disk("the work was given up".into()))
}

impl Hub {
    /// A page of a folder's entries. `None`: there is no such folder.
    ///
    /// # Errors
    /// [`FilesError::TooMany`] for a folder of more than 200,000 names.
    pub async fn tree(&self, folder: Option<&RelPath>, page: &Page) -> Result<Option<Listing>, FilesError> {
        Ok(self.workspace().list(folder, page).await?)
    }

    /// All that is in a folder. `None`: there is no such folder.
    ///
    /// # Errors
    /// [`FilesError::TooMany`] for more than `max`.
    pub async fn folder(
        &self,
        folder: Option<&RelPath>,
        max: usize,
    ) -> Result<Option<Vec<Entry>>, FilesError> {
        let mut entries = Vec::new();
        let mut page = Page { after: None, limit: MAX_PAGE, recursive: false };
        loop {
            let Some(listing) = self.tree(folder, &page).await? else { return Ok(None) };
            entries.extend(listing.entries);
            if entries.len() > max {
                return Err(FilesError::TooMany(format!("the folder has more than {max} entries")));
            }
            match listing.next.map(|next| next.parse()) {
                Some(Ok(next)) => page.after = Some(next),
                _ => return Ok(Some(entries)),
            }
        }
    }

    /// What is at a path, with what was typed into it until now.
    ///
    /// # Errors
    /// [`DocError::NotFound`] when there is nothing.
    pub async fn stat(&self, path: &RelPath) -> Result<Entry, FilesError> {
        if let Ok(resolved) = self.resolve(path).await
            && let Ok(Some(document)) = self.current(&resolved).await
        {
            // What can't be written now is looked at as it is.
            let _ = document.flush().await;
        }
        let found = self.workspace().look(path).await?;
        found.ok_or_else(|| DocError::NotFound(path.clone()).into())
    }

    /// The barrier over all open documents of a folder (or of one file; of all without one).
    ///
    /// # Errors
    /// That of one document which could not be brought to disk.
    pub(super) async fn flush_in(&self, folder: Option<&RelPath>) -> Result<(), DocError> {
        let flush = async |(path, _): (RelPath, Slot)| self.flush_at(&path).await;
        let slots = futures_util::stream::iter(self.slots_in(folder));
        let outcomes: Vec<_> = slots.map(flush).buffer_unordered(AT_ONCE).collect().await;
        outcomes.into_iter().collect()
    }

    /// The same for one resolved path.
    async fn flush_at(&self, path: &RelPath) -> Result<(), DocError> {
        while let Some(document) = self.current(path).await? {
            match document.flush().await {
                // Whether it had written all that it had is looked at anew.
                Err(DocError::Closed) => {}
                Ok(_) | Err(DocError::NotFound(_)) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The same for documents that are open, for who holds the tree; a closed one is brought to disk when it is read.
    pub(super) async fn flush_open(&self, folder: &RelPath) -> Result<(), DocError> {
        let flush = async |document: Document| match document.flush().await {
            Ok(_) | Err(DocError::NotFound(_)) => Ok(()),
            Err(DocError::Closed) => {
                document.ended().await;
                Ok(())
            }
            Err(error) => Err(error),
        };
        let open = futures_util::stream::iter(self.open_in(Some(folder)).await);
        let outcomes: Vec<_> = open.map(flush).buffer_unordered(AT_ONCE).collect().await;
        outcomes.into_iter().collect()
    }

    /// Writes a file only if nothing is there, not even text that was typed but is not on disk yet.
    ///
    /// # Errors
    /// [`FilesError::Exists`].
    pub async fn create(
        &self,
        path: &RelPath,
        grant: &WriteGrant,
        bytes: Bytes,
    ) -> Result<Content, FilesError> {
        let place = self.place(path).await?;
        let path = place.path.clone();
        let content = match self.known(place).await? {
            Known::Document(_place, document) => {
                let flushed = document.flush().await?;
                if self.workspace().stat(&path).await?.is_some() {
                    return Err(FilesError::Exists(path));
                }
                // An editor is open on nothing: what is typed from here on is merged.
                let base = WriteBase::Version(flushed.version, Some("".into()));
                document.write(grant.clone(), base, bytes).await?
            }
            Known::Plain(_place) => {
                self.workspace().write_new(&path, bytes.clone()).await?;
                let version = Version::of(&bytes);
                if let Ok((text, _)) = decode(&bytes) {
                    self.context.versions.remember(version, &text);
                }
                self.tell_written(&path, version, true, grant);
                Content { bytes, version }
            }
        };
        if let Some(session) = grant.session() {
            self.context.versions.note_read(session, &path, content.version);
        }
        Ok(content)
    }

    /// Replaces parts of a text file. They are looked for in the version `named`; without one in the version that
    /// `reader` last read and, where they are not in that, in the present one. What others typed since is merged.
    ///
    /// # Errors
    /// [`FilesError::Edit`] when they are not there, or not only once; [`DocError::VersionUnknown`].
    pub async fn edit(
        &self,
        path: &RelPath,
        grant: &WriteGrant,
        reader: Option<&SessionId>,
        named: Option<Version>,
        edits: Vec<TextEdit>,
    ) -> Result<Edited, FilesError> {
        let edits = Arc::new(edits);
        let path = self.resolve(path).await?;
        let versions = &self.context.versions;
        let mut tries = 0;
        loop {
            tries += 1;
            let present = self.read(&path, None).await?;
            let (text, format) = decode(&present.bytes)
                .map_err(|error| DocError::NotText { path: path.clone(), offset: error.offset })?;
            let make = async |base: Arc<str>| {
                let edits = Arc::clone(&edits);
                off_runtime(move || edits::make(&base, &edits)).await
            };
            let text: Arc<str> = text.into();
            let (version, made) = match named {
                Some(version) if version != present.version => {
                    let unknown = DocError::VersionUnknown { present: present.version };
                    let base = versions.text(version).ok_or(unknown)?;
                    (version, make(base).await??)
                }
                Some(version) => (version, make(Arc::clone(&text)).await??),
                None => {
                    let read = reader.and_then(|session| versions.last_read(session, &path));
                    let base = read.and_then(|version| Some((version, versions.text(version)?)));
                    let found = match base {
                        Some((version, base)) => make(base).await?.ok().map(|made| (version, made)),
                        None => None,
                    };
                    match found {
                        Some(found) => found,
                        None => (present.version, make(Arc::clone(&text)).await??),
                    }
                }
            };
            let bytes = format.follow(&text, &made.text).encode(&made.text).into();
            let content = match self.write(&path, grant, Some(version), bytes).await {
                Err(DocError::VersionUnknown { .. }) if named.is_none() && tries < EDIT_TRIES => continue,
                written => written?.0,
            };
            let places = made.places.len();
            let bytes = content.bytes.clone();
            let lines = off_runtime(move || {
                decode(&bytes).map(|(now, _)| edits::lines_in(&made, &now)).unwrap_or_default()
            });
            return Ok(Edited { content, lines: lines.await?, places });
        }
    }

    /// Makes a folder, and those above it. `true`: it is new.
    ///
    /// # Errors
    /// [`FilesError::Exists`] when something else than a folder is there.
    pub async fn make_folder(&self, path: &RelPath, grant: &WriteGrant) -> Result<bool, FilesError> {
        let path = self.resolve(path).await?;
        let is_new = self.workspace().make_folder(&path).await?;
        if is_new {
            self.tell_made(&path, Kind::Folder, grant);
        }
        Ok(is_new)
    }

    /// Tells that something was put where nothing was.
    fn tell_made(&self, path: &RelPath, kind: Kind, grant: &WriteGrant) {
        let by = grant.by();
        self.events().note_own(path, Own::Made, &by);
        self.events().publish(&Event::FileCreated { path: path.to_string(), kind, by });
    }

    /// Deletes a folder; with what is in it only if `recursive`: documents in it close for all.
    ///
    /// # Errors
    /// [`FilesError::NotEmpty`], [`FilesError::NotAFolder`].
    pub async fn delete_folder(
        &self,
        path: &RelPath,
        recursive: bool,
        grant: &WriteGrant,
    ) -> Result<(), FilesError> {
        let path = self.workspace().resolve_parent(path).await?;
        match self.workspace().stat(&path).await? {
            None => return Err(DocError::NotFound(path).into()),
            Some(stat) if stat.kind != Kind::Folder => return Err(FilesError::NotAFolder(path)),
            Some(_) => {}
        }
        if recursive {
            self.close_in(&path).await?;
        }
        self.workspace().remove_folder(&path, recursive).await?;
        self.tell_deleted(&path, grant);
        if recursive {
            // Opened between the two: by now their files are gone.
            self.close_in(&path).await?;
        }
        Ok(())
    }

    /// Ends all documents of a folder for good, those that are not open too.
    async fn close_in(&self, folder: &RelPath) -> Result<(), DocError> {
        let rows = self.store().documents_beneath(self.branch(), folder.as_str()).await;
        let rows = rows.map_err(|error| DocError::Log(error.to_string()))?;
        let mut paths: Vec<RelPath> = rows.iter().filter_map(|row| row.path.parse().ok()).collect();
        paths.extend(self.slots_in(Some(folder)).into_iter().map(|(path, _)| path));
        paths.sort_unstable();
        paths.dedup();
        let close = async |path: RelPath| {
            match self.known(self.place_itself(&path).await?).await {
                Ok(Known::Document(mut place, document)) => {
                    document.deleted().await;
                    place.held.take();
                    Ok(())
                }
                Err(error @ DocError::Log(_)) => Err(error),
                // Not a document any more.
                _ => Ok(()),
            }
        };
        let outcomes: Vec<_> =
            futures_util::stream::iter(paths).map(close).buffer_unordered(AT_ONCE).collect().await;
        outcomes.into_iter().collect()
    }

    /// Bytes of a file, or of all files in a folder.
    ///
    /// # Errors
    /// [`DocError::NotFound`].
    pub async fn size(&self, path: &RelPath) -> Result<u64, FilesError> {
        let path = self.resolve(path).await?;
        match self.workspace().stat(&path).await? {
            None => Err(DocError::NotFound(path).into()),
            Some(stat) if stat.kind == Kind::Folder => {
                let folder = self.workspace().folder().join(path.as_str());
                let size = off_runtime(move || making::measure(&folder)).await?;
                Ok(size.map_err(|error| DocError::Disk(error.to_string()))?)
            }
            Some(stat) => Ok(stat.len_bytes),
        }
    }

    /// Copies a file or folder, as editors see it now, to a path where nothing is.
    ///
    /// # Errors
    /// [`FilesError::Exists`], [`FilesError::IntoItself`], [`FilesError::TooMany`].
    pub async fn copy(&self, from: &RelPath, to: &RelPath, grant: &WriteGrant) -> Result<(), FilesError> {
        let from = self.resolve(from).await?;
        let to = self.workspace().resolve_parent(to).await?;
        if to == from {
            return Err(FilesError::Exists(to));
        }
        if to.is_in(&from) {
            return Err(FilesError::IntoItself(from));
        }
        self.flush_in(Some(&from)).await?;
        let place = self.place_itself(&to).await?;
        if let Some(document) = place.held.as_ref().filter(|document| !document.is_closed()) {
            // Text that was typed there comes first.
            document.flush().await?;
        }
        self.workspace().copy(&from, &to).await?;
        if let Some(stat) = self.workspace().stat(&to).await? {
            self.tell_made(&to, stat.kind, grant);
        }
        Ok(())
    }

    /// Lines of files that match, what was typed until now included. `None`: nothing is at `within`.
    ///
    /// # Errors
    /// [`FilesError::Query`].
    pub async fn search(
        &self,
        pattern: &Pattern,
        within: Option<&RelPath>,
        limit: usize,
    ) -> Result<Option<Searched>, FilesError> {
        let real = match within {
            Some(path) => self.workspace().resolve(path).await.ok(),
            None => None,
        };
        let until = Instant::now() + FLUSH_WITHIN;
        let flush = async |(path, _): (RelPath, Slot)| {
            let flushed = tokio::time::timeout_at(until, self.flush_at(&path)).await;
            (!matches!(flushed, Ok(Ok(())))).then_some(path)
        };
        let slots = futures_util::stream::iter(self.slots_in(real.as_ref()));
        let behind: Vec<_> = slots.map(flush).buffer_unordered(AT_ONCE).collect().await;
        let mut behind: Vec<_> = behind.into_iter().flatten().collect();
        behind.sort_unstable();
        let found = self.workspace().search(pattern, within, limit).await?;
        Ok(found.map(|found| Searched { found, behind }))
    }

    /// Files by likeness of their paths.
    ///
    /// # Errors
    /// [`FilesError::Query`].
    pub async fn find(&self, query: &str, limit: usize) -> Result<FoundPaths, FilesError> {
        Ok(self.workspace().find(query, limit).await?)
    }
}
