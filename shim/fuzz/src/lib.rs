//! Fuzz targets for everything that the shim, which is root, reads from
//! others, and for the proofs of possession that the services read: each is a function over bytes that panics if a promise is broken.
//!
//! They run in three ways: for some seconds with the ordinary tests, for as
//! long as one likes under libFuzzer, and over one file that is given.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a panic is how a target says what it found"
)]

mod campaign;
#[allow(unsafe_code)]
mod meter;
mod mutation;
mod targets;

use std::path::Path;

pub use campaign::{FIXED_SEED, attempt, campaign, fresh_seed, outgrow_a_journal};
pub use targets::warrant::{Attack, attacks};

/// One thing to be fuzzed.
pub struct Target {
    /// Its name, on the command line and of its directory of inputs.
    pub name: &'static str,
    /// Takes any bytes, and panics if a promise is broken.
    pub run: fn(&[u8]),
    /// Good inputs, written by the encoders of today.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// What is worth being inserted anywhere.
    pub words: &'static [&'static str],
}

/// All targets.
pub const TARGETS: &[Target] = &[
    targets::frame::TARGET,
    targets::launch::TARGET,
    targets::claims::TARGET,
    targets::warrant::TARGET,
    targets::keys::TARGET,
    targets::policy::TARGET,
    targets::records::TARGET,
    targets::environment::TARGET,
    targets::journal::TARGET,
    targets::proof::TARGET,
];

/// The target with this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

impl Target {
    /// The inputs to begin with: the seeds, and the files of the repository,
    /// which were written by hand or have failed once.
    #[must_use]
    pub fn corpus(&self) -> Vec<Vec<u8>> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(self.name);
        let mut paths: Vec<_> = std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        let files = paths.iter().map(|path| std::fs::read(path).unwrap());
        (self.seeds)().into_iter().chain(files).collect()
    }
}
