//! A task as the bytes that the shim starts.

use warrant_wire::{Launch, Limits};

use super::Settings;
use crate::model::TaskSpec;

/// The options that name a file for output. Source: flux-shell(1).
const STDOUT: &str = "output.stdout.path";
const STDERR: &str = "output.stderr.path";

/// The launch of `task` with the environment `env`.
pub(super) fn describe(
    settings: &Settings,
    task: &TaskSpec,
    env: Vec<(Vec<u8>, Vec<u8>)>,
) -> Launch {
    let option = |name: &str| task.options.get(name).cloned().map(String::into_bytes);
    Launch {
        limits: Limits {
            processes: task.tasks,
            time_limit_s: task.time_limit_s,
            grace_ms: settings.grace_ms,
            output_cap_bytes: settings.output_cap_bytes,
            memory_bytes: 0,
        },
        argv: task
            .argv
            .iter()
            .map(|argument| argument.clone().into_bytes())
            .collect(),
        env,
        workdir: task.workdir.clone().map(String::into_bytes),
        stdout: option(STDOUT),
        stderr: option(STDERR),
        default_workdir: task.default_workdir.clone().map(String::into_bytes),
    }
}
