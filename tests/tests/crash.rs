//! Everything may be killed at any time: jobs run once, and end once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use ureq::http::Method;
use warrant_tests::processes::{Process, send};
use warrant_tests::wait::{until, until_within};
use warrant_tests::{Flux, House, Setup, on_each_database};

/// A script that runs until the file `gate` is there, then exits with `code`.
fn gated(house: &House, gate: &str, code: i32) -> String {
    let gate = house.path(gate);
    format!(
        "echo begun $PPID; until [ -e {} ]; do sleep 0.01; done; echo ended; exit {code}",
        gate.display()
    )
}

fn open(house: &House, gate: &str) {
    std::fs::write(house.path(gate), "").unwrap();
}

/// The keeper of a job whose script is [`gated`]: the parent of its process.
fn keeper(ann: &Flux, job: i64) -> Process {
    let line = ann.first_output(job).concat();
    let pid = line.trim().trim_start_matches("begun ").parse().unwrap();
    Process::find(pid).unwrap()
}

on_each_database! {
    fn jobs_live_through_a_killed_broker_and_keep_their_true_ends(setup: Setup) {
        let mut house = setup.open();
        let ann = house.user("ann");
        let during = ann.submit_script(&gated(&house, "during", 3));
        let after = ann.submit_script(&gated(&house, "after", 4));
        ann.first_output(during);
        ann.first_output(after);
        let started = ann.wait_until(after, "RUN")["t_run"].clone();
        house.kill_broker();
        open(&house, "during");
        house.start_broker();
        let info = ann.finished(during);
        assert_eq!((&info["result"], &info["returncode"]), (&json!("FAILED"), &json!(3)));
        assert_eq!(ann.output(during).last().unwrap(), "ended\n");
        let info = ann.info(after);
        assert_eq!((&info["state"], &info["t_run"]), (&json!("RUN"), &started));
        open(&house, "after");
        assert_eq!(ann.finished(after)["returncode"], 4);
        house.close();
    }

    fn a_stream_is_taken_up_again_after_a_killed_broker(setup: Setup) {
        let mut house = setup.open();
        let ann = house.user("ann");
        let job = ann.submit_script(&gated(&house, "gate", 0));
        let begun = ann.first_output(job).concat();
        let mut stream = ann.stream(job, 0);
        assert_eq!(stream.until("\n"), begun);
        house.kill_broker();
        house.start_broker();
        let rest = ann.stream(job, begun.len() as u64);
        open(&house, "gate");
        assert_eq!(rest.rest(), "ended\n");
        house.close();
    }

    fn a_job_is_cancelled_by_the_broker_that_comes_after(setup: Setup) {
        let mut house = setup.open();
        let ann = house.user("ann");
        let job = ann.submit_script(&gated(&house, "gate", 0));
        ann.first_output(job);
        house.kill_broker();
        house.start_broker();
        assert_eq!(ann.cancel(job).status, 200);
        assert_eq!(ann.finished(job)["result"], "CANCELED");
        house.close();
    }

    fn what_waited_waits_again_in_its_order(setup: Setup) {
        let mut house = setup.cores(1).open();
        let ann = house.user("ann");
        let first = ann.submit_script(&gated(&house, "gate", 0));
        ann.first_output(first);
        let order = house.path("order");
        let jobs: Vec<i64> = (0..5)
            .map(|n| ann.submit_script(&format!("echo {n} >> {}", order.display())))
            .collect();
        house.kill_broker();
        house.start_broker();
        let last = ann.submit_script(&format!("echo 5 >> {}", order.display()));
        assert!(last > jobs[4], "an id was given out twice");
        open(&house, "gate");
        assert_eq!(ann.finished(last)["result"], "COMPLETED");
        assert_eq!(std::fs::read_to_string(&order).unwrap(), "0\n1\n2\n3\n4\n5\n");
        house.close();
    }

    fn a_cancellation_outlives_the_broker_that_took_it(setup: Setup) {
        let mut house = setup.cores(1).open();
        let ann = house.user("ann");
        let first = ann.submit_script(&gated(&house, "gate", 0));
        let second = ann.submit_script("echo ran");
        ann.first_output(first);
        assert_eq!(ann.cancel(second).status, 200);
        assert_eq!(ann.cancel(first).status, 200);
        house.kill_broker();
        house.start_broker();
        assert_eq!(ann.finished(second)["result"], "CANCELED");
        assert_eq!(ann.finished(first)["result"], "CANCELED");
        assert_eq!(ann.finished(second)["returncode"], -128);
        house.close();
    }

    fn jobs_live_through_a_killed_monitor(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        let job = ann.submit_script(&gated(&house, "gate", 6));
        ann.first_output(job);
        let before = house.monitor();
        before.kill();
        let after = until("another monitor", || {
            Some(house.monitor()).filter(|monitor| monitor.pid != before.pid)
        });
        assert_ne!(before.pid, after.pid);
        assert_eq!(ann.info(job)["state"], "RUN");
        let another = ann.submit("echo hello");
        assert_eq!(ann.finished(another)["result"], "COMPLETED");
        open(&house, "gate");
        assert_eq!(ann.finished(job)["returncode"], 6);
        house.close();
    }

    fn a_job_whose_keeper_is_killed_fails_and_leaves_nothing(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        let job = ann.submit_script(&gated(&house, "gate", 0));
        let keeper = keeper(&ann, job);
        assert!(keeper.command.contains("warrant-shim"), "{keeper:?}");
        keeper.kill();
        let info = ann.finished(job);
        assert_eq!(info["result"], "FAILED");
        assert_eq!(info["exception_type"], "exec");
        assert!(info["exception_note"].as_str().unwrap().starts_with("lost"), "{info}");
        // Its core is free again.
        let others: Vec<i64> = (0..8).map(|_| ann.submit("true")).collect();
        for other in others {
            assert_eq!(ann.finished(other)["result"], "COMPLETED");
        }
        house.close();
    }

    fn broker_monitor_and_auth_service_may_all_be_killed_at_once(setup: Setup) {
        let mut house = setup.open();
        let ann = house.user("ann");
        let job = ann.submit_script(&gated(&house, "gate", 8));
        ann.first_output(job);
        house.monitor().kill();
        house.kill_broker();
        house.kill_authsvc();
        house.start_authsvc();
        house.start_broker();
        open(&house, "gate");
        assert_eq!(ann.finished(job)["returncode"], 8);
        house.close();
    }

    fn hundreds_of_jobs_run_exactly_once_while_the_broker_is_killed_again_and_again(setup: Setup) {
        storm(setup, 500);
    }
}

