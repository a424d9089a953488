//! One SQL text on two drivers.

use sqlx::pool::PoolConnection;
use sqlx::{Postgres, Sqlite, Transaction};

use crate::Result;

/// A transaction that may write. Dropped without [`Tx::commit`], it is rolled
/// back.
#[derive(Debug)]
pub enum Tx {
    /// On SQLite, holding the write lock.
    Sqlite(Transaction<'static, Sqlite>),
    /// On PostgreSQL.
    Postgres(Transaction<'static, Postgres>),
    /// On SQLite, outside a transaction: each text brings its own.
    SqliteAlone(PoolConnection<Sqlite>),
    /// On PostgreSQL, outside a transaction: each statement is one.
    PostgresAlone(PoolConnection<Postgres>),
}

impl Tx {
    /// Whether nothing surrounds a statement.
    pub const fn is_alone(&self) -> bool {
        matches!(self, Self::SqliteAlone(_) | Self::PostgresAlone(_))
    }

    /// After a statement that failed: undo what it left behind.
    pub fn abandon(self) {
        match self {
            // Dropped, they are rolled back.
            Self::Sqlite(_) | Self::Postgres(_) => {}
            // A text that failed half-way leaves its transaction open; the
            // database closes it together with the connection.
            Self::SqliteAlone(mut connection) => connection.close_on_drop(),
            Self::PostgresAlone(mut connection) => connection.close_on_drop(),
        }
    }

    /// Make everything done in the transaction durable.
    ///
    /// Errors: the database refused, or was lost; in the latter case the
    /// outcome is not known.
    pub async fn commit(self) -> Result<()> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Postgres(tx) => tx.commit().await?,
            Self::SqliteAlone(_) | Self::PostgresAlone(_) => {}
        }
        Ok(())
    }
}

/// A connection for reading.
#[derive(Debug)]
pub enum Conn {
    /// To SQLite.
    Sqlite(PoolConnection<Sqlite>),
    /// To PostgreSQL.
    Postgres(PoolConnection<Postgres>),
}

/// One statement where the two databases need different words.
#[derive(Debug, Clone, Copy)]
pub struct Spelt {
    /// As SQLite says it.
    pub sqlite: &'static str,
    /// As PostgreSQL says it.
    pub postgres: &'static str,
}

/// What runs on one of the two drivers: a [`Tx`] or a [`Conn`].
pub trait Driven {
    /// Whether this is the SQLite driver.
    fn is_sqlite(&self) -> bool;
}

impl Driven for Tx {
    fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite(_) | Self::SqliteAlone(_))
    }
}

impl Driven for Conn {
    fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }
}

impl Spelt {
    /// The spelling for the driver that `on` uses.
    pub fn on(self, on: &impl Driven) -> &'static str {
        if on.is_sqlite() {
            self.sqlite
        } else {
            self.postgres
        }
    }
}

/// Run one expression on whichever driver is open: `on!(tx, |db| sqlx::query(SQL)
/// .bind(id).execute(db).await)`. Works for [`Tx`] and [`Conn`] alike, given
/// as `&mut`. The compiler checks the expression against both drivers.
#[macro_export]
macro_rules! on {
    ($on:expr, |$db:ident| $body:expr) => {
        match $crate::Split::split($on) {
            $crate::Either::Sqlite($db) => $body,
            $crate::Either::Postgres($db) => $body,
        }
    };
}

/// A borrowed connection of one driver or the other; made by [`on!`].
#[derive(Debug)]
pub enum Either<'a> {
    /// To SQLite.
    Sqlite(&'a mut sqlx::SqliteConnection),
    /// To PostgreSQL.
    Postgres(&'a mut sqlx::PgConnection),
}

/// Borrow the connection inside; used by [`on!`].
pub trait Split {
    /// The connection of whichever driver is open.
    fn split(&mut self) -> Either<'_>;
}

impl Split for Tx {
    fn split(&mut self) -> Either<'_> {
        match self {
            Self::Sqlite(tx) => Either::Sqlite(&mut *tx),
            Self::Postgres(tx) => Either::Postgres(&mut *tx),
            Self::SqliteAlone(connection) => Either::Sqlite(&mut *connection),
            Self::PostgresAlone(connection) => Either::Postgres(&mut *connection),
        }
    }
}

impl Split for Conn {
    fn split(&mut self) -> Either<'_> {
        match self {
            Self::Sqlite(conn) => Either::Sqlite(&mut *conn),
            Self::Postgres(conn) => Either::Postgres(&mut *conn),
        }
    }
}
