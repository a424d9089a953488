//! How often one user may be given something. Each user has a bucket that holds as
//! much as may be given within one period and fills again at that rate.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Users remembered; of those with a full bucket nothing is.
const MAX_USERS: usize = 16_384;

/// A rate for each user.
#[derive(Debug)]
pub(crate) struct Rate {
    period: Duration,
    /// When the bucket of each user is full again. Source: the generic cell rate
    /// algorithm, ITU-T I.371.
    full_at: Mutex<HashMap<String, Instant>>,
}

impl Rate {
    /// A rate counted over `period`.
    pub(crate) fn per(period: Duration) -> Self {
        Self {
            period,
            full_at: Mutex::default(),
        }
    }

    /// Take one of the `most` (at least 1) that `user` may have within a period.
    ///
    /// Errors: there is none left; seconds until there is one, at least 1.
    pub(crate) fn take(&self, user: &str, most: u64, now: Instant) -> Result<(), u64> {
        let one = Duration::from_secs_f64(self.period.as_secs_f64() / most.max(1) as f64);
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let owed = full_at
            .get(user)
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        // A little less than one is rounding.
        let over = (owed + one).saturating_sub(self.period + one / 2);
        if !over.is_zero() {
            return Err((over.as_secs_f64().ceil() as u64).max(1));
        }
        match full_at.get_mut(user) {
            Some(at) => *at = now + owed + one,
            None => {
                make_room(&mut full_at, now);
                full_at.insert(user.to_owned(), now + one);
            }
        }
        Ok(())
    }
}

fn make_room(full_at: &mut HashMap<String, Instant>, now: Instant) {
    if full_at.len() < MAX_USERS {
        return;
    }
    full_at.retain(|_, at| *at > now);
    if full_at.len() < MAX_USERS {
        return;
    }
    // Every bucket is in use: forget the one that is full soonest.
    let soonest = full_at.iter().min_by_key(|(_, at)| **at);
    if let Some(user) = soonest.map(|(user, _)| user.clone()) {
        full_at.remove(&user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_user_has_as_many_at_once_as_in_a_period_and_then_waits_as_long_as_told() {
        let (rate, now) = (Rate::per(MINUTE), Instant::now());
        for _ in 0..10 {
            rate.take("ann", 10, now).unwrap();
        }
        let wait_s = rate.take("ann", 10, now).unwrap_err();
        assert!((1..=6).contains(&wait_s), "{wait_s}");
        let later = now + Duration::from_secs(wait_s) + Duration::from_secs(3);
        rate.take("ann", 10, later).unwrap();
        assert!(rate.take("ann", 10, later).is_err());
        rate.take("bob", 10, now).unwrap();
    }

    #[test]
    fn five_thousand_a_second_of_one_user_pass_a_rate_of_ten_thousand() {
        let (rate, now) = (Rate::per(Duration::from_secs(1)), Instant::now());
        for n in 0..50_000_u32 {
            let at = now + Duration::from_micros(200) * n;
            rate.take("ann", 10_000, at).unwrap();
        }
    }

    #[test]
    fn memory_is_bounded_and_the_busiest_is_not_forgotten() {
        let (rate, now) = (Rate::per(MINUTE), Instant::now());
        for _ in 0..10 {
            rate.take("busy", 10, now).unwrap();
        }
        for n in 0..MAX_USERS + 100 {
            rate.take(&n.to_string(), 10, now).unwrap();
        }
        assert_eq!(rate.full_at.lock().unwrap().len(), MAX_USERS);
        assert!(rate.take("busy", 10, now).is_err());
    }
}
