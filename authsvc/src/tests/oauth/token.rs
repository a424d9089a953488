//! `POST /oauth/token`: passwords, clients, scopes.

use axum::http::Method;
use serde_json::{Value, json};
use warrant_api::token::Role;

use super::super::house::{House, request};
use super::{CALLBACK, basic, form};
use crate::store::clients::Row;

#[tokio::test]
async fn a_registered_client_gets_a_short_token_and_a_refresh_token_for_a_password() {
    let house = House::open().await;
    let answer = house.sign_in("ann").await;
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.body["token_type"], "Bearer");
    assert_eq!(answer.body["expires_in"], 600);
    assert_eq!(answer.body["scope"], "read submit control");
    assert!(answer.refresh_token().starts_with("wrr_"));
    let (_, claims) = house.verify(answer.token()).await;
    assert_eq!(
        (claims.client_id.as_str(), claims.role),
        ("warrant", Role::User)
    );
    assert_eq!(claims.scope.to_string(), "read submit control");
    house.close().await;
}

#[tokio::test]
async fn a_password_without_a_client_gets_what_the_login_form_gives() {
    let house = House::open().await;
    let fields = [
        ("grant_type", "password"),
        ("username", "ann"),
        ("password", "pw"),
    ];
    let answer = house.grant(&fields).await;
    assert_eq!(answer.body["expires_in"], 36_000);
    assert!(answer.body.get("refresh_token").is_none());
    assert_eq!(house.verify(answer.token()).await.1.client_id, "flux");
    let wrong = [
        ("grant_type", "password"),
        ("username", "ann"),
        ("password", "x"),
    ];
    house
        .grant(&wrong)
        .await
        .is_oauth_error(400, "invalid_grant");
    for field in ["username", "password"] {
        let fields: Vec<_> = fields
            .iter()
            .filter(|(name, _)| *name != field)
            .copied()
            .collect();
        house
            .grant(&fields)
            .await
            .is_oauth_error(400, "invalid_request");
    }
    house.close().await;
}

#[tokio::test]
async fn the_password_grant_can_be_switched_off_and_the_login_form_stays() {
    let house = House::open_with(&[], |config| config.oauth.password_grant = false).await;
    let fields = [
        ("grant_type", "password"),
        ("username", "ann"),
        ("password", "pw"),
    ];
    let answer = house.grant(&fields).await;
    answer.is_oauth_error(400, "unsupported_grant_type");
    house.login("ann", "pw", "192.0.2.1").await.token();
    let about = house
        .get("/.well-known/oauth-authorization-server")
        .await
        .body;
    let grants = about["grant_types_supported"].as_array().unwrap();
    assert!(!grants.contains(&json!("password")) && grants.len() == 4);
    house.close().await;
}

#[tokio::test]
async fn where_nobody_has_to_log_in_nobody_gets_a_token() {
    let house = House::open_with(&[("FLUX_AUTH_BACKEND", "none")], |_| {}).await;
    let secret = house.confidential("robot").await;
    let basic = basic("robot", &secret);
    let headers = [("authorization", basic.as_str())];
    let fields = [("grant_type", "client_credentials")];
    let answer = house.send(form("/oauth/token", &fields, &headers)).await;
    answer.is_oauth_error(400, "unsupported_grant_type");
    let answer = house
        .post("/oauth/device_authorization", &[("client_id", "warrant")])
        .await;
    answer.is_oauth_error(400, "unsupported_grant_type");
    house.close().await;
}

