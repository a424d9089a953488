//! Introspection, revocation, the feed and the description of the server.

use serde_json::{Value, json};

use super::super::house::House;
use super::{basic, form};
use crate::clock;

#[tokio::test]
async fn the_broker_and_clients_with_a_secret_are_told_what_is_known_of_a_token() {
    let house = House::open().await;
    let secret = house.confidential("robot").await;
    let answer = house.sign_in("ann").await;
    let (_, claims) = house.verify(answer.token()).await;
    let expected = json!({
        "active": true, "token_type": "Bearer", "scope": "read submit control",
        "client_id": "warrant", "username": "ann", "sub": "ann", "sid": claims.sid,
        "jti": claims.jti, "iss": "http://127.0.0.1:5000", "aud": "warrant-broker", "iat": claims.iat,
        "exp": claims.exp,
    });
    assert_eq!(house.known(answer.token()).await, expected);
    let encoded: String = secret.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let header = basic("robot", &encoded);
    let headers = [("authorization", header.as_str())];
    let fields = [("token", answer.token())];
    let told = house
        .send_tcp(form("/oauth/introspect", &fields, &headers))
        .await;
    assert_eq!(told.body, expected);
    // Nobody else: not by TCP without a secret, not a public client.
    let told = house
        .send_tcp(form("/oauth/introspect", &fields, &[]))
        .await;
    told.is_oauth_error(401, "invalid_client");
    let fields = [("token", answer.token()), ("client_id", "warrant")];
    let told = house
        .send_tcp(form("/oauth/introspect", &fields, &[]))
        .await;
    told.is_oauth_error(401, "invalid_client");
    house.close().await;
}

#[tokio::test]
async fn a_client_is_told_of_its_own_refresh_tokens_alone() {
    let house = House::open().await;
    let secrets = [
        house.confidential("robot").await,
        house.confidential("other").await,
    ];
    let fields = [
        ("grant_type", "password"),
        ("client_id", "robot"),
        ("client_secret", secrets[0].as_str()),
        ("username", "ann"),
        ("password", "pw"),
    ];
    let token = house.grant(&fields).await.refresh_token();
    let ask = async |id: &str, secret: &str| {
        let fields = [
            ("token", token.as_str()),
            ("client_id", id),
            ("client_secret", secret),
        ];
        house.post("/oauth/introspect", &fields).await.body
    };
    let known = ask("robot", &secrets[0]).await;
    assert_eq!(known["active"], true, "{known}");
    assert_eq!(known["token_type"], "refresh_token");
    assert_eq!(known["scope"], "read submit");
    assert_eq!(ask("other", &secrets[1]).await, json!({"active": false}));
    assert_eq!(house.known(&token).await, json!({"active": false}));
    house.close().await;
}

#[tokio::test]
async fn revoking_an_access_token_ends_it_and_revoking_a_refresh_token_the_session() {
    let house = House::open().await;
    let answer = house.sign_in("ann").await;
    let revoke = async |token: &str, client: &str| {
        house
            .post("/oauth/revoke", &[("token", token), ("client_id", client)])
            .await
    };
    assert_eq!(revoke(answer.token(), "warrant").await.status, 200);
    assert!(!house.is_active(answer.token()).await);
    let next = house.refresh(&answer.refresh_token()).await;
    assert!(house.is_active(next.token()).await);
    assert_eq!(revoke(&next.refresh_token(), "warrant").await.status, 200);
    assert!(!house.is_active(next.token()).await);
    house
        .refresh(&next.refresh_token())
        .await
        .is_oauth_error(400, "invalid_grant");
    let (_, claims) = house.verify(answer.token()).await;
    assert_eq!(
        house.revocations().await,
        [
            ("token".to_owned(), claims.jti),
            ("session".to_owned(), claims.sid)
        ]
    );
    // What does not count has ended.
    for token in [answer.token(), "x", "", &next.refresh_token()] {
        assert_eq!(revoke(token, "warrant").await.status, 200);
    }
    house.close().await;
}

#[tokio::test]
async fn whoever_logged_in_without_a_client_can_log_out() {
    let house = House::open().await;
    let token = house
        .login("ann", "pw", "192.0.2.1")
        .await
        .token()
        .to_owned();
    let fields = [("token", token.as_str()), ("client_id", "flux")];
    assert_eq!(house.post("/oauth/revoke", &fields).await.status, 200);
    assert!(!house.is_active(&token).await);
    let sid = house.verify(&token).await.1.sid;
    assert_eq!(house.revocations().await, [("session".to_owned(), sid)]);
    house.close().await;
}

