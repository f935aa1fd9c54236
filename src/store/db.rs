//! Pools, transactions and the few places where the two databases differ.

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, PgPool, Postgres, Sqlite, SqlitePool, Transaction};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;

/// Names perch's lock among a Postgres database's advisory locks ("perch" in ASCII).
const LOCK_KEY: i64 = 0x70_65_72_63_68;
/// SQLite readers, and Postgres connections in all.
const CONNECTIONS: u32 = 8;

/// A database that gives no sign of life for this long is away.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);
/// How often a server should call [`Store::check_lock`].
pub const LOCK_CHECKED_EVERY: Duration = Duration::from_secs(1);

/// Where the data is.
#[derive(Clone, Debug)]
pub struct Options {
    /// `postgres://…`; without it SQLite in the data folder.
    pub database_url: Option<SecretString>,
    /// The data folder.
    pub data: PathBuf,
}

impl Options {
    /// Host and port of a database that is reached over the network; of one that is reached by a socket file the port
    /// that it most likely has on this machine too.
    ///
    /// # Errors
    /// [`StoreError::Other`] when the URL is malformed.
    pub fn database_address(&self) -> Result<Option<(String, u16)>, StoreError> {
        let Some(url) = &self.database_url else { return Ok(None) };
        let options = postgres(url)?;
        let is_file = options.get_socket().is_some() || options.get_host().starts_with('/');
        let host = if is_file { "localhost" } else { options.get_host() };
        Ok(Some((host.to_owned(), options.get_port())))
    }
}

/// What an operator wants to know of a database.
#[derive(Clone, Debug)]
pub struct About {
    /// Its kind and version.
    pub version: String,
    /// Where its tables are, and where this perch wants them; `None`: there are none.
    pub steps: Option<(i64, i64)>,
    /// How far its clock is ahead of this machine's, where it has one of its own.
    pub ahead_s: Option<i64>,
    /// When a branch was last changed, in milliseconds since 1970.
    pub newest_ms: i64,
}

/// What went wrong, as far as callers act on it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Such a row is there already.
    #[error("there is already one")]
    Conflict,
    /// Another perch uses this database.
    #[error("another perch uses this database; stop it, or give this one a database of its own")]
    InUse,
    /// The database is away, full or read-only; worth trying again.
    #[error("the database does not answer: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// A row holds what perch never writes.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// Its tables are not of this perch's version.
    #[error("{0}")]
    Version(String),
    /// Anything else.
    #[error("the database refused: {0}")]
    Other(#[source] sqlx::Error),
}

