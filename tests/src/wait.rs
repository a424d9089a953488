//! Waiting for something to come true, never for a time to pass.

use std::time::{Duration, Instant};

/// More than anything takes on a machine with much else to do.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Ask `probe` again and again until it answers.
///
/// Errors: panics after [`PATIENCE`], naming `what` was awaited.
pub fn until<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, probe)
}

/// As [`until`], with another deadline.
pub fn until_within<T>(patience: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
