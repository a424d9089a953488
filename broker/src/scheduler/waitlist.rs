//! The jobs that wait, in the order they are to start. Memory is bounded:
//! only the head of a long queue is kept, the rest stays in the store.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Footprint, JobId, RunKey, Stamp, TaskSpec};
use crate::store::Queued;

/// The most jobs kept in memory.
pub(super) const WINDOW: usize = 8192;
/// The most bytes of task definitions kept with them.
const DEFINITIONS: usize = 16 << 20;

/// A job's place: urgency first, then the order of submission.
type Place = (Reverse<u8>, JobId);

/// A job that waits.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// Its id.
    pub id: JobId,
    /// 0 to 31.
    pub urgency: u8,
    /// The tries so far.
    pub attempts: u32,
    /// What it takes.
    pub footprint: Footprint,
    /// Seconds it may run; 0 means no limit.
    pub time_limit_s: u64,
    /// Its definition, where it is at hand.
    pub task: Option<Arc<TaskSpec>>,
    /// What its runs are stamped with.
    pub stamp: Stamp,
}

impl Waiting {
    /// The run that its next try will be.
    pub(super) fn next_run(&self) -> RunKey {
        RunKey {
            job: self.id,
            position: 0,
            attempt: self.attempts.saturating_add(1),
        }
    }
}

impl From<Queued> for Waiting {
    fn from(queued: Queued) -> Self {
        Self {
            id: queued.id,
            urgency: queued.urgency,
            attempts: queued.attempts,
            footprint: queued.footprint,
            time_limit_s: queued.time_limit_s,
            task: None,
            stamp: queued.stamp,
        }
    }
}

/// The head of the queue.
#[derive(Debug)]
pub(super) struct Waitlist {
    jobs: BTreeMap<Place, Waiting>,
    definitions: usize,
    /// Whether jobs beyond those in memory wait in the store.
    more: bool,
}

impl Waitlist {
    /// The list as read from the store; `more` where it did not hold all.
    pub(super) fn new(queued: Vec<Queued>, more: bool) -> Self {
        let jobs = queued.into_iter().map(Waiting::from);
        Self {
            jobs: jobs
                .map(|job| ((Reverse(job.urgency), job.id), job))
                .collect(),
            definitions: 0,
            more,
        }
    }

    /// Add a job, unless it belongs behind what is kept.
    pub(super) fn push(&mut self, mut job: Waiting) {
        let place = (Reverse(job.urgency), job.id);
        let last = self.jobs.last_key_value().map(|(place, _)| *place);
        if self.more && last.is_none_or(|last| place > last) {
            return;
        }
        match &job.task {
            Some(task) if self.definitions + task.weight() > DEFINITIONS => job.task = None,
            Some(task) => self.definitions += task.weight(),
            None => {}
        }
        if let Some(before) = self.jobs.insert(place, job) {
            self.forget(&before);
        }
        if self.jobs.len() > WINDOW
            && let Some((_, dropped)) = self.jobs.pop_last()
        {
            self.forget(&dropped);
            self.more = true;
        }
    }

    fn forget(&mut self, job: &Waiting) {
        if let Some(task) = &job.task {
            self.definitions = self.definitions.saturating_sub(task.weight());
        }
    }

    /// Take a job out, wherever it stands.
    pub(super) fn remove(&mut self, id: JobId) -> Option<Waiting> {
        // Nearly all jobs have the default urgency; the others are found by looking.
        let place = (Reverse(16), id);
        let place = if self.jobs.contains_key(&place) {
            place
        } else {
            *self.jobs.iter().find(|(_, job)| job.id == id)?.0
        };
        let job = self.jobs.remove(&place)?;
        self.forget(&job);
        Some(job)
    }

    /// The jobs in the order they are to start.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.jobs.values()
    }

    /// Whether so few are left in memory that the store should be read.
    pub(super) fn wants_more(&self) -> bool {
        self.more && self.jobs.len() < WINDOW / 4
    }
}
