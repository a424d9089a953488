//! Who obtains the warrants that jobs run by.

use serde_json::{Value, json};
use warrant_tests::ports::free_address;
use warrant_tests::service::Service;
use warrant_tests::village::{ALICE, BOB};
use warrant_tests::wait::until;
use warrant_tests::{Flux, Plan, Village};

use super::rotation::{kid, publish, signing};

/// What a token exchange asks for. Source: RFC 8693 §2.1.
fn exchange(token: &str, job_sha256: &str) -> String {
    [
        (
            "grant_type",
            "urn:ietf:params:oauth:grant-type:token-exchange",
        ),
        ("subject_token", token),
        (
            "subject_token_type",
            "urn:ietf:params:oauth:token-type:access_token",
        ),
        (
            "requested_token_type",
            "urn:warrant:params:oauth:token-type:warrant",
        ),
        ("audience", "local"),
        ("job_sha256", job_sha256),
    ]
    .map(|(name, value)| format!("{name}={value}"))
    .join("&")
}

/// A village where people obtain their warrants themselves, and the auth
/// service as they reach it.
fn client_only() -> Option<(Village, Flux)> {
    client_only_with("any")
}

/// The same, where whoever obtains a warrant must prove so much.
fn client_only_with(proof: &str) -> Option<(Village, Flux)> {
    let direct = free_address();
    let village = Plan::default()
        .set("AUTHSVC__WARRANTS__MODE", "client")
        .set("BROKER__SHIM__WARRANTS", "client")
        .set("AUTHSVC__LISTEN__TCP", &direct.to_string())
        .set("AUTHSVC__OAUTH__URL", &format!("http://{direct}"))
        .set("AUTHSVC__WARRANTS__PROOF", proof)
        .open()?;
    let address = warrant_tests::flux::Address::unknown();
    address.set(direct);
    Some((village, Flux::new(address, None)))
}

fn own_token(auth: &Flux, account: warrant_tests::Account) -> String {
    let form = format!(
        "username={}&password={}&audience=warrant-authsvc",
        account.name,
        Village::password(account)
    );
    let answer = auth.post_form("/v1/login/access-token", &form).with(200);
    answer["access_token"].as_str().unwrap().to_owned()
}

fn submit_with(user: &Flux, body: &Value, warrant: &str) -> warrant_tests::Answer {
    let head = [("content-type", "application/json"), ("warrant", warrant)];
    user.send(
        &ureq::http::Method::POST,
        "/v1/jobs/submit",
        &head,
        body.to_string().as_bytes(),
    )
}

#[test]
fn in_client_only_mode_a_job_runs_by_the_warrant_of_its_user_alone() {
    let Some((village, auth)) = client_only() else {
        return;
    };
    let (alice, bob) = (village.user(ALICE), village.user(BOB));
    let body = json!({"command": "id -un"});
    let needs = alice.post_json("/v1/jobs/submit", &body).with(428);
    let hash = needs["job_sha256"].as_str().unwrap();

    // What the broker holds is not enough.
    let refused = auth.post_form("/oauth/token", &exchange(alice.token(), hash));
    assert_eq!(refused.status, 400, "{}", refused.text());

    let token = own_token(&auth, ALICE);
    let granted = auth
        .post_form("/oauth/token", &exchange(&token, hash))
        .with(200);
    let warrant = granted["access_token"].as_str().unwrap();
    let job = submit_with(&alice, &body, warrant).with(200)["id"]
        .as_i64()
        .unwrap();
    alice.finished(job);
    assert_eq!(alice.output(job), ["alice\n"]);

    // It was good for one job, and for this one.
    let again = submit_with(&alice, &body, warrant);
    assert_eq!(again.status, 403, "{}", again.text());
    let other = auth
        .post_form("/oauth/token", &exchange(&token, hash))
        .with(200);
    let other = other["access_token"].as_str().unwrap();
    let changed = submit_with(&alice, &json!({"command": "id -u"}), other);
    assert_eq!(changed.status, 403, "{}", changed.text());

    // Whose job it is, the warrant says, not who brings it.
    let stolen = submit_with(&bob, &body, other);
    assert_eq!(stolen.status, 403, "{}", stolen.text());
    assert_eq!(bob.list().len(), 0);
    village.close();
}

#[test]
fn the_command_looks_at_what_it_signs_for_and_signs_by_itself() {
    let Some((village, auth)) = client_only() else {
        return;
    };
    signs_by_itself(&village, &auth);
    village.close();
}

