//! A job, as the Flux RESTful API describes it. Servers leave out what they
//! do not know yet, or send an empty text for it, so every reading is lenient.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::table::Paint;

/// A job's id in any spelling the server may know: decimal, `f`/`ƒ` and the
/// other forms of Flux. It becomes part of a URL, and so is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobId(String);

impl JobId {
    /// A route below this job's own: `/v1/jobs/ID` and `rest`.
    pub(crate) fn route(&self, rest: &str) -> String {
        format!("/v1/jobs/{}{rest}", self.0.replace('ƒ', "%C6%92"))
    }
}

impl FromStr for JobId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, 'ƒ' | '-' | '.');
        if text.len() <= 128
            && text.chars().all(fit)
            && text.contains(|c: char| c.is_ascii_alphanumeric())
        {
            Ok(Self(text.to_owned()))
        } else {
            Err("a job id is a number, or one of the other forms that Flux prints".to_owned())
        }
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a job stands: the server's `state` and `result` in one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// It waits for its turn.
    Queued,
    /// It runs, or is being cleaned up after.
    Running,
    /// It ended well.
    Completed,
    /// It ended badly.
    Failed,
    /// Its time ran out.
    Timeout,
    /// Somebody cancelled it.
    Cancelled,
    /// It ended, and the server does not say how.
    Ended,
    /// A word of the server's that we do not know.
    Other(String),
}

impl State {
    /// Whether nothing more will happen.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Queued | Self::Running | Self::Other(_) => false,
            Self::Completed | Self::Failed | Self::Timeout | Self::Cancelled | Self::Ended => true,
        }
    }

    /// One word for it.
    pub(crate) fn word(&self) -> &str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Ended => "ended",
            Self::Other(word) => word,
        }
    }

    /// Its colour.
    pub(crate) fn paint(&self) -> Paint {
        match self {
            Self::Queued | Self::Ended | Self::Other(_) => Paint::Plain,
            Self::Running => Paint::Blue,
            Self::Completed => Paint::Green,
            Self::Failed => Paint::Red,
            Self::Timeout | Self::Cancelled => Paint::Yellow,
        }
    }
}

/// One job object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a>(pub(crate) &'a Value);

impl Job<'_> {
    /// Where it stands. Source: the states and results of flux-core.
    pub(crate) fn state(self) -> State {
        let state = self.text("state");
        match state.as_str() {
            "NEW" | "DEPEND" | "PRIORITY" | "SCHED" => State::Queued,
            "RUN" | "CLEANUP" => State::Running,
            "INACTIVE" => match self.text("result").as_str() {
                "COMPLETED" => State::Completed,
                "FAILED" => State::Failed,
                "TIMEOUT" => State::Timeout,
                "CANCELED" | "CANCELLED" => State::Cancelled,
                _ => State::Ended,
            },
            _ => State::Other(state.to_lowercase()),
        }
    }

    /// A field as text; empty when there is none.
    pub(crate) fn text(self, field: &str) -> String {
        match self.0.get(field) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }

    /// A field as a whole number of units, fractions cut off. `None` when it
    /// is no number, below zero, or not known yet.
    pub(crate) fn whole(self, field: &str) -> Option<u64> {
        let number = self.0.get(field)?;
        number
            .as_u64()
            .or_else(|| number.as_f64().filter(|n| *n >= 0.0).map(|n| n as u64))
    }

    /// Why it did not end by itself, in the server's words; empty where it did.
    pub(crate) fn reason(self) -> String {
        let note = self.0.get("exception").and_then(|e| e.get("note"));
        note.and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// The exit code that a shell would report for it: its own, or 128 and
    /// the number of the signal that ended it. `None` while it is active and
    /// when it never ran.
    pub(crate) fn exit_code(self) -> Option<u8> {
        let code = self.0.get("returncode")?.as_i64()?;
        match code {
            0..=255 => u8::try_from(code).ok(),
            -127..=-1 => u8::try_from(128 - code).ok(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn state_and_result_become_one_word() {
        for (state, result, word, ended) in [
            ("DEPEND", "", "queued", false),
            ("PRIORITY", "", "queued", false),
            ("SCHED", "", "queued", false),
            ("RUN", "", "running", false),
            ("CLEANUP", "", "running", false),
            ("INACTIVE", "COMPLETED", "completed", true),
            ("INACTIVE", "FAILED", "failed", true),
            ("INACTIVE", "TIMEOUT", "timeout", true),
            ("INACTIVE", "CANCELED", "cancelled", true),
            ("INACTIVE", "", "ended", true),
            ("HELD", "", "held", false),
        ] {
            let object = json!({"state": state, "result": result});
            let state = Job(&object).state();
            assert_eq!((state.word(), state.is_final()), (word, ended));
        }
    }

    #[test]
    fn a_field_that_is_not_known_yet_reads_as_nothing() {
        let object = json!({"runtime": "", "ncores": null, "t_run": 12.9, "ntasks": 4, "x": -1.0});
        let job = Job(&object);
        assert_eq!(job.whole("runtime"), None);
        assert_eq!(job.text("ncores"), "");
        assert_eq!(job.whole("t_run"), Some(12));
        assert_eq!(job.text("ntasks"), "4");
        assert_eq!(job.whole("x"), None);
        assert_eq!(job.text("missing"), "");
    }

    #[test]
    fn the_exit_code_is_that_of_a_shell() {
        for (returncode, code) in [
            (json!(0), Some(0)),
            (json!(7), Some(7)),
            (json!(-15), Some(143)),
            (json!(-128), None),
            (json!(""), None),
            (json!(70_000), None),
        ] {
            assert_eq!(Job(&json!({ "returncode": returncode })).exit_code(), code);
        }
    }

    #[test]
    fn an_id_stays_within_its_place_in_the_url() {
        assert_eq!(
            "ƒ2Xy".parse::<JobId>().unwrap().route("/output"),
            "/v1/jobs/%C6%922Xy/output"
        );
        assert_eq!("12".parse::<JobId>().unwrap().route(""), "/v1/jobs/12");
        for text in ["", ".", "..", "1/cancel", "1?x", "1#", "a b", "%2e", "é"] {
            assert!(text.parse::<JobId>().is_err(), "{text}");
        }
    }
}
