//! Two servers on one database.

use std::fs;
use std::path::Path;

use warrant_tests::house::{ADMIN, ADMIN_PASSWORD, SECRET};
use warrant_tests::{House, handshake, on_each_database};

const OTHERS: &str = "the database belongs to another";

/// The variables of a second server, with directories of its own.
fn second(house: &House) -> Vec<(&'static str, String)> {
    let at = |name: &str| house.path(name).to_str().unwrap().to_owned();
    vec![
        ("AUTHSVC__KEYS__DIR", at("second-keys")),
        ("AUTHSVC__LISTEN__SOCKET", at("run/second.sock")),
        ("BROKER__AUTH__SOCKET", at("run/second.sock")),
        ("BROKER__SPOOL__DIR", at("second-spool")),
        ("BROKER__LISTEN__ADDRESS_FILE", at("run/second-address")),
        ("FLUX_TOKEN", "canary-password-of-the-second-server".into()),
    ]
}

fn refusal(house: &House, name: &str, changes: &[(&'static str, String)]) -> String {
    let changes: Vec<_> = changes
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    house.refusal(name, &changes)
}

fn copy_dir(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status();
    assert!(status.unwrap().success());
}

/// The superuser's password is still the first server's.
fn assert_first_password(house: &House) {
    let payload = handshake::payload(ADMIN, ADMIN_PASSWORD, SECRET);
    assert_eq!(house.exchange(&payload).status, 200);
}

on_each_database! {
    fn t135_a_second_server_on_the_database_refuses_and_changes_nothing(setup: Setup) {
        let mut house: House = setup.cores(1).open();
        let ann = house.user("ann");
        let gate = house.path("gate");
        let runs = ann.submit_script(&format!(
            "echo begun; until [ -e {} ]; do sleep 0.01; done", gate.display()
        ));
        ann.first_output(runs);
        let waits = ann.submit("echo waited");
        let second = second(&house);
        for running in [true, false] {
            if !running {
                house.stop_broker();
                house.kill_authsvc();
            }
            for name in ["warrant-authsvc", "warrant-broker"] {
                let said = refusal(&house, name, &second);
                assert!(said.contains(OTHERS), "{said}");
                for part in ["a database of its own", &format!("`{name} take-over`")] {
                    assert!(said.contains(part), "{part}: {said}");
                }
            }
        }
        house.start_authsvc();
        house.start_broker();
        assert_first_password(&house);
        // What runs and waits is the first one's still.
        let ann = house.login("ann");
        ann.wait_until(runs, "RUN");
        fs::write(&gate, "").unwrap();
        assert_eq!(ann.finished(runs)["result"], "COMPLETED");
        ann.finished(waits);
        assert_eq!(ann.output(waits), ["waited\n"]);
        house.close();
    }

    fn t135_a_killed_server_starts_again_and_so_does_one_whose_directories_moved(setup: Setup) {
        let mut house: House = setup.open();
        let ann = house.user("ann");
        let gate = house.path("gate");
        let runs = ann.submit_script(&format!(
            "echo begun; until [ -e {} ]; do sleep 0.01; done; exit 3", gate.display()
        ));
        ann.first_output(runs);
        for _ in 0..3 {
            house.kill_broker();
            house.kill_authsvc();
            house.start_authsvc();
            house.start_broker();
        }
        house.stop_broker();
        house.kill_authsvc();
        for (name, moved, variable) in [
            ("state/spool", "moved-spool", "BROKER__SPOOL__DIR"),
            ("keys", "moved-keys", "AUTHSVC__KEYS__DIR"),
        ] {
            let moved = house.path(moved);
            fs::rename(house.path(name), &moved).unwrap();
            house.set(variable, moved.to_str().unwrap());
        }
        house.start_authsvc();
        house.start_broker();
        let ann = house.login("ann");
        ann.wait_until(runs, "RUN");
        fs::write(&gate, "").unwrap();
        assert_eq!(ann.finished(runs)["returncode"], 3);
        house.close();
    }

    fn t135_a_copy_of_a_servers_directories_does_not_serve_beside_it(setup: Setup) {
        let house: House = setup.open();
        let second = second(&house);
        copy_dir(&house.path("state/spool"), &house.path("second-spool"));
        copy_dir(&house.path("keys"), &house.path("second-keys"));
        for name in ["warrant-authsvc", "warrant-broker"] {
            let said = refusal(&house, name, &second);
            assert!(said.contains("serves the database now"), "{said}");
        }
        assert_first_password(&house);
        house.close();
    }

    fn t135_a_server_that_is_gone_for_good_is_replaced_by_command(setup: Setup) {
        let mut house: House = setup.open();
        let ann = house.user("ann");
        let gate = house.path("gate");
        let runs = ann.submit_script(&format!(
            "echo begun; until [ -e {} ]; do sleep 0.01; done", gate.display()
        ));
        ann.first_output(runs);
        let over = ann.submit("true");
        ann.finished(over);
        let words = ["take-over", "--config", "/nonexistent/none.toml"];
        for name in ["warrant-broker", "warrant-authsvc"] {
            let while_it_serves = house.command(name, &words);
            assert!(!while_it_serves.status.success());
        }
        house.kill_broker();
        house.kill_authsvc();
        for (name, value) in second(&house) {
            if !name.contains("FLUX_TOKEN") && !name.contains("SOCKET") && !name.contains("ADDRESS") {
                house.set(name, &value);
            }
        }
        for name in ["warrant-broker", "warrant-authsvc"] {
            let said = house.refusal(name, &[]);
            assert!(said.contains(OTHERS), "{said}");
            let done = house.command(name, &words);
            assert!(done.status.success(), "{done:?}");
        }
        house.start_authsvc();
        house.start_broker();
        // Nobody can tell what became of what ran at the other.
        let ann = house.login("ann");
        let info = ann.finished(runs);
        assert_eq!(info["result"], "FAILED", "{info}");
        assert_eq!(ann.info(over)["result"], "COMPLETED");
        let next = ann.submit("echo next");
        ann.finished(next);
        assert_eq!(ann.output(next), ["next\n"]);
        // The first one does not come back.
        let first = house.path("state/spool").to_str().unwrap().to_owned();
        let said = house.refusal("warrant-broker", &[("BROKER__SPOOL__DIR", &first)]);
        assert!(said.contains(OTHERS) || said.contains("serves"), "{said}");
        fs::write(&gate, "").unwrap();
        house.close();
    }
}
