//! What outlives the request that it is given for: who may have it, and when it
//! ends.

use axum::http::Method;
use hyper::Request;
use hyper::body::Bytes;
use serde_json::{Value, json};
use warrant_api::oauth::DEVICE_GRANT;

use super::api_keys::{basic, key, wish};
use super::house::{House, request};
use super::oauth::{CALLBACK, CHALLENGE, VERIFIER};

/// Whether a key of `house` is exchanged for a token.
async fn counts(house: &House, key: &str) -> bool {
    house.exchanged("key", key).await.status == 200
}

/// Sign in with `scope`, as the command line does; the token.
async fn scoped(house: &House, user: &str, scope: &str) -> String {
    let fields = [
        ("grant_type", "password"),
        ("client_id", "warrant"),
        ("username", user),
        ("password", "pw"),
        ("scope", scope),
    ];
    house.grant(&fields).await.token().to_owned()
}

/// A device of `warrant`, let in with `token`; the answer with its tokens.
async fn device(house: &House, token: &str) -> super::house::Answer {
    let client = [("client_id", "warrant")];
    let begun = house.post("/oauth/device_authorization", &client).await;
    let text = |field: &str| begun.body[field].as_str().unwrap().to_owned();
    let word = json!({"user_code": text("user_code"), "decision": "approve"});
    let decided = house.post_json("/oauth/device", token, &word).await;
    assert_eq!(decided.status, 200, "{:?}", decided.body);
    let code = text("device_code");
    let fields = [
        ("grant_type", DEVICE_GRANT),
        ("client_id", "warrant"),
        ("device_code", code.as_str()),
    ];
    house.grant(&fields).await
}

