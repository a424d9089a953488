//! SQL and nothing else. Writes go through one `writer` that commits many
//! at once; reads take connections of their own.

mod audit;
mod changes;
mod counts;
mod details;
mod identity;
mod jobs;
mod keys;
mod late;
mod queue;
mod search;
mod shares;
mod skip;
mod steps;
mod submit;
mod tasks;
#[cfg(test)]
mod tests;
mod text;
mod writer;

use std::sync::Arc;

use tokio::sync::Mutex;
use warrant_migrations::{Db, Reserve};
use warrant_trail::{Row, Trail};
use warrant_upkeep::{Findings, check_clock};

pub use changes::{Cancel, CancelAnswer, Claim, NewJob, Start, Step};
use changes::{Change, Done};
pub use identity::{Identity, identity, take_over};
pub use jobs::{Page, Whose, is_part};
use keys::Keys;
pub use keys::{KeyRow, Submitted, UnderWay};
pub use queue::{Queued, Unfinished};
pub use search::{Matches, Query};
pub use shares::{Load, Shares, Taken};
pub use skip::skip_ids;
use writer::Writer;

use crate::error::{Error, Kind, Result, Sort};
use crate::metrics::Metrics;
use crate::model::{JobId, State};

/// The job store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    db: Db,
    writer: Writer,
    texts: search::Texts,
    /// Room on the disk for what must be recorded, where the database is a file.
    reserve: Option<Arc<Reserve>>,
    ids: submit::IdPool,
    /// Held by who asks for more ids.
    asking: Arc<Mutex<()>>,
    shares: Shares,
    metrics: Metrics,
    keys: Keys,
}

impl Store {
    /// A store over an open, migrated database, in which `most` may wait and so
    /// many idempotency keys are kept, and which tells `metrics` what becomes of
    /// jobs. Starts the writer's task, and begins to copy what is searched.
    pub fn new(
        db: Db,
        reserve: Option<Arc<Reserve>>,
        most: Load,
        keys: u64,
        metrics: Metrics,
    ) -> Self {
        let ids = submit::IdPool::default();
        let writer = Writer::start(db.clone(), reserve.clone(), ids.clone(), metrics.clone());
        let texts = search::Texts::start(db.clone());
        Self {
            db,
            writer,
            texts,
            reserve,
            ids,
            asking: Arc::default(),
            shares: Shares::new(most),
            metrics,
            keys: Keys::new(keys),
        }
    }

    /// An id for a job that is not yet accepted, greater than all that were
    /// given. One that is never used is skipped for ever.
    ///
    /// Errors: the store is away, full or too busy.
    pub async fn reserve(&self) -> Result<JobId> {
        self.check_room()?;
        loop {
            if let Some(id) = self.ids.pop() {
                return Ok(id);
            }
            let _asking = self.asking.lock().await;
            if !self.ids.has(1) {
                self.note_done(Change::Reserve).await?;
            }
        }
    }

    /// Never give the ids up to `highest` to jobs: they were used before.
    ///
    /// Errors: the store is away, full or too busy.
    pub async fn go_beyond(&self, highest: i64) -> Result<()> {
        self.note_done(Change::GoBeyond(highest)).await
    }

    async fn note_done(&self, change: Change) -> Result<()> {
        match self.writer.write(change).await? {
            Done::Noted => Ok(()),
            Done::Submitted(_) | Done::Stepped(_) | Done::Cancel(_) | Done::Removed(_) => {
                Err(confused())
            }
        }
    }

    /// See that there is room for new jobs besides what must be recorded.
    fn check_room(&self) -> Result<()> {
        match &self.reserve {
            Some(reserve) if reserve.is_needed() => {
                let (kind, words) = Sort::Full.words();
                Err(Error::new(kind, words))
            }
            _ => Ok(()),
        }
    }

