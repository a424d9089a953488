//! Signalling a process that is known by its number.

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::sys::process::{open, send};

/// Sends signals to a process, if it still is the one that is meant once it
/// is held and its number cannot become another's.
///
/// Errors: `ESRCH` if it has ended, or is another; what [`open`] and [`send`]
/// say.
pub(crate) fn send_if(
    is_it: impl FnOnce() -> bool,
    process: Pid,
    signals: &[i32],
) -> io::Result<()> {
    let handle = open(process)?;
    if !is_it() {
        return Err(Errno::ESRCH.into());
    }
    let mut signals = signals.iter();
    signals.try_for_each(|signal| send(handle.as_fd(), *signal))
}
