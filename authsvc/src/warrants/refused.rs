//! Why there is no warrant.

use warrant_dpop::Refused as Possession;

use crate::accounts::NoAccount;
use crate::dpop::Unspent;
use crate::error::Error;

/// Why there is no warrant.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The form lacks something, or holds something malformed.
    Form(&'static str),
    /// It asks for another grant than an exchange, or there are no warrants.
    Grant,
    /// This peer may not exchange tokens.
    Peer,
    /// There are no warrants for this shim.
    Audience,
    /// The token is not ours, is over, or is for another purpose.
    Subject,
    /// The proof that the token's key is held does not count.
    Possession(Possession),
    /// There is no room to remember more proofs.
    Busy,
    /// There is no account to be used.
    Account(NoAccount),
    /// The account is another one than that which logged in.
    OtherAccount,
    /// The session of the token has ended.
    Ended,
    /// The token may not be used to submit jobs.
    Scope,
    /// The user had as many warrants lately as may be; seconds until the next.
    Rate(u64),
    /// Something beneath failed.
    Failed(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Unspent> for Refused {
    fn from(unspent: Unspent) -> Self {
        match unspent {
            Unspent::Again => Self::Possession(Possession::Again),
            Unspent::Full => Self::Busy,
            Unspent::Failed(error) => Self::Failed(error),
        }
    }
}

impl Refused {
    /// The code of the answer. Source: RFC 6749 §5.2, RFC 8693 §2.2.2 (which
    /// wants `invalid_request` for a subject token that is not accepted).
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Grant => "unsupported_grant_type",
            Self::Peer => "unauthorized_client",
            Self::Audience => "invalid_target",
            Self::Form(_) | Self::Subject | Self::Account(_) | Self::OtherAccount | Self::Ended => {
                "invalid_request"
            }
            Self::Scope => "invalid_scope",
            Self::Possession(refused) => refused.code(),
            Self::Busy | Self::Rate(_) | Self::Failed(_) => "temporarily_unavailable",
        }
    }

    /// The reason in one stable word.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Form(_) => "form",
            Self::Grant => "grant-type",
            Self::Peer => "peer",
            Self::Audience => "audience",
            Self::Subject => "subject-token",
            Self::Possession(refused) => refused.word(),
            Self::Busy => "busy",
            Self::Account(none) => none.word(),
            Self::OtherAccount => "account-changed",
            Self::Ended => "session-ended",
            Self::Scope => "scope",
            Self::Rate(_) => "rate",
            Self::Failed(_) => "unavailable",
        }
    }

    /// The reason for people.
    pub(crate) fn text(&self) -> &'static str {
        match self {
            Self::Form(what) => what,
            Self::Grant => {
                "grant_type: urn:ietf:params:oauth:grant-type:token-exchange is allowed, in multi-user mode"
            }
            Self::Peer => "tokens cannot be exchanged over this connection",
            Self::Audience => "audience: there are no warrants for this shim",
            Self::Subject => {
                "subject_token: not an access token that can be exchanged here, or over"
            }
            Self::Possession(refused) => refused.text(),
            Self::Account(none) => none.text(),
            Self::OtherAccount => "the account is not the one that logged in; log in again",
            Self::Ended => "the session of the token has ended; log in again",
            Self::Scope => "subject_token: a warrant takes a token with the scope submit",
            Self::Rate(_) => "too many warrants within a second; try again later",
            Self::Busy => "too many warrants are asked for at the moment",
            Self::Failed(error) => error.part.told(),
        }
    }
}
