//! The process that the broker talks to: starts keepers, watches them, and
//! reports what became of their runs.
//!
//! One thread, one loop. It never waits for the broker, nor for a keeper, and
//! it ends when the broker's end of the socket is closed; keepers stay.

mod broker;
mod watch;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::SigSet;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socketpair};
use nix::sys::stat::Mode;
use nix::unistd::{dup2_stdin, getpid, setsid};
use warrant_wire::{Decoder, JobSignal, Limits, Placement, Refusal, Report, Request, RunId};

use self::broker::{Broker, Heard};
use self::watch::{Keeper, Watched};
use crate::keeper::{self, Assignment};
use crate::spool::{Spool, Standing};
use crate::sys;

/// How long until a run whose standing was unclear is looked at again.
const LOOK_AGAIN_MS: u8 = 20;
/// More than any message of a keeper has.
const MESSAGE_BYTES: usize = 256;

/// Serves the broker on the socket with this number until it closes its end.
///
/// Errors: the process cannot be set up; the broker sends what is not a
/// request; the socket or poll(2) fails.
pub fn run(spool: &Path, socket: RawFd) -> io::Result<()> {
    let mut monitor = Monitor::set_up(spool, socket)?;
    loop {
        let ready = monitor.wait()?;
        if ready.messages {
            monitor.relay_messages();
        }
        for run in ready.look_at {
            monitor.look_at(run);
        }
        if ready.requests {
            match monitor.broker.hear() {
                Ok(Heard::Something) => monitor.serve()?,
                Ok(Heard::End) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if !monitor.broker.flush()? {
            return Ok(());
        }
    }
}

struct Monitor {
    spool: Spool,
    broker: Broker,
    /// Where messages of keepers arrive, and the end that they inherit.
    messages: OwnedFd,
    reports: OwnedFd,
    null: OwnedFd,
    open_files: (u64, u64),
    runs: HashMap<RunId, Watched>,
}

struct Ready {
    requests: bool,
    messages: bool,
    /// Runs whose keeper has ended, or whose standing was unclear.
    look_at: Vec<RunId>,
}

impl Monitor {
    fn set_up(spool: &Path, socket: RawFd) -> io::Result<Self> {
        // The terminal's keys, and whoever ends the broker, are not meant
        // for the runs. Blocking says so to the keepers as well.
        SigSet::all().thread_block()?;
        sys::signal::reset_actions();
        let _ = setsid();
        check_proc().map_err(|error| about("/proc", error))?;

        let broker = sys::fd::duplicate_inherited(socket)
            .and_then(Broker::on)
            .map_err(|error| about("the broker's socket", error))?;
        let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
        if socket == 0 {
            dup2_stdin(&null)?;
        } else if socket > 2 {
            // Only the copy may be open: the broker waits for the last one.
            sys::fd::close_range(socket, socket)?;
        }
        let (messages, reports) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        let open_files = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, open_files.1, open_files.1)?;
        Ok(Self {
            spool: Spool::open(spool).map_err(|error| about("the spool", error))?,
            broker,
            messages,
            reports,
            null,
            open_files,
            runs: HashMap::new(),
        })
    }

    fn wait(&self) -> io::Result<Ready> {
        let mut fds = vec![
            PollFd::new(self.broker.as_fd(), self.broker.interest()),
            PollFd::new(self.messages.as_fd(), PollFlags::POLLIN),
        ];
        let mut watched = Vec::with_capacity(self.runs.len());
        let mut look_at = Vec::new();
        for (run, watch) in &self.runs {
            match &watch.keeper {
                Keeper::Alive { handle, .. } => {
                    fds.push(PollFd::new(handle.as_fd(), PollFlags::POLLIN));
                    watched.push(*run);
                }
                Keeper::Gone { .. } | Keeper::Unclear { .. } => look_at.push(*run),
            }
        }
        let timeout = if look_at.is_empty() {
            PollTimeout::NONE
        } else {
            PollTimeout::from(LOOK_AGAIN_MS)
        };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }

        let mut happened = fds
            .iter()
            .map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        let requests = happened.next().unwrap_or(PollFlags::empty());
        let messages = happened.next().unwrap_or(PollFlags::empty());
        let ended = watched.iter().zip(happened);
        look_at.extend(ended.filter_map(|(run, events)| (!events.is_empty()).then_some(*run)));
        Ok(Ready {
            requests: requests.intersects(!PollFlags::POLLOUT),
            messages: !messages.is_empty(),
            look_at,
        })
    }

    /// Passes on what keepers say: that they have started.
    fn relay_messages(&mut self) {
        let mut message = [0; MESSAGE_BYTES];
        while let Ok(count) = recv(
            self.messages.as_raw_fd(),
            &mut message,
            MsgFlags::MSG_DONTWAIT,
        ) {
            let mut decoder = Decoder::new();
            decoder.push(message.get(..count).unwrap_or_default());
            if let Ok(Some(Report::Started { run, started_us })) = decoder.next_report()
                && let Some(watch) = self.runs.get_mut(&run)
            {
                watch.report_started(&mut self.broker, run, started_us);
            }
        }
    }

    fn serve(&mut self) -> io::Result<()> {
        while let Some(request) = self.broker.next_request()? {
            match request {
                Request::Launch {
                    run,
                    placement,
                    launch,
                } => self.start(run, &placement, &launch),
                Request::Admit { run, .. } => self.broker.report(&Report::Refused {
                    run,
                    refusal: Refusal::Mode,
                }),
                Request::Start { run, .. } => self.broker.report(&Report::NotStarted {
                    run,
                    errno: 0,
                    refusal: Some(Refusal::Mode),
                }),
                Request::Revoke { .. } => {}
                Request::Signal { run, signal } => self.signal(run, signal),
                Request::Watch { run, same_boot } => self.watch(run, same_boot),
            }
        }
        Ok(())
    }

    /// Forks the keeper of a run. One that is watched has been started.
    fn start(&mut self, run: RunId, placement: &Placement, launch: &[u8]) {
        if self.runs.contains_key(&run) {
            return;
        }
        let keeper = match self.fork_keeper(run, placement, launch) {
            Ok(keeper) => keeper,
            Err(error) => Keeper::Gone {
                errno: error.raw_os_error().unwrap_or(Errno::EINVAL as i32),
            },
        };
        self.runs.insert(run, Watched::new(keeper));
        if let Some(Keeper::Gone { .. }) = self.runs.get(&run).map(|watch| &watch.keeper) {
            self.look_at(run);
        }
    }

    fn fork_keeper(&self, run: RunId, placement: &Placement, launch: &[u8]) -> io::Result<Keeper> {
        let limits = Limits::read(launch).map_err(|_| Errno::EINVAL)?;
        let child = sys::process::fork(|| {
            keeper::keep(&Assignment {
                run,
                limits,
                placement,
                launch,
                on_behalf: None,
                spool: &self.spool,
                reports: &self.reports,
                null: &self.null,
                open_files: self.open_files,
            })
        })?;
        match sys::process::open(child) {
            Ok(handle) => Ok(Keeper::Alive {
                handle,
                child: Some(child),
            }),
            Err(error) => {
                // A keeper that cannot be watched must not run; how far it
                // came is in its record.
                let _ = sys::signal::send_child(child, libc::SIGKILL);
                let _ = sys::process::wait_for(child);
                Err(error)
            }
        }
    }

    fn signal(&mut self, run: RunId, signal: JobSignal) {
        match self.runs.get_mut(&run) {
            Some(watch) => watch.signal(signal),
            None => {
                if let Ok(Standing::Kept(handle, _)) = self.spool.look(run) {
                    watch::send(&handle, signal);
                }
            }
        }
    }

    fn watch(&mut self, run: RunId, same_boot: bool) {
        if let Entry::Vacant(vacant) = self.runs.entry(run) {
            vacant.insert(Watched::new(Keeper::Unclear {
                same_boot,
                signals: Vec::new(),
            }));
            self.look_at(run);
        }
    }

    /// Looks at a run whose keeper has ended, or may have, and reports what
    /// there is to report.
    fn look_at(&mut self, run: RunId) {
        if let Entry::Occupied(mut watched) = self.runs.entry(run)
            && let Some(last) = watched.get_mut().look(&self.spool, &mut self.broker, run)
        {
            watched.remove();
            self.broker.report(&last);
        }
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
