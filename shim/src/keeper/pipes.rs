//! The pipes that a run's processes write to.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use nix::unistd::pipe2;
use warrant_wire::output::Stream;

use super::output::Output;

/// How long to wait if poll(2) fails, which is when memory is short.
const FAILURE_PAUSE: Duration = Duration::from_millis(20);
/// How long output is read after the last process has gone: all that the
/// run wrote is in the pipes by then, but a stranger may hold one and write on.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// The reading ends.
#[derive(Default)]
pub(super) struct Pipes {
    open: Vec<Pipe>,
}

struct Pipe {
    end: OwnedFd,
    rank: u16,
    stream: Stream,
}

/// The ends of a rank's pipes that it writes to.
pub(crate) struct Ends {
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// What has something to read.
#[derive(Default)]
pub(super) struct Ready {
    /// The signals do.
    pub(super) signals: bool,
    pipes: Vec<usize>,
    /// Pipes that are empty and that nobody holds the other end of.
    ended: Vec<usize>,
}

impl Pipes {
    /// Makes the pipes of a rank and answers the ends that it writes to.
    pub(super) fn make(&mut self, rank: u16) -> io::Result<Ends> {
        let mut pipe = |stream| {
            let (end, writing) = pipe2(OFlag::O_CLOEXEC)?;
            self.open.push(Pipe { end, rank, stream });
            Ok::<_, io::Error>(writing)
        };
        Ok(Ends {
            stdout: pipe(Stream::Stdout)?,
            stderr: pipe(Stream::Stderr)?,
        })
    }

    /// Waits until a pipe, or the signals, have something; at most `pause`.
    pub(super) fn wait(&self, signals: Option<&SignalFd>, pause: Option<Duration>) -> Ready {
        let mut fds = Vec::with_capacity(self.open.len() + 1);
        fds.extend(
            self.open
                .iter()
                .map(|pipe| pipe.end.as_fd())
                .chain(signals.map(AsFd::as_fd))
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN)),
        );
        let mut ready = Ready::default();
        if poll(&mut fds, poll_timeout(pause)).is_err() {
            std::thread::sleep(FAILURE_PAUSE);
            return ready;
        }
        for (number, fd) in fds.iter().enumerate() {
            let events = fd.revents().unwrap_or(PollFlags::empty());
            if events.is_empty() {
                continue;
            }
            match number < self.open.len() {
                true if events.contains(PollFlags::POLLIN) => ready.pipes.push(number),
                true => ready.ended.push(number),
                false => ready.signals = true,
            }
        }
        ready
    }

    /// Empties each pipe that is ready once, so that none holds up the
    /// others, and closes those that have ended.
    pub(super) fn pump(&mut self, ready: &Ready, output: &mut Output<'_>) {
        let mut ended = ready.ended.clone();
        for number in &ready.pipes {
            let Some(pipe) = self.open.get(*number) else {
                continue;
            };
            match output.take(pipe.rank, pipe.stream, pipe.end.as_fd()) {
                Ok(count) if count > 0 => {}
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Ok(_) | Err(_) => ended.push(*number),
            }
        }
        ended.sort_unstable();
        for number in ended.into_iter().rev() {
            self.open.swap_remove(number);
        }
    }

    /// Reads what the processes wrote before the last of them ended.
    pub(super) fn drain(&mut self, output: &mut Output<'_>) {
        let over = Instant::now() + DRAIN_TIME;
        while Instant::now() < over {
            let ready = self.wait(None, Some(Duration::ZERO));
            if ready.pipes.is_empty() && ready.ended.is_empty() {
                return;
            }
            self.pump(&ready, output);
        }
    }
}

/// Rounded up, so that the time is over when poll(2) comes back.
fn poll_timeout(pause: Option<Duration>) -> PollTimeout {
    let Some(pause) = pause else {
        return PollTimeout::NONE;
    };
    let millis = pause.as_micros().div_ceil(1000);
    i32::try_from(millis)
        .ok()
        .and_then(|millis| PollTimeout::try_from(millis).ok())
        .unwrap_or(PollTimeout::MAX)
}
