//! What the monitor knows of one run, and what it concludes from its record.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;
use warrant_wire::record::{Record, Stamped};
use warrant_wire::{JobSignal, Refusal, Report, RunId, Stamp};

use super::peers::Peers;
use crate::line::Line;
use crate::spool::{Spool, Standing};
use crate::sys;

/// Most signals that wait for a keeper which may turn out to live.
const MAX_SIGNALS: usize = 64;

/// A run that the broker awaits a last report of.
pub(super) struct Watched {
    pub(super) keeper: Keeper,
    /// Where its keeper will say that it has started, and when.
    pub(super) line: Option<Line>,
    /// When it started, as far as that was reported.
    pub(super) started_us: Option<u64>,
    /// Whether this monitor saw its keeper alive, or would have made it, so
    /// that its end has not been told before.
    pub(super) is_witnessed: bool,
    /// Whose it is, as far as that was said. A record of another's does not
    /// count.
    pub(super) asked: Option<Stamp>,
}

/// What is known of a run's keeper.
pub(super) enum Keeper {
    /// It lives, as far as its handle tells; with its process id if it is a
    /// child of this monitor.
    Alive(OwnedFd, Option<Pid>),
    /// It has ended, or could not be made. If it did not start the run, this
    /// errno(3) number is why; 0 if nobody knows.
    Gone(i32),
    /// An earlier monitor may have made one.
    Unclear {
        same_boot: bool,
        /// What to send to it if it turns out to live.
        signals: Vec<JobSignal>,
    },
}

impl Keeper {
    pub(super) fn unclear(same_boot: bool) -> Self {
        let signals = Vec::new();
        Self::Unclear { same_boot, signals }
    }
}

impl Watched {
    pub(super) fn new(keeper: Keeper, asked: Option<Stamp>) -> Self {
        Self {
            is_witnessed: !matches!(keeper, Keeper::Unclear { .. }),
            keeper,
            line: None,
            started_us: None,
            asked,
        }
    }

    /// Whether it may be whose somebody says that it is.
    pub(super) fn is_of(&self, asked: Option<&Stamp>) -> bool {
        let both = self.asked.as_ref().zip(asked);
        both.is_none_or(|(own, asked)| own.agrees_with(asked))
    }

    pub(super) fn report_started(&mut self, peers: &mut Peers, run: RunId, started_us: u64) {
        if self.started_us.is_none() {
            self.started_us = Some(started_us);
            peers.report(&Report::Started { run, started_us });
        }
    }

    pub(super) fn signal(&mut self, signal: JobSignal) {
        match &mut self.keeper {
            Keeper::Alive(handle, _) => send(handle, signal),
            Keeper::Gone(_) => {}
            Keeper::Unclear { signals, .. } if signals.len() < MAX_SIGNALS => signals.push(signal),
            Keeper::Unclear { .. } => {}
        }
    }

    /// Looks at a run whose keeper has ended, or may have, in a spool of which
    /// it is said whether records without a stamp count for this job. Answers
    /// the last report, or `None` if it is to be looked at again.
    pub(super) fn look(
        &mut self,
        places: (&Spool, bool),
        peers: &mut Peers,
        run: RunId,
    ) -> Option<Report> {
        if let Keeper::Alive(_, child) = self.keeper {
            let status = child.and_then(|child| sys::process::wait_for(child).ok());
            // 0 if it did not exit by itself.
            let code = status.filter(|status| libc::WIFEXITED(*status));
            let code = code.map_or(0, |status| libc::WEXITSTATUS(status));
            // It may have found a record that is not its own.
            self.is_witnessed = code != Errno::EEXIST as i32;
            self.keeper = match self.is_witnessed {
                true => Keeper::Gone(code),
                false => Keeper::unclear(true),
            };
        }
        // Where the record cannot be read, or written, now, it may be later.
        let last = self.find_out(places, peers, run).ok()??;
        if let Report::Ended { outcome, .. } = last
            && self.is_witnessed
        {
            self.report_started(peers, run, outcome.started_us);
        }
        // A run that has started cannot have its record undone.
        let is_undone = matches!(last, Report::NotStarted { .. }) && self.started_us.is_some();
        Some(if is_undone {
            Report::Lost { run }
        } else {
            last
        })
    }

    /// What became of a run whose keeper is not known to live. If there is no
    /// sign of one, the run is kept from starting from here on.
    fn find_out(
        &mut self,
        (spool, trusts_plain): (&Spool, bool),
        peers: &mut Peers,
        run: RunId,
    ) -> io::Result<Option<Report>> {
        let (is_gone, same_boot, errno) = match self.keeper {
            Keeper::Gone(errno) => (true, true, errno),
            Keeper::Unclear { same_boot, .. } => (false, same_boot, 0),
            Keeper::Alive(..) => return Ok(None),
        };
        let lost = Report::Lost { run };
        let not_started = |errno, refusal| Report::NotStarted {
            run,
            errno,
            refusal,
        };
        let standing = match spool.look(run) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(Some(lost)),
            standing => standing?,
        };
        if self.is_others(&standing, trusts_plain) {
            return Ok(Some(not_started(0, Some(Refusal::OtherJob))));
        }
        Ok(Some(match standing {
            // A crash of the machine may have taken the record, or its content.
            Standing::Missing | Standing::Free(_, Record::Empty) if !same_boot => lost,
            Standing::Free(_, Record::Refused(it)) if !same_boot && it.is_passing() => lost,
            Standing::Missing => match spool.rule_out(run, &Record::Revoked) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
                // At best the broker never asks again; at worst it is told again.
                Err(error) if !is_gone => return Err(error),
                Ok(()) | Err(_) => not_started(errno, None),
            },
            // Any record at all keeps the run from being started, unless its
            // keeper is about to.
            Standing::Free(_, Record::Empty) if is_gone => not_started(errno, None),
            Standing::Free(file, Record::Empty) => {
                file.write(&Record::Revoked)?;
                not_started(errno, None)
            }
            Standing::Free(_, Record::Revoked) => not_started(errno, None),
            Standing::Free(_, Record::Refused(refusal)) => not_started(0, Some(refusal)),
            Standing::Free(_, Record::Started(_)) => lost,
            Standing::Free(_, Record::Ended { outcome, .. }) => Report::Ended { run, outcome },
            Standing::Unclear => return Ok(None),
            Standing::Kept(handle, ticket, _) => {
                if let Keeper::Unclear { signals, .. } = &self.keeper {
                    signals.iter().for_each(|signal| send(&handle, *signal));
                }
                self.keeper = Keeper::Alive(handle, None);
                self.is_witnessed = true;
                self.report_started(peers, run, ticket.started_us);
                return Ok(None);
            }
        }))
    }

    /// Whether what there is belongs to another job or user.
    fn is_others(&self, standing: &Standing, trusts_plain: bool) -> bool {
        let stamped = match standing {
            Standing::Free(file, record) => Stamped {
                stamp: file.stamp(),
                record: *record,
            },
            Standing::Kept(_, ticket, stamp) => Stamped {
                stamp: *stamp,
                record: Record::Started(*ticket),
            },
            Standing::Missing | Standing::Unclear => return false,
        };
        !stamped.counts_for(self.asked.as_ref(), trusts_plain)
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
