//! What the broker asks the auth service where a caller shows something else
//! than an access token: `POST /internal/credential`.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::scope::Scopes;
use crate::token::Role;

/// The cookie of a browser that somebody signed in with. Its prefix makes
/// browsers take it over a private connection alone, for this server alone.
/// Source: RFC 6265bis §4.1.3.2.
pub const WEB_COOKIE: &str = "__Host-warrant";

/// The cookie of a browser at a server below a path of its host. One whose name
/// begins with `__Host-` is sent to the whole host, and so to other servers there.
/// Source: RFC 6265bis, section 4.1.3.
pub const WEB_COOKIE_BELOW: &str = "__Secure-warrant";

/// The name of a browser's cookie at a server below the path `prefix` of its host,
/// which is empty for the root.
pub const fn web_cookie(prefix: &str) -> &'static str {
    if prefix.is_empty() {
        WEB_COOKIE
    } else {
        WEB_COOKIE_BELOW
    }
}

/// The header that a page of ours sends with whatever changes something, where
/// the browser shows the cookie: [`Exchanged::csrf`].
pub const CSRF_HEADER: &str = "x-warrant-csrf";

/// The header in which the auth service answers a proxy that asks about HTTP
/// Basic: the value that replaces `Authorization`.
pub const REPLACEMENT_HEADER: &str = "x-warrant-authorization";

/// The scheme of a replacement where nobody could say whether the password was
/// right: [`THROTTLED`] or [`UNAVAILABLE`] follows.
pub const UNANSWERED_SCHEME: &str = "Warrant-Unanswered";
/// Too many passwords were wrong.
pub const THROTTLED: &str = "throttled";
/// Passwords cannot be checked now.
pub const UNAVAILABLE: &str = "unavailable";

/// The client of tokens that were given for HTTP Basic. Browsers send that by
/// themselves, so that pages of other servers can make them use it.
pub const BASIC_CLIENT: &str = "basic";

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
    /// Of a cookie: what must come with whatever changes something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csrf: Option<String>,
}

/// Who somebody is, as `GET /v1/session` answers it.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct SessionInfo {
    /// The user's name.
    pub user: String,
    /// What the user may do beyond their own jobs.
    pub role: Role,
    /// What may be done with what was shown.
    #[schema(value_type = String)]
    pub scopes: Scopes,
    /// Where a browser's cookie was shown: the value of the header
    /// [`CSRF_HEADER`] for whatever changes something.
    pub csrf: Option<String>,
}

impl fmt::Debug for SessionInfo {
    /// Leaves the token out, so that no log line can hold it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionInfo")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Exchanged {
    /// Leaves the token out, so that no log line can hold it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchanged")
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}