    /// Accept a job. Returns when it is durable.
    ///
    /// Errors: the store is away, full or too busy; then there is no such job.
    pub async fn submit(&self, job: NewJob) -> Result<JobId> {
        self.check_room()?;
        match self.writer.write(Change::Submit(job)).await? {
            Done::Submitted(id) => {
                self.metrics.submitted();
                Ok(id)
            }
            Done::Stepped(_) | Done::Cancel(_) | Done::Noted | Done::Removed(_) => Err(confused()),
        }
    }

    /// Take a queued job for running; `false` where it waits no more.
    ///
    /// Errors: the store is away or full.
    pub async fn claim(&self, claim: Claim) -> Result<bool> {
        self.stepped(Change::Claim(claim)).await
    }

    /// Record a step; `false` where the job is past it already, which changes
    /// nothing.
    ///
    /// Errors: the store is away or full.
    pub async fn step(&self, step: Step) -> Result<bool> {
        // One that waits again may be cancelled by that: it is not counted any
        // more until the next start.
        let (Step::Started { job, .. } | Step::Ended { job, .. } | Step::Requeued { job, .. }) =
            step;
        let end = match &step {
            Step::Ended { ending, .. } => Some((ending.state, ending.usage.dropped_bytes)),
            Step::Started { .. } | Step::Requeued { .. } => None,
        };
        let stepped = self.stepped(Change::Step(step)).await?;
        if let Some((state, dropped_bytes)) = end.filter(|_| stepped) {
            let dropped_bytes = u64::try_from(dropped_bytes).unwrap_or(0);
            self.metrics.ended(state, dropped_bytes);
        }
        self.shares.left(job);
        Ok(stepped)
    }

    async fn stepped(&self, change: Change) -> Result<bool> {
        match self.writer.insist(change).await? {
            Done::Stepped(stepped) => Ok(stepped),
            Done::Submitted(_) | Done::Cancel(_) | Done::Noted | Done::Removed(_) => {
                Err(confused())
            }
        }
    }

    /// Cancel a job that waits, or record the wish where it runs.
    ///
    /// Errors: the store is away, full or too busy.
    pub async fn cancel(&self, cancel: Cancel) -> Result<CancelAnswer> {
        let job = cancel.job;
        match self.writer.write(Change::Cancel(cancel)).await? {
            Done::Cancel(answer) => {
                if answer == CancelAnswer::Cancelled {
                    self.shares.left(job);
                    self.metrics.ended(State::Cancelled, 0);
                }
                Ok(answer)
            }
            Done::Submitted(_) | Done::Stepped(_) | Done::Noted | Done::Removed(_) => {
                Err(confused())
            }
        }
    }

    /// Add a row to the audit trail. Returns when it is durable.
    ///
    /// Errors: the store is away, full or too busy; then it is not added.
    pub async fn record(&self, row: Row) -> Result<()> {
        self.note_done(Change::Note(Box::new(row))).await
    }

    /// Have a row added to the audit trail soon.
    ///
    /// Errors: the store is too busy to take it.
    pub fn note(&self, row: Row) -> Result<()> {
        self.writer.leave(Change::Note(Box::new(row)))
    }

    /// The metrics of jobs and commits.
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Check of the clock: it is neither behind the audit trail nor far from the
    /// database's.
    ///
    /// Errors: what is wrong, in words.
    pub async fn check_clock(&self) -> std::result::Result<(), String> {
        let mut findings = Findings::default();
        check_clock(&Trail::BROKER, Some(&self.db), &mut findings).await;
        match findings.all().first() {
            None => Ok(()),
            Some(finding) => Err(finding.message.clone()),
        }
    }

    /// See that the database answers.
    ///
    /// Errors: it does not.
    pub async fn ping(&self) -> Result<()> {
        let mut conn = self.db.read().await?;
        warrant_migrations::on!(&mut conn, |db| {
            sqlx::query_scalar::<_, i32>("select 1").fetch_one(db).await
        })?;
        Ok(())
    }
}

fn confused() -> Error {
    Error::new(
        Kind::Internal,
        "The job store gave an answer to another question.",
    )
}
