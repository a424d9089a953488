//! This machine: jobs are started by the shim's monitor, one keeper each.

mod environment;
mod launch;
mod machine;
mod monitor;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;
use warrant_wire::{JobSignal, Request, RunFile, RunId};

pub use machine::Machine;
use monitor::Monitor;

use super::{Capabilities, Engine, Node, OutputFiles, Placement, Sighting, Signal};
use crate::error::{Error, Kind, Result};
use crate::model::{RunKey, TaskSpec};

/// How the local engine runs jobs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The shim's program.
    pub shim: PathBuf,
    /// Where runs keep their records and output.
    pub spool: PathBuf,
    /// Between the warning signal and SIGKILL, milliseconds.
    pub grace_ms: u32,
    /// How much output of a run is kept, bytes.
    pub output_cap_bytes: u64,
    /// Names (with `*`) of server variables that jobs get besides the usual.
    pub passthrough: Vec<String>,
}

/// The embedded engine.
#[derive(Debug)]
pub struct Local {
    settings: Settings,
    machine: Machine,
    base: environment::Base,
    monitor: Monitor,
}

impl Local {
    /// Start the shim's monitor. What it sees goes to `sightings`.
    ///
    /// Errors: the monitor cannot be started.
    pub fn open(
        settings: Settings,
        machine: Machine,
        sightings: mpsc::UnboundedSender<Sighting>,
    ) -> Result<Arc<Self>> {
        let base = environment::Base::from_server(&settings.passthrough);
        let monitor = Monitor::start(&settings.shim, &settings.spool, sightings)?;
        Ok(Arc::new(Self {
            settings,
            machine,
            base,
            monitor,
        }))
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

    async fn start(&self, run: RunKey, task: &TaskSpec, placement: &Placement) -> Result<()> {
        let launch = self.launch(task)?;
        self.monitor
            .send(Request::Launch {
                run: wire(run),
                placement: place(task, placement),
                launch,
            })
            .await
    }

    async fn signal(&self, run: RunKey, signal: Signal) -> Result<()> {
        let signal = match signal {
            Signal::Cancel => JobSignal::Cancel,
        };
        self.monitor
            .send(Request::Signal {
                run: wire(run),
                signal,
            })
            .await
    }

    async fn watch(&self, run: RunKey, same_boot: bool) -> Result<()> {
        self.monitor
            .send(Request::Watch {
                run: wire(run),
                same_boot,
            })
            .await
    }

    fn output(&self, run: RunKey) -> OutputFiles {
        let run = wire(run);
        OutputFiles {
            data: self.settings.spool.join(run.spool_path(RunFile::Output)),
            index: self.settings.spool.join(run.spool_path(RunFile::Index)),
        }
    }

    fn check(&self, task: &TaskSpec) -> Result<()> {
        self.launch(task).map(drop)
    }
}

impl Local {
    fn launch(&self, task: &TaskSpec) -> Result<Vec<u8>> {
        let env = self.base.of_task(task);
        launch::describe(&self.settings, task, env)
            .encode()
            .map_err(|malformed| Error::new(Kind::Invalid, malformed.to_string()))
    }
}
