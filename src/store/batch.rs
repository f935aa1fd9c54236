//! Statements that are carried out together, one after the other. SQLite's connection lives in a thread of its own: what is
//! handed over at once costs two switches of threads in all, instead of two for each statement.

use super::StoreError;
use super::db::Write;
use sqlx::AssertSqlSafe;
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
                let mut statements = self.statements.into_iter().peekable();
                while statements.peek().is_some() {
                    let (mut text, mut values) = (String::new(), Vec::new());
                    let mut count = 0;
                    for (sql, more) in statements.by_ref().take(TOGETHER) {
                        renumber(&mut text, sql, values.len());
                        values.extend(more);
                        count += 1;
                    }
                    let query = sqlx::query(AssertSqlSafe(text)).persistent(count <= KEPT);
                    bind_all!(query, values.into_iter()).execute(&mut **transaction).await?;
                }
            }
        }
        Ok(())
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
}
