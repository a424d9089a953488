//! Settings of a server whose jobs run as those who asked for them.

use serde_json::json;
use warrant_tests::village::{ALICE, BOB, CAROL, DAVE, OLGA};
use warrant_tests::{Flux, Plan};

fn role(user: &Flux) -> serde_json::Value {
    user.get("/v1/session").with(200)["role"].clone()
}

#[test]
fn what_the_services_and_the_shim_are_told_of_each_other_in_multi_user_mode() {
    let plan = Plan::default()
        .set("AUTHSVC__WARRANTS__AUDIENCES", "[\"other\", \"lab\"]")
        .set("BROKER__SHIM__AUDIENCE", "lab")
        .set("AUTHSVC__TOKENS__ISSUER", "lab-issuer")
        .set("AUTHSVC__ADMIN_GROUPS", "[\"dave\"]")
        .set("AUTHSVC__OPERATOR_GROUPS", "[\"olga\"]")
        .policy("audience = \"lab\"")
        .policy("issuer = \"lab-issuer\"");
    let Some(village) = plan.open() else {
        return;
    };
    let alice = village.user(ALICE);
    let job = alice.submit("true");
    assert_eq!(alice.finished(job)["result"], "COMPLETED");
    assert_eq!(role(&village.user(DAVE)), "administrator");
    assert_eq!(role(&village.user(OLGA)), "operator");
    assert_eq!(role(&alice), "user");
    village.close();
    // One of them is told otherwise than the others.
    for plan in [
        Plan::default().policy("audience = \"lab\""),
        Plan::default().policy("issuer = \"lab-issuer\""),
        Plan::default().set("BROKER__SHIM__AUDIENCE", "lab"),
    ] {
        let village = plan.open().unwrap();
        let alice = village.user(ALICE);
        let refused = alice.post_json("/v1/jobs/submit", &json!({"command": "true"}));
        assert_ne!(refused.status, 200, "{}", refused.text());
        village.close();
    }
}

#[test]
fn whose_jobs_run_in_multi_user_mode() {
    let plan = Plan::default()
        .set("AUTHSVC__ACCOUNTS__MIN_UID", &ALICE.uid.to_string())
        .set("AUTHSVC__ACCOUNTS__MAX_UID", &CAROL.uid.to_string())
        .policy("deny_users = [\"bob\"]");
    let Some(village) = plan.open() else {
        return;
    };
    let alice = village.user(ALICE);
    let job = alice.submit("true");
    assert_eq!(alice.finished(job)["result"], "COMPLETED");
    let bob = village.user(BOB);
    let refused = bob.submit("true");
    let refused = bob.finished(refused);
    assert_eq!(refused["result"], "FAILED", "{refused}");
    assert_eq!(
        refused["exception_note"],
        "the account may not run jobs here"
    );
    village.authsvc_command(&["user", "add", DAVE.name], "canary-password-of-dave");
    let form = "username=dave&password=canary-password-of-dave";
    let outside = village.nobody().post_form("/v1/login/access-token", form);
    assert_ne!(outside.status, 200, "dave's user id is above max_uid");
    village.close();
}

#[test]
fn what_jobs_get_in_multi_user_mode() {
    let plan = Plan::default()
        .policy("path = \"/bin:/lab/bin\"")
        .policy("umask = 0o027")
        .policy("max_processes = 2")
        .policy("max_time_s = 1")
        .policy("max_output_bytes = 1048576")
        .set("BROKER__ENGINE__OUTPUT_CAP_MIB", "1");
    let Some(village) = plan.open() else {
        return;
    };
    let alice = village.user(ALICE);
    let job = alice.submit_script("echo $PATH; umask");
    alice.finished(job);
    let lines = alice.output(job);
    assert_eq!(lines, ["/bin:/lab/bin\n", "0027\n"]);
    // Without a limit of its own, a job has that of the policy.
    let long = alice.submit("sleep 300");
    assert_eq!(alice.finished(long)["exception_type"], "timeout");
    let wide = alice.post_json(
        "/v1/jobs/submit",
        &json!({"command": "true", "num_tasks": 3}),
    );
    assert_ne!(wide.status, 200, "{}", wide.text());
    village.close();
    let plan = Plan::default().policy("max_output_bytes = 1024");
    let village = plan.open().unwrap();
    let alice = village.user(ALICE);
    let refused = alice.post_json("/v1/jobs/submit", &json!({"command": "true"}));
    assert_ne!(
        refused.status, 200,
        "the broker's cap is above the policy's"
    );
    village.close();
}
