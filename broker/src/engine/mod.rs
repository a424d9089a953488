//! What runs jobs. One small trait; the scheduler drives it, the store never
//! meets it.

pub mod local;

use std::path::PathBuf;

use async_trait::async_trait;

use crate::error::Result;
use crate::model::{Capacity, Ending, Micros, RunKey, Stamp, TaskSpec};

/// Something an engine saw happen.
#[derive(Debug, Clone)]
pub enum Sighting {
    /// The run's first process exists.
    Started {
        /// Which run.
        run: RunKey,
        /// Since when.
        at: Micros,
    },
    /// The run is over and nothing of it is left.
    Ended {
        /// Which run.
        run: RunKey,
        /// How.
        ending: Ending,
    },
    /// The run was not started and never will be.
    NotStarted {
        /// Which run.
        run: RunKey,
        /// Why, in words.
        why: String,
        /// Whether trying again may help.
        hope: Hope,
    },
    /// The engine lost touch with its runs and can be asked about them again.
    Reconnected,
}

/// Whether trying a start again may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hope {
    /// It may, later: the reason passes by itself.
    Later,
    /// Nobody can tell.
    Unclear,
    /// It will not.
    None,
}

/// Where on a machine a run goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// The numbers of its cores.
    pub cores: Vec<u16>,
    /// The numbers of its GPUs.
    pub gpus: Vec<u16>,
}

/// How to end a run, or what to tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM, and SIGKILL to what is left after the grace time.
    Cancel,
}

/// What an engine can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// What there is to share out, where this program must do the sharing;
    /// `None` where the engine queues by itself.
    pub capacity: Option<Capacity>,
}

/// A machine that jobs run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its host name.
    pub name: String,
    /// Whether it can run jobs.
    pub up: bool,
}

/// What runs jobs.
#[async_trait]
pub trait Engine: Send + Sync + std::fmt::Debug {
    /// The name in the store: `local`.
    fn name(&self) -> &'static str;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// The machines behind it.
    ///
    /// Errors: the engine is away.
    async fn nodes(&self) -> Result<Vec<Node>>;

    /// Have a warrant accepted for a launch from [`Engine::describe`], durably.
    /// Where jobs run as the user who asked, nothing is started without.
    /// `run` is the one that will be tried first.
    ///
    /// Errors: [`crate::error::Kind::Denied`] where the warrant or the
    /// machine's policy does not allow it; the engine is away.
    async fn admit(&self, run: RunKey, warrant: String, launch: Vec<u8>) -> Result<()>;

    /// See that requests would be answered soon, as far as can be told.
    ///
    /// Errors: the engine is away, or does not answer.
    fn check(&self) -> Result<()>;

    /// See that jobs may be accepted: it is known that what the engine keeps
    /// belongs to our store, and that ids are beyond those used there.
    ///
    /// Errors: it is not known yet.
    fn check_settled(&self) -> Result<()>;

    /// Forget an admission: the job is not to be started any more.
    ///
    /// Errors: the engine is away.
    async fn revoke(&self, run: RunKey) -> Result<()>;

    /// Start a run, at most once, whatever happens afterwards. What comes of
    /// it is a [`Sighting`].
    ///
    /// Errors: the task can never be started, or the engine is away.
    async fn start(
        &self,
        run: RunKey,
        stamp: Stamp,
        task: &TaskSpec,
        placement: &Placement,
    ) -> Result<()>;

    /// Signal a run; nothing happens where it is not alive.
    ///
    /// Errors: the engine is away.
    async fn signal(&self, run: RunKey, stamp: Stamp, signal: Signal) -> Result<()>;

    /// Ask what became of a run begun earlier, perhaps by a process before
    /// this one. The answer is a [`Sighting`].
    ///
    /// Errors: the engine is away.
    async fn watch(&self, run: RunKey, stamp: Stamp, same_boot: bool) -> Result<()>;

    /// Where the output of a run is.
    fn output(&self, run: RunKey) -> OutputFiles;

    /// What says whether that is the output of a job with this stamp.
    fn owner(&self, run: RunKey, stamp: Stamp) -> OutputOwner;

    /// A task as the bytes that are started, always the same for the same
    /// task.
    ///
    /// Errors: it can never be started; names the field and what is allowed.
    fn describe(&self, task: &TaskSpec) -> Result<Vec<u8>>;
}

/// What says whose the output of a run is.
#[derive(Debug, Clone)]
pub struct OutputOwner {
    /// The run's record.
    pub record: PathBuf,
    /// Whose it must be for the output to count; the account is always known.
    pub stamp: Stamp,
}

/// The files a run's output is in; they appear with the first byte.
#[derive(Debug, Clone)]
pub struct OutputFiles {
    /// All bytes, as they came.
    pub data: PathBuf,
    /// What the bytes belong to. Source: the wire crate's index entries.
    pub index: PathBuf,
}
