//! Telling the kernel to refuse what this process has no business with.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;

use super::{done, made};

/// Puts a filter on the system calls of this process and of all processes
/// that it makes. Source: seccomp(2), `SECCOMP_SET_MODE_FILTER`.
///
/// Errors: `EACCES` if the process could still gain privileges and is not
/// privileged to filter; `EINVAL` if the kernel has no filters.
pub fn filter_calls(program: &mut [libc::sock_filter]) -> io::Result<()> {
    const MODE: libc::c_uint = libc::SECCOMP_SET_MODE_FILTER;
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the kernel reads the program, whose length is that of the
    // slice, during the call.
    done(unsafe { libc::syscall(libc::SYS_seccomp, MODE, 0, &raw const program) })
}

/// Which version of Landlock the kernel has; 0 for none.
/// Source: landlock_create_ruleset(2), `LANDLOCK_CREATE_RULESET_VERSION`.
#[must_use]
pub fn landlock_version() -> usize {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the kernel reads no attributes.
    let result = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0_usize, 0, VERSION) };
    usize::try_from(result).unwrap_or(0)
}

/// Denies this process, for good, these kinds of access: to files, to the
/// network and beyond its own domain; but allows `access` to files beneath
/// these directories. A kernel that knows fewer fields takes them if they are zero.
/// Source: landlock_create_ruleset(2), landlock_add_rule(2),
/// landlock_restrict_self(2).
pub fn landlock(denied: [u64; 3], dirs: &[BorrowedFd<'_>], access: u64) -> io::Result<()> {
    const PATH_BENEATH: libc::c_int = 1;
    /// The kernel's `landlock_path_beneath_attr`, which is packed.
    #[repr(C, packed)]
    struct PathBeneath(u64, i32);
    let (create, size) = (libc::SYS_landlock_create_ruleset, size_of_val(&denied));
    // SAFETY: the kernel reads as many bytes as `denied` has.
    let ruleset = made(unsafe { libc::syscall(create, &raw const denied, size, 0) })?;
    let (add, fd) = (libc::SYS_landlock_add_rule, ruleset.as_raw_fd());
    for dir in dirs {
        let rule = PathBeneath(access, dir.as_raw_fd());
        // SAFETY: the kernel reads one rule of this layout during the call.
        done(unsafe { libc::syscall(add, fd, PATH_BENEATH, &raw const rule, 0) })?;
    }
    // SAFETY: landlock_restrict_self takes two integers.
    done(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, fd, 0) })
}
