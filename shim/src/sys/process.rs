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
        ForkResult::Child => exit_after(child),
    }
}

/// How a child comes into being, beyond what fork(2) has.
#[derive(Clone, Copy, Default)]
pub struct Birth<'a> {
    /// As a child of this process's parent, who waits for it.
    pub sibling: bool,
    /// In this directory of the unified tree of control groups.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// Like [`fork`], as `birth` says.
///
/// Errors: those of clone3(2).
pub fn fork_as(birth: Birth<'_>, child: impl FnOnce() -> i32) -> io::Result<Pid> {
    const CLONE_INTO_CGROUP: u64 = 1 << 33;
    if !birth.sibling && birth.cgroup.is_none() {
        return fork(child);
    }
    let flags = match birth.sibling {
        true => libc::CLONE_PARENT.cast_unsigned().into(),
        false => 0,
    };
    let (flags, cgroup) = match birth.cgroup {
        Some(dir) => (flags | CLONE_INTO_CGROUP, dir.as_raw_fd()),
        None => (flags, 0),
    };
    // A sibling is announced by the signal that its maker was made with.
    let exit_signal = if birth.sibling { 0 } else { libc::SIGCHLD };
    let arguments: [u64; 11] = [
        flags,
        0,
        0,
        0,
        u64::from(exit_signal.cast_unsigned()),
        0,
        0,
        0,
        0,
        0,
        u64::from(cgroup.cast_unsigned()),
    ];
    // SAFETY: `arguments` has the layout of clone_args (clone3(2)) and asks
    // for neither shared memory nor a stack, so that this is a fork; what is
    // said of threads in `fork` holds.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            arguments.as_ptr(),
            size_of_val(&arguments),
        )
    };
    match Errno::result(result)? {
        0 => exit_after(child),
        pid => Ok(Pid::from_raw(
            i32::try_from(pid).map_err(|_| Errno::EOVERFLOW)?,
        )),
    }
}

/// Ends this process, a new child, with the code that `child` answers.
fn exit_after(child: impl FnOnce() -> i32) -> ! {
    let guard = AbortOnUnwind;
    let code = child();
    std::mem::forget(guard);
    // SAFETY: _exit ends the process and has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Whether this process has no thread but this one.
/// Source: the links of `/proc/self/task` are two and one for each thread.
pub fn is_single_threaded() -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(std::fs::metadata("/proc/self/task")?.nlink() == 3)
}

/// Leaves the session keyring for a new one of this process's own. A kernel
/// without keys has none to leave.
/// Source: keyctl(2), `KEYCTL_JOIN_SESSION_KEYRING`.
pub fn leave_session_keyring() -> io::Result<()> {
    // SAFETY: a null name asks for an anonymous keyring; no memory is touched.
    let result = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    };
    match Errno::result(result) {
        // A container that denies the call denies it to jobs as well: then
        // nobody reaches a keyring.
        Ok(_) | Err(Errno::ENOSYS | Errno::EPERM) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Empties the environment of this process.
pub fn clear_environment() {
    // SAFETY: callers have one thread, and nobody holds a pointer into the
    // environment: the standard library copies what it reads.
    unsafe { libc::clearenv() };
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
