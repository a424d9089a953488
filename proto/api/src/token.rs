//! Access tokens, warrants as they are asked for, and the answers of the token
//! endpoints.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::scope::Scopes;

/// The `typ` header of an access token. Source: RFC 9068 §2.1.
pub const ACCESS_TOKEN_TYPE: &str = "at+jwt";

/// The audience of tokens that the broker's job APIs accept.
pub const BROKER_AUDIENCE: &str = "warrant-broker";

/// The audience of tokens that the auth service itself accepts, in exchange
/// for a warrant: where clients ask for their warrants themselves.
pub const AUTHSVC_AUDIENCE: &str = "warrant-authsvc";

/// The `grant_type` with which `POST /oauth/token` is asked for a warrant.
/// Source: RFC 8693 §2.1.
pub const EXCHANGE_GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// The `subject_token_type` of an access token. Source: RFC 8693 §3.
pub const ACCESS_TOKEN_URN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// The `subject_token_type` of an ID token. Source: RFC 8693 §3.
pub const ID_TOKEN_URN: &str = "urn:ietf:params:oauth:token-type:id_token";

/// The `requested_token_type` and `issued_token_type` of a warrant.
pub const WARRANT_URN: &str = "urn:warrant:params:oauth:token-type:warrant";

/// What a principal may do beyond its own jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Submits jobs and sees its own.
    User,
    /// Sees and controls every job.
    Operator,
    /// Sees and controls every job and the service itself.
    Administrator,
}

/// The claims of an access token, signed with EdDSA (Ed25519) by the auth
/// service. Times are seconds since the Unix epoch. Source: RFC 9068 §2.2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessClaims {
    /// Who made the token: the configured issuer of the auth service.
    pub iss: String,
    /// Whom the token is for: [`BROKER_AUDIENCE`] or [`AUTHSVC_AUDIENCE`].
    pub aud: String,
    /// The user's name.
    pub sub: String,
    /// A unique id of this token, 128 random bits in base64url.
    pub jti: String,
    /// When it was made.
    pub iat: u64,
    /// When it ends.
    pub exp: u64,
    /// What the bearer may do.
    pub role: Role,
    /// What this token may be used for. Source: RFC 9068 §2.2.3.
    pub scope: Scopes,
    /// The session that it is part of; when that ends, the token counts no
    /// more.
    pub sid: String,
    /// The client it was given to. Source: RFC 8693 §4.3.
    pub client_id: String,
    /// The user id of the account `sub`, in multi-user mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The key that whoever shows the token must prove to have, where it is
    /// bound to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
}

/// How whoever shows a token proves that it is theirs. Source: RFC 7800 §3.1,
/// RFC 9449 §6.1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// The thumbprint of the key that must sign a proof with each request.
    /// Source: RFC 7638.
    pub jkt: String,
}

/// A token, as the token endpoints answer it. Source: RFC 6749 §5.1.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct TokenAnswer {
    /// The access token, to be sent as `Authorization: Bearer …`.
    pub access_token: String,
    /// Always `Bearer`.
    pub token_type: String,
    /// Seconds until it ends.
    pub expires_in: u64,
}

impl std::fmt::Debug for TokenAnswer {
    /// Leaves the token out, so that no log line can hold it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenAnswer")
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}

/// A warrant, as `POST /oauth/token` answers it. Source: RFC 8693 §2.2.1.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct WarrantAnswer {
    /// The warrant: a JWS in compact form.
    pub access_token: String,
    /// Always [`WARRANT_URN`].
    pub issued_token_type: String,
    /// Always `N_A`: a warrant is nothing to show as a bearer.
    pub token_type: String,
    /// Seconds until it ends.
    pub expires_in: u64,
}

impl std::fmt::Debug for WarrantAnswer {
    /// Leaves the warrant out, so that no log line can hold it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WarrantAnswer")
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}

/// Why `POST /oauth/token` gave nothing. Source: RFC 6749 §5.2, and `reason`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OAuthError {
    /// One of the words of RFC 6749 §5.2 or RFC 8693 §2.2.2.
    pub error: String,
    /// What was wrong, for people.
    pub error_description: String,
    /// What was wrong, in one stable word.
    pub reason: String,
}

/// How to authenticate against this server; public. Source: `GET /v1/auth`
/// of the Flux RESTful API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuthInfo {
    /// `none`, `database`, `shared-secret`, `pam` or `oidc`; of several, the
    /// first.
    pub backend: String,
    /// Whether a user name and password are accepted at `/v1/login/access-token`.
    pub password_login: bool,
    /// Whether `/v1/token` accepts a payload encoded with the shared secret.
    pub shared_secret_handshake: bool,
    /// The first provider whose ID tokens `/oauth/token` exchanges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc: Option<OidcInfo>,
}

/// An OpenID provider whose ID tokens are exchanged for tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OidcInfo {
    /// Its issuer identifier.
    pub issuer: String,
    /// The client that ID tokens must be for.
    pub audience: String,
}
