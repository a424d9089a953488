//! Access tokens that must not count, though the right key signed most of them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use warrant_tests::FakeAuth;
use warrant_tests::fake_auth::{ALL, now_s};
use warrant_tests::handshake::{part, signed};

use super::Gatehouse;

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

#[test]
fn t101_no_trick_with_a_tokens_header_is_fallen_for() {
    let gate = Gatehouse::open();
    let auth = &gate.auth;
    let header = FakeAuth::header();
    let claims = FakeAuth::claims("ann", "administrator", ALL);
    let status = |token: &str| gate.with(token).get("/v1/nodes").status;
    assert_eq!(status(&auth.sign(&header, &claims)), 200);
    let with = |name: &str, to: Value| auth.sign(&changed(&header, name, to), &claims);
    let public = auth.public_key();
    let symmetric = |key: &[u8]| signed(&changed(&header, "alg", json!("HS256")), &claims, key);
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(public)});
    let intact = auth.sign(&header, &claims);
    let mut parts = intact.split('.');
    let (head, body, signature) = (
        parts.next().unwrap(),
        parts.next().unwrap(),
        parts.next().unwrap(),
    );
    let unsigned = part(&changed(&header, "alg", json!("none")));
    let twice = format!(
        "{},\"alg\":\"none\"}}",
        header.to_string().trim_end_matches('}')
    );
    let tokens = [
        ("alg none with a signature", with("alg", json!("none"))),
        ("alg none", format!("{unsigned}.{body}.")),
        ("alg None", with("alg", json!("None"))),
        (
            "alg nOnE",
            format!("{}.{body}.", part(&changed(&header, "alg", json!("nOnE")))),
        ),
        ("alg HS256 of another key", symmetric(b"guess")),
        ("alg HS256 of the public key", symmetric(&public)),
        (
            "alg HS256 of the public key in base64url",
            symmetric(URL_SAFE_NO_PAD.encode(public).as_bytes()),
        ),
        ("alg ES256", with("alg", json!("ES256"))),
        ("alg RS256", with("alg", json!("RS256"))),
        ("alg as a list", with("alg", json!(["EdDSA"]))),
        ("no alg", auth.sign(&without(&header, "alg"), &claims)),
        ("alg twice", {
            auth.sign_text(&URL_SAFE_NO_PAD.encode(twice), body)
        }),
        ("no kid", auth.sign(&without(&header, "kid"), &claims)),
        ("kid empty", with("kid", json!(""))),
        ("kid a path", with("kid", json!("../../../../dev/null"))),
        ("kid SQL", with("kid", json!("fake' or '1'='1"))),
        ("kid with a zero", with("kid", json!("fake\u{0}"))),
        ("kid a number", with("kid", json!(0))),
        ("kid very long", with("kid", json!("k".repeat(3000)))),
        ("crit", with("crit", json!(["exp"]))),
        ("crit empty", with("crit", json!([]))),
        ("typ of a warrant", with("typ", json!("warrant+jwt"))),
        ("typ JWT", with("typ", json!("JWT"))),
        ("typ in capitals", with("typ", json!("AT+JWT "))),
        ("no typ", auth.sign(&without(&header, "typ"), &claims)),
        ("no signature", format!("{head}.{body}.")),
        ("two parts", format!("{head}.{body}")),
        ("four parts", format!("{intact}.{signature}")),
        ("padding", format!("{intact}=")),
        ("a bit of the signature", {
            let last = if intact.ends_with('A') { 'Q' } else { 'A' };
            format!("{}{last}", intact.get(..intact.len() - 1).unwrap())
        }),
        (
            "the signature of nothing",
            format!("{head}.{body}.{}", "A".repeat(86)),
        ),
        (
            "an encrypted form",
            format!("{head}.{body}.{signature}.{body}.{head}"),
        ),
        (
            "header no object",
            auth.sign_text(&part(&json!(["EdDSA"])), body),
        ),
    ];
    for (what, token) in tokens {
        assert_eq!(status(&token), 401, "a token with {what} counts");
    }
    // What would lead to another key leads nowhere: the token counts by the
    // published key alone, or not at all.
    for (name, value) in [
        ("jku", json!("https://evil.example/keys")),
        ("x5u", json!("https://evil.example/cert")),
        ("jwk", jwk.clone()),
        ("x5c", json!(["MIIB"])),
    ] {
        let header = changed(&header, name, value);
        let other = changed(&header, "kid", json!("evil"));
        assert_eq!(status(&auth.sign(&other, &claims)), 401, "{name}");
        let forged = format!("{}.{body}.{}", part(&header), "A".repeat(86));
        assert_eq!(status(&forged), 401, "{name}");
    }
    gate.house.close();
}

