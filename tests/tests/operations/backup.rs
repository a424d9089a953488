//! Backups of SQLite, and what comes back with one.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};
use ureq::http::Method;
use warrant_tests::service::{self, Service};
use warrant_tests::wait::until_within;
use warrant_tests::{Flux, House};

const NONE: [&str; 2] = ["--config", "/nonexistent/none.toml"];
const SERVICES: [(&str, &str); 2] = [
    ("warrant-authsvc", "AUTHSVC__DATABASE__URL"),
    ("warrant-broker", "BROKER__DATABASE__URL"),
];

/// Run `audit` over a copy; what it prints, if the trail holds.
fn audit(house: &House, service: (&str, &str), copy: &Path, word: &str) -> String {
    let (program, variable) = service;
    let mut variables = house.variables();
    variables.retain(|(name, _)| name != variable);
    variables.push((variable.to_owned(), format!("sqlite:{}", copy.display())));
    let words = [&["audit", word][..], &NONE].concat();
    let output = service::run(program, &words, &variables, "");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {complaint}", copy.display());
    String::from_utf8(output.stdout).unwrap()
}

fn back_up(house: &House, program: &str, file: &Path) -> (bool, String) {
    let words = [&["backup", file.to_str().unwrap()][..], &NONE].concat();
    let output = house.command(program, &words);
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// The names in a directory, hidden ones too.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().flatten();
    entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_backup_under_load_has_all_that_was_answered_before_and_holds() {
    let house = House::open();
    let ann = house.user("ann");
    let dir = house.path("backups");
    fs::create_dir(&dir).unwrap();
    let stop = AtomicBool::new(false);
    let accepted = std::sync::Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        let clients = [(); 3].map(|()| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let id = ann.submit("true");
                    accepted.lock().unwrap().insert(id);
                    house.login("ann");
                }
            })
        });
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for number in 0..4 {
                for service in SERVICES {
                    let before = accepted.lock().unwrap().clone();
                    let copy = dir.join(format!("{}-{number}", service.0));
                    let (done, said) = back_up(&house, service.0, &copy);
                    assert!(done, "{said}");
                    assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o7777, 0o600);
                    // None is ever written over.
                    let bytes = fs::read(&copy).unwrap();
                    let (done, said) = back_up(&house, service.0, &copy);
                    assert!(!done && said.contains("exists already"), "{said}");
                    assert!(fs::read(&copy).unwrap() == bytes);
                    audit(&house, service, &copy, "verify");
                    let rows = audit(&house, service, &copy, "export");
                    assert!(
                        rows.contains("\"backup\""),
                        "the copy does not tell of itself"
                    );
                    if service.0 == "warrant-broker" {
                        let rows = rows
                            .lines()
                            .map(|row| serde_json::from_str::<Value>(row).unwrap());
                        let held: BTreeSet<i64> =
                            rows.filter_map(|row| row["job_id"].as_i64()).collect();
                        assert!(
                            held.is_superset(&before),
                            "jobs are missing in {}",
                            copy.display()
                        );
                    }
                }
            }
        }));
        stop.store(true, Ordering::Relaxed);
        clients
            .into_iter()
            .for_each(|client| client.join().unwrap());
        checked.unwrap();
    });
    assert!(!names(&dir).iter().any(|name| name.ends_with(".partial")));
    house.close();
}

#[test]
fn a_backup_that_is_killed_leaves_no_file_that_looks_like_one() {
    let house = House::open();
    let ann = house.user("ann");
    ann.finished(ann.submit("true"));
    // So much that a copy takes a while.
    let url = format!("sqlite:{}", house.path("state/broker.db").display());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut conn = SqliteConnection::connect(&url).await.unwrap();
        for sql in [
            "pragma busy_timeout = 10000",
            "create table ballast (bytes blob)",
            "insert into ballast with recursive n (i) as (select 1 union all select i + 1 from n where i < 400)
             select randomblob(100000) from n",
        ] {
            sqlx::query(sql).execute(&mut conn).await.unwrap();
        }
        conn.close().await.unwrap();
    });
    let dir = house.path("backups");
    fs::create_dir(&dir).unwrap();
    let copy = dir.join("jobs");
    let words = [&["backup", copy.to_str().unwrap()][..], &NONE].concat();
    let mut killed = 0;
    for number in 0..25 {
        let _ = fs::remove_file(&copy);
        let log = house.path("backup.log");
        let mut backup = Service::start("warrant-broker", &words, &house.variables(), &log);
        // From "has hardly begun" on: the moment is what this test is about.
        let moment = Duration::from_millis(8 * number);
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until_within(moment, "the backup", || backup.ended());
        }));
        if ended.is_err() {
            backup.kill();
        }
        if copy.exists() {
            audit(&house, SERVICES[1], &copy, "verify");
            assert!(fs::metadata(&copy).unwrap().len() > 40_000_000);
            for beside in ["jobs-wal", "jobs-shm"] {
                let _ = fs::remove_file(dir.join(beside));
            }
        } else {
            killed += 1;
            for name in names(&dir) {
                let mode = fs::metadata(dir.join(&name)).unwrap().mode() & 0o7777;
                assert_eq!(mode, 0o600, "{name}");
            }
        }
    }
    assert!(killed > 0, "every backup was faster than its end");
    // What was left behind is no hindrance, and is gone in the end.
    let _ = fs::remove_file(&copy);
    let (done, said) = back_up(&house, "warrant-broker", &copy);
    assert!(done, "{said}");
    audit(&house, SERVICES[1], &copy, "verify");
    assert!(
        !names(&dir).iter().any(|name| name.contains("partial")),
        "{:?}",
        names(&dir)
    );
    assert_eq!(ann.finished(ann.submit("true"))["result"], "COMPLETED");
    house.close();
}

