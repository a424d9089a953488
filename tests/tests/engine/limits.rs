//! Time limits, grace, and what is left of a job when it has ended.

use serde_json::json;
use warrant_tests::wait::until;
use warrant_tests::{Database, Flux, House, Setup};

/// The job's lines without what a shell says of the program it waited for.
fn own_lines(ann: &Flux, job: i64) -> Vec<String> {
    let mut lines = ann.output(job);
    lines.retain(|line| line != "Terminated\n");
    lines
}

#[test]
fn a_job_is_warned_at_its_limit_and_what_it_writes_then_is_kept() {
    let house = House::open();
    let ann = house.user("ann");
    let script = "trap 'echo saving; exit 0' TERM; echo ready; while :; do sleep 0.01; done";
    let job = ann.submit_with(&json!({"command": ["sh", "-c", script], "runtime": 1}));
    let info = ann.finished(job);
    assert_eq!(
        (&info["result"], &info["success"]),
        (&json!("TIMEOUT"), &json!(false))
    );
    assert_eq!(
        info["exception"],
        json!({"occurred": true, "severity": 0, "type": "timeout",
               "note": "resource allocation expired"})
    );
    assert_eq!(own_lines(&ann, job), ["ready\n", "saving\n"]);
    let runtime = info["runtime"].as_f64().unwrap();
    assert!((1.0..2.9).contains(&runtime), "{runtime}");
    house.close();
}

#[test]
fn a_job_that_does_not_heed_the_warning_is_killed_after_the_grace() {
    let house = Setup::on(Database::Sqlite)
        .set("BROKER__ENGINE__GRACE_MS", "300")
        .open();
    let ann = house.user("ann");
    let script = "trap 'echo no' TERM; echo ready; while :; do sleep 0.01; done 2>/dev/null";
    let job = ann.submit_with(&json!({"command": ["sh", "-c", script], "runtime": 1}));
    let info = ann.finished(job);
    assert_eq!(
        (&info["result"], &info["returncode"]),
        (&json!("TIMEOUT"), &json!(137))
    );
    assert_eq!(own_lines(&ann, job)[..2], ["ready\n", "no\n"]);
    let runtime = info["runtime"].as_f64().unwrap();
    assert!((1.3..5.0).contains(&runtime), "{runtime}");
    house.close();
}

#[test]
fn a_cancelled_job_may_save_its_work() {
    let house = House::open();
    let ann = house.user("ann");
    let job = ann
        .submit_script("trap 'echo saved; exit 0' TERM; echo ready; while :; do sleep 0.01; done");
    ann.first_output(job);
    ann.cancel(job);
    let info = ann.finished(job);
    assert_eq!(
        (&info["result"], &info["returncode"]),
        (&json!("CANCELED"), &json!(0))
    );
    assert_eq!(own_lines(&ann, job), ["ready\n", "saved\n"]);
    house.close();
}

#[test]
fn nothing_of_a_cancelled_job_is_left_however_it_hides() {
    let house = Setup::on(Database::Sqlite)
        .set("BROKER__ENGINE__GRACE_MS", "200")
        .open();
    let ann = house.user("ann");
    let job = ann.submit_script(
        "setsid sh -c 'trap \"\" TERM HUP; sleep 901 & sleep 902 & wait' & \
         (setsid sleep 903 &) ; trap '' TERM; echo ready; sleep 904; wait",
    );
    ann.first_output(job);
    let sleepers = || {
        let all = house.processes().into_iter();
        all.filter(|process| process.command.starts_with("sleep 90"))
            .count()
    };
    until("all of the job to be there", || {
        (sleepers() == 4).then_some(())
    });
    ann.cancel(job);
    ann.finished(job);
    assert_eq!(sleepers(), 0, "something outlived its job");
    house.close();
}

#[test]
fn what_a_job_leaves_behind_ends_with_it() {
    let house = House::open();
    let ann = house.user("ann");
    let job = ann.submit_script("setsid sleep 905 & echo first; exit 5");
    let info = ann.finished(job);
    assert_eq!(info["returncode"], 5);
    assert_eq!(ann.output(job), ["first\n"]);
    let left = house.processes();
    let left = left.iter().find(|process| process.command == "sleep 905");
    assert_eq!(left, None);
    house.close();
}
