//! Tokens that open a branch's previews: only their hashes are here.

use super::db::{Store, StoreError, on_db, on_write, read};
use crate::base::{BranchId, PreviewTokenId};

/// Opens what a branch's processes serve, to whoever has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviewToken {
    /// Its public half.
    pub id: PreviewTokenId,
    /// The branch.
    pub branch_id: BranchId,
    /// SHA-256 of the secret.
    pub hash: Vec<u8>,
    /// The first characters of the secret, to know it by.
    pub prefix: String,
    /// When it was made.
    pub created_at_ms: i64,
    /// Until when it works; one that was revoked has ended.
    pub expires_at_ms: Option<i64>,
    /// When it was used last, to the minute.
    pub used_at_ms: Option<i64>,
}

impl PreviewToken {
    /// Whether it works.
    #[must_use]
    pub fn holds(&self, now_ms: i64) -> bool {
        self.expires_at_ms.is_none_or(|at_ms| at_ms > now_ms)
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    branch_id: String,
    hash: Vec<u8>,
    prefix: String,
    created_at_ms: i64,
    expires_at_ms: Option<i64>,
    used_at_ms: Option<i64>,
}

impl TryFrom<Row> for PreviewToken {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: read(&row.id, "preview token id")?,
            branch_id: read(&row.branch_id, "branch id")?,
            hash: row.hash,
            prefix: row.prefix,
            created_at_ms: row.created_at_ms,
            expires_at_ms: row.expires_at_ms,
            used_at_ms: row.used_at_ms,
        })
    }
}

impl Store {
    /// Stores a new token; `false` when the branch has `max` that work. Those that do not make room.
    ///
    /// # Errors
    /// [`StoreError::Other`] when the branch is gone.
    pub async fn insert_preview_token(&self, token: &PreviewToken, max: i64) -> Result<bool, StoreError> {
        let mut write = self.begin().await?;
        let count = "select count(*) from preview_token where branch_id = $1";
        let count: i64 = on_write!(write, connection =>
            sqlx::query_scalar(count).bind(token.branch_id.as_str()).fetch_one(connection).await)?;
        if count >= max {
            let spent = "delete from preview_token where branch_id = $1 and expires_at_ms <= $2";
            let gone = on_write!(write, connection => sqlx::query(spent)
                .bind(token.branch_id.as_str())
                .bind(token.created_at_ms)
                .execute(connection).await.map(|done| done.rows_affected()))?;
            if gone == 0 {
                return Ok(false);
            }
        }
        let sql = "insert into preview_token (id, branch_id, hash, prefix, created_at_ms, expires_at_ms, used_at_ms)
            values ($1, $2, $3, $4, $5, $6, $7)";
        on_write!(write, connection => sqlx::query(sql)
            .bind(token.id.as_str())
            .bind(token.branch_id.as_str())
            .bind(&token.hash)
            .bind(&token.prefix)
            .bind(token.created_at_ms)
            .bind(token.expires_at_ms)
            .bind(token.used_at_ms)
            .execute(connection).await.map(|_| ()))?;
        write.commit().await?;
        Ok(true)
    }

    /// The token with this hash, whether it still works or not.
    pub async fn preview_token_by_hash(&self, hash: &[u8]) -> Result<Option<PreviewToken>, StoreError> {
        let sql = "select * from preview_token where hash = $1";
        let row: Option<Row> =
            on_db!(self, pool => sqlx::query_as(sql).bind(hash.to_vec()).fetch_optional(pool).await)?;
        row.map(TryInto::try_into).transpose()
    }

    /// The token with this id, whether it still works or not.
    pub async fn preview_token(&self, id: &PreviewTokenId) -> Result<Option<PreviewToken>, StoreError> {
        let sql = "select * from preview_token where id = $1";
        let row: Option<Row> =
            on_db!(self, pool => sqlx::query_as(sql).bind(id.as_str()).fetch_optional(pool).await)?;
        row.map(TryInto::try_into).transpose()
    }

    /// A branch's tokens, oldest first, those that ended lately among them.
    pub async fn preview_tokens(&self, branch: &BranchId) -> Result<Vec<PreviewToken>, StoreError> {
        let sql = "select * from preview_token where branch_id = $1 order by created_at_ms, id";
        let rows: Vec<Row> =
            on_db!(self, pool => sqlx::query_as(sql).bind(branch.as_str()).fetch_all(pool).await)?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Lets a token end at another time, or never, unless it has ended. The token as it then is; `None` when the branch
    /// has none with this id.
    pub async fn change_preview_token(
        &self,
        branch: &BranchId,
        id: &PreviewTokenId,
        expires_at_ms: Option<i64>,
        now_ms: i64,
    ) -> Result<Option<PreviewToken>, StoreError> {
        let sql = "update preview_token set expires_at_ms = $1 where branch_id = $2 and id = $3
            and (expires_at_ms is null or expires_at_ms > $4)";
        let mut write = self.begin().await?;
        on_write!(write, connection => sqlx::query(sql)
            .bind(expires_at_ms)
            .bind(branch.as_str())
            .bind(id.as_str())
            .bind(now_ms)
            .execute(connection).await.map(|_| ()))?;
        let look = "select * from preview_token where branch_id = $1 and id = $2";
        let row: Option<Row> = on_write!(write, connection => sqlx::query_as(look)
            .bind(branch.as_str()).bind(id.as_str()).fetch_optional(connection).await)?;
        write.commit().await?;
        row.map(TryInto::try_into).transpose()
    }

    /// Notes that a token was used.
    pub async fn used_preview_token(&self, id: &PreviewTokenId, now_ms: i64) -> Result<(), StoreError> {
        let sql = "update preview_token set used_at_ms = $1 where id = $2";
        let mut write = self.begin().await?;
        on_write!(write, connection => sqlx::query(sql)
            .bind(now_ms).bind(id.as_str()).execute(connection).await.map(|_| ()))?;
        write.commit().await
    }

    /// Ends all tokens of a branch.
    pub async fn delete_preview_tokens(&self, branch: &BranchId) -> Result<(), StoreError> {
        let sql = "delete from preview_token where branch_id = $1";
        let mut write = self.begin().await?;
        on_write!(write, connection => sqlx::query(sql)
            .bind(branch.as_str()).execute(connection).await.map(|_| ()))?;
        write.commit().await
    }
}
