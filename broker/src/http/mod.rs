//! What listens: the dialects, the token endpoints, the documents.

pub mod auth;
mod authsvc;
mod docs;
pub mod flux;
pub mod listen;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;

pub use auth::Gate;

use crate::service::Jobs;

/// What every handler can reach.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The use cases.
    pub jobs: Jobs,
    /// Who may come in.
    pub gate: Arc<Gate>,
    /// What the Flux dialect must know of its configuration.
    pub flux: Arc<flux::Settings>,
    /// Whether users get the warrants for their jobs themselves.
    pub own_warrants: bool,
}

impl FromRef<Shared> for Jobs {
    fn from_ref(shared: &Shared) -> Self {
        shared.jobs.clone()
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
    let (flux, document) = flux::routes();
    Router::new()
        .merge(flux)
        .merge(authsvc::routes(shared.own_warrants))
        .merge(docs::routes(document))
        .fallback(flux::fault::no_route)
        .method_not_allowed_fallback(flux::fault::no_method)
        .layer(axum::middleware::map_response(flux::fault::plain_to_fault))
        .with_state(shared)
}
