//! What a server wants to run for us, looked at before we sign for it: a
//! warrant lets its holder run these very bytes as us, whatever we meant.

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use warrant_api::flux::NeedsWarrant;
use warrant_wire::warrant::hex;
use warrant_wire::{Launch, Limits};

use crate::args::Submit;
use crate::failure::Failure;
use crate::limits::{Accepted, Limit};
use crate::terminal::visible;

/// Variables that a server may add unasked: they say how to write numbers
/// and dates. `*` stands for anything.
const NEUTRAL: [&str; 4] = ["LANG", "LANGUAGE", "LC_*", "TZ"];

/// See that the launch is the job that `submit` asks for; the SHA-256 that a
/// warrant for it must name, in hexadecimal.
///
/// Errors: `Refused` with what is different.
pub(crate) fn check(needs: &NeedsWarrant, submit: &Submit) -> Result<String, Failure> {
    let bytes = STANDARD
        .decode(&needs.launch)
        .map_err(|_| differs("launch: it cannot be read"))?;
    let launch = Launch::decode(&bytes).map_err(|error| differs(&error.to_string()))?;
    compare(&launch, submit)?;
    // Never the server's word for it.
    Ok(hex(&Sha256::digest(&bytes)))
}

/// Compare the launch with what was asked for. Every field is named here: one that
/// is new does not compile until it is compared.
fn compare(launch: &Launch, submit: &Submit) -> Result<(), Failure> {
    let Launch {
        limits,
        argv,
        env,
        workdir,
        stdout,
        stderr,
        default_workdir,
    } = launch;
    compare_limits(limits, submit)?;
    let asked = submit.command.iter().map(String::as_bytes);
    if !asked.eq(argv.iter().map(Vec::as_slice)) {
        return Err(differs("command: it has other words"));
    }
    let output = |option: &str| {
        let asked = submit.option.iter().rev().find(|(name, _)| name == option);
        asked.map(|(_, value)| value.as_str())
    };
    path("workdir", workdir.as_ref(), submit.workdir.as_deref())?;
    let here = submit.default_workdir();
    path("default_workdir", default_workdir.as_ref(), here.as_deref())?;
    for (field, there) in [
        ("output.stdout.path", stdout),
        ("output.stderr.path", stderr),
    ] {
        path(field, there.as_ref(), output(field))?;
    }
    compare_env(env, submit)
}

fn compare_limits(limits: &Limits, submit: &Submit) -> Result<(), Failure> {
    let Limits {
        processes,
        time_limit_s,
        grace_ms,
        output_cap_bytes,
        memory_bytes,
    } = *limits;
    let tasks = u64::from(submit.num_tasks.unwrap_or(1));
    if u64::from(processes) != tasks {
        return Err(differs(&format!(
            "num_tasks: it is {processes}, not {tasks}"
        )));
    }
    let time = submit.time_limit.unwrap_or(0);
    for (limit, there, asked) in [
        (Limit::TimeLimitS, time_limit_s, time..=time),
        (Limit::GraceMs, grace_ms.into(), GRACE_MS),
        (
            Limit::OutputCapBytes,
            output_cap_bytes,
            OUTPUT_CAP..=OUTPUT_CAP,
        ),
        (Limit::MemoryBytes, memory_bytes, 0..=0),
    ] {
        // What the user asked for is not the site's to set.
        let is_asked = limit == Limit::TimeLimitS && submit.time_limit.is_some();
        let accepted = submit.accept_limit.contains(&Accepted(limit, there)) && !is_asked;
        if !asked.contains(&there) && !accepted {
            return Err(limit_differs(limit, there, &asked, is_asked));
        }
    }
    Ok(())
}

/// The grace that a site may give a job to end by itself, in milliseconds: every
/// usual one, since nobody asks for any.
const GRACE_MS: RangeInclusive<u64> = 1_000..=30_000;
/// How many bytes of output are kept unless a site sets that otherwise.
const OUTPUT_CAP: u64 = 1 << 30;

fn limit_differs(limit: Limit, there: u64, asked: &RangeInclusive<u64>, is_asked: bool) -> Failure {
    let (name, low, high) = (limit.name(), asked.start(), asked.end());
    let asked = match low == high {
        true => low.to_string(),
        false => format!("{low} to {high}"),
    };
    let hint = match is_asked {
        true => String::new(),
        false => format!(" (--accept-limit {name}={there} accepts what the site sets)"),
    };
    differs(&format!("{name}: it is {there}, not {asked}{hint}"))
}

fn path(field: &str, there: Option<&Vec<u8>>, asked: Option<&str>) -> Result<(), Failure> {
    if there.map(Vec::as_slice) == asked.map(str::as_bytes) {
        return Ok(());
    }
    let shown = |path: Option<&[u8]>| match path {
        Some(path) => visible(&String::from_utf8_lossy(path)).into_owned(),
        None => "none".to_owned(),
    };
    Err(differs(&format!(
        "{field}: it is {}, not {}",
        shown(there.map(Vec::as_slice)),
        shown(asked.map(str::as_bytes))
    )))
}

