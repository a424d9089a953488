//! From submitting a job to reading what it writes, and how many jobs run in
//! a second.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::Bench;
use crate::bare;
use crate::door::{Door, job_id};
use crate::http::{self, Connection};
use crate::load::{self, Latencies, Until};
use crate::process::LOOK;
use crate::report::{Cell, Table};

const PATIENCE: Duration = Duration::from_secs(120);
const SUBMITTERS: usize = 8;

/// What is measured, and what it should come to.
#[derive(Debug, Clone)]
pub(crate) struct Starts {
    /// The part of the benchmark.
    pub(crate) part: &'static str,
    /// For people.
    pub(crate) title: String,
    /// Until the output of `true` ends, the p50 at most.
    pub(crate) visible_aim: Option<Duration>,
    /// Jobs of `true` per second, at least.
    pub(crate) rate_aim: Option<f64>,
}

/// Measure where nothing runs.
pub(crate) async fn measure(bench: &Bench, door: &Door, what: Starts) -> anyhow::Result<Table> {
    let mut table = Table::new(
        what.part,
        what.title,
        &[
            "start", "p50 ms", "p99 ms", "per s", "bare", "bare is", "ratio", "aim",
        ],
    );
    let cores = bench.machine.cores;
    let spawns = bench.sizes.spawns;
    let one = tokio::task::spawn_blocking(move || bare::spawn(spawns, 1)).await??;
    let all = tokio::task::spawn_blocking(move || bare::spawn(spawns, cores)).await??;
    let bare = one.latencies.p50();

    for (title, command, visible) in [
        ("true, until its output ends", "true", Visible::End),
        ("echo x, until its first byte", "echo+x", Visible::FirstByte),
    ] {
        let took = one_after_another(bench.sizes.starts, door, command, visible).await?;
        table.row([
            Cell::text(title),
            Cell::ms(took.p50()),
            Cell::ms(took.p99()),
            Cell::none(),
            Cell::ms(bare),
            Cell::text("spawn and wait, p50 ms"),
            Cell::ratio(took.p50().as_secs_f64(), bare.as_secs_f64()),
            match (visible, what.visible_aim) {
                (Visible::End, Some(aim)) => Cell::within(took.p50(), aim),
                (Visible::End, None) | (Visible::FirstByte, _) => Cell::none(),
            },
        ]);
    }

    let per_second = burst(bench.sizes.burst, door).await?;
    table.row([
        Cell::text(format!("{} jobs of true at once", bench.sizes.burst)),
        Cell::none(),
        Cell::none(),
        Cell::rate(per_second),
        Cell::rate(all.per_second()),
        Cell::text(format!("spawn and wait, {cores} at a time, per s")),
        Cell::ratio(all.per_second(), per_second),
        what.rate_aim
            .map_or_else(Cell::none, |aim| Cell::at_least(per_second, aim)),
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
    door: &Door,
    command: &str,
    visible: Visible,
) -> anyhow::Result<Latencies> {
    let path = format!("/v1/jobs/submit?command={command}");
    let submit = http::request("POST", &path, Some(&door.token));
    let mut connection = Connection::open(door.address).await?;
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        let id = job_id(&connection.ask_json(&submit).await?)?;
        let path = format!("/v1/jobs/{id}/output/stream");
        let follow = http::request("GET", &path, Some(&door.token));
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
async fn burst(count: usize, door: &Door) -> anyhow::Result<f64> {
    let submit = http::request("POST", "/v1/jobs/submit?command=true", Some(&door.token));
    let began = Instant::now();
    let until = Until {
        count,
        time: PATIENCE,
    };
    load::ask(door.address, vec![submit], SUBMITTERS, until).await?;
    let path = format!("/v1/jobs?details=true&listing=true&limit={count}");
    let newest = http::request("GET", &path, Some(&door.token));
    let last = http::request(
        "GET",
        "/v1/jobs?details=true&listing=true&limit=1",
        Some(&door.token),
    );
    let mut connection = Connection::open(door.address).await?;
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
