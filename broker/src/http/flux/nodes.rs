//! Machines.

use axum::Json;
use axum::extract::State;
use warrant_api::flux::{Detail, Nodes};

use super::fault::Fault;
use crate::caller::Caller;
use crate::service::Jobs;

/// The machines that are up.
#[utoipa::path(get, path = "/nodes", tag = "jobs", operation_id = "list_nodes",
    responses(
        (status = 200, body = Nodes),
        (status = 401, body = Detail),
        (status = 503, body = Detail),
    ))]
pub(super) async fn list_nodes(
    State(jobs): State<Jobs>,
    _caller: Caller,
) -> Result<Json<Nodes>, Fault> {
    let mut nodes: Vec<String> = jobs
        .nodes()
        .await?
        .into_iter()
        .filter(|node| node.up)
        .map(|node| node.name)
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    Ok(Json(Nodes { nodes }))
}
