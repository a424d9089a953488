//! The processes of a run, from the first fork until none is left.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeVal;
use nix::unistd::{Pid, dup, getpid, pipe2, read};
use warrant_wire::{Cause, Outcome, Refusal};

use super::Assignment;
use super::output::Output;
use super::pipes::{Ends, Pipes};
use super::tree;
use crate::cgroup::{Cgroups, JobCgroup};
use crate::runner::{self, Crew, Rank, User};
use crate::session::Session;
use crate::sys::process::{Waited, wait_any};
use crate::{audit, clock, hardening, sys};

/// How long a round of killing waits for its effect, at most.
const KILL_PAUSE: Duration = Duration::from_millis(20);
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
    failures: Result<(OwnedFd, OwnedFd), Errno>,
    grace: Duration,
    deadline: Option<Instant>,
    ranks: Vec<Started>,
    pipes: Pipes,
    output: Output<'a>,
    /// Why it is ended, if not by itself.
    cause: Option<Cause>,
    ending: Ending,
}

struct Started {
    pid: Pid,
    /// Set once it has been waited for; its process id means nothing then.
    status: Option<i32>,
}

impl Started {
    fn new(pid: Pid) -> Self {
        Self { pid, status: None }
    }
}

/// How far the ending of a run has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    No,
    /// All have been asked to end; what is left at this time is killed.
    Asked(Instant),
    Killing,
}

impl<'a> Job<'a> {
    /// A job without processes, yet.
    pub(super) fn new(assignment: &'a Assignment<'a>, user: Option<User<'a>>) -> Self {
        let limits = &assignment.limits;
        Self {
            assignment,
            user,
            session: None,
            failures: pipe2(OFlag::O_CLOEXEC),
            grace: Duration::from_millis(limits.grace_ms.into()),
            deadline: deadline(limits.time_limit_s),
            ranks: Vec::new(),
            pipes: Pipes::default(),
            output: Output::new(
                assignment.spool,
                assignment.run,
                limits.output_cap_bytes,
                assignment.null.as_fd(),
            ),
            cause: None,
            ending: Ending::No,
        }
    }

    /// Opens the user's session, which will make the ranks.
    ///
    /// Errors: why the user may not run jobs now.
    pub(super) fn open_session(&mut self) -> Result<(), Refusal> {
        let ends: Vec<Ends> = self
            .numbers()
            .map(|rank| self.pipes.make(rank))
            .collect::<Result<_, _>>()
            .map_err(|_| Refusal::Unprepared)?;
        let (_, failed) = self.failures.as_ref().map_err(|_| Refusal::Unprepared)?;
        self.session = Some(Session::open(&self.crew(failed), &ends)?);
        Ok(())
    }

    /// Starts the ranks and stays until no process is left. Answers how it
    /// ended, and whether output was lost because it could not be written.
    pub(super) fn run(&mut self, started_us: u64) -> (Outcome, bool) {
        let failed_to_exec = self.live();
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok();
        let ran_out = self
            .user
            .and_then(|user| user.cgroup)
            .is_some_and(JobCgroup::ran_out_of_memory);
        let cause = match self.cause {
            Some(cause) => cause,
            None if failed_to_exec => Cause::StartFailed,
            None if ran_out => Cause::OutOfMemory,
            None => Cause::Exited,
        };
        self.clear_up();
        let outcome = Outcome {
            started_us,
            ended_us: clock::now_us().max(started_us),
            wait_status: self.worst_status(),
            cause,
            user_us: micros(usage.as_ref().map(Usage::user_time)),
            system_us: micros(usage.as_ref().map(Usage::system_time)),
            max_rss_bytes: usage
                .and_then(|usage| u64::try_from(usage.max_rss()).ok())
                .map_or(0, |kib| kib.saturating_mul(1024)),
            output_bytes: self.output.stored_bytes(),
            dropped_bytes: self.output.dropped_bytes(),
        };
        (outcome, self.output.has_failed())
    }

    /// Takes back what was made for the processes, now that there are none.
    pub(super) fn clear_up(&mut self) {
        if let Some(cgroup) = self.user.and_then(|user| user.cgroup)
            && !cgroup.remove()
        {
            self.tell("cgroup-left", "");
        }
        if let Some(session) = self.session.take() {
            session.close();
        }
    }

