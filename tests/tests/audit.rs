//! The audit trails of both services, as an administrator reads them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use ureq::http::Method;
use warrant_tests::{House, on_each_database};

/// Kind, outcome, reason, subject and job of a row.
type Told<'a> = (
    &'a str,
    &'a str,
    Option<&'a str>,
    Option<&'a str>,
    Option<i64>,
);

fn told(rows: &[Value]) -> Vec<Told<'_>> {
    rows.iter()
        .map(|row| {
            (
                row["kind"].as_str().unwrap(),
                row["outcome"].as_str().unwrap(),
                row["reason"].as_str(),
                row["subject"].as_str(),
                row["job_id"].as_i64(),
            )
        })
        .collect()
}

/// Run `warrant audit verify`: the exit code, and what it prints.
fn verify(house: &House, more: &[&str]) -> (Option<i32>, String) {
    let none = "/nonexistent/none.toml";
    let words = [
        "audit",
        "verify",
        "--broker-config",
        none,
        "--authsvc-config",
        none,
    ];
    let output = house.command("warrant", &[&words, more].concat());
    let said = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), said)
}

on_each_database! {
    fn who_did_what_is_told_and_nothing_of_what_ran(setup: Setup) {
        let house = setup.open();
        let (ann, bob) = (house.user("ann"), house.user("bob"));
        let job = ann.submit_with(&json!({
            "command": "echo canary-argument",
            "envars": {"CANARY": "canary-variable"},
            "workdir": house.path("home"),
        }));
        ann.finished(job);
        let waits = ann.submit("sleep 1000");
        // Asked for over and over, it is told once.
        for _ in 0..5 {
            ann.output(job);
        }
        ann.stream(job, 0).rest();
        assert_eq!(bob.get(&format!("/v1/jobs/{waits}")).status, 403);
        assert_eq!(bob.cancel(waits).status, 403);
        assert_eq!(bob.get(&format!("/v1/jobs/{job}/output")).status, 403);
        assert_eq!(bob.post("/v1/service/stop").status, 403);
        assert_eq!(ann.cancel(waits).status, 200);
        let mut rows = house.audit("warrant-broker");
        // The minute may have changed between two reads.
        let mut reads = 0;
        rows.retain(|row| {
            reads += usize::from(row["kind"] == "read");
            row["kind"] != "read" || reads == 1
        });
        assert!(reads <= 2, "{reads}");
        let (a, b) = (Some("ann"), Some("bob"));
        let foreign = Some("foreign");
        assert_eq!(
            told(&rows),
            [
                ("submit", "granted", None, a, Some(job)),
                ("submit", "granted", None, a, Some(waits)),
                ("read", "granted", None, a, Some(job)),
                ("job", "refused", foreign, b, Some(waits)),
                ("job", "refused", foreign, b, Some(waits)),
                ("job", "refused", foreign, b, Some(job)),
                ("access", "refused", Some("role"), b, None),
                ("cancel", "granted", None, a, Some(waits)),
            ]
        );
        // The token of the login, by the id that the auth service knows it by.
        let logins = house.audit("warrant-authsvc");
        for row in &rows {
            assert_eq!(row["source"], "127.0.0.1", "{row}");
            let login = logins.iter().find(|login| login["jti"] == row["jti"]);
            assert_eq!(login.unwrap()["subject"], row["subject"], "{row}");
        }
        let hash = rows[0]["job_sha256"].as_str().unwrap();
        assert!(hash.len() == 64 && rows[1]["job_sha256"] != hash);
        for service in ["warrant-broker", "warrant-authsvc"] {
            let text = json!(house.audit(service)).to_string();
            assert!(!text.contains("canary") && !text.contains(".eyJ"), "{text}");
        }
        house.close();
    }

    fn whatever_was_accepted_is_in_the_trail_of_a_killed_broker(setup: Setup) {
        let mut house = setup.cores(1).open();
        let ann = house.user("ann");
        let first = ann.submit("sleep 1000");
        let mut accepted = BTreeSet::from([first]);
        for _ in 0..3 {
            let stop = AtomicBool::new(false);
            accepted.extend(std::thread::scope(|scope| {
                let clients = [(); 4].map(|()| {
                    let (ann, stop) = (&ann, &stop);
                    scope.spawn(move || {
                        let mut accepted = Vec::new();
                        while !stop.load(Ordering::Relaxed) {
                            let path = "/v1/jobs/submit?command=true";
                            let answer = ann.try_send(&Method::POST, path, &[], b"");
                            match answer {
                                Ok(answer) if answer.status == 200 => {
                                    accepted.extend(answer.json()["id"].as_i64());
                                }
                                // The broker is gone.
                                Ok(_) | Err(_) => break,
                            }
                        }
                        accepted
                    })
                });
                let before = house.audit("warrant-broker").len();
                warrant_tests::wait::until("jobs to be accepted", || {
                    (house.audit("warrant-broker").len() > before + 20).then_some(())
                });
                house.kill_broker();
                stop.store(true, Ordering::Relaxed);
                clients.map(|client| client.join().unwrap()).concat()
            }));
            house.start_broker();
        }
        let rows = house.audit("warrant-broker");
        let submits = rows.iter().filter(|row| row["kind"] == "submit");
        let told: Vec<i64> = submits.filter_map(|row| row["job_id"].as_i64()).collect();
        let unique: BTreeSet<i64> = told.iter().copied().collect();
        assert_eq!(told.len(), unique.len(), "a job is told of twice");
        assert!(unique.is_superset(&accepted), "a job is not told of");
        let listed = house.admin().list();
        let listed: BTreeSet<i64> = listed.iter().filter_map(|job| job["id"].as_i64()).collect();
        assert_eq!(unique, listed, "the jobs and the trail differ");
        house.close();
    }

    fn both_trails_are_checked_by_one_command(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        ann.finished(ann.submit("true"));
        let (code, said) = verify(&house, &[]);
        assert_eq!(code, Some(0), "{said}");
        let kept = |name: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            let line = line.strip_prefix(": holds: count ").unwrap();
            line.replace(" head ", ":")
        };
        let (authsvc, broker) = (kept("authsvc"), kept("broker"));
        ann.finished(ann.submit("true"));
        let kept = ["--authsvc-kept", &authsvc, "--broker-kept", &broker];
        assert_eq!(verify(&house, &kept).0, Some(0));
        let ahead = format!("99{broker}");
        let (code, said) = verify(&house, &["--broker-kept", &ahead]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("authsvc: holds") && said.contains("broker: broken"), "{said}");
        house.close();
    }
}

