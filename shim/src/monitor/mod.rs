//! The process that the broker talks to: starts keepers, watches them, and
//! reports what became of their runs.
//!
//! One thread, one loop. It never waits for the broker, nor for a keeper.
//! Keepers outlive it. It comes in two forms: [`run`] is the broker's own, is
//! whoever the broker is, and ends with the broker's end of the socket;
//! [`open`] makes one that is root, takes connections of the broker, and starts nothing
//! without a warrant.

mod admission;
mod connection;
mod listener;
mod peers;
mod root;
mod set_up;
mod watch;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::{MsgFlags, recv};
use warrant_wire::{Decoder, JobSignal, Limits, Placement, Refusal, Report, Request, RunId};

use self::peers::{PeerId, Peers};
use self::root::Root;
pub use self::set_up::{open, run};
use self::watch::{Keeper, Watched};
use crate::cgroup::Cgroups;
use crate::identity::OnBehalf;
use crate::keeper::{self, Assignment};
use crate::spool::{Spool, Standing};
use crate::sys;

/// How long until a run whose standing was unclear is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// More than any message of a keeper has.
const MESSAGE_BYTES: usize = 256;

/// A monitor that is set up, by [`run`] or [`open`].
pub struct Monitor {
    spool: Spool,
    peers: Peers,
    /// What it knows as root.
    root: Option<Root>,
    /// Where jobs are tracked that run on behalf of users.
    cgroups: Option<Cgroups>,
    /// Where signals arrive that mean the monitor itself.
    signals: Option<SignalFd>,
    /// Where messages of keepers arrive, and the end that they inherit.
    messages: OwnedFd,
    reports: OwnedFd,
    null: OwnedFd,
    open_files: (u64, u64),
    runs: HashMap<RunId, Watched>,
}

#[derive(Default)]
struct Ready {
    signals: bool,
    connections: bool,
    messages: bool,
    /// Who has sent something.
    requests: Vec<PeerId>,
    /// Runs whose keeper has ended, or whose standing was unclear.
    look_at: Vec<RunId>,
}

/// What one of the descriptors stands for that are waited for.
#[derive(Clone, Copy)]
enum Waited {
    Signals,
    Messages,
    Listener,
    Peer(PeerId),
    Run(RunId),
}

impl Monitor {
    /// Serves until it is told to end. What is asked for is answered once the
    /// journal is written.
    ///
    /// Errors: poll(2) fails; a broker that is the only one has failed, or
    /// sent what is not a request.
    pub fn serve(&mut self) -> io::Result<()> {
        loop {
            let ready = self.wait()?;
            if ready.signals && self.obey() == Wish::End {
                return Ok(());
            }
            if ready.messages {
                self.relay_messages();
            }
            for run in ready.look_at {
                self.look_at(run);
            }
            if ready.connections {
                self.peers.accept();
            }
            for id in ready.requests {
                if self.peers.hear(id)? {
                    self.serve_one(id)?;
                }
            }
            self.commit();
            if !self.peers.flush()? {
                return Ok(());
            }
        }
    }

    fn wait(&self) -> io::Result<Ready> {
        let mut ready = Ready::default();
        let mut fds = vec![PollFd::new(self.messages.as_fd(), PollFlags::POLLIN)];
        let mut waited = vec![Waited::Messages];
        if let Some(signals) = &self.signals {
            fds.push(PollFd::new(signals.as_fd(), PollFlags::POLLIN));
            waited.push(Waited::Signals);
        }
        if let Some(listener) = self.peers.listener() {
            fds.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
            waited.push(Waited::Listener);
        }
        for (id, peer) in self.peers.connections() {
            fds.push(PollFd::new(peer.as_fd(), peer.interest()));
            waited.push(Waited::Peer(id));
        }
        for (run, watch) in &self.runs {
            match &watch.keeper {
                Keeper::Alive { handle, .. } => {
                    fds.push(PollFd::new(handle.as_fd(), PollFlags::POLLIN));
                    waited.push(Waited::Run(*run));
                }
                Keeper::Gone { .. } | Keeper::Unclear { .. } => ready.look_at.push(*run),
            }
        }
        let again = (!ready.look_at.is_empty()).then_some(LOOK_AGAIN);
        let pause = match [again, self.peers.patience()].into_iter().flatten().min() {
            Some(pause) => PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        match poll(&mut fds, pause) {
            Ok(_) | Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
        for (fd, waited) in fds.iter().zip(waited) {
            let events = fd.revents().unwrap_or(PollFlags::empty());
            if events.is_empty() {
                continue;
            }
            match waited {
                Waited::Signals => ready.signals = true,
                Waited::Messages => ready.messages = true,
                Waited::Listener => ready.connections = true,
                Waited::Peer(id) if events.intersects(!PollFlags::POLLOUT) => {
                    ready.requests.push(id);
                }
                Waited::Peer(_) => {}
                Waited::Run(run) => ready.look_at.push(run),
            }
        }
        Ok(ready)
    }

    /// Does what signals to the monitor itself ask for.
    fn obey(&mut self) -> Wish {
        let mut wish = Wish::GoOn;
        while let Some(Ok(Some(info))) = self.signals.as_ref().map(SignalFd::read_signal) {
            match (&mut self.root, info.ssi_signo.cast_signed()) {
                (Some(root), libc::SIGHUP) => root.reload_keys(),
                _ => wish = Wish::End,
            }
        }
        wish
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
                watch.report_started(&mut self.peers, run, started_us);
                if let Some(root) = &mut self.root {
                    root.journal.begun(run);
                }
            }
        }
    }

