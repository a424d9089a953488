//! API keys, `/v1/keys`: the auth service keeps them. Requests to list and to revoke
//! them are forwarded with the caller's access token in place of whatever the
//! caller showed. A key is made for a proof of its user: such a request is forwarded
//! as it is, or, where users get their warrants themselves, not at all.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use axum::http::{Request, Response, StatusCode};
use axum::routing::{delete, post};
use http_body_util::Full;

use super::authsvc::{self as authsvc_routes, away, forward, whole};
use super::flux::fault::Fault;
use super::listen::Client;
use super::{Gate, Shared};
use crate::authsvc::{self, SOURCE};
use crate::caller::Caller;

/// The routes whose requests are forwarded. Where users get their warrants
/// themselves (`own_warrants`), no proof of theirs is for the broker to see.
pub(super) fn routes(own_warrants: bool) -> Router<Shared> {
    let create = match own_warrants {
        true => post(not_here),
        false => post(authsvc_routes::hand_on),
    };
    Router::new()
        .route("/v1/keys", create.get(hand_on).delete(hand_on))
        .route("/v1/keys/{id}", delete(hand_on))
}

/// Refuse to forward a proof.
async fn not_here() -> Fault {
    Fault::detail(
        StatusCode::FORBIDDEN,
        "API keys are made at the auth service itself, for a proof that comes with the request: \
         the user's name and password (Authorization: Basic). Ask it directly, or through the \
         proxy in front of both.",
    )
}

async fn hand_on(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    client: Option<axum::Extension<Client>>,
    request: Request<Body>,
) -> Result<Response<Body>, Fault> {
    let Some(bearer) = &caller.bearer else {
        return Err(Fault::detail(
            StatusCode::FORBIDDEN,
            "Where authentication is off, there are no keys.",
        ));
    };
    let (head, body) = request.into_parts();
    let body = whole(body).await?;
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut ask = Request::builder()
        .method(head.method)
        .uri(path)
        .header(HOST, authsvc::NAME)
        .header(AUTHORIZATION, format!("Bearer {}", bearer.reveal()));
    if let Some(value) = head.headers.get(CONTENT_TYPE) {
        ask = ask.header(CONTENT_TYPE, value);
    }
    if let Some(axum::Extension(Client(Some(address)))) = client {
        ask = ask.header(SOURCE, address.to_string());
    }
    let ask = ask.body(Full::new(body)).map_err(|_| away())?;
    forward(&gate, ask).await
}
