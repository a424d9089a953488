//! What the engine saw, brought to the store: exactly one end for each run,
//! however often it is reported.

use std::time::Duration;

use super::Desk;
use crate::engine::Sighting;
use crate::model::{Ending, Micros, RunKey, State};
use crate::store::Step;

/// How long the record of a start may wait for the end.
const SOON: Duration = Duration::from_millis(3);
/// Tries at starting a run after which a failure that does not pass is final.
const TRIES: u32 = 3;

impl Desk {
    /// Take note of what the engine saw.
    pub(super) fn see(&mut self, sighting: Sighting) {
        match sighting {
            Sighting::Started { run, at } => self.started(run, at),
            Sighting::Ended { run, ending } => {
                self.release(run);
                self.ended(run, ending);
            }
            Sighting::NotStarted { run, why, passing } => self.not_started(run, why, passing),
            Sighting::Reconnected => self.ask_again(),
        }
    }

    /// Note a start, and record it a little later: a short job's start and
    /// end then cost one commit.
    fn started(&mut self, run: RunKey, at: Micros) {
        self.pause.failures = 0;
        self.fresh.insert(run, at);
        let orders = self.orders.clone();
        tokio::spawn(async move {
            tokio::time::sleep(SOON).await;
            let _ = orders.send(super::Order::Record(run));
        });
    }

    pub(super) fn record_start(&mut self, run: RunKey) {
        if let Some(at) = self.fresh.remove(&run) {
            let (job, attempt) = (run.job, run.attempt);
            self.persist(vec![Step::Started { job, attempt, at }]);
        }
    }

    fn ended(&mut self, run: RunKey, ending: Ending) {
        let (job, attempt) = (run.job, run.attempt);
        let start = self
            .fresh
            .remove(&run)
            .map(|at| Step::Started { job, attempt, at });
        let end = Step::Ended {
            job,
            attempt,
            ending,
        };
        self.persist(start.into_iter().chain([end]).collect());
    }

    fn not_started(&mut self, run: RunKey, why: String, passing: bool) {
        let Some(running) = self.release(run) else {
            return;
        };
        if !passing && run.attempt >= TRIES {
            let ending = Ending::unseen(State::Failed, "exec", why);
            return self.ended(run, ending);
        }
        tracing::warn!(run = %run, why, "a run was not started; it waits again");
        self.pause.fail();
        if running.cancel {
            // It would wait again only to be cancelled.
            let ending = Ending::unseen(State::Cancelled, "cancel", "");
            return self.ended(run, ending);
        }
        self.persist(vec![Step::Requeued {
            job: run.job,
            attempt: run.attempt,
            at: Micros::now(),
        }]);
    }

    /// After the engine lost touch: ask about every run.
    fn ask_again(&self) {
        let runs: Vec<RunKey> = self.running.values().map(|running| running.run).collect();
        let engine = self.parts.engine.clone();
        tokio::spawn(async move {
            for run in runs {
                if let Err(error) = engine.watch(run, true).await {
                    tracing::error!(run = %run, %error, "a run cannot be asked about");
                }
            }
        });
    }

    /// Record steps of one job in their order, trying until the store takes
    /// them: they have happened.
    pub(super) fn persist(&self, steps: Vec<Step>) {
        let (store, live, orders) = (
            self.parts.store.clone(),
            self.parts.live.clone(),
            self.orders.clone(),
        );
        tokio::spawn(async move {
            let mut wait = Duration::from_millis(100);
            while let Err(error) = store.steps(&steps).await {
                tracing::warn!(%error, "a step could not be recorded; trying again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(5));
            }
            for step in steps {
                match step {
                    Step::Started { job, .. } | Step::Ended { job, .. } => live.announce(job),
                    Step::Requeued { job, .. } => {
                        live.announce(job);
                        let _ = orders.send(super::Order::Reload);
                    }
                }
            }
        });
    }
}
