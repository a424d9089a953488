//! How much of the queue is each user's: counted in memory, and read from the
//! tables at start. A user may have half of what the others leave, so that one
//! alone has much and there is always room for somebody else.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlx::FromRow;
use warrant_migrations::on;

use super::Store;
use crate::error::{Error, Kind, Result};
use crate::model::JobId;

/// The most jobs that are remembered as started before they were counted.
const EARLY: usize = 4096;

/// A number of jobs that wait, and the bytes of their definitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Jobs.
    pub jobs: u64,
    /// Bytes of their definitions.
    pub bytes: u64,
}

impl Load {
    const fn job(bytes: u64) -> Self {
        Self { jobs: 1, bytes }
    }

    const fn plus(self, other: Self) -> Self {
        Self {
            jobs: self.jobs.saturating_add(other.jobs),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    const fn minus(self, other: Self) -> Self {
        Self {
            jobs: self.jobs.saturating_sub(other.jobs),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// Who takes how much of the queue. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shares(Arc<Mutex<Counted>>);

#[derive(Debug)]
struct Counted {
    /// The most that may wait in all.
    most: Load,
    all: Load,
    of: HashMap<Arc<str>, Load>,
    /// Whose a job is that waits, and the bytes of its definition.
    jobs: HashMap<JobId, (Arc<str>, u64)>,
    /// Jobs that are counted and have no id yet.
    nameless: u64,
    /// Jobs that have started while some had no id yet: perhaps these.
    early: HashSet<JobId>,
}

/// A place in the queue for a job that is being accepted. Dropped, it is given
/// back, unless it became a job's.
#[derive(Debug)]
pub struct Taken {
    shares: Shares,
    owner: Option<Arc<str>>,
    bytes: u64,
}

impl Shares {
    /// An empty queue in which `most` may wait.
    pub fn new(most: Load) -> Self {
        Self(Arc::new(Mutex::new(Counted {
            most,
            all: Load::default(),
            of: HashMap::new(),
            jobs: HashMap::new(),
            nameless: 0,
            early: HashSet::new(),
        })))
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a job of `owner` whose definition has so many bytes.
    ///
    /// Errors: [`Kind::TooMany`] where the owner's share does not allow it.
    pub fn take(&self, owner: &str, bytes: u64) -> Result<Taken> {
        let mut counted = self.counted();
        let known = counted.of.get_key_value(owner);
        let (owner, own) = match known {
            Some((name, load)) => (name.clone(), *load),
            None => (Arc::from(owner), Load::default()),
        };
        let left = counted.most.minus(counted.all.minus(own));
        let share = Load {
            jobs: left.jobs.div_ceil(2),
            bytes: left.bytes.div_ceil(2),
        };
        let with = own.plus(Load::job(bytes));
        if with.jobs > share.jobs || with.bytes > share.bytes {
            return Err(used_up(own, share));
        }
        counted.add(&owner, bytes);
        counted.nameless += 1;
        Ok(Taken {
            shares: self.clone(),
            owner: Some(owner),
            bytes,
        })
    }

    /// A job waits no longer: it has started, or ended.
    pub(super) fn left(&self, job: JobId) {
        let mut counted = self.counted();
        match counted.jobs.remove(&job) {
            Some((owner, bytes)) => counted.remove(&owner, bytes),
            None if counted.nameless > 0 => {
                if counted.early.len() >= EARLY {
                    counted.early.clear();
                }
                counted.early.insert(job);
            }
            None => {}
        }
    }

    /// What waits in all.
    pub fn load(&self) -> Load {
        self.counted().all
    }

    fn found(&self, job: JobId, owner: &str, bytes: u64) {
        let mut counted = self.counted();
        let known = counted.of.get_key_value(owner);
        let owner = known.map_or_else(|| Arc::from(owner), |(name, _)| name.clone());
        counted.add(&owner, bytes);
        counted.jobs.insert(job, (owner, bytes));
    }
}

fn used_up(own: Load, share: Load) -> Error {
    let text = format!(
        "Your jobs take your share of the queue: {} wait, with {} bytes, and {} with {} bytes are \
         your share, half of what others leave. Submit again once some have started, or cancel \
         some.",
        own.jobs, own.bytes, share.jobs, share.bytes
    );
    Error::new(Kind::TooMany, text)
}

impl Counted {
    fn add(&mut self, owner: &Arc<str>, bytes: u64) {
        let job = Load::job(bytes);
        self.all = self.all.plus(job);
        let own = self.of.entry(owner.clone()).or_default();
        *own = own.plus(job);
    }

    fn remove(&mut self, owner: &Arc<str>, bytes: u64) {
        let job = Load::job(bytes);
        self.all = self.all.minus(job);
        if let Some(own) = self.of.get_mut(owner) {
            *own = own.minus(job);
            if own.jobs == 0 {
                self.of.remove(owner);
            }
        }
    }

    /// One that had no id has one, or is given up.
    fn named(&mut self) {
        self.nameless = self.nameless.saturating_sub(1);
        if self.nameless == 0 {
            self.early.clear();
        }
    }
}

impl Taken {
    /// The place is this job's, until it starts or ends.
    pub fn is_of(mut self, job: JobId) {
        if let Some(owner) = self.owner.take() {
            let mut counted = self.shares.counted();
            if counted.early.remove(&job) {
                counted.remove(&owner, self.bytes);
            } else {
                counted.jobs.insert(job, (owner, self.bytes));
            }
            counted.named();
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.take() {
            let mut counted = self.shares.counted();
            counted.remove(&owner, self.bytes);
            counted.named();
        }
    }
}

#[derive(FromRow)]
struct Row {
    id: i64,
    owner: String,
    bytes: i64,
}

impl Store {
    /// Who takes how much of the queue.
    pub const fn shares(&self) -> &Shares {
        &self.shares
    }

    /// Count what waits already. To be called once, before jobs are accepted.
    ///
    /// Errors: the store is away.
    pub async fn count_waiting(&self) -> Result<()> {
        const SQL: &str = "select j.id, j.owner, cast(octet_length(t.spec) as bigint) as bytes \
            from jobs j join tasks t on t.job_id = j.id and t.position = 0 \
            where j.state in ('queued', 'starting')";
        let mut conn = self.db.read().await?;
        let rows: Vec<Row> = on!(&mut conn, |db| sqlx::query_as(SQL).fetch_all(db).await)?;
        for row in rows {
            if let Some(job) = JobId::new(row.id) {
                self.shares.found(job, &row.owner, row.bytes.unsigned_abs());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: i64) -> JobId {
        JobId::new(number).unwrap()
    }

    fn shares(jobs: u64, bytes: u64) -> Shares {
        Shares::new(Load { jobs, bytes })
    }

    #[test]
    fn t129_each_gets_half_of_what_the_others_leave_and_there_is_always_room() {
        let shares = shares(100, 1_000_000);
        let fill = |owner: &str| {
            let mut held = Vec::new();
            while let Ok(taken) = shares.take(owner, 1) {
                held.push(taken);
            }
            held
        };
        let alice = fill("alice");
        assert_eq!(alice.len(), 50);
        let bob = fill("bob");
        assert_eq!(bob.len(), 25);
        let others: Vec<_> = ["carol", "dave", "erin"].map(&fill).into();
        assert_eq!(others.iter().map(Vec::len).collect::<Vec<_>>(), [13, 6, 3]);
        let error = shares.take("alice", 1).unwrap_err();
        assert_eq!(error.kind, Kind::TooMany);
        assert!(error.message.contains("50 wait"), "{}", error.message);
        drop(bob);
        assert_eq!(shares.load().jobs, 72);
    }

    #[test]
    fn t129_bytes_have_shares_as_well() {
        let shares = shares(100, 1000);
        let large = shares.take("alice", 500).unwrap();
        assert!(shares.take("alice", 1).is_err());
        assert!(shares.take("bob", 251).is_err());
        let bob = shares.take("bob", 250).unwrap();
        drop((large, bob));
        assert_eq!(shares.load(), Load::default());
    }

    #[test]
    fn a_job_counts_until_it_starts_however_early_that_is() {
        let shares = shares(100, 1000);
        shares.take("alice", 10).unwrap().is_of(id(1));
        assert_eq!(shares.load(), Load::job(10));
        shares.left(id(1));
        shares.left(id(1));
        let taken = shares.take("alice", 10).unwrap();
        shares.left(id(2));
        taken.is_of(id(2));
        assert_eq!(shares.load(), Load::default());
        assert!(shares.counted().of.is_empty() && shares.counted().early.is_empty());
    }
}