/// Ten thousand of them, where `WARRANT_TEST_FULL=1` asks for it; a thousand else.
#[test]
fn thousands_of_jobs_run_exactly_once_while_the_broker_is_killed_again_and_again() {
    let full = std::env::var("WARRANT_TEST_FULL").is_ok_and(|full| full == "1");
    let setup = Setup::on(warrant_tests::Database::Sqlite);
    storm(setup, if full { 10_000 } else { 1_000 });
}

#[test]
fn a_second_broker_on_the_same_spool_is_refused() {
    let house = House::open();
    let arguments = ["serve", "--config", "/nonexistent/none.toml"];
    let output = warrant_tests::service::run("warrant-broker", &arguments, &house.variables(), "");
    assert!(!output.status.success());
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        complaint.contains("another broker uses the spool"),
        "{complaint}"
    );
    house.close();
}

#[test]
fn a_stopped_monitor_holds_nothing_up_for_those_who_read() {
    let house = House::open();
    let ann = house.user("ann");
    let monitor = house.monitor();
    send(monitor.pid, nix::sys::signal::Signal::SIGSTOP);
    let jobs: Vec<i64> = (0..20).map(|_| ann.submit("true")).collect();
    assert_eq!(ann.list().len(), 20);
    send(monitor.pid, nix::sys::signal::Signal::SIGCONT);
    for job in jobs {
        assert_eq!(ann.finished(job)["result"], "COMPLETED");
    }
    house.close();
}

