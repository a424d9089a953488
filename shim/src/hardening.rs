//! What each process may still do, once it has done what it needs more for.
//!
//! | process | permitted | effective | bounding | system calls | no new privileges | files |
//! |---|---|---|---|---|---|---|
//! | monitor | `USED` | `OWNING` | `USED` | not `DENIED` | as the policy says | all |
//! | keeper, preparing | as above | `USED` | as above | as above | as above | all |
//! | keeper, keeping | `CAP_KILL` | `CAP_KILL` | as above | `KEEPING` only | yes | spool, control groups, `/proc` (Landlock) |
//! | session | `USED` | `USED` | as above | not `DENIED` | as the policy says | all: PAM decides what it needs |
//! | job | none | none | none; `USED` without `no_new_privs` | not `DENIED` | as the policy says | the user's |
//!
//! Ambient and inheritable sets are empty in all of them, none can be looked
//! into or dumps core. Whatever the monitor's process lacked from the start,
//! it lacks in every row.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc::{self, c_long};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::Mode;

use crate::policy::Policy;
use crate::sys::capability::{self, Set, Sets};
use crate::sys::confine;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const DENY: u32 = libc::SECCOMP_RET_ERRNO | Errno::EPERM as u32;
const KILL_PROCESS: u32 = libc::SECCOMP_RET_KILL_PROCESS;

/// Ids, signals, limits and files of others; and what PAM modules use:
/// mounts, audit, priorities. `DAC_OVERRIDE`, `SETGID`, `SETUID`, `SETPCAP`;
/// `IPC_LOCK`, `SYS_CHROOT`, `SYS_ADMIN`, `SYS_NICE`; `SYS_RESOURCE`,
/// `AUDIT_WRITE`, `AUDIT_CONTROL`. Source: `linux/capability.h`.
const USED: Set = OWNING | KILL | set([1, 6, 7, 8]) | set([14, 18, 21, 23]) | set([24, 29, 30]);
/// Giving files of our own to a group: `CHOWN`, `FOWNER`, `FSETID`.
const OWNING: Set = set([0, 3, 4]);
const KILL: Set = set([5]);

/// The set of these numbers.
const fn set<const COUNT: usize>(numbers: [u32; COUNT]) -> Set {
    let (mut set, mut rest) = (0, numbers.as_slice());
    while let [number, others @ ..] = rest {
        set |= 1 << *number;
        rest = others;
    }
    set
}

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
/// signalling, reading `/proc`, writing its record, removing its group.
const KEEPING: &[c_long] = calls! {
    SYS_splice SYS_ppoll SYS_read SYS_write SYS_pread64 SYS_pwrite64 SYS_wait4
    SYS_openat SYS_close SYS_fstat SYS_statx SYS_newfstatat SYS_lseek SYS_fcntl
    SYS_getdents64 SYS_unlinkat SYS_kill SYS_tgkill SYS_pidfd_open SYS_pidfd_send_signal
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
    let permitted = Sets::get()?.permitted & USED;
    Sets::set(permitted, permitted & OWNING)
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
    let permitted = Sets::get()?.permitted;
    Sets::set(permitted, permitted)
}

/// Confines a keeper whose ranks have been made. `dirs` are what it needs
/// besides `/proc`: its spool and its control groups.
///
/// Errors: the kernel does not let us.
pub fn keeper<'a>(dirs: impl Iterator<Item = BorrowedFd<'a>>) -> io::Result<()> {
    prctl::set_no_new_privs()?;
    fence(dirs)?;
    let left = Sets::get()?.permitted & KILL;
    Sets::set(left, left)?;
    confine::filter_calls(&mut filter(
        &[KEEPING, MACHINE.2],
        ALLOW,
        DENY,
        KILL_PROCESS,
    ))
}

/// Leaves a keeper these directories and `/proc`, and no network. A kernel
/// without Landlock (before 5.13) does without.
fn fence<'a>(dirs: impl Iterator<Item = BorrowedFd<'a>>) -> io::Result<()> {
    /// What each version can deny of files, from 1 on. Source: landlock(7).
    const FILES: [u64; 6] = [0, 0x1fff, 0x3fff, 0x7fff, 0x7fff, 0xffff];
    /// READ_FILE and READ_DIR.
    const READ: u64 = 1 << 2 | 1 << 3;
    /// And WRITE_FILE, REMOVE_DIR, MAKE_REG and TRUNCATE.
    const OWN: u64 = READ | 1 << 1 | 1 << 4 | 1 << 8 | 1 << 14;
    let version = confine::landlock_version();
    if version == 0 {
        return Ok(());
    }
    let files = FILES.get(version).copied().unwrap_or(0xffff);
    let network = if version >= 4 { 3 } else { 0 };
    // No abstract sockets of others; signals are a keeper's business.
    let scopes = u64::from(version >= 6);
    let ruleset = confine::landlock_ruleset([files, network, scopes])?;
    for dir in dirs {
        confine::landlock_allow(&ruleset, OWN & files, dir)?;
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let proc = open("/proc", flags, Mode::empty())?;
    confine::landlock_allow(&ruleset, READ, proc.as_fd())?;
    confine::landlock_enforce(&ruleset)
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
