//! The auth service, and what stands on it at the broker: every way to a
//! token, what is asked about tokens, and many logins at once. The broker
//! hands on what it is asked, as it does for everybody.

mod bare;
mod crowd;

use anyhow::Context;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::{Bench, memory};
use crate::door::PASSWORD;
use crate::house::{Database, House, SECRET, SUPERUSER};
use crate::http::{self, Connection};
use crate::load::{self, Run, Until};
use crate::report::{Cell, Table};
use bare::Bare;

/// The client that acts by itself.
const CLIENT: &str = "robot";
/// Tokens that the broker has not seen before; it remembers 10,000.
const FRESH: usize = 4_000;

/// Measure all of it on one database, and show each table.
///
/// Errors: an installation cannot be had, or answers what it should not.
pub(crate) async fn measure(
    bench: &Bench,
    database: &Database,
    mut show: impl FnMut(Table),
) -> anyhow::Result<()> {
    let on = database.name();
    let house = House::open(&bench.site, database, None).await?;
    let mut resident = memory::table("auth", format!("auth memory, {on}"));
    let look = |resident: &mut Table, when: &str| {
        let mut all = house.process_ids();
        all.retain(|(name, _)| *name == "authsvc");
        memory::look(resident, &all, when, false)
    };
    look(&mut resident, "after start")?;
    let stored = house.stored_hash().await?;
    let bare = Bare::measure(bench, &house, &stored).await?;
    show(bare.table(on));
    show(ways(bench, &house, &bare, on).await?);
    look(&mut resident, "after the load")?;
    show(resident);
    house.close().await?;

    // One that has hashed nothing but its own superuser's password.
    let house = House::open(&bench.site, database, None).await?;
    show(crowd::measure(bench, &house, &stored, on).await?);
    house.close().await
}

/// What a row is compared with.
#[derive(Debug, Clone, Copy)]
enum Beside {
    /// One password hash.
    Hash,
    /// An answer, and what is written to the disk before it.
    Flush,
    /// An answer.
    Echo,
}

/// Every way to a token, and every question about one.
async fn ways(bench: &Bench, house: &House, bare: &Bare, on: &str) -> anyhow::Result<Table> {
    let columns = [
        "what", "p50 ms", "p99 ms", "per s", "bare", "bare is", "ratio",
    ];
    let mut table = Table::new("auth", format!("auth, {on}"), &columns);
    let address = house.door.address;
    let until = Until::time(bench.sizes.load);
    let secret = house.add_client(CLIENT).await?;
    let client = [("client_id", CLIENT), ("client_secret", &secret)];
    let by_itself = [&client[..], &[("grant_type", "client_credentials")]].concat();

    let login = json!({"user": SUPERUSER, "pass": PASSWORD, "scope": "token"});
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let payload = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &login, &key)?;
    let plain = [("username", SUPERUSER), ("password", PASSWORD)];
    let about = [&client[..], &[("token", house.door.token.as_str())]].concat();
    let asked = [
        (
            "login by handshake",
            http::request("POST", "/v1/token", Some(&payload)),
            Beside::Hash,
        ),
        (
            "login by password",
            http::form("/v1/login/access-token", &plain),
            Beside::Hash,
        ),
        (
            "client_credentials",
            http::form("/oauth/token", &by_itself),
            Beside::Flush,
        ),
        (
            "introspect",
            http::form("/oauth/introspect", &about),
            Beside::Echo,
        ),
        (
            "a cheap route, the same token",
            http::request("GET", "/v1/nodes", Some(&house.door.token)),
            Beside::Echo,
        ),
    ];
    for (what, request, beside) in asked {
        for (at, connections) in bench.sizes.asking.into_iter().enumerate() {
            let run = load::ask(address, vec![request.clone()], connections, until).await?;
            table.row(row(what, at, &run, bare, beside));
        }
    }
    for (at, connections) in bench.sizes.asking.into_iter().enumerate() {
        let run = refresh(house, connections, until).await?;
        table.row(row("refresh_token", at, &run, bare, Beside::Flush));
    }
    for (at, connections) in bench.sizes.asking.into_iter().enumerate() {
        let count = FRESH.min(bench.sizes.submits);
        let mut tokens = Connection::open(address).await?;
        let mut requests = Vec::with_capacity(count);
        for _ in 0..count {
            let answer = tokens
                .ask_json(&http::form("/oauth/token", &by_itself))
                .await?;
            let token = text(&answer, "access_token")?;
            requests.push(http::request("GET", "/v1/nodes", Some(token)));
        }
        let once = Until { count, ..until };
        let run = load::ask(address, requests, connections, once).await?;
        let what = "a cheap route, a new token each time";
        table.row(row(what, at, &run, bare, Beside::Echo));
    }
    Ok(table)
}

/// Use each refresh token for the next pair, in a session for each connection.
async fn refresh(house: &House, connections: usize, until: Until) -> anyhow::Result<Run> {
    let login = http::form(
        "/oauth/token",
        &[
            ("grant_type", "password"),
            ("client_id", "warrant"),
            ("username", SUPERUSER),
            ("password", PASSWORD),
        ],
    );
    let mut first = Vec::with_capacity(connections);
    let mut connection = Connection::open(house.door.address).await?;
    for _ in 0..connections {
        first.push(next(connection.ask(&login).await?.body)?);
    }
    load::chains(house.door.address, first, next, until).await
}

/// The request for the tokens that follow these.
fn next(answer: &[u8]) -> anyhow::Result<Vec<u8>> {
    let answer: Value = serde_json::from_slice(answer)?;
    let token = text(&answer, "refresh_token")?;
    let fields = [
        ("grant_type", "refresh_token"),
        ("client_id", "warrant"),
        ("refresh_token", token),
    ];
    Ok(http::form("/oauth/token", &fields))
}

fn text<'a>(answer: &'a Value, name: &str) -> anyhow::Result<&'a str> {
    let found = answer.get(name).and_then(Value::as_str);
    found.with_context(|| format!("no {name} in the answer"))
}

fn row(what: &str, at: usize, run: &Run, bare: &Bare, beside: Beside) -> [Cell; 7] {
    let connections = bare.asking.get(at).copied().unwrap_or_default();
    let p50 = run.latencies.p50();
    let (cell, is, ratio) = if connections == 1 {
        let (time, is) = match beside {
            Beside::Hash => (bare.hash.latencies.p50(), "argon2id, p50 ms"),
            Beside::Flush => (
                bare.echo(at).latencies.p50() + bare.flush.p50(),
                "echo + fdatasync, p50 ms",
            ),
            Beside::Echo => (bare.echo(at).latencies.p50(), "echo, p50 ms"),
        };
        let ratio = Cell::ratio(p50.as_secs_f64(), time.as_secs_f64());
        (Cell::ms(time), is, ratio)
    } else {
        let (rate, is) = match beside {
            Beside::Hash => (bare.hashes.per_second(), "argon2id, all cores, per s"),
            Beside::Flush | Beside::Echo => (bare.echo(at).per_second(), "echo, per s"),
        };
        let ratio = Cell::ratio(rate, run.per_second());
        (Cell::rate(rate), is, ratio)
    };
    [
        Cell::text(format!("{what}, {connections} at a time")),
        Cell::ms(p50),
        Cell::ms(run.latencies.p99()),
        Cell::rate(run.per_second()),
        cell,
        Cell::text(is),
        ratio,
    ]
}
