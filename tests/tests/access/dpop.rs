//! Tokens that are bound to a key: good for whoever holds the key, for the
//! request that was signed, once.

use serde_json::{Value, json};
use ureq::http::Method;
use warrant_tests::dpop::Holder;
use warrant_tests::fake_auth::{ALL, now_s};
use warrant_tests::{Answer, FakeAuth, raw};

use super::Gatehouse;

/// How the broker is told that clients reach it.
const PUBLIC: &str = "https://jobs.example.org/flux";
const NODES: &str = "/v1/nodes";

fn open() -> Gatehouse {
    Gatehouse::open_with(|setup| setup.set("BROKER__LISTEN__PUBLIC_URL", PUBLIC))
}

/// A token for `name` that is bound to the key of `holder`.
fn bound(gate: &Gatehouse, name: &str, holder: &Holder) -> String {
    let mut claims = FakeAuth::claims(name, "user", ALL);
    claims["cnf"] = json!({"jkt": holder.jkt()});
    gate.auth.sign(&FakeAuth::header(), &claims)
}

fn url(path: &str) -> String {
    format!("{PUBLIC}{path}")
}

fn show(
    gate: &Gatehouse,
    method: &Method,
    path: &str,
    scheme: &str,
    token: &str,
    proof: &str,
) -> Answer {
    let authorization = format!("{scheme} {token}");
    let mut headers = vec![("authorization", authorization.as_str())];
    if !proof.is_empty() {
        headers.push(("dpop", proof));
    }
    gate.house.nobody().send(method, path, &headers, b"")
}

fn nodes(gate: &Gatehouse, token: &str, proof: &str) -> Answer {
    show(gate, &Method::GET, NODES, "DPoP", token, proof)
}

/// That it is refused, with the challenge of RFC 9449 §7.1.
#[track_caller]
fn is_refused(answer: &Answer, error: &str) {
    assert_eq!(answer.status, 401, "{}", answer.text());
    let challenge = answer.header("www-authenticate").unwrap();
    assert!(
        challenge.starts_with(&format!("DPoP error=\"{error}\"")),
        "{challenge}"
    );
    assert!(challenge.ends_with("algs=\"ES256 EdDSA\""), "{challenge}");
}

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
fn t101_a_bound_token_is_good_with_a_proof_for_this_very_request() {
    let (gate, holder) = (open(), Holder::new(1));
    let token = bound(&gate, "ann", &holder);
    let proof = |method: &str, path: &str| holder.proof(method, &url(path), Some(&token));
    assert_eq!(nodes(&gate, &token, &proof("GET", NODES)).status, 200);
    // The scheme is the same in any letters, and the query is not part of it.
    let answer = show(
        &gate,
        &Method::GET,
        NODES,
        "dPoP",
        &token,
        &proof("GET", NODES),
    );
    assert_eq!(answer.status, 200);
    let listed = "/v1/jobs?limit=1";
    let answer = show(
        &gate,
        &Method::GET,
        listed,
        "DPoP",
        &token,
        &proof("GET", "/v1/jobs"),
    );
    assert_eq!(answer.status, 200);
    let answer = show(
        &gate,
        &Method::HEAD,
        NODES,
        "DPoP",
        &token,
        &proof("HEAD", NODES),
    );
    assert_eq!(answer.status, 200);
    let answer = show(
        &gate,
        &Method::HEAD,
        NODES,
        "DPoP",
        &token,
        &proof("GET", NODES),
    );
    assert_eq!(answer.status, 401);
    gate.house.close();
}

#[test]
fn t101_a_stolen_bound_token_is_good_for_nothing() {
    let (gate, holder, thief) = (open(), Holder::new(1), Holder::new(2));
    let token = bound(&gate, "ann", &holder);
    is_refused(
        &show(&gate, &Method::GET, NODES, "Bearer", &token, ""),
        "invalid_token",
    );
    let proof = holder.proof("GET", &url(NODES), Some(&token));
    is_refused(
        &show(&gate, &Method::GET, NODES, "Bearer", &token, &proof),
        "invalid_token",
    );
    is_refused(&nodes(&gate, &token, ""), "invalid_dpop_proof");
    let own = thief.proof("GET", &url(NODES), Some(&token));
    is_refused(&nodes(&gate, &token, &own), "invalid_dpop_proof");
    // Under the thief's key, with the holder's written beside it.
    let mut claims = thief.claims("GET", &url(NODES), Some(&token));
    let forged = thief.sign(&holder.header(), &claims);
    is_refused(&nodes(&gate, &token, &forged), "invalid_dpop_proof");
    claims["cnf"] = json!({"jkt": thief.jkt()});
    let own = thief.sign(&thief.header(), &claims);
    is_refused(&nodes(&gate, &token, &own), "invalid_dpop_proof");
    // As an API key it is none.
    let answer = gate
        .house
        .nobody()
        .send(&Method::GET, NODES, &[("x-api-key", &token)], b"");
    assert_eq!(answer.status, 401);
    // A thief's token is not made good by the holder's proof.
    let stolen = bound(&gate, "mallory", &thief);
    is_refused(
        &nodes(
            &gate,
            &stolen,
            &holder.proof("GET", &url(NODES), Some(&stolen)),
        ),
        "invalid_dpop_proof",
    );
    assert_eq!(nodes(&gate, &token, &proof).status, 200);
    gate.house.close();
}

