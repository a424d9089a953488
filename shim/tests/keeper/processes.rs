//! G. Tracking processes and ending them; H. Limits; J. Crashes.

use std::fs;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use warrant_shim::cgroup::{CgroupLimits, Cgroups};
use warrant_shim::keeper::REFUSED;
use warrant_shim::spool::{Spool, Standing};
use warrant_shim::sys::process::{self, fork_as};
use warrant_wire::record::Record;
use warrant_wire::{Cause, Refusal, RunFile, RunId};

use crate::house::{
    ALICE, House, Run, Terminal, VARIANT, as_root, as_root_on, assert_exited, new_run, run_tool,
    until,
};

/// Processes of alice, zombies left out.
fn processes() -> Vec<i32> {
    let is_hers = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| {
            status.contains(&format!("\nUid:\t{ALICE}\t")) && !status.contains("\nState:\tZ")
        })
    };
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(is_hers)
        .collect()
}

fn wait_until_started(house: &House, run: Run) {
    until("it has started", || {
        matches!(house.record(run), Record::Started(_))
    });
}

/// Each layout of control groups that this machine can show.
fn in_each_layout(test: fn(&mut House, &str)) {
    for layout in ["none", "all", "freezer"] {
        as_root_on(Terminal::No, layout, |house| {
            // The house says which one it was made for.
            let layout = std::env::var(VARIANT).unwrap();
            match layout.as_str() {
                "none" => {}
                "all" => house.use_cgroups(),
                _ => {
                    house.use_cgroups();
                    // Without the v2 tree, v1 has to do.
                    if let Some(mount) = unified_mount() {
                        run_tool(&["umount", "--lazy", &mount]);
                    }
                    house.cgroups = Cgroups::find(&house.policy).unwrap();
                }
            }
            if layout != "none" && house.cgroups.is_none() {
                return eprintln!("not tested: there are no control groups");
            }
            test(house, &layout);
            assert_eq!(processes(), [0; 0], "{layout}");
        });
        if std::env::var_os(VARIANT).is_some() {
            return;
        }
    }
}

fn unified_mount() -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    line.split(' ').nth(4).map(str::to_owned)
}

