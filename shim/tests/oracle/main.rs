//! What a job is, row by row, next to what setpriv(1) and runuser(1) make of
//! the same user on this very host. Where a job differs on purpose, the row
//! says why; a row that is not here must be the same.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    clippy::print_stderr
)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use crate::house::{ALICE, House, as_root, assert_exited};

#[allow(dead_code, unreachable_pub)]
#[path = "../keeper/house.rs"]
mod house;

/// Prints one `name value` a line. No program but the shell is started for
/// what is asked of a process, so that it is the shell's own.
const SHOW: &str = r#"
    while read -r name value; do
        case $name in
        Uid:|Gid:|Groups:|Cap*|NoNewPrivs:|Seccomp*|Speculation*|SigBlk:|SigIgn:|Umask:|Threads:|CoreDumping:)
            echo "$name" $value ;;
        esac
    done < /proc/self/status
    read -r stat < /proc/self/stat
    set -- $$ ${stat##*) }
    [ "$4" = "$1" ] && echo group own || echo group inherited
    [ "$5" = "$1" ] && echo session own || echo session inherited
    echo terminal $6
    read -r score < /proc/self/oom_score_adj && echo oom_score_adj $score
    echo umask $(umask)
    echo cwd $(pwd -P)
    for fd in /proc/$1/fd/*; do echo fd ${fd##*/}; done
    ulimit -Ha | while read -r line; do echo hard ${line}; done
    ulimit -Sa | while read -r line; do echo soft ${line}; done
    env | while read -r line; do echo env "${line%%=*}"; done
"#;

/// A row in which a job differs.
struct Wanted {
    name: &'static str,
    job: &'static [&'static str],
    why: &'static str,
}

const WANTED: &[Wanted] = &[
    Wanted {
        name: "NoNewPrivs:",
        job: &["1"],
        why: "setuid programs give a job nothing (policy: no_new_privs)",
    },
    Wanted {
        name: "CapBnd:",
        job: &["0000000000000000"],
        why: "nor do programs with file capabilities",
    },
    Wanted {
        name: "Seccomp:",
        job: &["2"],
        why: "calls that change the machine are denied to all that the shim makes",
    },
    Wanted {
        name: "Seccomp_filters:",
        job: &["1"],
        why: "the monitor's filter and no other",
    },
    Wanted {
        name: "group",
        job: &["own"],
        why: "signals reach this rank and nobody else",
    },
    Wanted {
        name: "session",
        job: &["own"],
        why: "no terminal of anybody else can be had back",
    },
    Wanted {
        name: "oom_score_adj",
        job: &["0"],
        why: "the shim's own protection is not passed on",
    },
    Wanted {
        name: "env",
        job: &[
            "FLUX_JOB_ID",
            "FLUX_JOB_NNODES",
            "FLUX_JOB_SIZE",
            "FLUX_TASK_LOCAL_ID",
            "FLUX_TASK_RANK",
            "HOME",
            "LOGNAME",
            "PATH",
            "PWD",
            "SHELL",
            "USER",
            "WARRANT_JOB_ID",
        ],
        why: "it is made of account and job alone, nothing is passed on",
    },
];

type Rows = BTreeMap<String, BTreeSet<String>>;

fn rows(text: &str) -> Rows {
    let mut rows = Rows::new();
    for line in text.lines() {
        // Limits have a name of several words, and their value at the end.
        let (name, value) = match line.split_once(' ') {
            Some(("hard" | "soft", _)) => line.rsplit_once(' ').unwrap(),
            Some(split) => split,
            None => (line, ""),
        };
        let values = rows.entry(name.to_owned()).or_default();
        values.insert(value.to_owned());
    }
    rows
}

/// What a program that becomes alice makes of the same script.
fn by(house: &House, words: &[&str]) -> Rows {
    let output = Command::new("sh")
        .args(["-c", "umask 027; exec \"$@\"", "sh"])
        .args(words)
        .args(["/bin/bash", "-c", SHOW])
        .current_dir(house.home("alice"))
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("SECRET", "of the caller")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    rows(&String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_job_differs_from_what_setpriv_and_runuser_make_only_where_it_should() {
    as_root(|house| {
        house.policy.umask = Some(0o027);
        let (outcome, output) = house.run(&house.launch(["/bin/bash", "-c", SHOW]));
        assert_exited(&outcome, 0, &output);
        let ours = rows(&output);
        for name in [
            "Uid:", "Groups:", "CapEff:", "Seccomp:", "fd", "cwd", "umask",
        ] {
            assert!(ours.contains_key(name), "{name} is missing in {ours:?}");
        }
        for row in WANTED {
            let expected = row.job.iter().map(ToString::to_string).collect();
            // The shell has variables of its own.
            let mut found = ours[row.name].clone();
            found.retain(|value| row.name != "env" || !matches!(value.as_str(), "SHLVL" | "_"));
            assert_eq!(found, expected, "{}: {}", row.name, row.why);
        }
        let permit =
            ["auth", "account", "session"].map(|kind| format!("{kind} required pam_permit.so\n"));
        std::fs::write("/etc/pam.d/runuser", permit.concat()).unwrap();
        let id = ALICE.to_string();
        let setpriv = ["setpriv", "--reuid", &id, "--regid", &id, "--init-groups"];
        let runuser = ["runuser", "-u", "alice", "--"];
        for words in [&setpriv[..], &runuser] {
            let theirs = by(house, words);
            assert!(theirs["env"].contains("SECRET"), "{words:?} pass it on");
            for (name, values) in &ours {
                if WANTED.iter().any(|row| row.name == name) {
                    continue;
                }
                let their_values = &theirs[name];
                let is_inherited = name == "fd" || name == "SigIgn:";
                // The shim leaves no core behind, and jobs may raise that again.
                let is_of_core = name.starts_with("soft core");
                // runuser sets this one by itself.
                let is_theirs = words[0] == "runuser" && name.starts_with("soft open files");
                if is_inherited {
                    assert!(values.is_subset(their_values) || name == "SigIgn:");
                } else if !is_of_core && !is_theirs {
                    assert_eq!(values, their_values, "{words:?}: {name}");
                }
            }
            let names = |rows: &Rows| rows.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&ours), names(&theirs), "{words:?}");
        }
        // The last one is the listing itself.
        let files = ["0", "1", "2", "3"].map(str::to_owned).into();
        assert_eq!(ours["fd"], files);
        assert_eq!(ours["terminal"], ["0".to_owned()].into());
        // SIGQUIT, by bash itself.
        assert_eq!(ours["SigIgn:"], ["0000000000000004".to_owned()].into());
    });
}
