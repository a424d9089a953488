//! `warrant jobs` and `warrant info`: many jobs in a line each, or one in full.

use serde_json::Value;

use crate::args::Jobs;
use crate::client::{Client, Request, not_understood};
use crate::clock::now_s;
use crate::commands::{Show, print_json};
use crate::duration;
use crate::failure::Failure;
use crate::job::{Job, JobId};
use crate::table::{self, Cell, Paint};

const HEADING: [&str; 8] = [
    "ID",
    "STATE",
    "NAME",
    "TASKS",
    "CORES",
    "SUBMITTED",
    "RUNTIME",
    "EXIT",
];

/// List jobs.
pub(crate) fn jobs(client: &mut Client, which: &Jobs, show: Show) -> Result<(), Failure> {
    let answer = client.answer(&request(which))?.success()?;
    if show.json {
        return print_json(&answer, show.look);
    }
    let reply = answer.json()?;
    // A search wraps its list for the table of a web page.
    let list = reply.get("data").unwrap_or(&reply);
    let list = list.as_array().ok_or_else(not_understood)?;
    let now = now_s();
    let rows = list.iter().map(|object| row(Job(object), now)).collect();
    table::print(&HEADING, rows, show.look)
}

fn request(which: &Jobs) -> Request<'_> {
    let limit = (!which.all).then(|| which.limit.to_string());
    match &which.search {
        Some(text) => {
            let mut query = vec![("search", text.clone())];
            query.extend(limit.map(|limit| ("length", limit)));
            Request::Get("/v1/jobs/search", query)
        }
        None => {
            let yes = || "true".to_owned();
            let mut query = vec![("details", yes()), ("listing", yes())];
            query.extend(limit.map(|limit| ("limit", limit)));
            Request::Get("/v1/jobs", query)
        }
    }
}

fn row(job: Job<'_>, now: u64) -> Vec<Cell> {
    let state = job.state();
    vec![
        job.text("id").into(),
        Cell::painted(state.word(), state.paint()),
        job.text("name").into(),
        job.text("ntasks").into(),
        job.text("ncores").into(),
        moment(job, "t_submit", now).into(),
        length(job, "runtime").into(),
        job.text("returncode").into(),
    ]
}

/// Show one job.
pub(crate) fn info(client: &mut Client, id: &JobId, show: Show) -> Result<(), Failure> {
    let route = id.route("");
    let answer = client.answer(&Request::Get(&route, vec![]))?.success()?;
    if show.json {
        return print_json(&answer, show.look);
    }
    let object = answer.json()?;
    if object.is_null() {
        // So answer the older servers.
        return Err(Failure::Refused(format!("there is no job {id}")));
    }
    table::print(&[], facts(Job(&object), now_s())?, show.look)
}

