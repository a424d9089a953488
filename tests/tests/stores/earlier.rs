//! Stores, spools and journals of the version before there were identities.

use std::fs;
use std::path::Path;

use warrant_tests::database::execute;
use warrant_tests::{House, on_each_database};

use super::spools::another;

/// What a broker's database is without what this version adds.
pub(crate) const EARLIER: &str = "drop table job_store; alter table jobs drop column job_sha256; \
    delete from broker_migrations where version = 4";

/// Leave a spool as that version did: records without stamps, and nothing
/// about a store.
pub(crate) fn turn_back(spool: &Path) {
    fs::remove_file(spool.join("store")).unwrap();
    let buckets = fs::read_dir(spool).unwrap().flatten();
    for bucket in buckets.filter(|entry| entry.path().is_dir()) {
        for entry in fs::read_dir(bucket.path()).unwrap().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|end| end == "run") {
                let stamped = fs::read(&path).unwrap();
                if stamped.get(4) == Some(&2) {
                    let mut plain = stamped[..4].to_vec();
                    plain.extend([1, 0, 0, 0]);
                    plain.extend(&stamped[44..]);
                    plain.extend([0; 36]);
                    assert_eq!(plain.len(), stamped.len());
                    fs::write(&path, plain).unwrap();
                }
            }
        }
    }
}

pub(crate) fn gated(gate: &Path) -> String {
    format!(
        "echo begun; until [ -e {} ]; do sleep 0.01; done; echo ended; exit 3",
        gate.display()
    )
}

on_each_database! {
    fn t121_a_store_and_spool_of_the_version_before_are_adopted_with_a_job_running(setup: Setup) {
        let mut house: House = setup.cores(1).open();
        let ann = house.user("ann");
        let over = ann.submit("echo over");
        ann.finished(over);
        let gate = house.path("gate");
        let runs = ann.submit_script(&gated(&gate));
        ann.first_output(runs);
        let waits = ann.submit("echo waited");
        house.kill_broker();
        let url = house.broker_database().to_owned();
        execute(&url, EARLIER);
        turn_back(&house.path("state/spool"));

        // A store that has nothing to do with the spool does not get it.
        let new = another(&url, &house.path(""), "new");
        let change = [("BROKER__DATABASE__URL", new.broker.as_str())];
        let said = house.refusal("warrant-broker", &change);
        assert!(said.contains("belongs to another database"), "{said}");

        house.start_broker();
        let ann = house.login("ann");
        ann.wait_until(runs, "RUN");
        assert_eq!(ann.output(over), ["over\n"]);
        fs::write(&gate, "").unwrap();
        assert_eq!(ann.finished(runs)["returncode"], 3);
        assert_eq!(ann.output(runs), ["begun\n", "ended\n"]);
        assert_eq!(ann.finished(waits)["result"], "COMPLETED");
        assert_eq!(ann.output(waits), ["waited\n"]);
        let next = ann.submit("echo next");
        assert!(next > waits);
        ann.finished(next);
        assert_eq!(ann.output(next), ["next\n"]);
        // Once: from now on the spool is that store's.
        house.stop_broker();
        let said = house.refusal("warrant-broker", &change);
        assert!(said.contains("belongs to another job store"), "{said}");
        house.start_broker();
        assert_eq!(house.login("ann").output(over), ["over\n"]);
        house.close();
    }
}
