//! `warrant jobs` and `warrant info`: many jobs in a line each, or one in full.

use serde_json::Value;

use crate::args::Jobs;
use crate::client::{Client, Request, not_understood};
use crate::clock::{self, now_s};
use crate::commands::{Show, print_json, usage};
use crate::duration;
use crate::failure::Failure;
use crate::job::{Job, JobId};
use crate::table::{self, Cell, Column, Paint};
use crate::terminal::{Look, tell};

/// The columns of a list; `OWNER` only where it may be anybody's.
const COLUMNS: [Column; 9] = [
    Column::new("ID"),
    Column::new("STATE"),
    Column::new("NAME"),
    Column::new("OWNER"),
    Column::expendable("TASKS", 4),
    Column::expendable("CORES", 5),
    Column::expendable("SUBMITTED", 1),
    Column::expendable("RUNTIME", 2),
    Column::expendable("EXIT", 3),
];

/// Where the owner stands in a row.
const OWNER: usize = 3;

/// List jobs.
pub(crate) fn jobs(client: &mut Client, which: &Jobs, show: Show) -> Result<(), Failure> {
    let answer = client.answer(&request(which, show.json))?.success()?;
    if show.json {
        return print_json(&answer, show.look);
    }
    let reply = answer.json()?;
    let list = reply.get("data").and_then(Value::as_array);
    let list = list.ok_or_else(not_understood)?;
    let moments = Moments::new(show.look);
    let mut rows: Vec<_> = list.iter().map(|job| row(Job(job), moments)).collect();
    let mut columns = COLUMNS.to_vec();
    if !which.all_users {
        columns.remove(OWNER);
        rows.iter_mut().for_each(|row| drop(row.remove(OWNER)));
    }
    table::print(&columns, rows, show.look)?;
    let all = reply.get("recordsTotal").and_then(Value::as_u64);
    if let Some(rest) = rest(which, list.len() as u64, all) {
        tell(&rest);
    }
    Ok(())
}

/// What to say of the jobs that the list leaves out.
fn rest(which: &Jobs, shown: u64, all: Option<u64>) -> Option<String> {
    if which.all || shown < u64::from(which.limit) {
        return None;
    }
    match (&which.search, all?) {
        (None, all) if shown == all => None,
        (None, all) => Some(format!("{shown} of {all} jobs: --all lists the rest")),
        (Some(_), _) => Some(format!(
            "the newest {shown} that match: --all lists the rest, if there are more"
        )),
    }
}

fn request(which: &Jobs, json: bool) -> Request<'_> {
    let limit = (!which.all).then(|| which.limit.to_string());
    let mut query = vec![];
    if !which.all_users {
        query.push(("mine", "true".to_owned()));
    }
    // A search says how many there are in all. Documents are plain lists.
    if json && which.search.is_none() {
        query.push(("details", "true".to_owned()));
        query.push(("listing", "true".to_owned()));
        query.extend(limit.map(|limit| ("limit", limit)));
        return Request::Get("/v1/jobs", query);
    }
    query.extend(which.search.clone().map(|text| ("search", text)));
    query.extend(limit.map(|limit| ("length", limit)));
    Request::Get("/v1/jobs/search", query)
}

fn row(job: Job<'_>, moments: Moments) -> Vec<Cell> {
    let state = job.state();
    vec![
        job.text("id").into(),
        Cell::painted(state.word(), state.paint()),
        job.text("name").into(),
        job.text("username").into(),
        job.text("ntasks").into(),
        job.text("ncores").into(),
        moments.short(job, "t_submit").into(),
        length(job, "runtime").into(),
        job.text("returncode").into(),
    ]
}

/// How moments are written: at a distance for a person, else in full.
#[derive(Debug, Clone, Copy)]
struct Moments {
    now_s: u64,
    terminal: bool,
}

impl Moments {
    fn new(look: Look) -> Self {
        Self {
            now_s: now_s(),
            terminal: look.terminal,
        }
    }

