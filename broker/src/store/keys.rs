//! Idempotency keys: a submission that comes again is answered with the job that
//! it became. The key is written with the job, and counts for a day. How many
//! each user has is counted in memory, by the hour in which they were made.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::FromRow;
use warrant_migrations::{Spelt, Tx, on};

use super::Store;
use super::changes::{Change, Done};
use super::text::same;
use crate::error::{Error, Kind, Result};
use crate::model::{JobId, Micros, Owner, RequestKey};

/// How long a key counts, in microseconds.
const LIFE_US: i64 = 24 * HOUR_US;
const HOUR_US: i64 = 3_600_000_000;
/// The most keys that one statement removes.
const REMOVED: i64 = 512;
/// How often keys that do not count any more are removed.
const EVERY: Duration = Duration::from_mins(10);

/// The row of a key.
#[derive(Debug, Clone)]
pub struct KeyRow {
    /// The key, and of which request.
    pub of: RequestKey,
    /// When the request came.
    pub made: Micros,
}

/// A user, as keys know them: the name, and the user id or -1.
type User = (String, i64);

fn user(owner: &Owner) -> User {
    (owner.name.clone(), uid(owner))
}

/// The user id of an owner as the table has it.
pub(super) fn uid(owner: &Owner) -> i64 {
    owner.uid.map_or(-1, i64::from)
}

/// The keys that are kept, counted, and those of requests that are not yet
/// answered. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Keys(Arc<Mutex<Counted>>);

#[derive(Debug)]
struct Counted {
    /// The most that are kept.
    most: u64,
    all: u64,
    /// By user, and by the hour in which they were made.
    of: HashMap<User, BTreeMap<i64, u64>>,
    /// The hashes of requests that are not yet answered, by user and key.
    under_way: HashMap<(User, String), String>,
}

/// What is known of a submission with a key.
#[derive(Debug)]
pub enum Submitted {
    /// It is new.
    Now(UnderWay),
    /// It became this job.
    Before(JobId),
}

/// A submission with a key that is not yet answered. Dropped, its key is free
/// again, unless [`UnderWay::keep`] was called.
#[derive(Debug)]
pub struct UnderWay {
    keys: Keys,
    user: User,
    row: KeyRow,
    counted: bool,
}

impl UnderWay {
    /// What is to be written with the job.
    pub fn row(&self) -> KeyRow {
        self.row.clone()
    }

    /// The key is on record.
    pub fn keep(mut self) {
        self.counted = false;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut counted = self.keys.counted();
        let key = (self.user.clone(), self.row.of.key.clone());
        counted.under_way.remove(&key);
        if self.counted {
            counted.remove(&self.user, self.row.made);
        }
    }
}

impl Keys {
    /// No keys yet, and `most` may be kept.
    pub(super) fn new(most: u64) -> Self {
        Self(Arc::new(Mutex::new(Counted {
            most,
            all: 0,
            of: HashMap::new(),
            under_way: HashMap::new(),
        })))
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Take a key for a request that is about to be answered.
    ///
    /// Errors: a request with the same key is not yet answered:
    /// [`Kind::InProgress`], or [`Kind::KeyReused`] where it is another one.
    fn begin(&self, owner: &Owner, of: RequestKey) -> Result<UnderWay> {
        let user = user(owner);
        let mut counted = self.counted();
        let key = (user.clone(), of.key.clone());
        if let Some(other) = counted.under_way.get(&key) {
            return Err(if *other == of.request_sha256 {
                let text = "A request with this Idempotency-Key is still being answered. Send it \
                    again later.";
                Error::new(Kind::InProgress, text)
            } else {
                reused()
            });
        }
        counted.under_way.insert(key, of.request_sha256.clone());
        drop(counted);
        Ok(UnderWay {
            keys: self.clone(),
            user,
            row: KeyRow {
                of,
                made: Micros::now(),
            },
            counted: false,
        })
    }

    /// Count a new key: a user may have half of what the others leave.
    ///
    /// Errors: [`Kind::TooMany`] where the user's share is used up.
    fn count(&self, under_way: &mut UnderWay) -> Result<()> {
        let mut counted = self.counted();
        let hours = counted.of.get(&under_way.user);
        let own = hours.map_or(0, |hours| hours.values().sum());
        let others = counted.all.saturating_sub(own);
        let share = counted.most.saturating_sub(others).div_ceil(2);
        if own >= share {
            let text = format!(
                "You have used {own} idempotency keys in the last day, and {share} are your share, \
                 half of what others leave. Submit without the header Idempotency-Key, or later."
            );
            return Err(Error::new(Kind::TooMany, text));
        }
        counted.add(under_way.user.clone(), hour(under_way.row.made.get()), 1);
        under_way.counted = true;
        Ok(())
    }

    /// Forget the keys that were made before this hour.
    fn forget_before(&self, before: i64) {
        let mut counted = self.counted();
        let mut gone = 0;
        counted.of.retain(|_, hours| {
            let kept = hours.split_off(&before);
            gone += hours.values().sum::<u64>();
            *hours = kept;
            !hours.is_empty()
        });
        counted.all = counted.all.saturating_sub(gone);
    }
}

impl Counted {
    fn add(&mut self, user: User, hour: i64, keys: u64) {
        *self.of.entry(user).or_default().entry(hour).or_default() += keys;
        self.all += keys;
    }

