//! What two of our processes say to each other: single numbers.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};

/// One end. There are never more than a few numbers on their way.
pub struct Line(pub(crate) UnixStream);

impl Line {
    /// Both ends.
    ///
    /// Errors: there are no descriptors for it.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Self(ours), Self(theirs)))
    }

    /// Says a number to the other side.
    ///
    /// Errors: it is gone.
    pub fn say(&self, number: i64) -> nix::Result<()> {
        let number = number.to_ne_bytes();
        send(self.0.as_raw_fd(), &number, MsgFlags::MSG_NOSIGNAL).map(drop)
    }

    /// The next number, or `None` if the other side is gone or takes too long.
    pub fn hear(&self) -> Option<i64> {
        self.receive(MsgFlags::empty()).ok()
    }

    /// The next number if it has arrived.
    ///
    /// Errors: `EAGAIN` if it has not; any other if the other side is gone.
    pub fn heard(&self) -> nix::Result<i64> {
        self.receive(MsgFlags::MSG_DONTWAIT)
    }

    fn receive(&self, flags: MsgFlags) -> nix::Result<i64> {
        let mut number = [0; 8];
        let mut receive = || recv(self.0.as_raw_fd(), &mut number, flags);
        let count = match receive() {
            // It went without having heard all of ours, which is told once.
            // What it said before that is still there.
            Err(Errno::ECONNRESET) => receive(),
            received => received,
        }?;
        match count == number.len() {
            true => Ok(i64::from_ne_bytes(number)),
            false => Err(Errno::EPIPE),
        }
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
