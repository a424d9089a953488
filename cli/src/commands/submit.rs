//! `warrant submit`: hand in a job, and perhaps wait for its end.

use std::thread;
use std::time::Duration;

use serde_json::{Map, Value, json};
use warrant_api::flux::NeedsWarrant;

use crate::args::Submit;
use crate::client::{Answer, Client, Request, Submission, not_understood};
use crate::commands::interruption::Interruption;
use crate::commands::{Show, logs, print_json};
use crate::failure::Failure;
use crate::job::{Job, JobId, State};
use crate::launch;
use crate::terminal::{complain, say, visible};
use warrant_wire::warrant::hex;

/// Submit; the exit code of the process.
pub(crate) fn submit(
    client: impl FnOnce() -> Result<Client, Failure>,
    submit: &Submit,
    show: Show,
) -> Result<u8, Failure> {
    if submit.wait && show.json {
        return Err(Failure::Usage(
            "--wait prints the job's output, so it cannot be combined with --json".to_owned(),
        ));
    }
    let interruption = submit.wait.then(Interruption::watch).transpose()?;
    let mut client = client()?;
    let answer = send(&mut client, submit)?.success()?;
    if show.json {
        return print_json(&answer, show.look).map(|()| 0);
    }
    let reply = answer.json()?;
    let id = Job(&reply).text("id");
    if id.is_empty() {
        return Err(not_understood());
    }
    if submit.wait {
        // Standard output is the job's own.
        complain(&format!("submitted job {}", visible(&id)));
        let id: JobId = id.parse().map_err(|_| not_understood())?;
        if let Some(interruption) = &interruption {
            interruption.is_of(&id);
        }
        return wait(client, &id);
    }
    if !show.look.terminal {
        say(&visible(&id))?;
    } else if submit.launcher {
        say(&visible(&Job(&reply).text("Message")))?;
    } else {
        say(&format!("Submitted job {}", visible(&id)))?;
    }
    Ok(0)
}

/// Where jobs are submitted.
const ROUTE: &str = "/v1/jobs/submit";
/// The status of a server that wants a warrant. Source: RFC 6585 §3.
const PRECONDITION_REQUIRED: u16 = 428;

/// How long to wait, in milliseconds, before each time that a submission is sent
/// again whose answer was lost.
const WAITS_MS: [u64; 6] = [200, 500, 1_000, 2_000, 4_000, 8_000];
/// The statuses of a server that may have another answer soon. Source: RFC 9110
/// §15.5.10, §15.6.3, §15.6.4.
const NOT_YET: [u16; 3] = [409, 502, 503];

/// Submit. Where the answer is lost, send the same again, if the server makes no
/// other job of it.
pub(crate) fn send(client: &mut Client, submit: &Submit) -> Result<Answer, Failure> {
    let key = new_key()?;
    let lost = match send_once(client, submit, &key) {
        Err(Failure::Unanswered(why)) => why,
        done => return done,
    };
    let uncertain = Failure::Unanswered(format!(
        "{lost}. The job may have been accepted: look with `warrant jobs` before submitting again"
    ));
    for wait in WAITS_MS {
        thread::sleep(Duration::from_millis(wait));
        match takes_keys(client) {
            Ok(true) => {}
            Ok(false) => break,
            Err(_) => continue,
        }
        match send_once(client, submit, &key) {
            Err(Failure::Unanswered(_) | Failure::Unreachable(_)) => {}
            Ok(answer) if NOT_YET.contains(&answer.status) => {}
            done => return done,
        }
    }
    Err(uncertain)
}

/// A name for this submission that no other has.
fn new_key() -> Result<String, Failure> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::Refused(format!("no random numbers: {error}")))?;
    Ok(hex(&random))
}

/// Whether the server says that it knows a submission again by its key. Servers
/// of the Flux RESTful API need not.
fn takes_keys(client: &mut Client) -> Result<bool, Failure> {
    let document = client.answer(&Request::Get("/openapi.json", vec![]))?;
    let Ok(document) = document.json() else {
        return Ok(false);
    };
    let parameters = document["paths"][ROUTE]["post"]["parameters"].as_array();
    let is_key = |parameter: &Value| parameter["name"] == "Idempotency-Key";
    Ok(parameters.is_some_and(|all| all.iter().any(is_key)))
}

