//! The services of one server: started one after the other, watched together,
//! stopped the last first.

use std::io::{self, Read};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::signals::Signals;
use crate::up::service::{Service, Start};

/// How long all services together may take to get ready.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// How often a starting service is asked whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(25);

/// Most bytes that a program that is run to its end may print: what a pipe
/// holds, as it is read when the program has ended.
const MAX_OUTPUT_BYTES: u64 = 64 << 10;

/// Why it came to an end without a failure.
pub(crate) enum Ending {
    /// By Ctrl-C or another signal.
    Asked,
    /// By a request to the server itself.
    Stopped,
}

/// The services, in the order in which they were started.
pub(crate) struct Services {
    started: Vec<Service>,
    signals: Signals,
    deadline: Instant,
    loud: bool,
}

impl Services {
    /// None so far. Their lines are passed on to standard error if `loud`. To
    /// be called before any thread is started.
    pub(crate) fn none(loud: bool) -> Result<Self, Failure> {
        Ok(Self {
            started: Vec::new(),
            signals: Signals::keep()?,
            deadline: Instant::now() + START_PATIENCE,
            loud,
        })
    }

    /// Start one more.
    pub(crate) fn start(&mut self, start: Start) -> Result<(), Failure> {
        self.started.push(Service::start(start, self.loud)?);
        Ok(())
    }

    /// Wait until `ready` gives something; `None` when asked to stop before.
    ///
    /// Errors: `Refused` when a service ends or the time is over. The one
    /// started last is the one waited for.
    pub(crate) fn wait_ready<T>(
        &mut self,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        loop {
            if let Some(found) = ready() {
                return Ok(Some(found));
            }
            for service in self.started.iter_mut().rev() {
                if let Some(status) = service.ended()? {
                    return Err(service.failure(status));
                }
            }
            if Instant::now() >= self.deadline {
                let seconds = START_PATIENCE.as_secs();
                let late = format!("is not ready after {seconds} seconds");
                return Err(self.started.last().map_or_else(
                    || Failure::Refused(format!("the server {late}")),
                    |service| service.failure_so_far(&late),
                ));
            }
            if self.signals.wait(Some(ASK_EVERY))? {
                return Ok(None);
            }
        }
    }

    /// Run a program to its end, and get what it prints; `None` when asked to
    /// stop before.
    ///
    /// Errors: `Refused` when it fails, prints nothing, or takes too long.
    pub(crate) fn output(&mut self, start: Start) -> Result<Option<String>, Failure> {
        let name = start.name;
        let failed = |error: io::Error| Failure::Refused(format!("cannot run {name}: {error}"));
        let mut command = start.command().map_err(failed)?;
        let mut child = command.stdout(Stdio::piped()).spawn().map_err(failed)?;
        loop {
            if let Some(status) = child.try_wait().map_err(failed)? {
                let mut text = String::new();
                if let Some(stdout) = child.stdout.take() {
                    let mut stdout = stdout.take(MAX_OUTPUT_BYTES);
                    stdout.read_to_string(&mut text).map_err(failed)?;
                }
                if !status.success() || text.is_empty() {
                    return Err(Failure::Refused(format!("{name} failed ({status})")));
                }
                return Ok(Some(text));
            }
            let late = Instant::now() >= self.deadline;
            if late || self.signals.wait(Some(ASK_EVERY))? {
                end(&mut child);
                return if late {
                    Err(Failure::Refused(format!("{name} takes too long")))
                } else {
                    Ok(None)
                };
            }
        }
    }

    /// Watch all of them until we are asked to stop, and restart what ends. The
    /// one started last is the one that can be stopped by a request.
    ///
    /// Errors: `Refused` where a service keeps ending soon after each start.
    pub(crate) fn watch(&mut self) -> Result<Ending, Failure> {
        loop {
            let mut restarted = false;
            for (before, service) in self.started.iter_mut().rev().enumerate() {
                match service.ended()? {
                    None => {}
                    Some(status) if before == 0 && status.success() => return Ok(Ending::Stopped),
                    Some(status) => {
                        if !service.restart(status, &self.signals)? {
                            return Ok(Ending::Asked);
                        }
                        restarted = true;
                    }
                }
            }
            // Another may have ended during the wait before a restart.
            if !restarted && self.signals.wait(None)? {
                return Ok(Ending::Asked);
            }
        }
    }

    /// Stop all of them, the last first: until its end it may need the others.
    pub(crate) fn stop(&mut self) -> Result<(), Failure> {
        while let Some(mut service) = self.started.pop() {
            service.stop(&self.signals)?;
        }
        Ok(())
    }
}

fn end(child: &mut Child) {
    // Neither fails but for a process that has ended, which is what we want.
    let _ = child.kill();
    let _ = child.wait();
}
