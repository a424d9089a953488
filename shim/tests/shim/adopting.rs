//! Monitors and keepers that die, and those that come after.

use std::fs;

use warrant_wire::record::{Record, Ticket};
use warrant_wire::{Cause, JobSignal, Report, Request, RunFile, RunId};

use crate::house::{House, assert_exited, kill, new_run, until};

const WAITS: &str = "echo ran >> runs; until [ -e go ]; do sleep 0.01; done; exit 5";

#[test]
fn a_job_outlives_its_monitor_and_its_end_is_told_by_the_next() {
    let mut house = House::open();
    let run = new_run();
    house.start(run, &house.script(WAITS));
    house.replace_monitor();
    house.send_watch(run);
    house.started(run);
    fs::write(house.path("go"), "").unwrap();
    assert_exited(&house.ended(run), 5);
    assert_eq!(fs::read_to_string(house.path("runs")).unwrap(), "ran\n");
}

#[test]
fn many_jobs_are_adopted_and_each_has_one_end() {
    let mut house = House::open();
    let launch = house.script("until [ -e go ]; do sleep 0.05; done; exit 5");
    let runs: Vec<_> = (0..20).map(|_| new_run()).collect();
    for run in &runs {
        house.start(*run, &launch);
    }
    house.replace_monitor();
    for run in &runs {
        house.send_watch(*run);
        house.started(*run);
    }
    fs::write(house.path("go"), "").unwrap();
    let mut ended: Vec<_> = runs
        .iter()
        .map(|_| match house.report() {
            Report::Ended { run, outcome } => {
                assert_exited(&outcome, 5);
                run
            }
            other => panic!("{other:?}"),
        })
        .collect();
    ended.sort_unstable();
    assert_eq!(ended, runs);
}

#[test]
fn a_job_that_ended_while_nobody_watched_is_told() {
    let mut house = House::open();
    let run = new_run();
    house.start(run, &house.script(WAITS));
    house.close_socket();
    fs::write(house.path("go"), "").unwrap();
    until("its final record", || {
        matches!(house.record(run), Record::Ended { .. })
    });
    house.replace_monitor();
    house.send_watch(run);
    assert_exited(&house.ended(run), 5);
    // As often as it is asked for.
    house.send_watch(run);
    assert_exited(&house.ended(run), 5);
}

#[test]
fn an_adopted_job_is_cancelled_with_or_without_being_watched() {
    let mut house = House::open();
    let (watched, unwatched) = (new_run(), new_run());
    let launch = house.launch(["sleep", "1000"]);
    house.start(watched, &launch);
    house.start(unwatched, &launch);
    house.replace_monitor();
    house.send_watch(watched);
    house.started(watched);
    house.send_signal(watched, JobSignal::Cancel);
    assert_eq!(house.ended(watched).cause, Cause::Cancelled);
    house.send_signal(unwatched, JobSignal::Cancel);
    until("its final record", || {
        matches!(house.record(unwatched), Record::Ended { outcome, .. }
            if outcome.cause == Cause::Cancelled)
    });
}

#[test]
fn a_run_that_is_watched_before_it_starts_never_starts() {
    let mut house = House::open();
    let run = new_run();
    house.send_watch(run);
    assert_eq!(
        house.report(),
        Report::NotStarted {
            run,
            errno: 0,
            refusal: None
        }
    );
    assert_eq!(house.record(run), Record::Revoked);
    let launch = house.script("touch ran");
    house.send_start(run, &launch);
    assert_eq!(
        house.report(),
        Report::NotStarted {
            run,
            errno: 0,
            refusal: None
        }
    );
    assert!(!house.path("ran").exists());
}

#[test]
fn a_run_of_an_earlier_boot_without_a_record_is_lost() {
    let mut house = House::open();
    let run = new_run();
    house.send(&Request::Watch {
        run,
        same_boot: false,
    });
    assert_eq!(house.report(), Report::Lost { run });
}

