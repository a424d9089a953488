//! Asking for a password on the terminal without showing it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use crate::failure::Failure;
use crate::secret::Secret;
use crate::terminal::visible;

/// Longest password accepted, in bytes.
pub(crate) const MAX_PASSWORD_BYTES: usize = 1024;

/// Ask on the terminal of this process, wherever its output goes.
///
/// Errors: `Refused` when there is no terminal or the user gives up, with the
/// cause.
pub(crate) fn ask_password(user: &str, host: &str) -> Result<Secret, Failure> {
    let question = format!("Password of {} at {host}: ", visible(user));
    ask(&question, "no password was given", |error| {
        format!(
            "{host} asks for a password, and there is no terminal to ask on ({error}): set \
             FLUX_TOKEN, give --password-file, or run `warrant login` on a terminal"
        )
    })
}

/// As [`ask_password`], for what the account needs besides the password.
pub(crate) fn ask_code(host: &str) -> Result<Secret, Failure> {
    let question = format!("Code for {host}: ");
    ask(&question, "no code was given", |error| {
        format!(
            "{host} asks for a code besides the password, and there is no terminal to ask on \
             ({error}): run `warrant login` on a terminal"
        )
    })
}

fn ask(
    question: &str,
    nothing: &str,
    without_terminal: impl Fn(io::Error) -> String,
) -> Result<Secret, Failure> {
    let no_terminal = |error| Failure::Refused(without_terminal(error));
    let mut terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .map_err(no_terminal)?;
    let quiet = Quiet::on(&terminal).map_err(|errno| no_terminal(errno.into()))?;
    let typed = terminal
        .write_all(question.as_bytes())
        .and_then(|()| read_typed(&mut terminal));
    drop(quiet);
    let _ = terminal.write_all(b"\n");
    match typed {
        Ok(Some(password)) => Ok(password),
        Ok(None) => Err(Failure::Refused(nothing.to_owned())),
        Err(error) => Err(Failure::Refused(format!(
            "cannot read what was typed: {error}"
        ))),
    }
}

/// While this lives, the terminal echoes nothing and hands over every key,
/// Ctrl-C included: a signal would leave it silent behind us.
struct Quiet {
    terminal: File,
    before: Termios,
}

impl Quiet {
    fn on(terminal: &File) -> nix::Result<Self> {
        let terminal = terminal.try_clone().map_err(|_| nix::Error::EBADF)?;
        let before = tcgetattr(&terminal)?;
        let mut silent = before.clone();
        silent
            .local_flags
            .remove(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG);
        tcsetattr(&terminal, SetArg::TCSAFLUSH, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // Nothing is left to try if the terminal has gone.
        let _ = tcsetattr(&self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}

/// Read keys until Enter. `None` when the user gives up (Ctrl-C, Ctrl-D on an
/// empty line, end of input) or types nothing.
fn read_typed(keys: &mut impl Read) -> io::Result<Option<Secret>> {
    let mut line: Vec<u8> = Vec::new();
    for key in BufReader::new(keys).bytes() {
        match key? {
            b'\r' | b'\n' => break,
            0x03 => return Ok(None),
            0x04 if line.is_empty() => return Ok(None),
            // Backspace takes one character, of however many bytes.
            0x08 | 0x7f => while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            // Ctrl-U begins anew.
            0x15 => line.clear(),
            byte if line.len() < MAX_PASSWORD_BYTES => line.push(byte),
            _ => {}
        }
    }
    let text = String::from_utf8(line)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))?;
    Ok(Some(text).filter(|text| !text.is_empty()).map(Secret::new))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &str) -> Option<String> {
        let secret = read_typed(&mut keys.as_bytes()).unwrap();
        secret.map(|secret| secret.reveal().to_owned())
    }

    #[test]
    fn a_password_ends_with_enter_and_may_be_corrected() {
        assert_eq!(typed("pä ss\rrest").as_deref(), Some("pä ss"));
        assert_eq!(typed("aä\x7fb\x08c\n").as_deref(), Some("ac"));
        assert_eq!(typed("wrong\x15right\n").as_deref(), Some("right"));
    }

    #[test]
    fn giving_up_gives_no_password() {
        for keys in ["", "\n", "abc\x03", "\x04", "\x7f\n"] {
            assert_eq!(typed(keys), None, "{keys:?}");
        }
    }
}
