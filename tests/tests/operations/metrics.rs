//! Health, readiness and metrics, on a listener of their own.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use nix::sys::signal::Signal;
use serde_json::Value;
use warrant_tests::cluster::Cluster;
use warrant_tests::disk::Disk;
use warrant_tests::flux::Address;
use warrant_tests::ports::free_address;
use warrant_tests::processes::send;
use warrant_tests::wait::until;
use warrant_tests::{Database, Flux, House, Plan, Setup};

fn admin_at(address: SocketAddr) -> Flux {
    let at = Address::unknown();
    at.set(address);
    Flux::new(at, None)
}

/// A house, and a client of its admin listener.
fn watched(setup: Setup) -> (House, Flux) {
    let address = free_address();
    let setup = setup.set("BROKER__LISTEN__ADMIN", &address.to_string());
    (setup.open(), admin_at(address))
}

/// Every sample, by its name and labels; each line is read strictly.
/// Source: OpenMetrics 1.0, "Text Format".
fn samples(admin: &Flux) -> BTreeMap<String, f64> {
    let answer = admin.get("/metrics");
    assert_eq!(answer.status, 200);
    let kind = answer.header("content-type").unwrap();
    assert!(
        kind.starts_with("application/openmetrics-text; version=1.0.0"),
        "{kind}"
    );
    let text = answer.text();
    let lines = text.strip_suffix("# EOF\n").expect("it ends with # EOF");
    let mut described = Vec::new();
    let mut found = BTreeMap::new();
    for line in lines.lines() {
        if let Some(about) = line.strip_prefix("# ") {
            let words: Vec<_> = about.splitn(3, ' ').collect();
            assert!(["HELP", "TYPE", "UNIT"].contains(&words[0]), "{line}");
            assert!(words[1].starts_with("warrant_"), "{line}");
            described.push(words[1].to_owned());
            continue;
        }
        let (name, value) = line.rsplit_once(' ').expect(line);
        let family = name.split('{').next().unwrap();
        assert!(
            described.iter().any(|known| family.starts_with(known)),
            "{line}"
        );
        assert!(!name.contains('{') || name.ends_with("\"}"), "{line}");
        let again = found.insert(name.to_owned(), value.parse().expect(line));
        assert_eq!(again, None, "{line} is there twice");
    }
    found
}

fn value(admin: &Flux, name: &str) -> f64 {
    samples(admin).get(name).copied().unwrap_or_default()
}

