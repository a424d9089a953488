//! The admin listener: `/healthz`, `/readyz` and `/metrics`. It is apart from the main
//! one and authenticates no client, so only programs of this machine reach it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use super::flux::fault::Fault;
use crate::metrics::Metrics;
use crate::readiness::Readiness;

/// What Prometheus is told that `/metrics` is. Source: OpenMetrics 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone)]
struct Admin {
    metrics: Metrics,
    readiness: Arc<Readiness>,
}

/// Everything the admin listener serves.
pub fn router(metrics: Metrics, readiness: Arc<Readiness>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(text))
        .fallback(|| async { Fault::detail(StatusCode::NOT_FOUND, "Not Found") })
        .layer(axum::middleware::map_response(
            super::flux::fault::plain_to_fault,
        ))
        .with_state(Admin { metrics, readiness })
}

/// 200 as long as the process answers.
async fn healthz() -> Response {
    ([(CACHE_CONTROL, "no-store")], "ok\n").into_response()
}

/// 200 where every part is there, else 503; which ones, as JSON.
async fn readyz(State(admin): State<Admin>) -> Response {
    let report = admin.readiness.report().await;
    let status = match report.ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, [(CACHE_CONTROL, "no-store")], Json(report)).into_response()
}

/// The metrics, with the parts looked at as for `/readyz`.
async fn text(State(admin): State<Admin>) -> Response {
    admin.readiness.measure().await;
    match admin.metrics.text() {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
