//! The disk is full, of bytes or of files: what is lost is marked, what cannot
//! be recorded is not done, and what must go on does.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::json;
use warrant_tests::disk::Disk;
use warrant_tests::wait::until;
use warrant_tests::{Database, Flux, House, Setup};

const FULL: &str = "The job store cannot be written: its disk is full.";

fn on(disk: &Disk) -> House {
    Setup::on(Database::Sqlite).state_in(disk.path()).open()
}

/// The rows of this kind in the broker's audit trail that are of this job.
fn audited(house: &House, kind: &str, job: i64) -> usize {
    let rows = house.audit("warrant-broker").into_iter();
    rows.filter(|row| row["kind"] == kind && row["job_id"] == job)
        .count()
}

#[test]
fn t132_output_that_a_full_disk_cuts_is_marked_counted_and_told_everywhere() {
    let Some(disk) = Disk::new(32) else {
        return;
    };
    let house = on(&disk);
    let ann = house.user("ann");
    let whole = ann.submit("echo whole");
    assert_eq!(ann.finished(whole)["dropped_bytes"], 0);
    let job = ann.submit_script("yes | head -c 60000000");
    let info = ann.finished(job);
    let dropped = info["dropped_bytes"].as_u64().unwrap();
    assert!((20_000_000..60_000_000).contains(&dropped), "{info}");
    assert_eq!(info["result"], "COMPLETED");
    let marker = " bytes of output are missing here, they could not be stored: No space left on \
        device\n";
    let lines = ann.output(job);
    let last = lines.last().unwrap();
    assert!(
        last.starts_with("warrant: ") && last.ends_with(marker),
        "{last}"
    );
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.contains("warrant:"))
            .count(),
        1
    );
    assert!(ann.stream(job, 0).rest().ends_with(marker));
    for path in [
        "/v1/jobs?details=true&listing=true&limit=1",
        "/v1/jobs/search?search=yes",
        "/v1/jobs/search?length=1",
    ] {
        let answer = ann.get(path).with(200);
        let jobs = answer.get("data").unwrap_or(&answer);
        assert_eq!(jobs[0]["dropped_bytes"], dropped, "{path}");
    }
    until("a warning in the log", || {
        house
            .logs()
            .contains("output of a job was not kept")
            .then_some(())
    });
    house.close();
}

/// With no room left: what is running and waiting can be cancelled, users can
/// log in, and reading is recorded; nothing new is accepted.
fn goes_on(house: &House, ann: &Flux, running: i64, waiting: i64) {
    let body = json!({"command": ["true", "x".repeat(10_000)]});
    for _ in 0..3 {
        assert_eq!(ann.post_json("/v1/jobs/submit", &body).detail(503), FULL);
    }
    let again = house.login("ann");
    for _ in 0..20 {
        house.login("ann");
    }
    assert_eq!(again.output(running), ["begun\n"]);
    assert!(audited(house, "read", running) > 0);
    for job in [waiting, running] {
        let answer = again.cancel(job);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(again.finished(job)["result"], "CANCELED");
        assert_eq!(audited(house, "cancel", job), 1);
    }
}

#[test]
fn t132_with_a_full_disk_cancel_login_and_audit_work_and_nothing_new_is_accepted() {
    let Some(disk) = Disk::new(64) else {
        return;
    };
    let house = Setup::on(Database::Sqlite)
        .cores(1)
        .state_in(disk.path())
        .open();
    let ann = house.user("ann");
    let running = ann.submit_script("echo begun; sleep 300");
    ann.first_output(running);
    let waiting = ann.submit("echo waited");
    disk.fill();
    goes_on(&house, &ann, running, waiting);
    disk.clear();
    let after = until("a submission to be accepted", || {
        let answer = ann.post_json("/v1/jobs/submit", &json!({"command": "echo after"}));
        (answer.status == 200).then(|| answer.json()["id"].as_i64().unwrap())
    });
    ann.finished(after);
    assert_eq!(ann.output(after), ["after\n"]);
    house.close();
}

#[test]
fn t132_where_no_file_can_be_made_cancel_login_and_audit_work() {
    let Some(disk) = Disk::new(64) else {
        return;
    };
    let house = Setup::on(Database::Sqlite)
        .cores(1)
        .state_in(disk.path())
        .open();
    let ann = house.user("ann");
    let running = ann.submit_script("echo begun; sleep 300");
    ann.first_output(running);
    let waiting = ann.submit("echo waited");
    disk.take_all_files();
    goes_on(&house, &ann, running, waiting);
    disk.give_files_back();
    let after = ann.submit("echo after");
    ann.finished(after);
    assert_eq!(ann.output(after), ["after\n"]);
    house.close();
}

#[test]
fn t132_output_is_not_given_where_its_reading_cannot_be_recorded() {
    let house = House::open();
    let ann = house.user("ann");
    let job = ann.submit("echo secret");
    ann.finished(job);
    let path = house.broker_database().strip_prefix("sqlite:").unwrap();
    let script = "import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute('begin immediate')
print('held', flush=True)
sys.stdin.read()";
    let mut lock = Command::new("python3")
        .args(["-c", script, path])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let out = lock.stdout.take().unwrap();
    BufReader::new(out).read_line(&mut said).unwrap();
    assert_eq!(said, "held\n");
    for end in ["output", "output/stream"] {
        let answer = ann.get(&format!("/v1/jobs/{job}/{end}"));
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(!answer.text().contains("secret"));
    }
    drop(lock.stdin.take());
    assert!(lock.wait().unwrap().success());
    let given = until("the output to be given", || {
        let answer = ann.get(&format!("/v1/jobs/{job}/output"));
        (answer.status == 200).then(|| answer.text())
    });
    assert!(given.contains("secret"));
    assert!(audited(&house, "read", job) > 0);
    house.close();
}
