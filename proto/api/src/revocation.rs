//! What counts no more: the feed that the broker reads from the auth service,
//! `GET /internal/revocations?after=SEQ`.

use serde::{Deserialize, Serialize};

/// The most entries in one answer; one with fewer is the end for now.
pub const PAGE: usize = 1000;

/// A piece of the feed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocations {
    /// What to ask for next, as `after`.
    pub next: u64,
    /// The entries behind the number that was asked for, at most [`PAGE`].
    pub entries: Vec<Revocation>,
}

/// What one entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RevocationKind {
    /// Tokens with this `sid`.
    Session,
    /// The token with this `jti`.
    Token,
    /// Tokens with this `sub` from before a time, and the account's jobs that
    /// have not started.
    Account,
}

/// Something that counts no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// What it is about.
    pub kind: RevocationKind,
    /// The `sid`, the `jti`, or the account's name.
    pub value: String,
    /// For accounts: what was made up to this time, in seconds since the Unix
    /// epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_s: Option<u64>,
    /// When no token that it is about can be alive any more, in seconds since
    /// the Unix epoch.
    pub until_s: u64,
}
