//! `warrant logs`: the output of a job, so far or until it ends. What the job
//! wrote to standard error goes to ours.

use std::io::{Read, Write};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use crate::client::{Client, MAX_ANSWER_BYTES, Request, not_understood};
use crate::commands::page::{Page, is_one_place};
use crate::commands::{Show, print_json};
use crate::failure::Failure;
use crate::job::{Job, JobId, State};

/// Which of a job's streams to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// Both, in the order in which they were written.
    Both,
    Stdout,
    Stderr,
}

impl Which {
    /// The parameter that asks a server for one of them.
    fn word(self) -> Option<&'static str> {
        match self {
            Self::Both => None,
            Self::Stdout => Some("stdout"),
            Self::Stderr => Some("stderr"),
        }
    }
}

/// Print what the job has written so far.
///
/// Errors: `Refused` where there is no such job, or none that has started.
pub(crate) fn logs(client: &mut Client, id: &JobId, show: Show) -> Result<(), Failure> {
    if show.json {
        let route = id.route("/output");
        let answer = client.answer(&Request::Get(&route, vec![]))?.success()?;
        return print_json(&answer, show.look);
    }
    let (mut out, mut err) = (Page::stdout(), Page::stderr());
    if is_one_place() {
        read(client, id, Which::Both, &mut out)?;
    } else if read(client, id, Which::Stdout, &mut out)? {
        read(client, id, Which::Stderr, &mut err)?;
    }
    out.finish()?;
    err.finish()?;
    if out.seen + err.seen == 0 {
        check_started(client, id)?;
    }
    Ok(())
}

/// Print what `which` holds so far; whether the server knows streams apart.
fn read<W: Write>(
    client: &mut Client,
    id: &JobId,
    which: Which,
    page: &mut Page<W>,
) -> Result<bool, Failure> {
    let route = id.route("/output");
    let mut query = vec![("format", "text".to_owned())];
    query.extend(which.word().map(|word| ("stream", word.to_owned())));
    let mut stream = client.stream(&Request::Get(&route, query))?;
    if stream.media_type != "application/json" {
        if !page.show_all(&mut stream.reader)? {
            return Err(Failure::Unreachable(
                "the connection was lost before the end of the output".to_owned(),
            ));
        }
        return Ok(true);
    }
    // An older server, which knows lines in JSON alone.
    let mut body = String::new();
    let mut bounded = stream.reader.take(MAX_ANSWER_BYTES);
    bounded
        .read_to_string(&mut body)
        .map_err(|_| not_understood())?;
    let reply: Value = serde_json::from_str(&body).map_err(|_| not_understood())?;
    if let Some(Value::Array(lines)) = reply.get("Output") {
        for line in lines.iter().filter_map(Value::as_str) {
            page.show(line.as_bytes())?;
            page.seen += line.len() as u64;
        }
    } else if reply.get("Message").is_none() {
        return Err(not_understood());
    }
    Ok(false)
}

/// Whether a job that has written nothing has started.
///
/// Errors: `Refused` where it has not, or where there is none.
fn check_started(client: &mut Client, id: &JobId) -> Result<(), Failure> {
    match state(client, id)? {
        State::Queued => Err(Failure::Refused(format!(
            "job {id} has not started yet, so it has no output (`warrant logs -f {id}` waits \
             for it)"
        ))),
        State::Running
        | State::Completed
        | State::Failed
        | State::Timeout
        | State::Cancelled
        | State::Ended
        | State::Other(_) => Ok(()),
    }
}

/// Where the job stands.
///
/// Errors: `Refused` where there is none with this id.
fn state(client: &mut Client, id: &JobId) -> Result<State, Failure> {
    let route = id.route("");
    let answer = client.answer(&Request::Get(&route, vec![]))?.success()?;
    let object = answer.json()?;
    if object.is_null() {
        // So answer the older servers.
        return Err(Failure::Refused(format!("there is no job {id}")));
    }
    Ok(Job(&object).state())
}

