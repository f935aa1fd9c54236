//! What the SDK's protocol keeps beside branches and sessions: sandboxes, and the tokens of its sockets (hashes only).

use super::branches::{Branch, Row as BranchRow, like};
use super::db::{Store, StoreError, Write, on_db, on_write, read};
use crate::base::{BranchId, Permission, SessionId};
use sqlx::AssertSqlSafe;
use std::fmt::Write as _;
use std::str::FromStr;

/// Where a sandbox is in its life. It outlives a restart of perch, which stops what ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxState {
    /// Never started.
    New,
    /// Started.
    Running,
    /// Put to sleep.
    Hibernated,
    /// Shut down, or perch was stopped while it ran.
    Stopped,
}

impl SandboxState {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Running => "running",
            Self::Hibernated => "hibernated",
            Self::Stopped => "stopped",
        }
    }
}

impl FromStr for SandboxState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let states = [Self::New, Self::Running, Self::Hibernated, Self::Stopped];
        states.into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}

/// What the SDK's protocol knows of a branch beside the branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// 0 public, 1 unlisted, 2 private.
    pub privacy: i64,
    /// Size that was asked for, a word of the protocol's.
    pub tier: String,
    /// Seconds without activity after which it hibernates.
    pub hibernation_timeout_s: i64,
    /// Whether it is there to be forked only.
    pub is_template: bool,
    /// Whether it is the template that perch made.
    pub is_default: bool,
    /// Where it is in its life.
    pub state: SandboxState,
    /// When it was started last.
    pub started_at_ms: Option<i64>,
    /// When something was last asked of it, as far as it was written down.
    pub active_at_ms: Option<i64>,
}

#[derive(sqlx::FromRow)]
pub(super) struct SandboxRow {
    privacy: i64,
    tier: String,
    hibernation_timeout_s: i64,
    is_template: bool,
    is_default: bool,
    state: String,
    started_at_ms: Option<i64>,
    active_at_ms: Option<i64>,
}

impl TryFrom<SandboxRow> for Sandbox {
    type Error = StoreError;

    fn try_from(row: SandboxRow) -> Result<Self, StoreError> {
        Ok(Self {
            privacy: row.privacy,
            tier: row.tier,
            hibernation_timeout_s: row.hibernation_timeout_s,
            is_template: row.is_template,
            is_default: row.is_default,
            state: read(&row.state, "state of a sandbox")?,
            started_at_ms: row.started_at_ms,
            active_at_ms: row.active_at_ms,
        })
    }
}

/// A token of the SDK's sockets; valid as long as its branch, and its session's epoch, are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SdkToken {
    /// SHA-256 of the secret.
    pub hash: Vec<u8>,
    /// The branch it is good for.
    pub branch_id: BranchId,
    /// The session on it.
    pub session_id: SessionId,
    /// At most this right.
    pub permission: Permission,
    /// The session's epoch when it was made.
    pub epoch: i64,
    /// When it was made.
    pub created_at_ms: i64,
    /// When it was used last, to the hour.
    pub used_at_ms: i64,
}

#[derive(sqlx::FromRow)]
struct TokenRow {
    hash: Vec<u8>,
    branch_id: String,
    session_id: String,
    permission: String,
    epoch: i64,
    created_at_ms: i64,
    used_at_ms: i64,
}

impl TryFrom<TokenRow> for SdkToken {
    type Error = StoreError;

    fn try_from(row: TokenRow) -> Result<Self, StoreError> {
        Ok(Self {
            hash: row.hash,
            branch_id: read(&row.branch_id, "branch id")?,
            session_id: read(&row.session_id, "session id")?,
            permission: read(&row.permission, "permission")?,
            epoch: row.epoch,
            created_at_ms: row.created_at_ms,
            used_at_ms: row.used_at_ms,
        })
    }
}

impl Store {
    /// What the SDK's protocol knows of a branch; `None` when it never used it.
    pub async fn sandbox(&self, branch: &BranchId) -> Result<Option<Sandbox>, StoreError> {
        let sql = "select * from sdk_sandbox where branch_id = $1";
        let row: Option<SandboxRow> =
            on_db!(self, pool => sqlx::query_as(sql).bind(branch.as_str()).fetch_optional(pool).await)?;
        row.map(TryInto::try_into).transpose()
    }

