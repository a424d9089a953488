//! The connection to the broker.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{MsgFlags, SockType, getsockopt, recv, send, sockopt};
use warrant_wire::{Decoder, Report, Request, encode_report};

const READ_BYTES: usize = 64 * 1024;

/// Requests in, reports out. Reports that the broker is slow to take wait
/// here; there are never more than a few for each run.
pub(super) struct Broker {
    socket: OwnedFd,
    decoder: Decoder,
    buffer: Vec<u8>,
    outgoing: VecDeque<u8>,
}

/// What [`Broker::hear`] heard.
pub(super) enum Heard {
    Something,
    /// The broker is gone.
    End,
}

impl Broker {
    /// Errors: `socket` is not a stream socket.
    pub(super) fn on(socket: OwnedFd) -> io::Result<Self> {
        if getsockopt(&socket, sockopt::SockType)? != SockType::Stream {
            return Err(Errno::EPROTOTYPE.into());
        }
        Ok(Self {
            socket,
            decoder: Decoder::new(),
            buffer: vec![0; READ_BYTES],
            outgoing: VecDeque::new(),
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

    /// Takes what has arrived, without waiting for it.
    pub(super) fn hear(&mut self) -> io::Result<Heard> {
        let flags = MsgFlags::MSG_DONTWAIT;
        match recv(self.socket.as_raw_fd(), &mut self.buffer, flags) {
            Ok(0) | Err(Errno::ECONNRESET) => Ok(Heard::End),
            Ok(count) => {
                self.decoder
                    .push(self.buffer.get(..count).unwrap_or_default());
                Ok(Heard::Something)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(Heard::Something),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The next request that has arrived whole.
    ///
    /// Errors: the broker sent something else.
    pub(super) fn next_request(&mut self) -> io::Result<Option<Request>> {
        self.decoder
            .next_request()
            .map_err(|malformed| io::Error::new(io::ErrorKind::InvalidData, malformed))
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
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Ok(false),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(true)
    }
}
