//! The public keys with which access tokens are verified.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde::Serialize;

use super::Service;
use crate::clock;
use crate::keys::KeySet;

/// The keys, and whose they are: the broker compares that with the tokens'
/// `iss`. Source: RFC 7517 §5, which lets a set have further members.
#[derive(Serialize)]
struct Published {
    #[serde(flatten)]
    set: KeySet,
    issuer: String,
}

/// Every published key, also the one that will sign next. Source: RFC 7517 §5.
pub(super) async fn get_keys(State(service): State<Arc<Service>>) -> impl IntoResponse {
    let cache = [(header::CACHE_CONTROL, "max-age=30")];
    let published = Published {
        set: service.ring.published(clock::now_s()),
        issuer: service.oauth.issuer.clone(),
    };
    (cache, Json(published))
}
