//! A corner of the machine for this run alone, where it is root: a mount
//! namespace, so that accounts can be there that nobody else sees; and control
//! groups, so that nothing that was started outlives it and no other shim's
//! jobs are met.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid, getpid};

use crate::process::LOOK;

/// How long the end of what was started is awaited.
const FAREWELL: Duration = Duration::from_secs(10);
/// A group with this ending is taken for a unit by the shim, which then puts
/// its jobs beside it, as on any machine with systemd.
const UNIT: &str = ".scope";
const JOBS: &str = "-jobs";

/// The corner. Dropped, everything in it is killed.
#[derive(Debug)]
pub(crate) struct Apart {
    /// Our own group in each tree that the shim uses.
    groups: Vec<PathBuf>,
}

impl Apart {
    /// Go there, with the whole process, before it has threads.
    ///
    /// Errors: why that cannot be.
    pub(crate) fn enter() -> Result<Self, &'static str> {
        if !geteuid().is_root() {
            return Err("it takes root to start processes of other users");
        }
        let none = None::<&str>;
        unshare(CloneFlags::CLONE_NEWNS)
            .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
            .map_err(|_| "there can be no mount namespace of its own here")?;
        let name = format!("warrant-bench-{}{UNIT}", getpid());
        let groups = control_groups()
            .into_iter()
            .map(|above| above.join(&name))
            .filter(|group| fs::create_dir(group).is_ok() && join(group).is_ok());
        Ok(Self {
            groups: groups.collect(),
        })
    }

    /// Whether there are control groups for jobs.
    pub(crate) fn has_groups(&self) -> bool {
        !self.groups.is_empty()
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let mut left = Vec::new();
        for group in &self.groups {
            if let Some(above) = group.parent() {
                let _ = join(above);
            }
            left.push(group.clone());
            let name = group.to_string_lossy();
            left.extend(
                name.strip_suffix(UNIT)
                    .map(|name| (format!("{name}{JOBS}")).into()),
            );
        }
        let deadline = Instant::now() + FAREWELL;
        loop {
            for process in left.iter().flat_map(|group| members(group)) {
                let _ = kill(process, Signal::SIGKILL);
            }
            left.retain(|group| !remove(group));
            if left.is_empty() || Instant::now() >= deadline {
                return;
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Move this process into a group.
fn join(group: &Path) -> std::io::Result<()> {
    fs::write(group.join("cgroup.procs"), "0")
}

/// The processes in a group and below it.
fn members(group: &Path) -> Vec<Pid> {
    let own = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<_> = own
        .lines()
        .filter_map(|line| line.parse().ok().map(Pid::from_raw))
        .collect();
    found.extend(below(group).iter().flat_map(|group| members(group)));
    found
}

fn below(group: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Remove a group and those below it; answers whether it is gone.
fn remove(group: &Path) -> bool {
    for group in below(group) {
        remove(&group);
    }
    fs::remove_dir(group).is_ok() || !group.exists()
}

/// Where this process is in the trees that the shim uses.
/// Source: proc_pid_cgroup(5), cgroups(7).
fn control_groups() -> Vec<PathBuf> {
    const TREES: [(&str, &str); 5] = [
        ("/sys/fs/cgroup", ""),
        ("/sys/fs/cgroup/unified", ""),
        ("/sys/fs/cgroup/memory", "memory"),
        ("/sys/fs/cgroup/pids", "pids"),
        ("/sys/fs/cgroup/freezer", "freezer"),
    ];
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = |controller: &str| {
        groups.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            let is_it = controllers == controller
                || (!controller.is_empty() && controllers.split(',').any(|c| c == controller));
            is_it.then(|| path.trim_start_matches('/'))
        })
    };
    TREES
        .iter()
        .filter_map(|(mount, controller)| Some(Path::new(mount).join(own(controller)?)))
        .filter(|group| group.join("cgroup.procs").exists())
        .collect()
}
