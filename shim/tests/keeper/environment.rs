//! D. Environment: what a job sees, and what nobody else does.

use std::fs;

use warrant_wire::Cause;

use crate::house::{ALICE, BOB, CANARY, House, Run, as_root, assert_exited, until};

/// Variables that make the C library, the loader or PAM do things.
const HOSTILE: [&str; 14] = [
    "LD_PRELOAD",
    "LD_AUDIT",
    "LD_LIBRARY_PATH",
    "GCONV_PATH",
    "LOCPATH",
    "NLSPATH",
    "TZ",
    "TZDIR",
    "MALLOC_TRACE",
    "GLIBC_TUNABLES",
    "RES_OPTIONS",
    "HOSTALIASES",
    "KRB5_CONFIG",
    "PAM_USER",
];

/// The keeper of a run and those of its processes that are root.
fn roots_of(run: Run) -> Vec<i32> {
    let children = format!("/proc/{0}/task/{0}/children", run.keeper);
    let children = fs::read_to_string(children).unwrap();
    let is_root = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/status"))
            .is_ok_and(|status| status.contains("\nUid:\t0\t0\t0\t0\n"))
    };
    let mut roots: Vec<i32> = children
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .filter(is_root)
        .collect();
    roots.push(run.keeper.as_raw());
    roots
}

fn wait_for_job(house: &House, run: Run) {
    until("the job is up", || house.output(run).contains("up\n"));
}

#[test]
fn t43_t44_what_the_user_sets_is_set_for_the_job_alone() {
    as_root(|house| {
        house.use_pam("auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n");
        let library = house.path("no-such-library.so");
        let library = library.to_str().unwrap();
        let mut launch = house.script("env; echo up; exec sleep 1000");
        launch.env = HOSTILE
            .iter()
            .map(|name| (name.as_bytes().to_vec(), library.into()))
            .collect();
        let run = house.start(&launch);
        wait_for_job(house, run);
        let roots = roots_of(run);
        assert_eq!(roots.len(), 2, "keeper and session");
        for pid in roots {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap();
            let environ = String::from_utf8_lossy(&environ);
            assert!(!environ.contains("no-such-library"), "{environ}");
            let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
            assert!(!maps.contains("no-such-library"));
        }
        let output = house.output(run);
        for name in HOSTILE {
            let line = format!("{name}={library}\n");
            assert!(output.contains(&line), "{name} is the job's own: {output}");
        }
        nix::sys::signal::kill(run.keeper, nix::sys::signal::Signal::SIGUSR1).unwrap();
        assert_eq!(house.ended(run).cause, Cause::Cancelled);
    });
}

#[test]
fn t46_secrets_of_the_monitor_and_of_others_are_nowhere_a_job_can_look() {
    as_root(|house| {
        assert_eq!(std::env::var("WARRANT_TEST_SECRET").unwrap(), CANARY);
        let mut launch = house.script("echo up; exec sleep 1000");
        launch.env = vec![("PASSWORD".into(), "canary-of-bob".into())];
        let run = house.start_as("bob", BOB, &launch);
        wait_for_job(house, run);
        // What is looked for must not be in the arguments of who looks.
        let output = house.output_of(
            "c=canary; env; for pid in /proc/[0-9]*; do
                for file in environ cmdline mem maps auxv; do
                    tr '\\0' '\\n' < $pid/$file
                done
            done 2>/dev/null | grep -v '^c=canary' | grep -- \"$c-\"; true",
        );
        assert!(!output.contains(CANARY), "{output}");
        assert!(!output.contains("canary-of-bob"), "{output}");
        nix::sys::signal::kill(run.keeper, nix::sys::signal::Signal::SIGUSR1).unwrap();
        house.ended(run);
    });
}

#[test]
fn t47_an_environment_that_is_too_large_or_ambiguous_is_not_executed() {
    as_root(|house| {
        let mut launch = house.launch(["true"]);
        launch.env = (0..140_000)
            .map(|number| (format!("V{number}").into(), Vec::new()))
            .collect();
        let (outcome, output) = house.run(&launch);
        assert_eq!(outcome.cause, Cause::StartFailed);
        assert_eq!(outcome.wait_status, 126 << 8);
        assert_eq!(output, "warrant: true: Argument list too long\n");

        let mut launch = house.launch(["true"]);
        launch.env = vec![("AA".into(), "1".into()), ("AB".into(), "2".into())];
        let mut bytes = launch.encode().unwrap();
        let at = bytes.windows(2).position(|two| two == b"AB").unwrap();
        bytes[at + 1] = b'A';
        let run = house.start_bytes("alice", ALICE, &bytes, || ());
        let outcome = house.ended(run);
        assert_eq!(outcome.cause, Cause::StartFailed);
        assert_eq!(
            house.output(run),
            "warrant: env: each name must be given once\n"
        );
    });
}