    /// As it fits into a list.
    fn short(self, job: Job<'_>, field: &str) -> String {
        self.of(job, field, |moment| duration::ago(moment, self.now_s))
    }

    /// With its date, and its distance.
    fn full(self, job: Job<'_>, field: &str) -> String {
        self.of(job, field, |moment| {
            let ago = duration::ago(moment, self.now_s);
            format!("{} ({ago})", clock::local(moment))
        })
    }

    fn of(self, job: Job<'_>, field: &str, person: impl Fn(u64) -> String) -> String {
        match job.whole(field).filter(|moment| *moment > 0) {
            None => String::new(),
            Some(moment) if self.terminal => person(moment),
            Some(moment) => clock::utc(moment),
        }
    }
}

/// Show one job.
pub(crate) fn info(client: &mut Client, id: &JobId, show: Show) -> Result<(), Failure> {
    let route = id.route("");
    let query = vec![("details", "true".to_owned())];
    let answer = client.answer(&Request::Get(&route, query))?.success()?;
    if show.json {
        return print_json(&answer, show.look);
    }
    let object = answer.json()?;
    if object.is_null() {
        // So answer the older servers.
        return Err(Failure::Refused(format!("there is no job {id}")));
    }
    table::print_facts(facts(Job(&object), Moments::new(show.look))?, show.look)
}

