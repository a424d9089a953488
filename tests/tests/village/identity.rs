//! Who a job runs as, and who may see it.

use serde_json::json;
use warrant_tests::village::{ALICE, BOB, CAROL};
use warrant_tests::{Plan, Village};

#[test]
fn a_job_runs_as_the_user_who_asked_for_it() {
    let Some(village) = Village::open() else {
        return;
    };
    for account in [ALICE, BOB] {
        let user = village.user(account);
        let job = user
            .submit_script("id -u; id -g; id -G; id -un; pwd; echo $HOME $USER $LOGNAME; umask");
        let info = user.finished(job);
        assert_eq!(info["result"], "COMPLETED", "{info}");
        let (uid, name) = (account.uid, account.name);
        let expected = format!(
            "{uid}\n{uid}\n{uid}\n{name}\n/srv/home/{name}\n/srv/home/{name} {name} {name}\n0077\n"
        );
        assert_eq!(user.output(job).concat(), expected);
        assert_eq!(info["userid"], uid);
    }
    village.close();
}

#[test]
fn nobody_learns_of_anybody_elses_jobs() {
    let Some(village) = Village::open() else {
        return;
    };
    let (alice, bob, carol) = (village.user(ALICE), village.user(BOB), village.user(CAROL));
    let job = alice.submit("echo private");
    alice.finished(job);
    let unknown = job + 1_000_000;
    assert_eq!(bob.get(&format!("/v1/jobs/{job}")).status, 404);
    for route in ["", "/output", "/output/stream"] {
        let path = |id: i64| format!("/v1/jobs/{id}{route}");
        let foreign = bob.get(&path(job));
        let missing = bob.get(&path(unknown));
        assert_eq!(foreign.status, missing.status, "{route}");
        assert_eq!(
            foreign.text().replace(&job.to_string(), "N"),
            missing.text().replace(&unknown.to_string(), "N"),
            "{route}"
        );
    }
    let cancelled = bob.cancel(job);
    assert_eq!(cancelled.status, bob.cancel(unknown).status);
    assert_eq!(bob.get("/v1/jobs").with(200), json!({"jobs": []}));
    assert_eq!(bob.list().len(), 0);
    let found = bob
        .get("/v1/jobs/search?search=private&start=0&length=25")
        .with(200);
    assert_eq!(found["recordsTotal"], 0, "{found}");
    assert_eq!(carol.list().len(), 1);
    assert_eq!(carol.output(job), ["private\n"]);
    village.close();
}

#[test]
fn an_account_outside_the_range_is_refused_by_the_shim_whatever_the_auth_service_says() {
    let narrow = format!("max_uid = {}", ALICE.uid);
    let Some(village) = Plan::default().policy(&narrow).open() else {
        return;
    };
    let (alice, bob) = (village.user(ALICE), village.user(BOB));
    let job = alice.submit("true");
    assert_eq!(alice.finished(job)["result"], "COMPLETED");
    let refused = bob.post_json("/v1/jobs/submit", &json!({"command": "true"}));
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(refused.text().contains("user id"), "{}", refused.text());
    // It was on its way to the record meanwhile: there it never ran.
    for job in bob.list() {
        let job = bob.info(job["id"].as_i64().unwrap());
        assert_eq!(job["result"], "CANCELED", "{job}");
        assert_eq!(job["t_run"].as_f64().unwrap_or(0.0), 0.0, "{job}");
    }
    let reason = if bob.list().is_empty() {
        "denied"
    } else {
        "not-admitted"
    };
    let rows = village.audit();
    let told: Vec<_> = rows
        .iter()
        .filter(|row| row["subject"] == BOB.name && row["outcome"] == "refused")
        .map(|row| (row["kind"].as_str(), row["reason"].as_str()))
        .collect();
    assert_eq!(told, [(Some("submit"), Some(reason))]);
    village.close();
}
