//! How many requests a principal, or an unknown somewhere, may make.
//!
//! Token buckets, in shards with a lock each, under a number in place of a
//! name: two names may share a bucket, which harms nobody, and a look costs
//! no memory.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use axum::http::HeaderMap;
use axum::http::header::{HeaderName, HeaderValue, RETRY_AFTER};

use crate::caller::Caller;
use crate::model::Micros;

/// Seconds in which an empty bucket is full again.
const WINDOW: u32 = 60;
const SHARDS: usize = 64;
/// The most buckets of a shard. Those who come then share one.
const LARGEST: usize = 4096;
/// The bucket that those share for whom there is none.
const SHARED: u64 = 0;

const HEADERS: [HeaderName; 4] = [
    HeaderName::from_static("x-ratelimit-limit"),
    HeaderName::from_static("x-ratelimit-remaining"),
    HeaderName::from_static("x-ratelimit-reset"),
    HeaderName::from_static("x-ratelimit-window"),
];

/// The limits of one listener.
#[derive(Debug)]
pub struct Limits {
    principals: Buckets,
    sources: Buckets,
}

/// What is left to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Whether this request may pass.
    pub granted: bool,
    /// Requests in a window.
    pub limit: u32,
    /// Requests left.
    pub remaining: u32,
    /// Seconds until all are there again.
    pub full_in_s: u32,
}

impl Limits {
    /// So many requests a minute of each principal, and of each source as
    /// long as it proves nothing. 0 is no limit.
    pub fn new(of_principal: u32, of_source: u32) -> Self {
        Self {
            principals: Buckets::new(of_principal),
            sources: Buckets::new(of_source),
        }
    }

    /// A request of `caller`; `None` where there is no limit. Where nobody is
    /// known, each source is somebody.
    pub fn principal(&self, caller: &Caller, source: Option<IpAddr>) -> Option<Allowance> {
        let nobody = caller.anonymous.then_some(source).flatten();
        self.principals.take((caller.name.as_str(), nobody))
    }

    /// A request from `source` that proves nothing; `None` where there is no
    /// limit.
    pub fn source(&self, source: Option<IpAddr>) -> Option<Allowance> {
        self.sources.take(source.map(warrant_door::network))
    }
}

impl Allowance {
    /// Say in an answer's head what is left. Source: the names are the
    /// draft of `RateLimit` header fields for HTTP, with the usual `X-`;
    /// `Reset` is a time, in seconds since the Unix epoch.
    pub fn write(self, headers: &mut HeaderMap) {
        let reset = Micros::now().get() / 1_000_000 + i64::from(self.full_in_s);
        let values = [
            i64::from(self.limit),
            i64::from(self.remaining),
            reset,
            i64::from(WINDOW),
        ];
        for (name, value) in HEADERS.into_iter().zip(values) {
            headers.insert(name, HeaderValue::from(value));
        }
        if !self.granted {
            let one = (WINDOW / self.limit.max(1)).max(1);
            headers.insert(RETRY_AFTER, HeaderValue::from(one));
        }
    }
}

#[derive(Debug)]
struct Buckets {
    limit: u32,
    names: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

type Shard = HashMap<u64, Bucket, BuildHasherDefault<Number>>;

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Buckets {
    fn new(limit: u32) -> Self {
        Self {
            limit,
            names: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    fn take(&self, name: impl Hash) -> Option<Allowance> {
        self.take_at(name, Instant::now())
    }

    fn take_at(&self, name: impl Hash, now: Instant) -> Option<Allowance> {
        if self.limit == 0 {
            return None;
        }
        let number = self.names.hash_one(name);
        let at = usize::try_from(number % SHARDS as u64).unwrap_or_default();
        let mut shard = self
            .shards
            .get(at)?
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let limit = f64::from(self.limit);
        let per_second = limit / f64::from(WINDOW);
        let full = Bucket {
            left: limit,
            at: now,
        };
        let filled = |bucket: &Bucket| {
            let gained = now.saturating_duration_since(bucket.at).as_secs_f64() * per_second;
            (bucket.left + gained).min(limit)
        };
        if shard.len() >= LARGEST && !shard.contains_key(&number) {
            shard.retain(|_, bucket| filled(bucket) < limit);
        }
        let room = shard.len() < LARGEST || shard.contains_key(&number);
        let number = if room { number } else { SHARED };
        let bucket = shard.entry(number).or_insert(full);
        let left = filled(bucket);
        let granted = left >= 1.0;
        let left = if granted { left - 1.0 } else { left };
        *bucket = Bucket { left, at: now };
        Some(Allowance {
            granted,
            limit: self.limit,
            remaining: left as u32,
            full_in_s: ((limit - left) / per_second).ceil() as u32,
        })
    }
}

/// Numbers that are hashes already.
#[derive(Debug, Default)]
struct Number(u64);

impl Hasher for Number {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn t111_each_has_so_many_requests_a_minute_and_gets_them_back() {
        let buckets = Buckets::new(60);
        let now = Instant::now();
        let granted = |name: &str, at| {
            let taken = (0..100).filter(|_| buckets.take_at(name, at).unwrap().granted);
            taken.count()
        };
        assert_eq!(granted("ann", now), 60);
        assert_eq!(granted("bob", now), 60);
        assert_eq!(granted("ann", now + Duration::from_secs(5)), 5);
        let allowance = buckets
            .take_at("ann", now + Duration::from_secs(5))
            .unwrap();
        assert_eq!(
            allowance,
            Allowance {
                granted: false,
                limit: 60,
                remaining: 0,
                full_in_s: 60
            }
        );
        let mut headers = HeaderMap::new();
        allowance.write(&mut headers);
        assert_eq!(headers["x-ratelimit-limit"], "60");
        assert_eq!(headers["x-ratelimit-remaining"], "0");
        assert_eq!(headers["retry-after"], "1");
    }

    #[test]
    fn no_limit_is_no_bucket() {
        let buckets = Buckets::new(0);
        assert_eq!(buckets.take("ann"), None);
        assert!(buckets.shards.iter().all(|s| s.lock().unwrap().is_empty()));
    }

    #[test]
    fn t111_names_without_end_take_room_that_has_an_end() {
        let buckets = Buckets::new(1);
        let now = Instant::now();
        for name in 0..SHARDS * LARGEST * 2 {
            buckets.take_at(name, now);
        }
        let all: usize = buckets.shards.iter().map(|s| s.lock().unwrap().len()).sum();
        assert!(all <= SHARDS * (LARGEST + 1), "{all}");
        // Once they are full again, they make room.
        let later = now + Duration::from_secs(61);
        assert!(buckets.take_at("ann", later).unwrap().granted);
    }
}
