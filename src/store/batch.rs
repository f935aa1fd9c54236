//! Statements that are carried out together, one after the other. SQLite's connection lives in a thread of its own: what is
//! handed over at once costs two switches of threads in all, instead of two for each statement.

use super::StoreError;
use super::db::{Db, Store, Write};
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Sqlite};
use std::fmt::Write as _;

/// Statements in one text for SQLite; what is longer is cut.
const TOGETHER: usize = 16;
/// Texts of up to so many statements come again and again and are kept prepared.
const KEPT: usize = 4;

/// A statement's parameter.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Self::Text(value)
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(Some(value))
    }
}

impl From<Option<Vec<u8>>> for Value {
    fn from(value: Option<Vec<u8>>) -> Self {
        Self::Bytes(value)
    }
}

/// Binds all values to a query of either database.
macro_rules! bind_all {
    ($query:expr, $values:expr) => {
        $values.fold($query, |query, value| match value {
            Value::Int(value) => query.bind(value),
            Value::Text(value) => query.bind(value),
            Value::Bytes(value) => query.bind(value),
        })
    };
}

/// See the module's docs.
#[derive(Debug, Default)]
pub(super) struct Batch {
    statements: Vec<(&'static str, Vec<Value>)>,
}

impl Batch {
    /// Adds a statement; it names its parameters `$1`, `$2`, … in this order.
    pub(super) fn add<const N: usize>(&mut self, sql: &'static str, values: [Value; N]) {
        self.statements.push((sql, values.into()));
    }

    /// Carries all of them out, in their order, up to the first that fails.
    pub(super) async fn run(self, write: &mut Write) -> Result<(), StoreError> {
        match write {
            Write::Pg(transaction) => {
                for (sql, values) in self.statements {
                    bind_all!(sqlx::query(sql), values.into_iter()).execute(&mut **transaction).await?;
                }
            }
            Write::Lite(transaction) => {
                for Portion { text, values, is_kept, .. } in self.portions() {
                    let query = sqlx::query(AssertSqlSafe(text)).persistent(is_kept);
                    bind_all!(query, values.into_iter()).execute(&mut **transaction).await?;
                }
            }
        }
        Ok(())
    }

    /// Carries all of them out, or none: a transaction of their own. To SQLite a small one is handed over whole, with its
    /// beginning and end.
    pub(super) async fn transact(self, store: &Store) -> Result<(), StoreError> {
        let Db::Lite { writer, .. } = &store.db else {
            let mut write = store.begin().await?;
            self.run(&mut write).await?;
            return write.commit().await;
        };
        let mut lent = Lent { connection: writer.acquire().await?, is_clean: false };
        let mut began = "begin immediate;\n";
        for Portion { mut text, values, is_kept, is_last } in self.portions() {
            text.insert_str(0, std::mem::take(&mut began));
            if is_last {
                text.push_str("commit;\n");
            }
            let query = sqlx::query(AssertSqlSafe(text)).persistent(is_kept);
            if let Err(error) = bind_all!(query, values.into_iter()).execute(&mut *lent.connection).await {
                // After some errors SQLite has done so by itself, and says that there is nothing to undo.
                lent.is_clean = sqlx::query("rollback").execute(&mut *lent.connection).await.is_ok();
                return Err(error.into());
            }
        }
        lent.is_clean = true;
        Ok(())
    }

    fn portions(self) -> impl Iterator<Item = Portion> {
        let mut statements = self.statements.into_iter().peekable();
        std::iter::from_fn(move || {
            statements.peek()?;
            let (mut text, mut values, mut count) = (String::new(), Vec::new(), 0);
            for (sql, more) in statements.by_ref().take(TOGETHER) {
                renumber(&mut text, sql, values.len());
                values.extend(more);
                count += 1;
            }
            let (is_kept, is_last) = (count <= KEPT, statements.peek().is_none());
            Some(Portion { text, values, is_kept, is_last })
        })
    }
}

/// Statements in one text.
struct Portion {
    text: String,
    values: Vec<Value>,
    /// Whether the same text comes again.
    is_kept: bool,
    is_last: bool,
}

/// A connection of the pool; one that is given up within a transaction is closed, which undoes it.
struct Lent {
    connection: PoolConnection<Sqlite>,
    is_clean: bool,
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.is_clean {
            self.connection.close_on_drop();
        }
    }
}

