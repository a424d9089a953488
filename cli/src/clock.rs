//! The wall clock, read and written in one place.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Seconds since the Unix epoch; 0 if the clock is set before it.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place that reads the clock"
)]
pub(crate) fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// A moment for a program: `2026-11-30T23:05:42Z`. Empty for a moment that no
/// calendar has. Source: RFC 3339.
pub(crate) fn utc(moment_s: u64) -> String {
    timestamp(moment_s).map_or_else(String::new, |moment| moment.to_string())
}

/// A moment for a person, in the time zone of this machine or of `TZ`:
/// `2026-11-30 23:05:42 +01:00`.
pub(crate) fn local(moment_s: u64) -> String {
    in_zone(moment_s, TimeZone::system())
}

fn in_zone(moment_s: u64, zone: TimeZone) -> String {
    timestamp(moment_s).map_or_else(String::new, |moment| {
        moment
            .to_zoned(zone)
            .strftime("%Y-%m-%d %H:%M:%S %:z")
            .to_string()
    })
}

fn timestamp(moment_s: u64) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(moment_s).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use jiff::tz::offset;

    use super::*;

    #[test]
    fn a_moment_is_written_for_programs_and_for_people() {
        assert_eq!(utc(1_780_000_000), "2026-05-28T20:26:40Z");
        let zone = TimeZone::fixed(offset(2));
        assert_eq!(in_zone(1_780_000_000, zone), "2026-05-28 22:26:40 +02:00");
        assert_eq!(utc(u64::MAX), "");
    }
}