#[test]
fn records_without_a_keeper_are_judged_by_what_they_say() {
    let mut house = House::open();
    let ticket = Ticket {
        keeper_pid: 1,
        boot_id: [1; 16],
        started_us: 1,
    };
    type Expected = fn(RunId) -> Report;
    let cases: [(&[u8], bool, Expected); 7] = [
        (&Record::Started(ticket).encode(), true, |run| {
            Report::Lost { run }
        }),
        (&Record::Started(ticket).encode(), false, |run| {
            Report::Lost { run }
        }),
        (&Record::Revoked.encode(), true, |run| Report::NotStarted {
            run,
            errno: 0,
            refusal: None,
        }),
        (&Record::Empty.encode(), true, |run| Report::NotStarted {
            run,
            errno: 0,
            refusal: None,
        }),
        (b"", true, |run| Report::NotStarted {
            run,
            errno: 0,
            refusal: None,
        }),
        (b"", false, |run| Report::Lost { run }),
        (b"not a record", true, |run| Report::Lost { run }),
    ];
    for (content, same_boot, expected) in cases {
        let run = new_run();
        let path = house.spool(run, RunFile::Record);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        house.send(&Request::Watch { run, same_boot });
        assert_eq!(house.report(), expected(run));
    }
}

#[test]
fn a_run_with_any_record_is_not_started() {
    let mut house = House::open();
    for content in [&b""[..], &Record::Empty.encode(), b"not a record"] {
        let run = new_run();
        let path = house.spool(run, RunFile::Record);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        let launch = house.script("touch ran");
        house.send_start(run, &launch);
        let report = house.report();
        let not_started = Report::NotStarted {
            run,
            errno: 0,
            refusal: None,
        };
        let lost = Report::Lost { run };
        assert!(report == not_started || report == lost, "{report:?}");
        assert!(!house.path("ran").exists());
    }
}

#[test]
fn the_end_of_a_monitor_is_seen_at_once_though_its_jobs_live() {
    let mut house = House::open();
    let run = new_run();
    house.start(run, &house.launch(["sleep", "1000"]));
    kill("KILL", house.monitor_pid());
    assert!(house.is_at_end(), "a keeper holds the broker's socket");
    until("its rank has become its program", || {
        house.job_processes().len() == 1
    });
    house.replace_monitor();
    house.send_signal(run, JobSignal::Kill);
    until("it is gone", || house.job_processes().is_empty());
}

#[test]
fn a_run_whose_keeper_is_killed_is_lost_and_so_are_its_ranks() {
    let mut house = House::open();
    let run = new_run();
    house.start(run, &house.launch(["sleep", "1000"]));
    kill("KILL", house.ticket(run).keeper_pid);
    assert_eq!(house.report(), Report::Lost { run });
    until("its rank is gone", || house.job_processes().is_empty());
    house.send_watch(run);
    assert_eq!(house.report(), Report::Lost { run });
}

#[test]
fn a_run_whose_adopted_keeper_is_killed_is_lost() {
    let mut house = House::open();
    let run = new_run();
    house.start(run, &house.launch(["sleep", "1000"]));
    house.replace_monitor();
    house.send_watch(run);
    house.started(run);
    kill("KILL", house.ticket(run).keeper_pid);
    assert_eq!(house.report(), Report::Lost { run });
    until("its rank is gone", || house.job_processes().is_empty());
}

/// A monitor is killed right after it was told to start runs. Each of them
/// has then run once or, being revoked, never; and one report says which.
#[test]
fn runs_that_were_being_started_when_the_monitor_died_run_at_most_once() {
    for round in 0..10 {
        let mut house = House::open();
        let runs: Vec<_> = (0..30).map(|_| new_run()).collect();
        for run in &runs {
            let launch = house.script(&format!("echo ran >> {run}"));
            house.send_start(*run, &launch);
        }
        for _ in 0..round * 4 {
            house.report();
        }
        house.replace_monitor();
        for run in &runs {
            house.send_watch(*run);
        }
        let mut open = runs.clone();
        while !open.is_empty() {
            let report = house.report();
            let run = report.run();
            assert!(open.contains(&run), "{run} was over already: {report:?}");
            let times = fs::read_to_string(house.path(&run.to_string()))
                .map_or(0, |text| text.lines().count());
            match report {
                Report::Started { .. } => continue,
                Report::Ended { outcome, .. } => {
                    assert_exited(&outcome, 0);
                    assert_eq!(times, 1);
                }
                Report::NotStarted { .. } => assert_eq!(times, 0),
                other => panic!("{run}: {other:?}"),
            }
            open.retain(|other| *other != run);
        }
    }
}
