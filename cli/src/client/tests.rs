mod going_on;

use serde_json::json;

use super::*;
use crate::clock::now_s;
use crate::fake_server::{FakeServer, Received, Reply};
use crate::prover::{KeyFile, TOKEN_ROUTE};
use crate::scratch::Scratch;
use crate::token_file::NEARLY_OVER_S;

const CHALLENGE: &str = "WWW-Authenticate: Bearer realm=\"/v1/token\"\r\n";

fn nodes() -> Request<'static> {
    Request::Get("/v1/nodes", vec![])
}

fn bearer(received: &Received) -> Option<&str> {
    received
        .headers
        .get("authorization")?
        .strip_prefix("Bearer ")
}

#[test]
fn an_api_key_is_shown_and_nothing_else_is_tried_in_its_place() {
    let server = FakeServer::start(|received| match bearer(received) {
        Some("wrt_good") => Reply::json(200, "{}"),
        Some(_) | None => Reply::with_headers(401, CHALLENGE, "{}"),
    });
    let client = |key| server.client().with_key(Some(Secret::new(key)));
    assert_eq!(client("wrt_good").answer(&nodes()).unwrap().status, 200);
    let Err(Failure::Refused(message)) = client("wrt_bad").answer(&nodes()) else {
        panic!("a key that does not count is taken");
    };
    assert!(message.contains("WARRANT_API_KEY"), "{message}");
    assert!(!message.contains("wrt_"), "{message}");
    assert_eq!(server.requests(), 2, "the password was tried");
}

/// A server that takes the token `good`, and gives it for `login`.
fn guarded(login: impl Fn(&Received) -> Reply + Send + 'static) -> FakeServer {
    FakeServer::start(move |received| {
        if received.target == "/v1/token" || received.target == "/v1/login/access-token" {
            return login(received);
        }
        if bearer(received) == Some("good") {
            Reply::json(200, &json!({"body": received.body}).to_string())
        } else {
            Reply::with_headers(401, CHALLENGE, r#"{"detail":"Not authenticated"}"#)
        }
    })
}

fn good() -> Reply {
    Reply::json(
        200,
        r#"{"access_token":"good","token_type":"Bearer","expires_in":60000}"#,
    )
}

#[test]
fn a_refused_request_is_made_again_with_a_token() {
    let server = guarded(|login| {
        assert_eq!(login.method, "POST");
        assert_eq!(login.target, "/v1/login/access-token");
        assert_eq!(login.body, "username=ann&password=p+w%26");
        assert_eq!(bearer(login), None);
        good()
    });
    let body = json!({"command": "true"});
    let mut client = server.client();
    let request = Request::Post("/v1/jobs/submit", Some(body.clone()));
    let answer = client.answer(&request).unwrap();
    assert_eq!(answer.status, 200);
    let received = answer.json().unwrap()["body"].as_str().unwrap().to_owned();
    assert_eq!(serde_json::from_str::<Value>(&received).unwrap(), body);
    assert_eq!(server.requests(), 3);
    client.answer(&nodes()).unwrap().success().unwrap();
    assert_eq!(server.requests(), 4, "a token serves more than one request");
}

#[test]
fn commands_with_a_password_at_hand_open_one_session_and_not_one_each() {
    const PASSWORD: &str = "a canary of a password";
    let scratch = Scratch::new();
    let file = TokenFile::at(scratch.path("warrant/token.json"));
    let server = guarded(|_| good());
    let client = |user: &str, password: &str| {
        let credentials = Credentials {
            user: user.to_owned(),
            password: crate::auth::Password::Known(Secret::new(password)),
            secret_key: None,
        };
        let patience = Duration::from_secs(10);
        let there: Server = server.url().parse().unwrap();
        Client::new(there, credentials, Some(file.clone()), false, patience)
    };
    let ask = |user: &str, password: &str| {
        let before = server.requests();
        client(user, password)
            .answer(&nodes())
            .unwrap()
            .success()
            .unwrap();
        server.requests() - before
    };
    assert_eq!(
        ask("ann", PASSWORD),
        3,
        "the request, the login, the request"
    );
    assert_eq!((ask("ann", PASSWORD), ask("ann", PASSWORD)), (1, 1));
    // Another user, and another password, open their own.
    assert_eq!(ask("bob", PASSWORD), 3);
    assert_eq!(ask("ann", "another one"), 3);
    let dir = scratch.path("warrant/sessions");
    let mode = |path: &std::path::Path| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode(&dir), 0o700);
    let files: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    assert_eq!(files.len(), 2);
    for path in &files {
        assert_eq!(mode(path), 0o600);
        assert!(!std::fs::read_to_string(path).unwrap().contains(PASSWORD));
        // A session that has expired, or that others could read, is not used.
        let mut kept = TokenFile::at(path.clone()).read().unwrap();
        kept.expires_at = now_s();
        TokenFile::at(path.clone()).write(&kept).unwrap();
    }
    assert_eq!(ask("bob", PASSWORD), 3);
    assert!(file.read().is_none(), "nobody logged in");
}

