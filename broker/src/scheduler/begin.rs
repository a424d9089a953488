//! Beginning a run: claim it in the store, then hand it to the engine. The
//! claim is durable before anything is started.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::ahead::{Answer, answer};
use super::{Desk, Order, Parts, Waiting, placement};
use crate::engine::Placement;
use crate::error::{Error, Kind, Result};
use crate::model::{Ending, Micros, RunKey, State};
use crate::store::Claim;

/// What came of a beginning.
#[derive(Debug)]
pub(super) enum Begun {
    /// The engine has it.
    Handed,
    /// The job waits no more: cancelled, or taken by another broker.
    Gone,
    /// It could not be claimed; it waits on.
    Put(Box<Waiting>),
    /// It was claimed and can never be started.
    Impossible(String),
    /// It was claimed, and the engine is away.
    Stuck,
}

/// Begin one run, which may be claimed already, and tell the scheduler what
/// came of it.
pub(super) async fn begin(
    parts: Parts,
    job: Waiting,
    run: RunKey,
    placement: Placement,
    claimed: Option<Answer>,
    orders: mpsc::UnboundedSender<Order>,
) {
    let claimed = match claimed {
        Some(asked) => answer(asked).await,
        None => claim(&parts, run, Some(&placement)).await,
    };
    let begun = match claimed {
        Ok(true) => match hand_over(&parts, &job, run, &placement).await {
            Ok(()) => Begun::Handed,
            Err(error) if error.kind == Kind::Unavailable => Begun::Stuck,
            Err(error) => Begun::Impossible(error.message),
        },
        Ok(false) => Begun::Gone,
        Err(error) => {
            tracing::warn!(job.id = %run.job, %error, "a job could not be claimed; trying later");
            Begun::Put(Box::new(job))
        }
    };
    let _ = orders.send(Order::Begun(run, begun));
}

/// Claim a run; `false` where the job waits no more. The start will tell its
/// place where there is none yet.
///
/// Errors: the store is away or full.
pub(super) async fn claim(parts: &Parts, run: RunKey, given: Option<&Placement>) -> Result<bool> {
    let claim = Claim {
        job: run.job,
        attempt: run.attempt,
        engine: parts.engine.name(),
        host: parts.host.clone(),
        boot: parts.boot.clone(),
        node: parts.node.clone(),
        placement: given.map(placement::spell),
        at: Micros::now(),
    };
    parts.store.claim(claim).await
}

async fn hand_over(parts: &Parts, job: &Waiting, run: RunKey, placement: &Placement) -> Result<()> {
    let task = match &job.task {
        Some(task) => task.clone(),
        None => {
            let missing = || Error::new(Kind::Internal, "the job's definition is missing");
            Arc::new(parts.store.task(run.job).await?.ok_or_else(missing)?)
        }
    };
    parts.engine.start(run, job.stamp, &task, placement).await
}

impl Desk {
    pub(super) fn begun(&mut self, run: RunKey, begun: Begun) {
        match begun {
            Begun::Handed => {
                // Its output may appear from now on.
                self.parts.live.announce(run.job);
                let running = self.running.get(&run.job);
                if let Some(stamp) = running.filter(|it| it.cancel).map(|it| it.stamp) {
                    self.signal(run, stamp);
                }
            }
            Begun::Gone => drop(self.release(run)),
            Begun::Put(job) => {
                self.release(run);
                self.pause.fail();
                self.waiting.push(*job);
                // The claim's outcome may be unknown: what the store says counts.
                self.reload();
            }
            Begun::Stuck => {
                // Claimed, not started: ask about it, which settles it either way.
                let engine = self.parts.engine.clone();
                let stamp = self.running.get(&run.job).map(|running| running.stamp);
                let stamp = stamp.unwrap_or_default();
                tokio::spawn(async move { engine.watch(run, stamp, true).await });
            }
            Begun::Impossible(why) => {
                let ending = Ending::unseen(State::Failed, "exec", why);
                self.release(run);
                self.ended(run, ending);
            }
        }
    }
}
