//! What anybody may know: how to authenticate, and whether the service works.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use warrant_api::token::AuthInfo;

use super::{Fault, Service};
use crate::error::Error;
use crate::store;

/// How to authenticate. Source: `GET /v1/auth` of the Flux RESTful API.
pub(super) async fn get_auth(State(service): State<Arc<Service>>) -> Json<AuthInfo> {
    Json(AuthInfo {
        backend: service.backends.first_name().into(),
        password_login: service.password_login,
        shared_secret_handshake: service.handshake_secret.is_some(),
        oidc: service.oidc.advertised(),
    })
}

/// Whether the database answers.
pub(super) async fn get_health(State(service): State<Arc<Service>>) -> Result<Json<Value>, Fault> {
    let answered = async { store::ping(&mut service.login.db.read().await?).await };
    match answered.await.map_err(Error::from) {
        Ok(()) => Ok(Json(json!({"status": "ok"}))),
        Err(error) => {
            tracing::warn!(%error, cause = ?error.source, "not healthy");
            let detail = "The user database did not answer.";
            Err(Fault::new(StatusCode::SERVICE_UNAVAILABLE, detail))
        }
    }
}
