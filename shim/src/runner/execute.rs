//! Reading the launch and doing what it says, as the user.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::SigSet;
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{Pid, chdir, dup2_stderr, dup2_stdout};
use warrant_wire::Launch;

use super::{CANNOT_EXECUTE, Crew, Failure, environment, program};

/// Exit code of a rank whose working directory or output file cannot be used.
const CANNOT_ENTER: i32 = 125;

/// Reads the launch and becomes what it says.
pub(super) fn launch(crew: &Crew<'_>, rank: u16) -> Result<Infallible, Failure> {
    let launch = Launch::decode(&crew.order.launch)
        .map_err(|malformed| Failure::new(CANNOT_EXECUTE, &[malformed.to_string().as_bytes()]))?;
    if !crew.order.placement.cores.is_empty() {
        bind_to(&crew.order.placement.cores);
    }
    let home = crew.user.map(|user| user.account.home.as_os_str());
    let workdir = launch.workdir.as_deref().map(OsStr::from_bytes);
    if let Some(workdir) = workdir.or(home) {
        chdir(workdir)
            .map_err(|errno| cannot_enter(b"change to the directory", workdir.as_bytes(), errno))?;
    }
    if let Some(path) = &launch.stdout {
        redirect(path, |fd| dup2_stdout(fd))?;
    }
    if let Some(path) = &launch.stderr {
        redirect(path, |fd| dup2_stderr(fd))?;
    }
    let environment = environment::build(&launch.env, crew, rank);
    // The monitor's mask lets nothing through; the program's everything.
    SigSet::empty()
        .thread_set_mask()
        .map_err(|errno| program::cannot_execute(b"signals", errno))?;
    program::execute(&launch.argv, &environment, crew.user.is_some())
}

/// Binds to these cores. A machine that has none of them any more is no
/// reason not to run.
fn bind_to(cores: &[u16]) {
    let mut set = CpuSet::new();
    for core in cores {
        let _ = set.set(usize::from(*core));
    }
    let _ = sched_setaffinity(Pid::from_raw(0), &set);
}

/// Opens a file for output and puts it in place. It must be a plain file
/// that is named itself: whatever else a path may lead to (a link, a device,
/// a pipe that nobody reads) is refused.
fn redirect(
    path: &[u8],
    put: impl FnOnce(BorrowedFd<'_>) -> Result<(), Errno>,
) -> Result<(), Failure> {
    let fail = |errno| cannot_enter(b"write to the file", path, errno);
    if path == b"/dev/null" {
        return put(io::stdin().as_fd()).map_err(fail);
    }
    let flags = OFlag::O_WRONLY
        | OFlag::O_CREAT
        | OFlag::O_APPEND
        | OFlag::O_NOFOLLOW
        | OFlag::O_CLOEXEC
        | OFlag::O_NOCTTY
        | OFlag::O_NONBLOCK;
    let mode = Mode::from_bits_truncate(0o666);
    let file = open(OsStr::from_bytes(path), flags, mode).map_err(fail)?;
    let kind = SFlag::from_bits_truncate(fstat(&file).map_err(fail)?.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFREG {
        let parts = [b"cannot write to \"", path, b"\": it is not a plain file"];
        return Err(Failure::new(CANNOT_ENTER, &parts));
    }
    fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND)).map_err(fail)?;
    put(file.as_fd()).map_err(fail)
}

fn cannot_enter(what: &[u8], path: &[u8], errno: Errno) -> Failure {
    let why = errno.desc().as_bytes();
    Failure::new(
        CANNOT_ENTER,
        &[b"cannot ", what, b" \"", path, b"\": ", why],
    )
}
