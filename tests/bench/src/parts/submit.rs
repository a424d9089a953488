//! Submitting: durable, authenticated, and into a queue that only fills,
//! because one job holds the machine.

use std::time::Duration;

use super::Bench;
use crate::bare;
use crate::door::Door;
use crate::http;
use crate::load::{self, Until};
use crate::report::{Cell, Table};

const CONNECTIONS: [usize; 3] = [1, 8, 32];
/// What an answer to a submission weighs.
const ANSWER_BYTES: usize = 36;

/// What is measured, and what it should come to.
#[derive(Debug, Clone)]
pub(crate) struct Submits {
    /// The part of the benchmark.
    pub(crate) part: &'static str,
    /// For people.
    pub(crate) title: String,
    /// How often the disk must be waited for, one time after another.
    pub(crate) flushes: u32,
    /// One after another, the p50 at most.
    pub(crate) p50_aim: Duration,
    /// Over 32 connections, so many per second at least.
    pub(crate) rate_aim: f64,
}

/// Measure submitting where the machine is held.
pub(crate) async fn measure(bench: &Bench, door: &Door, what: Submits) -> anyhow::Result<Table> {
    let submit = http::request("POST", "/v1/jobs/submit?command=true", Some(&door.token));
    let mut table = Table::new(
        what.part,
        what.title,
        &[
            "submit", "p50 ms", "p99 ms", "per s", "bare", "bare is", "ratio", "aim",
        ],
    );

    let sequence = Until {
        count: bench.sizes.submits,
        time: Duration::from_secs(60),
    };
    let echoed = bench.echo.ask("POST", ANSWER_BYTES, 1, sequence).await?;
    let run = load::ask(door.address, vec![submit.clone()], 1, sequence).await?;
    let p50 = run.latencies.p50();
    let (dir, count) = (bench.site.dir.clone(), bench.sizes.submits);
    let flush = move || bare::fdatasync(&dir, count, Duration::from_secs(10));
    let flushed = tokio::task::spawn_blocking(flush).await??;
    let bare = echoed.latencies.p50() + what.flushes * flushed.p50();
    table.row([
        Cell::text(format!("{} one after another", run.latencies.count())),
        Cell::ms(p50),
        Cell::ms(run.latencies.p99()),
        Cell::rate(run.per_second()),
        Cell::ms(bare),
        Cell::text(match what.flushes {
            1 => "echo + fdatasync, p50 ms".to_owned(),
            several => format!("echo + {several} fdatasync, p50 ms"),
        }),
        Cell::ratio(p50.as_secs_f64(), bare.as_secs_f64()),
        Cell::within(p50, what.p50_aim),
    ]);

    for connections in CONNECTIONS {
        let until = Until::time(bench.sizes.load);
        let echoed = bench.echo.ask("POST", ANSWER_BYTES, connections, until);
        let echoed = echoed.await?.per_second();
        let run = load::ask(door.address, vec![submit.clone()], connections, until).await?;
        table.row([
            Cell::text(connected(connections)),
            Cell::ms(run.latencies.p50()),
            Cell::ms(run.latencies.p99()),
            Cell::rate(run.per_second()),
            Cell::rate(echoed),
            Cell::text("echo, per s"),
            Cell::ratio(echoed, run.per_second()),
            if connections == 32 {
                Cell::at_least(run.per_second(), what.rate_aim)
            } else {
                Cell::none()
            },
        ]);
    }
    Ok(table)
}

/// As people say it.
pub(super) fn connected(connections: usize) -> String {
    match connections {
        1 => "1 connection".into(),
        several => format!("{several} connections"),
    }
}

/// The heaviest load of [`measure`] alone.
pub(crate) async fn load(bench: &Bench, door: &Door) -> anyhow::Result<()> {
    let submit = http::request("POST", "/v1/jobs/submit?command=true", Some(&door.token));
    let until = Until::time(bench.sizes.load);
    load::ask(door.address, vec![submit], 32, until).await?;
    Ok(())
}
