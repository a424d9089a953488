//! A new or restored database over an old spool, where jobs run as the server.

use std::fs;
use std::path::Path;

use warrant_tests::database::{Created, Database, execute};
use warrant_tests::{House, on_each_database};

const FOREIGN: &str = "belongs to another job store";

/// Remove a SQLite database with the files beside it.
pub(crate) fn remove(url: &str) {
    let path = url.strip_prefix("sqlite:").unwrap();
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{path}{end}"));
    }
}

/// A new, empty database of the sort of this one.
pub(super) fn another(url: &str, dir: &Path, name: &str) -> Created {
    match url.strip_prefix("sqlite:") {
        Some(_) => {
            let dir = dir.join(name);
            fs::create_dir(&dir).unwrap();
            Database::Sqlite.create(&dir, name)
        }
        None => {
            let name = format!("{}_{name}", url.rsplit('/').next().unwrap());
            Database::postgres().unwrap().create(dir, &name)
        }
    }
}

/// Have the shim forget whose the house's spool is.
fn forget(house: &House) -> String {
    let spool = house.path("state/spool");
    let words = ["forget-store", "--spool", spool.to_str().unwrap()];
    let output = house.command("warrant-shim", &words);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert!(output.status.success(), "{said}");
    said
}

on_each_database! {
    fn t121_a_new_database_over_an_old_spool_is_refused_and_told_what_to_do(setup: Setup) {
        let mut house = setup.open();
        let ann = house.user("ann");
        let first = ann.submit("echo first");
        ann.finished(first);
        house.stop_broker();
        let old = house.broker_database().to_owned();
        let new = another(&old, &house.path(""), "new");
        let change = [("BROKER__DATABASE__URL", new.broker.as_str())];
        let said = house.refusal("warrant-broker", &change);
        let spool = house.path("state/spool").display().to_string();
        for part in [FOREIGN, "database.url", "forget-store", &spool] {
            assert!(said.contains(part), "{part}: {said}");
        }
        // Nothing has changed: the old one goes on.
        house.start_broker();
        assert_eq!(ann.output(first), ["first\n"]);
        house.stop_broker();

        // The way that it names: jobs of the old store are gone, their ids used.
        let said = forget(&house);
        assert!(said.contains("numbers above"), "{said}");
        house.set("BROKER__DATABASE__URL", &new.broker);
        house.start_broker();
        let ann = house.login("ann");
        assert!(ann.list().is_empty());
        let next = ann.submit("echo next");
        assert!(next > first, "id {next} is given again");
        assert_eq!(ann.finished(next)["result"], "COMPLETED");
        assert_eq!(ann.output(next), ["next\n"]);
        house.stop_broker();
        // And the spool is the new one's alone.
        let said = house.refusal("warrant-broker", &[("BROKER__DATABASE__URL", old.as_str())]);
        assert!(said.contains(FOREIGN), "{said}");
        house.start_broker();
        house.close();
    }

    fn t121_a_restored_copy_of_the_store_goes_on_above_the_ids_of_its_spool(setup: Setup) {
        let mut house = setup.open();
        let ann = house.user("ann");
        let before = ann.submit("echo before");
        ann.finished(before);
        let copy = copied(&mut house);
        // More than one block of ids.
        let after: Vec<i64> = (0..70).map(|_| ann.submit("echo after")).collect();
        let last = *after.last().unwrap();
        ann.finished(last);
        house.stop_broker();

        house.set("BROKER__DATABASE__URL", &copy.broker);
        house.start_broker();
        let ann = house.login("ann");
        assert_eq!(ann.output(before), ["before\n"]);
        assert_eq!(ann.get(&format!("/v1/jobs/{last}")).status, 404);
        let next = ann.submit("echo next");
        assert!(next > last, "id {next} is given again after {last}");
        assert_eq!(ann.finished(next)["result"], "COMPLETED");
        assert_eq!(ann.output(next), ["next\n"]);
        // A start without a restore skips no more than the rest of a block.
        house.kill_broker();
        house.start_broker();
        let ann = house.login("ann");
        let later = ann.submit("true");
        assert!(later > next && later <= next + 64, "{next}, {later}");
        house.close();
    }

    fn t121_ids_are_not_given_again_where_the_files_of_the_last_jobs_are_gone(setup: Setup) {
        let mut house = setup.open();
        let ann = house.user("ann");
        let copy = copied(&mut house);
        let used = ann.submit("echo used");
        ann.finished(used);
        house.stop_broker();
        fs::remove_dir_all(house.path("state/spool/0")).unwrap();
        house.set("BROKER__DATABASE__URL", &copy.broker);
        house.start_broker();
        let next = house.login("ann").submit("true");
        assert!(next > used, "id {next} is given again");
        house.close();
    }
}