    fn remove(&mut self, user: &User, made: Micros) {
        let Some(hours) = self.of.get_mut(user) else {
            return;
        };
        let hour = hour(made.get());
        if let Some(keys) = hours.get_mut(&hour) {
            *keys = keys.saturating_sub(1);
            self.all = self.all.saturating_sub(1);
            if *keys == 0 {
                hours.remove(&hour);
            }
        }
        if hours.is_empty() {
            self.of.remove(user);
        }
    }
}

const fn hour(us: i64) -> i64 {
    us.div_euclid(HOUR_US)
}

fn reused() -> Error {
    let text = "This Idempotency-Key was used for another request in the last 24 hours.";
    Error::new(Kind::KeyReused, text)
}

/// What is written with a job that has a key. A row that does not count any more
/// is replaced; jobs without a key have none.
pub(super) const KEYS: Spelt = same(
    "insert into submit_keys (owner, owner_uid, key, request_sha256, job_id, made_us) \
     select v.column1, v.column2, v.column3, v.column4, v.column5, v.column6 from (",
);
pub(super) const OF_KEYS: Spelt = same(
    ") as v where v.column3 is not null on conflict (owner, owner_uid, key) do update set \
     request_sha256 = excluded.request_sha256, job_id = excluded.job_id, \
     made_us = excluded.made_us",
);

/// Remove some of the keys that were made before `before_us`: how many.
pub(super) async fn remove(tx: &mut Tx, before_us: i64) -> sqlx::Result<u64> {
    const SQL: &str = "delete from submit_keys where (owner, owner_uid, key) in \
        (select owner, owner_uid, key from submit_keys where made_us < $1 limit $2)";
    on!(tx, |db| sqlx::query(SQL)
        .bind(before_us)
        .bind(REMOVED)
        .execute(db)
        .await
        .map(|done| done.rows_affected()))
}

#[derive(FromRow)]
struct Found {
    request_sha256: String,
    job_id: i64,
}

#[derive(FromRow)]
struct Hour {
    owner: String,
    owner_uid: i64,
    hour: i64,
    keys: i64,
}

impl Store {
    /// What is known of a submission of `owner`'s with a key: whether it is new.
    ///
    /// Errors: one with the same key is not yet answered, or the key was used
    /// for another; the owner's share of keys is used up; the store is away.
    pub async fn begin_keyed(&self, owner: &Owner, of: RequestKey) -> Result<Submitted> {
        let mut under_way = self.keys.begin(owner, of)?;
        if let Some(found) = self.find_key(owner, &under_way.row).await? {
            return Ok(Submitted::Before(found));
        }
        self.keys.count(&mut under_way)?;
        Ok(Submitted::Now(under_way))
    }

    /// The job that a submission became.
    ///
    /// Errors: [`Kind::KeyReused`] where its key is another's; the store is away.
    pub async fn find_key(&self, owner: &Owner, row: &KeyRow) -> Result<Option<JobId>> {
        const SQL: &str = "select request_sha256, job_id from submit_keys \
            where owner = $1 and owner_uid = $2 and key = $3 and made_us >= $4";
        let mut conn = self.db.read().await?;
        let found: Option<Found> = on!(&mut conn, |db| sqlx::query_as(SQL)
            .bind(&owner.name)
            .bind(uid(owner))
            .bind(&row.of.key)
            .bind(row.made.get() - LIFE_US)
            .fetch_optional(db)
            .await)?;
        match found {
            Some(found) if found.request_sha256 != row.of.request_sha256 => Err(reused()),
            Some(found) => Ok(JobId::new(found.job_id)),
            None => Ok(None),
        }
    }

