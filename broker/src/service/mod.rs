//! Use cases: what callers may ask for, whatever dialect they speak.

mod audit;
mod cancel;
mod disabled;
mod output;
mod permission;
mod query;
mod stop;
mod submit;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use audit::Trace;
use output::Disk;
pub use output::{Lines, OutputStream, Sink, Tail, Wanted};
pub use permission::check_role;
pub use submit::Submission;

use crate::engine::{Engine, Node};
use crate::error::{Error, Kind, Result};
use crate::live::Live;
use crate::metrics::Metrics;
use crate::scheduler::Scheduler;
use crate::store::{Load, Store};
use crate::warrants::Warrants;

pub use crate::store::{Matches, Page, Submitted as Keyed, UnderWay, is_part};

/// Jobs, as callers deal with them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Jobs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    engine: Arc<dyn Engine>,
    scheduler: Scheduler,
    live: Live,
    trace: Arc<Trace>,
    disk: Disk,
    warrants: Option<Warrants>,
    /// Names of callers, and the accounts that their jobs are of.
    accounts: Mutex<HashMap<String, u32>>,
    uid: u32,
    stopping: AtomicBool,
    stopped: Notify,
}

impl Jobs {
    /// The use cases over these parts. With `warrants`, jobs run as the users
    /// who ask for them; else as the account `uid`.
    pub fn new(
        store: Store,
        engine: Arc<dyn Engine>,
        scheduler: Scheduler,
        live: Live,
        warrants: Option<Warrants>,
        uid: u32,
    ) -> Self {
        let trace = Trace::start(store.clone());
        Self(Arc::new(Inner {
            store,
            engine,
            scheduler,
            live,
            trace,
            disk: Disk::new(),
            warrants,
            accounts: Mutex::default(),
            uid,
            stopping: AtomicBool::new(false),
            stopped: Notify::new(),
        }))
    }

    /// The account that jobs run as where they run as the server.
    pub fn uid(&self) -> u32 {
        self.0.uid
    }

    /// The name of the shim that warrants are for; empty where there are none.
    pub fn audience(&self) -> &str {
        self.0.warrants.as_ref().map_or("", Warrants::audience)
    }

    /// The machines behind the engine.
    ///
    /// Errors: the engine is away.
    pub async fn nodes(&self) -> Result<Vec<Node>> {
        self.0.engine.nodes().await
    }

    /// See that the store answers and jobs are accepted.
    ///
    /// Errors: not so.
    pub async fn ready(&self) -> Result<()> {
        self.accepting()?;
        self.0.store.ping().await
    }

    /// Check of the engine: it answers, and what it keeps belongs to the store.
    ///
    /// Errors: the engine is away, does not answer, or has not said what it keeps.
    pub fn check_engine(&self) -> Result<()> {
        self.0.engine.check()?;
        self.0.engine.check_settled()
    }

    /// Check of the clock; see [`Store::check_clock`].
    ///
    /// Errors: what is wrong, in words.
    pub async fn check_clock(&self) -> std::result::Result<(), String> {
        self.0.store.check_clock().await
    }

    /// The metrics of this process.
    pub fn metrics(&self) -> &Metrics {
        self.0.store.metrics()
    }

    /// How many jobs wait, and the bytes of their definitions.
    pub fn load(&self) -> Load {
        self.0.store.shares().load()
    }

    /// Have `then` called once the scheduler has come round.
    pub fn turn(&self, then: fn()) {
        self.0.scheduler.turn(then);
    }

    fn accepting(&self) -> Result<()> {
        if self.0.stopping.load(Ordering::Acquire) {
            return Err(Error::new(Kind::Unavailable, "The service is stopping."));
        }
        Ok(())
    }
}
