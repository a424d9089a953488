//! Lengths of time, as people write and read them.

/// Read a length of time: seconds (`90`), a number with a unit (`90s`, `10m`,
/// `2h`, `1d`) or hours, minutes and seconds (`1:30:00`). In seconds.
///
/// Errors: a sentence that names the spellings.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    read(text).ok_or_else(|| {
        "a length of time is a number of seconds, or one with a unit (90s, 10m, 2h, 1d), \
         or H:MM:SS"
            .to_owned()
    })
}

fn read(text: &str) -> Option<u64> {
    if text.contains(':') {
        let mut parts = text.split(':');
        let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || minutes.len() != 2 || seconds.len() != 2 {
            return None;
        }
        let (minutes, seconds) = (number(minutes)?, number(seconds)?);
        if minutes >= 60 || seconds >= 60 {
            return None;
        }
        return number(hours)?
            .checked_mul(3600)?
            .checked_add(minutes * 60 + seconds);
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds_in_unit = match text.get(digits.len()..)? {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    number(digits)?.checked_mul(seconds_in_unit)
}

/// A plain decimal number: `parse` alone would take a sign.
fn number(digits: &str) -> Option<u64> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// Write a length of time in at most two units: `12s`, `3m 4s`, `2h 10m`, `3d 4h`.
pub(crate) fn show(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        86_400.. => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Write a moment as its distance from now, both in seconds since the epoch.
/// A moment ahead of our clock reads `now`: the server's clock may differ.
pub(crate) fn ago(moment_s: u64, now_s: u64) -> String {
    match now_s.saturating_sub(moment_s) {
        0 => "now".to_owned(),
        seconds @ 1..60 => format!("{seconds}s ago"),
        seconds @ 60..3600 => format!("{}m ago", seconds / 60),
        seconds @ 3600..86_400 => format!("{}h ago", seconds / 3600),
        seconds @ 86_400.. => format!("{}d ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_length_of_time_is_understood() {
        for (text, seconds) in [
            ("0", 0),
            ("90", 90),
            ("90s", 90),
            ("10m", 600),
            ("2h", 7200),
            ("1d", 86_400),
            ("0:00:05", 5),
            ("1:30:00", 5400),
            ("100:00:00", 360_000),
        ] {
            assert_eq!(parse(text), Ok(seconds), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_spellings() {
        for text in [
            "",
            "s",
            "-1",
            "+1",
            "1.5h",
            "10M",
            "1h30m",
            "1:30",
            "1:60:00",
            "1:00:60",
            "1:0:0",
            "1:+1:00",
            ":00:00",
            "1:00:00:00",
            " 1",
            "1 h",
            "١",
            "99999999999999999999",
            "18446744073709551615d",
            "18446744073709551615:00:00",
        ] {
            assert!(parse(text).is_err_and(|why| why.contains("10m")), "{text}");
        }
    }

    #[test]
    fn a_length_of_time_is_shown_in_two_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m 0s"),
            (7805, "2h 10m"),
            (273_600, "3d 4h"),
        ] {
            assert_eq!(show(seconds), text);
        }
    }

    #[test]
    fn a_moment_is_shown_by_its_distance() {
        assert_eq!(ago(1000, 1000), "now");
        assert_eq!(ago(2000, 1000), "now");
        assert_eq!(ago(1000, 1059), "59s ago");
        assert_eq!(ago(1000, 1060), "1m ago");
        assert_eq!(ago(1000, 8200), "2h ago");
        assert_eq!(ago(0, 86_400), "1d ago");
    }
}