#[test]
fn what_a_key_is_used_for_is_told_as_its_users() {
    let house = House::open();
    let ann = house.user("ann");
    let new = json!({"label": "ci", "scopes": "submit"});
    let made = ann
        .create_key("ann", &House::password("ann"), &new)
        .with(201);
    let key = ann.with_token(made["key"].as_str().unwrap());
    let job = key.submit("true");
    let too_little = key.get("/v1/jobs");
    assert_eq!(too_little.status, 403);
    // A refusal is answered before its row is written.
    let rows = warrant_tests::wait::until("the refusal's row", || {
        Some(house.audit("warrant-broker")).filter(|rows| rows.len() > 1)
    });
    let a = Some("ann");
    assert_eq!(
        told(&rows),
        [
            ("submit", "granted", None, a, Some(job)),
            ("access", "refused", Some("scope"), a, None),
        ]
    );
    assert_eq!(rows[1]["detail"], "GET /v1/jobs");
    let id = made["id"].as_str().unwrap();
    for row in &rows {
        assert_eq!(row["source"], "127.0.0.1", "{row}");
        assert_eq!(row["jti"], format!("key:{id}"), "{row}");
    }
    let command = house.authsvc_command(&["key", "revoke", id], "");
    assert_eq!(command, "1 revoked\n");
    let rows = house.audit("warrant-authsvc");
    let of_keys: Vec<_> = rows
        .iter()
        .filter(|row| row["jti"] == format!("key:{id}"))
        .map(|row| (row["kind"].as_str(), row["action"].as_str()))
        .collect();
    assert_eq!(
        of_keys,
        [
            (Some("key"), Some("create")),
            (Some("key"), Some("exchange")),
            (Some("admin"), Some("api-key-revoke")),
        ]
    );
    assert!(rows.iter().all(|row| row["kind"] != "key-create"));
    house.close();
}

#[test]
fn a_trail_that_is_not_there_is_not_called_broken() {
    let house = House::open();
    let empty = house.path("home");
    let empty = empty.to_str().unwrap();
    let output = house.command("warrant", &["audit", "verify", "--state-dir", empty]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        std::fs::read_dir(empty).unwrap().next().is_none(),
        "it made something"
    );
    house.close();
}
