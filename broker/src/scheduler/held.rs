//! Jobs that are on record and may not start yet: their admission is on its
//! way. Whoever submits them tells the scheduler once they may.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::JobId;

/// The jobs that are held back. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct HeldJobs(Arc<Mutex<HashSet<JobId>>>);

/// Holds a job back until it is dropped.
#[derive(Debug)]
pub struct Held {
    jobs: HeldJobs,
    job: JobId,
}

impl HeldJobs {
    pub(super) fn hold(&self, job: JobId) -> Held {
        self.jobs().insert(job);
        let jobs = self.clone();
        Held { jobs, job }
    }

    pub(super) fn has(&self, job: JobId) -> bool {
        self.jobs().contains(&job)
    }

    fn jobs(&self) -> MutexGuard<'_, HashSet<JobId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.jobs.jobs().remove(&self.job);
    }
}
