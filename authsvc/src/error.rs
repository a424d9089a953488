//! Why a command, or the start of the service, could not be carried out.
//! What a caller over HTTP is told is in `http::fault`.

/// What sort of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A setting or an argument is not what it may be.
    Invalid,
    /// What was named does not exist.
    NotFound,
    /// What should be made exists already.
    Conflict,
    /// A file or directory is open to others than its owner.
    Insecure,
    /// The operating system or the database could not do it.
    Unavailable,
}

/// The part that failed, as callers are told it: none is sent looking for the
/// fault where it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The auth service itself.
    Own,
    /// The database of users.
    Database,
    /// The name service, and the directory behind it.
    Directory,
    /// `warrant-pam`, PAM and what PAM asks.
    Passwords,
    /// An OpenID provider.
    Provider,
}

impl Part {
    /// What callers are told.
    pub(crate) const fn told(self) -> &'static str {
        match self {
            Self::Own => "The auth service failed; its log says why.",
            Self::Database => "The user database is unavailable.",
            Self::Directory => "The directory of accounts (name service) is unavailable.",
            Self::Passwords => "The password checker (PAM) is unavailable.",
            Self::Provider => "The OpenID provider is unavailable.",
        }
    }
}

/// `message` is for the operator; `source` is what lay beneath.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Error {
    /// What sort of thing went wrong.
    pub(crate) kind: Kind,
    /// What, and what is allowed.
    pub(crate) message: String,
    /// Whose failure it is.
    pub(crate) part: Part,
    /// What lay beneath, for the log.
    #[source]
    pub(crate) source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of an operation of this crate.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error without a cause beneath it.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            part: Part::Own,
            source: None,
        }
    }

    /// A setting or an argument is wrong.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// The operating system or the database said no.
    pub(crate) fn unavailable(
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind: Kind::Unavailable,
            message: message.into(),
            part: Part::Own,
            source: Some(source.into()),
        }
    }

    /// The same, as a failure of `part`.
    pub(crate) fn of(self, part: Part) -> Self {
        Self { part, ..self }
    }
}

impl From<warrant_migrations::Error> for Error {
    fn from(source: warrant_migrations::Error) -> Self {
        use warrant_migrations::Error as Beneath;
        let message = match &source {
            Beneath::Url
            | Beneath::Outdated(_)
            | Beneath::Role(_)
            | Beneath::Lacking { .. }
            | Beneath::MayNotMigrate(_)
            | Beneath::Held(_) => return Self::invalid(source.to_string()),
            Beneath::Migrate(_) => "the user database could not be brought up to date",
            Beneath::Sql(_) => "the user database did not answer",
        };
        Self::unavailable(message, source).of(Part::Database)
    }
}

impl From<warrant_trail::Error> for Error {
    fn from(source: warrant_trail::Error) -> Self {
        use warrant_trail::Error as Beneath;
        match source {
            Beneath::Database(source) => source.into(),
            Beneath::Json(_) | Beneath::Output(_) | Beneath::Head(_) => {
                let message = source.to_string();
                Self::unavailable(message, source)
            }
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(source: sqlx::Error) -> Self {
        Self::from(warrant_migrations::Error::from(source))
    }
}
