//! The wall clock; nothing else in the crate reads it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since the Unix epoch, UTC.
#[allow(clippy::disallowed_methods, reason = "this is the crate's own clock")]
pub(crate) fn now_us() -> i64 {
    let now_us = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_micros()).ok())
        .unwrap_or(0);
    #[cfg(test)]
    let now_us = now_us + skew::now_us();
    now_us
}

/// Whole seconds since the Unix epoch, UTC.
pub(crate) fn now_s() -> u64 {
    u64::try_from(now_us() / 1_000_000).unwrap_or(0)
}

#[cfg(test)]
pub(crate) use skew::Skew;

/// A clock that is wrong, for the tests on this thread.
#[cfg(test)]
mod skew {
    use std::cell::Cell;

    thread_local! {
        static SKEW_US: Cell<i64> = const { Cell::new(0) };
    }

    pub(super) fn now_us() -> i64 {
        SKEW_US.get()
    }

    /// Dropped, the clock is right again.
    pub(crate) struct Skew(());

    impl Skew {
        /// The clock goes ahead by so many seconds, or behind.
        pub(crate) fn by_s(seconds: i64) -> Self {
            SKEW_US.set(seconds * 1_000_000);
            Self(())
        }
    }

    impl Drop for Skew {
        fn drop(&mut self) {
            SKEW_US.set(0);
        }
    }
}
