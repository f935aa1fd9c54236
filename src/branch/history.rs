//! What a branch's documents remember: their history, the text at a position, documents that ended, drafts.
//!
//! All of it is read from the database, so it tells what is durable and takes nothing from the document's task.
//! Replaying a log is work for a thread of its own, and only a few replay at once.

use super::document::{Author, Content, DocError, state_at};
use super::files::FilesError;
use super::hub::Hub;
use super::members::WriteGrant;
use crate::base::{DocumentId, DraftId, SessionId};
use crate::crdt::{FIRST_SERVER_CLIENT, FileFormat, SharedText, compare, decode, inspect};
use crate::store::{ChangeRow, Draft, DraftHead, Ended, Loaded, Past, StoreError};
use crate::workspace::RelPath;
use serde::Serialize;
use std::collections::{BTreeSet, HashMap, HashSet};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Replays at once in this process; one more waits.
static REPLAYS: Semaphore = Semaphore::const_new(2);

/// Why the past can't be told.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The document or its file.
    #[error(transparent)]
    Document(#[from] DocError),
    /// Where something is brought back to.
    #[error(transparent)]
    File(#[from] FilesError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The path has no document that is alive.
    #[error("`{0}` has no history: nobody has opened it as a document")]
    NoDocument(RelPath),
    /// No such ended document, or no such draft.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// Cut from the history.
    #[error("position {position} is not kept any more; the oldest that can be read is {oldest}")]
    Gone {
        /// What was asked for.
        position: i64,
        /// What there is.
        oldest: i64,
    },
    /// Not there yet.
    #[error("there is no position {position} yet; the newest is {newest}")]
    Ahead {
        /// What was asked for.
        position: i64,
        /// What there is.
        newest: i64,
    },
    /// The log can't be replayed.
    #[error("the document's log can't be replayed")]
    Damaged,
}

/// A document's history, newest first.
#[derive(Clone, Debug)]
pub struct History {
    /// The document.
    pub document: DocumentId,
    /// The oldest position whose text can be read.
    pub oldest: i64,
    /// The newest position.
    pub newest: i64,
    /// One page of entries.
    pub entries: Vec<ChangeRow>,
}

/// Lines that were replaced by others; lines are counted from 1 and given without their ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Hunk {
    /// Where the old lines stood, or before which line there were none.
    pub old_line: usize,
    /// The lines that went.
    pub old: Vec<String>,
    /// Where the new lines stand, or before which line there are none.
    pub new_line: usize,
    /// The lines that came.
    pub new: Vec<String>,
}

/// What can be made of a draft.
#[derive(Clone, Debug)]
pub struct DraftText {
    /// As stored.
    pub draft: Draft,
    /// The text as it would be with the draft in it, where that can be made.
    pub text: Option<String>,
}

/// Taken before anything is loaded: what waits for its turn takes no memory.
pub(super) async fn turn() -> Result<SemaphorePermit<'static>, HistoryError> {
    REPLAYS.acquire().await.map_err(|_| HistoryError::Damaged)
}

pub(super) async fn replay<T: Send + 'static>(
    _turn: SemaphorePermit<'static>,
    work: impl FnOnce() -> Option<T> + Send + 'static,
) -> Result<T, HistoryError> {
    tokio::task::spawn_blocking(work).await.ok().flatten().ok_or(HistoryError::Damaged)
}

/// The text at the end of a loaded document's log; `None` when it can't be replayed.
#[must_use]
pub fn present_text(loaded: &Loaded) -> Option<String> {
    let position = loaded.log.last().map_or(loaded.snapshot_position, |row| row.position);
    state_at(&loaded.snapshot, &loaded.log, position).map(|text| text.text())
}

impl Hub {
    /// The document that lives at a path now, and its generation.
    pub(super) async fn living(&self, path: &RelPath) -> Result<(DocumentId, i64), HistoryError> {
        let path = self.resolve(path).await?;
        let row = self.context.store.live_document(&self.context.branch, path.as_str()).await?;
        row.map(|row| (row.id, row.generation)).ok_or(HistoryError::NoDocument(path))
    }

