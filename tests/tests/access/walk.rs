//! Every route, walked by everybody.

use serde_json::Value;
use ureq::http::Method;
use warrant_tests::fake_auth::ALL;
use warrant_tests::village::{ALICE, BOB, CAROL};
use warrant_tests::{Answer, Flux, Village};

use super::Gatehouse;

/// Who walks, in the columns' order.
const WALKERS: [&str; 11] = [
    "nobody",
    "another user",
    "the owner",
    "an operator",
    "an administrator",
    "an administrator without the scope admin",
    "the owner with read",
    "the owner with submit",
    "the owner with control",
    "the owner with admin",
    "somebody suspended",
];

type Row = (&'static str, &'static str, [u16; WALKERS.len()]);

/// What each gets. A job that has ended cannot be cancelled any more: who may
/// cancel it is told so with 400. 0: not tried.
const ROUTES: [Row; 27] = [
    ("GET", "/v1/jobs", READ),
    ("GET", "/v1/jobs?details=true&listing=true", READ),
    ("GET", "/v1/jobs/search?search=e", READ),
    ("GET", "/v1/nodes", READ),
    ("GET", "/v1/session", READ),
    ("GET", "/v1/keys", READ),
    (
        "POST",
        "/v1/jobs/submit?command=true",
        [401, 200, 200, 200, 200, 200, 403, 200, 403, 403, 401],
    ),
    (
        "GET",
        "/v1/jobs/JOB",
        [401, 403, 200, 200, 200, 403, 200, 403, 403, 403, 401],
    ),
    (
        "GET",
        "/v1/jobs/JOB?legacy=true",
        [401, 403, 200, 200, 200, 403, 200, 403, 403, 403, 401],
    ),
    (
        "POST",
        "/v1/jobs/JOB/cancel",
        [401, 403, 400, 400, 400, 403, 403, 403, 400, 403, 401],
    ),
    ("GET", "/v1/jobs/JOB/output", OUTPUT),
    ("GET", "/v1/jobs/JOB/output/stream", OUTPUT),
    ("POST", "/v1/keys", CONTROL),
    ("DELETE", "/v1/keys", CONTROL),
    ("DELETE", "/v1/keys/abcdefghijkl", CONTROL),
    (
        "POST",
        "/v1/service/stop",
        [401, 403, 403, 403, 0, 403, 403, 403, 403, 403, 401],
    ),
    ("GET", "/login", OPEN),
    ("GET", "/login/oidc/campus", OPEN),
    ("GET", "/login/oidc/campus/callback", OPEN),
    ("POST", "/account/password", OPEN),
    ("GET", "/v1/auth", OPEN),
    ("GET", "/.well-known/jwks.json", OPEN),
    ("GET", "/openapi.json", OPEN),
    ("GET", "/docs/", OPEN),
    ("GET", "/nothing", [404; WALKERS.len()]),
    ("DELETE", "/v1/jobs/JOB", [405; WALKERS.len()]),
    ("PUT", "/v1/jobs", [405; WALKERS.len()]),
];

const READ: [u16; 11] = [401, 200, 200, 200, 200, 200, 200, 403, 403, 403, 401];
const CONTROL: [u16; 11] = [401, 200, 200, 200, 200, 200, 403, 403, 200, 403, 401];
const OUTPUT: [u16; 11] = [401, 403, 200, 403, 200, 403, 200, 403, 403, 403, 401];
const OPEN: [u16; 11] = [200; WALKERS.len()];

fn send(walker: &Flux, method: &str, path: &str) -> Answer {
    let json = [("content-type", "application/json")];
    walker.send(&method.parse().unwrap(), path, &json, b"")
}

#[test]
fn t110_every_route_is_for_those_whom_the_table_names_and_for_nobody_else() {
    let gate = Gatehouse::open();
    let plain = "read submit control";
    let owner = gate.user("ann", "user", ALL);
    let job = owner.submit("echo of-ann");
    owner.finished(job);
    gate.auth.revoke("session", "session-of-sue");
    let suspended = gate.user("sue", "user", ALL);
    warrant_tests::wait::until("the revocation to arrive", || {
        (suspended.get("/v1/nodes").status == 401).then_some(())
    });
    let walkers = [
        gate.house.nobody(),
        gate.user("bob", "user", ALL),
        owner.clone(),
        gate.user("olga", "operator", ALL),
        gate.user("carol", "administrator", ALL),
        gate.user("carla", "administrator", plain),
        gate.user("ann", "user", "read"),
        gate.user("ann", "user", "submit"),
        gate.user("ann", "user", "control"),
        gate.user("ann", "user", "admin"),
        suspended,
    ];
    for (method, path, expected) in ROUTES {
        let path = path.replace("JOB", &job.to_string());
        for ((walker, who), status) in walkers.iter().zip(WALKERS).zip(expected) {
            if status == 0 {
                continue;
            }
            let answer = send(walker, method, &path);
            assert_eq!(
                answer.status,
                status,
                "{method} {path} by {who}: {}",
                answer.text()
            );
            let challenge = answer.header("www-authenticate").unwrap_or_default();
            match status {
                401 => assert!(challenge.starts_with("Bearer realm="), "{challenge}"),
                // Only a scope is something that another token could have.
                403 if !challenge.is_empty() => assert!(
                    challenge.contains("error=\"insufficient_scope\",scope=\""),
                    "{challenge}"
                ),
                405 => assert!(answer.header("allow").is_some(), "{method} {path}"),
                _ => assert_eq!(challenge, ""),
            }
        }
    }
    // HEAD is GET: it needs the same.
    let head = |walker: &Flux| walker.send(&Method::HEAD, "/v1/nodes", &[], b"").status;
    assert_eq!(walkers.each_ref().map(head), READ);
    let lists = |walker: &Flux| walker.list().iter().any(|listed| listed["id"] == job);
    let seen: Vec<bool> = walkers.get(1..7).unwrap().iter().map(lists).collect();
    assert_eq!(seen, [false, true, true, true, false, true]);
    let [_, _, _, _, administrator, ..] = walkers;
    assert_eq!(administrator.post("/v1/service/stop").status, 200);
}

