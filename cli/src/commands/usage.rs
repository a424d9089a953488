//! What a job has used, in units that people read.

use crate::job::Job;

/// The CPU time of its processes, that of the system included, in seconds.
pub(crate) fn cpu(job: Job<'_>) -> String {
    let seconds = |field: &str| job.0.get("usage")?.get(field)?.as_f64();
    match (seconds("user_s"), seconds("system_s")) {
        (Some(user), Some(system)) => format!(
            "{:.1} s (user {user:.1} s, system {system:.1} s)",
            user + system
        ),
        _ => String::new(),
    }
}

/// A count of bytes.
pub(crate) fn bytes(job: Job<'_>, field: &str) -> String {
    count(job, field).map_or_else(String::new, size)
}

/// Output that was not kept; nothing where all was.
pub(crate) fn lost(job: Job<'_>) -> String {
    let lost = count(job, "dropped_bytes").filter(|bytes| *bytes > 0);
    lost.map_or_else(String::new, size)
}

fn count(job: Job<'_>, field: &str) -> Option<u64> {
    job.0.get("usage")?.get(field)?.as_u64()
}

/// Bytes in the largest unit of which there is one at least. Source: IEC 80000-13.
fn size(bytes: u64) -> String {
    let mut amount = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        if amount < 1024.0 {
            break;
        }
        amount /= 1024.0;
        unit = larger;
    }
    if unit == "B" {
        format!("{bytes} B")
    } else {
        format!("{amount:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sizes_are_written_in_binary_units() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (60_000_000, "57.2 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn what_was_used_is_shown_where_it_is_known() {
        let object = json!({"usage": {"user_s": 1.24, "system_s": 0.5, "max_rss_bytes": 2048,
            "dropped_bytes": 0}});
        let job = Job(&object);
        assert_eq!(cpu(job), "1.7 s (user 1.2 s, system 0.5 s)");
        assert_eq!(bytes(job, "max_rss_bytes"), "2.0 KiB");
        assert_eq!((bytes(job, "output_bytes"), lost(job)), Default::default());
        let waiting = json!({"id": 1});
        assert_eq!(cpu(Job(&waiting)), "");
    }
}
