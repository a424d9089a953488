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
use warrant_wire::output::Stream;
use warrant_wire::{Cause, Outcome};

use super::Assignment;
use super::output::Output;
use super::pipes::Pipes;
use super::tree;
use crate::runner::{self, Rank};
use crate::sys::process::{Waited, fork, wait_any};
use crate::{clock, sys};

/// How long a round of killing waits for its effect, at most.
const KILL_PAUSE: Duration = Duration::from_millis(20);
/// Descriptors that the ranks must leave free: for the output files, and for
/// finding and ending processes.
const RESERVED_FILES: usize = 8;

/// Starts a run's processes and stays until none is left. Answers how it
/// ended, and whether output was lost because it could not be written.
pub(super) fn run(assignment: &Assignment<'_>, started_us: u64) -> (Outcome, bool) {
    let mut job = Job {
        grace: Duration::from_millis(assignment.limits.grace_ms.into()),
        deadline: deadline(assignment.limits.time_limit_s),
        ranks: Vec::new(),
        pipes: Pipes::new(),
        output: Output::new(
            assignment.spool,
            assignment.run,
            assignment.limits.output_cap_bytes,
        ),
        cause: None,
        ending: Ending::No,
    };
    let failed_to_exec = job.live(assignment);
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok();
    let cause = match job.cause {
        Some(cause) => cause,
        None if failed_to_exec => Cause::StartFailed,
        None => Cause::Exited,
    };
    let outcome = Outcome {
        started_us,
        ended_us: clock::now_us().max(started_us),
        wait_status: job.worst_status(),
        cause,
        user_us: micros(usage.as_ref().map(Usage::user_time)),
        system_us: micros(usage.as_ref().map(Usage::system_time)),
        max_rss_bytes: usage
            .and_then(|usage| u64::try_from(usage.max_rss()).ok())
            .map_or(0, |kib| kib.saturating_mul(1024)),
        output_bytes: job.output.stored_bytes(),
        dropped_bytes: job.output.dropped_bytes(),
    };
    (outcome, job.output.has_failed())
}

struct Job<'a> {
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

/// How far the ending of a run has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    No,
    /// All have been asked to end; what is left at this time is killed.
    Asked(Instant),
    Killing,
}

impl Job<'_> {
    /// Answers whether a rank did not become its program.
    fn live(&mut self, assignment: &Assignment<'_>) -> bool {
        let Ok(signals) = SignalFd::with_flags(
            &SigSet::all(),
            SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
        ) else {
            self.fail_to_start(0, Errno::last());
            return true;
        };
        let exec_failures = self.start(assignment);
        loop {
            if self.reap() == Children::None {
                break;
            }
            self.decide();
            if self.ending == Ending::Killing {
                tree::kill_round();
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

    /// Starts the ranks. Answers the pipe that holds a byte for each one that
    /// did not become its program.
    fn start(&mut self, assignment: &Assignment<'_>) -> Option<OwnedFd> {
        let (failures, failed) = match pipe2(OFlag::O_CLOEXEC) {
            Ok(ends) => ends,
            Err(errno) => {
                self.fail_to_start(0, errno);
                return None;
            }
        };
        let reserve: Result<Vec<_>, _> =
            (0..RESERVED_FILES).map(|_| dup(assignment.null)).collect();
        let failure = match &reserve {
            Err(errno) => Some((0, *errno)),
            // Ranks are few enough for the index; the launch was checked.
            Ok(_) => (0..assignment.limits.processes)
                .map(|rank| u16::try_from(rank).unwrap_or(u16::MAX))
                .find_map(|rank| {
                    let error = self.start_rank(assignment, rank, &failed).err()?;
                    let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
                    Some((rank, errno))
                }),
        };
        drop(reserve);
        if let Some((rank, errno)) = failure {
            self.fail_to_start(rank, errno);
        }
        Some(failures)
    }

    fn start_rank(
        &mut self,
        assignment: &Assignment<'_>,
        rank: u16,
        failed: &OwnedFd,
    ) -> io::Result<()> {
        let (stdout, stdout_end) = pipe2(OFlag::O_CLOEXEC)?;
        let (stderr, stderr_end) = pipe2(OFlag::O_CLOEXEC)?;
        let keeper = getpid();
        let pid = fork(|| {
            runner::become_program(&Rank {
                run: assignment.run,
                number: rank,
                count: assignment.limits.processes,
                keeper,
                placement: assignment.placement,
                launch: assignment.launch,
                stdin: assignment.null.as_fd(),
                stdout: stdout_end.as_fd(),
                stderr: stderr_end.as_fd(),
                failed: failed.as_fd(),
                open_files: assignment.open_files,
            })
        })?;
        self.ranks.push(Started { pid, status: None });
        self.pipes.add(stdout, rank, Stream::Stdout);
        self.pipes.add(stderr, rank, Stream::Stderr);
        Ok(())
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
                Ok(Waited::Ended(pid, status)) => {
                    let rank = self
                        .ranks
                        .iter_mut()
                        .find(|rank| rank.pid == pid && rank.status.is_none());
                    if let Some(rank) = rank {
                        rank.status = Some(status);
                    }
                }
                Ok(Waited::NoChildren) => return Children::None,
                Ok(Waited::NoneEnded) | Err(_) => return Children::Some,
            }
        }
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
        tree::terminate();
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

fn micros(time: Option<TimeVal>) -> u64 {
    time.and_then(|time| {
        let seconds = u64::try_from(time.tv_sec()).ok()?;
        let micros = u64::try_from(time.tv_usec()).ok()?;
        seconds.checked_mul(1_000_000)?.checked_add(micros)
    })
    .unwrap_or(0)
}