#[test]
fn a_place_that_is_a_link_or_is_missing_is_not_written_to() {
    let house = House::open();
    let dir = house.path("backups");
    fs::create_dir(&dir).unwrap();
    let target = dir.join("target");
    fs::write(&target, "kept").unwrap();
    for name in ["copy", ".other.partial"] {
        std::os::unix::fs::symlink(&target, dir.join(name)).unwrap();
    }
    for name in ["copy", "other", "none/copy", ".."] {
        let (done, said) = back_up(&house, "warrant-authsvc", &dir.join(name));
        assert!(!done, "{name}: {said}");
    }
    assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
    house.close();
}

/// Put copies in the place of the databases, as docs/BACKUP.md says.
fn restore(house: &House, dir: &Path) {
    for (name, program) in [
        ("auth.db", "warrant-authsvc"),
        ("broker.db", "warrant-broker"),
    ] {
        for file in [
            name.to_owned(),
            format!("{name}-wal"),
            format!("{name}-shm"),
        ] {
            let _ = fs::remove_file(house.path("state").join(file));
        }
        fs::copy(dir.join(program), house.path("state").join(name)).unwrap();
    }
    fs::remove_dir_all(house.path("state/spool")).unwrap();
}

fn refresh(house: &House, token: &str) -> warrant_tests::Answer {
    let form = format!("grant_type=refresh_token&client_id=warrant&refresh_token={token}");
    house.nobody().post_form("/oauth/token", &form)
}

fn status(user: &Flux) -> u16 {
    user.try_send(&Method::GET, "/v1/jobs", &[], b"")
        .unwrap()
        .status
}

#[test]
fn t105_what_was_revoked_after_a_backup_is_ended_again_by_the_steps_of_the_manual() {
    let mut house = House::open();
    let (ann, bob) = (house.user("ann"), house.user("bob"));
    let job = ann.submit("echo kept");
    ann.finished(job);
    let new = json!({"label": "nightly"});
    let made = ann.create_key("ann", &House::password("ann"), &new).json();
    let key = ann.with_token(made["key"].as_str().unwrap());
    assert_eq!(status(&key), 200);
    let form = format!(
        "grant_type=password&client_id=warrant&username=ann&password={}",
        House::password("ann")
    );
    let tokens = house.nobody().post_form("/oauth/token", &form).with(200);
    let session = ann.with_token(tokens["access_token"].as_str().unwrap());
    let renewal = tokens["refresh_token"].as_str().unwrap();

    let dir = house.path("backups");
    fs::create_dir(&dir).unwrap();
    for (program, _) in SERVICES {
        let (done, said) = back_up(&house, program, &dir.join(program));
        assert!(done, "{said}");
    }

    // Then all of it ends, and a user comes of whom the backup knows nothing.
    house.authsvc_command(&["key", "revoke", made["id"].as_str().unwrap()], "");
    house.authsvc_command(&["session", "end", "--user", "ann"], "");
    house.authsvc_command(&["user", "disable", "bob"], "");
    let carl = house.user("carl");
    house.authsvc_command(&["session", "end", "--user", "carl"], "");
    let later = house.login("ann").submit("true");
    for user in [&key, &session, &ann, &bob, &carl] {
        until_within(Duration::from_secs(30), "it to count no more", || {
            (status(user) == 401).then_some(())
        });
    }

    house.stop_broker();
    house.kill_authsvc();
    restore(&house, &dir);
    house.start_authsvc();
    house.start_broker();
    // The danger of which the manual tells: the backup knows of none of it.
    for user in [&key, &session, &ann, &bob, &carl] {
        assert_eq!(status(user), 200);
    }

    // The steps of the manual, before anybody is served.
    house.stop_broker();
    house.kill_authsvc();
    restore(&house, &dir);
    house.authsvc_command(&["session", "end", "--all"], "");
    house.authsvc_command(&["key", "revoke", "--all"], "");
    fs::remove_dir_all(house.path("keys")).unwrap();
    let skipped = house.command("warrant-broker", &[&["skip-ids"][..], &NONE].concat());
    assert!(skipped.status.success());
    house.start_authsvc();
    house.start_broker();
    for user in [&key, &session, &ann, &bob, &carl] {
        assert_eq!(status(user), 401);
    }
    assert_eq!(refresh(&house, renewal).status, 400);
    for (program, _) in SERVICES {
        house.audit(program);
    }
    let ann = house.login("ann");
    assert_eq!(ann.info(job)["result"], "COMPLETED");
    assert!(ann.submit("true") > later + 900_000, "an id is given again");
    house.close();
}