/// Submit `count` jobs over a few connections, each job adding its id to one
/// file, while the broker is killed five times. Then: whatever was
/// acknowledged is there, has ended, ran once and has its output.
fn storm(setup: Setup, count: usize) {
    const CLIENTS: usize = 4;
    let mut house = setup.open();
    let ann = house.user("ann");
    let ran = house.path("ran");
    let script = format!("echo $FLUX_JOB_ID >> {0}; echo $FLUX_JOB_ID", ran.display());
    let body = json!({"command": ["sh", "-c", script]}).to_string();
    let next = AtomicUsize::new(0);
    let acknowledged = AtomicUsize::new(0);
    let given_up = AtomicBool::new(false);
    let ids: BTreeSet<i64> = std::thread::scope(|scope| {
        let clients = [0; CLIENTS].map(|_| {
            scope.spawn(|| {
                let mut ids = Vec::new();
                while next.fetch_add(1, Ordering::Relaxed) < count {
                    ids.push(insist(&ann, body.as_bytes(), &given_up));
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                ids
            })
        });
        let calm = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for kill in 1..=5 {
                let due = count * kill / 6;
                until("jobs to be acknowledged", || {
                    (acknowledged.load(Ordering::Relaxed) >= due).then_some(())
                });
                house.kill_broker();
                house.start_broker();
            }
        }));
        given_up.store(calm.is_err(), Ordering::Relaxed);
        let ids = clients
            .into_iter()
            .flat_map(|client| client.join().unwrap());
        ids.collect()
    });
    assert!(
        !given_up.load(Ordering::Relaxed),
        "the broker did not come back"
    );
    assert_eq!(ids.len(), count, "an id was given out twice");

    let patience = Duration::from_secs(240);
    let jobs = until_within(patience, "all jobs to end", || {
        let last = ids.last().copied().unwrap();
        (ann.info(last)["state"] == "INACTIVE").then_some(())?;
        let jobs = ann.list();
        jobs.iter()
            .all(|job| job["state"] == "INACTIVE")
            .then_some(jobs)
    });
    // What was stored and not acknowledged runs too; it must do so once as well.
    let mut known = BTreeSet::new();
    for job in &jobs {
        assert_eq!(job["result"], "COMPLETED", "{job}");
        known.insert(job["id"].as_i64().unwrap());
    }
    let lost: Vec<_> = ids.difference(&known).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert!(known.len() <= count + 5 * CLIENTS, "{} jobs", known.len());
    let mut runs: BTreeMap<i64, usize> = BTreeMap::new();
    for line in std::fs::read_to_string(&ran).unwrap().lines() {
        *runs.entry(line.parse().unwrap()).or_default() += 1;
    }
    for id in &known {
        assert_eq!(runs.remove(id), Some(1), "runs of job {id}");
    }
    assert!(runs.is_empty(), "unknown jobs ran: {runs:?}");
    for id in &known {
        assert_eq!(ann.output(*id), [format!("{id}\n")]);
    }
    house.close();
}

/// Submit until it is acknowledged: what may have been lost is sent again.
fn insist(ann: &Flux, body: &[u8], given_up: &AtomicBool) -> i64 {
    let head = [("content-type", "application/json")];
    until("a submission to be acknowledged", || {
        assert!(
            !given_up.load(Ordering::Relaxed),
            "the broker did not come back"
        );
        let answer = ann
            .try_send(&Method::POST, "/v1/jobs/submit", &head, body)
            .ok()?;
        match answer.status {
            200 => answer.json()["id"].as_i64(),
            503 => None,
            _ => panic!("{} {}", answer.status, answer.text()),
        }
    })
}
