//! Requests that nobody in their right mind would send: each is refused in
//! words, and the broker stays up.

use std::io::Write;
use std::net::TcpStream;

use serde_json::json;
use ureq::http::Method;
use warrant_tests::{Flux, House, on_each_database, raw};

/// Send `head` and `body` as they stand, with the caller's token.
fn exchange(user: &Flux, head: &str, body: &[u8]) -> (u16, String) {
    let mut request = format!(
        "{head}\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
         Content-Length: {}\r\n\r\n",
        user.token(),
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    let answer = raw::exchange(user.address(), &request);
    (raw::status(&answer), answer)
}

/// The broker is well: it runs a job, and nothing of it was a defect.
fn well(house: &House, user: &Flux) {
    let job = user.submit("echo well");
    assert_eq!(user.finished(job)["result"], "COMPLETED");
    let logs = house.logs();
    let defect = logs
        .lines()
        .find(|line| line.contains("ERROR") || line.contains("panicked"));
    assert_eq!(defect, None);
}

#[test]
fn a_body_that_is_too_large_answers_413() {
    let house = House::open();
    let ann = house.user("ann");
    let mut request = format!(
        "POST /v1/jobs/submit HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n100001\r\n",
        ann.token()
    )
    .into_bytes();
    request.extend(vec![b' '; 0x10_0001]);
    let answer = raw::exchange(ann.address(), &request);
    assert_eq!(raw::status(&answer), 413, "{answer}");
    well(&house, &ann);
    house.close();
}

#[test]
fn a_caller_who_hangs_up_leaves_whole_jobs() {
    let house = House::open();
    let ann = house.user("ann");
    let body = json!({"command": "true"}).to_string();
    let request = format!(
        "POST /v1/jobs/submit HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        ann.token(),
        body.len()
    );
    for _ in 0..200 {
        let mut caller = TcpStream::connect(ann.address()).unwrap();
        caller.write_all(request.as_bytes()).unwrap();
        // Dropped: nobody is there for the answer.
    }
    let job = ann.submit("true");
    ann.finished(job);
    // Some of them may be gone with their callers; those on record end.
    for job in ann.list() {
        let job = job["id"].as_i64().unwrap();
        assert_eq!(ann.finished(job)["result"], "COMPLETED");
    }
    house.close();
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let house = House::open();
    let ann = house.user("ann");
    let long = "x".repeat(3_000_000);
    for head in [
        format!("GET /v1/jobs?x={long} HTTP/1.1"),
        format!("GET /v1/jobs HTTP/1.1\r\nX: {long}"),
        format!("GET /v1/jobs HTTP/1.1{}", "\r\nX: y".repeat(10_000)),
    ] {
        let (status, answer) = exchange(&ann, &head, b"");
        let shown = head.get(..60).unwrap();
        assert!(
            [0, 400, 414, 431].contains(&status),
            "{shown}: {answer:.300}"
        );
    }
    well(&house, &ann);
    house.close();
}

#[test]
fn deep_json_is_refused_and_not_followed_down() {
    let house = House::open();
    let ann = house.user("ann");
    let head = [("content-type", "application/json")];
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let depth = 100_000;
        let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
        let body = format!("{{\"command\":\"true\",\"envars\":{deep}}}");
        let answer = ann.send(&Method::POST, "/v1/jobs/submit", &head, body.as_bytes());
        assert_eq!(answer.with(422)["detail"][0]["type"], "json_invalid");
    }
    let literal = format!(
        "/v1/jobs/submit?command=true&envars={}",
        "%7B".repeat(10_000)
    );
    assert_eq!(ann.post(&literal).status, 400);
    well(&house, &ann);
    house.close();
}

