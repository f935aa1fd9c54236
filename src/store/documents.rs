//! Documents: their logs, snapshots, authors, and where the disk peer stands.

use super::batch::Batch;
use super::db::{Store, StoreError, Write, on_db, on_write, read};
use super::history::{ChangeRow, LastText, cut_ended, cut_past};
use crate::base::{BranchId, DocumentId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A write-back under way: what tells after a crash whether it happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The log position whose text is written.
    pub position: i64,
    /// Version of the bytes written.
    pub hash: Vec<u8>,
    /// The temporary file's name.
    pub temp: String,
    /// Its inode.
    pub inode: u64,
}

/// A state of a document, perhaps of one that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The document.
    pub document: DocumentId,
    /// Its position.
    pub position: i64,
}

/// Where the disk peer stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskRecord {
    /// The file holds the log up to here, and `outside`.
    pub synced_position: i64,
    /// Version of the file; `None` while it does not exist.
    pub synced_hash: Option<Vec<u8>>,
    /// Positions after `synced_position` that came from the file.
    pub outside: Vec<i64>,
    /// See [`Intent`].
    pub intent: Option<Intent>,
    /// States from which somebody outside took what sessions had typed, newest first.
    pub taken: Vec<State>,
}

/// One row of a log: the updates `first_position..=position`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRow {
    /// Position of the first update in it.
    pub first_position: i64,
    /// Position of the last one.
    pub position: i64,
    /// The updates.
    pub data: Bytes,
    /// When.
    pub at_ms: i64,
}

/// Clocks of one client that one session wrote.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct AuthorRange {
    /// The Yjs client id.
    pub client_id: i64,
    /// First clock.
    pub clock_start: i64,
    /// One past the last clock.
    pub clock_end: i64,
    /// The session.
    pub session_id: String,
    /// When the first of them was written.
    pub at_ms: i64,
}

/// A change of which replaced files a document still watches, each under the name of a temporary file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AsideChange {
    /// A process still has it open; `base`: its bytes as far as they are in the document.
    Keep {
        /// The name.
        temp: String,
        /// See above.
        base: Bytes,
    },
    /// Nobody has, and all of it is in the document.
    Forget {
        /// The name.
        temp: String,
    },
}

/// What one document adds in one group commit.
#[derive(Clone, Debug)]
pub struct Append {
    /// The document.
    pub document_id: DocumentId,
    /// Its new updates.
    pub row: Option<LogRow>,
    /// Who wrote them; a range that is there is made longer.
    pub authors: Vec<AuthorRange>,
    /// What it adds to the history; an entry that is there is made longer.
    pub changes: Vec<ChangeRow>,
    /// Replaced files that are watched from now on, or no longer.
    pub asides: Vec<AsideChange>,
    /// Where the disk peer stands from now on.
    pub disk: Option<DiskRecord>,
}

/// A document's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentRow {
    /// Its id.
    pub id: DocumentId,
    /// Its branch.
    pub branch_id: BranchId,
    /// Its path in the workspace.
    pub path: String,
    /// The client id of its seed.
    pub generation: i64,
    /// Where the disk peer stands.
    pub disk: DiskRecord,
}

/// A new document and its seed, which stands at position 0.
#[derive(Clone, Debug)]
pub struct NewDocument {
    /// Its id.
    pub id: DocumentId,
    /// Its branch.
    pub branch_id: BranchId,
    /// Its path.
    pub path: String,
    /// The client id of its seed.
    pub generation: i64,
    /// The seed.
    pub snapshot: Bytes,
    /// Who typed some of the seed, where that is known.
    pub authors: Vec<AuthorRange>,
    /// What the file is.
    pub disk: DiskRecord,
    /// Now.
    pub now_ms: i64,
}

/// All that is needed to open a document.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its row.
    pub row: DocumentRow,
    /// Where the newest snapshot stands.
    pub snapshot_position: i64,
    /// The newest snapshot.
    pub snapshot: Bytes,
    /// The rows after it, in order.
    pub log: Vec<LogRow>,
    /// Who wrote what.
    pub authors: Vec<AuthorRange>,
    /// The temporary names of replaced files that it watches.
    pub asides: Vec<String>,
}

