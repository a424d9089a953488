//! What nobody may read: passwords, tokens, keys and secrets, over a run in
//! which each of them is used well and badly, with everything logged that can
//! be.

use std::fs;
use std::path::Path;

use serde_json::json;
use ureq::http::Method;
use warrant_tests::house::{ADMIN_PASSWORD, SECRET};
use warrant_tests::{Answer, Database, Flux, House, Setup, handshake};

/// Answers of a run; what is refused may tell nothing of what was sent.
#[derive(Default)]
struct Answers(Vec<(String, Answer)>);

impl Answers {
    fn add(&mut self, what: &str, answer: Answer) -> Answer {
        self.0.push((what.to_owned(), answer.clone()));
        answer
    }
}

fn text(answer: &Answer, name: &str) -> String {
    answer.json()[name].as_str().unwrap().to_owned()
}

/// All bytes of the files in `dir` and below.
fn bytes_below(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().flatten();
    let found = entries.flat_map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return bytes_below(&path);
        }
        let bytes = fs::read(&path).unwrap_or_default();
        vec![(path.display().to_string(), bytes)]
    });
    found.collect()
}

fn holds(bytes: &[u8], secret: &str) -> bool {
    bytes
        .windows(secret.len())
        .any(|piece| piece == secret.as_bytes())
}

#[test]
fn t108_over_a_whole_run_no_secret_is_in_a_log_an_answer_an_argument_or_a_store() {
    let house = Setup::on(Database::Sqlite)
        .set("WARRANT_LOG", "trace")
        .set("AUTHSVC_LOG", "trace")
        .open();
    let nobody = house.nobody();
    let mut all = Answers::default();
    let mut secrets = vec![ADMIN_PASSWORD.to_owned(), SECRET.to_owned()];
    let password = House::password("ann");
    let ann = house.user("ann");
    secrets.extend([password.clone(), ann.token().to_owned()]);

    // Every way in, used well.
    let payload = handshake::payload("ann", &password, SECRET);
    let token = text(
        &all.add("handshake", house.exchange(&payload)),
        "access_token",
    );
    secrets.extend([payload.clone(), token]);
    let sign_in = format!("grant_type=password&client_id=warrant&username=ann&password={password}");
    let tokens = all.add("sign in", nobody.post_form("/oauth/token", &sign_in));
    let refresh = text(&tokens, "refresh_token");
    secrets.extend([text(&tokens, "access_token"), refresh.clone()]);
    let again = format!("grant_type=refresh_token&client_id=warrant&refresh_token={refresh}");
    let next = all.add("refresh", nobody.post_form("/oauth/token", &again));
    secrets.extend([text(&next, "access_token"), text(&next, "refresh_token")]);
    let words = [
        "client",
        "add",
        "robot",
        "--owner",
        "ann",
        "--grant",
        "client_credentials",
    ];
    let client_secret = house.authsvc_command(&words, "").trim().to_owned();
    let robot = format!("client_id=robot&client_secret={client_secret}");
    let form = format!("grant_type=client_credentials&{robot}");
    let own = text(
        &all.add("robot", nobody.post_form("/oauth/token", &form)),
        "access_token",
    );
    let about = format!("token={own}&{robot}");
    all.add("introspect", nobody.post_form("/oauth/introspect", &about))
        .with(200);
    secrets.extend([client_secret.clone(), own]);
    let begin = all.add(
        "device",
        nobody.post_form("/oauth/device_authorization", "client_id=warrant"),
    );
    secrets.push(text(&begin, "device_code"));
    let made = all.add(
        "key",
        ann.create_key("ann", &House::password("ann"), &json!({"label": "one"})),
    );
    let key = text(&made, "key");
    secrets.push(key.clone());
    nobody.with_token(&key).get("/v1/nodes").with(200);
    let job = ann.submit_with(&json!({
        "command": ["sh", "-c", "env; cat /proc/$PPID/cmdline; echo end"],
        "envars": {"GIVEN": "canary-of-a-variable"},
    }));
    ann.finished(job);
    let output = ann.output(job).concat();
    assert!(
        output.contains("canary-of-a-variable") && output.contains("end"),
        "{output}"
    );

    // And badly: each secret where it does not belong, or altered.
    let wrong = "canary-of-a-wrong-password";
    let foreign = handshake::payload("ann", wrong, "canary-of-another-secret");
    secrets.extend([wrong.to_owned(), foreign.clone()]);
    all.add("foreign handshake", house.exchange(&foreign));
    let form = format!("username=ann&password={wrong}");
    all.add(
        "wrong password",
        nobody.post_form("/v1/login/access-token", &form),
    );
    let form = format!("username={wrong}&password={password}&grant_type=none");
    all.add("fields", nobody.post_form("/v1/login/access-token", &form));
    for field in [
        "password",
        "refresh_token",
        "code",
        "device_code",
        "token",
        "client_secret",
    ] {
        for grant in [
            "password",
            "refresh_token",
            "authorization_code",
            "client_credentials",
        ] {
            let form = format!(
                "grant_type={grant}&client_id=warrant&username=ann&{field}={wrong}&code_verifier=\
                 {wrong}&redirect_uri={wrong}"
            );
            all.add(field, nobody.post_form("/oauth/token", &form));
        }
        let form = format!("{field}={wrong}&client_id=robot&client_secret={wrong}");
        for path in ["/oauth/revoke", "/oauth/introspect"] {
            all.add(path, nobody.post_form(path, &form));
        }
    }
    all.add("refresh twice", nobody.post_form("/oauth/token", &again));
    for token in [
        wrong,
        &key.replace('_', "-"),
        &format!("{key}x"),
        &payload,
        &refresh,
    ] {
        all.add("as a token", nobody.with_token(token).get("/v1/nodes"));
        let head = [("x-api-key", token)];
        all.add(
            "as a key",
            nobody.send(&Method::GET, "/v1/nodes", &head, b""),
        );
    }
    let kept = in_addresses(
        &nobody,
        &ann,
        &mut all,
        &[&password, ann.token(), &key, &refresh],
    );
    assert!(kept > 10, "{kept}");
    let garbled = [("content-type", "application/json")];
    let body = format!("{{\"command\": \"{wrong}\", \"envars\": {{\"A\": \"{wrong}\"");
    all.add(
        "garbled",
        ann.send(&Method::POST, "/v1/jobs/submit", &garbled, body.as_bytes()),
    );
    all.add(
        "garbled",
        ann.send(&Method::POST, "/v1/keys", &garbled, body.as_bytes()),
    );
    all.add(
        "garbled",
        nobody.send(&Method::POST, "/oauth/token", &garbled, body.as_bytes()),
    );

    for (what, answer) in &all.0 {
        let is_given = answer.status < 300;
        for secret in &secrets {
            let is_told = answer.text().contains(secret.as_str());
            assert!(is_given || !is_told, "{what} answers {}", answer.text());
        }
    }
    let logs = house.logs();
    assert!(logs.contains("DEBUG"), "not everything is logged");
    for secret in &secrets {
        let line = logs.lines().find(|line| line.contains(secret.as_str()));
        assert_eq!(line, None, "a log holds a secret");
        assert!(!output.contains(secret.as_str()), "a job sees a secret");
    }
    for process in house.processes() {
        for secret in &secrets {
            assert!(
                !process.command.contains(secret.as_str()),
                "{}",
                process.command
            );
        }
    }
    for (path, bytes) in bytes_below(&house.path("state")) {
        for secret in &secrets {
            assert!(!holds(&bytes, secret), "{path} holds a secret");
        }
    }
    house.audit("warrant-authsvc");
    house.close();
}

