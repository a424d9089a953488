//! A new or restored database over an old spool and journal, where jobs run as
//! the users who ask for them.

use std::fs;
use std::os::unix::fs::chown;

use warrant_tests::database::execute;
use warrant_tests::village::{ALICE, BOB, BROKER};
use warrant_tests::{Database, Flux, Plan, Village};

use crate::stores::earlier::{EARLIER, gated, turn_back};
use crate::stores::spools::remove;

const FOREIGN: &str = "belongs to another job store";

/// A village in which alice has a secret in the output of her first job.
fn with_a_secret(plan: Plan) -> Option<(Village, Flux, i64)> {
    let village = plan.open()?;
    let alice = village.user(ALICE);
    let secret = alice.submit("echo alices secret");
    alice.finished(secret);
    assert_eq!(alice.output(secret), ["alices secret\n"]);
    Some((village, alice, secret))
}

/// Bob submits jobs until there is none that he could mistake for alice's.
fn bob_sees_his_own_output(village: &Village, last: i64) {
    let bob = village.user(BOB);
    for _ in 0..3 {
        let job = bob.submit("id -un");
        assert!(job > last, "id {job} is given again after {last}");
        assert_eq!(bob.finished(job)["result"], "COMPLETED");
        assert_eq!(bob.output(job), ["bob\n"]);
    }
}

fn start_anew_as_told(village: &mut Village) {
    let said = village.broker_refusal();
    for part in [FOREIGN, "forget-store --policy", "database.url", "backup"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (done, said) = village.shim_command("forget-store");
    assert!(!done && said.contains("another monitor"), "{said}");
    village.stop_shim();
    let (done, said) = village.shim_command("forget-store");
    assert!(done, "{said}");
    village.start_shim();
    village.start_broker();
}

#[test]
fn t121_a_removed_database_shows_no_user_what_another_ones_job_wrote() {
    let Some((mut village, _, secret)) = with_a_secret(Plan::default()) else {
        return;
    };
    village.kill_broker();
    remove(&format!(
        "sqlite:{}",
        village.path("broker/broker.db").display()
    ));
    start_anew_as_told(&mut village);
    bob_sees_his_own_output(&village, secret);
    village.close();
}

#[test]
fn t121_postgresql_switched_on_shows_no_user_what_another_ones_job_wrote() {
    let Some(server) = Database::postgres() else {
        return;
    };
    let Some((mut village, _, secret)) = with_a_secret(Plan::default()) else {
        return;
    };
    village.kill_broker();
    let name = format!("warrant_switched_{}", std::process::id());
    let new = server.create(&village.path(""), &name);
    village.set("BROKER__DATABASE__URL", &new.broker);
    start_anew_as_told(&mut village);
    bob_sees_his_own_output(&village, secret);
    village.close();
}

#[test]
fn t121_a_restored_backup_older_than_the_spool_goes_on_above_its_ids() {
    let Some((mut village, alice, secret)) = with_a_secret(Plan::default()) else {
        return;
    };
    let copy = village.path("broker/copy.db");
    village.broker_command(&["backup", copy.to_str().unwrap()]);
    // Some run, one waits, and one has run to its end.
    let after: Vec<i64> = (0..70).map(|_| alice.submit("echo after")).collect();
    let last = *after.last().unwrap();
    alice.finished(last);
    village.kill_broker();
    let database = village.path("broker/broker.db");
    remove(&format!("sqlite:{}", database.display()));
    fs::copy(&copy, &database).unwrap();
    chown(&database, Some(BROKER.uid), Some(BROKER.uid)).unwrap();
    village.start_broker();
    let alice = village.login(ALICE);
    assert_eq!(alice.output(secret), ["alices secret\n"]);
    assert_eq!(alice.get(&format!("/v1/jobs/{last}")).status, 404);
    bob_sees_his_own_output(&village, last);
    village.close();
}

#[test]
fn t121_a_spool_of_the_version_before_is_adopted_with_a_job_that_runs() {
    let Some(mut village) = Plan::default().set("BROKER__ENGINE__CORES", "1").open() else {
        return;
    };
    let (alice, bob) = (village.user(ALICE), village.user(BOB));
    let over = alice.submit("id -un");
    alice.finished(over);
    let gate = village.path("gate");
    let runs = alice.submit_script(&gated(&gate));
    alice.first_output(runs);
    village.kill_broker();
    village.stop_shim();
    let url = format!("sqlite:{}", village.path("broker/broker.db").display());
    execute(&url, EARLIER);
    turn_back(&village.path("spool"));
    // The journal of a version that knew no store, as far as one can make it.
    fs::remove_dir_all(village.path("shim")).unwrap();
    village.start_shim();
    village.start_broker();
    let alice = village.login(ALICE);
    alice.wait_until(runs, "RUN");
    assert_eq!(alice.output(over), ["alice\n"]);
    fs::write(&gate, "").unwrap();
    assert_eq!(alice.finished(runs)["returncode"], 3);
    assert_eq!(alice.output(runs), ["begun\n", "ended\n"]);
    let job = bob.submit("id -un");
    assert!(job > runs, "id {job} is given again");
    assert_eq!(bob.finished(job)["result"], "COMPLETED");
    assert_eq!(bob.output(job), ["bob\n"]);
    // Once: from now on the spool is that store's.
    village.kill_broker();
    remove(&url);
    let said = village.broker_refusal();
    assert!(said.contains(FOREIGN), "{said}");
}
