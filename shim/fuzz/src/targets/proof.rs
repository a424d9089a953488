//! Proofs of possession (DPoP), which both services read from anybody.
//!
//! The first byte says what the rest is: `p` a proof; `s` a header, a line feed
//! and claims, which are signed with the key of the header; `a` an address.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer, SigningKey};
use serde_json::{Value, json};
use warrant_dpop::{
    ALGORITHMS, At, Draft, Key, LONGEST, LONGEST_ID, Proof, Refused, Seen, Sight, WINDOW_S, Wanted,
    check, token_hash,
};

use crate::Target;
use crate::meter;

pub(crate) const TARGET: Target = Target {
    name: "proof",
    run,
    seeds,
    words: &[
        ".",
        "=",
        "\n",
        "null",
        "1e308",
        "-0.0",
        "\"typ\":\"dpop+jwt\",",
        "\"typ\":\"JWT\"",
        "\"alg\":\"none\"",
        "\"alg\":\"HS256\"",
        "\"alg\":\"ES256\"",
        "\"crit\":[\"exp\"],",
        "\"d\":null,",
        "\"k\":\"\",",
        "\"kty\":\"EC\"",
        "\"crv\":\"P-256\"",
        "\"nbf\":",
        "\"exp\":",
        "\"iat\":",
        "\"jti\":\"\"",
        "\"htm\":\"GET\"",
        "\\u0041",
        "%2e%2e/",
        "https://",
        ":443",
        "[::1]",
        "@",
        "?",
    ],
};

const NOW_S: u64 = 1_760_000_000;
const METHOD: &str = "POST";
const URL: &str = "https://jobs.example.org/v1/jobs/submit";
const TOKEN: &str = "header.claims.signature";
const SEED: [u8; 32] = [7; 32];

static AT: LazyLock<At> = LazyLock::new(|| At::parse(URL).unwrap());

fn wanted(token: Option<&str>) -> Wanted<'_> {
    Wanted {
        method: METHOD,
        at: &AT,
        token,
        now_s: NOW_S,
    }
}

fn header() -> String {
    let x = URL_SAFE_NO_PAD.encode(SigningKey::from_bytes(&SEED).verifying_key());
    json!({"typ": "dpop+jwt", "alg": "EdDSA", "jwk": {"kty": "OKP", "crv": "Ed25519", "x": x}})
        .to_string()
}

fn claims() -> String {
    json!({
        "jti": "an id", "htm": METHOD, "htu": URL, "iat": NOW_S, "ath": token_hash(TOKEN),
        "nonce": "n",
    })
    .to_string()
}

fn sign(header: &[u8], claims: &[u8]) -> Vec<u8> {
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    let message = format!("{header}.{claims}");
    let signature = SigningKey::from_bytes(&SEED).sign(message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes())).into_bytes()
}

fn run(input: &[u8]) {
    match input {
        [b'a', text @ ..] => check_address(text),
        [b'p', proof @ ..] => judge(proof),
        [b's', rest @ ..] => {
            let mut parts = rest.splitn(2, |byte| *byte == b'\n');
            let (Some(header), Some(claims)) = (parts.next(), parts.next()) else {
                return;
            };
            judge(&sign(header, claims));
        }
        _ => {}
    }
}

/// Whatever passes is what it must be, by the eyes of a reader of any JSON.
fn judge(proof: &[u8]) {
    for token in [Some(TOKEN), None] {
        let wanted = wanted(token);
        let (verdict, peak) = meter::peak(|| check([proof], &wanted));
        meter::assert_modest(peak, proof);
        assert_eq!(verdict, check([proof], &wanted), "it depends on the day");
        assert_eq!(check([proof, proof], &wanted), Err(Refused::Twice));
        if let Ok(passed) = verdict {
            judge_passed(proof, &passed.unwrap(), token);
        }
    }
}

