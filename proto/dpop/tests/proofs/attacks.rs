//! Each check of RFC 9449 §4.3, by what should not pass it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Signer as _;
use serde_json::{Value, json};
use warrant_dpop::{At, Draft, Key, Refused, Wanted, check};

use super::{NOW_S, TOKEN, URL, claims, header, judged, judged_at, sign, sign_text};

fn changed(value: &Value, name: &str, to: Value) -> Value {
    let mut value = value.clone();
    value[name] = to;
    value
}

fn without(value: &Value, name: &str) -> Value {
    let mut value = value.clone();
    value.as_object_mut().unwrap().remove(name);
    value
}

fn with_header(name: &str, to: Value) -> Result<(), Refused> {
    judged(&sign(&changed(&header(), name, to), &claims())).map(|_| ())
}

fn with_key(name: &str, to: Value) -> Result<(), Refused> {
    let mut header = header();
    header["jwk"][name] = to;
    judged(&sign(&header, &claims())).map(|_| ())
}

fn with_claim(name: &str, to: Value) -> Result<(), Refused> {
    judged(&sign(&header(), &changed(&claims(), name, to))).map(|_| ())
}

#[test]
fn t101_a_proof_as_it_should_be_holds() {
    let proof = judged(&sign(&header(), &claims())).unwrap();
    assert_eq!(proof.jkt().len(), 43);
    assert_eq!(proof.ends_s(), NOW_S + 61);
    // What is not known, and not said to be critical, changes nothing.
    assert_eq!(with_header("kid", json!("k")), Ok(()));
    assert_eq!(with_key("use", json!("sig")), Ok(()));
    assert_eq!(with_claim("x", json!([1])), Ok(()));
    assert_eq!(with_claim("nonce", json!("n")), Ok(()));
    assert_eq!(with_claim("iat", json!(NOW_S as f64 + 0.25)), Ok(()));
}

#[test]
fn t101_no_trick_with_a_proofs_header_is_fallen_for() {
    for typ in [
        json!("JWT"),
        json!("at+jwt"),
        json!("DPoP+JWT"),
        json!("application/dpop+jwt"),
        json!(""),
        Value::Null,
    ] {
        assert_eq!(with_header("typ", typ.clone()), Err(Refused::Typ), "{typ}");
    }
    assert_eq!(
        judged(&sign(&without(&header(), "typ"), &claims())).err(),
        Some(Refused::Typ)
    );
    for alg in [
        "none", "None", "HS256", "RS256", "PS256", "ES384", "Ed25519", "eddsa", "",
    ] {
        let proof = sign(&changed(&header(), "alg", json!(alg)), &claims());
        assert_eq!(judged(&proof).err(), Some(Refused::Alg), "{alg}");
        let unsigned = proof.rsplit_once('.').unwrap().0;
        assert_eq!(
            judged(&format!("{unsigned}.")).err(),
            Some(Refused::Alg),
            "{alg}"
        );
    }
    assert_eq!(with_header("alg", json!("ES256")), Err(Refused::Jwk));
    assert_eq!(with_header("alg", json!(["EdDSA"])), Err(Refused::Form));
    assert_eq!(with_header("crit", json!(["exp"])), Err(Refused::Form));
    assert_eq!(with_header("crit", Value::Null), Err(Refused::Form));
    let twice = header().to_string().replacen('{', "{\"alg\":\"none\",", 1);
    assert_eq!(
        judged(&sign_text(&twice, &claims().to_string())).err(),
        Some(Refused::Form)
    );
}

#[test]
fn t101_only_a_public_key_of_the_algorithm_is_a_key() {
    for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        assert_eq!(
            with_key(private, json!("AA")),
            Err(Refused::Jwk),
            "{private}"
        );
        assert_eq!(
            with_key(private, Value::Null),
            Err(Refused::Jwk),
            "{private}"
        );
    }
    for (name, to) in [
        ("kty", json!("EC")),
        ("kty", json!("oct")),
        ("crv", json!("X25519")),
        ("crv", json!("P-256")),
        ("x", json!("")),
        ("x", json!("AA")),
        ("x", json!(1)),
        ("y", json!("AA")),
    ] {
        assert_eq!(with_key(name, to.clone()), Err(Refused::Jwk), "{name} {to}");
    }
    // The neutral element: under it, everybody's signature would hold.
    let mut weak = [0; 32];
    weak[0] = 1;
    let weak = URL_SAFE_NO_PAD.encode(weak);
    assert_eq!(with_key("x", json!(weak)), Err(Refused::Jwk));
    let other = Key::from_seed(&[8; 32]).proof(&draft());
    let other: Value = part(&other, 0);
    assert_eq!(
        with_key("x", other["jwk"]["x"].clone()),
        Err(Refused::Signature)
    );
    assert_eq!(
        judged(&sign(&without(&header(), "jwk"), &claims())).err(),
        Some(Refused::Jwk)
    );
    assert_eq!(with_header("jwk", json!([])), Err(Refused::Jwk));
    assert_eq!(with_header("jwk", Value::Null), Err(Refused::Jwk));
}

