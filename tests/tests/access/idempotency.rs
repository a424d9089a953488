//! Submissions that are sent again with their idempotency key.

use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};
use ureq::http::Method;
use warrant_tests::database::{execute, number};
use warrant_tests::village::{ALICE, BOB};
use warrant_tests::wait::until;
use warrant_tests::{Answer, Flux, House, Plan, on_each_database};

const SUBMIT: &str = "/v1/jobs/submit";

fn submit(user: &Flux, key: &str, command: &str) -> Answer {
    let body = json!({ "command": command }).to_string();
    let head = [
        ("content-type", "application/json"),
        ("idempotency-key", key),
    ];
    user.send(&Method::POST, SUBMIT, &head, body.as_bytes())
}

fn id(answer: &Answer) -> i64 {
    answer.with(200)["id"].as_i64().unwrap()
}

/// Make every key so much older, in hours.
fn age_keys(house: &House, hours: i64) {
    let us = hours * 3_600_000_000;
    let sql = format!("update submit_keys set made_us = made_us - {us}");
    execute(house.broker_database(), &sql);
}

fn says_that_the_key_is_anothers(answer: &Answer) {
    let detail = &answer.with(422)["detail"][0];
    assert_eq!(detail["loc"], json!(["header", "idempotency-key"]));
    assert!(detail["msg"].as_str().unwrap().contains("another request"));
}

/// Send one submission many times at once; the ids of all that are answered.
fn at_once(user: &Flux, key: &str) -> Vec<i64> {
    const MANY: usize = 50;
    let barrier = Barrier::new(MANY);
    let send = || {
        barrier.wait();
        let answer = submit(user, key, "true");
        match answer.status {
            409 => {
                assert!(answer.detail(409).contains("still being answered"));
                assert!(answer.header("retry-after").is_some(), "{answer:?}");
                None
            }
            _ => Some(id(&answer)),
        }
    };
    thread::scope(|scope| {
        let sent: Vec<_> = (0..MANY).map(|_| scope.spawn(send)).collect();
        let answered = sent.into_iter().filter_map(|it| it.join().unwrap());
        answered.collect()
    })
}

on_each_database! {
    fn a_submission_that_is_sent_again_is_answered_with_the_same_job(setup: Setup) {
        let mut house = setup.open();
        let (ann, ben) = (house.user("ann"), house.user("ben"));
        let first = submit(&ann, "\"k 1\"", "echo once");
        let again = submit(&ann, "k 1", "echo once");
        assert_eq!((again.status, &again.body), (first.status, &first.body));
        says_that_the_key_is_anothers(&submit(&ann, "k 1", "echo twice"));
        assert_ne!(id(&submit(&ben, "k 1", "echo twice")), id(&first));
        assert_ne!(id(&submit(&ann, "k 2", "echo once")), id(&first));
        // The same in other forms is the same.
        let query = format!("{SUBMIT}?command=echo%20once");
        let head = [("idempotency-key", "k 1")];
        assert_eq!(id(&ann.send(&Method::POST, &query, &head, b"")), id(&first));
        // Also after the broker was killed.
        house.kill_broker();
        house.start_broker();
        let later = submit(&ann, "k 1", "echo once");
        assert_eq!(later.body, first.body);
        says_that_the_key_is_anothers(&submit(&ann, "k 1", "echo twice"));
        assert_eq!(ann.list().len(), 2);
        ann.finished(id(&first));
        house.close();
    }

    fn many_that_are_sent_at_once_with_one_key_become_one_job(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        for round in 0..4 {
            let mut ids = at_once(&ann, &format!("round-{round}"));
            ids.dedup();
            assert_eq!(ids.len(), 1, "{ids:?}");
        }
        assert_eq!(ann.list().len(), 4);
        house.close();
    }

    fn a_key_counts_for_24_hours_and_is_then_removed(setup: Setup) {
        let mut house = setup.open();
        let ann = house.user("ann");
        let first = id(&submit(&ann, "k", "true"));
        age_keys(&house, 23);
        assert_eq!(id(&submit(&ann, "k", "true")), first);
        age_keys(&house, 1);
        let second = id(&submit(&ann, "k", "false"));
        assert_ne!(second, first);
        assert_eq!(id(&submit(&ann, "k", "false")), second);
        age_keys(&house, 26);
        house.kill_broker();
        house.start_broker();
        until("expired keys to be removed", || {
            let left = number(house.broker_database(), "select count(*) from submit_keys");
            (left == 0).then_some(())
        });
        house.close();
    }

    fn each_user_has_a_share_of_keys_also_after_a_restart(setup: Setup) {
        let mut house = setup.set("BROKER__LIMITS__IDEMPOTENCY_KEYS", "4").open();
        let (ann, ben) = (house.user("ann"), house.user("ben"));
        let used = |user: &Flux, key: &str| submit(user, key, "true").status;
        assert_eq!(["1", "2"].map(|key| used(&ann, key)), [200, 200]);
        for _ in 0..2 {
            let text = submit(&ann, "3", "true").detail(429);
            assert!(text.contains("idempotency keys") && text.contains("share"), "{text}");
            assert_eq!(used(&ann, "1"), 200);
            house.kill_broker();
            house.start_broker();
        }
        ann.submit("true");
        assert_eq!(used(&ben, "1"), 200);
        house.close();
    }
}

