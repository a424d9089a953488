//! Ids are in the order of submission, and with them every list.

use std::fs;

use serde_json::{Value, json};
use warrant_tests::village::{ALICE, BOB};
use warrant_tests::{Database, Flux, Plan, Village};

/// A job that no machine of the village could ever run.
fn never_fits(user: &Flux) -> i64 {
    user.submit_with(&json!({"command": "echo same words", "num_tasks": 4000}))
}

fn ids(jobs: &[Value]) -> Vec<i64> {
    jobs.iter().map(|job| job["id"].as_i64().unwrap()).collect()
}

fn check(village: Village) {
    let (alice, bob) = (village.user(ALICE), village.user(BOB));
    let first = alice.submit("echo same words");
    let mut submitted = vec![first];
    // More than a block of ids of those that never wait for a warrant.
    for n in 0..100 {
        submitted.push(never_fits(if n % 3 == 0 { &bob } else { &alice }));
        if n % 20 == 0 {
            submitted.push(alice.submit("echo same words"));
        }
    }
    let last = alice.submit("echo same words");
    submitted.push(last);
    alice.finished(last);
    assert!(submitted.is_sorted(), "not in their order: {submitted:?}");
    submitted.dedup();
    assert_eq!(submitted.len(), 107, "an id was given twice");

    submitted.reverse();
    let alices = alice.list();
    let own: Vec<i64> = submitted
        .iter()
        .copied()
        .filter(|id| ids(&alices).contains(id))
        .collect();
    assert_eq!(ids(&alices), own, "a list is not newest first");
    let page = "/v1/jobs/search?start=0&length=200&draw=1&q=same";
    let found = alice.get(page).with(200);
    assert_eq!(ids(found["data"].as_array().unwrap()), own);
    let page = "/v1/jobs/search?start=30&length=20&draw=1&q=";
    let found = alice.get(page).with(200);
    assert_eq!(ids(found["data"].as_array().unwrap()), own[30..50]);
    village.close();
}

#[test]
fn ids_are_in_the_order_of_submission_on_sqlite() {
    if let Some(village) = Plan::default().open() {
        check(village);
    }
}

#[test]
fn ids_are_in_the_order_of_submission_on_postgresql() {
    let Some(server) = Database::postgres() else {
        return;
    };
    if let Some(village) = Plan::default().on(server).open() {
        check(village);
    }
}

#[test]
fn equals_start_in_the_order_of_submission_over_a_restart() {
    let Some(mut village) = Plan::default().set("BROKER__ENGINE__CORES", "1").open() else {
        return;
    };
    let alice = village.user(ALICE);
    let gate = village.path("gate");
    let held = alice.submit_script(&format!(
        "echo begun; until [ -e {} ]; do sleep 0.01; done",
        gate.display()
    ));
    alice.first_output(held);
    let mut last = held;
    for n in 0..6 {
        never_fits(&alice);
        last = alice.submit_script(&format!("echo {n} >> order"));
        if n == 2 {
            village.replace_broker();
        }
    }
    fs::write(&gate, "").unwrap();
    alice.finished(last);
    let order = fs::read_to_string(village.path("home/alice/order")).unwrap();
    assert_eq!(order, "0\n1\n2\n3\n4\n5\n");
    village.close();
}
