//! What clients that ask for output and do not read it cost: the memory of the
//! broker, and the times of others.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Bench;
use super::memory::rss;
use crate::door::{Door, job_id};
use crate::house::House;
use crate::http::{self, Connection};
use crate::load::{self, Latencies, Until};
use crate::process::LOOK;
use crate::report::{Cell, Table};

const PATIENCE: Duration = Duration::from_secs(60);
/// Readers of one user: fewer than a user may have.
const OF_USER: usize = 200;
/// Writes 5.3 MB.
const LONG: &str = "seq+1+800000";
/// MiB that the readers may cost.
const COST_AIM: f64 = 160.0;

/// Measure with as many readers as `bench` says, half of lines, half of bytes.
pub(crate) async fn measure(bench: &Bench, house: &House, on: &str) -> anyhow::Result<Table> {
    let readers = bench.sizes.readers;
    let mut table = Table::new(
        "live",
        format!("{readers} clients that do not read, {on}"),
        &["of others", "without them", "with them", "ratio", "aim"],
    );
    let address = house.door.address;
    let short = ended(address, &house.door.token, "echo+x").await?;
    let asks = [
        ("one job", format!("/v1/jobs/{short}")),
        ("a short output", format!("/v1/jobs/{short}/output")),
        ("a short stream", format!("/v1/jobs/{short}/output/stream")),
    ];
    let before = times(bench, &house.door, &asks).await?;
    let broker = house.process_ids();
    let broker = broker.first().context("there is no broker")?.1;
    let memory = rss(broker)?;

    let mut unread = Vec::with_capacity(readers);
    for number in 0..readers.div_ceil(OF_USER) {
        let token = house.add_user(&format!("reader{number}")).await?;
        let job = ended(address, &token, LONG).await?;
        for reader in 0..OF_USER.min(readers - unread.len()) {
            let stream = if reader % 2 == 0 { "" } else { "/stream" };
            let path = format!("/v1/jobs/{job}/output{stream}");
            unread.push(stalled(address, &http::request("GET", &path, Some(&token))).await?);
        }
    }
    let after = times(bench, &house.door, &asks).await?;
    let cost = rss(broker)? - memory;
    drop(unread);
    for ((what, _), (before, after)) in asks.iter().zip(before.iter().zip(&after)) {
        for (name, of) in [
            ("p50 ms", Latencies::p50 as fn(&Latencies) -> Duration),
            ("p99 ms", Latencies::p99),
        ] {
            let (before, after) = (of(before), of(after));
            table.row([
                Cell::text(format!("{what}, {name}")),
                Cell::ms(before),
                Cell::ms(after),
                Cell::ratio(after.as_secs_f64(), before.as_secs_f64()),
                Cell::none(),
            ]);
        }
    }
    table.row([
        Cell::text("broker, Rss MiB"),
        Cell::number(memory, ""),
        Cell::number(memory + cost, ""),
        Cell::ratio(memory + cost, memory),
        Cell::aim(format!("< {COST_AIM} MiB more"), cost < COST_AIM),
    ]);
    Ok(table)
}

async fn times(
    bench: &Bench,
    door: &Door,
    asks: &[(&str, String)],
) -> anyhow::Result<Vec<Latencies>> {
    let until = Until {
        count: bench.sizes.pages,
        time: bench.sizes.page_time,
    };
    let mut took = Vec::new();
    for (_, path) in asks {
        let request = http::request("GET", path, Some(&door.token));
        let run = load::ask(door.address, vec![request], 1, until).await?;
        took.push(run.latencies);
    }
    Ok(took)
}

/// A job that has ended.
async fn ended(address: SocketAddr, token: &str, command: &str) -> anyhow::Result<i64> {
    let mut connection = Connection::open(address).await?;
    let path = format!("/v1/jobs/submit?command={command}");
    let submit = http::request("POST", &path, Some(token));
    let id = job_id(&connection.ask_json(&submit).await?)?;
    let look = http::request("GET", &format!("/v1/jobs/{id}"), Some(token));
    let deadline = Instant::now() + PATIENCE;
    while connection.ask_json(&look).await?.get("result") != Some(&"COMPLETED".into()) {
        ensure!(Instant::now() < deadline, "{command} does not end well");
        tokio::time::sleep(LOOK).await;
    }
    Ok(id)
}

/// A connection whose response has begun, and is not read.
async fn stalled(address: SocketAddr, request: &[u8]) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request).await?;
    let mut begun = [0; 600];
    let read = stream.read_exact(&mut begun);
    tokio::time::timeout(PATIENCE, read).await??;
    ensure!(
        begun.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&begun)
    );
    Ok(stream)
}