#[test]
fn what_is_no_key_is_refused_and_what_failed_is_not_kept() {
    let house = House::open();
    let ann = house.user("ann");
    let long = "k".repeat(256);
    for key in ["", "\"\"", "\"k", "\u{fc}", &long] {
        let refusal = submit(&ann, key, "true").with(400);
        let why = refusal["Errors"][0].as_str().unwrap();
        assert!(why.starts_with("Idempotency-Key: "), "{key}: {refusal}");
    }
    let head = [("idempotency-key", "a"), ("idempotency-key", "a")];
    let path = format!("{SUBMIT}?command=true");
    let refusal = ann.send(&Method::POST, &path, &head, b"").text();
    assert!(
        refusal.contains("Idempotency-Key: it may be given once"),
        "{refusal}"
    );
    let whole = "k".repeat(255);
    assert_eq!(
        id(&submit(&ann, &whole, "true")),
        id(&submit(&ann, &whole, "true"))
    );
    // What was refused frees its key.
    let wrong = json!({"command": "true", "num_tasks": 0}).to_string();
    let head = [
        ("content-type", "application/json"),
        ("idempotency-key", "k"),
    ];
    let refused = ann.send(&Method::POST, SUBMIT, &head, wrong.as_bytes());
    assert_eq!(refused.status, 400, "{}", refused.text());
    let job = id(&submit(&ann, "k", "true"));
    // A refused one makes no use of what became of it meanwhile.
    says_that_the_key_is_anothers(&ann.send(&Method::POST, SUBMIT, &head, wrong.as_bytes()));
    ann.finished(job);
    let nobody = submit(&house.nobody(), "k", "true");
    assert_eq!(nobody.status, 401);
    house.close();
}

#[test]
fn a_job_that_can_never_fit_is_one_job_however_often_it_is_sent() {
    let house = House::open();
    let ann = house.user("ann");
    let body = json!({"command": "true", "num_tasks": 4000}).to_string();
    let head = [
        ("content-type", "application/json"),
        ("idempotency-key", "k"),
    ];
    let send = || ann.send(&Method::POST, SUBMIT, &head, body.as_bytes());
    let (first, again) = (send(), send());
    assert_eq!((first.status, &first.body), (again.status, &again.body));
    assert_eq!(ann.list().len(), 1);
    house.close();
}

/// Submit with and without a key, kill the broker, and send it again.
fn in_a_village(plan: Plan) {
    let Some(mut village) = plan.open() else {
        return;
    };
    let (alice, bob) = (village.user(ALICE), village.user(BOB));
    let mut ids = at_once(&alice, "k");
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let of_bob = submit(&bob, "k", "id -un");
    assert_ne!(id(&of_bob), ids[0]);
    says_that_the_key_is_anothers(&submit(&bob, "k", "true"));
    village.kill_broker();
    village.start_broker();
    assert_eq!(submit(&bob, "k", "id -un").body, of_bob.body);
    assert_eq!(id(&submit(&alice, "k", "true")), ids[0]);
    assert_eq!(alice.finished(ids[0])["result"], "COMPLETED");
    assert_eq!(bob.finished(id(&of_bob))["result"], "COMPLETED");
    assert_eq!(bob.output(id(&of_bob)), ["bob\n"]);
    let own = |user: &Flux| {
        user.list()
            .iter()
            .map(|job| job["id"].clone())
            .collect::<Vec<Value>>()
    };
    assert_eq!(own(&alice), [json!(ids[0])]);
    village.close();
}

#[test]
fn a_key_is_the_authenticated_users_in_multi_user_mode() {
    in_a_village(Plan::default());
}

#[test]
fn a_key_is_the_authenticated_users_on_postgresql_in_multi_user_mode() {
    if let Some(postgres) = warrant_tests::Database::postgres() {
        in_a_village(Plan::default().on(postgres));
    }
}
