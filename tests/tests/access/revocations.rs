//! What counts no more stops counting everywhere, and soon.

use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::json;
use ureq::http::Method;
use warrant_tests::FakeAuth;
use warrant_tests::fake_auth::{ALL, now_s};
use warrant_tests::wait::{until, until_within};

use super::Gatehouse;

/// Within which a revocation must be felt.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn t106_a_session_a_token_and_an_account_that_are_revoked_count_no_more() {
    let gate = Gatehouse::open();
    let auth = &gate.auth;
    let token = |name: &str, jti: &str, sid: &str, iat: u64| {
        let mut claims = FakeAuth::claims(name, "user", ALL);
        claims["jti"] = json!(jti);
        claims["sid"] = json!(sid);
        claims["iat"] = json!(iat);
        gate.with(&auth.sign(&FakeAuth::header(), &claims))
    };
    let early = now_s() - 100;
    let [ann, same_session, other_session] = [
        token("ann", "t1", "s1", early),
        token("ann", "t2", "s1", early),
        token("ann", "t3", "s2", early),
    ];
    let bob = token("bob", "t4", "s4", early);
    let status = |user: &warrant_tests::Flux| user.get("/v1/nodes").status;
    for user in [&ann, &same_session, &other_session, &bob] {
        assert_eq!(status(user), 200);
    }
    auth.revoke("token", "t1");
    until_within(SOON, "a token to end", || {
        (status(&ann) == 401).then_some(())
    });
    assert_eq!(status(&same_session), 200);
    auth.revoke("session", "s1");
    until_within(SOON, "a session to end", || {
        (status(&same_session) == 401).then_some(())
    });
    assert_eq!(status(&other_session), 200);
    auth.revoke("account", "ann");
    until_within(SOON, "an account to end", || {
        (status(&other_session) == 401).then_some(())
    });
    let answer = other_session.get("/v1/nodes");
    assert!(
        answer
            .header("www-authenticate")
            .unwrap()
            .ends_with("error=\"invalid_token\"")
    );
    // Who logs in again is somebody new; and others are not concerned.
    assert_eq!(status(&token("ann", "t5", "s5", now_s() + 3)), 200);
    assert_eq!(status(&bob), 200);
    gate.house.close();
}

#[test]
fn t106_a_broker_that_starts_knows_what_was_revoked_before() {
    let mut gate = Gatehouse::open();
    for number in 0..2500 {
        gate.auth.revoke("session", &format!("other-{number}"));
    }
    gate.auth.revoke("session", "session-of-ann");
    gate.house.kill_broker();
    gate.house.start_broker();
    assert_eq!(gate.user("ann", "user", ALL).get("/v1/nodes").status, 401);
    assert_eq!(gate.user("bob", "user", ALL).get("/v1/nodes").status, 200);
    gate.house.close();
}

#[test]
fn t106_output_is_followed_no_longer_than_its_reader_counts() {
    let gate = Gatehouse::open();
    let ann = gate.user("ann", "user", ALL);
    let job = ann.submit_script("echo begun; sleep 600");
    let mut claims = FakeAuth::claims("ann", "user", ALL);
    claims["sid"] = json!("another");
    let reader = gate.with(&gate.auth.sign(&FakeAuth::header(), &claims));
    let mut silent = reader.stream(job, 0);
    assert_eq!(silent.until("begun\n"), "begun\n");
    let waiting = ann.submit_with(&json!({"command": ["sleep", "1"], "cores_per_task": 4}));
    let queued = reader.stream(waiting, 0);
    let own = ann.stream(job, 0);
    gate.auth.revoke("session", "another");
    let began = Instant::now();
    for mut stream in [silent, queued] {
        let mut rest = String::new();
        // It is cut off, which a client can tell from its end.
        assert!(stream.read_to_string(&mut rest).is_err());
        assert_eq!(rest, "");
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    }
    ann.cancel(job);
    assert!(own.rest().starts_with("begun\n"));
    gate.house.close();
}

#[test]
fn t106_what_waits_in_the_name_of_a_disabled_account_never_starts() {
    let gate = Gatehouse::open();
    let ann = gate.user("ann", "user", ALL);
    let bob = gate.user("bob", "user", ALL);
    let blocker = bob.submit_with(&json!({"command": ["sleep", "600"], "cores_per_task": 4}));
    bob.wait_until(blocker, "RUN");
    let marker = gate.house.path("started");
    let script = format!("touch {}", marker.display());
    let waiting: Vec<i64> = (0..40).map(|_| ann.submit_script(&script)).collect();
    let of_bob = bob.submit("echo bob");
    gate.auth.revoke("account", "ann");
    let admin = gate.house.admin();
    for job in waiting.iter().copied() {
        let info = until_within(SOON, "a waiting job to end", || {
            Some(admin.info(job)).filter(|info| info["state"] == "INACTIVE")
        });
        assert_eq!(info["result"], "CANCELED", "{info}");
        assert_eq!(info["exception"]["type"], "cancel", "{info}");
        assert_eq!(
            info["exception"]["note"], "the account was disabled",
            "{info}"
        );
    }
    let rows = gate.house.audit("warrant-broker");
    let cancels = rows.iter().filter(|row| row["kind"] == "cancel");
    let cancels: Vec<_> = cancels
        .map(|row| {
            let by = (&row["subject"], &row["detail"], &row["outcome"]);
            assert_eq!(
                by,
                (
                    &json!("the auth service"),
                    &json!("the account was disabled"),
                    &json!("granted")
                )
            );
            row["job_id"].as_i64().unwrap()
        })
        .collect();
    assert_eq!(cancels, waiting);
    assert_eq!(bob.info(of_bob)["state"], "SCHED");
    bob.cancel(blocker);
    bob.finished(of_bob);
    assert!(!marker.exists(), "a job of a disabled account was started");
    gate.house.close();
}

#[test]
fn t106_where_the_list_cannot_be_read_nobody_is_let_in_until_it_can() {
    let mut gate = Gatehouse::open();
    let ann = gate.user("ann", "user", ALL);
    let job = ann.submit_script("echo begun; sleep 600");
    let mut stream = ann.stream(job, 0);
    stream.until("begun\n");
    gate.auth.keep_feed(false);
    let began = Instant::now();
    let refused = until("the list to be too old", || {
        Some(ann.get("/v1/nodes")).filter(|answer| answer.status != 200)
    });
    let late = began.elapsed();
    assert!(late > Duration::from_secs(15) && late < SOON, "{late:?}");
    assert_eq!(
        refused.detail(503),
        "It cannot be told now whose tokens count."
    );
    assert!(refused.header("retry-after").is_some());
    assert!(stream.read_to_string(&mut String::new()).is_err());
    // Nobody counts for certain, but some do certainly not.
    assert_eq!(gate.house.nobody().get("/v1/nodes").status, 401);
    assert_eq!(ann.with_token("a.b.c").get("/v1/nodes").status, 401);
    assert_eq!(gate.house.nobody().get("/openapi.json").status, 200);
    gate.auth.keep_feed(true);
    until("the list to be read", || {
        (ann.get("/v1/nodes").status == 200).then_some(())
    });
    // One that starts without it lets nobody in either.
    gate.auth.keep_feed(false);
    gate.house.kill_broker();
    gate.house.start_broker();
    let answer = ann.send(&Method::GET, "/v1/nodes", &[], b"");
    assert_eq!(answer.status, 503);
    gate.auth.keep_feed(true);
    until("the list to be read", || {
        (ann.get("/v1/nodes").status == 200).then_some(())
    });
    gate.house.close();
}