impl Loaded {
    /// Where its log ends.
    #[must_use]
    pub fn position(&self) -> i64 {
        self.log.last().map_or(self.snapshot_position, |row| row.position)
    }

    /// Something of it was not written to the file.
    #[must_use]
    pub fn is_ahead_of_its_file(&self) -> bool {
        self.position() > self.row.disk.synced_position
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    branch_id: String,
    path: String,
    generation: i64,
    synced_position: i64,
    synced_hash: Option<Vec<u8>>,
    outside: String,
    intent: Option<String>,
    taken: String,
    moving_to: Option<String>,
}

impl TryFrom<Row> for DocumentRow {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let damaged = || StoreError::Damaged(format!("disk record of document {}", row.id));
        let outside = row.outside.split_terminator(',').map(str::parse).collect::<Result<_, _>>();
        let intent = row.intent.as_deref().map(serde_json::from_str).transpose();
        Ok(Self {
            id: read(&row.id, "document id")?,
            branch_id: read(&row.branch_id, "branch id")?,
            disk: DiskRecord {
                synced_position: row.synced_position,
                synced_hash: row.synced_hash.clone(),
                outside: outside.map_err(|_| damaged())?,
                intent: intent.map_err(|_| damaged())?,
                taken: serde_json::from_str(&row.taken).map_err(|_| damaged())?,
            },
            path: row.path,
            generation: row.generation,
        })
    }
}

fn outside_text(outside: &[i64]) -> String {
    outside.iter().map(|position| format!("{position},")).collect()
}

fn taken_text(taken: &[State]) -> Result<String, StoreError> {
    serde_json::to_string(taken).map_err(|error| StoreError::Damaged(error.to_string()))
}

fn intent_text(intent: Option<&Intent>) -> Result<Option<String>, StoreError> {
    intent.map(serde_json::to_string).transpose().map_err(|error| StoreError::Damaged(error.to_string()))
}

#[derive(sqlx::FromRow)]
struct LogRowRow {
    first_position: i64,
    position: i64,
    data: Vec<u8>,
    at_ms: i64,
}

