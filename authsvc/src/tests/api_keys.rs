//! API keys: who makes them, what they are worth, when they are worth nothing.

use axum::http::Method;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Request;
use hyper::body::Bytes;
use serde_json::{Value, json};
use warrant_api::scope::{Scope, Scopes};
use warrant_api::token::{AccessClaims, Role};

use super::house::{Answer, House, request};
use crate::store::users;
use crate::user_name::UserName;

type Ask = Request<http_body_util::Full<Bytes>>;

fn ask(method: Method, path: &str, token: &str, body: &Value) -> Ask {
    let bearer = format!("Bearer {token}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("x-warrant-source", "192.0.2.7"),
    ];
    request(method, path, &headers, &body.to_string())
}

async fn token(house: &House, user: &str) -> String {
    let answer = house.login(user, "pw", "192.0.2.1").await;
    answer.token().to_owned()
}

/// A request for a key that shows `authorization`.
pub(super) fn wish(authorization: &str, new: &Value) -> Ask {
    let headers = [
        ("authorization", authorization),
        ("content-type", "application/json"),
        ("x-warrant-source", "192.0.2.7"),
    ];
    request(Method::POST, "/v1/keys", &headers, &new.to_string())
}

/// HTTP Basic of `user`.
pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// A key of `user`, made for the password; its id and its text.
pub(super) async fn key(house: &House, user: &str, new: &Value) -> (String, String) {
    let made = house.send(wish(&basic(user, "pw"), new)).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    assert_eq!(made.headers["cache-control"], "no-store");
    let text = |name: &str| made.body[name].as_str().unwrap().to_owned();
    (text("id"), text("key"))
}

/// Exchange a credential as the broker does.
async fn exchange(house: &House, kind: &str, value: &str) -> Answer {
    let body = json!({"kind": kind, "value": value});
    let headers = [
        ("content-type", "application/json"),
        ("x-warrant-source", "192.0.2.7"),
    ];
    let path = "/internal/credential";
    let request = request(Method::POST, path, &headers, &body.to_string());
    house.send(request).await
}

async fn claims(house: &House, key: &str) -> AccessClaims {
    let answer = exchange(house, "key", key).await;
    house.verify(answer.token()).await.1
}

async fn refused(house: &House, key: &str, reason: &str) {
    let answer = exchange(house, "key", key).await;
    answer.is_refused(401, "The credential does not count.");
    let last = house.audit().await.pop().unwrap();
    assert_eq!(
        (
            last.kind.as_str(),
            last.action.as_deref(),
            last.outcome.as_str()
        ),
        ("key", Some("exchange"), "refused")
    );
    assert_eq!(last.reason.as_deref(), Some(reason));
}

#[tokio::test]
async fn t104_a_key_is_exchanged_for_a_short_token_of_its_user_and_scopes() {
    let house = House::open().await;
    let new = json!({"label": "ci", "scopes": "submit read", "expires_in_days": 7});
    let (id, key) = key(&house, "ann", &new).await;
    let claims = claims(&house, &key).await;
    assert_eq!((claims.sub.as_str(), claims.role), ("ann", Role::User));
    assert_eq!(
        claims.scope,
        Scopes::NONE.with(Scope::Read).with(Scope::Submit)
    );
    assert_eq!(claims.sid, format!("key:{id}"));
    assert_eq!(claims.exp - claims.iat, 300);
    let list = ask(
        Method::GET,
        "/v1/keys",
        &token(&house, "ann").await,
        &Value::Null,
    );
    let list = house.send(list).await.body;
    let listed = &list["keys"][0];
    assert_eq!(listed["label"], "ci");
    assert_eq!(listed["last_used_from"], "192.0.2.7");
    assert_eq!(
        listed["expires_s"].as_u64().unwrap() - listed["created_s"].as_u64().unwrap(),
        7 * 86_400
    );
    let rows = house.audit().await;
    let told: Vec<_> = rows
        .iter()
        .map(|row| (row.kind.as_str(), row.action.as_deref()))
        .collect();
    assert_eq!(
        told,
        [
            ("key", Some("create")),
            ("key", Some("exchange")),
            ("login", None)
        ]
    );
    house.close().await;
}

#[tokio::test]
async fn t104_a_key_is_worth_no_more_than_its_user_is_now() {
    let house = House::open().await;
    let (_, key) = key(&house, "ann", &json!({"label": "ci"})).await;
    assert_eq!(claims(&house, &key).await.role, Role::User);
    let name = UserName::parse("ann").unwrap();
    let mut tx = house.db.begin().await.unwrap();
    users::promote(&mut tx, &name).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(claims(&house, &key).await.role, Role::Administrator);
    house.disable("ann").await;
    refused(&house, &key, "user-disabled").await;
    let mut tx = house.db.begin().await.unwrap();
    users::delete(&mut tx, &name).await.unwrap();
    tx.commit().await.unwrap();
    refused(&house, &key, "user-unknown").await;
    // Somebody who comes by the same name later does not come by the keys.
    house.add("ann", "pw").await;
    refused(&house, &key, "account-changed").await;
    house.close().await;
}

