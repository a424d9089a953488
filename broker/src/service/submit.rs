//! Accepting a job: once this returns, it is not lost.

use std::sync::Arc;

use super::Jobs;
use crate::caller::Caller;
use crate::error::{Error, Kind, Result};
use crate::model::{Exception, JobId, JobSpec, Micros, Owner};
use crate::scheduler::Waiting;
use crate::store::NewJob;

impl Jobs {
    /// Accept a job of the caller's.
    ///
    /// Errors: the service is stopping; the task can never be started, with
    /// the field's name; the store is away, full or too busy. After an error
    /// nothing was accepted.
    pub async fn submit(&self, caller: &Caller, spec: JobSpec) -> Result<JobId> {
        self.accepting()?;
        self.0.engine.check(&spec.task)?;
        let footprint = spec.task.footprint();
        let refused = footprint
            .check(self.0.scheduler.capacity())
            .err()
            .map(|why| Exception {
                kind: "alloc".into(),
                severity: 0,
                note: why.0,
            });
        let waits = refused.is_none();
        let definition = serde_json::to_string(&spec.task)
            .map_err(|e| Error::caused(Kind::Internal, "The job cannot be recorded.", e))?;
        let job = NewJob {
            owner: Owner {
                name: caller.name.clone(),
                uid: None,
            },
            name: spec.name,
            dialect: spec.dialect,
            urgency: spec.urgency,
            command: spec.task.command_line(),
            workdir: spec.task.workdir.clone(),
            footprint,
            time_limit_s: spec.task.time_limit_s,
            spec: definition,
            submitted: Micros::now(),
            refused,
        };
        let id = self.0.store.submit(job).await?;
        if waits {
            self.0.scheduler.submitted(Waiting {
                id,
                urgency: spec.urgency,
                attempts: 0,
                footprint,
                time_limit_s: spec.task.time_limit_s,
                task: Some(Arc::new(spec.task)),
            });
        }
        Ok(id)
    }
}
