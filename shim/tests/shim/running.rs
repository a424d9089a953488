//! What a job is started with, and how its end is reported.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use warrant_wire::{Cause, JobSignal, Report, RunFile};

use crate::house::{House, PROGRAM, assert_exited, kill, new_run, processes};

#[test]
fn exit_codes_and_signals_are_reported_as_they_are() {
    let mut house = House::open();
    assert_exited(&house.run(&house.launch(["true"])).1, 0);
    assert_exited(&house.run(&house.launch(["false"])).1, 1);
    assert_exited(&house.run(&house.script("exit 77")).1, 77);
    for signal in [9, 15, 35] {
        let (_, outcome) = house.run(&house.script(&format!("kill -{signal} $$")));
        assert_eq!(outcome.wait_status, signal, "{outcome:?}");
        assert_eq!(outcome.cause, Cause::Exited, "{outcome:?}");
    }
}

#[test]
fn an_outcome_tells_times_and_usage() {
    let mut house = House::open();
    let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
    let (_, outcome) = house.run(&house.script(busy));
    assert_exited(&outcome, 0);
    assert!(outcome.ended_us > outcome.started_us, "{outcome:?}");
    assert!(outcome.user_us > 1_000, "{outcome:?}");
    assert!(
        outcome.user_us + outcome.system_us <= outcome.ended_us - outcome.started_us + 100_000,
        "{outcome:?}"
    );
    assert!(
        (100_000..1 << 30).contains(&outcome.max_rss_bytes),
        "{outcome:?}"
    );
}

#[test]
fn the_environment_is_what_was_given_and_what_the_job_is() {
    let mut house = House::open();
    let mut launch = house.launch(["/usr/bin/env"]);
    launch.env = vec![
        (b"A".to_vec(), b"1 = one".to_vec()),
        (b"FLUX_TASK_RANK".to_vec(), b"mine".to_vec()),
        (b"EMPTY".to_vec(), vec![]),
    ];
    let (run, outcome) = house.run(&launch);
    assert_exited(&outcome, 0);
    let own = format!(
        "FLUX_JOB_ID={}\nFLUX_JOB_SIZE=1\nFLUX_JOB_NNODES=1\nFLUX_TASK_RANK=0\nFLUX_TASK_LOCAL_ID=0\n",
        run.job
    );
    assert_eq!(house.output(run), format!("A=1 = one\nEMPTY=\n{own}"));
}

#[test]
fn four_ranks_know_who_they_are() {
    let mut house = House::open();
    let mut launch = house.script("echo $FLUX_TASK_RANK $FLUX_TASK_LOCAL_ID; exit $FLUX_TASK_RANK");
    launch.limits.processes = 4;
    let (run, outcome) = house.run(&launch);
    assert_exited(&outcome, 3);
    let output = house.output(run);
    let mut lines: Vec<_> = output.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["0 0", "1 1", "2 2", "3 3"]);
    for entry in house.index(run) {
        let (from, to) = (entry.offset as usize, entry.offset as usize + 4);
        assert_eq!(&output[from..to], format!("{0} {0}\n", entry.rank));
    }
}

#[test]
fn the_worst_status_of_the_ranks_is_reported() {
    let mut house = House::open();
    let mut launch = house.script("[ $FLUX_TASK_RANK != 1 ] || kill -15 $$; exit 200");
    launch.limits.processes = 3;
    let (_, outcome) = house.run(&launch);
    assert_eq!(outcome.wait_status, 15, "a signal is worse than any code");
}

#[test]
fn a_job_runs_where_it_is_told_to() {
    let mut house = House::open();
    let here = house.dir.to_str().unwrap().to_owned();
    let (code, output) = house.exit_code_and_output(&house.launch(["pwd"]));
    assert_eq!((code, output), (0, format!("{here}\n")));

    let mut launch = house.launch(["pwd"]);
    launch.workdir = Some(b"/nowhere/at all".to_vec());
    let (run, outcome) = house.run(&launch);
    assert_eq!(outcome.wait_status, 125 << 8);
    assert_eq!(outcome.cause, Cause::StartFailed);
    assert_eq!(
        house.output(run),
        "warrant: cannot change to the directory \"/nowhere/at all\": No such file or directory\n"
    );
}

