//! Waiting for the end of a child or a request to stop, whichever is first.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::failure::Failure;

/// SIGINT, SIGTERM and SIGHUP ask to stop; SIGCHLD tells of a child's end.
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// From here on these signals are kept until waited for. To be called
    /// before any thread is started: threads inherit it.
    pub(crate) fn keep() -> Result<Self, Failure> {
        let mut kept = SigSet::empty();
        for signal in [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGCHLD,
        ] {
            kept.add(signal);
        }
        kept.thread_block()
            .and_then(|()| {
                SignalFd::with_flags(&kept, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            })
            .map(Self)
            .map_err(failed)
    }

    /// Wait until a signal arrives or the time is over (`None`: no matter how
    /// long). Whether somebody asked to stop; a child may have ended as well.
    pub(crate) fn wait(&self, time: Option<Duration>) -> Result<bool, Failure> {
        let timeout = match time {
            // Longer waits than poll knows of are cut short, which is harmless.
            Some(time) => PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        let mut awaited = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        match poll(&mut awaited, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let mut asked_to_stop = false;
        while let Some(signal) = self.0.read_signal().map_err(failed)? {
            asked_to_stop |= signal.ssi_signo != Signal::SIGCHLD as u32;
        }
        Ok(asked_to_stop)
    }
}

fn failed(errno: nix::Error) -> Failure {
    Failure::Refused(format!("cannot wait for signals: {errno}"))
}
