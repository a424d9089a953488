//! What a server wants to run for us, looked at before we sign for it: a
//! warrant lets its holder run these very bytes as us, whatever we meant.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use warrant_api::flux::NeedsWarrant;
use warrant_wire::Launch;
use warrant_wire::warrant::hex;

use crate::args::Submit;
use crate::failure::Failure;
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
        .map_err(|_| differs("it cannot be read"))?;
    let launch = Launch::decode(&bytes).map_err(|error| differs(&error.to_string()))?;
    compare(&launch, submit)?;
    // Never the server's word for it.
    Ok(hex(&Sha256::digest(&bytes)))
}

fn compare(launch: &Launch, submit: &Submit) -> Result<(), Failure> {
    let asked = submit.command.iter().map(String::as_bytes);
    if !asked.eq(launch.argv.iter().map(Vec::as_slice)) {
        return Err(differs("another command"));
    }
    if launch.workdir.as_deref() != submit.workdir.as_deref().map(str::as_bytes) {
        return Err(differs("another directory"));
    }
    if launch.default_workdir.is_some() {
        return Err(differs("a default directory that nobody asked for"));
    }
    if launch.limits.processes != submit.num_tasks.unwrap_or(1) {
        return Err(differs("another number of tasks"));
    }
    let output = |option: &str| {
        let asked = submit.option.iter().rev().find(|(name, _)| name == option);
        asked.map(|(_, value)| value.as_bytes())
    };
    if launch.stdout.as_deref() != output("output.stdout.path")
        || launch.stderr.as_deref() != output("output.stderr.path")
    {
        return Err(differs("another place for its output"));
    }
    for (name, value) in &launch.env {
        let asked = submit.env.iter().rev().find(|(n, _)| n.as_bytes() == name);
        match asked {
            Some((_, asked)) if asked.as_bytes() == value => {}
            Some(_) => return Err(variable(name, "another value")),
            None if is_accepted(name, submit) => {}
            None => return Err(variable(name, "a value that nobody asked for")),
        }
    }
    let given = |name: &str| launch.env.iter().any(|(n, _)| n == name.as_bytes());
    match submit.env.iter().find(|(name, _)| !given(name)) {
        Some((name, _)) => Err(variable(name.as_bytes(), "no value")),
        None => Ok(()),
    }
}

fn is_accepted(name: &[u8], submit: &Submit) -> bool {
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start.as_bytes()),
        None => name == pattern.as_bytes(),
    };
    NEUTRAL.into_iter().any(fits) || submit.accept_env.iter().any(|name| fits(name))
}

fn variable(name: &[u8], what: &str) -> Failure {
    let name = String::from_utf8_lossy(name);
    let name = visible(&name);
    differs(&format!(
        "the variable {name} has {what} (--accept-env {name} accepts one that the server adds)"
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
    use warrant_wire::Limits;

    use super::*;
    use crate::args::{Command, CommandLine};

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
                time_limit_s: 0,
                grace_ms: 5000,
                output_cap_bytes: 1 << 30,
                memory_bytes: 0,
            },
            argv: vec![bytes("echo"), bytes("a b")],
            env: vec![(bytes("A"), bytes("1")), (bytes("LC_ALL"), bytes("C"))],
            workdir: Some(bytes("/tmp")),
            stdout: None,
            stderr: None,
            default_workdir: None,
        }
    }

    const ASKED: [&str; 6] = ["-n2", "-C/tmp", "-eA=1", "--", "echo", "a b"];

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

    #[test]
    fn any_other_job_is_not() {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let changes: [fn(&mut Launch, Vec<u8>); 7] = [
            |launch, word| launch.argv.push(word),
            |launch, word| launch.argv[0] = word,
            |launch, word| launch.workdir = Some(word),
            |launch, word| launch.stdout = Some(word),
            |launch, word| launch.env[0].1 = word,
            |launch, word| launch.env.push((word, b"1".to_vec())),
            |launch, _| launch.env.clear(),
        ];
        for change in changes {
            let mut other = launch();
            change(&mut other, bytes("LD_PRELOAD"));
            assert!(compare(&other, &asked()).is_err());
        }
        assert!(compare(&launch(), &submit(&["-C/tmp", "-eA=1", "echo", "a b"])).is_err());
        assert_eq!(compare(&launch(), &asked()), Ok(()));
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
