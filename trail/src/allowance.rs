//! How many refusals get a row of their own: they cost whoever provokes them
//! nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Rows at once.
const BURST: f64 = 1000.0;
/// Rows a second, in the long run.
const PER_SECOND: f64 = 20.0;

/// A bucket of rows, 1,000 large and filled with 20 a second, and the count of
/// what found it empty.
#[derive(Debug)]
pub struct Allowance {
    rows: Mutex<(f64, Instant)>,
    left_out: AtomicU64,
}

impl Allowance {
    /// A full bucket.
    pub fn new(now: Instant) -> Self {
        Self {
            rows: Mutex::new((BURST, now)),
            left_out: AtomicU64::new(0),
        }
    }

    /// Take one row, if there is one.
    pub fn take(&self, now: Instant) -> bool {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, at) = *rows;
        let gained = now.saturating_duration_since(at).as_secs_f64() * PER_SECOND;
        let left = (left + gained).min(BURST);
        let taken = left >= 1.0;
        *rows = (if taken { left - 1.0 } else { left }, now);
        taken
    }

    /// Count a refusal that gets no row.
    pub fn leave_out(&self) {
        self.left_out.fetch_add(1, Ordering::Relaxed);
    }

    /// How many got no row since this was last asked.
    pub fn left_out(&self) -> u64 {
        self.left_out.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_gets_a_thousand_rows_and_then_twenty_a_second() {
        let now = Instant::now();
        let allowance = Allowance::new(now);
        let taken = |at| (0..5000).filter(|_| allowance.take(at)).count();
        assert_eq!(taken(now), 1000);
        assert_eq!(taken(now + Duration::from_secs(1)), 20);
        assert_eq!(taken(now + Duration::from_secs(3600)), 1000);
    }
}
