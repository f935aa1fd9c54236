//! Branches.

use super::db::{Store, StoreError, Write, on_db, on_write, read};
use crate::base::BranchId;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Where a branch is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BranchState {
    /// Its files are being made.
    Creating,
    /// It can be used.
    Ready,
    /// Its files could not be made, or are gone; `error` says why.
    Failed,
    /// Its files are being removed.
    Deleting,
}

impl BranchState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Deleting => "deleting",
        }
    }
}

impl FromStr for BranchState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Creating, Self::Ready, Self::Failed, Self::Deleting]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or(())
    }
}

/// Who may look at what a branch's processes serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Previews {
    /// Its sessions.
    Members,
    /// Whoever knows the URL.
    Public,
}

impl Previews {
    fn as_str(self) -> &'static str {
        match self {
            Self::Members => "members",
            Self::Public => "public",
        }
    }
}

impl FromStr for Previews {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Members, Self::Public].into_iter().find(|who| who.as_str() == text).ok_or(())
    }
}

/// A workspace that people share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Its id.
    pub id: BranchId,
    /// For people.
    pub name: String,
    /// For people.
    pub description: String,
    /// To find it by.
    pub tags: Vec<String>,
    /// Where it is in its life.
    pub state: BranchState,
    /// Why it failed.
    pub error: Option<String>,
    /// Where it was cloned from, without user info.
    pub git_url: Option<String>,
    /// Which ref was cloned.
    pub git_ref: Option<String>,
    /// Of which branch it is a fork.
    pub forked_from: Option<BranchId>,
    /// When it was made.
    pub created_at_ms: i64,
    /// When its row changed last.
    pub updated_at_ms: i64,
    /// Bytes of its files when they were last measured.
    pub size_bytes: Option<i64>,
    /// When that was.
    pub measured_at_ms: Option<i64>,
    /// Who may look at what its processes serve.
    pub previews: Previews,
}

/// Which branches a listing gives.
#[derive(Clone, Debug, Default)]
pub struct BranchFilter {
    /// Part of the name, in any case.
    pub name_contains: Option<String>,
    /// One of the tags.
    pub tag: Option<String>,
    /// In this state.
    pub state: Option<BranchState>,
    /// Only those after this one in the listing: its `created_at_ms` and id.
    pub after: Option<(i64, BranchId)>,
    /// At most this many.
    pub limit: i64,
}

#[derive(sqlx::FromRow)]
pub(super) struct Row {
    id: String,
    name: String,
    description: String,
    tags: String,
    state: String,
    error: Option<String>,
    git_url: Option<String>,
    git_ref: Option<String>,
    forked_from: Option<String>,
    created_at_ms: i64,
    updated_at_ms: i64,
    size_bytes: Option<i64>,
    measured_at_ms: Option<i64>,
    previews: String,
}

impl TryFrom<Row> for Branch {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: read(&row.id, "branch id")?,
            name: row.name,
            description: row.description,
            tags: serde_json::from_str(&row.tags)
                .map_err(|_| StoreError::Damaged(format!("tags of branch {}", row.id)))?,
            state: read(&row.state, "branch state")?,
            error: row.error,
            git_url: row.git_url,
            git_ref: row.git_ref,
            forked_from: row.forked_from.as_deref().map(|id| read(id, "branch id")).transpose()?,
            created_at_ms: row.created_at_ms,
            updated_at_ms: row.updated_at_ms,
            size_bytes: row.size_bytes,
            measured_at_ms: row.measured_at_ms,
            previews: read(&row.previews, "word for who may look at previews")?,
        })
    }
}

fn tags_json(tags: &[String]) -> String {
    serde_json::Value::from(tags).to_string()
}

