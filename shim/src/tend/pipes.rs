//! The pipes that a run's processes write to.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use warrant_wire::output::Stream;

use super::output::Output;

/// How long to wait if poll(2) fails, which is when memory is short.
const FAILURE_PAUSE: Duration = Duration::from_millis(20);
/// How long output is read after the last process has gone: all that the
/// run wrote is in the pipes by then, but a stranger may hold one and write on.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// The reading ends.
#[derive(Default)]
pub(crate) struct Pipes {
    pub(crate) open: Vec<Pipe>,
}

/// The reading end of one.
pub(crate) struct Pipe {
    pub(crate) end: OwnedFd,
    pub(crate) rank: u16,
    pub(crate) stream: Stream,
}

/// What has something to read.
#[derive(Default)]
pub(super) struct Ready {
    /// The signals do.
    pub(super) signals: bool,
    /// What poll(2) says of each pipe.
    pipes: Vec<PollFlags>,
}

impl Pipes {
    /// Waits until a pipe, or the signals, have something; at most `pause`.
    pub(super) fn wait(&self, signals: &SignalFd, pause: Option<Duration>) -> Ready {
        let timeout = pause.map_or(PollTimeout::NONE, |pause| {
            PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX)
        });
        let mut fds: Vec<_> = self
            .open
            .iter()
            .map(|pipe| pipe.end.as_fd())
            .chain([signals.as_fd()])
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        if poll(&mut fds, timeout).is_err() {
            std::thread::sleep(FAILURE_PAUSE);
            return Ready::default();
        }
        let events = fds
            .iter()
            .map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        let mut pipes: Vec<_> = events.collect();
        let signals = pipes.pop().is_some_and(|events| !events.is_empty());
        Ready { signals, pipes }
    }

    /// Empties each pipe that is ready once, so that none holds up the
    /// others, and closes those that have ended.
    pub(super) fn pump(&mut self, ready: &Ready, output: &mut Output<'_>) {
        let mut events = ready.pipes.iter();
        self.open.retain(|pipe| match events.next() {
            Some(events) if events.contains(PollFlags::POLLIN) => {
                match output.take(pipe.rank, pipe.stream, pipe.end.as_fd()) {
                    Ok(count) => count > 0,
                    Err(errno) => matches!(errno, Errno::EINTR | Errno::EAGAIN),
                }
            }
            // Whatever else there is to say: nobody holds the other end.
            Some(events) => events.is_empty(),
            None => true,
        });
    }

    /// Reads what the processes wrote before the last of them ended.
    pub(super) fn drain(&mut self, signals: &SignalFd, output: &mut Output<'_>) {
        let over = Instant::now() + DRAIN_TIME;
        while Instant::now() < over {
            let ready = self.wait(signals, Some(Duration::ZERO));
            if ready.pipes.iter().all(PollFlags::is_empty) {
                return;
            }
            self.pump(&ready, output);
        }
    }
}
