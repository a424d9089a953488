//! Where the output of a job goes on this side: byte for byte to a program,
//! harmless to a person.

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::stat::fstat;

use crate::failure::Failure;
use crate::terminal::Filter;

/// One of our standard streams, with what the job has written there.
pub(crate) struct Page<W> {
    to: W,
    filter: Option<Filter>,
    /// Bytes of the job's output received.
    pub(crate) seen: u64,
    /// A stream was open at least once.
    pub(crate) connected: bool,
}

impl Page<io::Stdout> {
    /// Standard output.
    pub(crate) fn stdout() -> Self {
        Self::new(io::stdout(), io::stdout().is_terminal())
    }
}

impl Page<io::Stderr> {
    /// Standard error.
    pub(crate) fn stderr() -> Self {
        Self::new(io::stderr(), io::stderr().is_terminal())
    }
}

impl<W: Write> Page<W> {
    /// Bytes for `to`, which is a terminal or is not.
    pub(crate) fn new(to: W, terminal: bool) -> Self {
        Self {
            to,
            filter: terminal.then(Filter::default),
            seen: 0,
            connected: false,
        }
    }

    /// Write the next piece.
    ///
    /// Errors: as [`Failure::of_output`].
    pub(crate) fn show(&mut self, piece: &[u8]) -> Result<(), Failure> {
        match &mut self.filter {
            Some(filter) => self.to.write_all(filter.pass(piece).as_bytes()),
            None => self.to.write_all(piece),
        }
        .and_then(|()| self.to.flush())
        .map_err(Failure::of_output)
    }

    /// Write a stream; whether it came to its proper end.
    ///
    /// Errors: as [`Failure::of_output`].
    pub(crate) fn show_all(&mut self, stream: &mut impl Read) -> Result<bool, Failure> {
        self.connected = true;
        let mut buffer = [0; 64 << 10];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(true),
                Ok(length) => {
                    self.show(buffer.get(..length).unwrap_or_default())?;
                    self.seen += length as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Ok(false),
            }
        }
    }

    /// Leave the terminal in the colours it had.
    ///
    /// Errors: as [`Failure::of_output`].
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        let end = self.filter.as_mut().map_or("", Filter::finish);
        self.to
            .write_all(end.as_bytes())
            .and_then(|()| self.to.flush())
            .map_err(Failure::of_output)
    }

    /// What was written to.
    #[cfg(test)]
    pub(crate) fn into_inner(self) -> W {
        self.to
    }
}

/// Whether standard output and standard error are one file: a terminal, or
/// what `2>&1` makes of them. The job's two streams then stay in the order in
/// which they were written.
pub(crate) fn is_one_place() -> bool {
    let file = |fd: BorrowedFd<'_>| fstat(fd).map(|file| (file.st_dev, file.st_ino)).ok();
    let out = file(io::stdout().as_fd());
    out.is_some() && out == file(io::stderr().as_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_sees_harmless_output_and_a_program_every_byte() {
        let output = b"\x1b]0;title\x07\x1b[31mred\xff\n";
        let shown = |terminal| {
            let mut page = Page::new(Vec::new(), terminal);
            page.show_all(&mut &output[..]).unwrap();
            page.finish().unwrap();
            page.into_inner()
        };
        assert_eq!(shown(false), output);
        assert_eq!(shown(true), "\x1b[31mred\u{fffd}\n\x1b[0m".as_bytes());
    }
}
