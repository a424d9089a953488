//! What a broker that was taken over makes the shim keep.

use std::fs;
use std::path::Path;

use warrant_wire::Refusal;

use super::house::{House, in_private, leaves_a_line, run_of};

/// How many files and directories there are below a directory.
fn entries(dir: &Path) -> usize {
    let paths = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let count = |path: std::path::PathBuf| match path.is_dir() {
        true => 1 + entries(&path),
        false => 1,
    };
    paths.map(count).sum()
}

#[test]
fn t130_asking_about_runs_that_never_began_makes_no_file_and_leaves_nothing_to_look_at() {
    const COUNT: u32 = 3000;
    in_private(|| {
        let house = House::open("");
        let mut broker = house.connect();
        let spool = house.path("spool");
        let before = entries(&spool);
        for number in 1..=COUNT {
            let unknown = run_of(u64::from(number) * 1000, 1);
            broker.send_watch(unknown);
            broker.not_started(unknown, None);
        }
        // Nor does one that was admitted let all its attempts be made up.
        broker.admit(run_of(1, 1), &leaves_a_line());
        for attempt in 1..=COUNT {
            let run = run_of(1, attempt);
            broker.send_watch(run);
            broker.not_started(run, None);
        }
        assert_eq!(entries(&spool), before);
        // What was said never to begin does not; the job itself may still.
        for attempt in [1, COUNT] {
            let run = run_of(1, attempt);
            broker.send_start(run);
            broker.not_started(run, Some(Refusal::LostStart));
        }
        assert_eq!(house.runs(), 0);
        let next = run_of(1, COUNT + 1);
        broker.send_start(next);
        broker.started(next);
        broker.ended(next);
        assert_eq!(house.runs(), 1);
    });
}
