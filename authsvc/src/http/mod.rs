//! What the service answers over HTTP.

mod api_keys;
mod basic;
mod certificate;
mod fault;
mod info;
mod internal;
mod keys;
pub(crate) mod oauth;
mod possession;
mod server;
mod token;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::LOCATION;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};

pub(crate) use basic::Given;
pub(crate) use fault::{Fault, not_possible};
pub(crate) use server::{Callers, Server, check_parent};
use warrant_door::{Misread, Prefix, body};

use warrant_api::oauth::FORWARDED_HEADER;

use crate::api_keys::ApiKeys;
use crate::audit::Audit;
use crate::certificates::Users;
use crate::config::{Backends, Handshake};
use crate::dpop::Proofs;
use crate::error::Part;
use crate::keys::Ring;
use crate::lasting;
use crate::login::Login;
use crate::oauth::OAuth;
use crate::oidc::Oidc;
use crate::peer::Peer;
use crate::secret::Secret;
use crate::source::Forwarders;
use crate::store;
use crate::warrants::Warrants;
use crate::web::{self, Web};

/// The longest body, in bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// The longest a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the database may take to say that it is there.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// What the handlers work with.
#[derive(Debug)]
pub(crate) struct Service {
    /// Judges logins.
    pub(crate) login: Arc<Login>,
    /// The keys to publish.
    pub(crate) ring: Ring,
    /// How users prove who they are.
    pub(crate) backends: Backends,
    /// Whether a user name and a password are accepted.
    pub(crate) password_login: bool,
    /// The secret of the handshake, where it is enabled.
    pub(crate) handshake_secret: Option<Secret>,
    /// The rules of the handshake.
    pub(crate) handshake: Handshake,
    /// The life of a token for whoever names no client, in seconds.
    pub(crate) token_s: u64,
    /// The users of certificates, where users log in so.
    pub(crate) certificates: Option<Users>,
    /// Gives tokens to clients.
    pub(crate) oauth: OAuth,
    /// The OpenID providers.
    pub(crate) oidc: Oidc,
    /// The broker's user id.
    pub(crate) broker_uid: u32,
    /// Gives out warrants, in multi-user mode.
    pub(crate) warrants: Option<Warrants>,
    /// Judges proofs that keys are held.
    pub(crate) proofs: Proofs,
    /// The API keys.
    pub(crate) api_keys: ApiKeys,
    /// The pages on which people sign in.
    pub(crate) web: Web,
    /// Who may ask what the broker alone may ask.
    pub(crate) broker_uids: Vec<u32>,
    /// Who may say for whom a request is sent.
    pub(crate) forwarders: Forwarders,
    /// The path below which clients reach the service.
    pub(crate) prefix: Prefix,
    /// Tokens that were given for HTTP Basic.
    pub(crate) given: Given,
    /// Where logins and warrants are recorded.
    pub(crate) audit: Audit,
}

/// The paths of all routes.
const PATHS: [&str; 26] = [
    "/v1/auth",
    "/v1/token",
    "/v1/login/access-token",
    "/v1/keys",
    "/v1/keys/{id}",
    "/internal/basic",
    "/internal/credential",
    "/internal/revocations",
    "/oauth/token",
    "/oauth/authorize",
    "/oauth/device_authorization",
    "/oauth/device",
    "/oauth/revoke",
    "/oauth/introspect",
    "/.well-known/oauth-authorization-server",
    "/.well-known/jwks.json",
    "/healthz",
    "/login",
    "/login/oidc/{name}",
    "/login/oidc/{name}/callback",
    "/logout",
    "/account",
    "/account/sessions",
    "/account/keys",
    "/account/keys/revoke",
    "/account/password",
];

/// All routes of the service, with what stands before them.
pub(crate) fn router(service: Arc<Service>) -> Router {
    routes()
        .method_not_allowed_fallback(async || {
            Fault::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
        })
        .fallback(no_route)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(
            service.clone(),
            possession::with_nonce,
        ))
        .layer(middleware::from_fn(readable))
        .layer(middleware::from_fn_with_state(service.clone(), in_time))
        .layer(middleware::from_fn_with_state(
            service.prefix.clone(),
            web::page::below,
        ))
        .layer(middleware::from_fn(in_shape))
        .layer(middleware::map_request(as_forwarded))
        .with_state(service)
}

