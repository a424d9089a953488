//! What surrounds a job: variables, directory, descriptors, program.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use warrant_tests::House;

#[test]
fn a_jobs_environment_holds_what_is_allowed_and_no_secret() {
    let house = House::open();
    let ann = house.user("ann");
    let job = ann.submit_with(&json!({"command": "env", "envars": {"MINE": "x"}}));
    ann.finished(job);
    let output = ann.output(job);
    let names: BTreeSet<&str> = output
        .iter()
        .map(|line| line.split('=').next().unwrap())
        .collect();
    let expected = BTreeSet::from([
        "PATH",
        "HOME",
        "LANG",
        "WARRANT_HOUSE",
        "MINE",
        "FLUX_JOB_ID",
        "FLUX_JOB_SIZE",
        "FLUX_JOB_NNODES",
        "FLUX_TASK_RANK",
        "FLUX_TASK_LOCAL_ID",
    ]);
    assert_eq!(names, expected);
    assert!(!output.concat().contains("canary"));
    house.close();
}

#[test]
fn a_job_may_change_the_usual_variables_but_not_what_it_is() {
    let house = House::open();
    let ann = house.user("ann");
    let job = ann.submit_with(&json!({"command": ["sh", "-c", "echo $LANG $FLUX_JOB_ID"],
        "envars": {"LANG": "de_DE.UTF-8", "FLUX_JOB_ID": "7000"}}));
    ann.finished(job);
    assert_eq!(ann.output(job), [format!("de_DE.UTF-8 {job}\n")]);
    house.close();
}

#[test]
fn a_job_has_a_home_a_shell_and_a_path_of_its_own_and_is_nobody_else() {
    let house = House::open();
    let ann = house.user("ann");
    let own = json!({"HOME": "/own", "SHELL": "/own/sh", "PATH": "/own:/bin", "TMPDIR": "/own/tmp",
        "USER": "mallory", "LOGNAME": "mallory", "FLUX_URI": "mallory", "FLUX_JOB_ID": "mallory",
        "WARRANT_JOB_ID": "mallory", "LISTEN_FDS": "3", "LISTEN_PID": "1",
        "NOTIFY_SOCKET": "/mallory", "SUDO_USER": "mallory"});
    let job = ann.submit_with(&json!({"command": "/usr/bin/env", "envars": own}));
    ann.finished(job);
    let lines: BTreeSet<String> = ann.output(job).into_iter().collect();
    for line in [
        "HOME=/own",
        "SHELL=/own/sh",
        "PATH=/own:/bin",
        "TMPDIR=/own/tmp",
    ] {
        assert!(lines.contains(&format!("{line}\n")), "{line}: {lines:?}");
    }
    let text = lines.into_iter().collect::<String>();
    for word in ["mallory", "LISTEN_", "NOTIFY_"] {
        assert!(!text.contains(word), "{word}: {text}");
    }
    house.close();
}

#[test]
fn a_job_starts_in_its_directory_or_says_why_not() {
    let house = House::open();
    let ann = house.user("ann");
    let dir = house.path("a dir");
    std::fs::create_dir(&dir).unwrap();
    let job = ann.submit_with(&json!({"command": "pwd", "workdir": dir.to_str().unwrap()}));
    ann.finished(job);
    assert_eq!(ann.output(job), [format!("{}\n", dir.display())]);
    let lost = ann.submit_with(&json!({"command": "pwd", "workdir": "/nonexistent/dir"}));
    let info = ann.finished(lost);
    assert_eq!(
        (&info["result"], &info["returncode"]),
        (&json!("FAILED"), &json!(125))
    );
    let why = ann.output(lost).concat();
    assert!(
        why.contains("/nonexistent/dir") && why.contains("No such file or directory"),
        "{why}"
    );
    house.close();
}

#[test]
fn a_program_that_is_not_there_exits_with_127_and_one_that_cannot_run_with_126() {
    let house = House::open();
    let ann = house.user("ann");
    let plain = house.path("plain");
    std::fs::write(&plain, "echo never\n").unwrap();
    for (command, code, words) in [
        ("nosuchcommand --x", 127, "nosuchcommand: command not found"),
        ("/nonexistent/program", 127, "/nonexistent/program"),
        (plain.to_str().unwrap(), 126, "Permission denied"),
        ("/etc", 126, "Permission denied"),
    ] {
        let job = ann.submit(command);
        let info = ann.finished(job);
        assert_eq!(info["returncode"], code, "{command}");
        assert_eq!(info["result"], "FAILED", "{command}");
        let why = ann.output(job).concat();
        assert!(why.contains(words), "{command}: {why}");
    }
    // A script without its first line is run by sh, as execvp(3) does it.
    std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o700)).unwrap();
    let job = ann.submit(plain.to_str().unwrap());
    assert_eq!(ann.finished(job)["result"], "COMPLETED");
    house.close();
}

#[test]
fn a_program_is_looked_for_in_the_jobs_own_path() {
    let house = House::open();
    let ann = house.user("ann");
    let dir = house.path("tools");
    std::fs::create_dir(&dir).unwrap();
    let tool = dir.join("mytool");
    std::fs::write(&tool, "#!/bin/sh\necho mine\n").unwrap();
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", dir.display());
    let job = ann.submit_with(&json!({"command": "mytool", "envars": {"PATH": path}}));
    assert_eq!(ann.finished(job)["result"], "COMPLETED");
    assert_eq!(ann.output(job), ["mine\n"]);
    house.close();
}

#[test]
fn a_job_inherits_nothing_but_its_three_streams() {
    let house = House::open();
    let ann = house.user("ann");
    let job = ann.submit_script("ls /proc/self/fd; readlink /proc/self/fd/0; cat");
    ann.finished(job);
    // The fourth is the directory that ls itself reads.
    assert_eq!(ann.output(job), ["0\n", "1\n", "2\n", "3\n", "/dev/null\n"]);
    house.close();
}