async fn revoke(house: &House, token: &str) {
    let fields = [("client_id", "warrant"), ("token", token)];
    let sid = house.verify(token).await.1.sid;
    assert_eq!(house.post("/oauth/revoke", &fields).await.status, 200);
    let mut tx = house.db.begin().await.unwrap();
    let of = crate::store::sessions::Of::Id(&sid);
    let now_us = crate::clock::now_us();
    crate::store::sessions::end(&mut tx, of, "test", now_us)
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn t122_a_warrant_takes_a_token_with_submit() {
    let house = House::open_multi_user(|_| {}).await;
    let (_, narrow) = key(
        &house,
        "daemon",
        &json!({"label": "r", "scopes": "read control"}),
    )
    .await;
    let of_key = house.exchanged("key", &narrow).await.token().to_owned();
    let device_scope = {
        let token = scoped(&house, "daemon", "read control").await;
        device(&house, &token).await.token().to_owned()
    };
    let tokens = [
        scoped(&house, "daemon", "read").await,
        scoped(&house, "daemon", "control").await,
        scoped(&house, "daemon", "read control").await,
        of_key,
        device_scope,
    ];
    for token in tokens {
        house
            .exchange(&token)
            .await
            .is_no_warrant("invalid_scope", "scope");
        let row = house.audit().await.pop().unwrap();
        let told = (
            row.kind.as_str(),
            row.outcome.as_str(),
            row.reason.as_deref(),
        );
        assert_eq!(told, ("warrant", "refused", Some("scope")));
        assert_eq!(row.subject.as_deref(), Some("daemon"));
    }
    let token = scoped(&house, "daemon", "submit").await;
    house.exchange(&token).await.token();
    house.close().await;
}

#[tokio::test]
async fn t122_a_user_has_no_more_warrants_in_a_second_than_configured() {
    let house = House::open_multi_user(|config| config.warrants.per_second = 1).await;
    let token = scoped(&house, "daemon", "submit").await;
    let other = scoped(&house, "bin", "submit").await;
    let mut refused = None;
    for _ in 0..50 {
        let answer = house.exchange(&token).await;
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("nobody was refused");
    assert_eq!(refused.status, 429, "{:?}", refused.body);
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(refused.body["reason"], "rate");
    house.exchange(&other).await.token();
    let rows = house.audit().await;
    assert!(rows.iter().any(|row| row.reason.as_deref() == Some("rate")));
    house.close().await;
}

/// A request for a key with these headers.
fn bare(headers: &[(&str, &str)]) -> Request<http_body_util::Full<Bytes>> {
    let new = json!({"label": "stolen", "expires_in_days": 366}).to_string();
    let kind = ("content-type", "application/json");
    request(Method::POST, "/v1/keys", &[&[kind], headers].concat(), &new)
}

#[tokio::test]
async fn t123_a_key_takes_a_proof_in_the_very_request() {
    let house = House::open().await;
    let login = house
        .login("ann", "pw", "192.0.2.1")
        .await
        .token()
        .to_owned();
    let whole = scoped(&house, "ann", "read submit control").await;
    let of_device = device(&house, &whole).await.token().to_owned();
    let (_, first) = key(&house, "ann", &json!({"label": "ci"})).await;
    let of_key = house.exchanged("key", &first).await.token().to_owned();
    let secret = house.confidential("robot").await;
    let client = [
        ("grant_type", "client_credentials"),
        ("client_id", "robot"),
        ("client_secret", secret.as_str()),
    ];
    let of_client = house.grant(&client).await;
    let mut tokens = vec![login, whole, of_device, of_key];
    if of_client.status == 200 {
        tokens.push(of_client.token().to_owned());
    }
    for token in &tokens {
        for scheme in ["Bearer", "DPoP"] {
            let shown = format!("{scheme} {token}");
            for over_tcp in [false, true] {
                let asked = bare(&[("authorization", &shown)]);
                let answer = match over_tcp {
                    true => house.send_tcp(asked).await,
                    false => house.send(asked).await,
                };
                assert_eq!(answer.status, 403, "{:?}", answer.body);
                let detail = answer.body["detail"].as_str().unwrap();
                assert!(detail.contains("Authorization: Basic"), "{detail}");
                assert!(detail.contains("/account"), "{detail}");
            }
        }
        let row = house.audit().await.pop().unwrap();
        assert_eq!(
            (
                row.kind.as_str(),
                row.action.as_deref(),
                row.reason.as_deref()
            ),
            ("key", Some("create"), Some("proof"))
        );
        assert_eq!(row.subject.as_deref(), Some("ann"));
    }
    for (headers, status) in [
        (&[][..], 401),
        (&[("x-api-key", first.as_str())], 401),
        (&[("cookie", "__Host-warrant=x")], 403),
        (&[("authorization", "Basic x")], 403),
        (&[("authorization", first.as_str())], 403),
    ] {
        let answer = house.send(bare(headers)).await;
        assert_eq!(answer.status, status, "{headers:?}: {:?}", answer.body);
    }
    let challenged = house.send(bare(&[])).await;
    let challenge = challenged.headers["www-authenticate"].to_str().unwrap();
    assert!(challenge.starts_with("Basic realm="), "{challenge}");
    // The password proves it; a wrong one counts as a failed login.
    let new = json!({"label": "good"});
    let wrong = house.send(wish(&basic("ann", "wrong"), &new)).await;
    wrong.is_refused(400, "Incorrect user or password");
    let made = house.send(wish(&basic("ann", "pw"), &new)).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    assert_eq!(made.body["proof"], "password");
    let stored = house
        .send(request(
            Method::GET,
            "/v1/keys",
            &[("authorization", &format!("Bearer {}", tokens[0]))],
            "",
        ))
        .await;
    assert_eq!(stored.body["keys"].as_array().unwrap().len(), 2);
    house.close().await;
}

#[tokio::test]
async fn t123_passwords_for_keys_are_guessed_as_slowly_as_at_the_login() {
    let house = House::open().await;
    let new = json!({"label": "guess"});
    for _ in 0..10 {
        let answer = house.send(wish(&basic("ann", "wrong"), &new)).await;
        assert_eq!(answer.status, 400);
    }
    let answer = house.send(wish(&basic("ann", "pw"), &new)).await;
    assert_eq!(answer.status, 429, "{:?}", answer.body);
    assert!(answer.headers.contains_key("retry-after"));
    house.close().await;
}

#[tokio::test]
async fn t123_a_user_makes_no_more_keys_in_a_minute_than_configured() {
    let house = House::open_with(&[], |config| config.api_keys.per_minute = 2).await;
    house.add("bob", "pw").await;
    let new = json!({"label": "x"});
    for status in [201, 201, 429] {
        let answer = house.send(wish(&basic("ann", "pw"), &new)).await;
        assert_eq!(answer.status, status, "{:?}", answer.body);
    }
    let answer = house.send(wish(&basic("ann", "pw"), &new)).await;
    let wait_s: u64 = answer.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=30).contains(&wait_s), "{wait_s}");
    key(&house, "bob", &new).await;
    let row = house.audit().await.into_iter();
    assert!(
        row.into_iter()
            .any(|row| row.reason.as_deref() == Some("rate"))
    );
    house.close().await;
}

