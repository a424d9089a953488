//! The wire to the shim's monitor: the only place that starts a process.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use warrant_wire::{Cause, Decoder, Outcome, Refusal, Report, Request, RunId, encode_request};

use crate::engine::Sighting;
use crate::error::{Error, Kind, Result};
use crate::model::{Ending, Exception, JobId, Micros, RunKey, State, Usage};
use crate::vital;

/// Requests that wait for the monitor to read them.
const WAITING: usize = 1024;

/// A handle to the monitor. A monitor that dies is started again.
#[derive(Debug)]
pub(super) struct Monitor {
    requests: mpsc::Sender<Request>,
}

impl Monitor {
    /// Start the monitor and the tasks that talk to it.
    ///
    /// Errors: it cannot be started.
    pub(super) fn start(
        shim: &Path,
        spool: &Path,
        sightings: mpsc::UnboundedSender<Sighting>,
    ) -> Result<Self> {
        let (requests, waiting) = mpsc::channel(WAITING);
        let first = spawn(shim, spool)?;
        let (shim, spool) = (shim.to_owned(), spool.to_owned());
        vital::spawn("monitor", keep(shim, spool, first, waiting, sightings));
        Ok(Self { requests })
    }

    /// Hand a request to the monitor.
    ///
    /// Errors: the monitor is gone for good.
    pub(super) async fn send(&self, request: Request) -> Result<()> {
        let gone = |_| Error::new(Kind::Unavailable, "The local engine is stopping.");
        self.requests.send(request).await.map_err(gone)
    }
}

/// A running monitor and our end of its socket.
struct Running {
    child: Child,
    socket: UnixStream,
}

fn spawn(shim: &Path, spool: &Path) -> Result<Running> {
    start(shim, spool).map_err(|e| {
        Error::caused(
            Kind::Unavailable,
            "The local engine's shim cannot be started.",
            e,
        )
    })
}

#[allow(
    clippy::disallowed_methods,
    reason = "the one place that starts the shim"
)]
fn start(shim: &Path, spool: &Path) -> std::io::Result<Running> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut command = std::process::Command::new(shim);
    command
        .arg("monitor")
        .arg("--spool")
        .arg(spool)
        .arg("--fd")
        .arg("0");
    // The socket is the monitor's standard input: no descriptor to place.
    command
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null());
    command.process_group(0);
    let child = command.spawn()?;
    tracing::debug!(
        shim.pid = child.id(),
        socket = ours.as_raw_fd(),
        "monitor started"
    );
    Ok(Running {
        child,
        socket: UnixStream::from_std(ours)?,
    })
}

async fn keep(
    shim: PathBuf,
    spool: PathBuf,
    first: Running,
    mut waiting: mpsc::Receiver<Request>,
    sightings: mpsc::UnboundedSender<Sighting>,
) {
    let mut next = Some(first);
    loop {
        let running = match next.take() {
            Some(running) => running,
            None => match start(&shim, &spool) {
                Ok(running) => {
                    if sightings.send(Sighting::Reconnected).is_err() {
                        return;
                    }
                    running
                }
                Err(error) => {
                    tracing::error!(%error, "the shim's monitor cannot be started; trying again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            },
        };
        let Running { mut child, socket } = running;
        let (reader, writer) = socket.into_split();
        let open = tokio::select! {
            () = read(reader, &sightings) => true,
            open = write(writer, &mut waiting) => open,
        };
        // Both halves are closed now, which ends the monitor if it still is.
        let status = tokio::task::spawn_blocking(move || child.wait()).await;
        if !open {
            return;
        }
        tracing::error!(?status, "the shim's monitor ended; starting another");
    }
}

/// Write requests as they come. Returns whether more may come: `false` when
/// this engine is no longer wanted.
async fn write(mut writer: OwnedWriteHalf, waiting: &mut mpsc::Receiver<Request>) -> bool {
    while let Some(request) = waiting.recv().await {
        if writer.write_all(&encode_request(&request)).await.is_err() {
            // What was asked is not lost: a run that was not started is found
            // out when the next monitor is asked about it.
            return true;
        }
    }
    false
}

async fn read(mut reader: OwnedReadHalf, sightings: &mpsc::UnboundedSender<Sighting>) {
    let mut decoder = Decoder::new();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(n) => decoder.push(buffer.get(..n).unwrap_or_default()),
        }
        loop {
            match decoder.next_report() {
                Ok(Some(report)) => {
                    if let Some(sighting) = sighting(report)
                        && sightings.send(sighting).is_err()
                    {
                        return;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "the shim's monitor does not speak our language");
                    return;
                }
            }
        }
    }
}

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

fn sighting(report: Report) -> Option<Sighting> {
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
            passing: refusal.map_or_else(|| passing(errno), Refusal::is_passing),
        },
        Report::Admitted { .. } | Report::Refused { .. } => return None,
        Report::Lost { run } => Sighting::Ended {
            run: key(run)?,
            ending: lost(),
        },
    })
}

/// Whether a failure to start may pass by itself: no room, no memory, or no
/// failure at all but a start that came too late.
fn passing(errno: i32) -> bool {
    use nix::errno::Errno;
    let errno_of = Errno::from_raw(errno);
    errno == 0
        || [
            Errno::ENOSPC,
            Errno::EDQUOT,
            Errno::ENOMEM,
            Errno::EAGAIN,
            Errno::EMFILE,
            Errno::ENFILE,
            Errno::EIO,
        ]
        .contains(&errno_of)
}

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
    }
}

/// How a run ended whose keeper was killed, or that a crash of the machine
/// took with it.
fn lost() -> Ending {
    let note = "lost: the process that watched over the job is gone";
    Ending::unseen(State::Failed, "exec", note)
}
