//! Who somebody is, for pages: `/v1/session`.

use std::sync::Arc;

use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use warrant_api::credential::SessionInfo;

use super::Shared;
use super::browser::By;
use crate::caller::Caller;

/// The route.
pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/v1/session", get(show_session))
}

/// Say who asks, and what a page has to send with whatever changes something.
async fn show_session(caller: Caller, Extension(by): Extension<Arc<By>>) -> Response {
    let info = SessionInfo {
        user: caller.name,
        role: caller.role,
        scopes: caller.scopes,
        csrf: match by.as_ref() {
            By::Cookie { csrf } => Some(csrf.to_string()),
            By::Program | By::Basic => None,
        },
    };
    ([(CACHE_CONTROL, "no-store")], Json(info)).into_response()
}