impl StoreError {
    /// What a database is called that gives no answer in time.
    #[must_use]
    pub fn timed_out() -> Self {
        Self::Unavailable(sqlx::Error::PoolTimedOut)
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let unavailable = match &error {
            sqlx::Error::Database(inner) => {
                if inner.is_unique_violation() {
                    return Self::Conflict;
                }
                let code = inner.code().unwrap_or_default();
                match code.parse::<u32>() {
                    // SQLite: busy, locked, read-only, I/O, full, can't open; the low byte is the primary code.
                    Ok(number) if code.len() < 5 => matches!(number & 0xFF, 5 | 6 | 8 | 10 | 13 | 14),
                    // Postgres: connection, resources, operator intervention, read-only transaction.
                    _ => ["08", "53", "57", "58", "25006"].iter().any(|class| code.starts_with(class)),
                }
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => true,
            _ => false,
        };
        if unavailable { Self::Unavailable(error) } else { Self::Other(error) }
    }
}

#[derive(Clone)]
pub(super) enum Db {
    Pg(PgPool),
    Lite { writer: SqlitePool, readers: SqlitePool },
}

/// An open write transaction on either database; rolled back when dropped.
pub(super) enum Write {
    Pg(Transaction<'static, Postgres>),
    Lite(Transaction<'static, Sqlite>),
}

/// Runs one body on the pool for reading.
macro_rules! on_db {
    ($store:expr, $pool:ident => $body:expr) => {
        match &$store.db {
            $crate::store::db::Db::Pg($pool) => $body,
            $crate::store::db::Db::Lite { readers: $pool, .. } => $body,
        }
    };
}

/// Runs one body on the connection of a write transaction.
macro_rules! on_write {
    ($write:expr, $connection:ident => $body:expr) => {
        match &mut $write {
            $crate::store::db::Write::Pg(transaction) => {
                let $connection = &mut **transaction;
                $body
            }
            $crate::store::db::Write::Lite(transaction) => {
                let $connection = &mut **transaction;
                $body
            }
        }
    };
}
pub(super) use {on_db, on_write};

fn postgres(url: &SecretString) -> Result<PgConnectOptions, StoreError> {
    PgConnectOptions::from_str(url.expose_secret())
        .map_err(|_| StoreError::Other(sqlx::Error::Configuration("the database URL is malformed".into())))
}

pub(super) fn sqlite(path: PathBuf) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(5))
}

/// Handle to the database, cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(super) db: Db,
    /// On Postgres only.
    lock: Option<Arc<DatabaseLock>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("kind", &self.kind()).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the database, makes it if it is not there, and brings its tables up to date.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another perch has this Postgres database (SQLite is guarded by the data folder's
    /// lock), [`StoreError::Unavailable`] when it can't be reached.
    pub async fn open(options: &Options) -> Result<Self, StoreError> {
        match &options.database_url {
            Some(url) => Self::open_postgres(url).await,
            None => Self::open_sqlite(options.data.join("perch.sqlite")).await,
        }
    }

    /// Opens a database beside a perch that may be running, for short reads and writes: takes no lock and leaves the
    /// tables as they are.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it is not there or can't be reached.
    pub async fn open_beside(options: &Options) -> Result<Self, StoreError> {
        let db = match &options.database_url {
            Some(url) => Db::Pg(PgPoolOptions::new().max_connections(1).connect_with(postgres(url)?).await?),
            None => {
                let connect = sqlite(options.data.join("perch.sqlite")).create_if_missing(false);
                let pool = SqlitePoolOptions::new().max_connections(1).connect_with(connect).await?;
                Db::Lite { writer: pool.clone(), readers: pool }
            }
        };
        Ok(Self::of(db))
    }

    pub(super) fn of(db: Db) -> Self {
        Self { db, lock: None }
    }

    async fn open_postgres(url: &SecretString) -> Result<Self, StoreError> {
        let connect = postgres(url)?;
        let lock = Arc::new(DatabaseLock::new(connect.clone()));
        lock.ensure().await?;
        let guard = Arc::clone(&lock);
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(Duration::from_secs(5))
            // When Postgres restarts, the lock is lost together with all connections: a new one is only good for
            // something once the lock is ours again.
            .after_connect(move |_, _| {
                let guard = Arc::clone(&guard);
                Box::pin(async move {
                    guard.ensure().await.map_err(|error| sqlx::Error::Configuration(error.to_string().into()))
                })
            })
            .connect_with(connect)
            .await?;
        sqlx::migrate!().run(&pool).await.map_err(migration)?;
        Ok(Self { db: Db::Pg(pool), lock: Some(lock) })
    }

    /// Opens this SQLite file, which nobody else uses, makes it if it is not there, and brings its tables up to date.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when it is no database of perch's.
    pub async fn open_sqlite(path: PathBuf) -> Result<Self, StoreError> {
        let connect = sqlite(path);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            // A file does not go away between two uses as a server does.
            .test_before_acquire(false)
            // On a full disk SQLite rolls back by itself; sqlx then fails to, and counts a transaction for ever.
            .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
            .connect_with(connect.clone())
            .await?;
        sqlx::migrate!().run(&writer).await.map_err(migration)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .test_before_acquire(false)
            .connect_with(connect.read_only(true))
            .await?;
        Ok(Self { db: Db::Lite { writer, readers }, lock: None })
    }

    /// `sqlite` or `postgres`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.db {
            Db::Pg(_) => "postgres",
            Db::Lite { .. } => "sqlite",
        }
    }

    /// What an operator wants to know of the database. Changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn about(&self) -> Result<About, StoreError> {
        let knows = sqlx::migrate!().iter().map(|step| step.version).max().unwrap_or_default();
        let (version, ahead_s) = match &self.db {
            Db::Pg(pool) => {
                let sql = "select current_setting('server_version'), extract(epoch from now())::bigint";
                let (version, now_s): (String, i64) = sqlx::query_as(sql).fetch_one(pool).await?;
                let own = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
                let own = i64::try_from(own.unwrap_or_default().as_secs()).unwrap_or(i64::MAX);
                (format!("Postgres {version}"), Some(now_s - own))
            }
            Db::Lite { readers, .. } => {
                let version: String =
                    sqlx::query_scalar("select sqlite_version()").fetch_one(readers).await?;
                let whole: String = sqlx::query_scalar("pragma quick_check(1)").fetch_one(readers).await?;
                if whole != "ok" {
                    return Err(StoreError::Damaged(whole));
                }
                (format!("SQLite {version}, whole"), None)
            }
        };
        let sql = "select max(version) from _sqlx_migrations";
        let has: Result<Option<i64>, _> = on_db!(self, pool => sqlx::query_scalar(sql).fetch_one(pool).await);
        // Without its tables nothing is in it.
        let Ok(Some(has)) = has else { return Ok(About { version, steps: None, ahead_s, newest_ms: 0 }) };
        let newest: Result<Option<i64>, _> = on_db!(self, pool =>
            sqlx::query_scalar("select max(updated_at_ms) from branch").fetch_one(pool).await);
        let newest_ms = newest.ok().flatten().unwrap_or_default();
        Ok(About { version, steps: Some((has, knows)), ahead_s, newest_ms })
    }

    /// Asks the database for a sign of life.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.check_held()?;
        let answer = async { on_db!(self, pool => sqlx::query("select 1").execute(pool).await.map(|_| ())) };
        tokio::time::timeout(ANSWERS_WITHIN, answer).await.map_err(|_| StoreError::timed_out())??;
        Ok(())
    }

    /// Sees whether this perch still holds its Postgres database, and takes it again if it was let go. Until it is held
    /// nothing is written.
    pub async fn check_lock(&self) {
        let Some(lock) = &self.lock else { return };
        let was_held = lock.is_held.load(Ordering::Acquire);
        match lock.ensure().await {
            Ok(()) if !was_held => tracing::info!("the database is held by this perch again"),
            Err(error) if was_held => {
                tracing::error!("this perch lost its hold of the database, edits wait: {error}");
            }
            _ => {}
        }
    }

    fn check_held(&self) -> Result<(), StoreError> {
        match &self.lock {
            Some(lock) if !lock.is_held.load(Ordering::Acquire) => Err(lock.why()),
            _ => Ok(()),
        }
    }

    /// Closes all connections; what was committed stays.
    pub async fn close(&self) {
        match &self.db {
            Db::Pg(pool) => pool.close().await,
            Db::Lite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
        }
    }

    /// Begins a transaction that may write. On SQLite it takes the write lock at once: one that reads first and
    /// writes later fails when another has written between.
    pub(super) async fn begin(&self) -> Result<Write, StoreError> {
        self.check_held()?;
        Ok(match &self.db {
            Db::Pg(pool) => Write::Pg(pool.begin().await?),
            Db::Lite { writer, .. } => Write::Lite(writer.begin_with("BEGIN IMMEDIATE").await?),
        })
    }
}

