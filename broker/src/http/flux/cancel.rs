//! Cancelling.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use warrant_api::flux::{Cancelled, Detail};

use super::fault::Fault;
use super::id;
use crate::caller::Caller;
use crate::error::Kind;
use crate::service::Jobs;

/// Cancel a job of the caller's own.
#[utoipa::path(post, path = "/jobs/{jobid}/cancel", tag = "jobs", operation_id = "cancel_job",
    params(("jobid" = String, Path, description = "decimal, hexadecimal or F58")),
    responses(
        (status = 200, body = Cancelled),
        (status = 400, body = Cancelled),
        (status = 401, body = Detail),
        (status = 403, body = Detail),
        (status = 503, body = Detail),
    ))]
pub(super) async fn cancel_job(
    State(jobs): State<Jobs>,
    caller: Caller,
    Path(jobid): Path<String>,
) -> Result<Response, Fault> {
    let id = id::parse(&jobid)?;
    let (status, why) = match jobs.cancel(&caller, id).await {
        Ok(()) => (StatusCode::OK, None),
        Err(error) => match error.kind {
            Kind::NotFound => (StatusCode::BAD_REQUEST, Some("unknown job id")),
            Kind::Conflict => (StatusCode::BAD_REQUEST, Some("job is inactive")),
            Kind::Invalid
            | Kind::Denied
            | Kind::InProgress
            | Kind::KeyReused
            | Kind::TooMany
            | Kind::Unavailable
            | Kind::Internal => return Err(error.into()),
        },
    };
    let message = why.map_or_else(
        || "Job is requested to cancel.".to_owned(),
        // Source: what Flux's errors look like through its Python server.
        |why| format!("Job cannot be cancelled: [Errno 2] {why}."),
    );
    Ok((status, Json(Cancelled { message, id: jobid })).into_response())
}
