//! Devices, and those who approve them.

use serde_json::{Value, json};

use super::super::house::{Answer, House};
use warrant_api::oauth::DEVICE_GRANT;

async fn begin(house: &House) -> Answer {
    let answer = house
        .post("/oauth/device_authorization", &[("client_id", "warrant")])
        .await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer
}

fn text<'a>(answer: &'a Answer, field: &str) -> &'a str {
    answer.body[field].as_str().unwrap()
}

async fn poll(house: &House, begun: &Answer) -> Answer {
    house
        .grant(&[
            ("grant_type", DEVICE_GRANT),
            ("client_id", "warrant"),
            ("device_code", text(begun, "device_code")),
        ])
        .await
}

async fn decide(house: &House, token: &str, code: &str, decision: &str) -> Answer {
    let body: Value = json!({"user_code": code, "decision": decision});
    house.post_json("/oauth/device", token, &body).await
}

/// Let every device have waited.
async fn wait(house: &House) {
    house
        .spoil("update device_codes set polled_us = polled_us - 60000000")
        .await;
}

#[tokio::test]
async fn a_device_gets_tokens_once_its_user_has_approved_it_and_once_only() {
    let house = House::open().await;
    let begun = begin(&house).await;
    assert_eq!(begun.headers["cache-control"], "no-store");
    assert_eq!(
        (&begun.body["interval"], &begun.body["expires_in"]),
        (&json!(5), &json!(600))
    );
    let code = text(&begun, "user_code").to_owned();
    let uri = "http://127.0.0.1:5000/oauth/device";
    assert_eq!(text(&begun, "verification_uri"), uri);
    assert_eq!(
        text(&begun, "verification_uri_complete"),
        format!("{uri}?user_code={code}")
    );
    poll(&house, &begun)
        .await
        .is_oauth_error(400, "authorization_pending");

    let token = house.sign_in("ann").await;
    let typed = code.replace('-', "").to_lowercase();
    let decided = decide(&house, token.token(), &typed, "approve").await;
    assert_eq!(decided.body["client"], "Warrant command line");
    assert_eq!(decided.body["scope"], "read submit control");
    let given = poll(&house, &begun).await;
    let (_, claims) = house.verify(given.token()).await;
    assert_eq!(
        (claims.sub.as_str(), claims.client_id.as_str()),
        ("ann", "warrant")
    );
    assert_ne!(claims.sid, house.verify(token.token()).await.1.sid);
    house.refresh(&given.refresh_token()).await.token();
    poll(&house, &begun)
        .await
        .is_oauth_error(400, "invalid_grant");
    // A device does not let others in.
    let second = begin(&house).await;
    let answer = decide(&house, given.token(), text(&second, "user_code"), "approve").await;
    answer.is_oauth_error(401, "invalid_token");
    house.close().await;
}

#[tokio::test]
async fn a_device_that_asks_too_often_has_to_wait_longer() {
    let house = House::open().await;
    let begun = begin(&house).await;
    poll(&house, &begun)
        .await
        .is_oauth_error(400, "authorization_pending");
    for _ in 0..2 {
        poll(&house, &begun).await.is_oauth_error(400, "slow_down");
    }
    wait(&house).await;
    poll(&house, &begun)
        .await
        .is_oauth_error(400, "authorization_pending");
    house
        .spoil("update device_codes set polled_us = polled_us - 14000000")
        .await;
    poll(&house, &begun).await.is_oauth_error(400, "slow_down");
    // To wait is no refusal: nobody fills the audit trail with it.
    assert!(
        house
            .audit()
            .await
            .iter()
            .all(|row| row.outcome == "granted")
    );
    house.close().await;
}

