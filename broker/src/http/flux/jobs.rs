//! Lists of jobs, and one job.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use warrant_api::flux::{BadParameters, Detail, JobInfo, JobRefs};

use super::fault::Fault;
use super::params::Params;
use super::{Settings, id, map};
use crate::caller::Caller;
use crate::error::Result;
use crate::http::stream::{self, Json};
use crate::model::{Job, JobId, Micros};
use crate::service::Jobs;

/// Jobs read from the store at a time; longer lists are sent in pieces.
const PIECE: i64 = 1000;

/// List jobs, newest first.
///
/// Plain: `{"jobs": [{"id": …}]}`, everybody's; in multi-user mode the
/// caller's own, or all for a superuser. With `details` an object that
/// maps ids to jobs, with `listing` as well an array of jobs: the caller's
/// own, or all for a superuser.
#[utoipa::path(get, path = "/jobs", tag = "jobs", operation_id = "list_jobs",
    params(
        ("details" = Option<bool>, Query, description = "whole jobs, not just ids; `detail` is accepted too"),
        ("listing" = Option<bool>, Query, description = "with details: an array, not an object"),
        ("limit" = Option<i64>, Query, description = "with details: the most jobs to list; all if unset"),
    ),
    responses(
        (status = 200, body = JobRefs),
        (status = 401, body = Detail),
        (status = 422, body = BadParameters),
        (status = 503, body = Detail),
    ))]
pub(super) async fn list_jobs(
    State(jobs): State<Jobs>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Fault> {
    let mut params = Params::of_query(&uri);
    let details = params.truth(&["details", "detail"]).unwrap_or(false);
    let listing = params.truth(&["listing"]).unwrap_or(false);
    params.check()?;
    if !details {
        return ids(jobs, caller).await;
    }
    // A limit that is no number is no limit; one below 1 leaves nothing.
    let limit = params
        .get(&["limit"])
        .and_then(|limit| limit.as_str()?.trim().parse::<i64>().ok());
    let most = limit.unwrap_or(i64::MAX).max(0);
    let shape = if listing { Json::ARRAY } else { Json::OBJECT };
    let first = jobs.list(&caller, None, most.min(PIECE)).await?;
    let uid = jobs.uid();
    let spell = move |job: &Job, out: &mut Vec<u8>| {
        if !listing {
            out.extend(format!("\"{}\":", job.id).bytes());
        }
        serde_json::to_writer(out, &map::info(job, uid, Micros::now()))
    };
    let more = move |last: JobId, sent: i64| {
        let (jobs, caller) = (jobs.clone(), caller.clone());
        async move {
            jobs.list(&caller, Some(last), (most - sent).min(PIECE))
                .await
        }
    };
    Ok(stream::list(shape, first, PIECE, |job| job.id, spell, more))
}

async fn ids(jobs: Jobs, caller: Caller) -> Result<Response, Fault> {
    const PIECE: i64 = 10_000;
    let first = jobs.list_ids(&caller, None, PIECE).await?;
    let spell = |id: &JobId, out: &mut Vec<u8>| {
        out.extend(format!("{{\"id\":{id}}}").bytes());
        Ok(())
    };
    let more = move |last: JobId, _| {
        let (jobs, caller) = (jobs.clone(), caller.clone());
        async move { jobs.list_ids(&caller, Some(last), PIECE).await }
    };
    let shape = Json {
        open: "{\"jobs\":[",
        close: "]}",
    };
    Ok(stream::list(shape, first, PIECE, |id| *id, spell, more))
}

/// One job.
#[utoipa::path(get, path = "/jobs/{jobid}", tag = "jobs", operation_id = "get_job",
    params(
        ("jobid" = String, Path, description = "decimal, hexadecimal or F58"),
        ("legacy" = Option<bool>, Query, description = "add the wrapped form with numeric states, under `job`"),
    ),
    responses(
        (status = 200, body = JobInfo),
        (status = 400, body = Detail),
        (status = 401, body = Detail),
        (status = 403, body = Detail),
        (status = 404, body = Detail),
        (status = 503, body = Detail),
    ))]
pub(super) async fn get_job(
    State(jobs): State<Jobs>,
    State(settings): State<Arc<Settings>>,
    caller: Caller,
    Path(jobid): Path<String>,
    uri: Uri,
) -> Result<Response, Fault> {
    let id = id::parse(&jobid)?;
    let mut params = Params::of_query(&uri);
    let legacy = params.truth(&["legacy"]).unwrap_or(settings.legacy);
    params.check()?;
    let job = jobs.find(&caller, id).await?;
    let info = map::info(&job, jobs.uid(), Micros::now());
    let body = if legacy {
        map::with_legacy(&info, &job).and_then(|both| serde_json::to_vec(&both))
    } else {
        serde_json::to_vec(&info)
    };
    let body = body.map_err(|_| stream::unspeakable())?;
    Ok(([(CONTENT_TYPE, "application/json")], Bytes::from(body)).into_response())
}
