//! A server for one test: answers each request as the test says.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::auth::{Credentials, Password};
use crate::client::Client;
use crate::secret::Secret;
use crate::server::Server;
use crate::token_file::TokenFile;

/// A request as it arrived.
pub(crate) struct Received {
    /// 1 for the first.
    pub(crate) number: usize,
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// By lower-case name.
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

/// The bytes to send back; the connection ends with them.
pub(crate) struct Reply(String);

impl Reply {
    pub(crate) fn json(status: u16, body: &str) -> Self {
        Self::with_headers(status, "", body)
    }

    pub(crate) fn with_headers(status: u16, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self(format!(
            "HTTP/1.1 {status} X\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        ))
    }

    /// No answer: the connection ends.
    pub(crate) fn lost() -> Self {
        Self(String::new())
    }

    /// A stream with its proper end.
    pub(crate) fn chunked(text: &str) -> Self {
        Self(Self::broken(text).0 + "0\r\n\r\n")
    }

    /// A stream whose connection is lost.
    pub(crate) fn broken(text: &str) -> Self {
        let length = text.len();
        Self(format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{text}\r\n"
        ))
    }
}

/// The server; it listens until the test process ends.
pub(crate) struct FakeServer {
    server: Server,
    count: Arc<AtomicUsize>,
}

impl FakeServer {
    pub(crate) fn start(answer: impl Fn(&Received) -> Reply + Send + 'static) -> Self {
        Self::described(|_| None, answer)
    }

    /// One that describes itself as `about` says of its address. Who asks for
    /// that is not counted.
    pub(crate) fn described(
        about: impl Fn(&str) -> Option<String>,
        answer: impl Fn(&Received) -> Reply + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let about = about(&format!("http://{address}"));
        let count = Arc::new(AtomicUsize::new(0));
        let served = Arc::clone(&count);
        thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let number = served.load(Ordering::SeqCst) + 1;
                let received = receive(&connection, number);
                let asks = received.target == "/.well-known/oauth-authorization-server";
                let reply = match (&about, asks) {
                    (Some(about), true) => Reply::json(200, about),
                    (None, true) => Reply::json(404, "{}"),
                    (_, false) => {
                        served.fetch_add(1, Ordering::SeqCst);
                        answer(&received)
                    }
                };
                connection.write_all(reply.0.as_bytes()).unwrap();
            }
        });
        Self {
            server: format!("http://{address}").parse().unwrap(),
            count,
        }
    }

    /// A server at whose address nobody listens.
    pub(crate) fn gone() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        Self {
            server: format!("http://{address}").parse().unwrap(),
            count: Arc::default(),
        }
    }

    pub(crate) fn url(&self) -> String {
        self.server.to_string()
    }

    /// How many requests arrived.
    pub(crate) fn requests(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// A client of user `ann` with the password `pw`.
    pub(crate) fn client(&self) -> Client {
        self.client_with(None, None)
    }

    pub(crate) fn client_with(&self, key: Option<&str>, file: Option<TokenFile>) -> Client {
        let credentials = Credentials {
            user: "ann".to_owned(),
            password: Password::Known(Secret::new("p w&")),
            secret_key: key.map(Secret::new),
        };
        let patience = Duration::from_secs(10);
        Client::new(self.server.clone(), credentials, file, false, patience)
    }
}

fn receive(connection: &TcpStream, number: usize) -> Received {
    let mut reader = BufReader::new(connection);
    let mut line = || {
        let mut text = String::new();
        reader.read_line(&mut text).unwrap();
        text.trim_end().to_owned()
    };
    let first = line();
    let mut words = first.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let mut headers = HashMap::new();
    loop {
        let text = line();
        let Some((name, value)) = text.split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers
        .get("content-length")
        .map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Received {
        number,
        method,
        target,
        headers,
        body: String::from_utf8(body).unwrap(),
    }
}
