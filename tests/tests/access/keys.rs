//! API keys from end to end: made with the command line, used by a program,
//! revoked by their user and by an administrator.

use std::time::Duration;

use serde_json::{Value, json};
use ureq::http::Method;
use warrant_tests::wait::until_within;
use warrant_tests::{House, on_each_database, service};

/// Run `warrant` at the house, with these variables; its exit code and what
/// it prints.
fn warrant(house: &House, arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let mut all = vec![
        ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
        ("HOME".to_owned(), house.path("home").display().to_string()),
        (
            "FLUX_RESTFUL_HOST".to_owned(),
            format!("http://{}", house.nobody().address()),
        ),
    ];
    let given = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    all.extend(given);
    let output = service::run("warrant", arguments, &all, "");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(text).unwrap(),
    )
}

on_each_database! {
    fn a_key_is_made_used_listed_and_revoked(setup: Setup) {
        let house = setup.open();
        house.user("ann");
        let password = House::password("ann");
        let login = [("FLUX_USER", "ann"), ("FLUX_TOKEN", password.as_str())];
        let (code, key) = warrant(
            &house,
            &["keys", "create", "--scopes", "read,submit", "--days", "7", "nightly"],
            &login,
        );
        assert_eq!(code, 0, "{key}");
        let key = key.trim();
        assert!(key.starts_with("wrt_") && key.len() == 60, "{key}");
        let with_key = [("WARRANT_API_KEY", key)];
        let (code, job) = warrant(&house, &["submit", "echo", "hello"], &with_key);
        assert_eq!(code, 0, "{job}");
        let ann = house.login("ann");
        assert_eq!(ann.finished(job.trim().parse().unwrap())["result"], "COMPLETED");
        // It may not do what it was not made for, and makes no keys.
        let (code, text) = warrant(&house, &["cancel", job.trim()], &with_key);
        assert!(code == 1 && text.contains("scope control"), "{text}");
        let (code, text) = warrant(&house, &["keys", "create", "more"], &with_key);
        assert!(code == 1 && text.contains("password"), "{text}");
        let (_, list) = warrant(&house, &["--json", "keys", "list"], &login);
        let list: Value = serde_json::from_str(&list).unwrap();
        let listed = &list["keys"][0];
        assert_eq!(listed["label"], "nightly");
        assert_eq!(listed["scopes"], "read submit");
        assert_eq!(listed["last_used_from"], "127.0.0.1");
        assert!(!list.to_string().contains(key.get(20..).unwrap()));
        let id = listed["id"].as_str().unwrap().to_owned();
        assert_eq!(key.get(4..16), Some(id.as_str()));
        let (code, text) = warrant(&house, &["keys", "revoke", &id], &login);
        assert_eq!((code, text.as_str()), (0, "Revoked 1 key\n"));
        until_within(Duration::from_secs(30), "the key to count no more", || {
            let (code, _) = warrant(&house, &["nodes"], &with_key);
            (code == 1).then_some(())
        });
        let audit = house.authsvc_command(&["audit", "list", "--json"], "");
        for action in ["create", "exchange", "revoke"] {
            let told = format!("\"kind\":\"key\",\"action\":\"{action}\"");
            assert!(audit.contains(&told), "{action} is not in the audit trail");
        }
        assert!(!audit.contains(key.get(20..).unwrap()));
        house.close();
    }
}

#[test]
fn t110_the_keys_of_others_are_an_administrators() {
    let house = House::open();
    let (ann, bob, admin) = (house.user("ann"), house.user("bob"), house.admin());
    let new = json!({"label": "one"});
    let made = ann.create_key("ann", &House::password("ann"), &new);
    let made = made.with(201);
    let id = made["id"].as_str().unwrap();
    let path = format!("/v1/keys/{id}");
    let delete = |who: &warrant_tests::Flux, path: &str| who.send(&Method::DELETE, path, &[], b"");
    assert_eq!(bob.get("/v1/keys").with(200), json!({"keys": []}));
    assert_eq!(bob.get("/v1/keys?user=ann").status, 403);
    assert_eq!(delete(&bob, &format!("{path}?user=ann")).status, 403);
    let foreign = delete(&bob, &path);
    let unknown = delete(&bob, "/v1/keys/zzzzzzzzzzzz");
    assert_eq!((foreign.status, foreign.text()), (404, unknown.text()));
    assert_eq!(unknown.status, 404);
    let seen = admin.get("/v1/keys?user=ann").with(200);
    assert_eq!(seen["keys"][0]["id"], id);
    assert_eq!(
        delete(&admin, &format!("{path}?user=ann")).with(200),
        json!({"revoked": 1})
    );
    assert_eq!(delete(&ann, &path).status, 404);
    assert_eq!(delete(&ann, "/v1/keys").with(200), json!({"revoked": 0}));
    house.close();
}

#[test]
fn the_operator_lists_and_revokes_keys_with_the_services_own_command() {
    let house = House::open();
    let ann = house.user("ann");
    for label in ["one", "two"] {
        ann.create_key("ann", &House::password("ann"), &json!({ "label": label }))
            .with(201);
    }
    let list = house.authsvc_command(&["key", "list", "--user", "ann", "--json"], "");
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 2);
    let id = list[0]["id"].as_str().unwrap();
    assert_eq!(
        house.authsvc_command(&["key", "revoke", id], ""),
        "1 revoked\n"
    );
    let revoked = house.authsvc_command(&["key", "revoke", "--user", "ann"], "");
    assert_eq!(revoked, "1 revoked\n");
    assert_eq!(ann.get("/v1/keys").with(200), json!({"keys": []}));
    house.close();
}
