//! Warrants, as they come from a broker that lies.
//!
//! The first byte says what the rest is: `w` a warrant; `s` a header, a line
//! feed and a payload, which are signed with the right key; `e` a row of
//! choices that edit a good warrant.

use std::sync::LazyLock;

use arbitrary::{Result, Unstructured};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use warrant_shim::keys::Keys;
use warrant_shim::policy::Policy;
use warrant_shim::warrant::{authentic, in_time, sha256, within_policy};
use warrant_wire::account::{MAX_UID, MIN_UID, is_name, is_person};
use warrant_wire::warrant::header;
use warrant_wire::{Claims, Refusal};

use super::claims::{self, AnyReader};
use super::launch;
use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "warrant",
    run,
    seeds,
    words: &[
        ".",
        "=",
        "==",
        "\n",
        "A",
        "_",
        "-",
        "\"alg\":\"none\"",
        "\"alg\":\"HS256\"",
        "\"crit\":[\"exp\"],",
        "\"b64\":false,",
        "\"typ\":\"at+jwt\"",
        "\"kid\":\"k2\"",
        "\"kid\":",
        "\"uid\":0",
        "\"sub\":\"root\"",
        "\"exp\":",
        "1760000060",
        "\\u0061",
        ",",
    ],
};

const NOW_S: u64 = 1_760_000_000;
const KIDS: [&str; 2] = ["k1", "k2"];

struct Fixture {
    keys: Keys,
    policy: Policy,
    launch: Vec<u8>,
    sha256: [u8; 32],
}

static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let mut keys = Keys::default();
    for kid in KIDS {
        let key = URL_SAFE_NO_PAD.encode(key(kid).verifying_key());
        keys.add(format!("{kid} {key}\n").as_bytes()).unwrap();
    }
    let launch = launch::good().encode().unwrap();
    Fixture {
        keys,
        policy: Policy::default(),
        sha256: sha256(&launch),
        launch,
    }
});

fn key(kid: &str) -> SigningKey {
    let number = u8::from(kid == KIDS[1]) + 1;
    SigningKey::from_bytes(&[number; 32])
}

/// What an auth service would sign, or one that is broken.
fn sign(kid: &str, header: &[u8], payload: &[u8]) -> Vec<u8> {
    let [header, payload] = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part));
    let signed = format!("{header}.{payload}");
    let signature = key(kid).sign(signed.as_bytes()).to_bytes();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)).into_bytes()
}

fn good() -> Claims {
    Claims {
        job_sha256: FIXTURE.sha256,
        ..claims::good()
    }
}

fn run(input: &[u8]) {
    let Some(warrant) = warrant(input) else {
        return;
    };
    let verdict = judge(&warrant);
    // Whatever is signed in the one form and within all bounds must pass.
    if let [b's', rest @ ..] = input
        && let Some(payload) = rest.strip_prefix(format!("{}\n", header(KIDS[0])).as_bytes())
        && let Ok(claims) = Claims::decode(payload)
        && warrant.len() <= 2048
    {
        assert_eq!(verdict.is_ok(), is_within_bounds(&claims), "{claims:?}");
    }
    let Ok(claims) = verdict else { return };
    assert!(is_within_bounds(&claims), "{claims:?}");
    // There is one form, and only who has the key can write it.
    let payload = claims.encode().unwrap();
    let forms = KIDS.map(|kid| sign(kid, header(kid).as_bytes(), payload.as_bytes()));
    let at = forms.iter().position(|form| *form == warrant);
    let at = at.expect("what passes is what the auth service would write");
    // A reader that is not ours takes it, and for the same.
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.validate_exp = false;
    validation.set_audience(&[&FIXTURE.policy.audience]);
    validation.set_issuer(&[&FIXTURE.policy.issuer]);
    let public = DecodingKey::from_ed_der(key(KIDS[at]).verifying_key().as_bytes());
    let other = jsonwebtoken::decode::<AnyReader>(&warrant, &public, &validation).unwrap();
    assert_eq!(other.claims, AnyReader::from(&claims));
    assert_eq!(other.header.typ.as_deref(), Some("warrant+jwt"));
    assert_eq!(other.header.kid.as_deref(), Some(KIDS[at]));
}

