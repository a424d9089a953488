//! What counts no more although it has not expired: the feed that the auth
//! service keeps and the broker reads.

use serde::{Deserialize, Serialize};

/// The most entries of one answer. An answer with fewer is the last.
pub const MOST_REVOCATIONS: usize = 1000;

/// The answer of `GET /internal/revocations?after=SEQ`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocations {
    /// What to ask for next, as `after`.
    pub next: u64,
    /// The entries after the one that was named, the oldest first.
    pub entries: Vec<Revocation>,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// What counts no more.
    pub kind: RevocationKind,
    /// The session's id, the token's id or the account's name.
    pub value: String,
    /// Of an account: tokens issued before this count no more, in seconds
    /// since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_s: Option<u64>,
    /// When the entry may be forgotten, in seconds since the Unix epoch:
    /// nothing that it names can be alive any more.
    pub until_s: u64,
}

/// What counts no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RevocationKind {
    /// Every token of a session (`sid`).
    Session,
    /// One token (`jti`).
    Token,
    /// Every token of an account (`sub`) that was issued before a time; and
    /// its jobs that were admitted and have not started.
    Account,
}