/// The parts that are not there.
fn missing(admin: &Flux) -> (u16, Vec<(String, String)>) {
    let answer = admin.get("/readyz");
    let report = answer.json();
    let parts = report["parts"].as_array().unwrap();
    let names: Vec<_> = parts
        .iter()
        .map(|part| part["part"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["store", "authsvc", "shim", "disk", "clock"]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let missing: Vec<_> = parts
        .iter()
        .filter(|part| part["ok"] == false)
        .map(|part| (text(&part["part"]), text(&part["problem"])))
        .collect();
    assert_eq!(report["ready"], missing.is_empty());
    (answer.status, missing)
}

fn until_ready(admin: &Flux) {
    until("every part to be there", || {
        let (status, missing) = missing(admin);
        (status == 200).then(|| assert_eq!(missing, []))
    });
}

/// Wait until `part` is said to be missing; returns what is said of it.
fn until_missing(admin: &Flux, part: &str) -> String {
    until(&format!("{part} to be missed"), || {
        // The process serves all the while.
        assert_eq!(admin.get("/healthz").text(), "ok\n");
        let (status, missing) = missing(admin);
        let (_, problem) = missing.into_iter().find(|(name, _)| name == part)?;
        assert_eq!(status, 503);
        Some(problem)
    })
}

#[test]
fn what_is_done_is_counted_exactly_and_names_nobody() {
    let (house, admin) = watched(Setup::on(Database::Sqlite));
    let ann = house.user("ann");
    until_ready(&admin);
    let good = ann.submit("true");
    ann.finished(good);
    let bad = ann.submit_script("exit 3");
    ann.finished(bad);
    let long = ann.submit("sleep 300");
    ann.wait_until(long, "RUN");
    let never = ann.submit_with(&serde_json::json!({"command": "true", "num_tasks": 4}));
    ann.get("/v1/jobs/1000").with(404);
    ann.get("/v1/nothing/ann").with(404);
    let seen = samples(&admin);
    let is = |name: &str, expected: f64| {
        assert_eq!(
            seen.get(name).copied().unwrap_or_default(),
            expected,
            "{name}"
        );
    };
    is("warrant_jobs_submitted_total", 4.0);
    is("warrant_jobs_started_total", 3.0);
    is("warrant_job_launch_duration_seconds_count", 3.0);
    is("warrant_jobs_ended_total{result=\"Completed\"}", 1.0);
    is("warrant_jobs_ended_total{result=\"Failed\"}", 1.0);
    is("warrant_jobs_running", 1.0);
    is("warrant_jobs_queued", 1.0);
    is("warrant_store_commits_failed_total", 0.0);
    is("warrant_ready{part=\"store\"}", 1.0);
    is(
        "warrant_http_requests_total{method=\"POST\",route=\"/v1/jobs/submit\",status=\"200\"}",
        4.0,
    );
    is(
        "warrant_http_requests_total{method=\"GET\",route=\"/v1/jobs/{jobid}\",status=\"404\"}",
        1.0,
    );
    is(
        "warrant_http_requests_total{method=\"GET\",route=\"none\",status=\"404\"}",
        1.0,
    );
    assert!(seen["warrant_disk_free_bytes{place=\"spool\"}"] > 0.0);
    assert!(seen["warrant_store_commit_duration_seconds_count"] >= 4.0);
    assert!(seen["warrant_connections"] >= 1.0);
    ann.cancel(long).with(200);
    ann.finished(long);
    ann.finished(never);
    until("the end to be counted", || {
        (value(&admin, "warrant_jobs_ended_total{result=\"Canceled\"}") == 1.0).then_some(())
    });
    assert_eq!(value(&admin, "warrant_jobs_running"), 0.0);
    let text = admin.get("/metrics").text();
    assert!(!text.contains("ann") && !text.contains("sleep"), "{text}");
    house.close();
}

#[test]
fn readiness_names_what_is_missing_and_health_does_not_depend_on_it() {
    let (mut house, admin) = watched(Setup::on(Database::Sqlite));
    until_ready(&admin);
    house.kill_authsvc();
    let said = until_missing(&admin, "authsvc");
    assert!(
        said.starts_with("The auth service cannot be reached."),
        "{said}"
    );
    assert_eq!(value(&admin, "warrant_ready{part=\"authsvc\"}"), 0.0);
    house.start_authsvc();
    until_ready(&admin);
    let monitor = house.monitor();
    let before = value(&admin, "warrant_shim_reconnections_total");
    send(monitor.pid, Signal::SIGSTOP);
    // The broker replaces its own monitor at once.
    until("the monitor to be replaced", || {
        (value(&admin, "warrant_shim_reconnections_total") == before + 1.0).then_some(())
    });
    until_ready(&admin);
    house.close();
}

#[test]
fn a_database_that_is_away_and_a_full_disk_are_named() {
    if let Some(cluster) = Cluster::start() {
        let (house, admin) = watched(Setup::on(cluster.database()));
        until_ready(&admin);
        cluster.crash();
        until_missing(&admin, "store");
        cluster.resume();
        until_ready(&admin);
        house.close();
    }
    let Some(disk) = Disk::new(32) else {
        return;
    };
    let (house, admin) = watched(Setup::on(Database::Sqlite).state_in(disk.path()));
    until_ready(&admin);
    let ann = house.user("ann");
    let job = ann.submit_script("yes | head -c 60000000");
    let lost = ann.finished(job)["dropped_bytes"].as_f64().unwrap();
    until("the loss to be counted", || {
        (value(&admin, "warrant_output_dropped_bytes_total") == lost).then_some(())
    });
    let said = until_missing(&admin, "disk");
    assert!(said.contains("the disk of the spool is full"), "{said}");
    house.close();
}

#[test]
fn in_multi_user_mode_a_shim_that_is_stopped_is_named() {
    let address = free_address();
    let plan = Plan::default().set("BROKER__LISTEN__ADMIN", &address.to_string());
    let Some(mut village) = plan.open() else {
        return;
    };
    let admin = admin_at(address);
    until_ready(&admin);
    village.stop_shim();
    until_missing(&admin, "shim");
    village.start_shim();
    until_ready(&admin);
    village.close();
}

#[test]
fn t136_the_admin_listener_is_apart_from_the_main_one_and_of_this_machine_alone() {
    let (house, admin) = watched(Setup::on(Database::Sqlite));
    let superuser = house.admin();
    for path in ["/metrics", "/readyz", "/healthz"] {
        assert_eq!(superuser.get(path).status, 404, "{path}");
    }
    assert_eq!(admin.get("/v1/jobs").status, 404);
    assert_eq!(admin.post("/metrics").status, 405);
    for address in ["0.0.0.0:0", "192.0.2.1:9000", "[::]:0"] {
        let said = house.broker_refuses("BROKER__LISTEN__ADMIN", address);
        assert!(
            said.contains("listen.admin: must be a loopback address"),
            "{said}"
        );
    }
    house.close();
}

#[test]
fn t136_clients_that_say_nothing_do_not_keep_others_from_asking() {
    let (house, admin) = watched(Setup::on(Database::Sqlite));
    let mut silent: Vec<_> = (0..40)
        .map(|_| TcpStream::connect(admin.address()).unwrap())
        .collect();
    for stream in &mut silent {
        // One that was closed to make room cannot be written to.
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\n");
    }
    until("the admin listener to answer", || {
        let answer = admin.try_send(&ureq::http::Method::GET, "/healthz", &[], b"");
        answer.ok().filter(|answer| answer.status == 200)
    });
    assert_eq!(house.admin().get("/v1/jobs").status, 200);
    drop(silent);
    house.close();
}

/// The names in an expression of Prometheus that are of ours.
fn names(expression: &str) -> Vec<String> {
    let letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = expression.split(|other| !letter(other));
    let ours = words.filter(|word| word.starts_with("warrant_"));
    ours.map(str::to_owned).collect()
}

#[test]
fn every_metric_is_documented_and_every_alert_asks_for_one_that_there_is() {
    let (house, admin) = watched(Setup::on(Database::Sqlite));
    let ann = house.user("ann");
    let job = ann.submit("true");
    ann.finished(job);
    until("the end to be counted", || {
        samples(&admin)
            .contains_key("warrant_jobs_ended_total{result=\"Completed\"}")
            .then_some(())
    });
    let there = samples(&admin);
    let families: std::collections::BTreeSet<_> = there
        .keys()
        .map(|name| name.split('{').next().unwrap().to_owned())
        .collect();
    let documents = include_str!("../../../docs/MONITORING.md");
    for family in &families {
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| family.strip_suffix(end))
            .unwrap_or(family);
        assert!(
            documents.contains(&format!("`{base}`")),
            "{base} is not documented"
        );
    }
    let rules = include_str!("../../../packaging/prometheus/warrant.rules.yml");
    let expressions: Vec<_> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "))
        .collect();
    assert!(expressions.len() >= 12);
    for expression in expressions {
        for name in names(expression) {
            assert!(families.contains(&name), "{expression}: there is no {name}");
        }
    }
    // What is told of an alert is where its name is explained.
    for line in rules.lines() {
        if let Some(name) = line.trim().strip_prefix("- alert: ") {
            assert!(
                documents.contains(&format!("`{name}`")),
                "{name} is not documented"
            );
        }
    }
    house.close();
}
