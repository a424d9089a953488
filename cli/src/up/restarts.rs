//! When a service that ended is started again, and when that is given up.

use std::time::{Duration, Instant};

/// A service that lived this long had started well: its next end counts as
/// the first one.
const GOOD_LIFE: Duration = Duration::from_secs(60);

/// The wait before the first restart; each further one in a row takes twice
/// as long.
const FIRST_DELAY: Duration = Duration::from_millis(250);

/// The number of restarts in a row after which the service is given up. The
/// waits between them add up to about 16 seconds.
const MOST: u32 = 6;

/// The restarts of one service.
#[derive(Debug)]
pub(crate) struct Restarts {
    /// When the service was started last.
    pub(crate) started: Instant,
    in_a_row: u32,
}

impl Default for Restarts {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            in_a_row: 0,
        }
    }
}

impl Restarts {
    /// The wait before the next start of a service that ended at `now`; `None`
    /// where it keeps ending soon after its starts.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Duration> {
        if now.saturating_duration_since(self.started) >= GOOD_LIFE {
            self.in_a_row = 0;
        }
        if self.in_a_row == MOST {
            return None;
        }
        let delay = FIRST_DELAY * 2u32.pow(self.in_a_row);
        self.in_a_row += 1;
        Some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waits_double_until_the_service_is_given_up() {
        let mut restarts = Restarts::default();
        let now = restarts.started;
        let waits: Vec<u128> = std::iter::from_fn(|| restarts.next(now))
            .map(|wait| wait.as_millis())
            .collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000]);
        assert_eq!(restarts.next(now), None);
    }

    #[test]
    fn a_service_that_ran_for_long_is_started_again_at_once() {
        let mut restarts = Restarts::default();
        let now = restarts.started;
        while restarts.next(now).is_some() {}
        assert_eq!(restarts.next(now + GOOD_LIFE), Some(FIRST_DELAY));
    }
}
