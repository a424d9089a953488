//! API keys at the broker: shown in two headers, exchanged once, remembered
//! for as long as that is safe.

use std::time::Duration;

use ureq::http::Method;
use warrant_tests::fake_auth::ALL;
use warrant_tests::wait::until_within;
use warrant_tests::{Answer, Flux};

use super::Gatehouse;

const KEY: &str = "wrt_0123456789ab_canary-canary-canary-canary-canary-canaryyy";

fn get(nobody: &Flux, headers: &[(&str, &str)]) -> Answer {
    nobody.send(&Method::GET, "/v1/nodes", headers, b"")
}

#[test]
fn t104_a_key_is_taken_from_either_header_and_exchanged_once() {
    let gate = Gatehouse::open();
    let nobody = gate.house.nobody();
    let token = gate.auth.token("ann", "user", "read");
    gate.auth.know(KEY, token, Duration::ZERO);
    let bearer = format!("Bearer {KEY}");
    for headers in [
        &[("x-api-key", KEY)][..],
        &[("authorization", &bearer)],
        &[("authorization", &bearer), ("x-api-key", KEY)],
    ] {
        assert_eq!(get(&nobody, headers).status, 200, "{headers:?}");
    }
    // The key has the scopes that the auth service gives it, and no others.
    let key = [("x-api-key", KEY)];
    let submit = nobody.send(&Method::POST, "/v1/jobs/submit?command=true", &key, b"");
    assert_eq!(submit.status, 403);
    assert_eq!(gate.auth.exchanges(), 1);
    gate.house.close();
}

#[test]
fn t104_two_credentials_that_differ_are_refused_and_so_are_those_in_the_address() {
    let gate = Gatehouse::open();
    let ann = gate.user("ann", "user", ALL);
    gate.auth.know(KEY, ann.token().to_owned(), Duration::ZERO);
    let other = format!("Bearer {}", KEY.replace('0', "1"));
    let nobody = gate.house.nobody();
    for headers in [
        [("authorization", other.as_str()), ("x-api-key", KEY)],
        [
            ("authorization", &format!("Bearer {}", ann.token())),
            ("x-api-key", KEY),
        ],
    ] {
        assert_eq!(get(&nobody, &headers).status, 400);
    }
    for query in ["access_token=x", "a=b&access_token=x", "api_key=wrt_x"] {
        for user in [&ann, &nobody] {
            assert_eq!(
                user.get(&format!("/v1/nodes?{query}")).status,
                400,
                "{query}"
            );
        }
    }
    assert_eq!(gate.auth.exchanges(), 0);
    gate.house.close();
}

#[test]
fn t104_a_key_that_does_not_count_costs_one_question_in_a_while() {
    let gate = Gatehouse::open();
    let nobody = gate.house.nobody();
    for _ in 0..20 {
        let answer = get(&nobody, &[("x-api-key", KEY)]);
        assert_eq!(answer.detail(401), "Could not validate credentials");
    }
    assert!(gate.auth.exchanges() <= 2, "{}", gate.auth.exchanges());
    // An access token in the place of a key is none.
    let token = gate.auth.token("ann", "user", ALL);
    assert_eq!(get(&nobody, &[("x-api-key", &token)]).status, 401);
    assert_eq!(
        get(&nobody, &[("x-api-key", &"x".repeat(50_000))]).status,
        401
    );
    // A key that comes to count is let in once the refusal is forgotten.
    gate.auth.know(KEY, token, Duration::ZERO);
    until_within(Duration::from_secs(15), "the key to count", || {
        (get(&nobody, &[("x-api-key", KEY)]).status == 200).then_some(())
    });
    gate.house.close();
}

#[test]
fn t104_of_many_who_show_the_same_key_at_once_one_asks() {
    let gate = Gatehouse::open();
    let token = gate.auth.token("ann", "user", ALL);
    gate.auth.know(KEY, token, Duration::from_millis(500));
    let askers: Vec<_> = (0..16)
        .map(|_| {
            let nobody = gate.house.nobody();
            std::thread::spawn(move || get(&nobody, &[("x-api-key", KEY)]).status)
        })
        .collect();
    for asker in askers {
        assert_eq!(asker.join().unwrap(), 200);
    }
    assert_eq!(gate.auth.exchanges(), 1);
    gate.house.close();
}

#[test]
fn t106_a_key_that_is_revoked_is_let_in_no_more_though_its_token_is_remembered() {
    let gate = Gatehouse::open();
    let token = gate.auth.token("ann", "user", ALL);
    gate.auth.know(KEY, token, Duration::ZERO);
    let nobody = gate.house.nobody();
    assert_eq!(get(&nobody, &[("x-api-key", KEY)]).status, 200);
    gate.auth.revoke("session", "session-of-ann");
    until_within(Duration::from_secs(30), "the key to end", || {
        (get(&nobody, &[("x-api-key", KEY)]).status == 401).then_some(())
    });
    gate.house.close();
}

#[test]
fn requests_about_keys_are_handed_on_with_their_query_and_nothing_else() {
    let gate = Gatehouse::open();
    let ann = gate.user("ann", "user", ALL);
    ann.get("/v1/keys?user=bob").with(200);
    ann.send(&Method::DELETE, "/v1/keys/abcdefghijkl?user=bob", &[], b"")
        .with(200);
    assert_eq!(
        gate.auth.handed_on(),
        ["/v1/keys?user=bob", "/v1/keys/abcdefghijkl?user=bob"]
    );
    gate.house.close();
}