#[test]
fn t101_a_proof_is_taken_once_whatever_it_is_shown_for() {
    let (gate, holder) = (open(), Holder::new(1));
    let token = bound(&gate, "ann", &holder);
    let proof = holder.proof("GET", &url(NODES), Some(&token));
    assert_eq!(nodes(&gate, &token, &proof).status, 200);
    is_refused(&nodes(&gate, &token, &proof), "invalid_dpop_proof");
    // The same id in another proof of the key.
    let mut claims = holder.claims("GET", &url(NODES), Some(&token));
    claims["jti"] = json!("twice");
    assert_eq!(
        nodes(&gate, &token, &holder.sign(&holder.header(), &claims)).status,
        200
    );
    claims["iat"] = json!(now_s() - 1);
    is_refused(
        &nodes(&gate, &token, &holder.sign(&holder.header(), &claims)),
        "invalid_dpop_proof",
    );
    // Of many at once, one comes in.
    let proof = holder.proof("GET", &url(NODES), Some(&token));
    let come = |_| nodes(&gate, &token, &proof).status;
    let came: Vec<u16> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..8)
            .map(|number| scope.spawn(move || come(number)))
            .collect();
        racers
            .into_iter()
            .map(|racer| racer.join().unwrap())
            .collect()
    });
    assert_eq!(
        came.iter().filter(|status| **status == 200).count(),
        1,
        "{came:?}"
    );
    assert_eq!(
        came.iter().filter(|status| **status == 401).count(),
        7,
        "{came:?}"
    );
    gate.house.close();
}

