//! Logins that go on: by a code, with new tokens, until they are ended.

use std::sync::Barrier;

use warrant_api::oauth::DEVICE_GRANT;

use super::*;
use crate::auth::Password;
use crate::token_file::Renewal;

/// A server with logins that go on, unless they have `ended`: its latest token
/// counts alone, and each refresh token is good once.
fn renewing(ended: bool) -> FakeServer {
    let latest = std::cell::Cell::new(1);
    FakeServer::start(move |received| {
        let n = latest.get();
        if received.target == "/oauth/token" {
            let shown = format!("grant_type=refresh_token&refresh_token=r{n}&client_id=warrant");
            if ended || received.body != shown {
                return Reply::json(400, r#"{"error":"invalid_grant"}"#);
            }
            latest.set(n + 1);
            let next = n + 1;
            return Reply::json(
                200,
                &json!({
                    "access_token": format!("t{next}"),
                    "token_type": "Bearer",
                    "expires_in": 600,
                    "refresh_token": format!("r{next}"),
                })
                .to_string(),
            );
        }
        if bearer(received) == Some(format!("t{n}").as_str()) {
            Reply::json(200, "{}")
        } else {
            Reply::with_headers(401, CHALLENGE, "{}")
        }
    })
}

fn renewable(host: &str) -> StoredToken {
    StoredToken {
        renewal: Some(Renewal {
            auth: host.to_owned(),
            base: None,
            refresh_token: "r1".to_owned(),
        }),
        ..stored(host, "t1")
    }
}

/// A client that could only ask for a password, which it must not.
fn without_password(server: &FakeServer, file: &TokenFile) -> Client {
    let credentials = Credentials {
        user: "ann".to_owned(),
        password: Password::Ask,
        secret_key: None,
    };
    let host = server.url().parse().unwrap();
    let patience = Duration::from_secs(10);
    Client::new(host, credentials, Some(file.clone()), true, patience)
}

#[test]
fn a_login_that_goes_on_gets_new_tokens_before_and_after_the_old_ones_end() {
    let scratch = Scratch::new();
    let file = TokenFile::at(scratch.path("token.json"));
    let server = renewing(false);
    let mut over = renewable(&server.url());
    over.expires_at = now_s();
    file.write(&over).unwrap();
    let mut client = without_password(&server, &file);
    client.answer(&nodes()).unwrap().success().unwrap();
    assert_eq!(server.requests(), 2, "a token that is over was shown");
    let kept = file.read().unwrap();
    assert_eq!(kept.access_token, "t2");
    assert_eq!(kept.renewal.as_ref().unwrap().refresh_token, "r2");
    assert!(kept.is_live());
    // One that was revoked before its time.
    file.write(&StoredToken {
        access_token: "revoked".to_owned(),
        ..kept
    })
    .unwrap();
    let mut client = without_password(&server, &file);
    client.answer(&nodes()).unwrap().success().unwrap();
    assert_eq!(file.read().unwrap().access_token, "t3");
    client.answer(&nodes()).unwrap().success().unwrap();
    assert_eq!(server.requests(), 6);
}

#[test]
fn of_commands_that_begin_at_once_one_gets_the_tokens_and_the_others_use_them() {
    let scratch = Scratch::new();
    let file = TokenFile::at(scratch.path("token.json"));
    let server = renewing(false);
    let mut over = renewable(&server.url());
    over.expires_at = now_s();
    file.write(&over).unwrap();
    let all_have_read = Barrier::new(8);
    let ask = || {
        let mut client = without_password(&server, &file);
        all_have_read.wait();
        client.answer(&nodes()).unwrap().status
    };
    let answers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert_eq!(answers, [200; 8]);
    assert_eq!(file.read().unwrap().access_token, "t2");
    assert_eq!(server.requests(), 9, "more than one got new tokens");
}

#[test]
fn a_login_that_has_ended_asks_for_another_or_takes_the_password_that_is_there() {
    let scratch = Scratch::new();
    let file = TokenFile::at(scratch.path("token.json"));
    let server = renewing(true);
    let mut over = renewable(&server.url());
    over.expires_at = now_s();
    file.write(&over).unwrap();
    let refused = without_password(&server, &file).answer(&nodes());
    let refused = refused.unwrap_err();
    assert!(refused.message().unwrap().contains("warrant login"));
    assert!(file.read().is_none(), "what has ended is kept");
    let server = FakeServer::start(|received| match received.target.as_str() {
        "/oauth/token" => Reply::json(400, r#"{"error":"invalid_grant"}"#),
        "/v1/login/access-token" => good(),
        _ if bearer(received) == Some("good") => Reply::json(200, "{}"),
        _ => Reply::with_headers(401, CHALLENGE, "{}"),
    });
    file.write(&renewable(&server.url())).unwrap();
    let mut client = server.client_with(None, Some(file.clone()));
    client.answer(&nodes()).unwrap().success().unwrap();
    assert!(file.read().is_none());
}

#[test]
fn a_login_that_cannot_go_on_now_is_kept_for_later() {
    let scratch = Scratch::new();
    let file = TokenFile::at(scratch.path("token.json"));
    let server = FakeServer::start(|received| match received.target.as_str() {
        "/oauth/token" => Reply::json(503, r#"{"error":"temporarily_unavailable"}"#),
        _ => Reply::with_headers(401, CHALLENGE, "{}"),
    });
    let counts = renewable(&server.url());
    let over = StoredToken {
        expires_at: now_s(),
        ..counts.clone()
    };
    for login in [over, counts] {
        file.write(&login).unwrap();
        let mut client = without_password(&server, &file);
        // The second time as by a command that goes on asking.
        for _ in 0..2 {
            let refused = client.answer(&nodes()).unwrap_err();
            let said = refused.message().unwrap();
            assert!(said.contains("cannot be renewed now"), "{said}");
            assert!(file.read().as_ref() == Some(&login));
        }
    }
    assert_eq!(server.requests(), 2 + 4);
}

#[test]
fn a_login_goes_on_with_the_service_that_gave_it_and_with_no_other() {
    let scratch = Scratch::new();
    let file = TokenFile::at(scratch.path("token.json"));
    let auth = renewing(false);
    let server = FakeServer::start(|received| {
        assert!(!received.body.contains("r1"));
        match bearer(received) {
            Some("t2") => Reply::json(200, "{}"),
            Some(_) | None => Reply::with_headers(401, CHALLENGE, "{}"),
        }
    });
    let mut login = renewable(&auth.url());
    login.host = server.url();
    file.write(&login).unwrap();
    let mut client = without_password(&server, &file);
    client.answer(&nodes()).unwrap().success().unwrap();
    assert_eq!((auth.requests(), server.requests()), (1, 2));
}

#[test]
fn a_device_waits_as_long_as_it_is_told_and_no_longer_than_its_code_is_good() {
    let scratch = Scratch::new();
    let file = TokenFile::at(scratch.path("token.json"));
    let server = FakeServer::start(|received| {
        let error = |error| Reply::json(400, &json!({"error": error}).to_string());
        match (received.number, received.target.as_str()) {
            (1, "/oauth/device_authorization") => {
                assert_eq!(received.body, "client_id=warrant&scope=read+submit");
                Reply::json(
                    200,
                    r#"{"device_code":"d1","user_code":"BCDF-GHJK","expires_in":600,"interval":1,
                        "verification_uri":"http://127.0.0.1/oauth/device",
                        "verification_uri_complete":"http://127.0.0.1/oauth/device?user_code=x"}"#,
                )
            }
            (2, "/oauth/token") => {
                assert!(received.body.contains("device_code=d1"));
                error("authorization_pending")
            }
            (3, "/oauth/token") => Reply::json(
                200,
                r#"{"access_token":"t1","token_type":"Bearer","expires_in":600,"refresh_token":"r1"}"#,
            ),
            (_, target) => panic!("{target}"),
        }
    });
    let began = std::time::Instant::now();
    let mut client = without_password(&server, &file);
    let scopes = "read submit".parse().unwrap();
    let kept = client.login_by_device(None, Some(scopes)).unwrap();
    assert!(began.elapsed() >= Duration::from_secs(2), "it did not wait");
    assert_eq!(kept.renewal.as_ref().unwrap().auth, server.url());
    assert!(file.read() == Some(kept));
}

#[test]
fn a_device_that_is_denied_or_unknown_to_the_server_says_so() {
    let scratch = Scratch::new();
    let file = TokenFile::at(scratch.path("token.json"));
    for (error, said) in [
        ("access_denied", "denied"),
        ("expired_token", "in time"),
        ("invalid_grant", "invalid_grant"),
    ] {
        let server = FakeServer::start(move |received| match received.number {
            1 => Reply::json(
                200,
                r#"{"device_code":"d1","user_code":"B","expires_in":600,"interval":1,
                    "verification_uri":"https://a/d","verification_uri_complete":"https://a/d"}"#,
            ),
            _ => {
                assert!(
                    received
                        .body
                        .contains(&format!("grant_type={}", DEVICE_GRANT.replace(':', "%3A")))
                );
                Reply::json(400, &json!({"error": error}).to_string())
            }
        });
        let refused = without_password(&server, &file).login_by_device(None, None);
        let refused = refused.err().unwrap();
        assert!(refused.message().unwrap().contains(said), "{refused:?}");
        assert!(file.read().is_none());
    }
    let older = FakeServer::start(|_| Reply::json(404, r#"{"detail":"Not Found"}"#));
    let refused = without_password(&older, &file).login_by_device(None, None);
    assert!(
        refused
            .err()
            .unwrap()
            .message()
            .unwrap()
            .contains("--auth-host")
    );
}

#[test]
fn a_logout_revokes_what_the_login_goes_on_with() {
    let scratch = Scratch::new();
    let file = TokenFile::at(scratch.path("token.json"));
    let server = FakeServer::start(|received| {
        assert_eq!(received.target, "/oauth/revoke");
        assert_eq!(received.body, "token=r1&client_id=warrant");
        Reply::json(200, "{}")
    });
    file.write(&renewable(&server.url())).unwrap();
    let mut client = without_password(&server, &file);
    assert_eq!(client.log_out(), Ok(Ended::Revoked));
    assert!(file.read().is_none());
    assert_eq!(client.log_out(), Ok(Ended::None));
    let older = FakeServer::start(|received| {
        assert_eq!(received.body, "token=t1&client_id=flux");
        Reply::json(404, "{}")
    });
    file.write(&stored(&older.url(), "t1")).unwrap();
    let mut client = without_password(&older, &file);
    assert_eq!(client.log_out(), Ok(Ended::Forgotten));
    let gone = FakeServer::gone();
    file.write(&renewable(&gone.url())).unwrap();
    let failed = without_password(&gone, &file).log_out();
    assert!(matches!(failed, Err(Failure::Unreachable(_))));
    assert!(file.read().is_none(), "it is kept here");
}
