//! Signals by number, since a user may ask for those above 31 too.

use std::io;

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;

use super::done;

/// The queued signal that tells a keeper to deliver another one to its
/// processes. A real-time signal, so that none is lost among several.
#[must_use]
pub fn deliver() -> i32 {
    libc::SIGRTMIN()
}

/// Sends a signal to a process group.
///
/// The caller must know that the group is its own business: that a child it
/// has not waited for is in it. Source: kill(2).
pub fn send_group(group: Pid, signal: i32) -> io::Result<()> {
    send(group, -1, signal)
}

/// Sends a signal to a child that has not been waited for. Source: kill(2).
pub fn send_child(child: Pid, signal: i32) -> io::Result<()> {
    send(child, 1, signal)
}

/// The number of a group is negative in kill(2); 0, 1 and -1 mean others.
fn send(target: Pid, sign: i32, signal: i32) -> io::Result<()> {
    if target.as_raw() <= 1 {
        return Err(Errno::EINVAL.into());
    }
    // SAFETY: kill takes two integers and touches no memory.
    done(unsafe { libc::kill(sign * target.as_raw(), signal) }.into())
}

/// Sets every signal to its default action, whatever this process inherited;
/// those that cannot be set are at their default anyway.
///
/// The C library refuses to touch the signals that it keeps for itself, but
/// they may have been inherited as ignored like any other.
/// Source: sigaction(2), sections on C library differences.
pub fn reset_actions() {
    /// The kernel's `sigaction`, all zero: `SIG_DFL`, no flags, no mask.
    const DEFAULT: [u64; 4] = [0; 4];
    const SET: libc::c_long = libc::SYS_rt_sigaction;
    const MASK_BYTES: usize = 8;
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: the kernel reads DEFAULT, which is as large as its
        // sigaction, and writes nothing back; the default involves no handler.
        unsafe { libc::syscall(SET, signal, DEFAULT.as_ptr(), 0_usize, MASK_BYTES) };
    }
}
