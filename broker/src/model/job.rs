//! A job as the store knows it.

use super::{Dialect, JobId, Micros, Stamp, State};

/// Whose job it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The name that authenticated.
    pub name: String,
    /// The account, where jobs run as the user who asked for them.
    pub uid: Option<u32>,
}

/// Something that happened to a job besides its running. Source: Flux's job
/// exceptions; severity 0 ends the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// `alloc`, `cancel`, `timeout`, `exec`.
    pub kind: String,
    /// 0 (fatal) to 7.
    pub severity: u8,
    /// Why, in words; may be empty.
    pub note: String,
}

/// What a run used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time in user mode, microseconds.
    pub user_us: i64,
    /// Processor time in the kernel, microseconds.
    pub system_us: i64,
    /// The most memory one process held at a time.
    pub max_rss_bytes: i64,
    /// Output kept.
    pub output_bytes: i64,
    /// Output that was not kept: beyond the cap, or since it could not be written.
    pub dropped_bytes: i64,
}

/// What is on record of a job besides what lists show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// What its last run used, once that has ended.
    pub usage: Option<Usage>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The final state.
    pub state: State,
    /// When its first process started, as the keeper saw it.
    pub started: Option<Micros>,
    /// When its last process was gone.
    pub ended: Micros,
    /// The status of wait(2); `None` where nothing ran.
    pub wait_status: Option<i32>,
    /// What went wrong beyond an exit status.
    pub exception: Option<Exception>,
    /// What it used.
    pub usage: Usage,
    /// What people should know of how it began, in words.
    pub remark: Option<&'static str>,
}

impl Ending {
    /// The end, now, of a run of which nothing is known but why it is over.
    pub fn unseen(state: State, kind: &str, note: impl Into<String>) -> Self {
        Self {
            state,
            started: None,
            ended: Micros::now(),
            wait_status: None,
            exception: Some(Exception {
                kind: kind.into(),
                severity: 0,
                note: note.into(),
            }),
            usage: Usage::default(),
            remark: None,
        }
    }
}

/// A job: who, what, where it stands.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Whose it is.
    pub owner: Owner,
    /// What lists call it.
    pub name: String,
    /// The API it came by.
    pub dialect: Dialect,
    /// Where it stands.
    pub state: State,
    /// 0 to 31.
    pub urgency: u8,
    /// The directory it asked to start in.
    pub workdir: Option<String>,
    /// Its processes.
    pub tasks: u32,
    /// Its cores, in all.
    pub cores: u32,
    /// Its GPUs, in all.
    pub gpus: u32,
    /// Seconds it may run; 0 means no limit.
    pub time_limit_s: u64,
    /// When it was accepted.
    pub submitted: Micros,
    /// When its first process started.
    pub started: Option<Micros>,
    /// When it ended.
    pub ended: Option<Micros>,
    /// When somebody asked for it to be cancelled.
    pub cancel_requested: Option<Micros>,
    /// The latest try; 0 before the first.
    pub attempt: u32,
    /// The machine it runs or ran on.
    pub node: Option<String>,
    /// The cores it was given there, as a list such as `0-1,3`.
    pub placement: Option<String>,
    /// The status of wait(2), once it ended.
    pub wait_status: Option<i32>,
    /// Output that was not kept, in bytes, once it ended.
    pub dropped_bytes: i64,
    /// What went wrong beyond an exit status.
    pub exception: Option<Exception>,
    /// What its runs must be stamped with to count.
    pub stamp: Stamp,
}

impl Job {
    /// The bytes of its texts.
    pub fn text_bytes(&self) -> usize {
        let note = self.exception.as_ref().map_or(0, |it| it.note.len());
        let workdir = self.workdir.as_ref().map_or(0, String::len);
        self.owner.name.len() + self.name.len() + workdir + note
    }

    /// Seconds it has run, up to `now` or its end; 0 before it started.
    pub fn runtime(&self, now: Micros) -> f64 {
        self.started
            .map_or(0.0, |started| self.ended.unwrap_or(now).since(started))
    }
}
