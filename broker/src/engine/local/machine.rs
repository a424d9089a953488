//! What this machine has.

use std::fs;

use crate::model::Capacity;

/// This machine: its name, what it can share out, and this boot of it.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Its host name.
    pub name: String,
    /// What jobs may take.
    pub capacity: Capacity,
    /// The numbers of the cores that jobs may run on.
    pub cores: Vec<u16>,
    /// Another text after each boot.
    pub boot: String,
}

impl Machine {
    /// This machine's name.
    pub fn host_name() -> String {
        let name = nix::unistd::gethostname().ok();
        let name = name.and_then(|name| name.into_string().ok());
        name.filter(|name| !name.is_empty())
            .unwrap_or_else(|| "localhost".into())
    }

    /// Look at this machine. What is given as `Some` is taken instead of what
    /// is found; asking for more cores than there are leaves jobs unbound.
    pub fn detect(cores: Option<u32>, gpus: Option<u32>) -> Self {
        let own = own_cores();
        let count = cores.unwrap_or_else(|| u32::try_from(own.len()).unwrap_or(1).max(1));
        let numbers = if usize::try_from(count).is_ok_and(|count| count <= own.len()) {
            own.into_iter()
                .take(usize::try_from(count).unwrap_or(usize::MAX))
                .collect()
        } else {
            (0..count)
                .filter_map(|core| u16::try_from(core).ok())
                .collect()
        };
        Self {
            name: Self::host_name(),
            capacity: Capacity {
                cores: count,
                gpus: gpus.unwrap_or_else(gpus_found),
                memory_bytes: memory_found(),
            },
            cores: numbers,
            boot: fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .map(|id| id.trim().to_owned())
                .unwrap_or_default(),
        }
    }
}

/// The cores that this process may use.
fn own_cores() -> Vec<u16> {
    let Ok(set) = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)) else {
        return vec![0];
    };
    (0..nix::sched::CpuSet::count())
        .filter(|core| set.is_set(*core).unwrap_or(false))
        .filter_map(|core| u16::try_from(core).ok())
        .collect()
}

/// The GPUs whose devices are there: NVIDIA's, else AMD's.
fn gpus_found() -> u32 {
    let numbered = |directory: &str, prefix: &str| {
        let Ok(entries) = fs::read_dir(directory) else {
            return 0;
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let count = names
            .filter_map(|name| name.strip_prefix(prefix).map(str::to_owned))
            .filter(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
            .count();
        u32::try_from(count).unwrap_or(0)
    };
    match numbered("/dev", "nvidia") {
        0 if fs::exists("/dev/kfd").unwrap_or(false) => numbered("/dev/dri", "renderD"),
        count => count,
    }
}

/// The machine's memory. Source: `MemTotal` of proc_meminfo(5), in KiB.
fn memory_found() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|line| line.split_whitespace().next())
        .and_then(|kib| kib.parse::<u64>().ok())
        .map_or(u64::MAX, |kib| kib.saturating_mul(1024))
}
