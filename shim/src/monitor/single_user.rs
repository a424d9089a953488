//! The monitor that is the broker's own, and whoever the broker is. Nothing
//! here runs where the monitor is root.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::unistd::geteuid;

use super::Monitor;
use super::peers::Peers;
use super::set_up::settle_in;
use super::watch::{Keeper, Watched};
use crate::keeper::Order;
use crate::self_check::about;
use crate::spool::Spool;
use crate::store_file::StoreFile;
use crate::sys;

/// Serves the broker on the socket that is standard input until it closes its
/// end.
///
/// Errors: the process cannot be set up; the broker sends what is not a
/// request; the socket or poll(2) fails.
pub fn run(spool: &Path) -> io::Result<()> {
    // Its path may be relative.
    let spool = open_spool(spool).map_err(about("the spool"))?;
    settle_in()?;
    let broker = broker().map_err(about("the broker's socket"))?;
    let store = StoreFile::open(&spool).map_err(about("the spool"))?;
    let mut peers = Peers::new(None);
    peers.welcome(broker);
    let mut monitor = Monitor::new(spool, store, peers, &[])?;
    if monitor.owners() != [None, None] {
        monitor.peers.serve_named_only();
    }
    monitor.serve()
}

pub(super) fn open_spool(path: &Path) -> io::Result<Spool> {
    let metadata = fs::metadata(path)?;
    if metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "must belong to this user and be writable by nobody else",
        ));
    }
    Spool::open(path)
}

fn broker() -> io::Result<OwnedFd> {
    let broker = io::stdin().as_fd().try_clone_to_owned()?;
    sys::socket::guard(&broker)?;
    match getsockopt(&broker, sockopt::SockType)? == SockType::Stream {
        true => Ok(broker),
        false => Err(Errno::EPROTOTYPE.into()),
    }
}

impl Monitor {
    /// Starts a run without a warrant.
    pub(super) fn launch(&mut self, order: Order) {
        let (run, stamp) = (order.run, order.stamp);
        let keeper = match self.hire(order) {
            Ok(spare) => spare.release(true),
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(Errno::EINVAL as i32);
                Watched::new(Keeper::Gone(errno), Some(stamp))
            }
        };
        self.begin_to_watch(run, keeper);
        self.note_used(run);
    }
}