/// Submit; where the server asks for a warrant, look at what it would run,
/// obtain one and submit again.
fn send_once(client: &mut Client, submit: &Submit, key: &str) -> Result<Answer, Failure> {
    let body = body(submit)?;
    let submission = Submission {
        route: ROUTE,
        body: &body,
        key,
        warrant: None,
    };
    let answer = client.answer(&Request::Submit(submission))?;
    if answer.status != PRECONDITION_REQUIRED {
        return Ok(answer);
    }
    let needs: NeedsWarrant = serde_json::from_str(&answer.body).map_err(|_| not_understood())?;
    let job_sha256 = launch::check(&needs, submit)?;
    let auth = match &submit.auth_host {
        Some(auth) => auth.parse()?,
        None => client.server().clone(),
    };
    let warrant = client.warrant(&auth, &needs.audience, &job_sha256)?;
    client.answer(&Request::Submit(Submission {
        warrant: Some(&warrant),
        ..submission
    }))
}

/// The job in the words of the API. What the user left open is left out, so
/// that the server's own defaults hold.
fn body(submit: &Submit) -> Result<Value, Failure> {
    let words = submit.command.iter().map(String::as_str);
    let command = shlex::try_join(words)
        .map_err(|_| Failure::Usage("the command contains a NUL character".to_owned()))?;
    let mut body = Map::new();
    body.insert("command".to_owned(), command.into());
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    set("num_tasks", submit.num_tasks.map(Value::from));
    set("cores_per_task", submit.cores_per_task.map(Value::from));
    set("gpus_per_task", submit.gpus_per_task.map(Value::from));
    set("num_nodes", submit.nodes.map(Value::from));
    set("exclusive", submit.exclusive.then_some(Value::Bool(true)));
    set("runtime", submit.time_limit.map(Value::from));
    set("workdir", submit.workdir.clone().map(Value::from));
    set("default_workdir", submit.default_workdir().map(Value::from));
    set("is_launcher", submit.launcher.then_some(Value::Bool(true)));
    if !submit.env.is_empty() {
        let variables: Map<String, Value> = submit
            .env
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        set("envars", Some(Value::Object(variables)));
    }
    if !submit.option.is_empty() {
        // As an object: a value may hold a comma.
        let options: Map<String, Value> = submit
            .option
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        set("option_flags", Some(Value::Object(options)));
    }
    Ok(Value::Object(body))
}

