//! Sessions on a branch.

use super::db::{Store, StoreError, Write, on_db, on_write, read};
use crate::base::{BranchId, Permission, SessionId};

/// One user's seat on a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// The branch.
    pub branch_id: BranchId,
    /// Its name there.
    pub id: SessionId,
    /// What it may do.
    pub permission: Permission,
    /// Shown to others.
    pub name: Option<String>,
    /// For commits.
    pub email: Option<String>,
    /// `#rrggbb`, shown to others.
    pub color: String,
    /// Whether commits of others name it as a co-author.
    pub credited: bool,
    /// Whether it may fork the branch, once.
    pub may_fork: bool,
    /// Raised when its tokens are revoked or it ends.
    pub epoch: i64,
    /// When it was made.
    pub created_at_ms: i64,
    /// When the row changed last.
    pub updated_at_ms: i64,
    /// When it ended, if it has.
    pub ended_at_ms: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct Row {
    branch_id: String,
    id: String,
    permission: String,
    name: Option<String>,
    email: Option<String>,
    color: String,
    credited: bool,
    may_fork: bool,
    epoch: i64,
    created_at_ms: i64,
    updated_at_ms: i64,
    ended_at_ms: Option<i64>,
}

impl TryFrom<Row> for SessionRow {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            branch_id: read(&row.branch_id, "branch id")?,
            id: read(&row.id, "session id")?,
            permission: read(&row.permission, "permission")?,
            name: row.name,
            email: row.email,
            color: row.color,
            credited: row.credited,
            may_fork: row.may_fork,
            epoch: row.epoch,
            created_at_ms: row.created_at_ms,
            updated_at_ms: row.updated_at_ms,
            ended_at_ms: row.ended_at_ms,
        })
    }
}

const ONE: &str = "select * from session where branch_id = $1 and id = $2";

async fn one(write: &mut Write, branch: &BranchId, id: &SessionId) -> Result<Option<SessionRow>, StoreError> {
    let row: Option<Row> = on_write!(*write, connection => sqlx::query_as(ONE)
        .bind(branch.as_str()).bind(id.as_str()).fetch_optional(connection).await)?;
    row.map(TryInto::try_into).transpose()
}

async fn put(write: &mut Write, session: &SessionRow) -> Result<(), StoreError> {
    let sql = "insert into session (branch_id, id, permission, name, email, color, epoch, created_at_ms,
        updated_at_ms, ended_at_ms, credited, may_fork) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        on conflict (branch_id, id) do update set permission = excluded.permission, name = excluded.name,
        email = excluded.email, color = excluded.color, epoch = excluded.epoch, created_at_ms = excluded.created_at_ms,
        updated_at_ms = excluded.updated_at_ms, ended_at_ms = excluded.ended_at_ms,
        credited = excluded.credited, may_fork = excluded.may_fork";
    on_write!(*write, connection => sqlx::query(sql)
        .bind(session.branch_id.as_str())
        .bind(session.id.as_str())
        .bind(session.permission.as_str())
        .bind(&session.name)
        .bind(&session.email)
        .bind(&session.color)
        .bind(session.epoch)
        .bind(session.created_at_ms)
        .bind(session.updated_at_ms)
        .bind(session.ended_at_ms)
        .bind(session.credited)
        .bind(session.may_fork)
        .execute(connection).await.map(|_| ()))?;
    Ok(())
}

impl Store {
    /// Reads a session, lets `change` decide, and writes what it gives, in one transaction. `change` gets the row if
    /// there is one and gives the new row, or `None` to leave all as it is. Gives the row as it then is; `None` when
    /// there is none, or when a new one would be one more than `max` on the branch.
    ///
    /// # Errors
    /// [`StoreError::Other`] when the branch is gone.
    pub async fn change_session(
        &self,
        branch: &BranchId,
        id: &SessionId,
        max: i64,
        change: impl FnOnce(Option<&SessionRow>) -> Option<SessionRow>,
    ) -> Result<Option<SessionRow>, StoreError> {
        let mut write = self.begin().await?;
        if matches!(write, Write::Pg(_)) {
            // One at a time per branch; SQLite's write transaction is alone anyway.
            let sql = "select id from branch where id = $1 for update";
            on_write!(write, connection => sqlx::query(sql)
                .bind(branch.as_str()).execute(connection).await.map(|_| ()))?;
        }
        let present = one(&mut write, branch, id).await?;
        let Some(next) = change(present.as_ref()) else { return Ok(present) };
        if present.is_none() {
            let sql = "select count(*) from session where branch_id = $1";
            let count: i64 = on_write!(write, connection =>
                sqlx::query_scalar(sql).bind(branch.as_str()).fetch_one(connection).await)?;
            if count >= max {
                return Ok(None);
            }
        }
        put(&mut write, &next).await?;
        write.commit().await?;
        Ok(Some(next))
    }

    /// Removes a branch's sessions that nobody can use any more: ended ones, and those whose id starts with
    /// `prefix`, not changed since `before_ms`. Gives how many.
    pub async fn prune_sessions(
        &self,
        branch: &BranchId,
        prefix: &str,
        before_ms: i64,
    ) -> Result<u64, StoreError> {
        let sql = "delete from session where branch_id = $1 and updated_at_ms < $2
            and (ended_at_ms is not null or substr(id, 1, $3) = $4)";
        let mut write = self.begin().await?;
        let gone = on_write!(write, connection => sqlx::query(sql)
            .bind(branch.as_str())
            .bind(before_ms)
            .bind(i32::try_from(prefix.len()).unwrap_or(0))
            .bind(prefix.to_owned())
            .execute(connection).await.map(|done| done.rows_affected()))?;
        write.commit().await?;
        Ok(gone)
    }

    /// One session, ended or not.
    pub async fn session(&self, branch: &BranchId, id: &SessionId) -> Result<Option<SessionRow>, StoreError> {
        let row: Option<Row> = on_db!(self, pool => sqlx::query_as(ONE)
            .bind(branch.as_str()).bind(id.as_str()).fetch_optional(pool).await)?;
        row.map(TryInto::try_into).transpose()
    }

    /// A branch's sessions, oldest first, at most `limit`, only those after `after`: its `created_at_ms` and id.
    pub async fn sessions(
        &self,
        branch: &BranchId,
        after: Option<(i64, SessionId)>,
        limit: i64,
    ) -> Result<Vec<SessionRow>, StoreError> {
        let sql = "select * from session where branch_id = $1
            and (created_at_ms > $2 or (created_at_ms = $2 and id > $3))
            order by created_at_ms, id limit $4";
        let (at_ms, id) = after.map_or((i64::MIN, String::new()), |(at_ms, id)| (at_ms, id.into()));
        let rows: Vec<Row> = on_db!(self, pool => sqlx::query_as(sql)
            .bind(branch.as_str()).bind(at_ms).bind(id).bind(limit).fetch_all(pool).await)?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// The colours of a branch's sessions that have not ended, and how many have each.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn session_colors(&self, branch: &BranchId) -> Result<Vec<(String, i64)>, StoreError> {
        let sql =
            "select color, count(*) from session where branch_id = $1 and ended_at_ms is null group by color";
        Ok(on_db!(self, pool => sqlx::query_as(sql).bind(branch.as_str()).fetch_all(pool).await)?)
    }
}