fn compare_env(env: &[(Vec<u8>, Vec<u8>)], submit: &Submit) -> Result<(), Failure> {
    for (name, value) in env {
        let asked = submit.env.iter().rev().find(|(n, _)| n.as_bytes() == name);
        match asked {
            Some((_, asked)) if asked.as_bytes() == value => {}
            Some(_) => return Err(variable(name, "another value")),
            None if is_neutral(name, value) || is_accepted(name, submit) => {}
            None => return Err(variable(name, "a value that nobody asked for")),
        }
    }
    let given = |name: &str| env.iter().any(|(n, _)| n == name.as_bytes());
    match submit.env.iter().find(|(name, _)| !given(name)) {
        Some((name, _)) => Err(variable(name.as_bytes(), "no value")),
        None => Ok(()),
    }
}

/// Whether a variable says how to write numbers and dates, and names no file.
fn is_neutral(name: &[u8], value: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.@:,+-/<>".contains(byte);
    let begins = value.first().is_none_or(|byte| !b"/:.".contains(byte));
    let climbs = value.windows(2).any(|two| two == b"..");
    NEUTRAL.into_iter().any(|pattern| fits(pattern, name))
        && begins
        && !climbs
        && value.iter().all(plain)
}

fn is_accepted(name: &[u8], submit: &Submit) -> bool {
    submit.accept_env.iter().any(|pattern| fits(pattern, name))
}

/// Whether a name fits a pattern, in which `*` at the end stands for anything.
fn fits(pattern: &str, name: &[u8]) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start.as_bytes()),
        None => name == pattern.as_bytes(),
    }
}

fn variable(name: &[u8], what: &str) -> Failure {
    let name = String::from_utf8_lossy(name);
    let name = visible(&name);
    differs(&format!(
        "env: the variable {name} has {what} (--accept-env {name} accepts one that the server adds)"
    ))
}