    /// Count the keys that are kept. To be called once, before jobs are accepted.
    ///
    /// Errors: the store is away.
    pub async fn count_keys(&self) -> Result<()> {
        const SQL: &str = "select owner, owner_uid, made_us / 3600000000 as hour, \
            count(*) as keys from submit_keys group by 1, 2, 3";
        let mut conn = self.db.read().await?;
        let rows: Vec<Hour> = on!(&mut conn, |db| sqlx::query_as(SQL).fetch_all(db).await)?;
        let mut counted = self.keys.counted();
        for row in rows {
            let user = (row.owner, row.owner_uid);
            counted.add(user, row.hour, row.keys.unsigned_abs());
        }
        Ok(())
    }

    /// Remove keys that do not count any more, again and again.
    pub async fn expire_keys(self) {
        loop {
            if let Err(error) = self.remove_expired_keys().await {
                tracing::warn!(%error, "idempotency keys that have expired stay on record");
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn remove_expired_keys(&self) -> Result<()> {
        let before = hour(Micros::now().get() - LIFE_US);
        let change = || Change::RemoveKeys(before.saturating_mul(HOUR_US));
        while let Done::Removed(REMOVED) = self.writer.write(change()).await? {}
        self.keys.forget_before(before);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> Owner {
        Owner {
            name: name.into(),
            uid: None,
        }
    }

    fn request(key: &str, request: &str) -> RequestKey {
        RequestKey {
            key: key.into(),
            request_sha256: request.into(),
        }
    }

    fn left(keys: &Keys) -> (u64, usize) {
        let counted = keys.counted();
        (counted.all, counted.of.len())
    }

    fn kept(keys: &Keys, name: &str, key: &str) -> Result<()> {
        let mut under_way = keys.begin(&owner(name), request(key, "r"))?;
        keys.count(&mut under_way)?;
        under_way.keep();
        Ok(())
    }

    #[test]
    fn a_request_with_the_key_of_one_under_way_is_told_so_and_another_that_it_is_another() {
        let keys = Keys::new(10);
        let first = keys.begin(&owner("ann"), request("k", "r")).unwrap();
        let kind = |request: RequestKey| keys.begin(&owner("ann"), request).unwrap_err().kind;
        assert_eq!(kind(request("k", "r")), Kind::InProgress);
        assert_eq!(kind(request("k", "other")), Kind::KeyReused);
        let of_ben = keys.begin(&owner("ben"), request("k", "other")).unwrap();
        drop((first, of_ben));
        assert!(keys.begin(&owner("ann"), request("k", "other")).is_ok());
        assert!(keys.counted().under_way.is_empty());
    }

    #[test]
    fn each_user_has_half_of_the_keys_that_the_others_leave_until_they_expire() {
        let keys = Keys::new(8);
        let fill = |name: &str| {
            let numbers = 0..100;
            numbers
                .map(|n| kept(&keys, name, &format!("{n}")))
                .take_while(Result::is_ok)
                .count()
        };
        assert_eq!([fill("ann"), fill("ben"), fill("cem")], [4, 2, 1]);
        let error = kept(&keys, "ann", "more").unwrap_err();
        assert_eq!(error.kind, Kind::TooMany);
        let now = hour(Micros::now().get());
        keys.forget_before(now - 24);
        assert_eq!(fill("ann"), 0);
        keys.forget_before(now + 2);
        assert_eq!(left(&keys), (0, 0));
        assert_eq!(fill("ann"), 4);
    }

    #[test]
    fn a_key_whose_request_failed_is_not_counted() {
        let keys = Keys::new(8);
        let mut under_way = keys.begin(&owner("ann"), request("k", "r")).unwrap();
        keys.count(&mut under_way).unwrap();
        assert_eq!(keys.counted().all, 1);
        drop(under_way);
        assert_eq!(left(&keys), (0, 0));
    }
}
