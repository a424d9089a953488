//! Making a monitor, in either form.

use std::collections::HashMap;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;

use nix::fcntl::{self, OFlag};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{dup2_stdin, getpid, setsid};

use super::Monitor;
use super::listener::Listener;
use super::peers::Peers;
use super::root::Root;
use crate::cgroup::Cgroups;
use crate::self_check::{self, Checked, Doubt};
use crate::spool::Spool;
use crate::{audit, hardening, sys};

/// Serves the broker on the socket with this number until it closes its end.
///
/// Errors: the process cannot be set up; the broker sends what is not a
/// request; the socket or poll(2) fails.
pub fn run(spool: &Path, socket: RawFd) -> io::Result<()> {
    settle_in()?;
    let broker = sys::fd::duplicate_inherited(socket)
        .and_then(Peers::one)
        .map_err(|error| about("the broker's socket", error))?;
    let null = null()?;
    if socket == 0 {
        dup2_stdin(&null)?;
    } else if socket > 2 {
        // Only the copy may be open: the broker waits for the last one.
        sys::fd::close_range(socket, socket)?;
    }
    let spool = Spool::open(spool).map_err(|error| about("the spool", error))?;
    Monitor::new(spool, broker, null)?.serve()
}

/// Makes a monitor that is root and serves brokers until SIGTERM or SIGINT.
/// SIGHUP has it read the keys anew.
///
/// Errors: what [`self_check::check`] doubts; another monitor is there; the
/// process cannot be set up.
pub fn open(policy_file: &Path) -> Result<Monitor, Doubt> {
    let process = |error: io::Error| Doubt::new("this process", error.to_string());
    let Checked {
        policy,
        keys,
        broker_uid,
        broker_gid,
        inherits_socket,
    } = self_check::check(policy_file)?;
    umask(Mode::from_bits_truncate(0o027));
    hardening::keep_secrets().map_err(process)?;
    settle_in().map_err(process)?;
    let spool =
        Spool::open_shared(&policy.spool).map_err(|error| Doubt::about(&policy.spool, error))?;
    let socket = policy.socket.clone();
    let mut root = Root::open(policy, keys)?;
    root.rule_out_lost_starts(&spool);
    let listener = if inherits_socket {
        let fd = sys::fd::duplicate_inherited(3).map_err(process)?;
        sys::fd::close_range(3, 3).map_err(process)?;
        Listener::inherited(fd, broker_uid)?
    } else {
        Listener::make(&socket, broker_uid, broker_gid)?
    };
    let null = null().map_err(process)?;
    let mut monitor = Monitor::new(spool, Peers::on(listener), null).map_err(process)?;
    let signals = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];
    monitor.signals = Some(signal_fd(&signals).map_err(process)?);
    monitor.cgroups = Cgroups::find(&root.policy)
        .map_err(|error| Doubt::new("control groups", error.to_string()))?;
    hardening::monitor(&root.policy).map_err(process)?;
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
    check_proc().map_err(|error| about("/proc", error))
}

fn null() -> io::Result<OwnedFd> {
    Ok(fcntl::open(
        "/dev/null",
        OFlag::O_RDWR | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?)
}

fn signal_fd(numbers: &[i32]) -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    for number in numbers {
        set.add(Signal::try_from(*number)?);
    }
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(&set, flags)?)
}

impl Monitor {
    fn new(spool: Spool, peers: Peers, null: OwnedFd) -> io::Result<Self> {
        let (messages, reports) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        let open_files = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, open_files.1, open_files.1)?;
        Ok(Self {
            spool,
            peers,
            root: None,
            cgroups: None,
            signals: None,
            messages,
            reports,
            null,
            open_files,
            runs: HashMap::new(),
        })
    }
}

/// Without this file, the processes of a run could not be found.
fn check_proc() -> io::Result<()> {
    let pid = getpid();
    std::fs::metadata(format!("/proc/self/task/{pid}/children"))?;
    Ok(())
}

/// Says what an error is about.
fn about(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