/// Whatever is known about a job, a line each.
fn facts(job: Job<'_>, moments: Moments) -> Result<Vec<Vec<Cell>>, Failure> {
    let id = job.0.get("id");
    if !id.is_some_and(|id| id.is_number() || id.is_string()) {
        return Err(not_understood());
    }
    let state = job.state();
    let mut rows = vec![
        ("ID", Cell::from(job.text("id"))),
        ("STATE", Cell::painted(state.word(), state.paint())),
    ];
    let plain: [(&'static str, String); 20] = [
        ("REASON", job.reason()),
        ("EXIT", job.text("returncode")),
        ("NAME", job.text("name")),
        ("COMMAND", command(job)),
        ("OWNER", job.text("username")),
        ("DIRECTORY", job.text("cwd")),
        ("TASKS", job.text("ntasks")),
        ("CORES", job.text("ncores")),
        ("NODES", job.text("nnodes")),
        ("NODELIST", job.text("nodelist")),
        ("QUEUE", job.text("queue")),
        ("SUBMITTED", moments.full(job, "t_submit")),
        ("STARTED", moments.full(job, "t_run")),
        ("ENDED", moments.full(job, "t_inactive")),
        ("RUNTIME", length(job, "runtime")),
        ("TIME LIMIT", limit(job)),
        ("CPU TIME", usage::cpu(job)),
        ("PEAK MEMORY", usage::bytes(job, "max_rss_bytes")),
        ("OUTPUT", usage::bytes(job, "output_bytes")),
        ("OUTPUT LOST", usage::lost(job)),
    ];
    rows.extend(plain.map(|(label, text)| (label, Cell::from(text))));
    let known = rows.into_iter().filter(|(_, cell)| !cell.is_empty());
    Ok(known
        .map(|(label, cell)| vec![Cell::painted(label, Paint::Bold), cell])
        .collect())
}

/// The command as it could be typed into a shell.
fn command(job: Job<'_>) -> String {
    let words = job.0.get("command").and_then(Value::as_array);
    let words = words.into_iter().flatten().filter_map(Value::as_str);
    // A command without NUL can always be written so.
    shlex::try_join(words).unwrap_or_default()
}

fn length(job: Job<'_>, field: &str) -> String {
    job.whole(field).map_or_else(String::new, duration::show)
}

/// The API's `duration` is the limit that was asked for; 0 is none.
fn limit(job: Job<'_>) -> String {
    match job.whole("duration") {
        None => String::new(),
        Some(0) => "none".to_owned(),
        Some(seconds) => duration::show(seconds),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PERSON: Moments = Moments {
        now_s: 1119,
        terminal: true,
    };
    const PROGRAM: Moments = Moments {
        now_s: 1119,
        terminal: false,
    };

    #[test]
    fn a_row_says_the_essentials_of_a_job() {
        let object = json!({
            "id": 18_446_744_073_709_551_615_u64, "state": "INACTIVE", "result": "FAILED",
            "name": "sleep", "ntasks": 2, "ncores": 4, "t_submit": 1000.5, "runtime": 61.2,
            "returncode": 3, "username": "ann",
        });
        let cells = row(Job(&object), PERSON);
        let expected: Vec<Cell> = vec![
            "18446744073709551615".into(),
            Cell::painted("failed", Paint::Red),
            "sleep".into(),
            "ann".into(),
            "2".into(),
            "4".into(),
            "1m ago".into(),
            "1m 1s".into(),
            "3".into(),
        ];
        assert_eq!(cells, expected);
        assert_eq!(cells.len(), COLUMNS.len());
        let piped = row(Job(&object), PROGRAM);
        assert!(piped.contains(&"1970-01-01T00:16:40Z".into()), "{piped:?}");
    }

    #[test]
    fn a_row_of_a_queued_job_leaves_the_unknown_empty() {
        let object = json!({"id": 1, "state": "SCHED", "returncode": "", "runtime": ""});
        let cells = row(Job(&object), PERSON);
        assert!(cells.iter().skip(2).all(Cell::is_empty), "{cells:?}");
    }

    #[test]
    fn one_job_is_shown_without_the_unknown() {
        let object = json!({
            "id": 1, "state": "RUN", "name": "a", "t_submit": 90.0, "t_run": 95.0,
            "returncode": "", "duration": 0.0, "exception": {"occurred": "", "note": ""},
        });
        let rows = facts(Job(&object), PROGRAM).unwrap();
        let labels: Vec<&Cell> = rows.iter().filter_map(|row| row.first()).collect();
        let bold = |label: &str| Cell::painted(label, Paint::Bold);
        let expected = ["ID", "STATE", "NAME", "SUBMITTED", "STARTED", "TIME LIMIT"].map(bold);
        assert_eq!(labels, expected.iter().collect::<Vec<_>>());
    }

    #[test]
    fn an_answer_that_is_no_job_is_not_shown_as_one() {
        for other in [json!([]), json!({"data": []}), json!("x")] {
            assert!(facts(Job(&other), PERSON).is_err());
        }
    }

    fn which(all: bool, search: Option<&str>, all_users: bool) -> Jobs {
        Jobs {
            all,
            limit: 25,
            search: search.map(str::to_owned),
            all_users,
        }
    }

    #[test]
    fn a_list_asks_for_no_more_than_is_shown() {
        let target = |which: &Jobs, json| match request(which, json) {
            Request::Get(route, query) => format!("{route} {query:?}"),
            Request::Delete(..) | Request::Post(..) | Request::Submit(..) => {
                panic!("a list is not posted")
            }
        };
        assert_eq!(
            target(&which(false, None, false), false),
            r#"/v1/jobs/search [("mine", "true"), ("length", "25")]"#
        );
        assert_eq!(
            target(&which(true, None, true), true),
            r#"/v1/jobs [("details", "true"), ("listing", "true")]"#
        );
        assert_eq!(
            target(&which(false, Some("a b"), false), true),
            r#"/v1/jobs/search [("mine", "true"), ("search", "a b"), ("length", "25")]"#
        );
    }

    #[test]
    fn a_list_that_is_cut_says_so() {
        let cut = which(false, None, false);
        let said = rest(&cut, 25, Some(37)).unwrap();
        assert!(said.starts_with("25 of 37 jobs"), "{said}");
        assert_eq!(rest(&cut, 25, Some(25)), None);
        assert_eq!(rest(&cut, 3, Some(3)), None);
        assert_eq!(rest(&which(true, None, false), 37, Some(37)), None);
        assert!(rest(&which(false, Some("x"), false), 25, Some(37)).is_some());
    }
}
