//! `/v1/keys`: API keys of whoever shows an access token for the broker.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use warrant_api::keys::{KeyList, NewKey, RevokedKeys};

use super::possession::shown;
use super::{Fault, Service};
use crate::api_keys::{Asker, Refused};
use crate::peer::Peer;
use crate::source::Source;

/// Whose keys, where it is not one's own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Whose {
    user: Option<String>,
}

impl FromRequestParts<Arc<Service>> for Asker {
    type Rejection = Fault;

    /// Whoever the one bearer token in the head is of.
    async fn from_request_parts(parts: &mut Parts, service: &Arc<Service>) -> Result<Self, Fault> {
        let source = Source::from_request_parts(parts, service).await?;
        let shown = shown(&parts.headers);
        let token = shown.as_ref().map(|shown| shown.token.expose());
        let asker = service.api_keys.asker(token, source).await?;
        let peer = Extension::<Peer>::from_request_parts(parts, service).await;
        // The broker has seen to the proofs of its callers.
        let vouched = peer
            .is_ok_and(|Extension(peer)| service.broker_uids.iter().any(|uid| peer.is_user(*uid)));
        if let Some(shown) = shown.filter(|_| !vouched) {
            let jkt = asker.jkt();
            let (method, path) = (parts.method.as_str(), parts.uri.path());
            let proof = shown.judge(service, &parts.headers, method, path, jkt);
            service.api_keys.possessed(&asker, proof).await?;
        }
        Ok(asker)
    }
}

/// Make a key. It is answered this once.
pub(super) async fn create(
    State(service): State<Arc<Service>>,
    asker: Asker,
    body: Result<Json<NewKey>, JsonRejection>,
) -> Result<Response, Fault> {
    let Json(new) = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Fault::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "The body may have 65536 bytes.",
        ),
        _ => Fault::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "The body must be JSON with label, and optionally scopes (of read, submit, control \
             and admin, with one space between) and expires_in_days.",
        ),
    })?;
    let created = service.api_keys.create(&asker, new).await?;
    let uncached = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((StatusCode::CREATED, uncached, Json(created)).into_response())
}

/// List the keys that count.
pub(super) async fn list(
    State(service): State<Arc<Service>>,
    asker: Asker,
    Query(whose): Query<Whose>,
) -> Result<Json<KeyList>, Fault> {
    let list = service.api_keys.list(&asker, whose.user.as_deref());
    Ok(Json(list.await?))
}

/// Revoke one key.
pub(super) async fn revoke(
    State(service): State<Arc<Service>>,
    asker: Asker,
    Path(id): Path<String>,
    Query(whose): Query<Whose>,
) -> Result<Json<RevokedKeys>, Fault> {
    let user = whose.user.as_deref();
    let revoked = service.api_keys.revoke(&asker, user, Some(&id)).await?;
    Ok(Json(RevokedKeys { revoked }))
}

/// Revoke all keys.
pub(super) async fn revoke_all(
    State(service): State<Arc<Service>>,
    asker: Asker,
    Query(whose): Query<Whose>,
) -> Result<Json<RevokedKeys>, Fault> {
    let user = whose.user.as_deref();
    let revoked = service.api_keys.revoke(&asker, user, None).await?;
    Ok(Json(RevokedKeys { revoked }))
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        let (status, detail) = match refused {
            Refused::Token | Refused::Possession(_) => (
                StatusCode::UNAUTHORIZED,
                "Could not validate credentials".into(),
            ),
            Refused::OfKey => (
                StatusCode::FORBIDDEN,
                "Keys cannot make or revoke keys: log in.".into(),
            ),
            Refused::Form(what) => (StatusCode::UNPROCESSABLE_ENTITY, what),
            Refused::Scopes => (
                StatusCode::FORBIDDEN,
                "scopes: a key may be used for no more than the token that asks for it".into(),
            ),
            Refused::NotYours => (
                StatusCode::FORBIDDEN,
                "user: the keys of others are an administrator's".into(),
            ),
            Refused::NoKey => (StatusCode::NOT_FOUND, "There is no such key.".into()),
            Refused::Full(most) => (
                StatusCode::CONFLICT,
                format!("There may be {most} keys: revoke some first."),
            ),
            Refused::Key(_) => (StatusCode::UNAUTHORIZED, "The key does not count.".into()),
            Refused::User(_) | Refused::OtherAccount => {
                (StatusCode::FORBIDDEN, "The account may not be used.".into())
            }
            Refused::Busy | Refused::Failed(_) => {
                return Self::later("Keys cannot be dealt with at the moment.", 5);
            }
        };
        Self::new(status, detail)
    }
}
