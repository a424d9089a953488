//! What each process may still do, once it has done what it needs more for.
//! Which process may do what is in tables in `docs/THREATS.md`, under
//! "Processes that are root"; tests compare them with the kernel's view.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc::{self, c_long};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};

use crate::become_user::become_user;
use crate::policy::Policy;
use crate::sys::capability::{self, Set};
use crate::sys::confine;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const DENY: u32 = libc::SECCOMP_RET_ERRNO | Errno::EPERM as u32;
const KILL_PROCESS: u32 = libc::SECCOMP_RET_KILL_PROCESS;

/// Giving files of our own to a group: `CHOWN`, `FOWNER`, `FSETID`.
const OWNING: Set = 1 << 0 | 1 << 3 | 1 << 4;
const KILL: Set = 1 << 5;
/// Files, ids and limits of others: `DAC_OVERRIDE`, `SETGID`, `SETUID`,
/// `SETPCAP`, `SYS_RESOURCE`.
const OTHERS: Set = 1 << 1 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 24;
/// What PAM modules use: `IPC_LOCK`, `SYS_CHROOT`, `SYS_ADMIN`, `SYS_NICE`,
/// `AUDIT_WRITE`, `AUDIT_CONTROL`.
const MODULES: Set = 1 << 14 | 1 << 18 | 1 << 21 | 1 << 23 | 1 << 29 | 1 << 30;
/// All that is ever used. Source: `linux/capability.h`.
const USED: Set = OWNING | KILL | OTHERS | MODULES;

/// A table of system calls.
macro_rules! calls {
    ($($name:ident)*) => { &[$(libc::$name),*] };
}

/// Calls that change the machine, which no job can make anyway: they are
/// denied to the monitor, and so to all that comes from it. Nothing is here
/// that an unprivileged user can do, in a name space of their own either.
const DENIED: &[c_long] = calls! {
    SYS_init_module SYS_finit_module SYS_delete_module SYS_kexec_load SYS_kexec_file_load
    SYS_reboot SYS_swapon SYS_swapoff SYS_acct SYS_settimeofday SYS_clock_settime
    SYS_open_by_handle_at
};

/// Calls of a keeper whose ranks have been made: waiting, moving output,
/// signalling, reading `/proc` and its control groups, writing its record.
const KEEPING: &[c_long] = calls! {
    SYS_splice SYS_ppoll SYS_read SYS_write SYS_pread64 SYS_pwrite64 SYS_wait4
    SYS_openat SYS_close SYS_fstat SYS_statx SYS_newfstatat SYS_lseek SYS_fcntl
    SYS_getdents64 SYS_kill SYS_tgkill SYS_pidfd_open SYS_pidfd_send_signal
    SYS_getpid SYS_gettid SYS_getpgid SYS_sendto SYS_recvfrom SYS_getrusage
    SYS_clock_gettime SYS_clock_nanosleep SYS_nanosleep SYS_restart_syscall SYS_getrandom
    SYS_brk SYS_mmap SYS_mremap SYS_munmap SYS_madvise SYS_futex SYS_sigaltstack
    SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_exit SYS_exit_group
};

/// What differs between machines: their number in filters, and calls that
/// only one of them has, denied to the monitor and allowed to a keeper.
#[cfg(target_arch = "x86_64")]
const MACHINE: (u32, &[c_long], &[c_long]) = (
    0xc000_003e,
    calls! { SYS_iopl SYS_ioperm },
    calls! { SYS_poll },
);
#[cfg(target_arch = "aarch64")]
const MACHINE: (u32, &[c_long], &[c_long]) = (0xc000_00b7, &[], &[]);

/// Confines the monitor, and with it whatever it will make.
///
/// Errors: the kernel does not let us.
pub fn monitor(policy: &Policy) -> io::Result<()> {
    keep_secrets()?;
    // Where this process may say so: jobs go before the shim.
    let _ = fs::write("/proc/self/oom_score_adj", "-900");
    if policy.no_new_privs {
        prctl::set_no_new_privs()?;
    }
    confine::filter_calls(&mut filter(&[DENIED, MACHINE.1], DENY, ALLOW, ALLOW))?;
    capability::bound(USED)?;
    let permitted = capability::permitted()? & USED;
    capability::set(permitted, permitted & (OWNING | KILL))
}