#[tokio::test]
async fn a_user_says_no_and_a_code_runs_out() {
    let house = House::open().await;
    let token = house.sign_in("ann").await;
    let begun = begin(&house).await;
    let code = text(&begun, "user_code");
    let answer = decide(&house, token.token(), code, "deny").await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body["scope"]),
        (200, &json!(""))
    );
    poll(&house, &begun)
        .await
        .is_oauth_error(400, "access_denied");
    let again = decide(&house, token.token(), code, "approve").await;
    again.is_oauth_error(400, "invalid_grant");

    let late = begin(&house).await;
    house
        .spoil("update device_codes set expires_us = expires_us - 600000000")
        .await;
    poll(&house, &late)
        .await
        .is_oauth_error(400, "expired_token");
    let answer = decide(&house, token.token(), text(&late, "user_code"), "approve").await;
    answer.is_oauth_error(400, "invalid_grant");
    house.close().await;
}

#[tokio::test]
async fn of_two_who_ask_at_once_one_gets_the_tokens() {
    let house = House::open().await;
    let token = house.sign_in("ann").await;
    let begun = begin(&house).await;
    decide(&house, token.token(), text(&begun, "user_code"), "approve").await;
    let (one, other) = tokio::join!(poll(&house, &begun), poll(&house, &begun));
    let given = [one, other]
        .into_iter()
        .filter(|answer| answer.status == 200);
    assert_eq!(given.count(), 1);
    house.close().await;
}

#[tokio::test]
async fn a_device_code_is_for_its_client_alone() {
    let house = House::open().await;
    let secret = house.confidential("robot").await;
    let begun = begin(&house).await;
    let fields = [
        ("grant_type", DEVICE_GRANT),
        ("client_id", "robot"),
        ("client_secret", secret.as_str()),
        ("device_code", text(&begun, "device_code")),
    ];
    house
        .grant(&fields)
        .await
        .is_oauth_error(400, "invalid_grant");
    poll(&house, &begun)
        .await
        .is_oauth_error(400, "authorization_pending");
    // And nobody begins as a client that does not prove itself.
    let answer = house
        .post("/oauth/device_authorization", &[("client_id", "robot")])
        .await;
    answer.is_oauth_error(401, "invalid_client");
    let fields = [("client_id", "warrant"), ("scope", "root")];
    let answer = house.post("/oauth/device_authorization", &fields).await;
    answer.is_oauth_error(400, "invalid_scope");
    house.close().await;
}

#[tokio::test]
async fn nobody_tries_many_codes_or_begins_many_devices() {
    let house = House::open().await;
    let token = house.sign_in("ann").await;
    for number in 0..10 {
        let answer = decide(&house, token.token(), "BCDF-GHJK", "approve").await;
        answer.is_oauth_error(400, "invalid_grant");
        let _ = number;
        begin(&house).await;
    }
    let answer = decide(&house, token.token(), "BCDF-GHJK", "approve").await;
    answer.is_oauth_error(429, "temporarily_unavailable");
    assert!(answer.headers.contains_key("retry-after"));
    let answer = house
        .post("/oauth/device_authorization", &[("client_id", "warrant")])
        .await;
    answer.is_oauth_error(429, "temporarily_unavailable");
    house.close().await;
}

#[tokio::test]
async fn t105_what_a_user_approved_dies_with_the_users_password() {
    let house = House::open().await;
    let token = house.sign_in("ann").await;
    let begun = begin(&house).await;
    decide(&house, token.token(), text(&begun, "user_code"), "approve").await;
    let mut tx = house.db.begin().await.unwrap();
    crate::sessions::end_account(&mut tx, "ann", "password-changed")
        .await
        .unwrap();
    tx.commit().await.unwrap();
    poll(&house, &begun)
        .await
        .is_oauth_error(400, "invalid_grant");
    house.close().await;
}

#[tokio::test]
async fn t107_a_device_gets_no_more_than_the_token_that_approves_it_may_be_used_for() {
    let house = House::open().await;
    let begun = begin(&house).await;
    let fields = [
        ("grant_type", "password"),
        ("client_id", "warrant"),
        ("username", "ann"),
        ("password", "pw"),
        ("scope", "read"),
    ];
    let reader = house.grant(&fields).await;
    let decided = decide(&house, reader.token(), text(&begun, "user_code"), "approve").await;
    assert_eq!(decided.body["scope"], "read", "{:?}", decided.body);
    assert_eq!(poll(&house, &begun).await.body["scope"], "read");
    house.close().await;
}
