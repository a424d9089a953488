//! Texts that would be SQL, were they put into it: they come back as they
//! went in, are found by themselves alone, and everything else is as before.

use serde_json::{Value, json};
use ureq::http::Method;
use warrant_tests::{Flux, House, on_each_database};

/// What is SQL, or part of it, to one database or another.
const EVIL: [&str; 16] = [
    "'",
    "''; drop table jobs; --",
    "'; delete from users where 'a' = 'a",
    "' or '1'='1",
    "\" or \"\"=\"",
    "\\'; update jobs set state = 'RUN' --",
    "$1",
    "$$; select pg_sleep(30) $$",
    "?1",
    ":name",
    "%' escape '!",
    "_%",
    "/* */ -- #",
    "') union select password_hash from users --",
    "x'41' || char(0x27) || chr(39)",
    "{\"a\": \"'\"}[0]->>'a'",
];

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The ids that a search finds.
fn found(user: &Flux, text: &str) -> Vec<i64> {
    let path = format!("/v1/jobs/search?search={}", encoded(text));
    let page = user.get(&path).with(200);
    let jobs = page["data"].as_array().unwrap().iter();
    jobs.map(|job| job["id"].as_i64().unwrap()).collect()
}

/// A job that waits for more cores than there are, and so never runs: all of
/// its texts are `evil`.
fn submit(user: &Flux, evil: &str) -> i64 {
    user.submit_with(&json!({
        "command": ["echo", evil],
        "workdir": format!("/tmp/{evil}"),
        "envars": {"EVIL": evil},
        "num_tasks": 99,
        "option_flags": {evil: evil},
    }))
}

/// What must be as it was, whatever was sent.
fn is_well(house: &House, ann: &Flux, jobs: usize) {
    assert_eq!(ann.list().len(), jobs);
    assert_eq!(house.login("ann").list().len(), jobs);
    let logs = house.logs();
    let words = ["syntax error", "unrecognized token", "ERROR", "panicked"];
    let defect = logs
        .lines()
        .find(|line| words.iter().any(|word| line.contains(word)));
    assert_eq!(defect, None);
}

