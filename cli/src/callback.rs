//! The address on this machine to which a browser brings the answer of the
//! auth service. Source: RFC 8252 §7.3.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::secret::Secret;
use crate::terminal::visible;

/// The path of the address.
const PATH: &str = "/callback";
/// How long the user may take.
const WAIT: Duration = Duration::from_secs(600);
/// How long one connection may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest request, in bytes: browsers send along what any other program
/// on this machine left with them.
const LONGEST: u64 = 1 << 16;
/// The most connections at once; browsers open some that they do not use.
const MOST: usize = 16;

/// What the answer must say besides the code.
#[derive(Debug)]
pub(crate) struct Expected {
    /// What was sent along with the question.
    pub(crate) state: String,
    /// How the auth service calls itself.
    pub(crate) issuer: String,
}

/// Listens for the browser.
#[derive(Debug)]
pub(crate) struct Callback {
    port: u16,
    asked: Receiver<(TcpStream, String)>,
}

impl Callback {
    /// Listen on a port of the loopback interface that nobody uses.
    ///
    /// Errors: `Refused` when there is none.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let trouble = |error| Failure::Refused(format!("cannot listen on this machine: {error}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(trouble)?;
        let port = listener.local_addr().map_err(trouble)?.port();
        let (ask, asked) = sync_channel(MOST);
        thread::spawn(move || accept(&listener, &ask));
        Ok(Self { port, asked })
    }

    /// Its address.
    pub(crate) fn uri(&self) -> String {
        format!("http://{}:{}{PATH}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// The code, once the browser brings it. What belongs to another question
    /// is turned away.
    ///
    /// Errors: `Refused` when the answer is no, comes from somebody else, or
    /// does not come.
    pub(crate) fn wait(self, expected: &Expected) -> Result<Secret, Failure> {
        let end = Instant::now() + WAIT;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let (connection, target) = self
                .asked
                .recv_timeout(left)
                .map_err(|_| Failure::Refused("nobody logged in in time: begin again".into()))?;
            match judge(&target, expected) {
                None => answer(connection, "404 Not Found", "There is nothing here."),
                Some(Ok(code)) => {
                    let said =
                        "You are logged in. Go back to your terminal; this page can be closed.";
                    answer(connection, "200 OK", said);
                    return Ok(code);
                }
                Some(Err(failure)) => {
                    let said = "You are not logged in. Your terminal says why.";
                    answer(connection, "400 Bad Request", said);
                    return Err(failure);
                }
            }
        }
    }
}

/// What a request for `target` brings; `None` where it is not our answer.
fn judge(target: &str, expected: &Expected) -> Option<Result<Secret, Failure>> {
    let (path, query) = target.split_once('?')?;
    if path != PATH {
        return None;
    }
    let fields: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    // A field that comes twice is none.
    let field = |name: &str| {
        let mut values = fields.iter().filter(|(key, _)| key == name);
        let first = values.next().map(|(_, value)| value.as_ref());
        first.filter(|_| values.next().is_none())
    };
    if field("state") != Some(&expected.state) {
        return None;
    }
    if field("iss") != Some(&expected.issuer) {
        let said = "the answer comes from another server than was asked: refused".to_owned();
        return Some(Err(Failure::Refused(said)));
    }
    let code = field("code").filter(|code| !code.is_empty());
    Some(code.map(Secret::new).ok_or_else(|| {
        let said = field("error_description").or(field("error")).unwrap_or("?");
        let said: String = said.chars().take(200).collect();
        Failure::Refused(format!("the login was refused: {}", visible(&said)))
    }))
}

