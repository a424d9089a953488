//! The parts of the benchmark. Each prints a table; in each, what the product
//! does stands beside the bare calls that it cannot do without, measured in
//! the same run, and their ratio says how many times the bare cost it is.

pub(crate) mod auth;
pub(crate) mod list;
pub(crate) mod live;
pub(crate) mod memory;
pub(crate) mod multi;
pub(crate) mod shim;
pub(crate) mod start;
pub(crate) mod submit;
pub(crate) mod token;

use std::time::Duration;

use crate::bare::Echo;
use crate::house::Site;
use crate::machine::Machine;

/// The parts that are made of several tables.
const PART_MULTI: &str = "multi";
const PART_SHIM: &str = "shim";

/// How much to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// Jobs submitted one after another.
    pub(crate) submits: usize,
    /// How long to ask as fast as can be.
    pub(crate) load: Duration,
    /// Jobs whose output is waited for, one after another.
    pub(crate) starts: usize,
    /// Jobs that are submitted at once and waited for.
    pub(crate) burst: usize,
    /// Bare processes started.
    pub(crate) spawns: usize,
    /// Requests for each page.
    pub(crate) pages: usize,
    /// No more requests for a page after this long.
    pub(crate) page_time: Duration,
    /// Clients that do not read.
    pub(crate) readers: usize,
    /// Jobs in the store, small to large.
    pub(crate) stores: &'static [i64],
    /// Bare password hashes.
    pub(crate) hashes: usize,
    /// How many ask the auth service at once: first one alone.
    pub(crate) asking: [usize; 2],
    /// Logins at once.
    pub(crate) logins: usize,
    /// Jobs that a shim starts one after another.
    pub(crate) shim_starts: u64,
    /// Jobs that a shim starts as fast as it can.
    pub(crate) shim_jobs: u64,
    /// Jobs that run at once under a shim.
    pub(crate) shim_running: u64,
}

impl Sizes {
    /// For figures.
    pub(crate) const FULL: Self = Self {
        submits: 2000,
        load: Duration::from_secs(5),
        starts: 300,
        burst: 3000,
        spawns: 1000,
        pages: 300,
        page_time: Duration::from_secs(15),
        readers: 1000,
        stores: &[1_000, 100_000, 1_000_000],
        hashes: 100,
        asking: [1, 32],
        logins: 1000,
        shim_starts: 500,
        shim_jobs: 2000,
        shim_running: 1000,
    };

    /// To see that the benchmark works.
    pub(crate) const QUICK: Self = Self {
        submits: 50,
        load: Duration::from_millis(200),
        starts: 5,
        burst: 40,
        spawns: 20,
        pages: 5,
        page_time: Duration::from_secs(1),
        readers: 20,
        stores: &[1_000, 3_000],
        hashes: 4,
        asking: [1, 4],
        logins: 12,
        shim_starts: 10,
        shim_jobs: 40,
        shim_running: 20,
    };
}

/// What every part needs.
#[derive(Debug)]
pub(crate) struct Bench {
    /// Where everything is.
    pub(crate) site: Site,
    /// What it is measured on.
    pub(crate) machine: Machine,
    /// How much to measure.
    pub(crate) sizes: Sizes,
    /// The server that does nothing.
    pub(crate) echo: Echo,
}