fn judge_passed(proof: &[u8], passed: &Proof, token: Option<&str>) {
    assert!(proof.len() <= LONGEST);
    let text = std::str::from_utf8(proof).unwrap();
    let parts: Vec<_> = text.split('.').collect();
    let &[first, second, third] = parts.as_slice() else {
        panic!("a proof of {} parts", parts.len());
    };
    let [header, claims, signature] =
        [first, second, third].map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
    let header: Value = serde_json::from_slice(&header).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(header["typ"], "dpop+jwt");
    let alg = header["alg"].as_str().unwrap();
    assert!(ALGORITHMS.contains(&alg) && header.get("crit").is_none());
    for secret in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        assert!(header["jwk"].get(secret).is_none(), "a key with {secret}");
    }
    // Nobody can make one for another key than their own, and ours is all that
    // is signed with here.
    let key = SigningKey::from_bytes(&SEED).verifying_key();
    let signature = Signature::from_slice(&signature).unwrap();
    let message = format!("{first}.{second}");
    key.verify_strict(message.as_bytes(), &signature).unwrap();
    assert_eq!(passed.jkt(), Key::from_seed(&SEED).thumbprint());

    let jti = claims["jti"].as_str().unwrap();
    assert!((1..=LONGEST_ID).contains(&jti.len()));
    assert_eq!(claims["htm"], METHOD);
    let at = At::parse(claims["htu"].as_str().unwrap()).unwrap();
    assert_eq!(at.to_string(), URL);
    let (iat, now_s) = (claims["iat"].as_f64().unwrap(), NOW_S as f64);
    assert!((iat - now_s).abs() <= WINDOW_S as f64);
    if let Some(token) = token {
        assert_eq!(claims["ath"], token_hash(token));
    }
    assert_eq!(passed.nonce(), claims["nonce"].as_str());
    assert!(passed.ends_s() > NOW_S && passed.ends_s() <= NOW_S + 2 * WINDOW_S + 1);
    let seen = Seen::new(4, 16);
    assert_eq!(seen.see("ann", passed, NOW_S), Sight::First);
    assert_eq!(seen.see("ann", passed, NOW_S), Sight::Again);
}

/// An address has one spelling, without what a request's address has not.
fn check_address(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let (at, peak) = meter::peak(|| At::parse(text));
    meter::assert_modest(peak, input);
    let Some(at) = at else { return };
    let plain = at.to_string();
    assert!(plain.starts_with("http://") || plain.starts_with("https://"));
    assert!(plain.bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(!plain.contains(['?', '#', '@', '\\']) || plain.contains('@') && !has_user(&plain));
    let again = At::parse(&plain);
    assert_eq!(again.as_ref(), Some(&at), "{text} has two spellings");
}

/// Whether there is somebody's name before the host.
fn has_user(plain: &str) -> bool {
    let authority = plain.split('/').nth(2).unwrap_or_default();
    authority.contains('@')
}

fn seeds() -> Vec<Vec<u8>> {
    let key = Key::from_seed(&SEED);
    let made = |token, nonce| {
        key.proof(&Draft {
            method: METHOD,
            url: URL,
            token,
            nonce,
            id: "an id",
            now_s: NOW_S,
        })
    };
    let own = sign(header().as_bytes(), claims().as_bytes());
    assert!(check([&*own], &wanted(Some(TOKEN))).is_ok(), "a good seed");
    let proofs = [made(Some(TOKEN), Some("n")), made(None, None)];
    let mut all: Vec<Vec<u8>> = proofs
        .iter()
        .map(|proof| format!("p{proof}").into_bytes())
        .collect();
    all.push(format!("s{}\n{}", header(), claims()).into_bytes());
    let addresses = [
        URL,
        "HTTP://A.test:0080/a/%2e%2E/%c3%a9//x?y#z",
        "http://[FE80::A]:5000",
    ];
    all.extend(addresses.map(|url| format!("a{url}").into_bytes()));
    all
}
