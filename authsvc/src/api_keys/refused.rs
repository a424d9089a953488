//! Why something about keys was refused.

use warrant_api::scope::{Scope, Scopes};

use crate::dpop::Unspent;
use crate::error::Error;
use crate::login::Wrong;

/// Why something about keys was refused.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The token does not count here.
    Token,
    /// The proof that the token's key is held does not count.
    Possession(warrant_dpop::Refused),
    /// There is no room to remember more proofs.
    Busy,
    /// The token was given for a key: keys revoke no keys.
    OfKey,
    /// A field of the request is not what it may be.
    Form(String),
    /// The new key would be good for more than its user's role and the site allow.
    Scopes(Scopes),
    /// The token may not be used for this: it takes the scope.
    NeedsScope(Scope),
    /// There is no proof of the user in the request.
    Unproven,
    /// Keys are not made over this connection.
    Peer,
    /// The user has made as many keys lately as may be; seconds until the next.
    Rate(u64),
    /// Other people's keys are an administrator's.
    NotYours,
    /// There is no such key that counts.
    NoKey,
    /// The user has as many keys as there may be.
    Full(i64),
    /// The credential is no key, or not the right one.
    Key(&'static str),
    /// The key's user may not come in.
    User(Wrong),
    /// The account is not the one that the key was made for.
    OtherAccount,
    /// Something beneath failed.
    Failed(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<warrant_migrations::Error> for Refused {
    fn from(error: warrant_migrations::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Unspent> for Refused {
    fn from(unspent: Unspent) -> Self {
        match unspent {
            Unspent::Again => Self::Possession(warrant_dpop::Refused::Again),
            Unspent::Full => Self::Busy,
            Unspent::Failed(error) => Self::Failed(error),
        }
    }
}

impl Refused {
    /// Whether it is this service that failed.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Self::Busy | Self::Failed(_))
    }

    /// The reason in one stable word.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Possession(refused) => refused.word(),
            Self::Busy => "busy",
            Self::OfKey => "key-makes-key",
            Self::Form(_) => "form",
            Self::Scopes(_) => "scopes",
            Self::NeedsScope(_) => "scope",
            Self::Unproven => "proof",
            Self::Peer => "peer",
            Self::Rate(_) => "rate",
            Self::NotYours => "not-administrator",
            Self::NoKey => "key-unknown",
            Self::Full(_) => "too-many",
            Self::Key(word) => word,
            Self::User(wrong) => wrong.word(),
            Self::OtherAccount => "account-changed",
            Self::Failed(_) => "unavailable",
        }
    }
}