#[tokio::test]
async fn t104_what_a_key_was_exchanged_for_counts_as_long_as_its_user_has_the_role() {
    let house = House::open().await;
    let (_, key) = key(&house, "ann", &json!({"label": "ci"})).await;
    let name = UserName::parse("ann").unwrap();
    let mut tx = house.db.begin().await.unwrap();
    users::promote(&mut tx, &name).await.unwrap();
    tx.commit().await.unwrap();
    let answer = exchange(&house, "key", &key).await;
    assert!(house.is_active(answer.token()).await);
    house.spoil("update users set superuser = false").await;
    assert!(!house.is_active(answer.token()).await);
    house.close().await;
}

#[tokio::test]
async fn t104_what_a_key_is_exchanged_for_ends_with_the_key() {
    let house = House::open().await;
    let (_, key) = key(&house, "ann", &json!({"label": "ci"})).await;
    let over_us = crate::clock::now_us() + 100_000_000;
    let mut tx = house.db.begin().await.unwrap();
    warrant_migrations::on!(&mut tx, |db| sqlx::query(
        "update api_keys set expires_us = $1"
    )
    .bind(over_us)
    .execute(db)
    .await
    .map(drop))
    .unwrap();
    tx.commit().await.unwrap();
    let claims = claims(&house, &key).await;
    assert!(claims.exp <= over_us as u64 / 1_000_000, "{claims:?}");
    house.close().await;
}

#[tokio::test]
async fn t110_a_user_neither_lists_nor_revokes_the_keys_of_others() {
    let house = House::open().await;
    house.add("bob", "pw").await;
    let (id, good) = key(&house, "ann", &json!({"label": "ci"})).await;
    let bob = token(&house, "bob").await;
    for (method, path, status) in [
        (Method::GET, "/v1/keys?user=ann".to_owned(), 403),
        (Method::DELETE, "/v1/keys?user=ann".to_owned(), 403),
        (Method::DELETE, format!("/v1/keys/{id}?user=ann"), 403),
        (Method::DELETE, format!("/v1/keys/{id}"), 404),
    ] {
        let answer = house.send(ask(method, &path, &bob, &Value::Null)).await;
        assert_eq!(answer.status, status, "{path}: {:?}", answer.body);
    }
    assert_eq!(claims(&house, &good).await.sub, "ann");
    // To administrators it takes the scope besides.
    let mut tx = house.db.begin().await.unwrap();
    let name = UserName::parse("bob").unwrap();
    users::promote(&mut tx, &name).await.unwrap();
    tx.commit().await.unwrap();
    for (scope, status) in [("read control", 403), ("read control admin", 200)] {
        let fields = [
            ("grant_type", "password"),
            ("client_id", "warrant"),
            ("username", "bob"),
            ("password", "pw"),
            ("scope", scope),
        ];
        let given = house.grant(&fields).await;
        let list = ask(
            Method::GET,
            "/v1/keys?user=ann",
            given.token(),
            &Value::Null,
        );
        assert_eq!(house.send(list).await.status, status, "{scope}");
    }
    house.close().await;
}

#[tokio::test]
async fn t104_in_multi_user_mode_a_key_is_of_one_account() {
    let house = House::open_multi_user(|_| {}).await;
    let (_, key) = key(&house, "daemon", &json!({"label": "ci"})).await;
    let answer = exchange(&house, "key", &key).await;
    let token = answer.token().to_owned();
    assert_eq!(house.verify(&token).await.1.uid, Some(1));
    // The token is as good as any for a warrant.
    house.exchange(&token).await.token();
    house.spoil("update api_keys set uid = 2").await;
    refused(&house, &key, "account-changed").await;
    house.close().await;
}

#[tokio::test]
async fn t104_what_is_no_key_or_no_longer_one_is_refused_alike() {
    let house = House::open().await;
    let (id, good) = key(&house, "ann", &json!({"label": "ci"})).await;
    refused(&house, "wrt_", "key-malformed").await;
    refused(&house, &good.replace(&id, "zzzzzzzzzzzz"), "key-unknown").await;
    let last = if good.ends_with('A') { "B" } else { "A" };
    let wrong = format!("{}{last}", good.strip_suffix(|_: char| true).unwrap());
    refused(&house, &wrong, "key-wrong").await;
    for kind in ["cookie", "basic"] {
        let answer = exchange(&house, kind, &good).await;
        answer.is_refused(401, "The credential does not count.");
    }
    assert_eq!(exchange(&house, "token", &good).await.status, 422);
    let token = token(&house, "ann").await;
    let path = format!("/v1/keys/{id}");
    let revoke = ask(Method::DELETE, &path, &token, &Value::Null);
    assert_eq!(house.send(revoke).await.body, json!({"revoked": 1}));
    refused(&house, &good, "key-revoked").await;
    let (_, over) = key(&house, "ann", &json!({"label": "old"})).await;
    house.spoil("update api_keys set expires_us = 1").await;
    refused(&house, &over, "key-over").await;
    house.close().await;
}