fn part(proof: &str, index: usize) -> Value {
    let part = proof.split('.').nth(index).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn draft() -> Draft<'static> {
    Draft {
        method: "GET",
        url: URL,
        token: Some(TOKEN),
        nonce: None,
        id: "one",
        now_s: NOW_S,
    }
}

#[test]
fn t101_es256_holds_and_its_tricks_do_not() {
    let key = p256::ecdsa::SigningKey::from_slice(&[9; 32]).unwrap();
    let point = key.verifying_key().to_encoded_point(false);
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (x, y) = (encode(point.x().unwrap()), encode(point.y().unwrap()));
    let jwk = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y});
    let sign = |jwk: &Value| {
        let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk});
        let message = [header, claims()]
            .map(|part| encode(part.to_string().as_bytes()))
            .join(".");
        let signature: p256::ecdsa::Signature = key.sign(message.as_bytes());
        (message, signature.to_bytes().to_vec())
    };
    let (message, signature) = sign(&jwk);
    let shown = |signature: &[u8]| judged(&format!("{message}.{}", encode(signature)));
    assert!(shown(&signature).is_ok());
    let mut bad = signature.clone();
    bad[40] ^= 1;
    for wrong in [&bad[..], &[0; 64], &[0xff; 64], &signature[..63], &[]] {
        assert_eq!(shown(wrong).err(), Some(Refused::Signature));
    }
    for (name, to) in [
        ("y", json!(x)),
        ("x", json!("AA")),
        ("crv", json!("P-384")),
        ("crv", json!("secp256k1")),
        ("kty", json!("OKP")),
        ("d", json!("AA")),
    ] {
        let (message, signature) = sign(&changed(&jwk, name, to));
        let proof = format!("{message}.{}", encode(&signature));
        assert_eq!(judged(&proof).err(), Some(Refused::Jwk), "{name}");
    }
    let (message, signature) = sign(&without(&jwk, "y"));
    let proof = format!("{message}.{}", encode(&signature));
    assert_eq!(judged(&proof).err(), Some(Refused::Jwk));
}

#[test]
fn t101_a_proof_is_of_one_method_and_one_address() {
    for method in ["POST", "get", "Get", "HEAD", "", "GET "] {
        assert_eq!(
            with_claim("htm", json!(method)),
            Err(Refused::Method),
            "{method}"
        );
    }
    for same in [
        "HTTPS://Jobs.Example.ORG/v1/jobs",
        "https://jobs.example.org:443/v1/jobs",
        "https://jobs.example.org/v1/%6Aobs",
        "https://jobs.example.org/v1/x/../jobs",
        "https://jobs.example.org/v1/jobs?limit=1",
        "https://jobs.example.org/v1/jobs#x",
    ] {
        assert_eq!(with_claim("htu", json!(same)), Ok(()), "{same}");
    }
    for other in [
        "",
        "/v1/jobs",
        "//jobs.example.org/v1/jobs",
        "http://jobs.example.org/v1/jobs",
        "https://jobs.example.org:80/v1/jobs",
        "https://jobs.example.org:8443/v1/jobs",
        "https://jobs.example.org./v1/jobs",
        "https://jobs.example.org.evil.test/v1/jobs",
        "https://evil.test/https://jobs.example.org/v1/jobs",
        "https://evil.test@jobs.example.org/v1/jobs",
        "https://jobs.example.org@evil.test/v1/jobs",
        "https://jobs.example.org\\@evil.test/v1/jobs",
        "https://jobs.example.org/v1/jobs/",
        "https://jobs.example.org//v1/jobs",
        "https://jobs.example.org/v1/Jobs",
        "https://jobs.example.org/v1%2Fjobs",
        "https://jobs.example.org/v1/jobs%3Flimit=1",
        "https://jobs.example.org/v1/jobs%00",
        "https://jobs.example.org/v1/jobs;x",
        " https://jobs.example.org/v1/jobs",
    ] {
        assert_eq!(
            with_claim("htu", json!(other)),
            Err(Refused::Address),
            "{other}"
        );
    }
}

