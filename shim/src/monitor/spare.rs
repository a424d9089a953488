//! Keepers that are made ahead: one waits, so that a run need not wait until
//! there is a keeper for it.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::libc::SIGKILL;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::Pid;

use warrant_wire::Stamp;

use super::Monitor;
use super::watch::{Keeper, Watched};
use crate::keeper::{self, Order, Station};
use crate::line::Line;
use crate::{audit, sys};

/// A keeper that has not begun a run.
pub(super) struct Spare {
    pid: Pid,
    handle: OwnedFd,
    line: Line,
    sheet: File,
    /// Whose run it was given.
    stamp: Option<Stamp>,
}

impl Spare {
    /// What watches it from here on. If it may not `begin`, it records that.
    pub(super) fn release(self, begin: bool) -> Watched {
        // One that is gone has left its record.
        let line = Some(self.line).filter(|line| begin && line.say(0).is_ok());
        Watched {
            line,
            ..Watched::new(Keeper::Alive(self.handle, Some(self.pid)), self.stamp)
        }
    }
}

impl Monitor {
    /// Sees to it that a keeper waits. Where none can be made, that is told
    /// to whoever needs one.
    pub(super) fn provide(&mut self) {
        if self.spare.is_none() {
            self.spare = self.make_spare(true).ok();
        }
    }

    /// A keeper that has been given this run.
    ///
    /// Errors: there is none, and the run was given to none.
    pub(super) fn hire(&mut self, order: Order) -> io::Result<Spare> {
        let mut ready = None;
        if let Some(spare) = self.spare.take() {
            match spare.line.heard() {
                Ok(_) => ready = Some(spare),
                // It may have to wait for whoever knows the accounts.
                Err(Errno::EAGAIN) => self.spare = Some(spare),
                Err(_) => {
                    audit::line("spare-lost", &[]);
                    let _ = sys::process::wait_for(spare.pid);
                }
            }
        }
        let spare = ready.map_or_else(|| self.make_spare(false), Ok)?;
        order.give(&spare.line, &spare.sheet)?;
        let stamp = Some(order.stamp);
        Ok(Spare { stamp, ..spare })
    }

    fn make_spare(&self, looks_ahead: bool) -> io::Result<Spare> {
        let (ours, theirs) = Line::pair()?;
        let sheet = File::from(memfd_create(c"run", MFdFlags::MFD_CLOEXEC)?);
        let pid = sys::process::fork(|| {
            let station = Station {
                policy: self.root.as_ref().map(|root| &root.policy),
                user: self.root.as_ref().map(|root| root.keeper),
                cgroups: self.cgroups.as_ref(),
                spool: &self.spool,
                null: &self.null,
                open_files: self.open_files,
                line: &theirs,
                sheet: &sheet,
            };
            keeper::keep(&station, looks_ahead)
        })?;
        let handle = sys::process::open(pid).inspect_err(|_| {
            // A keeper that cannot be watched must not run.
            let _ = sys::signal::send_child(pid, SIGKILL);
            let _ = sys::process::wait_for(pid);
        })?;
        Ok(Spare {
            pid,
            handle,
            line: ours,
            sheet,
            stamp: None,
        })
    }
}
