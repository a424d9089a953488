//! Connections that are kept for the next request.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use warrant_tests::wait::PATIENCE;
use warrant_tests::{Database, House, Setup};

const REQUEST: &[u8] = b"GET /.well-known/jwks.json HTTP/1.1\r\nHost: x\r\n\r\n";

/// Send a request, and read its whole answer from a connection that stays.
fn ask(stream: &mut (impl Read + Write)) -> std::io::Result<String> {
    stream.write_all(REQUEST)?;
    let mut answer = Vec::new();
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte)?;
        answer.push(byte[0]);
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if length.unwrap().parse::<usize>().unwrap() == body.len() {
                return Ok(text.into_owned());
            }
        }
    }
}

fn connect(house: &House) -> TcpStream {
    let stream = TcpStream::connect(house.nobody().address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn both_services_say_for_how_long_they_keep_a_connection() {
    let house = House::open();
    let mut auth = UnixStream::connect(house.path("run/auth.sock")).unwrap();
    let answers = [ask(&mut connect(&house)).unwrap(), ask(&mut auth).unwrap()];
    for answer in answers {
        assert!(
            answer.contains("\r\nkeep-alive: timeout=120\r\n"),
            "{answer}"
        );
        assert!(
            answer.contains("\r\nconnection: keep-alive\r\n"),
            "{answer}"
        );
    }
    // Nothing of it to a client that wants no more.
    let last = "GET /openapi.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = warrant_tests::raw::exchange(house.nobody().address(), last.as_bytes());
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    assert!(!head.contains("keep-alive"), "{head}");
    house.close();
}

#[test]
fn t111_the_connection_that_was_idle_for_longest_makes_room() {
    for limit in ["CONNECTIONS", "CONNECTIONS_PER_SOURCE"] {
        let house = Setup::on(Database::Sqlite)
            .set(&format!("BROKER__LIMITS__{limit}"), "8")
            .open();
        let mut held: Vec<TcpStream> = Vec::new();
        for _ in 0..30 {
            let mut stream = connect(&house);
            let answer = ask(&mut stream).unwrap_or_else(|error| panic!("{limit}: {error}"));
            assert!(answer.starts_with("HTTP/1.1 200"), "{limit}: {answer}");
            held.push(stream);
        }
        // The last ones are still there, and the first ones are gone.
        for stream in held.iter_mut().skip(26) {
            assert!(ask(stream).unwrap().starts_with("HTTP/1.1 200"), "{limit}");
        }
        assert!(ask(&mut held[0]).is_err(), "{limit}");
        drop(held);
        house.close();
    }
}
