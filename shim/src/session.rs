//! The PAM session of a run, in a process of its own.
//!
//! That process stays root for as long as the run lives, since what opened a
//! session has to close it. It also makes the ranks, as children of the
//! keeper, so that they inherit what modules did to it: limits, login id,
//! keyring, name spaces. Modules run nowhere else. What processes they leave
//! fall to it, however they detach themselves, is no part of the job, and ends
//! with the session.
//!
//! The two speak in single numbers: the session says whether it is open (0,
//! or the code of a refusal), the keeper says go, the session answers with a
//! process id for each rank or, below zero, why there is none. One number
//! more from the keeper, or its end, closes the session.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc::SIGKILL;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::SigSet;
use nix::unistd::{Pid, alarm, chdir};
use warrant_wire::Refusal;

use crate::cgroup::JobCgroup;
use crate::keeper::Ends;
use crate::line::Line;
use crate::runner::{self, Crew};
use crate::self_check::{self, MEDDLING, listed};
use crate::sys::pam::{self, Code, Pam};
use crate::sys::process::{self, end_children, fork_as, is_single_threaded, wait_for};
use crate::sys::signal::send_child;
use crate::{audit, hardening, sys};

/// The name of the service, and its file.
const SERVICE: &CStr = c"warrant";
const SERVICE_FILE: &str = "/etc/pam.d/warrant";
/// Seconds that opening, and closing, a session may take.
const PAM_TIME_S: u32 = 20;
/// How long the end of what modules have started is awaited, at most.
const END_TIME: Duration = Duration::from_secs(2);
/// How long the keeper waits for what takes no longer than that.
const PATIENCE: Duration = Duration::from_secs(25);

/// An open session, as the keeper sees it.
pub struct Session {
    /// Its process.
    pub pid: Pid,
    line: Line,
}

/// Checks that PAM has a service file for jobs, with each kind of module that
/// is asked: `auth` (for credentials), `account` and `session`. For whatever
/// is missing there libpam would take the service `other`, silently.
///
/// Errors: it is missing or incomplete, not root's alone to write, or not a
/// plain file.
pub(crate) fn check_service() -> io::Result<()> {
    let content = self_check::read(Path::new(SERVICE_FILE))?;
    let text = String::from_utf8_lossy(&content);
    // A line may begin with `-`: the module may be missing.
    let is_for = |line: &str, word| line.trim_start_matches(['-', ' ', '\t']).starts_with(word);
    let has = |word| text.lines().any(|line| is_for(line, word));
    if has("@include") || ["auth", "account", "session"].into_iter().all(has) {
        return Ok(());
    }
    let must = "must have lines for auth, account and session";
    Err(self_check::doubt(SERVICE_FILE, must))
}

impl Session {
    /// Opens a session for the user of `crew`, in a new child.
    ///
    /// Errors: why the account may not run jobs now.
    pub(crate) fn open(
        crew: &Crew<'_>,
        ends: &[Ends],
        cgroup: Option<&JobCgroup<'_>>,
    ) -> Result<Self, Refusal> {
        check_service().map_err(|error| {
            tell(crew, "the service file", error.to_string().as_bytes());
            Refusal::PamSession
        })?;
        let unprepared = |_| Refusal::Unprepared;
        let (ours, theirs) = Line::pair().map_err(unprepared)?;
        let patience = ours.0.set_read_timeout(Some(PATIENCE));
        patience.map_err(unprepared)?;
        let place = cgroup.map(JobCgroup::birthplace).transpose();
        let place = place.map_err(unprepared)?.flatten();
        let serve = || serve(crew, ends, cgroup, &theirs);
        let pid = fork_as(false, place.as_ref(), serve).map_err(unprepared)?;
        drop(theirs);
        let session = Self { pid, line: ours };
        let answer = session.line.hear();
        if answer == Some(0) {
            return Ok(session);
        }
        session.close();
        // Of one that was cut off.
        end_children(END_TIME);
        let is_it = |refusal: &&Refusal| answer == Some(refusal.code().into());
        let refusal = Refusal::ALL.iter().find(is_it);
        Err(refusal.copied().unwrap_or(Refusal::AccountUnavailable))
    }

