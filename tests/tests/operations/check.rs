//! `check-config` of both services over a house that serves, and secrets that
//! come from files.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use warrant_tests::{House, Setup, on_each_database, service};

const NONE: [&str; 2] = ["--config", "/nonexistent/none.toml"];

/// The exit code of `check-config`, and the settings it has something to say of.
fn look(
    house: &House,
    program: &str,
    more: &[(&str, &str)],
) -> (i32, Vec<(String, String)>, String) {
    let mut variables = house.variables();
    for (name, value) in more {
        variables.retain(|(known, _)| known != name);
        variables.push(((*name).to_owned(), (*value).to_owned()));
    }
    let words = [&["check-config", "--json", "--strict"][..], &NONE].concat();
    let output = service::run(program, &words, &variables, "");
    let text = String::from_utf8(output.stdout).unwrap();
    let told: Value = serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    let found = told["findings"].as_array().unwrap().iter().map(|finding| {
        (
            finding["level"].as_str().unwrap().to_owned(),
            finding["key"].as_str().unwrap().to_owned(),
        )
    });
    (output.status.code().unwrap(), found.collect(), text)
}

fn has(found: &[(String, String)], level: &str, key: &str) -> bool {
    found.iter().any(|(l, k)| l == level && k == key)
}

on_each_database! {
    fn what_is_weak_or_wrong_is_named_and_no_secret_is(setup: Setup) {
        let house = setup.open();
        for program in ["warrant-authsvc", "warrant-broker"] {
            let (code, found, text) = look(&house, program, &[]);
            assert!(found.iter().all(|(level, _)| level == "warning"), "{text}");
            assert_eq!(code, i32::from(!found.is_empty()), "{text}");
            assert!(!text.contains("canary"), "{text}");
        }
        let (_, found, text) = look(&house, "warrant-authsvc", &[]);
        for key in ["FLUX_SECRET_KEY", "FLUX_TOKEN", "passwords.memory_kib", "tokens.minutes"] {
            assert!(has(&found, "warning", key), "{key}: {text}");
        }
        for (name, value, level, key) in [
            ("AUTHSVC__OAUTH__URL", "http://jobs.example.org", "warning", "oauth.url"),
            ("AUTHSVC__LISTEN__TCP", "0.0.0.0:5001", "warning", "listen.tcp"),
            ("AUTHSVC__WARRANTS__MODE", "client", "warning", "oauth.password_grant"),
            ("FLUX_AUTH_BACKEND", "none", "warning", "backend"),
            ("AUTHSVC__LISTEN__SOCKET", "/nonexistent/auth.sock", "error", "listen.socket"),
            ("AUTHSVC__LISTEN__SOCKET", "/tmp/auth.sock", "error", "listen.socket"),
            ("AUTHSVC__PAM__SOCKET", "/nonexistent", "warning", "FLUX_TOKEN"),
            ("AUTHSVC__DATABASE__URL", "sqlite:/nonexistent/auth.db", "error", "database.url"),
            ("AUTHSVC__DATABASE__URL", "postgres://nobody@127.0.0.1:1/none", "error", "database.url"),
            ("AUTHSVC__DATABASE__URL", "postgres://u:canary@127.0.0.1:1/d", "warning", "database.url"),
            ("AUTHSVC__TOKENS__MINUTES", "601", "error", "configuration"),
            ("AUTHSVC__SHARED_SECRET_FILE", "credential:none", "warning", "FLUX_TOKEN"),
        ] {
            let (code, found, text) = look(&house, "warrant-authsvc", &[(name, value)]);
            assert!(has(&found, level, key), "{name}={value}: {text}");
            assert_eq!(code == 2, found.iter().any(|(level, _)| level == "error"), "{text}");
            assert!(!text.contains("canary"), "{text}");
        }
        for (name, value, level, key) in [
            ("BROKER__LISTEN__HTTP", "0.0.0.0:5000", "warning", "listen.http"),
            ("BROKER__LISTEN__PUBLIC_URL", "http://jobs.example.org", "warning", "listen.public_url"),
            ("BROKER__AUTH__REQUIRED", "false", "warning", "auth.required"),
            ("BROKER__ENGINE__SHIM", "/nonexistent/shim", "error", "engine.shim"),
            ("BROKER__SPOOL__DIR", "/etc/passwd", "error", "spool.dir"),
            ("BROKER__DATABASE__URL", "postgres://u:canary@127.0.0.1:1/d", "warning", "database.url"),
            ("BROKER__LIMITS__CONNECTIONS", "0", "error", "configuration"),
            ("FLUX_SERVER_MODE", "both", "error", "configuration"),
        ] {
            let (code, found, text) = look(&house, "warrant-broker", &[(name, value)]);
            assert!(has(&found, level, key), "{name}={value}: {text}");
            assert_eq!(code == 2, found.iter().any(|(level, _)| level == "error"), "{text}");
            assert!(!text.contains("canary"), "{text}");
        }
        // Where keys are open to others, as the start would say.
        let mode = |mode| fs::set_permissions(house.path("keys"), fs::Permissions::from_mode(mode));
        mode(0o755).unwrap();
        let (_, found, text) = look(&house, "warrant-authsvc", &[]);
        assert!(has(&found, "error", "keys.dir"), "{text}");
        mode(0o700).unwrap();
        house.close();
    }
}

#[test]
fn nothing_is_made_by_looking() {
    let house = House::open();
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let url = format!("sqlite:{}", at("auth.db"));
    let more = [
        ("AUTHSVC__DATABASE__URL", url.as_str()),
        ("AUTHSVC__KEYS__DIR", &at("keys")),
        ("BROKER__DATABASE__URL", &url),
        ("BROKER__SPOOL__DIR", &at("spool")),
    ];
    for program in ["warrant-authsvc", "warrant-broker"] {
        let (code, found, text) = look(&house, program, &more);
        assert!(code == 2 && has(&found, "error", "database.url"), "{text}");
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    house.close();
}

#[test]
fn secrets_come_from_credentials_of_the_unit() {
    let place = tempfile::tempdir().unwrap();
    let secret = |name: &str, text: &str, mode: u32| {
        let file = place.path().join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    };
    secret("handshake", warrant_tests::house::SECRET, 0o440);
    secret("superuser", warrant_tests::house::ADMIN_PASSWORD, 0o400);
    let house = Setup::on(warrant_tests::Database::Sqlite)
        .set("FLUX_SECRET_KEY", "")
        .set("FLUX_TOKEN", "")
        .set("CREDENTIALS_DIRECTORY", place.path().to_str().unwrap())
        .set("AUTHSVC__SHARED_SECRET_FILE", "credential:handshake")
        .set("AUTHSVC__SUPERUSER__PASSWORD_FILE", "superuser")
        .open();
    // The superuser logs in by the handshake: both were read.
    assert_eq!(house.admin().get("/v1/jobs").status, 200);
    let (_, found, text) = look(&house, "warrant-authsvc", &[]);
    assert!(
        !has(&found, "warning", "FLUX_TOKEN") && !has(&found, "error", "configuration"),
        "{text}"
    );
    // One that everybody may read is none.
    secret("open", "s", 0o644);
    let more = [("AUTHSVC__SHARED_SECRET_FILE", "credential:open")];
    let (code, found, text) = look(&house, "warrant-authsvc", &more);
    assert!(code == 2 && has(&found, "error", "configuration"), "{text}");
    assert!(text.contains("0644"), "{text}");
    house.close();
}
