//! How callers prove who they are, for the document.

use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, AuthorizationCode, ClientCredentials, Flow, Http, HttpAuthScheme, OAuth2,
    Password, Scopes, SecurityRequirement, SecurityScheme,
};
use warrant_api::credential::web_cookie;
use warrant_door::Prefix;

/// The scopes of tokens, and what each is for.
const SCOPES: [(&str, &str); 4] = [
    ("read", "see jobs and their output"),
    ("submit", "submit jobs"),
    ("control", "cancel jobs, and deal with API keys"),
    ("admin", "stop the service"),
];

/// Describe tokens, API keys and the cookie of a browser; and OAuth 2.0, unless
/// users get their tokens elsewhere (`own_warrants`). The server is below `prefix`.
pub(super) fn add(document: &mut Document, own_warrants: bool, prefix: &Prefix) {
    let mut bearer = Http::new(HttpAuthScheme::Bearer);
    bearer.bearer_format = Some("JWT".into());
    let key = ApiKey::Header(ApiKeyValue::new("X-API-Key"));
    let cookie = ApiKey::Cookie(ApiKeyValue::new(web_cookie(prefix.as_str())));
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    components.add_security_scheme("key", SecurityScheme::ApiKey(key));
    components.add_security_scheme("cookie", SecurityScheme::ApiKey(cookie));
    if own_warrants {
        return;
    }
    let scopes = || Scopes::from_iter(SCOPES);
    // Relative to the document's place, not to `servers`. Source: OpenAPI 3.1,
    // "Relative References in URLs".
    let token = prefix.add("/oauth/token");
    let authorize = prefix.add("/oauth/authorize");
    let flows = [
        Flow::Password(Password::new(&token, scopes())),
        Flow::ClientCredentials(ClientCredentials::new(&token, scopes())),
        Flow::AuthorizationCode(AuthorizationCode::new(&authorize, &token, scopes())),
    ];
    components.add_security_scheme("oauth2", SecurityScheme::OAuth2(OAuth2::new(flows)));
    let requirement = SecurityRequirement::new("oauth2", [""; 0]);
    document.security.get_or_insert_default().push(requirement);
}
