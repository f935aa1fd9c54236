//! The audit log: who did what, bounded by count and age.

use super::db::{Store, StoreError, on_db, on_write, read};
use crate::base::{AuditId, BranchId};

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// Grows with time.
    pub id: AuditId,
    /// When.
    pub at_ms: i64,
    /// On which branch, if it was on one.
    pub branch_id: Option<BranchId>,
    /// What, such as `session.made`.
    pub action: String,
    /// What kind of caller it was.
    pub by_kind: String,
    /// Which one, where that has a name.
    pub by_id: Option<String>,
    /// Where the request came from.
    pub address: Option<String>,
    /// What it was done to, or what came of it.
    pub subject: Option<String>,
    /// JSON.
    pub detail: String,
}

/// Which entries are asked for, newest first.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Of this branch only.
    pub branch: Option<BranchId>,
    /// Of this action only, or of all that begin with it where it ends in a dot.
    pub action: Option<String>,
    /// By this token or session only.
    pub by: Option<String>,
    /// Older than this entry.
    pub before: Option<AuditId>,
    /// At most so many.
    pub limit: i64,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    at_ms: i64,
    branch_id: Option<String>,
    action: String,
    by_kind: String,
    by_id: Option<String>,
    address: Option<String>,
    subject: Option<String>,
    detail: String,
}

impl TryFrom<Row> for AuditRow {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: read(&row.id, "audit id")?,
            at_ms: row.at_ms,
            branch_id: row.branch_id.as_deref().map(|id| read(id, "branch id")).transpose()?,
            action: row.action,
            by_kind: row.by_kind,
            by_id: row.by_id,
            address: row.address,
            subject: row.subject,
            detail: row.detail,
        })
    }
}

impl Store {
    /// Adds entries, in one transaction.
    pub async fn add_audit(&self, rows: &[AuditRow]) -> Result<(), StoreError> {
        let sql = "insert into audit (id, at_ms, branch_id, action, by_kind, by_id, address, subject, detail)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict (id) do nothing";
        let mut write = self.begin().await?;
        for row in rows {
            on_write!(write, connection => sqlx::query(sql)
                .bind(row.id.as_str())
                .bind(row.at_ms)
                .bind(row.branch_id.as_ref().map(|id| id.as_str().to_owned()))
                .bind(&row.action)
                .bind(&row.by_kind)
                .bind(&row.by_id)
                .bind(&row.address)
                .bind(&row.subject)
                .bind(&row.detail)
                .execute(connection).await.map(|_| ()))?;
        }
        write.commit().await
    }

    /// Removes entries from before `oldest_ms`, and the oldest past the newest `kept`.
    pub async fn cut_audit(&self, kept: i64, oldest_ms: i64) -> Result<(), StoreError> {
        let past = "delete from audit where id <= (select id from audit order by id desc limit 1 offset $1)";
        let mut write = self.begin().await?;
        on_write!(write, connection => sqlx::query("delete from audit where at_ms < $1")
            .bind(oldest_ms).execute(connection).await.map(|_| ()))?;
        on_write!(write, connection => sqlx::query(past)
            .bind(kept).execute(connection).await.map(|_| ()))?;
        write.commit().await
    }

    /// A page of entries, newest first.
    pub async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditRow>, StoreError> {
        // `/` follows `.`: the range holds all that begins with what ends in a dot.
        let sql = "select * from audit where ($1 = '' or branch_id = $1)
            and ($2 = '' or action = $2 or (action >= $2 and action < $3))
            and ($4 = '' or by_id = $4) and ($5 = '' or id < $5) order by id desc limit $6";
        let action = filter.action.clone().unwrap_or_default();
        let end = action.strip_suffix('.').map_or_else(String::new, |start| format!("{start}/"));
        let rows: Vec<Row> = on_db!(self, pool => sqlx::query_as(sql)
            .bind(filter.branch.as_ref().map_or("", |id| id.as_str()).to_owned())
            .bind(action)
            .bind(end)
            .bind(filter.by.clone().unwrap_or_default())
            .bind(filter.before.as_ref().map_or("", |id| id.as_str()).to_owned())
            .bind(filter.limit)
            .fetch_all(pool).await)?;
        rows.into_iter().map(TryInto::try_into).collect()
    }
}
