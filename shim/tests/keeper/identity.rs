//! C. Identity: who a job runs as, and who may not run any.

use std::fs;
use std::io::Write;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use warrant_shim::identity::Identity;
use warrant_shim::policy::DeniedGroup;
use warrant_wire::Refusal;
use warrant_wire::record::Record;

use crate::house::{ALICE, BOB, House, as_root, assert_exited, bind, run_tool, until};

#[test]
fn t27_root_by_any_name_or_group_is_refused() {
    as_root(|house| {
        assert_eq!(house.refused("root", 0), Refusal::UidRange);
        assert_eq!(house.refused("toor", 0), Refusal::UidRange);
        assert_eq!(house.refused("wheely", 64_013), Refusal::GroupDenied);
        house.policy.denied_group = DeniedGroup::Remove;
        house.policy.deny_groups = Vec::new();
        assert_eq!(house.refused("wheely", 64_013), Refusal::GroupDenied);
        // And the house still serves.
        assert_eq!(house.output_of("id -u"), format!("{ALICE}\n"));
    });
}

#[test]
fn t28_user_ids_outside_the_range_are_refused() {
    as_root(|house| {
        let special = [0, 65_534, 65_535, u32::MAX - 1, u32::MAX];
        for uid in [1, 999, 65_001].into_iter().chain(special) {
            assert_eq!(house.refused("alice", uid), Refusal::UidRange, "{uid}");
        }
        house.policy.min_uid = 0;
        house.policy.max_uid = u32::MAX;
        for uid in special {
            assert_eq!(house.refused("nobody", uid), Refusal::UidRange, "{uid}");
        }
    });
}

#[test]
fn t30_names_that_are_no_names_are_not_looked_up() {
    as_root(|house| {
        // A look-up would hang, and be refused for that.
        run_tool(&["mkfifo", house.path("passwd").to_str().unwrap()]);
        bind(&house.path("passwd"), Path::new("/etc/passwd"));
        let long = "a".repeat(256);
        for name in [
            "", "../alice", "-alice", "..", "al:ice", "al,ice", "alice\n", &long,
        ] {
            assert_eq!(
                house.refused(name, ALICE),
                Refusal::AccountUnknown,
                "{name}"
            );
        }
    });
}

#[test]
fn t32_name_and_user_id_must_lead_to_each_other() {
    as_root(|house| {
        assert_eq!(house.refused("alias", ALICE), Refusal::AccountMismatch);
        assert_eq!(house.refused("alice", BOB), Refusal::AccountMismatch);
        assert_eq!(house.refused("bob", ALICE), Refusal::AccountMismatch);
        assert_eq!(house.refused("alice", 64_900), Refusal::AccountMismatch);
        assert_eq!(house.refused("nosuch", ALICE), Refusal::AccountUnknown);
        // A second entry of her name: it leads to the first one's user id.
        let passwd = house.path("etc/passwd");
        let mut file = fs::File::options().append(true).open(&passwd).unwrap();
        writeln!(file, "alice:x:64099:64099::/:/bin/sh").unwrap();
        assert_eq!(house.refused("alice", 64_099), Refusal::AccountMismatch);
        house.policy.deny_users = vec!["alice".into()];
        assert_eq!(house.refused("alice", ALICE), Refusal::AccountDenied);
    });
}

#[test]
fn t34_an_account_database_with_errors_is_unavailable_not_unknown() {
    as_root(|house| {
        let passwd = house.path("etc/passwd");
        let mut file = fs::File::options().append(true).open(&passwd).unwrap();
        let gecos = |bytes: usize| "g".repeat(bytes);
        writeln!(file, "large:x:64030:64030:{}:/:/bin/sh", gecos(100_000)).unwrap();
        writeln!(file, "huge:x:64031:64031:{}:/:/bin/sh", gecos(3_000_000)).unwrap();
        let run = house.start_as("large", 64_030, &house.launch(["id", "-u"]));
        assert_exited(&house.ended(run), 0, &house.output(run));
        assert_eq!(house.refused("huge", 64_031), Refusal::AccountUnavailable);

        // A file whose reader gets EIO.
        bind(Path::new("/proc/1/mem"), Path::new("/etc/passwd"));
        assert_eq!(house.refused("alice", ALICE), Refusal::AccountUnavailable);
        run_tool(&["umount", "/etc/passwd"]);
        assert_eq!(house.output_of("id -u"), format!("{ALICE}\n"));
        bind(Path::new("/proc/1/mem"), Path::new("/etc/shadow"));
        assert_eq!(house.refused("alice", ALICE), Refusal::AccountUnavailable);
    });
}

