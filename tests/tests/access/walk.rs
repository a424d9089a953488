//! Every route, walked by everybody.

use serde_json::{Value, json};
use ureq::http::Method;
use warrant_tests::fake_auth::ALL;
use warrant_tests::python::Client;
use warrant_tests::{Answer, Database, Flux};

use super::Gatehouse;
use warrant_tests::House;
use warrant_tests::village::ALICE;

mod people;
mod table;

use people::{Site, WALKERS};
use table::{LAST, ROWS, Row};

fn send(walker: &Flux, method: &str, path: &str, body: &str) -> Answer {
    let kind = if body.starts_with('{') || body.is_empty() {
        "application/json"
    } else {
        "application/x-www-form-urlencoded"
    };
    let head = [("content-type", kind)];
    walker.send(&method.parse().unwrap(), path, &head, body.as_bytes())
}

/// Every row of the table, for every walker. Returns the answers, and the
/// document that describes them.
fn walk(site: Site) -> Value {
    let document = site.nobody().get("/openapi.json").with(200);
    let mut answers = Vec::new();
    let mut listed = site.routes();
    let mut tried: Vec<&str> = ROWS
        .iter()
        .map(|row| row.route)
        .filter(|route| !NO_ROUTES.contains(route))
        .collect();
    tried.dedup();
    listed.sort_unstable();
    tried.sort_unstable();
    assert_eq!(listed, tried, "the program's routes, and the table's");

    let (walkers, job) = site.walkers();
    // HEAD is GET: it needs the same.
    for (walker, status) in walkers.iter().zip(ROWS[0].told) {
        let head = walker.send(&Method::HEAD, "/v1/jobs", &[], b"");
        assert_eq!(head.status, status);
    }
    // Lists hold what the route to one job gives.
    let row = ROWS.iter().find(|row| row.route == "GET /v1/jobs/{jobid}");
    let told = row.unwrap().told;
    for (walker, status) in walkers.iter().zip(told) {
        for path in [
            "/v1/jobs?details=true&listing=true",
            "/v1/jobs/search?search=of-the-owner",
        ] {
            let answer = walker.get(path);
            let seen = answer.status == 200 && answer.text().contains(&format!("\"id\":{job}"));
            assert_eq!(seen, status == 200, "{path}");
        }
    }
    let mut wrong = Vec::new();
    for Row {
        route,
        path,
        body,
        told,
    } in ROWS
    {
        let (method, named) = route.split_once(' ').unwrap();
        let path = if path.is_empty() { named } else { path };
        let path = path.replace("JOB", &job.to_string());
        for ((walker, who), status) in walkers.iter().zip(WALKERS).zip(told) {
            if status == LAST {
                continue;
            }
            let status = site.status(status);
            let answer = send(walker, method, &path, body);
            if !NO_ROUTES.contains(&route) && !SHOW_THE_DOCUMENT.contains(&named) {
                answers.push(described(route, &answer));
            }
            let challenge = answer.header("www-authenticate").unwrap_or_default();
            let is_told_well = match status {
                401 => challenge.starts_with("Bearer ") || challenge.starts_with("Basic "),
                // Only a scope is something that another token could have.
                403 if !challenge.is_empty() => {
                    challenge.contains("error=\"insufficient_scope\",scope=\"")
                }
                405 => answer.header("allow").is_some(),
                _ => challenge.is_empty(),
            };
            if answer.status != status || !is_told_well {
                let (got, text) = (answer.status, answer.text());
                wrong.push(format!(
                    "{method} {path} by {who}: {got}, not {status}: {challenge} {text:.200}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    if let Site::Village(_) = site {
        foreign_is_unknown(&walkers, job);
    }
    // The last row of all: nothing can be asked afterwards.
    let administrator = WALKERS.iter().position(|who| *who == "an administrator");
    let walker = &walkers[administrator.unwrap()];
    let stopped = walker.post("/v1/service/stop");
    assert_eq!(stopped.status, 200);
    answers.push(described("POST /v1/service/stop", &stopped));
    site.stopped();
    json!({"document": document, "answers": answers})
}

/// Paths that the document leaves out: they show it.
const SHOW_THE_DOCUMENT: [&str; 5] = [
    "/openapi.json",
    "/docs",
    "/docs/",
    "/docs/{*path}",
    "/redoc",
];

/// An answer as the document describes it.
fn described(route: &str, answer: &Answer) -> Value {
    json!({"route": route, "status": answer.status, "body": answer.text(),
           "type": answer.header("content-type")})
}

/// See that the document is one, and that every answer of a walk and of
/// `more` requests is as it says.
fn is_described(site: Site, more: fn(&Site) -> Vec<Value>) {
    let Some(python) = Client::OpenApi.environment() else {
        return;
    };
    let more = more(&site);
    let mut told = walk(site);
    told["answers"].as_array_mut().unwrap().extend(more);
    let file = tempfile::NamedTempFile::new().unwrap();
    serde_json::to_writer(&file, &told).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/openapi.py");
    let output = std::process::Command::new(python.join("bin/python"))
        .args(["-B", script])
        .arg(file.path())
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
}

/// Answers that the walk does not meet.
fn odd_answers(site: &Site) -> Vec<Value> {
    let (owner, job) = site.owner();
    let waiting = owner.submit_with(&json!({"command": "true", "num_tasks": 4096}));
    let asked = [
        ("GET /v1/jobs", "/v1/jobs?details=1", ""),
        ("GET /v1/jobs", "/v1/jobs?details=x", ""),
        ("GET /v1/jobs", "/v1/jobs?details=1&limit=0", ""),
        ("GET /v1/jobs", "/v1/jobs?x=%FF", ""),
        ("GET /v1/jobs/search", "/v1/jobs/search?draw=7&length=1", ""),
        ("GET /v1/jobs/search", "/v1/jobs/search", ""),
        ("GET /v1/jobs/{jobid}", "/v1/jobs/WAITING", ""),
        ("GET /v1/jobs/{jobid}", "/v1/jobs/JOB?legacy=1", ""),
        ("GET /v1/jobs/{jobid}", "/v1/jobs/JOB?legacy=x", ""),
        ("GET /v1/jobs/{jobid}", "/v1/jobs/nope!", ""),
        ("GET /v1/jobs/{jobid}", "/v1/jobs/999999", ""),
        ("GET /v1/jobs/{jobid}/output", "/v1/jobs/WAITING/output", ""),
        ("GET /v1/jobs/{jobid}/output", "/v1/jobs/nope!/output", ""),
        (
            "GET /v1/jobs/{jobid}/output/stream",
            "/v1/jobs/JOB/output/stream?offset=x",
            "",
        ),
        (
            "GET /v1/jobs/{jobid}/output/stream",
            "/v1/jobs/nope!/output/stream",
            "",
        ),
        ("POST /v1/jobs/{jobid}/cancel", "/v1/jobs/nope!/cancel", ""),
        ("POST /v1/jobs/{jobid}/cancel", "/v1/jobs/JOB/cancel", ""),
        ("POST /v1/jobs/submit", "/v1/jobs/submit", ""),
        (
            "POST /v1/jobs/submit",
            "/v1/jobs/submit?command=x&num_tasks=x",
            "",
        ),
        (
            "POST /v1/jobs/submit",
            "/v1/jobs/submit?command=x&num_tasks=0",
            "",
        ),
        ("POST /v1/jobs/submit", "/v1/jobs/submit?command=%27", ""),
        (
            "POST /v1/jobs/submit",
            "/v1/jobs/submit?command=true&is_launcher=1",
            "",
        ),
        (
            "POST /v1/jobs/submit",
            "/v1/jobs/submit",
            "{\"command\": [1, null]}",
        ),
        (
            "POST /v1/login/access-token",
            "/v1/login/access-token",
            "username=a",
        ),
        (
            "POST /v1/login/access-token",
            "/v1/login/access-token",
            "username=a&password=b",
        ),
        (
            "POST /v1/login/access-token",
            "/v1/login/access-token",
            "grant_type=x&username=%FF",
        ),
        ("POST /oauth/token", "/oauth/token", "grant_type=nothing"),
        ("POST /oauth/token", "/oauth/token?x", "grant_type=nothing"),
        ("POST /v1/keys", "/v1/keys", "{}"),
        (
            "POST /v1/keys",
            "/v1/keys",
            "{\"label\": \"x\", \"expires_in_days\": 100000}",
        ),
        ("GET /login", "/login?next=/account", ""),
    ];
    let answers = asked.map(|(route, path, body)| {
        let path = path.replace("JOB", &job.to_string());
        let path = path.replace("WAITING", &waiting.to_string());
        let (method, _) = route.split_once(' ').unwrap();
        described(route, &send(&owner, method, &path, body))
    });
    answers.into()
}

#[test]
fn the_document_is_valid_and_describes_every_answer_in_single_user_mode() {
    is_described(Site::house(Database::Sqlite), odd_answers);
}

#[test]
fn the_document_is_valid_and_describes_every_answer_in_multi_user_mode() {
    if let Some(site) = Site::village(Database::Sqlite) {
        is_described(site, |_| Vec::new());
    }
}

/// Methods and paths that are no routes.
const NO_ROUTES: [&str; 3] = ["GET /nothing", "DELETE /v1/jobs/{jobid}", "PUT /v1/jobs"];

/// Whoever asks for what is another's is told, byte for byte, what is told
/// about what is not there.
fn foreign_is_unknown(walkers: &[Flux], job: i64) {
    let owner = &walkers[WALKERS.iter().position(|who| *who == "the owner").unwrap()];
    let other = &walkers[WALKERS
        .iter()
        .position(|who| *who == "another user")
        .unwrap()];
    let new = serde_json::json!({"label": "foreign"});
    let made = owner.create_key(ALICE.name, &House::password(ALICE.name), &new);
    let made = made.with(201);
    let key = made["id"].as_str().unwrap().to_owned();
    let known = [("JOB", job.to_string()), ("KEY", key)];
    let unknown = [(job + 1000).to_string(), "zzzzzzzzzzzz".to_owned()];
    let mut asked = 0;
    for Row { route, body, .. } in ROWS {
        let (method, named) = route.split_once(' ').unwrap();
        let path = named.replace("{jobid}", "JOB").replace("{id}", "KEY");
        for ((word, foreign), unknown) in known.iter().zip(&unknown) {
            if !path.contains(word) || NO_ROUTES.contains(&route) {
                continue;
            }
            let told = |who: &Flux, id: &str| {
                let answer = send(who, method, &path.replace(word, id), body);
                (answer.status, answer.text().replace(id, "ID"))
            };
            assert_eq!(told(other, foreign), told(other, unknown), "{route}");
            assert_ne!(told(owner, foreign), told(owner, unknown), "{route}");
            asked += 1;
        }
    }
    assert!(asked >= 5, "{asked}");
}

#[test]
fn t110_in_single_user_mode_each_route_answers_as_the_table_says_on_sqlite() {
    walk(Site::house(Database::Sqlite));
}

#[test]
fn t110_in_single_user_mode_each_route_answers_as_the_table_says_on_postgres() {
    if let Some(database) = Database::postgres() {
        walk(Site::house(database));
    }
}

#[test]
fn t110_in_multi_user_mode_each_route_answers_as_the_table_says_on_sqlite() {
    if let Some(site) = Site::village(Database::Sqlite) {
        walk(site);
    }
}

#[test]
fn t110_in_multi_user_mode_each_route_answers_as_the_table_says_on_postgres() {
    if let Some(database) = Database::postgres()
        && let Some(site) = Site::village(database)
    {
        walk(site);
    }
}

#[test]
fn t110_too_little_scope_is_told_with_what_it_takes() {
    let gate = Gatehouse::open();
    let reader = gate.user("ann", "user", "read");
    let answer = reader.post("/v1/jobs/submit?command=true");
    let detail = answer.detail(403);
    assert!(detail.contains("the scope submit"), "{detail}");
    let realm = format!("realm=\"http://{}/v1/token\"", reader.address());
    assert_eq!(
        answer.header("www-authenticate"),
        Some(format!("Bearer {realm},error=\"insufficient_scope\",scope=\"submit\"").as_str())
    );
    gate.house.close();
}

#[test]
fn t115_no_pattern_and_no_cursor_leads_to_the_jobs_of_others() {
    let gate = Gatehouse::open();
    let ann = gate.user("ann", "user", ALL);
    let job = ann.submit("echo of-ann 100% sure_thing");
    ann.finished(job);
    let bob = gate.user("bob", "user", ALL);
    let long = "a".repeat(60_000);
    for search in [
        "%25",
        "_",
        "%25%25",
        "of-ann",
        "(a%2B)%2B%24",
        ".*",
        "'%20or%201=1--",
        &long,
    ] {
        for page in [
            "",
            "&start=0&length=100",
            "&start=-5&length=-1",
            "&start=99999999999999",
        ] {
            let answer = bob.get(&format!("/v1/jobs/search?search={search}{page}"));
            let text = answer.text();
            assert!(
                [200, 414, 422].contains(&answer.status),
                "{} {text:.200}",
                answer.status
            );
            assert!(!text.contains("of-ann"), "{search:.40}{page}");
        }
    }
    // What stands for anything elsewhere stands for itself here.
    let found = |search: &str| {
        let answer = ann
            .get(&format!("/v1/jobs/search?search={search}"))
            .with(200);
        !answer["data"].as_array().unwrap().is_empty()
    };
    assert!(found("100%25") && found("sure_thing"));
    assert!(!found("sure%25thing") && !found("o_-ann"));
    gate.house.close();
}
