//! The process that the broker talks to: starts keepers, watches them, and
//! reports what became of their runs.
//!
//! One thread, one loop. It never waits for the broker, nor for a keeper.
//! Keepers outlive it. It comes in two forms: [`run`] is the broker's own, is
//! whoever the broker is, and ends with the broker's end of the socket;
//! [`open`] makes one that is root, takes connections of the broker, and starts nothing
//! without a warrant.

mod listener;
mod peers;
mod root;
mod set_up;
mod single_user;
mod spare;
mod store;
mod watch;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use nix::unistd::geteuid;
use warrant_wire::record::{Record, Stamped};
use warrant_wire::{JobSignal, Refusal, Report, Request, RunId, Stamp};

use self::peers::{PeerId, Peers};
use self::root::Root;
pub use self::set_up::open;
pub use self::single_user::run;
use self::spare::Spare;
pub use self::store::{release, release_spool};
use self::watch::{Keeper, Watched};
use crate::cgroup::Cgroups;
use crate::keeper::Order;
use crate::line::Line;
use crate::service_manager::ServiceManager;
use crate::spool::{Spool, Standing};
use crate::store_file::StoreFile;
use crate::warrant::sha256;

/// How long until a run whose standing was unclear is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A monitor that is set up, by [`run`] or [`open`].
pub struct Monitor {
    spool: Spool,
    /// Whose the spool is.
    store: StoreFile,
    peers: Peers,
    /// What it knows as root.
    root: Option<Root>,
    /// Where jobs are tracked that run on behalf of users.
    cgroups: Option<Cgroups>,
    /// Where signals arrive that mean the monitor itself.
    signals: SignalFd,
    null: OwnedFd,
    open_files: (u64, u64),
    runs: HashMap<RunId, Box<Watched>>,
    /// The keeper of the next run.
    spare: Option<Spare>,
    /// What ends this process when its loop does not come round any more.
    manager: Option<ServiceManager>,
}

/// What there is to do.
#[derive(Clone, Copy)]
enum Task {
    Obey,
    Hear(RunId),
    LookAt(RunId),
    Accept,
    Serve(PeerId),
}

impl Monitor {
    /// Serves until it is told to end. What is asked for is answered once the
    /// journal is written.
    ///
    /// Errors: poll(2) fails; a broker that is the only one has failed, or
    /// sent what is not a request.
    pub fn serve(&mut self) -> io::Result<()> {
        loop {
            self.provide();
            for task in self.wait()? {
                match task {
                    Task::Obey => {
                        if self.is_to_end() {
                            return Ok(());
                        }
                    }
                    Task::Hear(run) => self.hear(run),
                    Task::LookAt(run) => self.look_at(run),
                    Task::Accept => self.peers.accept(),
                    Task::Serve(id) => self.serve_one(id),
                }
            }
            self.commit();
            if !self.peers.flush()? {
                return Ok(());
            }
            if let Some(manager) = &mut self.manager {
                manager.is_alive();
            }
        }
    }

