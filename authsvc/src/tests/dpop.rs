//! Proofs of possession, as clients and thieves show them. Source: RFC 9449.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::Method;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use serde_json::{Value, json};
use warrant_api::oauth::DEVICE_GRANT;
use warrant_dpop::{Draft, Key};

use super::house::{Answer, House, exchange_fields, request};
use crate::clock;
use crate::config::{Grants, Proof};
use crate::opaque;
use crate::store::clients::{self, Row};

const TOKEN_URL: &str = "http://127.0.0.1:5000/oauth/token";

/// Whoever holds a key.
struct Holder {
    key: Key,
    made: AtomicU64,
}

impl Holder {
    fn new(seed: u8) -> Self {
        Self {
            key: Key::from_seed(&[seed; 32]),
            made: AtomicU64::new(0),
        }
    }

    fn jkt(&self) -> String {
        self.key.thumbprint()
    }

    /// A new proof.
    fn proof(&self, url: &str, token: Option<&str>, nonce: Option<&str>) -> String {
        let id = self.made.fetch_add(1, Ordering::Relaxed).to_string();
        self.proof_at("POST", url, token, nonce, &id, clock::now_s())
    }

    fn proof_at(
        &self,
        method: &str,
        url: &str,
        token: Option<&str>,
        nonce: Option<&str>,
        id: &str,
        now_s: u64,
    ) -> String {
        self.key.proof(&Draft {
            method,
            url,
            token,
            nonce,
            id,
            now_s,
        })
    }

    fn for_token(&self) -> String {
        self.proof(TOKEN_URL, None, None)
    }
}

/// A form with `proofs`, each in a header of its own.
fn form(fields: &[(&str, &str)], proofs: &[&str]) -> Request<Full<Bytes>> {
    let body: String = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    let mut headers = vec![("content-type", "application/x-www-form-urlencoded")];
    headers.extend(proofs.iter().map(|proof| ("dpop", *proof)));
    request(Method::POST, "/oauth/token", &headers, &body)
}

const SIGN_IN: [(&str, &str); 4] = [
    ("grant_type", "password"),
    ("client_id", "warrant"),
    ("username", "ann"),
    ("password", "pw"),
];

fn refresh(token: &str) -> [(&str, &str); 3] {
    [
        ("grant_type", "refresh_token"),
        ("client_id", "warrant"),
        ("refresh_token", token),
    ]
}

impl Answer {
    fn is(&self, status: u16, error: &str, reason: &str) {
        assert_eq!(self.status, status, "{:?}", self.body);
        let given = [&self.body["error"], &self.body["reason"]];
        assert_eq!(given, [error, reason], "{:?}", self.body);
    }

    fn text(&self, field: &str) -> &str {
        self.body[field].as_str().unwrap()
    }
}

impl House {
    async fn ask(&self, fields: &[(&str, &str)], proof: &str) -> Answer {
        self.send(form(fields, &[proof])).await
    }

    /// That `answer` holds a token that is bound to `jkt`, here and at those who
    /// ask about it.
    async fn is_bound(&self, answer: &Answer, jkt: &str) {
        let claims = self.verify(answer.token()).await.1;
        assert_eq!(answer.body["token_type"], "DPoP");
        assert_eq!(claims.cnf.unwrap().jkt, jkt);
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let body = format!("token={}", answer.token());
        let asked = request(Method::POST, "/oauth/introspect", &headers, &body);
        let known = self.send(asked).await.body;
        assert_eq!(known["token_type"], "DPoP", "{known}");
        assert_eq!(known["cnf"], json!({ "jkt": jkt }));
    }

    async fn last_refusal(&self) -> String {
        let rows = self.audit().await;
        rows.last().unwrap().reason.clone().unwrap_or_default()
    }

