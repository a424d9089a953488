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

/// Ids, signals, limits and files of others; and what PAM modules use:
/// mounts, audit, priorities. Source: `linux/capability.h`.
const USED: Set = OWNING
    | bit(1) // DAC_OVERRIDE
    | KILL
    | bit(6) // SETGID
    | bit(7) // SETUID
    | bit(8) // SETPCAP
    | bit(14) // IPC_LOCK
    | bit(18) // SYS_CHROOT
    | bit(21) // SYS_ADMIN
    | bit(23) // SYS_NICE
    | bit(24) // SYS_RESOURCE
    | bit(29) // AUDIT_WRITE
    | bit(30); // AUDIT_CONTROL

/// Giving files of our own to a group.
const OWNING: Set = bit(0) // CHOWN
    | bit(3) // FOWNER
    | bit(4); // FSETID

const KILL: Set = bit(5);

const fn bit(number: u32) -> Set {
    1 << number
}

/// Calls that change the machine, which no job can make anyway: they are
/// denied to the monitor, and so to all that comes from it. Nothing is here
/// that an unprivileged user can do, in a name space of their own either.
const DENIED: &[c_long] = &[
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_open_by_handle_at,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
];

/// Calls of a keeper whose ranks have been made: waiting, moving output,
/// signalling, reading `/proc`, writing its record, removing its group.
const KEEPING: &[c_long] = &[
    libc::SYS_splice,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_wait4,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_newfstatat,
    libc::SYS_lseek,
    libc::SYS_fcntl,
    libc::SYS_getdents64,
    libc::SYS_unlinkat,
    libc::SYS_kill,
    libc::SYS_tgkill,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getpgid,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_getrusage,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_getrandom,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_exit,
    libc::SYS_exit_group,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
];

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;

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
    let deny = libc::SECCOMP_RET_ERRNO | Errno::EPERM as u32;
    let allow = libc::SECCOMP_RET_ALLOW;
    confine::filter_calls(&mut filter(DENIED, deny, allow, allow))?;
    capability::clear_ambient()?;
    capability::bound(USED)?;
    let permitted = Sets::get()?.permitted & USED;
    Sets {
        effective: permitted & OWNING,
        permitted,
        inheritable: 0,
    }
    .set()
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
    Sets {
        effective: permitted,
        permitted,
        inheritable: 0,
    }
    .set()
}

/// Leaves the process of a session what it has: only the modules know what
/// they need to close it.
pub fn session() -> io::Result<()> {
    keep_secrets()
}

/// Confines a keeper whose ranks have been made. `dirs` are what it needs
/// besides `/proc`: its spool and its control groups.
///
/// Errors: the kernel does not let us.
pub fn keeper<'a>(dirs: impl Iterator<Item = BorrowedFd<'a>>) -> io::Result<()> {
    prctl::set_no_new_privs()?;
    fence(dirs)?;
    let left = Sets::get()?.permitted & KILL;
    Sets {
        effective: left,
        permitted: left,
        inheritable: 0,
    }
    .set()?;
    let deny = libc::SECCOMP_RET_ERRNO | Errno::EPERM as u32;
    let (allow, kill) = (libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_KILL_PROCESS);
    confine::filter_calls(&mut filter(KEEPING, allow, deny, kill))
}

/// Leaves a keeper these directories and `/proc`, and no network. A kernel
/// without Landlock (before 5.13) does without.
fn fence<'a>(dirs: impl Iterator<Item = BorrowedFd<'a>>) -> io::Result<()> {
    const WRITE_FILE: u64 = 1 << 1;
    const READ_FILE: u64 = 1 << 2;
    const READ_DIR: u64 = 1 << 3;
    const REMOVE_DIR: u64 = 1 << 4;
    const MAKE_REG: u64 = 1 << 8;
    const TRUNCATE: u64 = 1 << 14;
    // What each version can deny. Source: landlock(7).
    let (files, network, scopes) = match confine::landlock_version() {
        0 => return Ok(()),
        1 => (0x1fff, 0, 0),
        2 => (0x3fff, 0, 0),
        3 => (0x7fff, 0, 0),
        4 => (0x7fff, 3, 0),
        5 => (0xffff, 3, 0),
        // The last: no abstract sockets of others. Signals are its business.
        _ => (0xffff, 3, 1),
    };
    let ruleset = confine::landlock_ruleset(files, network, scopes)?;
    let own = WRITE_FILE | READ_FILE | READ_DIR | REMOVE_DIR | MAKE_REG | TRUNCATE;
    for dir in dirs {
        confine::landlock_allow(&ruleset, own & files, dir)?;
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let proc = open("/proc", flags, Mode::empty())?;
    confine::landlock_allow(&ruleset, READ_FILE | READ_DIR, proc.as_fd())?;
    confine::landlock_enforce(&ruleset)
}

/// A filter that answers `listed` to these calls and `other` to the rest;
/// `foreign` to calls of another architecture, whose numbers mean something
/// else. Source: seccomp(2), the example there.
fn filter(calls: &[c_long], listed: u32, other: u32, foreign: u32) -> Vec<libc::sock_filter> {
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
        step(JUMP_IF_EQUAL, 1, 0, AUDIT_ARCH),
        step(ANSWER, 0, 0, foreign),
        step(LOAD, 0, 0, NUMBER_AT),
        step(JUMP_IF_AT_LEAST, 0, 1, X32),
        step(ANSWER, 0, 0, libc::SECCOMP_RET_ERRNO | Errno::ENOSYS as u32),
    ];
    for call in calls {
        let number = u32::try_from(*call).unwrap_or(u32::MAX);
        program.push(step(JUMP_IF_EQUAL, 0, 1, number));
        program.push(step(ANSWER, 0, 0, listed));
    }
    program.push(step(ANSWER, 0, 0, other));
    program
}
