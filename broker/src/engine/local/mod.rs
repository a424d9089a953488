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
use crate::model::{JobId, RunKey, TaskSpec};

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
        let launch = self.launch(run.job, task, placement)?;
        self.monitor
            .send(Request::Start {
                run: wire(run),
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

    fn check(&self, job: JobId, task: &TaskSpec) -> Result<()> {
        self.launch(job, task, &Placement::default()).map(drop)
    }
}

impl Local {
    fn launch(&self, job: JobId, task: &TaskSpec, placement: &Placement) -> Result<Vec<u8>> {
        let env = self.base.of_job(job, task, placement);
        launch::describe(&self.settings, task, placement, env)
            .encode()
            .map_err(|malformed| Error::new(Kind::Invalid, malformed.to_string()))
    }
}
