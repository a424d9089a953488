//! The same behaviours next to those of well-known programs that become
//! another user on this very host: setpriv(1) and runuser(1).

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use crate::house::{ALICE, House, as_root, assert_exited};

/// What a process is: one `name=value` a line, for whichever shell runs it.
const SHOW: &str = r#"
    while read -r name value; do
        case $name in
        Uid:|Gid:|Groups:|CapInh:|CapPrm:|CapEff:|CapAmb:|SigBlk:|SigIgn:|SigCgt:|Umask:|Threads:)
            echo "$name" $value ;;
        esac
    done < /proc/self/status
    for fd in /proc/self/fd/*; do echo fd=${fd##*/}; done
    echo pwd=$(pwd)
    ulimit -a | grep -v -e pipe -e 'core file'
    for name in HOME USER LOGNAME SHELL; do eval "echo $name=\$$name"; done
"#;

fn rows(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let (name, value) = match line.find(['=', ':', '(']) {
            Some(at) => line.split_at(at),
            None => (line, ""),
        };
        let values: &mut Vec<String> = rows.entry(name.trim().to_owned()).or_default();
        values.push(value.trim().to_owned());
    }
    rows
}

/// What a program that becomes alice makes of the same script.
fn by(house: &House, words: &[&str]) -> BTreeMap<String, Vec<String>> {
    let output = Command::new("sh")
        .args(["-c", "umask 022; exec \"$@\"", "sh"])
        .args(words)
        .args(["/bin/bash", "-c", SHOW])
        .current_dir(house.home("alice"))
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", house.home("alice"))
        .env("USER", "alice")
        .env("LOGNAME", "alice")
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    rows(&String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_job_is_what_other_programs_make_of_the_same_user() {
    as_root(|house| {
        house.policy.umask = 0o022;
        let show = house.launch(["/bin/bash", "-c", SHOW]);
        let (outcome, output) = house.run(&show);
        assert_exited(&outcome, 0, &output);
        let ours = rows(&output);
        assert!(ours.len() > 20, "{ours:?}");
        let id = ALICE.to_string();
        let setpriv = [
            "setpriv",
            "--reuid",
            &id,
            "--regid",
            &id,
            "--init-groups",
            "--inh-caps=-all",
        ];
        let service = "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n";
        std::fs::write("/etc/pam.d/runuser", service).unwrap();
        for words in [&setpriv[..], &["runuser", "-u", "alice", "--"]] {
            let theirs = by(house, words);
            for (name, values) in &ours {
                // These two pass on what they were started with.
                if name == "fd" || name == "SigIgn" {
                    assert!(theirs[name].len() >= values.len(), "{words:?} {name}");
                // runuser's are its own.
                } else if name != "open files" || words[0] == "setpriv" {
                    assert_eq!(values, &theirs[name], "{words:?} {name}");
                }
            }
            assert_eq!(ours.len(), theirs.len());
        }
    });
}
