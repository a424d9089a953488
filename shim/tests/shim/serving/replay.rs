//! One warrant, one start: whatever happens in between.

use std::fs;

use warrant_shim::identity::Identity;
use warrant_shim::journal::{Journal, Warrant};
use warrant_shim::warrant::sha256;
use warrant_wire::record::Record;
use warrant_wire::{Cause, JobSignal, Refusal, Report};

use super::house::{
    ALICE, House, claims, in_private, key, launch, leaves_a_line, now_s, run, run_of, sign,
};
use crate::house::{assert_exited, until};

#[test]
fn t20_of_a_hundred_at_once_one_is_admitted() {
    in_private(|| {
        let house = House::open("");
        let launch = leaves_a_line();
        let warrant = sign(&key(1), "k1", &claims(&launch));
        // As many as may be connected at a time, twice.
        let (mut admitted, mut used) = (Vec::new(), 0);
        for round in 0..2 {
            let mut peers: Vec<_> = (0..50).map(|_| house.connect()).collect();
            house.signal_monitor("STOP");
            for (peer, job) in peers.iter_mut().zip(round * 50..) {
                peer.send_admit(run_of(job, 1), &warrant, &launch);
            }
            house.signal_monitor("CONT");
            for peer in &mut peers {
                match peer.report() {
                    Report::Admitted { run } => admitted.push(run),
                    Report::Refused {
                        refusal: Refusal::AlreadyUsed,
                        ..
                    } => used += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!((admitted.len(), used), (1, 99));
        // And of a hundred starts of its job, one starts.
        let job = admitted[0].job;
        let mut peers: Vec<_> = (0..50).map(|_| house.connect()).collect();
        house.signal_monitor("STOP");
        for (peer, attempt) in peers.iter_mut().zip(1..) {
            peer.send_start(run_of(job, attempt));
            peer.send_start(run_of(job, attempt + 50));
        }
        house.signal_monitor("CONT");
        let (mut ended, mut refused) = (0, 0);
        while ended + refused < 100 {
            match peers[0].report() {
                Report::Started { .. } => {}
                Report::Ended { outcome, .. } => {
                    assert_exited(&outcome, 0);
                    ended += 1;
                }
                Report::NotStarted {
                    refusal: Some(Refusal::AlreadyUsed),
                    ..
                } => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((ended, house.runs()), (1, 1));
    });
}

#[test]
fn t21_a_warrant_does_not_come_back_with_a_new_monitor() {
    in_private(|| {
        let mut house = House::open("");
        let mut broker = house.connect();
        let run = run_of(1, 1);
        let warrant = broker.admit(run, &leaves_a_line());
        // Admitted, and not started: it is there after a crash.
        house.replace_monitor();
        let mut broker = house.connect();
        broker.send_admit(run, &warrant, &leaves_a_line());
        assert_eq!(broker.report(), Report::Admitted { run });
        broker.send_start(run);
        broker.started(run);
        broker.ended(run);
        for attempt in 1..5 {
            house.replace_monitor();
            let mut broker = house.connect();
            for job in [1, 2] {
                let run = run_of(job, attempt);
                broker.send_admit(run, &warrant, &leaves_a_line());
                broker.refused(run, Refusal::AlreadyUsed);
            }
            let again = run_of(1, attempt + 1);
            broker.send_start(again);
            broker.not_started(again, Some(Refusal::AlreadyUsed));
        }
        assert_eq!(house.runs(), 1);
    });
}

/// The state that a monitor leaves which dies between the mark in the journal
/// and its keeper.
#[test]
fn t21_a_start_that_was_cut_off_is_told_and_only_another_attempt_runs_once() {
    in_private(|| {
        let mut house = House::open("");
        house.kill_monitor();
        let launch = leaves_a_line();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let boot = u128::from_str_radix(&boot.trim().replace('-', ""), 16).unwrap();
        let (cut_off, of_another_boot) = (run_of(1, 1), run_of(2, 1));
        {
            let (mut journal, _) =
                Journal::open(&house.path("state")).unwrap_or_else(|doubt| panic!("{doubt}"));
            for run in [cut_off, of_another_boot] {
                let claims = claims(&launch);
                let warrant = Warrant {
                    jti: claims.jti,
                    sha256: sha256(&launch),
                    iat_s: claims.iat,
                    exp_s: claims.exp,
                };
                let identity = Identity {
                    name: "alice".into(),
                    uid: ALICE,
                };
                journal.admit((run.job, run.task), warrant, identity, &launch);
            }
            journal.start(cut_off, boot.to_be_bytes());
            journal.start(of_another_boot, [1; 16]);
            journal.commit(now_s()).unwrap();
        }
        house.start_monitor();
        assert_eq!(
            house.record(cut_off),
            Some(Record::Refused(Refusal::LostStart))
        );
        assert_eq!(house.record(of_another_boot), None);
        for runs in [0, 1] {
            let mut broker = house.connect();
            if runs == 0 {
                broker.send_watch(cut_off);
                broker.not_started(cut_off, Some(Refusal::LostStart));
                broker.send_start(cut_off);
                broker.not_started(cut_off, Some(Refusal::LostStart));
            } else {
                // The monitor that was told of it has been killed since.
                let (another, one_more) = (run_of(1, 2), run_of(1, 3));
                broker.send_start(another);
                broker.started(another);
                broker.ended(another);
                broker.send_start(one_more);
                broker.not_started(one_more, Some(Refusal::AlreadyUsed));
            }
            assert_eq!(house.runs(), runs);
            let next = run_of(2, 2);
            broker.send_start(next);
            broker.not_started(next, Some(Refusal::AlreadyUsed));
            broker.send(&warrant_wire::Request::Watch {
                run: of_another_boot,
                same_boot: false,
            });
            assert_eq!(
                broker.report(),
                Report::Lost {
                    run: of_another_boot
                }
            );
            house.replace_monitor();
        }
    });
}

/// A monitor is killed at some moment after it was told to admit and to start;
/// the next one is told the same. What is said of each run is true, and each
/// job runs once, if need be by another attempt.
#[test]
fn t21_kills_at_any_moment_start_nothing_twice_and_lose_nothing() {
    in_private(|| {
        let mut house = House::open("");
        for round in 0..30_u64 {
            let mut broker = house.connect();
            let text = launch(&["sh", "-c", &format!("echo ran >> runs.{round}")]);
            let warrant = sign(&key(1), "k1", &claims(&text));
            let run = run_of(round + 1, 1);
            broker.send_admit(run, &warrant, &text);
            broker.send_start(run);
            // A moment that differs from round to round.
            let moment = std::time::Instant::now() + std::time::Duration::from_micros(round * 150);
            while std::time::Instant::now() < moment {
                std::hint::spin_loop();
            }
            house.replace_monitor();
            let mut broker = house.connect();
            broker.send_admit(run, &warrant, &text);
            broker.send_start(run);
            let last = loop {
                match broker.report() {
                    Report::Admitted { .. }
                    | Report::Started { .. }
                    | Report::Refused {
                        refusal: Refusal::AlreadyUsed,
                        ..
                    } => {}
                    other => break other,
                }
            };
            let times = fs::read_to_string(house.path(&format!("alice/runs.{round}")))
                .map_or(0, |text| text.lines().count());
            match last {
                Report::Ended { outcome, .. } => {
                    assert_exited(&outcome, 0);
                    assert_eq!(times, 1, "{round}");
                }
                Report::NotStarted { .. } => assert_eq!(times, 0, "{round}: {last:?}"),
                other => panic!("{round}: {other:?}"),
            }
            // A later attempt does not make it two, and does run what never
            // did: also where the monitor had no time to note that.
            if round % 2 == 0 {
                house.replace_monitor();
                broker = house.connect();
            }
            let next = run_of(run.job, 2);
            broker.send_start(next);
            match times {
                0 => {
                    broker.started(next);
                    assert_exited(&broker.ended(next), 0);
                }
                _ => broker.not_started(next, Some(Refusal::AlreadyUsed)),
            }
        }
    });
}

/// What the monitor says and does has been on the disk before.
#[test]
fn t21_an_answer_and_a_start_wait_for_the_disk() {
    in_private(|| {
        let house = House::open("");
        let mut broker = house.connect();
        let log = house.path("strace");
        let mut strace = std::process::Command::new("strace")
            .args(["-e", "trace=pwrite64,fdatasync,fsync,sendto"])
            .arg("-o")
            .arg(&log)
            .args(["-p", &house.monitor_pid().to_string()])
            .spawn()
            .unwrap();
        until("it is traced", || {
            fs::read_to_string(format!("/proc/{}/status", house.monitor_pid()))
                .unwrap()
                .lines()
                .any(|line| line.starts_with("TracerPid") && !line.ends_with("\t0"))
        });
        let run = run_of(1, 1);
        broker.admit(run, &leaves_a_line());
        broker.send_start(run);
        broker.started(run);
        assert_exited(&broker.ended(run), 0);
        crate::house::kill("INT", strace.id());
        strace.wait().unwrap();
        let text = fs::read_to_string(&log).unwrap();
        let calls: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split_once('('))
            .map(|(name, arguments)| match name {
                "pwrite64" => "write",
                "fdatasync" | "fsync" => "sync",
                "sendto" if arguments.contains(r#""\0\0\0\0\0\0\0\0", 8,"#) => "begin",
                "sendto" if arguments.contains(", 8, ") => "a run",
                "sendto" => "answer",
                name => name,
            })
            .collect();
        // What comes before the first entry is of the monitor's own start.
        let first = calls.iter().position(|call| *call == "write").unwrap();
        let expected = [
            "write", "sync", "answer", "write", "a run", "write", "sync", "begin",
        ];
        assert!(calls[first..].starts_with(&expected), "{text}");
    });
}

#[test]
fn t22_without_room_for_the_journal_nothing_starts_and_cancelling_works() {
    in_private(|| {
        let mut house = House::open("");
        house.kill_monitor();
        // A disk of its own for the journal: 1 MiB.
        let state = house.path("state");
        let state_path = state.to_str().unwrap().to_owned();
        run(
            "mount",
            &[
                "-t",
                "tmpfs",
                "-o",
                "mode=0700,size=1m",
                "tmpfs",
                &state_path,
            ],
        );
        house.start_monitor();
        let mut broker = house.connect();
        let (running, mut waiting) = (run_of(1, 1), run_of(2, 1));
        broker.admit(running, &launch(&["sleep", "1000"]));
        broker.send_start(running);
        broker.started(running);
        broker.admit(waiting, &leaves_a_line());
        let text = leaves_a_line();
        let warrant = sign(&key(1), "k1", &claims(&text));

        // Each start that is tried takes a few bytes less than the last page has.
        let many = 100..200;
        for job in many.clone() {
            broker.admit(run_of(job, 1), &leaves_a_line());
        }
        let filler = state.join("filler");
        let mut size = 1 << 20;
        let mut content = Vec::new();
        while size > 0 {
            let mut more = content.clone();
            more.resize(content.len() + size, 0);
            if fs::write(&filler, &more).is_ok() {
                content = more;
            } else {
                fs::write(&filler, &content).unwrap();
                size /= 2;
            }
        }
        let mut started = 0;
        for job in many {
            broker.send_start(run_of(job, 1));
            match broker.report() {
                Report::Started { run, .. } => drop(broker.ended(run)),
                Report::NotStarted { refusal, .. } => {
                    assert_eq!(refusal, Some(Refusal::Journal));
                    break;
                }
                other => panic!("{other:?}"),
            }
            started += 1;
        }
        assert!(started < 60, "{started}");
        for job in 3..6 {
            broker.send_admit(run_of(job, 1), &warrant, &text);
            broker.refused(run_of(job, 1), Refusal::Journal);
            broker.send_start(waiting);
            broker.not_started(waiting, Some(Refusal::Journal));
            waiting.attempt += 1;
        }
        // It says so, serves on, and ends jobs.
        assert!(house.count_audit("event=journal-failed") >= 3);
        broker.send_signal(running, JobSignal::Cancel);
        assert_eq!(broker.ended(running).cause, Cause::Cancelled);
        fs::remove_file(&filler).unwrap();
        broker.send_admit(run_of(3, 1), &warrant, &text);
        assert_eq!(broker.report(), Report::Admitted { run: run_of(3, 1) });

        // On a disk that cannot be written at all it does not even start.
        house.kill_monitor();
        run("mount", &["-o", "remount,ro", &state_path]);
        house.assert_refuses("Read-only file system");
        run("mount", &["-o", "remount,rw", &state_path]);
        house.start_monitor();
        let mut broker = house.connect();
        for run in [waiting, run_of(3, 1)] {
            broker.send_start(run);
            broker.started(run);
            assert_exited(&broker.ended(run), 0);
        }
        assert_eq!(house.runs(), started + 2);
        // Nothing of what failed is there after a restart.
        house.replace_monitor();
        let mut broker = house.connect();
        broker.send_start(run_of(4, 1));
        broker.not_started(run_of(4, 1), Some(Refusal::NotAdmitted));
    });
}

/// The clock of a monitor that was an hour ahead, and then is not.
#[test]
fn t26_behind_a_time_that_was_seen_nothing_is_admitted() {
    in_private(|| {
        let mut house = House::open("");
        let mut broker = house.connect();
        let admitted = run_of(1, 1);
        broker.admit(admitted, &leaves_a_line());
        let running = run_of(2, 1);
        broker.admit(running, &launch(&["sleep", "1000"]));
        broker.send_start(running);
        broker.started(running);
        house.kill_monitor();
        {
            let (mut journal, _) =
                Journal::open(&house.path("state")).unwrap_or_else(|doubt| panic!("{doubt}"));
            journal.drop_waiting((99, 0));
            journal.commit(now_s() + 3600).unwrap();
        }
        house.start_monitor();
        let mut broker = house.connect();
        let text = leaves_a_line();
        broker.send_admit(run_of(3, 1), &sign(&key(1), "k1", &claims(&text)), &text);
        broker.refused(run_of(3, 1), Refusal::Clock);
        // A warrant for the time that was seen does not count either.
        let mut ahead = claims(&text);
        for time in [&mut ahead.iat, &mut ahead.nbf, &mut ahead.exp] {
            *time += 3600;
        }
        broker.send_admit(run_of(3, 1), &sign(&key(1), "k1", &ahead), &text);
        broker.refused(run_of(3, 1), Refusal::Clock);
        // What was admitted and what runs does not care.
        broker.send_start(admitted);
        broker.started(admitted);
        assert_exited(&broker.ended(admitted), 0);
        broker.send_watch(running);
        broker.started(running);
        broker.send_signal(running, JobSignal::Kill);
        broker.ended(running);
    });
}

#[test]
fn t26_a_warrant_that_has_ended_is_refused_but_its_admission_stands() {
    in_private(|| {
        let house = House::open("");
        let mut broker = house.connect();
        let text = leaves_a_line();
        let mut short = claims(&text);
        short.exp = short.iat + 2;
        let warrant = sign(&key(1), "k1", &short);
        broker.send_admit(run_of(1, 1), &warrant, &text);
        assert_eq!(broker.report(), Report::Admitted { run: run_of(1, 1) });
        until("it has ended", || now_s() >= short.exp);
        let mut other = claims(&text);
        (other.iat, other.nbf, other.exp) = (short.iat, short.nbf, short.exp);
        broker.send_admit(run_of(2, 1), &sign(&key(1), "k1", &other), &text);
        broker.refused(run_of(2, 1), Refusal::Expired);
        broker.send_admit(run_of(1, 1), &warrant, &text);
        assert_eq!(broker.report(), Report::Admitted { run: run_of(1, 1) });
        broker.send_start(run_of(1, 1));
        broker.started(run_of(1, 1));
        assert_exited(&broker.ended(run_of(1, 1)), 0);
    });
}

#[test]
fn t94_a_job_whose_launch_was_changed_on_disk_does_not_start() {
    in_private(|| {
        let house = House::open("");
        let mut broker = house.connect();
        let run = run_of(1, 1);
        broker.admit(run, &leaves_a_line());
        let journal = house.path("state/journal");
        let mut bytes = fs::read(&journal).unwrap();
        let at = bytes.windows(3).rposition(|bytes| bytes == b"ran").unwrap();
        bytes[at..at + 3].copy_from_slice(b"RAN");
        fs::write(&journal, bytes).unwrap();
        broker.send_start(run);
        broker.not_started(run, Some(Refusal::Hash));
        assert_eq!(house.runs(), 0);
    });
}

/// The keeper cannot now, and a later attempt can.
#[test]
fn a_start_that_never_began_can_be_tried_again() {
    in_private(|| {
        let mut house = House::open("");
        house.kill_monitor();
        let spool = house.path("spool").to_str().unwrap().to_owned();
        let options = "mode=2750,gid=64001,size=1m";
        run("mount", &["-t", "tmpfs", "-o", options, "tmpfs", &spool]);
        house.start_monitor();
        let mut broker = house.connect();
        let first = run_of(1, 1);
        broker.admit(first, &leaves_a_line());
        let filler = house.path("spool/filler");
        assert!(fs::write(&filler, vec![0; 2 << 20]).is_err());
        for attempt in 1..4 {
            broker.send_start(run_of(1, attempt));
            match broker.report() {
                Report::NotStarted {
                    errno: 28,
                    refusal: None,
                    ..
                } => {}
                other => panic!("{other:?}"),
            }
            if attempt == 2 {
                house.replace_monitor();
                broker = house.connect();
            }
        }
        fs::remove_file(&filler).unwrap();
        let next = run_of(1, 4);
        broker.send_start(next);
        broker.started(next);
        assert_exited(&broker.ended(next), 0);
        let next = run_of(1, 5);
        broker.send_start(next);
        broker.not_started(next, Some(Refusal::AlreadyUsed));
        assert_eq!(house.runs(), 1);
    });
}
