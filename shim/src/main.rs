//! `warrant-shim`: started by the broker or by the system, not by people.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::process::ExitCode;

use warrant_shim::{monitor, self_check};

const USAGE: &str = "usage: warrant-shim monitor --spool DIR [--fd N]
       warrant-shim serve --policy FILE

monitor: starts jobs for the broker, which is at the other end of the stream
socket with descriptor number N (default 3). Ends when the broker closes it.

serve: as root, starts jobs for whom a warrant names. SIGHUP has it read the
keys anew. Exit code 78 means that something must be put right first.
";

/// Exit code of a wrong command line. Source: sysexits(3), EX_USAGE.
const EX_USAGE: u8 = 64;

enum Arguments {
    Monitor { spool: PathBuf, fd: RawFd },
    Serve { policy: PathBuf },
}

fn main() -> ExitCode {
    let ended = match parse(std::env::args_os().skip(1)) {
        Some(Arguments::Monitor { spool, fd }) => monitor::run(&spool, fd).map_err(|it| (it, 1)),
        Some(Arguments::Serve { policy }) => monitor::open(&policy)
            .map_err(|doubt| (doubt, self_check::EX_CONFIG))
            .and_then(|mut monitor| monitor.serve().map_err(|it| (it, 1))),
        None => {
            let _ = std::io::stderr().write_all(USAGE.as_bytes());
            return ExitCode::from(EX_USAGE);
        }
    };
    let Err((error, code)) = ended else {
        return ExitCode::SUCCESS;
    };
    let _ = writeln!(std::io::stderr(), "warrant-shim: {error}");
    ExitCode::from(code)
}

fn parse(mut words: impl Iterator<Item = OsString>) -> Option<Arguments> {
    let command = words.next()?;
    let (mut spool, mut policy, mut fd) = (None, None, 3);
    let is_monitor = match command.to_str()? {
        "monitor" => true,
        "serve" => false,
        _ => return None,
    };
    while let Some(word) = words.next() {
        let value = words.next()?;
        match word.to_str()? {
            "--spool" if is_monitor => spool = Some(PathBuf::from(value)),
            "--fd" if is_monitor => fd = value.to_str()?.parse().ok().filter(|fd| *fd >= 0)?,
            "--policy" if !is_monitor => policy = Some(PathBuf::from(value)),
            _ => return None,
        }
    }
    if is_monitor {
        Some(Arguments::Monitor { spool: spool?, fd })
    } else {
        Some(Arguments::Serve { policy: policy? })
    }
}
