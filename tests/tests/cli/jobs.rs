//! What `warrant jobs`, `info`, `logs` and `submit --wait` show.

use std::io::Read;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use warrant_tests::house::ADMIN;
use warrant_tests::processes::send;
use warrant_tests::service;
use warrant_tests::wait::until;
use warrant_tests::{House, Setup, on_each_database};

use super::{Shell, shell};

/// The shell of a plain user of the house.
fn plain(house: &House, name: &str) -> Shell {
    house.user(name);
    let home = house.path(name);
    std::fs::create_dir_all(&home).unwrap();
    let url = format!("http://{}", house.nobody().address());
    let password = House::password(name);
    Shell::new(
        &url,
        &home,
        &[("FLUX_USER", name), ("FLUX_TOKEN", &password)],
    )
}

fn complaint(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

on_each_database! {
    fn lists_take_the_states_that_they_show_and_say_what_they_leave_out(setup: Setup) {
        let house = setup.cores(1).open();
        let ann = plain(&house, "ann");
        let running = ann.prints(&["submit", "--", "sleep", "300"]).trim().to_owned();
        until("the job to run", || {
            ann.prints(&["info", &running]).contains("STATE\trunning").then_some(())
        });
        let waiting = ann.prints(&["submit", "--", "sleep", "301"]).trim().to_owned();
        let listed = |words: &[&str]| -> Vec<String> {
            let list = ann.prints(words);
            list.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
        };
        assert_eq!(listed(&["jobs", "-s", "running"]), [running.as_str()]);
        assert_eq!(listed(&["jobs", "-s", "queued"]), [waiting.as_str()]);
        let cut = ann.run(&["jobs", "-n", "1"]);
        assert!(complaint(&cut).contains("1 of 2 jobs"), "{}", complaint(&cut));
        let whole = ann.run(&["jobs", "-n", "2"]);
        assert_eq!(complaint(&whole), "");
        ann.prints(&["cancel", &waiting, &running]);
        until("both to end", || {
            (listed(&["jobs", "-s", "cancelled"]).len() == 2).then_some(())
        });
        house.close();
    }

    fn operators_see_all_users_jobs_when_they_ask_for_them(setup: Setup) {
        let house = setup.open();
        let (ann, admin) = (plain(&house, "ann"), shell(&house, &[]));
        let anns = ann.prints(&["submit", "--", "true"]).trim().to_owned();
        let own = admin.prints(&["submit", "--", "true"]).trim().to_owned();
        let shown = admin.prints(&["jobs"]);
        assert!(shown.starts_with(&format!("{own}\t")) && shown.lines().count() == 1, "{shown}");
        let all = admin.prints(&["jobs", "--all-users"]);
        let owner = |id: &str| {
            let line = all.lines().find(|line| line.starts_with(&format!("{id}\t"))).unwrap();
            line.split('\t').nth(3).unwrap().to_owned()
        };
        assert_eq!((owner(&anns), owner(&own)), ("ann".to_owned(), ADMIN.to_owned()));
        // A plain user's own are all that there are for them.
        assert!(!ann.prints(&["jobs", "--all-users"]).contains(ADMIN));
        house.close();
    }
}

#[test]
fn info_shows_what_was_asked_for_what_became_of_it_and_what_it_used() {
    let house = House::open();
    let ann = plain(&house, "ann");
    let words = [
        "submit",
        "-C",
        "/",
        "-t",
        "90s",
        "--",
        "sh",
        "-c",
        "echo 'a b'; exit 4",
    ];
    let id = ann.prints(&words).trim().to_owned();
    let info = until("the job to end", || {
        let info = ann.prints(&["info", &id]);
        info.contains("STATE\tfailed").then_some(info)
    });
    let fact = |label: &str| {
        let mut lines = info.lines().filter_map(|line| line.split_once('\t'));
        let value = lines.find(|(known, _)| *known == label);
        value
            .unwrap_or_else(|| panic!("{label}: {info}"))
            .1
            .to_owned()
    };
    assert_eq!(fact("COMMAND"), r#"sh -c "echo 'a b'; exit 4""#);
    assert_eq!(fact("OWNER"), "ann");
    assert_eq!(fact("DIRECTORY"), "/");
    assert_eq!(fact("EXIT"), "4");
    assert_eq!(fact("TIME LIMIT"), "1m 30s");
    assert_eq!(fact("OUTPUT"), "4 B");
    assert!(fact("CPU TIME").contains("user"));
    assert!(fact("PEAK MEMORY").ends_with("iB"), "{info}");
    for label in ["SUBMITTED", "STARTED", "ENDED"] {
        let moment = fact(label);
        assert!(
            moment.ends_with('Z') && moment.contains('T'),
            "{label}: {moment}"
        );
    }
    house.close();
}

#[test]
fn why_a_job_failed_is_shown_in_full() {
    let house = House::open();
    let ann = plain(&house, "ann");
    let program = format!("/{}/{}", "x".repeat(200), "y".repeat(200));
    let waited = ann.run(&["submit", "--wait", "--", &program]);
    assert!(!waited.status.success());
    let said = complaint(&waited);
    assert!(said.contains("failed: "), "{said}");
    let id = ann.prints(&["jobs", "-n", "1"]);
    let info = ann.prints(&["info", id.split('\t').next().unwrap()]);
    let reason = info.lines().find_map(|line| line.strip_prefix("REASON\t"));
    let reason = reason.unwrap_or_else(|| panic!("no reason: {info}"));
    assert!(said.contains(reason), "{said} does not hold {reason}");
    house.close();
}

#[test]
fn a_silent_job_one_that_waits_and_one_that_is_not_there_are_told_apart() {
    let house = Setup::on(warrant_tests::Database::Sqlite).cores(1).open();
    let ann = plain(&house, "ann");
    assert_eq!(ann.prints(&["submit", "--wait", "--", "true"]), "");
    let silent = ann.prints(&["jobs"]).split('\t').next().unwrap().to_owned();
    assert_eq!(ann.prints(&["logs", &silent]), "");
    let running = ann
        .prints(&["submit", "--", "sleep", "300"])
        .trim()
        .to_owned();
    let waiting = ann.prints(&["submit", "--", "true"]).trim().to_owned();
    let output = ann.run(&["logs", &waiting]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        complaint(&output).contains("has not started"),
        "{}",
        complaint(&output)
    );
    let output = ann.run(&["logs", "987654"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        complaint(&output).contains("987654 not found"),
        "{}",
        complaint(&output)
    );
    ann.prints(&["cancel", &waiting, &running]);
    house.close();
}

#[test]
fn ctrl_c_while_waiting_says_that_the_job_goes_on_and_how_to_end_it() {
    let house = House::open();
    let ann = plain(&house, "ann");
    let mut command = Command::new(service::program("warrant"));
    let mut waiting = command
        .env_clear()
        .envs(ann.0.iter().map(|(name, value)| (name, value)))
        .args([
            "submit",
            "--wait",
            "--",
            "sh",
            "-c",
            "echo begun; sleep 300",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 6];
    waiting
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    assert_eq!(&first, b"begun\n");
    send(waiting.id().cast_signed(), Signal::SIGINT);
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let said = complaint(&output);
    let id = ann
        .prints(&["jobs", "-s", "running"])
        .split('\t')
        .next()
        .unwrap()
        .to_owned();
    assert!(said.contains(&format!("job {id} goes on")), "{said}");
    assert!(said.contains(&format!("warrant cancel {id}")), "{said}");
    ann.prints(&["cancel", &id]);
    house.close();
}

#[test]
fn a_job_starts_where_it_is_submitted_and_fails_without_a_directory_that_was_named() {
    let house = House::open();
    let ann = plain(&house, "ann");
    let here = house.path("project");
    std::fs::create_dir(&here).unwrap();
    let submit = |words: &[&str]| {
        let mut command = Command::new(service::program("warrant"));
        command
            .env_clear()
            .envs(ann.0.iter().map(|(name, value)| (name, value)))
            .current_dir(&here)
            .args(["submit", "--wait"])
            .args(words)
            .output()
            .unwrap()
    };
    let output = submit(&["--", "pwd"]);
    assert_eq!(output.stdout, format!("{}\n", here.display()).as_bytes());
    std::fs::create_dir(here.join("sub")).unwrap();
    let output = submit(&["-C", "sub", "--", "pwd"]);
    assert_eq!(
        output.stdout,
        format!("{}/sub\n", here.display()).as_bytes()
    );
    let output = submit(&["-C", "missing", "--", "pwd"]);
    assert!(!output.status.success() && output.stdout.is_empty());
    house.close();
}

#[test]
fn what_a_job_writes_to_standard_error_arrives_there() {
    let house = House::open();
    let ann = plain(&house, "ann");
    let script = "echo out; echo err >&2; printf 'raw\\377'";
    let waited = ann.run(&["submit", "--wait", "--", "sh", "-c", script]);
    assert_eq!(waited.stdout, b"out\nraw\xff");
    let said = complaint(&waited);
    let (first, rest) = said.split_once('\n').unwrap();
    assert!(first.contains("submitted job"), "{said}");
    assert_eq!(rest, "err\n");
    let id = ann.prints(&["jobs"]).split('\t').next().unwrap().to_owned();
    for words in [&["logs", &id][..], &["logs", "-f", &id]] {
        let output = ann.run(words);
        assert!(output.status.success());
        assert_eq!(output.stdout, b"out\nraw\xff", "{words:?}");
        assert_eq!(output.stderr, b"err\n", "{words:?}");
    }
    // One place for both gets each byte once, in the order that the server has.
    let joined = Command::new("/bin/sh")
        .env_clear()
        .envs(ann.0.iter().map(|(name, value)| (name, value)))
        .args(["-c", "exec \"$0\" logs \"$1\" 2>&1"])
        .arg(service::program("warrant"))
        .arg(&id)
        .output()
        .unwrap();
    let sorted = |mut bytes: Vec<u8>| {
        bytes.sort_unstable();
        bytes
    };
    assert_eq!(sorted(joined.stdout), sorted(b"out\nerr\nraw\xff".to_vec()));
    let refused = house
        .admin()
        .get(&format!("/v1/jobs/{id}/output/stream?stream=both"));
    assert_eq!(refused.status, 422);
    house.close();
}