#[test]
fn a_program_that_cannot_be_executed_says_why() {
    let mut house = House::open();
    fs::write(house.path("plain"), "not a program").unwrap();
    let cases = [
        ("nosuch", 127, "warrant: nosuch: command not found\n"),
        (
            "./nosuch",
            127,
            "warrant: ./nosuch: No such file or directory\n",
        ),
        ("./plain", 126, "warrant: ./plain: Permission denied\n"),
        ("/etc", 126, "warrant: /etc: Permission denied\n"),
        (
            "/etc/passwd/x",
            126,
            "warrant: /etc/passwd/x: Not a directory\n",
        ),
    ];
    for (program, code, line) in cases {
        let (run, outcome) = house.run(&house.launch([program]));
        assert_eq!(outcome.wait_status, code << 8, "{program}");
        assert_eq!(outcome.cause, Cause::StartFailed, "{program}");
        assert_eq!(house.output(run), line, "{program}");
    }
}

#[test]
fn a_script_without_an_interpreter_line_is_run_by_sh() {
    let mut house = House::open();
    let script = house.path("script");
    fs::write(&script, "echo \"$#: $1, $2\"\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let answer = house.exit_code_and_output(&house.launch(["./script", "a b", ""]));
    assert_eq!(answer, (0, "2: a b, \n".to_owned()));
}

#[test]
fn the_search_path_is_that_of_the_job() {
    let mut house = House::open();
    fs::create_dir(house.path("bin")).unwrap();
    let tool = house.path("bin/true");
    fs::write(&tool, "#!/bin/sh\necho mine\n").unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    let mut launch = house.launch(["true"]);
    launch.env[0].1 = b"/nowhere:/etc/passwd:bin:/bin".to_vec();
    assert_eq!(
        house.exit_code_and_output(&launch),
        (0, "mine\n".to_owned())
    );
    launch.env.remove(0);
    assert_eq!(house.exit_code_and_output(&launch), (0, String::new()));
}

#[test]
fn a_job_inherits_no_files_and_no_signal_settings() {
    let mut house = House::open_with(
        "trap '' HUP INT USR1; exec 7</etc/passwd; exec \"$0\" monitor --spool \"$1\"",
    );
    let launch = house.launch(["ls", "-l", "/proc/self/fd"]);
    let (_, output) = house.exit_code_and_output(&launch);
    let files: Vec<Vec<&str>> = output
        .lines()
        .filter(|line| line.contains("->"))
        .map(|line| line.split_whitespace().rev().take(3).collect())
        .collect();
    // The fourth is the directory that ls reads.
    assert_eq!(files.len(), 4, "{output}");
    assert_eq!(files[0], ["/dev/null", "->", "0"]);
    assert!(files[1][0].starts_with("pipe:") && files[2][0].starts_with("pipe:"));
    assert!(files[3][0].starts_with("/proc/"), "{output}");

    let launch = house.launch(["cat", "/proc/self/status"]);
    let (_, output) = house.exit_code_and_output(&launch);
    for set in ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"] {
        let empty = format!("\n{set}:\t0000000000000000\n");
        assert!(output.contains(&empty), "{set} is not empty: {output}");
    }
}

#[test]
fn every_rank_has_a_session_of_its_own() {
    let mut house = House::open();
    let launch = house.script("read -r pid name state parent group session rest </proc/self/stat; [ $$ = $group ] && [ $$ = $session ]");
    assert_exited(&house.run(&launch).1, 0);
}

#[test]
fn a_job_is_bound_to_its_cores() {
    let mut house = House::open();
    let launch = house.launch(["grep", "Cpus_allowed_list", "/proc/self/status"]);
    let run = new_run();
    house.send_start_on(run, &launch, &[0]);
    house.started(run);
    assert_exited(&house.ended(run), 0);
    assert_eq!(house.output(run), "Cpus_allowed_list:\t0\n");
    let run = new_run();
    house.send_start_on(run, &launch, &[65_000]);
    house.started(run);
    assert_exited(&house.ended(run), 0);
}

