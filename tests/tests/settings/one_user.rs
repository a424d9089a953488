//! Settings of a server whose jobs run as its own user.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use warrant_tests::handshake::{self, payload};
use warrant_tests::house::{ADMIN_PASSWORD, SECRET};
use warrant_tests::{Database, Flux, House, Setup};

fn setup(settings: &[(&str, &str)]) -> Setup {
    let begin = Setup::on(Database::Sqlite);
    settings
        .iter()
        .fold(begin, |setup, (name, value)| setup.set(name, value))
}

/// What a user is, as the server sees it.
fn role(user: &Flux) -> Value {
    user.get("/v1/session").with(200)["role"].clone()
}

#[test]
fn what_jobs_may_have() {
    let dir = tempfile::tempdir().unwrap();
    let errors = dir.path().join("errors");
    let flags = format!("-ooutput.stderr.path={}", errors.display());
    let house = setup(&[
        ("BROKER__ENGINE__CORES", "3"),
        ("BROKER__ENGINE__GPUS", "1"),
        ("BROKER__FLUX__HAS_GPUS", "true"),
        ("BROKER__FLUX__NODES", "5"),
        ("BROKER__FLUX__OPTION_FLAGS", flags.as_str()),
        ("BROKER__FLUX__LEGACY_JOB", "true"),
    ])
    .open();
    let ann = house.user("ann");
    let most = ann.submit_with(&json!({"command": "true", "cores_per_task": 3}));
    let info = ann.finished(most);
    assert_eq!(info["result"], "COMPLETED");
    assert_eq!(
        info["job"]["state"], 64,
        "legacy_job wraps each job: {info}"
    );
    let more = ann.submit_with(&json!({"command": "true", "cores_per_task": 4}));
    assert_eq!(ann.info(more)["exception_type"], "alloc");
    let words = [
        "sh",
        "-c",
        "echo $CUDA_VISIBLE_DEVICES; echo to the file >&2",
    ];
    let gpu = ann.submit_with(&json!({"command": words, "gpus_per_task": 1}));
    ann.finished(gpu);
    assert_eq!(ann.output(gpu), ["0\n"]);
    assert_eq!(fs::read_to_string(&errors).unwrap(), "to the file\n");
    // There is one machine, whatever is allowed; the log says so.
    let answer = ann.post("/v1/jobs/submit?command=true&num_nodes=2");
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(house.logs().contains("flux.nodes"), "{}", house.logs());
    house.close();
}

#[test]
fn who_must_log_in() {
    let house = setup(&[
        ("BROKER__AUTH__REQUIRED", "false"),
        ("FLUX_SECRET_KEY", ""),
        ("AUTHSVC__BACKEND", "none"),
    ])
    .open();
    assert_eq!(house.nobody().get("/v1/jobs").status, 200);
    drop(house);
    let house = setup(&[("BROKER__AUTH__REQUIRED", "true")]).open();
    assert_eq!(house.nobody().get("/v1/jobs").status, 401);
    house.close();
}

#[test]
fn how_people_log_in() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    fs::write(&file, ADMIN_PASSWORD).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let house = setup(&[
        ("AUTHSVC__BACKENDS", "[\"shared-secret\"]"),
        ("AUTHSVC__ADMIN_USERS", "[\"ann\"]"),
        ("AUTHSVC__OPERATOR_USERS", "[\"olga\"]"),
        ("AUTHSVC__HANDSHAKE__MAX_AGE_S", "50"),
        ("FLUX_USER", ""),
        ("FLUX_TOKEN", ""),
        ("AUTHSVC__SUPERUSER__NAME", "chief"),
        ("AUTHSVC__SUPERUSER__PASSWORD_FILE", file.to_str().unwrap()),
    ])
    .open();
    assert_eq!(role(&house.user("ann")), "administrator");
    assert_eq!(role(&house.user("olga")), "operator");
    assert_eq!(role(&house.user("bob")), "user");
    // Of the backends, the shared secret: a login as the existing clients encode it.
    let chief = house.exchange(&payload("chief", ADMIN_PASSWORD, SECRET));
    chief.with(200);
    let made = |seconds_ago: i64| {
        let now = std::time::SystemTime::now();
        let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({"user": "chief", "pass": ADMIN_PASSWORD, "scope": "token",
            "iat": i64::try_from(now).unwrap() - seconds_ago});
        let login = handshake::signed(&json!({"alg": "HS256", "typ": "JWT"}), &claims, SECRET);
        house.exchange(&login).status
    };
    assert_eq!(made(0), 200);
    assert_ne!(made(120), 200, "it is older than max_age_s");
    drop(house);
}

#[test]
fn how_long_what_people_get_lasts() {
    let house = setup(&[
        ("AUTHSVC__TOKENS__MINUTES", "8"),
        ("AUTHSVC__OAUTH__ACCESS_MINUTES", "3"),
        ("AUTHSVC__OAUTH__REFRESH_DAYS", "2"),
    ])
    .open();
    house.authsvc_command(&["user", "add", "ann"], &House::password("ann"));
    let form = format!("username=ann&password={}", House::password("ann"));
    let login = house.exchange_form(&form).with(200);
    assert_eq!(login["expires_in"], 8 * 60);
    let grant = format!("grant_type=password&client_id=warrant&{form}");
    let granted = house.nobody().post_form("/oauth/token", &grant).with(200);
    assert_eq!(granted["expires_in"], 3 * 60);
    let listed = house.authsvc_command(&["session", "list", "--user", "ann", "--json"], "");
    let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
    let lives = listed.iter().map(|row| {
        let time = |name: &str| row[name].as_u64().unwrap();
        (time("expires_us") - time("created_us")) / 1_000_000
    });
    let lives: Vec<_> = lives.collect();
    assert_eq!(lives, [8 * 60, 2 * 86_400]);
    house.close();
}

#[test]
fn how_passwords_are_hashed() {
    let house = setup(&[
        ("AUTHSVC__PASSWORDS__MEMORY_KIB", "64"),
        ("AUTHSVC__PASSWORDS__PASSES", "3"),
        ("AUTHSVC__PASSWORDS__LANES", "2"),
    ])
    .open();
    house.user("ann");
    let stored: Vec<u8> = ["state/auth.db", "state/auth.db-wal"]
        .into_iter()
        .flat_map(|name| fs::read(house.path(name)).unwrap_or_default())
        .collect();
    let stored = String::from_utf8_lossy(&stored);
    assert!(stored.contains("$argon2id$v=19$m=64,t=3,p=2$"));
    house.close();
}