on_each_database! {
    fn t118_texts_of_jobs_come_back_as_they_went_in_and_are_found_by_themselves(setup: Setup) {
        let house = setup.open();
        let (ann, bob) = (house.user("ann"), house.user("bob"));
        let mut jobs = Vec::new();
        for evil in EVIL {
            jobs.push((submit(&ann, evil), evil));
        }
        for (job, evil) in &jobs {
            let shown = ann.info(*job).to_string();
            let spelt = Value::from(*evil).to_string();
            let spelt = spelt.trim_matches('"');
            assert!(shown.contains(spelt), "{evil}: {shown}");
            // The second time it is read from the store, and put into a search.
            assert!(found(&ann, evil).contains(job), "{evil}");
            let of_text = jobs.iter().filter(|(_, other)| {
                other.to_lowercase().contains(&evil.to_lowercase())
            });
            // The name of a job is its program's: the text is in the command.
            assert_eq!(found(&ann, evil).len(), of_text.count(), "{evil}");
            assert_eq!(found(&bob, evil), [0; 0], "{evil}");
        }
        is_well(&house, &ann, EVIL.len());
        house.close();
    }

    fn t118_no_parameter_is_sql(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        let job = submit(&ann, "plain");
        let names = [
            "search", "search[value]", "query", "draw", "start", "length", "limit", "details",
            "listing", "order[0][column]", "order[0][dir]", "sort", "columns[0][data]", "user",
            "offset", "legacy", "after",
        ];
        for evil in EVIL {
            let text = encoded(evil);
            for path in ["/v1/jobs", "/v1/jobs/search", "/v1/keys", &format!("/v1/jobs/{job}"),
                &format!("/v1/jobs/{job}/output"), &format!("/v1/jobs/{job}/output/stream")]
            {
                let query: Vec<_> = names.iter().map(|name| format!("{name}={text}")).collect();
                // `user` of keys is for administrators: 403 is an answer, too.
                let answer = ann.get(&format!("{path}?{}", query.join("&")));
                assert!(answer.status < 500, "{path} {evil}: {}", answer.text());
                assert!(!answer.text().contains("$argon2"), "{path} {evil}");
                let named = ann.get(&format!("{path}?{text}=1"));
                assert!(named.status < 500, "{path} {evil}: {}", named.text());
            }
            for path in ["/v1/jobs/EVIL", "/v1/jobs/EVIL/output", "/v1/jobs/EVIL/output/stream"] {
                let answer = ann.get(&path.replace("EVIL", &text));
                assert!((400..500).contains(&answer.status), "{path} {evil}: {}", answer.text());
            }
            let answer = ann.post(&format!("/v1/jobs/{text}/cancel"));
            assert!((400..500).contains(&answer.status), "{evil}: {}", answer.text());
            let answer = ann.send(&Method::DELETE, &format!("/v1/keys/{text}"), &[], b"");
            assert!((400..500).contains(&answer.status), "{evil}: {}", answer.text());
        }
        is_well(&house, &ann, 1);
        house.close();
    }

    fn t118_no_field_of_a_login_or_a_client_is_sql(setup: Setup) {
        let house = setup.set("AUTHSVC__API_KEYS__PER_MINUTE", "1000").open();
        let (ann, admin) = (house.user("ann"), house.admin());
        let nobody = house.nobody();
        for (n, evil) in EVIL.into_iter().enumerate() {
            let text = encoded(evil);
            // Nobody is let in by it, and nothing breaks.
            for path in ["/v1/login/access-token", "/oauth/token", "/oauth/revoke",
                "/oauth/introspect", "/oauth/device_authorization"]
            {
                let fields = [
                    "username", "password", "client_id", "client_secret", "scope", "refresh_token",
                    "code", "code_verifier", "redirect_uri", "device_code", "token", "audience",
                ];
                for grant in ["password", "refresh_token", "client_credentials", "device_code"] {
                    let form: Vec<_> = fields.iter().map(|name| format!("{name}={text}")).collect();
                    let form = format!("grant_type={grant}&{}", form.join("&"));
                    let answer = nobody.post_form(path, &form);
                    let is_refused = (400..500).contains(&answer.status);
                    assert!(is_refused, "{path} {evil}: {} {}", answer.status, answer.text());
                }
            }
            let payload = warrant_tests::handshake::payload(evil, evil, warrant_tests::house::SECRET);
            // The throttle may be there first.
            assert!([400, 429].contains(&house.exchange(&payload).status), "{evil}");
            // A password may be any text, and is what it is.
            let name = format!("user{n}");
            let password = format!("canary {evil}");
            house.authsvc_command(&["user", "add", &name], &password);
            let form = format!("username={name}&password={}", encoded(&password));
            nobody.post_form("/v1/login/access-token", &form).with(200);
            // A key's label is shown as it was given, here and to administrators.
            let label = json!({"label": evil, "expires_in_days": 1});
            let made = ann.create_key("ann", &House::password("ann"), &label);
            if made.status == 201 {
                let listed = admin.get("/v1/keys?user=ann").with(200).to_string();
                assert!(listed.contains(&Value::from(evil).to_string()), "{evil}: {listed}");
            }
            // It may be the name of an account; nobody was let in by it.
            let rows = house.authsvc_command(&["audit", "list", "--subject", evil, "--json"], "");
            for row in rows.lines().filter(|row| row.starts_with('{')) {
                let row: Value = serde_json::from_str(row).unwrap();
                assert_eq!(row["outcome"], "refused", "{evil}: {row}");
                assert_eq!(row["subject"], evil);
            }
        }
        house.audit("warrant-authsvc");
        is_well(&house, &ann, 0);
        house.close();
    }
}
