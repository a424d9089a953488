//! Token requests, and the pages on which people sign in, are handed on to the
//! auth service as they are, and nothing of them is kept.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{
    ACCEPT, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE,
    HOST, HeaderName, HeaderValue, LOCATION, ORIGIN, REFERRER_POLICY, RETRY_AFTER, SET_COOKIE,
    USER_AGENT, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{Method, Request, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use http_body_util::{BodyExt, Collected, Full, LengthLimitError, Limited};

use warrant_api::oauth::FORWARDED_HEADER;
use warrant_door::origin::FETCH_SITE;
use warrant_dpop::{HEADER as DPOP, NONCE_HEADER};

use super::browser;
use super::flux::fault::Fault;
use super::listen::Client;
use super::{Gate, Shared};
use crate::authsvc::{self, SOURCE};

/// The most a request for a token may hold.
const REQUEST: usize = 64 * 1024;

/// What of a request's head is handed on, besides cookies of ours.
const ASKED: [HeaderName; 7] = [
    AUTHORIZATION,
    CONTENT_TYPE,
    ACCEPT,
    ORIGIN,
    FETCH_SITE,
    USER_AGENT,
    HeaderName::from_static(DPOP),
];
/// What of an answer's head is handed back.
const ANSWERED: [HeaderName; 13] = [
    CONTENT_TYPE,
    CACHE_CONTROL,
    RETRY_AFTER,
    WWW_AUTHENTICATE,
    ALLOW,
    LOCATION,
    SET_COOKIE,
    CONTENT_SECURITY_POLICY,
    REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
    HeaderName::from_static("cross-origin-resource-policy"),
    HeaderName::from_static(NONCE_HEADER),
];

/// Marks an answer of the auth service, which stays as it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct HandedOn;

/// The routes whose requests are handed on. Where users get their warrants
/// themselves (`own_warrants`), so do they their tokens: those of OAuth 2.0 are
/// not for the broker to see.
pub(super) fn routes(own_warrants: bool) -> Router<Shared> {
    let routes = Router::new()
        .route("/v1/auth", get(hand_on))
        .route("/v1/token", post(hand_on))
        .route("/v1/login/access-token", post(hand_on))
        .route("/.well-known/jwks.json", get(hand_on));
    if own_warrants {
        return routes;
    }
    routes
        .route("/oauth/token", post(hand_on))
        .route("/oauth/authorize", get(hand_on).post(hand_on))
        .route("/oauth/device_authorization", post(hand_on))
        .route("/oauth/device", get(hand_on).post(hand_on))
        .route("/oauth/revoke", post(hand_on))
        .route("/oauth/introspect", post(hand_on))
        .route("/.well-known/oauth-authorization-server", get(hand_on))
        .route("/login", get(hand_on).post(hand_on))
        .route("/login/oidc/{name}", get(hand_on))
        .route("/login/oidc/{name}/callback", get(hand_on))
        .route("/logout", post(hand_on))
        .route("/account", get(hand_on))
        .route("/account/sessions", post(hand_on))
        .route("/account/keys", post(hand_on))
        .route("/account/keys/revoke", post(hand_on))
        .route("/account/password", post(hand_on))
}

pub(super) async fn hand_on(
    State(gate): State<Arc<Gate>>,
    client: Option<axum::Extension<Client>>,
    request: Request<Body>,
) -> Result<Response<Body>, Fault> {
    let (head, body) = request.into_parts();
    let body = whole(body).await?;
    // The auth service refuses secrets in an address; it has to see them.
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut ask = Request::builder()
        .method(if head.method == Method::POST {
            Method::POST
        } else {
            Method::GET
        })
        .uri(path)
        .header(HOST, authsvc::NAME)
        .header(FORWARDED_HEADER, "1");
    for name in ASKED {
        for value in head.headers.get_all(&name) {
            ask = ask.header(&name, value);
        }
    }
    if let Some(cookies) = browser::our_cookies(&head.headers) {
        ask = ask.header(COOKIE, cookies);
    }
    if let Some(axum::Extension(Client(Some(address)))) = client
        && let Ok(value) = HeaderValue::from_str(&address.to_string())
    {
        ask = ask.header(SOURCE, value);
    }
    let ask = ask.body(Full::new(body)).map_err(|_| away())?;
    forward(&gate, ask).await
}

/// A body that is handed on.
///
/// Errors: it is too long, or does not come.
pub(super) async fn whole(body: Body) -> Result<Bytes, Fault> {
    let body = Limited::new(body, REQUEST).collect().await;
    body.map(Collected::to_bytes)
        .map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => Fault::too_large(REQUEST),
            None => Fault::detail(
                StatusCode::BAD_REQUEST,
                "The request's body did not come whole.",
            ),
        })
}

pub(super) fn away() -> Fault {
    Fault::unavailable("The auth service cannot be reached.")
}

/// Send a request to the auth service, and answer as it does.
pub(super) async fn forward(
    gate: &Gate,
    ask: Request<Full<Bytes>>,
) -> Result<Response<Body>, Fault> {
    let answer = gate.authsvc().send(ask).await.map_err(|error| {
        tracing::warn!(%error, "a token request could not be handed on");
        Fault::unavailable(authsvc::told(&error))
    })?;
    let (from, bytes) = answer.into_parts();
    let mut reply = (from.status, bytes).into_response();
    reply.extensions_mut().insert(HandedOn);
    for name in ANSWERED {
        // What axum put there by itself is not the auth service's.
        reply.headers_mut().remove(&name);
        for value in from.headers.get_all(&name) {
            reply.headers_mut().append(&name, value.clone());
        }
    }
    Ok(reply)
}
