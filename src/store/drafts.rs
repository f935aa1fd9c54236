//! Bytes that a writer sent and perch could not take: kept, so that nobody's typing is lost.

use super::db::{Store, StoreError, on_db, on_write, read};
use crate::base::{BranchId, DocumentId, DraftId, SessionId};
use std::collections::HashMap;

/// Drafts per branch; past it the oldest goes.
pub const DRAFTS_KEPT: usize = 1_000;
/// Bytes of all drafts of a branch; past it the oldest go.
pub const DRAFT_BYTES: i64 = 256 * 1024 * 1024;
/// Drafts of one session on a branch; past it that session's oldest goes, so that nobody pushes others' out alone.
pub const DRAFTS_PER_SESSION: usize = 200;
/// Bytes of one session's drafts on a branch; the newest stays whatever its size (a frame is smaller).
pub const DRAFT_BYTES_PER_SESSION: i64 = 64 * 1024 * 1024;

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

/// A draft without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DraftHead {
    /// Its id.
    pub id: DraftId,
    /// The document it was meant for.
    pub document_id: Option<DocumentId>,
    /// The path at that time.
    pub path: String,
    /// Who sent it.
    pub session_id: String,
    /// Why it was refused.
    pub reason: String,
    /// How many bytes it has.
    pub len_bytes: i64,
    /// When.
    pub created_at_ms: i64,
}

#[derive(sqlx::FromRow)]
struct Head {
    id: String,
    document_id: Option<String>,
    path: String,
    session_id: String,
    reason: String,
    len_bytes: i64,
    created_at_ms: i64,
}

impl TryFrom<Head> for DraftHead {
    type Error = StoreError;

    fn try_from(row: Head) -> Result<Self, StoreError> {
        Ok(Self {
            id: read(&row.id, "draft id")?,
            document_id: row.document_id.as_deref().map(|id| read(id, "document id")).transpose()?,
            path: row.path,
            session_id: row.session_id,
            reason: row.reason,
            len_bytes: row.len_bytes,
            created_at_ms: row.created_at_ms,
        })
    }
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
    /// Stores a draft, and drops the oldest past what a session and a branch may keep.
    pub async fn insert_draft(&self, draft: &Draft) -> Result<(), StoreError> {
        let sql =
            "insert into draft (id, branch_id, document_id, path, session_id, reason, data, created_at_ms)
            values ($1, $2, $3, $4, $5, $6, $7, $8)";
        let sizes = "select id, session_id, cast(length(data) as bigint) from draft where branch_id = $1
            order by created_at_ms desc, id desc";
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
        let all: Vec<(String, String, i64)> = on_write!(write, connection => sqlx::query_as(sizes)
            .bind(draft.branch_id.as_str()).fetch_all(connection).await)?;
        for id in too_much(&all) {
            on_write!(write, connection => sqlx::query("delete from draft where id = $1")
                .bind(id).execute(connection).await.map(|_| ()))?;
        }
        write.commit().await
    }

