//! What listens: the dialects, the token endpoints, the documents.

pub mod access;
pub mod admin;
mod answers;
pub mod auth;
mod authsvc;
mod browser;
mod credentials;
mod docs;
mod document;
pub mod flux;
mod idempotency;
mod keys;
pub mod limits;
pub mod listen;
mod possession;
mod readers;
mod schemes;
mod session;
mod stream;

use std::sync::Arc;

use std::time::Instant;

use axum::Router;
use axum::extract::{FromRef, MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use warrant_door::Prefix;
use warrant_door::origin::Origin;

pub use auth::Gate;
pub use limits::Limits;
pub use readers::Readers;

use crate::metrics::Metrics;
use crate::service::Jobs;

/// What every handler can reach.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The use cases.
    pub jobs: Jobs,
    /// Who may come in.
    pub gate: Arc<Gate>,
    /// How much anybody may ask.
    pub limits: Arc<Limits>,
    /// Who reads long responses.
    pub readers: Arc<Readers>,
    /// What the Flux dialect must know of its configuration.
    pub flux: Arc<flux::Settings>,
    /// Whether users get the warrants for their jobs themselves.
    pub own_warrants: bool,
    /// Where the pages are that browsers show.
    pub origin: Arc<Origin>,
    /// The path below which clients reach the service.
    pub prefix: Prefix,
}

impl FromRef<Shared> for Jobs {
    fn from_ref(shared: &Shared) -> Self {
        shared.jobs.clone()
    }
}

impl FromRef<Shared> for Prefix {
    fn from_ref(shared: &Shared) -> Self {
        shared.prefix.clone()
    }
}

impl FromRef<Shared> for Arc<Gate> {
    fn from_ref(shared: &Shared) -> Self {
        shared.gate.clone()
    }
}

impl FromRef<Shared> for Arc<flux::Settings> {
    fn from_ref(shared: &Shared) -> Self {
        shared.flux.clone()
    }
}

/// Everything the main listener serves.
pub fn router(shared: Shared) -> Router {
    let metrics = shared.jobs.metrics().clone();
    routes(shared.own_warrants, &shared.prefix)
        .fallback(flux::fault::no_route)
        .layer(axum::middleware::from_fn_with_state(
            shared.clone(),
            access::check,
        ))
        .layer(axum::middleware::map_response(flux::fault::plain_to_fault))
        .layer(axum::middleware::from_fn_with_state(metrics, count))
        .with_state(shared)
}

/// Count a request and its answer, and measure the time between their heads.
async fn count(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.and_then(|matched| access::paths().find(|path| *path == matched.as_str()));
    let method = match *request.method() {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    };
    let begun = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    metrics.answered(method, route.unwrap_or("none"), status, begun.elapsed());
    response
}

/// The routes alone, before anything is checked; `own_warrants` and `prefix` as
/// in [`Shared`].
fn routes(own_warrants: bool, prefix: &Prefix) -> Router<Shared> {
    let (flux, document) = flux::routes();
    Router::new()
        .merge(flux)
        .merge(authsvc::routes(own_warrants))
        .merge(keys::routes(own_warrants))
        .merge(session::routes())
        .merge(docs::routes(
            &document::complete(document, own_warrants, prefix),
            prefix,
        ))
}

/// The document of the Flux dialect and of what is served beside it, for
/// printing it without a server.
pub fn document() -> utoipa::openapi::OpenApi {
    document::complete(flux::document(), false, &Prefix::default())
}
