//! PAM: accounts that it turns away, and sessions that it opens and closes.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::{Signal, kill};
use warrant_wire::record::Record;
use warrant_wire::{Cause, Refusal};

use crate::house::{ALICE, BOB, House, as_root, assert_exited, until};

const PERMIT: &str =
    "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n";

/// A service whose sessions are written down when they open and close.
fn counted(house: &House) -> String {
    let script = house.path("count");
    let log = house.path("sessions");
    fs::write(
        &script,
        format!(
            "#!/bin/sh\necho $PAM_TYPE $PAM_USER $PAM_TTY $PAM_SERVICE >> {}\n",
            log.display()
        ),
    )
    .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    format!(
        "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_exec.so {}\n",
        script.display()
    )
}

fn sessions(house: &House) -> (usize, usize) {
    let log = fs::read_to_string(house.path("sessions")).unwrap_or_default();
    let count = |kind: &str| log.lines().filter(|line| line.starts_with(kind)).count();
    (count("open_session"), count("close_session"))
}

#[test]
fn t39_whom_the_account_phase_turns_away_is_refused_and_told_nothing() {
    as_root(|house| {
        let rules = house.path("access");
        fs::write(&rules, "-:alice:ALL\n+:ALL:ALL\n").unwrap();
        house.use_pam(&format!(
            "auth required pam_permit.so\naccount required pam_access.so accessfile={}\n{PERMIT}",
            rules.display()
        ));
        assert_eq!(house.refused("alice", ALICE), Refusal::PamAccount);
        let run = house.start_as("bob", BOB, &house.launch(["true"]));
        assert_exited(&house.ended(run), 0, "");

        let file = house.path("nologin.txt");
        house.use_pam(&format!(
            "auth required pam_permit.so\naccount required pam_nologin.so file={}\n{PERMIT}",
            file.display()
        ));
        let run = house.start(&house.launch(["true"]));
        assert_exited(&house.ended(run), 0, "");
        fs::write(&file, "Down for\nmaintenance\x1b[31m\n").unwrap();
        assert_eq!(house.refused("alice", ALICE), Refusal::PamAccount);
        let audit = house.audit();
        assert!(audit.contains("event=pam"), "{audit}");
        assert!(audit.contains("maintenance"), "{audit}");
        assert!(!audit.contains('\x1b'), "{audit}");
    });
}

#[test]
fn t39_an_expired_account_is_refused_by_pam_as_well() {
    as_root(|house| {
        house.use_pam("auth required pam_permit.so\naccount required pam_unix.so\nsession required pam_permit.so\n");
        assert_eq!(house.refused("expired", 64_014), Refusal::AccountExpired);
        assert_exited(&house.run(&house.launch(["true"])).0, 0, "");
    });
}

#[test]
fn t40_without_a_safe_service_file_nothing_runs() {
    as_root(|house| {
        house.use_pam(PERMIT);
        assert_exited(&house.run(&house.launch(["true"])).0, 0, "");
        let file = house.path("etc/pam.d/warrant");
        for mode in [0o664, 0o646] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(house.refused("alice", ALICE), Refusal::PamSession);
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::chown(&file, Some(ALICE), None).unwrap();
        assert_eq!(house.refused("alice", ALICE), Refusal::PamSession);
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("other", &file).unwrap();
        fs::write(house.path("etc/pam.d/other"), PERMIT).unwrap();
        assert_eq!(house.refused("alice", ALICE), Refusal::PamSession);
        fs::remove_file(&file).unwrap();
        assert_eq!(house.refused("alice", ALICE), Refusal::PamSession);
        assert!(
            house.audit().contains("the-service-file")
                || house.audit().contains("the service file")
        );
    });
}

#[test]
fn t42_each_session_that_is_opened_is_closed() {
    as_root(|house| {
        let service = counted(house);
        house.use_pam(&service);
        assert_exited(&house.run(&house.launch(["true"])).0, 0, "");
        assert_eq!(sessions(house), (1, 1), "an ordinary end");
        let log = fs::read_to_string(house.path("sessions")).unwrap();
        assert!(
            log.starts_with("open_session alice warrant warrant\n"),
            "{log}"
        );

        let (outcome, _) = house.run(&house.launch(["/nosuch"]));
        assert_eq!(outcome.cause, Cause::StartFailed);
        assert_eq!(sessions(house), (2, 2), "a failure to start");

        let mut launch = house.launch(["sleep", "1000"]);
        launch.limits.time_limit_s = 1;
        assert_eq!(house.run(&launch).0.cause, Cause::TimeLimit);
        assert_eq!(sessions(house), (3, 3), "the time limit");

        let run = house.start(&house.launch(["sleep", "1000"]));
        until("it has started", || {
            matches!(house.record(run), Record::Started(_))
        });
        assert_eq!(sessions(house), (4, 3));
        kill(run.keeper, Signal::SIGTERM).unwrap();
        assert_eq!(house.ended(run).cause, Cause::Cancelled);
        assert_eq!(sessions(house), (4, 4), "a cancelled job");

        let mut launch = house.script("exit $FLUX_TASK_RANK");
        launch.limits.processes = 7;
        assert_exited(&house.run(&launch).0, 6, "");
        assert_eq!(sessions(house), (5, 5), "many ranks");
    });
}