    /// A branch's drafts, or those of one session, newest first.
    pub async fn drafts(
        &self,
        branch: &BranchId,
        session: Option<&SessionId>,
    ) -> Result<Vec<DraftHead>, StoreError> {
        let sql =
            "select id, document_id, path, session_id, reason, cast(length(data) as bigint) as len_bytes,
            created_at_ms from draft where branch_id = $1 and ($2 = '' or session_id = $2)
            order by created_at_ms desc, id desc";
        let session = session.map_or("", SessionId::as_str);
        let rows: Vec<Head> = on_db!(self, pool => sqlx::query_as(sql)
            .bind(branch.as_str()).bind(session).fetch_all(pool).await)?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// One draft.
    pub async fn draft(&self, branch: &BranchId, id: &DraftId) -> Result<Option<Draft>, StoreError> {
        let sql = "select * from draft where branch_id = $1 and id = $2";
        let row: Option<Row> = on_db!(self, pool => sqlx::query_as(sql)
            .bind(branch.as_str()).bind(id.as_str()).fetch_optional(pool).await)?;
        row.map(TryInto::try_into).transpose()
    }

    /// Removes a draft; one that is gone is no error.
    pub async fn delete_draft(&self, branch: &BranchId, id: &DraftId) -> Result<(), StoreError> {
        let sql = "delete from draft where branch_id = $1 and id = $2";
        let mut write = self.begin().await?;
        on_write!(write, connection => sqlx::query(sql)
            .bind(branch.as_str()).bind(id.as_str()).execute(connection).await.map(|_| ()))?;
        write.commit().await
    }
}

/// Which of a branch's drafts (id, session, bytes; newest first) are past the bounds.
fn too_much(all: &[(String, String, i64)]) -> Vec<&str> {
    let mut of_session: HashMap<&str, (usize, i64)> = HashMap::new();
    let (mut count, mut bytes) = (0, 0);
    let mut gone = Vec::new();
    for (id, session, len) in all {
        let own = of_session.entry(session).or_default();
        let newest_of_session = own.0 == 0;
        let fits_session = newest_of_session
            || (own.0 < DRAFTS_PER_SESSION && own.1.saturating_add(*len) <= DRAFT_BYTES_PER_SESSION);
        let fits_branch = count == 0 || (count < DRAFTS_KEPT && bytes + *len <= DRAFT_BYTES);
        if fits_session && fits_branch {
            *own = (own.0 + 1, own.1 + *len);
            count += 1;
            bytes += *len;
        } else {
            gone.push(id.as_str());
            // What is older goes too: a small one must not outlive a newer one.
            own.0 = DRAFTS_PER_SESSION;
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drafts(of: &[(&str, i64)]) -> Vec<(String, String, i64)> {
        of.iter()
            .enumerate()
            .map(|(n, (session, len))| (n.to_string(), (*session).to_owned(), *len))
            .collect()
    }

    #[test]
    fn a_session_can_fill_only_its_own_share() {
        let frame = 32 * 1024 * 1024;
        let mut all = vec![("eve", frame); 50];
        all.push(("ann", 10));
        let all = drafts(&all);
        let gone = too_much(&all);
        assert_eq!(gone.len(), 48, "two frames are the share of one session");
        assert!(!gone.contains(&"50"), "ann's stays");
        let many = drafts(&vec![("eve", 1); DRAFTS_PER_SESSION + 3]);
        assert_eq!(too_much(&many).len(), 3);
    }

    #[tokio::test]
    async fn large_drafts_push_out_only_their_senders() {
        let (store, branch, _folder) = crate::store::testing().await;
        let draft = |session: &str, len: usize, at_ms| Draft {
            id: DraftId::generate(),
            branch_id: branch.clone(),
            document_id: None,
            path: "a".into(),
            session_id: session.into(),
            reason: "test".into(),
            data: vec![0; len],
            created_at_ms: at_ms,
        };
        store.insert_draft(&draft("ann", 10, 0)).await.unwrap();
        for at_ms in 1..5 {
            store.insert_draft(&draft("eve", 30 * 1024 * 1024, at_ms)).await.unwrap();
        }
        let left: Vec<_> = store.drafts(&branch, None).await.unwrap();
        let left: Vec<_> = left.iter().map(|head| (head.session_id.as_str(), head.created_at_ms)).collect();
        assert_eq!(left, [("eve", 4), ("eve", 3), ("ann", 0)]);
        assert_eq!(store.drafts(&branch, Some(&"ann".parse().unwrap())).await.unwrap().len(), 1);
    }

    #[test]
    fn a_branch_has_a_bound_whoever_fills_it() {
        let names: Vec<String> = (0..20).map(|n| format!("s{n}")).collect();
        let all: Vec<_> = names.iter().map(|name| (name.as_str(), DRAFT_BYTES_PER_SESSION)).collect();
        let all = drafts(&all);
        let gone = too_much(&all);
        assert_eq!(gone.len(), 16);
        assert!(!gone.contains(&"0"), "the newest stays");
    }
}
