//! What the figures were measured on.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bare;
use crate::load::Latencies;

/// The machine, as far as the figures depend on it.
#[derive(Debug)]
pub(crate) struct Machine {
    /// Cores that this process may use.
    pub(crate) cores: usize,
    processor: String,
    memory_mib: u64,
    kernel: String,
    filesystem: String,
    fdatasync: Latencies,
}

impl Machine {
    /// Look at this machine, and at the disk that `dir` is on.
    ///
    /// Errors: nothing can be written there.
    pub(crate) fn look(dir: &Path, quick: bool) -> anyhow::Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':'));
            value
                .map(|(_, value)| value.trim().to_owned())
                .unwrap_or_default()
        };
        let total = field(&read("/proc/meminfo"), "MemTotal");
        let kib: u64 = total.trim_end_matches(" kB").parse().unwrap_or(0);
        let count = if quick { 50 } else { 2000 };
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            processor: field(&read("/proc/cpuinfo"), "model name"),
            memory_mib: kib / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            filesystem: filesystem(&read("/proc/mounts"), dir),
            fdatasync: bare::fdatasync(dir, count, Duration::from_secs(10))?,
        })
    }

    /// Print it.
    pub(crate) fn print(&self) {
        let us = |time: Duration| time.as_micros();
        println!(
            "{} cores ({}), {} MiB of memory, Linux {}; databases on {}, where an append of \
             4 KiB with fdatasync takes {} µs (p50), {} µs (p99)",
            self.cores,
            self.processor,
            self.memory_mib,
            self.kernel,
            self.filesystem,
            us(self.fdatasync.p50()),
            us(self.fdatasync.p99()),
        );
        if self.filesystem == "tmpfs" {
            println!(
                "tmpfs keeps nothing: figures that depend on the disk mean little. Use --dir."
            );
        }
    }

    /// The same, for programs.
    pub(crate) fn json(&self) -> Value {
        json!({
            "cores": self.cores,
            "processor": self.processor,
            "memory_mib": self.memory_mib,
            "kernel": self.kernel,
            "filesystem": self.filesystem,
            "fdatasync_p50_us": self.fdatasync.p50().as_secs_f64() * 1e6,
            "fdatasync_p99_us": self.fdatasync.p99().as_secs_f64() * 1e6,
        })
    }
}

/// The type of the file system that `dir` is on. Source: proc_pid_mounts(5).
fn filesystem(mounts: &str, dir: &Path) -> String {
    let mounted = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (at, kind) = (fields.next()?, fields.next()?);
        dir.starts_with(at).then(|| (at.len(), kind.to_owned()))
    });
    mounted.max().map(|(_, kind)| kind).unwrap_or_default()
}
