//! Use cases: what callers may ask for, whatever dialect they speak.

mod cancel;
mod output;
mod permission;
mod query;
mod stop;
mod submit;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

pub use output::{Lines, Tail};

use crate::engine::{Engine, Node};
use crate::error::{Error, Kind, Result};
use crate::live::Live;
use crate::scheduler::Scheduler;
use crate::store::Store;

pub use crate::store::Page;

/// Jobs, as callers deal with them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Jobs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    engine: Arc<dyn Engine>,
    scheduler: Scheduler,
    live: Live,
    uid: u32,
    stopping: AtomicBool,
    stopped: Notify,
}

impl Jobs {
    /// The use cases over these parts. `uid` is the account that jobs run as.
    pub fn new(
        store: Store,
        engine: Arc<dyn Engine>,
        scheduler: Scheduler,
        live: Live,
        uid: u32,
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            engine,
            scheduler,
            live,
            uid,
            stopping: AtomicBool::new(false),
            stopped: Notify::new(),
        }))
    }

    /// The account that jobs run as where they run as the server.
    pub fn uid(&self) -> u32 {
        self.0.uid
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

    fn accepting(&self) -> Result<()> {
        if self.0.stopping.load(Ordering::Acquire) {
            return Err(Error::new(Kind::Unavailable, "The service is stopping."));
        }
        Ok(())
    }
}
