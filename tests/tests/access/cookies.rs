//! What browsers show by themselves, at the broker: cookies, names and
//! passwords. Pages of others cannot use them.

use std::time::Duration;

use serde_json::json;
use ureq::http::Method;
use warrant_tests::fake_auth::{ALL, CSRF};
use warrant_tests::wait::until_within;
use warrant_tests::{Answer, Flux};

use super::Gatehouse;

const COOKIE: &str = "wrw_canary-canary-canary-canary-canary-canaryyy";
/// `ann:canary`.
const BASIC: &str = "YW5uOmNhbmFyeQ==";
const SUBMIT: &str = "/v1/jobs/submit?command=true";

fn send(nobody: &Flux, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    nobody.send(&method, path, headers, b"")
}

/// A house in which the cookie and the password are those of ann.
fn open() -> (Gatehouse, Flux, String) {
    let gate = Gatehouse::open();
    let token = gate.auth.token("ann", "user", "read submit control");
    gate.auth.know(COOKIE, token.clone(), Duration::ZERO);
    gate.auth.know(BASIC, token, Duration::ZERO);
    let nobody = gate.house.nobody();
    let own = format!("http://{}", nobody.address());
    (gate, nobody, own)
}

#[test]
fn t113_a_cookie_reads_and_changes_something_with_its_token_from_our_own_page_alone() {
    let (gate, nobody, own) = open();
    let cookie = format!("a=b; __Host-warrant={COOKIE}; c=d");
    let cookie = ("cookie", cookie.as_str());
    let told = send(&nobody, Method::GET, "/v1/session", &[cookie]);
    assert_eq!(told.header("cache-control"), Some("no-store"));
    let expected = json!({"user": "ann", "role": "user", "scopes": "read submit control",
                          "csrf": CSRF});
    assert_eq!(told.with(200), expected);
    let (own, token) = (("origin", own.as_str()), ("x-warrant-csrf", CSRF));
    for path in [SUBMIT, "/v1/jobs/1/cancel"] {
        let post = |headers: &[(&str, &str)]| send(&nobody, Method::POST, path, headers);
        assert_eq!(post(&[cookie]).status, 403);
        for foreign in [
            ("origin", "http://127.0.0.1:1"),
            ("origin", "http://evil.test"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "none"),
        ] {
            let answer = post(&[cookie, token, foreign]);
            let detail = answer.detail(403);
            assert!(
                detail.contains("not sent by a page"),
                "{foreign:?} {detail}"
            );
        }
        let detail = post(&[cookie, own]).detail(403);
        assert!(detail.contains("X-Warrant-CSRF"), "{detail}");
        let wrong = ("x-warrant-csrf", "x");
        assert_eq!(post(&[cookie, own, wrong]).status, 403);
        // The job may be over by now, or cannot be there.
        let fine = post(&[cookie, own, token]).status;
        assert!([200, 400, 404].contains(&fine), "{path} {fine}");
    }
    let remove = |headers: &[(&str, &str)]| send(&nobody, Method::DELETE, "/v1/keys", headers);
    assert_eq!(remove(&[cookie, token]).status, 403);
    assert_eq!(remove(&[cookie, own, token]).status, 200);
    assert_eq!(gate.auth.exchanges(), 1);
    let rows = gate.house.audit("warrant-broker");
    let reasons = ["origin", "csrf"];
    for reason in reasons {
        assert!(rows.iter().any(|row| row["reason"] == reason), "{reason}");
    }
    gate.house.close();
}

