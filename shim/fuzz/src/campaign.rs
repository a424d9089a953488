//! Running a target over its inputs and over mutations of them.

use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use crate::Target;
use crate::mutation::{Random, mutate};
use crate::targets::journal::outgrow;

/// The seed of the mutations that are the same in every run.
pub const FIXED_SEED: u64 = 0x5741_5252_414e_5421;

/// A seed that no run had before.
#[must_use]
pub fn fresh_seed() -> u64 {
    RandomState::new().hash_one("seed")
}

/// Runs a target over one input. If it panics, the input is left in a file,
/// and how to run it again is told.
pub fn attempt(target: &Target, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
        let name = format!("warrant-fuzz-{}-{}", target.name, std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, input).unwrap();
        eprintln!(
            "the input of {} bytes is in {}; to run it again:\n    cargo run -p warrant-fuzz -- {} FILE",
            input.len(),
            path.display(),
            target.name
        );
        resume_unwind(panic);
    }
}

/// Runs a target over its inputs once, then over mutations of them, until so
/// many were run or the time is over. Answers how many.
#[must_use]
pub fn campaign(target: &Target, seed: u64, most: u64, time: Duration) -> u64 {
    let corpus = target.corpus();
    for input in &corpus {
        attempt(target, input);
    }
    let begin = Instant::now();
    let mut random = Random::new(seed);
    let mut count = 0;
    while count < most && begin.elapsed() < time {
        attempt(target, &mutate(&mut random, &corpus, target.words));
        count += 1;
    }
    count
}

/// Uses a journal that outgrows its file, by choices from this seed. Answers
/// whether it did.
#[must_use]
pub fn outgrow_a_journal(seed: u64) -> bool {
    outgrow(&Random::new(seed).bytes(3000))
}
