//! Ending a job before its time.

use super::{Jobs, audit};
use crate::caller::Caller;
use crate::error::{Error, Kind, Result};
use crate::model::{JobId, Micros, Owner, RunKey};
use crate::store::{Cancel, CancelAnswer};

impl Jobs {
    /// Cancel a job. One that waits never starts; one that runs is told, and
    /// killed after a grace time. The wish is durable when this returns.
    ///
    /// Errors: no such job, not the caller's, or [`Kind::Conflict`] where it
    /// has ended; the store is away.
    pub async fn cancel(&self, caller: &Caller, id: JobId) -> Result<()> {
        let ended = || Error::new(Kind::Conflict, format!("Job {id} has ended"));
        if self.find(caller, id).await?.state.is_final() {
            return Err(ended());
        }
        let wish = Cancel {
            job: id,
            by: Owner {
                name: caller.name.clone(),
                uid: caller.uid,
            },
            source: audit::source(caller),
            token: caller.token_id(),
            note: String::new(),
            refused: false,
            at: Micros::now(),
        };
        match self.carry_out(wish).await? {
            CancelAnswer::Cancelled | CancelAnswer::Requested(_) => Ok(()),
            CancelAnswer::Ended => Err(ended()),
            CancelAnswer::Unknown => Err(Error::new(Kind::NotFound, format!("Job {id} not found"))),
        }
    }

    /// Record a wish, and see to it.
    pub(super) async fn carry_out(&self, wish: Cancel) -> Result<CancelAnswer> {
        let id = wish.job;
        let answer = self.0.store.cancel(wish).await?;
        match answer {
            CancelAnswer::Cancelled => {
                self.0.scheduler.forget(id);
                self.forget_admission(id);
            }
            CancelAnswer::Requested(_) => self.0.scheduler.cancel(id),
            CancelAnswer::Ended | CancelAnswer::Unknown => return Ok(answer),
        }
        self.0.live.announce(id);
        Ok(answer)
    }

    /// Let the engine forget a job that never starts. Nothing depends on it:
    /// an admission that stays is room taken until it is noticed.
    fn forget_admission(&self, job: JobId) {
        let engine = self.0.engine.clone();
        tokio::spawn(async move {
            let run = RunKey {
                job,
                position: 0,
                attempt: 1,
            };
            if let Err(error) = engine.revoke(run).await {
                tracing::debug!(job.id = %job, %error, "an admission was not revoked");
            }
        });
    }
}