on_each_database! {
    fn bytes_that_are_no_utf8_are_refused(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        let answer = ann.post("/v1/jobs/submit?command=echo+%FF%FE");
        assert!(answer.detail(400).contains("command"), "{}", answer.text());
        let answer = ann.post_form("/v1/jobs/submit", "command=echo+%FF");
        assert!(answer.detail(400).contains("command"), "{}", answer.text());
        let form = "username=ann&password=%E9";
        let login = house.nobody().post_form("/v1/login/access-token", form);
        assert!(login.detail(400).contains("password"), "{}", login.text());
        // In JSON.
        let (status, answer) = exchange(
            &ann,
            "POST /v1/jobs/submit HTTP/1.1\r\nContent-Type: application/json",
            b"{\"command\":\"\xff\"}",
        );
        assert_eq!(status, 422, "{answer}");
        // In a path, a query of another route, a header.
        assert_eq!(ann.get("/v1/jobs/%FF").status, 400);
        assert_eq!(ann.get("/v1/jobs/search?search=%FF%00%C0").status, 400);
        assert_eq!(house.nobody().get("/login?next=%FF").status, 400);
        let mut head = b"GET /v1/nodes HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
            Authorization: Bearer \xff\xfe\r\nX: \xff\r\n\r\n".to_vec();
        let answer = raw::exchange(ann.address(), &head);
        assert_eq!(raw::status(&answer), 401, "{answer}");
        head.truncate(20);
        head.extend_from_slice(b"\xff\r\n\r\n");
        let answer = raw::exchange(ann.address(), &head);
        assert!([0, 400].contains(&raw::status(&answer)), "{answer}");
        well(&house, &ann);
        house.close();
    }

    fn nul_bytes_are_refused_wherever_they_stand(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        for body in [
            json!({"command": "echo a\0b"}),
            json!({"command": ["echo", "a\0b"]}),
            json!({"command": ["a\0b"]}),
            json!({"command": "true", "workdir": "/a\0b"}),
            json!({"command": "true", "envars": {"A\0": "b"}}),
            json!({"command": "true", "envars": {"A": "b\0"}}),
            json!({"command": "true", "envars": {"": "b"}}),
            json!({"command": "true", "envars": {"A=B": "c"}}),
        ] {
            let answer = ann.post_json("/v1/jobs/submit", &body).with(400);
            assert_eq!(answer["Message"], "There was an issue submitting that job.", "{body}");
        }
        assert_eq!(ann.get("/v1/jobs/search?search=%00").status, 200);
        assert_eq!(ann.get("/v1/jobs/search?draw=%00").status, 200);
        let odd = json!({"command": "true", "option_flags": {"a\0": "b\0", "": ""}});
        assert_ne!(ann.post_json("/v1/jobs/submit", &odd).status, 500);
        let form = "username=a%00b&password=c%00d";
        let login = house.nobody().post_form("/v1/login/access-token", form);
        assert_eq!(login.status, 400, "{}", login.text());
        well(&house, &ann);
        house.close();
    }

    fn numbers_beyond_all_bounds_are_refused(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        let names = ["num_tasks", "cores_per_task", "gpus_per_task", "num_nodes", "runtime"];
        for name in names {
            for value in ["-1", "99999999999999999999", "1e400", "NaN", "0x10", "-9223372036854775809"] {
                let path = format!("/v1/jobs/submit?command=true&{name}={value}");
                let answer = ann.post(&path);
                assert!([400, 422].contains(&answer.status), "{path}: {}", answer.text());
            }
        }
        let longest = ann.post("/v1/jobs/submit?command=true&runtime=9223372036854775807");
        let job = longest.with(200)["id"].as_i64().unwrap();
        assert_eq!(ann.finished(job)["result"], "COMPLETED");
        let many = json!({"command": "true", "num_tasks": 4096, "cores_per_task": 4096});
        let job = ann.submit_with(&many);
        assert_eq!(ann.info(job)["exception_type"], "alloc");
        for query in ["start=9223372036854775807", "length=9223372036854775807",
            "start=9223372036854775807&length=9223372036854775807&search=true",
            "start=9223372036854775807&length=9223372036854775807&search=RUN",
            "start=-9223372036854775808", "start=99999999999999999999"]
        {
            assert_eq!(ann.get(&format!("/v1/jobs/search?{query}")).status, 200, "{query}");
        }
        assert_eq!(ann.get("/v1/jobs?details=1&limit=9223372036854775807").status, 200);
        assert_eq!(ann.get("/v1/jobs/9223372036854775807").status, 404);
        assert_eq!(ann.get("/v1/jobs/9223372036854775808").status, 400);
        well(&house, &ann);
        house.close();
    }

    fn a_command_of_a_megabyte_is_run_or_refused_in_words(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        // One argument beyond what execve(2) takes.
        let long = json!({"command": format!("echo {}", "x".repeat(1_000_000))});
        assert_eq!(
            ann.post_json("/v1/jobs/submit", &long).with(400)["Error"],
            "argv: each item must be at most 131071 bytes"
        );
        // As many arguments as fit.
        let words = vec!["x"; 100_000].join(" ");
        let job = ann.submit(&format!("echo {words}"));
        assert_eq!(ann.finished(job)["result"], "COMPLETED");
        assert_eq!(ann.stream(job, 0).rest().len(), words.len() + 1);
        well(&house, &ann);
        house.close();
    }
}

