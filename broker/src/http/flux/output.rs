//! What a job writes.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use warrant_api::flux::{BadParameters, Detail, Output};

use super::fault::Fault;
use super::id;
use super::params::Params;
use crate::caller::Caller;
use crate::error::Kind;
use crate::http::{Gate, stream};
use crate::service::{Jobs, Lines, Tail};

const NONE_YET: &str = "The output does not exist yet, or the jobid is incorrect.";

/// What a job has written so far, in lines. Unknown ids and jobs that have
/// written nothing get the same answer.
#[utoipa::path(get, path = "/jobs/{jobid}/output", tag = "jobs", operation_id = "get_output",
    params(("jobid" = String, Path, description = "decimal, hexadecimal or F58")),
    responses(
        (status = 200, body = Output),
        (status = 400, body = Detail),
        (status = 401, body = Detail),
        (status = 403, body = Detail),
        (status = 503, body = Detail),
    ))]
pub(super) async fn get_output(
    State(jobs): State<Jobs>,
    caller: Caller,
    Path(jobid): Path<String>,
) -> Result<Response, Fault> {
    let id = id::parse(&jobid)?;
    match jobs.lines(&caller, id).await {
        Ok(Some(lines)) => Ok(written(lines)),
        Ok(None) => Ok(none_yet()),
        Err(error) if error.kind == Kind::NotFound => Ok(none_yet()),
        Err(error) => Err(error.into()),
    }
}

fn none_yet() -> Response {
    Json(Output {
        output: None,
        message: Some(NONE_YET.into()),
    })
    .into_response()
}

/// The lines as JSON, sent while they are read.
fn written(mut lines: Lines) -> Response {
    let mut first = true;
    let body = stream::blocking(move |out| {
        if first {
            out.extend_from_slice(b"{\"Output\":[");
        }
        let Some(line) = lines.next_line()? else {
            out.extend_from_slice(b"]}");
            return Ok(false);
        };
        if !first {
            out.push(b',');
        }
        first = false;
        serde_json::to_writer(out, &String::from_utf8_lossy(&line))?;
        Ok(true)
    });
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

/// What a job writes, as it comes, until the job ends: stdout and stderr as
/// they were written. An unknown id gives nothing.
#[utoipa::path(get, path = "/jobs/{jobid}/output/stream", tag = "jobs", operation_id = "stream_output",
    params(
        ("jobid" = String, Path, description = "decimal, hexadecimal or F58"),
        ("offset" = Option<u64>, Query, description = "bytes to leave out, to go on after a broken connection"),
    ),
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 400, body = Detail),
        (status = 401, body = Detail),
        (status = 403, body = Detail),
        (status = 422, body = BadParameters),
        (status = 503, body = Detail),
    ))]
pub(super) async fn stream_output(
    State(jobs): State<Jobs>,
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Path(jobid): Path<String>,
    uri: Uri,
) -> Result<Response, Fault> {
    let id = id::parse(&jobid)?;
    let mut params = Params::of_query(&uri);
    let offset = params.integer("offset").unwrap_or(0);
    params.check()?;
    let offset = u64::try_from(offset).map_err(|_| {
        Fault::parameters(vec![warrant_api::flux::BadParameter {
            kind: "greater_than_equal".into(),
            loc: vec!["query".into(), "offset".into()],
            msg: "Input should be greater than or equal to 0".into(),
            input: offset.into(),
        }])
    })?;
    let body = match jobs.tail(&caller, id, offset).await {
        Ok(tail) => Body::from_stream(stream::unfold(
            Follower { tail, gate, caller },
            Follower::next,
        )),
        Err(error) if error.kind == Kind::NotFound => Body::empty(),
        Err(error) => return Err(error.into()),
    };
    let headers = [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, body).into_response())
}

/// Somebody who follows a job's output, for as long as what they were let in
/// by counts.
struct Follower {
    tail: Tail,
    gate: Arc<Gate>,
    caller: Caller,
}

impl Follower {
    async fn next(mut self) -> Option<(std::io::Result<Bytes>, Self)> {
        let next = tokio::select! {
            biased;
            () = self.gate.over(&self.caller) => {
                tracing::info!(user.name = %self.caller.name, "followed output with a token that counts no more");
                let broken = std::io::Error::other("the token counts no more");
                return Some((Err(broken), self));
            }
            next = self.tail.next() => next,
        };
        match next {
            Ok(Some(bytes)) => Some((Ok(bytes.into()), self)),
            Ok(None) => None,
            Err(error) => {
                super::fault::log(&error);
                let broken = std::io::Error::other("the output cannot be read now");
                Some((Err(broken), self))
            }
        }
    }
}
