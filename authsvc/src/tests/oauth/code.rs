//! The code flow, from the user's word to the tokens.

use axum::http::Method;
use serde_json::{Value, json};

use super::super::house::{Answer, House, request};
use super::{CALLBACK, CHALLENGE, VERIFIER, altered, form};
use crate::config::Grants;

/// A request of the client `robot`.
fn asked() -> Value {
    json!({
        "response_type": "code", "client_id": "robot", "redirect_uri": CALLBACK,
        "state": "s&t=a te", "code_challenge": CHALLENGE, "code_challenge_method": "S256",
    })
}

/// The fields in the query of the address that the user is sent to.
fn redirected(answer: &Answer) -> std::collections::HashMap<String, String> {
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    assert_eq!(answer.headers["cache-control"], "no-store");
    let uri = answer.body["redirect"].as_str().unwrap();
    let (address, query) = uri.split_once('?').unwrap();
    assert_eq!(address, CALLBACK);
    form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect()
}

async fn code(house: &House, user: &str) -> String {
    let token = house.sign_in(user).await;
    let answer = house
        .post_json("/oauth/authorize", token.token(), &asked())
        .await;
    redirected(&answer)["code"].clone()
}

async fn redeem(house: &House, secret: &str, change: &[(&str, &str)]) -> Answer {
    let mut fields = vec![
        ("grant_type", "authorization_code"),
        ("client_id", "robot"),
        ("client_secret", secret),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    for (name, value) in change {
        fields.retain(|(field, _)| field != name);
        if !value.is_empty() {
            fields.push((name, value));
        }
    }
    house.grant(&fields).await
}

#[tokio::test]
async fn a_user_lets_a_client_have_tokens() {
    let house = House::open().await;
    let secret = house.confidential("robot").await;
    let token = house.sign_in("ann").await;
    let answer = house
        .post_json("/oauth/authorize", token.token(), &asked())
        .await;
    let fields = redirected(&answer);
    assert_eq!(
        (fields["state"].as_str(), fields["iss"].as_str()),
        ("s&t=a te", "http://127.0.0.1:5000")
    );
    let answer = redeem(&house, &secret, &[("code", &fields["code"])]).await;
    assert_eq!(answer.body["scope"], "read submit");
    let (_, claims) = house.verify(answer.token()).await;
    assert_eq!(
        (claims.sub.as_str(), claims.client_id.as_str()),
        ("ann", "robot")
    );
    assert_ne!(claims.sid, house.verify(token.token()).await.1.sid);
    house
        .refresh(&answer.refresh_token())
        .await
        .is_oauth_error(400, "invalid_grant");
    house.close().await;
}

#[tokio::test]
async fn t107_a_code_that_is_used_again_ends_the_session_that_was_made_of_it() {
    let house = House::open().await;
    let secret = house.confidential("robot").await;
    let code = code(&house, "ann").await;
    let answer = redeem(&house, &secret, &[("code", &code)]).await;
    assert!(house.is_active(answer.token()).await);
    let again = redeem(&house, &secret, &[("code", &code)]).await;
    again.is_oauth_error(400, "invalid_grant");
    assert_eq!(house.last_reason().await, "code-reuse");
    assert!(!house.is_active(answer.token()).await);
    let sid = house.verify(answer.token()).await.1.sid;
    assert_eq!(house.revocations().await, [("session".into(), sid)]);
    house.close().await;
}

#[tokio::test]
async fn t107_of_two_who_use_one_code_at_once_none_keeps_it() {
    let house = House::open().await;
    let secret = house.confidential("robot").await;
    let code = code(&house, "ann").await;
    let fields = [("code", code.as_str())];
    let ask = || redeem(&house, &secret, &fields);
    let (one, other) = tokio::join!(ask(), ask());
    let given: Vec<_> = [one, other]
        .into_iter()
        .filter(|answer| answer.status == 200)
        .collect();
    assert_eq!(given.len(), 1);
    assert!(!house.is_active(given[0].token()).await);
    house.close().await;
}

#[tokio::test]
async fn t107_a_code_is_good_for_its_client_its_address_and_its_verifier_once() {
    let house = House::open().await;
    let secret = house.confidential("robot").await;
    let other = house.confidential("other").await;
    let long = "a".repeat(129);
    for (change, reason) in [
        (vec![("code_verifier", CHALLENGE)], "verifier"),
        (vec![("code_verifier", &VERIFIER[..42])], "verifier"),
        (vec![("code_verifier", long.as_str())], "verifier"),
        (
            vec![("redirect_uri", "https://app.example.org/callback/")],
            "redirect-uri",
        ),
        (
            vec![("client_id", "other"), ("client_secret", other.as_str())],
            "other-client",
        ),
    ] {
        let code = code(&house, "ann").await;
        let wrong = [change.as_slice(), &[("code", code.as_str())]].concat();
        redeem(&house, &secret, &wrong)
            .await
            .is_oauth_error(400, "invalid_grant");
        assert_eq!(house.last_reason().await, reason);
        // Whoever tried had the code: it is spent.
        let answer = redeem(&house, &secret, &[("code", &code)]).await;
        answer.is_oauth_error(400, "invalid_grant");
    }
    for field in ["code_verifier", "redirect_uri"] {
        let code = code(&house, "ann").await;
        let answer = redeem(&house, &secret, &[("code", &code), (field, "")]).await;
        answer.is_oauth_error(400, "invalid_request");
    }
    let altered = altered(&code(&house, "ann").await);
    for text in [altered.as_str(), "x", "wrc_"] {
        let answer = redeem(&house, &secret, &[("code", text)]).await;
        answer.is_oauth_error(400, "invalid_grant");
    }
    house.close().await;
}

#[tokio::test]
async fn a_code_is_over_after_a_minute_and_dies_with_the_users_password() {
    let house = House::open().await;
    let secret = house.confidential("robot").await;
    let late = code(&house, "ann").await;
    house
        .spoil("update authorization_codes set expires_us = expires_us - 60000000")
        .await;
    let answer = redeem(&house, &secret, &[("code", &late)]).await;
    answer.is_oauth_error(400, "invalid_grant");
    assert_eq!(house.last_reason().await, "code-expired");

    let pending = code(&house, "ann").await;
    let mut tx = house.db.begin().await.unwrap();
    crate::sessions::end_account(&mut tx, "ann", "password-changed")
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let answer = redeem(&house, &secret, &[("code", &pending)]).await;
    answer.is_oauth_error(400, "invalid_grant");
    assert_eq!(house.last_reason().await, "code");
    house.close().await;
}

#[tokio::test]
async fn t107_nothing_is_ever_sent_to_an_address_that_is_not_the_clients() {
    let house = House::open().await;
    house.confidential("robot").await;
    let token = house.sign_in("ann").await;
    let uris = [
        "",
        "https://evil.test/",
        "https://app.example.org/callback/",
        "https://app.example.org/callback#x",
        "https://app.example.org/callback?x=1",
        "https://app.example.org.evil.test/callback",
        "https://evil.app.example.org/callback",
        "https://app.example.org@evil.test/callback",
        "http://app.example.org/callback",
        "//app.example.org/callback",
        "javascript:alert(1)",
        "http://127.0.0.1/callback",
    ];
    // Not even to say what else is wrong.
    for uri in uris {
        for method in ["S256", "plain"] {
            let mut asked = asked();
            asked["redirect_uri"] = json!(uri);
            asked["code_challenge_method"] = json!(method);
            let answer = house
                .post_json("/oauth/authorize", token.token(), &asked)
                .await;
            answer.is_oauth_error(400, "invalid_request");
            assert!(answer.body.get("redirect").is_none());
            assert!(!answer.headers.contains_key("location"));
        }
    }
    for client in ["nobody", ""] {
        let mut asked = asked();
        asked["client_id"] = json!(client);
        let answer = house
            .post_json("/oauth/authorize", token.token(), &asked)
            .await;
        answer.is_oauth_error(400, "invalid_request");
    }
    house.close().await;
}

#[tokio::test]
async fn t107_a_request_without_state_or_pkce_gets_no_code() {
    let house = House::open().await;
    house.confidential("robot").await;
    let token = house.sign_in("ann").await;
    let long = "s".repeat(1025);
    for (field, value, error) in [
        ("state", json!(null), "invalid_request"),
        ("state", json!(""), "invalid_request"),
        ("state", json!(long), "invalid_request"),
        ("code_challenge", json!(null), "invalid_request"),
        ("code_challenge", json!("short"), "invalid_request"),
        (
            "code_challenge",
            json!(format!("{CHALLENGE}=")),
            "invalid_request",
        ),
        ("code_challenge_method", json!(null), "invalid_request"),
        ("code_challenge_method", json!("plain"), "invalid_request"),
        ("response_type", json!("token"), "unsupported_response_type"),
        ("response_type", json!(null), "unsupported_response_type"),
        ("scope", json!("control"), "invalid_scope"),
        ("scope", json!("root"), "invalid_scope"),
    ] {
        let mut asked = asked();
        asked[field] = value.clone();
        let answer = house
            .post_json("/oauth/authorize", token.token(), &asked)
            .await;
        let fields = redirected(&answer);
        assert_eq!(fields["error"], error, "{field}: {value}");
        assert!(!fields.contains_key("code"));
        assert_eq!(fields["iss"], "http://127.0.0.1:5000");
        if field != "state" {
            assert_eq!(fields["state"], "s&t=a te");
        }
    }
    house.close().await;
}

#[tokio::test]
async fn only_somebody_who_logged_in_lets_clients_have_tokens() {
    let house = House::open().await;
    let secret = house.confidential("robot").await;
    let code = code(&house, "ann").await;
    let delegated = redeem(&house, &secret, &[("code", &code)]).await;
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", "robot"),
        ("client_secret", secret.as_str()),
    ];
    let by_itself = house.grant(&fields).await;
    let refresh = house.sign_in("ann").await.refresh_token();
    for token in [delegated.token(), by_itself.token(), &refresh, "x", ""] {
        let answer = house.post_json("/oauth/authorize", token, &asked()).await;
        answer.is_oauth_error(401, "invalid_token");
        assert!(
            answer.headers["www-authenticate"]
                .to_str()
                .unwrap()
                .starts_with("Bearer ")
        );
    }
    house.close().await;
}