#[tokio::test]
async fn t123_no_key_is_good_for_more_or_for_longer_than_the_site_allows() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open_in(dir, &[], |_| {}).await;
    let (_, made) = key(
        &house,
        "ann",
        &json!({"label": "x", "expires_in_days": 300}),
    )
    .await;
    let dir = house.close().await;
    let narrow = |config: &mut crate::config::Config| {
        config.api_keys.max_days = 30;
        config.api_keys.default_days = 7;
        config.api_keys.scopes = "read submit".parse().unwrap();
    };
    let house = House::open_in(dir, &[], narrow).await;
    for (new, status) in [
        (json!({"label": "x", "expires_in_days": 31}), 422),
        (json!({"label": "x", "scopes": "control"}), 403),
    ] {
        let answer = house.send(wish(&basic("ann", "pw"), &new)).await;
        assert_eq!(answer.status, status, "{:?}", answer.body);
    }
    let answer = house
        .send(wish(&basic("ann", "pw"), &json!({"label": "x"})))
        .await;
    assert_eq!(answer.body["scopes"], "read submit");
    // A key from before is good for no more either, and ends as early.
    let given = house.exchanged("key", &made).await;
    let scope = house.verify(given.token()).await.1.scope;
    assert_eq!(scope.to_string(), "read submit");
    house
        .spoil("update api_keys set created_us = created_us - 2678400000000")
        .await;
    assert!(!counts(&house, &made).await);
    house.close().await;
}

#[tokio::test]
async fn t123_what_a_session_let_in_ends_with_it() {
    let house = House::open().await;
    let token = scoped(&house, "ann", "read submit control").await;
    let let_in = device(&house, &token).await;
    let refresh = let_in.body["refresh_token"].as_str().unwrap().to_owned();
    assert!(house.is_active(let_in.token()).await);
    let next = house.refresh(&refresh).await;
    assert!(house.is_active(next.token()).await);
    let sid = house.verify(next.token()).await.1.sid;
    revoke(&house, &token).await;
    assert!(!house.is_active(next.token()).await);
    let refresh = next.body["refresh_token"].as_str().unwrap().to_owned();
    assert_eq!(house.refresh(&refresh).await.status, 400);
    let told = ("session".to_owned(), sid);
    assert!(house.revocations().await.contains(&told));
    house.close().await;
}

