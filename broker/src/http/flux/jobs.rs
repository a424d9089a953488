//! Lists of jobs, and one job.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use warrant_api::flux::{BadParameters, Detail, JobDetails, JobList};

use super::fault::Fault;
use super::params::Params;
use super::{Settings, id, map};
use crate::caller::Caller;
use crate::error::Result as Outcome;
use crate::http::stream::{Items, Sender, unwritable};
use crate::model::{Job, JobId, Micros};
use crate::service::{Jobs, is_part};

/// Jobs read from the store at a time.
pub(super) const JOBS: i64 = 100;
/// Ids read from the store at a time.
const IDS: i64 = 4096;

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
        ("mine" = Option<bool>, Query, description = "with details: the caller's own jobs alone, also where the caller may see all"),
    ),
    responses(
        (status = 200, body = JobList),
        (status = 401, body = Detail),
        (status = 422, body = BadParameters),
        (status = 429, body = Detail),
        (status = 503, body = Detail),
    ))]
pub(super) async fn list_jobs(
    State(jobs): State<Jobs>,
    State(sender): State<Sender>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Fault> {
    let mut params = Params::of_query(&uri);
    let details = params.truth(&["details", "detail"]).unwrap_or(false);
    let listing = params.truth(&["listing"]).unwrap_or(false);
    let caller = super::seen_by(caller, &mut params);
    params.check()?;
    if !details {
        let ids = Ids {
            jobs,
            caller: caller.clone(),
            below: None,
            ended: false,
        };
        return sender.list(caller, "{\"jobs\":[", ids).await;
    }
    // A limit that is no number is no limit; one below 1 leaves nothing.
    let limit = params
        .get(&["limit"])
        .and_then(|limit| limit.as_str()?.trim().parse::<i64>().ok());
    let limit = limit.unwrap_or(i64::MAX).max(0);
    let listed = Listed::new(jobs, caller.clone(), limit, listing);
    let open = if listing { "[" } else { "{" };
    sender.list(caller, open, listed).await
}

/// Jobs with all their details, from the newest on.
pub(super) struct Listed {
    jobs: Jobs,
    caller: Caller,
    below: Option<JobId>,
    /// How many more may be listed.
    left: i64,
    /// Whether they are an array; else an object that maps ids to jobs.
    is_array: bool,
}

impl Listed {
    /// At most `limit` jobs of the caller's.
    pub(super) fn new(jobs: Jobs, caller: Caller, limit: i64, is_array: bool) -> Self {
        Self {
            jobs,
            caller,
            below: None,
            left: limit,
            is_array,
        }
    }

    /// `read` was read, of which there could be `most`.
    pub(super) fn took(&mut self, read: &[Job], most: i64) {
        self.left = match i64::try_from(read.len()) {
            Ok(count) if is_part(read, most) => self.left - count,
            _ => 0,
        };
        self.below = read.last().map(|job| job.id);
    }
}

impl Items for Listed {
    type Item = Job;

    async fn next(&mut self) -> Outcome<Vec<Job>> {
        let most = self.left.min(JOBS);
        if most == 0 {
            return Ok(Vec::new());
        }
        let read = self.jobs.list(&self.caller, self.below, most).await?;
        self.took(&read, most);
        Ok(read)
    }

    fn write(&self, job: &Job, out: &mut Vec<u8>) -> serde_json::Result<()> {
        if !self.is_array {
            out.extend(format!("\"{}\":", job.id).bytes());
        }
        serde_json::to_writer(out, &map::info(job, self.jobs.uid(), Micros::now()))
    }

    fn close(&self, _: i64) -> String {
        if self.is_array { "]" } else { "}" }.into()
    }
}

/// The ids of jobs alone, from the newest on.
struct Ids {
    jobs: Jobs,
    caller: Caller,
    below: Option<JobId>,
    ended: bool,
}

impl Items for Ids {
    type Item = JobId;

    async fn next(&mut self) -> Outcome<Vec<JobId>> {
        if self.ended {
            return Ok(Vec::new());
        }
        let read = self.jobs.list_ids(&self.caller, self.below, IDS).await?;
        self.ended = i64::try_from(read.len()).is_ok_and(|count| count < IDS);
        self.below = read.last().copied();
        Ok(read)
    }

    fn write(&self, id: &JobId, out: &mut Vec<u8>) -> serde_json::Result<()> {
        out.extend(format!("{{\"id\":{id}}}").bytes());
        Ok(())
    }

    fn close(&self, _: i64) -> String {
        "]}".into()
    }
}

/// One job.
#[utoipa::path(get, path = "/jobs/{jobid}", tag = "jobs", operation_id = "get_job",
    params(
        ("jobid" = String, Path, description = "decimal, hexadecimal or F58"),
        ("details" = Option<bool>, Query, description = "add the command, and what the job used"),
        ("legacy" = Option<bool>, Query, description = "add the wrapped form with numeric states, under `job`"),
    ),
    responses(
        (status = 200, body = JobDetails),
        (status = 400, body = Detail),
        (status = 401, body = Detail),
        (status = 403, body = Detail),
        (status = 404, body = Detail),
        (status = 422, body = BadParameters),
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
    let details = params.truth(&["details"]).unwrap_or(false);
    params.check()?;
    let (job, more) = if details {
        let (job, more) = jobs.details(&caller, id).await?;
        (job, Some(more))
    } else {
        (jobs.find(&caller, id).await?, None)
    };
    let mut info = map::info(&job, jobs.uid(), Micros::now());
    info.notes = jobs.remarks(&job).await?;
    let info = map::details(info, more);
    let body = if legacy {
        map::with_legacy(&info, &job).and_then(|both| serde_json::to_vec(&both))
    } else {
        serde_json::to_vec(&info)
    };
    let body = body.map_err(unwritable)?;
    Ok(([(CONTENT_TYPE, "application/json")], Bytes::from(body)).into_response())
}
