//! Moments, as people write them. The calendar is that of Howard Hinnant's
//! `civil_from_days` and `days_from_civil`.

const DAY_S: i64 = 86_400;
/// Days from 0000-03-01, where an era begins, to 1970-01-01.
const TO_EPOCH: i64 = 719_468;

/// Microseconds since the Unix epoch, UTC.
#[allow(clippy::disallowed_methods, reason = "this is the crate's own clock")]
pub fn now_us() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_micros()).ok())
        .unwrap_or(0)
}

/// `time_us` as RFC 3339 writes it, in UTC and to the microsecond.
pub fn utc(time_us: i64) -> String {
    let (seconds, us) = (time_us.div_euclid(1_000_000), time_us.rem_euclid(1_000_000));
    let (days, of_day) = (seconds.div_euclid(DAY_S), seconds.rem_euclid(DAY_S));
    // Days since 0000-03-01; a year begins with March.
    let days = days + TO_EPOCH;
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

/// The moment that `text` means, in microseconds since the Unix epoch: `10m`
/// (s, m, h or d) ago, or a date or time in UTC.
///
/// Errors: it means none, with what is allowed.
pub fn moment(text: &str) -> Result<i64, String> {
    ago_us(text)
        .map(|ago_us| now_us().saturating_sub(ago_us))
        .or_else(|| time_us(text))
        .ok_or_else(|| {
            "30s, 10m, 2h, 7d (ago), 2026-11-22 or 2026-11-22T02:52:35Z are allowed".to_owned()
        })
}

fn ago_us(text: &str) -> Option<i64> {
    let unit_s = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => DAY_S,
        _ => return None,
    };
    let number: u32 = text.get(..text.len() - 1)?.parse().ok()?;
    Some(i64::from(number) * unit_s * 1_000_000)
}

/// Source: RFC 3339 §5.6, in UTC and of whole seconds.
fn time_us(text: &str) -> Option<i64> {
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, time.strip_suffix('Z')?),
        None => (text, "00:00:00"),
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let longest = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=longest).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - TO_EPOCH;
    Some((days * DAY_S + hour * 3600 + minute * 60 + second) * 1_000_000)
}

/// Three numbers of so many digits each.
fn numbers(text: &str, between: char, digits: [usize; 3]) -> Option<[i64; 3]> {
    let mut numbers = [0; 3];
    let mut parts = text.split(between);
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != digits || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_calendar_has_them() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(utc(-1), "1969-12-31T23:59:59.999999Z");
        assert_eq!(utc(951_782_400_000_000), "2000-02-29T00:00:00.000000Z");
        assert_eq!(utc(1_795_315_955_123_456), "2026-11-22T02:52:35.123456Z");
        assert_eq!(utc(4_107_542_399_000_000), "2100-02-28T23:59:59.000000Z");
        assert_eq!(utc(4_107_542_400_000_000), "2100-03-01T00:00:00.000000Z");
    }

    #[test]
    fn a_time_is_read_as_it_is_written() {
        for day in 0..50_000 {
            let moment = day * 2 * DAY_S + day % DAY_S;
            let text = utc(moment * 1_000_000).replace(".000000Z", "Z");
            assert_eq!(time_us(&text), Some(moment * 1_000_000), "{text}");
        }
        assert_eq!(time_us("1970-01-02"), Some(DAY_S * 1_000_000));
    }

    #[test]
    fn a_time_ago_is_a_number_and_a_unit() {
        let seconds = |text| ago_us(text).map(|ago| ago / 1_000_000);
        assert_eq!(seconds("30s"), Some(30));
        assert_eq!(seconds("10m"), Some(600));
        assert_eq!(seconds("2h"), Some(7200));
        assert_eq!(seconds("7d"), Some(604_800));
        assert!(moment("1d").unwrap() < now_us());
    }

    #[test]
    fn what_is_no_moment_is_refused_with_what_is_allowed() {
        for text in [
            "",
            "s",
            "7",
            "-7d",
            "7 d",
            "7é",
            "1.5h",
            "yesterday",
            "2026-13-01",
            "2026-02-29",
            "2026-00-01",
            "2026-01-00",
            "2026-1-1",
            "2026-01-01T",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00+01:00",
            "2026-01-01-01",
            "2026-01-+1",
        ] {
            assert!(moment(text).unwrap_err().contains("10m"), "{text}");
        }
    }
}
