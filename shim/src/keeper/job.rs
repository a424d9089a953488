//! The processes of a run, from the first fork until none is left.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::{Pid, dup, getpid, pipe2, read};
use warrant_wire::{Cause, Outcome, Refusal};

use super::Assignment;
use super::output::Output;
use super::pipes::{Ends, Pipes};
use super::tree;
use crate::cgroup::{Cgroups, JobCgroup};
use crate::runner::{self, Crew, User};
use crate::session::Session;
use crate::sys::process::wait_any;
use crate::{audit, clock, hardening, sys};

/// How long a round of killing waits for its effect, at most.
const KILL_PAUSE: Duration = Duration::from_millis(20);
/// The ranks' at most, before the keeper goes on.
const HEAD_START: Duration = Duration::from_millis(2);
/// As exact as poll(2) is: what is waited for is over then.
const TICK: Duration = Duration::from_millis(1);
/// Descriptors that the ranks must leave free: for the output files, and for
/// finding and ending processes.
const RESERVED_FILES: usize = 8;

/// The processes of one run.
pub(super) struct Job<'a> {
    assignment: &'a Assignment<'a>,
    user: Option<User<'a>>,
    session: Option<Session>,
    /// Holds a byte for each rank that did not become its program: the end
    /// that is read, and the one that ranks have.
    failures: (OwnedFd, OwnedFd),
    signals: SignalFd,
    deadline: Option<Instant>,
    ranks: Vec<Rank>,
    pipes: Pipes,
    output: Output<'a>,
    /// Why it is ended, if not by itself.
    cause: Option<Cause>,
    /// When what is left is killed, if all have been asked to end.
    kill_at: Option<Instant>,
}

struct Rank {
    pid: Pid,
    /// Set once it has been waited for; its process id means nothing then.
    status: Option<i32>,
}