#[test]
fn t16_where_keys_must_be_held_the_command_holds_one_and_a_stolen_token_gets_no_warrant() {
    let Some((village, auth)) = client_only_with("dpop") else {
        return;
    };
    signs_by_itself(&village, &auth);
    let stolen = own_token(&auth, ALICE);
    let refused = auth.post_form("/oauth/token", &exchange(&stolen, &"0".repeat(64)));
    let refused = refused.with(400);
    assert_eq!(refused["error"], "invalid_dpop_proof", "{refused}");
    village.close();
}

#[test]
fn in_client_only_mode_a_login_by_a_code_gets_warrants_without_a_password() {
    let Some((village, auth)) = client_only_with("dpop") else {
        return;
    };
    let _ = village.user(ALICE);
    let url = |flux: &Flux| format!("http://{}", flux.address());
    let variables = [
        ("PATH", "/usr/bin:/bin"),
        ("HOME", village.path("home/alice").to_str().unwrap()),
        ("FLUX_RESTFUL_HOST", &url(&village.nobody())),
        ("WARRANT_AUTH_HOST", &url(&auth)),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    let log = village.path("login.log");
    let mut login = Service::start("warrant", &["login", "--device"], &variables, &log);
    let is_code = |word: &&str| word.len() == 9 && word.as_bytes()[4] == b'-';
    let code = until("a code", || {
        let log = login.log();
        log.split_whitespace().find(is_code).map(str::to_owned)
    });
    let decided = json!({"user_code": code, "decision": "approve"});
    let alice = auth.with_token(&own_token(&auth, ALICE));
    alice.post_json("/oauth/device", &decided).with(200);
    assert!(login.wait().success(), "{}", login.log());
    for _ in 0..2 {
        let words = ["submit", "--wait", "--", "id", "-un"];
        let output = warrant_tests::service::run("warrant", &words, &variables, "");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{complaint}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "alice\n");
    }
    village.close();
}

fn signs_by_itself(village: &Village, auth: &Flux) {
    let _ = village.user(ALICE);
    let url = |flux: &Flux| format!("http://{}", flux.address());
    let home = village.path("home/alice");
    let variables = [
        ("PATH", "/usr/bin:/bin"),
        ("HOME", home.to_str().unwrap()),
        ("FLUX_RESTFUL_HOST", &url(&village.nobody())),
        ("WARRANT_AUTH_HOST", &url(auth)),
        ("FLUX_USER", "alice"),
        ("FLUX_TOKEN", &Village::password(ALICE)),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    let words = [
        "submit",
        "--wait",
        "-e",
        "A=b c",
        "--",
        "sh",
        "-c",
        "id -un; echo $A",
    ];
    let output = warrant_tests::service::run("warrant", &words, &variables, "");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "alice\nb c\n");
}

#[test]
fn t26_a_retired_key_signs_no_warrant_any_more_and_lets_none_in_that_it_signed() {
    let Some((village, auth)) = client_only() else {
        return;
    };
    let alice = village.user(ALICE);
    let body = json!({"command": "id -un"});
    let needs = alice.post_json("/v1/jobs/submit", &body).with(428);
    let hash = needs["job_sha256"].as_str().unwrap();
    let token = own_token(&auth, ALICE);
    let obtain = || {
        let granted = auth.post_form("/oauth/token", &exchange(&token, hash));
        granted.with(200)["access_token"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let first = signing(&village, &["--warrant"]);
    // Alive for a minute yet, and good as long as their key is.
    let old: Vec<_> = (0..40).map(|_| obtain()).collect();
    assert!(old.iter().all(|warrant| kid(warrant) == first));
    let mut old = old.iter();
    submit_with(&alice, &body, old.next().unwrap()).with(200);

    village.authsvc_command(&["keys", "rotate", "--warrant", "--now"], "");
    let second = until("another key to sign", || {
        Some(signing(&village, &["--warrant"])).filter(|now| *now != first)
    });
    publish(&village);
    until("the new key to sign", || {
        (kid(&obtain()) == second).then_some(())
    });
    village.authsvc_command(&["keys", "retire", &first, "--warrant"], "");
    publish(&village);
    until("the old key to count no more", || {
        let answer = submit_with(&alice, &body, old.next().unwrap());
        (answer.status == 403).then_some(())
    });
    for warrant in old.take(3) {
        let answer = submit_with(&alice, &body, warrant);
        assert_eq!(answer.status, 403, "{}", answer.text());
    }
    for _ in 0..20 {
        assert_eq!(kid(&obtain()), second);
    }
    let job = submit_with(&alice, &body, &obtain()).with(200)["id"]
        .as_i64()
        .unwrap();
    alice.finished(job);
    assert_eq!(alice.output(job), ["alice\n"]);
    village.close();
}
