//! What documents remember: entries of the history, states at a position, documents that ended.

use super::db::{Store, StoreError, Write, on_db, on_write, read};
use super::documents::{AuthorRange, LogRow};
use crate::base::{BranchId, DocumentId};
use serde::{Deserialize, Serialize};

/// Snapshots kept per document, spread over the rows that are kept; each read of a position starts from one.
pub const SNAPSHOTS_KEPT: usize = 8;
/// Rows of log kept per document behind its newest snapshot. Past it (or the bytes) the oldest snapshot goes, and
/// with it every position before the next one.
pub const HISTORY_ROWS: i64 = 8_192;
/// Bytes of snapshots and rows kept per document, beside its newest snapshot.
pub const HISTORY_BYTES: i64 = 64 * 1024 * 1024;
/// Entries of history kept per document; past it the oldest go.
pub const CHANGES_KEPT: i64 = 10_000;
/// Ended documents kept per branch; past it (or the bytes) those that ended first go for good.
pub const ENDED_KEPT: usize = 200;
/// Bytes of all ended documents of a branch; the one that ended last is kept whatever its size.
pub const ENDED_BYTES: i64 = 256 * 1024 * 1024;

/// How much one author changed, in UTF-16 units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorChange {
    /// A session's id, or a word in brackets.
    pub author: String,
    /// What was inserted.
    pub inserted: i64,
    /// What was deleted.
    pub deleted: i64,
}

/// One entry of a document's history: the positions `first_position..=position`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeRow {
    /// First position.
    pub first_position: i64,
    /// Last position.
    pub position: i64,
    /// When it began.
    pub first_at_ms: i64,
    /// When it was changed last.
    pub at_ms: i64,
    /// Who changed how much.
    pub authors: Vec<AuthorChange>,
}

/// What is stored of one position.
#[derive(Clone, Debug)]
pub enum Past {
    /// Cut; this is the oldest position that can be read.
    Gone(i64),
    /// Not there yet; this is the newest.
    Ahead(i64),
    /// A state, and the rows after it up to the one that holds the position.
    Kept {
        /// The state.
        snapshot: Vec<u8>,
        /// The rows, in order.
        rows: Vec<LogRow>,
    },
}

/// The text of a document at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastText {
    /// Its bytes in UTF-8.
    pub len_bytes: i64,
    /// What the file's bytes were beside it, as the caller writes it down.
    pub format: Option<String>,
}

/// A document that ended: deleted, replaced, or no text any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its id.
    pub id: DocumentId,
    /// Where its file was.
    pub path: String,
    /// Why it ended.
    pub reason: String,
    /// When.
    pub closed_at_ms: i64,
    /// Its text then; `None` where its file went while nobody had it open.
    pub text: Option<LastText>,
}

#[derive(sqlx::FromRow)]
struct Change {
    first_position: i64,
    position: i64,
    first_at_ms: i64,
    at_ms: i64,
    authors: String,
}

#[derive(sqlx::FromRow)]
struct EndedRow {
    id: String,
    path: String,
    reason: Option<String>,
    closed_at_ms: Option<i64>,
    text_bytes: Option<i64>,
    format: Option<String>,
}

impl TryFrom<EndedRow> for Ended {
    type Error = StoreError;

    fn try_from(row: EndedRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: read(&row.id, "document id")?,
            path: row.path,
            reason: row.reason.unwrap_or_default(),
            closed_at_ms: row.closed_at_ms.unwrap_or(0),
            text: row.text_bytes.map(|len_bytes| LastText { len_bytes, format: row.format }),
        })
    }
}

