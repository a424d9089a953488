//! What can be written, as data: so that a batch can be applied again.

use warrant_trail::Row;

use super::keys::KeyRow;
use crate::model::{Attempt, Dialect, Ending, Exception, Footprint, JobId, Micros, Owner, State};

/// A job to be accepted.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Its id, where [`super::Store::reserve`] gave one; else it gets the next.
    pub id: Option<JobId>,
    /// Whose it is.
    pub owner: Owner,
    /// What lists call it.
    pub name: String,
    /// The API it came by.
    pub dialect: Dialect,
    /// 0 to 31.
    pub urgency: u8,
    /// Program and arguments on one line.
    pub command: String,
    /// The directory it starts in.
    pub workdir: Option<String>,
    /// What it takes.
    pub footprint: Footprint,
    /// Seconds it may run; 0 means no limit.
    pub time_limit_s: u64,
    /// Its task, as JSON.
    pub spec: String,
    /// When it was accepted.
    pub submitted: Micros,
    /// Set where the job can never run: it is accepted as failed.
    pub refused: Option<Exception>,
    /// Where it came from, for the audit trail.
    pub source: String,
    /// With which token, for the audit trail.
    pub token: Option<String>,
    /// The SHA-256 of what it runs, in hexadecimal, for the audit trail.
    pub job_sha256: String,
    /// The idempotency key of the request, where it had one.
    pub key: Option<KeyRow>,
}

impl NewJob {
    /// The state it is accepted in.
    pub const fn state(&self) -> State {
        match self.refused {
            None => State::Queued,
            Some(_) => State::Failed,
        }
    }
}

/// A queued job taken for running.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The job.
    pub job: JobId,
    /// Which try this is.
    pub attempt: Attempt,
    /// The engine that will run it.
    pub engine: &'static str,
    /// The broker that claims it: only that one recovers it.
    pub host: String,
    /// This machine's boot, so that a try from before a crash is known.
    pub boot: String,
    /// The machine, for people.
    pub node: String,
    /// The cores it gets there; `None` where its start will tell.
    pub placement: Option<String>,
    /// When.
    pub at: Micros,
}

/// That a run's first process exists.
#[derive(Debug, Clone)]
pub struct Start {
    /// Since when.
    pub at: Micros,
    /// The cores that the run was given; `None` where its claim tells.
    pub placement: Option<String>,
}

/// A step in a job's life after its claim.
#[derive(Debug, Clone)]
pub enum Step {
    /// Its first process exists.
    Started {
        /// The job.
        job: JobId,
        /// Which try.
        attempt: Attempt,
        /// When and where.
        start: Start,
    },
    /// It is over.
    Ended {
        /// The job.
        job: JobId,
        /// Which try.
        attempt: Attempt,
        /// Its start, where that is not on record yet.
        start: Option<Start>,
        /// How.
        ending: Ending,
    },
    /// It was never started, and waits again; or is cancelled, where that is
    /// wanted.
    Requeued {
        /// The job.
        job: JobId,
        /// Which try.
        attempt: Attempt,
        /// Whether the engine ever had it; if not, the try does not count.
        tried: bool,
        /// When.
        at: Micros,
    },
}

/// What became of a request to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelAnswer {
    /// It had not started and never will.
    Cancelled,
    /// It is starting or running; the wish is recorded.
    Requested(Attempt),
    /// It had ended before.
    Ended,
    /// There is no such job.
    Unknown,
}

/// A wish to cancel one job.
#[derive(Debug, Clone)]
pub struct Cancel {
    /// The job.
    pub job: JobId,
    /// Who asks.
    pub by: Owner,
    /// Where from.
    pub source: String,
    /// With which token, for the audit trail.
    pub token: Option<String>,
    /// Why, for the job's owner; empty where it was they who asked.
    pub note: String,
    /// Whether nobody asks for it: the job was recorded, and refused after all.
    pub refused: bool,
    /// When.
    pub at: Micros,
}

/// Anything that can be written.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// See that there are ids for jobs to come.
    Reserve,
    /// Never give the ids up to this one.
    GoBeyond(i64),
    /// Accept a job.
    Submit(NewJob),
    /// Take a queued job for running.
    Claim(Claim),
    /// Record a step.
    Step(Step),
    /// Cancel.
    Cancel(Cancel),
    /// Add a row to the audit trail.
    Note(Box<Row>),
    /// Remove some of the idempotency keys from before this time.
    RemoveKeys(i64),
}

impl Change {
    /// Whether it adds to the audit trail.
    pub(super) const fn is_audited(&self) -> bool {
        match self {
            Self::Submit(_) | Self::Cancel(_) | Self::Note(_) => true,
            Self::Reserve
            | Self::GoBeyond(_)
            | Self::Claim(_)
            | Self::Step(_)
            | Self::RemoveKeys(_) => false,
        }
    }
}

/// What came of a [`Change`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// The job was accepted under this id.
    Submitted(JobId),
    /// Whether the job was where the change expected it; if not, nothing changed.
    Stepped(bool),
    /// What became of the wish.
    Cancel(CancelAnswer),
    /// It is done: the row is added, or there are ids.
    Noted,
    /// So many were removed.
    Removed(i64),
}