    /// Waits until there is something to do.
    fn wait(&self) -> io::Result<Vec<Task>> {
        let (mut fds, mut tasks, mut unclear) = (Vec::new(), Vec::new(), Vec::new());
        let mut wait = |fd, task| {
            fds.push(PollFd::new(fd, PollFlags::POLLIN));
            tasks.push(task);
        };
        wait(self.signals.as_fd(), Task::Obey);
        for (run, watch) in &self.runs {
            if let Some(line) = &watch.line {
                wait(line.as_fd(), Task::Hear(*run));
            }
            match &watch.keeper {
                Keeper::Alive(handle, _) => wait(handle.as_fd(), Task::LookAt(*run)),
                Keeper::Gone(_) | Keeper::Unclear { .. } => unclear.push(Task::LookAt(*run)),
            }
        }
        if let Some(listener) = &self.peers.listener {
            wait(listener.socket.as_fd(), Task::Accept);
        }
        for (id, fd) in self.peers.poll_fds() {
            fds.push(fd);
            tasks.push(Task::Serve(id));
        }
        let again = (!unclear.is_empty()).then_some(LOOK_AGAIN);
        let due = self.manager.as_ref().and_then(ServiceManager::due_in);
        let pause = again.into_iter().chain(self.peers.patience()).chain(due);
        let pause = pause.min();
        let pause = pause.map_or(PollTimeout::NONE, |pause| {
            PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, pause) {
            Ok(_) | Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
        // Who can only take something again is served by every turn.
        let is_due = |fd: &PollFd<'_>| {
            fd.revents()
                .is_some_and(|it| it.intersects(!PollFlags::POLLOUT))
        };
        let due = fds.iter().zip(tasks).filter(|(fd, _)| is_due(fd));
        Ok(due.map(|(_, task)| task).chain(unclear).collect())
    }

    /// Does what signals to the monitor itself ask for. Answers whether one
    /// asks it to end.
    fn is_to_end(&mut self) -> bool {
        let mut is_to_end = false;
        while let Ok(Some(info)) = self.signals.read_signal() {
            match (&mut self.root, info.ssi_signo.cast_signed()) {
                (Some(root), libc::SIGHUP) => root.reload_keys(),
                _ => is_to_end = true,
            }
        }
        is_to_end
    }

    /// Passes on what a keeper says: that its run has started.
    fn hear(&mut self, run: RunId) {
        let Some(watched) = self.runs.get_mut(&run) else {
            return;
        };
        match watched.line.as_ref().map(Line::heard) {
            // It was ready for a run, which it has got by now.
            Some(Ok(0) | Err(Errno::EAGAIN)) => return,
            Some(Ok(started_us)) => {
                watched.report_started(&mut self.peers, run, started_us.cast_unsigned());
                if let Some(root) = &mut self.root {
                    root.journal.begun(run);
                }
            }
            Some(Err(_)) | None => {}
        }
        watched.line = None;
    }

    /// Does what one asks for.
    fn serve_one(&mut self, id: PeerId) {
        self.peers.hear(id);
        while let Some(request) = self.peers.next_request(id) {
            self.settle(request.run());
            let (stamp, request) = if let Request::Of { stamp, request } = request {
                (Some(stamp), *request)
            } else {
                (None, request)
            };
            match self.may_serve(id, &request) {
                Ok(()) => self.obey(id, request, stamp),
                Err(refusal) => self.decline(id, &request, refusal),
            }
        }
    }

    /// Does one thing. With `stamp`, only if that is whose the run is.
    fn obey(&mut self, id: PeerId, request: Request, stamp: Option<Stamp>) {
        let run = request.run();
        match request {
            Request::Store { store, adopt } => self.name_store(id, store, adopt),
            // One that is watched has been started.
            Request::Launch { .. } if self.runs.contains_key(&run) => {}
            Request::Launch { .. } if self.root.is_some() => {
                self.not_started(run, Refusal::Mode);
            }
            Request::Launch {
                placement, launch, ..
            } => {
                let own = || Stamp {
                    uid: geteuid().as_raw(),
                    job_sha256: sha256(&launch),
                };
                self.launch(Order {
                    run,
                    placement,
                    stamp: stamp.unwrap_or_else(own),
                    launch,
                    identity: None,
                });
            }
            Request::Admit {
                warrant, launch, ..
            } => self.admit(id, run, &warrant, &launch),
            Request::Start { placement, .. } => self.start(id, run, placement, stamp),
            Request::Revoke { .. } => self.revoke(run, stamp),
            Request::Signal { signal, .. } => self.signal(run, signal, stamp),
            Request::Watch { same_boot, .. } => self.watch(id, run, same_boot, stamp),
            Request::Ping { .. } => self.peers.answer(id, &Report::Pong { run }),
            // No reader takes one within another.
            Request::Of { .. } => {}
        }
    }

    fn begin_to_watch(&mut self, run: RunId, watched: Watched) {
        let is_alive = matches!(watched.keeper, Keeper::Alive(..));
        self.runs.insert(run, Box::new(watched));
        if !is_alive {
            self.look_at(run);
        }
    }

    fn signal(&mut self, run: RunId, signal: JobSignal, stamp: Option<Stamp>) {
        let Ok(asked) = self.whose(run, stamp) else {
            return;
        };
        match self.runs.get_mut(&run) {
            Some(watched) if watched.is_of(asked.as_ref()) => watched.signal(signal),
            Some(_) => {}
            None => {
                if let Ok(Standing::Kept(handle, ticket, stamp)) = self.spool.look(run) {
                    let record = Record::Started(ticket);
                    let plain = self.store.trusts_plain(run.job);
                    if (Stamped { stamp, record }).counts_for(asked.as_ref(), plain) {
                        watch::send(&handle, signal);
                    }
                }
            }
        }
    }

    fn watch(&mut self, id: PeerId, run: RunId, same_boot: bool, stamp: Option<Stamp>) {
        let asked = match self.whose(run, stamp) {
            Ok(asked) => asked,
            Err(refusal) => return self.not_started(run, refusal),
        };
        if let Some(report) = self.never_began(run, same_boot) {
            return self.peers.report(&report);
        }
        match self.runs.get(&run) {
            None => {
                let watched = Watched::new(Keeper::unclear(same_boot), asked);
                self.begin_to_watch(run, watched);
            }
            Some(watched) if !watched.is_of(asked.as_ref()) => {
                self.not_started(run, Refusal::OtherJob);
            }
            // Who asks may have come after it started.
            Some(watched) if self.root.is_some() => {
                if let Some(started_us) = watched.started_us {
                    self.peers.answer(id, &Report::Started { run, started_us });
                }
            }
            Some(_) => {}
        }
    }

    /// Looks at a run whose keeper has ended, or may have, and reports what
    /// there is to report.
    fn look_at(&mut self, run: RunId) {
        let places = (&self.spool, self.store.trusts_plain(run.job));
        if let Entry::Occupied(mut watched) = self.runs.entry(run)
            && let Some(last) = watched.get_mut().look(places, &mut self.peers, run)
        {
            let is_witnessed = watched.remove().is_witnessed;
            if self.root.is_some() {
                self.conclude(&last, is_witnessed);
            }
            self.peers.report(&last);
        }
    }
}