    /// Has `count` ranks made. Hands out their processes in order of rank.
    ///
    /// Errors: why there are no more.
    pub fn start(&self, count: u32, mut rank: impl FnMut(Pid)) -> io::Result<()> {
        let _ = self.line.say(0);
        for _ in 0..count {
            match self.line.hear().and_then(|it| i32::try_from(it).ok()) {
                Some(pid @ 1..) => rank(Pid::from_raw(pid)),
                Some(errno) => return Err(io::Error::from_raw_os_error(-errno)),
                None => return Err(Errno::EPIPE.into()),
            }
        }
        Ok(())
    }

    /// Closes the session, and waits until that is done.
    pub fn close(self) {
        let _ = self.line.say(0);
        // It says nothing more, so this is its end, or our patience's.
        let _ = self.line.hear();
        let _ = send_child(self.pid, SIGKILL);
        let _ = wait_for(self.pid);
    }
}

/// The life of the session's process.
fn serve(crew: &Crew<'_>, ends: &[Ends], cgroup: Option<&JobCgroup<'_>>, line: &Line) -> i32 {
    let opened = settle_in(crew, ends, line)
        .and_then(|()| cgroup.map_or(Ok(()), JobCgroup::join))
        .map_err(|_| Refusal::Unprepared)
        .and_then(|()| open(crew));
    alarm::cancel();
    match opened {
        Ok(opened) => attend(crew, ends, cgroup, line, opened),
        Err(refusal) => drop(line.say(refusal.code().into())),
    }
    // All is closed, and nothing that modules started goes on.
    end_children(END_TIME);
    let _ = line.say(0);
    0
}

/// Makes the ranks, waits for the keeper's word or end, and closes.
fn attend(
    crew: &Crew<'_>,
    ends: &[Ends],
    own: Option<&JobCgroup<'_>>,
    line: &Line,
    mut opened: Opened,
) {
    let _ = line.say(0);
    let mut word = line.hear();
    if word.is_some() {
        if let Err(error) = start(crew, ends, line, &opened) {
            let errno = error.raw_os_error().unwrap_or(Errno::EIO as i32);
            let _ = line.say((-errno).into());
        }
        let _ = close_all_but(crew, &[line.as_fd()]);
        let _ = hardening::keep_secrets();
        word = line.hear();
    }
    if word.is_none() {
        // The keeper has died, and has ended nothing.
        if let Some(cgroup) = crew.user.and_then(|user| user.cgroup) {
            let _ = cgroup.cgroups.end_job(crew.order.run);
        }
        end_children(END_TIME);
        own.inspect(|cgroup| cgroup.leave());
    }
    let _ = SigSet::empty().thread_set_mask();
    alarm::set(PAM_TIME_S);
    let closed = opened.pam.take(pam::CLOSE);
    let deleted = opened.pam.take(pam::DELETE);
    if let Err(code) = closed.and(deleted) {
        tell(crew, "closing the session", &said(code));
    }
}

/// Makes the ranks and says their process ids.
fn start(crew: &Crew<'_>, ends: &[Ends], line: &Line, opened: &Opened) -> io::Result<()> {
    let user = crew.user.map(|user| runner::User {
        session: &opened.environment,
        ..user
    });
    let crew = Crew {
        user,
        open_files: opened.open_files,
        ..*crew
    };
    if !is_single_threaded()? {
        return Err(Errno::EBUSY.into());
    }
    // What modules have changed and is none of the job's.
    SigSet::all().thread_block()?;
    sys::signal::reset_actions();
    chdir("/")?;
    (0..).zip(ends).try_for_each(|(rank, ends)| {
        Ok(line.say(runner::start(&crew, rank, ends)?.as_raw().into())?)
    })
}

/// Leaves what is the keeper's: files, the record and its lock among them,
/// and signals. From here on a module that hangs ends this process.
fn settle_in(crew: &Crew<'_>, ends: &[Ends], line: &Line) -> io::Result<()> {
    let mut files = vec![line.as_fd(), crew.stdin, crew.failed];
    for end in ends {
        files.extend([end.stdout.as_fd(), end.stderr.as_fd()]);
    }
    close_all_but(crew, &files)?;
    prctl::set_name(c"warrant-session")?;
    prctl::set_child_subreaper(true)?;
    process::clear_environment();
    SigSet::empty().thread_set_mask()?;
    alarm::set(PAM_TIME_S);
    Ok(())
}

