//! This machine: jobs are started by the shim's monitor, one keeper each.

mod environment;
mod launch;
mod machine;
mod monitor;
pub mod options;
mod report;
mod whose;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
pub use warrant_wire::{Bond, StoreId};
use warrant_wire::{JobSignal, Request, RunFile, RunId};

pub use machine::Machine;
use monitor::Monitor;
pub use monitor::Spool;

use super::{Capabilities, Engine, Node, OutputFiles, OutputOwner, Placement, Sighting, Signal};
use crate::error::{Error, Kind, Result};
use crate::model::{RunKey, Stamp, TaskSpec};

/// Who starts jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shim {
    /// A monitor of our own, started from this program: every job runs as
    /// the broker's account.
    Own(PathBuf),
    /// The root-owned monitor at this socket: every job runs as the user who
    /// asked for it, by a warrant.
    Root(PathBuf),
}

/// How the local engine runs jobs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who starts them.
    pub shim: Shim,
    /// Where runs keep their records and output.
    pub spool: PathBuf,
    /// Between the warning signal and SIGKILL, milliseconds.
    pub grace_ms: u32,
    /// How much output of a run is kept, bytes.
    pub output_cap_bytes: u64,
    /// Names (with `*`) of server variables that jobs get besides the usual.
    pub passthrough: Vec<String>,
}

/// The job store that the engine works for, as it is named to the shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OurStore {
    /// Its identity.
    pub id: StoreId,
    /// Whether a spool is its own that holds runs and does not say of which
    /// store.
    pub adopts: bool,
}

/// The embedded engine.
#[derive(Debug)]
pub struct Local {
    settings: Settings,
    machine: Machine,
    base: environment::Base,
    monitor: Monitor,
    settled: AtomicBool,
}

impl Local {
    /// Start the shim's monitor, or connect to it. What it sees goes to
    /// `sightings`.
    ///
    /// Errors: a monitor of our own cannot be started.
    pub fn open(
        settings: Settings,
        store: OurStore,
        machine: Machine,
        sightings: mpsc::UnboundedSender<Sighting>,
    ) -> Result<Arc<Self>> {
        let base = environment::Base::from_server(&settings.shim, &settings.passthrough);
        let monitor = Monitor::start(&settings, store, sightings)?;
        Ok(Arc::new(Self {
            settings,
            machine,
            base,
            monitor,
            settled: AtomicBool::new(false),
        }))
    }

    /// The bytes that the shim starts.
    fn encode(&self, task: &TaskSpec) -> Result<Vec<u8>> {
        let env = self.base.of_task(task);
        launch::describe(&self.settings, task, env)
            .encode()
            .map_err(|malformed| Error::new(Kind::Invalid, malformed.to_string()))
    }

    /// What the shim says of its spool, each time that it is connected to;
    /// `None` before the first time.
    pub fn spool(&self) -> watch::Receiver<Option<Spool>> {
        self.monitor.spool()
    }

    /// Let jobs be accepted: ids are beyond those that were used in the spool.
    pub fn settle(&self) {
        self.settled.store(true, Ordering::Release);
    }

    /// A request about a run, with whose it must be.
    fn of(&self, stamp: Stamp, request: Request) -> Request {
        Request::Of {
            stamp: whose::wire(&self.settings.shim, stamp),
            request: Box::new(request),
        }
    }
}

fn wire(run: RunKey) -> RunId {
    RunId {
        job: run.job.get().unsigned_abs(),
        task: run.position,
        attempt: run.attempt,
    }
}

/// The cores to bind to, unless the job asked not to be bound, and the GPUs.
fn place(task: &TaskSpec, placement: &Placement) -> warrant_wire::Placement {
    let unbound = task
        .options
        .get("cpu-affinity")
        .is_some_and(|value| value == "off");
    warrant_wire::Placement {
        cores: if unbound {
            Vec::new()
        } else {
            placement.cores.clone()
        },
        gpus: placement.gpus.clone(),
    }
}

#[async_trait]
impl Engine for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            capacity: Some(self.machine.capacity),
        }
    }

    async fn nodes(&self) -> Result<Vec<Node>> {
        Ok(vec![Node {
            name: self.machine.name.clone(),
            up: true,
        }])
    }

    async fn start(
        &self,
        run: RunKey,
        stamp: Stamp,
        task: &TaskSpec,
        placement: &Placement,
    ) -> Result<()> {
        let placement = place(task, placement);
        let run = wire(run);
        let request = match self.settings.shim {
            Shim::Own(_) => Request::Launch {
                run,
                placement,
                launch: self.encode(task)?,
            },
            Shim::Root(_) => Request::Start { run, placement },
        };
        self.monitor.send(self.of(stamp, request)).await
    }

    async fn signal(&self, run: RunKey, stamp: Stamp, signal: Signal) -> Result<()> {
        let signal = match signal {
            Signal::Cancel => JobSignal::Cancel,
        };
        let run = wire(run);
        let request = Request::Signal { run, signal };
        self.monitor.send(self.of(stamp, request)).await
    }

    async fn watch(&self, run: RunKey, stamp: Stamp, same_boot: bool) -> Result<()> {
        let run = wire(run);
        let request = Request::Watch { run, same_boot };
        self.monitor.send(self.of(stamp, request)).await
    }

    fn output(&self, run: RunKey) -> OutputFiles {
        let run = wire(run);
        OutputFiles {
            data: self.settings.spool.join(run.spool_path(RunFile::Output)),
            index: self.settings.spool.join(run.spool_path(RunFile::Index)),
        }
    }

    fn owner(&self, run: RunKey, stamp: Stamp) -> OutputOwner {
        let path = wire(run).spool_path(RunFile::Record);
        let uid = Some(whose::wire(&self.settings.shim, stamp).uid);
        OutputOwner {
            record: self.settings.spool.join(path),
            stamp: Stamp { uid, ..stamp },
        }
    }

    async fn admit(&self, run: RunKey, warrant: String, launch: Vec<u8>) -> Result<()> {
        self.monitor
            .admit(wire(run), warrant.into_bytes(), launch)
            .await
    }

    fn check(&self) -> Result<()> {
        self.monitor.check()
    }

    fn check_settled(&self) -> Result<()> {
        if self.settled.load(Ordering::Acquire) {
            return Ok(());
        }
        self.monitor.check()?;
        let unknown = "The shim has not said yet what it knows of earlier jobs.";
        Err(Error::new(Kind::Unavailable, unknown))
    }

    async fn revoke(&self, run: RunKey) -> Result<()> {
        match self.settings.shim {
            Shim::Own(_) => Ok(()),
            Shim::Root(_) => self.monitor.send(Request::Revoke { run: wire(run) }).await,
        }
    }

    fn describe(&self, task: &TaskSpec) -> Result<Vec<u8>> {
        options::check(&task.options)?;
        self.encode(task)
    }
}
