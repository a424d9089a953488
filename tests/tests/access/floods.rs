//! More than is good for a service: bodies without end, connections that
//! stay, logins all at once. It takes what it has room for, says so to the
//! others, and goes on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use warrant_tests::processes::resident_kib;
use warrant_tests::wait::{PATIENCE, until};
use warrant_tests::{Database, Flux, House, Setup, raw};

/// What a flood may add to a service's memory, in KiB.
const ROOM_KIB: u64 = 64 * 1024;

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The head of a request with a body, up to what says how long that is.
fn head(user: &Flux, path: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\n",
        user.token()
    )
}

/// What is answered to `head`, while `piece` is sent over and over, at most
/// `most` bytes of it; and how many of them were taken.
fn pour(address: SocketAddr, head: &str, piece: &[u8], most: usize) -> (String, usize) {
    let mut stream = connect(address);
    stream.write_all(head.as_bytes()).unwrap();
    let mut reading = stream.try_clone().unwrap();
    let answer = std::thread::spawn(move || {
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        // Where the rest is not read, the connection may be reset.
        while let Ok(read @ 1..) = reading.read(&mut piece) {
            answer.extend_from_slice(piece.get(..read).unwrap());
        }
        String::from_utf8_lossy(&answer).into_owned()
    });
    let mut taken = 0;
    while taken < most && stream.write_all(piece).is_ok() {
        taken += piece.len();
    }
    let _ = stream.shutdown(std::net::Shutdown::Write);
    (answer.join().unwrap(), taken)
}

#[test]
fn t111_a_body_without_end_is_cut_off_and_takes_no_memory() {
    let house = House::open();
    let ann = house.user("ann");
    let before = resident_kib(house.broker_pid());
    let address = ann.address();
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    let gibibyte = 1 << 30;
    // At every route that reads a body, and at those of the auth service.
    for path in ["/v1/jobs/submit", "/v1/keys", "/v1/token", "/oauth/token"] {
        let endless = head(&ann, path) + "Transfer-Encoding: chunked\r\n\r\n";
        let (answer, taken) = pour(address, &endless, &chunk, gibibyte);
        assert!(taken < 256 << 20, "{path}: {taken} bytes were taken");
        let status = raw::status(&answer);
        assert!([0, 400, 413].contains(&status), "{path}: {answer:.300}");
        let long = head(&ann, path) + "Content-Length: 1073741824\r\n\r\n";
        let (answer, taken) = pour(address, &long, &chunk, gibibyte);
        assert!(taken < 256 << 20, "{path}: {taken} bytes were taken");
        let status = raw::status(&answer);
        assert!([0, 400, 413].contains(&status), "{path}: {answer:.300}");
    }
    // One chunk that says it is longer than anything.
    for size in [
        "7fffffffffffffff",
        "ffffffffffffffff",
        "10000000000000000",
        "-1",
    ] {
        let head = head(&ann, "/v1/jobs/submit") + "Transfer-Encoding: chunked\r\n\r\n";
        let (answer, taken) = pour(address, &format!("{head}{size}\r\n"), &chunk, gibibyte);
        assert!(taken < 256 << 20, "{size}: {taken} bytes were taken");
        assert!(
            [0, 400, 413].contains(&raw::status(&answer)),
            "{answer:.300}"
        );
    }
    let after = resident_kib(house.broker_pid());
    assert!(after < before + ROOM_KIB, "{before} KiB, then {after}");
    ann.get("/v1/nodes").with(200);
    house.close();
}

