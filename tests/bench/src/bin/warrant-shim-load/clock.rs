//! The kernel's clocks, which a process and its descendants read alike.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Bytes of what a job writes that reads the clock: seconds and nanoseconds,
/// as the kernel has them. Source: clock_gettime(2), `struct timespec`.
pub(crate) const STAMP_BYTES: usize = 16;

/// Time since some point in the past, that never goes back.
pub(crate) fn monotonic() -> anyhow::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into())
}

/// Time since the Unix epoch.
pub(crate) fn wall() -> anyhow::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_REALTIME)?.into())
}

/// The time that a job wrote down; `None` if it wrote anything else.
pub(crate) fn stamp(written: &[u8]) -> Option<Duration> {
    let (seconds, rest) = written.split_first_chunk::<8>()?;
    let (nanos, rest) = rest.split_first_chunk::<8>()?;
    let nanos = u32::try_from(u64::from_ne_bytes(*nanos)).ok()?;
    let is_all = rest.is_empty() && nanos < 1_000_000_000;
    is_all.then(|| Duration::new(u64::from_ne_bytes(*seconds), nanos))
}

/// From one time to a later one, in microseconds. What was read from two
/// clocks may come out as a little less than nothing.
pub(crate) fn us(from: Duration, to: Duration) -> f64 {
    (to.as_secs_f64() - from.as_secs_f64()) * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_a_time_of_16_bytes_and_nothing_else() {
        let mut written = 5_u64.to_ne_bytes().to_vec();
        written.extend(7_u64.to_ne_bytes());
        assert_eq!(written.len(), STAMP_BYTES);
        assert_eq!(stamp(&written), Some(Duration::new(5, 7)));
        assert_eq!(stamp(&written[..15]), None);
        written.push(0);
        assert_eq!(stamp(&written), None);
    }
}
