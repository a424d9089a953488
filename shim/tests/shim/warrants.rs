//! Warrants and the keys that they are judged by.

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use ring::signature::{Ed25519KeyPair, KeyPair};
use warrant_shim::keys::Keys;
use warrant_shim::policy::Policy;
use warrant_shim::warrant::{authentic, in_time, sha256, within_policy};
use warrant_wire::warrant::header;
use warrant_wire::{Claims, Launch, Limits, Refusal};

const NOW: u64 = 1_760_000_000;

fn launch() -> Vec<u8> {
    let launch = Launch {
        limits: Limits {
            processes: 1,
            time_limit_s: 0,
            grace_ms: 0,
            output_cap_bytes: 0,
            memory_bytes: 0,
        },
        argv: vec![b"true".to_vec()],
        env: Vec::new(),
        workdir: None,
        stdout: None,
        stderr: None,
        default_workdir: None,
    };
    launch.encode().unwrap()
}

fn claims() -> Claims {
    Claims {
        iss: "warrant".into(),
        aud: "local".into(),
        sub: "alice".into(),
        uid: 1001,
        job_sha256: sha256(&launch()),
        jti: [7; 16],
        iat: NOW,
        nbf: NOW,
        exp: NOW + 60,
    }
}

fn key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap()
}

fn keys() -> Keys {
    let mut keys = Keys::default();
    keys.add(line("k1", &key()).as_bytes()).unwrap();
    keys
}

fn line(kid: &str, key: &Ed25519KeyPair) -> String {
    format!("{kid} {}\n", URL_SAFE_NO_PAD.encode(key.public_key()))
}

