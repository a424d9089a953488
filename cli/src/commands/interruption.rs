//! Ctrl-C while a job is waited for: the job goes on, and its owner is told.

use std::process::exit;
use std::sync::{Arc, OnceLock};
use std::thread;

use crate::failure::Failure;
use crate::job::JobId;
use crate::signals::Signals;
use crate::terminal::complain;

/// The exit code of a program that Ctrl-C ended, as a shell says it: 128 and
/// the number of SIGINT.
const INTERRUPTED: i32 = 128 + 2;

/// A watch for requests to stop (SIGINT, SIGTERM, SIGHUP), which end this
/// process and say what becomes of the job.
pub(crate) struct Interruption(Arc<OnceLock<JobId>>);

impl Interruption {
    /// Watch from here on. To be called before any other thread is started.
    ///
    /// Errors: `Refused` where signals cannot be waited for.
    pub(crate) fn watch() -> Result<Self, Failure> {
        let job = Arc::new(OnceLock::new());
        let signals = Signals::keep()?;
        let known = Arc::clone(&job);
        thread::spawn(move || {
            while matches!(signals.wait(None), Ok(false)) {}
            if let Some(id) = known.get() {
                complain(&goes_on(id));
            }
            exit(INTERRUPTED);
        });
        Ok(Self(job))
    }

    /// The job that is waited for from now on.
    pub(crate) fn is_of(&self, id: &JobId) {
        // Only one job is submitted by a command.
        let _ = self.0.set(id.clone());
    }
}

fn goes_on(id: &JobId) -> String {
    format!(
        "job {id} goes on without this command: `warrant logs -f {id}` shows it again, \
         `warrant cancel {id}` ends it"
    )
}
