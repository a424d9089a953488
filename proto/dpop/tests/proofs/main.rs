//! What is taken for a proof of possession, and what is not. The numbers are
//! those of the attack tests in `docs/THREATS.md`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails and says why"
)]

mod attacks;
mod published;
mod random;
mod seen;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};
use warrant_dpop::{At, Proof, Refused, Wanted, check};

const NOW_S: u64 = 1_800_000_000;
const TOKEN: &str = "an.access.token";
const URL: &str = "https://jobs.example.org/v1/jobs";

/// A key of the test's own, apart from what the crate makes.
fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn header() -> Value {
    let x = URL_SAFE_NO_PAD.encode(key().verifying_key().as_bytes());
    json!({"typ": "dpop+jwt", "alg": "EdDSA", "jwk": {"kty": "OKP", "crv": "Ed25519", "x": x}})
}

fn claims() -> Value {
    json!({
        "jti": "one", "htm": "GET", "htu": URL, "iat": NOW_S,
        "ath": warrant_dpop::token_hash(TOKEN),
    })
}

fn sign_text(header: &str, claims: &str) -> String {
    let message = [header, claims]
        .map(|part| URL_SAFE_NO_PAD.encode(part))
        .join(".");
    let signature = key().sign(message.as_bytes()).to_bytes();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn sign(header: &Value, claims: &Value) -> String {
    sign_text(&header.to_string(), &claims.to_string())
}

/// What `proof` is for `GET` of [`URL`] with [`TOKEN`], at `now_s`.
fn judged_at(proof: &str, now_s: u64) -> Result<Proof, Refused> {
    let at = At::parse(URL).unwrap();
    let wanted = Wanted {
        method: "GET",
        at: &at,
        token: Some(TOKEN),
        now_s,
    };
    check([proof.as_bytes()], &wanted).map(|proof| proof.expect("a proof was shown"))
}

fn judged(proof: &str) -> Result<Proof, Refused> {
    judged_at(proof, NOW_S)
}