#[test]
fn t101_no_trick_with_a_tokens_claims_is_fallen_for() {
    let gate = Gatehouse::open();
    let auth = &gate.auth;
    let header = FakeAuth::header();
    let claims = FakeAuth::claims("ann", "user", "read");
    let status = |token: &str| gate.with(token).get("/v1/nodes").status;
    let with = |name: &str, to: Value| auth.sign(&header, &changed(&claims, name, to));
    let now = now_s();
    let twice = |name: &str, first: &str| {
        let text = format!(
            "{{\"{name}\":{first},{}",
            claims.to_string().trim_start_matches('{')
        );
        auth.sign_text(&part(&header), &URL_SAFE_NO_PAD.encode(text))
    };
    let mut tokens = vec![
        (
            "aud of the auth service".to_owned(),
            with("aud", json!("warrant-authsvc")),
        ),
        ("aud of the shim".to_owned(), with("aud", json!("local"))),
        (
            "aud a list".to_owned(),
            with("aud", json!(["warrant-broker", "else"])),
        ),
        (
            "aud with a space".to_owned(),
            with("aud", json!("warrant-broker ")),
        ),
        (
            "iss of another".to_owned(),
            with("iss", json!("https://evil.example")),
        ),
        ("iss a list".to_owned(), with("iss", json!(["warrant"]))),
        ("exp over".to_owned(), with("exp", json!(now - 60))),
        ("exp text".to_owned(), with("exp", json!("9999999999"))),
        ("exp negative".to_owned(), with("exp", json!(-1))),
        ("exp beyond all".to_owned(), with("exp", json!(1e300))),
        ("exp a list".to_owned(), with("exp", json!([now + 60]))),
        ("exp null".to_owned(), with("exp", Value::Null)),
        ("nbf".to_owned(), with("nbf", json!(now + 3600))),
        ("iat ahead".to_owned(), with("iat", json!(now + 3600))),
        ("iat text".to_owned(), with("iat", json!("now"))),
        (
            "a scope that is none".to_owned(),
            with("scope", json!("read root")),
        ),
        (
            "scopes as a list".to_owned(),
            with("scope", json!(["read"])),
        ),
        (
            "an unknown role".to_owned(),
            with("role", json!("Administrator")),
        ),
        ("no session".to_owned(), with("sid", json!(""))),
        ("no id".to_owned(), with("jti", json!(""))),
        ("no name".to_owned(), with("sub", json!(""))),
        ("sub a number".to_owned(), with("sub", json!(0))),
        ("uid negative".to_owned(), with("uid", json!(-1))),
        ("what else".to_owned(), with("act", json!({"sub": "admin"}))),
        (
            "a warrant's claims".to_owned(),
            with("job_sha256", json!("00")),
        ),
        ("sub twice".to_owned(), twice("sub", "\"admin\"")),
        ("role twice".to_owned(), twice("role", "\"administrator\"")),
        ("exp twice".to_owned(), twice("exp", "9999999999")),
        (
            "4 KiB".to_owned(),
            with("client_id", json!("x".repeat(4096))),
        ),
    ];
    for name in [
        "iss",
        "aud",
        "sub",
        "jti",
        "iat",
        "exp",
        "role",
        "scope",
        "sid",
        "client_id",
    ] {
        tokens.push((
            format!("without {name}"),
            auth.sign(&header, &without(&claims, name)),
        ));
    }
    for (what, token) in tokens {
        assert_eq!(status(&token), 401, "a token with {what} counts");
    }
    let huge = format!("{}{}", auth.sign(&header, &claims), "A".repeat(60_000));
    assert_eq!(status(&huge), 401);
    gate.house.close();
}
