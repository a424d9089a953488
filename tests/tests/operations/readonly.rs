//! Stores, spools and journals that cannot be written: seen before anybody is
//! told that the service is ready.

use std::fs;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use warrant_tests::database::Database;
use warrant_tests::disk::Disk;
use warrant_tests::house::Setup;
use warrant_tests::service::{self, Service};
use warrant_tests::wait::until;
use warrant_tests::{House, on_each_database};

const NONE: [&str; 2] = ["--config", "/nonexistent/none.toml"];

/// Make a disk read-only.
fn freeze(disk: &Path) {
    let none = None::<&str>;
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(none, disk, none, flags, none).unwrap();
}

/// `check-config` finds an error of `key`, and the start is refused with its name.
#[track_caller]
fn refuses(house: &House, program: &str, more: &[(&str, String)], key: &str) {
    let mut variables = house.variables();
    for (name, value) in more {
        variables.retain(|(known, _)| known != name);
        variables.push(((*name).to_owned(), value.clone()));
    }
    let checked = service::run(program, &["check-config", NONE[0], NONE[1]], &variables, "");
    let text = String::from_utf8(checked.stdout).unwrap();
    assert_eq!(checked.status.code(), Some(2), "{program}: {text}");
    let line = text.lines().find(|line| line.starts_with("error: "));
    assert!(line.unwrap().contains(key), "{program}: {text}");
    let log = house.path("refused.log");
    let _ = fs::remove_file(&log);
    let mut serving = Service::start(program, &["serve", NONE[0], NONE[1]], &variables, &log);
    let status = until("it to end by itself", || serving.ended());
    assert!(!status.success(), "{program}: {}", serving.log());
    assert!(serving.log().contains(key), "{program}: {}", serving.log());
    assert!(!serving.log().contains("serving"), "{}", serving.log());
}

#[test]
fn t132_a_service_whose_database_is_on_a_read_only_disk_does_not_start() {
    let Some(disk) = Disk::new(64) else { return };
    let at = |name: &str| format!("sqlite:{}/{name}", disk.path().display());
    let database = Database::At {
        authsvc: at("auth.db"),
        broker: at("broker.db"),
    };
    let mut house = Setup::on(database).open();
    house.kill_broker();
    house.kill_authsvc();
    freeze(disk.path());
    refuses(&house, "warrant-broker", &[], "database");
    refuses(&house, "warrant-authsvc", &[], "database");
}

#[test]
fn t132_a_broker_whose_spool_is_on_a_read_only_disk_does_not_start() {
    let Some(disk) = Disk::new(64) else { return };
    let mut house = House::open();
    house.kill_broker();
    let spool = disk.path().join("spool");
    fs::create_dir(&spool).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(&spool, private).unwrap();
    // As after a start that was good.
    fs::write(spool.join("lock"), "").unwrap();
    fs::write(spool.join("instance"), "here").unwrap();
    freeze(disk.path());
    let more = [("BROKER__SPOOL__DIR", spool.to_str().unwrap().to_owned())];
    refuses(&house, "warrant-broker", &more, "spool.dir");
}

on_each_database! {
    fn t132_what_is_written_to_see_that_it_can_be_is_taken_back(setup: Setup) {
        let mut house = setup.open();
        let job = house.admin().submit("true");
        house.admin().finished(job);
        for program in ["warrant-broker", "warrant-authsvc"] {
            house.command(program, &["check-config", NONE[0], NONE[1]]);
            house.audit(program);
        }
        if house.broker_database().starts_with("postgres") {
            let readonly = |url: &str| {
                format!("{url}?options=-c%20default_transaction_read_only%3Don")
            };
            house.kill_broker();
            let url = readonly(house.broker_database());
            refuses(&house, "warrant-broker", &[("BROKER__DATABASE__URL", url.clone())], "database");
            refuses(&house, "warrant-authsvc", &[("AUTHSVC__DATABASE__URL", url)], "database");
            house.start_broker();
        }
        house.close();
    }
}
