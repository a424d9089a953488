//! Making processes, holding on to them, and learning how they ended.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{ForkResult, Pid};

use super::{done, made};

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

/// Like [`fork`]; a `sibling` becomes a child of this process's parent, who
/// waits for it, and `cgroup` is the directory of the unified tree of control
/// groups that the child is born in.
///
/// Errors: those of clone3(2).
pub fn fork_as(
    sibling: bool,
    cgroup: Option<&OwnedFd>,
    child: impl FnOnce() -> i32,
) -> io::Result<Pid> {
    const CLONE_INTO_CGROUP: u64 = 1 << 33;
    // A sibling is announced by the signal that its maker was made with.
    let parent = u64::from(sibling) * libc::CLONE_PARENT as u64;
    let exit_signal = u64::from(!sibling) * libc::SIGCHLD as u64;
    let place = cgroup.map_or(0, |_| CLONE_INTO_CGROUP);
    if parent | place == 0 {
        return fork(child);
    }
    let cgroup = cgroup.map_or(0, |dir| dir.as_raw_fd() as u64);
    let arguments = [parent | place, 0, 0, 0, exit_signal, 0, 0, 0, 0, 0, cgroup];
    let (words, size) = (&raw const arguments, size_of_val(&arguments));
    // SAFETY: `arguments` has the layout of clone_args (clone3(2)) and asks
    // for neither shared memory nor a stack, so that this is a fork; what is
    // said of threads in `fork` holds.
    match Errno::result(unsafe { libc::syscall(libc::SYS_clone3, words, size) })? {
        0 => exit_after(child),
        pid => Ok(Pid::from_raw(pid as i32)),
    }
}

/// Ends this process, a new child, with the code that `child` answers. It
/// must never unwind into its parent's code.
fn exit_after(child: impl FnOnce() -> i32) -> ! {
    let code = catch_unwind(AssertUnwindSafe(child)).unwrap_or_else(|_| std::process::abort());
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
    const JOIN: u32 = libc::KEYCTL_JOIN_SESSION_KEYRING;
    // SAFETY: a null name asks for an anonymous keyring; no memory is touched.
    match Errno::result(unsafe { libc::syscall(libc::SYS_keyctl, JOIN, 0_usize) }) {
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

/// Takes one child that has ended, with its raw status, without waiting for
/// it; `None` if none has.
///
/// Errors: `ECHILD` if there are no children.
/// Source: waitpid(2), `WNOHANG`.
pub fn wait_any() -> nix::Result<Option<(Pid, i32)>> {
    let (pid, status) = wait(-1, libc::WNOHANG)?;
    Ok((pid != 0).then_some((Pid::from_raw(pid), status)))
}

/// The children of a process, of all its threads.
/// Source: `/proc/<pid>/task/<tid>/children`, proc(5).
#[must_use]
pub fn children_of(pid: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let mut children = Vec::new();
    for thread in threads.into_iter().flatten().flatten() {
        let list = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.extend(list.split_ascii_whitespace().flat_map(str::parse::<i32>));
    }
    children
}

/// Kills every child of this process, which is a reaper of orphans, and what
/// falls to it from them, until none is left; for so long at most.
pub fn end_children(patience: Duration) {
    let over = Instant::now() + patience;
    while Instant::now() < over {
        for pid in children_of(Pid::this().as_raw()) {
            let _ = super::signal::send_child(Pid::from_raw(pid), libc::SIGKILL);
        }
        loop {
            match wait_any() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits for one child and answers its raw status. Source: waitpid(2).
pub fn wait_for(child: Pid) -> io::Result<i32> {
    Ok(wait(child.as_raw(), 0)?.1)
}

/// The raw status is kept, since a signal above 31 has no name elsewhere.
fn wait(pid: libc::pid_t, options: libc::c_int) -> nix::Result<(libc::pid_t, i32)> {
    let mut status = 0;
    // SAFETY: `status` is a valid place for an int during the call.
    let pid = Errno::result(unsafe { libc::waitpid(pid, &raw mut status, options) })?;
    Ok((pid, status))
}

/// A handle of a process that stays true whatever becomes of its number.
/// It is closed on exec, and readable once the process has ended.
///
/// Errors: `ESRCH` if there is no such process; `EMFILE`.
/// Source: pidfd_open(2).
pub fn open(process: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and touches no memory.
    made(unsafe { libc::syscall(libc::SYS_pidfd_open, process.as_raw(), 0) })
}

/// Sends a signal, by its number, through a handle.
///
/// Errors: `ESRCH` if the process has ended.
/// Source: pidfd_send_signal(2).
pub fn send(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    send_with(process, signal, std::ptr::null())
}

/// Queues a signal with a value through a handle; the receiver finds the
/// value in `ssi_int`. Source: pidfd_send_signal(2), sigqueue(3).
pub fn queue(process: BorrowedFd<'_>, signal: i32, value: i32) -> io::Result<()> {
    let sender = Pid::this().as_raw();
    let user = nix::unistd::getuid().as_raw().cast_signed();
    let mut fields = [signal, 0, libc::SI_QUEUE, 0, sender, user, value].into_iter();
    let info: SignalInfo = std::array::from_fn(|_| fields.next().unwrap_or(0));
    send_with(process, signal, &raw const info)
}

fn send_with(process: BorrowedFd<'_>, signal: i32, info: *const SignalInfo) -> io::Result<()> {
    let (send, process) = (libc::SYS_pidfd_send_signal, process.as_raw_fd());
    // SAFETY: `info` is null, which means the one of kill(2), or has the size
    // and layout of siginfo_t (checked below); the call only reads it.
    done(unsafe { libc::syscall(send, process, signal, info, 0) })
}

/// The `siginfo_t` of 64-bit little-endian Linux, whose fields the C library's
/// type does not let us write. Those of a queued signal: number, error, code,
/// a gap, who sent it, as which user, the value.
type SignalInfo = [i32; 32];

const _: () = assert!(
    size_of::<SignalInfo>() == size_of::<libc::siginfo_t>()
        && cfg!(all(target_pointer_width = "64", target_endian = "little"))
);
