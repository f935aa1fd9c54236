//! Names for templates: a tag is a set of branches, an alias leads to a tag.

use super::db::{Store, StoreError, Write, on_db, on_write, read};
use crate::base::BranchId;

impl Store {
    /// Stores a tag; `false` when there are `max`.
    pub async fn insert_tag(
        &self,
        id: &str,
        branches: &[BranchId],
        max: i64,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let mut write = self.begin().await?;
        let count: i64 = on_write!(write, connection =>
            sqlx::query_scalar("select count(*) from sdk_tag").fetch_one(connection).await)?;
        if count >= max {
            return Ok(false);
        }
        let branches = serde_json::json!(branches).to_string();
        let sql = "insert into sdk_tag (id, branches, created_at_ms) values ($1, $2, $3)";
        on_write!(write, connection => sqlx::query(sql)
            .bind(id.to_owned()).bind(branches).bind(now_ms).execute(connection).await.map(|_| ()))?;
        write.commit().await?;
        Ok(true)
    }

    /// Lets an alias lead to a tag, in the place of the one before; its id, which stays. `None` when there is no such tag,
    /// or a new alias would be one more than `max`.
    pub async fn put_alias(
        &self,
        namespace: &str,
        alias: &str,
        fresh_id: &str,
        tag: &str,
        max: i64,
    ) -> Result<Option<String>, StoreError> {
        let mut write = self.begin().await?;
        // Held, so that the tag does not go before the alias is written.
        let look = if matches!(write, Write::Pg(_)) {
            "select id from sdk_tag where id = $1 for update"
        } else {
            "select id from sdk_tag where id = $1"
        };
        let found: Option<String> = on_write!(write, connection =>
            sqlx::query_scalar(look).bind(tag.to_owned()).fetch_optional(connection).await)?;
        let count: i64 = on_write!(write, connection =>
            sqlx::query_scalar("select count(*) from sdk_alias").fetch_one(connection).await)?;
        if found.is_none() || count >= max {
            return Ok(None);
        }
        let sql = "insert into sdk_alias (namespace, alias, id, tag_id) values ($1, $2, $3, $4)
            on conflict (namespace, alias) do update set tag_id = excluded.tag_id returning id";
        let id: String = on_write!(write, connection => sqlx::query_scalar(sql)
            .bind(namespace.to_owned())
            .bind(alias.to_owned())
            .bind(fresh_id.to_owned())
            .bind(tag.to_owned())
            .fetch_one(connection).await)?;
        write.commit().await?;
        Ok(Some(id))
    }

    /// The branches that an alias leads to.
    pub async fn aliased(&self, namespace: &str, alias: &str) -> Result<Vec<BranchId>, StoreError> {
        let sql = "select sdk_tag.branches from sdk_alias join sdk_tag on sdk_tag.id = sdk_alias.tag_id
            where sdk_alias.namespace = $1 and sdk_alias.alias = $2";
        let found: Option<String> = on_db!(self, pool => sqlx::query_scalar(sql)
            .bind(namespace.to_owned()).bind(alias.to_owned()).fetch_optional(pool).await)?;
        let Some(found) = found else { return Ok(Vec::new()) };
        let ids: Vec<String> =
            serde_json::from_str(&found).map_err(|_| StoreError::Damaged("branches of a tag".into()))?;
        ids.iter().map(|id| read(id, "branch id")).collect()
    }
}
