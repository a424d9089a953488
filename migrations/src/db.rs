//! One open database: embedded SQLite or a PostgreSQL server.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::str::FromStr;
use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use crate::{Conn, Surround, Tx};

/// What goes wrong with a database. The text is for the log, never a caller.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is neither `sqlite:PATH` nor `postgres://…`.
    #[error("a database URL is sqlite:PATH or postgres://USER@HOST/NAME")]
    Url,
    /// The driver, the server or the disk said no.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    /// A migration could not be applied or does not match what was applied.
    #[error(transparent)]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The schema is older (or newer) than this program.
    #[error("the database is not up to date: run `migrate` ({0})")]
    Outdated(String),
    /// The role that was named cannot be granted anything.
    #[error("{0}")]
    Role(String),
    /// The role may not do all that the service does.
    #[error(
        "the role {role} lacks: {lacking}. Run `{service} migrate --grant-to {role}` with the \
         owner's URL (database.migrate_url_file, or --url-file)"
    )]
    Lacking {
        /// The role of the connection.
        role: String,
        /// Rights and what they are on.
        lacking: String,
        /// The service's program.
        service: &'static str,
    },
    /// The role may not change the schema.
    #[error(
        "the database is not up to date, and the role {0} may not change that: it lacks the \
         right to create in the schema, or does not own the tables. Run `migrate` with the \
         owner's URL (database.migrate_url_file, or --url-file)"
    )]
    MayNotMigrate(String),
    /// Another service has the database; says which, and what to do.
    #[error("{0}")]
    Held(String),
}

/// The result of a database call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How long to wait for a connection, a lock or a server that is away.
const PATIENCE: Duration = Duration::from_secs(5);

/// An open database. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Db {
    /// SQLite in WAL mode with `synchronous=FULL`: one writer, many readers.
    Sqlite {
        /// The one connection that writes.
        writer: SqlitePool,
        /// Connections that only read.
        readers: SqlitePool,
    },
    /// A PostgreSQL server.
    Postgres {
        /// Connections that write.
        writers: PgPool,
        /// Connections that only read.
        readers: PgPool,
    },
}

impl Db {
    /// Open `url` (`sqlite:PATH` or `postgres://…`). A missing SQLite file is
    /// created, for its owner alone.
    ///
    /// Errors: [`Error::Url`]; whatever the driver says of a database it
    /// cannot open.
    pub async fn open(url: &str) -> Result<Self> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Self::open_postgres(url).await;
        }
        let path = url.strip_prefix("sqlite:").ok_or(Error::Url)?;
        make_private(path).map_err(sqlx::Error::Io)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(PATIENCE)
            .pragma("wal_autocheckpoint", "4000")
            .pragma("temp_store", "memory");
        // Where the disk is full SQLite ends a transaction by itself, and the
        // driver does not learn of it: such a connection would never begin
        // another, and is replaced.
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(PATIENCE)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .before_acquire(|connection, _| {
                let usable = !connection.is_in_transaction();
                Box::pin(async move { Ok(usable) })
            })
            .connect_with(options.clone())
            .await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(PATIENCE)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(options.pragma("query_only", "on"));
        Ok(Self::Sqlite { writer, readers })
    }

    async fn open_postgres(url: &str) -> Result<Self> {
        let options = PgConnectOptions::from_str(url)?.options([
            ("statement_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "30s"),
            ("lock_timeout", "5s"),
        ]);
        // Every statement that writes finds its rows by their keys. A plan
        // that was made and kept while the tables were small must not read
        // them whole once they are large.
        let by_key = options.clone().options([
            ("enable_seqscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
        ]);
        let writers = PgPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(PATIENCE)
            .test_before_acquire(false)
            .connect_with(by_key)
            .await?;
        let readers = PgPoolOptions::new()
            .max_connections(8)
            .acquire_timeout(PATIENCE)
            .connect_lazy_with(options.options([("default_transaction_read_only", "on")]));
        Ok(Self::Postgres { writers, readers })
    }

    /// Begin a transaction that may write. On SQLite it takes the write lock
    /// at once, so that it cannot fail half-way for want of it.
    ///
    /// Errors: the database cannot be reached or is locked.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(match self {
            Self::Sqlite { writer, .. } => Tx::Sqlite(writer.begin_with("begin immediate").await?),
            Self::Postgres { writers, .. } => Tx::Postgres(writers.begin().await?),
        })
    }

    /// A connection to keep for many writes, so that none waits for the pool.
    /// No transaction surrounds its statements until [`Tx::open`]; a single
    /// one then costs one trip to the database. While it is held, nobody else
    /// can write to SQLite.
    ///
    /// Errors: as [`Db::begin`].
    pub async fn hold(&self) -> Result<Tx> {
        Ok(match self {
            Self::Sqlite { writer, .. } => {
                Tx::SqliteHeld(writer.acquire().await?, Surround::Nothing)
            }
            Self::Postgres { writers, .. } => {
                Tx::PostgresHeld(writers.acquire().await?, Surround::Nothing)
            }
        })
    }

    /// Returns once somebody wants to close all connections.
    pub async fn closing(&self) {
        match self {
            Self::Sqlite { writer, .. } => writer.close_event().await,
            Self::Postgres { writers, .. } => writers.close_event().await,
        }
    }

    /// A connection for reading. It cannot write.
    ///
    /// Errors: the database cannot be reached or all connections are taken.
    pub async fn read(&self) -> Result<Conn> {
        Ok(match self {
            Self::Sqlite { readers, .. } => Conn::Sqlite(readers.acquire().await?),
            Self::Postgres { readers, .. } => Conn::Postgres(readers.acquire().await?),
        })
    }

    /// Close all connections, after those in use are given back.
    pub async fn close(&self) {
        match self {
            Self::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Self::Postgres { writers, readers } => {
                readers.close().await;
                writers.close().await;
            }
        }
    }
}

/// Create a missing file for its owner alone; SQLite gives the files beside
/// it the same mode.
fn make_private(path: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(path) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(e),
        Ok(_) | Err(_) => Ok(()),
    }
}