/// A copy of the broker's database as it is now.
fn copied(house: &mut House) -> Created {
    house.stop_broker();
    // It may have its users there.
    house.kill_authsvc();
    let copy = copy(house.broker_database(), &house.path(""));
    house.start_authsvc();
    house.start_broker();
    copy
}

/// A copy of a database that nobody uses.
fn copy(url: &str, dir: &Path) -> Created {
    let copy = another(url, dir, "copy");
    match (
        url.strip_prefix("sqlite:"),
        copy.broker.strip_prefix("sqlite:"),
    ) {
        (Some(from), Some(to)) => {
            execute(url, "pragma wal_checkpoint(truncate)");
            fs::copy(from, to).unwrap();
        }
        _ => {
            let (server, name) = copy.broker.rsplit_once('/').unwrap();
            let from = url.rsplit('/').next().unwrap();
            let server = format!("{server}/postgres");
            execute(&server, &format!("drop database {name}"));
            execute(&server, &format!("create database {name} template {from}"));
        }
    }
    copy
}

#[test]
fn t121_a_store_whose_file_was_removed_does_not_take_up_the_spool() {
    let mut house = House::open();
    let ann = house.user("ann");
    let job = ann.submit("echo theirs");
    ann.finished(job);
    house.stop_broker();
    remove(house.broker_database());
    let said = house.refusal("warrant-broker", &[]);
    assert!(said.contains(FOREIGN) && said.contains("backup"), "{said}");
    // Asked again, the answer is the same.
    let said = house.refusal("warrant-broker", &[]);
    assert!(said.contains(FOREIGN), "{said}");
    // Without the old spool there is nothing to mix up.
    fs::remove_dir_all(house.path("state/spool")).unwrap();
    house.start_broker();
    let ann = house.login("ann");
    let job = ann.submit("echo ours");
    ann.finished(job);
    assert_eq!(ann.output(job), ["ours\n"]);
    house.close();
}

#[test]
fn t121_postgresql_switched_on_over_the_spool_of_sqlite_is_refused() {
    let Some(server) = Database::postgres() else {
        return;
    };
    let mut house = House::open();
    let ann = house.user("ann");
    ann.finished(ann.submit("echo theirs"));
    house.stop_broker();
    let name = format!("warrant_switched_{}", std::process::id());
    let new = server.create(&house.path(""), &name);
    let change = [("BROKER__DATABASE__URL", new.broker.as_str())];
    let said = house.refusal("warrant-broker", &change);
    assert!(said.contains(FOREIGN), "{said}");
    house.start_broker();
    house.close();
}

#[test]
fn t121_output_under_a_jobs_number_that_is_another_jobs_is_not_shown() {
    let mut house = House::open();
    let ann = house.user("ann");
    let [mine, other] = ["mine", "other"].map(|word| ann.submit(&format!("echo {word}")));
    for job in [mine, other] {
        ann.finished(job);
    }
    house.stop_broker();
    // As if the spool were another one.
    let file = |job: i64, end: &str| house.path(&format!("state/spool/0/{job}.0.1.{end}"));
    for end in ["run", "out", "idx"] {
        fs::copy(file(other, end), file(mine, end)).unwrap();
    }
    house.start_broker();
    let ann = house.login("ann");
    assert_eq!(ann.output(other), ["other\n"]);
    let answer = ann.get(&format!("/v1/jobs/{mine}/output"));
    assert!(!answer.text().contains("other"), "{}", answer.text());
    let stream = ann.stream(mine, 0).rest();
    assert!(!stream.contains("other"), "{stream}");
    house.close();
}