fn differs(what: &str) -> Failure {
    Failure::Refused(format!(
        "the server would run something else than you asked for: {what}. Nothing was signed"
    ))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Command, CommandLine};
    use crate::commands::submit::send;
    use crate::fake_server::{FakeServer, Reply};

    fn submit(arguments: &[&str]) -> Submit {
        let line = ["warrant", "submit"].iter().chain(arguments);
        let Command::Submit(submit) = CommandLine::parse_from(line).command else {
            panic!("another command");
        };
        submit
    }

    fn launch() -> Launch {
        let bytes = |text: &str| text.as_bytes().to_vec();
        Launch {
            limits: Limits {
                processes: 2,
                time_limit_s: 3600,
                grace_ms: 5000,
                output_cap_bytes: 1 << 30,
                memory_bytes: 0,
            },
            argv: vec![bytes("echo"), bytes("a b")],
            env: vec![(bytes("A"), bytes("1")), (bytes("LC_ALL"), bytes("C"))],
            workdir: Some(bytes("/tmp")),
            stdout: Some(bytes("out.txt")),
            stderr: None,
            default_workdir: None,
        }
    }

    const ASKED: [&str; 8] = [
        "-t3600",
        "-n2",
        "-C/tmp",
        "-eA=1",
        "-ooutput.stdout.path=out.txt",
        "--",
        "echo",
        "a b",
    ];

    fn asked() -> Submit {
        submit(&ASKED)
    }

    #[test]
    fn the_job_that_was_asked_for_is_signed_for() {
        let bytes = launch().encode().unwrap();
        let needs = NeedsWarrant {
            detail: String::new(),
            launch: STANDARD.encode(&bytes),
            job_sha256: "something else".into(),
            audience: "local".into(),
        };
        assert_eq!(
            check(&needs, &asked()).unwrap(),
            hex(&Sha256::digest(&bytes))
        );
    }

    /// What a captured server may change, one thing at a time, and the field that
    /// the refusal must name.
    type Change = (&'static str, fn(&mut Launch));

    #[test]
    fn t127_a_launch_that_differs_in_any_field_is_not_signed_and_the_field_is_named() {
        let changes: [Change; 26] = [
            ("num_tasks", |launch| launch.limits.processes = 3),
            ("num_tasks", |launch| launch.limits.processes = 1),
            ("time_limit_s", |launch| launch.limits.time_limit_s = 1),
            ("time_limit_s", |launch| launch.limits.time_limit_s = 3601),
            ("time_limit_s", |launch| launch.limits.time_limit_s = 0),
            ("grace_ms", |launch| launch.limits.grace_ms = 0),
            ("grace_ms", |launch| launch.limits.grace_ms = 999),
            ("grace_ms", |launch| launch.limits.grace_ms = 3_600_000),
            ("output_cap_bytes", |launch| {
                launch.limits.output_cap_bytes = 1
            }),
            ("output_cap_bytes", |launch| {
                launch.limits.output_cap_bytes = 0
            }),
            ("output_cap_bytes", |launch| {
                launch.limits.output_cap_bytes = u64::MAX
            }),
            ("memory_bytes", |launch| launch.limits.memory_bytes = 1),
            ("command", |launch| launch.argv.push(b"more".to_vec())),
            ("command", |launch| launch.argv[0] = b"/tmp/echo".to_vec()),
            ("command", |launch| drop(launch.argv.pop())),
            ("workdir", |launch| launch.workdir = Some(b"/var".to_vec())),
            ("workdir", |launch| launch.workdir = None),
            ("default_workdir", |launch| {
                launch.default_workdir = Some(b"/var".to_vec());
            }),
            ("output.stdout.path", |launch| launch.stdout = None),
            ("output.stdout.path", |launch| {
                launch.stdout = Some(b"/tmp/theirs".to_vec());
            }),
            ("output.stderr.path", |launch| {
                launch.stderr = Some(b"/tmp/theirs".to_vec());
            }),
            ("variable A", |launch| launch.env[0].1 = b"2".to_vec()),
            ("variable A", |launch| drop(launch.env.remove(0))),
            ("variable LD_PRELOAD", |launch| {
                launch
                    .env
                    .push((b"LD_PRELOAD".to_vec(), b"/tmp/x.so".to_vec()));
            }),
            ("variable LC_ALL", |launch| {
                launch.env[1].1 = b"../../tmp/x".to_vec()
            }),
            ("variable TZ", |launch| {
                launch.env.push((b"TZ".to_vec(), b":/etc/shadow".to_vec()));
            }),
        ];
        for (field, change) in changes {
            let mut other = launch();
            change(&mut other);
            let Err(Failure::Refused(message)) = compare(&other, &asked()) else {
                panic!("{field} was signed");
            };
            assert!(message.contains(field), "{field}: {message}");
            assert!(message.contains("Nothing was signed"), "{message}");
        }
        assert_eq!(compare(&launch(), &asked()), Ok(()));
    }

    #[test]
    fn t127_a_captured_broker_gets_no_warrant_for_a_changed_launch() {
        let server = |change: fn(&mut Launch)| {
            FakeServer::start(move |request| {
                if request.target != "/v1/jobs/submit" {
                    let warrant = r#"{"access_token":"w","token_type":"N_A","expires_in":60}"#;
                    return Reply::json(200, warrant);
                }
                if request.headers.contains_key("warrant") {
                    return Reply::json(200, r#"{"Message":"Job submit.","id":1}"#);
                }
                let mut launch = launch();
                change(&mut launch);
                let needs = NeedsWarrant {
                    detail: String::new(),
                    launch: STANDARD.encode(launch.encode().unwrap()),
                    job_sha256: hex(&Sha256::digest(launch.encode().unwrap())),
                    audience: "local".into(),
                };
                Reply::json(428, &serde_json::to_string(&needs).unwrap())
            })
        };
        let captured = server(|launch| launch.limits.time_limit_s = 1);
        let Err(Failure::Refused(message)) = send(&mut captured.client(), &asked()) else {
            panic!("it was submitted");
        };
        assert!(
            message.contains("time_limit_s: it is 1, not 3600"),
            "{message}"
        );
        assert_eq!(captured.requests(), 1, "a warrant was asked for");
        let honest = server(|_| {});
        assert_eq!(send(&mut honest.client(), &asked()).unwrap().status, 200);
        // The job, the login, the exchange, and the job with its warrant.
        assert_eq!(honest.requests(), 4);
    }

    #[test]
    fn t127_the_limits_of_a_site_are_accepted_by_name_and_value() {
        let mut of_site = launch();
        of_site.limits.output_cap_bytes = 1 << 20;
        of_site.limits.grace_ms = 60_000;
        of_site.limits.memory_bytes = 5;
        let accept = [
            "--accept-limit=output_cap_bytes=1048576,grace_ms=60000",
            "--accept-limit=memory_bytes=5",
        ];
        let accepting = submit(&[&accept[..], &ASKED[..]].concat());
        assert_eq!(compare(&of_site, &accepting), Ok(()));
        of_site.limits.output_cap_bytes = 1;
        assert!(compare(&of_site, &accepting).is_err());
        // The time that was asked for is not the site's to set.
        let mut shorter = launch();
        shorter.limits.time_limit_s = 1;
        let accepting = submit(&[&["--accept-limit=time_limit_s=1"][..], &ASKED].concat());
        assert!(compare(&shorter, &accepting).is_err());
        let open = &ASKED[1..];
        let accepting = submit(&[&["--accept-limit=time_limit_s=1"][..], open].concat());
        assert_eq!(compare(&shorter, &accepting), Ok(()));
        assert!(compare(&shorter, &submit(open)).is_err());
    }

    #[test]
    fn variables_of_the_server_are_accepted_by_name() {
        let mut with = launch();
        with.env.push((b"SITE".to_vec(), b"x".to_vec()));
        assert!(compare(&with, &asked()).is_err());
        let mut accepting = asked();
        accepting.accept_env.push("SITE".into());
        assert_eq!(compare(&with, &accepting), Ok(()));
    }
}
