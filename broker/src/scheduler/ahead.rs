//! Claims made before there is room. While jobs are short, a core that is
//! free would mostly wait for the next job's claim to go to disk; so the next
//! few are claimed meanwhile, several in one commit. They still wait, in
//! their places, and what is claimed is handed over only when it is chosen.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::reconcile::record;
use super::{Desk, Order, Waiting, begin};
use crate::error::{Error, Kind, Result};
use crate::model::{Ending, JobId, Micros, RunKey};
use crate::store::Step;

/// The most jobs claimed ahead.
const MOST: usize = 16;
/// A run that took less is short, in seconds.
const SHORT: f64 = 0.1;
/// How long after a short run more are expected. What is still claimed then
/// is given back.
const BRISK: Duration = Duration::from_millis(500);

/// How long to wait for the engine to tell what became of claims from before.
const SETTLED: Duration = Duration::from_secs(5);

/// A claim that is being made.
pub(super) type Answer = JoinHandle<Result<bool>>;

/// A job that waits and is claimed already, or about to be.
#[derive(Debug)]
pub(super) struct Claimed {
    job: Waiting,
    pub(super) run: RunKey,
    pub(super) answer: Answer,
}

/// What is claimed ahead.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    claimed: HashMap<JobId, Claimed>,
    /// Jobs whose claim is being undone.
    returning: HashSet<JobId>,
    /// Jobs that were claimed ahead before a restart, as long as nobody knows
    /// whether they began.
    unsettled: HashSet<JobId>,
    /// Until when that is waited for.
    settled: Option<Instant>,
    /// Until when short jobs are expected.
    until: Option<Instant>,
}

impl Ahead {
    /// Learn from a run that is over.
    pub(super) fn note(&mut self, ending: &Ending) {
        let started = ending.started.unwrap_or(ending.ended);
        if ending.ended.since(started) < SHORT {
            self.until = Instant::now().checked_add(BRISK);
        }
    }

    fn is_brisk(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }

    /// Whether there is something to look after.
    pub(super) fn is_idle(&self) -> bool {
        self.claimed.is_empty() && self.unsettled.is_empty()
    }

    /// Whether jobs that come first may be about to return to their places.
    /// Nothing may start before.
    pub(super) fn holds_all(&self) -> bool {
        let settling = || self.settled.is_some_and(|until| Instant::now() < until);
        !self.returning.is_empty() || !self.unsettled.is_empty() && settling()
    }

    /// A job was claimed ahead before a restart.
    pub(super) fn unsettle(&mut self, job: JobId) {
        self.unsettled.insert(job);
        self.settled = Instant::now().checked_add(SETTLED);
    }

    /// A job began, or is over.
    pub(super) fn settle(&mut self, job: JobId) {
        self.unsettled.remove(&job);
    }

    /// The store was read: these jobs are still claimed.
    pub(super) fn settle_others(&mut self, claimed: &HashSet<JobId>) {
        self.unsettled.retain(|job| claimed.contains(job));
    }

    /// Whether `job` is claimed here, and not begun.
    pub(super) fn has(&self, job: JobId) -> bool {
        self.claimed.contains_key(&job) || self.returning.contains(&job)
    }

    /// The jobs that wait and are claimed.
    pub(super) fn jobs(&self) -> impl Iterator<Item = &Waiting> {
        self.claimed.values().map(|claimed| &claimed.job)
    }

    /// The claim of a job that is to begin, or never will.
    pub(super) fn take(&mut self, job: JobId) -> Option<Claimed> {
        self.claimed.remove(&job)
    }
}

/// Whether a claim that was made ahead holds.
///
/// Errors: as those of the claim.
pub(super) async fn answer(answer: Answer) -> Result<bool> {
    let cut_short = |_| Error::new(Kind::Unavailable, "the claim was not made");
    answer.await.map_err(cut_short)?
}

impl Desk {
    /// Claim the first jobs that wait, while jobs are short; else undo it.
    pub(super) fn claim_ahead(&mut self) {
        if !self.ahead.is_brisk() {
            return self.give_back();
        }
        let few = self.ahead.claimed.len();
        if few > MOST / 2 {
            return;
        }
        // Which GPUs it holds must be on record before a job starts.
        let first = self.waiting.iter().take(MOST);
        let next: Vec<Waiting> = first
            .filter(|job| !self.ahead.has(job.id) && job.footprint.gpus() == 0)
            .take(MOST - few)
            .cloned()
            .collect();
        for job in next {
            let run = job.next_run();
            let parts = self.parts.clone();
            let answer = tokio::spawn(async move { begin::claim(&parts, run, None).await });
            self.ahead
                .claimed
                .insert(run.job, Claimed { job, run, answer });
        }
    }

    /// Undo all claims of jobs that have not begun.
    pub(super) fn give_back(&mut self) {
        for (id, claimed) in std::mem::take(&mut self.ahead.claimed) {
            self.waiting.remove(id);
            self.ahead.returning.insert(id);
            let (store, orders) = (self.parts.store.clone(), self.orders.clone());
            tokio::spawn(async move {
                let claim = answer(claimed.answer).await;
                if matches!(claim, Ok(true)) {
                    let step = Step::Requeued {
                        job: id,
                        attempt: claimed.run.attempt,
                        tried: false,
                        at: Micros::now(),
                    };
                    record(&store, step).await;
                }
                let returned = claim.map(|held| held.then_some(claimed.job));
                let _ = orders.send(Order::Returned(id, returned));
            });
        }
    }

    /// A claim is undone: the job is in its place again, unless it waits no
    /// more.
    pub(super) fn returned(&mut self, id: JobId, job: Result<Option<Waiting>>) {
        self.ahead.returning.remove(&id);
        match job {
            Ok(Some(job)) => self.waiting.push(job),
            Ok(None) => {}
            // Whether it was claimed is not known: what the store says counts.
            Err(_) => self.reload(),
        }
    }
}
