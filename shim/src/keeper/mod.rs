//! One run: its ticket, its processes, its output, its end.
//!
//! A keeper is forked from the monitor, does not exec, and outlives it if
//! need be. It is made before there is a run for it. It sees nothing of the
//! launch but its limits. On behalf of a user it first finds out whether that
//! user may run jobs at all; before that has been settled, and the start is
//! in the journal, no process of the user is made.

mod order;
mod start;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Gid, Uid, alarm, dup2_stderr, dup2_stdin, dup2_stdout, getpid, setsid};
use warrant_wire::record::{Record, Ticket};
use warrant_wire::{Limits, Refusal};

pub use self::order::Order;
pub(crate) use self::start::Ends;
use self::start::Start;
use crate::account::Denied;
use crate::cgroup::{CgroupLimits, Cgroups};
use crate::identity::Identity;
use crate::line::Line;
use crate::policy::Policy;
use crate::runner::User;
use crate::spool::{RecordFile, Spool};
use crate::{account, clock, hardening, sys};

/// The exit code of a keeper whose run was refused; its record says why.
pub const REFUSED: i32 = 200;
/// Seconds that the account database may take.
const LOOK_UP_TIME_S: u32 = 30;

/// What a keeper has from the monitor that forks it, whatever its run.
#[derive(Clone, Copy)]
pub struct Station<'a> {
    /// What the machine's administrator allows; `None` where no run is on
    /// behalf of a user.
    pub policy: Option<&'a Policy>,
    /// Who it is once the ranks have been made: its user and group. `None` if
    /// it stays who it is.
    pub user: Option<(Uid, Gid)>,
    /// The control groups of jobs; `None` if there are none.
    pub cgroups: Option<&'a Cgroups>,
    /// Where the files of runs go.
    pub spool: &'a Spool,
    /// An open `/dev/null`.
    pub null: &'a OwnedFd,
    /// The limits on open files that the run's processes get: soft and hard.
    pub open_files: (u64, u64),
    /// The line to the monitor.
    pub line: &'a Line,
    /// What the monitor writes the run on.
    pub sheet: &'a File,
}

/// A run, and what it is kept with.
#[derive(Clone, Copy)]
struct Assignment<'a> {
    order: &'a Order,
    /// What its processes may do.
    limits: Limits,
    station: &'a Station<'a>,
}

impl Assignment<'_> {
    fn ranks(&self) -> Range<u16> {
        // They are few enough for the index; the launch was checked.
        0..u16::try_from(self.limits.processes).unwrap_or(u16::MAX)
    }
}

/// Keeps a run from its ticket to its final record, once the monitor gives
/// it one. To be called in a child of the monitor, which then exits with the
/// code that this answers: 0, [`REFUSED`], or the errno(3) number of why the
/// run was not started. `EEXIST` says that it had a record already.
///
/// One that `looks_ahead` asks the account database what it can before it has
/// a run.
pub fn keep(station: &Station<'_>, looks_ahead: bool) -> i32 {
    let wait = || {
        settle_in(station)?;
        let policy = station.policy.filter(|_| looks_ahead);
        let look_up = |policy| within(LOOK_UP_TIME_S, || Denied::look_up(policy).ok());
        let denied = policy.map(look_up).transpose()?.flatten();
        match Order::take(station.line, station.sheet)? {
            Some(order) => keep_run(&order, station, denied),
            None => Ok(0),
        }
    };
    wait().unwrap_or_else(|error| error.raw_os_error().unwrap_or(Errno::EIO as i32))
}

fn keep_run(order: &Order, station: &Station<'_>, denied: Option<Denied>) -> io::Result<i32> {
    prctl::set_name(c"warrant-keeper")?;
    // Never as this process's own user where runs are on behalf of others.
    let is_for_others = [order.identity.is_some(), station.user.is_some()];
    if is_for_others != [station.policy.is_some(); 2] {
        return Err(Errno::EPERM.into());
    }
    let limits = Limits::read(&order.launch).map_err(|_| Errno::EINVAL)?;
    let assignment = &Assignment {
        order,
        limits,
        station,
    };
    let record = take_record(assignment)?;
    let (Some(identity), Some(policy)) = (&order.identity, station.policy) else {
        return keep_job(Start::new(assignment, None)?, assignment, &record);
    };
    keep_for(identity, policy, denied, assignment, &record).unwrap_or_else(|refusal| {
        record.write(&Record::Refused(refusal))?;
        Ok(REFUSED)
    })
}

