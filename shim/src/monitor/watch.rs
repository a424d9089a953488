//! What the monitor knows of one run, and what it concludes from its record.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;
use warrant_wire::record::Record;
use warrant_wire::{JobSignal, Refusal, Report, RunId};

use super::peers::Peers;
use crate::spool::{Spool, Standing};
use crate::sys;

/// A run that the broker awaits a last report of.
pub(super) struct Watched {
    pub(super) keeper: Keeper,
    started_us: Option<u64>,
    /// Whether this monitor saw its keeper alive, or would have made it.
    is_witnessed: bool,
}

/// What is known of a run's keeper.
pub(super) enum Keeper {
    /// It lives, as far as its handle tells.
    Alive {
        handle: OwnedFd,
        /// Its process id if it is a child of this monitor.
        child: Option<Pid>,
    },
    /// It has ended, or could not be made. If it did not start the run, this
    /// is why; 0 if nobody knows.
    Gone { errno: i32 },
    /// An earlier monitor may have made one.
    Unclear {
        same_boot: bool,
        /// What to send to it if it turns out to live.
        signals: Vec<JobSignal>,
    },
}

impl Watched {
    pub(super) fn new(keeper: Keeper) -> Self {
        Self {
            is_witnessed: !matches!(keeper, Keeper::Unclear { .. }),
            keeper,
            started_us: None,
        }
    }

    /// When it started, as far as that was reported.
    pub(super) fn started_us(&self) -> Option<u64> {
        self.started_us
    }

    /// Whether its end has not been told before.
    pub(super) fn is_witnessed(&self) -> bool {
        self.is_witnessed
    }

    pub(super) fn report_started(&mut self, peers: &mut Peers, run: RunId, started_us: u64) {
        if self.started_us.is_none() {
            self.started_us = Some(started_us);
            peers.report(&Report::Started { run, started_us });
        }
    }

    pub(super) fn signal(&mut self, signal: JobSignal) {
        match &mut self.keeper {
            Keeper::Alive { handle, .. } => send(handle, signal),
            Keeper::Gone { .. } => {}
            Keeper::Unclear { signals, .. } => signals.push(signal),
        }
    }

    /// Looks at the run's record. Answers the last report, or `None` if it is
    /// to be looked at again.
    pub(super) fn look(&mut self, spool: &Spool, peers: &mut Peers, run: RunId) -> Option<Report> {
        if let Keeper::Alive { child, .. } = &self.keeper {
            self.keeper = match child.map_or(Ok(0), sys::process::wait_for) {
                // It found a record that is not its own.
                Ok(status) if exit_code(status) == Errno::EEXIST as i32 => Keeper::Unclear {
                    same_boot: true,
                    signals: Vec::new(),
                },
                Ok(status) => Keeper::Gone {
                    errno: exit_code(status),
                },
                Err(_) => Keeper::Gone { errno: 0 },
            };
        }
        match &mut self.keeper {
            Keeper::Alive { .. } => None,
            Keeper::Gone { errno } => {
                let last = conclude(spool, run, *errno).ok()?;
                match last {
                    Report::Ended { outcome, .. } => {
                        self.report_started(peers, run, outcome.started_us);
                        Some(last)
                    }
                    // A run that has started cannot have its record undone.
                    Report::NotStarted { .. } if self.started_us.is_some() => {
                        Some(Report::Lost { run })
                    }
                    Report::NotStarted { .. }
                    | Report::Lost { .. }
                    | Report::Started { .. }
                    | Report::Admitted { .. }
                    | Report::Refused { .. } => Some(last),
                }
            }
            Keeper::Unclear { same_boot, signals } => {
                let found = find_out(spool, run, *same_boot).ok()?;
                match found {
                    Found::Over(last) => Some(last),
                    Found::Later => None,
                    Found::Alive(handle, started_us) => {
                        for signal in signals.drain(..) {
                            send(&handle, signal);
                        }
                        self.keeper = Keeper::Alive {
                            handle,
                            child: None,
                        };
                        self.is_witnessed = true;
                        self.report_started(peers, run, started_us);
                        None
                    }
                }
            }
        }
    }
}

