//! What the engine saw, brought to the store: exactly one end for each run,
//! however often it is reported.

use std::time::{Duration, Instant};

use super::{Desk, Origin, placement};
use crate::engine::{Hope, Sighting};
use crate::model::{Ending, Micros, RunKey, Stamp, State};
use crate::store::{Start, Step, Store};

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
                self.ahead.note(&ending);
                self.losses.note(run, &ending.usage, Instant::now());
                self.release(run);
                self.ended(run, ending);
            }
            Sighting::NotStarted { run, why, hope } => self.not_started(run, why, hope),
            Sighting::Reconnected => {
                self.parts.store.metrics().reconnected();
                self.ask_again();
            }
        }
    }

    /// Note a start, and record it a little later: a short job's start and
    /// end then cost one commit.
    fn started(&mut self, run: RunKey, at: Micros) {
        self.pause.failures = 0;
        self.ahead.settle(run.job);
        let metrics = self.parts.store.metrics();
        let placement = self.running.get_mut(&run.job).and_then(|running| {
            if let Some(chosen) = running.chosen.take() {
                metrics.started(chosen.elapsed());
            }
            let given = &running.holder.placement;
            (running.origin == Origin::Ahead).then(|| placement::spell(given))
        });
        self.fresh.insert(run, Start { at, placement });
        let orders = self.orders.clone();
        tokio::spawn(async move {
            tokio::time::sleep(SOON).await;
            let _ = orders.send(super::Order::Record(run));
        });
    }

    pub(super) fn record_start(&mut self, run: RunKey) {
        if let Some(start) = self.fresh.remove(&run) {
            let (job, attempt) = (run.job, run.attempt);
            self.persist(Step::Started {
                job,
                attempt,
                start,
            });
        }
    }

    /// Record an end, and the start with it where that was not recorded yet.
    pub(super) fn ended(&mut self, run: RunKey, ending: Ending) {
        self.ahead.settle(run.job);
        let start = self.fresh.remove(&run);
        self.persist(Step::Ended {
            job: run.job,
            attempt: run.attempt,
            start,
            ending,
        });
    }

    fn not_started(&mut self, run: RunKey, why: String, hope: Hope) {
        let Some(running) = self.release(run) else {
            return;
        };
        let hopeless = match hope {
            Hope::Later => false,
            Hope::Unclear => run.attempt >= TRIES,
            Hope::None => true,
        };
        if hopeless {
            let ending = Ending::unseen(State::Failed, "exec", why);
            return self.ended(run, ending);
        }
        if running.origin == Origin::Adopted {
            tracing::info!(run = %run, "a run from before had not started; it waits again");
        } else {
            tracing::warn!(run = %run, why, "a run was not started; it waits again");
            self.pause.fail();
        }
        self.persist(Step::Requeued {
            job: run.job,
            attempt: run.attempt,
            tried: true,
            at: Micros::now(),
        });
    }

    /// After the engine lost touch: ask about every run.
    fn ask_again(&self) {
        let runs = self.running.values();
        let runs: Vec<(RunKey, Stamp)> = runs.map(|it| (it.run, it.stamp)).collect();
        let engine = self.parts.engine.clone();
        tokio::spawn(async move {
            for (run, stamp) in runs {
                if let Err(error) = engine.watch(run, stamp, true).await {
                    tracing::error!(run = %run, %error, "a run cannot be asked about");
                }
            }
        });
    }

    /// Have a step recorded, and tell who watches.
    pub(super) fn persist(&self, step: Step) {
        let (store, live, orders) = (
            self.parts.store.clone(),
            self.parts.live.clone(),
            self.orders.clone(),
        );
        tokio::spawn(async move {
            record(&store, step.clone()).await;
            match step {
                Step::Started { job, .. } | Step::Ended { job, .. } => live.announce(job),
                Step::Requeued { job, .. } => {
                    live.announce(job);
                    let _ = orders.send(super::Order::Reload);
                }
            }
        });
    }
}

/// Record a step, trying until the store takes it: it has happened.
pub(super) async fn record(store: &Store, step: Step) {
    let mut wait = Duration::from_millis(100);
    while let Err(error) = store.step(step.clone()).await {
        tracing::warn!(%error, "a step could not be recorded; trying again");
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(5));
    }
}
