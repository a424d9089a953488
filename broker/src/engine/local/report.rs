//! Reports of the monitor in the words of the job model.

use warrant_wire::{Cause, Outcome, Report, RunId, StartDir};

use crate::engine::{Hope, Sighting};
use crate::model::{Ending, Exception, JobId, Micros, RunKey, State, Usage};

fn key(run: RunId) -> Option<RunKey> {
    let job = JobId::new(i64::try_from(run.job).ok()?)?;
    Some(RunKey {
        job,
        position: run.task,
        attempt: run.attempt,
    })
}

fn micros(us: u64) -> Micros {
    Micros::new(i64::try_from(us).unwrap_or(i64::MAX))
}

/// What a report of the monitor says of a run; `None` for what is no news of
/// a run, and for runs that no job can have.
pub(super) fn sighting(report: Report) -> Option<Sighting> {
    Some(match report {
        Report::Started { run, started_us } => Sighting::Started {
            run: key(run)?,
            at: micros(started_us),
        },
        Report::Ended { run, outcome } => Sighting::Ended {
            run: key(run)?,
            ending: ending(&outcome),
        },
        Report::NotStarted {
            run,
            errno,
            refusal,
        } => Sighting::NotStarted {
            run: key(run)?,
            why: refusal.map_or_else(
                || nix::errno::Errno::from_raw(errno).desc().to_owned(),
                |refusal| refusal.text().to_owned(),
            ),
            hope: match refusal {
                None => hope(errno),
                Some(refusal) if refusal.is_passing() => Hope::Later,
                Some(_) => Hope::None,
            },
        },
        Report::Admitted { .. }
        | Report::Refused { .. }
        | Report::Pong { .. }
        | Report::Store { .. } => return None,
        Report::Lost { run } => Sighting::Ended {
            run: key(run)?,
            ending: lost(),
        },
    })
}

/// Whether a failure to start may pass by itself: no room, no memory, or no
/// failure at all but a start that came too late.
fn hope(errno: i32) -> Hope {
    use nix::errno::Errno;
    let errno_of = Errno::from_raw(errno);
    let passes = errno == 0
        || [
            Errno::ENOSPC,
            Errno::EDQUOT,
            Errno::ENOMEM,
            Errno::EAGAIN,
            Errno::EMFILE,
            Errno::ENFILE,
            Errno::EIO,
        ]
        .contains(&errno_of);
    if passes { Hope::Later } else { Hope::Unclear }
}

/// The status of wait(2) of a process whose directory or output file cannot be
/// used. Source: [`Cause::StartFailed`].
const CANNOT_ENTER: i32 = 125 << 8;

fn ending(outcome: &Outcome) -> Ending {
    let note = |kind: &str, note: &str| {
        Some(Exception {
            kind: kind.into(),
            severity: 0,
            note: note.into(),
        })
    };
    let (state, exception) = match outcome.cause {
        Cause::Exited if outcome.wait_status == 0 => (State::Completed, None),
        Cause::Exited => (State::Failed, None),
        Cause::Cancelled => (State::Cancelled, note("cancel", "")),
        Cause::TimeLimit => (
            State::TimedOut,
            note("timeout", "resource allocation expired"),
        ),
        Cause::StartFailed if outcome.wait_status == CANNOT_ENTER => (
            State::Failed,
            note(
                "exec",
                "the job's processes could not be started: workdir, output.stdout.path or \
                 output.stderr.path cannot be used",
            ),
        ),
        Cause::StartFailed => (
            State::Failed,
            note("exec", "the job's processes could not be started"),
        ),
        Cause::OutOfMemory => (
            State::Failed,
            note("memory", "the job reached its memory limit"),
        ),
    };
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Ending {
        state,
        started: Some(micros(outcome.started_us)),
        ended: micros(outcome.ended_us),
        wait_status: Some(outcome.wait_status),
        exception,
        usage: Usage {
            user_us: number(outcome.user_us),
            system_us: number(outcome.system_us),
            max_rss_bytes: number(outcome.max_rss_bytes),
            output_bytes: number(outcome.output_bytes),
            dropped_bytes: number(outcome.dropped_bytes),
        },
        remark: remark(outcome.start_dir),
    }
}

/// What there is to say of where a run began.
const fn remark(start_dir: StartDir) -> Option<&'static str> {
    match start_dir {
        StartDir::AsAsked => None,
        StartDir::Home => {
            Some("started in the home directory: the default directory cannot be used")
        }
        StartDir::Tmp => Some("started in /tmp: the home directory cannot be used"),
    }
}

/// How a run ended whose keeper was killed, or that a crash of the machine
/// took with it.
fn lost() -> Ending {
    let note = "lost: the process that watched over the job is gone";
    Ending::unseen(State::Failed, "exec", note)
}
