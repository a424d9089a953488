//! The service itself.

use axum::Json;
use axum::extract::State;
use warrant_api::flux::{Detail, Null};

use super::fault::Fault;
use crate::caller::Caller;
use crate::service::Jobs;

/// Stop the service; for superusers. It accepts nothing more, waits for what
/// runs, and ends.
#[utoipa::path(post, path = "/service/stop", tag = "service", operation_id = "stop_service",
    responses(
        (status = 200, body = Null, description = "the service is about to end"),
        (status = 401, body = Detail),
        (status = 403, body = Detail),
        (status = 503, body = Detail),
    ))]
pub(super) async fn stop_service(
    State(jobs): State<Jobs>,
    caller: Caller,
) -> Result<Json<()>, Fault> {
    jobs.stop(&caller).await?;
    Ok(Json(()))
}