    /// Does what one asks for.
    fn serve_one(&mut self, id: PeerId) -> io::Result<()> {
        while let Some(request) = self.peers.next_request(id)? {
            match request {
                Request::Launch {
                    run,
                    placement,
                    launch,
                } => self.launch(run, &placement, &launch),
                Request::Admit {
                    run,
                    warrant,
                    launch,
                } => self.admit(id, run, &warrant, &launch),
                Request::Start { run, placement } => self.start(id, run, placement),
                Request::Revoke { run } => self.revoke(run),
                Request::Signal { run, signal } => self.signal(run, signal),
                Request::Watch { run, same_boot } => self.watch(id, run, same_boot),
            }
        }
        Ok(())
    }

    /// Starts a run without a warrant, which only a monitor does that is not
    /// root. One that is watched has been started.
    fn launch(&mut self, run: RunId, placement: &Placement, launch: &[u8]) {
        if self.runs.contains_key(&run) {
            return;
        }
        if self.root.is_some() {
            return self.not_started(run, Refusal::Mode);
        }
        let keeper = Limits::read(launch)
            .map_err(|_| Errno::EINVAL.into())
            .and_then(|limits| self.fork_keeper(run, limits, placement, launch, None))
            .unwrap_or_else(|error| gone(&error));
        self.begin_to_watch(run, keeper);
    }

    fn begin_to_watch(&mut self, run: RunId, keeper: Keeper) {
        let is_gone = matches!(keeper, Keeper::Gone { .. });
        self.runs.insert(run, Watched::new(keeper));
        if is_gone {
            self.look_at(run);
        }
    }

    /// Errors: there is no keeper, and never was.
    fn fork_keeper(
        &self,
        run: RunId,
        limits: Limits,
        placement: &Placement,
        launch: &[u8],
        on_behalf: Option<OnBehalf<'_>>,
    ) -> io::Result<Keeper> {
        let child = sys::process::fork(|| {
            keeper::keep(&Assignment {
                run,
                limits,
                placement,
                launch,
                on_behalf,
                cgroups: self.cgroups.as_ref(),
                spool: &self.spool,
                reports: &self.reports,
                null: &self.null,
                open_files: self.open_files,
            })
        })?;
        Ok(match sys::process::open(child) {
            Ok(handle) => Keeper::Alive {
                handle,
                child: Some(child),
            },
            Err(error) => {
                // A keeper that cannot be watched must not run; how far it
                // came is in its record.
                let _ = sys::signal::send_child(child, libc::SIGKILL);
                let _ = sys::process::wait_for(child);
                gone(&error)
            }
        })
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

    fn watch(&mut self, id: PeerId, run: RunId, same_boot: bool) {
        match self.runs.entry(run) {
            Entry::Vacant(vacant) => {
                vacant.insert(Watched::new(Keeper::Unclear {
                    same_boot,
                    signals: Vec::new(),
                }));
                self.look_at(run);
            }
            // Who asks may have come after it started.
            Entry::Occupied(watched) if self.root.is_some() => {
                if let Some(started_us) = watched.get().started_us() {
                    self.peers.answer(id, &Report::Started { run, started_us });
                }
            }
            Entry::Occupied(_) => {}
        }
    }

    /// Looks at a run whose keeper has ended, or may have, and reports what
    /// there is to report.
    fn look_at(&mut self, run: RunId) {
        if let Entry::Occupied(mut watched) = self.runs.entry(run)
            && let Some(last) = watched.get_mut().look(&self.spool, &mut self.peers, run)
        {
            let watched = watched.remove();
            self.peers.report(&last);
            if self.root.is_some() {
                self.conclude(&last, watched.is_witnessed());
            }
        }
    }
}

/// Whether the monitor is to go on.
#[derive(PartialEq, Eq)]
enum Wish {
    GoOn,
    End,
}

/// A keeper that is no more, because of this error.
fn gone(error: &io::Error) -> Keeper {
    Keeper::Gone {
        errno: error.raw_os_error().unwrap_or(Errno::EINVAL as i32),
    }
}