#[test]
fn t34_an_account_database_that_hangs_is_given_half_a_minute() {
    as_root(|house| {
        run_tool(&["mkfifo", house.path("passwd").to_str().unwrap()]);
        bind(&house.path("passwd"), Path::new("/etc/passwd"));
        let run = house.start(&house.launch(["true"]));
        until("the keeper waits for the database", || {
            house.record(run) == Record::Refused(Refusal::AccountUnavailable)
        });
        let status = warrant_shim::sys::process::wait_for(run.keeper).unwrap();
        assert_eq!(status, Signal::SIGALRM as i32);
        assert_eq!(
            house.record(run),
            Record::Refused(Refusal::AccountUnavailable)
        );
        run_tool(&["umount", "/etc/passwd"]);
        assert_eq!(house.output_of("id -u"), format!("{ALICE}\n"));
    });
}

#[test]
fn t35_groups_are_those_of_the_database_at_the_start_and_no_others() {
    as_root(|house| {
        let groups = |house: &House, name: &str, uid: u32| {
            let run = house.start_as(name, uid, &house.launch(["id", "-G"]));
            assert_exited(&house.ended(run), 0, &house.output(run));
            let mut groups: Vec<u32> = house
                .output(run)
                .split_whitespace()
                .map(|word| word.parse().unwrap())
                .collect();
            groups.sort_unstable();
            groups
        };
        let mut many: Vec<u32> = (64_600..64_900).collect();
        many.insert(0, 64_020);
        assert_eq!(groups(house, "many", 64_020), many);
        assert_eq!(groups(house, "lonely", 64_022), [64_999]);
        assert_eq!(groups(house, "bob", BOB), [BOB, 64_500]);

        let path = house.path("etc/group");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("alice,bob", "alice")).unwrap();
        assert_eq!(groups(house, "bob", BOB), [BOB]);
    });
}

#[test]
fn t36_members_of_denied_groups_are_refused_or_lose_them() {
    as_root(|house| {
        // In the group of disks, by another name of it.
        assert_eq!(house.refused("disky", 64_021), Refusal::GroupDenied);
        house.policy.denied_group = DeniedGroup::Remove;
        let run = house.start_as("disky", 64_021, &house.launch(["id", "-G"]));
        house.ended(run);
        assert_eq!(house.output(run), "64021\n");
        house.policy.deny_groups = vec!["no-such-group".into(), "alice".into()];
        assert_eq!(house.refused("alice", ALICE), Refusal::GroupDenied);
        house.policy.denied_group = DeniedGroup::Refuse;
        assert_eq!(house.refused("alice", ALICE), Refusal::GroupDenied);
    });
}

#[test]
fn t38_a_job_is_the_user_and_nothing_of_root_is_left() {
    as_root(|house| {
        let status = house.output_of("cat /proc/self/status");
        let all = |name: &str, value: &str| {
            let line = format!("\n{name}:\t{value}\n");
            assert!(status.contains(&line), "{name}: {status}");
        };
        all("Uid", &vec![ALICE.to_string(); 4].join("\t"));
        all("Gid", &vec![ALICE.to_string(); 4].join("\t"));
        all("Groups", &format!("{ALICE} 64500 "));
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            all(set, "0000000000000000");
        }
        all("NoNewPrivs", "1");
        // 77: no signal is ignored, blocked or waiting.
        for set in ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"] {
            all(set, "0000000000000000");
        }
    });
}

#[test]
fn t38_a_job_cannot_become_root_again() {
    as_root(|house| {
        for nnp in [true, false] {
            house.policy.no_new_privs = nnp;
            let (outcome, output) = house.run(&house.probe("regain"));
            assert_exited(&outcome, 0, &output);
        }
        // Root of a name space of one's own is nobody outside.
        fs::write(house.path("secret"), "secret").unwrap();
        run_tool(&["chmod", "600", house.path("secret").to_str().unwrap()]);
        let output = house.output_of(&format!(
            "unshare -Urm sh -c 'cat {0}; chown root {1}; mount --bind /tmp /etc' 2>&1; true",
            house.path("secret").display(),
            house.home("bob").display()
        ));
        assert!(!output.contains("secret\n"), "{output}");
        assert!(fs::read_to_string("/etc/passwd").is_ok());
    });
}