#[test]
fn odd_requests_never_make_the_broker_stumble() {
    let house = House::open();
    let ann = house.user("ann");
    for head in [
        "GET /v1/../v1/nodes HTTP/1.1",
        "GET //v1//nodes HTTP/1.1",
        "GET /v1/nodes%00 HTTP/1.1",
        "GET /v1/jobs/..%2f..%2fetc HTTP/1.1",
        "GET http://elsewhere/v1/nodes HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "CONNECT x:1 HTTP/1.1",
        "BREW /v1/nodes HTTP/1.1",
        "GET /v1/nodes HTTP/1.0",
        "GET /v1/nodes HTTP/3.0",
        "GET /v1/nodes",
        "",
        "PRI * HTTP/2.0",
        "POST /v1/jobs/submit HTTP/1.1\r\nContent-Type: text/plain;=",
        "POST /v1/jobs/submit?command=true HTTP/1.1\r\nContent-Encoding: gzip",
        "POST /v1/jobs/submit HTTP/1.1\r\nExpect: 100-continue",
        "POST /v1/token HTTP/1.1",
        "POST /v1/login/access-token HTTP/1.1\r\nContent-Type: application/json",
        "GET /v1/jobs/1/output/stream HTTP/1.1\r\nRange: bytes=5-",
        "GET /v1/jobs?%5B%5D=%5B HTTP/1.1",
        "GET /v1/jobs?=&&=%& HTTP/1.1",
    ] {
        let (status, answer) = exchange(&ann, head, b"");
        assert!(status < 500 || status == 505, "{head}: {answer}");
    }
    // Two lengths of one body: no way to smuggle a second request in.
    let smuggled = "POST /v1/jobs/submit?command=true HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\
        Content-Length: 90\r\nConnection: close\r\n\r\n";
    let answer = raw::exchange(ann.address(), smuggled.as_bytes());
    assert_eq!(raw::status(&answer), 400, "{answer}");
    well(&house, &ann);
    house.close();
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let house = House::open();
    let address = house.nobody().address();
    // Nothing at all; half a head; a head without its body.
    let ann = house.user("ann");
    let half = format!(
        "POST /v1/jobs/submit HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Length: 10\r\n\r\n{{\"c",
        ann.token()
    );
    std::thread::scope(|scope| {
        for request in ["", "GET /v1/nodes HTTP/1.1\r\nHo", half.as_str()] {
            scope.spawn(move || {
                let answer = raw::exchange(address, request.as_bytes());
                let status = raw::status(&answer);
                assert!([0, 400, 408].contains(&status), "{request:?}: {answer}");
            });
        }
    });
    well(&house, &ann);
    house.close();
}
