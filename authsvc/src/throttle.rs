//! How many wrong passwords are borne before answers are refused for a while.
//!
//! Only failures count. They drain three token buckets: one for the account
//! and the source together, one for the source, one for the account. The first
//! refuses when empty. The third only slows, because whoever could empty it
//! could otherwise lock the account's owner out. The second does both, because
//! many users can share an address: accounts that logged in from there before
//! are not concerned, all others take turns, one a second. Nothing is locked for
//! good, and a success pays nothing back. See ADR 30.

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
/// The time between two attempts of a source whose bucket is empty.
const TURN: Duration = Duration::from_secs(1);
/// The longest that an attempt waits for its turn.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// The most turns of a source that were given and not taken.
const MAX_GIVEN: u32 = 16;
/// How long a login makes its account known at a source.
const KNOWN: Duration = Duration::from_secs(30 * 86_400);
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
    turns: HashMap<Source, Turns>,
    /// Accounts that logged in from a source, and when they last did.
    known: HashMap<(UserName, Source), Instant>,
}

/// The turns of a source whose bucket is empty.
#[derive(Debug, Clone, Copy)]
struct Turns {
    /// When the next is free.
    next: Instant,
    /// Those that were given and not taken yet.
    given: u32,
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
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(refused) = buckets.pair_refuses(account, source, now) {
            return refused;
        }
        if buckets.source_is_empty(source, now) && !buckets.knows(account, source, now) {
            return buckets.give_turn(source, now);
        }
        match wait_s(
            buckets.accounts.get(&account.cloned()),
            ACCOUNT_PER_MINUTE,
            now,
        ) {
            0 => Verdict::Proceed,
            _ => Verdict::Slow(SLOWED_BY),
        }
    }

    /// Judge an attempt that [`Throttle::check`] let through, once it has waited
    /// with others that may have failed meanwhile.
    pub(crate) fn check_again(
        &self,
        account: Option<&UserName>,
        source: &Source,
        now: Instant,
    ) -> Verdict {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(refused) = buckets.pair_refuses(account, source, now) {
            return refused;
        }
        if !buckets.source_is_empty(source, now) || buckets.knows(account, source, now) {
            return Verdict::Proceed;
        }
        match buckets.turns.get_mut(source) {
            Some(turns) if turns.given > 0 => {
                turns.given -= 1;
                Verdict::Proceed
            }
            Some(_) | None => Verdict::Refuse(1),
        }
    }

    /// Record that an account logged in from a source.
    pub(crate) fn succeed(&self, account: &UserName, source: &Source, now: Instant) {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = &mut buckets.known;
        let pair = (account.clone(), source.clone());
        if known.len() >= MAX_BUCKETS && !known.contains_key(&pair) {
            let oldest = known.iter().min_by_key(|(_, at)| **at);
            if let Some(oldest) = oldest.map(|(pair, _)| pair.clone()) {
                known.remove(&oldest);
            }
        }
        known.insert(pair, now);
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

impl Buckets {
    /// The refusal, where the account failed too often from the source.
    fn pair_refuses(
        &self,
        account: Option<&UserName>,
        source: &Source,
        now: Instant,
    ) -> Option<Verdict> {
        let pair = (account.cloned(), source.clone());
        let wait_s = wait_s(self.pairs.get(&pair), PAIR_PER_MINUTE, now);
        (wait_s > 0).then_some(Verdict::Refuse(wait_s))
    }

    fn source_is_empty(&self, source: &Source, now: Instant) -> bool {
        wait_s(self.sources.get(source), SOURCE_PER_MINUTE, now) > 0
    }

    fn knows(&self, account: Option<&UserName>, source: &Source, now: Instant) -> bool {
        let pair = account.map(|account| (account.clone(), source.clone()));
        let at = pair.and_then(|pair| self.known.get(&pair));
        at.is_some_and(|at| now.saturating_duration_since(*at) < KNOWN)
    }

    /// The next turn of a source; a refusal where too many wait for theirs.
    fn give_turn(&mut self, source: &Source, now: Instant) -> Verdict {
        if self.turns.len() >= MAX_BUCKETS && !self.turns.contains_key(source) {
            self.turns.retain(|_, turns| turns.next > now);
        }
        let full = self.turns.len() >= MAX_BUCKETS;
        let turns = self.turns.entry(source.clone()).or_insert(Turns {
            next: now,
            given: 0,
        });
        turns.next = turns.next.max(now);
        let wait = turns.next.saturating_duration_since(now);
        if full || wait > LONGEST_WAIT {
            return Verdict::Refuse(wait.as_secs().max(1));
        }
        turns.next += TURN;
        turns.given = (turns.given + 1).min(MAX_GIVEN);
        Verdict::Slow(wait)
    }
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
        let strangers = |number: u32| {
            let all = 0..number;
            all.map(|stranger| throttle.check(Some(&name(&format!("s{stranger}"))), &from, now))
                .collect::<Vec<_>>()
        };
        // All that come at once get eleven tries, a second apart.
        for (second, verdict) in strangers(100).into_iter().enumerate() {
            let wait = SECOND * u32::try_from(second).unwrap();
            match verdict {
                Verdict::Slow(slowed) => assert_eq!(slowed, wait),
                Verdict::Refuse(wait_s) => assert!(second > 10 && wait_s == 11, "{second}"),
                Verdict::Proceed => panic!("{second}"),
            }
        }
        assert_eq!(
            throttle.check(Some(&name("ann")), &source(2), now),
            Verdict::Proceed
        );
    }

    #[test]
    fn t131_users_behind_one_address_do_not_lock_each_other_out() {
        let (throttle, from, now) = (Throttle::default(), source(1), Instant::now());
        let (ann, bob) = (name("ann"), name("bob"));
        throttle.succeed(&ann, &from, now);
        for user in 0..110 {
            fail(&throttle, 1, &name(&format!("user{user}")), &from, now);
        }
        // One who logged in from there before notices nothing.
        assert_eq!(throttle.check(Some(&ann), &from, now), Verdict::Proceed);
        assert_eq!(
            throttle.check_again(Some(&ann), &from, now),
            Verdict::Proceed
        );
        // One who did not has a turn.
        assert_eq!(
            throttle.check(Some(&bob), &from, now),
            Verdict::Slow(Duration::ZERO)
        );
        assert_eq!(
            throttle.check_again(Some(&bob), &from, now),
            Verdict::Proceed
        );
        // Who came in before the bucket was empty has none.
        assert_eq!(
            throttle.check_again(Some(&bob), &from, now),
            Verdict::Refuse(1)
        );
        // An account that was known for long is not any more.
        assert_ne!(
            throttle.check(Some(&ann), &from, now + KNOWN),
            Verdict::Refuse(1)
        );
        assert!(
            !throttle
                .0
                .lock()
                .unwrap()
                .knows(Some(&ann), &from, now + KNOWN)
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
