//! Admitting and starting.

use warrant_wire::{JobSignal, Refusal, Report, Request};

use super::house::{
    BOB, House, Peer, claims, in_private, key, launch, leaves_a_line, run_of, sign,
};
use crate::house::{assert_exited, until};

#[test]
fn t94_an_admitted_job_starts_once_and_its_end_is_told() {
    in_private(|| {
        let house = House::open("");
        let mut broker = house.connect();
        let run = run_of(7, 1);
        let warrant = broker.admit(run, &leaves_a_line());
        // The same again is the same.
        broker.send_admit(run, &warrant, &leaves_a_line());
        assert_eq!(broker.report(), Report::Admitted { run });
        broker.send_start(run);
        broker.started(run);
        assert_exited(&broker.ended(run), 0);
        // It has started: the same start is told what became of it.
        broker.send_start(run);
        assert_exited(&broker.ended(run), 0);
        // And nothing starts it again.
        let again = run_of(7, 2);
        broker.send_start(again);
        broker.not_started(again, Some(Refusal::AlreadyUsed));
        broker.send_admit(again, &warrant, &leaves_a_line());
        broker.refused(again, Refusal::AlreadyUsed);
        assert_eq!(house.runs(), 1);
        for event in [
            "event=admitted run=7.0.1 user=alice",
            "event=ended run=7.0.1",
        ] {
            assert_eq!(house.count_audit(event), 1, "{event}: {}", house.audit());
        }
    });
}

#[test]
fn nothing_starts_without_an_admission_and_no_launch_without_a_warrant() {
    in_private(|| {
        let house = House::open("");
        let mut broker = house.connect();
        let run = run_of(1, 1);
        broker.send_start(run);
        broker.not_started(run, Some(Refusal::NotAdmitted));
        broker.send(&Request::Launch {
            run,
            placement: Default::default(),
            launch: leaves_a_line(),
        });
        broker.not_started(run, Some(Refusal::Mode));
        assert_eq!(house.record(run), None);
    });
}

#[test]
fn a_job_is_cancelled_and_outlives_connections() {
    in_private(|| {
        let house = House::open("");
        let mut broker = house.connect();
        let run = run_of(1, 1);
        broker.admit(run, &launch(&["sleep", "1000"]));
        broker.send_start(run);
        broker.started(run);
        drop(broker);
        let mut broker = house.connect();
        broker.send_watch(run);
        broker.started(run);
        broker.send_signal(run, JobSignal::Cancel);
        assert_eq!(broker.ended(run).cause, warrant_wire::Cause::Cancelled);
    });
}

#[test]
fn a_revoked_admission_is_forgotten_and_its_warrant_is_used_up() {
    in_private(|| {
        let mut house = House::open("");
        let mut broker = house.connect();
        let run = run_of(1, 1);
        let warrant = broker.admit(run, &leaves_a_line());
        broker.send(&Request::Revoke { run });
        broker.send_start(run);
        // Its record says that it never will.
        broker.not_started(run, None);
        for _ in 0..2 {
            let next = run_of(1, 2);
            broker.send_start(next);
            broker.not_started(next, Some(Refusal::NotAdmitted));
            broker.send_admit(next, &warrant, &leaves_a_line());
            broker.refused(next, Refusal::AlreadyUsed);
            house.replace_monitor();
            broker = house.connect();
        }
        assert_eq!(house.runs(), 0);
    });
}

#[test]
fn a_fresh_warrant_lets_a_job_run_again() {
    in_private(|| {
        let house = House::open("");
        let mut broker = house.connect();
        for attempt in 1..=2 {
            let run = run_of(1, attempt);
            broker.admit(run, &leaves_a_line());
            broker.send_start(run);
            broker.started(run);
            assert_exited(&broker.ended(run), 0);
        }
        assert_eq!(house.runs(), 2);
    });
}

#[test]
fn the_limits_of_the_policy_bind_a_good_warrant() {
    in_private(|| {
        let house = House::open(
            "max_processes = 1\nmax_output_bytes = 1048576\nmax_time_s = 1\nmax_admitted = 4",
        );
        let mut broker = house.connect();
        let mut large = warrant_wire::Launch::decode(&leaves_a_line()).unwrap();
        large.limits.output_cap_bytes += 1;
        let large = large.encode().unwrap();
        let warrant = sign(&key(1), "k1", &claims(&large));
        broker.send_admit(run_of(1, 1), &warrant, &large);
        broker.refused(run_of(1, 1), Refusal::Limits);
        // The launch has no time limit; the policy has.
        let run = run_of(2, 1);
        broker.admit(run, &launch(&["sleep", "1000"]));
        broker.send_start(run);
        broker.started(run);
        assert_eq!(broker.ended(run).cause, warrant_wire::Cause::TimeLimit);
        for job in 3..=4 {
            broker.admit(run_of(job, 1), &leaves_a_line());
        }
        let warrant = sign(&key(1), "k1", &claims(&leaves_a_line()));
        broker.send_admit(run_of(5, 1), &warrant, &leaves_a_line());
        broker.refused(run_of(5, 1), Refusal::Share);
    });
}

