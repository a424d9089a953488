//! `POST /v1/token`.

use axum::http::Method;
use serde_json::json;
use warrant_api::token::Role;

use super::house::{House, SECRET, bearer, credentials, encode, request};
use crate::clock;

#[tokio::test]
async fn the_handshake_gives_a_token_that_the_published_keys_verify() {
    let house = House::open().await;
    let answer = house.handshake(credentials("ann", "pw")).await;
    let members: Vec<_> = answer.body.as_object().unwrap().keys().collect();
    assert_eq!(members, ["access_token", "expires_in", "token_type"]);
    assert_eq!(answer.body["token_type"], "Bearer");
    assert_eq!(answer.body["expires_in"], 36_000);
    let (_, claims) = house.verify(answer.token()).await;
    assert_eq!((claims.sub.as_str(), claims.role), ("ann", Role::User));
    assert_eq!(claims.exp - claims.iat, 36_000);
    assert_eq!(claims.jti.len(), 22);
    house.close().await;
}

#[tokio::test]
async fn the_same_payload_logs_in_again_and_gives_another_token() {
    let house = House::open().await;
    let one = house.handshake(credentials("ann", "pw")).await;
    let two = house.handshake(credentials("ann", "pw")).await;
    assert_ne!(one.token(), two.token());
    house.close().await;
}

#[tokio::test]
async fn every_refusal_is_a_400_in_the_words_that_clients_know() {
    let house = House::open().await;
    let missing = "Missing Authorization header";
    let undecodable = "Could not decode credentials";
    for (headers, detail) in [
        (vec![], missing),
        (vec![("authorization", "")], missing),
        (vec![("authorization", " ")], missing),
        (vec![("authorization", "Bearer")], undecodable),
        (vec![("authorization", "Bearer x.y.z")], undecodable),
        (vec![("authorization", "Basic YW5uOnB3")], undecodable),
    ] {
        let answer = house
            .send(request(Method::POST, "/v1/token", &headers, ""))
            .await;
        answer.is_refused(400, detail);
        assert!(!answer.headers.contains_key("www-authenticate"));
    }
    for (claims, detail) in [
        (
            json!({"pass": "pw", "scope": "token"}),
            "Credentials are missing 'user'",
        ),
        (
            json!({"user": "ann", "scope": "token"}),
            "Credentials are missing 'pass'",
        ),
        (
            json!({"user": "ann", "pass": "pw"}),
            "Credentials are missing 'scope'",
        ),
        (
            json!({"user": "", "pass": "pw", "scope": "token"}),
            "Credentials are missing 'user'",
        ),
        (
            json!({"user": "ann", "pass": "pw", "scope": "x"}),
            "Invalid scope",
        ),
        (credentials("ann", "wrong"), "Incorrect user or password"),
        (credentials("nobody", "pw"), "Incorrect user or password"),
    ] {
        house.handshake(claims).await.is_refused(400, detail);
    }
    let foreign = encode(&credentials("ann", "pw"), "another secret");
    house
        .send(bearer(&foreign))
        .await
        .is_refused(400, undecodable);
    house.close().await;
}

#[tokio::test]
async fn two_authorization_headers_are_refused() {
    let house = House::open().await;
    let good = format!("Bearer {}", encode(&credentials("ann", "pw"), SECRET));
    let headers = [
        ("authorization", good.as_str()),
        ("authorization", "Bearer x"),
    ];
    let answer = house
        .send(request(Method::POST, "/v1/token", &headers, ""))
        .await;
    answer.is_refused(400, "The header Authorization may be there once.");
    house.close().await;
}

#[tokio::test]
async fn the_scheme_before_the_payload_does_not_matter() {
    let house = House::open().await;
    let payload = encode(&credentials("ann", "pw"), SECRET);
    for value in [
        format!("bearer {payload}"),
        payload.clone(),
        format!("Bearer  {payload}"),
    ] {
        let headers = [("authorization", value.as_str())];
        let answer = house
            .send(request(Method::POST, "/v1/token", &headers, ""))
            .await;
        assert_eq!(answer.status, 200, "{value}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_payload_with_an_id_logs_in_once_even_after_a_restart() {
    let house = House::open().await;
    let mut claims = credentials("ann", "pw");
    claims["jti"] = json!("one");
    claims["iat"] = json!(clock::now_s());
    house.handshake(claims.clone()).await.token();
    let refused = "Could not decode credentials";
    house
        .handshake(claims.clone())
        .await
        .is_refused(400, refused);
    let dir = house.close().await;
    let house = House::open_in(dir, &[("FLUX_SECRET_KEY", SECRET)], |_| {}).await;
    house.handshake(claims).await.is_refused(400, refused);
    house.close().await;
}

#[tokio::test]
async fn of_many_uses_of_one_id_at_once_one_succeeds() {
    let house = House::open().await;
    let mut claims = credentials("ann", "pw");
    claims["jti"] = json!("one");
    claims["exp"] = json!(clock::now_s() + 60);
    let (a, b, c, d) = tokio::join!(
        house.handshake(claims.clone()),
        house.handshake(claims.clone()),
        house.handshake(claims.clone()),
        house.handshake(claims.clone()),
    );
    let succeeded = [a, b, c, d]
        .iter()
        .filter(|answer| answer.status == 200)
        .count();
    assert_eq!(succeeded, 1);
    house.close().await;
}

#[tokio::test]
async fn a_wrong_password_does_not_use_up_an_id() {
    let house = House::open().await;
    let mut claims = credentials("ann", "wrong");
    claims["jti"] = json!("one");
    claims["exp"] = json!(clock::now_s() + 60);
    house
        .handshake(claims.clone())
        .await
        .is_refused(400, "Incorrect user or password");
    claims["pass"] = json!("pw");
    house.handshake(claims).await.token();
    house.close().await;
}

#[tokio::test]
async fn without_a_secret_or_with_backend_none_the_handshake_is_not_enabled() {
    let detail = "The shared-secret token handshake is not enabled on this server.";
    for variables in [
        vec![],
        vec![("FLUX_SECRET_KEY", SECRET), ("FLUX_REQUIRE_AUTH", "0")],
    ] {
        let house = House::open_with(&variables, |_| {}).await;
        house
            .handshake(credentials("ann", "pw"))
            .await
            .is_refused(400, detail);
        let info = house.get("/v1/auth").await.body;
        assert_eq!(info["shared_secret_handshake"], false);
        house.close().await;
    }
}

#[tokio::test]
async fn anybody_may_ask_how_to_authenticate() {
    let house = House::open().await;
    let info = house.get("/v1/auth").await;
    assert_eq!(info.status, 200);
    assert_eq!(
        info.body,
        json!({"backend": "shared-secret", "password_login": true, "shared_secret_handshake": true})
    );
    house.close().await;
}