/// Print the job's output as it comes, until the job ends; the client, for
/// what is to be asked afterwards.
///
/// Errors: `Refused` where there is no such job. The first failure of either
/// stream ends both: the process is about to end.
pub(crate) fn follow(client: Client, id: &JobId) -> Result<Client, Failure> {
    let client = Arc::new(Mutex::new(client));
    let (done, outcomes) = channel();
    let both = is_one_place();
    let mut threads = vec![spawn(
        &client,
        id,
        if both { Which::Both } else { Which::Stdout },
        Page::stdout(),
        done.clone(),
    )];
    if !both {
        threads.push(spawn(&client, id, Which::Stderr, Page::stderr(), done));
    }
    for _ in &threads {
        outcomes.recv().map_err(|_| ended())??;
    }
    for thread in threads {
        thread.join().map_err(|_| ended())?;
    }
    let client = Arc::into_inner(client).ok_or_else(ended)?;
    Ok(client.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// The failure of a thread that panicked, which has said why.
fn ended() -> Failure {
    Failure::Refused("the output cannot be followed".to_owned())
}

fn spawn<W: Write + Send + 'static>(
    client: &Arc<Mutex<Client>>,
    id: &JobId,
    which: Which,
    mut page: Page<W>,
    done: Sender<Result<(), Failure>>,
) -> JoinHandle<()> {
    let (client, id) = (Arc::clone(client), id.clone());
    thread::spawn(move || {
        let followed = follow_to(&client, &id, which, &mut page).and_then(|()| page.finish());
        // The receiver is gone where the other stream has failed.
        let _ = done.send(followed);
    })
}

/// How often a lost connection is tried again without success: with the
/// waits below, about a minute.
const MAX_FAILURES: u32 = 20;

fn follow_to<W: Write>(
    client: &Mutex<Client>,
    id: &JobId,
    which: Which,
    page: &mut Page<W>,
) -> Result<(), Failure> {
    let route = id.route("/output/stream");
    let mut failures = 0;
    let mut silent_rounds = 0;
    loop {
        let seen_before = page.seen;
        let mut query = vec![];
        query.extend(which.word().map(|word| ("stream", word.to_owned())));
        if page.seen > 0 {
            query.push(("offset", page.seen.to_string()));
        }
        // Held until the answer begins, never while it is read.
        let opened = client
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .stream(&Request::Get(&route, query));
        match opened {
            // An older server sends both streams, whichever is asked for.
            Ok(stream) if which == Which::Stderr && stream.only.as_deref() != which.word() => {
                return Ok(());
            }
            Ok(mut stream) => {
                failures = 0;
                if page.show_all(&mut stream.reader)? && has_ended(client, id)? {
                    return Ok(());
                }
            }
            // A server that was never there is reported at once.
            Err(Failure::Unreachable(_) | Failure::Unanswered(_))
                if page.connected && failures < MAX_FAILURES =>
            {
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

/// Whether the job has ended. A stream also ends when the server stops; a
/// server that cannot be reached is asked for the rest of the stream instead.
fn has_ended(client: &Mutex<Client>, id: &JobId) -> Result<bool, Failure> {
    let mut client = client.lock().unwrap_or_else(PoisonError::into_inner);
    match state(&mut client, id) {
        Ok(state) => Ok(state.is_final()),
        Err(Failure::Unreachable(_) | Failure::Unanswered(_)) => Ok(false),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_server::{FakeServer, Reply};

    fn follow(server: &FakeServer) -> Result<Vec<u8>, Failure> {
        let mut page = Page::new(Vec::new(), false);
        let id = "7".parse().unwrap();
        follow_to(&Mutex::new(server.client()), &id, Which::Both, &mut page)
            .map(|()| page.into_inner())
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
    fn an_older_server_is_not_asked_twice_for_what_it_sends_together() {
        let server = FakeServer::start(|request| match request.target.as_str() {
            "/v1/jobs/7/output?format=text&stream=stdout" => {
                let json = "Content-Type: application/json\r\n";
                Reply::with_headers(200, json, r#"{"Output":["a\n","b\n"]}"#)
            }
            "/v1/jobs/7/output/stream?stream=stderr" => Reply::chunked("a\nb\n"),
            other => panic!("{other}"),
        });
        let id = "7".parse().unwrap();
        let mut client = server.client();
        let mut page = Page::new(Vec::new(), false);
        assert_eq!(read(&mut client, &id, Which::Stdout, &mut page), Ok(false));
        assert_eq!(page.into_inner(), b"a\nb\n");
        let mut page = Page::new(Vec::new(), false);
        let followed = follow_to(&Mutex::new(client), &id, Which::Stderr, &mut page);
        assert_eq!((followed, page.into_inner()), (Ok(()), vec![]));
    }

    #[test]
    fn a_job_that_waits_one_that_is_silent_and_one_that_is_not_there_are_told_apart() {
        let started = |status, body: &'static str| {
            let server = FakeServer::start(move |_| Reply::json(status, body));
            check_started(&mut server.client(), &"7".parse().unwrap())
        };
        assert_eq!(started(200, RUNNING), Ok(()));
        assert_eq!(started(200, ENDED), Ok(()));
        let Err(Failure::Refused(waits)) = started(200, r#"{"id":7,"state":"SCHED"}"#) else {
            panic!("a job that waits has output");
        };
        assert!(waits.contains("has not started"), "{waits}");
        assert_eq!(
            started(404, r#"{"detail":"Job 7 not found"}"#),
            Err(Failure::Refused("Job 7 not found".to_owned()))
        );
    }
}