fn accept(listener: &TcpListener, ask: &SyncSender<(TcpStream, String)>) {
    let reading = Arc::new(AtomicUsize::new(0));
    for connection in listener.incoming() {
        let Ok(connection) = connection else { continue };
        if reading.load(Ordering::Relaxed) >= MOST {
            continue;
        }
        reading.fetch_add(1, Ordering::Relaxed);
        let (ask, reading) = (ask.clone(), Arc::clone(&reading));
        thread::spawn(move || {
            if let Some(target) = target(&connection) {
                // Where nobody waits any more, nobody is to be answered.
                let _ = ask.try_send((connection, target));
            }
            reading.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// What a connection asks for with GET.
fn target(connection: &TcpStream) -> Option<String> {
    connection.set_read_timeout(Some(PATIENCE)).ok()?;
    connection.set_write_timeout(Some(PATIENCE)).ok()?;
    let mut lines = BufReader::new(connection.take(LONGEST)).lines();
    let first = lines.next()?.ok()?;
    // What is left unread when we answer would undo the answer.
    for line in lines {
        if line.ok()?.is_empty() {
            break;
        }
    }
    let mut words = first.split(' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some("GET"), Some(target), Some(version), None) if version.starts_with("HTTP/1.") => {
            Some(target.to_owned())
        }
        _ => None,
    }
}

/// Show a page with one sentence, and end the connection.
fn answer(mut connection: TcpStream, status: &str, sentence: &str) {
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Warrant</title>\
         <p>{sentence}</p></html>"
    );
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n\
         Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n\
         Connection: close\r\n\r\n",
        page.len()
    );
    // A browser that went away misses nothing that the terminal does not say.
    let _ = connection.write_all(format!("{head}{page}").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected() -> Expected {
        Expected {
            state: "s1".to_owned(),
            issuer: "https://jobs.example.org".to_owned(),
        }
    }

    const ISS: &str = "iss=https%3A%2F%2Fjobs.example.org";

    #[test]
    fn t107_only_the_answer_to_our_own_question_is_taken() {
        let other = [
            format!("/callback?code=c&state=s2&{ISS}"),
            format!("/callback?code=c&{ISS}"),
            format!("/callback?code=c&state=s1&state=s1&{ISS}"),
            format!("/other?code=c&state=s1&{ISS}"),
            "/callback".to_owned(),
            "/favicon.ico".to_owned(),
        ];
        for target in other {
            assert!(judge(&target, &expected()).is_none(), "{target}");
        }
        let good = format!("/callback?code=c%2B1&state=s1&{ISS}");
        let code = judge(&good, &expected()).unwrap().unwrap();
        assert_eq!(code.reveal(), "c+1");
    }

    #[test]
    fn an_answer_of_another_server_is_refused() {
        for iss in [
            "",
            "&iss=https%3A%2F%2Fevil.example",
            &format!("&{ISS}&{ISS}"),
        ] {
            let target = format!("/callback?code=c&state=s1{iss}");
            let refused = judge(&target, &expected()).unwrap().unwrap_err();
            assert!(
                refused.message().unwrap().contains("another server"),
                "{iss}"
            );
        }
    }

    #[test]
    fn a_refusal_is_told_in_the_words_of_the_server() {
        let target = format!(
            "/callback?error=access_denied&error_description=No%1b%5B2J+way&state=s1&{ISS}"
        );
        let refused = judge(&target, &expected()).unwrap().unwrap_err();
        let said = refused.message().unwrap();
        assert!(
            said.contains("No") && said.contains("way") && !said.contains('\x1b'),
            "{said}"
        );
        let target = format!("/callback?code=&state=s1&{ISS}");
        assert!(judge(&target, &expected()).unwrap().is_err());
    }

    fn get(uri: &str, more: &str) -> String {
        let (place, path) = uri
            .strip_prefix("http://")
            .unwrap()
            .split_once('/')
            .unwrap();
        let mut connection = TcpStream::connect(place).unwrap();
        let request = format!("GET /{path}{more} HTTP/1.1\r\nHost: {place}\r\nA: b\r\n\r\n");
        connection.write_all(request.as_bytes()).unwrap();
        let mut said = String::new();
        connection.read_to_string(&mut said).unwrap();
        said
    }

    #[test]
    fn a_browser_that_opens_connections_and_says_nothing_is_in_nobodys_way() {
        let callback = Callback::listen().unwrap();
        let uri = callback.uri();
        let place = uri
            .strip_prefix("http://")
            .unwrap()
            .split('/')
            .next()
            .unwrap();
        let silent: Vec<_> = (0..3).map(|_| TcpStream::connect(place).unwrap()).collect();
        let browser = {
            let uri = uri.clone();
            thread::spawn(move || {
                let wrong = get(&uri, "?code=c&state=other");
                (wrong, get(&uri, &format!("?code=c1&state=s1&{ISS}")))
            })
        };
        let code = callback.wait(&expected()).unwrap();
        assert_eq!(code.reveal(), "c1");
        let (wrong, right) = browser.join().unwrap();
        assert!(wrong.starts_with("HTTP/1.1 404"), "{wrong}");
        assert!(right.starts_with("HTTP/1.1 200"), "{right}");
        assert!(right.contains("no-store") && !right.contains("c1"));
        drop(silent);
    }
}
