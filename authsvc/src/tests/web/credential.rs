//! What the broker exchanges: cookies, names and passwords.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::house::House;
use super::Browser;

#[tokio::test]
async fn a_cookie_is_exchanged_for_a_short_token_of_its_session() {
    let house = House::open().await;
    let browser = Browser::signed_in(&house, "ann").await;
    let answer = house.exchanged("cookie", &browser.cookie()).await;
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.body["expires_in"], 300);
    assert_eq!(answer.body["csrf"], browser.csrf().await.as_str());
    let (_, claims) = house.verify(answer.token()).await;
    assert_eq!(
        (claims.sub.as_str(), claims.client_id.as_str()),
        ("ann", "web")
    );
    assert_eq!(claims.scope.to_string(), "read submit control");
    let again = house.exchanged("cookie", &browser.cookie()).await;
    let other = house.verify(again.token()).await.1;
    assert_eq!(other.sid, claims.sid);
    assert_ne!(other.jti, claims.jti);
    let rows = house.audit().await;
    let row = rows.last().unwrap();
    assert_eq!(
        (row.kind.as_str(), row.action.as_deref()),
        ("web", Some("exchange"))
    );
    // The broker's tokens let no client and no device in.
    let oauth = ["/oauth/authorize", "/oauth/device"];
    for (path, body) in oauth
        .into_iter()
        .zip(["{}", r#"{"user_code":"x","decision":"deny"}"#])
    {
        let header = format!("Bearer {}", answer.token());
        let headers = [
            ("content-type", "application/json"),
            ("authorization", header.as_str()),
        ];
        let request = super::request(axum::http::Method::POST, path, &headers, body);
        assert_eq!(house.send(request).await.status, 401, "{path}");
    }
    for wrong in [
        "",
        "x",
        "wrw_",
        &browser.cookie()[..46],
        &browser.csrf().await,
    ] {
        assert_eq!(
            house.exchanged("cookie", wrong).await.status,
            401,
            "{wrong}"
        );
    }
    house.close().await;
}

#[tokio::test]
async fn a_role_that_is_taken_away_is_gone_at_the_next_exchange() {
    let house = House::open().await;
    house.spoil("update users set superuser = true").await;
    let browser = Browser::signed_in(&house, "ann").await;
    let exchange = async || {
        let answer = house.exchanged("cookie", &browser.cookie()).await;
        house.verify(answer.token()).await.1
    };
    assert_eq!(
        exchange().await.scope.to_string(),
        "read submit control admin"
    );
    house.spoil("update users set superuser = false").await;
    let claims = exchange().await;
    assert_eq!(claims.scope.to_string(), "read submit control");
    assert_eq!(claims.role, warrant_api::token::Role::User);
    house.close().await;
}

fn basic(text: &str) -> String {
    STANDARD.encode(text)
}

#[tokio::test]
async fn a_name_and_a_password_are_exchanged_and_judged_as_any_login() {
    let house = House::open().await;
    let answer = house.exchanged("basic", &basic("ann:pw")).await;
    assert_eq!(answer.body["expires_in"], 300);
    assert!(answer.body.get("csrf").is_none());
    let (_, claims) = house.verify(answer.token()).await;
    assert_eq!(
        (claims.sub.as_str(), claims.client_id.as_str()),
        ("ann", "basic")
    );
    assert!(house.is_active(answer.token()).await);
    for wrong in ["ann:wrong", "nobody:pw", "ann", ":", "0:pw"] {
        let answer = house.exchanged("basic", &basic(wrong)).await;
        answer.is_refused(401, "The credential does not count.");
    }
    assert_eq!(house.exchanged("basic", "****").await.status, 401);
    for _ in 0..9 {
        assert_eq!(
            house.exchanged("basic", &basic("ann:wrong")).await.status,
            401
        );
    }
    let answer = house.exchanged("basic", &basic("ann:pw")).await;
    assert_eq!(answer.status, 429);
    assert!(answer.headers.contains_key("retry-after"));
    // It is the throttle of every login.
    assert_eq!(house.login("ann", "pw", "192.0.2.1").await.status, 429);
    house.close().await;
}

#[tokio::test]
async fn where_nobody_logs_in_no_password_counts() {
    let house = House::open_with(&[("FLUX_AUTH_BACKEND", "none")], |_| {}).await;
    assert_eq!(house.exchanged("basic", &basic("ann:pw")).await.status, 401);
    house.close().await;
}
