//! What a job writes.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use warrant_api::flux::{BadParameters, Detail, OUTPUT_STREAM, Output};

use super::fault::Fault;
use super::id;
use super::params::Params;
use crate::caller::Caller;
use crate::error::{Error, Kind, Result as Outcome};
use crate::http::readers::PIECE_BYTES;
use crate::http::stream::{Sender, Source};
use crate::service::{Jobs, Lines, OutputStream, Sink, Tail, Wanted};

const NONE_YET: &str = "The output does not exist yet, or the jobid is incorrect.";

/// What a job has written so far, in lines. Unknown ids and jobs that have
/// written nothing get the same answer. With `format=text` the bytes
/// themselves; an unknown id is then 404.
#[utoipa::path(get, path = "/jobs/{jobid}/output", tag = "jobs", operation_id = "get_output",
    params(
        ("jobid" = String, Path, description = "decimal, hexadecimal or F58"),
        ("format" = Option<String>, Query, description = "json (lines; if unset) or text (bytes)"),
        ("stream" = Option<String>, Query, description = "with format=text: stdout or stderr alone; both if unset"),
    ),
    responses(
        (status = 200, content((Output = "application/json"), (String = "text/plain"))),
        (status = 400, body = Detail),
        (status = 401, body = Detail),
        (status = 403, body = Detail),
        (status = 404, body = Detail),
        (status = 422, body = BadParameters),
        (status = 429, body = Detail),
        (status = 503, body = Detail),
    ))]
pub(super) async fn get_output(
    State(jobs): State<Jobs>,
    State(sender): State<Sender>,
    caller: Caller,
    Path(jobid): Path<String>,
    uri: Uri,
) -> Result<Response, Fault> {
    let id = id::parse(&jobid)?;
    let mut params = Params::of_query(&uri);
    let format = params.word("format", &["json", "text"]);
    let only = only(&mut params);
    params.check()?;
    if format == Some("text") {
        let wanted = Wanted {
            offset: 0,
            only,
            follow: false,
        };
        let tail = jobs.tail(&caller, id, wanted).await?;
        let body = sender.body(caller, Followed { tail, ended: false })?;
        return Ok(text(body, only));
    }
    match jobs.lines(&caller, id).await {
        Ok(Some(lines)) => {
            let body = sender.body(caller, Written::new(lines))?;
            Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
        }
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

/// The lines as JSON, written while they are read.
struct Written {
    lines: Lines,
    strings: Strings,
}

impl Written {
    fn new(lines: Lines) -> Self {
        let strings = Strings {
            out: Vec::from(b"{\"Output\":["),
            ..Strings::default()
        };
        Self { lines, strings }
    }
}

impl Source for Written {
    async fn piece(&mut self, out: &mut Vec<u8>) -> Outcome<bool> {
        let strings = std::mem::take(&mut self.strings);
        let (mut strings, more) = self.lines.read(strings, PIECE_BYTES).await?;
        if strings.failed {
            let message = "The output cannot be written as JSON.";
            return Err(Error::new(Kind::Internal, message));
        }
        *out = std::mem::take(&mut strings.out);
        self.strings = strings;
        if !more {
            out.extend_from_slice(b"]}");
        }
        Ok(more)
    }
}

/// Writes lines as JSON strings, with commas between them.
#[derive(Debug, Default)]
struct Strings {
    out: Vec<u8>,
    /// Whether there is a string before.
    some: bool,
    /// Whether a string has begun.
    begun: bool,
    failed: bool,
}

impl Sink for Strings {
    fn text(&mut self, text: &str) {
        if !self.begun {
            if self.some {
                self.out.push(b',');
            }
            self.out.push(b'"');
            (self.some, self.begun) = (true, true);
        }
        // Without the quotes: the string may go on.
        let from = self.out.len();
        self.failed |= serde_json::to_writer(&mut self.out, text).is_err();
        self.out.pop();
        self.out.remove(from);
    }

    fn end_line(&mut self) {
        if std::mem::take(&mut self.begun) {
            self.out.push(b'"');
        }
    }

    fn bytes(&self) -> usize {
        self.out.len()
    }
}

/// The stream that `stream` names.
fn only(params: &mut Params) -> Option<OutputStream> {
    match params.word("stream", &["stdout", "stderr"]) {
        Some("stdout") => Some(OutputStream::Stdout),
        Some(_) => Some(OutputStream::Stderr),
        None => None,
    }
}

/// Bytes of output, as text whatever they are.
fn text(body: Body, only: Option<OutputStream>) -> Response {
    let headers = [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "no-store"),
    ];
    let only = only.map(|only| match only {
        OutputStream::Stdout => [(OUTPUT_STREAM, "stdout")],
        OutputStream::Stderr => [(OUTPUT_STREAM, "stderr")],
    });
    match only {
        Some(only) => (headers, only, body).into_response(),
        None => (headers, body).into_response(),
    }
}

/// What a job writes, as it comes, until the job ends: stdout and stderr as
/// they were written. An unknown id gives nothing.
#[utoipa::path(get, path = "/jobs/{jobid}/output/stream", tag = "jobs", operation_id = "stream_output",
    params(
        ("jobid" = String, Path, description = "decimal, hexadecimal or F58"),
        ("offset" = Option<u64>, Query, description = "bytes to leave out, to go on after a broken connection; of the stream, where `stream` is given"),
        ("stream" = Option<String>, Query, description = "stdout or stderr alone, named by the header Output-Stream; both if unset"),
    ),
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 400, body = Detail),
        (status = 401, body = Detail),
        (status = 403, body = Detail),
        (status = 422, body = BadParameters),
        (status = 429, body = Detail),
        (status = 503, body = Detail),
    ))]
pub(super) async fn stream_output(
    State(jobs): State<Jobs>,
    State(sender): State<Sender>,
    caller: Caller,
    Path(jobid): Path<String>,
    uri: Uri,
) -> Result<Response, Fault> {
    let id = id::parse(&jobid)?;
    let mut params = Params::of_query(&uri);
    let offset = params.integer("offset").unwrap_or(0);
    let only = only(&mut params);
    params.check()?;
    let offset = u64::try_from(offset).map_err(|_| {
        Fault::parameters(vec![warrant_api::flux::BadParameter {
            kind: "greater_than_equal".into(),
            loc: vec!["query".into(), "offset".into()],
            msg: "Input should be greater than or equal to 0".into(),
            input: offset.into(),
        }])
    })?;
    let wanted = Wanted {
        offset,
        only,
        follow: true,
    };
    let body = match jobs.tail(&caller, id, wanted).await {
        Ok(tail) => sender.body(caller, Followed { tail, ended: false })?,
        Err(error) if error.kind == Kind::NotFound => Body::empty(),
        Err(error) => return Err(error.into()),
    };
    Ok(text(body, only))
}

/// Output that is followed.
struct Followed {
    tail: Tail,
    ended: bool,
}

impl Source for Followed {
    async fn piece(&mut self, out: &mut Vec<u8>) -> Outcome<bool> {
        if !self.ended {
            *out = self.tail.read().await?;
        }
        Ok(!self.ended)
    }

    async fn wait(&mut self) -> Outcome<()> {
        self.ended = !self.tail.wait().await?;
        Ok(())
    }
}
