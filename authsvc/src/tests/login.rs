//! `POST /v1/login/access-token`, and who gets in.

use axum::http::{HeaderMap, Method};
use serde_json::{Value, json};
use warrant_api::token::Role;

use super::house::{House, SECRET, credentials, form, request};
use crate::secret::Secret;
use crate::store::users;
use crate::user_name::UserName;
use crate::{clock, passwords};

const WRONG: &str = "Incorrect user or password";

fn missing(field: &str) -> Value {
    json!({"type": "missing", "loc": ["body", field], "msg": "Field required", "input": null})
}

#[tokio::test]
async fn a_password_login_gives_a_token() {
    let house = House::open_with(&[], |_| {}).await;
    let answer = house.login("ann", "pw", "192.0.2.1").await;
    assert_eq!(house.verify(answer.token()).await.1.sub, "ann");
    let without_grant_type = form("username=ann&password=pw", "192.0.2.1");
    assert_eq!(house.send(without_grant_type).await.status, 200);
    house.close().await;
}

#[tokio::test]
async fn a_wrong_password_answers_400() {
    let house = House::open().await;
    house
        .login("ann", "wrong", "192.0.2.1")
        .await
        .is_refused(400, WRONG);
    house.close().await;
}

#[tokio::test]
async fn nobody_learns_whether_a_user_exists_or_is_disabled() {
    let house = House::open().await;
    house.add("carl", "pw").await;
    house.disable("carl").await;
    let wrong = house.login("ann", "wrong", "192.0.2.1").await;
    let plain = |headers: &HeaderMap| {
        let mut headers = headers.clone();
        headers.remove("date");
        headers
    };
    let long = "x".repeat(2_000);
    for (user, password) in [
        ("nobody", "pw"),
        ("carl", "pw"),
        ("carl", "wrong"),
        ("no%20such%0Auser", "pw"),
        ("1000", "pw"),
        ("ann", long.as_str()),
        ("ann", "pw%00"),
    ] {
        let answer = house.login(user, password, "192.0.2.2").await;
        assert_eq!(answer.status, wrong.status, "{user}");
        assert_eq!(answer.body, wrong.body, "{user}");
        assert_eq!(plain(&answer.headers), plain(&wrong.headers), "{user}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_disabled_user_cannot_log_in_either_way() {
    let house = House::open().await;
    house.disable("ann").await;
    house
        .login("ann", "pw", "192.0.2.1")
        .await
        .is_refused(400, WRONG);
    house
        .handshake(credentials("ann", "pw"))
        .await
        .is_refused(400, WRONG);
    house.close().await;
}

#[tokio::test]
async fn missing_and_empty_fields_answer_422_as_fastapi_does() {
    let house = House::open().await;
    for (body, detail) in [
        ("", json!([missing("username"), missing("password")])),
        ("username=ann", json!([missing("password")])),
        ("username=&password=pw", json!([missing("username")])),
    ] {
        let answer = house.send(form(body, "192.0.2.1")).await;
        assert_eq!(answer.status, 422);
        assert_eq!(answer.body, json!({"detail": detail}), "{body}");
    }
    let as_json = [("content-type", "application/json")];
    let body = r#"{"username":"ann","password":"pw"}"#;
    let answer = house
        .send(request(
            Method::POST,
            "/v1/login/access-token",
            &as_json,
            body,
        ))
        .await;
    assert_eq!(answer.status, 422);
    assert_eq!(
        answer.body["detail"],
        json!([missing("username"), missing("password")])
    );
    house.close().await;
}

#[tokio::test]
async fn another_grant_type_and_a_field_given_twice_are_refused() {
    let house = House::open().await;
    let answer = house
        .send(form("grant_type=x&username=ann&password=pw", "192.0.2.1"))
        .await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.body["detail"][0]["type"], "string_pattern_mismatch");
    assert_eq!(
        answer.body["detail"][0]["loc"],
        json!(["body", "grant_type"])
    );
    let answer = house
        .send(form("username=ann&username=bob&password=pw", "192.0.2.1"))
        .await;
    assert_eq!(answer.status, 400);
    house.close().await;
}

#[tokio::test]
async fn backend_none_knows_no_passwords() {
    let house = House::open_with(&[("FLUX_AUTH_BACKEND", "none")], |_| {}).await;
    let detail = "The none auth backend does not support password login.";
    house
        .login("ann", "pw", "192.0.2.1")
        .await
        .is_refused(400, detail);
    assert_eq!(
        house.get("/v1/auth").await.body,
        json!({"backend": "none", "password_login": false, "shared_secret_handshake": false})
    );
    house.close().await;
}

#[tokio::test]
async fn a_hash_of_another_cost_is_renewed_at_the_next_login() {
    let house = House::open().await;
    let name = UserName::parse("dear").unwrap();
    let cost = argon2::Params::new(16, 2, 1, None).unwrap();
    let old = passwords::hash(&cost, &Secret::new("pw")).unwrap();
    let mut tx = house.db.begin().await.unwrap();
    users::insert(&mut tx, &name, &old, false, 7).await.unwrap();
    tx.commit().await.unwrap();
    let stored = async || {
        let mut conn = house.db.read().await.unwrap();
        users::find(&mut conn, &name).await.unwrap().unwrap()
    };

    house
        .login("dear", "wrong", "192.0.2.1")
        .await
        .is_refused(400, WRONG);
    assert_eq!(stored().await.password_hash, old);
    house.login("dear", "pw", "192.0.2.1").await.token();
    let renewed = stored().await;
    assert!(
        renewed.password_hash.contains("$m=8,t=1,p=1$"),
        "{}",
        renewed.password_hash
    );
    assert_eq!(renewed.password_changed_us, 7);
    house.login("dear", "pw", "192.0.2.1").await.token();
    assert!(stored().await == renewed, "renewed again");
    house.close().await;
}

#[tokio::test]
async fn the_superuser_of_the_environment_is_made_and_kept_up_to_date() {
    let variables = [
        ("FLUX_USER", "root_"),
        ("FLUX_TOKEN", "first"),
        ("FLUX_SECRET_KEY", SECRET),
    ];
    let house = House::open_with(&variables, |_| {}).await;
    let answer = house.handshake(credentials("root_", "first")).await;
    assert_eq!(
        house.verify(answer.token()).await.1.role,
        Role::Administrator
    );
    let dir = house.close().await;

    let variables = [
        ("FLUX_USER", "root_"),
        ("FLUX_TOKEN", "second"),
        ("FLUX_SECRET_KEY", SECRET),
    ];
    let house = House::open_in(dir, &variables, |_| {}).await;
    house
        .handshake(credentials("root_", "first"))
        .await
        .is_refused(400, WRONG);
    house
        .handshake(credentials("root_", "second"))
        .await
        .token();
    let find = async |house: &House| {
        let mut conn = house.db.read().await.unwrap();
        users::find(&mut conn, &UserName::parse("root_").unwrap())
            .await
            .unwrap()
            .unwrap()
    };
    let before = find(&house).await;
    assert!(before.password_changed_us <= clock::now_us());
    let dir = house.close().await;

    let house = House::open_in(dir, &variables, |_| {}).await;
    assert!(
        find(&house).await == before,
        "an unchanged superuser was written again"
    );
    house.close().await;
}

#[tokio::test]
async fn users_named_as_administrators_are() {
    let house = House::open_with(&[("FLUX_ADMIN_USERS", "bob, ann")], |_| {}).await;
    house.add("carl", "pw").await;
    let answer = house.login("ann", "pw", "192.0.2.1").await;
    assert_eq!(
        house.verify(answer.token()).await.1.role,
        Role::Administrator
    );
    let answer = house.login("carl", "pw", "192.0.2.1").await;
    assert_eq!(house.verify(answer.token()).await.1.role, Role::User);
    house.close().await;
}

#[tokio::test]
async fn the_life_of_a_token_is_configured_in_minutes() {
    let house = House::open_with(&[("FLUX_ACCESS_TOKEN_EXPIRES_MINUTES", "5")], |_| {}).await;
    let answer = house.login("ann", "pw", "192.0.2.1").await;
    assert_eq!(answer.body["expires_in"], 300);
    let (_, claims) = house.verify(answer.token()).await;
    assert_eq!(claims.exp - claims.iat, 300);
    house.close().await;
}
