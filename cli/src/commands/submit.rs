//! `warrant submit`: hand in a job, and perhaps wait for its end.

use serde_json::{Map, Value, json};
use warrant_api::flux::NeedsWarrant;

use crate::args::Submit;
use crate::client::{Answer, Client, Request, not_understood};
use crate::commands::interruption::Interruption;
use crate::commands::{Show, logs, print_json};
use crate::failure::Failure;
use crate::job::{Job, JobId, State};
use crate::launch;
use crate::terminal::{complain, say, visible};

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

/// Submit; where the server asks for a warrant, look at what it would run,
/// obtain one and submit again.
pub(crate) fn send(client: &mut Client, submit: &Submit) -> Result<Answer, Failure> {
    let body = body(submit)?;
    let answer = client.answer(&Request::Post(ROUTE, Some(body.clone())))?;
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
    client.answer(&Request::Warranted(ROUTE, body, &warrant))
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

    use super::*;
    use crate::args::{Command, CommandLine};

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
