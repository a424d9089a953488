//! File descriptors by number: all those to be closed.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::libc;

use super::done;

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