impl Store {
    /// Stores a new branch; `false` when there are `max` already. On Postgres two at the same moment may exceed that by
    /// one.
    pub async fn insert_branch(&self, branch: &Branch, max: i64) -> Result<bool, StoreError> {
        let sql =
            "insert into branch (id, name, description, tags, state, error, git_url, git_ref, forked_from,
            created_at_ms, updated_at_ms, previews) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
        let mut write = self.begin().await?;
        let count: i64 = on_write!(write, connection =>
            sqlx::query_scalar("select count(*) from branch").fetch_one(connection).await)?;
        if count >= max {
            return Ok(false);
        }
        on_write!(write, connection => sqlx::query(sql)
            .bind(branch.id.as_str())
            .bind(&branch.name)
            .bind(&branch.description)
            .bind(tags_json(&branch.tags))
            .bind(branch.state.as_str())
            .bind(&branch.error)
            .bind(&branch.git_url)
            .bind(&branch.git_ref)
            .bind(branch.forked_from.as_ref().map(BranchId::as_str))
            .bind(branch.created_at_ms)
            .bind(branch.updated_at_ms)
            .bind(branch.previews.as_str())
            .execute(connection).await.map(|_| ()))?;
        write.commit().await?;
        Ok(true)
    }

    /// One branch.
    pub async fn branch(&self, id: &BranchId) -> Result<Option<Branch>, StoreError> {
        let sql = "select * from branch where id = $1";
        let row: Option<Row> =
            on_db!(self, pool => sqlx::query_as(sql).bind(id.as_str()).fetch_optional(pool).await)?;
        row.map(TryInto::try_into).transpose()
    }

    /// Branches, newest first.
    pub async fn branches(&self, filter: &BranchFilter) -> Result<Vec<Branch>, StoreError> {
        let sql = "select * from branch
            where ($1 = '' or lower(name) like $1 escape '!')
            and ($2 = '' or tags like $2 escape '!')
            and (created_at_ms < $3 or (created_at_ms = $3 and id < $4))
            and ($5 = '' or state = $5)
            order by created_at_ms desc, id desc limit $6";
        let name =
            filter.name_contains.as_deref().map_or_else(String::new, |part| like(&part.to_lowercase()));
        let tag = filter
            .tag
            .as_deref()
            .map_or_else(String::new, |tag| like(&serde_json::Value::from(tag).to_string()));
        let (before_ms, before_id) =
            filter.after.as_ref().map_or((i64::MAX, ""), |(at_ms, id)| (*at_ms, id.as_str()));
        let rows: Vec<Row> = on_db!(self, pool => sqlx::query_as(sql)
            .bind(name)
            .bind(tag)
            .bind(before_ms)
            .bind(before_id.to_owned())
            .bind(filter.state.map_or("", BranchState::as_str))
            .bind(filter.limit)
            .fetch_all(pool).await)?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Branches in one state, for what is to be mended at start.
    pub async fn branches_in_state(&self, state: BranchState) -> Result<Vec<Branch>, StoreError> {
        let sql = "select * from branch where state = $1";
        let rows: Vec<Row> =
            on_db!(self, pool => sqlx::query_as(sql).bind(state.as_str()).fetch_all(pool).await)?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// The ids of all branches in one state.
    pub async fn branch_ids_in_state(&self, state: BranchState) -> Result<Vec<BranchId>, StoreError> {
        let sql = "select id from branch where state = $1 order by id";
        let rows: Vec<String> =
            on_db!(self, pool => sqlx::query_scalar(sql).bind(state.as_str()).fetch_all(pool).await)?;
        rows.iter().map(|id| read(id, "branch id")).collect()
    }

    /// Reads a branch, lets `change` alter name, description, tags, state, error and previews, and writes it back, in one
    /// transaction. `change` says whether there is something to write. Gives the row as it then is.
    pub async fn change_branch(
        &self,
        id: &BranchId,
        change: impl FnOnce(&mut Branch) -> bool,
    ) -> Result<Option<Branch>, StoreError> {
        let mut write = self.begin().await?;
        // SQLite's write transaction is alone anyway.
        let look = if matches!(write, Write::Pg(_)) {
            "select * from branch where id = $1 for update"
        } else {
            "select * from branch where id = $1"
        };
        let row: Option<Row> = on_write!(write, connection =>
            sqlx::query_as(look).bind(id.as_str()).fetch_optional(connection).await)?;
        let Some(mut branch) = row.map(Branch::try_from).transpose()? else { return Ok(None) };
        if !change(&mut branch) {
            return Ok(Some(branch));
        }
        let sql = "update branch set name = $1, description = $2, tags = $3, state = $4, error = $5,
            updated_at_ms = $6, previews = $7 where id = $8";
        on_write!(write, connection => sqlx::query(sql)
            .bind(&branch.name)
            .bind(&branch.description)
            .bind(tags_json(&branch.tags))
            .bind(branch.state.as_str())
            .bind(&branch.error)
            .bind(branch.updated_at_ms)
            .bind(branch.previews.as_str())
            .bind(branch.id.as_str())
            .execute(connection).await.map(|_| ()))?;
        write.commit().await?;
        Ok(Some(branch))
    }

    /// Records what a branch's files take.
    pub async fn measured_branch(
        &self,
        id: &BranchId,
        size_bytes: i64,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let sql = "update branch set size_bytes = $1, measured_at_ms = $2 where id = $3";
        let mut write = self.begin().await?;
        on_write!(write, connection => sqlx::query(sql)
            .bind(size_bytes).bind(now_ms).bind(id.as_str()).execute(connection).await.map(|_| ()))?;
        write.commit().await
    }

    /// Removes a branch and all that hangs on it.
    pub async fn delete_branch(&self, id: &BranchId) -> Result<bool, StoreError> {
        let sql = "delete from branch where id = $1";
        let mut write = self.begin().await?;
        let changed = on_write!(write, connection => sqlx::query(sql)
            .bind(id.as_str()).execute(connection).await.map(|done| done.rows_affected()))?;
        write.commit().await?;
        Ok(changed > 0)
    }
}

pub(super) fn like(part: &str) -> String {
    let mut pattern = String::from("%");
    for c in part.chars() {
        if matches!(c, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}