#[tokio::test]
async fn a_client_proves_itself_by_basic_by_form_or_by_json() {
    let house = House::open().await;
    let secret = house.confidential("robot").await;
    let secret = secret.as_str();
    let grant = ("grant_type", "client_credentials");
    let encoded: String = secret.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let header = basic("robot", &encoded);
    let headers = [("authorization", header.as_str())];
    let by_basic = house.send(form("/oauth/token", &[grant], &headers)).await;
    let fields = [grant, ("client_id", "robot"), ("client_secret", secret)];
    let by_form = house.grant(&fields).await;
    let body = json!({"grant_type": "client_credentials", "client_id": "robot",
                      "client_secret": secret, "scope": "read"});
    let json_kind = [("content-type", "application/json")];
    let ask = |body: &Value| request(Method::POST, "/oauth/token", &json_kind, &body.to_string());
    let by_json = house.send(ask(&body)).await;
    for (answer, scope) in [
        (by_basic, "read submit"),
        (by_form, "read submit"),
        (by_json, "read"),
    ] {
        let (_, claims) = house.verify(answer.token()).await;
        assert_eq!(
            (claims.sub.as_str(), claims.client_id.as_str()),
            ("ann", "robot")
        );
        assert_eq!(answer.body["scope"], scope);
        assert_eq!(answer.body["token_type"], "Bearer");
        assert!(answer.body.get("refresh_token").is_none());
    }
    // JSON is for this grant alone.
    let body = json!({"grant_type": "password", "username": "ann", "password": "pw"});
    house
        .send(ask(&body))
        .await
        .is_oauth_error(400, "invalid_request");
    house.close().await;
}

#[tokio::test]
async fn a_client_that_does_not_prove_itself_gets_401_and_a_challenge() {
    let house = House::open().await;
    let secret = house.confidential("robot").await;
    let grant = ("grant_type", "client_credentials");
    let right: String = secret.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let headers = [
        basic("robot", "wrong"),
        basic("robot", ""),
        basic("nobody", &right),
        basic("ROBOT", &right),
        "Basic !".to_owned(),
        "Basic".to_owned(),
        "Bearer x".to_owned(),
    ];
    for header in &headers {
        let header = [("authorization", header.as_str())];
        let answer = house.send(form("/oauth/token", &[grant], &header)).await;
        answer.is_oauth_error(401, "invalid_client");
        assert_eq!(
            answer.headers["www-authenticate"],
            "Basic realm=\"warrant\""
        );
    }
    for fields in [
        vec![grant],
        vec![grant, ("client_id", "robot")],
        vec![grant, ("client_id", "robot"), ("client_secret", "wrong")],
        vec![grant, ("client_id", "warrant"), ("client_secret", "x")],
    ] {
        house
            .grant(&fields)
            .await
            .is_oauth_error(401, "invalid_client");
    }
    // In two ways at once, or as two clients.
    let header = basic("robot", &right);
    let header = [("authorization", header.as_str())];
    for field in [("client_secret", secret.as_str()), ("client_id", "warrant")] {
        let answer = house
            .send(form("/oauth/token", &[grant, field], &header))
            .await;
        answer.is_oauth_error(400, "invalid_request");
    }
    // A public client cannot act by itself.
    let answer = house.grant(&[grant, ("client_id", "warrant")]).await;
    answer.is_oauth_error(400, "unauthorized_client");
    house.close().await;
}

#[tokio::test]
async fn a_disabled_client_and_one_whose_owner_is_disabled_get_nothing() {
    let house = House::open().await;
    let secret = house.confidential("robot").await;
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", "robot"),
        ("client_secret", secret.as_str()),
    ];
    house.grant(&fields).await.token();
    house.disable("ann").await;
    house
        .grant(&fields)
        .await
        .is_oauth_error(400, "invalid_grant");
    assert_eq!(house.last_reason().await, "user-disabled");
    house.spoil("update clients set disabled = true").await;
    house
        .grant(&fields)
        .await
        .is_oauth_error(401, "invalid_client");
    house.close().await;
}

