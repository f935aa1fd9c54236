//! What a branch's documents remember: their history, the text at a position, who typed which line, documents that
//! ended, drafts.
//!
//! All of it is read from the database, so it tells what is durable and takes nothing from the document's task.
//! Replaying a log is work for a thread of its own, and only a few replay at once.

use super::document::{Author, Content, DocError, decode_row};
use super::files::FilesError;
use super::hub::Hub;
use super::members::WriteGrant;
use crate::base::{DocumentId, DraftId, SessionId};
use crate::crdt::{FIRST_SERVER_CLIENT, FileFormat, Run, SharedText, compare, decode, inspect};
use crate::store::{AuthorRange, ChangeRow, Draft, DraftHead, Ended, Past, StoreError};
use crate::workspace::RelPath;
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Replays at once in this process; one more waits.
static REPLAYS: Semaphore = Semaphore::const_new(2);

/// The author of text that was in the file when it was opened.
const FILE: &str = "(file)";
/// The author of text whose session is not known.
const UNKNOWN: &str = "(unknown)";

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

/// Who typed a part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineAuthor {
    /// A session's id, or a word in brackets.
    pub author: String,
    /// When they typed the newest part of it, to the minute.
    pub at_ms: i64,
}

/// Neighbouring lines by the same authors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    /// The first, counted from 1.
    pub line: usize,
    /// How many.
    pub count: usize,
    /// Who typed them, who typed most first.
    pub authors: Vec<LineAuthor>,
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
async fn turn() -> Result<SemaphorePermit<'static>, HistoryError> {
    REPLAYS.acquire().await.map_err(|_| HistoryError::Damaged)
}

async fn replay<T: Send + 'static>(
    _turn: SemaphorePermit<'static>,
    work: impl FnOnce() -> Option<T> + Send + 'static,
) -> Result<T, HistoryError> {
    tokio::task::spawn_blocking(work).await.ok().flatten().ok_or(HistoryError::Damaged)
}

fn text_of(snapshot: &[u8], rows: &[crate::store::LogRow], position: i64) -> Option<SharedText> {
    let mut updates = vec![snapshot];
    for row in rows {
        let in_row = decode_row(&row.data)?;
        updates.extend((row.first_position..=position).zip(in_row).map(|(_, update)| update));
    }
    SharedText::load(updates).ok()
}

