//! What the broker asks the auth service where a caller shows something else
//! than an access token: `POST /internal/credential`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What sort of credential it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CredentialKind {
    /// An API key, `wrt_…`.
    Key,
    /// The cookie of a web page.
    Cookie,
    /// A name and a password as HTTP Basic spells them, for web pages.
    Basic,
}

/// A credential that is to be exchanged.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// Its sort.
    pub kind: CredentialKind,
    /// The credential itself.
    pub value: String,
}

impl fmt::Debug for Credential {
    /// Leaves the credential out, so that no log line can hold it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// What it is exchanged for.
#[derive(Clone, Serialize, Deserialize)]
pub struct Exchanged {
    /// An access token for the broker.
    pub access_token: String,
    /// Seconds until that ends.
    pub expires_in: u64,
}

impl fmt::Debug for Exchanged {
    /// Leaves the token out, so that no log line can hold it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchanged")
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}