#[tokio::test]
async fn t101_where_clients_get_their_own_warrants_a_token_for_the_broker_lets_nobody_in() {
    let house = House::open_multi_user(|config| config.warrants.mode = Grants::Client).await;
    house.confidential("robot").await;
    for (audience, status) in [("warrant-broker", 401), ("warrant-authsvc", 200)] {
        let fields = [
            ("grant_type", "password"),
            ("client_id", "warrant"),
            ("username", "daemon"),
            ("password", "pw"),
            ("audience", audience),
        ];
        let given = house.send_tcp(form("/oauth/token", &fields, &[])).await;
        let bearer = format!("Bearer {}", given.token());
        let headers = [
            ("content-type", "application/json"),
            ("authorization", bearer.as_str()),
        ];
        let body = asked().to_string();
        let request = request(Method::POST, "/oauth/authorize", &headers, &body);
        let answer = house.send_tcp(request).await;
        assert_eq!(answer.status, status, "{audience}: {:?}", answer.body);
    }
    house.close().await;
}

#[tokio::test]
async fn nobody_gives_more_than_the_token_that_gives_may_be_used_for() {
    let house = House::open().await;
    let secret = house.confidential("robot").await;
    let fields = [
        ("grant_type", "password"),
        ("client_id", "warrant"),
        ("username", "ann"),
        ("password", "pw"),
        ("scope", "read"),
    ];
    let token = house.grant(&fields).await;
    let answer = house
        .post_json("/oauth/authorize", token.token(), &asked())
        .await;
    let code = redirected(&answer)["code"].clone();
    let answer = redeem(&house, &secret, &[("code", &code)]).await;
    assert_eq!(answer.body["scope"], "read");
    let mut more = asked();
    more["scope"] = json!("submit");
    let answer = house
        .post_json("/oauth/authorize", token.token(), &more)
        .await;
    assert_eq!(redirected(&answer)["error"], "invalid_scope");
    house.close().await;
}