    /// The same where one may have ended: if the file is there again, its next document tells who typed what of it.
    pub(super) async fn living_again(&self, path: &RelPath) -> Result<(DocumentId, i64), HistoryError> {
        let path = match self.living(path).await {
            Err(HistoryError::NoDocument(path)) => path,
            found => return found,
        };
        if self.context.store.last_ended(&self.context.branch, path.as_str()).await?.is_some()
            && let Err(error) = self.document(&path, false).await
            && !error.is_no_document()
        {
            return Err(error.into());
        }
        self.living(&path).await
    }

    /// Where the branch's documents are, and were.
    ///
    /// # Errors
    /// [`HistoryError::Store`].
    pub async fn document_paths(&self) -> Result<HashSet<RelPath>, HistoryError> {
        let rows = self.context.store.documents_of(&self.context.branch).await?;
        Ok(rows.iter().filter_map(|path| path.parse().ok()).collect())
    }

    /// A page of a document's history: at most `limit` entries that begin before position `before`.
    ///
    /// # Errors
    /// [`HistoryError::NoDocument`].
    pub async fn history(
        &self,
        path: &RelPath,
        before: Option<i64>,
        limit: i64,
    ) -> Result<History, HistoryError> {
        let (document, _) = self.living(path).await?;
        let store = &self.context.store;
        let (oldest, newest) = store.positions(&document).await?.ok_or(HistoryError::Damaged)?;
        let entries = store.changes(&document, before, limit).await?;
        Ok(History { document, oldest, newest, entries })
    }

    async fn replica(&self, id: &DocumentId, position: Option<i64>) -> Result<(i64, String), HistoryError> {
        self.state(id, position, SharedText::text).await
    }

