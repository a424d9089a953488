//! Accepting a job: once this returns, it is not lost.

use std::sync::Arc;

use super::{Jobs, audit};
use crate::caller::Caller;
use crate::error::{Error, Kind, Result};
use crate::model::{Exception, JobId, JobSpec, Micros, Owner, RequestKey, RunKey, Stamp};
use crate::scheduler::Waiting;
use crate::store::{Cancel, CancelAnswer, NewJob, Submitted, Taken, UnderWay};
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
    /// What is known of a submission of the caller's with an idempotency key: the
    /// job that it became, or that it is new.
    ///
    /// Errors: a submission with the same key is not yet answered, or the key was
    /// used for another; the caller's share of keys is used up; the store is away.
    pub async fn begin_keyed(&self, caller: &Caller, of: RequestKey) -> Result<Submitted> {
        self.0.store.begin_keyed(&owner(caller), of).await
    }

    /// Accept a job of the caller's. Where jobs run as the users who ask for
    /// them, its warrant is admitted with it: the one given, or one that is
    /// obtained on the caller's behalf, where that is allowed. With `key`, the
    /// idempotency key is on record as soon as the job is.
    ///
    /// Errors: the service is stopping; the task can never be started, with
    /// the field's name; the caller may not run it, or has as much waiting as
    /// one may; the store is away, full or too busy. After an error nothing was accepted; where the shim
    /// refuses at the last moment, the job shows as cancelled.
    pub async fn submit(
        &self,
        caller: &Caller,
        spec: JobSpec,
        warrant: Option<String>,
        key: Option<UnderWay>,
    ) -> Result<Submission> {
        let submitted = self.try_submit(caller, spec, warrant, key).await;
        if let Err(error) = &submitted
            && error.kind == Kind::Denied
        {
            self.refused(caller, "submit", None, "denied");
        }
        submitted.flatten()
    }

    /// The inner result is an error where the job is on record and withdrawn,
    /// which the audit trail tells of.
    async fn try_submit(
        &self,
        caller: &Caller,
        spec: JobSpec,
        warrant: Option<String>,
        key: Option<UnderWay>,
    ) -> Result<Result<Submission>> {
        self.accepting()?;
        self.0.engine.check_settled()?;
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
        let job_sha256 = warrants::job_sha256(&launch);
        let stamp = Stamp::new(caller.uid, Some(&job_sha256));
        let definition = serde_json::to_string(&spec.task)
            .map_err(|e| Error::caused(Kind::Internal, "The job cannot be recorded.", e))?;
        let job = NewJob {
            id: None,
            owner: owner(caller),
            name: spec.name,
            dialect: spec.dialect,
            urgency: spec.urgency,
            command: spec.task.command_line(),
            workdir: spec.task.start_dir().map(str::to_owned),
            footprint,
            time_limit_s: spec.task.time_limit_s,
            spec: definition,
            submitted: Micros::now(),
            refused,
            source: audit::source(caller),
            token: caller.token_id(),
            job_sha256,
            key: key.as_ref().map(UnderWay::row),
        };
        let taken = match waits {
            true => Some(
                self.0
                    .store
                    .shares()
                    .take(&caller.name, job.spec.len() as u64)?,
            ),
            false => None,
        };
        let admission = match &self.0.warrants {
            Some(source) if waits => {
                let warrant = match warrant {
                    Some(warrant) => warrant,
                    None if source.mediated() => source.mint(caller, &launch).await?,
                    None => {
                        let job_sha256 = job.job_sha256;
                        return Ok(Ok(Submission::NeedsWarrant { launch, job_sha256 }));
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
            stamp,
        };
        let waiting = waits.then_some(waiting);
        // A caller who goes away now leaves a job behind, not half of one.
        let accepted = tokio::spawn(self.clone().accept(job, admission, waiting, taken, key));
        let cut_off = |e| Error::caused(Kind::Internal, "The submission was cut off.", e);
        let accepted = accepted.await.map_err(cut_off)??;
        Ok(accepted.map(Submission::Accepted))
    }

    /// Record the job, and have it run where it is `waiting` for that. The
    /// inner result is an error where it is withdrawn.
    async fn accept(
        self,
        job: NewJob,
        admission: Option<(String, Vec<u8>)>,
        waiting: Option<impl FnOnce(JobId) -> Waiting>,
        taken: Option<Taken>,
        key: Option<UnderWay>,
    ) -> Result<Result<JobId>> {
        let accepted = match admission {
            Some((warrant, launch)) => self.accept_admitted(job, warrant, launch).await?,
            None => Ok(self.0.store.submit(job).await?),
        };
        if let (Ok(id), Some(taken)) = (&accepted, taken) {
            taken.is_of(*id);
        }
        if let (Ok(id), Some(waiting)) = (&accepted, waiting) {
            self.0.scheduler.submitted(waiting(*id));
        }
        if let (Ok(_), Some(key)) = (&accepted, key) {
            key.keep();
        }
        Ok(accepted)
    }

    /// Record a job and have its warrant admitted, both at once: each waits
    /// for a disk. A job whose warrant is not admitted never starts.
    async fn accept_admitted(
        &self,
        job: NewJob,
        warrant: String,
        launch: Vec<u8>,
    ) -> Result<Result<JobId>> {
        let engine = &self.0.engine;
        let key = job.key.clone();
        let (owner, source, token) = (job.owner.clone(), job.source.clone(), job.token.clone());
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
        if key.is_some() || engine.check().is_err() {
            // Where the engine is away it may take long, and most likely fails:
            // nothing to record yet. And a key must never name a job that has no
            // admission, also where the broker is killed in between.
            admit.await?;
            let Err(error) = record.await else {
                return Ok(Ok(id));
            };
            let found = match &key {
                Some(key) => self.0.store.find_key(&owner, key).await,
                None => Ok(None),
            };
            return match found {
                Ok(Some(found)) if found == id => Ok(Ok(id)),
                Ok(_) => {
                    engine.revoke(first).await?;
                    Err(error)
                }
                // It may be on record: the same key, sent again, finds out.
                Err(_) => Err(error),
            };
        }
        let held = self.0.scheduler.hold(id);
        let (admitted, recorded) = tokio::join!(admit, record);
        drop(held);
        match (admitted, recorded) {
            (Ok(()), Ok(id)) => Ok(Ok(id)),
            (Ok(()), Err(error)) => {
                // If the commit's outcome is unknown the job may exist; it then
                // fails at its start, for the caller was told that it did not.
                engine.revoke(first).await?;
                Err(error)
            }
            (Err(error), Err(_)) => Err(error),
            (Err(error), Ok(id)) => {
                let wish = Cancel {
                    job: id,
                    by: owner,
                    source,
                    token,
                    note: error.message.clone(),
                    refused: true,
                    at: Micros::now(),
                };
                if self.withdraw(wish).await {
                    Ok(Err(error))
                } else {
                    Err(error)
                }
            }
        }
    }

    /// Cancel a job whose warrant was refused; whether that is on record. If
    /// it cannot be recorded, the job fails at its start, for want of an
    /// admission.
    async fn withdraw(&self, wish: Cancel) -> bool {
        let job = wish.job;
        match self.0.store.cancel(wish).await {
            Ok(answer) => {
                self.0.live.announce(job);
                answer == CancelAnswer::Cancelled
            }
            Err(error) => {
                tracing::error!(job.id = %job, %error, "a refused job stays on record");
                false
            }
        }
    }
}

fn owner(caller: &Caller) -> Owner {
    Owner {
        name: caller.name.clone(),
        uid: caller.uid,
    }
}
