//! The payload of a warrant, and the account names in it.

use serde::Deserialize;
use warrant_wire::Claims;
use warrant_wire::account::is_name;
use warrant_wire::warrant::hex;

use crate::Target;
use crate::meter;

pub(crate) const TARGET: Target = Target {
    name: "claims",
    run,
    seeds,
    words: WORDS,
};

pub(super) const WORDS: &[&str] = &[
    "\"",
    "\\",
    "\\u0061",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "-1",
    "1e3",
    ".0",
    "NaN",
    "\"uid\":0",
    ",\"uid\":",
    "\"sub\":\"root\"",
    "\"aud\":[\"local\",\"other\"]",
    "\"exp\":",
    "job_sha256",
    "job_sha1",
    "job_md5",
    "а",
    "ａ",
];

/// The claims as any JSON reader sees them.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AnyReader {
    iss: String,
    aud: String,
    sub: String,
    uid: u32,
    job_sha256: String,
    jti: String,
    iat: u64,
    nbf: u64,
    exp: u64,
}

impl From<&Claims> for AnyReader {
    fn from(claims: &Claims) -> Self {
        Self {
            iss: claims.iss.clone(),
            aud: claims.aud.clone(),
            sub: claims.sub.clone(),
            uid: claims.uid,
            job_sha256: hex(&claims.job_sha256),
            jti: hex(&claims.jti),
            iat: claims.iat,
            nbf: claims.nbf,
            exp: claims.exp,
        }
    }
}

fn run(input: &[u8]) {
    check_name(input);
    let (claims, peak) = meter::peak(|| Claims::decode(input));
    meter::assert_modest(peak, input);
    let Ok(claims) = claims else { return };
    let again = claims.encode().unwrap();
    assert_eq!(again.as_bytes(), input, "the claims have two forms");
    let other: AnyReader = serde_json::from_slice(input).expect("JSON readers read it too");
    assert_eq!(other, AnyReader::from(&claims));
    for text in [&claims.iss, &claims.aud] {
        assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    }
    check_name(claims.sub.as_bytes());
}

/// A name that passes is safe in every place where names are ever written.
fn check_name(input: &[u8]) {
    let Ok(name) = std::str::from_utf8(input) else {
        return;
    };
    if is_name(name) {
        assert!((1..=255).contains(&name.len()));
        assert!(!name.bytes().any(|byte| b"/:,\0\r\n\x1b".contains(&byte)));
        assert!(!name.starts_with('-') && name != "." && name != "..");
    }
}

pub(super) fn good() -> Claims {
    Claims {
        iss: "warrant".into(),
        aud: "local".into(),
        sub: "alice".into(),
        uid: 1001,
        job_sha256: [0xab; 32],
        jti: [0x0f; 16],
        iat: 1_760_000_000,
        nbf: 1_760_000_000,
        exp: 1_760_000_060,
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let largest = Claims {
        iss: "~".repeat(255),
        aud: "https://jobs.example.org/shim?of=node-1".into(),
        sub: "_a-b.c9".into(),
        uid: u32::MAX,
        iat: u64::MAX,
        nbf: 0,
        exp: u64::MAX,
        ..good()
    };
    let payloads = [good(), largest].map(|claims| claims.encode().unwrap().into_bytes());
    let names = ["alice", "_a-b.c9", "0day", "a.", "../../x"].map(Into::into);
    payloads.into_iter().chain(names).collect()
}
