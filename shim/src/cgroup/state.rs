//! What becomes of the processes in a job's control group. Asking for that
//! takes nobody who is root.

use nix::libc::{self, SIGCONT, SIGTERM};
use nix::unistd::Pid;

use super::{JobCgroup, MEMORY};
use crate::tend::send_if;

impl JobCgroup<'_> {
    /// Asks every process to end; those that are stopped are woken to hear it.
    /// None goes on before all have the signal: a shell whose command was ended
    /// before it would go on to the next one.
    pub fn terminate(&self) {
        self.while_stopped(|_| {
            for pid in self.members() {
                // What is not listed any more has ended, and its number may be
                // another's.
                let is_listed = || self.members().contains(&pid);
                let _ = send_if(is_listed, Pid::from_raw(pid), &[SIGTERM, SIGCONT]);
            }
        });
    }

    /// Whether no process of it is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Some(tree) = self.tracker() else {
            return true;
        };
        match self.get(tree, tree.name("cgroup.events", "cgroup.procs")) {
            Ok(text) => text.is_empty() || text.lines().any(|line| line == "populated 0"),
            // It has been removed.
            Err(error) => matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT)),
        }
    }

    /// Whether the kernel killed a process of it at its memory limit.
    #[must_use]
    pub fn ran_out_of_memory(&self) -> bool {
        let mut limiting = self.cgroups.trees.iter().filter(|tree| tree.does(MEMORY));
        limiting.any(|tree| {
            let file = tree.name("memory.events", "memory.oom_control");
            let counts = self.get(tree, file).unwrap_or_default();
            let is_kill = |line: &str| line.starts_with("oom_kill ") && line != "oom_kill 0";
            counts.lines().any(is_kill)
        })
    }
}
