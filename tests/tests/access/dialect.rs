//! What HTTP leaves open, as FastAPI and RFC 9112 have it, at both services.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::json;
use ureq::http::Method;
use warrant_tests::wait::PATIENCE;
use warrant_tests::{Flux, House, raw};

/// A request's whole answer, of the broker and of the auth service.
fn of_both(house: &House, request: &str) -> [String; 2] {
    let broker = raw::exchange(house.nobody().address(), request.as_bytes());
    let mut stream = UnixStream::connect(house.path("run/auth.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    [broker, String::from_utf8_lossy(&answer).into_owned()]
}

fn get(target: &str, host: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

#[test]
fn t111_an_absolute_target_is_that_of_the_host_or_refused() {
    let house = House::open();
    let path = "/.well-known/jwks.json";
    for (target, host, status) in [
        (format!("http://x{path}"), "x", 200),
        (format!("http://X:80{path}"), "x", 200),
        (format!("http://x:5000{path}?a=b"), "x:5000", 200),
        (format!("https://x{path}"), "x", 200),
        (format!("http://y{path}"), "x", 400),
        (format!("http://x:5001{path}"), "x:5000", 400),
        (format!("http://a@x{path}"), "x", 400),
        (format!("ftp://x{path}"), "x", 400),
        ("http://x/v1/%2e%2e/x".to_owned(), "x", 400),
    ] {
        for answer in of_both(&house, &get(&target, host)) {
            assert_eq!(raw::status(&answer), status, "{target}: {answer}");
        }
    }
    house.close();
}

#[test]
fn t111_lines_that_end_in_a_line_feed_alone_are_refused() {
    let house = House::open();
    let target = "/.well-known/jwks.json";
    for request in [
        format!("GET {target} HTTP/1.1\nHost: x\nConnection: close\n\n"),
        format!("GET {target} HTTP/1.1\nHost: x\r\nConnection: close\r\n\r\n"),
        format!("GET {target} HTTP/1.1\r\nHost: x\nConnection: close\r\n\r\n"),
        format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\n"),
    ] {
        for answer in of_both(&house, &request) {
            assert_eq!(raw::status(&answer), 400, "{request:?}: {answer}");
        }
    }
    house.close();
}

#[test]
fn letters_of_a_path_may_be_encoded() {
    let house = House::open();
    let ann = house.user("ann");
    assert_eq!(ann.get("/v1/%6eode%73").status, 200);
    assert_eq!(ann.get("/%761/jobs%2Dx").status, 404);
    for answer in of_both(&house, &get("/%2Ewell%2Dknown/jwks%2ejson", "x")) {
        assert_eq!(raw::status(&answer), 200, "{answer}");
    }
    house.close();
}

#[test]
fn a_slash_too_many_is_redirected_with_method_and_query() {
    let house = House::open();
    for (path, to) in [
        ("/v1/nodes/", Some("/v1/nodes")),
        ("/v1/jobs/?details=1", Some("/v1/jobs?details=1")),
        ("/v1/jobs/7/output/", Some("/v1/jobs/7/output")),
        ("/v1/auth/", Some("/v1/auth")),
        ("/v1/jobs/submit/", Some("/v1/jobs/submit")),
        ("//v1/nodes/", None),
        ("/nothing/", None),
    ] {
        for method in [Method::GET, Method::POST] {
            let answer = house.nobody().send(&method, path, &[], b"");
            let expected = if to.is_some() { 307 } else { 404 };
            assert_eq!(answer.status, expected, "{path}");
            assert_eq!(answer.header("location"), to, "{path}");
        }
    }
    let [_, answer] = of_both(&house, &get("/v1/keys/7/?user=a", "x"));
    assert!(
        answer.contains("location: /v1/keys/7?user=a\r\n"),
        "{answer}"
    );
    house.close();
}

/// The answer to a body of this kind.
fn sent(user: &Flux, path: &str, kind: &str, body: &[u8]) -> warrant_tests::flux::Answer {
    user.send(&Method::POST, path, &[("Content-Type", kind)], body)
}

fn multipart(fields: &[(&str, &str)]) -> String {
    let parts = fields.iter().map(|(name, value)| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    });
    format!("{}--b--\r\n", parts.collect::<String>())
}

#[test]
fn media_types_are_the_same_in_any_letters_and_forms_of_either_kind_count() {
    let house = House::open();
    let ann = house.user("ann");
    for (kind, body) in [
        (
            "Application/JSON; Charset=UTF-8",
            r#"{"command": "echo é"}"#.to_owned(),
        ),
        (
            "application/json ;charset=utf-8",
            r#"{"command": "echo é"}"#.to_owned(),
        ),
        (
            "APPLICATION/X-WWW-FORM-URLENCODED",
            "command=echo+%C3%A9".to_owned(),
        ),
        (
            "application/x-www-form-urlencoded ; charset=utf-8",
            "command=echo+é".to_owned(),
        ),
        (
            "Multipart/Form-Data; Boundary=b",
            multipart(&[("command", "echo é")]),
        ),
    ] {
        let job = sent(&ann, "/v1/jobs/submit", kind, body.as_bytes()).with(200)["id"].clone();
        let job = job.as_i64().unwrap();
        ann.finished(job);
        assert_eq!(ann.output(job), ["é\n"], "{kind}");
    }
    let (name, password) = ("ann", House::password("ann"));
    let fields = [("username", name), ("password", password.as_str())];
    let nobody = house.nobody();
    for kind in [
        "multipart/form-data; boundary=b",
        "MULTIPART/form-data; BOUNDARY=\"b\"",
    ] {
        let body = multipart(&fields);
        let answer = sent(&nobody, "/v1/login/access-token", kind, body.as_bytes());
        assert!(answer.with(200)["access_token"].is_string(), "{kind}");
    }
    let kind = "Application/X-WWW-Form-URLEncoded; Charset=utf-8";
    let body = format!("username={name}&password={password}");
    sent(&nobody, "/v1/login/access-token", kind, body.as_bytes()).with(200);
    let grant = [("grant_type", "password"), fields[0], fields[1]];
    let kind = "multipart/form-data; boundary=b";
    sent(&nobody, "/oauth/token", kind, multipart(&grant).as_bytes()).with(200);
    for body in ["--b\r\n", "", "--c--"] {
        let answer = sent(&ann, "/v1/jobs/submit", kind, body.as_bytes());
        assert_eq!(answer.status, 400, "{body:?}: {}", answer.text());
    }
    house.close();
}

#[test]
fn json_may_begin_with_a_byte_order_mark() {
    let house = House::open();
    let ann = house.user("ann");
    let text = "\u{feff}{\"command\": \"echo é\"}";
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for body in [text.as_bytes(), &utf16] {
        let job = sent(&ann, "/v1/jobs/submit", "application/json", body).with(200)["id"].clone();
        let job = job.as_i64().unwrap();
        ann.finished(job);
        assert_eq!(ann.output(job), ["é\n"]);
    }
    // At the auth service, which refuses this request for its content alone.
    let plain = "{\"grant_type\": \"client_credentials\"}";
    let answers = [plain.to_owned(), format!("\u{feff}{plain}")].map(|body| {
        let nobody = house.nobody();
        sent(&nobody, "/oauth/token", "application/json", body.as_bytes()).json()
    });
    assert_eq!(answers[0], answers[1]);
    house.close();
}

#[test]
fn compressed_bodies_are_refused() {
    let house = House::open();
    let ann = house.user("ann");
    for (path, coding) in [
        ("/v1/jobs/submit?command=true", "gzip"),
        ("/v1/jobs/submit?command=true", "GZip"),
        ("/v1/login/access-token", "deflate"),
        ("/oauth/token", "br"),
        ("/login", "zstd"),
    ] {
        let head = [
            ("content-encoding", coding),
            ("content-type", "application/json"),
        ];
        let answer = ann.send(&Method::POST, path, &head, b"\x1f\x8b\x08");
        assert_eq!(answer.status, 415, "{path}: {}", answer.text());
        assert!(answer.detail(415).contains("Content-Encoding"));
    }
    let head = [("content-encoding", "identity")];
    let answer = ann.send(&Method::POST, "/v1/jobs/submit?command=true", &head, b"{}");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let request = "POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\n\
                   Content-Length: 1\r\nConnection: close\r\n\r\nx";
    for answer in of_both(&house, request) {
        assert_eq!(raw::status(&answer), 415, "{answer}");
    }
    house.close();
}

#[test]
fn half_a_surrogate_pair_is_refused_and_a_whole_one_is_a_letter() {
    let house = House::open();
    let ann = house.user("ann");
    let submit = |envars: &str| {
        let query = format!("/v1/jobs/submit?command=printenv+A&envars={envars}");
        ann.post(&query)
    };
    let job = submit("%7B%27A%27%3A%27%5Cud83d%5Cude00%27%7D").with(200)["id"]
        .as_i64()
        .unwrap();
    ann.finished(job);
    assert_eq!(ann.output(job), ["😀\n"]);
    for half in ["%5Cud83d", "%5Cud83dx", "%5Cude00", "%5Cud83d%5Cud83d"] {
        let answer = submit(&format!("%7B%22A%22%3A%22{half}%22%7D"));
        assert_eq!(answer.status, 400, "{half}: {}", answer.text());
    }
    let body = json!({"command": "true"})
        .to_string()
        .replace("true", "\\ud83d");
    let answer = sent(&ann, "/v1/jobs/submit", "application/json", body.as_bytes());
    assert_eq!(answer.status, 422, "{}", answer.text());
    house.close();
}
