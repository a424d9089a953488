//! Requests that two readers could understand in two ways, as bytes.

use std::os::unix::net::UnixStream;

use std::io::{Read, Write};

use warrant_tests::wait::PATIENCE;
use warrant_tests::{House, raw};

/// Heads that are refused, behind their request line.
const REFUSED: [(&str, &str); 16] = [
    ("no Host", ""),
    ("two Hosts", "Host: x\r\nHost: x\r\n"),
    (
        "two Authorizations",
        "Host: x\r\nAuthorization: Bearer a\r\nAuthorization: Bearer a\r\n",
    ),
    (
        "two keys",
        "Host: x\r\nX-API-Key: wrt_a\r\nX-Api-Key: wrt_b\r\n",
    ),
    (
        "a length and chunks",
        "Host: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    ),
    (
        "chunks and a length",
        "Host: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ),
    (
        "a length twice",
        "Host: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n",
    ),
    (
        "two lengths",
        "Host: x\r\nContent-Length: 0\r\nContent-Length: 5\r\n",
    ),
    ("a list of lengths", "Host: x\r\nContent-Length: 0, 0\r\n"),
    ("a signed length", "Host: x\r\nContent-Length: +0\r\n"),
    (
        "another coding",
        "Host: x\r\nTransfer-Encoding: gzip, chunked\r\n",
    ),
    (
        "chunks twice",
        "Host: x\r\nTransfer-Encoding: chunked, chunked\r\n",
    ),
    (
        "an unknown coding",
        "Host: x\r\nTransfer-Encoding: xchunked\r\n",
    ),
    ("a folded line", "Host: x\r\nX: a\r\n b\r\n"),
    ("a zero", "Host: x\r\nX: a\0b\r\n"),
    ("a space before the colon", "Host : x\r\n"),
];

/// Targets that are refused.
const TARGETS: [&str; 9] = [
    "http://evil.example/v1/nodes",
    "/v1/../v1/nodes",
    "/v1/./nodes",
    "/v1/%2e%2E/v1/nodes",
    "/v1%2Fnodes",
    "/docs/..%2f..%2f..%2fetc/passwd",
    "/docs/..%5c..%5cwin.ini",
    "/docs/%00",
    "/docs\\..\\x",
];

fn requests() -> Vec<(String, Vec<u8>)> {
    let heads = REFUSED.map(|(what, head)| {
        let text =
            format!("GET /.well-known/jwks.json HTTP/1.1\r\n{head}Connection: close\r\n\r\n");
        (what.to_owned(), text.into_bytes())
    });
    let targets = TARGETS.map(|target| {
        let text = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        (target.to_owned(), text.into_bytes())
    });
    heads.into_iter().chain(targets).collect()
}

#[test]
fn t111_a_request_with_two_meanings_answers_400_at_the_broker() {
    let house = House::open();
    let address = house.nobody().address();
    for (what, request) in requests() {
        let answer = raw::exchange(address, &request);
        assert_eq!(raw::status(&answer), 400, "{what}: {answer}");
        assert!(!answer.contains("evil"), "{answer}");
    }
    let plain = b"GET /.well-known/jwks.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_eq!(raw::status(&raw::exchange(address, plain)), 200);
    house.close();
}

#[test]
fn t111_a_request_with_two_meanings_answers_400_at_the_auth_service() {
    let house = House::open();
    let send = |request: &[u8]| {
        let mut stream = UnixStream::connect(house.path("run/auth.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    for (what, request) in requests() {
        let answer = send(&request);
        assert_eq!(raw::status(&answer), 400, "{what}: {answer}");
    }
    let plain = b"GET /.well-known/jwks.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_eq!(raw::status(&send(plain)), 200);
    house.close();
}

#[test]
fn t111_the_second_of_two_requests_in_one_breath_is_judged_by_itself() {
    let house = House::open();
    let plain = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n";
    let body = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    let length = body.len();
    let posted =
        format!("POST /v1/token HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}");
    let smuggled = "POST /v1/token HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\
                    Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n";
    let all = format!("{plain}{posted}{plain}{smuggled}");
    let answer = raw::exchange(house.nobody().address(), all.as_bytes());
    let says_so = "The request says its length twice.";
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer:.2000}");
    assert_eq!(answer.matches("HTTP/1.1 400").count(), 2, "{answer:.2000}");
    assert_eq!(answer.matches(says_so).count(), 1);
    assert!(
        answer
            .trim_end()
            .ends_with(&format!("{{\"detail\":\"{says_so}\"}}"))
    );
    house.close();
}

#[test]
fn t111_more_headers_than_a_hundred_are_refused() {
    let house = House::open();
    let address = house.nobody().address();
    for (count, expected) in [(90, 200), (101, 431), (10_000, 431)] {
        let many = "X: y\r\n".repeat(count);
        let head = "GET /openapi.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
        let answer = raw::exchange(address, format!("{head}{many}\r\n").as_bytes());
        // Where it was not read to its end, the answer may be lost.
        let status = raw::status(&answer);
        assert!(
            status == expected || (count == 10_000 && status == 0),
            "{answer:.200}"
        );
    }
    house.close();
}

#[test]
fn t116_no_address_leads_out_of_the_pages_or_to_another_server() {
    let house = House::open();
    let address = house.nobody().address();
    for target in [
        "/docs//etc/passwd",
        "/docs/..;/x",
        "/docs/%252e%252e%252fetc/passwd",
        "/docs/....//x",
        "/docs/C:/x",
        "/docs?next=//evil.example",
        "/redoc?next=https://evil.example",
        "//evil.example/docs",
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = raw::exchange(address, request.as_bytes());
        let status = raw::status(&answer);
        assert!([307, 400, 404].contains(&status), "{target}: {answer:.300}");
        assert!(
            !answer.contains("evil") && !answer.contains("root:"),
            "{answer:.300}"
        );
        if status == 307 {
            assert!(answer.contains("location: /docs/\r\n"), "{answer:.300}");
        }
    }
    house.close();
}