/// Whatever is known about a job, a line each.
fn facts(job: Job<'_>, now: u64) -> Result<Vec<Vec<Cell>>, Failure> {
    if !job
        .0
        .get("id")
        .is_some_and(|id| id.is_number() || id.is_string())
    {
        return Err(not_understood());
    }
    let state = job.state();
    let mut rows = vec![
        ("ID", Cell::from(job.text("id"))),
        ("STATE", Cell::painted(state.word(), state.paint())),
    ];
    let plain: [(&'static str, String); 15] = [
        ("EXIT", job.text("returncode")),
        ("NAME", job.text("name")),
        ("USER", job.text("username")),
        ("TASKS", job.text("ntasks")),
        ("CORES", job.text("ncores")),
        ("NODES", job.text("nnodes")),
        ("NODELIST", job.text("nodelist")),
        ("WORKDIR", job.text("cwd")),
        ("QUEUE", job.text("queue")),
        ("SUBMITTED", moment(job, "t_submit", now)),
        ("STARTED", moment(job, "t_run", now)),
        ("ENDED", moment(job, "t_inactive", now)),
        ("RUNTIME", length(job, "runtime")),
        ("TIME LIMIT", limit(job)),
        ("REASON", reason(job)),
    ];
    rows.extend(plain.map(|(label, text)| (label, Cell::from(text))));
    let known = rows.into_iter().filter(|(_, cell)| !cell.is_empty());
    Ok(known
        .map(|(label, cell)| vec![Cell::painted(label, Paint::Bold), cell])
        .collect())
}

fn moment(job: Job<'_>, field: &str, now: u64) -> String {
    let known = job.whole(field).filter(|moment| *moment > 0);
    known.map_or_else(String::new, |moment| duration::ago(moment, now))
}

fn length(job: Job<'_>, field: &str) -> String {
    job.whole(field).map_or_else(String::new, duration::show)
}

/// The API's `duration` is the limit that was asked for; 0 is none.
fn limit(job: Job<'_>) -> String {
    let asked = job.whole("duration").filter(|seconds| *seconds > 0);
    asked.map_or_else(String::new, duration::show)
}

/// Why the job did not end by itself.
fn reason(job: Job<'_>) -> String {
    let note = job.0.get("exception").and_then(|e| e.get("note"));
    note.and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_says_the_essentials_of_a_job() {
        let object = json!({
            "id": 18_446_744_073_709_551_615_u64, "state": "INACTIVE", "result": "FAILED",
            "name": "sleep", "ntasks": 2, "ncores": 4, "t_submit": 1000.5, "runtime": 61.2,
            "returncode": 3,
        });
        let cells = row(Job(&object), 1119);
        let expected: Vec<Cell> = vec![
            "18446744073709551615".into(),
            Cell::painted("failed", Paint::Red),
            "sleep".into(),
            "2".into(),
            "4".into(),
            "1m ago".into(),
            "1m 1s".into(),
            "3".into(),
        ];
        assert_eq!(cells, expected);
        assert_eq!(cells.len(), HEADING.len());
    }

    #[test]
    fn a_row_of_a_queued_job_leaves_the_unknown_empty() {
        let object = json!({"id": 1, "state": "SCHED", "returncode": "", "runtime": ""});
        let cells = row(Job(&object), 0);
        assert!(cells.iter().skip(2).all(Cell::is_empty), "{cells:?}");
    }

    #[test]
    fn one_job_is_shown_without_the_unknown() {
        let object = json!({
            "id": 1, "state": "RUN", "name": "a", "t_submit": 90.0, "t_run": 95.0,
            "returncode": "", "duration": 0.0, "exception": {"occurred": "", "note": ""},
        });
        let rows = facts(Job(&object), 100).unwrap();
        let labels: Vec<&Cell> = rows.iter().filter_map(|row| row.first()).collect();
        let bold = |label: &str| Cell::painted(label, Paint::Bold);
        let expected = ["ID", "STATE", "NAME", "SUBMITTED", "STARTED"].map(bold);
        assert_eq!(labels, expected.iter().collect::<Vec<_>>());
    }

    #[test]
    fn an_answer_that_is_no_job_is_not_shown_as_one() {
        for other in [json!([]), json!({"data": []}), json!("x")] {
            assert!(facts(Job(&other), 0).is_err());
        }
    }

    #[test]
    fn a_list_asks_for_no_more_than_is_shown() {
        let which = |all, search: Option<&str>| Jobs {
            all,
            limit: 25,
            search: search.map(str::to_owned),
        };
        let target = |which: &Jobs| match request(which) {
            Request::Get(route, query) => format!("{route} {query:?}"),
            Request::Delete(..) | Request::Post(..) | Request::Warranted(..) => {
                panic!("a list is not posted")
            }
        };
        assert_eq!(
            target(&which(false, None)),
            r#"/v1/jobs [("details", "true"), ("listing", "true"), ("limit", "25")]"#
        );
        assert_eq!(
            target(&which(true, None)),
            r#"/v1/jobs [("details", "true"), ("listing", "true")]"#
        );
        assert_eq!(
            target(&which(false, Some("a b"))),
            r#"/v1/jobs/search [("search", "a b"), ("length", "25")]"#
        );
    }
}