#[tokio::test]
async fn nobody_gets_more_scope_than_client_and_user_may_have() {
    let admins = [
        ("FLUX_ADMIN_USERS", "root-like"),
        ("FLUX_OPERATOR_USERS", "op"),
    ];
    let house = House::open_with(&admins, |_| {}).await;
    house.add("root-like", "pw").await;
    house.add("op", "pw").await;
    let secret = house.confidential("robot").await;
    let ask = async |client: &str, user: &str, scope: &str| {
        let mut fields = vec![
            ("grant_type", "password"),
            ("client_id", client),
            ("username", user),
            ("password", "pw"),
            ("scope", scope),
        ];
        if client == "robot" {
            fields.push(("client_secret", secret.as_str()));
        }
        house.grant(&fields).await
    };
    for (client, user, asked, given) in [
        ("warrant", "ann", "", "read submit control"),
        ("warrant", "ann", "control read", "read control"),
        ("warrant", "root-like", "", "read submit control admin"),
        ("warrant", "root-like", "read", "read"),
        ("warrant", "op", "admin", "admin"),
        ("robot", "root-like", "", "read submit"),
    ] {
        let answer = ask(client, user, asked).await;
        answer.token();
        assert_eq!(answer.body["scope"], given, "{client} {user} {asked}");
    }
    for (client, user, asked) in [
        ("warrant", "ann", "admin"),
        ("warrant", "ann", "read admin"),
        ("warrant", "ann", "root"),
        ("robot", "root-like", "control"),
        ("robot", "ann", "read admin"),
    ] {
        let answer = ask(client, user, asked).await;
        answer.is_oauth_error(400, "invalid_scope");
    }
    let (_, claims) = house.verify(ask("warrant", "op", "").await.token()).await;
    assert_eq!(claims.role, Role::Operator);
    house.close().await;
}

#[tokio::test]
async fn what_stands_in_the_query_is_refused_not_ignored() {
    let house = House::open().await;
    for path in [
        "token",
        "revoke",
        "introspect",
        "device",
        "device_authorization",
    ] {
        let path = format!("/oauth/{path}?client_secret=x");
        let answer = house.post(&path, &[("grant_type", "password")]).await;
        answer.is_oauth_error(400, "invalid_request");
    }
    house.close().await;
}

#[tokio::test]
async fn nothing_that_the_broker_hands_on_has_the_brokers_rights() {
    let house = House::open_multi_user(|_| {}).await;
    let token = house
        .login("daemon", "pw", "192.0.2.1")
        .await
        .token()
        .to_owned();
    let mut exchange = super::super::house::exchange(&super::super::house::exchange_fields(&token));
    let mark = |request: &mut hyper::Request<_>| {
        let headers = request.headers_mut();
        headers.insert("x-warrant-forwarded", "1".parse().unwrap());
    };
    house.exchange(&token).await.token();
    mark(&mut exchange);
    house
        .send(exchange)
        .await
        .is_no_warrant("unauthorized_client", "peer");
    let mut feed = request(Method::GET, "/internal/revocations", &[], "");
    assert_eq!(house.get("/internal/revocations").await.status, 200);
    mark(&mut feed);
    house.send(feed).await.is_refused(404, "Not Found");
    let mut known = form("/oauth/introspect", &[("token", token.as_str())], &[]);
    mark(&mut known);
    house
        .send(known)
        .await
        .is_oauth_error(401, "invalid_client");
    house.close().await;
}

#[tokio::test]
async fn t107_a_client_uses_the_grants_that_it_is_registered_for_alone() {
    let house = House::open().await;
    house
        .add_client(Row {
            id: "narrow".into(),
            label: "A narrow client".into(),
            secret_hash: None,
            certificate: None,
            owner: None,
            grants: "authorization_code".into(),
            scopes: "read".into(),
            redirect_uris: CALLBACK.into(),
            disabled: false,
            dpop: false,
            created_us: 0,
        })
        .await;
    let refresh = house.sign_in("ann").await.refresh_token();
    for fields in [
        vec![
            ("grant_type", "password"),
            ("username", "ann"),
            ("password", "pw"),
        ],
        vec![("grant_type", "client_credentials")],
        vec![("grant_type", "refresh_token"), ("refresh_token", &refresh)],
    ] {
        let fields = [&[("client_id", "narrow")], &fields[..]].concat();
        let answer = house.grant(&fields).await;
        answer.is_oauth_error(400, "unauthorized_client");
    }
    let begun = house
        .post("/oauth/device_authorization", &[("client_id", "narrow")])
        .await;
    begun.is_oauth_error(400, "unauthorized_client");
    house.close().await;
}