#[tokio::test]
async fn nobody_ends_the_tokens_of_another_client() {
    let house = House::open().await;
    let secret = house.confidential("robot").await;
    let answer = house.sign_in("ann").await;
    for token in [answer.token(), &answer.refresh_token()] {
        let fields = [
            ("token", token),
            ("client_id", "robot"),
            ("client_secret", secret.as_str()),
        ];
        let refused = house.post("/oauth/revoke", &fields).await;
        refused.is_oauth_error(400, "invalid_grant");
        let refused = house
            .post("/oauth/revoke", &[("token", token), ("client_id", "robot")])
            .await;
        refused.is_oauth_error(401, "invalid_client");
        let refused = house.post("/oauth/revoke", &[("token", token)]).await;
        refused.is_oauth_error(401, "invalid_client");
    }
    assert!(house.is_active(answer.token()).await);
    house.close().await;
}

#[tokio::test]
async fn the_feed_is_read_in_steps_and_by_the_broker_alone() {
    let house = House::open().await;
    house
        .spoil(
            "with recursive n (i) as (select 1 union all select i + 1 from n where i < 2500)
             insert into revocations (kind, value, time_us, until_us)
             select 'session', 'sid' || i, 1000000, 9000000 from n",
        )
        .await;
    let (mut after, mut steps, mut values) = (0, Vec::new(), Vec::new());
    loop {
        let answer = house
            .get(&format!("/internal/revocations?after={after}"))
            .await;
        let entries = answer.body["entries"].as_array().unwrap().clone();
        values.extend(entries.iter().map(|entry| entry["value"].clone()));
        after = answer.body["next"].as_u64().unwrap();
        steps.push(entries.len());
        if entries.len() < 1000 {
            break;
        }
    }
    assert_eq!(steps, [1000, 1000, 500]);
    let expected: Vec<Value> = (1..=2500).map(|i| json!(format!("sid{i}"))).collect();
    assert_eq!(values, expected);
    let end = house
        .get(&format!("/internal/revocations?after={after}"))
        .await;
    assert_eq!(end.body, json!({"next": after, "entries": []}));
    for wrong in ["-1", "x", ""] {
        let answer = house
            .get(&format!("/internal/revocations?after={wrong}"))
            .await;
        answer.is_refused(400, "after: a number is needed");
    }
    let request = super::request(axum::http::Method::GET, "/internal/revocations", &[], "");
    house.send_tcp(request).await.is_refused(404, "Not Found");
    // What is over is forgotten, and the numbers go on.
    crate::prune::prune_once(&house.db, clock::now_us())
        .await
        .unwrap();
    assert_eq!(house.revocations().await, []);
    let mut tx = house.db.begin().await.unwrap();
    crate::sessions::end_account(&mut tx, "ann", "user-disabled")
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let answer = house
        .get(&format!("/internal/revocations?after={after}"))
        .await;
    let entry = &answer.body["entries"][0];
    assert_eq!(
        (&entry["kind"], &entry["value"]),
        (&json!("account"), &json!("ann"))
    );
    let before_s = entry["before_s"].as_u64().unwrap();
    assert!((clock::now_s()..=clock::now_s() + 1).contains(&before_s));
    let until_s = entry["until_s"].as_u64().unwrap();
    assert!(until_s > before_s + 36_000, "{until_s}");
    house.close().await;
}

#[tokio::test]
async fn the_server_describes_itself_by_its_configuration_alone() {
    let house = House::open_with(&[], |config| {
        config.tokens.issuer = "https://warrant.example.org".into();
        config.oauth.url = "https://warrant.example.org".into();
    })
    .await;
    let headers = [
        ("x-forwarded-host", "evil.test"),
        ("forwarded", "host=evil.test"),
    ];
    let path = "/.well-known/oauth-authorization-server";
    let mut request = super::request(axum::http::Method::GET, path, &headers, "");
    request
        .headers_mut()
        .insert("host", "evil.test".parse().unwrap());
    let about = house.send(request).await.body;
    assert!(!about.to_string().contains("evil"));
    let base = "https://warrant.example.org";
    assert_eq!(about["issuer"], base);
    assert_eq!(about["token_endpoint"], format!("{base}/oauth/token"));
    assert_eq!(about["code_challenge_methods_supported"], json!(["S256"]));
    assert_eq!(about["response_types_supported"], json!(["code"]));
    house.close().await;
}

#[tokio::test]
async fn t105_a_refresh_token_is_active_until_it_is_used() {
    let house = House::open().await;
    let secret = house.confidential("robot").await;
    let client = [("client_id", "robot"), ("client_secret", secret.as_str())];
    let ask = async |path: &str, fields: &[(&str, &str)]| {
        let fields = [&client[..], fields].concat();
        house.post(path, &fields).await
    };
    let fields = [
        ("grant_type", "password"),
        ("username", "ann"),
        ("password", "pw"),
    ];
    let token = ask("/oauth/token", &fields).await.refresh_token();
    let known = async || ask("/oauth/introspect", &[("token", &token)]).await.body;
    assert_eq!(known().await["active"], true);
    let fields = [("grant_type", "refresh_token"), ("refresh_token", &token)];
    ask("/oauth/token", &fields).await.token();
    assert_eq!(known().await, json!({"active": false}));
    house.close().await;
}