#[tokio::test]
async fn t123_what_a_session_lets_in_ends_no_later_than_it() {
    let house = House::open().await;
    let token = house
        .login("ann", "pw", "192.0.2.1")
        .await
        .token()
        .to_owned();
    let ends_s = house.verify(&token).await.1.exp;
    let let_in = device(&house, &token).await;
    let sid = house.verify(let_in.token()).await.1.sid;
    let mut conn = house.db.read().await.unwrap();
    let session = crate::store::sessions::find(&mut conn, &sid).await.unwrap();
    drop(conn);
    let session = session.unwrap();
    assert!(session.expires_us as u64 / 1_000_000 <= ends_s);
    // Once that session is over by itself, nothing more comes of it.
    house
        .spoil("update sessions set expires_us = 1 where parent_id is null")
        .await;
    assert!(!house.is_active(let_in.token()).await);
    let refresh = let_in.body["refresh_token"].as_str().unwrap().to_owned();
    assert_eq!(house.refresh(&refresh).await.status, 400);
    house.close().await;
}

#[tokio::test]
async fn t123_a_code_or_an_approval_that_nobody_used_ends_with_its_session() {
    let house = House::open().await;
    let secret = house.confidential("robot").await;
    let token = scoped(&house, "ann", "read submit control").await;
    let asked = json!({
        "response_type": "code", "client_id": "robot", "redirect_uri": CALLBACK, "state": "s",
        "code_challenge": CHALLENGE, "code_challenge_method": "S256",
    });
    let given = house.post_json("/oauth/authorize", &token, &asked).await;
    let redirect = given.body["redirect"].as_str().unwrap().to_owned();
    let (_, query) = redirect.split_once('?').unwrap();
    let code = form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "code")
        .unwrap()
        .1
        .into_owned();
    let client = [("client_id", "warrant")];
    let begun = house.post("/oauth/device_authorization", &client).await;
    let text = |field: &str| begun.body[field].as_str().unwrap().to_owned();
    let word = json!({"user_code": text("user_code"), "decision": "approve"});
    house.post_json("/oauth/device", &token, &word).await;
    revoke(&house, &token).await;
    let exchange = [
        ("grant_type", "authorization_code"),
        ("client_id", "robot"),
        ("client_secret", secret.as_str()),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
        ("code", code.as_str()),
    ];
    assert_eq!(house.grant(&exchange).await.status, 400);
    let device_code = text("device_code");
    let polled = [
        ("grant_type", DEVICE_GRANT),
        ("client_id", "warrant"),
        ("device_code", device_code.as_str()),
    ];
    assert_eq!(house.grant(&polled).await.status, 400);
    house.close().await;
}

#[tokio::test]
async fn t123_keys_are_listed_and_revoked_only_with_tokens_that_may() {
    let house = House::open().await;
    let (id, _) = key(&house, "ann", &json!({"label": "ci"})).await;
    for (scope, method, path, status) in [
        ("submit", Method::GET, "/v1/keys".to_owned(), 403),
        ("read", Method::DELETE, format!("/v1/keys/{id}"), 403),
        ("read submit", Method::DELETE, "/v1/keys".to_owned(), 403),
        ("read", Method::GET, "/v1/keys".to_owned(), 200),
        ("control", Method::DELETE, format!("/v1/keys/{id}"), 200),
    ] {
        let shown = format!("Bearer {}", scoped(&house, "ann", scope).await);
        let asked = request(method, &path, &[("authorization", &shown)], "");
        let answer = house.send_tcp(asked).await;
        assert_eq!(answer.status, status, "{scope} {path}: {:?}", answer.body);
    }
    house.close().await;
}

#[tokio::test]
async fn keys_from_before_proofs_count_until_their_end_and_say_so() {
    let house = House::open().await;
    let (_, made) = key(&house, "ann", &json!({"label": "old"})).await;
    house.spoil("update api_keys set proof = 'token'").await;
    assert!(counts(&house, &made).await);
    let shown = format!("Bearer {}", scoped(&house, "ann", "read").await);
    let list = request(Method::GET, "/v1/keys", &[("authorization", &shown)], "");
    let list: Value = house.send(list).await.body;
    assert_eq!(list["keys"][0]["proof"], "token");
    house.close().await;
}
