//! One run: its ticket, its processes, its output, its end.
//!
//! A keeper is forked from the monitor, does not exec, and outlives it if
//! need be. It sees nothing of the launch but its limits.

mod job;
mod output;
mod pipes;
mod tree;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::socket::{MsgFlags, send};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, getpid, setsid};
use warrant_wire::record::{Record, Ticket};
use warrant_wire::{Limits, Placement, Report, RunId, encode_report};

use crate::identity::OnBehalf;
use crate::spool::{RecordFile, Spool};
use crate::{clock, sys};

/// What a keeper is given by the monitor that forks it.
pub struct Assignment<'a> {
    /// Which run.
    pub run: RunId,
    /// What its processes may do.
    pub limits: Limits,
    /// Where on the machine they run.
    pub placement: &'a Placement,
    /// What to run, encoded.
    pub launch: &'a [u8],
    /// Whom it is run for; `None` for the monitor's own user.
    pub on_behalf: Option<OnBehalf<'a>>,
    /// Where its files go.
    pub spool: &'a Spool,
    /// Where to report that it has started.
    pub reports: &'a OwnedFd,
    /// An open `/dev/null`.
    pub null: &'a OwnedFd,
    /// The limits on open files that the run's processes get: soft and hard.
    pub open_files: (u64, u64),
}

/// Keeps a run from its ticket to its final record. To be called in a child
/// of the monitor, which then exits with the code that this answers: 0, or
/// the errno(3) number of why the run was not started. `EEXIST` says that it
/// had a record already.
pub fn keep(assignment: &Assignment<'_>) -> i32 {
    let code = |error: io::Error| error.raw_os_error().unwrap_or(Errno::EIO as i32);
    if let Err(error) = settle_in(assignment) {
        return code(error);
    }
    let (record, ticket) = match take_ticket(assignment.spool, assignment.run) {
        Ok(taken) => taken,
        Err(error) => return code(error),
    };
    announce(assignment, ticket.started_us);
    let (outcome, output_failed) = job::run(assignment, ticket.started_us);
    // Without a final record the run counts as lost, which is then the truth.
    match record.write(&Record::Ended {
        ticket,
        outcome,
        output_failed,
    }) {
        Ok(()) => 0,
        Err(error) => code(error),
    }
}

/// Leaves the broker's session, terminal and files, and becomes the process
/// to which every orphan of the run falls.
fn settle_in(assignment: &Assignment<'_>) -> io::Result<()> {
    let mut kept = [
        assignment.spool.dir().as_raw_fd(),
        assignment.reports.as_raw_fd(),
        assignment.null.as_raw_fd(),
    ];
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept {
        if first < fd {
            sys::fd::close_range(first, fd - 1)?;
        }
        first = fd + 1;
    }
    sys::fd::close_range(first, i32::MAX)?;
    dup2_stdin(assignment.null)?;
    dup2_stdout(assignment.null)?;
    dup2_stderr(assignment.null)?;
    setsid()?;
    prctl::set_child_subreaper(true)?;
    prctl::set_name(c"warrant-keeper")?;
    Ok(())
}

/// Makes the record, and with it the right to start the run. Nobody else can
/// from here on, whatever happens to this process.
fn take_ticket(spool: &Spool, run: RunId) -> io::Result<(RecordFile, Ticket)> {
    let record = spool.create_record(run)?;
    record.lock()?;
    // Somebody may have revoked it between the two calls above.
    if record.read()? != Record::Empty {
        return Err(Errno::EEXIST.into());
    }
    let ticket = Ticket {
        keeper_pid: getpid().as_raw(),
        boot_id: spool.boot_id(),
        started_us: clock::now_us(),
    };
    record.write(&Record::Started(ticket))?;
    Ok((record, ticket))
}

/// Tells the monitor, if it is there and has room: it finds the same in the
/// record later.
fn announce(assignment: &Assignment<'_>, started_us: u64) {
    let frame = encode_report(&Report::Started {
        run: assignment.run,
        started_us,
    });
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let _ = send(assignment.reports.as_raw_fd(), &frame, flags);
}
