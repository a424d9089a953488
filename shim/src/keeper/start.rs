//! The start of a run: its session, its ranks, and the end of being root.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{dup, getpid, pipe2};
use warrant_wire::output::Stream;
use warrant_wire::{Refusal, RunFile};

use super::Assignment;
use crate::cgroup::Cgroups;
use crate::hardening;
use crate::runner::{self, Crew, User};
use crate::session::Session;
use crate::tend::{Ending, Files, Job, Output, Pipe, Pipes, Rank};

/// The ranks' at most, in milliseconds, before the keeper goes on.
const HEAD_START_MS: u8 = 2;
/// Descriptors that the ranks must leave free: for the output files, and for
/// finding and ending processes.
const RESERVED_FILES: usize = 8;

/// A job whose processes have not been made.
pub(super) struct Start<'a> {
    assignment: &'a Assignment<'a>,
    user: Option<User<'a>>,
    /// The end that ranks have of the pipe for failures.
    failed: OwnedFd,
    job: Job<'a>,
}

/// The ends of a rank's pipes that it writes to.
pub(crate) struct Ends {
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

impl Ends {
    /// Makes the pipes of a rank. The ends that are read go to `pipes`.
    fn make(rank: u16, pipes: &mut Pipes) -> io::Result<Self> {
        let mut pipe = |stream| {
            let (end, writing) = pipe2(OFlag::O_CLOEXEC)?;
            pipes.open.push(Pipe { end, rank, stream });
            Ok::<_, io::Error>(writing)
        };
        Ok(Self {
            stdout: pipe(Stream::Stdout)?,
            stderr: pipe(Stream::Stderr)?,
        })
    }
}

impl<'a> Start<'a> {
    /// Errors: there are no descriptors for it.
    pub(super) fn new(assignment: &'a Assignment<'a>, user: Option<User<'a>>) -> io::Result<Self> {
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let (failures, failed) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let job = Job {
            run: assignment.order.run,
            limits: assignment.limits,
            cgroup: user.and_then(|user| user.cgroup),
            session: None,
            session_cgroup: None,
            failures,
            signals: SignalFd::with_flags(&SigSet::all(), flags)?,
            ranks: Vec::new(),
            pipes: Pipes::default(),
            output: Output::new(assignment.limits.output_cap_bytes, assignment.station.null),
            ending: Ending::at_limit(&assignment.limits),
        };
        Ok(Self {
            assignment,
            user,
            failed,
            job,
        })
    }

    /// Opens the user's session, which will make the ranks.
    ///
    /// Errors: why the user may not run jobs now.
    pub(super) fn open_session(&mut self) -> Result<(), Refusal> {
        let make = |rank| Ends::make(rank, &mut self.job.pipes);
        let ends: Result<Vec<_>, _> = self.assignment.ranks().map(make).collect();
        let ends = ends.map_err(|_| Refusal::Unprepared)?;
        let make = |cgroups: &'a Cgroups| cgroups.make_for_session(self.job.run);
        let cgroup = self.assignment.station.cgroups.map(make).transpose();
        self.job.session_cgroup = cgroup.map_err(|_| Refusal::Cgroup)?;
        let cgroup = self.job.session_cgroup.as_ref();
        self.job.session = Some(Session::open(&self.crew(), &ends, cgroup)?);
        Ok(())
    }

    /// Starts the ranks, and then stops being root.
    ///
    /// Errors: it cannot. A process that is still root must not go on.
    pub(super) fn begin(mut self) -> io::Result<Job<'a>> {
        let started = self.make_ranks();
        // What follows takes about as long as the ranks need, which somebody
        // waits for, and holds them up.
        let mut ended = [PollFd::new(self.job.signals.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut ended, HEAD_START_MS);
        if started.is_err() || !self.is_silent() {
            match self.make_files() {
                Ok(files) => self.job.output.files = Some(files),
                Err(error) => {
                    let why = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
                    self.job.output.no_files = why;
                }
            }
        }
        let station = self.assignment.station;
        if let Some(user) = station.user {
            let groups = station.cgroups.into_iter().flat_map(Cgroups::dirs);
            hardening::keeper(user, groups.collect())?;
        }
        if let Err(error) = started {
            self.job.fail_to_start(&error);
        }
        Ok(self.job)
    }

    /// Whether there is no output, nor ever will be.
    fn is_silent(&self) -> bool {
        let pipes = self.job.pipes.open.iter();
        let ends = pipes.map(|pipe| PollFd::new(pipe.end.as_fd(), PollFlags::POLLIN));
        let mut ends: Vec<_> = ends.collect();
        let is_known = poll(&mut ends, PollTimeout::ZERO).is_ok();
        is_known
            && ends
                .iter()
                .all(|end| end.revents() == Some(PollFlags::POLLHUP))
    }

    fn make_files(&self) -> io::Result<Files> {
        let Assignment { station, order, .. } = *self.assignment;
        Ok(Files {
            data: station.spool.create_output(order.run, RunFile::Output)?,
            index: station.spool.create_output(order.run, RunFile::Index)?,
        })
    }

    fn make_ranks(&mut self) -> io::Result<()> {
        let ranks = &mut self.job.ranks;
        if let Some(session) = &self.job.session {
            return session.start(self.assignment.limits.processes, |pid| {
                ranks.push(Rank { pid, status: None });
            });
        }
        let null = self.assignment.station.null;
        let reserve: Result<Vec<_>, _> = (0..RESERVED_FILES).map(|_| dup(null)).collect();
        let _reserve = reserve?;
        for rank in self.assignment.ranks() {
            let ends = Ends::make(rank, &mut self.job.pipes)?;
            let pid = runner::start(&self.crew(), rank, &ends)?;
            self.job.ranks.push(Rank { pid, status: None });
        }
        Ok(())
    }

    fn crew(&self) -> Crew<'_> {
        Crew {
            order: self.assignment.order,
            count: self.assignment.limits.processes,
            keeper: getpid(),
            stdin: self.assignment.station.null.as_fd(),
            failed: self.failed.as_fd(),
            open_files: Some(self.assignment.station.open_files),
            user: self.user,
        }
    }
}