/// Print the job's output until it ends; its exit code, as a shell would say it.
fn wait(client: Client, id: &JobId) -> Result<u8, Failure> {
    let mut client = logs::follow(client, id)?;
    let route = id.route("");
    let answer = client.answer(&Request::Get(&route, vec![]))?.success()?;
    let object = answer.json()?;
    let job = Job(&object);
    let state = job.state();
    let what = match state {
        State::Timeout => "was ended by its time limit",
        State::Cancelled => "was cancelled",
        State::Failed if !job.reason().is_empty() => "failed",
        State::Queued
        | State::Running
        | State::Completed
        | State::Failed
        | State::Ended
        | State::Other(_) => "",
    };
    match (what, job.reason()) {
        ("", _) => {}
        (what, reason) if reason.is_empty() => complain(&format!("job {id} {what}")),
        (what, reason) => complain(&format!("job {id} {what}: {}", visible(&reason))),
    }
    match (job.exit_code(), state) {
        // A job that was ended from outside did not do what it was asked to.
        (Some(0), State::Timeout | State::Cancelled | State::Failed) => Ok(1),
        (Some(code), _) => Ok(code),
        (None, State::Completed) => Ok(0),
        (None, _) => Ok(1),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::args::{Command, CommandLine};
    use crate::fake_server::{FakeServer, Reply};

    fn body_of(arguments: &[&str]) -> Value {
        let line = ["warrant", "submit"].iter().chain(arguments);
        let Command::Submit(submit) = CommandLine::parse_from(line).command else {
            panic!("another command");
        };
        body(&submit).unwrap()
    }

    #[test]
    fn what_is_left_open_is_left_out() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(
            body_of(&["true"]),
            json!({"command": "true", "default_workdir": here.to_str().unwrap()})
        );
        assert_eq!(
            body_of(&["-C", "sub", "true"]),
            json!({"command": "true", "workdir": here.join("sub").to_str().unwrap()})
        );
    }

    #[test]
    fn every_option_reaches_the_server() {
        let body = body_of(&[
            "-n4",
            "-c2",
            "-g1",
            "-N3",
            "-x",
            "-t1:00:00",
            "-C/tmp",
            "-eA=1",
            "-eB=x y",
            "-oa=1",
            "-ob.c=2",
            "--launcher",
            "--",
            "snakemake",
            "-c1",
        ]);
        assert_eq!(
            body,
            json!({
                "command": "snakemake -c1",
                "num_tasks": 4,
                "cores_per_task": 2,
                "gpus_per_task": 1,
                "num_nodes": 3,
                "exclusive": true,
                "runtime": 3600,
                "workdir": "/tmp",
                "envars": {"A": "1", "B": "x y"},
                "option_flags": {"a": "1", "b.c": "2"},
                "is_launcher": true,
            })
        );
    }

    /// Sends the job to a server that loses the first answers to submissions; what
    /// came of it, and the keys that arrived.
    fn sent_to(loses: usize, takes_keys: bool) -> (Result<u16, Failure>, Vec<String>) {
        let keys = Arc::new(Mutex::new(Vec::new()));
        let arrived = Arc::clone(&keys);
        let server = FakeServer::start(move |request| {
            if request.target == "/openapi.json" {
                let name = if takes_keys { "Idempotency-Key" } else { "x" };
                let post = json!({"post": {"parameters": [{"name": name}]}});
                return Reply::json(200, &json!({"paths": {ROUTE: post}}).to_string());
            }
            let mut arrived = arrived.lock().unwrap();
            let key = request.headers.get("idempotency-key");
            arrived.push(key.cloned().unwrap_or_default());
            match arrived.len() {
                number if number <= loses => Reply::lost(),
                number if number == loses + 1 && loses > 0 => Reply::json(409, "{}"),
                _ => Reply::json(200, r#"{"Message":"Job submit.","id":7}"#),
            }
        });
        let Command::Submit(submit) =
            CommandLine::parse_from(["warrant", "submit", "true"]).command
        else {
            panic!("another command");
        };
        let sent = send(&mut server.client(), &submit);
        let keys = keys.lock().unwrap().clone();
        (sent.map(|answer| answer.status), keys)
    }

    #[test]
    fn a_submission_whose_answer_was_lost_is_sent_again_with_its_key() {
        let (sent, keys) = sent_to(1, true);
        assert_eq!((sent, keys.len()), (Ok(200), 3));
        assert!(keys.iter().all(|key| key == &keys[0]), "{keys:?}");
        assert_eq!(keys[0].len(), 34, "{keys:?}");
        let (_, others) = sent_to(0, true);
        assert_eq!(others.len(), 1);
        assert_ne!(others[0], keys[0]);
    }

    #[test]
    fn a_server_that_does_not_know_keys_is_not_sent_the_job_twice() {
        let (sent, keys) = sent_to(1, false);
        let Err(Failure::Unanswered(message)) = sent else {
            panic!("{sent:?}");
        };
        assert!(message.contains("may have been accepted"), "{message}");
        assert_eq!(keys.len(), 1);
    }

    #[test]
    fn the_command_survives_the_server_splitting_it() {
        let command = [
            "sh",
            "-c",
            "echo \"$HOME\" `x` | wc -l; exit 3",
            "",
            " ",
            "it's",
            "a\\b",
            "\n\t",
            "#no comment",
            "~",
            "*",
            "!x^",
            "é€",
            "'\"'",
            "--",
            "$'\\n'",
        ];
        let mut line = vec!["--"];
        line.extend(command);
        let sent = body_of(&line)["command"].as_str().unwrap().to_owned();
        assert_eq!(shlex::split(&sent).unwrap(), command);
    }
}