impl Hub {
    /// The document that lives at a path now, and its generation.
    async fn living(&self, path: &RelPath) -> Result<(DocumentId, i64), HistoryError> {
        let path = self.resolve(path).await?;
        let row = self.context.store.live_document(&self.context.branch, path.as_str()).await?;
        row.map(|row| (row.id, row.generation)).ok_or(HistoryError::NoDocument(path))
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

    async fn state<T: Send + 'static>(
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
                    replay(turn, move || text_of(&snapshot, &rows, position).map(|shared| look(&shared)));
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

    /// Who typed which line of the newest durable text, and when; with its position.
    ///
    /// # Errors
    /// [`HistoryError::NoDocument`].
    pub async fn authors(&self, path: &RelPath) -> Result<(i64, Vec<Lines>), HistoryError> {
        let (document, generation) = self.living(path).await?;
        let store = &self.context.store;
        let made_at = store.document_made_at(&document).await?.unwrap_or(0);
        let (position, runs) = self.state(&document, None, SharedText::runs).await?;
        // Read after the text, so that whoever wrote some of it is named.
        let ranges = store.author_ranges(&document).await?;
        let seed = AuthorRange {
            client_id: generation,
            clock_start: 0,
            clock_end: i64::MAX,
            session_id: FILE.to_owned(),
            at_ms: made_at,
        };
        Ok((position, replay(turn().await?, move || Some(lines(&runs, &ranges, &seed))).await?))
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
                let document = state.and_then(|(snapshot, rows, newest)| text_of(&snapshot, &rows, newest));
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

/// Who typed which line: parts of the text joined with the table of who wrote which clocks.
fn lines(runs: &[Run], ranges: &[AuthorRange], seed: &AuthorRange) -> Vec<Lines> {
    let unknown =
        AuthorRange { session_id: UNKNOWN.to_owned(), at_ms: 0, clock_end: i64::MAX, ..seed.clone() };
    // By client id and clock, as the store gives them.
    let find = |client: i64, clock: i64| -> &AuthorRange {
        if client == seed.client_id {
            return seed;
        }
        let after = ranges.partition_point(|range| (range.client_id, range.clock_start) <= (client, clock));
        let range = after.checked_sub(1).map(|at| &ranges[at]);
        range.filter(|range| range.client_id == client && clock < range.clock_end).unwrap_or(&unknown)
    };
    let mut made: Vec<Lines> = Vec::new();
    let mut number = 0;
    let mut line: Vec<(&str, i64, u32)> = Vec::new();
    let mut end_line = |line: &mut Vec<(&str, i64, u32)>| {
        number += 1;
        // A stable order where shares are equal: who comes first in the line.
        line.sort_by_key(|(_, _, share)| std::cmp::Reverse(*share));
        let authors: Vec<_> = line
            .drain(..)
            .map(|(author, at_ms, _)| LineAuthor { author: author.to_owned(), at_ms })
            .collect();
        match made.last_mut() {
            Some(last) if last.authors == authors => last.count += 1,
            _ => made.push(Lines { line: number, count: 1, authors }),
        }
    };
    for run in runs {
        let client = i64::try_from(run.client).unwrap_or(i64::MAX);
        let mut clock = i64::from(run.clock);
        let mut range = find(client, clock);
        for character in run.text.chars() {
            let outside = clock < range.clock_start || clock >= range.clock_end;
            if outside || (range.session_id == UNKNOWN && range.client_id == seed.client_id) {
                range = find(client, clock);
            }
            let units = u32::try_from(character.len_utf16()).unwrap_or(1);
            match line.iter_mut().find(|(author, ..)| *author == range.session_id) {
                Some((_, at_ms, share)) => {
                    *at_ms = (*at_ms).max(range.at_ms);
                    *share += units;
                }
                None => line.push((&range.session_id, range.at_ms, units)),
            }
            clock += i64::from(units);
            if character == '\n' {
                end_line(&mut line);
            }
        }
    }
    if !line.is_empty() {
        end_line(&mut line);
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(client_id: i64, clock_start: i64, clock_end: i64, session: &str, at_ms: i64) -> AuthorRange {
        AuthorRange { client_id, clock_start, clock_end, session_id: session.into(), at_ms }
    }

    fn run(client: u64, clock: u32, text: &str) -> Run {
        Run { client, clock, text: text.into() }
    }

    #[test]
    fn lines_name_who_typed_most_of_them_first() {
        let seed = range(99, 0, i64::MAX, FILE, 1);
        let ranges = [range(7, 0, 3, "ann", 10), range(7, 3, 9, "ann", 20), range(8, 0, 2, "bob", 30)];
        let runs = [
            run(99, 1, "one\ntwo\nthr"),
            run(7, 2, "AA"),
            run(99, 12, "ee\n"),
            run(8, 0, "b\n"),
            run(8, 2, "?"),
        ];
        let told: Vec<_> = lines(&runs, &ranges, &seed)
            .into_iter()
            .map(|lines| {
                let who: Vec<_> = lines.authors.into_iter().map(|of| (of.author, of.at_ms)).collect();
                (lines.line, lines.count, who)
            })
            .collect();
        let file = || (FILE.to_owned(), 1);
        assert_eq!(
            told,
            [
                (1, 2, vec![file()]),
                (3, 1, vec![file(), ("ann".into(), 20)]),
                (4, 1, vec![("bob".into(), 30)]),
                (5, 1, vec![(UNKNOWN.into(), 0)]),
            ]
        );
        assert!(lines(&[], &ranges, &seed).is_empty());
    }

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
