//! API keys: credentials that programs keep, `/v1/keys`. Times are seconds
//! since the Unix epoch.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::scope::Scopes;

/// What every API key begins with, so that leaked ones are found.
pub const KEY_PREFIX: &str = "wrt_";

/// What `sid` begins with in tokens that an API key was exchanged for; the
/// key's id follows.
pub const KEY_SESSION: &str = "key:";

/// A key that is to be made.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// What its owner calls it: 1 to 64 characters.
    pub label: String,
    /// What it may be used for; where unset, all that the user's role and the
    /// server allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub scopes: Option<Scopes>,
    /// Days until it ends; where unset, as the server is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_days: Option<u32>,
}

/// A key as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyInfo {
    /// Its id; no secret.
    pub id: String,
    /// Whose it is.
    pub user: String,
    /// What its owner calls it.
    pub label: String,
    /// What it may be used for.
    #[schema(value_type = String)]
    pub scopes: Scopes,
    /// When it was made.
    pub created_s: u64,
    /// When it ends.
    pub expires_s: u64,
    /// When it was last used, to the minute.
    pub last_used_s: Option<u64>,
    /// From where.
    pub last_used_from: Option<String>,
    /// The id of the session with which it ends, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// What its user proved who they are with when it was made: `password`,
    /// `certificate` or `provider`; `token` for keys from before that was needed.
    #[serde(default)]
    pub proof: String,
}

/// A key that was just made.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct CreatedKey {
    /// The key itself: shown this once.
    pub key: String,
    /// What lists show of it.
    #[serde(flatten)]
    pub info: KeyInfo,
}

impl fmt::Debug for CreatedKey {
    /// Leaves the key out, so that no log line can hold it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedKey")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

/// The keys of a user that count.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct KeyList {
    /// The newest first.
    pub keys: Vec<KeyInfo>,
}

/// What became of a request to revoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevokedKeys {
    /// How many keys count no more by it.
    pub revoked: u64,
}
