//! API tokens: only their hashes are here.

use super::db::{Store, StoreError, Write, on_db, on_write, read};
use crate::base::TokenId;

/// A caller's right to the whole server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    /// Its public half.
    pub id: TokenId,
    /// For people.
    pub name: String,
    /// SHA-256 of the secret.
    pub hash: Vec<u8>,
    /// Whether it may make and revoke tokens.
    pub is_owner: bool,
    /// When it was made.
    pub created_at_ms: i64,
    /// When it was revoked, if it was.
    pub revoked_at_ms: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    name: String,
    hash: Vec<u8>,
    is_owner: bool,
    created_at_ms: i64,
    revoked_at_ms: Option<i64>,
}

impl TryFrom<Row> for ApiToken {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: read(&row.id, "token id")?,
            name: row.name,
            hash: row.hash,
            is_owner: row.is_owner,
            created_at_ms: row.created_at_ms,
            revoked_at_ms: row.revoked_at_ms,
        })
    }
}

async fn put(write: &mut Write, token: &ApiToken) -> Result<(), StoreError> {
    let sql = "insert into api_token (id, name, hash, is_owner, created_at_ms, revoked_at_ms)
        values ($1, $2, $3, $4, $5, $6)";
    on_write!(*write, connection => sqlx::query(sql)
        .bind(token.id.as_str())
        .bind(&token.name)
        .bind(&token.hash)
        .bind(token.is_owner)
        .bind(token.created_at_ms)
        .bind(token.revoked_at_ms)
        .execute(connection).await.map(|_| ()))?;
    Ok(())
}

impl Store {
    /// Stores a new token; `false` when there are `max` valid ones. Of revoked ones the oldest make room.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when its hash is there already.
    pub async fn insert_token(&self, token: &ApiToken, max: i64) -> Result<bool, StoreError> {
        let mut write = self.begin().await?;
        let sql = "delete from api_token where revoked_at_ms is not null and id not in
            (select id from api_token order by revoked_at_ms is null desc, revoked_at_ms desc limit $1)";
        on_write!(write, connection =>
            sqlx::query(sql).bind(max - 1).execute(connection).await.map(|_| ()))?;
        let count: i64 = on_write!(write, connection =>
            sqlx::query_scalar("select count(*) from api_token").fetch_one(connection).await)?;
        if count >= max {
            return Ok(false);
        }
        put(&mut write, token).await?;
        write.commit().await?;
        Ok(true)
    }

    /// Stores a token in the place of all others of its name.
    pub async fn replace_token(&self, token: &ApiToken) -> Result<(), StoreError> {
        let mut write = self.begin().await?;
        on_write!(write, connection => sqlx::query("delete from api_token where name = $1")
            .bind(&token.name).execute(connection).await.map(|_| ()))?;
        put(&mut write, token).await?;
        write.commit().await
    }

    /// Removes all tokens of a name.
    pub async fn delete_tokens_named(&self, name: &str) -> Result<(), StoreError> {
        let mut write = self.begin().await?;
        on_write!(write, connection => sqlx::query("delete from api_token where name = $1")
            .bind(name).execute(connection).await.map(|_| ()))?;
        write.commit().await
    }

    /// Whether a token is there and not revoked.
    pub async fn token_holds(&self, id: &TokenId) -> Result<bool, StoreError> {
        let sql = "select count(*) from api_token where id = $1 and revoked_at_ms is null";
        let count: i64 =
            on_db!(self, pool => sqlx::query_scalar(sql).bind(id.as_str()).fetch_one(pool).await)?;
        Ok(count > 0)
    }

    /// The token with this hash, revoked or not.
    pub async fn token_by_hash(&self, hash: &[u8]) -> Result<Option<ApiToken>, StoreError> {
        let sql = "select * from api_token where hash = $1";
        let row: Option<Row> =
            on_db!(self, pool => sqlx::query_as(sql).bind(hash.to_vec()).fetch_optional(pool).await)?;
        row.map(TryInto::try_into).transpose()
    }

    /// All tokens, oldest first.
    pub async fn tokens(&self) -> Result<Vec<ApiToken>, StoreError> {
        let sql = "select * from api_token order by created_at_ms, id";
        let rows: Vec<Row> = on_db!(self, pool => sqlx::query_as(sql).fetch_all(pool).await)?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Revokes a token; `false` when there is none with this id that was valid.
    pub async fn revoke_token(&self, id: &TokenId, now_ms: i64) -> Result<bool, StoreError> {
        let sql = "update api_token set revoked_at_ms = $1 where id = $2 and revoked_at_ms is null";
        let mut write = self.begin().await?;
        let changed = on_write!(write, connection => sqlx::query(sql)
            .bind(now_ms).bind(id.as_str()).execute(connection).await.map(|done| done.rows_affected()))?;
        write.commit().await?;
        Ok(changed > 0)
    }
}