#[test]
fn t129_each_user_may_have_half_of_the_admissions_that_others_leave() {
    in_private(|| {
        let size = leaves_a_line().len();
        for limit in [
            "max_admitted = 4".to_owned(),
            format!("max_admitted_bytes = {}", 5 * size),
        ] {
            let mut house = House::open(&limit);
            let mut broker = house.connect();
            for number in 1..=2 {
                broker.admit(run_of(number, 1), &leaves_a_line());
            }
            let send = |broker: &mut Peer, number, is_bob: bool| {
                let mut claims = claims(&leaves_a_line());
                if is_bob {
                    (claims.sub, claims.uid) = ("bob".into(), BOB);
                }
                let warrant = sign(&key(1), "k1", &claims);
                broker.send_admit(run_of(number, 1), &warrant, &leaves_a_line());
            };
            send(&mut broker, 3, false);
            broker.refused(run_of(3, 1), Refusal::Share);
            send(&mut broker, 4, true);
            let run = run_of(4, 1);
            assert_eq!(broker.report(), Report::Admitted { run });
            send(&mut broker, 5, true);
            broker.refused(run_of(5, 1), Refusal::Share);
            // The journal remembers whose they are.
            house.replace_monitor();
            let mut broker = house.connect();
            send(&mut broker, 6, false);
            broker.refused(run_of(6, 1), Refusal::Share);
            // One that starts makes room.
            broker.send_start(run_of(1, 1));
            broker.started(run_of(1, 1));
            broker.ended(run_of(1, 1));
            broker.admit(run_of(7, 1), &leaves_a_line());
            house.kill_monitor();
            std::fs::remove_dir_all(house.path("state")).unwrap();
            std::fs::remove_dir_all(house.path("spool")).unwrap();
        }
    });
}

#[test]
fn many_admissions_and_starts_in_one_go_are_all_answered() {
    in_private(|| {
        let house = House::open("");
        let mut broker = house.connect();
        let launch = leaves_a_line();
        let mut bytes = Vec::new();
        for job in 0..300 {
            bytes.extend(warrant_wire::encode_request(&Request::Admit {
                run: run_of(job, 1),
                warrant: sign(&key(1), "k1", &claims(&launch)),
                launch: launch.clone(),
            }));
            bytes.extend(warrant_wire::encode_request(&Request::Start {
                run: run_of(job, 1),
                placement: Default::default(),
            }));
        }
        broker.send_bytes(&bytes).unwrap();
        let (mut admitted, mut ended) = (0, 0);
        while ended < 300 {
            match broker.report() {
                Report::Admitted { .. } => admitted += 1,
                Report::Started { .. } => {}
                Report::Ended { outcome, .. } => {
                    assert_exited(&outcome, 0);
                    ended += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(admitted, 300);
        until("all lines are there", || house.runs() == 300);
    });
}

#[test]
fn a_thousand_running_jobs_take_little_memory() {
    in_private(|| {
        let house = House::open("");
        let mut broker = house.connect();
        let before = resident_kib(&house);
        let launch = launch(&["sleep", "1000"]);
        for job in 1..=1000 {
            broker.admit(run_of(job, 1), &launch);
            broker.send_start(run_of(job, 1));
            broker.started(run_of(job, 1));
        }
        let (anonymous, all) = resident_kib(&house);
        println!(
            "resident: {before:?} KiB without jobs, {:?} with 1,000",
            (anonymous, all)
        );
        assert!(anonymous < 2048, "{anonymous} KiB");
        for job in 1..=1000 {
            broker.send_signal(run_of(job, 1), JobSignal::Kill);
        }
        for _ in 1..=1000 {
            assert!(matches!(broker.report(), Report::Ended { .. }));
        }
    });
}

/// The monitor's own memory, and with its program's pages.
fn resident_kib(house: &House) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", house.monitor_pid())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (field("RssAnon:"), field("VmRSS:"))
}
