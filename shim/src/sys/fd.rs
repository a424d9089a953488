//! File descriptors by number: those that were passed, and all those to be closed.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::done;

/// A copy, closed on exec, of a descriptor that this process was started with.
///
/// Errors: `EBADF` if there is no such descriptor.
pub fn passed(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the borrow lasts for one call, which answers EBADF if the number
    // is not an open descriptor.
    let passed = unsafe { BorrowedFd::borrow_raw(number) };
    let copy = fcntl(passed, FcntlArg::F_DUPFD_CLOEXEC(3))?;
    // SAFETY: fcntl has just made this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
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
pub fn close_all_but<'a>(kept: impl IntoIterator<Item = BorrowedFd<'a>>) -> io::Result<()> {
    let mut kept: Vec<_> = kept.into_iter().map(|fd| fd.as_raw_fd()).collect();
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