fn judge(warrant: &[u8]) -> std::result::Result<Claims, Refusal> {
    let Fixture {
        keys,
        policy,
        launch,
        ..
    } = &*FIXTURE;
    let claims = authentic(warrant, &sha256(launch), keys, policy)?;
    in_time(&claims, NOW_S)?;
    within_policy(&claims, launch, policy)?;
    Ok(claims)
}

fn is_within_bounds(claims: &Claims) -> bool {
    claims.iss == "warrant"
        && claims.aud == "local"
        && is_name(&claims.sub)
        && is_person(claims.uid, &(MIN_UID..=MAX_UID))
        && claims.job_sha256 == FIXTURE.sha256
        && claims.iat <= claims.exp
        && claims.exp - claims.iat <= 60
        && claims.iat <= NOW_S + 5
        && claims.nbf <= NOW_S + 5
        && claims.nbf <= claims.exp
        && NOW_S < claims.exp
}

/// The warrant that an input stands for.
fn warrant(input: &[u8]) -> Option<Vec<u8>> {
    let (kind, rest) = input.split_first()?;
    match kind {
        b'w' => Some(rest.to_vec()),
        b's' => {
            let at = rest.iter().position(|byte| *byte == b'\n')?;
            Some(sign(KIDS[0], &rest[..at], &rest[at + 1..]))
        }
        b'e' => edited(&mut Unstructured::new(rest)).ok(),
        _ => None,
    }
}

/// A good warrant after a few edits of each of its parts.
fn edited(choices: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let (kid, named) = (choices.choose(&KIDS)?, choices.choose(&KIDS)?);
    let mut header = header(named).into_bytes();
    let mut payload = good().encode().unwrap().into_bytes();
    if choices.ratio(1, 4)? {
        edit(choices, &mut header)?;
    }
    if choices.ratio(1, 2)? {
        edit(choices, &mut payload)?;
    }
    let mut warrant = sign(kid, &header, &payload);
    for _ in 0..choices.int_in_range(0..=3)? {
        edit(choices, &mut warrant)?;
    }
    Ok(warrant)
}

fn edit(choices: &mut Unstructured<'_>, text: &mut Vec<u8>) -> Result<()> {
    let at = choices.int_in_range(0..=text.len())?;
    // The end is where padding, unused bits and the signature are.
    let at = match choices.ratio(1, 4)? {
        true => text.len().saturating_sub(at % 4),
        false => at,
    };
    let byte: u8 = choices.arbitrary()?;
    match choices.int_in_range(0..=6)? {
        0 => text.insert(at, byte),
        1 => text.insert(at, *choices.choose(b".=-_+/A")?),
        2 if at < text.len() => drop(text.remove(at)),
        3 => text.truncate(at),
        4 if at < text.len() => text[at] ^= 1 << (byte % 8),
        5 => text.extend(b"="),
        _ if at < text.len() => text[at] = byte,
        _ => text.push(byte),
    }
    Ok(())
}

/// One attack, by its number in the list of them.
pub struct Attack {
    /// The number.
    pub number: u32,
    /// The warrant.
    pub warrant: Vec<u8>,
    input: Vec<u8>,
}

impl Attack {
    /// Whether the shim refuses it.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        judge(&self.warrant).is_err()
    }
}