/// What became of a run whose keeper is certainly gone.
///
/// Errors: the record cannot be read now.
fn conclude(spool: &Spool, run: RunId, errno: i32) -> io::Result<Report> {
    let not_started = |refusal: Option<Refusal>| Report::NotStarted {
        run,
        errno: if refusal.is_some() { 0 } else { errno },
        refusal,
    };
    let Some(file) = spool.open_record(run)? else {
        // At best the broker never asks again; at worst it is told again.
        let _ = spool.revoke_missing(run);
        return Ok(not_started(None));
    };
    match file.read() {
        Ok(Record::Ended { outcome, .. }) => Ok(Report::Ended { run, outcome }),
        Ok(Record::Started(_)) => Ok(Report::Lost { run }),
        // Any record at all keeps the run from being started.
        Ok(Record::Empty | Record::Revoked) => Ok(not_started(None)),
        Ok(Record::Refused(refusal)) => Ok(not_started(Some(refusal))),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Report::Lost { run }),
        Err(error) => Err(error),
    }
}

enum Found {
    Over(Report),
    Alive(OwnedFd, u64),
    Later,
}

/// What became of a run that an earlier monitor may have made a keeper for.
/// If there is no sign of it, it is kept from starting from here on.
///
/// Errors: the record cannot be read, or written, now.
fn find_out(spool: &Spool, run: RunId, same_boot: bool) -> io::Result<Found> {
    let lost = Found::Over(Report::Lost { run });
    let not_started = |refusal| {
        Found::Over(Report::NotStarted {
            run,
            errno: 0,
            refusal,
        })
    };
    match spool.look(run) {
        Ok(Standing::Missing) if same_boot => match spool.revoke_missing(run) {
            Ok(()) => Ok(not_started(None)),
            Err(error) if error.raw_os_error() == Some(Errno::EEXIST as i32) => Ok(Found::Later),
            Err(error) => Err(error),
        },
        // A crash of the machine may have taken the record, or its content.
        Ok(Standing::Missing) => Ok(lost),
        Ok(Standing::Free(_, Record::Empty)) if !same_boot => Ok(lost),
        Ok(Standing::Free(_, Record::Refused(refusal))) if !same_boot && refusal.is_passing() => {
            Ok(lost)
        }
        Ok(Standing::Free(file, Record::Empty)) => {
            file.write(&Record::Revoked)?;
            Ok(not_started(None))
        }
        Ok(Standing::Free(_, Record::Revoked)) => Ok(not_started(None)),
        Ok(Standing::Free(_, Record::Refused(refusal))) => Ok(not_started(Some(refusal))),
        Ok(Standing::Free(_, Record::Started(_))) => Ok(lost),
        Ok(Standing::Free(_, Record::Ended { outcome, .. })) => {
            Ok(Found::Over(Report::Ended { run, outcome }))
        }
        Ok(Standing::Kept(handle, ticket)) => Ok(Found::Alive(handle, ticket.started_us)),
        Ok(Standing::Unclear) => Ok(Found::Later),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(lost),
        Err(error) => Err(error),
    }
}

/// Tells a keeper what to do. One that has ended needs no telling.
pub(super) fn send(keeper: &OwnedFd, signal: JobSignal) {
    let _ = match signal {
        JobSignal::Cancel => sys::process::send(keeper.as_fd(), libc::SIGTERM),
        JobSignal::Kill => sys::process::send(keeper.as_fd(), libc::SIGUSR1),
        JobSignal::Deliver(number) => {
            sys::process::queue(keeper.as_fd(), sys::signal::deliver(), number.into())
        }
    };
}

/// 0 if it did not exit by itself.
fn exit_code(status: i32) -> i32 {
    if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        0
    }
}
