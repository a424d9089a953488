//! Why nothing was given.

use warrant_dpop::Refused as Possession;

use crate::dpop::Unspent;
use crate::error::Error;
use crate::login::{Barred, Refusal, Wrong};

/// Why nothing was given.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The request lacks something, or holds something malformed.
    Form(&'static str),
    /// Tokens are not given for this.
    Grant,
    /// The client did not prove who it is, or may have nothing.
    Client,
    /// The client's certificate does not prove who it is, for this reason.
    ClientCertificate(&'static str),
    /// The client was not registered for this.
    ClientGrant,
    /// What was shown does not count, for this reason.
    Proof(&'static str),
    /// The user name or the password is wrong, for this reason.
    Password(&'static str),
    /// The user proved who they are, and may not log in.
    Barred(Barred),
    /// The proof that a key is held does not count.
    Possession(Possession),
    /// The same, where an access token is shown with it; or the token is bound
    /// to a key and shown without one.
    Bound(Possession),
    /// More was asked for than may be had.
    Scope,
    /// The audience cannot be had over this connection, or is none.
    Audience,
    /// The client asks for another response than a code.
    ResponseType,
    /// A device's user has not decided yet.
    Pending,
    /// A device asks too often.
    SlowDown,
    /// A device's codes expired.
    Expired,
    /// A device's user said no.
    Denied,
    /// There is no bearer token of somebody signed in.
    Bearer,
    /// Who asks may not have this.
    Peer,
    /// Too many attempts; seconds until the next is looked at.
    Throttled(u64),
    /// Too many requests at once.
    Busy,
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
            Unspent::Again => Self::Possession(Possession::Again),
            Unspent::Full => Self::Busy,
            Unspent::Failed(error) => Self::Failed(error),
        }
    }
}

/// Of users whom something else than a password proved.
impl From<Wrong> for Refused {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Account(none) => Self::Barred(Barred::Account(none)),
            Wrong::Name
            | Wrong::Unknown
            | Wrong::Disabled
            | Wrong::Password
            | Wrong::Certificate(_) => Self::Proof(wrong.word()),
        }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Wrong(Wrong::Certificate(word)) => Self::Proof(word),
            Refusal::Wrong(wrong) => Self::Password(wrong.word()),
            Refusal::Barred(barred) => Self::Barred(barred),
            Refusal::Payload(_) => Self::Proof("payload"),
            Refusal::Scope => Self::Scope,
            Refusal::Possession(refused) => Self::Possession(refused),
            Refusal::Throttled(wait_s) => Self::Throttled(wait_s),
            Refusal::Busy => Self::Busy,
            Refusal::Failed(error) => Self::Failed(error),
        }
    }
}

impl Refused {
    /// The code of the answer. Source: RFC 6749 §4.1.2.1 and §5.2, RFC 8628
    /// §3.5, RFC 8693 §2.2.2, RFC 6750 §3.1.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Form(_) => "invalid_request",
            Self::Grant => "unsupported_grant_type",
            Self::Client | Self::ClientCertificate(_) => "invalid_client",
            Self::ClientGrant => "unauthorized_client",
            Self::Proof(_) | Self::Password(_) | Self::Barred(_) => "invalid_grant",
            Self::Bound(Possession::Missing) => "invalid_token",
            Self::Possession(refused) | Self::Bound(refused) => refused.code(),
            Self::Scope => "invalid_scope",
            Self::Audience => "invalid_target",
            Self::ResponseType => "unsupported_response_type",
            Self::Pending => "authorization_pending",
            Self::SlowDown => "slow_down",
            Self::Expired => "expired_token",
            Self::Denied | Self::Peer => "access_denied",
            Self::Bearer => "invalid_token",
            Self::Throttled(_) | Self::Busy | Self::Failed(_) => "temporarily_unavailable",
        }
    }

    /// The reason in one stable word, for the audit trail.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Form(_) => "form",
            Self::Grant => "grant-type",
            Self::Client => "client",
            Self::ClientGrant => "client-grant",
            Self::Proof(reason) | Self::Password(reason) | Self::ClientCertificate(reason) => {
                reason
            }
            Self::Barred(barred) => barred.word(),
            Self::Possession(refused) | Self::Bound(refused) => refused.word(),
            Self::Scope => "scope",
            Self::Audience => "audience",
            Self::ResponseType => "response-type",
            Self::Pending => "pending",
            Self::SlowDown => "slow-down",
            Self::Expired => "expired",
            Self::Denied => "denied",
            Self::Bearer => "bearer",
            Self::Peer => "peer",
            Self::Throttled(_) => "throttled",
            Self::Busy => "busy",
            Self::Failed(_) => "unavailable",
        }
    }

    /// The reason as the caller is told it: of a proof, nobody is told what
    /// was wrong with it.
    pub(crate) fn told(&self) -> &'static str {
        if let Self::Proof(_) | Self::Password(_) | Self::Barred(Barred::Account(_)) = self {
            return "grant";
        }
        if let Self::ClientCertificate(_) = self {
            return Self::Client.reason();
        }
        self.reason()
    }

    /// The reason for people.
    pub(crate) fn text(&self) -> &'static str {
        match self {
            Self::Form(what) => what,
            Self::Grant => "grant_type: not one that tokens are given for here",
            Self::Client | Self::ClientCertificate(_) => {
                "the client is unknown or did not prove who it is"
            }
            Self::ClientGrant => "the client was not registered for this",
            Self::Proof(_) => "what was shown is wrong, over, used or not this client's",
            Self::Password(_) => "Wrong user name or password",
            Self::Barred(barred) => barred.text(),
            Self::Possession(refused) | Self::Bound(refused) => refused.text(),
            Self::Scope => {
                "scope: read, submit, control and admin, as far as client and user may have them"
            }
            Self::Audience => "audience: warrant-broker, or what this connection may have",
            Self::ResponseType => "response_type: code is needed",
            Self::Pending => "the user has not decided yet",
            Self::SlowDown => "asked too soon; wait 5 seconds longer each time",
            Self::Expired => "the code is over; begin again",
            Self::Denied => "the user said no",
            Self::Bearer => "an access token of a user who logged in is needed",
            Self::Peer => "this cannot be asked over this connection",
            Self::Throttled(_) => "too many attempts; try again later",
            Self::Busy => "too many logins at once",
            Self::Failed(error) => error.part.told(),
        }
    }
}
