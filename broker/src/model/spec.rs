//! What a client asked for, in no dialect's words.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Dialect, Footprint};

/// A job as submitted: one task for Flux and S9S, one or more for Tork.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSpec {
    /// What lists call the job.
    pub name: String,
    /// The API it came by.
    pub dialect: Dialect,
    /// 0 (hold) to 31; 16 is the default. Source: Flux's urgency.
    pub urgency: u8,
    /// The definition of its task.
    pub task: TaskSpec,
}

/// One task: what to run and what it needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// The program and its arguments; at least the program.
    pub argv: Vec<String>,
    /// Variables beyond those the server gives every job.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The directory to start in, an absolute path; the task cannot start
    /// without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Where there is no `workdir`: the directory to start in if it can be
    /// used, an absolute path. Else the task starts in the user's home, or in
    /// `/tmp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_workdir: Option<String>,
    /// How many processes, with ranks from 0.
    pub tasks: u32,
    /// Cores for each process.
    pub cores_per_task: u32,
    /// GPUs for each process.
    pub gpus_per_task: u32,
    /// Memory in all, in bytes; 0 where the job does not say.
    #[serde(default)]
    pub memory_bytes: u64,
    /// Whether the job wants the machine to itself.
    pub exclusive: bool,
    /// Seconds it may run; 0 means no limit.
    pub time_limit_s: u64,
    /// Options for the engine's job shell, as given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

impl TaskSpec {
    /// What the task takes while it runs.
    pub const fn footprint(&self) -> Footprint {
        Footprint {
            tasks: self.tasks,
            cores_per_task: self.cores_per_task,
            gpus_per_task: self.gpus_per_task,
            memory_bytes: self.memory_bytes,
            exclusive: self.exclusive,
        }
    }

    /// The directory that it asks to start in, by either field.
    pub fn start_dir(&self) -> Option<&str> {
        self.workdir.as_deref().or(self.default_workdir.as_deref())
    }

    /// The program and arguments on one line, for people and for searching.
    pub fn command_line(&self) -> String {
        self.argv.join(" ")
    }

    /// All the bytes that this task makes the server hold, roughly.
    pub fn weight(&self) -> usize {
        let strings = |s: &String| s.len() + 24;
        self.argv.iter().map(strings).sum::<usize>()
            + self
                .env
                .iter()
                .map(|(k, v)| strings(k) + strings(v))
                .sum::<usize>()
            + self
                .options
                .iter()
                .map(|(k, v)| strings(k) + strings(v))
                .sum::<usize>()
            + 128
    }
}