/// Secrets in an address are refused, wherever they stand; says how many were.
fn in_addresses(nobody: &Flux, ann: &Flux, all: &mut Answers, secrets: &[&str]) -> usize {
    let mut kept = 0;
    for secret in secrets {
        for name in ["access_token", "api_key"] {
            for path in [
                "/v1/nodes",
                "/v1/jobs",
                "/openapi.json",
                "/v1/auth",
                "/v1/keys",
            ] {
                for user in [nobody, ann] {
                    let answer = user.get(&format!("{path}?a=b&{name}={secret}"));
                    assert_eq!(answer.status, 400, "{path} {name}: {}", answer.text());
                    all.add("in the address", answer);
                    kept += 1;
                }
            }
        }
        for path in [
            "/oauth/token",
            "/oauth/revoke",
            "/oauth/introspect",
            "/oauth/device_authorization",
        ] {
            let path = format!("{path}?client_id=warrant&client_secret={secret}&token={secret}");
            let answer = nobody.post_form(&path, "grant_type=client_credentials");
            assert_eq!(answer.status, 400, "{}", answer.text());
            all.add("in the address", answer);
            kept += 1;
        }
        let path = format!("/v1/login/access-token?username=ann&password={secret}");
        let answer = nobody.post_form(&path, "");
        assert!((400..500).contains(&answer.status), "{}", answer.text());
        all.add("in the address", answer);
    }
    kept
}
