//! Staying with the processes of a run until none is left.
//!
//! On behalf of a user, nothing here runs as root: a keeper that has made the
//! ranks has become a user of its own, which can end processes and has open
//! what it writes to, and nothing else. So it leaves what only root can remove
//! to the monitor.

mod output;
mod pipes;
mod signal;
mod tree;

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signalfd::SignalFd;
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::{Pid, read};
use warrant_wire::launch::MAX_PROCESSES;
use warrant_wire::{Cause, Limits, Outcome, RunId, StartDir};

pub(crate) use self::output::{Files, Output};
pub(crate) use self::pipes::{Pipe, Pipes};
pub(crate) use self::signal::send_if;
use crate::cgroup::JobCgroup;
use crate::runner::{AT_HOME, CANNOT_EXECUTE, FAILED, IN_TMP};
use crate::session::Session;
use crate::sys::process::wait_any;
use crate::{audit, clock, sys};

/// Most bytes that ranks say: two each.
const MOST_SAID: usize = 2 * MAX_PROCESSES as usize;
/// How long a round of killing waits for its effect, at most.
const KILL_PAUSE: Duration = Duration::from_millis(20);
/// How long the end of what a session left is awaited, at most.
const LEFT_TIME: Duration = Duration::from_secs(2);
/// As exact as poll(2) is: what is waited for is over then.
const TICK: Duration = Duration::from_millis(1);

/// The processes of one run.
pub(crate) struct Job<'a> {
    pub(crate) run: RunId,
    pub(crate) limits: Limits,
    pub(crate) cgroup: Option<&'a JobCgroup<'a>>,
    pub(crate) session: Option<Session>,
    /// Where the session's process is, with what PAM's modules left.
    pub(crate) session_cgroup: Option<JobCgroup<'a>>,
    /// Has what ranks said before they became their programs.
    pub(crate) failures: OwnedFd,
    pub(crate) signals: SignalFd,
    pub(crate) ranks: Vec<Rank>,
    pub(crate) pipes: Pipes,
    pub(crate) output: Output<'a>,
    pub(crate) ending: Ending,
}

/// One process of a run that was asked for.
pub(crate) struct Rank {
    pub(crate) pid: Pid,
    /// Set once it has been waited for; its process id means nothing then.
    pub(crate) status: Option<i32>,
}

/// What brings the end.
pub(crate) struct Ending {
    deadline: Option<Instant>,
    /// Why it is ended, if not by itself.
    cause: Option<Cause>,
    /// When what is left is killed, if all have been asked to end.
    kill_at: Option<Instant>,
}

impl Ending {
    /// At its time limit, if it has one that time reaches.
    pub(crate) fn at_limit(limits: &Limits) -> Self {
        let deadline = Instant::now().checked_add(Duration::from_secs(limits.time_limit_s));
        Self {
            deadline: deadline.filter(|_| limits.time_limit_s > 0),
            cause: None,
            kill_at: None,
        }
    }
}

