//! What the broker alone may ask, over the Unix socket.

use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use warrant_api::credential::{Credential, CredentialKind, Exchanged};
use warrant_api::revocation::{MOST_REVOCATIONS, Revocations};

use super::{Fault, Service};
use crate::config::Grants;
use crate::error::{Error, Result};
use crate::login::Refusal;
use crate::peer::Peer;
use crate::secret::Secret;
use crate::source::Source;
use crate::store::revocations;
use crate::warrants::Warrants;
use crate::web::NotSignedIn;

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
        // For the rest of the world, there is nothing here.
        Err(Fault::new(StatusCode::NOT_FOUND, "Not Found"))
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
    let exchanged = match credential.kind {
        CredentialKind::Key => of_key(&service, &credential.value, source).await,
        CredentialKind::Cookie => of_cookie(&service, credential.value, source).await,
        CredentialKind::Basic => of_basic(&service, credential.value, source).await,
    }?;
    let uncached = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((uncached, Json(exchanged)).into_response())
}

/// Whatever is wrong with a credential, it does not count, and that is all that
/// anybody hears.
fn counts_not() -> Fault {
    Fault::new(StatusCode::UNAUTHORIZED, "The credential does not count.")
}

async fn of_key(service: &Service, key: &str, source: Source) -> Result<Exchanged, Fault> {
    let minted = service.api_keys.exchange(key, source).await;
    let minted = minted.map_err(|refused| match refused.is_ours() {
        true => Fault::from(refused),
        false => counts_not(),
    })?;
    Ok(Exchanged {
        access_token: minted.token.expose().to_owned(),
        expires_in: minted.life_s,
        csrf: None,
    })
}

async fn of_cookie(service: &Service, cookie: String, source: Source) -> Result<Exchanged, Fault> {
    // Where clients get their own warrants, the broker has no use for cookies.
    let clients = |warrants: &Warrants| warrants.grants == Grants::Client;
    if service.warrants.as_ref().is_some_and(clients) {
        return Err(counts_not());
    }
    let exchanged = service.web.exchange(&Secret::new(cookie), source).await;
    let (minted, csrf) = exchanged.map_err(|refused| match refused {
        NotSignedIn::No(_) => counts_not(),
        NotSignedIn::Failed(_) => Fault::later("Nobody can tell now.", 1),
    })?;
    Ok(Exchanged {
        access_token: minted.token.expose().to_owned(),
        expires_in: minted.life_s,
        csrf: Some(csrf),
    })
}

async fn of_basic(service: &Service, value: String, source: Source) -> Result<Exchanged, Fault> {
    if !service.password_login {
        return Err(counts_not());
    }
    let exchanged = service
        .web
        .exchange_basic(&Secret::new(value), source)
        .await;
    let granted = exchanged.map_err(|refusal| match refusal {
        Refusal::Wrong(_) | Refusal::Payload(_) | Refusal::Scope | Refusal::Possession(_) => {
            counts_not()
        }
        Refusal::Barred(_) | Refusal::Throttled(_) | Refusal::Busy | Refusal::Failed(_) => {
            refusal.into()
        }
    })?;
    Ok(Exchanged {
        access_token: granted.access_token,
        expires_in: granted.expires_in,
        csrf: None,
    })
}

/// Where to go on.
#[derive(Debug, Deserialize)]
pub(super) struct After {
    #[serde(default)]
    after: i64,
}

/// What counts no more although it has not expired, after the entry of this
/// number.
pub(super) async fn list_revocations(
    State(service): State<Arc<Service>>,
    _: Broker,
    query: Result<Query<After>, QueryRejection>,
) -> Result<Json<Revocations>, Fault> {
    let wrong = || Fault::new(StatusCode::BAD_REQUEST, "after: a number is needed");
    let Query(After { after }) = query.map_err(|_| wrong())?;
    if after < 0 {
        return Err(wrong());
    }
    let listed = list(&service, after).await;
    listed.map(Json).map_err(|error| {
        tracing::warn!(%error, cause = ?error.source, "revocations could not be read");
        Fault::later("The user database did not answer.", 1)
    })
}

async fn list(service: &Service, after: i64) -> Result<Revocations> {
    let mut conn = service.login.db.read().await?;
    let (next, entries) = revocations::list(&mut conn, after, MOST_REVOCATIONS as i64).await?;
    let next = u64::try_from(next)
        .map_err(|source| Error::unavailable("a revocation has no number", source))?;
    Ok(Revocations { next, entries })
}
