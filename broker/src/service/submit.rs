//! Accepting a job: once this returns, it is not lost.

use std::sync::Arc;

use super::{Jobs, audit};
use crate::caller::Caller;
use crate::error::{Error, Kind, Result};
use crate::model::{Exception, JobId, JobSpec, Micros, Owner, RunKey};
use crate::scheduler::Waiting;
use crate::store::NewJob;
use crate::warrants;

/// What came of a submission.
#[derive(Debug)]
pub enum Submission {
    /// It is a job now.
    Accepted(JobId),
    /// It becomes one when it comes again with a warrant for this launch.
    NeedsWarrant {
        /// What would be run, encoded.
        launch: Vec<u8>,
        /// What a warrant calls it: its SHA-256 in hexadecimal.
        job_sha256: String,
    },
}

impl Jobs {
    /// Accept a job of the caller's. Where jobs run as the users who ask for
    /// them, its warrant is admitted before the job is: the one given, or one
    /// that is obtained on the caller's behalf, where that is allowed.
    ///
    /// Errors: the service is stopping; the task can never be started, with
    /// the field's name; the caller may not run it; the store is away, full
    /// or too busy. After an error nothing was accepted.
    pub async fn submit(
        &self,
        caller: &Caller,
        spec: JobSpec,
        warrant: Option<String>,
    ) -> Result<Submission> {
        let submitted = self.try_submit(caller, spec, warrant).await;
        if let Err(error) = &submitted
            && error.kind == Kind::Denied
        {
            self.refused(caller, "submit", None, "denied");
        }
        submitted
    }

    async fn try_submit(
        &self,
        caller: &Caller,
        spec: JobSpec,
        warrant: Option<String>,
    ) -> Result<Submission> {
        self.accepting()?;
        self.check_account(caller).await?;
        let launch = self.0.engine.describe(&spec.task)?;
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
            id: None,
            owner: Owner {
                name: caller.name.clone(),
                uid: caller.uid,
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
            source: audit::source(caller),
            job_sha256: warrants::job_sha256(&launch),
        };
        let id = match &self.0.warrants {
            Some(source) if waits => {
                let warrant = match warrant {
                    Some(warrant) => warrant,
                    None if source.mediated() => source.mint(caller, &launch).await?,
                    None => {
                        let job_sha256 = job.job_sha256;
                        return Ok(Submission::NeedsWarrant { launch, job_sha256 });
                    }
                };
                warrants::check_subject(&warrant, caller)?;
                self.submit_admitted(job, warrant, launch).await?
            }
            Some(_) | None => self.0.store.submit(job).await?,
        };
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
        Ok(Submission::Accepted(id))
    }

    /// Have the warrant admitted, then record the job under the id that it
    /// was admitted for.
    async fn submit_admitted(
        &self,
        job: NewJob,
        warrant: String,
        launch: Vec<u8>,
    ) -> Result<JobId> {
        let id = self.0.store.reserve().await?;
        let first = RunKey {
            job: id,
            position: 0,
            attempt: 1,
        };
        self.0.engine.admit(first, warrant, launch).await?;
        let recorded = self.0.store.submit(NewJob {
            id: Some(id),
            ..job
        });
        let recorded = recorded.await;
        if recorded.is_err() {
            // If the commit's outcome is unknown the job may exist; it then
            // fails at its start, for the caller was told that it did not.
            self.0.engine.revoke(first).await?;
        }
        recorded
    }
}