    async fn client(&self, id: &str, secret: Option<&str>, dpop: bool) {
        let row = Row {
            id: id.into(),
            label: id.into(),
            secret_hash: secret.map(opaque::hash),
            certificate: None,
            owner: secret.map(|_| "ann".to_owned()),
            grants: if secret.is_some() {
                "password refresh_token client_credentials".into()
            } else {
                format!("password refresh_token {DEVICE_GRANT}")
            },
            scopes: "read submit".into(),
            redirect_uris: String::new(),
            disabled: false,
            dpop,
            created_us: 0,
        };
        let mut tx = self.db.begin().await.unwrap();
        assert!(clients::insert(&mut tx, &row).await.unwrap());
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn with_a_proof_every_grant_gives_a_token_that_is_bound_to_its_key() {
    let house = House::open().await;
    let (holder, secret) = (Holder::new(1), "the robot's");
    house.client("robot", Some(secret), false).await;
    let about = house.get("/.well-known/oauth-authorization-server").await;
    let algs = &about.body["dpop_signing_alg_values_supported"];
    assert_eq!(algs, &json!(["ES256", "EdDSA"]));
    let first = house.ask(&SIGN_IN, &holder.for_token()).await;
    house.is_bound(&first, &holder.jkt()).await;
    let next = house
        .ask(&refresh(first.text("refresh_token")), &holder.for_token())
        .await;
    house.is_bound(&next, &holder.jkt()).await;
    let unnamed = [SIGN_IN[0], SIGN_IN[2], SIGN_IN[3]];
    let answer = house.ask(&unnamed, &holder.for_token()).await;
    house.is_bound(&answer, &holder.jkt()).await;
    let itself = [
        ("grant_type", "client_credentials"),
        ("client_id", "robot"),
        ("client_secret", secret),
    ];
    let answer = house.ask(&itself, &holder.for_token()).await;
    house.is_bound(&answer, &holder.jkt()).await;
    // Without one, as ever.
    for fields in [&SIGN_IN[..], &itself] {
        let answer = house.send(form(fields, &[])).await;
        assert_eq!(answer.body["token_type"], "Bearer", "{:?}", answer.body);
        assert_eq!(house.verify(answer.token()).await.1.cnf, None);
    }
    house.close().await;
}

#[tokio::test]
async fn t101_a_proof_that_does_not_hold_gets_no_token() {
    let house = House::open().await;
    let holder = Holder::new(1);
    let now_s = clock::now_s();
    let at = |method: &str, url: &str, now_s| holder.proof_at(method, url, None, None, "x", now_s);
    for (proof, reason) in [
        (at("GET", TOKEN_URL, now_s), "dpop-htm"),
        (
            at("POST", "http://127.0.0.1:5000/oauth/Token", now_s),
            "dpop-htu",
        ),
        (
            at("POST", "http://127.0.0.1/oauth/token", now_s),
            "dpop-htu",
        ),
        (at("POST", "http://authsvc/oauth/token", now_s), "dpop-htu"),
        (at("POST", TOKEN_URL, now_s - 62), "dpop-iat"),
        (at("POST", TOKEN_URL, now_s + 65), "dpop-iat"),
        ("x".into(), "dpop-form"),
        (String::new(), "dpop-form"),
        ("x".repeat(4097), "dpop-long"),
    ] {
        let answer = house.ask(&SIGN_IN, &proof).await;
        answer.is(400, "invalid_dpop_proof", reason);
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!(house.last_refusal().await, reason);
    }
    let (one, two) = (holder.for_token(), holder.for_token());
    let answer = house.send(form(&SIGN_IN, &[&one, &two])).await;
    answer.is(400, "invalid_dpop_proof", "dpop-twice");
    let answer = house.ask(&SIGN_IN, &"x".repeat(65_536)).await;
    assert!(matches!(answer.status.as_u16(), 400 | 431), "{answer:?}");
    // None of them was used up by being shown in vain.
    let wrong = [SIGN_IN[0], SIGN_IN[1], SIGN_IN[2], ("password", "x")];
    house
        .ask(&wrong, &one)
        .await
        .is(400, "invalid_grant", "grant");
    house.ask(&SIGN_IN, &one).await.token();
    house.close().await;
}

#[tokio::test]
async fn t101_a_proof_gets_one_token_also_after_a_restart_and_of_many_at_once() {
    let house = Arc::new(House::open().await);
    let holder = Holder::new(1);
    let proof = holder.for_token();
    house.ask(&SIGN_IN, &proof).await.token();
    let again = house.ask(&SIGN_IN, &proof).await;
    again.is(400, "invalid_dpop_proof", "dpop-again");
    assert_eq!(house.last_refusal().await, "dpop-again");
    let race = holder.for_token();
    let racers: Vec<_> = (0..16)
        .map(|_| {
            let (house, race) = (house.clone(), race.clone());
            tokio::spawn(async move { house.ask(&SIGN_IN, &race).await.status })
        })
        .collect();
    let mut came = Vec::new();
    for racer in racers {
        came.push(racer.await.unwrap().as_u16());
    }
    assert_eq!(
        came.iter().filter(|status| **status == 200).count(),
        1,
        "{came:?}"
    );
    assert_eq!(
        came.iter().filter(|status| **status == 400).count(),
        15,
        "{came:?}"
    );
    let dir = Arc::into_inner(house).unwrap().close().await;
    let house = House::open_in(dir, &[], |_| {}).await;
    for proof in [&proof, &race] {
        let again = house.ask(&SIGN_IN, proof).await;
        again.is(400, "invalid_dpop_proof", "dpop-again");
    }
    house.ask(&SIGN_IN, &holder.for_token()).await.token();
    house.close().await;
}

#[tokio::test]
async fn t105_a_refresh_token_of_a_public_client_is_of_no_use_without_its_key() {
    let house = House::open().await;
    let (holder, thief) = (Holder::new(1), Holder::new(2));
    let first = house.ask(&SIGN_IN, &holder.for_token()).await;
    let token = first.text("refresh_token").to_owned();
    let bare = house.send(form(&refresh(&token), &[])).await;
    bare.is(400, "invalid_dpop_proof", "dpop-missing");
    assert_eq!(house.last_refusal().await, "dpop-missing");
    let stolen = house.ask(&refresh(&token), &thief.for_token()).await;
    stolen.is(400, "invalid_dpop_proof", "dpop-other-key");
    assert_eq!(house.last_refusal().await, "dpop-other-key");
    let next = house.ask(&refresh(&token), &holder.for_token()).await;
    house.is_bound(&next, &holder.jkt()).await;
    // Nor does a thief end the session with a token that was used.
    house.ask(&refresh(&token), &thief.for_token()).await.is(
        400,
        "invalid_dpop_proof",
        "dpop-other-key",
    );
    let token = next.text("refresh_token").to_owned();
    house
        .ask(&refresh(&token), &holder.for_token())
        .await
        .token();
    // A session that began without goes on with one, and then with that key.
    let plain = house.send(form(&SIGN_IN, &[])).await;
    let token = plain.text("refresh_token").to_owned();
    let next = house.ask(&refresh(&token), &holder.for_token()).await;
    house.is_bound(&next, &holder.jkt()).await;
    let token = next.text("refresh_token").to_owned();
    let bare = house.send(form(&refresh(&token), &[])).await;
    bare.is(400, "invalid_dpop_proof", "dpop-missing");
    house.close().await;
}

#[tokio::test]
async fn a_client_with_a_secret_may_change_its_key_but_not_leave_it_out() {
    let house = House::open().await;
    let (one, two) = (Holder::new(1), Holder::new(2));
    house.client("robot", Some("s"), false).await;
    let by = [("client_id", "robot"), ("client_secret", "s")];
    let fields = [&SIGN_IN[..1], &SIGN_IN[2..], &by].concat();
    let first = house.ask(&fields, &one.for_token()).await;
    let next = |token: String| {
        let mut fields = vec![("grant_type".to_owned(), "refresh_token".to_owned())];
        fields.push(("refresh_token".to_owned(), token));
        fields.extend(by.map(|(name, value)| (name.to_owned(), value.to_owned())));
        fields
    };
    fn plain(fields: &[(String, String)]) -> Vec<(&str, &str)> {
        let pairs = fields.iter();
        pairs
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }
    let fields = next(first.text("refresh_token").to_owned());
    let bare = house.send(form(&plain(&fields), &[])).await;
    bare.is(400, "invalid_dpop_proof", "dpop-missing");
    let answer = house.ask(&plain(&fields), &two.for_token()).await;
    house.is_bound(&answer, &two.jkt()).await;
    house.close().await;
}

#[tokio::test]
async fn a_client_that_is_registered_so_gets_nothing_without_a_proof() {
    let house = House::open().await;
    house.client("strict", None, true).await;
    let fields = [SIGN_IN[0], ("client_id", "strict"), SIGN_IN[2], SIGN_IN[3]];
    let bare = house.send(form(&fields, &[])).await;
    bare.is(400, "invalid_dpop_proof", "dpop-missing");
    assert_eq!(house.last_refusal().await, "dpop-missing");
    let device = [
        ("grant_type", DEVICE_GRANT),
        ("client_id", "strict"),
        ("device_code", "x"),
    ];
    let bare = house.send(form(&device, &[])).await;
    bare.is(400, "invalid_dpop_proof", "dpop-missing");
    house
        .ask(&fields, &Holder::new(1).for_token())
        .await
        .token();
    house.close().await;
}

#[tokio::test]
async fn where_nonces_are_needed_a_proof_has_one_of_this_server() {
    let house = House::open_with(&[], |config| config.oauth.dpop_nonce = true).await;
    let holder = Holder::new(1);
    let answer = house.ask(&SIGN_IN, &holder.for_token()).await;
    answer.is(400, "use_dpop_nonce", "dpop-nonce");
    let nonce = answer.headers["dpop-nonce"].to_str().unwrap().to_owned();
    let with = |nonce: &str| holder.proof(TOKEN_URL, None, Some(nonce));
    let answer = house.ask(&SIGN_IN, &with("another")).await;
    answer.is(400, "use_dpop_nonce", "dpop-nonce");
    let answer = house.ask(&SIGN_IN, &with(&nonce)).await;
    house.is_bound(&answer, &holder.jkt()).await;
    assert!(answer.headers.contains_key("dpop-nonce"));
    // Another process of the same service knows it, and so does the next.
    let dir = house.close().await;
    let house = House::open_in(dir, &[], |config| config.oauth.dpop_nonce = true).await;
    house.ask(&SIGN_IN, &with(&nonce)).await.token();
    // Whoever proves nothing needs none.
    let plain = house.send(form(&SIGN_IN, &[])).await;
    assert!(!plain.headers.contains_key("dpop-nonce"));
    plain.token();
    house.close().await;
}

#[tokio::test]
async fn t101_a_bound_token_decides_nothing_without_a_proof_for_that() {
    let house = House::open().await;
    let (holder, thief) = (Holder::new(1), Holder::new(2));
    let answer = house.ask(&SIGN_IN, &holder.for_token()).await;
    let token = answer.token().to_owned();
    let url = "http://127.0.0.1:5000/oauth/device";
    let decide = async |scheme: &str, proof: &str| {
        let authorization = format!("{scheme} {token}");
        let mut headers = vec![
            ("content-type", "application/json"),
            ("authorization", authorization.as_str()),
        ];
        if !proof.is_empty() {
            headers.push(("dpop", proof));
        }
        let body = json!({"user_code": "BCDF-GHJK", "decision": "approve"}).to_string();
        house
            .send(request(Method::POST, "/oauth/device", &headers, &body))
            .await
    };
    let good = || holder.proof(url, Some(&token), None);
    let once = good();
    for (scheme, proof, error) in [
        ("Bearer", String::new(), "invalid_token"),
        ("Bearer", good(), "invalid_token"),
        ("DPoP", String::new(), "invalid_token"),
        (
            "DPoP",
            thief.proof(url, Some(&token), None),
            "invalid_dpop_proof",
        ),
        ("DPoP", holder.proof(url, None, None), "invalid_dpop_proof"),
        (
            "DPoP",
            holder.proof(url, Some("another"), None),
            "invalid_dpop_proof",
        ),
        (
            "DPoP",
            holder.proof(TOKEN_URL, Some(&token), None),
            "invalid_dpop_proof",
        ),
    ] {
        let answer = decide(scheme, &proof).await;
        assert_eq!(answer.status, 401, "{scheme} {proof}");
        assert_eq!(answer.body["error"], error, "{:?}", answer.body);
        let challenge = answer.headers["www-authenticate"].to_str().unwrap();
        assert!(challenge.starts_with("DPoP error="), "{challenge}");
    }
    // There is no such device; who asks is who they say.
    decide("DPoP", &once)
        .await
        .is(400, "invalid_grant", "grant");
    decide("DPoP", &once)
        .await
        .is(401, "invalid_dpop_proof", "dpop-again");
    // A token that is bound to nothing is none that is.
    let plain = house.send(form(&SIGN_IN, &[])).await;
    let authorization = format!("DPoP {}", plain.token());
    let proof = holder.proof(url, Some(plain.token()), None);
    let headers = [
        ("content-type", "application/json"),
        ("authorization", authorization.as_str()),
        ("dpop", proof.as_str()),
    ];
    let body = json!({"user_code": "BCDF-GHJK", "decision": "approve"}).to_string();
    let answer = house
        .send(request(Method::POST, "/oauth/device", &headers, &body))
        .await;
    assert_eq!(answer.status, 401);
    house.close().await;
}

#[tokio::test]
async fn t101_the_broker_vouches_for_its_callers_and_nobody_else_does() {
    let house = House::open().await;
    let (holder, thief) = (Holder::new(1), Holder::new(2));
    let answer = house.ask(&SIGN_IN, &holder.for_token()).await;
    let token = answer.token().to_owned();
    let url = "http://127.0.0.1:5000/v1/keys";
    let list = |scheme: &str, proof: Option<&str>| {
        let authorization = format!("{scheme} {token}");
        let mut headers = vec![("authorization", authorization.as_str())];
        headers.extend(proof.map(|proof| ("dpop", proof)));
        request(Method::GET, "/v1/keys", &headers, "")
    };
    let proof = |holder: &Holder, id: &str| {
        holder.proof_at("GET", url, Some(&token), None, id, clock::now_s())
    };
    assert_eq!(house.send(list("Bearer", None)).await.status, 200);
    assert_eq!(house.send_tcp(list("Bearer", None)).await.status, 401);
    assert_eq!(house.send_tcp(list("DPoP", None)).await.status, 401);
    let stolen = proof(&thief, "a");
    assert_eq!(
        house.send_tcp(list("DPoP", Some(&stolen))).await.status,
        401
    );
    let own = proof(&holder, "b");
    assert_eq!(house.send_tcp(list("DPoP", Some(&own))).await.status, 200);
    assert_eq!(house.send_tcp(list("DPoP", Some(&own))).await.status, 401);
    assert_eq!(house.last_refusal().await, "dpop-again");
    house.close().await;
}

/// The form of an exchange with this token.
fn traded(token: &str, proofs: &[&str]) -> Request<Full<Bytes>> {
    form(&exchange_fields(token), proofs)
}

#[tokio::test]
async fn t16_where_keys_must_be_held_a_stolen_token_gets_no_warrant() {
    let house = House::open_multi_user(|config| {
        config.warrants.mode = Grants::Client;
        config.warrants.proof = Proof::Dpop;
    })
    .await;
    let (holder, thief) = (Holder::new(1), Holder::new(2));
    let login = [
        ("grant_type", "password"),
        ("username", "daemon"),
        ("password", "pw"),
        ("audience", "warrant-authsvc"),
    ];
    let for_login = holder.for_token();
    let answer = house.send_tcp(form(&login, &[&for_login])).await;
    let token = answer.token().to_owned();
    let plain = house.send_tcp(form(&login, &[])).await.token().to_owned();
    let broker = "https://jobs.example.org/v1/jobs/submit";
    let with = |holder: &Holder, url: &str, token: &str| holder.proof(url, Some(token), None);
    for (token, proof, reason) in [
        (&plain, None, "dpop-missing"),
        (
            &plain,
            Some(with(&holder, TOKEN_URL, &plain)),
            "dpop-missing",
        ),
        (&token, None, "dpop-missing"),
        (
            &token,
            Some(with(&thief, TOKEN_URL, &token)),
            "dpop-other-key",
        ),
        // What the broker saw: a proof for itself, and one for a login.
        (&token, Some(with(&holder, broker, &token)), "dpop-htu"),
        (&token, Some(for_login), "dpop-ath"),
        (&token, Some(holder.for_token()), "dpop-ath"),
        (&token, Some(with(&holder, TOKEN_URL, &plain)), "dpop-ath"),
    ] {
        let proofs: Vec<&str> = proof.as_deref().into_iter().collect();
        let answer = house.send_tcp(traded(token, &proofs)).await;
        answer.is_no_warrant("invalid_dpop_proof", reason);
        assert_eq!(house.last_refusal().await, reason);
    }
    let proof = with(&holder, TOKEN_URL, &token);
    let answer = house.send_tcp(traded(&token, &[&proof])).await;
    assert_eq!(answer.body["token_type"], "N_A", "{:?}", answer.body);
    let answer = house.send_tcp(traded(&token, &[&proof])).await;
    answer.is_no_warrant("invalid_dpop_proof", "dpop-again");
    // Nor does the proof of one exchange get a token.
    let proof = with(&holder, TOKEN_URL, &token);
    house.send_tcp(traded(&token, &[&proof])).await.token();
    let again = house.send_tcp(form(&login, &[&proof])).await;
    again.is(400, "invalid_dpop_proof", "dpop-again");
    house.close().await;
}

#[tokio::test]
async fn a_bound_token_of_a_client_is_exchanged_with_a_proof_alone_whatever_is_configured() {
    let house = House::open_multi_user(|config| config.warrants.mode = Grants::Client).await;
    let holder = Holder::new(1);
    let login = [
        ("grant_type", "password"),
        ("username", "daemon"),
        ("password", "pw"),
        ("audience", "warrant-authsvc"),
    ];
    let answer = house.send_tcp(form(&login, &[&holder.for_token()])).await;
    let bound = answer.token().to_owned();
    let plain = house.send_tcp(form(&login, &[])).await.token().to_owned();
    house.send_tcp(traded(&plain, &[])).await.token();
    let answer = house.send_tcp(traded(&bound, &[])).await;
    answer.is_no_warrant("invalid_dpop_proof", "dpop-missing");
    let proof = holder.proof(TOKEN_URL, Some(&bound), None);
    house.send_tcp(traded(&bound, &[&proof])).await.token();
    house.close().await;
}

#[tokio::test]
async fn the_broker_exchanges_the_bound_tokens_of_its_callers() {
    let house = House::open_multi_user(|_| {}).await;
    let login = [SIGN_IN[0], ("username", "daemon"), SIGN_IN[3]];
    let answer = house.ask(&login, &Holder::new(1).for_token()).await;
    let value: &Value = &answer.body["token_type"];
    assert_eq!(value, "DPoP");
    house.exchange(answer.token()).await.token();
    house.close().await;
}
