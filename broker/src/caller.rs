//! Who asks.

use warrant_api::token::Role;

/// Somebody whose token was verified, or anybody where authentication is off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name; where authentication is off, the account the broker runs as.
    pub name: String,
    /// What they may do beyond their own jobs.
    pub role: Role,
    /// Whether authentication is off, so that nobody is known.
    pub anonymous: bool,
}

impl Caller {
    /// Whether the caller may see and control every job.
    pub const fn sees_all(&self) -> bool {
        match self.role {
            Role::Administrator => true,
            Role::User => self.anonymous,
        }
    }
}
