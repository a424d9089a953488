//! What the engine saw, brought to the store: exactly one end for each run,
//! however often it is reported.

use std::time::Duration;

use super::Desk;
use crate::engine::Sighting;
use crate::model::{Ending, Exception, Micros, RunKey, State, Usage};
use crate::store::Step;

/// Tries at starting a run after which a failure that does not pass is final.
const TRIES: u32 = 3;

impl Desk {
    /// Take note of what the engine saw.
    pub(super) fn see(&mut self, sighting: Sighting) {
        match sighting {
            Sighting::Started { run, at } => {
                self.pause.failures = 0;
                self.persist(Step::Started {
                    job: run.job,
                    attempt: run.attempt,
                    at,
                });
            }
            Sighting::Ended { run, ending } => {
                self.release(run);
                self.persist(Step::Ended {
                    job: run.job,
                    attempt: run.attempt,
                    ending,
                });
            }
            Sighting::NotStarted { run, why, passing } => self.not_started(run, why, passing),
            Sighting::Reconnected => self.ask_again(),
        }
    }

    fn not_started(&mut self, run: RunKey, why: String, passing: bool) {
        let Some(running) = self.release(run) else {
            return;
        };
        if !passing && run.attempt >= TRIES {
            let ending = Ending {
                state: State::Failed,
                started: None,
                ended: Micros::now(),
                wait_status: None,
                exception: Some(Exception {
                    kind: "exec".into(),
                    severity: 0,
                    note: why,
                }),
                usage: Usage::default(),
            };
            return self.persist(Step::Ended {
                job: run.job,
                attempt: run.attempt,
                ending,
            });
        }
        tracing::warn!(run = %run, why, "a run was not started; it waits again");
        self.pause.fail();
        if running.cancel {
            // It would wait again only to be cancelled.
            let ending = Ending {
                state: State::Cancelled,
                started: None,
                ended: Micros::now(),
                wait_status: None,
                exception: Some(Exception {
                    kind: "cancel".into(),
                    severity: 0,
                    note: String::new(),
                }),
                usage: Usage::default(),
            };
            return self.persist(Step::Ended {
                job: run.job,
                attempt: run.attempt,
                ending,
            });
        }
        self.persist(Step::Requeued {
            job: run.job,
            attempt: run.attempt,
            at: Micros::now(),
        });
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

    /// Record a step, trying until the store takes it: it has happened.
    pub(super) fn persist(&self, step: Step) {
        let (store, live, orders) = (
            self.parts.store.clone(),
            self.parts.live.clone(),
            self.orders.clone(),
        );
        tokio::spawn(async move {
            let mut wait = Duration::from_millis(100);
            while let Err(error) = store.step(step.clone()).await {
                tracing::warn!(%error, "a step could not be recorded; trying again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(5));
            }
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
