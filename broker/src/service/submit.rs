//! Accepting a job: once this returns, it is not lost.

use std::sync::Arc;

use super::Jobs;
use crate::caller::Caller;
use crate::error::{Error, Kind, Result};
use crate::model::{Exception, JobId, JobSpec, Micros, Owner, RunKey};
use crate::scheduler::Waiting;
use crate::store::{Cancel, NewJob};
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
    /// them, its warrant is admitted with it: the one given, or one that is
    /// obtained on the caller's behalf, where that is allowed.
    ///
    /// Errors: the service is stopping; the task can never be started, with
    /// the field's name; the caller may not run it; the store is away, full
    /// or too busy. After an error nothing was accepted; where the shim
    /// refuses at the last moment, the job shows as cancelled.
    pub async fn submit(
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
        };
        let admission = match &self.0.warrants {
            Some(source) if waits => {
                let warrant = match warrant {
                    Some(warrant) => warrant,
                    None if source.mediated() => source.mint(caller, &launch).await?,
                    None => {
                        let job_sha256 = warrants::job_sha256(&launch);
                        return Ok(Submission::NeedsWarrant { launch, job_sha256 });
                    }
                };
                warrants::check_subject(&warrant, caller)?;
                Some((warrant, launch))
            }
            Some(_) | None => None,
        };
        let waiting = move |id| Waiting {
            id,
            urgency: spec.urgency,
            attempts: 0,
            footprint,
            time_limit_s: spec.task.time_limit_s,
            task: Some(Arc::new(spec.task)),
        };
        let waiting = waits.then_some(waiting);
        // A caller who goes away now leaves a job behind, not half of one.
        let accepted = tokio::spawn(self.clone().accept(job, admission, waiting));
        let cut_off = |e| Error::caused(Kind::Internal, "The submission was cut off.", e);
        accepted.await.map_err(cut_off)?.map(Submission::Accepted)
    }

    /// Record the job, and have it run where it is `waiting` for that.
    async fn accept(
        self,
        job: NewJob,
        admission: Option<(String, Vec<u8>)>,
        waiting: Option<impl FnOnce(JobId) -> Waiting>,
    ) -> Result<JobId> {
        let id = match admission {
            Some((warrant, launch)) => self.accept_admitted(job, warrant, launch).await?,
            None => self.0.store.submit(job).await?,
        };
        if let Some(waiting) = waiting {
            self.0.scheduler.submitted(waiting(id));
        }
        Ok(id)
    }

    /// Record a job and have its warrant admitted, both at once: each waits
    /// for a disk. A job whose warrant is not admitted never starts.
    async fn accept_admitted(
        &self,
        job: NewJob,
        warrant: String,
        launch: Vec<u8>,
    ) -> Result<JobId> {
        let engine = &self.0.engine;
        let owner = job.owner.name.clone();
        let id = self.0.store.reserve().await?;
        let first = RunKey {
            job: id,
            position: 0,
            attempt: 1,
        };
        let admit = engine.admit(first, warrant, launch);
        let record = self.0.store.submit(NewJob {
            id: Some(id),
            ..job
        });
        if !engine.is_near() {
            // It may take long, and most likely fails: nothing to record yet.
            admit.await?;
            if let Err(error) = record.await {
                engine.revoke(first).await?;
                return Err(error);
            }
            return Ok(id);
        }
        let held = self.0.scheduler.hold(id);
        let (admitted, recorded) = tokio::join!(admit, record);
        drop(held);
        match (admitted, recorded) {
            (Ok(()), Ok(id)) => Ok(id),
            (Ok(()), Err(error)) => {
                // If the commit's outcome is unknown the job may exist; it then
                // fails at its start, for the caller was told that it did not.
                engine.revoke(first).await?;
                Err(error)
            }
            (Err(error), Err(_)) => Err(error),
            (Err(error), Ok(id)) => {
                self.withdraw(id, owner, error.message.clone()).await;
                Err(error)
            }
        }
    }

    /// Cancel a job whose warrant was refused. If that cannot be recorded,
    /// the job fails at its start, for want of an admission.
    async fn withdraw(&self, job: JobId, owner: String, note: String) {
        let wish = Cancel {
            job,
            by: owner,
            at: Micros::now(),
            note,
        };
        match self.0.store.cancel(wish).await {
            Ok(_) => self.0.live.announce(job),
            Err(error) => tracing::error!(job.id = %job, %error, "a refused job stays on record"),
        }
    }
}