#[test]
fn a_shared_secret_encodes_the_credentials() {
    let server = guarded(|login| {
        assert_eq!(login.target, "/v1/token");
        assert_eq!(login.body, "");
        assert_eq!(bearer(login).unwrap().split('.').count(), 3);
        good()
    });
    let mut client = server.client_with(Some("key"), None);
    client.answer(&nodes()).unwrap().success().unwrap();
}

#[test]
fn a_wrong_password_is_tried_once() {
    let server = guarded(|_| Reply::json(400, r#"{"detail":"Incorrect user or password"}"#));
    assert_eq!(
        server.client().answer(&nodes()).unwrap_err(),
        Failure::Refused("login of ann failed: Wrong user name or password".to_owned())
    );
    assert_eq!(server.requests(), 2);
}

#[test]
fn a_token_that_is_refused_at_once_ends_the_exchange() {
    let server = guarded(|_| Reply::json(200, r#"{"access_token":"bad"}"#));
    assert!(matches!(
        server.client().answer(&nodes()),
        Err(Failure::Refused(_))
    ));
    assert_eq!(server.requests(), 3);
}

#[test]
fn a_realm_elsewhere_gets_no_password() {
    let server = FakeServer::start(|_| {
        let challenge = "WWW-Authenticate: Bearer realm=\"http://evil.example/\"\r\n";
        Reply::with_headers(401, challenge, "")
    });
    assert!(matches!(
        server.client().answer(&nodes()),
        Err(Failure::Refused(_))
    ));
    assert_eq!(server.requests(), 1);
}

#[test]
fn a_redirection_is_not_followed() {
    let server =
        FakeServer::start(|_| Reply::with_headers(307, "Location: http://evil.example/\r\n", ""));
    let Err(Failure::Refused(message)) = server.client().answer(&nodes()) else {
        panic!("followed");
    };
    assert!(message.contains("http://evil.example/"));
}

#[test]
fn a_login_serves_later_commands() {
    let scratch = Scratch::new();
    let file = TokenFile::at(scratch.path("token.json"));
    let server = guarded(|_| good());
    server
        .client_with(None, Some(file.clone()))
        .login()
        .unwrap();
    let mut later = server.client_with(None, Some(file));
    later.answer(&nodes()).unwrap().success().unwrap();
    assert_eq!(server.requests(), 2);
}

#[test]
fn a_stored_token_that_is_refused_is_dropped_and_replaced() {
    let scratch = Scratch::new();
    let file = TokenFile::at(scratch.path("token.json"));
    let server = guarded(|_| good());
    file.write(&stored(&server.url(), "revoked")).unwrap();
    let mut client = server.client_with(None, Some(file.clone()));
    client.answer(&nodes()).unwrap().success().unwrap();
    assert!(file.read().is_none());
}

#[test]
fn a_stored_token_goes_to_no_other_server_and_for_no_other_user() {
    let scratch = Scratch::new();
    let file = TokenFile::at(scratch.path("token.json"));
    let server = FakeServer::start(|received| {
        assert_eq!(bearer(received), None);
        Reply::json(200, "{}")
    });
    let mut others = [
        stored("http://127.0.0.1:1", "t"),
        stored(&server.url(), "t"),
        stored(&server.url(), "t"),
    ];
    others[1].user = "bob".to_owned();
    others[2].expires_at = now_s() + NEARLY_OVER_S;
    for token in others {
        file.write(&token).unwrap();
        let mut client = server.client_with(None, Some(file.clone()));
        client.answer(&nodes()).unwrap();
    }
    assert_eq!(server.requests(), 3);
}

fn stored(host: &str, token: &str) -> StoredToken {
    StoredToken {
        host: host.to_owned(),
        user: "ann".to_owned(),
        access_token: token.to_owned(),
        expires_at: now_s() + 1000,
        bound: None,
        renewal: None,
        mark: None,
    }
}

fn binding(url: &str) -> Option<String> {
    let about = json!({
        "token_endpoint": format!("{url}/oauth/token"),
        "grant_types_supported": ["password"],
        "dpop_signing_alg_values_supported": ["ES256", "EdDSA"],
    });
    Some(about.to_string())
}

/// The thumbprint of the key that is proved to be held, for this request.
fn proved(received: &Received, token: Option<&str>) -> Option<warrant_dpop::Proof> {
    let proof = received.headers.get("dpop")?;
    let path = received.target.split('?').next().unwrap();
    let url = format!("http://{}{path}", received.headers["host"]);
    let wanted = warrant_dpop::Wanted {
        method: &received.method,
        at: &warrant_dpop::At::parse(&url).unwrap(),
        token,
        now_s: now_s(),
    };
    warrant_dpop::check([proof.as_bytes()], &wanted).unwrap()
}

/// A server that binds its tokens: each is good for the key that it was
/// given to. It says which key it was.
fn binding_server(with_nonce: bool) -> FakeServer {
    let bound = std::cell::RefCell::new(None);
    FakeServer::described(binding, move |received| {
        if received.target == TOKEN_ROUTE {
            let proof = proved(received, None).unwrap();
            if with_nonce && proof.nonce() != Some("n1") {
                let nonce = "DPoP-Nonce: n1\r\n";
                return Reply::with_headers(400, nonce, r#"{"error":"use_dpop_nonce"}"#);
            }
            assert!(received.body.contains("grant_type=password"));
            *bound.borrow_mut() = Some(proof.jkt().to_owned());
            let good = r#"{"access_token":"good","token_type":"DPoP","expires_in":60000}"#;
            return Reply::json(200, good);
        }
        let token = received.headers.get("authorization");
        let token = token.and_then(|value| value.strip_prefix("DPoP "));
        match token {
            None => Reply::with_headers(401, CHALLENGE, "{}"),
            Some("good") => {
                let proof = proved(received, token).unwrap();
                assert_eq!(Some(proof.jkt()), bound.borrow().as_deref());
                Reply::json(200, &json!({"jkt": proof.jkt()}).to_string())
            }
            Some(_) => {
                let challenge = "WWW-Authenticate: DPoP error=\"invalid_token\"\r\n";
                Reply::with_headers(401, challenge, "{}")
            }
        }
    })
}

#[test]
fn t101_where_a_server_binds_tokens_every_request_proves_that_the_key_is_held() {
    for with_nonce in [false, true] {
        let server = binding_server(with_nonce);
        let mut client = server.client();
        let first = client.answer(&nodes()).unwrap().json().unwrap();
        let request = Request::Get("/v1/jobs", vec![("limit", "1".into())]);
        let second = client.answer(&request).unwrap().success().unwrap();
        assert_eq!(first, second.json().unwrap(), "another key");
        let posted = Request::Post("/v1/jobs/submit", Some(json!({})));
        client.answer(&posted).unwrap().success().unwrap();
        client
            .answer(&Request::Delete("/v1/keys", vec![]))
            .unwrap()
            .success()
            .unwrap();
        let logins = if with_nonce { 2 } else { 1 };
        assert_eq!(server.requests(), 5 + logins);
    }
}

#[test]
fn t101_a_login_keeps_the_key_beside_the_token_and_a_token_without_it_is_not_sent() {
    let scratch = Scratch::new();
    let file = TokenFile::at(scratch.path("token.json"));
    let server = binding_server(false);
    let client = || server.client_with(None, Some(file.clone()));
    client().login().unwrap();
    let kept = file.read().unwrap();
    assert_eq!(kept.bound.as_deref(), Some(server.url().as_str()));
    let key = KeyFile::beside(file.path());
    let jkt = key.read().unwrap().thumbprint();
    let answer = client().answer(&nodes()).unwrap().json().unwrap();
    assert_eq!(answer["jkt"], jkt);
    assert_eq!(server.requests(), 2, "a second login");
    // A token that counts no more is replaced, with the same key.
    file.write(&StoredToken {
        access_token: "over".into(),
        ..kept
    })
    .unwrap();
    let answer = client().answer(&nodes()).unwrap().json().unwrap();
    assert_eq!(answer["jkt"], jkt);
    assert_eq!(server.requests(), 5);
    assert!(file.read().is_none());
    client().login().unwrap();
    std::fs::remove_file(scratch.path("dpop.key")).unwrap();
    let answer = client().answer(&nodes()).unwrap().json().unwrap();
    assert_ne!(answer["jkt"], jkt);
}

#[test]
fn a_server_that_is_not_there_is_named_with_a_remedy() {
    let server = FakeServer::gone();
    let Err(Failure::Unreachable(message)) = server.client().answer(&nodes()) else {
        panic!("an answer from nobody");
    };
    assert!(message.contains(&server.url()) && message.contains("warrant up"));
}
