//! The pipes that a run's processes write to.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use nix::unistd::read;
use warrant_wire::output::Stream;

use super::output::Output;

/// Bytes read from one pipe before the next has its turn.
const READ_BYTES: usize = 64 * 1024;
/// How long to wait if poll(2) fails, which is when memory is short.
const FAILURE_PAUSE: Duration = Duration::from_millis(20);
/// How long output is read after the last process has gone: all that the
/// run wrote is in the pipes by then, but a stranger may hold one and write on.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// The reading ends, with one buffer for all of them.
pub(super) struct Pipes {
    open: Vec<Pipe>,
    buffer: Vec<u8>,
}

struct Pipe {
    end: OwnedFd,
    rank: u16,
    stream: Stream,
}

/// What has something to read.
#[derive(Default)]
pub(super) struct Ready {
    /// The signals do.
    pub(super) signals: bool,
    pipes: Vec<usize>,
}

impl Pipes {
    pub(super) fn new() -> Self {
        Self {
            open: Vec::new(),
            buffer: vec![0; READ_BYTES],
        }
    }

    pub(super) fn add(&mut self, end: OwnedFd, rank: u16, stream: Stream) {
        self.open.push(Pipe { end, rank, stream });
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
        if poll(&mut fds, poll_timeout(pause)).is_err() {
            std::thread::sleep(FAILURE_PAUSE);
            return Ready::default();
        }
        let mut ready = Ready::default();
        for (number, fd) in fds.iter().enumerate() {
            match fd.any() {
                Some(true) if number < self.open.len() => ready.pipes.push(number),
                Some(true) => ready.signals = true,
                Some(false) | None => {}
            }
        }
        ready
    }

    /// Reads each pipe that is ready once, so that none holds up the others,
    /// and closes those that have ended.
    pub(super) fn pump(&mut self, ready: &Ready, output: &mut Output<'_>) {
        let mut ended = Vec::new();
        for number in &ready.pipes {
            let Some(pipe) = self.open.get(*number) else {
                continue;
            };
            match read(&pipe.end, &mut self.buffer) {
                Ok(0) => ended.push(*number),
                Ok(count) => {
                    let bytes = self.buffer.get(..count).unwrap_or_default();
                    output.take(pipe.rank, pipe.stream, bytes);
                }
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(_) => ended.push(*number),
            }
        }
        for number in ended.into_iter().rev() {
            self.open.swap_remove(number);
        }
    }

    /// Reads what the processes wrote before the last of them ended.
    pub(super) fn drain(&mut self, output: &mut Output<'_>) {
        let over = Instant::now() + DRAIN_TIME;
        while Instant::now() < over {
            let ready = self.wait(None, Some(Duration::ZERO));
            if ready.pipes.is_empty() {
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
