//! Share links: only their hashes are here.

use super::db::{Store, StoreError, on_db, on_write, read};
use crate::base::{BranchId, LinkId, Permission};

/// Lets whoever has it make a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its public half.
    pub id: LinkId,
    /// The branch it opens.
    pub branch_id: BranchId,
    /// SHA-256 of the secret.
    pub hash: Vec<u8>,
    /// The right of the sessions it makes.
    pub permission: Permission,
    /// Whether those may fork the branch, each once.
    pub may_fork: bool,
    /// Until when it works.
    pub expires_at_ms: Option<i64>,
    /// How often it works.
    pub max_uses: Option<i64>,
    /// How often it has worked.
    pub uses: i64,
    /// When it was made.
    pub created_at_ms: i64,
    /// When it was revoked.
    pub revoked_at_ms: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    branch_id: String,
    hash: Vec<u8>,
    permission: String,
    may_fork: bool,
    expires_at_ms: Option<i64>,
    max_uses: Option<i64>,
    uses: i64,
    created_at_ms: i64,
    revoked_at_ms: Option<i64>,
}

impl TryFrom<Row> for Link {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: read(&row.id, "link id")?,
            branch_id: read(&row.branch_id, "branch id")?,
            hash: row.hash,
            permission: read(&row.permission, "permission")?,
            may_fork: row.may_fork,
            expires_at_ms: row.expires_at_ms,
            max_uses: row.max_uses,
            uses: row.uses,
            created_at_ms: row.created_at_ms,
            revoked_at_ms: row.revoked_at_ms,
        })
    }
}

impl Store {
    /// Stores a new link; `false` when the branch has `max` that still work. Those that do not make room.
    pub async fn insert_link(&self, link: &Link, max: i64) -> Result<bool, StoreError> {
        let sql = "insert into link (id, branch_id, hash, permission, expires_at_ms, max_uses, uses,
            created_at_ms, revoked_at_ms, may_fork) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let mut write = self.begin().await?;
        let count = "select count(*) from link where branch_id = $1";
        let count: i64 = on_write!(write, connection =>
            sqlx::query_scalar(count).bind(link.branch_id.as_str()).fetch_one(connection).await)?;
        if count >= max {
            let spent = "delete from link where branch_id = $1 and (revoked_at_ms is not null
                or expires_at_ms <= $2 or uses >= max_uses)";
            let gone = on_write!(write, connection => sqlx::query(spent)
                .bind(link.branch_id.as_str())
                .bind(link.created_at_ms)
                .execute(connection).await.map(|done| done.rows_affected()))?;
            if gone == 0 {
                return Ok(false);
            }
        }
        on_write!(write, connection => sqlx::query(sql)
            .bind(link.id.as_str())
            .bind(link.branch_id.as_str())
            .bind(&link.hash)
            .bind(link.permission.as_str())
            .bind(link.expires_at_ms)
            .bind(link.max_uses)
            .bind(link.uses)
            .bind(link.created_at_ms)
            .bind(link.revoked_at_ms)
            .bind(link.may_fork)
            .execute(connection).await.map(|_| ()))?;
        write.commit().await?;
        Ok(true)
    }

    /// The link with this hash, whether it still works or not.
    pub async fn link_by_hash(&self, hash: &[u8]) -> Result<Option<Link>, StoreError> {
        let sql = "select * from link where hash = $1";
        let row: Option<Row> =
            on_db!(self, pool => sqlx::query_as(sql).bind(hash.to_vec()).fetch_optional(pool).await)?;
        row.map(TryInto::try_into).transpose()
    }

    /// A branch's links, oldest first, at most 1,000.
    pub async fn links(&self, branch: &BranchId) -> Result<Vec<Link>, StoreError> {
        let sql = "select * from link where branch_id = $1 order by created_at_ms, id limit 1000";
        let rows: Vec<Row> =
            on_db!(self, pool => sqlx::query_as(sql).bind(branch.as_str()).fetch_all(pool).await)?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Revokes a link; `false` when there is no valid one with this id on the branch.
    pub async fn revoke_link(&self, branch: &BranchId, id: &LinkId, now_ms: i64) -> Result<bool, StoreError> {
        let sql =
            "update link set revoked_at_ms = $1 where branch_id = $2 and id = $3 and revoked_at_ms is null";
        let mut write = self.begin().await?;
        let changed = on_write!(write, connection => sqlx::query(sql)
            .bind(now_ms)
            .bind(branch.as_str())
            .bind(id.as_str())
            .execute(connection).await.map(|done| done.rows_affected()))?;
        write.commit().await?;
        Ok(changed > 0)
    }

    /// Counts one use of the link with this hash if it is valid now, and gives it; two callers never share the last.
    pub async fn use_link(&self, hash: &[u8], now_ms: i64) -> Result<Option<Link>, StoreError> {
        let sql = "update link set uses = uses + 1 where hash = $1 and revoked_at_ms is null
            and (expires_at_ms is null or expires_at_ms > $2) and (max_uses is null or uses < max_uses)
            returning *";
        let mut write = self.begin().await?;
        let row: Option<Row> = on_write!(write, connection => sqlx::query_as(sql)
            .bind(hash.to_vec()).bind(now_ms).fetch_optional(connection).await)?;
        write.commit().await?;
        row.map(TryInto::try_into).transpose()
    }
}