    /// Reads a sandbox, `fresh` where there is none, lets `change` alter it, and writes it, in one transaction.
    ///
    /// # Errors
    /// [`StoreError::Other`] when the branch is gone.
    pub async fn change_sandbox(
        &self,
        branch: &BranchId,
        fresh: Sandbox,
        change: impl FnOnce(&mut Sandbox),
    ) -> Result<Sandbox, StoreError> {
        let mut write = self.begin().await?;
        if matches!(write, Write::Pg(_)) {
            // One at a time per branch; SQLite's write transaction is alone anyway.
            let sql = "select id from branch where id = $1 for update";
            on_write!(write, connection => sqlx::query(sql)
                .bind(branch.as_str()).execute(connection).await.map(|_| ()))?;
        }
        let look = "select * from sdk_sandbox where branch_id = $1";
        let row: Option<SandboxRow> = on_write!(write, connection =>
            sqlx::query_as(look).bind(branch.as_str()).fetch_optional(connection).await)?;
        let mut sandbox = row.map(Sandbox::try_from).transpose()?.unwrap_or(fresh);
        change(&mut sandbox);
        let sql = "insert into sdk_sandbox (branch_id, privacy, tier, hibernation_timeout_s, is_template, is_default,
            state, started_at_ms, active_at_ms) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            on conflict (branch_id) do update set privacy = excluded.privacy, tier = excluded.tier,
            hibernation_timeout_s = excluded.hibernation_timeout_s, is_template = excluded.is_template,
            is_default = excluded.is_default, state = excluded.state, started_at_ms = excluded.started_at_ms, active_at_ms = excluded.active_at_ms";
        on_write!(write, connection => sqlx::query(sql)
            .bind(branch.as_str())
            .bind(sandbox.privacy)
            .bind(&sandbox.tier)
            .bind(sandbox.hibernation_timeout_s)
            .bind(sandbox.is_template)
            .bind(sandbox.is_default)
            .bind(sandbox.state.as_str())
            .bind(sandbox.started_at_ms)
            .bind(sandbox.active_at_ms)
            .execute(connection).await.map(|_| ()))?;
        write.commit().await?;
        Ok(sandbox)
    }

    /// The default template that perch made, if it is there.
    pub async fn default_template(&self) -> Result<Option<BranchId>, StoreError> {
        let sql =
            "select sdk_sandbox.branch_id from sdk_sandbox join branch on branch.id = sdk_sandbox.branch_id
            where is_default and branch.state in ('creating', 'ready') order by branch.created_at_ms limit 1";
        let id: Option<String> = on_db!(self, pool => sqlx::query_scalar(sql).fetch_optional(pool).await)?;
        id.as_deref().map(|id| read(id, "branch id")).transpose()
    }

    /// Marks what ran as stopped: perch starts, and nothing runs.
    pub async fn stop_sandboxes(&self) -> Result<(), StoreError> {
        let sql = "update sdk_sandbox set state = 'stopped' where state = 'running'";
        let mut write = self.begin().await?;
        on_write!(write, connection => sqlx::query(sql).execute(connection).await.map(|_| ()))?;
        write.commit().await
    }

    /// Stores a token; where the branch has `max`, those that were not used longest make room.
    ///
    /// # Errors
    /// [`StoreError::Other`] when the branch is gone.
    pub async fn insert_sdk_token(&self, token: &SdkToken, max: i64) -> Result<(), StoreError> {
        let mut write = self.begin().await?;
        let spent = "delete from sdk_token where branch_id = $1 and hash in (select hash from sdk_token
            where branch_id = $1 order by used_at_ms desc, created_at_ms desc limit 1000000 offset $2)";
        on_write!(write, connection => sqlx::query(spent)
            .bind(token.branch_id.as_str()).bind(max - 1).execute(connection).await.map(|_| ()))?;
        let sql = "insert into sdk_token (hash, branch_id, session_id, permission, epoch, created_at_ms, used_at_ms)
            values ($1, $2, $3, $4, $5, $6, $7)";
        on_write!(write, connection => sqlx::query(sql)
            .bind(&token.hash)
            .bind(token.branch_id.as_str())
            .bind(token.session_id.as_str())
            .bind(token.permission.as_str())
            .bind(token.epoch)
            .bind(token.created_at_ms)
            .bind(token.used_at_ms)
            .execute(connection).await.map(|_| ()))?;
        write.commit().await
    }

    /// The token with this hash.
    pub async fn sdk_token(&self, hash: &[u8]) -> Result<Option<SdkToken>, StoreError> {
        let sql = "select * from sdk_token where hash = $1";
        let row: Option<TokenRow> =
            on_db!(self, pool => sqlx::query_as(sql).bind(hash.to_vec()).fetch_optional(pool).await)?;
        row.map(TryInto::try_into).transpose()
    }

    /// Notes that a token was used.
    pub async fn used_sdk_token(&self, hash: &[u8], now_ms: i64) -> Result<(), StoreError> {
        let sql = "update sdk_token set used_at_ms = $1 where hash = $2";
        let mut write = self.begin().await?;
        on_write!(write, connection => sqlx::query(sql)
            .bind(now_ms).bind(hash.to_vec()).execute(connection).await.map(|_| ()))?;
        write.commit().await
    }
}

/// Which sandboxes a listing gives, and in which order. Templates are not among them.
#[derive(Clone, Debug, Default)]
pub struct SandboxFilter {
    /// Those that have all of these.
    pub tags: Vec<String>,
    /// Those that run.
    pub is_running: bool,
    /// By the last change instead of the making.
    pub by_change: bool,
    /// Oldest first instead of newest first.
    pub is_ascending: bool,
    /// Leaves out this many.
    pub offset: i64,
    /// At most this many.
    pub limit: i64,
}

