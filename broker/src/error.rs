//! Why a request could not be honoured, in the words of the job model.

/// What sort of failure it is; each dialect gives it a status of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request asks for something that cannot be.
    Invalid,
    /// There is no such job, or none that the caller may know of.
    NotFound,
    /// The caller may not do this.
    Denied,
    /// The job is in a state that does not allow this.
    Conflict,
    /// Another request with the same idempotency key is still being answered.
    InProgress,
    /// The idempotency key was used for another request.
    KeyReused,
    /// The caller asks for more than one user may have; trying again later works.
    TooMany,
    /// The service cannot do it now; trying again later may work.
    Unavailable,
    /// A defect of ours.
    Internal,
}

/// `message` may be shown to the caller; `source` is for the log alone.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The sort of failure.
    pub kind: Kind,
    /// What to tell the caller.
    pub message: String,
    /// What to tell the log.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of a use case.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure that needs no more than its message.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// A failure with something for the log.
    pub fn caused(
        kind: Kind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            message: message.into(),
            source: Some(source.into()),
        }
    }
}

impl From<warrant_migrations::Error> for Error {
    /// Tells a full disk and a lost database from defects of our own.
    fn from(error: warrant_migrations::Error) -> Self {
        match &error {
            warrant_migrations::Error::Sql(sql) => Self::from_sql(sql.sort(), error),
            warrant_migrations::Error::Url
            | warrant_migrations::Error::Migrate(_)
            | warrant_migrations::Error::Outdated(_)
            | warrant_migrations::Error::Role(_)
            | warrant_migrations::Error::Lacking { .. }
            | warrant_migrations::Error::MayNotMigrate(_)
            | warrant_migrations::Error::Held(_) => {
                Self::caused(Kind::Internal, "The job store cannot be used.", error)
            }
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::from_sql(error.sort(), error)
    }
}

impl Error {
    fn from_sql(sort: Sort, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let (kind, message) = sort.words();
        Self::caused(kind, message, source)
    }
}

/// What a database error means for the next statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// No space: nothing can be written until somebody makes room.
    Full,
    /// The database is not there, is locked or is shutting down.
    Away,
    /// This statement or its values were refused; others may work.
    Refused,
}

impl Sort {
    /// What to tell a caller.
    pub const fn words(self) -> (Kind, &'static str) {
        match self {
            Self::Full => (
                Kind::Unavailable,
                "The job store cannot be written: its disk is full.",
            ),
            Self::Away => (Kind::Unavailable, "The job store cannot be reached."),
            Self::Refused => (Kind::Internal, "The job store failed."),
        }
    }
}

/// Sorting the errors of both drivers.
pub trait Sorted {
    /// What this error means for the next statement.
    fn sort(&self) -> Sort;
}

impl Sorted for sqlx::Error {
    /// Source: SQLite result codes 5, 6, 10, 13, 14; SQLSTATE classes 08, 53, 55, 57, 58.
    fn sort(&self) -> Sort {
        let Some(error) = self.as_database_error() else {
            let away = matches!(
                self,
                Self::Io(_)
                    | Self::Tls(_)
                    | Self::Protocol(_)
                    | Self::PoolTimedOut
                    | Self::PoolClosed
                    | Self::WorkerCrashed
            );
            return if away { Sort::Away } else { Sort::Refused };
        };
        let code = error.code().unwrap_or_default();
        if error
            .try_downcast_ref::<sqlx::sqlite::SqliteError>()
            .is_some()
        {
            // An extended code carries the primary one in its low byte.
            return match code.parse::<u32>().map(|code| code & 0xff) {
                Ok(13) => Sort::Full,
                Ok(5 | 6 | 8 | 10 | 14) => Sort::Away,
                _ => Sort::Refused,
            };
        }
        match code.as_ref() {
            "53100" => Sort::Full,
            code if ["08", "53", "55", "57", "58"]
                .iter()
                .any(|class| code.starts_with(class)) =>
            {
                Sort::Away
            }
            _ => Sort::Refused,
        }
    }
}
