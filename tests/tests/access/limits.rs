//! How much anybody may ask.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use warrant_tests::fake_auth::ALL;
use warrant_tests::wait::PATIENCE;
use warrant_tests::{House, Setup, raw};

use super::Gatehouse;

#[test]
fn t111_a_user_has_so_many_requests_a_minute_and_others_are_not_concerned() {
    let gate = Gatehouse::open_with(|s| s.set("BROKER__LIMITS__REQUESTS_PER_MINUTE", "30"));
    let ann = gate.user("ann", "user", ALL);
    let first = ann.get("/v1/nodes");
    assert_eq!(first.status, 200);
    assert_eq!(first.header("x-ratelimit-limit"), Some("30"));
    assert_eq!(first.header("x-ratelimit-remaining"), Some("29"));
    assert_eq!(first.header("x-ratelimit-window"), Some("60"));
    let reset: u64 = first.header("x-ratelimit-reset").unwrap().parse().unwrap();
    assert!(reset >= warrant_tests::fake_auth::now_s());
    let refused = (0..100)
        .map(|_| ann.get("/v1/nodes"))
        .find(|answer| answer.status != 200)
        .expect("nobody counts the requests");
    assert_eq!(refused.detail(429), "Too many requests. Try again later.");
    assert_eq!(refused.header("x-ratelimit-remaining"), Some("0"));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    // Another token of the same user is the same user.
    assert_eq!(
        gate.user("ann", "user", "read").get("/v1/nodes").status,
        429
    );
    assert_eq!(gate.user("bob", "user", ALL).get("/v1/nodes").status, 200);
}

#[test]
fn t111_who_proves_nothing_has_few_requests_and_hinders_nobody_who_does() {
    let gate = Gatehouse::open_with(|s| s.set("BROKER__LIMITS__UNAUTHENTICATED_PER_MINUTE", "40"));
    let nobody = gate.house.nobody();
    let ann = gate.user("ann", "user", ALL);
    let bad = ann.with_token("a.b.c");
    let key = "wrt_0123456789ab_0123456789012345678901234567890123456789012";
    let mut last = 0;
    for _ in 0..60 {
        nobody.get("/v1/nodes");
        last = bad.get("/v1/nodes").status;
    }
    assert_eq!(last, 429);
    assert_eq!(nobody.get("/v1/nodes").status, 429);
    assert_eq!(nobody.get("/openapi.json").status, 429);
    // Nor is the auth service asked about keys any more.
    assert_eq!(ann.with_token(key).get("/v1/nodes").status, 429);
    assert_eq!(gate.auth.exchanges(), 0);
    assert_eq!(ann.get("/v1/nodes").status, 200);
}

#[test]
fn t111_without_a_limit_no_header_speaks_of_one() {
    let gate = Gatehouse::open();
    let answer = gate.user("ann", "user", ALL).get("/v1/nodes");
    assert_eq!(answer.header("x-ratelimit-limit"), None);
    gate.house.close();
}

fn connect(house: &House) -> TcpStream {
    let stream = TcpStream::connect(house.nobody().address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Read until the other end closes, and say how long that took.
fn closed_after(mut stream: TcpStream) -> (String, Duration) {
    let began = Instant::now();
    let mut text = Vec::new();
    let mut piece = [0; 1024];
    while let Ok(read @ 1..) = stream.read(&mut piece) {
        text.extend_from_slice(piece.get(..read).unwrap());
    }
    (String::from_utf8_lossy(&text).into_owned(), began.elapsed())
}

#[test]
fn t111_slow_heads_and_slow_bodies_are_closed() {
    let house = House::open();
    let ann = house.user("ann");
    let authorization = format!("Authorization: Bearer {}\r\n", ann.token());
    let slow_head = "GET /v1/nodes HTTP/1.1\r\nHost: x\r\n".to_owned();
    // A second head that is slow, behind a request that was answered.
    let then_slow = format!("GET /openapi.json HTTP/1.1\r\nHost: x\r\n{authorization}\r\nGET ");
    let slow_body = format!(
        "POST /v1/jobs/submit HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: 1000\r\n{authorization}\r\n{{\"command\""
    );
    let endless = format!(
        "POST /v1/jobs/submit HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n{authorization}\r\n5\r\n{{\"com\r\n"
    );
    let waits: Vec<_> = [String::new(), slow_head, then_slow, slow_body, endless]
        .into_iter()
        .map(|text| {
            let mut stream = connect(&house);
            stream.write_all(text.as_bytes()).unwrap();
            std::thread::spawn(move || closed_after(stream))
        })
        .collect();
    let waits: Vec<_> = waits.into_iter().map(|wait| wait.join().unwrap()).collect();
    for (answer, wait) in &waits {
        assert!(*wait < Duration::from_secs(50), "{wait:?} {answer}");
    }
    assert_eq!(raw::status(&waits[2].0), 200);
    for (answer, _) in waits.get(3..).unwrap() {
        assert_eq!(raw::status(answer), 400, "{answer}");
    }
    ann.get("/v1/nodes").with(200);
    house.close();
}

#[test]
fn t111_one_source_has_so_many_connections() {
    let house = Setup::on(warrant_tests::Database::Sqlite)
        .set("BROKER__LIMITS__CONNECTIONS_PER_SOURCE", "20")
        .open();
    let held: Vec<TcpStream> = (0..40).map(|_| connect(&house)).collect();
    // Those beyond are closed at once; the others stay until they are idle.
    let (mut open, mut closed) = (0, 0);
    for mut stream in held {
        stream
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        match stream.read(&mut [0]) {
            Ok(0) => closed += 1,
            Ok(_) => panic!("the broker speaks first"),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => closed += 1,
            Err(_) => open += 1,
        }
    }
    assert!(open <= 20 && closed >= 20, "{open} open, {closed} closed");
    drop(house);
}