#[derive(sqlx::FromRow)]
struct ListedRow {
    #[sqlx(flatten)]
    branch: BranchRow,
    privacy: Option<i64>,
}

impl Store {
    /// Branches as sandboxes, each with its privacy where the SDK set one, and how many there are in all.
    pub async fn sandboxes(
        &self,
        filter: &SandboxFilter,
    ) -> Result<(Vec<(Branch, Option<i64>)>, i64), StoreError> {
        let mut wanted = String::from(
            " from branch left join sdk_sandbox on sdk_sandbox.branch_id = branch.id
            where branch.state in ('creating', 'ready')
            and (sdk_sandbox.is_template is null or not sdk_sandbox.is_template)",
        );
        if filter.is_running {
            wanted += " and sdk_sandbox.state = 'running'";
        }
        let tags: Vec<_> =
            filter.tags.iter().map(|tag| like(&serde_json::Value::from(tag.as_str()).to_string())).collect();
        for place in 1..=tags.len() {
            let _ = write!(wanted, " and branch.tags like ${place} escape '!'");
        }
        let key = if filter.by_change { "branch.updated_at_ms" } else { "branch.created_at_ms" };
        let way = if filter.is_ascending { "asc" } else { "desc" };
        let (limit, offset) = (tags.len() + 1, tags.len() + 2);
        let page = format!(
            "select branch.*, sdk_sandbox.privacy{wanted} order by {key} {way}, branch.id {way}
            limit ${limit} offset ${offset}"
        );
        let count = format!("select count(*){wanted}");
        // Made of constants alone: what callers say is bound.
        let (page, count) = (AssertSqlSafe(page), AssertSqlSafe(count));
        let (rows, total): (Vec<ListedRow>, i64) = on_db!(self, pool => {
            let page = tags.iter().fold(sqlx::query_as(page), |query, tag| query.bind(tag.clone()));
            let count = tags.iter().fold(sqlx::query_scalar(count), |query, tag| query.bind(tag.clone()));
            let rows = page.bind(filter.limit).bind(filter.offset).fetch_all(pool).await?;
            (rows, count.fetch_one(pool).await?)
        });
        let rows = rows.into_iter().map(|row| Ok((row.branch.try_into()?, row.privacy)));
        Ok((rows.collect::<Result<_, StoreError>>()?, total))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::base::PreviewTokenId;
    use crate::store::PreviewToken;

    #[tokio::test]
    async fn of_tokens_those_that_were_not_used_longest_make_room() {
        let (store, branch, _folder) = testing().await;
        let token = |n: u8| SdkToken {
            hash: vec![n],
            branch_id: branch.clone(),
            session_id: "ann".parse().unwrap(),
            permission: Permission::Read,
            epoch: 1,
            created_at_ms: i64::from(n),
            used_at_ms: i64::from(n),
        };
        for n in 1..=3 {
            store.insert_sdk_token(&token(n), 3).await.unwrap();
        }
        store.used_sdk_token(&[1], 10).await.unwrap();
        store.insert_sdk_token(&token(4), 3).await.unwrap();
        assert_eq!(store.sdk_token(&[2]).await.unwrap(), None, "used longest ago");
        assert_eq!(store.sdk_token(&[1]).await.unwrap().unwrap().used_at_ms, 10);
        assert!(
            store.sdk_token(&[3]).await.unwrap().is_some() && store.sdk_token(&[4]).await.unwrap().is_some()
        );
        store.delete_branch(&branch).await.unwrap();
        assert_eq!(store.sdk_token(&[4]).await.unwrap(), None, "they go with the branch");
    }

    #[tokio::test]
    async fn preview_tokens_that_have_ended_make_room_and_stay_ended() {
        let (store, branch, _folder) = testing().await;
        let token = |n: u8, expires_at_ms| PreviewToken {
            id: PreviewTokenId::generate(),
            branch_id: branch.clone(),
            hash: vec![n],
            prefix: "pvt_".into(),
            created_at_ms: 5,
            expires_at_ms,
            used_at_ms: None,
        };
        let (first, second) = (token(1, Some(4)), token(2, None));
        assert!(store.insert_preview_token(&first, 2).await.unwrap());
        assert!(store.insert_preview_token(&second, 2).await.unwrap());
        let changed = store.change_preview_token(&branch, &first.id, None, 5).await.unwrap().unwrap();
        assert_eq!(changed.expires_at_ms, Some(4), "it has ended");
        assert!(store.insert_preview_token(&token(3, None), 2).await.unwrap(), "it makes room");
        assert!(!store.insert_preview_token(&token(4, None), 2).await.unwrap(), "both work");
        let changed = store.change_preview_token(&branch, &second.id, Some(6), 5).await.unwrap().unwrap();
        assert!(changed.holds(5) && !changed.holds(6));
    }
}
