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

/// `time_us` as RFC 3339 writes it, in UTC and to the microsecond. Source: the
/// calendar is that of Howard Hinnant's `civil_from_days`.
pub(crate) fn utc(time_us: i64) -> String {
    let (seconds, us) = (time_us.div_euclid(1_000_000), time_us.rem_euclid(1_000_000));
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 0000-03-01; a year begins with March.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 {
        (year, month + 3)
    } else {
        (year + 1, month - 9)
    };
    format!(
        "{:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{us:06}Z",
        era * 400 + year,
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60,
    )
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn times_are_written_as_the_calendar_has_them() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(utc(-1), "1969-12-31T23:59:59.999999Z");
        assert_eq!(utc(951_782_400_000_000), "2000-02-29T00:00:00.000000Z");
        assert_eq!(utc(1_795_315_955_123_456), "2026-11-22T02:52:35.123456Z");
        assert_eq!(utc(4_107_542_399_000_000), "2100-02-28T23:59:59.000000Z");
        assert_eq!(utc(4_107_542_400_000_000), "2100-03-01T00:00:00.000000Z");
    }
}
