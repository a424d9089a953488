//! A server below a path of its host.

use std::collections::{BTreeSet, VecDeque};

use serde_json::{Value, json};
use ureq::http::Method;
use warrant_tests::nginx::{BELOW_A_PATH, Nginx, Ports};
use warrant_tests::python::Client;
use warrant_tests::{Answer, Database, Flux, House, Setup};

const PREFIX: &str = "/flux";
const ORIGIN: &str = "http://127.0.0.1:5000";

fn house() -> House {
    let url = format!("{ORIGIN}{PREFIX}");
    Setup::on(Database::Sqlite)
        .set("BROKER__LISTEN__PUBLIC_URL", &url)
        .set("AUTHSVC__OAUTH__URL", &url)
        .open()
}

/// Every address on a page: of links, forms and what is loaded.
fn addresses(page: &str) -> Vec<(bool, String)> {
    let named = ["href", "src", "action"].into_iter().flat_map(|attribute| {
        page.split(&format!(" {attribute}=\""))
            .skip(1)
            .map(move |rest| (attribute == "action", rest.split('"').next().unwrap()))
            .collect::<Vec<_>>()
    });
    named
        .filter(|(_, address)| !address.starts_with('#') && !address.starts_with("data:"))
        .map(|(form, address)| (form, address.replace("&amp;", "&")))
        .collect()
}

/// The path that `address` leads to from the page at `from`.
fn resolved(from: &str, address: &str) -> String {
    let path = address.strip_prefix(ORIGIN).unwrap_or(address);
    if path.starts_with('/') {
        return path.to_owned();
    }
    assert!(!path.contains(':'), "{from} leads to {address}");
    let (directory, _) = from.rsplit_once('/').unwrap();
    format!("{directory}/{}", path.trim_start_matches("./"))
}

fn get(client: &Flux, path: &str, cookie: &str) -> Answer {
    let headers = [("accept", "text/html"), ("cookie", cookie)];
    client.send(&Method::GET, path, &headers, b"")
}

/// Follow every link and redirect from `start`; returns the paths that were seen.
fn crawl(client: &Flux, start: &[&str], cookie: &str) -> BTreeSet<String> {
    let mut waiting: VecDeque<_> = start
        .iter()
        .map(|path| (false, (*path).to_owned()))
        .collect();
    let mut seen = BTreeSet::new();
    while let Some((form, path)) = waiting.pop_front() {
        assert!(path.starts_with("/flux/"), "{path} is not below the path");
        let (route, _) = path.split_once('?').unwrap_or((&path, ""));
        if !seen.insert(route.to_owned()) && !form {
            continue;
        }
        if form {
            let sent = [("origin", ORIGIN), ("cookie", cookie)];
            let answer = client.send(&Method::POST, &path, &sent, b"");
            assert!(
                ![404, 405].contains(&answer.status),
                "{path}: {}",
                answer.text()
            );
            continue;
        }
        let answer = get(client, &path, cookie);
        assert!(
            [200, 303, 307].contains(&answer.status),
            "{path}: {}",
            answer.text()
        );
        let location = answer
            .header("location")
            .map(|there| (false, there.to_owned()));
        let html = answer
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("text/html"));
        let found = if html {
            addresses(&answer.text())
        } else {
            Vec::new()
        };
        let found = found.into_iter().chain(location);
        waiting.extend(found.map(|(form, address)| (form, resolved(&path, &address))));
    }
    seen
}

/// What a form to sign in is answered with.
fn sign_in(client: &Flux) -> Answer {
    let login = get(client, "/flux/login?next=/flux/account", "");
    let page = login.text();
    let (_, csrf) = page.split_once("name=\"csrf\" value=\"").unwrap();
    let (csrf, _) = csrf.split_once('"').unwrap();
    let password = House::password("ann");
    let form = format!("user=ann&password={password}&next=%2Fflux%2Faccount&csrf={csrf}");
    let cookie = login.header("set-cookie").unwrap();
    let sent = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("origin", ORIGIN),
        ("cookie", cookie.split(';').next().unwrap()),
    ];
    client.send(&Method::POST, "/flux/login", &sent, form.as_bytes())
}

#[test]
fn every_page_link_form_and_redirect_stays_below_the_path() {
    let house = house();
    house.user("ann");
    let anybody = house.nobody();
    let seen = crawl(
        &anybody,
        &["/flux/account", "/flux/docs", "/flux/redoc"],
        "",
    );
    for page in ["/flux/login", "/flux/docs/", "/flux/docs/swagger-ui.css"] {
        assert!(seen.contains(page), "{seen:?}");
    }

    let signed_in = sign_in(&anybody);
    assert_eq!(signed_in.status, 303, "{}", signed_in.text());
    assert_eq!(signed_in.header("location"), Some("/flux/account"));
    let cookies = signed_in.headers("set-cookie");
    for cookie in &cookies {
        assert!(cookie.starts_with("__Secure-warrant"), "{cookie}");
        assert!(cookie.contains("; Path=/flux;"), "{cookie}");
    }
    let session = cookies
        .iter()
        .find(|cookie| cookie.starts_with("__Secure-warrant="));
    let session = session.unwrap().split(';').next().unwrap();
    // The broker knows the browser by it as well.
    let own = anybody.send(
        &Method::GET,
        "/flux/v1/session",
        &[("cookie", session)],
        b"",
    );
    assert_eq!(own.with(200)["user"], json!("ann"));
    // The form to sign out ends the session: the forms of the page come last.
    let seen = crawl(&anybody, &["/flux/oauth/device", "/flux/account"], session);
    for route in [
        "/flux/account/keys",
        "/flux/account/password",
        "/flux/logout",
    ] {
        assert!(seen.contains(route), "{seen:?}");
    }
    house.close();
}

