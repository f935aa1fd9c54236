//! All that a database holds, copied from one to another: what backups are made of and restored from.
//!
//! The tables are the same on both databases, so a backup's database is a SQLite file whatever it was made from, and
//! can be restored to either.

use super::db::{Db, Store, StoreError, Write, on_db, on_write, sqlite};
use super::documents::DocumentRow;
use crate::base::DocumentId;
use futures_util::TryStreamExt;
use sqlx::sqlite::{SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Row};
use std::path::Path;

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Integer,
    Boolean,
    Bytes,
}

enum Value {
    Text(Option<String>),
    Integer(Option<i64>),
    Boolean(Option<bool>),
    Bytes(Option<Vec<u8>>),
}

struct Table {
    name: String,
    columns: Vec<(String, Kind)>,
}

impl Table {
    fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|(name, _)| name == column)
    }

    fn list(&self) -> String {
        self.columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl Store {
    /// Makes a SQLite file that holds all that this database does at one moment. Nobody else may use it.
    ///
    /// # Errors
    /// [`StoreError::Version`] when the database is not of this perch's version.
    pub async fn copy_to(&self, file: &Path) -> Result<Self, StoreError> {
        let connect = sqlite(file.to_owned())
            // It is thrown away where it is not finished.
            .journal_mode(SqliteJournalMode::Memory)
            .synchronous(SqliteSynchronous::Off);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(connect).await?;
        sqlx::migrate!().run(&pool).await.map_err(super::db::migration)?;
        let copy = Self::of(Db::Lite { writer: pool.clone(), readers: pool });
        let tables = copy.tables().await?;
        let mut from = self.begin_reading().await?;
        check_version(&mut from).await?;
        let mut to = copy.begin().await?;
        for table in &tables {
            copy_rows(&mut from, &mut to, table, None).await?;
        }
        to.commit().await?;
        Ok(copy)
    }

    /// Fills this database, which holds nothing yet, from a SQLite file of this version.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it holds something.
    pub async fn fill_from(&self, copy: &Self) -> Result<(), StoreError> {
        let tables = copy.tables().await?;
        let mut from = copy.begin_reading().await?;
        let mut to = self.begin().await?;
        for table in &tables {
            let sql = format!("select count(*) from {}", table.name);
            let count: i64 = on_write!(to, connection =>
                sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await)?;
            if count > 0 {
                return Err(StoreError::Conflict);
            }
        }
        for table in &tables {
            copy_rows(&mut from, &mut to, table, None).await?;
        }
        to.commit().await
    }

    /// Whether the database holds nothing of a perch yet.
    pub async fn is_blank(&self) -> Result<bool, StoreError> {
        let sql = "select (select count(*) from branch) + (select count(*) from api_token)";
        let count: i64 = on_db!(self, pool => sqlx::query_scalar(sql).fetch_one(pool).await)?;
        Ok(count == 0)
    }

    /// Puts all of one document in the place of what this database, a copy of `from`, has of it; gives its row, if it
    /// is still alive.
    pub async fn take_document(
        &self,
        from: &Self,
        id: &DocumentId,
    ) -> Result<Option<DocumentRow>, StoreError> {
        let tables = self.tables().await?;
        let mut read = from.begin_reading().await?;
        let mut to = self.begin().await?;
        on_write!(to, connection => sqlx::query("delete from document where id = $1")
            .bind(id.as_str()).execute(connection).await.map(|_| ()))?;
        let place: Option<(String, String)> = on_write!(read, connection =>
            sqlx::query_as("select branch_id, path from document where id = $1 and is_live")
                .bind(id.as_str()).fetch_optional(connection).await)?;
        if let Some((branch, path)) = place {
            // Another that was there when the copy was made has left its path to this one.
            let sql = "update document set is_live = $1, reason = 'deleted', closed_at_ms = created_at_ms
                where branch_id = $2 and path = $3 and is_live";
            on_write!(to, connection => sqlx::query(sql)
                .bind(false).bind(branch).bind(path).execute(connection).await.map(|_| ()))?;
        }
        for table in &tables {
            let column = if table.name == "document" { "id" } else { "document_id" };
            if table.name.starts_with("document") && table.has(column) {
                copy_rows(&mut read, &mut to, table, Some((column, id.as_str()))).await?;
            }
        }
        to.commit().await?;
        drop(read);
        self.live_document_of(id).await
    }

    /// Removes what is of no use elsewhere: replaced files that a process still had open.
    pub async fn forget_asides(&self) -> Result<(), StoreError> {
        let mut write = self.begin().await?;
        on_write!(write, connection =>
            sqlx::query("delete from document_aside").execute(connection).await.map(|_| ()))?;
        write.commit().await
    }

    /// The tables of this SQLite file, those that others refer to first.
    async fn tables(&self) -> Result<Vec<Table>, StoreError> {
        let Db::Lite { readers, .. } = &self.db else {
            return Err(StoreError::Version("a copy is a SQLite file".into()));
        };
        let sql =
            "select name from sqlite_master where type = 'table' and name not like 'sqlite!_%' escape '!'
            and name <> '_sqlx_migrations' order by rowid";
        let names: Vec<String> = sqlx::query_scalar(sql).fetch_all(readers).await?;
        let mut tables = Vec::new();
        for name in names {
            let columns: Vec<(String, String)> =
                sqlx::query_as("select name, lower(type) from pragma_table_info($1)")
                    .bind(&name)
                    .fetch_all(readers)
                    .await?;
            let columns = columns
                .into_iter()
                .map(|(column, kind)| {
                    let kind = match kind.as_str() {
                        "text" => Kind::Text,
                        "bigint" => Kind::Integer,
                        "boolean" => Kind::Boolean,
                        "bytea" => Kind::Bytes,
                        other => {
                            return Err(StoreError::Damaged(format!("{name}.{column} is of type {other}")));
                        }
                    };
                    Ok((column, kind))
                })
                .collect::<Result<_, _>>()?;
            tables.push(Table { name, columns });
        }
        Ok(tables)
    }

    /// A transaction that sees one moment of the database.
    async fn begin_reading(&self) -> Result<Write, StoreError> {
        Ok(match &self.db {
            Db::Pg(pool) => {
                Write::Pg(pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?)
            }
            Db::Lite { readers, .. } => Write::Lite(readers.begin().await?),
        })
    }
}

async fn check_version(from: &mut Write) -> Result<(), StoreError> {
    let sql = "select version from _sqlx_migrations where success order by version";
    let has: Vec<i64> = on_write!(*from, connection => sqlx::query_scalar(sql).fetch_all(connection).await)?;
    let knows: Vec<i64> = sqlx::migrate!().iter().map(|step| step.version).collect();
    if has == knows {
        return Ok(());
    }
    Err(StoreError::Version(format!(
        "its tables are at step {}, this perch's are at {}; use the perch that runs on it, or start this one on it once",
        has.last().unwrap_or(&0),
        knows.last().unwrap_or(&0)
    )))
}

/// `only`: rows with this value in this column.
async fn copy_rows(
    from: &mut Write,
    to: &mut Write,
    table: &Table,
    only: Option<(&str, &str)>,
) -> Result<(), StoreError> {
    let (name, list) = (&table.name, table.list());
    let holes = (1..=table.columns.len()).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ");
    let insert = format!("insert into {name} ({list}) values ({holes})");
    let select = match only {
        Some((column, _)) => format!("select {list} from {name} where {column} = $1"),
        None => format!("select {list} from {name}"),
    };
    on_write!(*from, connection => {
        let mut query = sqlx::query(AssertSqlSafe(select));
        if let Some((_, value)) = only {
            query = query.bind(value.to_owned());
        }
        let mut rows = query.fetch(connection);
        while let Some(row) = rows.try_next().await? {
            let mut values = Vec::with_capacity(table.columns.len());
            for (at, (_, kind)) in table.columns.iter().enumerate() {
                values.push(match kind {
                    Kind::Text => Value::Text(row.try_get(at)?),
                    Kind::Integer => Value::Integer(row.try_get(at)?),
                    Kind::Boolean => Value::Boolean(row.try_get(at)?),
                    Kind::Bytes => Value::Bytes(row.try_get(at)?),
                });
            }
            put(to, &insert, values).await?;
        }
    });
    Ok(())
}

async fn put(to: &mut Write, insert: &str, values: Vec<Value>) -> Result<(), StoreError> {
    on_write!(*to, connection => {
        let mut query = sqlx::query(AssertSqlSafe(insert));
        for value in values {
            query = match value {
                Value::Text(value) => query.bind(value),
                Value::Integer(value) => query.bind(value),
                Value::Boolean(value) => query.bind(value),
                Value::Bytes(value) => query.bind(value),
            };
        }
        query.execute(connection).await.map(|_| ())
    })?;
    Ok(())
}
