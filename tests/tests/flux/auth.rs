//! Coming in: challenges, logins, and who is turned away.

use serde_json::json;
use ureq::http::Method;
use warrant_tests::handshake::{payload, signed};
use warrant_tests::house::{ADMIN, ADMIN_PASSWORD, SECRET};
use warrant_tests::{Database, House, Setup, raw};

/// Every route that needs a token.
const ROUTES: [(&str, &str); 10] = [
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/search"),
    ("POST", "/v1/jobs/submit?command=true"),
    ("GET", "/v1/jobs/1"),
    ("GET", "/v1/jobs/nope!"),
    ("POST", "/v1/jobs/1/cancel"),
    ("GET", "/v1/jobs/1/output"),
    ("GET", "/v1/jobs/1/output/stream"),
    ("GET", "/v1/nodes"),
    ("POST", "/v1/service/stop"),
];

#[test]
fn t103_a_caller_without_a_token_is_told_where_to_get_one() {
    let house = House::open();
    let nobody = house.nobody();
    let realm = format!("realm=\"http://{}/v1/token\"", nobody.address());
    for (method, path) in ROUTES {
        let answer = nobody.send(&method.parse().unwrap(), path, &[], b"");
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(answer.text(), r#"{"detail":"Not authenticated"}"#, "{path}");
        assert_eq!(
            answer.header("www-authenticate"),
            Some(format!("Bearer {realm},service=\"warrant\",scope=\"jobs\"").as_str())
        );
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    house.close();
}

#[test]
fn a_token_that_does_not_count_is_told_so() {
    let house = House::open();
    let admin = house.admin();
    let tampered = format!("{}x", admin.token());
    let none = [
        json!({"alg": "none", "typ": "at+jwt"}),
        json!({"sub": ADMIN, "aud": "warrant-broker", "iss": "warrant", "exp": 99_999_999_999_u64}),
    ]
    .map(|part| warrant_tests::handshake::part(&part))
    .join(".");
    let symmetric = signed(
        &json!({"alg": "HS256", "typ": "at+jwt", "kid": "x"}),
        &json!({"sub": ADMIN, "aud": "warrant-broker", "iss": "warrant",
                "exp": 99_999_999_999_u64, "iat": 1, "jti": "x", "role": "administrator"}),
        SECRET,
    );
    let handshake = payload(ADMIN, ADMIN_PASSWORD, SECRET);
    let tokens = [
        "garbage",
        "a.b.c",
        "...",
        &tampered,
        &format!("{none}."),
        &none,
        &symmetric,
        &handshake,
        &"x".repeat(5000),
    ];
    for token in tokens {
        let answer = admin.with_token(token).get("/v1/nodes");
        assert_eq!(answer.detail(401), "Could not validate credentials");
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(
            challenge.starts_with("Bearer realm=\"http://127.0.0.1:")
                && challenge.ends_with("scope=\"jobs\",error=\"invalid_token\""),
            "{challenge}"
        );
    }
    house.close();
}

#[test]
fn other_ways_to_authenticate_count_as_none() {
    let house = House::open();
    for value in ["Bearer", "Bearer ", "Negotiate x"] {
        let head = [("authorization", value)];
        let answer = house.nobody().send(&Method::GET, "/v1/nodes", &head, b"");
        assert_eq!(answer.detail(401), "Not authenticated", "{value}");
    }
    let head = [("authorization", "Basic Zmx1eHVzZXI6eA==")];
    let answer = house.nobody().send(&Method::GET, "/v1/nodes", &head, b"");
    assert_eq!(answer.detail(401), "Could not validate credentials");
    house.close();
}

#[test]
fn t103_no_header_of_a_caller_moves_the_realm() {
    let house = House::open();
    let address = house.nobody().address();
    let request =
        b"GET /v1/nodes HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: evil.example\r\n\
        Forwarded: host=evil.example\r\nConnection: close\r\n\r\n";
    let answer = raw::exchange(address, request);
    assert!(answer.contains(&format!("realm=\"http://{address}/v1/token\"")));
    assert!(!answer.contains("evil"), "{answer}");
    house.close();
}

#[test]
fn the_realm_is_the_public_url_where_one_is_configured() {
    let house = Setup::on(Database::Sqlite)
        .set("BROKER__LISTEN__PUBLIC_URL", "https://jobs.example.org/")
        .open();
    let answer = house.nobody().get("/v1/nodes");
    assert_eq!(
        answer.header("www-authenticate"),
        Some(
            "Bearer realm=\"https://jobs.example.org/v1/token\",service=\"warrant\",scope=\"jobs\""
        )
    );
    house.close();
}

#[test]
fn a_payload_encoded_with_the_secret_is_exchanged_for_a_token() {
    let house = House::open();
    let login = payload(ADMIN, ADMIN_PASSWORD, SECRET);
    let answer = house.exchange(&login).with(200);
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["expires_in"], 600 * 60);
    // The same bytes again, as the existing clients send them at every start.
    let again = house.exchange(&login).with(200);
    let token = again["access_token"].as_str().unwrap();
    let nodes = house.nobody().with_token(token).get("/v1/nodes").with(200);
    assert_eq!(nodes["nodes"].as_array().unwrap().len(), 1);
    house.close();
}

#[test]
fn t103_a_failed_exchange_answers_400_and_says_why() {
    let house = House::open();
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let full = json!({"user": ADMIN, "pass": ADMIN_PASSWORD, "scope": "token"});
    let with = |name: &str, value| {
        let mut claims = full.clone();
        claims[name] = value;
        signed(&header, &claims, SECRET)
    };
    let unsigned = format!(
        "{}.{}.",
        warrant_tests::handshake::part(&json!({"alg": "none", "typ": "JWT"})),
        warrant_tests::handshake::part(&full)
    );
    for (login, detail) in [
        ("garbage".into(), "Could not decode credentials"),
        (
            payload(ADMIN, ADMIN_PASSWORD, "wrong"),
            "Could not decode credentials",
        ),
        (unsigned, "Could not decode credentials"),
        (with("user", json!("")), "Credentials are missing 'user'"),
        (with("pass", json!("")), "Credentials are missing 'pass'"),
        (with("scope", json!("")), "Credentials are missing 'scope'"),
        (with("scope", json!("everything")), "Invalid scope"),
        (with("pass", json!("wrong")), "Incorrect user or password"),
        (with("user", json!("nobody")), "Incorrect user or password"),
    ] {
        assert_eq!(house.exchange(&login).detail(400), detail);
    }
    let bare = house.nobody().post("/v1/token");
    assert_eq!(bare.detail(400), "Missing Authorization header");
    house.close();
}

#[test]
fn a_form_logs_a_user_in() {
    let house = House::open();
    house.user("ann");
    let nobody = house.nobody();
    let login = |form: &str| nobody.post_form("/v1/login/access-token", form);
    let password = House::password("ann");
    let good = login(&format!(
        "username=ann&password={password}&grant_type=password"
    ));
    assert_eq!(good.with(200)["token_type"], "Bearer");
    for wrong in ["username=ann&password=x", "username=zoe&password=x"] {
        assert_eq!(login(wrong).detail(400), "Incorrect user or password");
    }
    assert_eq!(
        login("username=ann").with(422),
        json!({"detail": [{"type": "missing", "loc": ["body", "password"],
                           "msg": "Field required", "input": null}]})
    );
    house.close();
}

#[test]
fn a_disabled_user_is_answered_like_a_wrong_password() {
    let house = House::open();
    house.user("ann");
    house.authsvc_command(&["user", "disable", "ann"], "");
    let login = payload("ann", &House::password("ann"), SECRET);
    assert_eq!(
        house.exchange(&login).detail(400),
        "Incorrect user or password"
    );
    house.close();
}

#[test]
fn how_to_log_in_is_public() {
    let house = House::open();
    assert_eq!(
        house.nobody().get("/v1/auth").text(),
        r#"{"backend":"shared-secret","password_login":true,"shared_secret_handshake":true}"#
    );
    let keys = house.nobody().get("/.well-known/jwks.json").with(200);
    let key = &keys["keys"][0];
    assert_eq!(
        (&key["kty"], &key["crv"]),
        (&json!("OKP"), &json!("Ed25519"))
    );
    assert!(key.get("d").is_none(), "the private half is published");
    house.close();
}

#[test]
fn without_a_secret_there_is_no_handshake_but_a_password_login() {
    let house = Setup::on(Database::Sqlite)
        .set("FLUX_SECRET_KEY", "")
        .open();
    assert_eq!(
        house
            .exchange(&payload(ADMIN, ADMIN_PASSWORD, "guess"))
            .detail(400),
        "The shared-secret token handshake is not enabled on this server."
    );
    let info = house.nobody().get("/v1/auth").with(200);
    assert_eq!(info["backend"], "database");
    assert_eq!(info["shared_secret_handshake"], false);
    let form = format!("username={ADMIN}&password={ADMIN_PASSWORD}");
    let answer = house.nobody().post_form("/v1/login/access-token", &form);
    assert_eq!(answer.with(200)["token_type"], "Bearer");
    // Closing needs a superuser who logs in with the handshake: none is needed
    // where no job is left.
    drop(house);
}

#[test]
fn the_misspelt_name_of_the_secret_counts_too() {
    let house = Setup::on(Database::Sqlite)
        .set("FLUX_SECRET_KEY", "")
        .set("FLUX_SECREY_KEY", SECRET)
        .open();
    assert!(!house.admin().token().is_empty());
    house.close();
}

#[test]
fn a_login_that_fails_too_often_is_slowed_and_the_right_one_still_gets_in() {
    let house = House::open();
    house.user("ann");
    let wrong = payload("bob", "wrong", SECRET);
    let answer = (0..20)
        .map(|_| house.exchange(&wrong))
        .find(|answer| answer.status != 400)
        .expect("nobody slows a guesser down");
    assert!(answer.detail(429).starts_with("Too many failed logins."));
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    house.login("ann");
    house.close();
}

#[test]
fn where_authentication_is_off_everybody_may_run_jobs_and_nobody_may_stop_the_service() {
    let house = Setup::on(Database::Sqlite).without_authentication().open();
    let anyone = house.nobody();
    assert_eq!(anyone.get("/v1/auth").with(200)["backend"], "none");
    let job = anyone.submit("echo hello");
    assert_eq!(anyone.finished(job)["result"], "COMPLETED");
    assert_eq!(anyone.output(job), ["hello\n"]);
    assert_eq!(anyone.list().len(), 1);
    assert_eq!(
        anyone.post("/v1/service/stop").detail(403),
        "This action requires a superuser, but the auth backend is 'none'."
    );
    assert_eq!(
        anyone
            .post_form("/v1/login/access-token", "username=a&password=b")
            .detail(400),
        "The none auth backend does not support password login."
    );
    house.close();
}

#[test]
fn a_token_outlives_restarts_of_everything() {
    let mut house = House::open();
    let ann = house.user("ann");
    house.kill_broker();
    house.kill_authsvc();
    house.start_authsvc();
    house.start_broker();
    let job = ann.submit("true");
    assert_eq!(ann.finished(job)["result"], "COMPLETED");
    house.close();
}

#[test]
fn while_the_auth_service_is_away_tokens_count_and_logins_answer_503() {
    let mut house = House::open();
    let ann = house.user("ann");
    house.kill_authsvc();
    let job = ann.submit("true");
    assert_eq!(ann.finished(job)["result"], "COMPLETED");
    let login = house.exchange(&payload(ADMIN, ADMIN_PASSWORD, SECRET));
    assert_eq!(login.detail(503), "The auth service cannot be reached.");
    assert!(login.header("retry-after").is_some());
    house.start_authsvc();
    house.admin();
    house.close();
}