#[tokio::test]
async fn t105_a_key_revokes_no_key_and_none_is_good_for_more_than_its_user() {
    let house = House::open().await;
    let narrow = json!({"label": "ci", "scopes": "read control"});
    let (id, reader) = key(&house, "ann", &narrow).await;
    let answer = exchange(&house, "key", &reader).await;
    let token = answer.token().to_owned();
    let path = format!("/v1/keys/{id}");
    for path in ["/v1/keys", &path] {
        let revoke = ask(Method::DELETE, path, &token, &Value::Null);
        let answer = house.send(revoke).await;
        answer.is_refused(403, "Keys cannot revoke keys: log in.");
    }
    // It may see what there is.
    let list = house
        .send(ask(Method::GET, "/v1/keys", &token, &Value::Null))
        .await;
    assert_eq!(list.body["keys"].as_array().unwrap().len(), 1);
    let wide = json!({"label": "x", "scopes": "control admin"});
    let answer = house.send(wish(&basic("ann", "pw"), &wide)).await;
    assert_eq!(answer.status, 403, "{:?}", answer.body);
    let all = json!({"label": "x"});
    let answer = house.send(wish(&basic("ann", "pw"), &all)).await;
    assert_eq!(answer.body["scopes"], "read submit control");
    house.close().await;
}

#[tokio::test]
async fn a_key_that_cannot_be_made_is_refused_by_the_name_of_the_field() {
    let house = House::open_with(&[], |config| config.api_keys.per_user = 2).await;
    let token = token(&house, "ann").await;
    for (new, field) in [
        (json!({"label": " "}), "label"),
        (json!({"label": "a\u{7}"}), "label"),
        (json!({"label": "x".repeat(65)}), "label"),
        (
            json!({"label": "x", "expires_in_days": 0}),
            "expires_in_days",
        ),
        (
            json!({"label": "x", "expires_in_days": 367}),
            "expires_in_days",
        ),
        (json!({"label": "x", "scopes": ""}), "scopes"),
        (json!({"label": "x", "scopes": "root"}), "scopes"),
        (json!({"label": "x", "uid": 0}), "label"),
    ] {
        let answer = house.send(wish(&basic("ann", "pw"), &new)).await;
        assert_eq!(answer.status, 422, "{new}");
        assert!(
            answer.body["detail"].as_str().unwrap().contains(field),
            "{new}"
        );
    }
    for expected in [201, 201, 409] {
        let new = json!({"label": "x"});
        let answer = house.send(wish(&basic("ann", "pw"), &new)).await;
        assert_eq!(answer.status, expected, "{:?}", answer.body);
    }
    let all = ask(Method::DELETE, "/v1/keys", &token, &Value::Null);
    assert_eq!(house.send(all).await.body, json!({"revoked": 2}));
    house.close().await;
}

#[tokio::test]
async fn t101_only_an_access_token_for_the_broker_deals_with_keys() {
    let house = House::open().await;
    let good = token(&house, "ann").await;
    let tampered = format!("{good}x");
    for token in ["", "x", tampered.as_str(), &good.replace('.', "")] {
        let answer = house
            .send(ask(Method::GET, "/v1/keys", token, &Value::Null))
            .await;
        answer.is_refused(401, "Could not validate credentials");
    }
    let bare = request(Method::GET, "/v1/keys", &[], "");
    assert_eq!(house.send(bare).await.status, 401);
    house.close().await;
}

#[tokio::test]
async fn t106_keys_that_were_revoked_are_in_the_feed_and_the_broker_alone_reads_it() {
    let house = House::open().await;
    let feed = async |after: u64| {
        let answer = house
            .get(&format!("/internal/revocations?after={after}"))
            .await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        answer.body
    };
    assert_eq!(feed(0).await, json!({"next": 0, "entries": []}));
    let (id, _) = key(&house, "ann", &json!({"label": "ci"})).await;
    let token = token(&house, "ann").await;
    house
        .send(ask(Method::DELETE, "/v1/keys", &token, &Value::Null))
        .await;
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    let page = loop {
        let page = feed(0).await;
        if page["entries"] != json!([]) {
            break page;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "it is not in the feed"
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert_eq!(page["entries"][0]["kind"], "session");
    assert_eq!(page["entries"][0]["value"], format!("key:{id}"));
    let next = page["next"].as_u64().unwrap();
    assert_eq!(feed(next).await, json!({"next": next, "entries": []}));
    // Nobody else may ask: not over TCP, and no other account.
    for (method, path) in [
        (Method::GET, "/internal/revocations?after=0"),
        (Method::POST, "/internal/credential"),
    ] {
        let answer = house.send_tcp(request(method, path, &[], "")).await;
        answer.is_refused(404, "Not Found");
    }
    house.close().await;
    let other = nix::unistd::geteuid().as_raw() + 1;
    let house = House::open_multi_user(|config| config.warrants.broker_uid = Some(other)).await;
    let answer = house.get("/internal/revocations?after=0").await;
    answer.is_refused(404, "Not Found");
    house.close().await;
}
