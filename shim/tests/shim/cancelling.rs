//! Nothing of a job begins anything once it is being ended.

use warrant_wire::{Cause, JobSignal};

use crate::house::{House, new_run, until};

/// A script that goes on to its next command as soon as the one that it waits
/// for has ended, long before all its many processes have been signalled.
const GOES_ON: &str = "n=0; while [ $n -lt 300 ]; do sleep 1000 & n=$((n+1)); done
    sleep 1001; echo more >> more; sleep 1000";

#[test]
fn a_script_that_is_cancelled_or_killed_goes_on_to_no_further_command() {
    for signal in [JobSignal::Cancel, JobSignal::Kill] {
        let mut house = House::open();
        let run = new_run();
        house.start(run, &house.script(GOES_ON));
        until("the script waits", || house.job_processes().len() == 302);
        house.send_signal(run, signal);
        assert_eq!(house.ended(run).cause, Cause::Cancelled);
        assert!(!house.path("more").exists(), "{signal:?}");
        assert_eq!(house.job_processes(), [0; 0]);
    }
}

#[test]
fn a_script_at_its_time_limit_goes_on_to_no_further_command() {
    let mut house = House::open();
    let mut launch = house.script(GOES_ON);
    launch.limits.time_limit_s = 3;
    let (_, outcome) = house.run(&launch);
    assert_eq!(outcome.cause, Cause::TimeLimit);
    assert!(!house.path("more").exists());
}

/// Each of many rounds by itself: a short script that is ended in its first
/// milliseconds.
#[test]
fn a_short_script_that_is_cancelled_at_once_prints_nothing() {
    let mut house = House::open();
    for round in 0..100 {
        let run = new_run();
        house.start(run, &house.script("sleep 1000; echo more"));
        house.send_signal(run, JobSignal::Cancel);
        assert_eq!(house.ended(run).cause, Cause::Cancelled);
        assert_eq!(house.output(run), "", "round {round}");
    }
}
