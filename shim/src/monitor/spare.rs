//! Keepers that are made ahead: one waits, so that a run need not wait until
//! there is a keeper for it.

use std::io;
use std::os::fd::OwnedFd;

use nix::libc::SIGKILL;
use nix::unistd::Pid;

use super::Monitor;
use super::watch::Keeper;
use crate::keeper::{self, Heard, Line, Order, Station};
use crate::{audit, sys};

/// A keeper that has not begun a run.
pub(super) struct Spare {
    pid: Pid,
    handle: OwnedFd,
    line: Line,
}

impl Spare {
    /// What watches it from here on. If it may not `begin`, it records that.
    pub(super) fn release(self, begin: bool) -> Keeper {
        if begin {
            self.line.begin();
        }
        Keeper::Alive(self.handle, Some(self.pid))
    }
}

impl Monitor {
    /// Sees to it that a keeper waits. Where none can be made, that is told
    /// to whoever needs one.
    pub(super) fn provide(&mut self) {
        if self.spare.is_none() {
            self.spare = self.make_spare(self.looks_ahead).ok();
        }
    }

    /// A keeper that has been given this run.
    ///
    /// Errors: there is none, and the run was given to none.
    pub(super) fn hire(&mut self, order: Order) -> io::Result<Spare> {
        let spare = match self.spare.take().map(|spare| (spare.line.heard(), spare)) {
            Some((Heard::Ready, spare)) => spare,
            Some((Heard::Nothing, spare)) => {
                // It may have to wait for whoever knows the accounts.
                self.spare = Some(spare);
                self.make_spare(false)?
            }
            Some((Heard::Gone, spare)) => {
                audit::line("spare-lost", &[]);
                self.looks_ahead = false;
                let _ = sys::process::wait_for(spare.pid);
                self.make_spare(false)?
            }
            None => self.make_spare(false)?,
        };
        spare.line.give(order)?;
        Ok(spare)
    }

    fn make_spare(&self, looks_ahead: bool) -> io::Result<Spare> {
        let (ours, theirs) = Line::pair()?;
        let pid = sys::process::fork(|| {
            let station = Station {
                policy: self.root.as_ref().map(|root| &root.policy),
                cgroups: self.cgroups.as_ref(),
                spool: &self.spool,
                reports: &self.reports,
                null: &self.null,
                open_files: self.open_files,
                line: &theirs,
            };
            keeper::keep(&station, looks_ahead)
        })?;
        match sys::process::open(pid) {
            Ok(handle) => Ok(Spare {
                pid,
                handle,
                line: ours,
            }),
            Err(error) => {
                // A keeper that cannot be watched must not run.
                let _ = sys::signal::send_child(pid, SIGKILL);
                let _ = sys::process::wait_for(pid);
                Err(error)
            }
        }
    }
}