fn routes() -> Router<Arc<Service>> {
    // What they are asked stands in the body; what stands in an address ends up
    // in logs.
    let bodies = Router::new()
        .route("/oauth/token", post(oauth::give_token))
        .route("/oauth/device_authorization", post(oauth::begin_device))
        .route("/oauth/device", post(web::decide_device))
        .route("/oauth/revoke", post(oauth::revoke_token))
        .route("/oauth/introspect", post(oauth::introspect_token))
        .route_layer(middleware::from_fn(oauth::without_query));
    Router::new()
        .route("/v1/auth", get(info::get_auth))
        .route("/v1/token", post(token::exchange_payload))
        .route("/v1/login/access-token", post(token::login))
        .route(
            "/v1/keys",
            get(api_keys::list)
                .post(api_keys::create)
                .delete(api_keys::revoke_all),
        )
        .route("/v1/keys/{id}", delete(api_keys::revoke))
        .route("/internal/credential", post(internal::exchange_credential))
        .route("/internal/basic", get(basic::replace_basic))
        .route(
            "/oauth/authorize",
            get(web::show_authorize).post(web::decide_authorize),
        )
        .merge(bodies)
        // The link of a device has its code in the address.
        .route("/oauth/device", get(web::show_device))
        .merge(web::routes())
        .route(
            "/.well-known/oauth-authorization-server",
            get(oauth::get_metadata),
        )
        .route("/.well-known/jwks.json", get(keys::get_keys))
        .route("/internal/revocations", get(internal::list_revocations))
        .route("/healthz", get(info::get_health))
        .route_layer(middleware::from_fn(lasting::only_listed))
}

/// Refuse what two readers could understand in two ways, or is not to be read
/// at all.
async fn in_shape(request: Request, next: Next) -> Response {
    match request.extensions().get::<Misread>() {
        None => next.run(request).await,
        Some(misread) => misread_fault(misread),
    }
}

fn misread_fault(misread: &Misread) -> Response {
    let mut response = Fault::new(misread.status, &*misread.why).into_response();
    misread.write(response.headers_mut());
    response
}

/// Forms in one coding, and text as UTF-8, for every handler.
async fn readable(request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    if head.method == Method::GET || head.method == Method::HEAD {
        return next.run(Request::from_parts(head, body)).await;
    }
    let body = match to_bytes(body, MAX_BODY_BYTES).await {
        Ok(body) => body::readable(&mut head.headers, body)
            .await
            .map(Body::from),
        // The extractors say so in the words of each route.
        Err(_) => Ok(too_long()),
    };
    match body {
        Ok(body) => next.run(Request::from_parts(head, body)).await,
        Err(misread) => misread_fault(&misread),
    }
}

/// A body that is longer than any may be.
fn too_long() -> Body {
    Body::from(vec![b' '; MAX_BODY_BYTES + 1])
}

/// 404 for a path that no route has; 307 to the route where the path has a slash
/// at its end that the route has not.
/// Source: Starlette's `redirect_slashes`.
async fn no_route(uri: Uri) -> Response {
    match warrant_door::redirected_slash(&uri, PATHS, &web::page::prefix()) {
        None => Fault::new(StatusCode::NOT_FOUND, "Not Found").into_response(),
        Some(there) => (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, there)]).into_response(),
    }
}

/// What the broker hands on for others comes from them, not from the broker.
async fn as_forwarded(mut request: Request) -> Request {
    let forwarded = request.headers().contains_key(FORWARDED_HEADER);
    if let Some(peer @ Peer::Unix(_)) = request.extensions_mut().get_mut()
        && forwarded
    {
        *peer = Peer::Forwarded;
    }
    request
}

async fn in_time(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    if let Ok(response) = tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        return response;
    }
    // All that is waited for so long without a bound of its own is the database.
    let ping = async { store::ping(&mut service.login.db.read().await?).await };
    let part = match tokio::time::timeout(PING_TIMEOUT, ping).await {
        Ok(Ok(())) => "",
        Ok(Err(_)) | Err(_) => Part::Database.told(),
    };
    let text = format!("The request took too long. {part}");
    Fault::later(text.trim_end(), 1).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_list_of_paths_has_exactly_the_routers() {
        // What axum prints of a router names its paths.
        let printed = format!("{:?}", routes());
        let served: BTreeSet<&str> = printed
            .split('"')
            .filter(|text| text.starts_with('/') && *text != "/" && !text.contains("__private"))
            .collect();
        assert_eq!(served, BTreeSet::from(PATHS));
    }
}
