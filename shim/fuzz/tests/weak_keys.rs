//! Public keys for which everybody can sign.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use warrant_shim::keys::Keys;
use warrant_shim::policy::Policy;
use warrant_shim::warrant::{authentic, sha256};
use warrant_wire::Claims;
use warrant_wire::warrant::header;

/// The points of small order, as far as they have one byte that is not zero,
/// among them a file of zeros. Source: RFC 8032, 5.1.
const ZEROS: [u8; 32] = [0; 32];
const NEUTRAL: [u8; 32] = {
    let mut point = ZEROS;
    point[0] = 1;
    point
};

fn line(key: [u8; 32]) -> String {
    format!("k1 {}\n", URL_SAFE_NO_PAD.encode(key))
}

/// Signs for anybody, without a secret: with the neutral element as the
/// public key, S = 0 and R = the neutral element hold for each message.
fn forge(claims: &Claims) -> String {
    let signature = [NEUTRAL, ZEROS].concat();
    [
        URL_SAFE_NO_PAD.encode(header("k1")),
        URL_SAFE_NO_PAD.encode(claims.encode().unwrap()),
        URL_SAFE_NO_PAD.encode(signature),
    ]
    .join(".")
}

#[test]
fn t26_a_key_that_everybody_can_sign_for_is_refused_or_signs_nothing() {
    let launch = b"launch";
    for key in [ZEROS, NEUTRAL] {
        let mut keys = Keys::default();
        if keys.add(line(key).as_bytes()).is_err() {
            continue;
        }
        // With a point of order four, one message in four is enough.
        for number in 0..64 {
            let claims = Claims {
                iss: "warrant".into(),
                aud: "local".into(),
                sub: "alice".into(),
                uid: 1001,
                job_sha256: sha256(launch),
                jti: [number; 16],
                iat: 1_760_000_000,
                nbf: 1_760_000_000,
                exp: 1_760_000_060,
            };
            let forged = forge(&claims);
            let verdict = authentic(
                forged.as_bytes(),
                &sha256(launch),
                &keys,
                &Policy::default(),
            );
            assert!(verdict.is_err(), "a forged warrant passed: {forged}");
        }
    }
}
