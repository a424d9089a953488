//! What a provider says of itself. Source: OpenID Connect Discovery 1.0 §3 and
//! §4.3, RFC 9207 §3.

use serde::Deserialize;

use crate::config::is_endpoint;
use crate::error::{Error, Result};

/// The end of the address at which a provider describes itself.
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// The description, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Discovery {
    issuer: String,
    /// Where users are sent.
    pub(super) authorization_endpoint: String,
    /// Where codes become tokens.
    pub(super) token_endpoint: String,
    /// Where the keys are.
    pub(super) jwks_uri: String,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    code_challenge_methods_supported: Option<Vec<String>>,
    /// Whether answers name their issuer.
    #[serde(default, rename = "authorization_response_iss_parameter_supported")]
    pub(super) names_issuer: bool,
}

/// Where `issuer` describes itself.
pub(super) fn address(issuer: &str) -> String {
    format!("{}{WELL_KNOWN}", issuer.trim_end_matches('/'))
}

impl Discovery {
    /// Read the description of `issuer`.
    ///
    /// Errors: it is none, it is another's, or it names addresses that are not
    /// allowed.
    pub(super) fn read(bytes: &[u8], issuer: &str, allow_http: bool) -> Result<Self> {
        let wrong = |why: &str| Error::invalid(format!("the description of {issuer} {why}"));
        let found: Self = serde_json::from_slice(bytes).map_err(|source| Error {
            source: Some(source.into()),
            ..wrong("cannot be read")
        })?;
        if found.issuer != issuer {
            return Err(wrong("is that of another issuer"));
        }
        let endpoints = [
            &found.authorization_endpoint,
            &found.token_endpoint,
            &found.jwks_uri,
        ];
        if !endpoints.iter().all(|url| is_endpoint(url, allow_http)) {
            return Err(wrong("names an address that is not https"));
        }
        let challenges = found.code_challenge_methods_supported.as_ref();
        if challenges.is_some_and(|methods| !methods.iter().any(|method| method == "S256")) {
            return Err(wrong("does not know PKCE with S256"));
        }
        Ok(found)
    }

    /// Whether the client shows its secret in the form; else by HTTP Basic,
    /// which is what holds where nothing is said.
    pub(super) fn secret_in_form(&self) -> bool {
        let methods = self.token_endpoint_auth_methods_supported.as_ref();
        methods.is_some_and(|methods| {
            let has = |name| methods.iter().any(|method| method == name);
            has("client_secret_post") && !has("client_secret_basic")
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ISSUER: &str = "https://id.example.org";

    fn read(change: impl FnOnce(&mut Value)) -> Result<Discovery> {
        let mut document = json!({
            "issuer": ISSUER,
            "authorization_endpoint": "https://id.example.org/auth",
            "token_endpoint": "https://id.example.org/token",
            "jwks_uri": "https://keys.example.org/jwks",
        });
        change(&mut document);
        Discovery::read(document.to_string().as_bytes(), ISSUER, false)
    }

    #[test]
    fn t107_the_description_of_another_issuer_is_refused() {
        assert!(read(|_| {}).is_ok());
        for other in [
            "https://evil.example.org",
            "https://id.example.org/",
            "https://ID.example.org",
        ] {
            assert!(
                read(|document| document["issuer"] = json!(other)).is_err(),
                "{other}"
            );
        }
        assert!(Discovery::read(b"<html>", ISSUER, false).is_err());
    }

    #[test]
    fn t107_addresses_without_tls_and_providers_without_s256_are_refused() {
        for endpoint in ["authorization_endpoint", "token_endpoint", "jwks_uri"] {
            for url in [
                "http://id.example.org/x",
                "javascript:alert(1)",
                "/token",
                "",
            ] {
                assert!(
                    read(|document| document[endpoint] = json!(url)).is_err(),
                    "{url}"
                );
            }
        }
        let methods = |methods: Value| {
            read(|document| document["code_challenge_methods_supported"] = methods)
        };
        assert!(methods(json!(["plain"])).is_err());
        assert!(methods(json!(["plain", "S256"])).is_ok());
    }

    #[test]
    fn it_is_found_where_the_issuer_says() {
        let well_known = "https://id.example.org/a/.well-known/openid-configuration";
        assert_eq!(address("https://id.example.org/a"), well_known);
        assert_eq!(address("https://id.example.org/a/"), well_known);
    }

    #[test]
    fn a_secret_is_shown_as_the_provider_wants_it() {
        let methods = |methods: Value| {
            read(|document| document["token_endpoint_auth_methods_supported"] = methods)
                .unwrap()
                .secret_in_form()
        };
        assert!(methods(json!(["client_secret_post"])));
        assert!(!methods(json!([
            "client_secret_post",
            "client_secret_basic"
        ])));
        assert!(!read(|_| {}).unwrap().secret_in_form());
    }
}