#[test]
fn t110_too_little_scope_is_told_with_what_it_takes() {
    let gate = Gatehouse::open();
    let reader = gate.user("ann", "user", "read");
    let answer = reader.post("/v1/jobs/submit?command=true");
    let detail = answer.detail(403);
    assert!(detail.contains("the scope submit"), "{detail}");
    let realm = format!("realm=\"http://{}/v1/token\"", reader.address());
    assert_eq!(
        answer.header("www-authenticate"),
        Some(format!("Bearer {realm},error=\"insufficient_scope\",scope=\"submit\"").as_str())
    );
    gate.house.close();
}

/// The answer without the id that was asked for.
fn told(answer: &Answer, id: i64) -> (u16, String) {
    (answer.status, answer.text().replace(&id.to_string(), "ID"))
}

#[test]
fn t110_in_multi_user_mode_unknown_and_foreign_jobs_are_told_in_the_same_bytes() {
    let Some(village) = Village::open() else {
        return;
    };
    let [alice, bob, carol] = [ALICE, BOB, CAROL].map(|person| village.user(person));
    let job = alice.submit("echo of-alice");
    alice.finished(job);
    let unknown = job + 1000;
    for (method, path) in [
        ("GET", "/v1/jobs/JOB"),
        ("GET", "/v1/jobs/JOB?legacy=true"),
        ("POST", "/v1/jobs/JOB/cancel"),
        ("GET", "/v1/jobs/JOB/output"),
        ("GET", "/v1/jobs/JOB/output/stream"),
    ] {
        let ask = |who: &Flux, id: i64| {
            let answer = send(who, method, &path.replace("JOB", &id.to_string()));
            told(&answer, id)
        };
        assert_eq!(ask(&bob, job), ask(&bob, unknown), "{method} {path}");
        assert_ne!(ask(&alice, job), ask(&alice, unknown), "{method} {path}");
    }
    for path in [
        "/v1/jobs",
        "/v1/jobs?details=true&listing=true",
        "/v1/jobs/search?search=alice",
        "/v1/jobs/search?search=%25&start=-1&length=100000",
        "/v1/jobs/search?search=_&start=0&length=10",
    ] {
        let seen = |who: &Flux| who.get(path).text().contains(&format!("\"id\":{job}"));
        assert!(!seen(&bob), "{path}");
    }
    let all: Vec<Value> = carol.list();
    assert!(all.iter().any(|listed| listed["id"] == job));
}

#[test]
fn t115_no_pattern_and_no_cursor_leads_to_the_jobs_of_others() {
    let gate = Gatehouse::open();
    let ann = gate.user("ann", "user", ALL);
    let job = ann.submit("echo of-ann 100% sure_thing");
    ann.finished(job);
    let bob = gate.user("bob", "user", ALL);
    let long = "a".repeat(60_000);
    for search in [
        "%25",
        "_",
        "%25%25",
        "of-ann",
        "(a%2B)%2B%24",
        ".*",
        "'%20or%201=1--",
        &long,
    ] {
        for page in [
            "",
            "&start=0&length=100",
            "&start=-5&length=-1",
            "&start=99999999999999",
        ] {
            let answer = bob.get(&format!("/v1/jobs/search?search={search}{page}"));
            let text = answer.text();
            assert!(
                [200, 414, 422].contains(&answer.status),
                "{} {text:.200}",
                answer.status
            );
            assert!(!text.contains("of-ann"), "{search:.40}{page}");
        }
    }
    // What stands for anything elsewhere stands for itself here.
    let found = |search: &str| {
        let answer = ann
            .get(&format!("/v1/jobs/search?search={search}"))
            .with(200);
        !answer["data"].as_array().unwrap().is_empty()
    };
    assert!(found("100%25") && found("sure_thing"));
    assert!(!found("sure%25thing") && !found("o_-ann"));
    gate.house.close();
}