/// Closes everything but the control groups and `files`.
fn close_all_but(crew: &Crew<'_>, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let cgroup = crew.user.and_then(|user| user.cgroup).into_iter();
    let cgroups = cgroup.flat_map(|cgroup| cgroup.cgroups.dirs());
    sys::fd::close_all_but(files.iter().copied().chain(cgroups))
}

/// What modules want for the ranks, besides what they did to this process.
struct Opened {
    pam: Pam,
    environment: Vec<(Vec<u8>, Vec<u8>)>,
    open_files: Option<(u64, u64)>,
}

fn open(crew: &Crew<'_>) -> Result<Opened, Refusal> {
    let user = crew.user.ok_or(Refusal::Unprepared)?;
    let told = |step, code| {
        tell(crew, step, &said(code));
        Refusal::PamSession
    };
    let name = &user.account.name;
    let same = |pam: &Pam, step| match pam.is_still(name) {
        true => Ok(()),
        false => {
            tell(crew, step, b"a module has changed PAM_USER");
            Err(Refusal::AccountMismatch)
        }
    };
    let mut pam =
        Pam::start(SERVICE, name, c"warrant").map_err(|code| told("the beginning", code))?;
    pam.take(pam::ACCOUNT).map_err(|code| {
        told("account phase", code);
        refusal_of(code)
    })?;
    same(&pam, "account phase")?;
    let limit_before = getrlimit(Resource::RLIMIT_NOFILE).ok();
    pam.take(pam::ESTABLISH)
        .map_err(|code| told("credentials", code))?;
    let opened = pam.take(pam::OPEN).map_err(|code| told("session", code));
    let is_open = opened.is_ok();
    opened
        .and_then(|()| same(&pam, "session"))
        .inspect_err(|_| {
            if is_open {
                let _ = pam.take(pam::CLOSE);
            }
            let _ = pam.take(pam::DELETE);
        })?;
    // A limit that no module has set is the one that jobs have by default.
    let is_unchanged = getrlimit(Resource::RLIMIT_NOFILE).ok() == limit_before;
    let environment = pam.environment();
    let entries = environment.iter().filter_map(|entry| {
        let mut parts = entry.to_bytes().splitn(2, |byte| *byte == b'=');
        let (name, value) = (parts.next()?, parts.next()?);
        may_be_set(name).then(|| (name.to_vec(), value.to_vec()))
    });
    Ok(Opened {
        environment: entries.collect(),
        open_files: crew.open_files.filter(|_| is_unchanged),
        pam,
    })
}

/// Source: the numbers of `_pam_types.h`.
fn refusal_of(Code(number): Code) -> Refusal {
    match number {
        // PAM_USER_UNKNOWN.
        10 => Refusal::AccountUnknown,
        // PAM_ACCT_EXPIRED, PAM_NEW_AUTHTOK_REQD, PAM_AUTHTOK_EXPIRED.
        13 | 12 | 27 => Refusal::AccountExpired,
        // PAM_SYSTEM_ERR, PAM_BUF_ERR, PAM_AUTHINFO_UNAVAIL.
        4 | 5 | 9 => Refusal::AccountUnavailable,
        _ => Refusal::PamAccount,
    }
}

/// Whether a module may set a variable: by its shape, and not if it is one that
/// changes how programs are loaded. Those that are ours the runner leaves out.
fn may_be_set(name: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
    name.first().is_some_and(|first| !first.is_ascii_digit())
        && name.iter().all(is_plain)
        && listed(name, MEDDLING).is_none()
}

/// What libpam and its modules say is for the administrator alone.
fn said(Code(number): Code) -> Vec<u8> {
    [number.to_string().as_bytes(), b" ", &pam::said()].concat()
}

fn tell(crew: &Crew<'_>, step: &str, said: &[u8]) {
    let said = said.trim_ascii().escape_ascii().to_string();
    audit::of_run("pam", crew.order.run, &[("step", step), ("said", &said)]);
}
