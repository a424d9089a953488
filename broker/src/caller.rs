//! Who asks.

use std::net::IpAddr;
use std::sync::Arc;

use warrant_api::credential::BASIC_CLIENT;
use warrant_api::keys::KEY_SESSION;
use warrant_api::scope::{Scope, Scopes};
use warrant_api::token::{AccessClaims, Role};

/// Somebody whose token was verified, or anybody where authentication is off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name; where authentication is off, the account the broker runs as.
    pub name: String,
    /// The user id of the account, where jobs run as the user who asks.
    pub uid: Option<u32>,
    /// What they may do beyond their own jobs, with a token of scope `admin`.
    pub role: Role,
    /// What the token may be used for.
    pub scopes: Scopes,
    /// Whether authentication is off, so that nobody is known.
    pub anonymous: bool,
    /// The token that proved it, where there was one.
    pub bearer: Option<Bearer>,
    /// The address the request came from.
    pub source: Option<IpAddr>,
}

impl Caller {
    /// By what the audit trails call the token: its id, or `key:` and the id
    /// of the API key that it was given for.
    pub fn token_id(&self) -> Option<String> {
        let marks = self.bearer.as_ref()?.marks();
        let id = if marks.sid.starts_with(KEY_SESSION) {
            &marks.sid
        } else {
            &marks.jti
        };
        Some(id.to_string())
    }

    /// The same caller with a plain user's view: only jobs of their own. Where
    /// authentication is off all jobs are the caller's, and nothing changes.
    #[must_use]
    pub fn with_own_jobs_only(self) -> Self {
        Self {
            role: Role::User,
            ..self
        }
    }

    /// Whether the caller may see and cancel every job.
    pub const fn sees_all(&self) -> bool {
        self.reaches(Role::Operator)
    }

    /// Whether the caller may read what every job writes.
    pub const fn reads_all(&self) -> bool {
        self.reaches(Role::Administrator)
    }

    /// Whether the caller is `least` at least. A role counts only together
    /// with the scope `admin`: without it, anybody's token is a plain user's.
    /// Where authentication is off, there is nobody to hide jobs from.
    const fn reaches(&self, least: Role) -> bool {
        if self.anonymous {
            return true;
        }
        let role = if self.scopes.has(Scope::Admin) {
            self.role
        } else {
            Role::User
        };
        is_at_least(role, least)
    }
}

/// Whether `role` may do all that `least` may.
pub const fn is_at_least(role: Role, least: Role) -> bool {
    rank(role) >= rank(least)
}

const fn rank(role: Role) -> u8 {
    match role {
        Role::User => 0,
        Role::Operator => 1,
        Role::Administrator => 2,
    }
}

/// An access token that was verified, and by what it can be revoked.
#[derive(Clone, PartialEq, Eq)]
pub struct Bearer(Arc<Token>);

#[derive(PartialEq, Eq)]
struct Token {
    text: Box<str>,
    marks: Marks,
    of_basic: bool,
}

/// By what a token can be revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks {
    /// Its session.
    pub sid: Box<str>,
    /// Its id.
    pub jti: Box<str>,
    /// Whose it is.
    pub sub: Box<str>,
    /// When it was made, in seconds since the Unix epoch.
    pub iat: u64,
}

impl Bearer {
    /// The token `text`, which says `claims`.
    pub fn new(text: &str, claims: &AccessClaims) -> Self {
        Self(Arc::new(Token {
            text: text.into(),
            marks: Marks {
                sid: claims.sid.as_str().into(),
                jti: claims.jti.as_str().into(),
                sub: claims.sub.as_str().into(),
                iat: claims.iat,
            },
            of_basic: claims.client_id == BASIC_CLIENT,
        }))
    }

    /// The token, to be shown to the auth service alone.
    pub fn reveal(&self) -> &str {
        &self.0.text
    }

    /// Whether it was given for HTTP Basic, which browsers send by themselves.
    pub fn is_of_basic(&self) -> bool {
        self.0.of_basic
    }

    /// By what it can be revoked.
    pub fn marks(&self) -> &Marks {
        &self.0.marks
    }
}

impl std::fmt::Debug for Bearer {
    /// Leaves the token out, so that no log line can hold it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bearer(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t110_a_role_counts_only_with_the_scope_admin() {
        let caller = |role, scopes| Caller {
            name: "ann".into(),
            uid: None,
            role,
            scopes,
            anonymous: false,
            bearer: None,
            source: None,
        };
        let plain = Scopes::NONE
            .with(Scope::Read)
            .with(Scope::Submit)
            .with(Scope::Control);
        for (role, sees, reads) in [
            (Role::User, false, false),
            (Role::Operator, true, false),
            (Role::Administrator, true, true),
        ] {
            let full = caller(role, Scopes::ALL);
            assert_eq!((full.sees_all(), full.reads_all()), (sees, reads));
            let few = caller(role, plain);
            assert_eq!((few.sees_all(), few.reads_all()), (false, false));
        }
    }
}
