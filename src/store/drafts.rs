//! Bytes that a writer sent and perch could not take: kept, so that nobody's typing is lost.

use super::db::{Store, StoreError, on_db, on_write, read};
use crate::base::{BranchId, DocumentId, DraftId};

/// Drafts per branch; past it the oldest goes.
pub const DRAFTS_KEPT: i64 = 1_000;

/// See the module's docs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Its id.
    pub id: DraftId,
    /// The branch.
    pub branch_id: BranchId,
    /// The document it was meant for.
    pub document_id: Option<DocumentId>,
    /// The path at that time.
    pub path: String,
    /// Who sent it.
    pub session_id: String,
    /// Why it was refused.
    pub reason: String,
    /// A Yjs update (v1), or a file's text.
    pub data: Vec<u8>,
    /// When.
    pub created_at_ms: i64,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    branch_id: String,
    document_id: Option<String>,
    path: String,
    session_id: String,
    reason: String,
    data: Vec<u8>,
    created_at_ms: i64,
}

impl TryFrom<Row> for Draft {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: read(&row.id, "draft id")?,
            branch_id: read(&row.branch_id, "branch id")?,
            document_id: row.document_id.as_deref().map(|id| read(id, "document id")).transpose()?,
            path: row.path,
            session_id: row.session_id,
            reason: row.reason,
            data: row.data,
            created_at_ms: row.created_at_ms,
        })
    }
}

impl Store {
    /// Stores a draft, and drops the branch's oldest past [`DRAFTS_KEPT`].
    pub async fn insert_draft(&self, draft: &Draft) -> Result<(), StoreError> {
        let sql =
            "insert into draft (id, branch_id, document_id, path, session_id, reason, data, created_at_ms)
            values ($1, $2, $3, $4, $5, $6, $7, $8)";
        let cut = "delete from draft where branch_id = $1 and id not in
            (select id from draft where branch_id = $1 order by created_at_ms desc, id desc limit $2)";
        let mut write = self.begin().await?;
        on_write!(write, connection => sqlx::query(sql)
            .bind(draft.id.as_str())
            .bind(draft.branch_id.as_str())
            .bind(draft.document_id.as_ref().map(DocumentId::as_str))
            .bind(&draft.path)
            .bind(&draft.session_id)
            .bind(&draft.reason)
            .bind(&draft.data)
            .bind(draft.created_at_ms)
            .execute(connection).await.map(|_| ()))?;
        on_write!(write, connection => sqlx::query(cut)
            .bind(draft.branch_id.as_str()).bind(DRAFTS_KEPT).execute(connection).await.map(|_| ()))?;
        write.commit().await
    }

    /// A branch's drafts, newest first, at most 100.
    pub async fn drafts(&self, branch: &BranchId) -> Result<Vec<Draft>, StoreError> {
        let sql = "select * from draft where branch_id = $1 order by created_at_ms desc, id desc limit 100";
        let rows: Vec<Row> =
            on_db!(self, pool => sqlx::query_as(sql).bind(branch.as_str()).fetch_all(pool).await)?;
        rows.into_iter().map(TryInto::try_into).collect()
    }
}
