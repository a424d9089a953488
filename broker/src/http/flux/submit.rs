//! Submitting. All parameters are taken from the query, a JSON body or a
//! form, because each of the existing clients does it in another way.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use serde_json::Value;
use warrant_api::flux::{BadParameters, Detail, NeedsWarrant, SubmitBody, Submitted, Unsubmitted};

use super::fault::{Fault, log};
use super::params::Params;
use super::validate::{Wish, Wrong, invalid};
use super::{Settings, map};
use crate::caller::Caller;
use crate::error::Kind;
use crate::http::idempotency;
use crate::model::{Dialect, JobId};
use crate::service::{Jobs, Keyed, Submission};

/// The header in which a caller's own warrant comes.
const WARRANT: &str = "warrant";

/// Submit a job.
///
/// Every parameter may stand in the query, in a JSON object or in a form. A
/// JSON object without `command`, where the query has one, is taken as the
/// environment variables.
#[utoipa::path(post, path = "/jobs/submit", tag = "jobs", operation_id = "submit_job",
    params(
        ("command" = Option<String>, Query, description = "program and arguments, split as a POSIX shell does it; no shell runs"),
        ("num_tasks" = Option<i64>, Query, description = "processes; 1 if unset"),
        ("cores_per_task" = Option<i64>, Query, description = "cores for each process; 1 if unset"),
        ("gpus_per_task" = Option<i64>, Query, description = "GPUs for each process"),
        ("num_nodes" = Option<i64>, Query, description = "machines"),
        ("exclusive" = Option<bool>, Query, description = "the machines to itself"),
        ("option_flags" = Option<String>, Query, description = "options of the job shell: name=value,name=value"),
        ("envars" = Option<String>, Query, description = "environment variables, as a JSON object or a Python dictionary"),
        ("workdir" = Option<String>, Query, description = "the directory to start in, an absolute path; the job fails where it cannot be used"),
        ("default_workdir" = Option<String>, Query, description = "without workdir: the directory to start in if it can be used, an absolute path; else the job starts in the user's home, or in /tmp"),
        ("runtime" = Option<i64>, Query, description = "seconds it may run; 0 means no limit"),
        ("is_launcher" = Option<bool>, Query, description = "the command is nextflow or snakemake"),
        ("Idempotency-Key" = Option<String>, Header, description = "a name of the client's choice for this submission, 1 to 255 bytes of printable ASCII: for 24 hours the same key with the same parameters is answered with the same job, and makes no other"),
    ),
    request_body(content = Option<SubmitBody>),
    responses(
        (status = 200, body = Submitted),
        (status = 400, body = Unsubmitted),
        (status = 401, body = Detail),
        (status = 413, body = Detail),
        (status = 403, body = Detail),
        (status = 409, body = Detail, description = "a request with the same `Idempotency-Key` is still being answered"),
        (status = 422, body = BadParameters, description = "parameters that are not what they should be, or an `Idempotency-Key` that was used for another submission"),
        (status = 428, body = NeedsWarrant, description = "the job must come again with the header `Warrant`: a warrant for this launch"),
        (status = 429, body = Detail, description = "the caller's share of the queue, of output or of idempotency keys is used up"),
        (status = 503, body = Detail),
    ))]
pub(super) async fn submit_job(
    State(jobs): State<Jobs>,
    State(settings): State<Arc<Settings>>,
    caller: Caller,
    uri: Uri,
    mut headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Submitted>, Fault> {
    let mut params = Params::of_request(&uri, &mut headers, body).await?;
    let wish = Wish::read(&mut params)?;
    let launcher = wish.is_launcher;
    let key = idempotency::of_request(&headers, Dialect::Flux, &params.canonical());
    let under_way = match key.map_err(|why| Fault::unsubmitted(invalid(vec![why])))? {
        None => None,
        Some(key) => match jobs.begin_keyed(&caller, key).await? {
            Keyed::Before(id) => return Ok(answer(launcher, id)),
            Keyed::Now(under_way) => Some(under_way),
        },
    };
    let spec = match wish.check(&settings) {
        Ok(task) => map::spec(task),
        Err(Wrong::NoLauncher(program)) => {
            let message = format!("{program} is not a known launcher. ");
            return Ok(Json(Submitted {
                message,
                id: Value::from("MANY"),
            }));
        }
        Err(Wrong::Refused(refusal)) => return Err(Fault::unsubmitted(refusal)),
    };
    let warrant = headers
        .get(WARRANT)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let submission = jobs
        .submit(&caller, spec, warrant, under_way)
        .await
        .map_err(|error| match error.kind {
            Kind::Invalid => {
                log(&error);
                Fault::unsubmitted(Unsubmitted {
                    message: "There was an issue submitting that job.".into(),
                    errors: None,
                    error: Some(error.message),
                })
            }
            Kind::NotFound
            | Kind::Denied
            | Kind::Conflict
            | Kind::InProgress
            | Kind::KeyReused
            | Kind::TooMany
            | Kind::Unavailable
            | Kind::Internal => Fault::from(error),
        })?;
    match submission {
        Submission::Accepted(id) => Ok(answer(launcher, id)),
        Submission::NeedsWarrant { launch, job_sha256 } => {
            Err(Fault::needs_warrant(&launch, job_sha256, jobs.audience()))
        }
    }
}

/// The answer to a submission that became a job; always the same for the same.
fn answer(launcher: bool, id: JobId) -> Json<Submitted> {
    Json(if launcher {
        let message = "Job submit, see jobs table for spawned jobs.".into();
        Submitted {
            message,
            id: Value::from("MANY"),
        }
    } else {
        Submitted {
            message: "Job submit.".into(),
            id: Value::from(id.get()),
        }
    })
}
