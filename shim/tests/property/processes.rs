//! Who is there in this name space of process ids, and ending some of them.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process that has not ended.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) name: String,
    pub(crate) uid: u32,
}

/// All that live now.
pub(crate) fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").unwrap();
    entries
        .filter_map(|entry| look(entry.ok()?.file_name().to_str()?.parse().ok()?))
        .collect()
}

fn look(pid: i32) -> Option<Process> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let mut lines = status.lines();
        lines.find_map(|line| line.strip_prefix(name)?.split_whitespace().next())
    };
    if matches!(field("State:")?, "Z" | "X") {
        return None;
    }
    Some(Process {
        pid,
        name: field("Name:")?.to_owned(),
        uid: field("Uid:")?.parse().ok()?,
    })
}

/// Those of a run besides the monitor: keepers and sessions.
pub(crate) fn attendants() -> Vec<Process> {
    let mut all = all();
    all.retain(|process| matches!(process.name.as_str(), "warrant-keeper" | "warrant-session"));
    all
}

/// Ends a process without warning. It may have ended by itself.
pub(crate) fn end(process: &Process) {
    let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
}
