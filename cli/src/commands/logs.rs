//! `warrant logs`: the output of a job, so far or until it ends.

use std::io::{self, Read, Write};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::client::{Client, Request, not_understood};
use crate::commands::{Show, print_json};
use crate::failure::Failure;
use crate::job::{Job, JobId};
use crate::terminal::{Filter, visible};

/// Print what the job has written so far.
pub(crate) fn logs(client: &mut Client, id: &JobId, show: Show) -> Result<(), Failure> {
    let route = id.route("/output");
    let answer = client.answer(&Request::Get(&route, vec![]))?.success()?;
    if show.json {
        return print_json(&answer, show.look);
    }
    let reply = answer.json()?;
    let mut page = Page::new(io::stdout(), show.look.terminal);
    match reply.get("Output") {
        Some(Value::Array(pieces)) => {
            for piece in pieces.iter().filter_map(Value::as_str) {
                page.show(piece.as_bytes())?;
            }
            page.finish()
        }
        // The API answers with success and a message when there is none.
        _ => match reply.get("Message").and_then(Value::as_str) {
            Some(message) => Err(Failure::Refused(visible(message).into_owned())),
            None => Err(not_understood()),
        },
    }
}

/// Print the job's output as it comes, until the job ends.
pub(crate) fn follow(client: &mut Client, id: &JobId, show: Show) -> Result<(), Failure> {
    let mut page = Page::new(io::stdout(), show.look.terminal);
    follow_to(client, id, &mut page)?;
    page.finish()
}

/// How often a lost connection is tried again without success: with the
/// waits below, about a minute.
const MAX_FAILURES: u32 = 20;

fn follow_to<W: Write>(client: &mut Client, id: &JobId, page: &mut Page<W>) -> Result<(), Failure> {
    let route = id.route("/output/stream");
    let mut failures = 0;
    let mut silent_rounds = 0;
    loop {
        let seen_before = page.seen;
        let query = match page.seen {
            0 => vec![],
            seen => vec![("offset", seen.to_string())],
        };
        match client.stream(&Request::Get(&route, query)) {
            Ok(mut stream) => {
                failures = 0;
                if page.show_all(&mut stream)? && has_ended(client, id)? {
                    return Ok(());
                }
            }
            // A server that was never there is reported at once.
            Err(Failure::Unreachable(_)) if page.connected && failures < MAX_FAILURES => {
                failures += 1;
            }
            Err(failure) => return Err(failure),
        }
        silent_rounds = if page.seen > seen_before {
            0
        } else {
            silent_rounds + 1
        };
        thread::sleep(wait_before_round(silent_rounds));
    }
}

/// A tenth of a second, doubled with each round that brought nothing, up to
/// three seconds.
fn wait_before_round(silent_rounds: u32) -> Duration {
    let wait = Duration::from_millis(100 << silent_rounds.min(5));
    wait.min(Duration::from_secs(3))
}

/// Whether the job is over. A stream also ends when the server stops; a
/// server that cannot be asked is asked for the rest of the stream instead.
fn has_ended(client: &mut Client, id: &JobId) -> Result<bool, Failure> {
    let route = id.route("");
    match client.answer(&Request::Get(&route, vec![])) {
        Ok(answer) => {
            let object = answer.success()?.json()?;
            Ok(Job(&object).state().is_final())
        }
        Err(Failure::Unreachable(_)) => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// Where output goes: byte for byte to a program, made harmless to a person.
struct Page<W> {
    to: W,
    filter: Option<Filter>,
    /// Bytes of the job's output received.
    seen: u64,
    /// A stream was open at least once.
    connected: bool,
}

impl<W: Write> Page<W> {
    fn new(to: W, terminal: bool) -> Self {
        Self {
            to,
            filter: terminal.then(Filter::default),
            seen: 0,
            connected: false,
        }
    }

    fn show(&mut self, piece: &[u8]) -> Result<(), Failure> {
        match &mut self.filter {
            Some(filter) => self.to.write_all(filter.pass(piece).as_bytes()),
            None => self.to.write_all(piece),
        }
        .and_then(|()| self.to.flush())
        .map_err(Failure::of_output)
    }

    /// Show a stream; whether it came to its proper end.
    fn show_all(&mut self, stream: &mut impl Read) -> Result<bool, Failure> {
        self.connected = true;
        let mut buffer = [0; 64 << 10];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(true),
                Ok(length) => {
                    self.show(buffer.get(..length).unwrap_or_default())?;
                    self.seen += length as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Ok(false),
            }
        }
    }

    fn finish(&mut self) -> Result<(), Failure> {
        let end = self.filter.as_mut().map_or("", Filter::finish);
        self.to
            .write_all(end.as_bytes())
            .and_then(|()| self.to.flush())
            .map_err(Failure::of_output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_server::{FakeServer, Reply};

    fn follow(server: &FakeServer) -> Result<Vec<u8>, Failure> {
        let mut page = Page::new(Vec::new(), false);
        let id = "7".parse().unwrap();
        follow_to(&mut server.client(), &id, &mut page).map(|()| page.to)
    }

    const ENDED: &str = r#"{"id":7,"state":"INACTIVE","result":"COMPLETED"}"#;
    const RUNNING: &str = r#"{"id":7,"state":"RUN"}"#;

    #[test]
    fn a_stream_that_breaks_goes_on_where_it_stopped() {
        let server = FakeServer::start(|request| match request.target.as_str() {
            "/v1/jobs/7/output/stream" => Reply::broken("one\ntw"),
            "/v1/jobs/7/output/stream?offset=6" => Reply::broken("o\n\u{fffd}"),
            "/v1/jobs/7/output/stream?offset=11" => Reply::chunked("three\n"),
            "/v1/jobs/7" => Reply::json(200, ENDED),
            other => panic!("{other}"),
        });
        let output = follow(&server).unwrap();
        assert_eq!(
            String::from_utf8(output).unwrap(),
            "one\ntwo\n\u{fffd}three\n"
        );
    }

    #[test]
    fn a_stream_that_ends_before_the_job_goes_on() {
        let server = FakeServer::start(|request| match request.target.as_str() {
            "/v1/jobs/7/output/stream" => Reply::chunked("a"),
            "/v1/jobs/7/output/stream?offset=1" => Reply::chunked("b"),
            "/v1/jobs/7" if request.number < 3 => Reply::json(200, RUNNING),
            "/v1/jobs/7" => Reply::json(200, ENDED),
            other => panic!("{other}"),
        });
        assert_eq!(follow(&server).unwrap(), b"ab");
    }

    #[test]
    fn a_job_that_is_not_there_is_not_followed() {
        let server = FakeServer::start(|_| Reply::json(404, r#"{"detail":"Job 7 not found"}"#));
        assert_eq!(
            follow(&server),
            Err(Failure::Refused("Job 7 not found".to_owned()))
        );
    }

    #[test]
    fn a_server_that_is_not_there_is_reported_at_once() {
        let server = FakeServer::gone();
        assert!(matches!(follow(&server), Err(Failure::Unreachable(_))));
    }

    #[test]
    fn a_person_sees_harmless_output_and_a_program_every_byte() {
        let output = b"\x1b]0;title\x07\x1b[31mred\xff\n";
        let shown = |terminal| {
            let mut page = Page::new(Vec::new(), terminal);
            page.show_all(&mut &output[..]).unwrap();
            page.finish().unwrap();
            page.to
        };
        assert_eq!(shown(false), output);
        assert_eq!(shown(true), "\x1b[31mred\u{fffd}\n\x1b[0m".as_bytes());
    }
}
