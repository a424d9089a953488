//! How many wrong passwords are borne before answers are refused for a while.
//!
//! Only failures count. They drain three token buckets: one for the account
//! and the source together, one for the source, one for the account. The
//! first two refuse when empty. The third only slows, because whoever could
//! empty it could otherwise lock the account's owner out. Nothing is locked
//! for good, and a success pays nothing back.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::source::Source;
use crate::user_name::UserName;

/// Failures a minute for one account from one source.
const PAIR_PER_MINUTE: f64 = 10.0;
/// Failures a minute from one source, over all accounts.
const SOURCE_PER_MINUTE: f64 = 100.0;
/// Failures a minute for one account, over all sources, before it is slowed.
const ACCOUNT_PER_MINUTE: f64 = 100.0;
/// How much an attempt is slowed while an account's bucket is empty.
const SLOWED_BY: Duration = Duration::from_secs(1);
/// Buckets of each sort. Twice what two hashes at once can fill in a minute.
const MAX_BUCKETS: usize = 16_384;

/// What to do with an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Look at the password.
    Proceed,
    /// Look at the password after this long.
    Slow(Duration),
    /// Refuse without looking; the caller may try again after this many
    /// seconds, at least 1.
    Refuse(u64),
}

/// Failures of the last minute. Names that cannot exist share one account.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    pairs: HashMap<(Option<UserName>, Source), Bucket>,
    sources: HashMap<Source, Bucket>,
    accounts: HashMap<Option<UserName>, Bucket>,
}

/// How many failures were recorded and not yet forgiven, as of `at`.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    failures: f64,
    at: Instant,
}

impl Bucket {
    fn failures(self, limit: f64, now: Instant) -> f64 {
        let forgiven = now.saturating_duration_since(self.at).as_secs_f64() * limit / 60.0;
        (self.failures - forgiven).max(0.0)
    }
}

impl Throttle {
    /// Judge an attempt before its password is looked at.
    pub(crate) fn check(
        &self,
        account: Option<&UserName>,
        source: &Source,
        now: Instant,
    ) -> Verdict {
        let buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pair = (account.cloned(), source.clone());
        let wait_s = wait_s(buckets.pairs.get(&pair), PAIR_PER_MINUTE, now).max(wait_s(
            buckets.sources.get(source),
            SOURCE_PER_MINUTE,
            now,
        ));
        if wait_s > 0 {
            return Verdict::Refuse(wait_s);
        }
        match wait_s_of_account(&buckets, &pair.0, now) {
            0 => Verdict::Proceed,
            _ => Verdict::Slow(SLOWED_BY),
        }
    }

    /// Record that an attempt failed.
    pub(crate) fn fail(&self, account: Option<&UserName>, source: &Source, now: Instant) {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let account = account.cloned();
        add(
            &mut buckets.pairs,
            (account.clone(), source.clone()),
            PAIR_PER_MINUTE,
            now,
        );
        add(&mut buckets.sources, source.clone(), SOURCE_PER_MINUTE, now);
        add(&mut buckets.accounts, account, ACCOUNT_PER_MINUTE, now);
    }
}

fn wait_s_of_account(buckets: &Buckets, account: &Option<UserName>, now: Instant) -> u64 {
    wait_s(buckets.accounts.get(account), ACCOUNT_PER_MINUTE, now)
}

/// Seconds until one more failure fits below `limit` a minute; 0 when it does.
fn wait_s(bucket: Option<&Bucket>, limit: f64, now: Instant) -> u64 {
    let failures = bucket.map_or(0.0, |bucket| bucket.failures(limit, now));
    let excess = failures + 1.0 - limit;
    if excess <= 0.0 {
        return 0;
    }
    // `limit` is at least 1 and `excess` at most 1 + limit: a minute or two.
    ((excess * 60.0 / limit).ceil() as u64).max(1)
}