impl<'a> Job<'a> {
    /// A job without processes, yet.
    ///
    /// Errors: there are no descriptors for it.
    pub(super) fn new(assignment: &'a Assignment<'a>, user: Option<User<'a>>) -> io::Result<Self> {
        let limits = &assignment.limits;
        // No limit, also if it is further away than time reaches.
        let deadline = Instant::now().checked_add(Duration::from_secs(limits.time_limit_s));
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self {
            assignment,
            user,
            session: None,
            failures: pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?,
            signals: SignalFd::with_flags(&SigSet::all(), flags)?,
            deadline: deadline.filter(|_| limits.time_limit_s > 0),
            ranks: Vec::new(),
            pipes: Pipes::default(),
            output: Output::new(assignment),
            cause: None,
            kill_at: None,
        })
    }

    /// Opens the user's session, which will make the ranks.
    ///
    /// Errors: why the user may not run jobs now.
    pub(super) fn open_session(&mut self) -> Result<(), Refusal> {
        let ends: Result<Vec<Ends>, _> = self.numbers().map(|rank| self.pipes.make(rank)).collect();
        let ends = ends.map_err(|_| Refusal::Unprepared)?;
        self.session = Some(Session::open(&self.crew(), &ends)?);
        Ok(())
    }

    /// Starts the ranks and stays until no process is left. Answers how it
    /// ended, and whether output was lost because it could not be written.
    pub(super) fn run(mut self, started_us: u64) -> (Outcome, bool) {
        if let Err(error) = self.start() {
            self.fail_to_start(&error);
        }
        while !self.is_over() {
            self.decide();
            if self.is_killing() {
                match self.cgroup() {
                    Some(cgroup) => cgroup.kill(),
                    None => tree::kill_round(self.session_pid()),
                }
            }
            let ready = self.pipes.wait(&self.signals, self.pause());
            if ready.signals {
                self.obey();
            }
            self.pipes.pump(&ready, &mut self.output);
        }
        self.pipes.drain(&self.signals, &mut self.output);
        let failed_to_exec = read(&self.failures.0, &mut [0]).is_ok();
        let ran_out = self.cgroup().is_some_and(JobCgroup::ran_out_of_memory);
        let cause = match self.cause {
            Some(cause) => cause,
            None if failed_to_exec => Cause::StartFailed,
            None if ran_out => Cause::OutOfMemory,
            None => Cause::Exited,
        };
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok();
        let micros = |time: TimeVal| u64::try_from(time.num_microseconds()).unwrap_or(0);
        let bytes = |kib: i64| u64::try_from(kib).unwrap_or(0).saturating_mul(1024);
        let outcome = Outcome {
            started_us,
            ended_us: clock::now_us().max(started_us),
            wait_status: self.worst_status(),
            cause,
            user_us: usage.map_or(0, |usage| micros(usage.user_time())),
            system_us: usage.map_or(0, |usage| micros(usage.system_time())),
            max_rss_bytes: usage.map_or(0, |usage| bytes(usage.max_rss())),
            output_bytes: self.output.stored,
            dropped_bytes: self.output.dropped,
        };
        (outcome, self.output.failed)
    }

    fn cgroup(&self) -> Option<&'a JobCgroup<'a>> {
        self.user.and_then(|user| user.cgroup)
    }

    fn numbers(&self) -> impl Iterator<Item = u16> + use<> {
        // Ranks are few enough for the index; the launch was checked.
        let count = u16::try_from(self.assignment.limits.processes).unwrap_or(u16::MAX);
        0..count
    }

    fn crew(&self) -> Crew<'_> {
        Crew {
            order: self.assignment.order,
            count: self.assignment.limits.processes,
            keeper: getpid(),
            stdin: self.assignment.station.null.as_fd(),
            failed: self.failures.1.as_fd(),
            open_files: Some(self.assignment.station.open_files),
            user: self.user,
        }
    }

    /// Starts the ranks, after which this process gives up all that it does
    /// not need any more.
    fn start(&mut self) -> io::Result<()> {
        if let Some(session) = &self.session {
            session.start(self.assignment.limits.processes, |pid| {
                self.ranks.push(Rank { pid, status: None });
            })?;
        } else {
            let null = self.assignment.station.null;
            let reserve: Result<Vec<_>, _> = (0..RESERVED_FILES).map(|_| dup(null)).collect();
            let _reserve = reserve?;
            for rank in self.numbers() {
                let ends = self.pipes.make(rank)?;
                let pid = runner::start(&self.crew(), rank, &ends)?;
                self.ranks.push(Rank { pid, status: None });
            }
        }
        if self.user.is_none() {
            return Ok(());
        }
        // To give up what is not needed takes about as long as the ranks
        // need, which somebody waits for, and holds them up.
        self.pipes.wait(&self.signals, Some(HEAD_START));
        let cgroups = self.assignment.station.cgroups.into_iter();
        let spool = self.assignment.station.spool.dir().as_fd();
        hardening::keeper(std::iter::once(spool).chain(cgroups.flat_map(Cgroups::dirs)))
    }

    /// Ends the ranks that were started, since the run cannot be complete.
    fn fail_to_start(&mut self, error: &io::Error) {
        let rank = self.numbers().nth(self.ranks.len()).unwrap_or(0);
        let why = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        let line = format!("warrant: cannot start process {rank}: {}\n", why.desc());
        self.output.note(rank, &line);
        self.ranks.push(Rank {
            pid: Pid::from_raw(0),
            status: Some(runner::CANNOT_EXECUTE << 8),
        });
        self.cause = Some(Cause::StartFailed);
        self.kill_at = Some(Instant::now());
    }

    /// Takes every child that has ended, be it a rank or an orphan, and says
    /// whether no process is left.
    fn is_over(&mut self) -> bool {
        loop {
            match wait_any() {
                Ok(Some((pid, _))) if self.session_pid() == Some(pid) => {
                    // It was killed, and nobody can close what it opened.
                    self.session = None;
                    audit::of_run("session-lost", self.assignment.order.run, &[]);
                }
                Ok(Some((pid, status))) => {
                    let mut running = self.ranks.iter_mut().filter(|rank| rank.status.is_none());
                    if let Some(rank) = running.find(|rank| rank.pid == pid) {
                        rank.status = Some(status);
                    }
                }
                Ok(None) if !self.is_session_alone() => return false,
                Ok(None) | Err(Errno::ECHILD) => {
                    return self.cgroup().is_none_or(JobCgroup::is_empty);
                }
                Err(_) => return false,
            }
        }
    }

    fn session_pid(&self) -> Option<Pid> {
        self.session.as_ref().map(|session| session.pid)
    }

    fn have_ranks_ended(&self) -> bool {
        self.ranks.iter().all(|rank| rank.status.is_some())
    }

    /// Whether the session's process is the only child.
    fn is_session_alone(&self) -> bool {
        self.session_pid()
            .is_some_and(|pid| self.have_ranks_ended() && tree::children() == [pid.as_raw()])
    }

    /// Moves the ending along, as far as the time and the ranks tell.
    fn decide(&mut self) {
        let now = Instant::now();
        if self.have_ranks_ended() {
            // The run is over; whatever it left behind goes with it, unless
            // it has been given time.
            self.kill_at.get_or_insert(now);
        } else if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.ask_to_end(Cause::TimeLimit);
        }
    }

    fn is_killing(&self) -> bool {
        self.kill_at.is_some_and(|time| time <= Instant::now())
    }

    fn ask_to_end(&mut self, cause: Cause) {
        if self.kill_at.is_some() {
            return;
        }
        self.cause.get_or_insert(cause);
        match self.cgroup() {
            Some(cgroup) => cgroup.terminate(),
            None => tree::terminate(self.session_pid()),
        }
        let grace = Duration::from_millis(self.assignment.limits.grace_ms.into());
        self.kill_at = Some(Instant::now() + grace);
    }

    /// How long there is nothing to do if nothing happens.
    fn pause(&self) -> Option<Duration> {
        if self.is_killing() {
            return Some(KILL_PAUSE);
        }
        let until = self.kill_at.or(self.deadline)?;
        Some(until.saturating_duration_since(Instant::now()) + TICK)
    }

    /// Does what the monitor's signals ask for.
    fn obey(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let number = info.ssi_signo.cast_signed();
            if number == libc::SIGTERM {
                self.ask_to_end(Cause::Cancelled);
            } else if number == libc::SIGUSR1 && !self.is_killing() {
                self.cause.get_or_insert(Cause::Cancelled);
                self.kill_at = Some(Instant::now());
            } else if number == sys::signal::deliver() {
                self.deliver(info.ssi_int);
            }
        }
    }

    /// Signals the process groups of the ranks that have not ended.
    fn deliver(&self, number: i32) {
        for rank in self.ranks.iter().filter(|rank| rank.status.is_none()) {
            // A rank that is about to make its group has none yet.
            if sys::signal::send_group(rank.pid, number).is_err() {
                let _ = sys::signal::send_child(rank.pid, number);
            }
        }
    }

    /// The status of the rank that ended worst. One that was never waited
    /// for, which cannot be, counts as killed.
    fn worst_status(&self) -> i32 {
        self.ranks
            .iter()
            .map(|rank| rank.status.unwrap_or(libc::SIGKILL))
            .max_by_key(|status| match libc::WIFSIGNALED(*status) {
                true => (1, libc::WTERMSIG(*status)),
                false => (0, libc::WEXITSTATUS(*status)),
            })
            .unwrap_or(runner::CANNOT_EXECUTE << 8)
    }
}

impl Drop for Job<'_> {
    /// Takes back what was made for the processes, now that there are none.
    fn drop(&mut self) {
        if self.cgroup().is_some_and(|cgroup| !cgroup.end()) {
            audit::of_run("cgroup-left", self.assignment.order.run, &[]);
        }
        if let Some(session) = self.session.take() {
            session.close();
        }
    }
}