#[tokio::test]
async fn a_program_on_the_users_machine_gets_its_code_at_any_port() {
    let house = House::open().await;
    let token = house.sign_in("ann").await;
    let uri = "http://127.0.0.1:49152/callback";
    let mut asked = asked();
    asked["client_id"] = json!("warrant");
    asked["redirect_uri"] = json!(uri);
    let answer = house
        .post_json("/oauth/authorize", token.token(), &asked)
        .await;
    let redirect = answer.body["redirect"].as_str().unwrap();
    let (address, query) = redirect.split_once('?').unwrap();
    assert_eq!(address, uri);
    let (_, code) = form_urlencoded::parse(query.as_bytes()).next().unwrap();
    let fields = [
        ("grant_type", "authorization_code"),
        ("client_id", "warrant"),
        ("redirect_uri", uri),
        ("code_verifier", VERIFIER),
        ("code", &code),
    ];
    let answer = house.grant(&fields).await;
    assert_eq!(answer.body["scope"], "read submit control");
    house.refresh(&answer.refresh_token()).await.token();
    house.close().await;
}

#[tokio::test]
async fn without_a_page_the_front_door_says_what_is_wrong_in_plain_text() {
    let house = House::open().await;
    house.confidential("robot").await;
    let query = |uri: &str| {
        format!(
            "/oauth/authorize?response_type=code&client_id=robot&redirect_uri={uri}&state=s\
             &code_challenge={CHALLENGE}&code_challenge_method=S256"
        )
    };
    for (path, status) in [
        (query(CALLBACK), 501),
        (query("https://evil.test/"), 400),
        (format!("{}&scope=root", query(CALLBACK)), 400),
        (format!("{}&state=t", query(CALLBACK)), 400),
        ("/oauth/authorize".to_owned(), 400),
    ] {
        let answer = house.get(&path).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(!answer.headers.contains_key("location"));
        assert!(
            answer.headers["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/plain")
        );
    }
    house.close().await;
}
