//! Lists, search and single jobs in stores of several sizes, for a superuser
//! who sees all jobs and for a user who has one in a hundred.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::Bench;
use crate::fill::{ABSENT, COMMON, ORDINARY, PIECES, RARE};
use crate::house::House;
use crate::http;
use crate::load::{self, Until};
use crate::report::{Cell, Table};

const LIST_AIM: Duration = Duration::from_millis(5);
const SEARCH_AIM: Duration = Duration::from_millis(20);
/// Jobs looked at one by one.
const SINGLE: i64 = 300;

struct Page {
    what: String,
    requests: Vec<Vec<u8>>,
    /// How many jobs an answer holds.
    holds: RangeInclusive<usize>,
    /// For the p99.
    aim: Duration,
}

/// Measure pages of `house`, in whose store are `jobs` jobs.
pub(crate) async fn measure(
    bench: &Bench,
    house: &House,
    ordinary: &str,
    jobs: i64,
    on: &str,
) -> anyhow::Result<Table> {
    let mut table = Table::new(
        "list",
        format!("list, {on}, {jobs} jobs"),
        &[
            "page",
            "p50 ms",
            "p99 ms",
            "KiB",
            "bare p50 ms",
            "ratio",
            "aim",
        ],
    );
    let until = Until {
        count: bench.sizes.pages,
        time: bench.sizes.page_time,
    };
    for page in pages(jobs, &house.door.token, ordinary) {
        let bytes = weigh(house, &page).await?;
        let echoed = bench.echo.ask("GET", bytes, 1, until).await?;
        let run = load::ask(house.door.address, page.requests, 1, until).await?;
        let (p50, p99) = (run.latencies.p50(), run.latencies.p99());
        let bare = echoed.latencies.p50();
        // The aims are for the largest store, and so for every smaller one.
        table.row([
            Cell::text(page.what),
            Cell::ms(p50),
            Cell::ms(p99),
            Cell::number(bytes as f64 / 1024.0, ""),
            Cell::ms(bare),
            Cell::ratio(p50.as_secs_f64(), bare.as_secs_f64()),
            Cell::within(p99, page.aim),
        ]);
    }
    Ok(table)
}

/// The bytes of a page's answer; a bare server sends as many.
///
/// Errors: the page holds more or fewer jobs than it should.
async fn weigh(house: &House, page: &Page) -> anyhow::Result<usize> {
    let mut connection = http::Connection::open(house.door.address).await?;
    let request = page.requests.first().context("nothing to ask")?;
    let body = connection.ask(request).await?.body;
    let answer: Value = serde_json::from_slice(body)?;
    let listed = answer.get("data").unwrap_or(&answer).as_array();
    let held = listed.map_or(1, Vec::len);
    ensure!(
        page.holds.contains(&held),
        "{}: {held} jobs, not {:?}",
        page.what,
        page.holds
    );
    Ok(body.len())
}

fn pages(jobs: i64, superuser: &str, ordinary: &str) -> Vec<Page> {
    let page = |what: &str, path: &str, token: &str, aim, holds| Page {
        what: what.to_owned(),
        requests: vec![http::request("GET", path, Some(token))],
        holds,
        aim,
    };
    let list = |limit: u32| format!("/v1/jobs?details=true&listing=true&limit={limit}");
    let from = |start: i64| format!("/v1/jobs/search?start={start}&length=25");
    let find = |text: &str| format!("/v1/jobs/search?start=0&length=25&query={text}");
    let (middle, end) = (jobs / 2, jobs - 25);
    // What few have is on no full page of a small store.
    let (full, few, none) = (25..=25, 5..=25, 0..=0);
    let mut pages = Vec::new();
    for (what, path, holds) in [
        ("newest 25", list(25), full.clone()),
        ("newest 100", list(100), 100..=100),
        ("25 from the start", from(0), full.clone()),
        ("25 from the middle", from(middle), full.clone()),
        ("25 from the end", from(end), full.clone()),
    ] {
        pages.push(page(what, &path, superuser, LIST_AIM, holds));
    }
    pages.push(Page {
        what: "one job".into(),
        requests: (0..SINGLE)
            .map(|n| format!("/v1/jobs/{}", n * 7_368_787 % jobs + 1))
            .map(|path| http::request("GET", &path, Some(superuser)))
            .collect(),
        holds: 1..=1,
        aim: LIST_AIM,
    });
    let deep = format!("/v1/jobs/search?start={middle}&length=25&query={COMMON}");
    for (what, path, holds) in [
        ("in every job", find(COMMON), full.clone()),
        ("in every job, from the middle", deep, full.clone()),
        ("in one job", find(RARE), 1..=1),
        ("in none", find(ABSENT), none.clone()),
        ("in none, its pieces in many", find(PIECES), none.clone()),
        ("two letters, in many", find("py"), full.clone()),
        ("two letters, in none", find("zq"), none.clone()),
        ("a state of few", find("timeout"), few.clone()),
        ("a state of most", find("completed"), full),
    ] {
        let what = format!("search: {what}");
        pages.push(page(&what, &path, superuser, SEARCH_AIM, holds));
    }
    for (what, path, aim, holds) in [
        ("newest 25", list(25), LIST_AIM, few.clone()),
        (
            "25 from the middle",
            from(jobs / 200),
            LIST_AIM,
            few.clone(),
        ),
        (
            "search: in every job",
            find(COMMON),
            SEARCH_AIM,
            few.clone(),
        ),
        (
            "search: in many, none of the own",
            find("user07"),
            SEARCH_AIM,
            none.clone(),
        ),
        ("search: in one of another's", find(RARE), SEARCH_AIM, none),
        (
            "search: a state of most",
            find("completed"),
            SEARCH_AIM,
            few,
        ),
    ] {
        let what = format!("{ORDINARY}: {what}");
        pages.push(page(&what, &path, ordinary, aim, holds));
    }
    pages
}