/// Nobody looks into this process, and it dumps no core. Jobs may raise the
/// limit again: only the soft one is set.
pub fn keep_secrets() -> io::Result<()> {
    prctl::set_dumpable(false)?;
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    Ok(setrlimit(Resource::RLIMIT_CORE, 0, hard)?)
}

/// Makes all that a keeper has effective, to prepare a run with.
pub fn preparing_keeper() -> io::Result<()> {
    let permitted = capability::permitted()?;
    capability::set(permitted, permitted)
}

/// Confines a keeper whose ranks have been made, which is `user` from then on.
/// What it writes to is open; `groups` are the control groups that it reads.
///
/// Errors: the kernel does not let us. The process must end then, at once.
pub fn keeper((uid, gid): (Uid, Gid), groups: Vec<BorrowedFd<'_>>) -> io::Result<()> {
    prctl::set_no_new_privs()?;
    fence(groups)?;
    become_user(uid, gid, &[], capability::permitted()? & KILL)?;
    let mut filter = filter(&[KEEPING, MACHINE.2], ALLOW, DENY, KILL_PROCESS);
    confine::filter_calls(&mut filter)
}

/// Leaves a keeper these directories and `/proc` to read, and no network. A
/// kernel without Landlock (before 5.13) does without.
fn fence(groups: Vec<BorrowedFd<'_>>) -> io::Result<()> {
    /// What each version can deny of files, from 1 on. Source: landlock(7).
    const FILES: [u64; 6] = [0, 0x1fff, 0x3fff, 0x7fff, 0x7fff, 0xffff];
    /// READ_FILE and READ_DIR.
    const READ: u64 = 1 << 2 | 1 << 3;
    let version = confine::landlock_version();
    if version == 0 {
        return Ok(());
    }
    let files = FILES.get(version).copied().unwrap_or(0xffff);
    let network = if version >= 4 { 3 } else { 0 };
    // No abstract sockets of others; signals are a keeper's business.
    let scopes = u64::from(version >= 6);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let proc = open("/proc", flags, Mode::empty())?;
    let dirs = [groups, vec![proc.as_fd()]].concat();
    confine::landlock([files, network, scopes], &dirs, READ)
}

/// A filter that answers `listed` to these calls and `other` to the rest;
/// `foreign` to calls of another architecture, whose numbers mean something
/// else. Source: seccomp(2), the example there.
fn filter(calls: &[&[c_long]], listed: u32, other: u32, foreign: u32) -> Vec<libc::sock_filter> {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const JUMP_IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const ANSWER: u16 = 0x06; // BPF_RET | BPF_K
    const NUMBER_AT: u32 = 0;
    const ARCHITECTURE_AT: u32 = 4;
    /// The numbers of x32, the same calls under another name.
    const X32: u32 = 0x4000_0000;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = vec![
        step(LOAD, 0, 0, ARCHITECTURE_AT),
        step(JUMP_IF_EQUAL, 1, 0, MACHINE.0),
        step(ANSWER, 0, 0, foreign),
        step(LOAD, 0, 0, NUMBER_AT),
        step(JUMP_IF_AT_LEAST, 0, 1, X32),
        step(ANSWER, 0, 0, libc::SECCOMP_RET_ERRNO | Errno::ENOSYS as u32),
    ];
    program.extend(calls.concat().into_iter().flat_map(|call| {
        let number = u32::try_from(call).unwrap_or(u32::MAX);
        [
            step(JUMP_IF_EQUAL, 0, 1, number),
            step(ANSWER, 0, 0, listed),
        ]
    }));
    program.push(step(ANSWER, 0, 0, other));
    program
}
