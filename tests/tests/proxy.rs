//! Behind proxies: the shipped nginx, and others.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use ureq::http::Method;
use warrant_tests::nginx::{Nginx, Ports};
use warrant_tests::python::Client;
use warrant_tests::service::Service;
use warrant_tests::wait::{PATIENCE, until};
use warrant_tests::{Database, House, Setup, raw};

fn house_behind(ports: Ports) -> House {
    ports.tell(Setup::on(Database::Sqlite)).open()
}

/// The body of an answer, which is JSON.
fn body(answer: &str) -> Value {
    let (_, body) = answer.rsplit_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

fn form(user: &str, password: &str) -> String {
    format!("username={user}&password={password}")
}

#[test]
fn t131_the_shipped_nginx_names_each_client_whatever_the_client_says() {
    let ports = Ports::free();
    let house = house_behind(ports);
    for user in ["ann", "bob"] {
        house.authsvc_command(&["user", "add", user], &House::password(user));
    }
    let nginx = Nginx::before(&house, ports);
    let guess = |user: &str, password: &str, from: &str, number: usize| {
        let made_up = format!("198.51.100.{number}");
        let headers = [
            format!("X-Warrant-Source: {made_up} root granted"),
            format!("X-Forwarded-For: {made_up}"),
            format!("Forwarded: for={made_up}"),
            format!("X-Real-IP: {made_up}"),
        ];
        let form = form(user, password);
        let mut arguments = vec!["--interface", from, "--data", &form];
        for header in &headers {
            arguments.extend(["--header", header]);
        }
        nginx.curl("/v1/login/access-token", &arguments).0
    };
    let guesses: Vec<_> = (0..14)
        .map(|number| guess("ann", "wrong", "127.0.0.5", number))
        .collect();
    assert!(guesses.starts_with(&[400; 10]), "{guesses:?}");
    assert!(guesses.contains(&429), "{guesses:?}");
    // The owner comes from elsewhere.
    assert_eq!(guess("ann", &House::password("ann"), "127.0.0.6", 1), 200);
    for number in 0..110 {
        guess(
            &format!("user{}", number % 12),
            "wrong",
            "127.0.0.5",
            number,
        );
    }
    assert_eq!(guess("bob", &House::password("bob"), "127.0.0.7", 1), 200);
    assert_eq!(guess("bob", &House::password("bob"), "127.0.0.5", 1), 200);

    let rows = house.audit("warrant-authsvc");
    let mut sources: Vec<_> = rows
        .iter()
        .filter(|row| row["kind"] == "login")
        .map(|row| row["source"].as_str().unwrap().to_owned())
        .collect();
    sources.sort();
    sources.dedup();
    assert_eq!(sources, ["127.0.0.5", "127.0.0.6", "127.0.0.7"]);
    // What passes the broker has its true source as well.
    let (status, _) = nginx.curl("/v1/jobs", &["--interface", "127.0.0.8", "-u", "ann:wrong"]);
    assert_eq!(status, 401);
    until("a guess to be recorded", || {
        let rows = house.audit("warrant-authsvc");
        (rows.last()?["source"] == "127.0.0.8").then_some(())
    });
    drop(nginx);
    house.close();
}

/// A server that takes down all it is sent and answers with an empty object.
fn recorder(path: &Path) -> Arc<Mutex<String>> {
    let listener = UnixListener::bind(path).unwrap();
    let heard = Arc::new(Mutex::new(String::new()));
    let all = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let all = all.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                let mut length = 0;
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                    all.lock().unwrap().push_str(&line);
                    let lower = line.to_ascii_lowercase();
                    if let Some(value) = lower.strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    let ended = line == "\r\n";
                    line.clear();
                    if ended {
                        let mut body = vec![0; std::mem::take(&mut length)];
                        reader.read_exact(&mut body).unwrap();
                        let body = String::from_utf8_lossy(&body).into_owned();
                        all.lock().unwrap().push_str(&body);
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
                        reader.get_mut().write_all(answer).unwrap();
                    }
                }
            });
        }
    });
    heard
}

#[test]
fn t131_no_password_passes_the_broker_by_any_page_or_route() {
    no_password_passes_the_broker(Ports::free(), "");
}

#[test]
fn t131_no_password_passes_the_broker_below_a_path_either() {
    no_password_passes_the_broker(Ports::free().below_a_path(), "/warrant");
}