/// Leaves the broker's session, terminal and files, and becomes the process
/// to which every orphan of the run falls. On behalf of a user, standard
/// error stays: it leads to the audit.
fn settle_in(station: &Station<'_>) -> io::Result<()> {
    let (spool, null, line) = (station.spool.dir(), station.null, station.line);
    let own = [
        spool.as_fd(),
        null.as_fd(),
        line.as_fd(),
        station.sheet.as_fd(),
    ];
    let cgroups = station.cgroups.into_iter().flat_map(Cgroups::dirs);
    sys::fd::close_all_but(own.into_iter().chain(cgroups))?;
    dup2_stdin(station.null)?;
    dup2_stdout(station.null)?;
    setsid()?;
    prctl::set_child_subreaper(true)?;
    prctl::set_name(c"warrant-spare")?;
    if station.policy.is_none() {
        dup2_stderr(station.null)?;
        return Ok(());
    }
    hardening::keep_secrets()?;
    hardening::preparing_keeper()?;
    sys::process::leave_session_keyring()
}

/// Makes the record, and with it the right to start the run. Nobody else can
/// from here on, whatever happens to this process.
fn take_record(assignment: &Assignment<'_>) -> io::Result<RecordFile> {
    let (spool, order) = (assignment.station.spool, assignment.order);
    let mut record = spool.create_record(order.run, Some(order.stamp))?;
    record.lock()?;
    // Somebody may have revoked it between the two calls above.
    if record.read()? != Record::Empty {
        return Err(Errno::EEXIST.into());
    }
    Ok(record)
}

/// Prepares and keeps a run on behalf of a user.
///
/// Errors: why that user may not run it.
fn keep_for<'a>(
    identity: &Identity,
    policy: &Policy,
    denied: Option<Denied>,
    assignment: &Assignment<'a>,
    record: &RecordFile,
) -> Result<io::Result<i32>, Refusal> {
    // The account database may hang, or crash this process. These are its
    // last words then, and nobody had to wait for it.
    let last_words = Record::Refused(Refusal::AccountUnavailable);
    record.write(&last_words).map_err(unprepared)?;
    let resolve = || account::resolve(identity, policy, denied);
    let account = within(LOOK_UP_TIME_S, resolve).map_err(unprepared)??;
    if !sys::process::is_single_threaded().map_err(unprepared)? {
        return Err(Refusal::Unprepared);
    }

    let assignment = Assignment {
        limits: policy.bound(assignment.limits)?,
        ..*assignment
    };
    let limits = CgroupLimits {
        memory_bytes: assignment.limits.memory_bytes,
        pids: policy.max_pids,
    };
    // Ranks are put into their group, where v1 does not count.
    if limits.pids > 0 && u64::from(assignment.limits.processes) > limits.pids {
        return Err(Refusal::Limits);
    }
    let make = |cgroups: &'a Cgroups| cgroups.make(assignment.order.run, limits);
    let cgroup = assignment.station.cgroups.map(make).transpose();
    let cgroup = cgroup.map_err(|_| Refusal::Cgroup)?;
    let user = User {
        account: &account,
        policy,
        session: &[],
        cgroup: cgroup.as_ref(),
    };
    let mut start = Start::new(&assignment, Some(user)).map_err(unprepared)?;
    // Until here, nothing has been done that the user could notice.
    assignment.station.line.hear().ok_or(Refusal::Journal)?;
    if policy.pam {
        start.open_session()?;
    }
    Ok(keep_job(start, &assignment, record))
}

/// What `ask` answers. This process is ended if it takes longer than so many
/// seconds.
fn within<T>(time_s: u32, ask: impl FnOnce() -> T) -> io::Result<T> {
    let alarm_signal = SigSet::from(Signal::SIGALRM);
    alarm_signal.thread_unblock()?;
    alarm::set(time_s);
    let answer = ask();
    alarm::cancel();
    alarm_signal.thread_block()?;
    Ok(answer)
}

fn unprepared<E>(_: E) -> Refusal {
    Refusal::Unprepared
}

/// Starts a job and stays until none of its processes is left.
fn keep_job(start: Start<'_>, assignment: &Assignment<'_>, record: &RecordFile) -> io::Result<i32> {
    let ticket = Ticket {
        keeper_pid: getpid().as_raw(),
        boot_id: assignment.station.spool.boot_id(),
        started_us: clock::now_us(),
    };
    record.write(&Record::Started(ticket))?;
    // If the monitor is gone, the next one finds the same in the record.
    let _ = assignment.station.line.say(ticket.started_us.cast_signed());
    let (outcome, output_failed) = start.begin()?.tend(ticket.started_us);
    // Without a final record the run counts as lost, which is then the truth.
    record.write(&Record::Ended {
        ticket,
        outcome,
        output_failed,
    })?;
    Ok(0)
}
