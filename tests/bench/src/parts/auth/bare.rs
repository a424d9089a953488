//! The calls that tokens cannot do without, and the whole judgement of a
//! token, by themselves.

use std::time::{Duration, Instant};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use warrant_api::token::{ACCESS_TOKEN_TYPE, AccessClaims, BROKER_AUDIENCE};

use super::Bench;
use crate::bare::{argon2id, fdatasync};
use crate::house::House;
use crate::load::{Latencies, Run, Until};
use crate::report::{Cell, Table};

/// The longest that the judgement of a token may take.
const JUDGE_AIM: Duration = Duration::from_micros(100);
/// As many bytes as an answer with a token has.
const ANSWER: usize = 700;

/// What was measured beside the product.
#[derive(Debug)]
pub(super) struct Bare {
    /// How many asked at once.
    pub(super) asking: [usize; 2],
    cost: String,
    /// One hash after another.
    pub(super) hash: Run,
    /// As many at a time as there are cores.
    pub(super) hashes: Run,
    sign: Latencies,
    verify: Latencies,
    judge: Latencies,
    echo: Vec<Run>,
    /// An append and its flush.
    pub(super) flush: Latencies,
}

impl Bare {
    /// Measure all of it; `stored` is the hash that names the cost in force.
    ///
    /// Errors: a call fails.
    pub(super) async fn measure(
        bench: &Bench,
        house: &House,
        stored: &str,
    ) -> anyhow::Result<Self> {
        let (count, cores) = (bench.sizes.hashes, bench.machine.cores);
        let hash = |threads| {
            let stored = stored.to_owned();
            tokio::task::spawn_blocking(move || argon2id(&stored, count, threads))
        };
        let mut echo = Vec::new();
        for connections in bench.sizes.asking {
            let until = Until {
                count: bench.sizes.submits,
                time: bench.sizes.load,
            };
            echo.push(bench.echo.ask("POST", ANSWER, connections, until).await?);
        }
        let (sign, verify) = signatures(&house.door.token, bench.sizes.submits)?;
        Ok(Self {
            asking: bench.sizes.asking,
            cost: stored.split('$').nth(3).unwrap_or_default().to_owned(),
            hash: hash(1).await??,
            hashes: hash(cores).await??,
            sign,
            verify,
            judge: judgements(&house.door.token, bench.sizes.submits)?,
            echo,
            flush: fdatasync(&bench.site.dir, bench.sizes.spawns, bench.sizes.load)?,
        })
    }

    /// The answers of the server that does nothing, for the `at`th number of
    /// connections.
    pub(super) fn echo(&self, at: usize) -> Run {
        self.echo.get(at).cloned().unwrap_or_default()
    }

    /// All of it as a table.
    pub(super) fn table(&self, on: &str) -> Table {
        let title = format!("auth, by themselves, beside {on}");
        let mut table = Table::new("auth", title, &["call", "p50 µs", "p99 µs", "per s", "aim"]);
        let us = |time: Duration| Cell::number(time.as_secs_f64() * 1e6, "");
        let mut row = |what: String, took: &Latencies, rate: Cell, aim: Cell| {
            table.row([Cell::text(what), us(took.p50()), us(took.p99()), rate, aim]);
        };
        let rate = |run: &Run| Cell::rate(run.per_second());
        let no = Cell::none;
        let hash = format!("argon2id, {}", self.cost);
        row(hash, &self.hash.latencies, rate(&self.hash), no());
        let many = "argon2id, on every core".to_owned();
        row(many, &self.hashes.latencies, rate(&self.hashes), no());
        row("Ed25519, sign".into(), &self.sign, no(), no());
        row("Ed25519, verify".into(), &self.verify, no(), no());
        row(
            "judge a token".into(),
            &self.judge,
            no(),
            Cell::within(self.judge.p99(), JUDGE_AIM),
        );
        for (echo, connections) in self.echo.iter().zip(self.asking) {
            let what = format!("echo, {connections} at a time");
            row(what, &echo.latencies, rate(echo), no());
        }
        row("append 4 KiB, fdatasync".into(), &self.flush, no(), no());
        table
    }
}

fn timed(count: usize, mut call: impl FnMut() -> bool) -> anyhow::Result<Latencies> {
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        anyhow::ensure!(call(), "a signature that is good does not count");
        took.push(began.elapsed());
    }
    Ok(Latencies::new(took))
}

/// Sign and verify as many bytes as a token has.
fn signatures(token: &str, count: usize) -> anyhow::Result<(Latencies, Latencies)> {
    let key = SigningKey::from_bytes(&[7; 32]);
    let message = token.rsplit_once('.').context("no token")?.0.as_bytes();
    let public = key.verifying_key();
    let signature = key.sign(message);
    let sign = timed(count, || key.sign(message) == signature)?;
    let verify = timed(count, || public.verify_strict(message, &signature).is_ok())?;
    Ok((sign, verify))
}

/// All that the broker does with a token that it has not seen before, in the
/// same steps: its digest, its header, its signature, its claims. Signed anew
/// with a key of this process.
fn judgements(token: &str, count: usize) -> anyhow::Result<Latencies> {
    let key = SigningKey::from_bytes(&[7; 32]);
    let claims = token.split('.').nth(1).context("no token")?;
    let header = json!({"alg": "EdDSA", "typ": ACCESS_TOKEN_TYPE, "kid": "bench"});
    let message = format!("{}.{claims}", URL_SAFE_NO_PAD.encode(header.to_string()));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()).to_bytes());
    let token = format!("{message}.{signature}");
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
    let issuer = claims
        .get("iss")
        .and_then(Value::as_str)
        .context("no iss")?;
    let x = URL_SAFE_NO_PAD.encode(key.verifying_key().to_bytes());
    let key = DecodingKey::from_ed_components(&x)?;
    timed(count, || {
        std::hint::black_box(Sha256::digest(&token));
        let Ok(header) = jsonwebtoken::decode_header(&token) else {
            return false;
        };
        let mut rules = Validation::new(Algorithm::EdDSA);
        rules.set_audience(&[BROKER_AUDIENCE]);
        rules.set_issuer(&[issuer]);
        rules.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        header.kid.is_some() && jsonwebtoken::decode::<AccessClaims>(&token, &key, &rules).is_ok()
    })
}
