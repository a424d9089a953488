//! Search, as DataTables asks for it.

use std::collections::VecDeque;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde_json::Value;
use warrant_api::flux::{BadParameters, Detail, Found};

use super::fault::Fault;
use super::jobs::{JOBS, Listed};
use super::map;
use super::params::Params;
use crate::caller::Caller;
use crate::error::Result as Outcome;
use crate::http::stream::{Items, Sender};
use crate::model::{Job, JobId, Micros, State as JobState};
use crate::service::Jobs;

/// Matches looked up at a time.
const MATCHES: i64 = 1000;
/// A text longer than this is in no job.
const LONGEST: usize = 4096;

/// Search the caller's jobs, or all for a superuser; newest first.
///
/// The text is looked for as it stands, letter case aside, in ids, names,
/// owners, commands, directories, states and results (also by their everyday
/// words: queued, running, cancelled). It is no regular expression.
#[utoipa::path(get, path = "/jobs/search", tag = "jobs", operation_id = "search_jobs",
    params(
        ("query" = Option<String>, Query, description = "the text; `search` and `search[value]` are accepted too"),
        ("start" = Option<i64>, Query, description = "how many matches to skip; ignored beyond the last"),
        ("length" = Option<i64>, Query, description = "the most matches to give; all if unset"),
        ("draw" = Option<String>, Query, description = "given back as it is"),
        ("mine" = Option<bool>, Query, description = "the caller's own jobs alone, also where the caller may see all"),
    ),
    responses(
        (status = 200, body = Found),
        (status = 401, body = Detail),
        (status = 422, body = BadParameters),
        (status = 429, body = Detail),
        (status = 503, body = Detail),
    ))]
pub(super) async fn search_jobs(
    State(jobs): State<Jobs>,
    State(sender): State<Sender>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Fault> {
    let mut params = Params::of_query(&uri);
    let caller = super::seen_by(caller, &mut params);
    params.check()?;
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
    let close = Close { draw, total: 0 };
    match words {
        None => {
            let all = All::find(jobs, &caller, start, length, close).await?;
            sender.list(caller, OPEN, all).await
        }
        Some(words) => {
            let matching = Matching::find(jobs, &caller, words, start, length, close).await?;
            sender.list(caller, OPEN, matching).await
        }
    }
}

const OPEN: &str = "{\"data\":[";

/// What stands behind the jobs.
struct Close {
    draw: Value,
    /// How many jobs there are in all.
    total: i64,
}

impl Close {
    fn text(&self, count: i64) -> String {
        let Self { draw, total } = self;
        format!("],\"draw\":{draw},\"recordsTotal\":{total},\"recordsFiltered\":{count}}}")
    }
}

/// All jobs of the caller, where no text is looked for.
struct All {
    first: Vec<Job>,
    /// Those that follow; by id, so that jobs that come in between shift nothing.
    listed: Listed,
    close: Close,
}

impl All {
    async fn find(
        jobs: Jobs,
        caller: &Caller,
        start: i64,
        length: i64,
        close: Close,
    ) -> Outcome<Self> {
        let most = length.min(JOBS);
        let mut page = jobs.page(caller, start, most).await?;
        if page.jobs.is_empty() && start > 0 {
            page = jobs.page(caller, 0, most).await?;
        }
        let mut listed = Listed::new(jobs, caller.clone(), length, true);
        listed.took(&page.jobs, most);
        Ok(Self {
            first: page.jobs,
            listed,
            close: Close {
                total: page.total,
                ..close
            },
        })
    }
}

impl Items for All {
    type Item = Job;

    async fn next(&mut self) -> Outcome<Vec<Job>> {
        if self.first.is_empty() {
            return self.listed.next().await;
        }
        Ok(std::mem::take(&mut self.first))
    }

    fn write(&self, job: &Job, out: &mut Vec<u8>) -> serde_json::Result<()> {
        self.listed.write(job, out)
    }

    fn close(&self, count: i64) -> String {
        self.close.text(count)
    }
}

/// The caller's jobs that match a text.
struct Matching {
    jobs: Jobs,
    caller: Caller,
    words: String,
    /// How many matches were skipped or looked up.
    start: i64,
    /// How many more may be looked up.
    left: i64,
    /// Those that were looked up and not read, newest first.
    ids: VecDeque<JobId>,
    close: Close,
}

impl Matching {
    async fn find(
        jobs: Jobs,
        caller: &Caller,
        words: String,
        start: i64,
        length: i64,
        close: Close,
    ) -> Outcome<Self> {
        let caller = caller.clone();
        let mut matching = Self {
            jobs,
            caller,
            words,
            start,
            left: length,
            ids: VecDeque::new(),
            close,
        };
        matching.close.total = matching.look_up().await?;
        if matching.ids.is_empty() && start > 0 {
            (matching.start, matching.left) = (0, length);
            matching.look_up().await?;
        }
        Ok(matching)
    }

    /// Look up the next matches. Returns how many jobs there are in all.
    async fn look_up(&mut self) -> Outcome<i64> {
        if self.words.len() > LONGEST {
            self.left = 0;
            return Ok(self.jobs.page(&self.caller, 0, 0).await?.total);
        }
        let states: Vec<JobState> = map::states_named(&self.words);
        let most = self.left.min(MATCHES);
        let found = self
            .jobs
            .search(&self.caller, &self.words, &states, self.start, most)
            .await?;
        let count = i64::try_from(found.ids.len()).unwrap_or(i64::MAX);
        self.left = if count < most { 0 } else { self.left - count };
        self.start = self.start.saturating_add(count);
        self.ids = found.ids.into();
        Ok(found.total)
    }
}

impl Items for Matching {
    type Item = Job;

    async fn next(&mut self) -> Outcome<Vec<Job>> {
        loop {
            if self.ids.is_empty() && self.left > 0 {
                self.look_up().await?;
            }
            let count = usize::try_from(JOBS).unwrap_or(usize::MAX);
            let ids: Vec<JobId> = self.ids.iter().take(count).copied().collect();
            let Some(mut last) = ids.last().copied() else {
                return Ok(Vec::new());
            };
            let read = self.jobs.found(&self.caller, &ids).await?;
            if let Some(job) = read.last() {
                last = job.id;
            }
            while self.ids.front().is_some_and(|id| *id >= last) {
                self.ids.pop_front();
            }
            if !read.is_empty() {
                return Ok(read);
            }
        }
    }

    fn write(&self, job: &Job, out: &mut Vec<u8>) -> serde_json::Result<()> {
        serde_json::to_writer(out, &map::info(job, self.jobs.uid(), Micros::now()))
    }

    fn close(&self, count: i64) -> String {
        self.close.text(count)
    }
}