#[test]
fn t68_a_job_that_would_rather_not_is_ended_all_of_it() {
    in_each_layout(|house, layout| {
        let mut launch = house.script(
            "trap '' TERM HUP INT
            stay='trap \"\" TERM HUP INT; echo up >> up; while :; do sleep 1000; done'
            (setsid sh -c \"$stay\" &)
            (setsid sh -c \"(setsid sh -c '(sh -c \\\"\\$0\\\" \\\"\\$1\\\" &) ; exit' \\\"\\$0\\\" \\\"\\$0\\\") ; $stay\" \"$stay\" &)
            sh -c \"kill -STOP \\$\\$\" &
            sh -c \"$stay\" &
            echo up >> up; while :; do sleep 1000; done",
        );
        launch.limits.grace_ms = 100;
        let run = house.start(&launch);
        let up = house.home("alice").join("up");
        until("all are up", || {
            fs::read_to_string(&up).is_ok_and(|text| text.lines().count() == 5)
        });
        kill(run.keeper, Signal::SIGTERM).unwrap();
        let outcome = house.ended(run);
        assert_eq!(outcome.cause, Cause::Cancelled, "{layout}");
        assert_eq!(outcome.wait_status, 9, "{layout}");
    });
}

#[test]
fn t68_a_job_that_is_asked_to_end_may_tidy_up_in_all_its_processes() {
    in_each_layout(|house, layout| {
        let run = house.start(&house.script(
            "stay='trap \"echo tidied >> tidied; exit\" TERM; echo up >> up; while :; do sleep 0.01; done'
            sh -c \"$stay\" & setsid sh -c \"$stay\" & wait",
        ));
        let lines = |name: &str| {
            fs::read_to_string(house.home("alice").join(name))
                .map_or(0, |text| text.lines().count())
        };
        until("both are up", || lines("up") == 2);
        // The first one is not to be the last one: let all of them hear it.
        kill(run.keeper, Signal::SIGTERM).unwrap();
        assert_eq!(house.ended(run).cause, Cause::Cancelled, "{layout}");
        let tidied = lines("tidied");
        assert!(tidied >= 1, "{layout}: {tidied}");
    });
}

/// Two that go on when another one ends: a shell whose command is the last of
/// many processes, and one that reads what the first of them holds open.
const GOES_ON: [&str; 2] = [
    "n=0; while [ $n -lt 300 ]; do sleep 1000 & n=$((n+1)); done; echo up > up
    sleep 1001; echo more > more; sleep 1000",
    "mkfifo gate; sleep 1001 > gate & n=0; while [ $n -lt 300 ]; do sleep 1000 & n=$((n+1)); done
    sh -c 'cat gate; echo more > more' & echo up > up; wait",
];

#[test]
fn t68_nothing_of_a_job_goes_on_to_a_further_command_once_it_is_ended() {
    in_each_layout(|house, layout| {
        let home = house.home("alice");
        for script in GOES_ON {
            for signal in [Signal::SIGTERM, Signal::SIGUSR1] {
                let run = house.start(&house.script(script));
                until("it is up", || {
                    home.join("up").exists() && processes().len() >= 302
                });
                kill(run.keeper, signal).unwrap();
                assert_eq!(house.ended(run).cause, Cause::Cancelled, "{layout}");
                assert!(!home.join("more").exists(), "{layout}: {signal}: {script}");
                fs::remove_file(home.join("up")).unwrap();
                let _ = fs::remove_file(home.join("gate"));
            }
        }
    });
}

#[test]
fn t69_a_fork_bomb_is_bounded_and_ended() {
    in_each_layout(|house, layout| {
        house.policy.max_pids = match layout {
            "none" => return,
            _ => 200,
        };
        let run = house.start(&house.script(
            "export bomb='(setsid sh -c \"$bomb\" &) ; (setsid sh -c \"$bomb\" &)'
            echo up > up; sh -c \"$bomb\" 2>/dev/null; sleep 1000",
        ));
        until("it explodes", || processes().len() > 20);
        let most = (0..50).map(|_| processes().len()).max().unwrap();
        assert!(most <= 200, "{layout}: {most}");
        kill(run.keeper, Signal::SIGUSR1).unwrap();
        assert_eq!(house.ended(run).cause, Cause::Cancelled);
    });
}

#[test]
fn t72_a_keeper_takes_three_signals_and_no_orders_about_others() {
    as_root(|house| {
        let run = house.start(
            &house.script("trap 'echo got' USR2; echo up; until [ -e go ]; do sleep 0.01; done"),
        );
        until("it is up", || house.output(run) == "up\n");
        for signal in Signal::iterator() {
            if !matches!(
                signal,
                Signal::SIGKILL | Signal::SIGSTOP | Signal::SIGTERM | Signal::SIGUSR1
            ) {
                kill(run.keeper, signal).unwrap();
            }
        }
        let handle = process::open(run.keeper).unwrap();
        let deliver = warrant_shim::sys::signal::deliver();
        for number in [-1, 0, 65, 1 << 20, Signal::SIGUSR2 as i32] {
            process::queue(std::os::fd::AsFd::as_fd(&handle), deliver, number).unwrap();
        }
        until("the one that is allowed", || {
            house.output(run).lines().any(|line| line == "got")
        });
        fs::write(house.home("alice").join("go"), "").unwrap();
        assert_exited(&house.ended(run), 0, "");
    });
}

#[test]
fn t75_many_short_jobs_leave_no_process_behind() {
    as_root(|house| {
        house.use_cgroups();
        let plain = house.launch(["true"]);
        let double = house.script("(setsid true &) ; (setsid sleep 1000 &) ; exit 0");
        let mut runs = Vec::new();
        for number in 0..400 {
            runs.push(house.start(if number % 10 == 0 { &double } else { &plain }));
        }
        for run in runs {
            assert_exited(&house.ended(run), 0, "");
        }
        assert_eq!(processes(), [0; 0]);
        // Whatever they left would be a child of process 1, which this is.
        assert_eq!(process::wait_any(), Err(Errno::ECHILD));
    });
}

#[test]
fn t76_a_job_that_is_stopped_or_frozen_is_ended_in_time() {
    in_each_layout(|house, layout| {
        let mut launch = house.script("kill -STOP $$; sleep 1000");
        launch.limits.time_limit_s = 1;
        launch.limits.grace_ms = 100;
        assert_eq!(house.run(&launch).0.cause, Cause::TimeLimit, "{layout}");
        let Some(mount) = unified_mount().filter(|_| layout == "all") else {
            return;
        };
        let run = house.start(&house.launch(["sleep", "1000"]));
        wait_until_started(house, run);
        let name = house.dir.file_name().unwrap().to_str().unwrap();
        let group = format!("{mount}/{name}/warrant-jobs/{}", run.id);
        fs::write(format!("{group}/cgroup.freeze"), "1").unwrap();
        kill(run.keeper, Signal::SIGUSR1).unwrap();
        assert_eq!(house.ended(run).wait_status, 9);
    });
}

#[test]
fn t77_signals_are_at_their_defaults_whatever_the_monitor_and_pam_did() {
    as_root(|house| {
        let launch = house.launch(["cat", "/proc/self/status"]);
        for pam in [false, true] {
            if pam {
                house.use_pam("auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n");
            }
            let run = house.start(&launch);
            assert_exited(&house.ended(run), 0, "");
            let status = house.output(run);
            for set in ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"] {
                let empty = format!("\n{set}:\t0000000000000000\n");
                assert!(status.contains(&empty), "{set}: {status}");
            }
        }
        // A writer that nobody reads ends by SIGPIPE.
        let script =
            "yes | head -n 1; bash -c 'yes | head -n 1 > /dev/null; echo ${PIPESTATUS[0]}'";
        assert_eq!(house.output_of(script), "y\n141\n");
    });
}

#[test]
fn t84_what_one_job_uses_up_and_leaves_behind_keeps_no_other_from_starting() {
    as_root(|house| {
        run_tool(&[
            "mount",
            "-t",
            "tmpfs",
            "-o",
            "size=1m,mode=1777",
            "none",
            "/dev/shm",
        ]);
        let output = house.output_of(
            "for n in $(seq 50); do ipcmk -M 4096 -Q; done
            head -c 2000000 /dev/zero > /dev/shm/left 2>&1; echo used",
        );
        assert!(output.ends_with("used\n"), "{output}");
        assert_eq!(house.output_of("ipcs -m | grep -c alice"), "50\n");
        for _ in 0..10 {
            assert_exited(&house.run(&house.launch(["true"])).0, 0, "");
        }
    });
}

#[test]
fn t79_floods_of_output_are_capped_counted_and_cost_no_memory() {
    as_root(|house| {
        for (script, bytes) in [
            ("head -c 400000000 /dev/zero", 400_000_000),
            ("yes '' | head -n 10000000", 10_000_000),
        ] {
            let mut launch = house.script(&format!(
                "{script}; echo $PPID >&2; until [ -e go ]; do sleep 0.01; done"
            ));
            launch.limits.output_cap_bytes = 50_000_000.min(bytes / 2);
            let run = house.start(&launch);
            until("all is drained", || {
                fs::metadata(house.spool_file(run, RunFile::Output))
                    .is_ok_and(|file| file.len() > launch.limits.output_cap_bytes)
            });
            // Others are served meanwhile.
            assert_eq!(house.output_of("echo heard"), "heard\n");
            let status = fs::read_to_string(format!("/proc/{}/status", run.keeper)).unwrap();
            let line = status
                .lines()
                .find(|line| line.starts_with("RssAnon"))
                .unwrap();
            let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
            assert!(kib < 2048, "{line}");
            fs::write(house.home("alice").join("go"), "").unwrap();
            let outcome = house.ended(run);
            fs::remove_file(house.home("alice").join("go")).unwrap();
            let marker = outcome.output_bytes - launch.limits.output_cap_bytes;
            assert!((50..100).contains(&marker), "{outcome:?}");
            let all = outcome.output_bytes - marker + outcome.dropped_bytes;
            assert!((bytes + 2..bytes + 10).contains(&all), "{outcome:?}");
        }
    });
}

#[test]
fn t81_arguments_that_are_too_many_or_too_long_are_refused_by_their_size() {
    as_root(|house| {
        assert!(
            house
                .launch(["true", &"x".repeat(128 * 1024)])
                .encode()
                .is_err()
        );
        let many = vec!["0123456789012345678901234567890"; 100_000];
        assert!(house.launch(&many).encode().is_err());
        let many = ["true"]
            .into_iter()
            .chain(std::iter::repeat_n("x", 100_000));
        let (outcome, output) = house.run(&house.launch(many));
        assert_exited(&outcome, 0, &output);
        // Within a launch, and too much for the kernel.
        let many = ["true"].into_iter().chain(std::iter::repeat_n("", 400_000));
        let (outcome, output) = house.run(&house.launch(many));
        assert_eq!(outcome.cause, Cause::StartFailed);
        assert_eq!(output, "warrant: true: Argument list too long\n");
    });
}

#[test]
fn t82_a_job_at_its_limits_is_held_there_and_says_so() {
    as_root(|house| {
        house.use_cgroups();
        let missing = house.cgroups.is_none()
            || Cgroups::find(&warrant_shim::policy::Policy {
                cgroup: warrant_shim::policy::Cgroup::Require,
                ..house.policy.clone()
            })
            .is_err();
        if missing {
            return eprintln!("not tested: there are no limits to keep");
        }
        let mut launch = house.script("echo before; tail /dev/zero; echo after");
        launch.limits.memory_bytes = 64 << 20;
        let (outcome, output) = house.run(&launch);
        assert_eq!(outcome.cause, Cause::OutOfMemory, "{outcome:?}");
        assert!(output.starts_with("before\n"), "{output}");
        assert!(outcome.max_rss_bytes < 80 << 20, "{outcome:?}");

        let mut launch = house.script("head -c 1000000 /dev/zero | tail | wc -c");
        launch.limits.memory_bytes = 64 << 20;
        let (outcome, output) = house.run(&launch);
        assert_exited(&outcome, 0, &output);

        house.policy.max_pids = 8;
        let script = "i=0; while [ $i -lt 20 ]; do sleep 1000 & i=$((i+1)); done; true";
        let (_, output) = house.run(&house.script(script));
        assert!(output.contains("fork"), "{output}");
        // More ranks than processes: not even begun.
        let mut launch = house.launch(["sleep", "1000"]);
        launch.limits.processes = 9;
        let run = house.start(&launch);
        house.exit_code(run);
        assert_eq!(house.record(run), Record::Refused(Refusal::Limits));
    });
}

#[test]
fn t91_jobs_outlive_their_monitor_and_each_has_one_end() {
    as_root(|house| {
        let launch = house.script("until [ -e go ]; do sleep 0.05; done; exit 5");
        let monitor = process::fork(|| {
            for _ in 0..50 {
                house.start(&launch);
            }
            nix::unistd::pause();
            0
        })
        .unwrap();
        let records = || {
            let buckets = fs::read_dir(house.path("spool")).unwrap().flatten();
            buckets
                .flat_map(|bucket| fs::read_dir(bucket.path()).unwrap().flatten())
                .filter(|file| file.path().extension().is_some_and(|end| end == "run"))
                .map(|file| Record::decode(&fs::read(file.path()).unwrap()).unwrap())
                .collect::<Vec<_>>()
        };
        let started = |record: &&Record| matches!(record, Record::Started(_));
        until("all have started", || {
            records().iter().filter(started).count() == 50
        });
        kill(monitor, Signal::SIGKILL).unwrap();
        process::wait_for(monitor).unwrap();
        until("all are up", || processes().len() >= 50);
        fs::write(house.home("alice").join("go"), "").unwrap();
        until("all have ended", || {
            !records().iter().any(|record| started(&record))
        });
        for record in records() {
            match record {
                Record::Ended { outcome, .. } => assert_exited(&outcome, 5, ""),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(records().len(), 50);
    });
}

/// Somebody rules a run out in the moment between the making of its record
/// and the keeper's lock on it.
#[test]
fn t94_a_run_that_is_ruled_out_before_its_keeper_holds_the_record_does_not_start() {
    as_root(|house| {
        let launch = house.script("touch ran").encode().unwrap();
        let run = house.start_bytes("alice", ALICE, &launch, || {
            kill(nix::unistd::getpid(), Signal::SIGSTOP).unwrap();
        });
        // The keeper reaches for the lock a second late.
        let mut strace = std::process::Command::new("strace")
            .args(["-e", "trace=flock", "-e", "inject=flock:delay_enter=1s"])
            .args(["-p", &run.keeper.to_string()])
            .spawn()
            .unwrap();
        until("it is traced", || {
            fs::read_to_string(format!("/proc/{}/status", run.keeper))
                .unwrap()
                .lines()
                .any(|line| line.starts_with("TracerPid") && !line.ends_with("\t0"))
        });
        kill(run.keeper, Signal::SIGCONT).unwrap();
        let spool = Spool::open(&house.path("spool")).unwrap();
        until("the record is there and free", || {
            match spool.look(run.id).unwrap() {
                Standing::Free(record, Record::Empty) => {
                    record.write(&Record::Revoked).unwrap();
                    true
                }
                _ => false,
            }
        });
        assert_eq!(house.exit_code(run), Errno::EEXIST as i32);
        strace.wait().unwrap();
        assert_eq!(house.record(run), Record::Revoked);
        assert!(!house.home("alice").join("ran").exists());
    });
}

#[test]
fn t92_what_a_killed_keeper_leaves_is_ended_on_demand() {
    in_each_layout(|house, layout| {
        let run = house.start(&house.script(
            "(setsid sh -c 'trap \"\" TERM; touch up; sleep 1000' &)
                    echo $$ > rank; mv rank is-rank; sleep 1000",
        ));
        let home = house.home("alice");
        until("it is up", || {
            home.join("up").exists() && home.join("is-rank").exists()
        });
        kill(run.keeper, Signal::SIGKILL).unwrap();
        process::wait_for(run.keeper).unwrap();
        assert!(matches!(house.record(run), Record::Started(_)));
        if layout == "none" {
            // The rank goes with its keeper, and what hid from it stays.
            let rank: i32 = fs::read_to_string(home.join("is-rank"))
                .unwrap()
                .trim()
                .parse()
                .unwrap();
            until("the rank is gone", || !processes().contains(&rank));
            until("all is gone", || {
                let left = processes();
                for pid in &left {
                    kill(Pid::from_raw(*pid), Signal::SIGKILL).unwrap();
                }
                left.is_empty()
            });
            return;
        }
        let over = Instant::now() + Duration::from_secs(10);
        while house.cgroups.as_ref().unwrap().end(run.id).is_err() {
            assert!(Instant::now() < over);
            // Process 1, which this is, takes the orphans.
            while matches!(process::wait_any(), Ok(Some(_))) {}
        }
        house.cgroups.as_ref().unwrap().end(run.id).unwrap();
    });
}

/// Two servers in one control group have runs of the same names.
#[test]
fn a_control_group_that_is_there_is_taken_if_empty_and_never_ended() {
    as_root(|house| {
        house.use_cgroups();
        let Some(cgroups) = &house.cgroups else {
            return eprintln!("not tested: there are no control groups");
        };
        let next = || RunId {
            job: new_run().job + 1,
            task: 0,
            attempt: 1,
        };
        // Of a server that is gone.
        drop(cgroups.make(next(), CgroupLimits::default()).unwrap());
        house.output_of("true");
        // Of another one that is not.
        let theirs = next();
        let group = cgroups.make(theirs, CgroupLimits::default()).unwrap();
        let place = group.birthplace().unwrap();
        let process = fork_as(false, place.as_ref(), || {
            group.join().unwrap();
            nix::unistd::pause();
            0
        })
        .unwrap();
        let run = house.start(&house.launch(["true"]));
        assert_eq!(run.id, theirs);
        assert_eq!(process::wait_for(run.keeper).unwrap() >> 8, REFUSED);
        assert_eq!(house.record(run), Record::Refused(Refusal::Cgroup));
        assert_eq!(process::wait_any(), Ok(None), "theirs goes on");
        kill(process, Signal::SIGKILL).unwrap();
        process::wait_for(process).unwrap();
        cgroups.end(theirs).unwrap();
    });
}
