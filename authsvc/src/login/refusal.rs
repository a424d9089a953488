//! Why no token was given.

use std::fmt;

use crate::accounts::NoAccount;
use crate::dpop::Unspent;
use crate::error::Error;
use crate::handshake;
use crate::passwords::Busy;

/// Why no token was given.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The user or the password is wrong; the caller is not told how.
    Wrong(Wrong),
    /// The user proved who they are, and may not log in; they are told why.
    Barred(Barred),
    /// The handshake's payload is refused.
    Payload(handshake::Refused),
    /// More was asked for than client and user may have.
    Scope,
    /// The proof that a key is held was used before.
    Possession(warrant_dpop::Refused),
    /// Too many failures; seconds until the next attempt is looked at.
    Throttled(u64),
    /// Too many logins at once.
    Busy,
    /// Something beneath failed.
    Failed(Error),
}

/// What was wrong; for the audit trail alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// The name is none that a user can have.
    Name,
    /// There is no such user.
    Unknown,
    /// The user may not log in.
    Disabled,
    /// The password.
    Password,
    /// The certificate, for this reason.
    Certificate(&'static str),
    /// There is no account to be used.
    Account(NoAccount),
}

/// Why a user who proved who they are may not log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Barred {
    /// There is no account to be used.
    Account(NoAccount),
    /// PAM asks for something besides the password, such as a one-time code.
    CodeNeeded,
    /// The password has expired.
    PasswordExpired,
    /// The account has expired.
    AccountExpired,
    /// PAM's account rules do not let the account in now.
    NotNow,
    /// An operator or administrator, without what the provider must say of
    /// those, such as a second factor.
    Operator,
}

impl Barred {
    /// The reason in one stable word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Account(none) => none.word(),
            Self::CodeNeeded => "code-needed",
            Self::PasswordExpired => "password-expired",
            Self::AccountExpired => "account-expired",
            Self::NotNow => "pam-account",
            Self::Operator => "operator-claim",
        }
    }

    /// The reason for the user.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Account(none) => none.text(),
            Self::CodeNeeded => {
                "This account needs a code besides the password. Give both together."
            }
            Self::PasswordExpired => {
                "The password has expired. Set a new one on the machine (with passwd, or when \
                 logging in there), then log in here again."
            }
            Self::AccountExpired => "The account has expired.",
            Self::NotNow => "The account may not log in here at this time.",
            Self::Operator => {
                "Operators and administrators must sign in at the provider in a stronger way \
                 (such as with a second factor) than this."
            }
        }
    }
}

impl Wrong {
    /// What was wrong, in one stable word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Unknown => "user-unknown",
            Self::Disabled => "user-disabled",
            Self::Password => "password",
            Self::Certificate(word) => word,
            Self::Account(none) => none.word(),
        }
    }
}

impl Refusal {
    /// The reason in one stable word.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Wrong(wrong) => wrong.word(),
            Self::Barred(barred) => barred.word(),
            Self::Payload(_) => "payload",
            Self::Scope => "scope",
            Self::Possession(refused) => refused.word(),
            Self::Throttled(_) => "throttled",
            Self::Busy => "busy",
            Self::Failed(_) => "unavailable",
        }
    }
}

impl fmt::Display for Refusal {
    /// For the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong(_) => f.write_str("unknown, disabled or wrong password"),
            Self::Barred(barred) => f.write_str(barred.text()),
            Self::Payload(refused) => refused.fmt(f),
            Self::Scope => f.write_str("more was asked for than may be had"),
            Self::Possession(refused) => refused.fmt(f),
            Self::Throttled(_) => f.write_str("too many failures"),
            Self::Busy => f.write_str("too many logins at once"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl From<Wrong> for Refusal {
    fn from(wrong: Wrong) -> Self {
        Self::Wrong(wrong)
    }
}

impl From<Barred> for Refusal {
    fn from(barred: Barred) -> Self {
        Self::Barred(barred)
    }
}

impl From<Unspent> for Refusal {
    fn from(unspent: Unspent) -> Self {
        match unspent {
            Unspent::Again => Self::Possession(warrant_dpop::Refused::Again),
            Unspent::Full => Self::Busy,
            Unspent::Failed(error) => Self::Failed(error),
        }
    }
}

impl From<Busy> for Refusal {
    fn from(_: Busy) -> Self {
        Self::Busy
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<warrant_migrations::Error> for Refusal {
    fn from(error: warrant_migrations::Error) -> Self {
        Self::Failed(error.into())
    }
}