    fn tell(&self, event: &str, what: &str) {
        let run = self.assignment.run.to_string();
        audit::line(event, &[("run", &run), ("reason", what)]);
    }

    fn numbers(&self) -> impl Iterator<Item = u16> + use<> {
        // Ranks are few enough for the index; the launch was checked.
        let count = u16::try_from(self.assignment.limits.processes).unwrap_or(u16::MAX);
        0..count
    }

    fn crew<'b>(&'b self, failed: &'b OwnedFd) -> Crew<'b> {
        Crew {
            run: self.assignment.run,
            count: self.assignment.limits.processes,
            keeper: getpid(),
            placement: self.assignment.placement,
            launch: self.assignment.launch,
            stdin: self.assignment.null.as_fd(),
            failed: failed.as_fd(),
            open_files: Some(self.assignment.open_files),
            user: self.user,
        }
    }

    /// Answers whether a rank did not become its program.
    fn live(&mut self) -> bool {
        let Ok(signals) = SignalFd::with_flags(
            &SigSet::all(),
            SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
        ) else {
            self.fail_to_start(0, Errno::last());
            return true;
        };
        let exec_failures = self.start();
        loop {
            if self.reap() == Children::None {
                break;
            }
            self.decide();
            if self.ending == Ending::Killing {
                if let Some(cgroup) = self.user.and_then(|user| user.cgroup) {
                    cgroup.kill();
                }
                tree::kill_round(self.session_pid());
            }
            let ready = self.pipes.wait(Some(&signals), self.pause());
            if ready.signals {
                self.obey(&signals);
            }
            self.pipes.pump(&ready, &mut self.output);
        }
        self.pipes.drain(&mut self.output);
        exec_failures.is_some_and(|end| read(end, &mut [0]).is_ok_and(|count| count > 0))
    }

    /// Starts the ranks, after which this process gives up all that it does
    /// not need any more. Answers the pipe that holds a byte for each rank
    /// that did not become its program.
    fn start(&mut self) -> Option<OwnedFd> {
        let failures = std::mem::replace(&mut self.failures, Err(Errno::EBADF));
        let (failures, result) = match failures {
            Ok((failures, failed)) => (Some(failures), self.start_ranks(&failed)),
            Err(errno) => (None, Err((0, errno))),
        };
        let result = result.and_then(|()| self.confine().map_err(|error| (0, errno_of(&error))));
        if let Err((rank, errno)) = result {
            self.fail_to_start(rank, errno);
        }
        failures
    }

    fn start_ranks(&mut self, failed: &OwnedFd) -> Result<(), (u16, Errno)> {
        if let Some(session) = &self.session {
            let (started, errno) = session.start();
            let next = u16::try_from(started.len()).unwrap_or(u16::MAX);
            self.ranks.extend(started.into_iter().map(Started::new));
            return errno.map_or(Ok(()), |errno| Err((next, errno)));
        }
        let null = self.assignment.null;
        let reserve: Result<Vec<_>, _> = (0..RESERVED_FILES).map(|_| dup(null)).collect();
        let _reserve = reserve.map_err(|errno| (0, errno))?;
        for rank in self.numbers() {
            let started = self.pipes.make(rank).and_then(|ends| {
                let rank = Rank::new(rank, &ends);
                runner::start(&self.crew(failed), &rank, false)
            });
            let pid = started.map_err(|error| (rank, errno_of(&error)))?;
            self.ranks.push(Started::new(pid));
        }
        Ok(())
    }

    fn confine(&self) -> io::Result<()> {
        if self.user.is_none() {
            return Ok(());
        }
        let cgroups = self.assignment.cgroups.into_iter();
        let spool = self.assignment.spool.dir().as_fd();
        hardening::keeper(std::iter::once(spool).chain(cgroups.flat_map(Cgroups::dirs)))
    }

    /// Ends the ranks that were started, since the run cannot be complete.
    fn fail_to_start(&mut self, rank: u16, errno: Errno) {
        let line = format!("warrant: cannot start process {rank}: {}\n", errno.desc());
        self.output.note(rank, &line);
        self.ranks.push(Started {
            pid: Pid::from_raw(0),
            status: Some(runner::CANNOT_EXECUTE << 8),
        });
        self.cause = Some(Cause::StartFailed);
        self.ending = Ending::Killing;
    }

