//! The documents of the API, and a page to read and try them; nothing on it
//! comes from elsewhere.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::Config;
use warrant_door::Prefix;

use super::Shared;
use super::flux::fault::Fault;

/// `/openapi.json`, and `/docs` with its assets, of a server below `prefix`.
pub(super) fn routes(document: &OpenApi, prefix: &Prefix) -> Router<Shared> {
    let json: Arc<str> = document.to_json().unwrap_or_default().into();
    let config = Arc::new(Config::from(prefix.add("/openapi.json")));
    let document = move || {
        let json = json.clone();
        async move { ([(CONTENT_TYPE, "application/json")], json.to_string()) }
    };
    let front = config.clone();
    let docs = prefix.add("/docs/");
    let to_docs = move || {
        let docs = docs.clone();
        async move { (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, docs)]) }
    };
    Router::new()
        .route("/openapi.json", get(document))
        .route("/docs", get(to_docs.clone()))
        .route("/redoc", get(to_docs))
        .route(
            "/docs/",
            get(move || async move { asset("index.html", front) }),
        )
        .route(
            "/docs/{*path}",
            get(move |Path(path): Path<String>| async move { asset(&path, config) }),
        )
}

fn asset(path: &str, config: Arc<Config<'static>>) -> Response<Body> {
    match utoipa_swagger_ui::serve(path, config) {
        Ok(Some(file)) => (
            [
                (CONTENT_TYPE, file.content_type),
                (CACHE_CONTROL, "max-age=3600".into()),
            ],
            file.bytes.into_owned(),
        )
            .into_response(),
        Ok(None) => Fault::detail(StatusCode::NOT_FOUND, "Not Found").into_response(),
        Err(error) => {
            tracing::error!(%error, "a document page cannot be served");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