/// Send passwords to every page and route of a server at the path `below`, with a recorder
/// in the broker's place.
fn no_password_passes_the_broker(ports: Ports, below: &str) {
    let house = house_behind(ports);
    house.authsvc_command(&["user", "add", "ann"], &House::password("ann"));
    let broker = house.path("recorder.sock");
    let heard = recorder(&broker);
    let nginx = Nginx::start(ports, &broker, &house.path("run/auth.sock"));
    let password = House::password("ann");
    let basic = format!("ann:{password}");
    let payload = warrant_tests::handshake::payload("ann", &password, warrant_tests::house::SECRET);
    let bearer = format!("Authorization: Bearer {payload}");
    let fields = format!(
        "user=ann&username=ann&password={password}&present={password}&fresh={password}&again={password}"
    );
    for path in [
        "/v1/token",
        "/v1/token/",
        "/v1/login/access-token",
        "/v1/login/access-token/",
        "/oauth/token",
        "/login",
        "/login/",
        "/%6Cogin",
        "//login",
        "/account/password",
        "/account/keys",
        "/v1/keys",
    ] {
        let answer = nginx.curl(
            path,
            &["--path-as-is", "--data", &fields, "--header", &bearer],
        );
        assert_ne!(answer.0, 502, "{path}: {}", answer.1);
    }
    let json = json!({"label": "x", "password": password}).to_string();
    for arguments in [
        ["-u", &basic, "--data", &json],
        [
            "--header",
            "Content-Type: application/json",
            "--data",
            &json,
        ],
    ] {
        nginx.curl("/v1/keys", &arguments);
    }
    for path in [
        "/",
        "/v1/jobs",
        "/v1/keys",
        "/v1/jobs/submit?command=true",
        "/docs/",
        "/any/page",
    ] {
        let (status, answer) = nginx.curl(path, &["-u", &basic]);
        assert_eq!((status, body(&answer)), (200, json!({})), "{path}");
    }
    let (status, _) = nginx.curl(
        "/v1/jobs/submit",
        &["-u", &basic, "--data", r#"{"command":"true"}"#],
    );
    assert_eq!(status, 200);
    let heard = heard.lock().unwrap().clone();
    assert!(!heard.contains("canary"), "{heard}");
    let encoded = warrant_tests::nginx::basic(&basic);
    for secret in [&payload, &encoded] {
        assert!(!heard.contains(secret.as_str()), "{heard}");
    }
    assert!(!heard.contains("Basic"), "{heard}");
    assert!(
        heard.contains(&format!("GET {below}/any/page")) && heard.contains(r#"{"command":"true"}"#)
    );
    let tokens = heard
        .lines()
        .filter(|line| line.starts_with("Authorization: Bearer ey"));
    assert_eq!(tokens.count(), 7, "{heard}");
    assert!(!nginx.log().contains("canary"), "{}", nginx.log());
    drop(nginx);
    house.close();
}

#[test]
fn t131_names_and_passwords_work_through_nginx_and_are_judged_as_elsewhere() {
    let ports = Ports::free();
    let mut house = house_behind(ports);
    house.authsvc_command(&["user", "add", "ann"], &House::password("ann"));
    let nginx = Nginx::before(&house, ports);
    let right = format!("ann:{}", House::password("ann"));
    let command = r#"{"command":["echo","through"]}"#;
    let json = "Content-Type: application/json";
    let submit = ["-u", &right, "--header", json, "--data", command];
    let (status, answer) = nginx.curl("/v1/jobs/submit", &submit);
    assert_eq!(status, 200, "{answer}");
    let job = body(&answer)["id"].as_i64().unwrap();
    let ann = house.login("ann");
    assert_eq!(ann.finished(job)["result"], "COMPLETED");
    // The page of another server cannot use what a browser sends by itself.
    let foreign = [&submit[..], &["--header", "Origin: https://evil.example"]].concat();
    assert_eq!(nginx.curl("/v1/jobs/submit", &foreign).0, 403);
    let (status, answer) = nginx.curl("/v1/jobs", &["-u", "ann:wrong"]);
    assert_eq!(status, 401);
    assert_eq!(body(&answer)["detail"], "Could not validate credentials");
    let realm = format!("realm=\"{}/v1/token\"", ports.url());
    assert!(answer.contains(&realm), "{answer}");
    let throttled = until("guesses to be refused", || {
        let (status, answer) = nginx.curl("/v1/jobs", &["-u", "ann:wrong"]);
        (status != 401).then_some((status, answer))
    });
    assert_eq!(throttled.0, 429, "{}", throttled.1);
    assert!(body(&throttled.1)["detail"].is_string());
    house.kill_authsvc();
    let (status, answer) = nginx.curl("/v1/jobs", &["-u", "ann:another"]);
    assert_eq!(status, 503);
    assert_eq!(
        body(&answer)["detail"],
        "The auth service cannot be reached."
    );
    house.start_authsvc();
    drop(nginx);
    house.close();
}

#[test]
fn t131_limits_agree_and_what_nginx_refuses_is_json() {
    let ports = Ports::free();
    let mut house = house_behind(ports);
    let ann = house.user("ann");
    let nginx = Nginx::before(&house, ports);
    let token = format!("Authorization: Bearer {}", ann.token());
    let with =
        |path: &str, more: &[&str]| nginx.curl(path, &[&["--header", &token], more].concat());
    for http in ["--http1.1", "--http2"] {
        // A submission in the address, as the existing clients send it.
        let long = format!(
            "/v1/jobs/submit?command=true&workdir=/{}",
            "./".repeat(25_000)
        );
        let (status, answer) = with(&long, &[http, "--path-as-is", "--request", "POST"]);
        let direct = ann.post(&long);
        assert_eq!(
            (status, body(&answer)["Message"].clone()),
            (direct.status, direct.json()["Message"].clone())
        );
        // Over HTTP/2, nginx ends the connection that sends such a head.
        if http == "--http1.1" {
            let longer = format!("/v1/jobs?search={}", "x".repeat(100_000));
            let (status, answer) = with(&longer, &[http]);
            assert_eq!(status, 414);
            assert!(body(&answer)["detail"].is_string());
            let filler = format!("X-Filler: {}", "x".repeat(50_000));
            let fillers = ["--header", &filler].repeat(3);
            let (status, answer) = with("/v1/jobs", &[&[http][..], &fillers].concat());
            assert_eq!(status, 431);
            assert!(body(&answer)["detail"].is_string());
        }
        // A body.
        let file = house.path("large");
        for (bytes, expected) in [(1_040_000, 200), (1_500_000, 413), (20_000_000, 413)] {
            let filler = "x".repeat(bytes);
            fs::write(
                &file,
                json!({"command": "true", "filler": filler}).to_string(),
            )
            .unwrap();
            let data = format!("@{}", file.display());
            let json = "Content-Type: application/json";
            let more = [
                http,
                "--header",
                json,
                "--header",
                "Expect:",
                "--data-binary",
                &data,
            ];
            let (status, answer) = with("/v1/jobs/submit", &more);
            assert_eq!(status, expected, "{bytes} {answer:.300}");
            assert!(body(&answer).is_object());
            let direct = ann.send(
                &Method::POST,
                "/v1/jobs/submit",
                &[("content-type", "application/json")],
                &fs::read(&file).unwrap(),
            );
            assert_eq!(direct.status, expected, "{bytes}");
        }
    }
    house.stop_broker();
    let (status, answer) = with("/v1/jobs", &[]);
    assert_eq!((status, body(&answer)["detail"].is_string()), (502, true));
    house.start_broker();
    assert_eq!(with("/v1/jobs", &[]).0, 200);
    assert_eq!(with("/v1/jobs", &["--request", "TRACE"]).0, 405);
    drop(nginx);
    house.close();
}

#[test]
fn t131_what_a_service_refuses_is_read_on_so_that_the_client_hears_why() {
    let tcp = format!("127.0.0.1:{}", Ports::free().tls);
    let house = Setup::on(Database::Sqlite)
        .set("AUTHSVC__LISTEN__TCP", &tcp)
        .open();
    let token = house.user("ann").token().to_owned();
    let large = 3_000_000;
    let ask = |address: SocketAddr, path: &str, authorization: &str| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             {authorization}Connection: close\r\nContent-Length: {large}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        // All of it is taken, though nobody wants it.
        stream.write_all(&vec![b'x'; large]).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        raw::status(&answer)
    };
    let broker = house.nobody().address();
    let bearer = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(ask(broker, "/v1/jobs/submit", &bearer), 413);
    assert_eq!(ask(broker, "/v1/jobs/submit", ""), 401);
    assert_eq!(ask(broker, "/v1/nowhere", ""), 404);
    assert_eq!(ask(broker, "/v1/login/access-token", ""), 413);
    assert_eq!(ask(tcp.parse().unwrap(), "/oauth/introspect", ""), 400);
    assert_eq!(ask(tcp.parse().unwrap(), "/v1/nowhere", ""), 404);
    house.close();
}

#[test]
fn t131_output_comes_through_nginx_as_it_is_written_and_a_client_that_leaves_is_noticed() {
    let ports = Ports::free();
    let house = house_behind(ports);
    let ann = house.user("ann");
    let nginx = Nginx::before(&house, ports);
    let token = format!("Authorization: Bearer {}", ann.token());
    let go_on = house.path("go-on");
    let connections = || {
        let all = fs::read_to_string("/proc/net/unix").unwrap();
        // It was renamed after it was bound.
        let socket = house.path(&format!("run/.{}", house.broker_pid()));
        let ours = all
            .lines()
            .filter(|line| line.ends_with(socket.to_str().unwrap()));
        ours.count()
    };
    let idle = connections();
    for http in ["--http1.1", "--http2"] {
        let script = format!(
            "echo first; while [ ! -e {} ]; do sleep 0.05; done; echo last",
            go_on.display()
        );
        let job = ann.submit_script(&script);
        let path = format!("/v1/jobs/{job}/output/stream");
        let follow = || {
            let arguments = [http, "--no-buffer", "--header", &token];
            let mut curl = nginx.curl_command(&path, &arguments);
            let mut child = curl.stdout(Stdio::piped()).spawn().unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let line = lines.find(|line| line.as_ref().unwrap().contains("first"));
            assert!(line.is_some());
            (child, lines)
        };
        let (mut leaves, _) = follow();
        let (mut stays, mut lines) = follow();
        let busy = connections();
        leaves.kill().unwrap();
        leaves.wait().unwrap();
        until("the broker to notice that a client left", || {
            (connections() < busy).then_some(())
        });
        fs::write(&go_on, "").unwrap();
        assert!(lines.any(|line| line.unwrap().contains("last")));
        assert!(stays.wait().unwrap().success());
        fs::remove_file(&go_on).unwrap();
        assert_eq!(ann.finished(job)["result"], "COMPLETED");
        // Many requests over one connection.
        let list = "/v1/jobs?n=[1-40]";
        let quiet = [
            "--fail",
            http,
            "--output",
            "/dev/null",
            "--header",
            &token,
            "--write-out",
            "%{http_code}\n",
        ];
        let said = nginx.curl_command(list, &quiet).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        assert_eq!(said, "200\n".repeat(40));
    }
    assert!((idle + 1..idle + 40).contains(&connections()));
    drop(nginx);
    house.close();
}

#[test]
fn t131_every_method_of_both_published_clients_works_through_the_shipped_nginx() {
    for client in [Client::Old, Client::New] {
        if client.environment().is_none() {
            return;
        }
        let ports = Ports::free();
        let mut house = house_behind(ports);
        let nginx = Nginx::before(&house, ports);
        let url = ports.url();
        let certificate = nginx.certificate();
        let variables = [
            ("FLUX_RESTFUL_HOST", url.as_str()),
            ("SSL_CERT_FILE", certificate.to_str().unwrap()),
            ("REQUESTS_CA_BUNDLE", certificate.to_str().unwrap()),
        ];
        client.run(&house, "methods.py", &variables);
        assert!(house.broker_ended().success());
        drop(nginx);
        house.close();
    }
}

/// The source of the login that was recorded after the first `rows`.
fn next_source(house: &House, rows: &mut usize) -> String {
    until("a login to be recorded", || {
        let mut logins = house.audit("warrant-authsvc");
        logins.retain(|row| row["kind"] == "login");
        let row = logins.get(*rows)?;
        *rows += 1;
        Some(row["source"].as_str().unwrap().to_owned())
    })
}

/// Log in as nobody in particular, behind the PROXY header `first`; the answer.
fn behind_header(address: &str, first: &[u8]) -> String {
    let form = form("nobody", "wrong");
    let request = format!(
        "POST /v1/login/access-token HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    raw::exchange(
        address.parse().unwrap(),
        &[first, request.as_bytes()].concat(),
    )
}

#[test]
fn t131_both_services_take_the_proxy_protocol_from_proxies_alone() {
    let auth = format!("127.0.0.1:{}", Ports::free().tls);
    let mut house = Setup::on(Database::Sqlite)
        .set("AUTHSVC__LISTEN__TCP", &auth)
        .set("AUTHSVC__LISTEN__PROXY_PROTOCOL", "true")
        .set("AUTHSVC__LISTEN__PROXIES", "[\"127.0.0.0/31\"]")
        .open();
    house.stop_broker();
    let mut variables = house.variables();
    let file = house.path("run/proxied");
    variables.retain(|(name, _)| name != "BROKER__LISTEN__ADDRESS_FILE");
    for (name, value) in [
        ("BROKER__LISTEN__ADDRESS_FILE", file.to_str().unwrap()),
        ("BROKER__LISTEN__PROXY_PROTOCOL", "true"),
        ("BROKER__LISTEN__PROXIES", "[\"127.0.0.1\"]"),
    ] {
        variables.push((name.to_owned(), value.to_owned()));
    }
    let arguments = ["serve", "--config", "/nonexistent/none.toml"];
    let log = house.path("proxied.log");
    let broker = Service::start("warrant-broker", &arguments, &variables, &log);
    let proxied = until("the broker to listen", || fs::read_to_string(&file).ok());
    let mut rows = 0;
    let mut last = || next_source(&house, &mut rows);
    for address in [&auth, &proxied] {
        let v1 = b"PROXY TCP4 192.0.2.77 10.0.0.1 1 443\r\n";
        assert_eq!(raw::status(&behind_header(address, v1)), 400);
        assert_eq!(last(), "192.0.2.77");
        let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        v2.extend([192, 0, 2, 78, 10, 0, 0, 1, 0, 1, 1, 187]);
        assert_eq!(raw::status(&behind_header(address, &v2)), 400);
        assert_eq!(last(), "192.0.2.78");
        // Without a header, or with one that is none, nothing is answered.
        assert_eq!(behind_header(address, b""), "");
        assert_eq!(behind_header(address, b"PROXY TCP4 rubbish\r\n"), "");
    }
    broker.stop();
    house.start_broker();
    house.close();
}

#[test]
fn t131_headers_that_name_a_client_count_from_proxies_alone() {
    let auth = format!("127.0.0.1:{}", Ports::free().tls);
    let house = Setup::on(Database::Sqlite)
        .set("AUTHSVC__LISTEN__TCP", &auth)
        .set(
            "AUTHSVC__LISTEN__PROXIES",
            "[\"127.0.0.1\", \"10.0.0.0/8\"]",
        )
        .set("BROKER__LISTEN__PROXIES", "[\"127.0.0.1\", \"10.0.0.0/8\"]")
        .open();
    let mut rows = 0;
    let mut ask = |address: &str, headers: &str| {
        let form = form("nobody", "wrong");
        let request = format!(
            "POST /v1/login/access-token HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        );
        raw::exchange(address.parse().unwrap(), request.as_bytes());
        next_source(&house, &mut rows)
    };
    let broker = house.nobody().address().to_string();
    for address in [&auth, &broker] {
        for (headers, source) in [
            ("", "127.0.0.1"),
            (
                "X-Forwarded-For: 198.51.100.1, 192.0.2.1, 10.1.2.3\r\n",
                "192.0.2.1",
            ),
            ("Forwarded: for=\"[2001:db8::1]:80\"\r\n", "2001:db8::/64"),
            ("X-Forwarded-For: root granted\r\n", "127.0.0.1"),
            (
                "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.2\r\n",
                "127.0.0.1",
            ),
        ] {
            assert_eq!(ask(address, headers), source, "{headers}");
        }
    }
    house.close();
    let house = House::open();
    let address = house.nobody().address().to_string();
    let headers = "X-Forwarded-For: 192.0.2.1\r\nX-Warrant-Source: 192.0.2.1\r\n";
    raw::exchange(
        address.parse().unwrap(),
        format!(
            "POST /v1/token HTTP/1.1\r\nHost: x\r\n{headers}Authorization: Bearer x\r\n\
             Connection: close\r\n\r\n"
        )
        .as_bytes(),
    );
    assert_eq!(next_source(&house, &mut 0), "127.0.0.1");
    house.close();
}