fn add<K: Hash + Eq + Clone>(buckets: &mut HashMap<K, Bucket>, key: K, limit: f64, now: Instant) {
    if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&key) {
        buckets.retain(|_, bucket| bucket.failures(limit, now) > 0.0);
    }
    if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&key) {
        // Every bucket is in use: forget the one with the least to forget.
        let least = buckets
            .iter()
            .min_by(|(_, a), (_, b)| a.failures(limit, now).total_cmp(&b.failures(limit, now)))
            .map(|(key, _)| key.clone());
        if let Some(least) = least {
            buckets.remove(&least);
        }
    }
    let bucket = buckets.entry(key).or_insert(Bucket {
        failures: 0.0,
        at: now,
    });
    *bucket = Bucket {
        failures: (bucket.failures(limit, now) + 1.0).min(limit),
        at: now,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn name(text: &str) -> UserName {
        UserName::parse(text).unwrap()
    }

    fn source(number: u32) -> Source {
        Source::of_address(std::net::Ipv4Addr::from_bits(number).into())
    }

    fn fail(throttle: &Throttle, times: u32, user: &UserName, from: &Source, now: Instant) {
        for _ in 0..times {
            throttle.fail(Some(user), from, now);
        }
    }

    #[test]
    fn the_eleventh_try_in_a_minute_waits_and_the_wait_is_as_long_as_said() {
        let (throttle, ann, from, now) =
            (Throttle::default(), name("ann"), source(1), Instant::now());
        fail(&throttle, 9, &ann, &from, now);
        assert_eq!(throttle.check(Some(&ann), &from, now), Verdict::Proceed);
        fail(&throttle, 1, &ann, &from, now);
        assert_eq!(throttle.check(Some(&ann), &from, now), Verdict::Refuse(6));
        assert_eq!(
            throttle.check(Some(&ann), &from, now + 5 * SECOND),
            Verdict::Refuse(1)
        );
        assert_eq!(
            throttle.check(Some(&ann), &from, now + 6 * SECOND),
            Verdict::Proceed
        );
    }

    #[test]
    fn nobody_is_locked_out_for_longer_than_a_minute() {
        let (throttle, ann, from, now) =
            (Throttle::default(), name("ann"), source(1), Instant::now());
        fail(&throttle, 100_000, &ann, &from, now);
        assert_eq!(
            throttle.check(Some(&ann), &from, now + 60 * SECOND),
            Verdict::Proceed
        );
    }

    #[test]
    fn the_owner_of_an_attacked_account_gets_in_from_elsewhere() {
        let (throttle, ann, now) = (Throttle::default(), name("ann"), Instant::now());
        fail(&throttle, 50, &ann, &source(1), now);
        assert_eq!(
            throttle.check(Some(&ann), &source(2), now),
            Verdict::Proceed
        );
        for attacker in 10..60 {
            fail(&throttle, 10, &ann, &source(attacker), now);
        }
        assert_eq!(
            throttle.check(Some(&ann), &source(2), now),
            Verdict::Slow(SLOWED_BY)
        );
        assert_eq!(
            throttle.check(Some(&name("bob")), &source(2), now),
            Verdict::Proceed
        );
    }

    #[test]
    fn one_source_cannot_try_many_accounts() {
        let (throttle, from, now) = (Throttle::default(), source(1), Instant::now());
        for user in 0..100 {
            fail(&throttle, 1, &name(&format!("user{user}")), &from, now);
        }
        assert!(matches!(
            throttle.check(Some(&name("ann")), &from, now),
            Verdict::Refuse(1)
        ));
        assert_eq!(
            throttle.check(Some(&name("ann")), &source(2), now),
            Verdict::Proceed
        );
    }

    #[test]
    fn names_that_cannot_exist_share_one_account() {
        let (throttle, from, now) = (Throttle::default(), source(1), Instant::now());
        for _ in 0..10 {
            throttle.fail(None, &from, now);
        }
        assert_eq!(throttle.check(None, &from, now), Verdict::Refuse(6));
        assert_eq!(
            throttle.check(Some(&name("ann")), &from, now),
            Verdict::Proceed
        );
    }

    #[test]
    fn memory_stays_bounded_and_the_worst_offender_is_not_forgotten() {
        let mut buckets = HashMap::new();
        let now = Instant::now();
        for _ in 0..5 {
            add(&mut buckets, u32::MAX, PAIR_PER_MINUTE, now);
        }
        for key in 0..MAX_BUCKETS as u32 + 100 {
            add(&mut buckets, key, PAIR_PER_MINUTE, now);
        }
        assert_eq!(buckets.len(), MAX_BUCKETS);
        assert!(buckets.contains_key(&u32::MAX));
        add(&mut buckets, 0, PAIR_PER_MINUTE, now + 60 * SECOND);
        add(
            &mut buckets,
            u32::MAX - 1,
            PAIR_PER_MINUTE,
            now + 60 * SECOND,
        );
        assert!(buckets.len() <= 2, "{}", buckets.len());
    }
}
