//! What the broker alone may ask, over the Unix socket.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use warrant_api::credential::{Credential, CredentialKind, Exchanged};
use warrant_api::revocation::{PAGE, Revocation, RevocationKind, Revocations};

use super::{Fault, Service};
use crate::api_keys::{self, Refused};
use crate::clock;
use crate::error::Error;
use crate::peer::Peer;
use crate::source::Source;
use crate::store;

/// How long a revocation may take to be committed, in microseconds.
const SETTLED_US: i64 = 2_000_000;

/// Proof that it is the broker who asks.
pub(super) struct Broker;

impl FromRequestParts<Arc<Service>> for Broker {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, service: &Arc<Service>) -> Result<Self, Fault> {
        let peer = Extension::<Peer>::from_request_parts(parts, service).await;
        let known = peer
            .is_ok_and(|Extension(peer)| service.broker_uids.iter().any(|uid| peer.is_user(*uid)));
        if known {
            return Ok(Self);
        }
        tracing::warn!(
            path = parts.uri.path(),
            "somebody else asks what the broker may ask"
        );
        Err(Fault::new(
            StatusCode::FORBIDDEN,
            "This is for the broker alone.",
        ))
    }
}

/// Exchange a credential for an access token.
pub(super) async fn exchange_credential(
    State(service): State<Arc<Service>>,
    _: Broker,
    source: Source,
    body: Result<Json<Credential>, JsonRejection>,
) -> Result<Response, Fault> {
    let Json(credential) = body.map_err(|_| {
        let detail = "The body must be JSON with kind and value.";
        Fault::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    })?;
    let minted = match credential.kind {
        CredentialKind::Key => service.api_keys.exchange(&credential.value, source).await,
        CredentialKind::Cookie | CredentialKind::Basic => Err(Refused::Key("kind")),
    };
    // Whatever is wrong with it, it does not count, and that is all they hear.
    let minted = minted.map_err(|refused| match refused.is_ours() {
        true => Fault::from(refused),
        false => Fault::new(StatusCode::UNAUTHORIZED, "The credential does not count."),
    })?;
    let exchanged = Exchanged {
        access_token: minted.answer.access_token,
        expires_in: minted.answer.expires_in,
    };
    let uncached = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((uncached, Json(exchanged)).into_response())
}

#[derive(Debug, Deserialize)]
pub(super) struct After {
    after: u64,
}

/// What counts no more since `after`: for now, the tokens of keys that were
/// revoked. The numbers are their times, in microseconds.
pub(super) async fn list_revocations(
    State(service): State<Arc<Service>>,
    _: Broker,
    Query(After { after }): Query<After>,
) -> Result<Json<Revocations>, Fault> {
    let now_us = clock::now_us();
    let alive_us = i64::try_from(api_keys::ALIVE_S * 1_000_000).unwrap_or(i64::MAX);
    let since_us = i64::try_from(after)
        .unwrap_or(i64::MAX)
        .max(now_us.saturating_sub(alive_us));
    let listed = async {
        let mut conn = service.login.db.read().await?;
        let settled_us = now_us.saturating_sub(SETTLED_US);
        store::api_keys::list_revoked(&mut conn, since_us, settled_us, PAGE as i64).await
    };
    let revoked = listed.await.map_err(|error| {
        let error = Error::from(error);
        tracing::error!(%error, cause = ?error.source, "what was revoked cannot be listed");
        Fault::later("What was revoked cannot be listed at the moment.", 1)
    })?;
    let next = revoked.last().map_or(after, |(_, at_us)| {
        u64::try_from(*at_us).unwrap_or_default().max(after)
    });
    let entries = revoked.into_iter().map(|(id, at_us)| Revocation {
        kind: RevocationKind::Session,
        value: api_keys::session(&id),
        before_s: None,
        until_s: u64::try_from(at_us / 1_000_000).unwrap_or_default() + api_keys::ALIVE_S,
    });
    Ok(Json(Revocations {
        next,
        entries: entries.collect(),
    }))
}
