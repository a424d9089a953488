//! The public keys with which access tokens are verified.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::Service;
use crate::clock;

/// Every published key, also the one that will sign next. Source: RFC 7517 §5.
pub(super) async fn get_keys(State(service): State<Arc<Service>>) -> impl IntoResponse {
    let cache = [(header::CACHE_CONTROL, "max-age=30")];
    (cache, Json(service.ring.published(clock::now_s())))
}
