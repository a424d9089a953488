//! This machine: jobs are started by the shim's monitor, one keeper each.

mod environment;
mod launch;
mod machine;
mod monitor;
pub mod options;
mod report;

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

/// The embedded engine.
#[derive(Debug)]
pub struct Local {
    settings: Settings,
    machine: Machine,
    base: environment::Base,
    monitor: Monitor,
}

impl Local {
    /// Start the shim's monitor, or connect to it. What it sees goes to
    /// `sightings`.
    ///
    /// Errors: a monitor of our own cannot be started.
    pub fn open(
        settings: Settings,
        machine: Machine,
        sightings: mpsc::UnboundedSender<Sighting>,
    ) -> Result<Arc<Self>> {
        let base = environment::Base::from_server(&settings.shim, &settings.passthrough);
        let monitor = Monitor::start(&settings, sightings)?;
        Ok(Arc::new(Self {
            settings,
            machine,
            base,
            monitor,
        }))
    }

    /// The bytes that the shim starts.
    fn encode(&self, task: &TaskSpec) -> Result<Vec<u8>> {
        let env = self.base.of_task(task);
        launch::describe(&self.settings, task, env)
            .encode()
            .map_err(|malformed| Error::new(Kind::Invalid, malformed.to_string()))
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
        self.monitor.send(request).await
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

    async fn admit(&self, run: RunKey, warrant: String, launch: Vec<u8>) -> Result<()> {
        self.monitor
            .admit(wire(run), warrant.into_bytes(), launch)
            .await
    }

    fn check(&self) -> Result<()> {
        self.monitor.check()
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
