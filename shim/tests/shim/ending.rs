//! Ending jobs that would rather not.

use std::fs;
use std::time::Duration;

use warrant_wire::{Cause, JobSignal, Outcome};

use crate::house::{House, new_run, until};

/// A shell script that ignores SIGTERM and detaches copies of itself in every
/// way there is; each writes a line to `up` and stays.
const STUBBORN: &str = "trap '' TERM HUP INT
    stay='trap \"\" TERM HUP INT; echo up >> up; while :; do sleep 1000; done'
    (setsid sh -c \"$stay\" &)
    (setsid sh -c \"(setsid sh -c '(sh -c \\\"\\$0\\\" \\\"\\$1\\\" &) ; exit' \\\"\\$0\\\" \\\"\\$0\\\") ; $stay\" \"$stay\" &)
    sh -c \"kill -STOP \\$\\$\" &
    echo up >> up
    while :; do sleep 1000; done";

fn lines(house: &House, file: &str) -> usize {
    fs::read_to_string(house.path(file)).map_or(0, |text| text.lines().count())
}

#[track_caller]
fn assert_killed(outcome: &Outcome, cause: Cause) {
    assert_eq!(outcome.wait_status, 9, "{outcome:?}");
    assert_eq!(outcome.cause, cause, "{outcome:?}");
}

#[test]
fn a_cancelled_job_may_tidy_up() {
    let mut house = House::open();
    let run = new_run();
    let script = "trap 'echo tidied; exit 3' TERM; touch up; while :; do sleep 0.01; done";
    house.start(run, &house.script(script));
    until("the job is up", || house.path("up").exists());
    house.send_signal(run, JobSignal::Cancel);
    let outcome = house.ended(run);
    assert_eq!(outcome.wait_status, 3 << 8);
    assert_eq!(outcome.cause, Cause::Cancelled);
    assert!(house.output(run).lines().any(|line| line == "tidied"));
}

#[test]
fn a_process_below_one_that_ends_at_once_may_tidy_up_as_well() {
    let mut house = House::open();
    let run = new_run();
    let script = "sh -c 'trap \"touch tidying; sleep 0.3; touch tidied; exit\" TERM; touch up
        while :; do sleep 0.01; done' & wait";
    house.start(run, &house.script(script));
    until("the job is up", || house.path("up").exists());
    house.send_signal(run, JobSignal::Cancel);
    let outcome = house.ended(run);
    assert_eq!(outcome.wait_status, 15);
    assert_eq!(outcome.cause, Cause::Cancelled);
    assert!(house.path("tidied").exists());
}

#[test]
fn every_descendant_of_a_cancelled_job_is_gone() {
    let mut house = House::open();
    let run = new_run();
    let mut launch = house.script(STUBBORN);
    launch.limits.grace_ms = 200;
    launch.limits.processes = 2;
    house.start(run, &launch);
    until("all are up", || lines(&house, "up") == 8);
    assert!(house.job_processes().len() >= 8);
    house.send_signal(run, JobSignal::Cancel);
    assert_killed(&house.ended(run), Cause::Cancelled);
    assert_eq!(house.job_processes(), [0; 0]);
}

#[test]
fn a_killed_job_is_given_no_time() {
    let mut house = House::open();
    let run = new_run();
    let mut launch = house.script(STUBBORN);
    launch.limits.grace_ms = u32::MAX;
    house.start(run, &launch);
    until("all are up", || lines(&house, "up") == 4);
    house.send_signal(run, JobSignal::Cancel);
    house.send_signal(run, JobSignal::Kill);
    assert_killed(&house.ended(run), Cause::Cancelled);
    assert_eq!(house.job_processes(), [0; 0]);
}

#[test]
fn the_time_limit_ends_a_job_that_ignores_the_warning() {
    let mut house = House::open();
    let mut launch = house.script(STUBBORN);
    launch.limits.time_limit_s = 1;
    launch.limits.grace_ms = 300;
    let (_, outcome) = house.run(&launch);
    assert_killed(&outcome, Cause::TimeLimit);
    let took = Duration::from_micros(outcome.ended_us - outcome.started_us);
    assert!(took >= Duration::from_millis(1300), "{took:?}");
    assert_eq!(house.job_processes(), [0; 0]);
}

#[test]
fn the_time_limit_ends_a_job_that_is_stopped() {
    let mut house = House::open();
    let mut launch = house.script("kill -STOP $$; sleep 1000");
    launch.limits.time_limit_s = 1;
    let (_, outcome) = house.run(&launch);
    assert_eq!(outcome.wait_status, 15, "{outcome:?}");
    assert_eq!(outcome.cause, Cause::TimeLimit);
}

#[test]
fn a_job_that_is_over_takes_what_it_left_behind_along() {
    let mut house = House::open();
    let script = format!("({STUBBORN}) & until [ \"$(grep -c up up)\" = 4 ]; do sleep 0.01; done");
    let (_, outcome) = house.run(&house.script(&script));
    crate::house::assert_exited(&outcome, 0);
    assert_eq!(house.job_processes(), [0; 0]);
}

/// Processes that live only long enough to start the next one, each in a
/// session of its own: there is never a list of them that is still true.
#[test]
fn chains_of_processes_that_keep_forking_are_ended() {
    let mut house = House::open();
    let run = new_run();
    let script = "echo up >> up; export link='(setsid sh -c \"$link\" &)'
        sh -c \"$link\"; sh -c \"$link\"; sh -c \"$link\"; sh -c \"$link\"
        while :; do sleep 1000; done";
    house.start(run, &house.script(script));
    until("it is up", || lines(&house, "up") == 1);
    until("the chains run", || house.job_processes().len() > 4);
    house.send_signal(run, JobSignal::Kill);
    assert_killed(&house.ended(run), Cause::Cancelled);
    assert_eq!(house.job_processes(), [0; 0]);
}

#[test]
fn a_delivered_signal_reaches_every_rank_and_the_job_goes_on() {
    let mut house = House::open();
    let run = new_run();
    let mut launch = house.script(
        "trap 'echo usr1 >> got' USR1; trap 'echo rt >> got' 40; trap 'exit 5' USR2
        echo up >> up; while :; do sleep 0.01; done",
    );
    launch.limits.processes = 2;
    house.start(run, &launch);
    until("both are up", || lines(&house, "up") == 2);
    house.send_signal(run, JobSignal::Deliver(10));
    house.send_signal(run, JobSignal::Deliver(40));
    until("both got both", || lines(&house, "got") == 4);
    house.send_signal(run, JobSignal::Deliver(12));
    crate::house::assert_exited(&house.ended(run), 5);
}