/// The advisory lock that keeps a second perch out of a Postgres database. It lives and dies with one connection.
struct DatabaseLock {
    connect: PgConnectOptions,
    connection: Mutex<Option<sqlx::PgConnection>>,
    is_held: AtomicBool,
    /// Whether it was found in another's hand when last looked at.
    is_taken: AtomicBool,
}

impl DatabaseLock {
    fn new(connect: PgConnectOptions) -> Self {
        let (is_held, is_taken) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { connect, connection: Mutex::default(), is_held, is_taken }
    }

    /// Makes sure that the lock is held at this moment.
    async fn ensure(&self) -> Result<(), StoreError> {
        let mut connection = self.connection.lock().await;
        if let Some(held) = connection.as_mut() {
            let alive = tokio::time::timeout(ANSWERS_WITHIN, held.ping()).await;
            if matches!(alive, Ok(Ok(()))) {
                return Ok(());
            }
        }
        // What does not answer may still hold the lock on the other side, until Postgres notices.
        self.is_held.store(false, Ordering::Release);
        *connection = None;
        let take = async {
            let mut fresh = sqlx::PgConnection::connect_with(&self.connect).await?;
            let sql = "select pg_try_advisory_lock($1)";
            let is_free: bool = sqlx::query_scalar(sql).bind(LOCK_KEY).fetch_one(&mut fresh).await?;
            Ok::<_, sqlx::Error>(is_free.then_some(fresh))
        };
        let taken = tokio::time::timeout(ANSWERS_WITHIN, take).await;
        let fresh = taken.map_err(|_| StoreError::timed_out())??;
        self.is_taken.store(fresh.is_none(), Ordering::Relaxed);
        *connection = Some(fresh.ok_or(StoreError::InUse)?);
        self.is_held.store(true, Ordering::Release);
        Ok(())
    }

    /// Why it is not held.
    fn why(&self) -> StoreError {
        if self.is_taken.load(Ordering::Relaxed) { StoreError::InUse } else { StoreError::timed_out() }
    }
}

impl Write {
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Pg(transaction) => transaction.commit().await?,
            Self::Lite(transaction) => transaction.commit().await?,
        }
        Ok(())
    }
}

pub(super) fn migration(error: sqlx::migrate::MigrateError) -> StoreError {
    match error {
        sqlx::migrate::MigrateError::Execute(error) => error.into(),
        other => StoreError::Damaged(format!("its tables can't be brought up to date: {other}")),
    }
}

/// Reads an id or a word that perch wrote itself.
pub(super) fn read<T: FromStr>(text: &str, what: &str) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::Damaged(format!("`{text}` is no {what}")))
}
