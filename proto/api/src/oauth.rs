//! Bodies of the OAuth 2.0 endpoints.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::scope::Scopes;
use crate::token::Confirmation;

/// The `grant_type` with which a device asks for the token that its user
/// approved. Source: RFC 8628 §3.4.
pub const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// The `grant_type` with which a user gets a token for the certificate of the
/// connection, this service's own.
pub const CERTIFICATE_GRANT: &str = "urn:warrant:params:oauth:grant-type:certificate";

/// The header with which the broker marks what it hands on for others: such a
/// request never has the broker's own rights.
pub const FORWARDED_HEADER: &str = "x-warrant-forwarded";

/// Tokens, as `POST /oauth/token` answers them. Source: RFC 6749 §5.1.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct Granted {
    /// The access token, to be sent as `Authorization: Bearer …`, or as
    /// `Authorization: DPoP …` with a proof.
    pub access_token: String,
    /// `Bearer`; or `DPoP`, where the request showed a proof.
    pub token_type: String,
    /// Seconds until the access token ends.
    pub expires_in: u64,
    /// What to get the next access token with; good for one use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// What the access token may be used for.
    #[schema(value_type = String)]
    pub scope: Scopes,
    /// What was given, where something was exchanged for it. Source: RFC 8693
    /// §2.2.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_token_type: Option<String>,
}

impl std::fmt::Debug for Granted {
    /// Leaves the tokens out, so that no log line can hold them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Granted")
            .field("expires_in", &self.expires_in)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// The beginning of a device's login. Source: RFC 8628 §3.2.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct DeviceStart {
    /// What the device asks with.
    pub device_code: String,
    /// What its user types in: `XXXX-XXXX`.
    pub user_code: String,
    /// Where the user types it in.
    pub verification_uri: String,
    /// The same, with the code.
    pub verification_uri_complete: String,
    /// Seconds until both codes end.
    pub expires_in: u64,
    /// Seconds to wait between two questions.
    pub interval: u64,
}

impl std::fmt::Debug for DeviceStart {
    /// Leaves the codes out, so that no log line can hold them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceStart")
            .field("verification_uri", &self.verification_uri)
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}

/// What a user says to a device that wants to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// It may.
    Approve,
    /// It may not.
    Deny,
}

/// The body of `POST /oauth/device`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceDecision {
    /// The code that the device shows.
    pub user_code: String,
    /// What the user says.
    pub decision: Decision,
}

/// What was decided about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceDecided {
    /// The client that asked.
    pub client_id: String,
    /// Its name for people.
    pub client: String,
    /// What it may be used for now; nothing where it was denied.
    #[schema(value_type = String)]
    pub scope: Scopes,
}

/// A request for an authorization code: the query of `GET /oauth/authorize`
/// and the body of `POST /oauth/authorize`. Source: RFC 6749 §4.1.1, RFC 7636
/// §4.3.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuthorizeRequest {
    /// `code`.
    pub response_type: Option<String>,
    /// The client.
    pub client_id: Option<String>,
    /// Where the code goes, as it was registered; a program on the user's own
    /// machine may vary the port. Source: RFC 8252 §7.3.
    pub redirect_uri: Option<String>,
    /// What is asked for; all that client and user may have if absent.
    pub scope: Option<String>,
    /// Given back as it is.
    pub state: Option<String>,
    /// The SHA-256 of the code's verifier, in base64url.
    pub code_challenge: Option<String>,
    /// `S256`.
    pub code_challenge_method: Option<String>,
}

/// The answer of `POST /oauth/authorize`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Authorized {
    /// Where to send the user: the client's own address with the code, or
    /// with the error, in its query.
    pub redirect: String,
}

impl std::fmt::Debug for Authorized {
    /// Leaves the code out, so that no log line can hold it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorized").finish_non_exhaustive()
    }
}

/// What is known of a token. Source: RFC 7662 §2.2.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Introspection {
    /// Whether it counts. Nothing else is said of one that does not.
    pub active: bool,
    /// `Bearer`, `DPoP`, or `refresh_token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_type: Option<String>,
    /// What it may be used for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub scope: Option<Scopes>,
    /// The client it was given to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// The user id of the account, in multi-user mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Its session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// Whom it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<String>,
    /// When it was made, in seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<u64>,
    /// When it ends, in seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<u64>,
    /// The key to which it is bound. Source: RFC 9449 §6.2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
}

/// What this server does, for clients that find it out by themselves. Source:
/// RFC 8414 §2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs, reason = "each is a field of RFC 8414 §2")]
pub struct Metadata {
    pub issuer: String,
    pub authorization_endpoint: String,
    pub token_endpoint: String,
    pub device_authorization_endpoint: String,
    pub revocation_endpoint: String,
    pub introspection_endpoint: String,
    pub jwks_uri: String,
    pub scopes_supported: Vec<String>,
    pub response_types_supported: Vec<String>,
    pub response_modes_supported: Vec<String>,
    pub grant_types_supported: Vec<String>,
    pub token_endpoint_auth_methods_supported: Vec<String>,
    pub revocation_endpoint_auth_methods_supported: Vec<String>,
    pub introspection_endpoint_auth_methods_supported: Vec<String>,
    pub code_challenge_methods_supported: Vec<String>,
    pub authorization_response_iss_parameter_supported: bool,
    /// Source: RFC 9449 §5.1.
    pub dpop_signing_alg_values_supported: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtls_endpoint_aliases: Option<MtlsAliases>,
}

/// Where clients with certificates find endpoints. Source: RFC 8705 §5.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs, reason = "each is a field of RFC 8414 §2")]
pub struct MtlsAliases {
    pub token_endpoint: String,
    pub device_authorization_endpoint: String,
    pub revocation_endpoint: String,
    pub introspection_endpoint: String,
}
