//! Making a monitor, in either form.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{self, OFlag};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{dup2_stdin, getpid, setsid};

use super::Monitor;
use super::listener::Listener;
use super::peers::Peers;
use super::root::Root;
use crate::cgroup::Cgroups;
use crate::self_check::{self, about};
use crate::spool::Spool;
use crate::{audit, hardening, sys};

/// Serves the broker on the socket that is standard input until it closes its
/// end.
///
/// Errors: the process cannot be set up; the broker sends what is not a
/// request; the socket or poll(2) fails.
pub fn run(spool: &Path) -> io::Result<()> {
    settle_in()?;
    let broker = broker().map_err(about("the broker's socket"))?;
    let spool = Spool::open(spool).map_err(about("the spool"))?;
    let mut peers = Peers::new(None);
    peers.welcome(broker);
    Monitor::new(spool, peers, &[])?.serve()
}

fn broker() -> io::Result<OwnedFd> {
    let broker = io::stdin().as_fd().try_clone_to_owned()?;
    sys::socket::guard(&broker)?;
    match getsockopt(&broker, sockopt::SockType)? == SockType::Stream {
        true => Ok(broker),
        false => Err(Errno::EPROTOTYPE.into()),
    }
}

/// Makes a monitor that is root and serves brokers until SIGTERM or SIGINT.
/// SIGHUP has it read the keys anew.
///
/// Errors: what [`self_check::check`] doubts; another monitor is there; the
/// process cannot be set up.
pub fn open(policy_file: &Path) -> io::Result<Monitor> {
    let checked = self_check::check(policy_file)?;
    umask(Mode::from_bits_truncate(0o027));
    hardening::keep_secrets()?;
    settle_in()?;
    let policy = &checked.policy;
    let spool = Spool::open(&policy.spool).map_err(about(&policy.spool))?;
    let socket = policy.socket.clone();
    let mut root = Root::open(checked.policy, checked.keys)?;
    root.rule_out_lost_starts(&spool);
    let listener = Listener::open(&socket, checked.broker_uid, checked.broker_gid)?;
    let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
    let peers = Peers::new(Some(listener));
    let mut monitor = Monitor::new(spool, peers, &signals)?;
    monitor.cgroups = Cgroups::find(&root.policy).map_err(about("control groups"))?;
    hardening::monitor(&root.policy)?;
    monitor.root = Some(root);
    audit::line("serving", &[]);
    Ok(monitor)
}

/// The terminal's keys, and whoever ends the broker, are not meant for the
/// runs. Blocking says so to the keepers as well.
fn settle_in() -> io::Result<()> {
    SigSet::all().thread_block()?;
    sys::signal::reset_actions();
    let _ = setsid();
    // Without this file, the processes of a run could not be found.
    let children = format!("/proc/self/task/{}/children", getpid());
    std::fs::metadata(children).map_err(about("/proc"))?;
    Ok(())
}

impl Monitor {
    /// One that obeys these signals.
    fn new(spool: Spool, peers: Peers, signals: &[Signal]) -> io::Result<Self> {
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
            peers,
            root: None,
            cgroups: None,
            signals: SignalFd::with_flags(&signals, flags)?,
            null,
            open_files,
            runs: HashMap::new(),
            spare: None,
        })
    }
}