/// Every text in `value` that is an address of this host.
fn own_addresses(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) if text.starts_with(ORIGIN) => found.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| own_addresses(value, found)),
        Value::Object(fields) => fields
            .values()
            .for_each(|value| own_addresses(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_address_that_programs_are_given_is_below_the_path() {
    let house = house();
    let ann = house.user("ann");
    let anybody = house.nobody();
    // With the path, and from a proxy that takes it off.
    for before in [PREFIX, ""] {
        let at = |path: &str| format!("{before}{path}");
        ann.get(&at("/v1/jobs")).with(200);
        let refused = anybody.get(&at("/v1/jobs"));
        let challenge = refused.header("www-authenticate").unwrap();
        assert!(
            challenge.contains("\"http://127.0.0.1:5000/flux/v1/token\""),
            "{challenge}"
        );
        let slash = anybody.get(&at("/v1/jobs/?details=1"));
        assert_eq!(slash.header("location"), Some("/flux/v1/jobs?details=1"));
        let slash = anybody.get(&at("/login/?next=/account"));
        assert_eq!(slash.header("location"), Some("/flux/login?next=/account"));
        let script = anybody.get(&at("/docs/swagger-initializer.js")).text();
        assert!(script.contains("\"/flux/openapi.json\""), "{script}");

        let document = anybody.get(&at("/openapi.json")).with(200);
        assert_eq!(document["servers"], json!([{"url": PREFIX}]));
        let schemes = &document["components"]["securitySchemes"];
        assert_eq!(schemes["cookie"]["name"], "__Secure-warrant");
        let flow = &schemes["oauth2"]["flows"]["authorizationCode"];
        assert_eq!(flow["authorizationUrl"], "/flux/oauth/authorize");
        assert_eq!(flow["tokenUrl"], "/flux/oauth/token");

        let device = anybody.send(
            &Method::POST,
            &at("/oauth/device_authorization"),
            &[("content-type", "application/x-www-form-urlencoded")],
            b"client_id=warrant&scope=read",
        );
        let metadata = anybody.get(&at("/.well-known/oauth-authorization-server"));
        for answer in [device, metadata] {
            let mut found = Vec::new();
            own_addresses(&answer.with(200), &mut found);
            assert!(found.len() >= 2, "{}", answer.text());
            let below = |address: &String| {
                address == "http://127.0.0.1:5000/flux"
                    || address.starts_with("http://127.0.0.1:5000/flux/")
            };
            assert!(found.iter().all(below), "{found:?}");
        }
    }
    // Source: RFC 8414, section 3.1: between the host and the path.
    let metadata = anybody.get("/.well-known/oauth-authorization-server/flux");
    assert_eq!(metadata.with(200)["issuer"], "http://127.0.0.1:5000/flux");
    assert_eq!(anybody.get("/fluxes/v1/jobs").status, 404);
    house.close();
}

#[test]
fn the_shipped_nginx_serves_below_a_path_as_edited_by_the_documented_command() {
    let documented = include_str!("../../docs/PROXY.md");
    assert!(documented.contains(BELOW_A_PATH));
    let ports = Ports::free().below_a_path();
    let house = ports.tell(Setup::on(Database::Sqlite)).open();
    house.authsvc_command(&["user", "add", "ann"], &House::password("ann"));
    let nginx = Nginx::before(&house, ports);
    let pair = format!("ann:{}", House::password("ann"));
    let (status, answer) = nginx.curl("/v1/jobs/submit?command=true", &["-X", "POST", "-u", &pair]);
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = nginx.curl("/account", &[]);
    assert_eq!(status, 303);
    assert!(
        answer.contains("location: /warrant/login?next=%2Faccount\r\n"),
        "{answer}"
    );
    let (status, _) = nginx.curl("/login", &[]);
    assert_eq!(status, 200);
    let (status, answer) = nginx.curl("/v1/jobs", &["-u", "ann:wrong"]);
    assert_eq!(status, 401, "{answer}");
    drop(nginx);
    house.close();
}

#[test]
fn both_published_clients_work_below_a_path_behind_the_shipped_nginx() {
    for client in [Client::Old, Client::New] {
        let ports = Ports::free().below_a_path();
        let mut house = ports.tell(Setup::on(Database::Sqlite)).open();
        let nginx = Nginx::before(&house, ports);
        let certificate = nginx.certificate();
        let variables = [
            ("FLUX_RESTFUL_HOST", ports.url()),
            ("SSL_CERT_FILE", certificate.display().to_string()),
            ("REQUESTS_CA_BUNDLE", certificate.display().to_string()),
        ];
        let variables = variables
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        client.run(&house, "methods.py", &variables);
        assert!(house.broker_ended().success());
        drop(nginx);
        house.close();
    }
}