#[test]
fn t42_a_session_that_cannot_be_opened_starts_nothing_and_is_left_closed() {
    as_root(|house| {
        let service = counted(house);
        house.use_pam(&format!("{service}session required pam_deny.so\n"));
        assert_eq!(house.refused("alice", ALICE), Refusal::PamSession);
        house.use_pam(&service);
        assert_exited(&house.run(&house.launch(["true"])).0, 0, "");
    });
}

#[test]
fn t42_t92_the_session_of_a_keeper_that_was_killed_ends_the_job_and_closes() {
    as_root(|house| {
        house.use_cgroups();
        let service = counted(house);
        house.use_pam(&service);
        let run = house.start(&house.script(
            "(setsid sh -c 'echo $$ > inner; exec sleep 1000' &) ; echo $$ > outer; sleep 1000",
        ));
        let pid = |name: &str| fs::read_to_string(house.home("alice").join(name)).ok();
        until("the job is up", || {
            pid("inner").is_some_and(|pid| pid.ends_with('\n'))
                && pid("outer").is_some_and(|pid| pid.ends_with('\n'))
        });
        kill(run.keeper, Signal::SIGKILL).unwrap();
        warrant_shim::sys::process::wait_for(run.keeper).unwrap();
        until("the session is closed", || sessions(house) == (1, 1));
        for name in ["inner", "outer"] {
            let pid: i32 = pid(name).unwrap().trim().parse().unwrap();
            // Its zombie is for process 1, this test.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
        }
        assert!(matches!(house.record(run), Record::Started(_)));
    });
}

#[test]
fn t49_what_modules_export_is_let_through_by_its_shape_and_ours_win() {
    as_root(|house| {
        let conf = house.path("pam_env.conf");
        let names = [
            "LD_PRELOAD",
            "LD_AUDIT",
            "WARRANT_JOB_ID",
            "FLUX_JOB_ID",
            "GCONV_PATH",
            "GLIBC_TUNABLES",
            "MALLOC_TRACE",
            "lower",
            "KRB5CCNAME",
            "MINE",
            "LANG",
            "BASH_ENV",
        ];
        let lines: String = names
            .iter()
            .map(|name| format!("{name} DEFAULT=from-pam\n"))
            .collect();
        fs::write(&conf, lines).unwrap();
        house.use_pam(&format!(
            "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_env.so readenv=0 conffile={}\n",
            conf.display()
        ));
        let mut launch = house.launch(["/usr/bin/env"]);
        launch.env = vec![("MINE".into(), "from-launch".into())];
        let (outcome, output) = house.run(&launch);
        assert_exited(&outcome, 0, &output);
        let mut from_pam: Vec<_> = output
            .lines()
            .filter_map(|line| line.strip_suffix("=from-pam"))
            .collect();
        from_pam.sort_unstable();
        assert_eq!(from_pam, ["KRB5CCNAME", "LANG"]);
        assert!(output.contains("MINE=from-launch\n"), "{output}");
        assert!(!output.contains("LD_"), "{output}");
    });
}

#[test]
fn limits_that_modules_set_are_those_of_the_job() {
    as_root(|house| {
        let conf = house.path("limits.conf");
        fs::write(&conf, "alice hard nofile 77\nalice soft nofile 66\n").unwrap();
        house.use_pam(&format!(
            "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_limits.so conf={}\n",
            conf.display()
        ));
        assert_eq!(house.output_of("ulimit -Sn; ulimit -Hn"), "66\n77\n");
        // Where no module has a say, they are the monitor's.
        house.use_pam(PERMIT);
        house.open_files.0 = 123;
        assert_eq!(house.output_of("ulimit -Sn"), "123\n");
    });
}

#[test]
fn the_mask_is_the_one_of_pam_where_the_policy_says_so() {
    as_root(|house| {
        house.use_pam("auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_umask.so umask=0027\n");
        assert_eq!(house.output_of("umask"), "0077\n");
        house.policy.umask = None;
        assert_eq!(house.output_of("umask"), "0027\n");
        // Where no module has a say, nobody but the user may write.
        house.use_pam(PERMIT);
        assert_eq!(house.output_of("umask"), "0022\n");
    });
}

#[test]
fn a_module_that_hangs_is_cut_off_and_its_run_refused() {
    as_root(|house| {
        let script = house.path("hang");
        fs::write(&script, "#!/bin/sh\nexec sleep 1000\n").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        house.use_cgroups();
        house.use_pam(&format!(
            "auth required pam_permit.so\naccount required pam_exec.so {}\nsession required pam_permit.so\n",
            script.display()
        ));
        let run = house.start(&house.launch(["true"]));
        assert_eq!(house.exit_code(run), warrant_shim::keeper::REFUSED);
        assert_eq!(
            house.record(run),
            Record::Refused(Refusal::AccountUnavailable)
        );
    });
}
