//! Who asks.

use std::net::IpAddr;
use std::sync::Arc;

use warrant_api::token::Role;

/// Somebody whose token was verified, or anybody where authentication is off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name; where authentication is off, the account the broker runs as.
    pub name: String,
    /// The user id of the account, where jobs run as the user who asks.
    pub uid: Option<u32>,
    /// What they may do beyond their own jobs.
    pub role: Role,
    /// Whether authentication is off, so that nobody is known.
    pub anonymous: bool,
    /// The token that proved it, where there was one.
    pub bearer: Option<Bearer>,
    /// The address the request came from.
    pub source: Option<IpAddr>,
}

impl Caller {
    /// Whether the caller may see and control every job.
    pub const fn sees_all(&self) -> bool {
        match self.role {
            Role::Operator | Role::Administrator => true,
            Role::User => self.anonymous,
        }
    }
}

/// An access token that was verified.
#[derive(Clone, PartialEq, Eq)]
pub struct Bearer(Arc<str>);

impl Bearer {
    /// The token `text`.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The token, to be shown to the auth service alone.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Bearer {
    /// Leaves the token out, so that no log line can hold it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bearer(…)")
    }
}
