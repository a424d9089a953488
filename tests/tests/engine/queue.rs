//! Who starts when.

use serde_json::json;
use warrant_tests::wait::until;
use warrant_tests::{Flux, House, on_each_database};

/// A job that runs until the file `gate` is there.
fn gated(ann: &Flux, house: &House, gate: &str, parameters: serde_json::Value) -> i64 {
    let gate = house.path(gate);
    let script = format!("until [ -e {} ]; do sleep 0.01; done", gate.display());
    let mut all = parameters;
    all["command"] = json!(["sh", "-c", script]);
    ann.submit_with(&all)
}

fn open(house: &House, gate: &str) {
    std::fs::write(house.path(gate), "").unwrap();
}

/// A job that adds `word` to the file `order`.
fn noted(ann: &Flux, house: &House, word: &str, mut parameters: serde_json::Value) -> i64 {
    let script = format!("echo {word} >> {}", house.path("order").display());
    parameters["command"] = json!(["sh", "-c", script]);
    ann.submit_with(&parameters)
}

fn order(house: &House) -> Vec<String> {
    let text = std::fs::read_to_string(house.path("order")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

on_each_database! {
    fn jobs_start_in_the_order_in_which_they_came(setup: Setup) {
        let house = setup.cores(1).open();
        let ann = house.user("ann");
        gated(&ann, &house, "gate", json!({}));
        let jobs: Vec<i64> = (0..10)
            .map(|n| noted(&ann, &house, &n.to_string(), json!({})))
            .collect();
        open(&house, "gate");
        for job in jobs {
            assert_eq!(ann.finished(job)["result"], "COMPLETED");
        }
        let expected: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        assert_eq!(order(&house), expected);
        house.close();
    }

    fn no_more_run_than_there_are_cores(setup: Setup) {
        let house = setup.cores(3).open();
        let ann = house.user("ann");
        let jobs: Vec<i64> = (0..5).map(|_| gated(&ann, &house, "gate", json!({}))).collect();
        until("three jobs to run", || {
            let running = ann.list().into_iter().filter(|job| job.get("t_run").is_some());
            (running.count() == 3).then_some(())
        });
        for job in &jobs[3..] {
            assert_eq!(ann.info(*job)["state"], "SCHED");
        }
        let cores = jobs[..3].iter().map(|job| {
            let info = ann.info(*job);
            info["annotations"]["sched"]["resource_summary"].as_str().unwrap().to_owned()
        });
        let mut cores: Vec<String> = cores.collect();
        cores.sort();
        assert_eq!(cores, ["rank0/core0", "rank0/core1", "rank0/core2"]);
        open(&house, "gate");
        for job in jobs {
            assert_eq!(ann.finished(job)["result"], "COMPLETED");
        }
        house.close();
    }

    fn a_short_job_fills_the_gap_in_front_of_a_wide_one_and_a_long_one_waits(setup: Setup) {
        let house = setup.cores(2).open();
        let ann = house.user("ann");
        let first = gated(&ann, &house, "gate", json!({"runtime": 300}));
        ann.wait_until(first, "RUN");
        let wide = noted(&ann, &house, "wide", json!({"num_tasks": 1, "cores_per_task": 2}));
        let endless = noted(&ann, &house, "endless", json!({}));
        let long = noted(&ann, &house, "long", json!({"runtime": 3000}));
        let short = noted(&ann, &house, "short", json!({"runtime": 5}));
        assert_eq!(ann.finished(short)["result"], "COMPLETED");
        assert_eq!(order(&house), ["short"]);
        for job in [wide, endless, long] {
            assert_eq!(ann.info(job)["state"], "SCHED");
        }
        open(&house, "gate");
        for job in [wide, endless, long] {
            assert_eq!(ann.finished(job)["result"], "COMPLETED");
        }
        assert_eq!(order(&house)[..2], ["short", "wide"]);
        house.close();
    }

    fn an_exclusive_job_has_the_machine_to_itself(setup: Setup) {
        let house = setup.cores(4).open();
        let ann = house.user("ann");
        let first = gated(&ann, &house, "first", json!({}));
        ann.wait_until(first, "RUN");
        let alone = gated(&ann, &house, "alone", json!({"exclusive": true}));
        let after = ann.submit("true");
        assert_eq!(ann.info(alone)["state"], "SCHED");
        open(&house, "first");
        ann.wait_until(alone, "RUN");
        assert_eq!(ann.info(first)["state"], "INACTIVE");
        assert_eq!(ann.info(after)["state"], "SCHED");
        open(&house, "alone");
        assert_eq!(ann.finished(after)["result"], "COMPLETED");
        house.close();
    }
}

/// Run a few short jobs, after which the next ones are claimed ahead.
fn be_brisk(ann: &Flux) {
    for _ in 0..3 {
        let short = ann.submit("true");
        assert_eq!(ann.finished(short)["result"], "COMPLETED");
    }
}

on_each_database! {
    fn a_job_claimed_ahead_can_be_cancelled_and_never_starts(setup: Setup) {
        let house = setup.cores(1).open();
        let ann = house.user("ann");
        be_brisk(&ann);
        let first = gated(&ann, &house, "gate", json!({}));
        let jobs: Vec<i64> = (0..6)
            .map(|n| noted(&ann, &house, &n.to_string(), json!({})))
            .collect();
        ann.wait_until(first, "RUN");
        for job in [jobs[0], jobs[3]] {
            assert_eq!(ann.info(job)["state"], "SCHED");
            assert_eq!(ann.cancel(job).status, 200);
            assert_eq!(ann.finished(job)["result"], "CANCELED");
        }
        open(&house, "gate");
        for job in &jobs {
            ann.finished(*job);
        }
        assert_eq!(order(&house), ["1", "2", "4", "5"]);
        house.close();
    }

    fn jobs_claimed_ahead_keep_their_order_when_the_broker_is_killed_or_stopped(setup: Setup) {
        let mut house = setup.cores(1).open();
        let ann = house.user("ann");
        for round in 0..2 {
            be_brisk(&ann);
            let gate = format!("gate{round}");
            let first = gated(&ann, &house, &gate, json!({}));
            let mut jobs: Vec<i64> = (0..24)
                .map(|n| noted(&ann, &house, &format!("{round}.{n:02}"), json!({})))
                .collect();
            ann.wait_until(first, "RUN");
            match round {
                0 => house.kill_broker(),
                _ => house.stop_broker(),
            }
            // The place is free as soon as a broker looks.
            open(&house, &gate);
            house.start_broker();
            jobs.push(noted(&ann, &house, &format!("{round}.24"), json!({})));
            for job in jobs {
                assert_eq!(ann.finished(job)["result"], "COMPLETED");
            }
        }
        let mut expected = order(&house);
        expected.sort();
        assert_eq!((order(&house), expected.len()), (expected, 50));
        house.close();
    }
}
