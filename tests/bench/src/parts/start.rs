//! From submitting a job to reading what it writes, and how many jobs run in
//! a second.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::Bench;
use crate::bare;
use crate::house::{House, job_id};
use crate::http::{self, Connection};
use crate::load::{self, Latencies, Until};
use crate::process::LOOK;
use crate::report::{Cell, Table};

const PATIENCE: Duration = Duration::from_secs(120);
const VISIBLE_AIM: Duration = Duration::from_millis(10);
const RATE_AIM: f64 = 600.0;
const SUBMITTERS: usize = 8;

/// Measure `house`, on which nothing runs.
pub(crate) async fn measure(bench: &Bench, house: &House, on: &str) -> anyhow::Result<Table> {
    let mut table = Table::new(
        "start",
        format!("start, {on}"),
        &[
            "start", "p50 ms", "p99 ms", "per s", "bare", "bare is", "ratio", "aim",
        ],
    );
    let cores = bench.machine.cores;
    let spawns = bench.sizes.spawns;
    let one = tokio::task::spawn_blocking(move || bare::spawn(spawns, 1)).await??;
    let all = tokio::task::spawn_blocking(move || bare::spawn(spawns, cores)).await??;
    let bare = one.latencies.p50();

    for (what, command, visible) in [
        ("true, until its output ends", "true", Visible::End),
        ("echo x, until its first byte", "echo+x", Visible::FirstByte),
    ] {
        let took = one_after_another(bench.sizes.starts, house, command, visible).await?;
        table.row([
            Cell::text(what),
            Cell::ms(took.p50()),
            Cell::ms(took.p99()),
            Cell::none(),
            Cell::ms(bare),
            Cell::text("spawn and wait, p50 ms"),
            Cell::ratio(took.p50().as_secs_f64(), bare.as_secs_f64()),
            match visible {
                Visible::End => Cell::within(took.p50(), VISIBLE_AIM),
                Visible::FirstByte => Cell::none(),
            },
        ]);
    }

    let per_second = burst(bench.sizes.burst, house).await?;
    table.row([
        Cell::text(format!("{} jobs of true at once", bench.sizes.burst)),
        Cell::none(),
        Cell::none(),
        Cell::rate(per_second),
        Cell::rate(all.per_second()),
        Cell::text(format!("spawn and wait, {cores} at a time, per s")),
        Cell::ratio(all.per_second(), per_second),
        Cell::at_least(per_second, RATE_AIM),
    ]);
    Ok(table)
}

/// What of its output is waited for.
#[derive(Debug, Clone, Copy)]
enum Visible {
    FirstByte,
    End,
}

async fn one_after_another(
    count: usize,
    house: &House,
    command: &str,
    visible: Visible,
) -> anyhow::Result<Latencies> {
    let path = format!("/v1/jobs/submit?command={command}");
    let submit = http::request("POST", &path, Some(&house.token));
    let mut connection = Connection::open(house.address).await?;
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        let id = job_id(&connection.ask_json(&submit).await?)?;
        let path = format!("/v1/jobs/{id}/output/stream");
        let follow = http::request("GET", &path, Some(&house.token));
        let answer = connection.ask(&follow).await?;
        let seen = match visible {
            Visible::FirstByte => answer.first_byte.context("the job wrote nothing")?,
            Visible::End => Instant::now(),
        };
        took.push(seen - began);
    }
    Ok(Latencies::new(took))
}

/// Submit `count` jobs as fast as can be, and wait until all are over;
/// returns how many that is per second.
async fn burst(count: usize, house: &House) -> anyhow::Result<f64> {
    let submit = http::request("POST", "/v1/jobs/submit?command=true", Some(&house.token));
    let began = Instant::now();
    let until = Until {
        count,
        time: PATIENCE,
    };
    load::ask(house.address, vec![submit], SUBMITTERS, until).await?;
    let path = format!("/v1/jobs?details=true&listing=true&limit={count}");
    let newest = http::request("GET", &path, Some(&house.token));
    let last = http::request(
        "GET",
        "/v1/jobs?details=true&listing=true&limit=1",
        Some(&house.token),
    );
    let mut connection = Connection::open(house.address).await?;
    loop {
        // The newest job starts last; the others are looked at once it is over.
        if all_over(&connection.ask_json(&last).await?) {
            let seen = began.elapsed();
            if all_over(&connection.ask_json(&newest).await?) {
                return Ok(count as f64 / seen.as_secs_f64());
            }
        }
        ensure!(began.elapsed() < PATIENCE, "jobs of true do not end");
        tokio::time::sleep(5 * LOOK).await;
    }
}

fn all_over(jobs: &Value) -> bool {
    let over = |job: &Value| job.get("state").is_some_and(|state| state == "INACTIVE");
    jobs.as_array().is_some_and(|jobs| jobs.iter().all(over))
}