/// The attacks on warrants: each must be refused.
#[must_use]
pub fn attacks() -> Vec<Attack> {
    let good = good().encode().unwrap();
    let head = header(KIDS[0]);
    let whole = String::from_utf8(sign(KIDS[0], head.as_bytes(), good.as_bytes())).unwrap();
    let (signed, signature) = whole.rsplit_once('.').unwrap();
    let (first, rest) = whole.split_once('.').unwrap();
    let is_in = |text: &str, part: &str| assert!(text.contains(part), "{part}");
    let headed = |part: &str, by: &str| {
        is_in(&head, part);
        format!("s{}\n{good}", head.replacen(part, by, 1))
    };
    let claimed = |part: &str, by: &str| {
        is_in(&good, part);
        format!("s{head}\n{}", good.replacen(part, by, 1))
    };
    let hash = warrant_wire::warrant::hex(&FIXTURE.sha256);
    let mut attacks = vec![
        (11, format!("w{signed}.")),
        (11, format!("w{signed}")),
        (11, format!("w{signed}.{}", URL_SAFE_NO_PAD.encode([0; 64]))),
        (11, format!("w{signed}.{signature}=")),
        (11, format!("w{signed}.{signature}.{signature}")),
        (11, format!("w.{rest}")),
        (11, format!("w{first}=.{rest}")),
        (14, headed("\"kid\":\"k1\",", "")),
        (14, headed("k1", &"k".repeat(8192))),
        (17, claimed("\"local\"", "[\"local\",\"other\"]")),
        (17, claimed("\"local\"", "\"other\"")),
        (17, claimed("\"iss\":\"warrant\"", "\"iss\":\"warrant/\"")),
        (17, claimed("\"iss\":\"warrant\"", "\"iss\":\"Warrant\"")),
        (19, claimed("1760000060", "1760000061")),
        (19, claimed("1760000060", "18446744073709551615")),
        (24, claimed(&hash, &hash.to_uppercase())),
        (24, claimed(&hash, &hash[..62])),
        (24, claimed(&hash, &format!("{hash}00"))),
        (24, claimed(&format!(",\"job_sha256\":\"{hash}\""), "")),
        (25, claimed("\"uid\":1001", "\"uid\":1001,\"uid\":1002")),
        (25, claimed("}", ",\"user\":\"bob\"}")),
    ];
    for alg in ["none", "NONE", "HS256", "Ed25519", ""] {
        let with_alg = |alg: &str| headed("EdDSA", alg);
        attacks.push((11, with_alg(alg)));
        let unsigned =
            [&head.replace("EdDSA", alg), &good].map(|part| URL_SAFE_NO_PAD.encode(part));
        attacks.push((11, format!("w{}.", unsigned.join("."))));
    }
    for more in [
        "\"alg\":\"none\"",
        "\"crit\":[\"exp\"]",
        "\"b64\":false",
        "\"zip\":\"DEF\"",
        "\"jku\":\"https://evil.example/\"",
        "\"jwk\":{}",
        "\"x5u\":\"file:///etc/passwd\"",
        "\"x5c\":[]",
    ] {
        attacks.push((13, headed("{", &format!("{{{more},"))));
        attacks.push((13, headed("}", &format!(",{more}}}"))));
    }
    attacks.push((13, headed("\"EdDSA\"", "[\"EdDSA\"]")));
    for kid in [
        "k3",
        "K1",
        "",
        "../../etc/passwd",
        "' OR 1=1",
        "k1\\u0000",
        "k1\u{0}",
        "k2",
    ] {
        attacks.push((14, headed("k1", kid)));
    }
    for typ in [
        "at+jwt",
        "rt+jwt",
        "JWT",
        "WARRANT+JWT",
        "application/warrant+jwt",
    ] {
        attacks.push((16, headed("warrant+jwt", typ)));
    }
    for name in ["job_sha1", "job_md5", "JOB_SHA256", "job_sha512"] {
        attacks.push((24, claimed("job_sha256", name)));
    }
    for uid in [
        "-1",
        "0",
        "4294967296",
        "4294967295",
        "\"1001\"",
        "1001.0",
        "1e3",
        "01001",
    ] {
        attacks.push((25, claimed("1001", uid)));
    }
    attacks
        .into_iter()
        .map(|(number, input)| Attack {
            number,
            warrant: warrant(input.as_bytes()).unwrap(),
            input: input.into_bytes(),
        })
        .collect()
}

fn seeds() -> Vec<Vec<u8>> {
    let head = header(KIDS[0]);
    let payload = good().encode().unwrap();
    let whole = sign(KIDS[0], head.as_bytes(), payload.as_bytes());
    let attacks = attacks().into_iter().map(|attack| attack.input);
    // Good ones are as many as the attacks.
    attacks
        .flat_map(|attack| [attack, format!("s{head}\n{payload}").into_bytes()])
        .chain([[b"w", whole.as_slice()].concat()])
        .chain(
            crate::mutation::random_inputs(60, 60)
                .into_iter()
                .map(|choices| [b"e", choices.as_slice()].concat()),
        )
        .collect()
}
