//! Search, as DataTables asks for it.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde_json::Value;
use warrant_api::flux::{Detail, Found};

use super::fault::Fault;
use super::map;
use super::params::Params;
use crate::caller::Caller;
use crate::error::Result;
use crate::http::stream::{self, Json};
use crate::model::{Job, JobId, Micros, State as JobState};
use crate::service::{Jobs, Page};

/// Jobs read from the store at a time.
const PIECE: i64 = 1000;
/// A text longer than this is in no job.
const LONGEST: usize = 4096;

/// Search the caller's jobs, or all for a superuser; newest first.
///
/// The text is looked for as it stands, letter case aside, in ids, names,
/// owners, commands, directories, states and results. It is no regular
/// expression.
#[utoipa::path(get, path = "/jobs/search", tag = "jobs", operation_id = "search_jobs",
    params(
        ("query" = Option<String>, Query, description = "the text; `search` and `search[value]` are accepted too"),
        ("start" = Option<i64>, Query, description = "how many matches to skip; ignored beyond the last"),
        ("length" = Option<i64>, Query, description = "the most matches to give; all if unset"),
        ("draw" = Option<String>, Query, description = "given back as it is"),
    ),
    responses(
        (status = 200, body = Found),
        (status = 401, body = Detail),
        (status = 503, body = Detail),
    ))]
pub(super) async fn search_jobs(
    State(jobs): State<Jobs>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Fault> {
    let params = Params::of_query(&uri);
    let text = |names: &[&str]| {
        params
            .get(names)
            .and_then(Value::as_str)
            .filter(|t| !t.is_empty())
    };
    let number = |name| text(&[name]).and_then(|text| text.trim().parse::<i64>().ok());
    let start = number("start").unwrap_or(0).max(0);
    let length = number("length")
        .filter(|length| *length > 0)
        .unwrap_or(i64::MAX);
    let draw = text(&["draw"]).map_or(Value::from(1), Value::from);
    let words = text(&["search[value]", "search", "query"]).map(str::to_owned);
    let ask = Ask {
        jobs,
        caller,
        words,
    };

    let mut start = start;
    let mut first = ask.page(start, length.min(PIECE)).await?;
    if first.jobs.is_empty() && start > 0 {
        start = 0;
        first = ask.page(0, length.min(PIECE)).await?;
    }
    let uid = ask.jobs.uid();
    let spell = move |job: &Job, out: &mut Vec<u8>| {
        serde_json::to_writer(out, &map::info(job, uid, Micros::now()))
    };
    let total = first.total;
    let ask = std::sync::Arc::new(ask);
    let more = move |last: JobId, sent: i64| {
        let ask = ask.clone();
        async move {
            ask.after(last, start + sent, (length - sent).min(PIECE))
                .await
        }
    };
    let shape = Json {
        open: "{\"data\":[",
        close: "]",
    };
    let end = move |sent: i64| {
        format!(",\"draw\":{draw},\"recordsTotal\":{total},\"recordsFiltered\":{sent}}}")
    };
    Ok(stream::list_with_end(
        shape,
        first.jobs,
        PIECE,
        |job| job.id,
        spell,
        more,
        end,
    ))
}

struct Ask {
    jobs: Jobs,
    caller: Caller,
    words: Option<String>,
}

impl Ask {
    async fn page(&self, start: i64, limit: i64) -> Result<Page> {
        match self.words.as_deref() {
            None => self.jobs.page(&self.caller, start, limit).await,
            Some(words) if words.len() > LONGEST => {
                let page = self.jobs.page(&self.caller, 0, 0).await?;
                Ok(Page {
                    jobs: Vec::new(),
                    total: page.total,
                })
            }
            Some(words) => {
                let states: Vec<JobState> = map::states_named(words);
                self.jobs
                    .search(&self.caller, words, &states, start, limit)
                    .await
            }
        }
    }

    /// The next piece: behind `last` where all jobs are listed, so that jobs
    /// that come in between do not shift it.
    async fn after(&self, last: JobId, start: i64, limit: i64) -> Result<Vec<Job>> {
        match self.words {
            None => self.jobs.list(&self.caller, Some(last), limit).await,
            Some(_) => Ok(self.page(start, limit).await?.jobs),
        }
    }
}