#[test]
fn open_file_limits_are_those_the_monitor_was_given() {
    let mut house = House::open_with("ulimit -Sn 123; exec \"$0\" monitor --spool \"$1\"");
    let answer = house.exit_code_and_output(&house.script("ulimit -Sn"));
    assert_eq!(answer, (0, "123\n".to_owned()));
}

#[test]
fn more_ranks_than_open_files_end_as_not_started() {
    let mut house = House::open_with("ulimit -n 64; exec \"$0\" monitor --spool \"$1\"");
    let mut launch = house.launch(["sleep", "1000"]);
    launch.limits.processes = 100;
    let (run, outcome) = house.run(&launch);
    assert_eq!(outcome.cause, Cause::StartFailed);
    assert!(
        house.output(run).ends_with(": Too many open files\n"),
        "{}",
        house.output(run)
    );
    assert_exited(&house.run(&house.launch(["true"])).1, 0);
}

#[test]
fn a_run_that_is_asked_for_twice_runs_once() {
    let mut house = House::open();
    let run = new_run();
    let launch = house.script("echo ran >> runs; until [ -e go ]; do sleep 0.01; done; exit 9");
    house.send_start(run, &launch);
    house.send_start(run, &launch);
    house.started(run);
    fs::write(house.path("go"), "").unwrap();
    assert_exited(&house.ended(run), 9);

    house.send_start(run, &launch);
    assert_exited(&house.ended(run), 9);
    assert_eq!(fs::read_to_string(house.path("runs")).unwrap(), "ran\n");
}

#[test]
fn a_launch_that_is_none_is_not_started() {
    let mut house = House::open();
    let run = new_run();
    house.send(&warrant_wire::Request::Launch {
        run,
        placement: warrant_wire::Placement::default(),
        launch: b"nonsense".to_vec(),
    });
    assert_eq!(
        house.report(),
        Report::NotStarted {
            run,
            errno: 22,
            refusal: None
        }
    );
    // It cannot be started any more, whatever comes.
    let launch = house.launch(["true"]);
    house.send_start(run, &launch);
    assert_eq!(
        house.report(),
        Report::NotStarted {
            run,
            errno: 0,
            refusal: None
        }
    );
}

#[test]
fn a_launch_with_broken_content_fails_in_the_runner_alone() {
    let mut house = House::open();
    let run = new_run();
    let mut launch = house.launch(["true"]).encode().unwrap();
    launch.push(0);
    house.send(&warrant_wire::Request::Launch {
        run,
        placement: warrant_wire::Placement::default(),
        launch,
    });
    house.started(run);
    let outcome = house.ended(run);
    assert_eq!(outcome.cause, Cause::StartFailed);
    assert_eq!(outcome.wait_status, 126 << 8);
    assert_exited(&house.run(&house.launch(["true"])).1, 0);
}

