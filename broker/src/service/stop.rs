//! Bringing the service to its end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use warrant_api::token::Role;

use super::{Jobs, check_role};
use crate::caller::Caller;
use crate::error::Result;

impl Jobs {
    /// Stop the service on behalf of `caller`: accept and start nothing more,
    /// and end once it is drained.
    ///
    /// Errors: the caller is not a superuser; it cannot be recorded.
    pub async fn stop(&self, caller: &Caller) -> Result<()> {
        check_role(caller, Role::Administrator)
            .inspect_err(|_| self.refused(caller, "stop", None, "role"))?;
        self.stops(caller).await?;
        tracing::info!(user.name = ?caller.name, "the service is asked to stop");
        self.0.stopping.store(true, Ordering::Release);
        self.0.stopped.notify_one();
        Ok(())
    }

    /// Returns once somebody asked the service to stop.
    pub async fn asked_to_stop(&self) {
        self.0.stopped.notified().await;
    }

    /// Accept and start nothing more, and wait up to `grace` for what runs.
    /// Returns how many jobs still run; they live on without the service.
    pub async fn drain(&self, grace: Duration) -> usize {
        self.0.stopping.store(true, Ordering::Release);
        let left = self.0.scheduler.drain(grace).await;
        self.count_refusals();
        left
    }
}
