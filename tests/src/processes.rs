//! Finding every process of a house: each carries the house's mark in its
//! environment, whoever its parent is.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The variable that carries the mark.
pub const MARK: &str = "WARRANT_HOUSE";

/// A process, as /proc shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its command line, with spaces between the arguments.
    pub command: String,
}

impl Process {
    /// Look at a process; `None` where it is gone. One that has ended and was
    /// not waited for counts as gone.
    pub fn find(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in brackets may hold anything: look behind the last one.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        (state != "Z" && state != "X").then(|| Self {
            pid,
            parent,
            command: String::from_utf8_lossy(&command)
                .trim_end_matches('\0')
                .replace('\0', " "),
        })
    }

    /// Kill it at once.
    pub fn kill(&self) {
        send(self.pid, Signal::SIGKILL);
    }
}

/// Send a signal to a process of the test's own; one that is gone is left alone.
pub fn send(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// What a process has in memory now, in KiB. Source: proc_pid_status(5).
///
/// Errors: panics where it is gone.
pub fn resident_kib(pid: i32) -> u64 {
    memory_kib(pid, "VmRSS:")
}

/// The most that a process has had in memory, in KiB. Source: proc_pid_status(5).
///
/// Errors: panics where it is gone.
pub fn peak_kib(pid: i32) -> u64 {
    memory_kib(pid, "VmHWM:")
}

fn memory_kib(pid: i32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse().unwrap()
}

/// Every process that carries `mark`.
pub fn marked(mark: &str) -> Vec<Process> {
    let wanted = format!("{MARK}={mark}").into_bytes();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|v| v == wanted)
        })
        .filter_map(Process::find)
        .collect()
}
