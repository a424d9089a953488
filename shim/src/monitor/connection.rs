//! One connection to a broker.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{MsgFlags, SockType, getsockopt, recv, send, sockopt};
use warrant_wire::{Decoder, Report, Request, encode_report};

use crate::sys;

/// How long a frame may take to arrive, once it has begun.
const FRAME_TIME: Duration = Duration::from_secs(10);
/// A queue that has grown beyond this is given back once it is empty.
const KEPT_BYTES: usize = 64 * 1024;

/// Requests in, reports out. Reports that the broker is slow to take wait
/// here; there are never more than a few for each run.
pub(super) struct Connection {
    socket: OwnedFd,
    /// The only user id that may send anything; `None` on a socket that was
    /// inherited from the broker itself.
    only: Option<u32>,
    decoder: Decoder,
    outgoing: VecDeque<u8>,
    last_heard: Instant,
    /// By when the frame that has begun must be complete.
    frame_due: Option<Instant>,
}

/// Why there is nothing more to hear.
pub(super) enum Silence {
    /// The broker is gone.
    End,
    /// What came is from somebody else, or has descriptors attached.
    Foul,
    Failed(io::Error),
}

impl Connection {
    /// Errors: `socket` is not a stream socket.
    pub(super) fn on(socket: OwnedFd, only: Option<u32>) -> io::Result<Self> {
        if getsockopt(&socket, sockopt::SockType)? != SockType::Stream {
            return Err(Errno::EPROTOTYPE.into());
        }
        Ok(Self {
            socket,
            only,
            decoder: Decoder::new(),
            outgoing: VecDeque::new(),
            last_heard: Instant::now(),
            frame_due: None,
        })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// What to wait for.
    pub(super) fn interest(&self) -> PollFlags {
        if self.outgoing.is_empty() {
            PollFlags::POLLIN
        } else {
            PollFlags::POLLIN | PollFlags::POLLOUT
        }
    }

    pub(super) fn last_heard(&self) -> Instant {
        self.last_heard
    }

    pub(super) fn frame_due(&self) -> Option<Instant> {
        self.frame_due
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.outgoing.len()
    }

    /// Takes what has arrived, without waiting for it.
    pub(super) fn hear(&mut self, buffer: &mut [u8]) -> Result<(), Silence> {
        let count = match self.receive(buffer) {
            Ok(0) | Err(Errno::ECONNRESET) => return Err(Silence::End),
            Ok(count) => count,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
            Err(Errno::EPERM) => return Err(Silence::Foul),
            Err(errno) => return Err(Silence::Failed(errno.into())),
        };
        self.last_heard = Instant::now();
        self.decoder.push(buffer.get(..count).unwrap_or_default());
        Ok(())
    }

    /// Errors: `EPERM` if what came is from somebody else, or is more than
    /// bytes; what recvmsg(2) says.
    fn receive(&self, buffer: &mut [u8]) -> nix::Result<usize> {
        let Some(only) = self.only else {
            return recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT);
        };
        let received = sys::socket::receive(&self.socket, buffer)?;
        if received.is_laden || (received.count > 0 && received.sender != Some(only)) {
            return Err(Errno::EPERM);
        }
        Ok(received.count)
    }

    /// The next request that has arrived whole.
    ///
    /// Errors: the broker sent something else.
    pub(super) fn next_request(&mut self) -> io::Result<Option<Request>> {
        let next = self.decoder.next_request();
        if let Ok(Some(_)) = next {
            self.frame_due = None;
        } else if self.decoder.is_at_frame_end() {
            self.frame_due = None;
        } else if self.frame_due.is_none() {
            self.frame_due = Instant::now().checked_add(FRAME_TIME);
        }
        next.map_err(|malformed| io::Error::new(io::ErrorKind::InvalidData, malformed))
    }

    /// Queues a report.
    pub(super) fn report(&mut self, report: &Report) {
        self.outgoing.extend(encode_report(report));
    }

    /// Sends what the broker has room for. Answers whether it is still there.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        while !self.outgoing.is_empty() {
            let (front, _) = self.outgoing.as_slices();
            match send(self.socket.as_raw_fd(), front, flags) {
                Ok(count) => {
                    self.outgoing.drain(..count);
                }
                Err(Errno::EAGAIN) => return Ok(true),
                Err(Errno::EINTR) => {}
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Ok(false),
                Err(errno) => return Err(errno.into()),
            }
        }
        if self.outgoing.capacity() > KEPT_BYTES {
            self.outgoing = VecDeque::new();
        }
        Ok(true)
    }
}
