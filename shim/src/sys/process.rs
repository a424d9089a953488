//! Making processes, holding on to them, and learning how they ended.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{ForkResult, Pid};

/// Forks a child that runs `child` and exits with the code it answers.
/// No exit handler runs in the child.
///
/// Errors: those of fork(2).
pub fn fork(child: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: the monitor and the keepers have one thread each, so no other
    // thread can hold a lock (the allocator's, for one) that the child needs.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let guard = AbortOnUnwind;
            let code = child();
            std::mem::forget(guard);
            // SAFETY: _exit ends the process and has no preconditions.
            unsafe { libc::_exit(code) }
        }
    }
}

/// A child must never unwind into its parent's code.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// What [`wait_any`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// This child has ended, with this raw status, and is now gone.
    Ended(Pid, i32),
    /// There are children, and none has ended.
    NoneEnded,
    /// There are no children.
    NoChildren,
}

/// Takes one child that has ended, without waiting for it.
///
/// The raw status is kept, since a signal above 31 has no name elsewhere.
/// Source: waitpid(2), `WNOHANG`.
pub fn wait_any() -> io::Result<Waited> {
    match wait(-1, libc::WNOHANG) {
        Ok((0, _)) => Ok(Waited::NoneEnded),
        Ok((pid, status)) => Ok(Waited::Ended(Pid::from_raw(pid), status)),
        Err(Errno::ECHILD) => Ok(Waited::NoChildren),
        Err(errno) => Err(errno.into()),
    }
}

/// Waits for one child and answers its raw status. Source: waitpid(2).
pub fn wait_for(child: Pid) -> io::Result<i32> {
    let (_, status) = wait(child.as_raw(), 0)?;
    Ok(status)
}

fn wait(pid: libc::pid_t, options: libc::c_int) -> Result<(libc::pid_t, i32), Errno> {
    let mut status = 0;
    // SAFETY: `status` is a valid place for an int during the call.
    let result = unsafe { libc::waitpid(pid, &raw mut status, options) };
    Errno::result(result).map(|pid| (pid, status))
}

/// A handle of a process that stays true whatever becomes of its number.
/// It is closed on exec, and readable once the process has ended.
///
/// Errors: `ESRCH` if there is no such process; `EMFILE`.
/// Source: pidfd_open(2).
pub fn open(process: Pid) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, process.as_raw(), 0) };
    let fd = i32::try_from(Errno::result(result)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the call has just made this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal, by its number, through a handle.
///
/// Errors: `ESRCH` if the process has ended.
/// Source: pidfd_send_signal(2).
pub fn send(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo is allowed and means the one of kill(2).
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    Errno::result(result)?;
    Ok(())
}

/// Queues a signal with a value through a handle; the receiver finds the
/// value in `ssi_int`. Source: pidfd_send_signal(2), sigqueue(3).
pub fn queue(process: BorrowedFd<'_>, signal: i32, value: i32) -> io::Result<()> {
    let info = QueuedSignal {
        signal,
        errno: 0,
        code: libc::SI_QUEUE,
        gap: 0,
        sender: Pid::this().as_raw(),
        user: nix::unistd::getuid().as_raw(),
        value: u64::from(value.cast_unsigned()),
        rest: [0; 12],
    };
    // SAFETY: `info` has the size and layout of siginfo_t (checked below) and
    // lives through the call, which only reads it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            &raw const info,
            0,
        )
    };
    Errno::result(result)?;
    Ok(())
}

/// The `siginfo_t` of a queued signal on 64-bit little-endian Linux, whose
/// fields the C library's type does not let us write.
#[repr(C, align(8))]
struct QueuedSignal {
    signal: i32,
    errno: i32,
    code: i32,
    gap: i32,
    sender: i32,
    user: u32,
    value: u64,
    rest: [u64; 12],
}

const _: () = assert!(
    size_of::<QueuedSignal>() == size_of::<libc::siginfo_t>()
        && cfg!(all(target_pointer_width = "64", target_endian = "little"))
);
