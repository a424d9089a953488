//! Numbers at the edges, in every place of every route that takes one: each
//! response is whole, and none is a defect.

use ureq::http::Method;
use warrant_tests::{Answer, Flux, on_each_database};

/// What may stand in an address, where a number is meant.
const TEXTS: [&str; 24] = [
    "0",
    "-0",
    "-1",
    "1",
    "+1",
    "%201",
    "1%20",
    "1.0",
    "1.5",
    "9223372036854775806",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "1e400",
    "-1e400",
    "1e3",
    "NaN",
    "Infinity",
    "0x10",
    "%EF%BC%91",
    "",
];
/// What is a number to nobody.
const NONE: [&str; 8] = [
    "1.5",
    "1e400",
    "-1e400",
    "1e3",
    "NaN",
    "Infinity",
    "0x10",
    "%EF%BC%91",
];
/// What may stand in a JSON document, where a number is meant.
const LITERALS: [&str; 18] = [
    "0",
    "-0",
    "-1",
    "1",
    "1.0",
    "1.5",
    "1e3",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "1e19",
    "1e400",
    "-1e400",
    "\"１\"",
    "\" 1\"",
    "\"+1\"",
];

/// Every route with a number in its path: `N`.
const PATHS: [(Method, &str); 4] = [
    (Method::GET, "/v1/jobs/N"),
    (Method::GET, "/v1/jobs/N/output"),
    (Method::GET, "/v1/jobs/N/output/stream"),
    (Method::POST, "/v1/jobs/N/cancel"),
];
/// Every route with a number in its query: `N`; and whether what is no number
/// is refused. Source: the Flux RESTful server, where it is not.
const QUERIES: [(Method, &str, bool); 11] = [
    (Method::GET, "/v1/jobs?details=true&limit=N", false),
    (
        Method::GET,
        "/v1/jobs?details=true&listing=true&limit=N",
        false,
    ),
    (Method::GET, "/v1/jobs/search?start=N", false),
    (Method::GET, "/v1/jobs/search?length=N", false),
    (
        Method::GET,
        "/v1/jobs/search?search=seq&start=N&length=N",
        false,
    ),
    (
        Method::GET,
        "/v1/jobs/search?search=COMPLETED&start=N&length=N",
        false,
    ),
    (Method::GET, "/v1/jobs/JOB/output/stream?offset=N", true),
    (
        Method::POST,
        "/v1/jobs/submit?command=true&num_tasks=N",
        true,
    ),
    (
        Method::POST,
        "/v1/jobs/submit?command=true&cores_per_task=N&gpus_per_task=N",
        true,
    ),
    (
        Method::POST,
        "/v1/jobs/submit?command=true&num_nodes=N",
        true,
    ),
    (Method::POST, "/v1/jobs/submit?command=true&runtime=N", true),
];
/// Every document with a number in it.
const BODIES: [(&str, &str); 6] = [
    ("/v1/jobs/submit", r#"{"command":"true","num_tasks":N}"#),
    (
        "/v1/jobs/submit",
        r#"{"command":"true","cores_per_task":N}"#,
    ),
    ("/v1/jobs/submit", r#"{"command":"true","gpus_per_task":N}"#),
    ("/v1/jobs/submit", r#"{"command":"true","num_nodes":N}"#),
    ("/v1/jobs/submit", r#"{"command":"true","runtime":N}"#),
    ("/v1/keys", r#"{"label":"numbers","expires_in_days":N}"#),
];

/// Ask, and see that the response is whole and no defect.
fn ask(user: &Flux, method: &Method, path: &str, body: &str, kind: &str) -> Answer {
    let head = [("content-type", kind)];
    let answer = user.try_send(method, path, &head, body.as_bytes());
    let answer = answer.unwrap_or_else(|e| panic!("{method} {path} {body}: {e}"));
    let well = answer.status < 500;
    assert!(well, "{method} {path} {body}: {}", answer.text());
    if answer.header("content-type") == Some("application/json") {
        answer.json();
    }
    answer
}

on_each_database! {
    fn a_number_at_an_edge_breaks_no_response_of_any_route(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        let job = ann.submit("seq 1 3");
        ann.finished(job);
        for text in TEXTS {
            for (method, path) in &PATHS {
                let path = path.replace('N', text);
                ask(&ann, method, &path, "", "text/plain");
            }
            for (method, path, refuses) in &QUERIES {
                let path = path.replace("JOB", &job.to_string()).replace('N', text);
                let answer = ask(&ann, method, &path, "", "text/plain");
                if *refuses && NONE.contains(&text) {
                    assert_eq!(answer.status, 422, "{path}: {}", answer.text());
                } else if !*refuses {
                    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
                }
            }
            let form = format!("command=true&num_tasks={text}&runtime={text}");
            let kind = "application/x-www-form-urlencoded";
            ask(&ann, &Method::POST, "/v1/jobs/submit", &form, kind);
        }
        for literal in LITERALS {
            for (path, body) in BODIES {
                let body = body.replace('N', literal);
                ask(&ann, &Method::POST, path, &body, "application/json");
            }
        }
        house.empty();
        house.close();
    }
}

on_each_database! {
    fn a_stream_from_any_offset_is_whole(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        let ended = ann.submit("printf 1234");
        ann.finished(ended);
        for (offset, expected) in [
            (0, "1234"),
            (3, "4"),
            (4, ""),
            (i64::MAX as u64 - 65_536, ""),
            (i64::MAX as u64 - 1, ""),
            (i64::MAX as u64, ""),
        ] {
            assert_eq!(ann.stream(ended, offset).rest(), expected, "{offset}");
        }
        // Of a job that has yet to write, and then does.
        let gate = house.path("gate");
        let script = format!("until [ -e {} ]; do sleep 0.01; done; echo x", gate.display());
        let job = ann.submit_script(&script);
        ann.wait_until(job, "RUN");
        let far = ann.stream(job, i64::MAX as u64);
        std::fs::write(gate, "").unwrap();
        assert_eq!(far.rest(), "");
        house.close();
    }
}

#[test]
fn a_stream_ends_its_pieces_between_two_characters() {
    let house = warrant_tests::House::open();
    let ann = house.user("ann");
    let gate = house.path("gate");
    // The first three of the four bytes of one character, then the last.
    let script = format!(
        r"printf 'a\360\237\245'; until [ -e {} ]; do sleep 0.01; done; printf '\236b\377'",
        gate.display()
    );
    let job = ann.submit_script(&script);
    let mut stream = ann.stream(job, 0);
    let mut piece = [0; 100];
    let read = std::io::Read::read(&mut stream, &mut piece).unwrap();
    assert_eq!(&piece[..read], b"a");
    std::fs::write(gate, "").unwrap();
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut rest).unwrap();
    assert_eq!(rest, b"\xf0\x9f\xa5\x9eb\xff");
    assert_eq!(ann.output(job), ["a🥞b\u{fffd}"]);
    house.close();
}
