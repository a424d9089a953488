//! What modules of PAM leave behind: processes, names, signals, directories.

use std::fs;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use warrant_wire::record::Record;
use warrant_wire::{Cause, Refusal};

use crate::house::{ALICE, House, as_root, assert_exited, until};

/// A module that does what its first argument says when the session opens, or
/// where that begins with `account`, when the account is judged.
const MODULE: &str = r#"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
typedef struct pam_handle pam_handle_t;
int pam_set_item(pam_handle_t *, int, const void *);

static int up[2];

static void stay(const char *log) {
    FILE *file = fopen(log, "a");
    fprintf(file, "%d\n", getpid());
    fclose(file);
    signal(SIGTERM, SIG_IGN);
    write(up[1], "", 1);
    for (;;) pause();
}

static int act(pam_handle_t *pam, const char *word, const char *log) {
    char byte;
    pipe(up);
    if (strcmp(word, "child") == 0) {
        if (fork() == 0) stay(log);
        read(up[0], &byte, 1);
    }
    if (strcmp(word, "daemon") == 0) {
        if (fork() == 0) {
            setsid();
            if (fork() == 0) stay(log);
            _exit(0);
        }
        read(up[0], &byte, 1);
    }
    if (strcmp(word, "user") == 0) pam_set_item(pam, 2, "bob");
    if (strcmp(word, "signals") == 0) {
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, NULL);
        for (int n = 1; n < 65; n++) signal(n, SIG_IGN);
    }
    if (strcmp(word, "place") == 0) {
        chdir(log);
        umask(0);
        for (int n = 0; n < 9; n++) open("/etc/shadow", O_RDONLY);
    }
    return 0;
}

int pam_sm_authenticate(pam_handle_t *pam, int flags, int argc, const char **argv) { return 0; }
int pam_sm_setcred(pam_handle_t *pam, int flags, int argc, const char **argv) { return 0; }
int pam_sm_acct_mgmt(pam_handle_t *pam, int flags, int argc, const char **argv) {
    return strncmp(argv[0], "account", 7) ? 0 : act(pam, argv[0] + 8, argv[1]);
}
int pam_sm_open_session(pam_handle_t *pam, int flags, int argc, const char **argv) {
    return act(pam, argv[0], argv[1]);
}
int pam_sm_close_session(pam_handle_t *pam, int flags, int argc, const char **argv) {
    FILE *file = fopen(argv[2], "a");
    fputs("closed\n", file);
    fclose(file);
    return 0;
}
"#;

/// Compiles the module and puts it into the house.
fn install(house: &House) {
    let source = house.path("leave.c");
    fs::write(&source, MODULE).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-w", "-o"])
        .args([house.path("leave.so"), source, "-l:libpam.so.0".into()])
        .status();
    assert!(compiled.unwrap().success());
}

/// Has jobs pass through the module, which does what `word` says.
fn use_module(house: &mut House, word: &str) {
    let module = house.path("leave.so");
    let [log, closed] = ["left", "closed"].map(|name| house.path(name));
    let _ = fs::remove_file(&log);
    let line = format!(
        "{} {word} {} {}\n",
        module.display(),
        log.display(),
        closed.display()
    );
    house.use_pam(&format!(
        "auth required pam_permit.so\naccount required {line}session required {line}"
    ));
}

/// The processes that the module has left, by its own word.
fn left(house: &House) -> Vec<Pid> {
    let log = fs::read_to_string(house.path("left")).unwrap_or_default();
    log.lines()
        .map(|line| Pid::from_raw(line.parse().unwrap()))
        .collect()
}

fn is_alive(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// With control groups and without.
fn in_both(test: fn(&mut House)) {
    as_root(|house| {
        install(house);
        test(house);
        house.use_cgroups();
        test(house);
    });
}

#[test]
fn t126_what_a_module_starts_is_not_the_job_and_ends_with_it() {
    in_both(|house| {
        for word in ["daemon", "child", "account-daemon", "account-child"] {
            use_module(house, word);
            let mut launch = house.launch(["true"]);
            launch.limits.time_limit_s = 1000;
            let (outcome, output) = house.run(&launch);
            assert_exited(&outcome, 0, &output);
            let started = left(house);
            assert_eq!(started.len(), 1, "{word}");
            assert!(!is_alive(started[0]), "{word}");
            // It is there for as long as the session is.
            let run = house.start(&house.launch(["sleep", "1000"]));
            until("both are up", || {
                left(house).len() == 2 && matches!(house.record(run), Record::Started(_))
            });
            assert!(is_alive(left(house)[1]), "{word}");
            kill(run.keeper, Signal::SIGTERM).unwrap();
            assert_eq!(house.ended(run).cause, Cause::Cancelled, "{word}");
            assert!(!is_alive(left(house)[1]), "{word}");
        }
    });
}

#[test]
fn t126_what_a_module_starts_ends_also_where_keeper_or_session_were_killed() {
    in_both(|house| {
        for who in ["warrant-session", "warrant-keeper"] {
            use_module(house, "daemon");
            let mut launch = house.launch(["sleep", "1000"]);
            launch.limits.grace_ms = 100;
            let run = house.start(&launch);
            until("it is up", || {
                left(house).len() == 1 && matches!(house.record(run), Record::Started(_))
            });
            let children = format!("/proc/{0}/task/{0}/children", run.keeper);
            let children = fs::read_to_string(children).unwrap();
            let session = children.split_whitespace().find(|pid| {
                fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() == "warrant-session\n"
            });
            let session = Pid::from_raw(session.unwrap().parse().unwrap());
            if who == "warrant-session" {
                kill(session, Signal::SIGKILL).unwrap();
                kill(run.keeper, Signal::SIGTERM).unwrap();
                house.ended(run);
            } else {
                kill(run.keeper, Signal::SIGKILL).unwrap();
                warrant_shim::sys::process::wait_for(run.keeper).unwrap();
            }
            until("nothing is left", || !is_alive(left(house)[0]));
            if let Some(cgroups) = &house.cgroups {
                until("no control group is left", || cgroups.end(run.id).is_ok());
            }
        }
    });
}

#[test]
fn t126_a_module_that_takes_the_user_for_another_refuses_the_run() {
    in_both(|house| {
        let _ = fs::remove_file(house.path("closed"));
        use_module(house, "account-user");
        assert_eq!(house.refused("alice", ALICE), Refusal::AccountMismatch);
        assert!(!house.path("closed").exists(), "no session was opened");
        use_module(house, "user");
        assert_eq!(house.refused("alice", ALICE), Refusal::AccountMismatch);
        assert!(house.path("closed").exists(), "the session was closed");
        use_module(house, "nothing");
        assert_exited(&house.run(&house.launch(["true"])).0, 0, "");
    });
}

#[test]
fn t126_what_a_module_changes_of_its_process_does_not_reach_the_job() {
    in_both(|house| {
        use_module(house, "signals");
        let status = house.output_of("cat /proc/self/status");
        for set in ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"] {
            let empty = format!("\n{set}:\t0000000000000000\n");
            assert!(status.contains(&empty), "{set}: {status}");
        }
        use_module(house, "place");
        fs::create_dir(house.path("left")).unwrap();
        let output = house.output_of("pwd -P; umask; ls -l /proc/self/fd | grep -c shadow; true");
        let home = house.home("alice");
        assert_eq!(output, format!("{}\n0077\n0\n", home.display()));
        fs::remove_dir(house.path("left")).unwrap();
    });
}
