//! `warrant-shim`: started by the broker, not by people.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: warrant-shim monitor --spool DIR [--fd N]

Starts jobs for the broker, which is at the other end of the stream socket
with descriptor number N (default 3). Ends when the broker closes it.
";

/// Exit code of a wrong command line. Source: sysexits(3), EX_USAGE.
const EX_USAGE: u8 = 64;

struct Arguments {
    spool: PathBuf,
    fd: RawFd,
}

fn main() -> ExitCode {
    let Some(arguments) = parse(std::env::args_os().skip(1)) else {
        let _ = std::io::stderr().write_all(USAGE.as_bytes());
        return ExitCode::from(EX_USAGE);
    };
    match warrant_shim::monitor::run(&arguments.spool, arguments.fd) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "warrant-shim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: impl Iterator<Item = OsString>) -> Option<Arguments> {
    if words.next()? != "monitor" {
        return None;
    }
    let mut spool = None;
    let mut fd = 3;
    while let Some(word) = words.next() {
        let value = words.next()?;
        match word.to_str()? {
            "--spool" => spool = Some(PathBuf::from(value)),
            "--fd" => fd = value.to_str()?.parse().ok().filter(|fd| *fd >= 0)?,
            _ => return None,
        }
    }
    Some(Arguments { spool: spool?, fd })
}
