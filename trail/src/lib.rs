//! The audit trail in a database: a table of rows in a hash chain, to which
//! rows are only added, and the commands that read, check and prune it.
//!
//! The auth service and the broker have a trail each, of the same shape.

#![forbid(unsafe_code)]

mod allowance;
mod command;
mod operator;
mod prune;
mod read;
mod row;
mod verify;
mod when;
mod write;

#[cfg(test)]
mod tests;

pub use allowance::Allowance;
pub use command::{AuditCommand, Outcome};
pub use operator::operator;
pub use read::Filter;
pub use row::{Row, Sealed, Stored};
pub use verify::Verified;
pub use warrant_audit::{Broken, Hash, Head, Why};
pub use when::{moment, now_us, utc};

/// One trail: the names of its tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trail {
    /// What its chain begins with.
    name: &'static str,
    /// The table of rows.
    rows: &'static str,
    /// The table of the head, which has one row.
    head: &'static str,
}

impl Trail {
    /// Logins, tokens, warrants, and the acts of administrators.
    pub const AUTHSVC: Self = Self {
        name: "authsvc",
        rows: "audit",
        head: "audit_head",
    };
    /// Jobs: who submitted, cancelled and read them.
    pub const BROKER: Self = Self {
        name: "broker",
        rows: "job_audit",
        head: "job_audit_head",
    };
}

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database did not answer, or not as expected.
    #[error(transparent)]
    Database(#[from] warrant_migrations::Error),
    /// A row cannot be written as JSON.
    #[error("a row cannot be written down")]
    Json(#[from] serde_json::Error),
    /// Nobody reads the output.
    #[error("cannot write the output")]
    Output(#[from] std::io::Error),
    /// The head on record is none.
    #[error("the head on record is not a hash")]
    Head(#[from] warrant_audit::NotAHash),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;
