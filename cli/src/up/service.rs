//! A service that `warrant up` runs as its child.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, PipeReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::failure::Failure;
use crate::signals::Signals;
use crate::terminal::{Filter, complain};
use crate::up::environment::Environment;
use crate::up::restarts::Restarts;
use crate::up::tether;

/// How many of a service's last lines are kept, to show why it failed.
const LINES_KEPT: usize = 8;

/// Longest line kept or passed on in one piece, in bytes.
const MAX_LINE_BYTES: u64 = 8 << 10;

/// How long a service may take to stop before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// What to start.
pub(crate) struct Start {
    /// What its lines begin with.
    pub(crate) name: &'static str,
    /// The program.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<OsString>,
    /// Its environment.
    pub(crate) environment: Environment,
    /// The account it runs as; `None` for ours.
    pub(crate) account: Option<&'static str>,
}

impl Start {
    /// The process to be, tethered to this one: in a process group of its own,
    /// so that Ctrl-C in the terminal reaches `warrant up` alone, which stops
    /// its services in order; reading nothing; with no descriptor but the
    /// standard ones.
    ///
    /// Errors: this program cannot be found.
    pub(crate) fn command(&self) -> io::Result<Command> {
        let words: Vec<&OsStr> = self.arguments.iter().map(OsString::as_os_str).collect();
        let arguments = tether::arguments(std::process::id(), self.account, &self.program, &words);
        #[allow(
            clippy::disallowed_methods,
            reason = "`warrant up` starts the services"
        )]
        let mut command = Command::new(std::env::current_exe()?);
        self.environment.give_to(&mut command);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .process_group(0);
        Ok(command)
    }
}

/// A running service. Dropping it kills it: a panic or an early return leaves
/// nothing behind.
pub(crate) struct Service {
    start: Start,
    loud: bool,
    restarts: Restarts,
    child: Child,
    lines: Arc<Mutex<VecDeque<String>>>,
    lines_end: Receiver<()>,
}

impl Service {
    /// Start it. Its lines are passed on to standard error if `loud`.
    pub(crate) fn start(start: Start, loud: bool) -> Result<Self, Failure> {
        let (child, lines, lines_end) = spawn(&start, loud)?;
        Ok(Self {
            start,
            loud,
            restarts: Restarts::default(),
            child,
            lines,
            lines_end,
        })
    }

    /// Start it once more, after it ended with `status`, and say so; `false`
    /// when a request to stop came first.
    ///
    /// Errors: `Refused`, with the last lines of the service, where it keeps
    /// ending soon after each start.
    pub(crate) fn restart(
        &mut self,
        status: ExitStatus,
        signals: &Signals,
    ) -> Result<bool, Failure> {
        let Some(delay) = self.restarts.next(Instant::now()) else {
            return Err(self.failure(status));
        };
        complain(&format!(
            "{} ended unexpectedly ({status}); restarting it in {} s",
            self.start.name,
            delay.as_secs_f32()
        ));
        let due = Instant::now() + delay;
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            if signals.wait(Some(left))? {
                return Ok(false);
            }
        }
        (self.child, self.lines, self.lines_end) = spawn(&self.start, self.loud)?;
        self.restarts.started = Instant::now();
        Ok(true)
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, Failure> {
        self.child
            .try_wait()
            .map_err(|error| Failure::Refused(format!("cannot watch {}: {error}", self.start.name)))
    }

    /// Ask it to stop and wait until it has; kill it when it takes too long,
    /// or when somebody asks a second time.
    pub(crate) fn stop(&mut self, signals: &Signals) -> Result<(), Failure> {
        self.signal(Signal::SIGTERM);
        let deadline = Instant::now() + STOP_PATIENCE;
        while self.ended()?.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || signals.wait(Some(left))? {
                self.kill();
                return Ok(());
            }
        }
        Ok(())
    }

    /// How it failed, with the last that it said.
    pub(crate) fn failure(&self, status: ExitStatus) -> Failure {
        // What it wrote last is on its way through the pipe, unless a process
        // of its own holds the other end.
        let _ = self.lines_end.recv_timeout(Duration::from_secs(1));
        self.failure_so_far(&format!("ended unexpectedly ({status})"))
    }

    /// The last that it said, under a heading.
    pub(crate) fn failure_so_far(&self, what: &str) -> Failure {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut message = format!("{} {what}", self.start.name);
        if !lines.is_empty() {
            message.push_str("; its last lines:");
        }
        for line in lines.iter() {
            message.push_str("\n  ");
            message.push_str(line);
        }
        Failure::Refused(message)
    }

    fn kill(&mut self) {
        // Neither fails but for a process that has ended, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sent only while the child is not yet waited for, so that its number
    /// cannot belong to another process.
    fn signal(&mut self, signal: Signal) {
        if let (Ok(None), Ok(pid)) = (self.child.try_wait(), i32::try_from(self.child.id())) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// The parts of a running service.
type Spawned = (Child, Arc<Mutex<VecDeque<String>>>, Receiver<()>);

fn spawn(start: &Start, loud: bool) -> Result<Spawned, Failure> {
    let name = start.name;
    let failed = |error: io::Error| Failure::Refused(format!("cannot start {name}: {error}"));
    let (reader, writer) = io::pipe().map_err(failed)?;
    let child = start
        .command()
        .map_err(failed)?
        .stdout(writer.try_clone().map_err(failed)?)
        .stderr(writer)
        .spawn()
        .map_err(failed)?;
    let lines = Arc::default();
    let (end, lines_end) = channel();
    let kept = Arc::clone(&lines);
    thread::spawn(move || {
        pass_on(name, reader, &kept, loud);
        // The receiver may be gone: the service was started again meanwhile.
        let _ = end.send(());
    });
    Ok((child, lines, lines_end))
}

impl Drop for Service {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

fn pass_on(name: &str, reader: PipeReader, kept: &Mutex<VecDeque<String>>, loud: bool) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    let mut filter = Filter::default();
    loop {
        line.clear();
        let read = Read::by_ref(&mut reader)
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line);
        if !matches!(read, Ok(length) if length > 0) {
            return;
        }
        let text = filter.pass(&line).trim_end().to_owned();
        if loud {
            // The services go on even if nobody can read what they say.
            let _ = writeln!(io::stderr(), "{name}: {text}");
        }
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == LINES_KEPT {
            kept.pop_front();
        }
        kept.push_back(text);
    }
}