    /// Takes every child that has ended, be it a rank or an orphan.
    fn reap(&mut self) -> Children {
        loop {
            match wait_any() {
                Ok(Waited::Ended(pid, _)) if self.session_pid() == Some(pid) => {
                    // It was killed, and nobody can close what it opened.
                    self.session = None;
                    self.tell("session-lost", "");
                }
                Ok(Waited::Ended(pid, status)) => {
                    let rank = self
                        .ranks
                        .iter_mut()
                        .find(|rank| rank.pid == pid && rank.status.is_none());
                    if let Some(rank) = rank {
                        rank.status = Some(status);
                    }
                }
                Ok(Waited::NoChildren) if self.is_cgroup_empty() => return Children::None,
                Ok(Waited::NoneEnded) if self.is_session_alone() && self.is_cgroup_empty() => {
                    return Children::None;
                }
                Ok(Waited::NoChildren | Waited::NoneEnded) | Err(_) => return Children::Some,
            }
        }
    }

    fn session_pid(&self) -> Option<Pid> {
        self.session.as_ref().map(|session| session.pid)
    }

    /// Whether the session's process is the only child.
    fn is_session_alone(&self) -> bool {
        let has_ended = |rank: &Started| rank.status.is_some();
        self.session_pid().is_some_and(|pid| {
            self.ranks.iter().all(has_ended) && tree::children() == [pid.as_raw()]
        })
    }

    fn is_cgroup_empty(&self) -> bool {
        let cgroup = self.user.and_then(|user| user.cgroup);
        cgroup.is_none_or(JobCgroup::is_empty)
    }

    /// Moves the ending along, as far as the time and the ranks tell.
    fn decide(&mut self) {
        let now = Instant::now();
        match self.ending {
            Ending::No if self.ranks.iter().all(|rank| rank.status.is_some()) => {
                // The run is over; whatever it left behind goes with it.
                self.ending = Ending::Killing;
            }
            Ending::No if self.deadline.is_some_and(|deadline| deadline <= now) => {
                self.ask_to_end(Cause::TimeLimit);
            }
            Ending::Asked(kill_at) if kill_at <= now => self.ending = Ending::Killing,
            Ending::No | Ending::Asked(_) | Ending::Killing => {}
        }
    }

    fn ask_to_end(&mut self, cause: Cause) {
        if self.ending != Ending::No {
            return;
        }
        self.cause.get_or_insert(cause);
        match self.user.and_then(|user| user.cgroup) {
            Some(cgroup) => cgroup.terminate(),
            None => tree::terminate(self.session_pid()),
        }
        self.ending = match Instant::now().checked_add(self.grace) {
            Some(kill_at) => Ending::Asked(kill_at),
            None => Ending::Killing,
        };
    }

    /// How long there is nothing to do if nothing happens.
    fn pause(&self) -> Option<Duration> {
        let until = match self.ending {
            Ending::No => self.deadline?,
            Ending::Asked(kill_at) => kill_at,
            Ending::Killing => return Some(KILL_PAUSE),
        };
        Some(until.saturating_duration_since(Instant::now()))
    }

    /// Does what the monitor's signals ask for.
    fn obey(&mut self, signals: &SignalFd) {
        while let Ok(Some(info)) = signals.read_signal() {
            let number = info.ssi_signo.cast_signed();
            if number == libc::SIGTERM {
                self.ask_to_end(Cause::Cancelled);
            } else if number == libc::SIGUSR1 && self.ending != Ending::Killing {
                self.cause.get_or_insert(Cause::Cancelled);
                self.ending = Ending::Killing;
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

/// Whether there are children left.
#[derive(PartialEq, Eq)]
enum Children {
    Some,
    None,
}

/// `None`, for no limit, also if the limit is further away than time reaches.
fn deadline(time_limit_s: u64) -> Option<Instant> {
    match time_limit_s {
        0 => None,
        seconds => Instant::now().checked_add(Duration::from_secs(seconds)),
    }
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

fn micros(time: Option<TimeVal>) -> u64 {
    time.and_then(|time| {
        let seconds = u64::try_from(time.tv_sec()).ok()?;
        let micros = u64::try_from(time.tv_usec()).ok()?;
        seconds.checked_mul(1_000_000)?.checked_add(micros)
    })
    .unwrap_or(0)
}
