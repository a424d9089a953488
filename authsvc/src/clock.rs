//! The wall clock; nothing else in the crate reads it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since the Unix epoch, UTC.
#[allow(clippy::disallowed_methods, reason = "this is the crate's own clock")]
pub(crate) fn now_us() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_micros()).ok())
        .unwrap_or(0)
}

/// Whole seconds since the Unix epoch, UTC.
pub(crate) fn now_s() -> u64 {
    u64::try_from(now_us() / 1_000_000).unwrap_or(0)
}
