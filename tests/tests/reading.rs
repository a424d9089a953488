//! Clients that read slowly, or not at all: memory stays small, and others are
//! served.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;
use warrant_tests::processes::peak_kib;
use warrant_tests::wait::{PATIENCE, until};
use warrant_tests::{Database, Flux, House, Setup, on_each_database};

/// What all that is not read may cost the broker, in KiB: far less than the
/// outputs that it is asked for, and than any of them line by line.
const COST_KIB: u64 = 64 * 1024;

fn lines(job: i64) -> String {
    format!("/v1/jobs/{job}/output")
}

fn stream(job: i64) -> String {
    format!("/v1/jobs/{job}/output/stream")
}

/// A request whose response has begun and is not read.
fn stalled(user: &Flux, path: &str) -> TcpStream {
    let mut connection = TcpStream::connect(user.address()).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        user.token()
    );
    connection.write_all(request.as_bytes()).unwrap();
    let mut begun = [0; 600];
    connection.read_exact(&mut begun).unwrap();
    let begun = String::from_utf8_lossy(&begun);
    assert!(begun.starts_with("HTTP/1.1 200"), "{begun}");
    connection
}

/// A job that has written so many newlines.
fn newlines(user: &Flux, count: usize) -> i64 {
    let job = user.submit_script(&format!("yes '' | head -c {count}"));
    assert_eq!(user.finished(job)["result"], "COMPLETED");
    job
}

/// The broker costs no more than it may since `before`.
fn costs_little(house: &House, before: u64) {
    let cost = peak_kib(house.broker_pid()).saturating_sub(before);
    assert!(cost < COST_KIB, "{cost} KiB");
}

#[test]
fn t128_output_of_newlines_alone_is_given_whole_in_little_memory() {
    const LINES: usize = 3_000_000;
    let house = House::open();
    let ann = house.user("ann");
    let job = newlines(&ann, LINES);
    ann.list();
    let before = peak_kib(house.broker_pid());
    let answer = ann.get(&lines(job)).text();
    costs_little(&house, before);
    let expected = format!("{{\"Output\":[{}\"\\n\"]}}", "\"\\n\",".repeat(LINES - 1));
    assert!(answer == expected, "{answer:.100}");
    house.close();
}

#[test]
fn t128_twenty_megabytes_of_newlines_that_are_not_read_take_little_memory() {
    let house = House::open();
    let ann = house.user("ann");
    let job = newlines(&ann, 20_000_000);
    let before = peak_kib(house.broker_pid());
    let unread: Vec<_> = (0..10).map(|_| stalled(&ann, &lines(job))).collect();
    let other = ann.submit("echo other");
    ann.finished(other);
    assert_eq!(ann.output(other), ["other\n"]);
    costs_little(&house, before);
    drop(unread);
    house.close();
}

on_each_database! {
    fn t128_others_are_served_while_very_many_do_not_read(setup: Setup) {
        let house = setup.open();
        let (ann, bob) = (house.user("ann"), house.user("bob"));
        let job = ann.submit_script("seq 1 800000");
        ann.finished(job);
        let followed = ann.submit_script("seq 1 800000; sleep 300");
        ann.first_output(followed);
        let before = peak_kib(house.broker_pid());
        let unread: Vec<_> = (0..45)
            .flat_map(|_| [lines(job), stream(job), stream(followed)])
            .map(|path| stalled(&ann, &path))
            .collect();
        for user in [&ann, &bob] {
            let own = user.submit_script("seq 1 100000");
            user.finished(own);
            let expected: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
            assert!(user.output(own).concat() == expected, "the lines differ");
            assert!(user.stream(own, 0).rest() == expected, "the bytes differ");
        }
        costs_little(&house, before);
        drop(unread);
        house.close();
    }

    fn t128_lists_of_jobs_with_very_long_names_that_are_not_read_take_little_memory(setup: Setup) {
        let house = setup.open();
        let (ann, bob) = (house.user("ann"), house.user("bob"));
        for n in 0..60 {
            let name = format!("{n}-{}", "n".repeat(100_000));
            let job = ann.submit_with(&json!({"command": [name]}));
            ann.finished(job);
        }
        let whole = ann.list();
        assert_eq!(whole.len(), 60);
        let found = ann.get("/v1/jobs/search?search=nnn&start=10").with(200);
        assert_eq!(found["data"].as_array().unwrap(), &whole[10..]);
        let all = ann.get("/v1/jobs/search?start=10&length=20").with(200);
        assert_eq!(all["data"].as_array().unwrap(), &whole[10..30]);
        let before = peak_kib(house.broker_pid());
        let unread: Vec<_> = (0..15)
            .flat_map(|_| [
                "/v1/jobs?details=true", "/v1/jobs/search", "/v1/jobs/search?search=nnn",
            ])
            .map(|path| stalled(&ann, path))
            .collect();
        let own = bob.submit("true");
        bob.finished(own);
        assert_eq!(bob.list().len(), 1);
        costs_little(&house, before);
        drop(unread);
        house.close();
    }
}