#[test]
fn t38_groups_go_first_then_the_group_then_the_user() {
    as_root(|house| {
        if !Path::new("/usr/bin/strace").exists() {
            return eprintln!("not tested: this test needs strace");
        }
        let launch = house.launch(["true"]).encode().unwrap();
        let run = house.start_bytes("alice", ALICE, &launch, || {
            kill(nix::unistd::getpid(), Signal::SIGSTOP).unwrap();
        });
        let log = house.path("strace");
        let mut strace = std::process::Command::new("strace")
            .args([
                "-f",
                "-e",
                "trace=/set.*id|setgroups|seteuid|capset|execve|prctl|keyctl",
                "-o",
            ])
            .arg(&log)
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
        house.ended(run);
        strace.wait().unwrap();
        let text = fs::read_to_string(&log).unwrap();
        let calls: Vec<String> = text
            .lines()
            .filter_map(|line| {
                let call = line.split_once(' ')?.1.trim_start();
                let name = call.split('(').next()?;
                let is_one = name.starts_with("set") || name == "capset" || name == "execve";
                let succeeded = call.ends_with("= 0");
                (is_one && name != "setsid")
                    .then(|| format!("{name} {}", if succeeded { "ok" } else { "fails" }))
            })
            .collect();
        let drop = calls
            .iter()
            .position(|call| call == "setgroups ok")
            .unwrap();
        let exec = calls.iter().position(|call| call == "execve ok");
        // The keeper's own last capset may come at any time in between.
        let own: Vec<&str> = calls[drop..=exec.unwrap_or(calls.len() - 1)]
            .iter()
            .map(String::as_str)
            .collect();
        let expected = [
            "setgroups ok",
            "setresgid ok",
            "setresuid ok",
            "capset ok",
            "setresuid fails",
            "setresuid fails",
            "setresgid fails",
            "setgroups fails",
        ];
        let mut rest = own.iter();
        for call in expected {
            assert!(rest.any(|other| *other == call), "{call}: {text}");
        }
        let at = |what: &str| text.lines().position(|line| line.contains(what));
        let is_user = at(&format!("setresuid({ALICE}, {ALICE}, {ALICE})"));
        // 46: what root has in its keyring is left behind.
        let leaves = at("keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)");
        assert!(leaves.is_some_and(|at| Some(at) < is_user), "{text}");
        // 85: once it is the user, and until its program, nobody may look into it.
        let after = text.lines().skip(is_user.unwrap());
        let closes = "prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE)";
        let mut of_the_runner =
            after.take_while(|line| !(line.contains("execve(") && line.ends_with("= 0")));
        assert!(of_the_runner.any(|line| line.contains(closes)), "{text}");
    });
}

#[test]
fn t39_expired_accounts_and_passwords_are_refused() {
    as_root(|house| {
        for (name, uid) in [
            ("expired", 64_014),
            ("oldpass", 64_015),
            ("mustchange", 64_016),
        ] {
            assert_eq!(house.refused(name, uid), Refusal::AccountExpired, "{name}");
        }
    });
}

#[test]
fn t39_locked_passwords_are_the_policys_to_judge() {
    as_root(|house| {
        house.policy.locked = true;
        assert_eq!(house.output_of("id -u"), format!("{ALICE}\n"));
        house.policy.locked = false;
        assert_eq!(house.refused("alice", ALICE), Refusal::AccountLocked);
        assert_eq!(house.refused("many", 64_020), Refusal::AccountLocked);
        let run = house.start_as("bob", BOB, &house.launch(["true"]));
        assert_exited(&house.ended(run), 0, "");
    });
}

#[test]
fn t40_shells_that_let_nobody_in_are_refused_unless_allowed() {
    as_root(|house| {
        let accounts = [("nologin", 64_017), ("false", 64_018), ("oddshell", 64_019)];
        for (name, uid) in accounts {
            assert_eq!(house.refused(name, uid), Refusal::Shell, "{name}");
        }
        house.policy.nologin = true;
        for (name, uid) in accounts {
            let run = house.start_as(name, uid, &house.launch(["true"]));
            assert_exited(&house.ended(run), 0, name);
            assert_eq!(house.output(run), "");
        }
    });
}

/// Where runs are on behalf of users, one that is for nobody is not root's.
#[test]
fn a_run_that_names_nobody_is_not_run_as_root() {
    as_root(|house| {
        let mark = house.path("by-root");
        let launch = house.script(&format!("touch {}", mark.display()));
        let run = house.keep(None, &launch.encode().unwrap(), true, || ());
        assert_eq!(house.exit_code(run), nix::errno::Errno::EPERM as i32);
        assert!(!mark.exists());
    });
}

#[test]
fn t22_without_the_word_that_its_start_is_on_disk_a_run_does_not_begin() {
    as_root(|house| {
        let launch = house.script("touch ran").encode().unwrap();
        let (name, uid) = ("alice".to_owned(), ALICE);
        let run = house.keep(Some(Identity { name, uid }), &launch, false, || ());
        assert_eq!(house.exit_code(run), warrant_shim::keeper::REFUSED);
        assert_eq!(house.record(run), Record::Refused(Refusal::Journal));
        assert!(!house.home("alice").join("ran").exists());
    });
}
