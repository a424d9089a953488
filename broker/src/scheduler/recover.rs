//! Reading from the store what waits and what runs: at the start, and
//! whenever what is remembered may be wrong.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::pick::Holder;
use super::waitlist::{WINDOW, Waitlist};
use super::{Desk, Order, Origin, Running, placement};
use crate::engine::Signal;
use crate::error::Result;
use crate::model::{JobId, Micros};
use crate::store::{Queued, Store, Unfinished};

/// What the store says waits and runs.
#[derive(Debug)]
pub(super) struct Records {
    queued: Vec<Queued>,
    unfinished: Vec<Unfinished>,
}

/// Read them.
///
/// Errors: the store is away.
pub(super) async fn read(store: &Store, host: &str) -> Result<Records> {
    let window = i64::try_from(WINDOW).unwrap_or(i64::MAX);
    // What runs is read first: a job in between is then seen as waiting, and
    // claiming it finds out.
    let unfinished = store.list_unfinished(host).await?;
    Ok(Records {
        queued: store.list_queued(window).await?,
        unfinished,
    })
}

impl Desk {
    /// Replace what is remembered of the queue, and take up runs that are on
    /// record and not remembered: from before a restart, or from a claim
    /// whose answer was lost.
    pub(super) fn take_up(&mut self, records: Records) {
        let more = records.queued.len() >= WINDOW;
        let waits: HashSet<JobId> = records.queued.iter().map(|job| job.id).collect();
        let claimed = records.unfinished.iter().map(|found| found.run.job);
        self.ahead.settle_others(&claimed.collect());
        let (running, ahead) = (&self.running, &self.ahead);
        let is_known = |job: JobId| running.contains_key(&job) || ahead.has(job);
        let queued = records.queued.into_iter();
        let queued = queued.filter(|job| !is_known(job.id) && !self.held.has(job.id));
        self.waiting = Waitlist::new(queued.collect(), more);
        for job in ahead.jobs() {
            self.waiting.push(job.clone());
        }
        for job in self.reloading.take().unwrap_or_default() {
            if !is_known(job.id) {
                self.waiting.push(job);
            }
        }
        let found = records.unfinished.into_iter();
        // What is seen in both came back while the store was being read.
        let unknown: Vec<Unfinished> = found
            .filter(|found| !is_known(found.run.job) && !waits.contains(&found.run.job))
            .collect();
        if !unknown.is_empty() {
            tracing::info!(runs = unknown.len(), "taking up runs from before");
        }
        for unfinished in unknown {
            self.adopt(&unfinished);
        }
        if std::mem::take(&mut self.reload_again) {
            self.reload();
        }
    }

    fn adopt(&mut self, unfinished: &Unfinished) {
        if unfinished.placement.is_empty() {
            // Claimed ahead, and nobody knows whether it began.
            self.ahead.unsettle(unfinished.run.job);
        }
        let placement = placement::parse(&unfinished.placement);
        self.pool.hold(unfinished.footprint, &placement);
        let ran = Micros::now().since(Micros::new(unfinished.since_us));
        let left = Duration::try_from_secs_f64(unfinished.time_limit_s as f64 - ran);
        let end = Instant::now().checked_add(left.unwrap_or_default());
        let until = end.filter(|_| unfinished.time_limit_s > 0);
        let holder = Holder {
            footprint: unfinished.footprint,
            placement,
            until,
        };
        let (run, cancel) = (unfinished.run, unfinished.cancel);
        let stamp = unfinished.stamp;
        self.running.insert(
            run.job,
            Running {
                run,
                holder,
                cancel,
                origin: Origin::Adopted,
                stamp,
                chosen: None,
            },
        );
        let same_boot = unfinished.boot == self.parts.boot;
        let engine = self.parts.engine.clone();
        tokio::spawn(async move {
            let asked = engine.watch(run, stamp, same_boot).await;
            let told = if cancel {
                engine.signal(run, stamp, Signal::Cancel).await
            } else {
                Ok(())
            };
            if let Err(error) = asked.and(told) {
                tracing::error!(run = %run, %error, "a run from before cannot be asked about");
            }
        });
    }

    /// Read it all again, soon.
    pub(super) fn reload(&mut self) {
        if self.reloading.is_some() {
            self.reload_again = true;
            return;
        }
        self.reloading = Some(Vec::new());
        let (store, host) = (self.parts.store.clone(), self.parts.host.clone());
        let orders = self.orders.clone();
        tokio::spawn(async move {
            let _ = orders.send(Order::Reloaded(read(&store, &host).await));
        });
    }
}
