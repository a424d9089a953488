//! A warning in the log where output of jobs was not kept.

use std::time::{Duration, Instant};

use crate::model::{RunKey, Usage};

/// The least time between two warnings.
const EVERY: Duration = Duration::from_secs(10);

/// Warns of lost output, at most once in a while: a full disk concerns every
/// job.
#[derive(Debug, Default)]
pub(super) struct Losses {
    warned: Option<Instant>,
    /// Runs since the last warning that there was none for.
    unsaid: u64,
}

impl Losses {
    /// A run has ended, and used this.
    pub(super) fn note(&mut self, run: RunKey, usage: &Usage, now: Instant) {
        if usage.dropped_bytes == 0 {
            return;
        }
        if !self.is_due(now) {
            self.unsaid += 1;
            return;
        }
        tracing::warn!(
            run = %run,
            dropped_bytes = usage.dropped_bytes,
            kept_bytes = usage.output_bytes,
            others = self.unsaid,
            "output of a job was not kept: it is beyond its limit, or the disk is full"
        );
        *self = Self {
            warned: Some(now),
            unsaid: 0,
        };
    }

    fn is_due(&self, now: Instant) -> bool {
        self.warned
            .is_none_or(|warned| now.saturating_duration_since(warned) >= EVERY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::JobId;

    #[test]
    fn a_full_disk_is_warned_of_once_in_a_while() {
        let (mut losses, now) = (Losses::default(), Instant::now());
        let run = RunKey {
            job: JobId::new(1).unwrap(),
            position: 0,
            attempt: 1,
        };
        let lost = Usage {
            dropped_bytes: 5,
            ..Usage::default()
        };
        losses.note(run, &Usage::default(), now);
        assert!(losses.is_due(now));
        losses.note(run, &lost, now);
        losses.note(run, &lost, now + EVERY / 2);
        assert_eq!((losses.is_due(now + EVERY / 2), losses.unsaid), (false, 1));
        losses.note(run, &lost, now + EVERY);
        assert_eq!(losses.unsaid, 0);
    }
}
