//! System calls that have no safe wrapper elsewhere: one function, one call.
//! This is the only place with unsafe code.

pub mod capability;
pub mod confine;
pub mod fd;
pub mod pam;
pub mod process;
pub mod shadow;
pub mod signal;
pub mod socket;

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc::c_long;

/// The error that a system call left in errno(3), if it did.
fn done(result: c_long) -> io::Result<()> {
    Errno::result(result)?;
    Ok(())
}

/// The descriptor that a system call has just made and answered, or the error
/// that it left in errno(3).
fn made(result: c_long) -> nix::Result<OwnedFd> {
    let fd = i32::try_from(Errno::result(result)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the call has just made this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