impl Store {
    /// A document's entries that begin before a position, newest first.
    pub async fn changes(
        &self,
        id: &DocumentId,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<ChangeRow>, StoreError> {
        let sql = "select first_position, position, first_at_ms, at_ms, authors from document_change
            where document_id = $1 and first_position < $2 order by first_position desc limit $3";
        let rows: Vec<Change> = on_db!(self, pool => sqlx::query_as(sql)
            .bind(id.as_str()).bind(before.unwrap_or(i64::MAX)).bind(limit).fetch_all(pool).await)?;
        rows.into_iter()
            .map(|row| {
                let damaged = |_| StoreError::Damaged(format!("an entry of the history of {id}"));
                Ok(ChangeRow {
                    first_position: row.first_position,
                    position: row.position,
                    first_at_ms: row.first_at_ms,
                    at_ms: row.at_ms,
                    authors: serde_json::from_str(&row.authors).map_err(damaged)?,
                })
            })
            .collect()
    }

    /// The oldest and the newest position of a document that can be read; `None` when it has no snapshot.
    pub async fn positions(&self, id: &DocumentId) -> Result<Option<(i64, i64)>, StoreError> {
        let snapshots = "select min(position), max(position) from document_snapshot where document_id = $1";
        let log = "select max(position) from document_log where document_id = $1";
        let (oldest, snapshot): (Option<i64>, Option<i64>) =
            on_db!(self, pool => sqlx::query_as(snapshots).bind(id.as_str()).fetch_one(pool).await)?;
        let (log,): (Option<i64>,) =
            on_db!(self, pool => sqlx::query_as(log).bind(id.as_str()).fetch_one(pool).await)?;
        Ok(oldest.zip(snapshot.max(log)))
    }

    /// What is needed to make the state at a position.
    pub async fn past(&self, id: &DocumentId, position: i64) -> Result<Past, StoreError> {
        self.past_from(id, position, position).await
    }

    /// All that is kept: the oldest state, and each row since.
    pub async fn all_past(&self, id: &DocumentId) -> Result<Past, StoreError> {
        let (oldest, newest) = self.positions(id).await?.unwrap_or_default();
        self.past_from(id, oldest, newest).await
    }

    /// The newest position that was durable at a time; `None` where nothing that is kept was.
    pub async fn position_at(&self, id: &DocumentId, at_ms: i64) -> Result<Option<i64>, StoreError> {
        let sql = "select max(position) from document_log where document_id = $1 and at_ms <= $2";
        Ok(on_db!(self, pool => sqlx::query_scalar(sql)
            .bind(id.as_str()).bind(at_ms).fetch_one(pool).await)?)
    }

    /// The rows up to a position, and a state from which they lead there, at `from` or before.
    async fn past_from(&self, id: &DocumentId, from: i64, position: i64) -> Result<Past, StoreError> {
        let no_snapshot = || StoreError::Damaged(format!("document {id} has no snapshot"));
        let (oldest, newest) = self.positions(id).await?.ok_or_else(no_snapshot)?;
        if position < oldest {
            return Ok(Past::Gone(oldest));
        }
        if position > newest {
            return Ok(Past::Ahead(newest));
        }
        let sql = "select position, data from document_snapshot where document_id = $1 and position <= $2
            order by position desc limit 1";
        let snapshot: Option<(i64, Vec<u8>)> = on_db!(self, pool => sqlx::query_as(sql)
            .bind(id.as_str()).bind(from).fetch_optional(pool).await)?;
        let Some((from, snapshot)) = snapshot else { return Ok(Past::Gone(oldest)) };
        let sql = "select first_position, position, data, at_ms from document_log where document_id = $1
            and position > $2 and first_position <= $3 order by first_position";
        let rows: Vec<(i64, i64, Vec<u8>, i64)> = on_db!(self, pool => sqlx::query_as(sql)
            .bind(id.as_str()).bind(from).bind(position).fetch_all(pool).await)?;
        let rows: Vec<LogRow> = rows
            .into_iter()
            .map(|(first_position, position, data, at_ms)| LogRow {
                first_position,
                position,
                data: data.into(),
                at_ms,
            })
            .collect();
        // A cut between the two reads leaves a gap.
        let mut reached = from;
        for row in &rows {
            if row.first_position != reached + 1 {
                return Ok(Past::Gone(row.first_position));
            }
            reached = row.position;
        }
        Ok(if reached < position { Past::Gone(reached) } else { Past::Kept { snapshot, rows } })
    }

    /// Who wrote which clocks of a document, by client id and clock.
    pub async fn author_ranges(&self, id: &DocumentId) -> Result<Vec<AuthorRange>, StoreError> {
        let sql = "select client_id, clock_start, clock_end, session_id, at_ms from document_author
            where document_id = $1 order by client_id, clock_start";
        Ok(on_db!(self, pool => sqlx::query_as(sql).bind(id.as_str()).fetch_all(pool).await)?)
    }

    /// When a document was made.
    pub async fn document_made_at(&self, id: &DocumentId) -> Result<Option<i64>, StoreError> {
        let sql = "select created_at_ms from document where id = $1";
        let row: Option<(i64,)> =
            on_db!(self, pool => sqlx::query_as(sql).bind(id.as_str()).fetch_optional(pool).await)?;
        Ok(row.map(|(at_ms,)| at_ms))
    }

    /// A branch's ended documents, the last to end first.
    pub async fn ended(&self, branch: &BranchId) -> Result<Vec<Ended>, StoreError> {
        let sql = "select id, path, reason, closed_at_ms, text_bytes, format from document
            where branch_id = $1 and not is_live order by closed_at_ms desc, id desc";
        let rows: Vec<EndedRow> =
            on_db!(self, pool => sqlx::query_as(sql).bind(branch.as_str()).fetch_all(pool).await)?;
        rows.into_iter().map(TryInto::try_into).collect()
    }
}

/// Cuts what a document with a new snapshot keeps of its past.
pub(super) async fn cut_past(write: &mut Write, id: &DocumentId) -> Result<(), StoreError> {
    let id = id.as_str();
    let snapshots =
        "select position, cast(length(data) as bigint) from document_snapshot where document_id = $1
        order by position";
    let rows = "select position, cast(length(data) as bigint) from document_log where document_id = $1
        order by first_position";
    let snapshots: Vec<(i64, i64)> = on_write!(*write, connection => sqlx::query_as(snapshots)
        .bind(id).fetch_all(connection).await)?;
    let rows: Vec<(i64, i64)> = on_write!(*write, connection => sqlx::query_as(rows)
        .bind(id).fetch_all(connection).await)?;
    let kept = kept_snapshots(&snapshots, &rows);
    let one = "delete from document_snapshot where document_id = $1 and position = $2";
    for (position, _) in snapshots.iter().filter(|(position, _)| !kept.contains(position)) {
        on_write!(*write, connection => sqlx::query(one)
            .bind(id).bind(position).execute(connection).await.map(|_| ()))?;
    }
    let oldest = kept.first().copied().unwrap_or(0);
    let log = "delete from document_log where document_id = $1 and position <= $2";
    on_write!(*write, connection => sqlx::query(log)
        .bind(id).bind(oldest).execute(connection).await.map(|_| ()))?;
    let changes = "delete from document_change where document_id = $1 and first_position <=
        (select first_position from document_change where document_id = $1 order by first_position desc
        limit 1 offset $2)";
    on_write!(*write, connection => sqlx::query(changes)
        .bind(id).bind(CHANGES_KEPT).execute(connection).await.map(|_| ()))?;
    Ok(())
}

/// Which snapshots stay, ascending; the newest always does. `snapshots`: position and bytes, ascending; `rows`: last
/// position and bytes.
fn kept_snapshots(snapshots: &[(i64, i64)], rows: &[(i64, i64)]) -> Vec<i64> {
    let Some((&(newest, _), older)) = snapshots.split_last() else { return Vec::new() };
    let (mut count, mut bytes) = (0, 0);
    let mut kept = vec![newest];
    let mut behind: Vec<_> = rows.iter().filter(|(position, _)| *position <= newest).collect();
    for &(position, len) in older.iter().rev() {
        bytes += len;
        while let Some((_, len)) = behind.pop_if(|(last, _)| *last > position) {
            count += 1;
            bytes += len;
        }
        if count > HISTORY_ROWS || bytes > HISTORY_BYTES {
            break;
        }
        kept.push(position);
    }
    kept.reverse();
    // Thinned where they lie closest, so that what is left is spread over the rows.
    while kept.len() > SNAPSHOTS_KEPT {
        let closest = (1..kept.len() - 1).min_by_key(|&at| kept[at + 1] - kept[at - 1]);
        kept.remove(closest.unwrap_or(1));
    }
    kept
}

/// Drops for good what a branch keeps too much of its ended documents.
pub(super) async fn cut_ended(write: &mut Write, of: &DocumentId) -> Result<(), StoreError> {
    let sql = "select id, cast(
            (select coalesce(sum(length(data)), 0) from document_snapshot where document_id = document.id) +
            (select coalesce(sum(length(data)), 0) from document_log where document_id = document.id) as bigint)
        from document where branch_id = (select branch_id from document where id = $1) and not is_live
        order by closed_at_ms desc, id desc";
    let all: Vec<(String, i64)> = on_write!(*write, connection => sqlx::query_as(sql)
        .bind(of.as_str()).fetch_all(connection).await)?;
    let mut bytes = 0;
    for (index, (id, len)) in all.iter().enumerate() {
        bytes += len;
        if index >= ENDED_KEPT || (index > 0 && bytes > ENDED_BYTES) {
            on_write!(*write, connection => sqlx::query("delete from document where id = $1")
                .bind(id).execute(connection).await.map(|_| ()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn old_snapshots_go_when_rows_or_bytes_are_too_many() {
        let rows: Vec<_> = (1..=HISTORY_ROWS + 10).map(|position| (position, 10)).collect();
        assert_eq!(
            kept_snapshots(&[(0, 5), (20, 5), (HISTORY_ROWS + 10, 5)], &rows),
            [20, HISTORY_ROWS + 10]
        );
        let huge = HISTORY_BYTES / 2 + 1;
        assert_eq!(kept_snapshots(&[(0, huge), (5, huge), (9, huge)], &[(5, 1), (9, 1)]), [5, 9]);
        assert_eq!(kept_snapshots(&[(7, HISTORY_BYTES * 2)], &[]), [7], "the newest stays whatever its size");
    }

    #[tokio::test]
    async fn ended_documents_are_bounded_and_go_with_all_they_have() {
        use crate::store::{Append, AuthorRange, DiskRecord, NewDocument};
        let (store, branch, _folder) = crate::store::testing().await;
        let count = i64::try_from(ENDED_KEPT).unwrap() + 3;
        for at_ms in 0..count {
            let id = DocumentId::generate();
            let new = NewDocument {
                id: id.clone(),
                branch_id: branch.clone(),
                path: "a".into(),
                generation: 1 << 40,
                snapshot: vec![0; 100].into(),
                authors: Vec::new(),
                disk: DiskRecord::default(),
                now_ms: 0,
            };
            store.create_document(&new).await.unwrap();
            let authors = vec![AuthorRange {
                client_id: 1,
                clock_start: 0,
                clock_end: 1,
                session_id: "ann".into(),
                at_ms,
            }];
            let append = Append {
                document_id: id.clone(),
                row: None,
                authors,
                changes: vec![],
                asides: vec![],
                disk: None,
            };
            store.append(&[append]).await.unwrap();
            let text = LastText { len_bytes: at_ms, format: None };
            store.close_document(&id, "deleted", Some(&text), at_ms).await.unwrap();
        }
        let ended = store.ended(&branch).await.unwrap();
        let kept: Vec<_> = ended.iter().map(|ended| ended.text.as_ref().unwrap().len_bytes).collect();
        assert_eq!(kept, (3..count).rev().collect::<Vec<_>>());
        let sql = "select count(*) from document_author";
        let (rows,): (i64,) = on_db!(store, pool => sqlx::query_as(sql).fetch_one(pool).await).unwrap();
        assert_eq!(rows, i64::try_from(ENDED_KEPT).unwrap());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn few_snapshots_stay_spread_over_the_rows(compactions in 1..120_i64, step in 1..300_i64) {
            let mut kept = vec![0];
            let mut rows = Vec::new();
            for compaction in 1..=compactions {
                let newest = compaction * step;
                rows.extend(((newest - step + 1)..=newest).map(|position| (position, 50)));
                kept.push(newest);
                let with_bytes: Vec<_> = kept.iter().map(|&position| (position, 1_000)).collect();
                kept = kept_snapshots(&with_bytes, &rows);
                rows.retain(|(position, _)| *position > kept[0]);
                prop_assert_eq!(kept.last(), Some(&newest));
                prop_assert!(kept.len() <= SNAPSHOTS_KEPT);
                prop_assert!(newest - kept[0] <= HISTORY_ROWS);
                let widest = kept.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
                prop_assert!(widest <= HISTORY_ROWS / 2 + 2 * step, "{kept:?}");
                // Nothing is thrown away while there is room.
                prop_assert!(kept[0] == 0 || newest - kept[0] >= HISTORY_ROWS / 4, "{kept:?}");
            }
        }
    }
}