impl Job<'_> {
    /// Stays until no process is left. Answers how it ended, and whether
    /// output was lost because it could not be written.
    pub(crate) fn tend(mut self, started_us: u64) -> (Outcome, bool) {
        while !self.is_over() {
            self.decide();
            if self.is_killing() {
                if let Some(cgroup) = self.cgroup {
                    cgroup.kill();
                }
                // Where there is a control group, this is for what modules of
                // PAM left, if the process of the session is gone.
                tree::kill_round(self.session_pid());
            }
            let ready = self.pipes.wait(&self.signals, self.pause());
            if ready.signals {
                self.obey();
            }
            self.pipes.pump(&ready, &mut self.output);
        }
        self.pipes.drain(&self.signals, &mut self.output);
        self.output.finish();
        let (failed_to_exec, start_dir) = self.heard();
        let ran_out = self.cgroup.is_some_and(JobCgroup::ran_out_of_memory);
        let cause = match self.ending.cause {
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
            output_bytes: self.output.kept(),
            dropped_bytes: self.output.dropped,
            start_dir,
        };
        (outcome, self.output.failed)
    }

    /// What the ranks have said before they became their programs: whether one
    /// did not, and where they began.
    fn heard(&self) -> (bool, StartDir) {
        let mut said = vec![0; MOST_SAID];
        let count = read(&self.failures, &mut said).unwrap_or(0);
        let said = said.get(..count).unwrap_or_default();
        let start_dir = match said {
            said if said.contains(&IN_TMP) => StartDir::Tmp,
            said if said.contains(&AT_HOME) => StartDir::Home,
            _ => StartDir::AsAsked,
        };
        (said.contains(&FAILED), start_dir)
    }

    /// Ends the ranks that were started, since the run cannot be complete.
    pub(crate) fn fail_to_start(&mut self, error: &io::Error) {
        let rank = u16::try_from(self.ranks.len()).unwrap_or(u16::MAX);
        let why = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        let line = format!("warrant: cannot start process {rank}: {}\n", why.desc());
        self.output.note(rank, &line);
        self.ranks.push(Rank {
            pid: Pid::from_raw(0),
            status: Some(CANNOT_EXECUTE << 8),
        });
        self.ending.cause = Some(Cause::StartFailed);
        self.ending.kill_at = Some(Instant::now());
    }

    /// Takes every child that has ended, be it a rank or an orphan, and says
    /// whether no process is left.
    fn is_over(&mut self) -> bool {
        loop {
            match wait_any() {
                Ok(Some((pid, _))) if self.session_pid() == Some(pid) => {
                    // It was killed, and nobody can close what it opened.
                    self.session = None;
                    audit::of_run("session-lost", self.run, &[]);
                }
                Ok(Some((pid, status))) => {
                    let mut running = self.ranks.iter_mut().filter(|rank| rank.status.is_none());
                    if let Some(rank) = running.find(|rank| rank.pid == pid) {
                        rank.status = Some(status);
                    }
                }
                Ok(None) if !self.is_session_alone() => return false,
                Ok(None) | Err(Errno::ECHILD) => {
                    return self.cgroup.is_none_or(JobCgroup::is_empty);
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
            self.ending.kill_at.get_or_insert(now);
        } else if self.ending.deadline.is_some_and(|deadline| deadline <= now) {
            self.ask_to_end(Cause::TimeLimit);
        }
    }

    fn is_killing(&self) -> bool {
        self.ending
            .kill_at
            .is_some_and(|time| time <= Instant::now())
    }

    fn ask_to_end(&mut self, cause: Cause) {
        if self.ending.kill_at.is_some() {
            return;
        }
        self.ending.cause.get_or_insert(cause);
        match self.cgroup {
            Some(cgroup) => cgroup.terminate(),
            None => tree::terminate(self.session_pid()),
        }
        let grace = Duration::from_millis(self.limits.grace_ms.into());
        self.ending.kill_at = Some(Instant::now() + grace);
    }

    /// How long there is nothing to do if nothing happens.
    fn pause(&self) -> Option<Duration> {
        if self.is_killing() {
            return Some(KILL_PAUSE);
        }
        let until = self.ending.kill_at.or(self.ending.deadline)?;
        Some(until.saturating_duration_since(Instant::now()) + TICK)
    }

    /// Does what the monitor's signals ask for.
    fn obey(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let number = info.ssi_signo.cast_signed();
            if number == libc::SIGTERM {
                self.ask_to_end(Cause::Cancelled);
            } else if number == libc::SIGUSR1 && !self.is_killing() {
                self.ending.cause.get_or_insert(Cause::Cancelled);
                self.ending.kill_at = Some(Instant::now());
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
            .unwrap_or(CANNOT_EXECUTE << 8)
    }
}

impl Drop for Job<'_> {
    /// Has the session closed, now that there are no processes, and ends what
    /// modules of PAM have left, should its own process not have done that.
    fn drop(&mut self) {
        let Some(session) = self.session.take() else {
            return;
        };
        session.close();
        let over = Instant::now() + LEFT_TIME;
        while Instant::now() < over {
            let is_over = self.is_over();
            let cgroup = self.session_cgroup.as_ref();
            let left = cgroup.filter(|cgroup| !cgroup.is_empty());
            if is_over && left.is_none() {
                return;
            }
            left.inspect(|cgroup| cgroup.kill());
            tree::kill_round(None);
            std::thread::sleep(TICK);
        }
    }
}
