//! The Flux RESTful API, `/v1`: an independent implementation that existing
//! clients use unchanged.

mod cancel;
pub mod fault;
mod id;
mod jobs;
mod literal;
mod map;
mod nodes;
mod options;
mod output;
mod params;
mod search;
mod service;
mod submit;
mod validate;
mod words;

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Shared;
use crate::caller::Caller;
use params::Params;

/// The most bytes of a request's body.
pub const BODY: usize = 1 << 20;

/// What this dialect must know of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The most machines a job may ask for.
    pub nodes: u32,
    /// Whether jobs may ask for GPUs.
    pub gpus: bool,
    /// Options for every job's shell, unless it says otherwise.
    pub options: BTreeMap<String, String>,
    /// Whether every job is also shown in the old, wrapped form.
    pub legacy: bool,
    /// Names of programs that count as launchers.
    pub launchers: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            nodes: 1,
            gpus: false,
            options: BTreeMap::new(),
            legacy: false,
            launchers: vec!["nextflow".into(), "snakemake".into()],
        }
    }
}

/// Read option flags as an administrator writes them: `-okey=value -oother=x`.
pub use options::from_flags;

/// The caller, with a plain user's view where `mine` asks for it.
fn seen_by(caller: Caller, params: &mut Params) -> Caller {
    match params.truth(&["mine"]) {
        Some(true) => caller.with_own_jobs_only(),
        Some(false) | None => caller,
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Warrant, Flux RESTful API",
        description = "Submit jobs, watch them, read what they write."
    ),
    tags(
        (name = "jobs", description = "Jobs"),
        (name = "service", description = "The service"),
        (name = "session", description = "Who one is, and API keys"),
        (name = "oauth", description = "OAuth 2.0"),
        (name = "pages", description = "Pages for people"),
    ),
    security(("bearer" = []), ("key" = []), ("cookie" = []))
)]
struct Described;

/// The routes, and the document that describes them.
pub fn routes() -> (Router<Shared>, Document) {
    let v1 = OpenApiRouter::new()
        .routes(routes!(jobs::list_jobs))
        .routes(routes!(search::search_jobs))
        .routes(routes!(submit::submit_job))
        .routes(routes!(jobs::get_job))
        .routes(routes!(cancel::cancel_job))
        .routes(routes!(output::get_output))
        .routes(routes!(output::stream_output))
        .routes(routes!(nodes::list_nodes))
        .routes(routes!(service::stop_service))
        .layer(DefaultBodyLimit::max(BODY));
    OpenApiRouter::with_openapi(Described::openapi())
        .nest("/v1", v1)
        .split_for_parts()
}

/// The document alone.
pub(super) fn document() -> Document {
    routes().1
}
