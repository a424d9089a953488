//! File descriptors by number: those inherited, and all those to be closed.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::{done, made};

/// A descriptor that this process was started with, under a new number (3 or
/// more) and closed on exec. The old number is closed, since whoever is at the
/// other end may wait for that; standard ones are for the caller to replace.
///
/// Errors: `EBADF` if there is no such descriptor; `EMFILE`.
pub fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(Errno::EBADF.into());
    }
    // SAFETY: the borrow lasts for one call, which answers EBADF if the
    // number is not an open descriptor.
    let inherited = unsafe { BorrowedFd::borrow_raw(number) };
    let taken = made(fcntl(inherited, FcntlArg::F_DUPFD_CLOEXEC(3))?.into())?;
    if number > 2 {
        close_range(number, number)?;
    }
    Ok(taken)
}

/// Closes every descriptor from `first` to `last`.
///
/// For the first moments of a child process: the caller must not use, or
/// drop, anything that owns one of them afterwards.
/// Source: close_range(2).
pub fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    // SAFETY: close_range takes three integers and touches no memory. That
    // nothing uses the closed descriptors is the contract of this function.
    done(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })
}

/// Closes every descriptor but 0, 1, 2 and `kept`; the warning of
/// [`close_range`] holds.
pub fn close_all_but(mut kept: Vec<RawFd>) -> io::Result<()> {
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept.into_iter().filter(|fd| *fd > 2) {
        if first < fd {
            close_range(first, fd.saturating_sub(1))?;
        }
        first = fd.saturating_add(1);
    }
    close_range(first, RawFd::MAX)
}
