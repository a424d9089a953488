//! One SQL text on two drivers.

use sqlx::pool::PoolConnection;
use sqlx::{Executor, Postgres, Sqlite, Transaction};

use crate::Result;

/// A transaction that may write. Dropped without [`Tx::commit`], it is rolled
/// back.
#[derive(Debug)]
pub enum Tx {
    /// On SQLite, holding the write lock.
    Sqlite(Transaction<'static, Sqlite>),
    /// On PostgreSQL.
    Postgres(Transaction<'static, Postgres>),
    /// On SQLite, a connection kept for many transactions.
    SqliteHeld(PoolConnection<Sqlite>, Surround),
    /// On PostgreSQL, a connection kept for many transactions.
    PostgresHeld(PoolConnection<Postgres>, Surround),
}

/// What surrounds the statements on a connection that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surround {
    /// Nothing. On PostgreSQL each statement is a transaction; on SQLite each
    /// text brings its own.
    Nothing,
    /// A transaction.
    Transaction,
}

impl Tx {
    /// Whether nothing surrounds a statement.
    pub const fn is_alone(&self) -> bool {
        matches!(
            self,
            Self::SqliteHeld(_, Surround::Nothing) | Self::PostgresHeld(_, Surround::Nothing)
        )
    }

    /// On a connection that is kept: begin a transaction.
    ///
    /// Errors: the database cannot be reached or is locked. After an error
    /// here or in a later statement, [`Tx::abandon`] is what is left to do.
    pub async fn open(&mut self) -> Result<()> {
        match self {
            Self::Sqlite(_) | Self::Postgres(_) => {}
            Self::SqliteHeld(connection, surround) => {
                connection.execute("begin immediate").await?;
                *surround = Surround::Transaction;
            }
            Self::PostgresHeld(connection, surround) => {
                connection.execute("begin").await?;
                *surround = Surround::Transaction;
            }
        }
        Ok(())
    }

    /// On a connection that is kept: make everything done in the transaction
    /// durable.
    ///
    /// Errors: as [`Tx::commit`].
    pub async fn close(&mut self) -> Result<()> {
        match self {
            Self::Sqlite(_) | Self::Postgres(_) => {}
            Self::SqliteHeld(connection, surround) => {
                connection.execute("commit").await?;
                *surround = Surround::Nothing;
            }
            Self::PostgresHeld(connection, surround) => {
                connection.execute("commit").await?;
                *surround = Surround::Nothing;
            }
        }
        Ok(())
    }

    /// After a statement that failed: undo what it left behind.
    pub fn abandon(self) {
        match self {
            // Dropped, they are rolled back.
            Self::Sqlite(_) | Self::Postgres(_) => {}
            // Whatever is open, the database ends it together with the
            // connection; and on a full disk SQLite has ended it by itself.
            Self::SqliteHeld(mut connection, _) => connection.close_on_drop(),
            Self::PostgresHeld(mut connection, _) => connection.close_on_drop(),
        }
    }

    /// Make everything done in the transaction durable.
    ///
    /// Errors: the database refused, or was lost; in the latter case the
    /// outcome is not known.
    pub async fn commit(mut self) -> Result<()> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Postgres(tx) => tx.commit().await?,
            Self::SqliteHeld(..) | Self::PostgresHeld(..) => self.close().await?,
        }
        Ok(())
    }

    /// Undo everything done in the transaction.
    ///
    /// Errors: the database was lost, which undoes it as well.
    pub async fn rollback(self) -> Result<()> {
        match self {
            Self::Sqlite(tx) => tx.rollback().await?,
            Self::Postgres(tx) => tx.rollback().await?,
            Self::SqliteHeld(..) | Self::PostgresHeld(..) => self.abandon(),
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
        matches!(self, Self::Sqlite(_) | Self::SqliteHeld(..))
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
            Self::SqliteHeld(connection, _) => Either::Sqlite(&mut *connection),
            Self::PostgresHeld(connection, _) => Either::Postgres(&mut *connection),
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