#[test]
fn t128_a_user_with_as_many_readers_as_there_may_be_gets_429_and_others_are_served() {
    let setup = Setup::on(Database::Sqlite).set("BROKER__LIMITS__READERS_PER_USER", "3");
    let house = setup.open();
    let (ann, bob) = (house.user("ann"), house.user("bob"));
    let job = ann.submit_script("seq 1 800000; sleep 300");
    ann.first_output(job);
    let mut unread = vec![
        stalled(&ann, &lines(job)),
        stalled(&ann, &stream(job)),
        stalled(&ann, &stream(job)),
    ];
    for path in [lines(job), stream(job)] {
        let answer = ann.get(&path);
        let detail = answer.detail(429);
        assert!(detail.contains("at the same time"), "{detail}");
        assert!(answer.header("retry-after").is_some());
    }
    // What is short is no reader's.
    assert_eq!(ann.list().len(), 1);
    let own = bob.submit("echo bob");
    bob.finished(own);
    assert_eq!(bob.output(own), ["bob\n"]);
    // Who goes away makes room.
    unread.pop();
    until("room for another reader", || {
        (ann.get(&lines(job)).status == 200).then_some(())
    });
    drop(unread);
    house.close();
}

#[test]
fn t128_a_client_that_does_not_read_is_disconnected_at_the_deadline() {
    let setup = Setup::on(Database::Sqlite)
        .set("BROKER__LIMITS__READERS_PER_USER", "1")
        .set("BROKER__LIMITS__WRITE_TIMEOUT_S", "1");
    let house = setup.open();
    let ann = house.user("ann");
    let job = ann.submit_script("seq 1 1600000");
    ann.finished(job);
    for path in [lines(job), stream(job)] {
        let unread = stalled(&ann, &path);
        until("the client that does not read to make room", || {
            (ann.get(&lines(job)).status == 200).then_some(())
        });
        drop(unread);
    }
    house.close();
}

#[test]
fn t128_readers_that_do_not_read_leave_room_in_flight_for_others() {
    let setup = Setup::on(Database::Sqlite).set("BROKER__LIMITS__IN_FLIGHT_MIB", "1");
    let house = setup.open();
    let names = ["ann", "bob", "cid", "dan"];
    let users = names.map(|name| house.user(name));
    let mut unread = Vec::new();
    for user in &users {
        let job = user.submit_script("seq 1 800000");
        user.finished(job);
        let one = user.submit("echo one");
        user.finished(one);
        // Though those before do not read.
        assert_eq!(user.output(one), ["one\n"]);
        for _ in 0..30 {
            let mut connection = TcpStream::connect(user.address()).unwrap();
            let request = format!(
                "GET {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
                lines(job),
                user.token()
            );
            connection.write_all(request.as_bytes()).unwrap();
            unread.push(connection);
        }
    }
    let last = house.user("eve");
    let job = last.submit_script("seq 1 100000");
    last.finished(job);
    assert_eq!(last.output(job).len(), 100_000);
    drop(unread);
    house.close();
}
