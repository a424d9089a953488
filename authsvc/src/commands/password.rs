//! Where a command takes a password from; never from its arguments, which
//! every user of the machine can read.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::Path;

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use crate::error::{Error, Result};
use crate::passwords::MAX_BYTES;
use crate::secret::{Secret, without_newline};

/// The password in `file`; else typed twice at a terminal, unseen; else all
/// of standard input, without the newline at its end.
///
/// Errors: it cannot be read, or the two typed differ.
pub(super) fn read(file: Option<&Path>) -> Result<Secret> {
    if let Some(file) = file {
        return Secret::read_argument("--password-file", file);
    }
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        let mut text = String::new();
        let most = MAX_BYTES as u64 + 2;
        stdin
            .lock()
            .take(most)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
        return Ok(Secret::new(without_newline(&text)));
    }
    let password = ask("Password: ")?;
    if ask("Again: ")? != password {
        return Err(Error::invalid("the two passwords differ"));
    }
    Ok(password)
}

fn ask(prompt: &str) -> Result<Secret> {
    let mut stderr = io::stderr();
    let quiet = Quiet::begin().map_err(unreadable)?;
    let mut line = String::new();
    write!(stderr, "{prompt}")
        .and_then(|()| stderr.flush())
        .and_then(|()| {
            io::stdin()
                .lock()
                .take(MAX_BYTES as u64 + 2)
                .read_line(&mut line)
        })
        .and_then(|_| writeln!(stderr))
        .map_err(unreadable)?;
    drop(quiet);
    Ok(Secret::new(without_newline(&line)))
}

fn unreadable(source: io::Error) -> Error {
    Error::unavailable("the password cannot be read", source)
}

/// The terminal while it does not echo; restored in the end.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // Nothing is left to do about a terminal that is gone.
        let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.0);
    }
}
