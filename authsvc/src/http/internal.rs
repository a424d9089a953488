//! What the broker alone may ask, over the Unix socket.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use warrant_api::revocation::{MOST_REVOCATIONS, Revocations};

use super::{Fault, Service};
use crate::error::{Error, Result};
use crate::peer::Peer;
use crate::store::revocations;

/// Where to go on.
#[derive(Debug, Deserialize)]
pub(super) struct After {
    #[serde(default)]
    after: i64,
}

/// What counts no more although it has not expired, after the entry of this
/// number. For the rest of the world, there is nothing here.
pub(super) async fn list_revocations(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    query: Result<Query<After>, QueryRejection>,
) -> Result<Json<Revocations>, Fault> {
    if !peer.is_user(service.broker_uid) {
        return Err(Fault::new(StatusCode::NOT_FOUND, "Not Found"));
    }
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