#[test]
fn an_environment_begins_with_the_account_and_the_policy() {
    as_root(|house| {
        house.policy.path = "/bin:/usr/bin".into();
        let mut launch = house.launch(["env"]);
        launch.env = vec![
            ("LOGNAME".into(), "mallory".into()),
            ("WARRANT_JOB_ID".into(), "7".into()),
        ];
        let run = house.start(&launch);
        assert_exited(&house.ended(run), 0, &house.output(run));
        let output = house.output(run);
        let mut lines: Vec<&str> = output.lines().collect();
        lines.sort_unstable();
        let job = run.id.job;
        let mut expected = vec![
            "FLUX_JOB_NNODES=1".to_owned(),
            "FLUX_JOB_SIZE=1".to_owned(),
            "FLUX_TASK_LOCAL_ID=0".to_owned(),
            "FLUX_TASK_RANK=0".to_owned(),
            format!("FLUX_JOB_ID={job}"),
            format!("HOME={}", house.home("alice").display()),
            "LOGNAME=alice".to_owned(),
            "PATH=/bin:/usr/bin".to_owned(),
            "SHELL=/bin/sh".to_owned(),
            "USER=alice".to_owned(),
            format!("WARRANT_JOB_ID={job}"),
        ];
        expected.sort_unstable();
        assert_eq!(lines, expected);
    });
}

#[test]
fn a_user_has_a_home_a_shell_and_a_path_of_their_own_and_is_nobody_else() {
    as_root(|house| {
        let conf = house.path("pam_env.conf");
        let reserved = [
            "USER",
            "LOGNAME",
            "FLUX_URI",
            "WARRANT_API_KEY",
            "LISTEN_FDS",
            "NOTIFY_SOCKET",
            "SUDO_USER",
        ];
        let lines: String = reserved
            .iter()
            .map(|name| format!("{name} DEFAULT=mallory\n"))
            .collect();
        fs::write(&conf, lines).unwrap();
        for pam in [false, true] {
            if pam {
                house.use_pam(&format!(
                    "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_env.so readenv=0 conffile={}\n",
                    conf.display()
                ));
            }
            let mut launch = house.launch(["/usr/bin/env"]);
            let own = ["HOME", "SHELL", "PATH", "TMPDIR"];
            launch.env = own.map(|name| (name.into(), "/own".into())).into();
            let hers = reserved.map(|name| (name.into(), "mallory".into()));
            launch.env.extend(hers);
            let (outcome, output) = house.run(&launch);
            assert_exited(&outcome, 0, &output);
            for name in own {
                assert!(output.contains(&format!("{name}=/own\n")), "{output}");
            }
            for name in ["USER", "LOGNAME"] {
                assert!(output.contains(&format!("{name}=alice\n")), "{output}");
            }
            assert!(!output.contains("mallory"), "{output}");
        }
    });
}

#[test]
fn t50_a_program_is_found_by_the_users_path_but_not_where_they_happen_to_be() {
    as_root(|house| {
        let mut launch = house.script(
            "printf '#!/bin/sh\\necho mine\\n' > tool; chmod +x tool; mkdir bin; cp tool bin/other",
        );
        assert_exited(&house.run(&launch).0, 0, "");
        launch = house.launch(["tool"]);
        for path in [".", "", ":/bin", "/bin:", ".:/bin", "/bin::/usr/bin"] {
            launch.env = vec![("PATH".into(), path.into())];
            let (outcome, output) = house.run(&launch);
            assert_eq!(outcome.wait_status, 127 << 8, "{path}");
            assert_eq!(output, "warrant: tool: command not found\n");
        }
        launch = house.launch(["other"]);
        let bin = house.home("alice").join("bin");
        launch.env = vec![("PATH".into(), format!("/bin:{}", bin.display()).into())];
        assert_eq!(house.run(&launch).1, "mine\n");
        // Root may look into it, and alice may not: it is not found for her.
        let run = house.start_as("bob", BOB, &launch);
        assert_eq!(house.ended(run).wait_status, 126 << 8);
        assert_eq!(house.output(run), "warrant: other: Permission denied\n");
    });
}