    pub(super) async fn state<T: Send + 'static>(
        &self,
        id: &DocumentId,
        position: Option<i64>,
        look: impl FnOnce(&SharedText) -> T + Send + 'static,
    ) -> Result<(i64, T), HistoryError> {
        let store = &self.context.store;
        let turn = turn().await?;
        let position = match position {
            Some(position) => position,
            None => store.positions(id).await?.ok_or(HistoryError::Damaged)?.1,
        };
        match store.past(id, position).await? {
            Past::Gone(oldest) => Err(HistoryError::Gone { position, oldest }),
            Past::Ahead(newest) => Err(HistoryError::Ahead { position, newest }),
            Past::Kept { snapshot, rows } => {
                let made =
                    replay(turn, move || state_at(&snapshot, &rows, position).map(|shared| look(&shared)));
                Ok((position, made.await?))
            }
        }
    }

    /// The text at a position, the newest durable one without it, and which position that is.
    ///
    /// # Errors
    /// [`HistoryError::Gone`], [`HistoryError::Ahead`], [`HistoryError::NoDocument`].
    pub async fn text_at(
        &self,
        path: &RelPath,
        position: Option<i64>,
    ) -> Result<(i64, String), HistoryError> {
        let (document, _) = self.living(path).await?;
        self.replica(&document, position).await
    }

    /// What changed from one position to another, line by line; `to`: the newest without it.
    ///
    /// # Errors
    /// As for [`Hub::text_at`].
    pub async fn changed_lines(
        &self,
        path: &RelPath,
        from: i64,
        to: Option<i64>,
    ) -> Result<(i64, Vec<Hunk>), HistoryError> {
        let (document, _) = self.living(path).await?;
        let (to, new) = self.replica(&document, to).await?;
        let (_, old) = self.replica(&document, Some(from)).await?;
        Ok((to, replay(turn().await?, move || Some(hunks(&old, &new))).await?))
    }

    /// Makes the text of a position the present one, as edits of the caller's merged with what others type meanwhile.
    /// Gives what the file then is.
    ///
    /// # Errors
    /// As for [`Hub::text_at`] and [`Hub::write`].
    pub async fn restore_position(
        &self,
        path: &RelPath,
        position: i64,
        grant: &WriteGrant,
    ) -> Result<Content, HistoryError> {
        let (_, text) = self.text_at(path, Some(position)).await?;
        let present = self.read(path, None).await?;
        let not_text =
            |error: crate::crdt::NotText| DocError::NotText { path: path.clone(), offset: error.offset };
        let (now, format) = decode(&present.bytes).map_err(not_text)?;
        if now == text {
            return Ok(present);
        }
        let bytes = format.follow(&now, &text).encode(&text).into();
        let path = self.resolve(path).await?;
        let base = Some((present.version, Some(now.into())));
        Ok(self.write_from(&path, grant, base, bytes).await?.0)
    }

    /// The branch's ended documents, the last to end first.
    ///
    /// # Errors
    /// [`HistoryError::Store`].
    pub async fn ended(&self) -> Result<Vec<Ended>, HistoryError> {
        Ok(self.context.store.ended(&self.context.branch).await?)
    }

    /// Brings the last text of an ended document back as a new file, at its old path without another.
    ///
    /// # Errors
    /// [`FilesError::Exists`] when the path is taken, [`HistoryError::NotFound`] for no ended document of the branch.
    pub async fn restore_ended(
        &self,
        id: &DocumentId,
        path: Option<RelPath>,
        grant: &WriteGrant,
    ) -> Result<(RelPath, Content), HistoryError> {
        let ended = self.ended().await?.into_iter().find(|ended| ended.id == *id);
        let ended = ended.ok_or(HistoryError::NotFound("ended document"))?;
        let path = match path {
            Some(path) => path,
            None => ended.path.parse().map_err(|_| HistoryError::Damaged)?,
        };
        let (_, text) = self.replica(id, None).await?;
        let format = ended.text.and_then(|last| last.format);
        let format: FileFormat =
            format.and_then(|format| serde_json::from_str(&format).ok()).unwrap_or_default();
        let bytes = format.encode(&text).into();
        let content = self.create(&path, grant, bytes).await?;
        Ok((path, content))
    }

    /// The branch's drafts, or one session's, newest first.
    ///
    /// # Errors
    /// [`HistoryError::Store`].
    pub async fn drafts(&self, session: Option<&SessionId>) -> Result<Vec<DraftHead>, HistoryError> {
        Ok(self.context.store.drafts(&self.context.branch, session).await?)
    }

    /// A draft and the text that it would make. `session`: whose it must be.
    ///
    /// # Errors
    /// [`HistoryError::NotFound`].
    pub async fn draft(&self, id: &DraftId, session: Option<&SessionId>) -> Result<DraftText, HistoryError> {
        let store = &self.context.store;
        let turn = turn().await?;
        let draft = store.draft(&self.context.branch, id).await?;
        let is_theirs = |draft: &Draft| session.is_none_or(|session| draft.session_id == session.as_str());
        let draft = draft.filter(is_theirs).ok_or(HistoryError::NotFound("draft"))?;
        let mut state = None;
        if let Some(document) = &draft.document_id
            && let Some((_, newest)) = store.positions(document).await?
            && let Past::Kept { snapshot, rows } = store.past(document, newest).await?
        {
            state = Some((snapshot, rows, newest));
        }
        replay(turn, move || {
            let text = if draft.session_id == Author::Outside.as_str() {
                decode(&draft.data).ok().map(|(text, _)| text)
            } else {
                let document = state.and_then(|(snapshot, rows, newest)| state_at(&snapshot, &rows, newest));
                text_with(&draft.data, document)
            };
            Some(DraftText { draft, text })
        })
        .await
    }

    /// Removes a draft. `session`: whose it must be.
    ///
    /// # Errors
    /// [`HistoryError::NotFound`].
    pub async fn delete_draft(&self, id: &DraftId, session: Option<&SessionId>) -> Result<(), HistoryError> {
        let own = self.drafts(session).await?;
        if !own.iter().any(|draft| draft.id == *id) {
            return Err(HistoryError::NotFound("draft"));
        }
        Ok(self.context.store.delete_draft(&self.context.branch, id).await?)
    }

    /// The names of the sessions among some authors.
    ///
    /// # Errors
    /// [`HistoryError::Store`].
    pub async fn names(&self, authors: BTreeSet<String>) -> Result<HashMap<String, String>, HistoryError> {
        let mut names = HashMap::new();
        for author in authors {
            if let Ok(session) = author.parse::<SessionId>()
                && let Some(row) = self.context.store.session(&self.context.branch, &session).await?
                && let Some(name) = row.name
            {
                names.insert(author, name);
            }
        }
        Ok(names)
    }
}