impl Store {
    /// Stores a new document with its seed.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the path has a live one.
    pub async fn create_document(&self, new: &NewDocument) -> Result<(), StoreError> {
        let row =
            "insert into document (id, branch_id, path, generation, is_live, created_at_ms, synced_position,
            synced_hash, outside, intent, taken) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
        let mut write = self.begin().await?;
        on_write!(write, connection => sqlx::query(row)
            .bind(new.id.as_str())
            .bind(new.branch_id.as_str())
            .bind(&new.path)
            .bind(new.generation)
            .bind(true)
            .bind(new.now_ms)
            .bind(new.disk.synced_position)
            .bind(new.disk.synced_hash.clone())
            .bind(outside_text(&new.disk.outside))
            .bind(intent_text(new.disk.intent.as_ref())?)
            .bind(taken_text(&new.disk.taken)?)
            .execute(connection).await.map(|_| ()))?;
        let mut batch = Batch::default();
        add_authors(&mut batch, &new.id, &new.authors);
        batch.run(&mut write).await?;
        insert_snapshot(&mut write, &new.id, 0, &new.snapshot, new.now_ms).await?;
        write.commit().await
    }

    /// The live document of a path.
    pub async fn live_document(
        &self,
        branch: &BranchId,
        path: &str,
    ) -> Result<Option<DocumentRow>, StoreError> {
        let sql = "select * from document where branch_id = $1 and path = $2 and is_live";
        let row: Option<Row> = on_db!(self, pool => sqlx::query_as(sql)
            .bind(branch.as_str()).bind(path.to_owned()).fetch_optional(pool).await)?;
        row.map(TryInto::try_into).transpose()
    }

    /// The document of a path that ended last.
    pub async fn last_ended(&self, branch: &BranchId, path: &str) -> Result<Option<DocumentRow>, StoreError> {
        let sql = "select * from document where branch_id = $1 and path = $2 and not is_live
            order by closed_at_ms desc, id desc limit 1";
        let row: Option<Row> = on_db!(self, pool => sqlx::query_as(sql)
            .bind(branch.as_str()).bind(path.to_owned()).fetch_optional(pool).await)?;
        row.map(TryInto::try_into).transpose()
    }

    /// Where the live document is that was seeded under the client id `generation`.
    pub async fn path_of(&self, branch: &BranchId, generation: u64) -> Result<Option<String>, StoreError> {
        let sql = "select path from document where branch_id = $1 and is_live and generation = $2";
        let Ok(generation) = i64::try_from(generation) else { return Ok(None) };
        Ok(on_db!(self, pool => sqlx::query_scalar(sql)
            .bind(branch.as_str()).bind(generation).fetch_optional(pool).await)?)
    }

    /// Live documents whose log is ahead of their file, whose write-back was interrupted, or who watch a replaced file.
    pub async fn needs_recovery(&self, branch: &BranchId) -> Result<Vec<DocumentRow>, StoreError> {
        let sql = "select * from document where branch_id = $1 and is_live and (intent is not null
            or exists (select 1 from document_log where document_id = document.id and position > synced_position)
            or exists (select 1 from document_aside where document_id = document.id))";
        let rows: Vec<Row> =
            on_db!(self, pool => sqlx::query_as(sql).bind(branch.as_str()).fetch_all(pool).await)?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// The temporary names of all replaced files that live documents of a branch watch.
    pub async fn asides(&self, branch: &BranchId) -> Result<Vec<String>, StoreError> {
        let sql = "select temp from document_aside where document_id in
            (select id from document where branch_id = $1 and is_live)";
        Ok(on_db!(self, pool => sqlx::query_scalar(sql).bind(branch.as_str()).fetch_all(pool).await)?)
    }

    /// What of a replaced file is in its document; see [`AsideChange::Keep`].
    pub async fn aside_base(&self, id: &DocumentId, temp: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "select base from document_aside where document_id = $1 and temp = $2";
        Ok(on_db!(self, pool => sqlx::query_scalar(sql)
            .bind(id.as_str()).bind(temp.to_owned()).fetch_optional(pool).await)?)
    }

    /// Loads a document.
    pub async fn load(&self, id: &DocumentId) -> Result<Option<Loaded>, StoreError> {
        let id = id.as_str();
        let sql = "select * from document where id = $1";
        let row: Option<Row> = on_db!(self, pool => sqlx::query_as(sql).bind(id).fetch_optional(pool).await)?;
        let Some(row) = row else { return Ok(None) };
        let sql = "select position, data from document_snapshot where document_id = $1
            order by position desc limit 1";
        let snapshot: Option<(i64, Vec<u8>)> =
            on_db!(self, pool => sqlx::query_as(sql).bind(id).fetch_optional(pool).await)?;
        let (snapshot_position, snapshot) =
            snapshot.ok_or_else(|| StoreError::Damaged(format!("document {id} has no snapshot")))?;
        let sql =
            "select * from document_log where document_id = $1 and position > $2 order by first_position";
        let log: Vec<LogRowRow> = on_db!(self, pool => sqlx::query_as(sql)
            .bind(id).bind(snapshot_position).fetch_all(pool).await)?;
        let sql = "select client_id, clock_start, clock_end, session_id, at_ms from document_author
            where document_id = $1 order by client_id, clock_start";
        let authors = on_db!(self, pool => sqlx::query_as(sql).bind(id).fetch_all(pool).await)?;
        let sql = "select temp from document_aside where document_id = $1";
        let asides = on_db!(self, pool => sqlx::query_scalar(sql).bind(id).fetch_all(pool).await)?;
        let log = log
            .into_iter()
            .map(|row| LogRow {
                first_position: row.first_position,
                position: row.position,
                data: row.data.into(),
                at_ms: row.at_ms,
            })
            .collect();
        let snapshot = snapshot.into();
        Ok(Some(Loaded { row: row.try_into()?, snapshot_position, snapshot, log, authors, asides }))
    }

    /// Writes what many documents add, in one transaction.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when a position is taken: another writer is at work, nothing was written.
    pub async fn append(&self, appends: &[Append]) -> Result<(), StoreError> {
        let log = "insert into document_log (document_id, first_position, position, data, at_ms)
            values ($1, $2, $3, $4, $5)";
        let change =
            "insert into document_change (document_id, first_position, position, first_at_ms, at_ms, authors)
            values ($1, $2, $3, $4, $5, $6) on conflict (document_id, first_position) do update
            set position = excluded.position, at_ms = excluded.at_ms, authors = excluded.authors";
        let keep = "insert into document_aside (document_id, temp, base) values ($1, $2, $3)
            on conflict (document_id, temp) do nothing";
        let forget = "delete from document_aside where document_id = $1 and temp = $2";
        let disk = "update document set synced_position = $1, synced_hash = $2, outside = $3, intent = $4,
            taken = $5 where id = $6";
        let mut batch = Batch::default();
        for append in appends {
            let id = append.document_id.as_str();
            if let Some(row) = &append.row {
                let data = row.data.to_vec();
                batch.add(
                    log,
                    [
                        id.into(),
                        row.first_position.into(),
                        row.position.into(),
                        data.into(),
                        row.at_ms.into(),
                    ],
                );
            }
            add_authors(&mut batch, &append.document_id, &append.authors);
            for entry in &append.changes {
                let authors = serde_json::to_string(&entry.authors)
                    .map_err(|error| StoreError::Damaged(error.to_string()))?;
                let (first, last) = (entry.first_position.into(), entry.position.into());
                let (began, ended) = (entry.first_at_ms.into(), entry.at_ms.into());
                batch.add(change, [id.into(), first, last, began, ended, authors.into()]);
            }
            for aside in &append.asides {
                match aside {
                    AsideChange::Keep { temp, base } => {
                        batch.add(keep, [id.into(), temp.as_str().into(), base.to_vec().into()]);
                    }
                    AsideChange::Forget { temp } => batch.add(forget, [id.into(), temp.as_str().into()]),
                }
            }
            if let Some(record) = &append.disk {
                let intent = intent_text(record.intent.as_ref())?;
                let (hash, taken) = (record.synced_hash.clone(), taken_text(&record.taken)?);
                let outside = outside_text(&record.outside);
                batch.add(
                    disk,
                    [
                        record.synced_position.into(),
                        hash.into(),
                        outside.into(),
                        intent.into(),
                        taken.into(),
                        id.into(),
                    ],
                );
            }
        }
        batch.transact(self).await
    }

    /// Adds a snapshot of the state at `position` (the end of a row), from which the document is loaded from now on.
    /// What is kept of the past before it is bounded; see [`super::HISTORY_ROWS`] and its neighbours.
    pub async fn compact(
        &self,
        id: &DocumentId,
        position: i64,
        snapshot: &[u8],
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut write = self.begin().await?;
        insert_snapshot(&mut write, id, position, snapshot, now_ms).await?;
        cut_past(&mut write, id).await?;
        write.commit().await
    }

    /// Ends a generation; its log stays, its path is free. The branch's ended documents are bounded; see [`super::ENDED_KEPT`] and [`super::ENDED_BYTES`].
    pub async fn close_document(
        &self,
        id: &DocumentId,
        why: &str,
        text: Option<&LastText>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let sql = "update document set is_live = $1, reason = $2, closed_at_ms = $3, text_bytes = $4,
            format = $5 where id = $6";
        let mut write = self.begin().await?;
        on_write!(write, connection => sqlx::query(sql)
            .bind(false)
            .bind(why.to_owned())
            .bind(now_ms)
            .bind(text.map(|text| text.len_bytes))
            .bind(text.and_then(|text| text.format.clone()))
            .bind(id.as_str())
            .execute(connection).await.map(|_| ()))?;
        let asides = "delete from document_aside where document_id = $1";
        on_write!(write, connection => sqlx::query(asides)
            .bind(id.as_str()).execute(connection).await.map(|_| ()))?;
        cut_ended(&mut write, id).await?;
        write.commit().await
    }

    /// A branch's live documents.
    pub async fn live_documents(&self, branch: &BranchId) -> Result<Vec<DocumentRow>, StoreError> {
        let sql = "select * from document where branch_id = $1 and is_live order by path";
        let rows: Vec<Row> =
            on_db!(self, pool => sqlx::query_as(sql).bind(branch.as_str()).fetch_all(pool).await)?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// A document's row, if it is alive.
    pub async fn live_document_of(&self, id: &DocumentId) -> Result<Option<DocumentRow>, StoreError> {
        let sql = "select * from document where id = $1 and is_live";
        let row: Option<Row> =
            on_db!(self, pool => sqlx::query_as(sql).bind(id.as_str()).fetch_optional(pool).await)?;
        row.map(TryInto::try_into).transpose()
    }

    /// The paths of a branch's documents, living and ended.
    pub async fn documents_of(&self, branch: &BranchId) -> Result<Vec<String>, StoreError> {
        let sql = "select distinct path from document where branch_id = $1";
        let paths =
            on_db!(self, pool => sqlx::query_scalar(sql).bind(branch.as_str()).fetch_all(pool).await)?;
        Ok(paths)
    }

    /// Live documents at `path` or in the folder `path`.
    pub async fn documents_beneath(
        &self,
        branch: &BranchId,
        path: &str,
    ) -> Result<Vec<DocumentRow>, StoreError> {
        // `0` follows `/`: the range holds all that begins with `path/`, in both databases' byte order.
        let sql = "select * from document where branch_id = $1 and is_live
            and (path = $2 or (path >= $3 and path < $4)) order by path";
        let rows: Vec<Row> = on_db!(self, pool => sqlx::query_as(sql)
            .bind(branch.as_str())
            .bind(path.to_owned())
            .bind(format!("{path}/"))
            .bind(format!("{path}0"))
            .fetch_all(pool).await)?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Notes where documents are about to move, all or none.
    pub async fn plan_moves(&self, moves: &[(DocumentId, String)]) -> Result<(), StoreError> {
        self.set_moves("update document set moving_to = $1 where id = $2", moves).await
    }

    /// Forgets planned moves.
    pub async fn drop_moves(&self, moves: &[(DocumentId, String)]) -> Result<(), StoreError> {
        self.set_moves("update document set moving_to = null where moving_to = $1 and id = $2", moves).await
    }

    /// Documents are at their new paths, all or none.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when one of these has a live document.
    pub async fn finish_moves(&self, moves: &[(DocumentId, String)]) -> Result<(), StoreError> {
        self.set_moves("update document set path = $1, moving_to = null where id = $2", moves).await
    }

    async fn set_moves(&self, sql: &'static str, moves: &[(DocumentId, String)]) -> Result<(), StoreError> {
        if moves.is_empty() {
            return Ok(());
        }
        let mut write = self.begin().await?;
        for (id, path) in moves {
            on_write!(write, connection => sqlx::query(sql)
                .bind(path.clone()).bind(id.as_str()).execute(connection).await.map(|_| ()))?;
        }
        write.commit().await
    }

    /// Live documents whose move was planned and not recorded, and where they were to go.
    pub async fn planned_moves(&self, branch: &BranchId) -> Result<Vec<(DocumentRow, String)>, StoreError> {
        let sql = "select * from document where branch_id = $1 and is_live and moving_to is not null";
        let rows: Vec<Row> =
            on_db!(self, pool => sqlx::query_as(sql).bind(branch.as_str()).fetch_all(pool).await)?;
        rows.into_iter()
            .map(|mut row| {
                let to = row.moving_to.take().unwrap_or_default();
                Ok((row.try_into()?, to))
            })
            .collect()
    }
}

fn add_authors(batch: &mut Batch, id: &DocumentId, authors: &[AuthorRange]) {
    let sql = "insert into document_author (document_id, client_id, clock_start, clock_end, session_id,
        at_ms) values ($1, $2, $3, $4, $5, $6)
        on conflict (document_id, client_id, clock_start) do update set clock_end = excluded.clock_end";
    for range in authors {
        let (client, from, to) = (range.client_id.into(), range.clock_start.into(), range.clock_end.into());
        batch.add(
            sql,
            [id.as_str().into(), client, from, to, range.session_id.as_str().into(), range.at_ms.into()],
        );
    }
}

async fn insert_snapshot(
    write: &mut Write,
    id: &DocumentId,
    position: i64,
    data: &[u8],
    now_ms: i64,
) -> Result<(), StoreError> {
    let sql =
        "insert into document_snapshot (document_id, position, data, created_at_ms) values ($1, $2, $3, $4)
        on conflict (document_id, position) do nothing";
    on_write!(*write, connection => sqlx::query(sql)
        .bind(id.as_str())
        .bind(position)
        .bind(data.to_vec())
        .bind(now_ms)
        .execute(connection).await.map(|_| ()))?;
    Ok(())
}
