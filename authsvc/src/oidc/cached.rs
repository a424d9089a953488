//! What a provider publishes, kept for a while.
//!
//! However many ask, one at a time fetches it, and not again before a rest:
//! whoever shows tokens with keys that nobody knows cannot make this service
//! ask the provider more than now and then. What is there is used meanwhile.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::error::{Error, Kind, Part, Result};

/// How long things are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// How long it is used without asking again.
    pub(super) fresh: Duration,
    /// How long it is used where the provider does not answer.
    pub(super) stale: Duration,
    /// The rest after each attempt to fetch it.
    pub(super) rest: Duration,
}

/// Something that is fetched.
#[derive(Debug)]
pub(super) struct Cached<T> {
    times: Times,
    value: RwLock<Option<(Arc<T>, Instant)>>,
    tried: Mutex<Option<Instant>>,
}

impl<T> Cached<T> {
    /// Nothing yet.
    pub(super) fn new(times: Times) -> Self {
        Self {
            times,
            value: RwLock::new(None),
            tried: Mutex::new(None),
        }
    }

    /// What is known at `now`: with what is `wanted` in it, if it is there or
    /// can be fetched; else what there is.
    ///
    /// Errors: there is nothing, and it cannot be fetched now.
    pub(super) async fn get(
        &self,
        now: Instant,
        wanted: impl Fn(&T) -> bool,
        fetch: impl AsyncFnOnce() -> Result<T>,
    ) -> Result<Arc<T>> {
        let good = |value: &Arc<T>| wanted(value);
        if let Some(value) = self.within(now, self.times.fresh).filter(good) {
            return Ok(value);
        }
        let mut tried = self.tried.lock().await;
        // Another may have fetched it while this one waited.
        if let Some(value) = self.within(now, self.times.fresh).filter(good) {
            return Ok(value);
        }
        let away = || {
            Error::new(Kind::Unavailable, "the OpenID provider did not answer").of(Part::Provider)
        };
        if tried.is_some_and(|at| now.saturating_duration_since(at) < self.times.rest) {
            return self.within(now, self.times.stale).ok_or_else(away);
        }
        *tried = Some(now);
        match fetch().await {
            Ok(value) => {
                let value = Arc::new(value);
                let mut known = self.value.write().unwrap_or_else(PoisonError::into_inner);
                *known = Some((value.clone(), now));
                Ok(value)
            }
            Err(error) => {
                let cause = error.source.as_ref().map(tracing::field::display);
                tracing::warn!(%error, cause, "an OpenID provider could not be asked");
                self.within(now, self.times.stale).ok_or(error)
            }
        }
    }

    /// What was fetched less than `age` before `now`.
    fn within(&self, now: Instant, age: Duration) -> Option<Arc<T>> {
        let known = self.value.read().unwrap_or_else(PoisonError::into_inner);
        let (value, at) = known.as_ref()?;
        (now.saturating_duration_since(*at) < age).then(|| value.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const TIMES: Times = Times {
        fresh: Duration::from_secs(900),
        stale: Duration::from_secs(3600),
        rest: Duration::from_secs(30),
    };

    /// Something that is fetched, how often it was, and what time it is.
    struct Counted {
        cached: Cached<u32>,
        fetched: AtomicU32,
        began: Instant,
    }

    impl Counted {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                cached: Cached::new(TIMES),
                fetched: AtomicU32::new(0),
                began: Instant::now(),
            })
        }

        async fn get(&self, after: Duration, wanted: u32, works: bool) -> Option<u32> {
            let fetch = async || {
                let number = self.fetched.fetch_add(1, Ordering::Relaxed) + 1;
                tokio::task::yield_now().await;
                match works {
                    true => Ok(number),
                    false => Err(Error::invalid("away")),
                }
            };
            let now = self.began + after;
            let got = self.cached.get(now, |value| *value >= wanted, fetch).await;
            got.ok().map(|value| *value)
        }

        fn fetched(&self) -> u32 {
            self.fetched.load(Ordering::Relaxed)
        }
    }

    /// A thousand ask at once for what is not there.
    async fn storm(counted: &Arc<Counted>, after: Duration) {
        let all: Vec<_> = (0..1000)
            .map(|_| {
                let counted = counted.clone();
                tokio::spawn(async move { counted.get(after, 99, true).await })
            })
            .collect();
        for one in all {
            assert!(one.await.unwrap().is_some());
        }
    }

    #[tokio::test]
    async fn t101_a_storm_of_unknown_keys_is_one_fetch_in_half_a_minute() {
        let counted = Counted::new();
        let (now, soon) = (Duration::ZERO, TIMES.rest);
        assert_eq!(counted.get(now, 0, true).await, Some(1));
        storm(&counted, now).await;
        assert_eq!(counted.fetched(), 1, "the rest counts from the first fetch");
        storm(&counted, soon).await;
        assert_eq!(counted.fetched(), 2);
        storm(&counted, soon).await;
        assert_eq!(counted.fetched(), 2);
    }

    #[tokio::test]
    async fn all_who_come_first_wait_for_one_fetch() {
        let counted = Counted::new();
        storm(&counted, Duration::ZERO).await;
        assert_eq!(counted.fetched(), 1);
    }

    #[tokio::test]
    async fn a_provider_that_is_away_is_done_without_for_a_while() {
        let counted = Counted::new();
        let mut now = Duration::ZERO;
        assert_eq!(counted.get(now, 0, false).await, None);
        assert_eq!(counted.get(now, 0, true).await, None, "asked again at once");
        now += TIMES.rest;
        assert_eq!(counted.get(now, 0, true).await, Some(2));
        now += TIMES.fresh;
        assert_eq!(counted.get(now, 0, false).await, Some(2));
        now += TIMES.stale;
        assert_eq!(counted.get(now, 0, false).await, None, "used for ever");
    }
}