#[test]
fn t109_a_proof_is_of_now() {
    let at = |iat: Value| with_claim("iat", iat);
    for good in [NOW_S - 60, NOW_S, NOW_S + 60] {
        assert_eq!(at(json!(good)), Ok(()));
    }
    for bad in [
        json!(NOW_S - 61),
        json!(NOW_S + 61),
        json!(0),
        json!(-1),
        json!(u64::MAX),
        json!(1e300),
        json!(-1e300),
        json!(NOW_S * 1000),
    ] {
        assert_eq!(at(bad.clone()), Err(Refused::Time), "{bad}");
    }
    for none in [json!("1800000000"), Value::Null, json!([NOW_S])] {
        assert_eq!(at(none.clone()), Err(Refused::Form), "{none}");
    }
    assert_eq!(with_claim("exp", json!(NOW_S)), Err(Refused::Time));
    assert_eq!(with_claim("exp", json!(NOW_S + 1)), Ok(()));
    assert_eq!(with_claim("nbf", json!(NOW_S + 61)), Err(Refused::Time));
    let proof = sign(&header(), &claims());
    let ends_s = judged(&proof).unwrap().ends_s();
    assert_eq!(judged_at(&proof, ends_s), Err(Refused::Time));
}

#[test]
fn t101_a_proof_is_of_one_access_token() {
    for other in [
        json!(warrant_dpop::token_hash("another")),
        json!(format!("{}=", warrant_dpop::token_hash(TOKEN))),
        json!(TOKEN),
        json!(""),
        Value::Null,
    ] {
        assert_eq!(
            with_claim("ath", other.clone()),
            Err(Refused::Token),
            "{other}"
        );
    }
    let bare = sign(&header(), &without(&claims(), "ath"));
    assert_eq!(judged(&bare).err(), Some(Refused::Token));
}

#[test]
fn t101_a_proof_has_an_id_of_bounded_length() {
    assert_eq!(with_claim("jti", json!("x".repeat(64))), Ok(()));
    assert_eq!(with_claim("jti", json!("x".repeat(65))), Err(Refused::Id));
    assert_eq!(with_claim("jti", json!("")), Err(Refused::Id));
    assert_eq!(with_claim("jti", json!(1)), Err(Refused::Form));
    for name in ["jti", "htm", "htu", "iat"] {
        let proof = sign(&header(), &without(&claims(), name));
        assert_eq!(judged(&proof).err(), Some(Refused::Form), "{name}");
    }
    // Another id, or another key, is another proof; the rest is not looked at.
    let mark = |claims: &Value| *judged(&sign(&header(), claims)).unwrap().mark();
    let first = mark(&claims());
    assert_eq!(first, mark(&changed(&claims(), "iat", json!(NOW_S + 1))));
    assert_ne!(first, mark(&changed(&claims(), "jti", json!("two"))));
    let other = judged(&Key::from_seed(&[8; 32]).proof(&draft())).unwrap();
    assert_ne!(first, *other.mark());
    assert_eq!(other.jkt(), Key::from_seed(&[8; 32]).thumbprint());
}

#[test]
fn t111_one_header_of_bounded_length_is_read() {
    let proof = sign(&header(), &claims());
    let at = At::parse(URL).unwrap();
    let wanted = Wanted {
        method: "GET",
        at: &at,
        token: Some(TOKEN),
        now_s: NOW_S,
    };
    let none: [&[u8]; 0] = [];
    assert_eq!(check(none, &wanted), Ok(None));
    let twice = [proof.as_bytes(), proof.as_bytes()];
    assert_eq!(check(twice, &wanted), Err(Refused::Twice));
    assert_eq!(check([proof.as_bytes(), b""], &wanted), Err(Refused::Twice));
    let long = "x".repeat(65_536);
    assert_eq!(check([long.as_bytes()], &wanted), Err(Refused::Long));
    let padded = sign(&header(), &changed(&claims(), "x", json!("x".repeat(4096))));
    assert_eq!(judged(&padded).err(), Some(Refused::Long));
    let joined = format!("{proof}, {proof}");
    let dotted = format!("{proof}.{proof}");
    for broken in [
        "",
        ".",
        "..",
        "...",
        "a.b",
        &joined,
        &dotted,
        &format!(" {proof}"),
    ] {
        assert_eq!(judged(broken).err(), Some(Refused::Form), "{broken}");
    }
    assert_eq!(check([&b"\xff\xfe"[..]], &wanted), Err(Refused::Form));
    let (message, _) = proof.rsplit_once('.').unwrap();
    for broken in [
        message.to_owned(),
        format!("{message}."),
        format!("{proof}="),
    ] {
        assert!(judged(&broken).is_err(), "{broken}");
    }
}