#[test]
fn t111_a_compressed_body_is_not_unpacked() {
    let house = House::open();
    let ann = house.user("ann");
    let before = resident_kib(house.broker_pid());
    // A gzip of a megabyte of zeros, as gzip(1) makes it, twice over would be
    // a bomb; nobody may unpack even the first.
    let bomb = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xec\xc1\x01\x01\x00\x00\x00\x80\x90\xfe";
    for path in [
        "/v1/jobs/submit",
        "/v1/keys",
        "/v1/token",
        "/v1/login/access-token",
    ] {
        for coding in ["gzip", "deflate", "br", "zstd", "gzip, gzip"] {
            let headers = [
                ("content-type", "application/json"),
                ("content-encoding", coding),
            ];
            let answer = ann.send(&ureq::http::Method::POST, path, &headers, bomb);
            let status = answer.status;
            assert!(
                (400..500).contains(&status),
                "{path} {coding}: {}",
                answer.text()
            );
        }
    }
    let after = resident_kib(house.broker_pid());
    assert!(after < before + ROOM_KIB, "{before} KiB, then {after}");
    assert_eq!(ann.list().len(), 0);
    house.close();
}

/// Connections that say nothing more after one request, kept as long as the
/// server does.
#[test]
fn t111_idle_connections_take_little_memory_and_nobodys_place() {
    const MANY: usize = 1_500;
    let house = House::open();
    let ann = house.user("ann");
    let before = resident_kib(house.broker_pid());
    let request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut held: Vec<TcpStream> = Vec::with_capacity(MANY);
    for _ in 0..MANY {
        let mut stream = connect(ann.address());
        stream.write_all(request).unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        held.push(stream);
    }
    let after = resident_kib(house.broker_pid());
    let each = after.saturating_sub(before) / MANY as u64;
    assert!(each < 200, "each connection takes {each} KiB");
    // Others are served meanwhile.
    let began = Instant::now();
    for _ in 0..50 {
        ann.get("/v1/nodes").with(200);
    }
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    let job = ann.submit("echo hello");
    assert_eq!(ann.finished(job)["result"], "COMPLETED");
    drop(held);
    house.close();
}

#[test]
fn t100_of_a_thousand_logins_at_once_each_is_told_and_memory_is_bounded() {
    const LOGINS: usize = 1_000;
    const MEMORY_KIB: u64 = 8 * 1024;
    const PARALLEL: u64 = 2;
    let house = Setup::on(Database::Sqlite)
        .set("AUTHSVC__PASSWORDS__MEMORY_KIB", &MEMORY_KIB.to_string())
        .set("AUTHSVC__PASSWORDS__PARALLEL", &PARALLEL.to_string())
        .set("AUTHSVC__PASSWORDS__QUEUE", "64")
        .open();
    house.user("ann");
    let form = format!("username=ann&password={}", House::password("ann"));
    let request = format!(
        "POST /v1/login/access-token HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    let address = house.nobody().address();
    let before = resident_kib(house.authsvc_pid());
    let mut streams: Vec<TcpStream> = (0..LOGINS).map(|_| connect(address)).collect();
    for stream in &mut streams {
        stream.write_all(request.as_bytes()).unwrap();
    }
    let done = std::sync::atomic::AtomicBool::new(false);
    let (answers, most) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut most = before;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                most = most.max(resident_kib(house.authsvc_pid()));
                std::thread::sleep(Duration::from_millis(2));
            }
            most
        });
        let answers: Vec<String> = streams
            .into_iter()
            .map(|mut stream| {
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                answer
            })
            .collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        (answers, watching.join().unwrap())
    });
    let count = |status: u16| {
        let told = answers
            .iter()
            .filter(|answer| raw::status(answer) == status);
        told.count()
    };
    let (let_in, told_later) = (count(200), count(503) + count(429));
    assert_eq!(let_in + told_later, LOGINS, "{:.300}", answers[LOGINS - 1]);
    // Those who have a place are let in, whatever comes after them.
    assert!(let_in >= 64, "{let_in}");
    for answer in &answers {
        let later = raw::status(answer) != 200;
        assert_eq!(answer.contains("\r\nretry-after: "), later, "{answer:.300}");
    }
    let bound = before + PARALLEL * MEMORY_KIB + 24 * 1024;
    assert!(
        most <= bound,
        "{before} KiB before, {most} at most, {bound} allowed"
    );
    until("a login to be let in", || {
        (house.exchange_form(&form).status == 200).then_some(())
    });
    house.close();
}
