//! I. What each process can do, as the kernel tells it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};
use warrant_shim::hardening;
use warrant_shim::sys::capability;
use warrant_shim::sys::process::{fork, wait_for};

use crate::house::{ALICE, CANARY, House, KEEPER, Run, as_root, assert_exited, until};

/// The capabilities that the shim ever uses, as in its table.
const USED: u64 = 0x61a4_41fb;
const OWNING: u64 = 0x19;
const KILL: u64 = 0x20;

/// The rows of `/proc/PID/status` that say what a process can do.
fn powers(pid: impl std::fmt::Display) -> BTreeMap<String, u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let wanted = [
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "Seccomp_filters",
    ];
    status
        .lines()
        .filter_map(|line| line.split_once(":\t"))
        .filter(|(name, _)| wanted.contains(name))
        .map(|(name, value)| (name.to_owned(), u64::from_str_radix(value, 16).unwrap()))
        .collect()
}

#[track_caller]
fn assert_powers(pid: impl std::fmt::Display, expected: [u64; 6], who: &str) {
    let found = powers(pid);
    let [
        permitted,
        effective,
        bounding,
        no_new_privs,
        seccomp,
        filters,
    ] = expected;
    let expected: BTreeMap<String, u64> = [
        ("CapInh", 0),
        ("CapPrm", permitted),
        ("CapEff", effective),
        ("CapBnd", bounding),
        ("CapAmb", 0),
        ("NoNewPrivs", no_new_privs),
        ("Seccomp", seccomp),
        ("Seccomp_filters", filters),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    assert_eq!(found, expected, "{who}");
}

/// User ids, group ids (real, effective, saved and of files) and groups.
fn ids(pid: Pid) -> ([u32; 4], [u32; 4], Vec<u32>) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let row = |name| -> Vec<u32> {
        let mut lines = status.lines();
        let row = lines.find_map(|line| line.strip_prefix(name)).unwrap();
        row.split_whitespace()
            .map(|id| id.parse().unwrap())
            .collect()
    };
    let four = |name| row(name).try_into().unwrap();
    (four("Uid:"), four("Gid:"), row("Groups:"))
}

fn children_of(pid: Pid) -> Vec<Pid> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_whitespace()
        .map(|pid| Pid::from_raw(pid.parse().unwrap()))
        .collect()
}

fn up(house: &House) -> Run {
    let run = house.start(&house.script("echo up; exec sleep 1000"));
    until("the job is up", || house.output(run) == "up\n");
    run
}

#[test]
fn t87_t88_each_process_can_do_what_the_table_says_and_no_more() {
    as_root(|house| {
        house.use_cgroups();
        house.use_pam("auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n");
        // What this machine does not give, nobody has.
        let given = capability::permitted().unwrap();
        for no_new_privs in [true, false] {
            house.policy.no_new_privs = no_new_privs;
            let nnp = u64::from(no_new_privs);
            let monitor = fork(|| {
                nix::sys::signal::SigSet::all().thread_block().unwrap();
                hardening::monitor(&house.policy).unwrap();
                nix::sys::prctl::set_name(c"ready").unwrap();
                nix::unistd::pause();
                0
            })
            .unwrap();
            until("the monitor is ready", || {
                fs::read_to_string(format!("/proc/{monitor}/comm")).unwrap() == "ready\n"
            });
            assert_powers(
                monitor,
                [
                    USED & given,
                    (OWNING | KILL) & given,
                    USED & given,
                    nnp,
                    2,
                    1,
                ],
                "monitor",
            );
            kill(monitor, Signal::SIGKILL).unwrap();
            wait_for(monitor).unwrap();

            let run = up(house);
            let name = |pid: &Pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
            let children = children_of(run.keeper);
            let (session, job): (Vec<Pid>, Vec<Pid>) = children
                .into_iter()
                .partition(|pid| name(pid) == "warrant-session\n");
            assert_eq!((session.len(), job.len()), (1, 1));
            let bounding = USED & given;
            assert_powers(
                run.keeper,
                [KILL & given, KILL & given, bounding, 1, 2, 2],
                "keeper",
            );
            assert_powers(
                session[0],
                [bounding, bounding, bounding, nnp, 2, 1],
                "session",
            );
            let left = if no_new_privs { 0 } else { bounding };
            assert_powers(job[0], [0, 0, left, nnp, 2, 1], "job");
            assert_eq!(ids(run.keeper), ([KEEPER; 4], [KEEPER; 4], vec![]));
            // Others of its user id cannot look into it: /proc is root's then.
            let environ = fs::metadata(format!("/proc/{}/environ", run.keeper)).unwrap();
            assert_eq!(environ.uid(), 0);
            assert_eq!(ids(session[0]).0, [0; 4]);
            assert_eq!(ids(job[0]).0, [ALICE; 4]);
            kill(run.keeper, Signal::SIGUSR1).unwrap();
            house.ended(run);
        }
    });
}