#[test]
fn t113_what_another_page_asks_for_is_not_answered_by_a_cookie() {
    let (gate, nobody, own) = open();
    let ann = gate.user("ann", "user", ALL);
    let job = ann.submit("echo of-ann");
    ann.finished(job);
    let cookie = format!("__Host-warrant={COOKIE}");
    let basic = format!("Basic {BASIC}");
    for shown in [("cookie", cookie.as_str()), ("authorization", &basic)] {
        for path in [
            "/v1/session".to_owned(),
            "/v1/jobs".to_owned(),
            format!("/v1/jobs/{job}/output"),
            format!("/v1/jobs/{job}/output/stream"),
        ] {
            let read = |more: &[(&str, &str)]| {
                let headers = [&[shown], more].concat();
                let answer = send(&nobody, Method::GET, &path, &headers);
                for name in [
                    "access-control-allow-origin",
                    "access-control-allow-credentials",
                ] {
                    assert_eq!(answer.header(name), None);
                }
                answer.status
            };
            assert_eq!(read(&[]), 200);
            assert_eq!(read(&[("origin", &own)]), 200);
            assert_eq!(read(&[("sec-fetch-site", "same-origin")]), 200);
            let linked = [
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
            ];
            assert_eq!(read(&linked), 200);
            let socket = [
                ("origin", "http://evil.test"),
                ("connection", "upgrade"),
                ("upgrade", "websocket"),
            ];
            assert_eq!(read(&socket), 403);
            assert_eq!(read(&[("origin", "null")]), 403);
            assert_eq!(read(&[("sec-fetch-site", "cross-site")]), 403);
            let picture = [
                ("sec-fetch-site", "same-site"),
                ("sec-fetch-mode", "no-cors"),
            ];
            assert_eq!(read(&picture), 403);
        }
    }
    gate.house.close();
}

#[test]
fn t113_a_cookie_is_never_taken_where_something_else_is_shown() {
    let (gate, nobody, _) = open();
    let cookie = format!("__Host-warrant={COOKIE}");
    let cookie = ("cookie", cookie.as_str());
    let get = |headers: &[(&str, &str)]| send(&nobody, Method::GET, "/v1/nodes", headers);
    let bob = gate.auth.token("bob", "user", "read");
    let bearer = format!("Bearer {bob}");
    let told = send(
        &nobody,
        Method::GET,
        "/v1/session",
        &[cookie, ("authorization", &bearer)],
    );
    let told = told.with(200);
    assert_eq!(
        (&told["user"], &told["csrf"]),
        (&json!("bob"), &json!(null))
    );
    for shown in [
        ("authorization", "Bearer x"),
        ("authorization", "Bearer"),
        ("authorization", "Negotiate abc"),
        ("authorization", ""),
        ("x-api-key", "wrt_x"),
    ] {
        assert_eq!(get(&[cookie, shown]).status, 401, "{shown:?}");
    }
    assert_eq!(get(&[cookie]).status, 200);
    let twice = format!("__Host-warrant={COOKIE}; __Host-warrant={COOKIE}");
    for other in [
        twice.as_str(),
        &format!("warrant={COOKIE}"),
        "__Host-warrant=",
    ] {
        assert_eq!(get(&[("cookie", other)]).status, 401, "{other}");
    }
    gate.house.close();
}

#[test]
fn a_name_and_a_password_are_taken_from_programs_and_our_own_pages() {
    let (gate, nobody, own) = open();
    let basic = format!("basic  {BASIC}");
    let basic = ("authorization", basic.as_str());
    let post = |more: &[(&str, &str)]| {
        let headers = [&[basic], more].concat();
        send(&nobody, Method::POST, SUBMIT, &headers)
    };
    assert_eq!(post(&[]).status, 200);
    assert_eq!(post(&[("origin", &own)]).status, 200);
    assert_eq!(post(&[("sec-fetch-site", "none")]).status, 200);
    for foreign in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "http://evil.test"),
    ] {
        assert_eq!(post(&[foreign]).status, 403, "{foreign:?}");
    }
    assert_eq!(post(&[("x-api-key", BASIC)]).status, 400);
    assert_eq!(gate.auth.exchanges(), 1);
    let wrong = ("authorization", "Basic YW5uOndyb25n");
    let answer = send(&nobody, Method::GET, "/v1/nodes", &[wrong]);
    assert_eq!(answer.detail(401), "Could not validate credentials");
    gate.house.close();
}

#[test]
fn t106_a_browser_that_is_signed_out_is_let_in_no_more() {
    let (gate, nobody, _) = open();
    let cookie = format!("__Host-warrant={COOKIE}");
    let get = || send(&nobody, Method::GET, "/v1/nodes", &[("cookie", &cookie)]).status;
    assert_eq!(get(), 200);
    gate.auth.revoke("session", "session-of-ann");
    until_within(Duration::from_secs(30), "the cookie to end", || {
        (get() == 401).then_some(())
    });
    gate.house.close();
}