#[test]
fn hundreds_of_jobs_that_nobody_listens_to_leave_nothing_behind() {
    let mut house = House::open();
    house.run(&house.launch(["true"]));
    let monitor = house.monitor_pid();
    let open_files = || fs::read_dir(format!("/proc/{monitor}/fd")).unwrap().count();
    let before = open_files();

    let launch = house.launch(["true"]);
    let runs: Vec<_> = (0..400).map(|_| new_run()).collect();
    for run in &runs {
        house.send_start(*run, &launch);
    }
    let (mut started, mut ended) = (0, 0);
    while ended < runs.len() {
        match house.report() {
            Report::Started { .. } => started += 1,
            Report::Ended { outcome, .. } => {
                assert_exited(&outcome, 0);
                ended += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(started, runs.len());
    assert_eq!(open_files(), before);
    let children: Vec<u32> = processes()
        .filter(|pid| {
            fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
                let fields = stat.rsplit(')').next().unwrap();
                fields.split_whitespace().nth(1) == Some(&monitor.to_string())
            })
        })
        .collect();
    let [spare] = children[..] else {
        panic!("{children:?}: no child but the keeper of the next run, and so no zombie");
    };
    let name = fs::read_to_string(format!("/proc/{spare}/comm")).unwrap();
    assert_eq!(name, "warrant-spare\n");
}

#[test]
fn the_monitor_ends_when_the_broker_goes_and_by_nothing_less() {
    let mut house = House::open();
    // By its first report it is sure to be up.
    house.run(&house.launch(["true"]));
    for signal in ["INT", "TERM", "HUP", "PIPE", "USR1"] {
        kill(signal, house.monitor_pid());
    }
    assert_exited(&house.run(&house.launch(["true"])).1, 0);
    assert_eq!(house.close_socket(), 0);
}

#[test]
fn a_monitor_that_cannot_work_says_why_in_one_line() {
    let house = House::open();
    let open = house.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let complaint = |spool: &Path, stdin: Stdio| {
        let answer = Command::new(PROGRAM)
            .args(["monitor", "--spool"])
            .arg(spool)
            .stdin(stdin)
            .output()
            .unwrap();
        assert_eq!(answer.status.code(), Some(1));
        String::from_utf8(answer.stderr).unwrap()
    };
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let socket = || Stdio::from(OwnedFd::from(theirs.try_clone().unwrap()));
    assert_eq!(
        complaint(&open, socket()),
        "warrant-shim: the spool: must belong to this user and be writable by nobody else\n"
    );
    assert_eq!(
        complaint(&house.path("none"), socket()),
        "warrant-shim: the spool: No such file or directory (os error 2)\n"
    );
    assert_eq!(
        complaint(&house.path("spool"), Stdio::null()),
        "warrant-shim: the broker's socket: Socket operation on non-socket (os error 88)\n"
    );
}

#[test]
fn a_wrong_command_line_answers_64_and_shows_the_right_one() {
    for arguments in [
        vec![],
        vec!["keep"],
        vec!["monitor"],
        vec!["monitor", "--spool"],
        vec!["monitor", "--spool", "x", "--spool", "y"],
        vec!["monitor", "--policy", "x"],
        vec!["monitor", "--spool", "x", "--else", "y"],
    ] {
        let answer = Command::new(PROGRAM).args(&arguments).output().unwrap();
        assert_eq!(answer.status.code(), Some(64), "{arguments:?}");
        assert!(answer.stderr.starts_with(b"usage: warrant-shim monitor"));
    }
}

#[test]
fn a_broker_that_sends_nonsense_ends_the_monitor_but_not_the_jobs() {
    let mut house = House::open();
    let run = new_run();
    house.start(
        run,
        &house.script("until [ -e go ]; do sleep 0.01; done; exit 5"),
    );
    house.send_bytes(&[0xff; 16]);
    assert_eq!(house.wait_for_monitor(), 1);
    house.replace_monitor();
    house.send_watch(run);
    house.started(run);
    fs::write(house.path("go"), "").unwrap();
    assert_exited(&house.ended(run), 5);
}

#[test]
fn files_of_the_spool_are_for_its_owner_alone() {
    let mut house = House::open_with("umask 0; exec \"$0\" monitor --spool \"$1\"");
    let (run, _) = house.run(&house.launch(["echo", "text"]));
    for file in [RunFile::Record, RunFile::Output, RunFile::Index] {
        let path = house.spool(run, file);
        let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path) & 0o777, 0o600, "{file:?}");
        assert_eq!(mode(path.parent().unwrap()) & 0o777, 0o700);
    }
}

#[test]
fn a_signal_to_a_run_that_is_not_alive_does_nothing() {
    let mut house = House::open();
    let (over, _) = house.run(&house.launch(["true"]));
    for run in [over, new_run()] {
        for signal in [JobSignal::Cancel, JobSignal::Kill, JobSignal::Deliver(9)] {
            house.send_signal(run, signal);
        }
    }
    // The next reports are those of the next run.
    assert_exited(&house.run(&house.launch(["true"])).1, 0);
}