/// Runs `attempt` in a process that is confined as a keeper is, and answers
/// its exit code.
fn as_keeper(house: &House, attempt: fn() -> i32) -> i32 {
    let child = fork(|| {
        std::env::set_current_dir(&house.dir).unwrap();
        hardening::monitor(&house.policy).unwrap();
        hardening::preparing_keeper().unwrap();
        hardening::keeper((KEEPER.into(), KEEPER.into()), Vec::new()).unwrap();
        attempt()
    })
    .unwrap();
    let status = wait_for(child).unwrap();
    assert_eq!(status & 0x7f, 0, "killed by {}", status & 0x7f);
    status >> 8
}

#[test]
fn t88_a_keeper_that_was_taken_over_can_do_nothing_else() {
    fn denied<T>(result: nix::Result<T>) -> bool {
        matches!(result, Err(Errno::EPERM | Errno::EACCES))
    }
    as_root(|house| {
        type Attempt = (&'static str, fn() -> i32);
        let attempts: [Attempt; 12] = [
            ("opening a file", || {
                i32::from(fs::read("/etc/passwd").is_ok())
            }),
            ("making a file", || {
                i32::from(fs::write("/tmp/x", "").is_ok())
            }),
            ("forking", || {
                i32::from(warrant_shim::sys::process::fork(|| 0).is_ok())
            }),
            ("executing", || {
                i32::from(!denied(nix::unistd::execve::<
                    &std::ffi::CStr,
                    &std::ffi::CStr,
                >(c"/bin/true", &[c"true"], &[])))
            }),
            ("becoming another", || {
                i32::from(!denied(nix::unistd::setresuid(
                    1000.into(),
                    1000.into(),
                    1000.into(),
                )))
            }),
            ("being root, now or again", || {
                // The call that tells is denied as well.
                let _ = nix::unistd::setuid(0.into());
                let status = fs::read_to_string("/proc/self/status").unwrap();
                i32::from(!status.contains(&format!("\nUid:{}\n", format!("\t{KEEPER}").repeat(4))))
            }),
            ("a run of another", || {
                let made = fs::write("spool/0-0-9.record", "");
                i32::from(made.is_ok() || fs::read_dir("spool").is_ok())
            }),
            ("a socket", || {
                i32::from(std::net::TcpListener::bind("127.0.0.1:0").is_ok())
            }),
            ("giving files away", || {
                i32::from(!denied(nix::unistd::chown(
                    "/etc/passwd",
                    Some(1000.into()),
                    None,
                )))
            }),
            ("changing modes", || {
                i32::from(
                    fs::set_permissions(
                        "/etc/passwd",
                        std::os::unix::fs::PermissionsExt::from_mode(0o666),
                    )
                    .is_ok(),
                )
            }),
            ("reading another's memory", || {
                i32::from(fs::read("/proc/1/mem").is_ok())
            }),
            ("keeping its privileges", || {
                i32::from(capability::permitted().is_ok_and(|sets| sets & !KILL != 0))
            }),
        ];
        for (what, attempt) in attempts {
            assert_eq!(as_keeper(house, attempt), 0, "{what}");
        }
        assert_eq!(as_keeper(house, || 7), 7, "it can still end");
    });
}

#[test]
fn t85_what_a_runner_copied_from_root_is_never_seen_by_its_user() {
    as_root(|house| {
        // As alice, look at all that comes and goes: a runner that has become
        // alice and not yet her program still has the monitor's environment.
        let watcher = house.start(&house.script(
            "c=canary; echo up; while [ ! -e stop ]; do
                for pid in /proc/[0-9]*; do
                    tr '\\0' '\\n' < $pid/environ | grep -e \"$c-\" >> seen
                done 2>/dev/null
            done",
        ));
        until("the watcher is up", || house.output(watcher) == "up\n");
        let many = vec!["x".to_owned(); 20_000];
        let argv = ["true".to_owned()].into_iter().chain(many);
        let launch = house.launch(argv);
        for _ in 0..100 {
            assert_exited(&house.run(&launch).0, 0, "");
        }
        fs::write(house.home("alice").join("stop"), "").unwrap();
        house.ended(watcher);
        let seen = fs::read_to_string(house.home("alice").join("seen")).unwrap_or_default();
        assert!(!seen.contains(CANARY), "{seen}");
    });
}

#[test]
fn t86_a_crash_of_ours_leaves_no_core() {
    as_root(|house| {
        let crash = |first: fn(&House)| {
            let child = fork(|| {
                warrant_shim::sys::signal::reset_actions();
                let (_, hard) = getrlimit(Resource::RLIMIT_CORE).unwrap();
                setrlimit(Resource::RLIMIT_CORE, hard, hard).unwrap();
                std::env::set_current_dir(&house.dir).unwrap();
                first(house);
                // Whatever sets the limit up again: the memory is not to be had.
                let _ = setrlimit(Resource::RLIMIT_CORE, hard, hard);
                kill(getpid(), Signal::SIGSEGV).unwrap();
                nix::unistd::pause();
                0
            })
            .unwrap();
            let status = wait_for(child).unwrap();
            assert_eq!(status & 0x7f, Signal::SIGSEGV as i32);
            status & 0x80 != 0
        };
        for first in [
            (|house| hardening::monitor(&house.policy).unwrap()) as fn(&House),
            |_| hardening::keep_secrets().unwrap(),
        ] {
            assert!(!crash(first));
        }
        let limits = |pid: Pid| {
            let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
            let line = limits.lines().find(|line| line.starts_with("Max core"));
            line.unwrap().split_whitespace().nth(4).unwrap().to_owned()
        };
        let run = up(house);
        assert_eq!(limits(run.keeper), "0");
        kill(run.keeper, Signal::SIGUSR1).unwrap();
        house.ended(run);
    });
}

#[test]
fn t89_the_program_is_linked_safely_and_to_little() {
    let readelf = |flags: &str| {
        let output = Command::new("readelf")
            .args([flags, env!("CARGO_BIN_EXE_warrant-shim")])
            .output()
            .expect("readelf is part of what links the program");
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let dynamic = readelf("-dW");
    for bad in ["RPATH", "RUNPATH", "TEXTREL"] {
        assert!(!dynamic.contains(bad), "{dynamic}");
    }
    assert!(
        dynamic.contains("BIND_NOW") || dynamic.contains("Flags: NOW"),
        "{dynamic}"
    );
    let needed: Vec<&str> = dynamic
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| line.split(['[', ']']).nth(1))
        .collect();
    for library in &needed {
        let is_known = [
            "libc.so",
            "libgcc_s.so",
            "libm.so",
            "libdl.so",
            "libpthread.so",
            "ld-linux",
        ]
        .iter()
        .any(|known| library.starts_with(known));
        assert!(is_known, "{needed:?}");
    }
    let headers = readelf("-lhW");
    assert!(
        headers.contains("Type:                              DYN"),
        "{headers}"
    );
    assert!(headers.contains("GNU_RELRO"), "{headers}");
    let stack = headers
        .lines()
        .find(|line| line.contains("GNU_STACK"))
        .unwrap();
    assert!(!stack.contains("RWE"), "{stack}");
}