/// Signs any header and payload, as a broken issuer would.
fn sign(header: &str, payload: &str) -> String {
    let signed = [header, payload]
        .map(|part| URL_SAFE_NO_PAD.encode(part))
        .join(".");
    let signature = URL_SAFE_NO_PAD.encode(key().sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn good() -> String {
    warrant(&claims())
}

fn warrant(claims: &Claims) -> String {
    sign(&header("k1"), &claims.encode().unwrap())
}

/// Judges a warrant as the monitor does.
fn verify(
    warrant: &[u8],
    launch: &[u8],
    now_s: u64,
    keys: &Keys,
    policy: &Policy,
) -> Result<Claims, Refusal> {
    let claims = authentic(warrant, &sha256(launch), keys, policy)?;
    in_time(&claims, now_s)?;
    within_policy(&claims, launch, policy)?;
    Ok(claims)
}

fn judge(warrant: &str, now_s: u64) -> Result<Claims, Refusal> {
    let policy = Policy::default();
    verify(warrant.as_bytes(), &launch(), now_s, &keys(), &policy)
}

#[track_caller]
fn refuse(warrant: &str, refusal: Refusal) {
    assert_eq!(judge(warrant, NOW), Err(refusal), "{warrant}");
}

#[test]
fn a_good_warrant_is_good() {
    assert_eq!(judge(&good(), NOW), Ok(claims()));
}

#[test]
fn t11_without_a_signature_there_is_no_warrant() {
    let payload = claims().encode().unwrap();
    for alg in ["none", "NONE", "None", "HS256", "ES256", "Ed25519", ""] {
        let head = format!(r#"{{"alg":"{alg}","kid":"k1","typ":"warrant+jwt"}}"#);
        refuse(&sign(&head, &payload), Refusal::KeyUnknown);
        let [head, payload] = [&head, &payload].map(|part| URL_SAFE_NO_PAD.encode(part));
        refuse(&format!("{head}.{payload}."), Refusal::KeyUnknown);
    }
    let good = good();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    refuse(&format!("{signed}."), Refusal::Signature);
    refuse(signed, Refusal::WarrantMalformed);
    refuse(
        &format!("{signed}.{}", &signature[..84]),
        Refusal::Signature,
    );
    let zero = URL_SAFE_NO_PAD.encode([0; 64]);
    refuse(&format!("{signed}.{zero}"), Refusal::Signature);
    for text in ["", ".", "..", "...", "a.b", "a.b.c", "\u{0}"] {
        assert!(judge(text, NOW).is_err(), "{text:?}");
    }
    assert_eq!(
        verify(&[0xff; 100], &launch(), NOW, &keys(), &Policy::default()),
        Err(Refusal::WarrantMalformed)
    );
}

#[test]
fn t11_changing_any_one_character_breaks_it() {
    let good = good();
    for at in 0..good.len() {
        for other in *b"AQgw_-.=z" {
            let mut bytes = good.clone().into_bytes();
            if bytes[at] != other {
                bytes[at] = other;
                let verdict = verify(&bytes, &launch(), NOW, &keys(), &Policy::default());
                assert!(verdict.is_err(), "{at}");
            }
        }
    }
    for end in 0..good.len() {
        assert!(judge(&good[..end], NOW).is_err());
    }
}

#[test]
fn t13_no_other_header_is_looked_into() {
    let payload = claims().encode().unwrap();
    for head in [
        r#"{"alg":["EdDSA"],"kid":"k1","typ":"warrant+jwt"}"#,
        r#"{"alg":"none","alg":"EdDSA","kid":"k1","typ":"warrant+jwt"}"#,
        r#"{"alg":"EdDSA","kid":"k1","typ":"warrant+jwt","crit":["exp"]}"#,
        r#"{"alg":"EdDSA","b64":false,"kid":"k1","typ":"warrant+jwt"}"#,
        r#"{"alg":"EdDSA","kid":"k1","typ":"warrant+jwt","zip":"DEF"}"#,
        r#"{"alg":"EdDSA","jku":"https://evil.example/keys","kid":"k1","typ":"warrant+jwt"}"#,
        r#"{"alg":"EdDSA","jwk":{},"kid":"k1","typ":"warrant+jwt"}"#,
        r#"{"alg":"EdDSA","kid":"k1","typ":"warrant+jwt","x5u":"file:///etc/passwd"}"#,
        r#"{"alg":"EdDSA","kid":"k1","typ":"warrant+jwt","x5c":[]}"#,
        r#"{"alg":"EdDSA","typ":"warrant+jwt","kid":"k1"}"#,
        r#"{"alg": "EdDSA","kid":"k1","typ":"warrant+jwt"}"#,
        r#"{"alg":"EdDSA","kid":"k1","typ":"warrant+jwt"} "#,
        r#"{"alg":"EdDSA","kid":"\u006b1","typ":"warrant+jwt"}"#,
        "{}",
        "",
    ] {
        refuse(&sign(head, &payload), Refusal::KeyUnknown);
    }
    let good = good();
    let (head, rest) = good.split_once('.').unwrap();
    refuse(&format!("{head}=.{rest}"), Refusal::KeyUnknown);
}

#[test]
fn t14_an_unknown_key_id_is_not_looked_for_anywhere() {
    let payload = claims().encode().unwrap();
    let long = "k".repeat(8192);
    for kid in [
        "k2",
        "K1",
        "",
        "../../etc/passwd",
        "' OR 1=1",
        "k1\0",
        &long,
    ] {
        let token = sign(&header(kid), &payload);
        let expected = match token.len() {
            0..=2048 => Refusal::KeyUnknown,
            _ => Refusal::WarrantMalformed,
        };
        refuse(&token, expected);
    }
    refuse(
        &sign(r#"{"alg":"EdDSA","typ":"warrant+jwt"}"#, &payload),
        Refusal::KeyUnknown,
    );
}

#[test]
fn t14_a_key_signs_for_its_own_id_only() {
    let other = Ed25519KeyPair::from_seed_unchecked(&[2; 32]).unwrap();
    let mut keys = keys();
    keys.add(line("k2", &other).as_bytes()).unwrap();
    let verify =
        |token: String| verify(token.as_bytes(), &launch(), NOW, &keys, &Policy::default());
    assert_eq!(
        verify(sign(&header("k2"), &claims().encode().unwrap())),
        Err(Refusal::Signature)
    );
    assert!(verify(good()).is_ok());
}

#[test]
fn t16_other_tokens_of_the_auth_service_are_no_warrants() {
    let payload = claims().encode().unwrap();
    for typ in [
        "at+jwt",
        "JWT",
        "rt+jwt",
        "id+jwt",
        "WARRANT+JWT",
        "application/warrant+jwt",
    ] {
        let head = format!(r#"{{"alg":"EdDSA","kid":"k1","typ":"{typ}"}}"#);
        refuse(&sign(&head, &payload), Refusal::KeyUnknown);
    }
    // Nor does the right type make another token one.
    let access = r#"{"iss":"warrant","sub":"alice","aud":"warrant-broker","exp":1760000060,"iat":1760000000,"jti":"x","scope":"user"}"#;
    refuse(&sign(&header("k1"), access), Refusal::WarrantMalformed);
    let broker = Claims {
        aud: "warrant-broker".into(),
        ..claims()
    };
    refuse(&warrant(&broker), Refusal::Audience);
}

#[test]
fn t17_issuer_and_audience_are_compared_byte_for_byte() {
    for aud in ["node-2", "Local", "local ", "local/", "loca", "locall"] {
        let aud = aud.into();
        refuse(&warrant(&Claims { aud, ..claims() }), Refusal::Audience);
    }
    for iss in ["warrant/", "Warrant", "https://warrant"] {
        let iss = iss.into();
        refuse(&warrant(&Claims { iss, ..claims() }), Refusal::Issuer);
    }
    let payload = claims().encode().unwrap();
    for aud in [r#"["local"]"#, r#"["local","other"]"#, "null"] {
        let payload = payload.replace(r#""local""#, aud);
        refuse(&sign(&header("k1"), &payload), Refusal::WarrantMalformed);
    }
}

#[test]
fn t19_a_warrant_lives_a_minute_at_most() {
    for (iat, nbf, exp) in [
        (NOW - 1, NOW, NOW + 60),
        (0, 0, u64::MAX),
        (NOW + 1, NOW, NOW),
        (NOW, NOW + 61, NOW + 60),
    ] {
        let claims = Claims {
            iat,
            nbf,
            exp,
            ..claims()
        };
        refuse(&warrant(&claims), Refusal::Lifetime);
    }
}

#[test]
fn t19_it_counts_from_its_beginning_to_its_end() {
    for (now_s, verdict) in [
        (0, Err(Refusal::NotYet)),
        (NOW - 6, Err(Refusal::NotYet)),
        (NOW - 5, Ok(claims())),
        (NOW + 59, Ok(claims())),
        (NOW + 60, Err(Refusal::Expired)),
        (u64::MAX, Err(Refusal::Expired)),
    ] {
        assert_eq!(judge(&good(), now_s), verdict, "{now_s}");
    }
    // Made in the future is not yet, whatever it says it counts from.
    let ahead = Claims {
        iat: NOW + 30,
        nbf: NOW - 60,
        exp: NOW + 60,
        ..claims()
    };
    refuse(&warrant(&ahead), Refusal::NotYet);
}

#[test]
fn t24_the_hash_is_of_the_very_launch() {
    let mut other = launch();
    *other.last_mut().unwrap() ^= 1;
    let verdict = verify(good().as_bytes(), &other, NOW, &keys(), &Policy::default());
    assert_eq!(verdict, Err(Refusal::Hash));
    let payload = claims().encode().unwrap();
    let hash = warrant_wire::warrant::hex(&claims().job_sha256);
    for spelt in [
        hash.to_uppercase(),
        hash[..62].to_owned(),
        format!("{hash}00"),
        String::new(),
    ] {
        let payload = payload.replace(&hash, &spelt);
        refuse(&sign(&header("k1"), &payload), Refusal::WarrantMalformed);
    }
    for name in ["job_sha1", "job_md5", "JOB_SHA256", "job_sha512"] {
        let payload = payload.replace("job_sha256", name);
        refuse(&sign(&header("k1"), &payload), Refusal::WarrantMalformed);
    }
}

#[test]
fn t24_a_launch_must_at_least_begin_like_one() {
    let junk = b"#!/bin/sh\nid\n".to_vec();
    let claims = Claims {
        job_sha256: sha256(&junk),
        ..claims()
    };
    let verdict = verify(
        warrant(&claims).as_bytes(),
        &junk,
        NOW,
        &keys(),
        &Policy::default(),
    );
    assert_eq!(verdict, Err(Refusal::LaunchMalformed));
}

#[test]
fn t25_the_warrant_alone_names_the_user_within_the_policy() {
    for uid in [
        0,
        1,
        999,
        61_184,
        65_519,
        65_534,
        65_535,
        u32::MAX - 1,
        u32::MAX,
    ] {
        refuse(&warrant(&Claims { uid, ..claims() }), Refusal::UidRange);
    }
    // A wider policy does not let those in who are nobody.
    let policy = Policy {
        min_uid: 1,
        max_uid: u32::MAX - 2,
        ..Policy::default()
    };
    for (uid, is_let_in) in [
        (1, true),
        (65_533, true),
        (65_534, false),
        (65_535, false),
        (65_536, true),
    ] {
        let token = warrant(&Claims { uid, ..claims() });
        let verdict = verify(token.as_bytes(), &launch(), NOW, &keys(), &policy);
        assert_eq!(verdict.is_ok(), is_let_in, "{uid}");
    }
    let payload = claims().encode().unwrap();
    for uid in [
        "-1",
        "4294967296",
        "\"1001\"",
        "1001.0",
        "1e3",
        "01001",
        "1001,\"uid\":0",
    ] {
        let payload = payload.replace("1001", uid);
        refuse(&sign(&header("k1"), &payload), Refusal::WarrantMalformed);
    }
}

#[test]
fn t30_a_name_that_could_be_taken_for_something_else_is_in_no_warrant() {
    let payload = claims().encode().unwrap();
    for name in [
        "",
        "a\0",
        "a\nb",
        "a\rb",
        "a\u{1b}b",
        "a/b",
        "..",
        "a:b",
        "a,b",
        "-a",
        &"a".repeat(256),
    ] {
        let payload = payload.replace("alice", name);
        refuse(&sign(&header("k1"), &payload), Refusal::WarrantMalformed);
    }
    for name in [
        "a",
        "_apt",
        "1001",
        "0day",
        "Alice",
        "a b",
        "+a",
        "CORP\\a",
        "аlice",
        &"a".repeat(255),
    ] {
        let claims = Claims {
            sub: name.into(),
            ..claims()
        };
        assert!(judge(&warrant(&claims), NOW).is_ok(), "{name}");
    }
}

#[test]
fn t26_keys_are_read_in_their_one_form() {
    let good = line("k1", &key());
    let padded = format!("k1 {}", URL_SAFE.encode(key().public_key()));
    let twice = format!("{good}{good}");
    let short = format!("k1 {}", URL_SAFE_NO_PAD.encode([1; 31]));
    let long = format!("k1 {}", URL_SAFE_NO_PAD.encode([1; 33]));
    // The last character has two bits that stand for nothing.
    let loose = format!("{}B", good.trim_end().strip_suffix(|_: char| true).unwrap());
    for text in [
        padded.as_str(),
        &twice,
        &short,
        &long,
        &loose,
        "k1",
        "k1 ",
        "\n",
        "# k1",
        &good.replace(' ', "  "),
        &good.replace('\n', " comment\n"),
        &good.replace("k1", "k/1"),
        &format!(" {good}"),
    ] {
        assert!(Keys::default().add(text.as_bytes()).is_err(), "{text:?}");
    }
    assert!(Keys::default().add(b"\xff").is_err());
    // One name for two keys, also over two files.
    let other = Ed25519KeyPair::from_seed_unchecked(&[2; 32]).unwrap();
    assert!(keys().add(line("k1", &other).as_bytes()).is_err());
    let many: String = (0..65)
        .map(|number| line(&format!("k{number}"), &key()))
        .collect();
    assert!(Keys::default().add(many.as_bytes()).is_err());
}

/// The points of small order: with one of them, no secret is needed to sign.
#[test]
fn t26_a_key_that_everybody_can_sign_for_is_refused() {
    let prime = |last_bits: u8| {
        let mut point = [0xff; 32];
        (point[0], point[31]) = (last_bits, 0x7f);
        point
    };
    let small = |first: u8| {
        let mut point = [0; 32];
        point[0] = first;
        point
    };
    let eighth = |text: &str| warrant_wire::warrant::from_hex(text.as_bytes()).unwrap();
    for mut point in [
        small(0),
        small(1),
        prime(0xec),
        prime(0xed),
        prime(0xee),
        eighth("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
        eighth("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    ] {
        for _ in 0..2 {
            let line = format!("k1 {}\n", URL_SAFE_NO_PAD.encode(point));
            assert!(Keys::default().add(line.as_bytes()).is_err(), "{point:x?}");
            // The same, with the other sign.
            point[31] ^= 0x80;
        }
    }
}

#[test]
fn t26_a_retired_key_is_not_trusted_and_the_next_one_is() {
    let next = Ed25519KeyPair::from_seed_unchecked(&[2; 32]).unwrap();
    let mut keys = Keys::default();
    keys.add(line("k2", &next).as_bytes()).unwrap();
    let verify = |token: &str| verify(token.as_bytes(), &launch(), NOW, &keys, &Policy::default());
    assert_eq!(verify(&good()), Err(Refusal::KeyUnknown));
    let signed = [header("k2"), claims().encode().unwrap()]
        .map(|part| URL_SAFE_NO_PAD.encode(part))
        .join(".");
    let signature = URL_SAFE_NO_PAD.encode(next.sign(signed.as_bytes()));
    assert!(verify(&format!("{signed}.{signature}")).is_ok());
}
