//! A thousand logins at once: what they cost in memory, and what each is told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::task::JoinSet;

use super::Bench;
use crate::door::PASSWORD;
use crate::house::{House, SUPERUSER};
use crate::http::{self, Connection};
use crate::load::Latencies;
use crate::parts::memory;
use crate::report::{Cell, Table};

/// Hashes at once. Source: the default of `passwords.parallel`.
const PARALLEL: f64 = 2.0;
/// What they may take besides the memory of the hashes, in MiB: their
/// connections, requests and answers.
const BESIDES_MIB: f64 = 16.0;
/// How often to look how much memory is taken.
const LOOK: Duration = Duration::from_millis(2);

/// Log in on many connections at once, with the right password.
///
/// Errors: a connection breaks, or takes too long.
pub(super) async fn measure(
    bench: &Bench,
    house: &House,
    stored: &str,
    on: &str,
) -> anyhow::Result<Table> {
    let logins = bench.sizes.logins;
    let (_, id) = house
        .process_ids()
        .into_iter()
        .find(|(name, _)| *name == "authsvc")
        .context("no auth service")?;
    let hash_mib = hash_mib(stored).context("the stored password hash cannot be read")?;
    let plain = [("username", SUPERUSER), ("password", PASSWORD)];
    let request = http::form("/v1/login/access-token", &plain);
    let mut open = Vec::with_capacity(logins);
    for _ in 0..logins {
        open.push(Connection::open(house.door.address).await?);
    }
    let idle = memory::resident(id)?.rss;
    let began = Instant::now();
    let mut asking = JoinSet::new();
    for mut connection in open {
        let request = request.clone();
        asking.spawn(async move {
            let status = connection.exchange(&request).await?.status;
            anyhow::Ok((status, began.elapsed()))
        });
    }
    let mut peak = idle;
    let mut told: BTreeMap<u16, Vec<Duration>> = BTreeMap::new();
    let mut pause = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            answer = asking.join_next() => match answer {
                Some(answer) => {
                    let (status, after) = answer??;
                    told.entry(status).or_default().push(after);
                }
                None => break,
            },
            _ = pause.tick() => peak = peak.max(memory::rss(id)?),
        }
    }
    let took = began.elapsed();
    let columns = ["what", "figure", "unit", "last after s", "aim"];
    let mut table = Table::new("auth", format!("{logins} logins at once, {on}"), &columns);
    for (status, after) in told {
        let count = after.len();
        let last = Latencies::new(after).most();
        table.row([
            Cell::text(format!("answered {status}")),
            Cell::number(count as f64, ""),
            Cell::text("logins"),
            Cell::number(last.as_secs_f64(), ""),
            if [200, 429, 503].contains(&status) {
                Cell::none()
            } else {
                Cell::aim("200, 429 or 503".to_owned(), false)
            },
        ]);
    }
    table.row([
        Cell::text("until all are answered"),
        Cell::number(took.as_secs_f64(), ""),
        Cell::text("s"),
        Cell::none(),
        Cell::none(),
    ]);
    let bound = PARALLEL * hash_mib + BESIDES_MIB;
    let more = peak - idle;
    table.row([
        Cell::text("authsvc before, Rss"),
        Cell::number(idle, ""),
        Cell::text("MiB"),
        Cell::none(),
        Cell::none(),
    ]);
    table.row([
        Cell::text("authsvc at most, Rss more than that"),
        Cell::number(more, ""),
        Cell::text("MiB"),
        Cell::none(),
        Cell::aim(
            format!("≤ {PARALLEL} × {hash_mib} + {BESIDES_MIB} MiB"),
            more <= bound,
        ),
    ]);
    Ok(table)
}

/// The memory of one hash, in MiB, as a hash in PHC form says it.
fn hash_mib(stored: &str) -> Option<f64> {
    let cost = stored.split('$').nth(3)?;
    let kib: f64 = cost.split(',').next()?.strip_prefix("m=")?.parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_hash_is_read_from_it() {
        let stored = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA";
        assert_eq!(hash_mib(stored), Some(19.0));
        assert_eq!(hash_mib("$2b$12$abc"), None);
    }
}
