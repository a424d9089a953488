//! Why a command ended without doing what it was asked to do, and the exit
//! code that tells a script which kind of trouble it was.

use std::io;

/// A failure, in words for the person at the terminal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The server or this machine refused. Exit code 1.
    Refused(String),
    /// The command line or the environment makes no sense. Exit code 2.
    Usage(String),
    /// No answer could be had from the server. Exit code 3.
    Unreachable(String),
    /// The same, and the server may have had the request. Exit code 3.
    Unanswered(String),
    /// Whoever read our output has gone (`warrant jobs | head`). Said by the
    /// exit code of a program ended by SIGPIPE, and by no words.
    ReaderGone,
}

impl Failure {
    /// The exit code of the process.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) | Self::Unanswered(_) => 3,
            Self::ReaderGone => 128 + 13,
        }
    }

    /// The line to print, if there is anything to say.
    pub(crate) fn message(&self) -> Option<&str> {
        match self {
            Self::Refused(text)
            | Self::Usage(text)
            | Self::Unreachable(text)
            | Self::Unanswered(text) => Some(text),
            Self::ReaderGone => None,
        }
    }

    /// What a failed write to standard output means.
    pub(crate) fn of_output(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::ReaderGone
        } else {
            Self::Refused(format!("cannot write the output: {error}"))
        }
    }
}
