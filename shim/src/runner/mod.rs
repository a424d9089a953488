//! Becoming the program that a user asked for.
//!
//! A runner is made once for each rank, by the keeper or by the process of the
//! run's session. It first cuts every tie to where it came from, becomes the
//! user, and only then reads what the user wrote: that is what `execute`
//! does, of which nothing runs as root.

mod environment;
mod execute;
mod program;
mod redirect;
mod template;
mod workdir;

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::sys::prctl::{set_no_new_privs, set_pdeathsig};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    Pid, dup2_stderr, dup2_stdin, dup2_stdout, fchown, getpid, getppid, setsid, write,
};

use crate::account::Account;
use crate::become_user::become_user;
use crate::cgroup::JobCgroup;
use crate::keeper::{Ends, Order};
use crate::policy::Policy;
use crate::sys::process::fork_as;
use crate::sys::{self, capability};

/// Exit code of a rank whose program cannot be executed. Source: POSIX sh.
pub const CANNOT_EXECUTE: i32 = 126;
/// Exit code of a rank whose working directory or output file cannot be used.
const CANNOT_ENTER: i32 = 125;
/// What a rank says that does not become its program.
pub const FAILED: u8 = b'!';
/// What one says that begins in the home, or in `/tmp`, and was asked to begin
/// elsewhere.
pub const AT_HOME: u8 = b'h';
/// See [`AT_HOME`].
pub const IN_TMP: u8 = b't';
/// What the ranks of a run have in common.
#[derive(Clone, Copy)]
pub struct Crew<'a> {
    /// Which run it is, where on the machine and what to run.
    pub order: &'a Order,
    /// How many ranks there are.
    pub count: u32,
    /// The keeper's process id.
    pub keeper: Pid,
    /// What becomes standard input: an open `/dev/null`.
    pub stdin: BorrowedFd<'a>,
    /// Gets a byte of each rank that has something to say: [`FAILED`] and those
    /// below it.
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

/// Why a runner did not become its program.
struct Failure {
    code: i32,
    /// For the user, on the standard error of the job.
    line: Vec<u8>,
}

impl Failure {
    fn new(code: i32, parts: &[&[u8]]) -> Self {
        let line = [b"warrant: ", parts.concat().as_slice(), b"\n"].concat();
        Self { code, line }
    }
}

/// Makes the process of a rank, that writes to `ends`, as a child of the
/// keeper, whoever calls this.
///
/// Errors: those of clone3(2).
pub(crate) fn start(crew: &Crew<'_>, rank: u16, ends: &Ends) -> io::Result<Pid> {
    let cgroup = crew.user.and_then(|user| user.cgroup);
    let birthplace = cgroup.map(JobCgroup::birthplace).transpose()?.flatten();
    fork_as(getpid() != crew.keeper, birthplace.as_ref(), || {
        become_program(crew, rank, ends)
    })
}

/// Answers, with an exit code, only if it cannot.
fn become_program(crew: &Crew<'_>, rank: u16, ends: &Ends) -> i32 {
    let failure = match isolate(crew, ends) {
        Ok(()) => match execute::launch(crew, rank) {
            Ok(never) => match never {},
            Err(failure) => failure,
        },
        Err(error) => {
            let why = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            let parts = [b"cannot prepare the process: ", why.desc().as_bytes()];
            Failure::new(CANNOT_EXECUTE, &parts)
        }
    };
    say(crew, FAILED);
    let _ = write(io::stderr(), &failure.line);
    failure.code
}

/// Tells the keeper something. There is room for what all ranks may say.
fn say(crew: &Crew<'_>, what: u8) {
    let _ = write(crew.failed, &[what]);
}

/// Cuts the ties: session, files, signals, life without the keeper, and what
/// the user is not entitled to.
fn isolate(crew: &Crew<'_>, ends: &Ends) -> io::Result<()> {
    live_with(crew.keeper)?;
    setsid()?;
    dup2_stdin(crew.stdin)?;
    dup2_stdout(&ends.stdout)?;
    dup2_stderr(&ends.stderr)?;
    if let Some(user) = crew.user {
        user.cgroup.map_or(Ok(()), JobCgroup::join)?;
        // So that the job can open them by name, as /dev/stderr.
        let (uid, gid) = (Some(user.account.uid), Some(user.account.gid));
        fchown(&ends.stdout, uid, gid)?;
        fchown(&ends.stderr, uid, gid)?;
    }
    sys::fd::close_all_but([crew.failed])?;
    if let Some((soft, hard)) = crew.open_files {
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
    }
    if let Some(user) = &crew.user {
        drop_to(user)?;
        // The kernel forgets this when a process changes its user.
        live_with(crew.keeper)?;
    }
    Ok(())
}

/// Gives up root for the user. Nothing may be open that the user may not have.
fn drop_to(user: &User<'_>) -> io::Result<()> {
    let (account, policy) = (user.account, user.policy);
    // The monitor and the keepers may be protected; their jobs are not.
    let _ = fs::write("/proc/self/oom_score_adj", "0");
    if let Some(mask) = policy.umask {
        umask(Mode::from_bits_truncate(mask & 0o777));
    }
    if policy.no_new_privs {
        capability::bound(0)?;
    }
    become_user(account.uid, account.gid, &account.groups, 0)?;
    if policy.no_new_privs {
        set_no_new_privs()?;
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