/// The text with a refused update in it: on the document it was meant for, or standing alone where it comes from
/// another history of the file. `None` where parts that it builds on are not there.
fn text_with(update: &[u8], document: Option<SharedText>) -> Option<String> {
    let info = inspect(update).ok()?;
    let is_of = |document: &SharedText| {
        let known = |client| document.known(client);
        info.ranges.iter().all(|range| range.client < FIRST_SERVER_CLIENT || range.end <= known(range.client))
    };
    let mut copy = document.filter(is_of).or_else(|| SharedText::load([]).ok())?;
    if info.missing(|client| copy.known(client)) {
        return None;
    }
    copy.apply(update).ok()?;
    Some(copy.text())
}

fn hunks(old: &str, new: &str) -> Vec<Hunk> {
    let lines = |text: &str| text.split_inclusive('\n').map(str::to_owned).collect::<Vec<_>>();
    let (old, new) = (lines(old), lines(new));
    let difference = compare(old.iter().map(String::as_str), new.iter().map(String::as_str));
    let part = |lines: &[String], range: std::ops::Range<u32>| {
        let range = range.start as usize..range.end as usize;
        lines[range].iter().map(|line| line.strip_suffix('\n').unwrap_or(line).to_owned()).collect()
    };
    difference
        .hunks()
        .map(|hunk| Hunk {
            old_line: hunk.before.start as usize + 1,
            old: part(&old, hunk.before.clone()),
            new_line: hunk.after.start as usize + 1,
            new: part(&new, hunk.after.clone()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hunks_count_lines_from_one() {
        let told = hunks("a\nb\nc\n", "a\nB\nc\nd");
        let hunk = |old_line, old: &[&str], new_line, new: &[&str]| Hunk {
            old_line,
            old: old.iter().map(ToString::to_string).collect(),
            new_line,
            new: new.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(told, [hunk(2, &["b"], 2, &["B"]), hunk(4, &[], 4, &["d"])]);
        assert!(hunks("x\n", "x\n").is_empty());
    }

    #[test]
    fn a_draft_is_shown_on_its_document_or_alone() {
        let seed = SharedText::seed(FIRST_SERVER_CLIENT, "text");
        let document = || SharedText::load([seed.as_ref()]).ok();
        // What a browser with the id 7 sends: `insert` at `clock`, right of clock 4 of `origin`.
        let typed = |clock: u8, origin: &[u8], insert: &str| {
            let mut update = vec![1, 1, 7, clock, 0x84];
            update.extend_from_slice(origin);
            update.extend_from_slice(&[4, u8::try_from(insert.len()).unwrap()]);
            update.extend_from_slice(insert.as_bytes());
            update.push(0);
            update
        };
        let mut of_seed = Vec::new();
        let mut rest = FIRST_SERVER_CLIENT;
        while rest > 0x7f {
            of_seed.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
            rest >>= 7;
        }
        of_seed.push(u8::try_from(rest).unwrap());
        assert_eq!(text_with(&typed(0, &of_seed, " more"), document()).unwrap(), "text more");
        assert_eq!(text_with(&typed(5, &[7], "!"), document()), None, "what it builds on is not there");
        let other = SharedText::seed(FIRST_SERVER_CLIENT + 1, "another history");
        assert_eq!(text_with(&other, document()).unwrap(), "another history");
        assert_eq!(text_with(&other, None).unwrap(), "another history");
        assert_eq!(text_with(b"no update", document()), None);
    }
}
