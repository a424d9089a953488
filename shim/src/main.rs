//! `warrant-shim`: started by the broker or by the system, not by people.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use warrant_shim::{monitor, self_check};

const USAGE: &str = include_str!("usage.txt");

/// Exit code of a wrong command line. Source: sysexits(3), EX_USAGE.
const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    // What is not text is no file that there is.
    let text = |word: OsString| word.into_string().unwrap_or_default();
    let words: Vec<String> = std::env::args_os().skip(1).map(text).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ended = match words.as_slice() {
        ["serve", "--policy", policy, more @ ..] => {
            let Some(manager) = service_manager(more) else {
                return misused();
            };
            match monitor::open(policy.as_ref(), manager) {
                Ok(mut monitor) => monitor.serve(),
                Err(doubt) => return fail(&doubt, self_check::EX_CONFIG),
            }
        }
        ["check-policy", "--policy", policy] => match self_check::check(policy.as_ref(), &[]) {
            Ok(_) => writeln!(io::stdout(), "The policy can be used."),
            Err(doubt) => return fail(&doubt, self_check::EX_CONFIG),
        },
        ["forget-store", "--policy", policy] => match monitor::release(policy.as_ref()) {
            Ok(highest) => told_released(highest),
            Err(doubt) => return fail(&doubt, self_check::EX_CONFIG),
        },
        ["forget-store", "--spool", spool] => match monitor::release_spool(spool.as_ref()) {
            Ok(highest) => told_released(highest),
            Err(doubt) => return fail(&doubt, self_check::EX_CONFIG),
        },
        ["monitor", "--spool", spool] => monitor::run(spool.as_ref()),
        _ => return misused(),
    };
    ended.map_or_else(|error| fail(&error, 1), |()| ExitCode::SUCCESS)
}

/// Where the service manager listens and how long it waits, as this program
/// passes them to itself; `None` for other words.
fn service_manager<'a>(words: &[&'a str]) -> Option<Option<(&'a str, Option<&'a str>)>> {
    match *words {
        [] => Some(None),
        ["--notify", socket] => Some(Some((socket, None))),
        ["--notify", socket, "--watchdog-us", limit] => Some(Some((socket, Some(limit)))),
        _ => None,
    }
}

fn misused() -> ExitCode {
    let _ = io::stderr().write_all(USAGE.as_bytes());
    ExitCode::from(EX_USAGE)
}

fn told_released(highest: u64) -> io::Result<()> {
    let text = "The spool belongs to no job store now; the next broker's becomes its owner. New jobs get \
         numbers above";
    writeln!(io::stdout(), "{text} {highest}.")
}

fn fail(error: &io::Error, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "warrant-shim: {error}");
    ExitCode::from(code)
}
