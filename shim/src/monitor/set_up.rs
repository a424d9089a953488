//! Making a monitor.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use nix::fcntl::{self, OFlag};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, dup2_stdin, getpid, setsid};

use super::Monitor;
use super::listener::Listener;
use super::peers::Peers;
use super::root::Root;
use crate::cgroup::Cgroups;
use crate::self_check::{self, about};
use crate::service_manager::{self, ServiceManager};
use crate::spool::Spool;
use crate::store_file::StoreFile;
use crate::{audit, hardening, sys};

/// Makes a monitor that is root and serves brokers until SIGTERM or SIGINT.
/// SIGHUP has it read the keys anew. Where there is a service `manager`, that is
/// its socket and the longest silence that it allows, in microseconds.
///
/// Errors: what [`self_check::check`] doubts; another monitor is there; the
/// process cannot be set up; the service manager does not listen.
pub fn open(policy_file: &Path, manager: Option<(&str, Option<&str>)>) -> io::Result<Monitor> {
    let more = service_manager::taken_from_environment()?;
    let checked = self_check::check(policy_file, &more)?;
    // What is made says for itself what it is less than that.
    umask(Mode::from_bits_truncate(0o022));
    hardening::keep_secrets()?;
    settle_in()?;
    let policy = &checked.policy;
    let spool = Spool::open(&policy.spool).map_err(about(&policy.spool))?;
    let store = StoreFile::open(&spool).map_err(about(&policy.spool))?;
    let socket = policy.socket.clone();
    let (broker_uid, broker_gid) = checked.broker;
    let mut root = Root::open(checked)?;
    root.rule_out_lost_starts(&spool);
    let listener = Listener::open(&socket, broker_uid, broker_gid)?;
    let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
    let peers = Peers::new(Some(listener));
    let mut monitor = Monitor::new(spool, store, peers, &signals)?;
    let connect = |(socket, limit_us)| ServiceManager::connect(socket, limit_us);
    monitor.manager = manager.map(connect).transpose()?;
    monitor.cgroups = Cgroups::find(&root.policy).map_err(about("control groups"))?;
    hardening::monitor(&root.policy)?;
    monitor.root = Some(root);
    if monitor.owners() != [None, None] {
        monitor.peers.serve_named_only();
    }
    audit::line("serving", &[]);
    if let Some(manager) = &monitor.manager {
        manager.ready()?;
    }
    Ok(monitor)
}

/// The terminal's keys, and whoever ends the broker, are not meant for the
/// runs. Blocking says so to the keepers as well.
pub(super) fn settle_in() -> io::Result<()> {
    SigSet::all().thread_block()?;
    sys::signal::reset_actions();
    let _ = setsid();
    // Nor is the directory that it was started in.
    chdir("/")?;
    // Without this file, the processes of a run could not be found.
    let children = format!("/proc/self/task/{}/children", getpid());
    std::fs::metadata(children).map_err(about("/proc"))?;
    Ok(())
}

impl Monitor {
    /// One that obeys these signals.
    pub(super) fn new(
        spool: Spool,
        store: StoreFile,
        peers: Peers,
        signals: &[Signal],
    ) -> io::Result<Self> {
        let signals = signals.iter().copied().collect();
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let null = fcntl::open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
        // A socket that was there has been copied, and nobody is to wait for
        // a second one to be closed.
        dup2_stdin(&null)?;
        let open_files = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, open_files.1, open_files.1)?;
        Ok(Self {
            spool,
            store,
            peers,
            root: None,
            cgroups: None,
            signals: SignalFd::with_flags(&signals, flags)?,
            null,
            open_files,
            runs: HashMap::new(),
            spare: None,
            manager: None,
        })
    }
}
