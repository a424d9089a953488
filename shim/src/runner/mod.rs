//! Becoming the program that a user asked for.
//!
//! A runner is made once for each rank, by the keeper or by the process of the
//! run's session. It first cuts every tie to where it came from, becomes the
//! user, and only then reads what the user wrote.

mod become_user;
mod environment;
mod program;

use std::convert::Infallible;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{
    Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, fchown, getppid, setsid, write,
};
use warrant_wire::{Launch, Placement, RunId};

use crate::account::Account;
use crate::cgroup::JobCgroup;
use crate::keeper::Ends;
use crate::policy::Policy;
use crate::sys;
use crate::sys::process::{Birth, fork_as};

/// Exit code of a rank whose working directory or output file cannot be used.
pub const CANNOT_ENTER: i32 = 125;
/// Exit code of a rank whose program cannot be executed. Source: POSIX sh.
pub const CANNOT_EXECUTE: i32 = 126;
/// Exit code of a rank whose program is not there. Source: POSIX sh.
pub const NOT_FOUND: i32 = 127;

/// What the ranks of a run have in common.
#[derive(Clone, Copy)]
pub struct Crew<'a> {
    /// Which run it is.
    pub run: RunId,
    /// How many ranks there are.
    pub count: u32,
    /// The keeper's process id.
    pub keeper: Pid,
    /// Where on the machine they run.
    pub placement: &'a Placement,
    /// What to run, encoded.
    pub launch: &'a [u8],
    /// What becomes standard input: an open `/dev/null`.
    pub stdin: BorrowedFd<'a>,
    /// Gets one byte for each rank that cannot be executed.
    pub failed: BorrowedFd<'a>,
    /// The limits on open files: soft and hard. `None` leaves them alone.
    pub open_files: Option<(u64, u64)>,
    /// Whom they run as; `None` for this process's own user.
    pub user: Option<User<'a>>,
}

/// Whom ranks run as.
#[derive(Clone, Copy)]
pub struct User<'a> {
    /// The account.
    pub account: &'a Account,
    /// What the machine's administrator allows.
    pub policy: &'a Policy,
    /// What the session wants to be in the environment.
    pub session: &'a [(Vec<u8>, Vec<u8>)],
    /// Where they are tracked and limited.
    pub cgroup: Option<&'a JobCgroup<'a>>,
}

/// One rank: its number, from 0, and what becomes its standard output and
/// standard error.
pub struct Rank<'a> {
    /// Its number.
    pub number: u16,
    /// Its standard output, unless the launch names a file.
    pub stdout: BorrowedFd<'a>,
    /// Its standard error, unless the launch names a file.
    pub stderr: BorrowedFd<'a>,
}

impl<'a> Rank<'a> {
    /// A rank that writes to these ends.
    pub(crate) fn new(number: u16, ends: &'a Ends) -> Self {
        Self {
            number,
            stdout: ends.stdout.as_fd(),
            stderr: ends.stderr.as_fd(),
        }
    }
}

/// Why a runner did not become its program.
struct Failure {
    code: i32,
    /// For the user, on the standard error of the job.
    line: Vec<u8>,
}

/// Makes the process of a rank, as a child of the keeper: `sibling` says that
/// this process is not the keeper but a child of it.
///
/// Errors: those of clone3(2).
pub fn start(crew: &Crew<'_>, rank: &Rank<'_>, sibling: bool) -> io::Result<Pid> {
    let cgroup = crew.user.and_then(|user| user.cgroup);
    let birth = Birth {
        sibling,
        cgroup: cgroup.and_then(JobCgroup::birthplace),
    };
    fork_as(birth, || become_program(crew, rank))
}

/// Answers, with an exit code, only if it cannot.
fn become_program(crew: &Crew<'_>, rank: &Rank<'_>) -> i32 {
    let failure = match isolate(crew, rank) {
        Ok(()) => match execute(crew, rank.number) {
            Ok(never) => match never {},
            Err(failure) => failure,
        },
        Err(error) => Failure {
            code: CANNOT_EXECUTE,
            line: line(&[b"cannot prepare the process: ", describe(&error).as_bytes()]),
        },
    };
    let _ = write(crew.failed, b"!");
    let _ = write(io::stderr(), &failure.line);
    failure.code
}

/// Cuts the ties: session, files, signals, life without the keeper, and what
/// the user is not entitled to.
fn isolate(crew: &Crew<'_>, rank: &Rank<'_>) -> io::Result<()> {
    live_with(crew.keeper)?;
    setsid()?;
    dup2_stdin(crew.stdin)?;
    dup2_stdout(rank.stdout)?;
    dup2_stderr(rank.stderr)?;
    if let Some(user) = crew.user {
        user.cgroup.map_or(Ok(()), JobCgroup::join)?;
        // So that the job can open them by name, as /dev/stderr.
        let (uid, gid) = (Some(user.account.uid), Some(user.account.gid));
        fchown(rank.stdout, uid, gid)?;
        fchown(rank.stderr, uid, gid)?;
    }
    sys::fd::close_all_but(vec![crew.failed.as_raw_fd()])?;
    if let Some((soft, hard)) = crew.open_files {
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
    }
    if let Some(user) = &crew.user {
        become_user::drop_to(user)?;
        // The kernel forgets this when a process changes its user.
        live_with(crew.keeper)?;
    }
    Ok(())
}

/// Ends this process with its keeper.
fn live_with(keeper: Pid) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != keeper {
        // The keeper died before it could take this process along.
        return Err(Errno::ESRCH.into());
    }
    Ok(())
}

/// Reads the launch and becomes what it says.
fn execute(crew: &Crew<'_>, rank: u16) -> Result<Infallible, Failure> {
    let launch = Launch::decode(crew.launch).map_err(|malformed| Failure {
        code: CANNOT_EXECUTE,
        line: line(&[malformed.to_string().as_bytes()]),
    })?;
    if !crew.placement.cores.is_empty() {
        bind_to(&crew.placement.cores);
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
    if let Err(errno) = SigSet::empty().thread_set_mask() {
        return Err(program::cannot_execute(b"signals", errno));
    }
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
    let file = open(
        OsStr::from_bytes(path),
        flags,
        Mode::from_bits_truncate(0o666),
    )
    .map_err(fail)?;
    let kind = SFlag::from_bits_truncate(fstat(&file).map_err(fail)?.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFREG {
        return Err(Failure {
            code: CANNOT_ENTER,
            line: line(&[b"cannot write to \"", path, b"\": it is not a plain file"]),
        });
    }
    fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND)).map_err(fail)?;
    put(file.as_fd()).map_err(fail)
}

fn cannot_enter(what: &[u8], path: &[u8], errno: Errno) -> Failure {
    Failure {
        code: CANNOT_ENTER,
        line: line(&[
            b"cannot ",
            what,
            b" \"",
            path,
            b"\": ",
            errno.desc().as_bytes(),
        ]),
    }
}

fn line(parts: &[&[u8]]) -> Vec<u8> {
    let mut line = b"warrant: ".to_vec();
    line.extend(parts.concat());
    line.push(b'\n');
    line
}

fn describe(error: &io::Error) -> &'static str {
    error
        .raw_os_error()
        .map_or(Errno::UnknownErrno, Errno::from_raw)
        .desc()
}
