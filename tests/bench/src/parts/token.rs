//! Exchanging a login for a token. Nearly all of it is one password hash,
//! which is meant to cost something.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use super::Bench;
use super::submit::connected;
use crate::bare;
use crate::door::PASSWORD;
use crate::house::{House, SECRET, SUPERUSER};
use crate::http;
use crate::load::{self, Until};
use crate::report::{Cell, Table};

const CONNECTIONS: [usize; 2] = [1, 8];

/// Measure the token endpoint of `house`.
pub(crate) async fn measure(bench: &Bench, house: &House, on: &str) -> anyhow::Result<Table> {
    let mut table = Table::new(
        "token",
        format!("token, {on}"),
        &[
            "token", "p50 ms", "p99 ms", "per s", "bare", "bare is", "ratio",
        ],
    );
    let stored = house.stored_hash().await?;
    let (hashes, cores) = (bench.sizes.hashes, bench.machine.cores);
    let hash = move |threads| {
        let stored = stored.clone();
        tokio::task::spawn_blocking(move || bare::argon2id(&stored, hashes, threads))
    };
    let one = hash(1).await??;
    let all = hash(cores).await??;

    let login = json!({"user": SUPERUSER, "pass": PASSWORD, "scope": "token"});
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let payload = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &login, &key)?;
    let request = http::request("POST", "/v1/token", Some(&payload));
    for connections in CONNECTIONS {
        let until = Until::time(bench.sizes.load);
        let run = load::ask(
            house.door.address,
            vec![request.clone()],
            connections,
            until,
        )
        .await?;
        let p50 = run.latencies.p50();
        let single = connections == 1;
        table.row([
            Cell::text(connected(connections)),
            Cell::ms(p50),
            Cell::ms(run.latencies.p99()),
            Cell::rate(run.per_second()),
            if single {
                Cell::ms(one.latencies.p50())
            } else {
                Cell::rate(all.per_second())
            },
            if single {
                Cell::text("argon2id, p50 ms")
            } else {
                Cell::text(format!("argon2id, {cores} at a time, per s"))
            },
            if single {
                Cell::ratio(p50.as_secs_f64(), one.latencies.p50().as_secs_f64())
            } else {
                Cell::ratio(all.per_second(), run.per_second())
            },
        ]);
    }
    Ok(table)
}
