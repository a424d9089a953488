//! What this server does, for clients that find it out by themselves. Source:
//! RFC 8414.

use warrant_api::oauth::{Metadata, MtlsAliases};
use warrant_api::scope::Scope;

use super::{Grant, OAuth};

/// The description of this server. Nothing in it is taken from a request.
pub(crate) fn metadata(oauth: &OAuth, exchanges: bool) -> Metadata {
    let at = |path: &str| format!("{}{path}", oauth.config.url);
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let grants: Vec<_> = Grant::ALL
        .into_iter()
        .filter(|grant| match grant {
            Grant::Password => oauth.config.password_grant,
            Grant::TokenExchange => exchanges,
            Grant::Certificate => oauth.user_certificates,
            Grant::RefreshToken
            | Grant::ClientCredentials
            | Grant::AuthorizationCode
            | Grant::DeviceCode => true,
        })
        .map(Grant::name)
        .collect();
    let secret = ["client_secret_basic", "client_secret_post"];
    let certificate = oauth.client_certificates.then_some("tls_client_auth");
    let secret: Vec<_> = secret.into_iter().chain(certificate).collect();
    let any: Vec<_> = secret.iter().copied().chain(["none"]).collect();
    let aliases = oauth.config.mtls_url.as_ref().map(|url| MtlsAliases {
        token_endpoint: format!("{url}/oauth/token"),
        device_authorization_endpoint: format!("{url}/oauth/device_authorization"),
        revocation_endpoint: format!("{url}/oauth/revoke"),
        introspection_endpoint: format!("{url}/oauth/introspect"),
    });
    Metadata {
        issuer: oauth.issuer.clone(),
        authorization_endpoint: at("/oauth/authorize"),
        token_endpoint: at("/oauth/token"),
        device_authorization_endpoint: at("/oauth/device_authorization"),
        revocation_endpoint: at("/oauth/revoke"),
        introspection_endpoint: at("/oauth/introspect"),
        jwks_uri: at("/.well-known/jwks.json"),
        scopes_supported: words(&Scope::ALL.map(Scope::name)),
        response_types_supported: words(&["code"]),
        response_modes_supported: words(&["query"]),
        grant_types_supported: words(&grants),
        token_endpoint_auth_methods_supported: words(&any),
        revocation_endpoint_auth_methods_supported: words(&any),
        introspection_endpoint_auth_methods_supported: words(&secret),
        code_challenge_methods_supported: words(&["S256"]),
        authorization_response_iss_parameter_supported: true,
        dpop_signing_alg_values_supported: words(&warrant_dpop::ALGORITHMS),
        mtls_endpoint_aliases: aliases,
    }
}