/// Adds a statement whose parameters follow on `taken` others.
fn renumber(text: &mut String, sql: &str, taken: usize) {
    let mut parts = sql.split('$');
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let digits = part.len() - part.trim_start_matches(|at: char| at.is_ascii_digit()).len();
        let number: usize = part[..digits].parse().unwrap_or_default();
        let _ = write!(text, "${}{}", number + taken, &part[digits..]);
    }
    text.push_str(";\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn parameters_follow_on() {
        let mut text = String::new();
        for taken in [0, 2] {
            renumber(
                &mut text,
                "insert into a (b, c) values ($1, $2) on conflict (b) do update set c = $2",
                taken,
            );
        }
        let second = "insert into a (b, c) values ($3, $4) on conflict (b) do update set c = $4;\n";
        assert!(text.ends_with(&format!(";\n{second}")), "{text}");
    }

    /// Each statement gets its own values, in one text and over several; one that fails undoes all.
    #[tokio::test]
    async fn all_or_nothing_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_sqlite(folder.path().join("db.sqlite")).await.unwrap();
        let insert = "insert into document_aside (document_id, temp, base) values ($1, $2, $3)";
        let rows = |names: std::ops::Range<i64>| {
            let mut batch = Batch::default();
            for name in names {
                let base = Value::Bytes(Some(vec![u8::try_from(name).unwrap()]));
                batch.add(insert, ["d".into(), format!("{name}").into(), base]);
            }
            batch
        };
        let mut write = store.begin().await.unwrap();
        let crate::store::db::Write::Lite(transaction) = &mut write else { panic!("SQLite") };
        sqlx::query("pragma defer_foreign_keys = on").execute(&mut **transaction).await.unwrap();
        let many = i64::try_from(TOGETHER).unwrap() + 3;
        rows(0..many).run(&mut write).await.unwrap();
        let crate::store::db::Write::Lite(transaction) = &mut write else { panic!("SQLite") };
        let sql = "select temp, base from document_aside order by cast(temp as integer)";
        let there: Vec<(String, Vec<u8>)> = sqlx::query_as(sql).fetch_all(&mut **transaction).await.unwrap();
        let want: Vec<_> =
            (0..many).map(|name| (name.to_string(), vec![u8::try_from(name).unwrap()])).collect();
        assert_eq!(there, want);
        // The last is there already.
        let failed = rows(many..many + 2).run(&mut write).await.and(rows(0..1).run(&mut write).await);
        assert!(matches!(failed, Err(StoreError::Conflict)), "{failed:?}");
    }

    /// A transaction that is handed over whole leaves nothing when one of it fails, or when its caller goes away; the
    /// connection is good for the next.
    #[tokio::test]
    async fn what_is_handed_over_whole_is_undone_whole() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_sqlite(folder.path().join("db.sqlite")).await.unwrap();
        let Db::Lite { writer, .. } = &store.db else { panic!("SQLite") };
        let rows = |names: std::ops::Range<i64>| {
            let mut batch = Batch::default();
            for name in names {
                let sql = "insert into api_token (id, name, hash, is_owner, created_at_ms) values ($1, $1, $2, false, 0)";
                batch.add(sql, [format!("{name}").into(), Value::Bytes(Some(name.to_le_bytes().to_vec()))]);
            }
            batch
        };
        let count = || async {
            sqlx::query_scalar::<_, i64>("select count(*) from api_token").fetch_one(writer).await.unwrap()
        };
        let many = i64::try_from(TOGETHER).unwrap() + 3;
        rows(0..3).transact(&store).await.unwrap();
        rows(3..many).transact(&store).await.unwrap();
        assert_eq!(count().await, many);
        // The last is there already: within one text, and within the second of two.
        for before in [2, many] {
            let mut batch = rows(many..many + before);
            batch.statements.extend(rows(0..1).statements);
            assert!(matches!(batch.transact(&store).await, Err(StoreError::Conflict)));
            assert_eq!(count().await, many);
        }
        for polls in 0..30 {
            let mut transaction = Box::pin(rows(many..3 * many).transact(&store));
            for _ in 0..polls {
                if futures_util::poll!(&mut transaction).is_ready() {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_micros(200)).await;
            }
            drop(transaction);
            let there = count().await;
            assert!(there == many || there == 3 * many, "{there} rows after {polls} polls");
            sqlx::query("delete from api_token where cast(id as integer) >= $1")
                .bind(many)
                .execute(writer)
                .await
                .unwrap();
        }
        rows(many..2 * many).transact(&store).await.unwrap();
        assert_eq!(count().await, 2 * many);
    }
}