#[test]
fn t101_each_check_of_a_proof_is_made_at_the_broker() {
    let (gate, holder) = (open(), Holder::new(1));
    let token = bound(&gate, "ann", &holder);
    let other = bound(&gate, "bob", &holder);
    let header = holder.header();
    let claims = || holder.claims("GET", &url(NODES), Some(&token));
    let with_header = |name: &str, to: Value| holder.sign(&changed(&header, name, to), &claims());
    let with = |name: &str, to: Value| holder.sign(&header, &changed(&claims(), name, to));
    let private = changed(&holder.jwk(), "d", json!("AAAA"));
    let secret = json!({"kty": "oct", "k": "AAAA"});
    let proofs = [
        ("another typ", with_header("typ", json!("JWT"))),
        ("typ of a token", with_header("typ", json!("at+jwt"))),
        ("alg none", with_header("alg", json!("none"))),
        ("alg HS256", with_header("alg", json!("HS256"))),
        ("alg RS256", with_header("alg", json!("RS256"))),
        (
            "alg ES256 of another key",
            with_header("alg", json!("ES256")),
        ),
        ("a private key", with_header("jwk", private)),
        ("a symmetric key", with_header("jwk", secret)),
        ("no key", holder.sign(&without(&header, "jwk"), &claims())),
        ("crit", with_header("crit", json!(["b64"]))),
        ("another method", with("htm", json!("POST"))),
        ("the method in small letters", with("htm", json!("get"))),
        ("another path", with("htu", json!(url("/v1/jobs")))),
        (
            "another host",
            with("htu", json!("https://evil.test/flux/v1/nodes")),
        ),
        (
            "the path without the base",
            with("htu", json!("https://jobs.example.org/v1/nodes")),
        ),
        (
            "another scheme",
            with("htu", json!("http://jobs.example.org/flux/v1/nodes")),
        ),
        (
            "another port",
            with("htu", json!("https://jobs.example.org:80/flux/v1/nodes")),
        ),
        (
            "an encoded slash",
            with("htu", json!("https://jobs.example.org/flux%2Fv1/nodes")),
        ),
        ("an old time", with("iat", json!(now_s() - 62))),
        ("a time to come", with("iat", json!(now_s() + 65))),
        ("no time", holder.sign(&header, &without(&claims(), "iat"))),
        ("no id", holder.sign(&header, &without(&claims(), "jti"))),
        ("an id that is long", with("jti", json!("x".repeat(65)))),
        ("no ath", holder.sign(&header, &without(&claims(), "ath"))),
        (
            "the ath of another token",
            holder.proof("GET", &url(NODES), Some(&other)),
        ),
        ("nothing of a proof", "x".into()),
        ("the token itself", token.clone()),
        ("64 KiB", "x".repeat(65_536)),
    ];
    for (what, proof) in proofs {
        let status = nodes(&gate, &token, &proof).status;
        assert!(matches!(status, 401 | 431), "a proof with {what}: {status}");
    }
    for (what, url) in [
        (
            "a name in capitals",
            "HTTPS://JOBS.example.org/flux/v1/nodes",
        ),
        (
            "the usual port",
            "https://jobs.example.org:443/flux/v1/nodes",
        ),
        (
            "an encoded letter",
            "https://jobs.example.org/fl%75x/v1/nodes",
        ),
        ("a query", "https://jobs.example.org/flux/v1/nodes?x=1"),
    ] {
        assert_eq!(
            nodes(&gate, &token, &with("htu", json!(url))).status,
            200,
            "{what}"
        );
    }
    // Whatever the request says of the host, it is the configuration that counts.
    let evil = holder.proof("GET", "https://evil.test/flux/v1/nodes", Some(&token));
    let good = || holder.proof("GET", &url(NODES), Some(&token));
    let ask = |proofs: &[&str]| {
        let lines: String = proofs
            .iter()
            .map(|proof| format!("DPoP: {proof}\r\n"))
            .collect();
        let request = format!(
            "GET {NODES} HTTP/1.1\r\nHost: evil.test\r\nX-Forwarded-Host: evil.test\r\n\
             Authorization: DPoP {token}\r\n{lines}Connection: close\r\n\r\n"
        );
        raw::status(&raw::exchange(
            gate.house.nobody().address(),
            request.as_bytes(),
        ))
    };
    assert_eq!(ask(&[&evil]), 401);
    assert_eq!(ask(&[&good()]), 200);
    assert_eq!(ask(&[&good(), &good()]), 401);
    assert_eq!(ask(&[&good(), ""]), 401);
    gate.house.close();
}

#[test]
fn t101_a_token_that_is_bound_to_nothing_is_shown_as_ever() {
    let (gate, holder) = (open(), Holder::new(1));
    let token = gate.auth.token("ann", "user", ALL);
    let proof = holder.proof("GET", &url(NODES), Some(&token));
    is_refused(&nodes(&gate, &token, &proof), "invalid_token");
    assert_eq!(
        show(&gate, &Method::GET, NODES, "Bearer", &token, &proof).status,
        200
    );
    assert_eq!(
        show(&gate, &Method::GET, NODES, "Bearer", &token, "").status,
        200
    );
    // Nor does a key become one by being shown so.
    gate.auth.know("wrt_key", token, std::time::Duration::ZERO);
    assert_eq!(
        show(&gate, &Method::GET, NODES, "Bearer", "wrt_key", "").status,
        200
    );
    is_refused(&nodes(&gate, "wrt_key", &proof), "invalid_token");
    let headers = [("authorization", "DPoP x"), ("x-api-key", "wrt_key")];
    let answer = gate.house.nobody().send(&Method::GET, NODES, &headers, b"");
    assert_eq!(answer.status, 400);
    // Whoever shows nothing is challenged as ever.
    let answer = gate.house.nobody().get(NODES);
    let challenge = answer.header("www-authenticate").unwrap();
    assert!(challenge.starts_with("Bearer realm="), "{challenge}");
    assert!(!challenge.contains("DPoP"), "{challenge}");
    for cnf in [
        json!({}),
        json!({"jkt": 1}),
        json!({"jkt": "x", "jku": "y"}),
        json!("x"),
    ] {
        let claims = changed(&FakeAuth::claims("ann", "user", ALL), "cnf", cnf.clone());
        let token = gate.auth.sign(&FakeAuth::header(), &claims);
        assert_eq!(gate.with(&token).get(NODES).status, 401, "{cnf}");
    }
    gate.house.close();
}
